package outbound

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
)

func answered(code int) outcome {
	o := outcome{StartedAt: time.Now(), StatusCode: code, Verdict: judge(code, nil), Total: time.Millisecond, ResponseHead: "HTTP/1.1\n"}
	if o.Verdict != verdictDelivered {
		o.ErrorClass, o.Error = ClassHTTP, "answered"
	}
	return o
}

func always(v float64) func() float64 { return func() float64 { return v } }

func TestOutcomeSettlesADelivery(t *testing.T) {
	t.Parallel()
	pending := deliveryState{status: "pending", attempts: 1}
	failed := deliveryState{status: "retrying", attempts: 3, failures: 2, lastError: "before"}
	unanswered := outcome{ErrorClass: ClassTimeout, Error: "too slow", Verdict: verdictRetry}
	asked := answered(429)
	asked.RetryAfter, asked.HasRetryAfter = time.Minute, true
	for name, c := range map[string]struct {
		before  deliveryState
		attempt attempt
		after   deliveryState
		counted counter.Name
	}{
		"an answer of 2xx is delivered": {
			pending, attempt{number: 1, outcome: answered(204)},
			deliveryState{status: "delivered", attempts: 1, changed: true}, counter.Delivered,
		},
		"success forgets the error before": {
			failed, attempt{number: 3, outcome: answered(200)},
			deliveryState{status: "delivered", attempts: 3, failures: 2, changed: true}, counter.Delivered,
		},
		"success counts however late": {
			failed, attempt{number: 1, outcome: answered(200)},
			deliveryState{status: "delivered", attempts: 3, failures: 2, changed: true}, counter.Delivered,
		},
		"a failure is tried again": {
			pending, attempt{number: 1, outcome: unanswered},
			deliveryState{status: "retrying", attempts: 1, failures: 1, lastError: "too slow", delay: time.Second, changed: true}, counter.DeliveryRetries,
		},
		"the wait doubles": {
			failed, attempt{number: 3, outcome: answered(500)},
			deliveryState{status: "retrying", attempts: 3, failures: 3, lastError: "answered", delay: 4 * time.Second, changed: true}, counter.DeliveryRetries,
		},
		"the receiver may ask for more": {
			pending, attempt{number: 1, outcome: asked},
			deliveryState{status: "retrying", attempts: 1, failures: 1, lastError: "answered", delay: time.Minute, changed: true}, counter.DeliveryRetries,
		},
		"the last failure is the end": {
			deliveryState{status: "retrying", attempts: 9, failures: 4}, attempt{number: 9, outcome: unanswered},
			deliveryState{status: "dead", attempts: 9, failures: 5, lastError: "too slow", changed: true}, counter.DeliveriesDied,
		},
		"a final answer is the end": {
			pending, attempt{number: 1, outcome: answered(404)},
			deliveryState{status: "dead", attempts: 1, failures: 1, lastError: "answered", changed: true}, counter.DeliveriesDied,
		},
		"a failure is not counted when a later attempt has begun": {
			failed, attempt{number: 2, outcome: answered(404)}, failed, "",
		},
		"our own end is nobody's fault": {
			failed, attempt{number: 3, outcome: unanswered, interrupted: true},
			deliveryState{status: "retrying", attempts: 3, failures: 2, lastError: "before", changed: true}, "",
		},
		"our own end gives nothing back that a later attempt has": {
			failed, attempt{number: 2, outcome: unanswered, interrupted: true}, failed, "",
		},
		"what has ended stays ended": {
			deliveryState{status: "cancelled", attempts: 1}, attempt{number: 1, outcome: answered(204)},
			deliveryState{status: "cancelled", attempts: 1}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.attempt.schedule = endpoint.Doubling(time.Second, 5)
			got := c.before
			counted := got.apply(c.attempt, always(0.5))
			if diff := cmp.Diff(c.after, got, cmp.AllowUnexported(deliveryState{})); diff != "" {
				t.Errorf("delivery (-want +got):\n%s", diff)
			}
			if counted != c.counted {
				t.Errorf("counts %q, want %q", counted, c.counted)
			}
		})
	}
}

