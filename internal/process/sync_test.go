package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
)

// janeDoe is how contact reads.
func janeDoe(userAndAccount, recordID, email string) string {
	return userAndAccount + " Contacts " + recordID + " Contact Doe of Acme\nAccount Name: Acme\nEmail: " + email + "\nLast Name: Doe"
}

func TestCreatedRecordIsRememberedAndTold(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	now := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.FixedZone("", 3600))
	s.syncer.now = func() time.Time { return now }
	eventID := s.route(t, sent{
		module: "Contacts", operation: "create", recordID: "1",
		record: `{"id":"1","Last_Name":"Doe","Email":"a@example.com","Account_Name":{"id":"77","name":"Acme"},"Modified_Time":"2024-05-06T07:08:09+02:00"}`,
	})
	jobID := s.lane(t, "77").job(t)
	row := s.begin(t, jobID)
	if err := s.attempt(t.Context(), row); err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff([]string{janeDoe("zoho:77 77", "1", "a@example.com")}, s.remembered(t)); diff != "" {
		t.Errorf("memories (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"added Contacts 1 zoho:77 by event 1 memory_added"}, s.told(t)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if got := rows[string](t, s.pool, `SELECT status FROM events`)[0]; got != "processed" {
		t.Errorf("the event is %s, want processed", got)
	}
	if diff := cmp.Diff(laneRow{Wanted: 1, Done: 1}, s.lane(t, "77")); diff != "" {
		t.Errorf("the lane (-want +got):\n%s", diff)
	}
	// Its own job was ended in the same transaction, before Work returned.
	if got := s.jobState(t, jobID).State; got != "completed" {
		t.Errorf("the job is %s, want completed", got)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay' AND state = 'available'`)[0]; n != 1 {
		t.Errorf("%d relay jobs, want 1", n)
	}
	if diff := cmp.Diff([]int64{1, 1, 0}, s.counters(t, counter.Processed, counter.Batches, counter.Retried)); diff != "" {
		t.Errorf("processed, batches, retried (-want +got):\n%s", diff)
	}

	// The webhook's bytes, with the ids of what it tells of.
	var webhook, memoryID string
	if err := s.pool.QueryRow(t.Context(), `SELECT o.id::text, m.id::text FROM outbox o, memories m`).Scan(&webhook, &memoryID); err != nil {
		t.Fatal(err)
	}
	want := `{"event":"memory_added","user_id":"zoho:77","data":{"result":{"id":"` + memoryID +
		`","content":"Contact Doe of Acme\nAccount Name: Acme\nEmail: a@example.com\nLast Name: Doe",` +
		`"metadata":{"account_id":"77","modified_time":"2024-05-06T05:08:09Z","module":"Contacts","record_id":"1","source":"zoho"}}},` +
		`"timestamp":"2026-03-04T04:06:07.000008Z","source":"memrelay","bot_version":"1.2.3","request_id":"` + webhook + `"}`
	if diff := cmp.Diff(want, string(rows[[]byte](t, s.pool, `SELECT payload FROM outbox`)[0])); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
	// The whole story of it, for people.
	wantSteps := []string{"received", "routed", "processed", "memory added", "told"}
	if diff := cmp.Diff(wantSteps, rows[string](t, s.pool, `SELECT what FROM event_timeline WHERE event_id = $1 ORDER BY step`, eventID)); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	s.end(t, row, nil)
	s.closed(t)
}

