package outbound

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
)

// wake brings work to a lane, as a person's decision does.
func (s *station) wake(t *testing.T, id uuid.UUID) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return endpoint.Wake(t.Context(), tx, s.jobs, id) })
	if err != nil {
		t.Fatal(err)
	}
}

// hold is a receiver whose answers wait until the test lets them go.
func hold(t *testing.T, answer http.HandlerFunc) (h http.HandlerFunc, let func()) {
	t.Helper()
	gate := make(chan struct{})
	let = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(let)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
			answer(w, r)
		case <-r.Context().Done():
		}
	}, let
}

// A disabled endpoint is probed with what is due. As long as nothing is, its lane rests.
func TestAProbeWithNothingToSendCostsNoJobs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(t *testing.T, s *station) // what is open
		want   string
	}{
		"nothing is open": {func(*testing.T, *station) {}, "1 of 1 done, due never, job none"},
		"what is open is due later": {func(t *testing.T, s *station) {
			t.Helper()
			s.told(t, added, 1)
			s.relay(t)
			s.exec(t, `UPDATE deliveries SET status = 'retrying', next_attempt_at = now() + interval '1 hour'`)
		}, "1 of 2 done, due next, job available then"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			r := subscribe(t)
			id := s.endpoint(t, r.URL, withStatus("disabled"))
			c.before(t, s)
			s.set(t, id, "probing = true, resume_at = now()")
			s.wake(t, id)
			s.work(t, id)
			s.wantLane(t, id, c.want)

			s.told(t, added, 1)
			s.relay(t)
			s.work(t, id) // the webhook is the probe
			r.next(t)
			if got := one[string](t, s, `SELECT status FROM endpoints`); got != endpoint.Active {
				t.Errorf("the endpoint is %s after a probe that succeeded", got)
			}
		})
	}
}

// The last request of a full lane to end makes room for what comes later, too.
func TestAFullLaneWithNothingElseToSendIsFreeOnceItsRequestEnds(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	answer, let := hold(t, status(204))
	r := subscribe(t, answer)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "max_in_flight = 1")
	s.told(t, added, 1)
	s.relay(t)
	s.deliverer.slice = time.Millisecond
	s.work(t, id)
	r.next(t)
	s.until(t, "the lane is full", `SELECT full_until > now() FROM endpoints`)
	let()
	s.until(t, "it is delivered", `SELECT bool_and(status = 'delivered') FROM deliveries`)
	s.until(t, "the lane is free", `SELECT full_until IS NULL FROM endpoints`)
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	r.next(t)
}

// Who was paused while as much was under way as may be is sent to again at once.
func TestAnEndpointThatIsResumedIsNotFullOfWhatHasEnded(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	answer, let := hold(t, status(204))
	r := subscribe(t, answer)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "max_in_flight = 1")
	s.told(t, added, 2)
	s.relay(t)
	s.deliverer.slice = time.Millisecond
	s.work(t, id)
	r.next(t)
	s.set(t, id, "status = 'paused'")
	let()
	s.until(t, "it is delivered", `SELECT bool_or(status = 'delivered') FROM deliveries`)
	s.until(t, "the lane is free", `SELECT full_until IS NULL FROM endpoints`)
}

