package process

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
)

// laneJobs are the jobs of lanes, with what became of them.
func (s *station) laneJobs(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' ', args ->> 'account_id', state, attempt) FROM river_job WHERE kind = 'sync_account' ORDER BY id`)
}

func TestHandOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		room int
		// before is what was there when the event was routed.
		before func(t *testing.T, s *station)
		event  sent
		want   string   // of the event
		jobs   []string // of the lanes
	}{
		{
			name: "a lane without work is synced at once", room: 1,
			event: sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")},
			want:  "processed", jobs: []string{"77 completed 1"},
		}, {
			name: "and once more", room: 1,
			before: func(t *testing.T, s *station) {
				s.route(t, sent{module: "Contacts", operation: "create", recordID: "2", record: contact("2", "77", "b@example.com")})
			},
			event: sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")},
			want:  "processed", jobs: []string{"77 completed 1", "77 completed 1"},
		}, {
			name: "without room the queue has it", room: 0,
			event: sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")},
			want:  "routed", jobs: []string{"77 available 0"},
		}, {
			name: "what waits for further updates does so in the queue", room: 1,
			event: sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active"), modified: []string{"Phone"}},
			want:  "routed", jobs: []string{"77 available 0"},
		}, {
			name: "a lane that waits already is left to its job", room: 1,
			before: func(t *testing.T, s *station) {
				s.route(t, sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active"), modified: []string{"Phone"}})
			},
			event: sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")},
			want:  "routed", jobs: []string{"77 available 0"},
		}, {
			name: "one that lost its job does all that it has", room: 1,
			before: func(t *testing.T, s *station) {
				s.route(t, sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active"), modified: []string{"Phone"}})
				s.exec(t, `DELETE FROM river_job WHERE kind = 'sync_account'`)
			},
			event: sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")},
			want:  "processed", jobs: []string{"77 completed 1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			s.handOver(t, tt.room)
			if tt.before != nil {
				tt.before(t, s)
			}
			id := s.route(t, tt.event)
			if got := rows[string](t, s.pool, `SELECT status FROM events WHERE id = $1`, id)[0]; got != tt.want {
				t.Errorf("the event is %s, want %s", got, tt.want)
			}
			if diff := cmp.Diff(tt.jobs, s.laneJobs(t)); diff != "" {
				t.Errorf("jobs of lanes (-want +got):\n%s", diff)
			}
			s.noOrphans(t)
			s.finish(t)
			open := rows[int64](t, s.pool, `SELECT count(*) FROM events WHERE status <> 'processed'`)[0]
			if open != 0 {
				t.Errorf("%d events are not processed in the end", open)
			}
		})
	}
}

// What is beyond a source's share lets others go first at its lane, too; one event
// within it is enough to pull the lane forward.
func TestLaneOfASourceBeyondItsShareStandsBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		priorities []int // of the events' jobs
		want       string
	}{
		{"all of it beyond", []int{2, 2}, "77 2"},
		{"one within", []int{2, 1}, "77 1"},
		{"one beyond, after one within", []int{1, 2}, "77 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			var ids []int64
			for i, p := range tt.priorities {
				id := fmt.Sprint(i)
				_, jobID := s.receive(t, sent{module: "Contacts", operation: "create", recordID: id, record: contact(id, "77", "a@example.com")})
				s.exec(t, `UPDATE river_job SET priority = $2 WHERE id = $1`, jobID, p)
				ids = append(ids, jobID)
			}
			s.together(t, ids)
			got := rows[string](t, s.pool, `SELECT concat_ws(' ', args ->> 'account_id', priority) FROM river_job WHERE kind = 'sync_account'`)
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Errorf("jobs of lanes (-want +got):\n%s", diff)
			}
		})
	}
}

// What is handed over looks to the source as what a job of the queue takes.
func TestHandedEventsAreThoseThatTheQueueWouldBring(t *testing.T) {
	t.Parallel()
	seen := map[bool][]Event{}
	for _, here := range []bool{false, true} {
		s := newStation(t, sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
			for _, e := range events {
				if e.TakenAt.IsZero() || e.TakenAt.Before(e.RoutedAt) || e.RoutedAt.Before(e.ReceivedAt) {
					t.Errorf("received %v, routed %v, taken %v", e.ReceivedAt, e.RoutedAt, e.TakenAt)
				}
				e.RoutedAt, e.TakenAt = time.Time{}, time.Time{}
				seen[here] = append(seen[here], e)
			}
			return Payloads{}.Observe(ctx, events)
		}))
		if here {
			s.handOver(t, 1)
		}
		for i, record := range []string{contact("1", "77", "a@example.com"), contact("2", "77", "b@example.com"), contact("1", "88", "c@example.com")} {
			s.route(t, sent{
				module: "Contacts", operation: "update", recordID: fmt.Sprint(1 + i%2), record: record,
				occurred: time.Date(2024, 5, 6, 7, 8, i, 0, time.UTC), received: time.Date(2024, 5, 6, 7, 9, i, 0, time.UTC),
			})
			s.finish(t)
		}
	}
	if diff := cmp.Diff(seen[false], seen[true]); diff != "" {
		t.Errorf("events (-by the queue +handed over):\n%s", diff)
	}
}

// One event that the database refuses leaves the others alone that were handed over
// with it, and is tried again like any other.
func TestPoisonHandedOverStaysAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.handOver(t, 100)
	var arrivals []int64
	for i := range 20 {
		id := fmt.Sprint(i)
		record := contact(id, "7"+id, "a@example.com")
		if i == 3 {
			record = `{"Last_Name":"Doe","Account_Name":{"id":"73"},"Description":"\u0000"}`
		}
		_, jobID := s.receive(t, sent{module: "Contacts", operation: "create", recordID: id, record: record})
		arrivals = append(arrivals, jobID)
	}
	s.together(t, arrivals)
	const reason = "update records: ERROR: unsupported Unicode escape sequence (SQLSTATE 22P05)"
	if diff := cmp.Diff([]string{"retrying 1 " + reason}, s.fates(t, `status <> 'processed'`)); diff != "" {
		t.Errorf("what is not processed (-want +got):\n%s", diff)
	}
	s.noOrphans(t)
	s.finish(t)
	if diff := cmp.Diff([]string{"dead 3 " + reason}, s.fates(t, `status <> 'processed'`)); diff != "" {
		t.Errorf("what is not processed in the end (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{19, 1}, s.counters(t, counter.Processed, counter.Dead)); diff != "" {
		t.Errorf("processed, dead (-want +got):\n%s", diff)
	}
}

// A routing that is undone hands nothing over.
func TestHandOverLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"claiming the lane's job", refusal{table: "river_job", on: "INSERT"}},
		{"waking the lane", refusal{table: "accounts", on: "UPDATE"}},
		{"completing its own job", refusal{table: "river_job", on: "UPDATE", when: `NEW.state = 'completed'`}},
		{"the commit", refusal{table: "counters", on: "INSERT OR UPDATE", atCommit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			s := newStation(t, sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
				asked.Add(1)
				return Payloads{}.Observe(ctx, events)
			}))
			s.handOver(t, 10)
			_, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
			row := s.begin(t, jobID)
			mend := s.refuse(t, tt.at)
			before := s.snapshot(t)
			if err := s.attempt(t.Context(), row); !isSnooze(err) {
				t.Errorf("the job returned %v, want a snooze", err)
			}
			s.settle()
			s.unchanged(t, before)
			if n := asked.Load(); n != 0 {
				t.Errorf("the source was asked %d times about what was undone", n)
			}
			mend()
			if err := s.attempt(t.Context(), row); err != nil {
				t.Fatal(err)
			}
			s.settle()
			s.closed(t)
		})
	}
}

// The process ends right after the commit, before anything of what it handed over has
// begun: the job is one of a process that is gone.
func TestHandedOverByAProcessThatIsGone(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.handOver(t, 10)
	eventID, jobID := s.receive(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	row := s.begin(t, jobID)
	s.routeGroup(t, arrival{eventID: eventID, jobID: jobID}) // in a transaction after which nothing is done
	s.end(t, row, nil)
	if diff := cmp.Diff([]string{"77 running 1"}, s.laneJobs(t)); diff != "" {
		t.Fatalf("jobs of lanes (-want +got):\n%s", diff)
	}
	s.noOrphans(t)

	me := s.syncer.newID()
	s.exec(t, `INSERT INTO processes (process, host, workers, seen_at) VALUES ($1, 'test', 0, now())`, me)
	n, err := db.New(s.pool).RescueJobs(t.Context(), db.RescueJobsParams{Process: me})
	if err != nil || n != 1 {
		t.Fatalf("%d jobs were rescued (%v), want 1", n, err)
	}
	s.finish(t)
	if diff := cmp.Diff([]string{"added Contacts 1 zoho:77 by event 1 memory_added"}, s.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// A sync that the world keeps from its end goes on through the queue.
func TestHandedOverAndKeptByTheWorld(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	failing.Store(true)
	s := newStation(t, sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
		if failing.Load() {
			return nil, errors.New("the world is away")
		}
		return Payloads{}.Observe(ctx, events)
	}))
	s.handOver(t, 10)
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	if diff := cmp.Diff([]string{"77 available 0"}, s.laneJobs(t)); diff != "" {
		t.Errorf("jobs of lanes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"routed 0 "}, s.fates(t, `true`)); diff != "" {
		t.Errorf("the event (-want +got):\n%s", diff)
	}
	failing.Store(false)
	s.finish(t)
	if diff := cmp.Diff([]string{"processed 0 "}, s.fates(t, `true`)); diff != "" {
		t.Errorf("the event in the end (-want +got):\n%s", diff)
	}
}
