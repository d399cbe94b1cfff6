package process

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
)

// revisions are what events took of which account.
func (s *station) revisions(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' ', id, status, account_id, revision) FROM events ORDER BY id`)
}

func TestRoutedEventTakesARevisionAndWakesItsLane(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	eventID, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
	if err := s.work(t, jobID); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{fmt.Sprint(eventID, " routed 77 1")}, s.revisions(t)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	lane := s.lane(t, "77")
	if lane.Wanted != 1 || lane.Done != 0 || lane.Due == nil {
		t.Errorf("lane %+v, want one revision wanted, none done, due", lane)
	}
	if diff := cmp.Diff(jobState{State: "available"}, s.jobState(t, lane.job(t)), ignoreTimes()); diff != "" {
		t.Errorf("the lane's job (-want +got):\n%s", diff)
	}
	if got := s.jobState(t, jobID).State; got != "completed" {
		t.Errorf("the event's own job is %s, want completed", got)
	}
	if diff := cmp.Diff([]int64{0}, s.counters(t, counter.Backlog)); diff != "" {
		t.Errorf("backlog (-want +got):\n%s", diff)
	}
	s.noOrphans(t)
}

func TestEventsOfAnAccountInOneGroupTakeItsNextRevisions(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	var units []arrival
	for _, accountID := range []string{"77", "88", "77"} {
		eventID, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", accountID, "a@example.com")})
		s.begin(t, jobID)
		units = append(units, arrival{eventID: eventID, jobID: jobID})
	}
	if diff := cmp.Diff([]group.Answer[bool]{{Value: true}, {Value: true}, {Value: true}}, s.routeGroup(t, units...)); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1 routed 77 1", "2 routed 88 1", "3 routed 77 2"}, s.revisions(t)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'sync_account'`)[0]; n != 2 {
		t.Errorf("%d jobs for two lanes", n)
	}
}

