package outbound

import (
	"context"
	cryptorand "crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/seal"
)

// live works relays and lanes as a node does, until the test ends. Turns are short, so
// that there are many.
func (s *station) live(t *testing.T) {
	t.Helper()
	s.deliverer.slice = 200 * time.Millisecond
	s.relayer = NewRelayer(s.pool, s.jobs, s.deliverer, testLog(t)) // as in one process
	workers := river.NewWorkers()
	river.AddWorker(workers, s.relayer)
	river.AddWorker(workers, s.deliverer)
	q := river.QueueConfig{MaxWorkers: 20, FetchCooldown: time.Millisecond, FetchPollInterval: 10 * time.Millisecond}
	client, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Logger: testLog(t), Workers: workers, Queues: map[string]river.QueueConfig{job.QueueRelay: q, job.QueueDeliver: q},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := client.StopAndCancel(ctx); err != nil {
			t.Error(err)
		}
	})
}

// tell writes webhooks of users into the outbox, in that order, with the job that
// relays them.
func (s *station) tell(t *testing.T, event string, users ...string) []uuid.UUID {
	t.Helper()
	ids := make([]uuid.UUID, len(users))
	payloads := make([][]byte, len(users))
	for i, user := range users {
		ids[i] = uuid.Must(uuid.NewV7())
		payloads[i] = []byte(`{"event":"` + event + `","user_id":"` + user + `","data":{"n":1},"timestamp":"2026-11-22T12:00:00Z","source":"memrelay","bot_version":"1","request_id":"` + ids[i].String() + `"}`)
	}
	s.exec(t, `INSERT INTO outbox (id, event, user_id, payload)
		SELECT id, $1, user_id, payload FROM unnest($2::uuid[], $3::text[], $4::bytea[]) WITH ORDINALITY AS n (id, user_id, payload, place) ORDER BY place`,
		event, ids, users, payloads)
	if _, err := s.jobs.Insert(t.Context(), job.Relay{}, nil); err != nil {
		t.Fatal(err)
	}
	return ids
}

// set changes an endpoint's row.
func (s *station) set(t *testing.T, id uuid.UUID, assignments string) {
	t.Helper()
	s.exec(t, `UPDATE endpoints SET `+assignments+`, updated_at = now() WHERE id = $1`, id)
}

func repeat(user string, n int) []string { return slices.Repeat([]string{user}, n) }

