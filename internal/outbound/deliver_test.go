package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
)

func TestDeliverSendsWhatIsDueAndClosesTheLane(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	webhooks := s.told(t, added, 3)
	s.relay(t)
	s.wantLane(t, id, "0 of 1 done, due now, job available")

	s.work(t, id)

	want := map[string]string{}
	for i, webhook := range webhooks {
		want[webhook.String()] = payload(added, i)
	}
	got := map[string]string{}
	for _, w := range r.all() {
		got[w.id] = w.body
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("received by id (-want +got):\n%s", diff)
	}
	const delivered = "delivered after 1 attempts, 0 failed"
	s.wantOutcomes(t, id, delivered, delivered, delivered)
	s.wantAttempts(t, id, "1: 204", "1: 204", "1: 204")
	s.wantLane(t, id, "1 of 1 done, due never, job none")
	s.wantCounted(t, counter.Changes{counter.Delivered: 3})
	if n := one[int](t, s, `SELECT count(*) FROM river_job WHERE state <> 'completed'`); n != 0 {
		t.Errorf("%d jobs are not completed", n)
	}
	if !one[bool](t, s, `SELECT bool_and(total > '0' AND first_byte > '0' AND started_at BETWEEN now() - interval '1 minute' AND now()
		AND response_head LIKE 'HTTP/1.1 204 No Content%') FROM delivery_attempts`) {
		t.Error("an attempt is on record without its times or its answer's head")
	}
	if !one[bool](t, s, `SELECT bool_and(leased_until IS NULL AND finished_at IS NOT NULL) FROM deliveries`) {
		t.Error("a delivery that has ended is leased or has no end")
	}
}

func TestDeliverTriesAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(503), status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)

	s.work(t, id)
	s.wantOutcomes(t, id, "retrying after 1 attempts, 1 failed: answered 503 Service Unavailable")
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
	if !one[bool](t, s, `SELECT next_attempt_at - now() BETWEEN interval '47 minutes' AND interval '72 minutes' FROM deliveries`) {
		t.Error("the second attempt does not wait for about the hour that the endpoint says")
	}

	s.hasten(t)
	s.work(t, id)
	s.wantOutcomes(t, id, "delivered after 2 attempts, 1 failed")
	s.wantAttempts(t, id, "1: 503", "2: 204")
	s.wantLane(t, id, "2 of 2 done, due never, job none")
	s.wantCounted(t, counter.Changes{counter.Delivered: 1, counter.DeliveryRetries: 1})
	first, second := r.next(t), r.next(t)
	if first.id != second.id || first.body != second.body || first.body != payload(added, 0) {
		t.Errorf("the attempts sent %q as %s and %q as %s, want the same", first.body, first.id, second.body, second.id)
	}
}

func TestDeliverGivesUpAfterTheLastAttempt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, status(500))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	for range 3 {
		s.hasten(t)
		s.work(t, id)
	}
	s.wantOutcomes(t, id, "dead after 3 attempts, 3 failed: answered 500 Internal Server Error")
	s.wantAttempts(t, id, "1: 500", "2: 500", "3: 500")
	s.wantLane(t, id, "3 of 3 done, due never, job none")
	s.wantCounted(t, counter.Changes{counter.DeliveryRetries: 2, counter.DeliveriesDied: 1})
	letters := column[string](t, s, `SELECT format('%s %s: %s', kind, failures, reason) FROM dead_letters`)
	if diff := cmp.Diff([]string{"delivery 3: answered 500 Internal Server Error"}, letters); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
}

func TestDeliverTakesAFinalAnswerAsOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer   http.HandlerFunc
		url      string
		outcome  string
		attempt  string
		endpoint string
	}{
		"400 is final": {
			answer:  status(400),
			outcome: "dead after 1 attempts, 1 failed: answered 400 Bad Request", attempt: "1: 400", endpoint: "active ",
		},
		"410 is final and disables the endpoint": {
			answer:  status(410),
			outcome: "dead after 1 attempts, 1 failed: answered 410 Gone", attempt: "1: 410", endpoint: "disabled answered 410 Gone",
		},
		"what the guard refuses is final": {
			url: "http://10.1.2.3/",
			outcome: "dead after 1 attempts, 1 failed: refused by the outbound guard: 10.1.2.3:80: " +
				"neither a public address nor in the allow list",
			attempt: "1: refused", endpoint: "active ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			if c.answer != nil {
				c.url = subscribe(t, c.answer).URL
			}
			id := s.endpoint(t, c.url)
			s.told(t, added, 1)
			s.relay(t)
			s.work(t, id)
			s.wantOutcomes(t, id, c.outcome)
			s.wantAttempts(t, id, c.attempt)
			s.wantLane(t, id, "1 of 1 done, due never, job none")
			s.wantCounted(t, counter.Changes{counter.DeliveriesDied: 1})
			if got := one[string](t, s, `SELECT status || ' ' || status_reason FROM endpoints`); got != c.endpoint {
				t.Errorf("the endpoint is %q, want %q", got, c.endpoint)
			}
		})
	}
}

// What was under way when the endpoint said that it wants no more is dead; the
// rest waits for a person.
func TestDeliverStopsAtAnEndpointThatIsGone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, status(410))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 100)
	s.relay(t)
	s.work(t, id)
	if n := len(r.all()); n > maxInFlight {
		t.Errorf("%d requests to an endpoint that is gone, want at most the %d of the first moment", n, maxInFlight)
	}
	if n := one[int](t, s, `SELECT held FROM delivery_health`); n < 100-maxInFlight {
		t.Errorf("%d of 100 deliveries are held, want at least %d", n, 100-maxInFlight)
	}
	s.wantLane(t, id, "1 of 1 done, due never, job none")
}

func TestDeliverWaitsAsLongAsTheReceiverAsks(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, status(429, "Retry-After", "1800"))
	id := s.endpoint(t, r.URL, func(p *db.Endpoint) { p.RetrySchedule = endpoint.Doubling(time.Second, 3) })
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	s.wantOutcomes(t, id, "retrying after 1 attempts, 1 failed: answered 429 Too Many Requests")
	if !one[bool](t, s, `SELECT next_attempt_at - now() BETWEEN interval '29 minutes' AND interval '30 minutes' FROM deliveries`) {
		t.Error("the next attempt is not in half an hour")
	}
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
}

// holding answers nobody before it is told to, and counts who waits.
type holding struct {
	mu        sync.Mutex
	now, most int
	let       chan struct{} // each receive lets one go; closed: all
}

func newHolding() *holding { return &holding{let: make(chan struct{})} }

