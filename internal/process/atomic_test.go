package process

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each transaction is broken at each of its statements, the last one and the
// commit included: all of it is undone. It runs on a pool, for a transaction of
// the test's own could not tell one transaction from many. Afterwards the same
// job does its work, which shows that it was the fault alone that kept it.

func TestRouteLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"reading the events", refusal{table: "event_bodies", hide: true}},
		{"making lanes", refusal{table: "accounts", on: "INSERT"}},
		{"marking the events", refusal{table: "events", on: "UPDATE"}},
		{"inserting the lane's job", refusal{table: "river_job", on: "INSERT"}},
		{"delaying it", refusal{table: "river_job", on: "UPDATE", when: `NEW.scheduled_at > OLD.scheduled_at`}},
		{"waking the lane", refusal{table: "accounts", on: "UPDATE"}},
		{"completing its own job", refusal{table: "river_job", on: "UPDATE", when: `NEW.state = 'completed'`}},
		{"counting", refusal{table: "counters", on: "INSERT"}},
		{"the commit", refusal{table: "counters", on: "INSERT OR UPDATE", atCommit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			// A lane that is there and waits, and one that is not; one due later, one at once.
			s.route(t, sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active")})
			_, jobID := s.receive(t, sent{module: "Accounts", operation: "update", recordID: "88", record: account("88", "Bolt", "Active")})
			s.leavesNothingBehind(t, jobID, tt.at)
			if diff := cmp.Diff([]string{"1 routed 77 1", "2 routed 88 1"}, s.revisions(t)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// Pulling a job forward and marking a fault are broken by themselves.
func TestPullingForwardLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.route(t, sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active")})
	_, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
	s.leavesNothingBehind(t, jobID, refusal{table: "river_job", on: "UPDATE", when: `NEW.scheduled_at < OLD.scheduled_at`})
}

func TestMarkLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"marking", refusal{table: "events", on: "UPDATE"}},
		{"counting", refusal{table: "counters", on: "INSERT"}},
		{"the commit", refusal{table: "counters", on: "INSERT OR UPDATE", atCommit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			_, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1"})
			row := s.begin(t, jobID)
			mend := s.refuse(t, tt.at)
			before := s.snapshot(t)
			if err := s.attempt(t.Context(), row); !isSnooze(err) {
				t.Errorf("the job returned %v, want a snooze", err)
			}
			s.unchanged(t, before)
			mend()
		})
	}
}

func TestTakeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"locking the lane", refusal{table: "accounts", hide: true}},
		{"taking what is due", refusal{table: "accounts", on: "UPDATE"}},
		{"reading the events", refusal{table: "event_bodies", hide: true}},
		{"the commit", refusal{table: "accounts", on: "UPDATE", atCommit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
			s.leavesNothingBehind(t, s.lane(t, "77").job(t), tt.at)
			s.closed(t)
		})
	}
}

func TestWriteLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"locking the events", refusal{table: "events", hide: true}},
		{"locking the records", refusal{table: "records", hide: true}},
		{"making records", refusal{table: "records", on: "INSERT"}},
		{"reading memories", refusal{table: "memories", hide: true}},
		{"asking who wants to be told", refusal{table: "endpoints", hide: true}},
		{"marking events as processed", refusal{table: "events", on: "UPDATE", when: `NEW.status = 'processed'`}},
		{"writing records", refusal{table: "records", on: "UPDATE"}},
		{"deleting memories", refusal{table: "memories", on: "DELETE"}},
		{"updating memories", refusal{table: "memories", on: "UPDATE"}},
		{"adding memories", refusal{table: "memories", on: "INSERT"}},
		{"writing webhooks", refusal{table: "outbox", on: "INSERT"}},
		{"writing history", refusal{table: "memory_history", on: "INSERT"}},
		{"inserting the relay job", refusal{table: "river_job", on: "INSERT", when: `NEW.kind = 'relay'`}},
		{"marking an event as failed", refusal{table: "events", on: "UPDATE", when: `NEW.status = 'retrying'`}},
		{"inserting the lane's next job", refusal{table: "river_job", on: "INSERT", when: `NEW.kind = 'sync_account'`}},
		{"delaying it", refusal{table: "river_job", on: "UPDATE", when: `NEW.scheduled_at > OLD.scheduled_at`}},
		{"closing the lane", refusal{table: "accounts", on: "UPDATE", when: `NEW.done > OLD.done`}},
		{"completing its own job", refusal{table: "river_job", on: "UPDATE", when: `NEW.state = 'completed'`}},
		{"counting", refusal{table: "counters", on: "INSERT"}},
		{"the commit", refusal{table: "counters", on: "INSERT OR UPDATE", atCommit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			for _, id := range []string{"1", "2", "3"} {
				s.route(t, sent{module: "Contacts", operation: "create", recordID: id, record: contact(id, "77", "a@example.com")})
			}
			s.finish(t)
			// One group that does all there is to do: delete, update, move, add, and fail.
			for _, e := range []sent{
				{operation: "delete", recordID: "1", record: `{}`},
				{operation: "update", recordID: "2", record: contact("2", "77", "b@example.com")},
				{operation: "update", recordID: "3", record: contact("3", "88", "a@example.com")},
				{operation: "create", recordID: "4", record: contact("4", "77", "a@example.com")},
				{operation: "create", recordID: "5", record: contact("5", "77", "a@example.com")},
			} {
				e.module = "Contacts"
				s.route(t, e)
			}
			s.exec(t, `UPDATE events SET account_id = '77', revision = 8 WHERE record_id = '3'`) // all in one lane
			s.exec(t, `UPDATE accounts SET wanted = 8 WHERE account_id = '77'`)
			s.exec(t, `DELETE FROM event_bodies USING events WHERE id = event_bodies.event_id AND record_id = '5'`)

			told := s.told(t)
			unit := s.observed(t, "77")
			before := s.snapshot(t)
			mend := s.refuse(t, broken(tt.at))
			if _, err := s.syncer.writes.Do(t.Context(), unit); err == nil {
				t.Error("the write succeeded, want it to fail")
			}
			mend()
			s.unchanged(t, before)

			if _, err := s.syncer.writes.Do(t.Context(), unit); err != nil {
				t.Errorf("the write failed once all was well: %v", err)
			}
			want := []string{
				"deleted Contacts 1 zoho:77 by event 4 memory_deleted", "updated Contacts 2 zoho:77 by event 5 memory_updated",
				"deleted Contacts 3 zoho:77 by event 6 memory_deleted", "added Contacts 3 zoho:88 by event 6 memory_added",
				"added Contacts 4 zoho:77 by event 7 memory_added",
			}
			if diff := cmp.Diff(want, s.told(t)[len(told):]); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
}

// broken is a fault that is neither the data's nor known to pass.
func broken(r refusal) refusal {
	r.state = "XX000"
	return r
}

// leavesNothingBehind works a job while the database is broken, and then again.
func (s *station) leavesNothingBehind(t *testing.T, jobID int64, at refusal) {
	t.Helper()
	row := s.begin(t, jobID)
	before := s.snapshot(t)
	mend := s.refuse(t, broken(at))
	if err := s.attempt(t.Context(), row); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	mend()
	s.unchanged(t, before)
	if err := s.attempt(t.Context(), row); err != nil {
		t.Errorf("the job returned %v once all was well, want nil", err)
	}
	s.noOrphans(t)
}

// unchanged compares all that is in the database.
func (s *station) unchanged(t *testing.T, before map[string][]string) {
	t.Helper()
	after := s.snapshot(t)
	var counts []string
	for table := range before {
		if len(before[table]) != len(after[table]) {
			counts = append(counts, fmt.Sprintf("%s has %d rows, want %d", table, len(after[table]), len(before[table])))
		}
	}
	if len(counts) > 0 {
		t.Errorf("left behind: %s", strings.Join(counts, "; "))
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}