func TestLifeOfARecord(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	start := time.Now().Add(-time.Hour)
	at := func(minute int) time.Time { return start.Add(time.Duration(minute) * time.Minute) }
	var before []string
	for i, step := range []struct {
		name, operation, record string
		occurred                time.Time
		told                    []string // of this step
		remembered              []string
	}{
		{
			"a notification of ids alone says nothing worth remembering", "update", `{"id":"1"}`, at(0), nil, nil,
		}, {
			"a create is remembered", "create", contact("1", "77", "a@example.com"), at(1),
			[]string{"added Contacts 1 zoho:77 by event 2 memory_added"}, []string{janeDoe("zoho:77 77", "1", "a@example.com")},
		}, {
			"the same again, written later, is no news", "update", strings.Replace(contact("1", "77", "a@example.com"), "{", `{"Modified_Time":"2024-01-01T00:00:00Z",`, 1), at(2),
			nil, []string{janeDoe("zoho:77 77", "1", "a@example.com")},
		}, {
			"an update is", "update", contact("1", "77", "b@example.com"), at(3),
			[]string{"updated Contacts 1 zoho:77 by event 4 memory_updated"}, []string{janeDoe("zoho:77 77", "1", "b@example.com")},
		}, {
			"an older one that comes late is not", "update", contact("1", "77", "a@example.com"), at(2),
			nil, []string{janeDoe("zoho:77 77", "1", "b@example.com")},
		}, {
			"a contact that moves is gone here and new there", "update", contact("1", "88", "b@example.com"), at(5),
			[]string{"deleted Contacts 1 zoho:77 by event 6 memory_deleted", "added Contacts 1 zoho:88 by event 6 memory_added"},
			[]string{janeDoe("zoho:88 88", "1", "b@example.com")},
		}, {
			"a delete is the end", "delete", `{"id":"1"}`, at(6),
			[]string{"deleted Contacts 1 zoho:88 by event 7 memory_deleted"}, nil,
		}, {
			"no update revives", "update", contact("1", "88", "c@example.com"), at(7), nil, nil,
		}, {
			"nor a create of before", "create", contact("1", "88", "d@example.com"), at(4), nil, nil,
		}, {
			"a restore does, with what came meanwhile", "restore", `{"id":"1"}`, at(8),
			[]string{"added Contacts 1 zoho:88 by event 10 memory_added"}, []string{janeDoe("zoho:88 88", "1", "c@example.com")},
		}, {
			"what is cleared is forgotten", "update", `{"id":"1","Email":null,"Last_Name":null}`, at(9),
			[]string{"updated Contacts 1 zoho:88 by event 11 memory_updated"}, []string{"zoho:88 88 Contacts 1 Contact of Acme\nAccount Name: Acme"},
		}, {
			"a record that belongs to nobody is its own", "update", `{"id":"1","Email":"e@example.com","Account_Name":null}`, at(10),
			[]string{"deleted Contacts 1 zoho:88 by event 12 memory_deleted", "added Contacts 1 zoho:record:Contacts:1 by event 12 memory_added"},
			[]string{"zoho:record:Contacts:1 record:Contacts:1 Contacts 1 Contact\nEmail: e@example.com"},
		}, {
			"and moves home when its account is known", "update", `{"id":"1","Last_Name":"Doe","Account_Name":{"id":"77","name":"Acme"}}`, at(11),
			[]string{"deleted Contacts 1 zoho:record:Contacts:1 by event 13 memory_deleted", "added Contacts 1 zoho:77 by event 13 memory_added"},
			[]string{janeDoe("zoho:77 77", "1", "e@example.com")},
		}, {
			"a record of which all is cleared is forgotten", "update", `{"Last_Name":null,"Email":null,"Account_Name":null}`, at(12),
			[]string{"deleted Contacts 1 zoho:77 by event 14 memory_deleted"}, nil,
		},
	} {
		s.route(t, sent{module: "Contacts", operation: step.operation, recordID: "1", record: step.record, occurred: step.occurred})
		s.finish(t)
		told := s.told(t)
		if len(told) < len(before) {
			t.Fatalf("%s: history was lost", step.name)
		}
		var news []string
		if len(told) > len(before) {
			news = told[len(before):]
		}
		before = told
		if diff := cmp.Diff(step.told, news); diff != "" {
			t.Errorf("event %d, %s: told (-want +got):\n%s", i+1, step.name, diff)
		}
		if diff := cmp.Diff(step.remembered, s.remembered(t)); diff != "" {
			t.Errorf("event %d, %s: remembered (-want +got):\n%s", i+1, step.name, diff)
		}
	}
	// Nothing was written for what is no news, but that each event is processed.
	if diff := cmp.Diff([]int64{14, 0}, s.counters(t, counter.Processed, counter.Backlog)); diff != "" {
		t.Errorf("processed, backlog (-want +got):\n%s", diff)
	}
	told := len(before)
	if got := []int64{s.count(t, "memory_history"), s.count(t, "outbox")}; got[0] != int64(told) || got[1] != int64(told) {
		t.Errorf("history and outbox have %v rows, want %d each", got, told)
	}
	// An update tells what was and what is.
	var data struct {
		Data struct{ Before, After struct{ ID, Content string } } `json:"data"`
	}
	payload := rows[[]byte](t, s.pool, `SELECT o.payload FROM outbox o JOIN memory_history h ON h.outbox_id = o.id WHERE h.event_id = 4`)[0]
	if err := json.Unmarshal(payload, &data); err != nil {
		t.Fatal(err)
	}
	b, a := data.Data.Before, data.Data.After
	if b.ID != a.ID || !strings.Contains(b.Content, "a@example.com") || !strings.Contains(a.Content, "b@example.com") {
		t.Errorf("memory_updated tells of %+v", data.Data)
	}
	history := rows[string](t, s.pool, `SELECT concat_ws(' ', operation, before ->> 'content' LIKE '%a@%', after ->> 'content' LIKE '%b@%') FROM memory_history WHERE event_id IN (2, 4, 7) ORDER BY id`)
	if diff := cmp.Diff([]string{"added f", "updated t t", "deleted f"}, history); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

func TestUnchangedRecordWritesNothing(t *testing.T) {
	t.Parallel()
	// jsonb gives objects and numbers back in another form than they came in.
	const odd = `{"id":"77","Account_Name":"Acme","Annual_Revenue":1.5E7,"Billing":{"street":"Long Road","zip":"1","a":{"y":1e2,"x":-0}},"Tags":[{"b":1,"a":"<&>"}]}`
	for _, tt := range []struct{ name, operation, record string }{
		{"the same payload again", "update", odd},
		{"another field, as empty as before", "update", `{"Phone":null}`},
		{"nothing but the time of modification", "update", `{"Modified_Time":"2024-01-01T00:00:00Z"}`},
		{"an older value", "create", `{"Modified_Time":"2001-01-01T00:00:00Z","Account_Name":"Before"}`},
		{"no field at all", "update", `{}`},
		{"null for a record", "update", `null`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			s.route(t, sent{module: "Accounts", operation: "create", recordID: "77", record: odd})
			s.finish(t)
			before := s.snapshot(t)
			s.route(t, sent{module: "Accounts", operation: tt.operation, recordID: "77", record: tt.record})
			s.finish(t)
			after := s.snapshot(t)
			for _, table := range []string{"memories", "memory_history", "outbox"} {
				if diff := cmp.Diff(before[table], after[table]); diff != "" {
					t.Errorf("%s changed (-before +after):\n%s", table, diff)
				}
			}
			if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n != 1 {
				t.Errorf("%d relay jobs, want the first one alone", n)
			}
		})
	}
}