// leased makes n deliveries to an endpoint that are under way at the attempt of
// that number, and returns their ids.
func (s *station) leased(t *testing.T, endpointID uuid.UUID, n, number int) []int64 {
	t.Helper()
	s.told(t, added, n)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET attempts = $2, leased_until = now() + interval '1 hour', next_attempt_at = now() + interval '1 hour'
		WHERE endpoint_id = $1 AND attempts = 0`, endpointID, number)
	return column[int64](t, s, `SELECT id FROM deliveries WHERE endpoint_id = $1 ORDER BY id`, endpointID)
}

// attemptOf is an attempt as the lane hands it over.
func attemptOf(endpointID uuid.UUID, deliveryID int64, number int, o outcome) attempt {
	return attempt{deliveryID: deliveryID, number: int32(number), endpointID: endpointID, outcome: o, schedule: endpoint.Doubling(time.Hour, 3)}
}

func (s *station) record(t *testing.T, a attempt) {
	t.Helper()
	if _, err := s.deliverer.outcomes.Do(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// The worker was slow, its lease ended, another one has begun: what the first
// learns in the end is on record, and counts if it is good.
func TestStaleAttemptCountsOnlyWhenItArrived(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	deliveries := s.leased(t, id, 2, 2)

	s.record(t, attemptOf(id, deliveries[0], 1, answered(500)))
	s.record(t, attemptOf(id, deliveries[1], 1, answered(200)))
	s.wantOutcomes(t, id, "pending after 2 attempts, 0 failed (leased)", "delivered after 2 attempts, 0 failed")
	s.wantAttempts(t, id, "1: 500", "1: 200")
	s.wantCounted(t, counter.Changes{counter.Delivered: 1})

	// The later attempts end, too.
	s.record(t, attemptOf(id, deliveries[0], 2, answered(200)))
	s.record(t, attemptOf(id, deliveries[1], 2, answered(410)))
	s.wantOutcomes(t, id, "delivered after 2 attempts, 0 failed", "delivered after 2 attempts, 0 failed")
	s.wantAttempts(t, id, "1: 500", "2: 200", "1: 200", "2: 410")
	s.wantCounted(t, counter.Changes{counter.Delivered: 2})
}

func TestOutcomeIsRecordedOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	delivery := s.leased(t, id, 1, 1)[0]
	// The answer to the first COMMIT was lost, say.
	for range 2 {
		s.record(t, attemptOf(id, delivery, 1, answered(503)))
	}
	s.record(t, attemptOf(id, 4711, 1, answered(200))) // retention was faster
	s.wantAttempts(t, id, "1: 503")
}

// One outcome that Postgres refuses must not take its group with it.
func TestPoisonedOutcomeStaysAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	const units, poisoned = 24, 11
	deliveries := s.leased(t, id, units, 1)

	// The first group waits, so that the others gather behind it.
	gate := make(chan struct{})
	r := s.recorder(t)
	var mu sync.Mutex
	var sizes []int
	outcomes := group.New(s.pool, func(ctx context.Context, tx pgx.Tx, slot int, units []attempt) ([]group.Answer[bool], error) {
		<-gate
		mu.Lock()
		sizes = append(sizes, len(units))
		mu.Unlock()
		return r.record(ctx, tx, slot, units)
	}, nil, group.Options{InFlight: 1})
	errs := make([]error, units)
	var begun, done sync.WaitGroup
	for i, delivery := range deliveries {
		o := answered(200)
		if i == poisoned {
			o.ResponseHead = "HTTP/1.1 200 OK\x00"
		}
		begun.Add(1)
		done.Go(func() {
			begun.Done()
			_, errs[i] = outcomes.Do(t.Context(), attemptOf(id, delivery, 1, o))
		})
	}
	begun.Wait()
	close(gate)
	done.Wait()

	for i, err := range errs {
		var pg *pgconn.PgError
		if refused := errors.As(err, &pg) && pg.Code == "22021"; refused != (i == poisoned) || (err != nil) != (i == poisoned) {
			t.Errorf("outcome %d: %v", i, err)
		}
	}
	want := slices.Repeat([]string{"delivered after 1 attempts, 0 failed"}, units)
	want[poisoned] = "pending after 1 attempts, 0 failed (leased)"
	s.wantOutcomes(t, id, want...)
	if n := len(s.attempts(t, id)); n != units-1 {
		t.Errorf("%d attempts on record, want %d", n, units-1)
	}
	s.wantCounted(t, counter.Changes{counter.Delivered: units - 1})
	t.Logf("sizes of the groups: %v", sizes)
}

func (s *station) recorder(t *testing.T) *recorder {
	return &recorder{
		jobs: s.jobs, teller: memory.NewTeller(s.jobs, memory.Sender{}, time.Now), counts: counter.New(s.pool, uuid.New(), "test", 1, testLog(t)),
		policy: testPolicy(), random: always(0.5),
	}
}

// Two endpoints that answer 410 in one group are locked in the order of their ids.
// asOf names what the endpoint's row says now.
func (s *station) asOf(t *testing.T, endpointID uuid.UUID) time.Time {
	t.Helper()
	return one[time.Time](t, s, `SELECT updated_at FROM endpoints WHERE id = $1`, endpointID)
}

func TestGroupDisablesEachEndpointThatIsGone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.endpoint(t, nowhere), s.endpoint(t, nowhere, func(p *db.Endpoint) { p.Events = []string{deleted} })
	paused := s.endpoint(t, nowhere, withStatus("paused"), func(p *db.Endpoint) { p.Events = []string{updated} })
	s.told(t, deleted, 1)
	s.told(t, updated, 1)
	s.leased(t, a, 2, 1)
	s.exec(t, `UPDATE deliveries SET attempts = 1`)
	var units []attempt
	for _, endpoint := range []uuid.UUID{b, a, paused} {
		for _, delivery := range column[int64](t, s, `SELECT id FROM deliveries WHERE endpoint_id = $1 ORDER BY id`, endpoint) {
			u := attemptOf(endpoint, delivery, 1, answered(410))
			u.asOf = s.asOf(t, endpoint)
			units = append(units, u)
		}
	}
	r := s.recorder(t)
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		_, err := r.record(t.Context(), tx, 0, units)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := column[string](t, s, `SELECT status || ' ' || status_reason FROM endpoints ORDER BY id`)
	if diff := cmp.Diff([]string{"disabled answered 410 Gone", "disabled answered 410 Gone", "paused "}, got); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	s.wantCounted(t, counter.Changes{counter.DeliveriesDied: 4})
}

// What has arrived is ended by one statement where all endpoints are well, and by the
// long way where one is not: the rows are the same. What retention has deleted is left out.
func TestWhatHasArrivedIsRecordedAlikeByBothWays(t *testing.T) {
	t.Parallel()
	for _, well := range []bool{true, false} {
		s := newStation(t)
		id, other := s.endpoint(t, nowhere), s.endpoint(t, nowhere, named("other", deleted))
		s.told(t, deleted, 1)
		if !well {
			s.set(t, other, "failures = 1, failing_since = now()")
		}
		deliveries := s.leased(t, id, 3, 1)
		s.exec(t, `UPDATE deliveries SET attempts = 1 WHERE endpoint_id = $1`, other)
		deliveries = append(deliveries, one[int64](t, s, `SELECT id FROM deliveries WHERE endpoint_id = $1`, other))
		s.exec(t, `UPDATE deliveries SET status = 'retrying', failures = 1, last_error = 'before' WHERE id = $1`, deliveries[0])
		s.exec(t, `UPDATE deliveries SET status = 'delivered', leased_until = NULL, finished_at = now() WHERE id = $1`, deliveries[1])
		s.exec(t, `DELETE FROM deliveries WHERE id = $1`, deliveries[2])
		var units []attempt
		for i, d := range deliveries {
			at := id
			if i == 3 {
				at = other
			}
			u := attemptOf(at, d, 1, answered(204))
			u.asOf = s.asOf(t, at)
			units = append(units, u)
		}
		tx, err := s.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, done, err := recordArrived(t.Context(), db.New(tx), units); err != nil || done != well {
			t.Fatalf("well %t: done %t, %v", well, done, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		err = pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
			_, err := s.recorder(t).record(t.Context(), tx, 0, units)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s.wantOutcomes(t, id, "delivered after 1 attempts, 1 failed", "delivered after 1 attempts, 0 failed")
		s.wantOutcomes(t, other, "delivered after 1 attempts, 0 failed")
		s.wantAttempts(t, id, "1: 204", "1: 204")
		s.wantAttempts(t, other, "1: 204")
		s.wantCounted(t, counter.Changes{counter.Delivered: 2})
		if !one[bool](t, s, `SELECT bool_and(finished_at IS NOT NULL AND leased_until IS NULL) FROM deliveries`) {
			t.Errorf("well %t: a delivery has not ended", well)
		}
	}
}

func TestRecordLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	deliveries := s.leased(t, id, 2, 1)
	relent := s.refuse(t, "counters", "BEFORE INSERT", "true")
	before := s.picture(t)
	for _, o := range []outcome{answered(200), answered(410)} {
		u := attemptOf(id, deliveries[0], 1, o)
		u.asOf = s.asOf(t, id)
		_, err := s.deliverer.outcomes.Do(t.Context(), u)
		if err == nil || !strings.Contains(err.Error(), "refused by the test") {
			t.Errorf("%d: %v, want the error of the last statement", o.StatusCode, err)
		}
		if diff := cmp.Diff(before, s.picture(t)); diff != "" {
			t.Errorf("a record whose last statement failed left (-before +after):\n%s", diff)
		}
	}
	relent()
	s.record(t, attemptOf(id, deliveries[0], 1, answered(200)))
	s.wantAttempts(t, id, "1: 200")
}