func (h *holding) answer(w http.ResponseWriter, r *http.Request) {
	h.count(1)
	defer h.count(-1)
	select {
	case <-h.let:
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

func (h *holding) count(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now += n
	h.most = max(h.most, h.now)
}

func TestDeliverIsNotHeldUpByOneThatHangs(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	hung := newHolding()
	r := subscribe(t, inTurn(hung.answer, status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	g := together(t)
	running := s.start(t, id)
	g.Go(func() error { return s.deliverer.Work(t.Context(), running) })
	r.next(t)

	for range 3 {
		s.told(t, added, 1)
		s.relay(t)
		r.next(t)
	}
	const delivered = "delivered after 1 attempts, 0 failed"
	s.until(t, "the later ones are on record", `SELECT count(*) = 3 FROM deliveries WHERE status = 'delivered'`)
	s.wantOutcomes(t, id, "pending after 1 attempts, 0 failed (leased)", delivered, delivered, delivered)

	close(hung.let)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s.wantOutcomes(t, id, delivered, delivered, delivered, delivered)
	// Who brought work while the job ran could not know that it would do it.
	s.wantLane(t, id, "1 of 4 done, due now, job available")
	s.work(t, id)
	s.wantLane(t, id, "4 of 4 done, due never, job none")
}

func TestDeliverKeepsToItsCap(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	r := subscribe(t, h.answer)
	id := s.endpoint(t, r.URL)
	s.told(t, added, maxInFlight+40)
	s.relay(t)
	g := together(t)
	running := s.start(t, id)
	g.Go(func() error { return s.deliverer.Work(t.Context(), running) })
	for range maxInFlight {
		r.next(t)
	}
	// Each that goes makes room for one.
	for n := range 20 {
		h.let <- struct{}{}
		s.until(t, "another one is begun", `SELECT count(*) > $1 FROM deliveries WHERE attempts > 0`, maxInFlight+n)
		if begun := one[int](t, s, `SELECT count(*) FROM deliveries WHERE attempts > 0`); begun != maxInFlight+n+1 {
			t.Fatalf("%d are begun after %d have gone, want %d", begun, n+1, maxInFlight+n+1)
		}
	}
	close(h.let)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if h.most != maxInFlight {
		t.Errorf("%d requests side by side, want %d", h.most, maxInFlight)
	}
	if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE status = 'delivered' AND attempts = 1`); n != maxInFlight+40 {
		t.Errorf("%d delivered at the first attempt, want %d", n, maxInFlight+40)
	}
}

// A job that its lane does not name was replaced, or is a leftover.
func TestDeliverLeavesAnothersLaneAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	other := s.running(t, job.DeliverEndpoint{EndpointID: id})
	unknown := uuid.Must(uuid.NewV7())
	strayed := s.running(t, job.DeliverEndpoint{EndpointID: unknown})
	before := s.picture(t)
	for _, j := range []struct {
		job      int64
		endpoint uuid.UUID
	}{{other, id}, {strayed, unknown}} {
		if err := s.deliverer.Work(t.Context(), laneJob(j.job, j.endpoint)); err != nil {
			t.Errorf("returned %v, want nil", err)
		}
	}
	if diff := cmp.Diff(before, s.picture(t)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

func TestDeliverSnoozesUntilTheLaneIsDue(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.relay(t)
	running := s.start(t, id)
	for due, c := range map[string]struct{ least, most time.Duration }{
		"3 seconds": {2 * time.Second, 3 * time.Second},
		"1 hour":    {5 * time.Second, 5 * time.Second}, // longer ones would be woken by the leader's tick
	} {
		s.exec(t, `UPDATE endpoints SET due_at = now() + $1::interval`, due)
		if d := snoozed(t, s.deliverer.Work(t.Context(), running)); d < c.least || d > c.most {
			t.Errorf("due in %s: snoozes for %v, want %v to %v", due, d, c.least, c.most)
		}
	}
	s.wantLane(t, id, "0 of 1 done, due later, job running")
	s.wantOutcomes(t, id, "pending after 0 attempts, 0 failed")
}

// The lane's row decides: whoever brings work while the job is about to close
// has either locked it before, and the job finds the work, or does so
// afterwards, and finds no job.
func TestDeliveryThatArrivesWhileTheLaneClosesIsNotLost(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	r := subscribe(t, inTurn(h.answer, status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	g := together(t)
	running := s.start(t, id)
	g.Go(func() error { return s.deliverer.Work(t.Context(), running) })
	r.next(t)

	// The relay has locked the lane and comes no further, for its job is locked.
	second := s.told(t, added, 1)[0]
	relay := s.running(t, job.Relay{})
	holder, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), `SELECT FROM river_job WHERE id = $1 FOR UPDATE`, relay); err != nil {
		t.Fatal(err)
	}
	g.Go(func() error { return s.relayer.Work(t.Context(), relayJob(relay)) })
	s.untilWaiting(t, 1)
	// The job is done with all it knows of, and waits for the lane.
	close(h.let)
	s.untilWaiting(t, 2)
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}

	s.wantLane(t, id, "1 of 2 done, due now, job available")
	s.work(t, id)
	s.wantLane(t, id, "2 of 2 done, due never, job none")
	if got := r.next(t).id; got != second.String() {
		t.Errorf("received %s, want %s", got, second)
	}
}

// The same without a script: whoever brings work meets lanes in every state.
// Nothing sweeps here, so what is lost stays lost.
func TestNothingIsLostBetweenRelayAndLane(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	const webhooks, writers = 500, 4
	g := together(t)
	relays, stop := make(chan int64, webhooks), make(chan struct{})
	noMore, stopAll := sync.OnceFunc(func() { close(relays) }), sync.OnceFunc(func() { close(stop) })
	t.Cleanup(noMore)
	t.Cleanup(stopAll)
	g.Go(func() error {
		for relay := range relays {
			if err := s.relayer.Work(t.Context(), relayJob(relay)); err != nil {
				return fmt.Errorf("relay: %w", err)
			}
		}
		return nil
	})
	for range 2 { // two nodes
		g.Go(func() error { return s.deliverUntil(t, id, stop) })
	}
	want := map[string]int{}
	for n := 0; n < webhooks; n += writers {
		for _, webhook := range s.told(t, added, writers) {
			want[webhook.String()] = 1
		}
		relays <- s.running(t, job.Relay{})
		if n%(10*writers) == 0 { // let the lane close now and then
			s.until(t, "the lane is closed", `SELECT job_id IS NULL AND wanted > 0 FROM endpoints`)
		}
	}
	noMore()
	s.until(t, "everything is delivered", `SELECT count(*) = $1 AND bool_and(status = 'delivered' AND attempts = 1) FROM deliveries`, webhooks)
	s.until(t, "the lane is closed", `SELECT job_id IS NULL AND due_at IS NULL AND done = wanted FROM endpoints`)
	stopAll()
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, w := range r.all() {
		got[w.id]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests by webhook-id (-want +got):\n%s", diff)
	}
	if n := one[int](t, s, `SELECT count(*) FROM delivery_attempts`); n != webhooks {
		t.Errorf("%d attempts on record, want %d", n, webhooks)
	}
}

// deliverUntil does what River does: it takes due jobs, and puts off those that snooze.
func (s *station) deliverUntil(t *testing.T, endpointID uuid.UUID, stop <-chan struct{}) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		var id int64
		err := s.pool.QueryRow(t.Context(), `
			UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() WHERE id = (
				SELECT id FROM river_job WHERE kind = 'deliver_endpoint' AND state = 'available' AND scheduled_at <= now()
				ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
			RETURNING id`).Scan(&id)
		if err == nil {
			err = s.deliverer.Work(t.Context(), laneJob(id, endpointID))
		}
		var snooze *rivertype.JobSnoozeError
		switch {
		case errors.Is(err, pgx.ErrNoRows): // no job is due
		case errors.As(err, &snooze):
			if _, err := s.pool.Exec(t.Context(), `UPDATE river_job SET state = 'available', scheduled_at = now() + $2 WHERE id = $1`, id, snooze.Duration); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("deliver: %w", err)
		}
		select {
		case <-stop:
			return nil
		case <-t.Context().Done():
			return t.Context().Err()
		case <-tick.C:
		}
	}
}

func TestDeliveryCutOffByAStopIsGivenBack(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	r := subscribe(t, inTurn(h.answer, status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	g := together(t)
	running := s.start(t, id)
	g.Go(func() error { return s.deliverer.Work(ctx, running) })
	first := r.next(t)
	stop()
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("returned %v, want the context's error", err)
	}

	s.wantOutcomes(t, id, "pending after 1 attempts, 0 failed")
	s.wantAttempts(t, id)
	s.wantCounted(t, counter.Changes{})
	if !one[bool](t, s, `SELECT next_attempt_at <= now() AND leased_until IS NULL FROM deliveries`) {
		t.Error("the delivery is not due at once")
	}

	// River hands the same job to the next worker.
	s.exec(t, `UPDATE river_job SET state = 'available' WHERE id = $1`, running.ID)
	s.work(t, id)
	s.wantOutcomes(t, id, "delivered after 2 attempts, 0 failed")
	s.wantAttempts(t, id, "2: 204")
	s.wantLane(t, id, "1 of 1 done, due never, job none")
	if second := r.next(t); second.id != first.id || second.body != first.body {
		t.Errorf("sent %+v and then %+v, want the same", first, second)
	}
}

// An answer is an answer, also when it arrives in the moment of the stop: it is
// not asked for twice.
func TestAnswerInTheMomentOfAStopIsRecorded(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{
		204: "delivered after 1 attempts, 0 failed",
		400: "dead after 1 attempts, 1 failed: answered 400 Bad Request",
		503: "retrying after 1 attempts, 1 failed: answered 503 Service Unavailable",
	} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			d := s.delivererThrough(t, roundTrip(func(req *http.Request) (*http.Response, error) {
				stop()
				return &http.Response{StatusCode: code, Proto: "HTTP/1.1", Status: "as said", Header: http.Header{}, Body: http.NoBody, Request: req}, nil
			}))
			id := s.endpoint(t, nowhere)
			s.told(t, added, 1)
			s.relay(t)
			if err := d.Work(ctx, s.start(t, id)); !errors.Is(err, context.Canceled) {
				t.Errorf("returned %v, want the context's error", err)
			}
			s.wantOutcomes(t, id, want)
			s.wantAttempts(t, id, fmt.Sprintf("1: %d", code))
		})
	}
}

// A panic of one attempt would end the program, and the next that tries it.
func TestPanicOfAnAttemptIsItsFailure(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	loopback := loopbackTransport(t)
	d := s.delivererThrough(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		if body, _ := io.ReadAll(req.Body); string(body) == payload(added, 1) {
			panic("poisoned")
		}
		req.Body, _ = req.GetBody()
		return loopback.RoundTrip(req)
	}))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 3)
	s.relay(t)
	if err := d.Work(t.Context(), s.start(t, id)); err != nil {
		t.Fatal(err)
	}
	const delivered = "delivered after 1 attempts, 0 failed"
	s.wantOutcomes(t, id, delivered, "retrying after 1 attempts, 1 failed: panic in the attempt; the log has it", delivered)
	s.wantAttempts(t, id, "1: 204", "1: other", "1: 204")
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
}

// A killed worker leaves its leases and its job behind. Nothing is sent twice
// before the lease is over, and the attempt nobody knows the end of is a gap.
func TestAttemptOfAWorkerThatDiedIsAGap(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	s.start(t, id)
	s.exec(t, `UPDATE endpoints SET due_at = NULL`)
	s.exec(t, `UPDATE deliveries SET attempts = 1, leased_until = now() + interval '40 seconds', next_attempt_at = now() + interval '40 seconds'`)

	// River gives the job to another worker before the lease is over.
	s.exec(t, `UPDATE river_job SET state = 'available' WHERE kind = 'deliver_endpoint'`)
	s.work(t, id)
	if n := len(r.all()); n != 0 {
		t.Errorf("%d requests while the lease lasts, want none", n)
	}
	s.wantLane(t, id, "1 of 2 done, due next, job available then")

	s.hasten(t)
	s.work(t, id)
	s.wantOutcomes(t, id, "delivered after 2 attempts, 0 failed")
	s.wantAttempts(t, id, "2: 204")
	s.wantLane(t, id, "2 of 2 done, due never, job none")
}

// A failed lease, or an outcome that cannot be recorded, is the database's fault
// and no delivery's: the lane's job comes back, and what is leased after it.
func TestDeliverSurvivesTheDatabasesFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		table, trigger, when string
		outcome              string // while it lasts
		attempts             []string
		after                string
	}{
		"no lane can be taken": {
			table: "endpoints", trigger: "BEFORE UPDATE", when: "new.due_at IS NULL AND old.due_at IS NOT NULL",
			outcome: "pending after 0 attempts, 0 failed", attempts: []string{"1: 204"}, after: "delivered after 1 attempts, 0 failed",
		},
		"no delivery can be leased": {
			table: "deliveries", trigger: "BEFORE UPDATE", when: "new.leased_until IS NOT NULL",
			outcome: "pending after 0 attempts, 0 failed", attempts: []string{"1: 204"}, after: "delivered after 1 attempts, 0 failed",
		},
		"no outcome can be recorded": {
			table: "delivery_attempts", trigger: "BEFORE INSERT", when: "true",
			outcome: "pending after 1 attempts, 0 failed (leased)", attempts: []string{"2: 204"}, after: "delivered after 2 attempts, 0 failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			r := subscribe(t)
			id := s.endpoint(t, r.URL)
			s.told(t, added, 1)
			s.relay(t)
			relent := s.refuse(t, c.table, c.trigger, c.when)
			running := s.start(t, id)
			if d := snoozed(t, s.deliverer.Work(t.Context(), running)); d != time.Second {
				t.Errorf("snoozes for %v, want a second", d)
			}
			s.wantOutcomes(t, id, c.outcome)
			s.wantAttempts(t, id)
			if got := s.lane(t, id); !strings.HasSuffix(got, "job running") {
				t.Errorf("the lane is %s, want it to keep its job", got)
			}

			relent()
			s.hasten(t)
			if err := s.deliverer.Work(t.Context(), running); err != nil {
				t.Fatal(err)
			}
			s.wantOutcomes(t, id, c.after)
			s.wantAttempts(t, id, c.attempts...)
			s.wantLane(t, id, "1 of 1 done, due never, job none")
		})
	}
}

func TestCloseOfALaneLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(503), status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	relent := s.refuse(t, "river_job", "BEFORE UPDATE", "new.state = 'completed'")
	running := s.start(t, id)
	snoozed(t, s.deliverer.Work(t.Context(), running))
	s.wantLane(t, id, "0 of 1 done, due never, job running")
	if n := one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'deliver_endpoint'`); n != 1 {
		t.Errorf("%d jobs, want the one that runs", n)
	}

	relent()
	if err := s.deliverer.Work(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
}

// A lane that another job has closed meanwhile is not the late one's to close.
func TestCloseLeavesAnothersLaneAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	r := subscribe(t, h.answer)
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	g := together(t)
	late := s.start(t, id)
	g.Go(func() error { return s.deliverer.Work(t.Context(), late) })
	r.next(t)
	newer := s.running(t, job.DeliverEndpoint{EndpointID: id})
	s.exec(t, `UPDATE endpoints SET job_id = $1, wanted = 5, done = 4, due_at = now()`, newer)
	close(h.let)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s.wantLane(t, id, "4 of 5 done, due now, job running")
	if got := one[string](t, s, `SELECT state::text FROM river_job WHERE id = $1`, newer); got != "running" {
		t.Errorf("the newer job is %s, want running", got)
	}
}

// A job that goes on for too long would keep crash recovery waiting: the next
// one takes over.
func TestJobHandsOverAfterItsSlice(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	const took = 500 * time.Millisecond // of one answer
	slow := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(took):
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	}
	r := subscribe(t, slow)
	id := s.endpoint(t, r.URL)
	const webhooks = int(maxInFlight * 2 * sliceTime / took)
	s.told(t, added, webhooks)
	s.relay(t)
	began := time.Now()
	s.work(t, id)
	if took := time.Since(began); took < sliceTime || took > sliceTime+5*time.Second {
		t.Errorf("one job went on for %v, want about %v", took, sliceTime)
	}
	s.until(t, "the lane's next job is for now", `SELECT due_at <= now() AND full_until IS NULL FROM endpoints`)
	if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE status = 'pending'`); n == 0 {
		t.Error("everything is delivered: the test proves nothing")
	}
}
