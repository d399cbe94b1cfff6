package outbound

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

func settings(url string) Endpoint {
	return Endpoint{URL: url, Events: []string{added}, Timeout: 10 * time.Second, MaxAttempts: 3, RetryDelay: time.Hour}
}

// setEnv sets the endpoint of the settings and returns its id, the zero one when there is none.
func (s *station) setEnv(t *testing.T, e Endpoint) uuid.UUID {
	t.Helper()
	if err := SetEnv(t.Context(), s.pool, s.jobs, e); err != nil {
		t.Fatal(err)
	}
	ids := column[uuid.UUID](t, s, `SELECT id FROM endpoints WHERE deleted_at IS NULL`)
	switch {
	case e.URL == "" && len(ids) == 0:
		return uuid.Nil
	case e.URL != "" && len(ids) == 1:
		return ids[0]
	}
	t.Fatalf("%d endpoints", len(ids))
	return uuid.Nil
}

func TestSetEnvMakesTheEndpointWhatTheSettingsSay(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.setEnv(t, Endpoint{}) // none yet, and none wanted
	first := s.setEnv(t, settings("https://one.invalid/"))
	e := settings("https://two.invalid/")
	e.Events, e.Timeout, e.MaxAttempts, e.RetryDelay = []string{deleted}, time.Second, 3, time.Minute
	if second := s.setEnv(t, e); second != first {
		t.Errorf("changed settings made another endpoint")
	}
	got := one[string](t, s, `SELECT format('%s %s %s %s %s %s', name, url, events, timeout, retry_schedule, status) FROM endpoints`)
	if want := "env https://two.invalid/ {memory_deleted} 00:00:01 {00:01:00,00:02:00} active"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.wantLane(t, first, "0 of 0 done, due never, job none")
}

// With other settings what failed may arrive: it is tried at once.
func TestSetEnvWakesTheLaneForWhatIsOpen(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.setEnv(t, settings(subscribe(t, status(503)).URL))
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
	healthy := subscribe(t)
	s.setEnv(t, settings(healthy.URL))
	s.wantLane(t, id, "1 of 3 done, due now, job available then")
	// What waits for its backoff waits on.
	s.work(t, id)
	s.wantLane(t, id, "3 of 4 done, due next, job available then")
	s.hasten(t)
	s.work(t, id)
	s.wantOutcomes(t, id, "delivered after 2 attempts, 1 failed")
	if n := len(healthy.all()); n != 1 {
		t.Errorf("%d requests to the new URL, want 1", n)
	}
}

func TestEndpointThatIsGoneHasItsDeliveriesCancelled(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(400), status(503), status(503)))
	id := s.setEnv(t, settings(r.URL))
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	s.told(t, added, 1)
	s.relay(t)

	s.setEnv(t, Endpoint{})
	s.work(t, id)
	s.wantOutcomes(t, id,
		"dead after 1 attempts, 1 failed: answered 400 Bad Request",
		"cancelled after 1 attempts, 1 failed: answered 503 Service Unavailable",
		"cancelled after 0 attempts, 0 failed")
	s.wantLane(t, id, "5 of 5 done, due never, job none")
	if n := len(r.all()); n != 2 {
		t.Errorf("%d requests, want the 2 from before", n)
	}

	s.told(t, added, 1)
	s.relay(t)
	if n := len(s.outcomes(t, id)); n != 3 {
		t.Errorf("%d deliveries to an endpoint that is gone, want the 3 from before", n)
	}
	if again := s.setEnv(t, settings(r.URL)); again == id {
		t.Error("the endpoint that was gone is back with all its past")
	}
}

func TestCancelWorksInSlices(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.setEnv(t, settings(nowhere))
	const webhooks = 2*sliceRows + 10
	s.told(t, added, webhooks)
	s.relay(t)
	s.setEnv(t, Endpoint{})
	s.work(t, id)
	if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE status = 'cancelled' AND finished_at IS NOT NULL`); n != webhooks {
		t.Errorf("%d cancelled, want %d", n, webhooks)
	}
}

// The job that runs began when the endpoint was there. It must not close the
// lane over what is still to be cancelled.
func TestEndpointThatGoesWhileItsJobRuns(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	r := subscribe(t, inTurn(h.answer, status(503)))
	id := s.setEnv(t, settings(r.URL))
	s.told(t, added, 2)
	s.relay(t)
	g := together(t)
	running := s.start(t, id)
	g.Go(func() error { return s.deliverer.Work(t.Context(), running) })
	r.next(t)
	r.next(t)
	s.until(t, "one has failed", `SELECT EXISTS (SELECT FROM deliveries WHERE status = 'retrying')`)
	s.setEnv(t, Endpoint{})
	close(h.let)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s.hasten(t)
	s.work(t, id)
	if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE status = 'cancelled'`); n != 1 {
		t.Errorf("%d cancelled, want the one that had failed: %q", n, s.outcomes(t, id))
	}
	if got := one[bool](t, s, `SELECT done = wanted AND job_id IS NULL AND due_at IS NULL FROM endpoints`); !got {
		t.Errorf("the lane is: %s; want it closed", s.lane(t, id))
	}
}