// Whoever opens deliveries again holds the endpoint and waits for its deliveries:
// nobody may wait the other way round.
func TestGatheringAndOpeningAgainDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, "http://127.0.0.1:1")
	s.set(t, id, "batch_size = 2")
	ids := s.told(t, added, 2)
	s.relay(t)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(t.Context()) })
	row, err := db.New(tx).LockEndpoint(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	p, err := db.New(s.pool).GetEndpoint(t.Context(), row.ID)
	if err != nil {
		t.Fatal(err)
	}
	g := together(t)
	g.Go(func() error { return s.deliverer.gather(t.Context(), p, 1) })
	s.untilWaiting(t, 1)
	if _, err := openAgain(t.Context(), tx, s.jobs, id, ids, opening{insert: true}); err != nil {
		t.Errorf("open again: %v", err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if err := g.Wait(); err != nil {
		t.Errorf("gather: %v", err)
	}
	s.wantOutcomes(t, id, "batched after 0 attempts, 0 failed", "batched after 0 attempts, 0 failed", "pending after 0 attempts, 0 failed")
}

// What is not due yet fills no batch.
func TestALaneDoesNotRunForABatchThatIsNotFull(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.told(t, added, 2)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = 'retrying', next_attempt_at = now() + interval '30 minutes'`)
	s.exec(t, `UPDATE endpoints SET due_at = NULL, job_id = NULL, batch_size = 3, batch_wait = '1 hour'`)
	s.told(t, added, 1)
	s.relay(t)
	if !one[bool](t, s, `SELECT due_at BETWEEN now() + interval '29 minutes' AND now() + interval '31 minutes' FROM endpoints`) {
		t.Errorf("it is full in half an hour, the lane is: %s", s.lane(t, id))
	}
	s.exec(t, `UPDATE endpoints SET due_at = now()`)
	s.exec(t, `UPDATE river_job SET scheduled_at = now() WHERE state = 'available'`)
	s.work(t, id)
	if !one[bool](t, s, `SELECT due_at > now() + interval '29 minutes' FROM endpoints`) {
		t.Errorf("the lane runs on and on: %s", s.lane(t, id))
	}
}

// One request at a time finds out whether an endpoint is back, also when it hangs.
func TestALaneThatRestsHasOneRequestUnderWay(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	answer, let := hold(t, status(204))
	r := subscribe(t, answer)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "failures = 5, failing_since = now(), resume_at = now()")
	s.told(t, added, 3)
	s.relay(t)
	s.deliverer.slice = time.Millisecond
	s.work(t, id)
	r.next(t)
	if !one[bool](t, s, `SELECT due_at > now() + interval '5 seconds' AND full_until = due_at FROM endpoints`) {
		t.Fatalf("with one request under way the lane is: %s", s.lane(t, id))
	}
	s.exec(t, `UPDATE endpoints SET due_at = now()`)
	s.exec(t, `UPDATE river_job SET scheduled_at = now() WHERE state = 'available'`)
	s.work(t, id)
	if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE attempts > 0`); n != 1 {
		t.Errorf("%d requests were begun, want 1", n)
	}
	let()
	s.until(t, "the lane goes on", `SELECT bool_and(due_at <= now()) FROM endpoints`)
	s.deliverer.slice = sliceTime
	s.work(t, id)
	s.wantOutcomes(t, id, repeat("delivered after 1 attempts, 0 failed", 3)...)
}

// What was sent at another rate says nothing of when a request is due now.
func TestANewRateBeginsToCountAnew(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	answer, let := hold(t, status(204))
	r := subscribe(t, answer)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "rate_limit = 0.001")
	s.told(t, added, 2)
	s.relay(t)
	g := together(t)
	running := s.start(t, id)
	g.Go(func() error { return s.deliverer.Work(t.Context(), running) })
	r.next(t)
	s.set(t, id, "rate_limit = 100, rate_at = NULL")
	let()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s.work(t, id)
	s.wantOutcomes(t, id, repeat("delivered after 1 attempts, 0 failed", 2)...)
}

// A person has decided while a request was under way: what it met is not how the
// endpoint is now. The delivery has its outcome all the same.
func TestWhatCameBeforeADecisionDoesNotUndoIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code int
		want string
	}{
		"wants no more": {410, "dead after 1 attempts, 1 failed: answered 410 Gone"},
		"fails":         {503, "retrying after 1 attempts, 1 failed: answered 503 Service Unavailable"},
		"is well":       {204, "delivered after 1 attempts, 0 failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			answer, let := hold(t, status(c.code))
			r := subscribe(t, answer)
			id := s.endpoint(t, r.URL)
			s.told(t, added, 1)
			s.relay(t)
			s.deliverer.slice = time.Millisecond
			s.work(t, id)
			r.next(t)
			if err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
				_, err := db.New(tx).ResumeEndpoint(t.Context(), id)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			let()
			s.until(t, "the outcome is recorded", `SELECT leased_until IS NULL FROM deliveries`)
			s.wantOutcomes(t, id, c.want)
			if diff := cmp.Diff("active 0", one[string](t, s, `SELECT status || ' ' || failures FROM endpoints`)); diff != "" {
				t.Errorf("the endpoint (-want +got):\n%s", diff)
			}
		})
	}
}

// Who begins to gather gets what waited for its turn before what came later.
func TestWhatWaitedIsGatheredInItsOrder(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "ordered = true")
	s.tell(t, added, "u", "u", "u")
	s.relay(t)
	s.set(t, id, "batch_size = 2, batch_wait = '1 hour'")
	s.tell(t, added, "u")
	s.relay(t)
	want := texts(column[uuid.UUID](t, s, `SELECT id FROM outbox ORDER BY seq`))
	s.work(t, id)
	var got []string
	for range 2 {
		got = append(got, members(t, r.next(t).body)...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("gathered (-want +got):\n%s", diff)
	}
}