func TestDebounce(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	update := sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active"), modified: []string{"Phone"}}

	// An account's update waits for further ones, its job as available with a time to come.
	s.route(t, update)
	first := s.lane(t, "77")
	routedAt := rows[time.Time](t, s.pool, `SELECT routed_at FROM events`)[0]
	if want := routedAt.Add(testDebounce); first.Due == nil || !first.Due.Equal(want) {
		t.Fatalf("due at %v, want the debounce later than its routing: %v", first.Due, want)
	}
	if diff := cmp.Diff(jobState{"available", *first.Due}, s.jobState(t, first.job(t))); diff != "" {
		t.Errorf("the job (-want +got):\n%s", diff)
	}

	// A further update never pushes it back.
	s.route(t, update)
	second := s.lane(t, "77")
	if diff := cmp.Diff(laneRow{Wanted: 2, Due: first.Due, JobID: first.JobID}, second); diff != "" {
		t.Errorf("the lane after a further update (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(jobState{"available", *first.Due}, s.jobState(t, second.job(t))); diff != "" {
		t.Errorf("its job (-want +got):\n%s", diff)
	}

	// What an agent must not be wrong about pulls it forward.
	urgent := update
	urgent.modified = []string{"Phone", "Owner"}
	s.route(t, urgent)
	third := s.lane(t, "77")
	if third.Due == nil || !third.Due.Before(*first.Due) || third.job(t) != first.job(t) {
		t.Errorf("due at %v by job %d, want earlier than %v by the same job %d", third.Due, *third.JobID, *first.Due, *first.JobID)
	}
	if diff := cmp.Diff(jobState{"available", *third.Due}, s.jobState(t, third.job(t))); diff != "" {
		t.Errorf("its job (-want +got):\n%s", diff)
	}

	// And stays forward.
	s.route(t, update)
	if diff := cmp.Diff(laneRow{Wanted: 4, Due: third.Due, JobID: first.JobID}, s.lane(t, "77")); diff != "" {
		t.Errorf("the lane in the end (-want +got):\n%s", diff)
	}
}

func TestLaneThatIsWorkedTooEarlyWaitsPrecisely(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.route(t, sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active")})
	before := s.lane(t, "77")
	// River keeps a snooze to the moment up to five seconds.
	var snooze *river.JobSnoozeError
	if err := s.sync(t, "77"); !errors.As(err, &snooze) || snooze.Duration != 5*time.Second {
		t.Errorf("the job returned %v, want a snooze of five seconds", err)
	}
	if diff := cmp.Diff(before, s.lane(t, "77")); diff != "" {
		t.Errorf("the lane has changed (-before +after):\n%s", diff)
	}
	s.exec(t, `UPDATE accounts SET due_at = now() + interval '3 seconds'`)
	snooze = nil
	if err := s.sync(t, "77"); err != nil && (!errors.As(err, &snooze) || snooze.Duration > 3*time.Second) {
		t.Errorf("the job returned %v, want a snooze of no more than what is left", err)
	}
	s.finish(t)
}

func TestRouteOfARecordWhoseFieldsDoNotSay(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})

	// Nothing is known: the record is a lane of its own.
	s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: `{"id":"1"}`})
	s.finish(t)
	// Its account is said, and known from then on.
	s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
	s.finish(t)
	s.route(t, sent{module: "Contacts", operation: "delete", recordID: "1", record: `{"id":"1"}`})

	if diff := cmp.Diff([]string{"1 processed record:Contacts:1 1", "2 processed 77 1", "3 routed 77 2"}, s.revisions(t)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestEventIsRoutedOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	eventID, first := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
	again := func() int64 {
		inserted, err := s.jobs.Insert(t.Context(), job.ProcessEvent{EventID: eventID}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.begin(t, inserted.Job.ID)
		return inserted.Job.ID
	}

	// Two jobs of one event meet in one group.
	s.begin(t, first)
	second := again()
	answers := s.routeGroup(t, arrival{eventID: eventID, jobID: first}, arrival{eventID: eventID, jobID: second})
	if diff := cmp.Diff([]group.Answer[bool]{{Value: true}, {}}, answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	lane := s.lane(t, "77")
	if lane.Wanted != 1 {
		t.Errorf("the lane wants %d, want 1", lane.Wanted)
	}

	// A third comes later, when the body is gone; the event needs it no more to be routed.
	s.exec(t, `DELETE FROM event_bodies`)
	third := again()
	if diff := cmp.Diff([]group.Answer[bool]{{}}, s.routeGroup(t, arrival{eventID: eventID, jobID: third})); diff != "" {
		t.Errorf("answer to the third (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(lane, s.lane(t, "77")); diff != "" {
		t.Errorf("the lane has changed (-want +got):\n%s", diff)
	}
	for _, id := range []int64{first, second, third} {
		if got := s.jobState(t, id).State; got != "completed" {
			t.Errorf("job %d is %s, want completed", id, got)
		}
	}
	if diff := cmp.Diff([]int64{0}, s.counters(t, counter.Backlog)); diff != "" {
		t.Errorf("backlog (-want +got):\n%s", diff)
	}
}

func TestEventThatIsGoneNeedsNoRouting(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	_, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1"})
	s.exec(t, `DELETE FROM events`)
	row := s.begin(t, jobID)
	if err := s.attempt(t.Context(), row); err != nil {
		t.Errorf("the job returned %v, want nil", err)
	}
	if got := s.jobState(t, jobID).State; got != "completed" {
		t.Errorf("the job is %s, want completed", got)
	}
}

func TestEventWithoutBodyIsDeadAfterItsAttempts(t *testing.T) {
	t.Parallel()
	for _, body := range []struct{ name, record, reason string }{
		{"its body is gone", "", "event cannot be worked: the event's body is no longer stored"},
		{"its record is no object", `["1"]`, "event cannot be worked: the record is not a JSON object"},
	} {
		t.Run(body.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			eventID, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: body.record})
			var states, jobs []string
			for range testRetry().MaxAttempts {
				if err := s.work(t, jobID); !errors.Is(err, errEvent) {
					t.Fatalf("the job returned %v, want %v", err, errEvent)
				}
				states = append(states, rows[string](t, s.pool, `SELECT concat_ws(' ', status, failures, last_error) FROM events WHERE id = $1`, eventID)...)
				jobs = append(jobs, s.jobState(t, jobID).State)
			}
			if diff := cmp.Diff([]string{"retrying 1 " + body.reason, "retrying 2 " + body.reason, "dead 3 " + body.reason}, states); diff != "" {
				t.Errorf("the event (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"retryable", "retryable", "discarded"}, jobs); diff != "" {
				t.Errorf("its job (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]int64{0, 1, 1, 2}, s.counters(t, counter.Backlog, counter.Dead, counter.Died, counter.Retried)); diff != "" {
				t.Errorf("backlog, dead, died, retried (-want +got):\n%s", diff)
			}
			// One more job, as a sweep may bring it, does not count again.
			inserted, err := s.jobs.Insert(t.Context(), job.ProcessEvent{EventID: eventID}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.work(t, inserted.Job.ID); err != nil {
				t.Errorf("a job of a dead event returned %v, want nil", err)
			}
			if diff := cmp.Diff([]int64{0, 1}, s.counters(t, counter.Backlog, counter.Dead)); diff != "" {
				t.Errorf("backlog, dead after one more job (-want +got):\n%s", diff)
			}
		})
	}
}

// A fresh job of an event that has failed before has more attempts than the event.
func TestJobOfADeadEventIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	eventID, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1"})
	s.exec(t, `UPDATE events SET status = 'retrying', failures = 2 WHERE id = $1`, eventID)
	var cancel *river.JobCancelError
	if err := s.work(t, jobID); !errors.As(err, &cancel) {
		t.Errorf("the job returned %v, want that it is cancelled", err)
	}
	if got := rows[string](t, s.pool, `SELECT status FROM events`)[0]; got != "dead" {
		t.Errorf("the event is %s, want dead", got)
	}
}

// The fault of an attempt that lost the race is no fault of the event.
func TestFaultOfARoutedEventIsNotMarked(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	eventID := s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
	before := s.snapshot(t)
	if dead, err := s.router.mark(t.Context(), eventID, errNoBody); dead || err != nil {
		t.Errorf("marked as dead: %t, %v", dead, err)
	}
	if diff := cmp.Diff(before, s.snapshot(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

func TestRouteWaitsForRowsThatAreHeld(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, lock string }{
		{"the event is held", `SELECT FROM events WHERE id = 2 FOR UPDATE`},
		{"the lane is held", `SELECT FROM accounts WHERE account_id = '77' FOR UPDATE`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
			eventID, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "b@example.com")})
			s.begin(t, jobID)
			release := s.hold(t, tt.lock)
			if diff := cmp.Diff([]error{group.ErrHeld}, errorsOf(s.routeGroup(t, arrival{eventID: eventID, jobID: jobID})), equateErrors()); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			release()
			if diff := cmp.Diff([]error{nil}, errorsOf(s.routeGroup(t, arrival{eventID: eventID, jobID: jobID})), equateErrors()); diff != "" {
				t.Errorf("answers once it is free (-want +got):\n%s", diff)
			}
			s.finish(t)
		})
	}
}