// A delivery that somebody else is writing to in that moment is cancelled a
// little later, not never.
func TestCancelComesBackForWhatWasHeld(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.setEnv(t, settings(nowhere))
	s.told(t, added, 2)
	s.relay(t)
	s.setEnv(t, Endpoint{})
	holder, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), `SELECT FROM deliveries ORDER BY id LIMIT 1 FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	s.work(t, id)
	s.wantOutcomes(t, id, "pending after 0 attempts, 0 failed", "cancelled after 0 attempts, 0 failed")
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.hasten(t)
	s.work(t, id)
	s.wantOutcomes(t, id, "cancelled after 0 attempts, 0 failed", "cancelled after 0 attempts, 0 failed")
	s.wantLane(t, id, "3 of 3 done, due never, job none")
}

func TestSetEnvTriesADisabledEndpointAgain(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	gone := subscribe(t, status(410))
	id := s.setEnv(t, settings(gone.URL))
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	s.told(t, added, 2)
	s.relay(t)
	s.wantLane(t, id, "1 of 1 done, due never, job none")

	back := subscribe(t)
	s.setEnv(t, settings(back.URL))
	if got := one[string](t, s, `SELECT status || status_reason FROM endpoints`); got != "active" {
		t.Errorf("the endpoint is %q, want active without a reason", got)
	}
	s.work(t, id)
	s.wantOutcomes(t, id, "dead after 1 attempts, 1 failed: answered 410 Gone",
		"delivered after 1 attempts, 0 failed", "delivered after 1 attempts, 0 failed")
}

func TestSetEnvLeavesAPausedEndpointPaused(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.setEnv(t, settings(r.URL))
	s.exec(t, `UPDATE endpoints SET status = 'paused', status_reason = 'by hand'`)
	s.told(t, added, 2)
	s.relay(t)
	s.setEnv(t, settings(r.URL))
	if got := one[string](t, s, `SELECT status || ' ' || status_reason FROM endpoints`); got != "paused by hand" {
		t.Errorf("the endpoint is %q, want paused by hand", got)
	}
	s.work(t, id)
	s.wantOutcomes(t, id, "pending after 0 attempts, 0 failed", "pending after 0 attempts, 0 failed")
	s.wantLane(t, id, "1 of 1 done, due never, job none")
	if n := len(r.all()); n != 0 {
		t.Errorf("%d requests to a paused endpoint", n)
	}
}

func TestSetEnvLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.setEnv(t, settings(nowhere))
	s.told(t, added, 1)
	s.relay(t)
	s.exec(t, `UPDATE endpoints SET status = 'disabled', job_id = NULL, due_at = NULL, done = wanted`)
	relent := s.refuse(t, "endpoints", "BEFORE UPDATE", "new.job_id IS NOT NULL")
	before := s.picture(t)
	for name, e := range map[string]Endpoint{"a change": settings("https://other.invalid/"), "the end": {}} {
		if err := SetEnv(t.Context(), s.pool, s.jobs, e); err == nil {
			t.Errorf("%s: no error although the last statement fails", name)
		}
		if diff := cmp.Diff(before, s.picture(t)); diff != "" {
			t.Errorf("%s whose last statement failed left (-before +after):\n%s", name, diff)
		}
	}
	relent()
	s.setEnv(t, settings("https://other.invalid/"))
}

func (s *station) retry(t *testing.T, deliveryID int64) error {
	return pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return Retry(t.Context(), tx, s.jobs, deliveryID) })
}

func TestRetryOpensADeadDeliveryWithAllItsAttempts(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(400), status(503), status(503), status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	delivery := one[int64](t, s, `SELECT id FROM deliveries WHERE status = 'dead'`)

	if err := s.retry(t, delivery); err != nil {
		t.Fatal(err)
	}
	s.wantOutcomes(t, id, "pending after 1 attempts, 0 failed: answered 400 Bad Request")
	s.wantLane(t, id, "1 of 2 done, due now, job available")
	for range 3 {
		s.hasten(t)
		s.work(t, id)
	}
	s.wantOutcomes(t, id, "delivered after 4 attempts, 2 failed")
	s.wantAttempts(t, id, "1: 400", "2: 503", "3: 503", "4: 204")
}

func TestRetryIsForDeadDeliveriesOnly(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	s.told(t, added, 5)
	s.relay(t)
	for i, status := range []string{"pending", "retrying", "delivered", "cancelled", "discarded"} {
		s.exec(t, `UPDATE deliveries SET status = $2 WHERE id = (SELECT id FROM deliveries ORDER BY id OFFSET $1 LIMIT 1)`, i, status)
	}
	before := s.picture(t)
	for _, id := range append(column[int64](t, s, `SELECT id FROM deliveries`), 4711) {
		if err := s.retry(t, id); !errors.Is(err, pgx.ErrNoRows) {
			t.Errorf("delivery %d: %v, want no rows", id, err)
		}
	}
	if diff := cmp.Diff(before, s.picture(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

// Endpoints are locked before deliveries, everywhere: who records a 410 has the
// endpoint and asks for its deliveries next.
func TestRetryLocksTheEndpointFirst(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = 'dead'`)
	holder, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), `SELECT FROM endpoints WHERE id = $1 FOR UPDATE`, id); err != nil {
		t.Fatal(err)
	}
	delivery := one[int64](t, s, `SELECT id FROM deliveries`)
	g := together(t)
	g.Go(func() error { return s.retry(t, delivery) })
	s.untilWaiting(t, 1)
	if _, err := holder.Exec(t.Context(), `SELECT FROM deliveries FOR UPDATE NOWAIT`); err != nil {
		t.Errorf("the delivery is locked before its endpoint: %v", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s.wantOutcomes(t, id, "pending after 0 attempts, 0 failed")
}