// What waits for an earlier webhook of its user is nothing to do yet.
func TestALaneDoesNotRunForWhatWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, status(503))
	id := s.endpoint(t, r.URL) // an hour between the first two attempts
	s.set(t, id, "ordered = true")
	s.tell(t, added, "u")
	s.relay(t)
	s.work(t, id)
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
	s.tell(t, added, "u", "u")
	s.relay(t)
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
	s.tell(t, added, "u", "v")
	s.relay(t)
	s.wantLane(t, id, "1 of 3 done, due now, job available then")
}

// Whatever somebody held while its endpoint was tidied up is cancelled the next time.
func TestACancelledBatchLeavesNoneOfItsWebhooks(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, status(503))
	id := s.endpoint(t, r.URL)
	s.set(t, id, "batch_size = 2")
	s.told(t, added, 2)
	s.relay(t)
	s.work(t, id)
	s.set(t, id, "deleted_at = now()")
	s.wake(t, id)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM deliveries WHERE status = 'batched' ORDER BY id LIMIT 1 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	s.hasten(t)
	s.work(t, id)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.hasten(t)
	s.work(t, id)
	if diff := cmp.Diff([]string{"cancelled"}, column[string](t, s, `SELECT DISTINCT status FROM deliveries`)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// Rows say when something is due by the database's clock; a node's own may be wrong.
func TestALaneDoesNotGoByTheClockOfItsNode(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			s.deliverer.now = func() time.Time { return time.Now().Add(wrong) }
			r := subscribe(t)
			id := s.endpoint(t, r.URL)
			s.set(t, id, "rate_limit = 1, resume_at = now()")
			s.told(t, added, 2)
			s.relay(t)
			s.work(t, id)
			s.wantOutcomes(t, id, "delivered after 1 attempts, 0 failed", "pending after 0 attempts, 0 failed")
			if !one[bool](t, s, `SELECT rate_at BETWEEN now() - interval '5 seconds' AND now() + interval '5 seconds' FROM endpoints`) {
				t.Error("the next request is due by the clock of the node")
			}
		})
	}
}

// Those that gather in order go by when deliveries became due: not by when a relay
// began that had to wait for another, which then seems to be the later one.
func TestWhatIsRelayedLaterIsDueLater(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	s.told(t, added, 1)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	if _, err := db.New(tx).BeginRelay(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	g := together(t)
	id := s.running(t, job.Relay{})
	g.Go(func() error { return s.relayer.Work(t.Context(), relayJob(id)) })
	s.untilWaiting(t, 1)
	other := one[time.Time](t, s, `SELECT clock_timestamp()`) // when the other one relays
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if !one[bool](t, s, `SELECT next_attempt_at >= $1 FROM deliveries`, other) {
		t.Error("it goes before what was relayed before it")
	}
}

// The request that finds an endpoint well is the last of its turn: the next turn sends
// as many at a time as may be.
func TestALaneThatHasRestedBeginsAnewOnceItsEndpointIsBack(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "failures = 5, failing_since = now(), resume_at = now()")
	s.told(t, added, 2)
	s.relay(t)
	s.work(t, id)
	s.wantOutcomes(t, id, "delivered after 1 attempts, 0 failed", "pending after 0 attempts, 0 failed")
	s.work(t, id)
	s.wantOutcomes(t, id, repeat("delivered after 1 attempts, 0 failed", 2)...)
}

// Whoever records that an endpoint is back wakes its lane in the same transaction: the
// one that sent the request may not live to look at it.
func TestRecordWakesTheLaneOfAnEndpointThatIsBack(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	deliveries := s.leased(t, id, 1, 1)
	s.set(t, id, "failures = 5, failing_since = now(), resume_at = now() + interval '1 hour', due_at = NULL, job_id = NULL")
	u := attemptOf(id, deliveries[0], 1, answered(200))
	u.asOf = s.asOf(t, id)
	if _, err := s.deliverer.outcomes.Do(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	s.start(t, id)
}

// Whoever gathers in order gets the next batch once the one before has arrived.
func TestBatchesInOrderAreUnderWayOneByOne(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	answer, let := hold(t, status(204))
	r := subscribe(t, answer)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "ordered = true, batch_size = 2")
	s.told(t, added, 4)
	s.relay(t)
	s.deliverer.slice = time.Millisecond
	s.work(t, id)
	if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE outbox_id IS NULL`); n != 1 {
		t.Errorf("%d batches are under way, want 1", n)
	}
	let()
}