func TestNobodyIsToldWhereNobodyListens(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, endpoint string
		want           []string
	}{
		{"no endpoint wants the event", `UPDATE endpoints SET events = '{memory_updated}'`, []string{"added Contacts 1 zoho:77 by event 1 untold"}},
		{"the endpoint is gone", `UPDATE endpoints SET deleted_at = now()`, []string{"added Contacts 1 zoho:77 by event 1 untold"}},
		{"the endpoint is paused and will be told later", `UPDATE endpoints SET status = 'paused'`, []string{"added Contacts 1 zoho:77 by event 1 memory_added"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			s.exec(t, tt.endpoint)
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
			s.finish(t)
			if diff := cmp.Diff(tt.want, s.told(t)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			relay := rows[bool](t, s.pool, `SELECT (SELECT count(*) FROM outbox) = (SELECT count(*) FROM river_job WHERE kind = 'relay')`)[0]
			if !relay {
				t.Error("webhooks and relay jobs do not go together")
			}
		})
	}
}

func TestEventsOfOneSyncAreOneChange(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	for i := range 5 {
		s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", fmt.Sprintf("%d@example.com", i))})
	}
	s.finish(t)
	if diff := cmp.Diff([]string{"added Contacts 1 zoho:77 by event 5 memory_added"}, s.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{janeDoe("zoho:77 77", "1", "4@example.com")}, s.remembered(t)); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
}