// deliveryJobs counts the jobs that lanes have had so far.
func (s *station) deliveryJobs(t *testing.T) int {
	t.Helper()
	return one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'deliver_endpoint'`)
}

func TestARequestThatHangsDoesNotHoldWhatComesAfterIt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	t.Cleanup(sync.OnceFunc(func() { close(h.let) }))
	r := subscribe(t, inTurn(h.answer, status(204)))
	id := s.endpoint(t, r.URL)
	s.live(t)
	s.tell(t, added, "u")
	r.next(t)
	for n := range 3 { // each in a later turn
		s.until(t, "the turn is over", `SELECT coalesce(due_at > now() + interval '5 seconds', false) FROM endpoints`)
		s.tell(t, added, repeat("u", 40)...)
		s.until(t, "what came after it is delivered", `SELECT count(*) FILTER (WHERE status = 'delivered') = $1 FROM deliveries`, 40*(n+1))
	}
	s.wantAttempts(t, id, repeat("1: 204", 120)...)
	h.let <- struct{}{}
	s.until(t, "it is delivered", `SELECT bool_and(status = 'delivered' AND attempts = 1) FROM deliveries`)
	s.until(t, "the lane is closed", `SELECT job_id IS NULL AND full_until IS NULL FROM endpoints`)
}

// The cap holds over turns, a lane that is full makes no jobs, and the first request
// to end makes room at once.
func TestAFullLaneWaitsForTheFirstRequestToEnd(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	let := sync.OnceFunc(func() { close(h.let) })
	t.Cleanup(let)
	r := subscribe(t, h.answer)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "max_in_flight = 3")
	s.live(t)
	s.tell(t, added, repeat("u", 10)...)
	for range 3 {
		r.next(t)
	}
	s.until(t, "the lane is full", `SELECT coalesce(full_until > now() + interval '5 seconds' AND due_at = full_until, false) FROM endpoints`)
	before := s.deliveryJobs(t)
	for range 5 {
		s.tell(t, added, "u")
		s.until(t, "the webhook is relayed", `SELECT bool_and(relayed_at IS NOT NULL) FROM outbox`)
	}
	if after := s.deliveryJobs(t); after != before {
		t.Errorf("%d jobs more while the lane was full", after-before)
	}
	for n := range 5 {
		h.let <- struct{}{}
		r.next(t)
		if begun := one[int](t, s, `SELECT count(*) FROM deliveries WHERE attempts > 0`); begun != n+4 {
			t.Errorf("%d are begun after %d have gone, want %d", begun, n+1, n+4)
		}
	}
	let()
	s.until(t, "all are delivered", `SELECT bool_and(status = 'delivered' AND attempts = 1) FROM deliveries`)
	if h.most != 3 {
		t.Errorf("%d requests side by side, want 3", h.most)
	}
}

// What our own end cuts off is nobody's fault, also when its turn is long over.
func TestStopGivesBackWhatHangs(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	t.Cleanup(sync.OnceFunc(func() { close(h.let) }))
	r := subscribe(t, h.answer)
	id := s.endpoint(t, r.URL)
	s.told(t, added, 2)
	s.relay(t)
	s.deliverer.slice = time.Millisecond
	s.work(t, id) // ends though nobody was answered
	r.next(t)
	s.wantOutcomes(t, id, "pending after 1 attempts, 0 failed (leased)", "pending after 1 attempts, 0 failed (leased)")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.deliverer.Stop(ctx)
	s.wantOutcomes(t, id, "pending after 1 attempts, 0 failed", "pending after 1 attempts, 0 failed")
	s.wantAttempts(t, id)
}

func TestALaneKeepsToItsRate(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "rate_limit = 20")
	s.live(t)
	began := time.Now()
	s.tell(t, added, repeat("u", 60)...)
	s.until(t, "all are delivered", `SELECT count(*) = 60 AND bool_and(status = 'delivered') FROM deliveries`)
	// A second's worth goes at once.
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("60 webhooks at 20 a second took %s, want 2 s", took)
	}
	if jobs := s.deliveryJobs(t); jobs > 12 {
		t.Errorf("%d jobs, want two a second or so", jobs)
	}
}

// An endpoint that is down gets a request now and then and not its backlog, and all of
// it once it is back, at once.
func TestALaneRestsWhileItsEndpointIsDown(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	var up atomic.Bool
	var requests atomic.Int32
	r := subscribe(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		if !up.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	id := s.endpoint(t, r.URL) // an hour between the first two attempts
	s.set(t, id, "max_in_flight = 8")
	s.live(t)
	s.tell(t, added, repeat("u", 300)...)
	s.until(t, "it rests", `SELECT failures >= 5 AND resume_at IS NOT NULL FROM endpoints`)
	s.until(t, "it was tried again", `SELECT failures >= 10 FROM endpoints`)
	if n := requests.Load(); n > 30 {
		t.Errorf("%d requests to an endpoint that is down", n)
	}
	up.Store(true)
	s.until(t, "all is delivered", `SELECT count(*) = 300 AND bool_and(status = 'delivered') FROM deliveries`)
	s.until(t, "it is well", `SELECT failures = 0 AND failing_since IS NULL AND resume_at IS NULL FROM endpoints`)
}

// Operators are told through the same outbox.
func TestOperatorsAreToldOfAnEndpointThatFails(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.deliverer = s.delivererWith(t, loopbackTransport(t), Policy{FailingAfter: 0, DisableAfter: time.Nanosecond, DisableFailures: 6, ProbeEvery: 300 * time.Millisecond})
	var up atomic.Bool
	r := subscribe(t, func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	ops := subscribe(t)
	opsID := s.endpoint(t, ops.URL, func(p *db.Endpoint) {
		p.Events = []string{memory.EndpointFailing, memory.EndpointDisabled, memory.EndpointRecovered}
	})
	id := s.endpoint(t, r.URL)
	s.set(t, id, "max_in_flight = 1")
	s.live(t)
	s.tell(t, added, repeat("u", 30)...)
	s.until(t, "it is disabled", `SELECT bool_or(status = 'disabled' AND probing) FROM endpoints`)
	up.Store(true)
	s.until(t, "a probe has found it back", `SELECT bool_and(status = 'active' AND NOT probing AND status_reason = '') FROM endpoints`)
	s.until(t, "all is delivered", `SELECT bool_and(status = 'delivered') AND count(*) >= 33 FROM deliveries`)
	var got []string
	for range 3 {
		event, _, _ := strings.Cut(strings.TrimPrefix(ops.next(t).body, `{"event":"`), `"`)
		got = append(got, event)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{memory.EndpointDisabled, memory.EndpointFailing, memory.EndpointRecovered}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	s.wantOutcomes(t, opsID, repeat("delivered after 1 attempts, 0 failed", 3)...)
	s.exec(t, `DELETE FROM deliveries WHERE outbox_id IN (SELECT id FROM outbox WHERE event = $1)`, added)
	s.exec(t, `DELETE FROM outbox WHERE event = $1`, added) // whose data is a test's
	cataloguetest.Outbox(t, s.pool)
}

// An endpoint whose secrets cannot be opened costs a look a minute.
func TestAnEndpointThatIsNotReadyIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	box, err := seal.New([]string{"a key of some other node"}, cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.deliverer.targets.box = box
	id := s.endpoint(t, r.URL)
	s.set(t, id, `sealed = '\x00'`)
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	s.wantLane(t, id, "1 of 2 done, due later, job available then")
	s.wantOutcomes(t, id, "pending after 0 attempts, 0 failed")
	s.told(t, added, 1)
	s.relay(t)
	if !one[bool](t, s, `SELECT due_at > now() + interval '50 seconds' FROM endpoints`) {
		t.Error("a further webhook made it due")
	}
}

// Neither a pause nor a change waits for the turn to end: what is under way is all that
// still goes as before.
func TestAPauseEndsWhatATurnBegins(t *testing.T) {
	t.Parallel()
	for _, change := range []string{"status = 'paused'", "status = 'disabled'", "deleted_at = now()", "url = 'https://receiver.invalid/'"} {
		s := newStation(t)
		h := newHolding()
		let := sync.OnceFunc(func() { close(h.let) })
		t.Cleanup(let)
		r := subscribe(t, h.answer)
		id := s.endpoint(t, r.URL)
		s.set(t, id, "max_in_flight = 2")
		s.told(t, added, 20)
		s.relay(t)
		g := together(t)
		running := s.start(t, id)
		g.Go(func() error { return s.deliverer.Work(t.Context(), running) })
		r.next(t)
		r.next(t)
		s.set(t, id, change)
		let()
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE attempts > 0`); n != 2 {
			t.Errorf("%s: %d were begun, want the 2 that were under way", change, n)
		}
	}
}