func TestRouterLeavesTheWorldsFailuresOutOfAccount(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	_, jobID := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "77", "a@example.com")})
	row := s.begin(t, jobID)

	t.Log("the transaction fails and nobody knows why: it is the world's for as long as it is young")
	mend := s.refuse(t, refusal{table: "counters", on: "INSERT OR UPDATE", state: "XX000"})
	before := s.snapshot(t)
	if err := s.attempt(t.Context(), row); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	if diff := cmp.Diff(before, s.snapshot(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	mend()

	t.Log("the database gives up: the world's, however old the job is")
	row.CreatedAt = time.Now().Add(-25 * time.Hour)
	mend = s.refuse(t, refusal{table: "accounts", on: "INSERT OR UPDATE", state: "57014"})
	if err := s.attempt(t.Context(), row); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	mend()

	t.Log("what nobody can classify counts once it has lasted for too long")
	mend = s.refuse(t, refusal{table: "accounts", on: "INSERT OR UPDATE", state: "XX000"})
	if err := s.attempt(t.Context(), row); err == nil || isSnooze(err) {
		t.Errorf("the job returned %v, want the error", err)
	}
	mend()
	got := rows[string](t, s.pool, `SELECT concat_ws(' ', status, failures) FROM events`)
	if diff := cmp.Diff([]string{"retrying 1"}, got); diff != "" {
		t.Errorf("the event (-want +got):\n%s", diff)
	}

	t.Log("a fault that cannot be marked is tried again as it is")
	mend = s.refuse(t, refusal{table: "accounts", on: "INSERT OR UPDATE", state: "22000"})
	unmark := s.refuse(t, refusal{table: "events", on: "UPDATE", state: "XX000"})
	if err := s.attempt(t.Context(), row); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	unmark()
	mend()

	t.Log("its time is up, or the program stops")
	if err := s.attempt(expired(t), row); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	if err := s.attempt(stopped(t), row); !errors.Is(err, context.Canceled) {
		t.Errorf("the job returned %v, want %v", err, context.Canceled)
	}
	// Its unit may still be on its way.
	s.router.commits.Wait()
	s.end(t, row, context.Canceled)
	s.finish(t)
}

func TestAttemptsAreSpaced(t *testing.T) {
	t.Parallel()
	row := &rivertype.JobRow{Attempt: 1000}
	before := time.Now()
	for _, next := range []time.Time{
		(&Router{retry: testRetry()}).NextRetry(&river.Job[job.ProcessEvent]{JobRow: row}),
		(&Syncer{retry: testRetry()}).NextRetry(&river.Job[job.SyncAccount]{JobRow: row}),
	} {
		// However often it was tried; the test itself may take its time.
		if wait := next.Sub(before); wait < maxBackoff*8/10 || wait > maxBackoff*12/10+time.Minute {
			t.Errorf("waits %v, want %v and a fifth more or less", wait, maxBackoff)
		}
	}
}