func TestLaneWithMoreWorkThanOneClaimTakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		events int
		notes  int // bytes of each
		jobs   int64
	}{
		{"more events", maxTakenEvents + 30, 0, 2},
		// As many as it takes: whether there are more is the next job's to see.
		{"just as many", maxTakenEvents, 0, 2},
		{"more bytes", 5, maxTakenBytes/2 + 1, 3},
		{"one that is too big by itself", 1, maxTakenBytes + 1, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			var units []arrival
			for i := range tt.events {
				record := fmt.Sprintf(`{"Description":%q,"Account_Name":{"id":"77"}}`, strings.Repeat("x", tt.notes)+fmt.Sprint(i))
				eventID, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: fmt.Sprint(i), record: record})
				s.begin(t, jobID)
				units = append(units, arrival{eventID: eventID, jobID: jobID})
			}
			s.routeGroup(t, units...)
			s.finish(t)
			if diff := cmp.Diff([]int64{int64(tt.events)}, s.counters(t, counter.Processed)); diff != "" {
				t.Errorf("processed (-want +got):\n%s", diff)
			}
			if got := s.count(t, "memories"); got != int64(tt.events) {
				t.Errorf("%d memories of %d records", got, tt.events)
			}
			if got := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'sync_account'`)[0]; got != tt.jobs {
				t.Errorf("it took %d jobs, want %d", got, tt.jobs)
			}
		})
	}
}

func TestEventWhoseBodyGoesAfterItWasRouted(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "2", record: contact("2", "77", "a@example.com")})
	s.exec(t, `DELETE FROM event_bodies WHERE event_id = 1`)
	s.finish(t)
	got := rows[string](t, s.pool, `SELECT concat_ws(' ', id, status, failures, last_error) FROM events ORDER BY id`)
	if diff := cmp.Diff([]string{"1 dead 3 the event's body is no longer stored", "2 processed 0 "}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{1, 1, 2, 1, 0}, s.counters(t, counter.Dead, counter.Died, counter.Retried, counter.Processed, counter.Backlog)); diff != "" {
		t.Errorf("dead, died, retried, processed, backlog (-want +got):\n%s", diff)
	}
	if got := s.lane(t, "77").LastError; got != errNoBody.Error() {
		t.Errorf("the lane's last error is %q, want %q", got, errNoBody)
	}
}

// A lane that waits to try one event again runs for another one in between, and
// must not forget the first.
func TestEventThatArrivesBeforeAnothersRetry(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	bad := s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	s.exec(t, `DELETE FROM event_bodies`)
	if err := s.sync(t, "77"); err != nil {
		t.Fatal(err)
	}
	retryAt := rows[time.Time](t, s.pool, `SELECT retry_at FROM events WHERE id = $1`, bad)[0]
	if lane := s.lane(t, "77"); lane.Due == nil || !lane.Due.Equal(retryAt) {
		t.Fatalf("the lane is due at %v, want at the event's next attempt: %v", lane.Due, retryAt)
	}

	s.route(t, sent{module: "Contacts", operation: "create", recordID: "2", record: contact("2", "77", "a@example.com")})
	if err := s.sync(t, "77"); err != nil {
		t.Fatal(err)
	}
	lane := s.lane(t, "77")
	if lane.Due == nil || !lane.Due.Equal(retryAt) {
		t.Errorf("the lane is due at %v, want at the first event's next attempt still: %v", lane.Due, retryAt)
	}
	s.noOrphans(t)
	s.finish(t)
	got := rows[string](t, s.pool, `SELECT concat_ws(' ', id, status, failures) FROM events ORDER BY id`)
	if diff := cmp.Diff([]string{"1 dead 3", "2 processed 0"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// An event that arrives while its account is being synced belongs to the next job.
func TestEventThatArrivesDuringItsAccountsSync(t *testing.T) {
	t.Parallel()
	asked := newAsked()
	s := newStation(t, asked)
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	first := s.lane(t, "77").job(t)
	row := s.begin(t, first)
	done := s.start(t, row)
	call := asked.next(t)

	// Two of them, and the lane's job runs: it is left, and no second one made.
	for range 2 {
		s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "b@example.com")})
	}
	lane := s.lane(t, "77")
	if lane.job(t) != first || lane.Wanted != 3 || lane.Due == nil {
		t.Errorf("the lane is %+v, want the same job %d, three wanted, due", lane, first)
	}
	if n := s.syncJobs(t); n != 1 {
		t.Errorf("%d live jobs of the lane, want 1", n)
	}

	call.answer()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.end(t, row, nil)
	if diff := cmp.Diff([]string{janeDoe("zoho:77 77", "1", "a@example.com")}, s.remembered(t)); diff != "" {
		t.Errorf("after the first job (-want +got):\n%s", diff)
	}
	next := s.lane(t, "77")
	if next.job(t) == first || next.Wanted != 3 || next.Done != 1 || next.Due == nil {
		t.Errorf("the lane is %+v, want another job for what came meanwhile", next)
	}
	if n := s.syncJobs(t); n != 1 {
		t.Errorf("%d live jobs of the lane, want 1", n)
	}
	asked.open()
	s.finish(t)
	if diff := cmp.Diff([]string{janeDoe("zoho:77 77", "1", "b@example.com")}, s.remembered(t)); diff != "" {
		t.Errorf("in the end (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{3}, s.counters(t, counter.Processed)); diff != "" {
		t.Errorf("processed (-want +got):\n%s", diff)
	}
}

func TestSourceThatFailsCostsNoAttempt(t *testing.T) {
	t.Parallel()
	down := true
	s := newStation(t, sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
		if down {
			return nil, errWorld
		}
		return Payloads{}.Observe(ctx, events)
	}))
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	for range 2 * testRetry().MaxAttempts {
		var snooze *river.JobSnoozeError
		if err := s.sync(t, "77"); !errors.As(err, &snooze) || snooze.Duration < time.Second || snooze.Duration > 3*time.Second {
			t.Fatalf("the job returned %v, want a snooze of one to three seconds", err)
		}
	}
	got := rows[string](t, s.pool, `SELECT concat_ws(' ', status, failures, last_error) FROM events`)
	if diff := cmp.Diff([]string{"routed 0 "}, got); diff != "" {
		t.Errorf("the event (-want +got):\n%s", diff)
	}
	if got := rows[int16](t, s.pool, `SELECT attempt FROM river_job WHERE kind = 'sync_account'`)[0]; got != 0 {
		t.Errorf("the job has used %d attempts, want none", got)
	}
	s.noOrphans(t)
	down = false
	s.finish(t)
	if diff := cmp.Diff([]int64{1, 0}, s.counters(t, counter.Processed, counter.Retried)); diff != "" {
		t.Errorf("processed, retried (-want +got):\n%s", diff)
	}
}

func TestSourceThatAnswersForOthersIsNotBelieved(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer func([]Observation) []Observation
	}{
		{"too few", func(o []Observation) []Observation { return o[1:] }},
		{"too many", func(o []Observation) []Observation { return append(o, o[0]) }},
		{"another event", func(o []Observation) []Observation { o[0].EventID = 99; return o }},
		{"another order", func(o []Observation) []Observation { o[0], o[1] = o[1], o[0]; return o }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
				o, err := Payloads{}.Observe(ctx, events)
				return tt.answer(o), err
			}))
			for i := range 2 {
				s.route(t, sent{module: "Contacts", operation: "create", recordID: fmt.Sprint(i), record: contact(fmt.Sprint(i), "77", "a@example.com")})
			}
			if err := s.sync(t, "77"); !isSnooze(err) {
				t.Errorf("the job returned %v, want a snooze", err)
			}
			if got := s.count(t, "records"); got != 0 {
				t.Errorf("%d records were written", got)
			}
			s.noOrphans(t)
		})
	}
}

func TestWhatNobodyCanClassifyCountsOnlyInTheEnd(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	bad := s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "bad@example.com")})
	young := s.route(t, sent{module: "Contacts", operation: "create", recordID: "2", record: contact("2", "77", "good@example.com")})
	status := func() []string {
		return rows[string](t, s.pool, `SELECT concat_ws(' ', id, status, failures, last_error) FROM events ORDER BY id`)
	}
	mend := s.refuse(t, refusal{table: "records", on: "UPDATE", state: "XX000", when: `NEW.record_id = '1'`})

	if err := s.sync(t, "77"); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	if diff := cmp.Diff([]string{fmt.Sprint(bad, " routed 0 "), fmt.Sprint(young, " routed 0 ")}, status()); diff != "" {
		t.Errorf("while it is young (-want +got):\n%s", diff)
	}

	// Only the first has waited for too long; the other would be given its time, but is well.
	s.exec(t, `UPDATE events SET routed_at = now() - interval '25 hours' WHERE id = $1`, bad)
	if err := s.sync(t, "77"); err != nil {
		t.Error(err)
	}
	want := []string{fmt.Sprint(bad, " retrying 1 update records: ERROR: refused on purpose (SQLSTATE XX000)"), fmt.Sprint(young, " processed 0 ")}
	if diff := cmp.Diff(want, status()); diff != "" {
		t.Errorf("after its time (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{janeDoe("zoho:77 77", "2", "good@example.com")}, s.remembered(t)); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
	mend()
	s.finish(t)
	if diff := cmp.Diff([]int64{2, 1, 0}, s.counters(t, counter.Processed, counter.Retried, counter.Dead)); diff != "" {
		t.Errorf("processed, retried, dead (-want +got):\n%s", diff)
	}
}

// When events are stored one by one, the world may fail in the middle.
func TestWorldThatFailsBetweenEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"at the next event", refusal{table: "records", on: "UPDATE", state: "57014", when: `NEW.record_id = '2'`}},
		{"at the lane", refusal{table: "accounts", on: "UPDATE", state: "57014", when: `NEW.done > OLD.done`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, poisonous("1"))
			for i := range 3 {
				s.route(t, sent{module: "Contacts", operation: "create", recordID: fmt.Sprint(i), record: contact(fmt.Sprint(i), "77", "a@example.com")})
			}
			mend := s.refuse(t, tt.at)
			if err := s.sync(t, "77"); !isSnooze(err) {
				t.Errorf("the job returned %v, want a snooze", err)
			}
			s.noOrphans(t)
			if got := rows[int64](t, s.pool, `SELECT sum(failures) FROM events`)[0]; got != 0 {
				t.Errorf("%d failures were counted", got)
			}
			mend()
			s.finish(t)
			got := rows[string](t, s.pool, `SELECT concat_ws(' ', record_id, status, failures) FROM events ORDER BY id`)
			if diff := cmp.Diff([]string{"0 processed 0", "1 dead 3", "2 processed 0"}, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]int64{2}, s.counters(t, counter.Processed)); diff != "" {
				t.Errorf("processed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSyncWaitsForRowsThatAreHeld(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, lock string }{
		{"the lane is held", `SELECT FROM accounts WHERE account_id = '77' FOR UPDATE`},
		{"an event is held", `SELECT FROM events WHERE id = 2 FOR UPDATE`},
		{"a record is held", `SELECT FROM records WHERE record_id = '1' FOR UPDATE`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
			s.finish(t)
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "b@example.com")})
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "2", record: contact("2", "88", "b@example.com")})
			units := []synced{s.observed(t, "77"), s.observed(t, "88")}

			release := s.hold(t, tt.lock)
			if diff := cmp.Diff([]error{group.ErrHeld, nil}, errorsOf(inGroup(t, s.pool, s.syncer.write, units)), equateErrors()); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			release()
			if got := rows[string](t, s.pool, `SELECT status FROM events ORDER BY id`); got[1] != "routed" || got[2] != "processed" {
				t.Errorf("events are %v, want the held one to wait and the other to be processed", got)
			}
			if diff := cmp.Diff([]error{nil}, errorsOf(inGroup(t, s.pool, s.syncer.write, units[:1])), equateErrors()); diff != "" {
				t.Errorf("answers once it is free (-want +got):\n%s", diff)
			}
			s.closed(t)
		})
	}
}

func TestClaimOfALaneThatIsHeldWaits(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	jobID := s.lane(t, "77").job(t)
	release := s.hold(t, `SELECT FROM accounts FOR UPDATE`)
	if diff := cmp.Diff([]error{group.ErrHeld}, errorsOf(inGroup(t, s.pool, s.syncer.take, []claim{{"77", jobID}})), equateErrors()); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	release()
	s.finish(t)
}

func TestSyncThatCannotClaim(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	mend := s.refuse(t, refusal{table: "accounts", on: "UPDATE", state: "XX000"})
	if err := s.sync(t, "77"); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	mend()
	row := s.begin(t, s.lane(t, "77").job(t))
	if err := s.attempt(stopped(t), row); !errors.Is(err, context.Canceled) {
		t.Errorf("the job returned %v, want %v", err, context.Canceled)
	}
	if err := s.attempt(expired(t), row); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	s.syncer.claims.Wait()
	s.end(t, row, context.Canceled)
	s.noOrphans(t)
	s.finish(t)
}

// stopped is the context of a job while the program stops, and expired that of
// one whose time is up.
func stopped(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	t.Cleanup(cancel)
	return ctx
}

// A job may have to go at any moment. What it handed in is written all the same,
// and the next attempt finds it.
func TestSyncThatIsStopped(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		source func(stop func()) Source
		clock  bool // stops when the clock is asked, which is in the middle of a write
		dead   int64
	}{
		{
			name: "while the source is asked",
			source: func(stop func()) Source {
				return sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
					stop()
					return Payloads{}.Observe(ctx, events)
				})
			},
		},
		{name: "while it writes", source: func(func()) Source { return Payloads{} }, clock: true},
		{name: "while it writes events one by one", source: func(func()) Source { return poisonous("1") }, clock: true, dead: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			stop := sync.OnceFunc(cancel)
			s := newStation(t, tt.source(stop))
			for i := range 2 {
				s.route(t, sent{module: "Contacts", operation: "create", recordID: fmt.Sprint(i), record: contact(fmt.Sprint(i), "77", "a@example.com")})
			}
			returned := make(chan struct{})
			if tt.clock {
				s.syncer.now = func() time.Time {
					stop()
					<-returned
					return time.Now()
				}
			}
			row := s.begin(t, s.lane(t, "77").job(t))
			if err := s.attempt(ctx, row); !errors.Is(err, context.Canceled) {
				t.Errorf("the job returned %v, want %v", err, context.Canceled)
			}
			close(returned)
			s.syncer.writes.Wait()
			s.end(t, row, context.Canceled)
			s.noOrphans(t)
			s.finish(t)
			if diff := cmp.Diff([]int64{2 - tt.dead, tt.dead}, s.counters(t, counter.Processed, counter.Dead)); diff != "" {
				t.Errorf("processed, dead (-want +got):\n%s", diff)
			}
			if got := s.count(t, "memory_history"); got != 2-tt.dead {
				t.Errorf("%d changes, want %d", got, 2-tt.dead)
			}
		})
	}
}

// syncJobs counts the live jobs of lanes.
func (s *station) syncJobs(t *testing.T) int64 {
	t.Helper()
	return rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'sync_account' AND state IN `+live)[0]
}

// observed takes what a lane has to do and observes it, as Work does before it writes.
func (s *station) observed(t *testing.T, accountID string) synced {
	t.Helper()
	c := claim{accountID: accountID, jobID: s.lane(t, accountID).job(t)}
	s.begin(t, c.jobID)
	work := inGroup(t, s.pool, s.syncer.take, []claim{c})[0].Value
	observations, err := s.syncer.source.Observe(t.Context(), work.events)
	if err != nil {
		t.Fatal(err)
	}
	return synced{claim: c, upTo: work.upTo, cut: work.cut, observations: observations}.keep(work.events)
}
