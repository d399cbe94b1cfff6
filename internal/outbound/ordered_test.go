package outbound

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ledger is a receiver that fails at random and notes what it took, by user.
type ledger struct {
	mu    sync.Mutex
	fails float64
	taken map[string][]string // webhook-ids, in the order of arrival
}

func (l *ledger) answer(w http.ResponseWriter, r *http.Request) {
	user := r.Header.Get("X-User")
	l.mu.Lock()
	defer l.mu.Unlock()
	if rand.Float64() < l.fails {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	l.taken[user] = append(l.taken[user], r.Header.Get("webhook-id"))
}

// userOf is http middleware that says whose webhook a request brings.
func userOf(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var envelope struct {
			UserID string `json:"user_id"`
		}
		if err := json.NewDecoder(r.Body).Decode(&envelope); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.Header.Set("X-User", envelope.UserID)
		next(w, r)
	}
}

// Whatever fails, and however much comes at the same time: who asked for order gets
// each user's webhooks one after the other.
func TestOrderedEndpointsGetEachUsersWebhooksInOrder(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	l := &ledger{fails: 0.2, taken: map[string][]string{}}
	server := answering(t, userOf(l.answer))
	id := s.endpoint(t, server.URL)
	s.set(t, id, `ordered = true, retry_schedule = array_fill('5ms'::interval, ARRAY[40])`)
	s.live(t)
	want := map[string][]string{}
	for range 20 {
		var users []string
		for range 15 {
			users = append(users, fmt.Sprint("user-", rand.N(6)))
		}
		for i, webhook := range s.tell(t, added, users...) {
			want[users[i]] = append(want[users[i]], webhook.String())
		}
	}
	// While it is down for moments, the lane rests a second each time.
	s.until(t, "all is delivered", `SELECT count(*) = 300 AND bool_and(status = 'delivered') FROM deliveries`)
	l.mu.Lock()
	defer l.mu.Unlock()
	if diff := cmp.Diff(want, l.taken); diff != "" {
		t.Errorf("arrived (-want +got):\n%s", diff)
	}
}

func TestAnEarlierWebhookHoldsOnlyThoseOfItsUser(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	t.Cleanup(sync.OnceFunc(func() { close(h.let) }))
	r := subscribe(t, inTurn(h.answer, status(204)))
	id := s.endpoint(t, r.URL)
	s.set(t, id, "ordered = true")
	s.live(t)
	s.tell(t, added, "a")
	r.next(t)
	s.tell(t, added, "a", "b", "a", "b", "b")
	s.until(t, "the other's are delivered", `SELECT count(*) FILTER (WHERE order_key = 'b' AND status = 'delivered') = 3 FROM deliveries`)
	s.wantOutcomes(t, id, "pending after 1 attempts, 0 failed (leased)", "waiting after 0 attempts, 0 failed", "delivered after 1 attempts, 0 failed",
		"waiting after 0 attempts, 0 failed", "delivered after 1 attempts, 0 failed", "delivered after 1 attempts, 0 failed")
	h.let <- struct{}{}
	s.until(t, "all is delivered", `SELECT bool_and(status = 'delivered' AND attempts = 1) FROM deliveries`)
}

// One that is dead does not hold the others for ever: it waits for a person, and they go on.
func TestADeadWebhookLetsTheNextOnesGo(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(400), status(204)))
	id := s.endpoint(t, r.URL)
	s.set(t, id, "ordered = true")
	s.live(t)
	ids := s.tell(t, added, "a", "a", "a")
	s.until(t, "the others are delivered", `SELECT count(*) FILTER (WHERE status = 'delivered') = 2 FROM deliveries`)
	for _, want := range ids {
		if got := r.next(t).id; got != want.String() {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	s.wantOutcomes(t, id, "dead after 1 attempts, 1 failed: answered 400 Bad Request", "delivered after 1 attempts, 0 failed", "delivered after 1 attempts, 0 failed")
}

func TestAnEndpointThatIsNotOrderedAnyMoreGetsAllAtOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL, withStatus("paused"))
	s.set(t, id, "ordered = true")
	s.tell(t, added, repeat("a", 5)...)
	s.relay(t)
	s.set(t, id, "ordered = false, status = 'active'")
	s.exec(t, `UPDATE river_job SET state = 'completed', finalized_at = now()`)
	s.live(t)
	s.tell(t, added, "b")
	s.until(t, "all is delivered", `SELECT count(*) = 6 AND bool_and(status = 'delivered') FROM deliveries`)
}

// The relay adds to what waits while the last of those before ends: one of the two
// sees the other.
func TestNothingWaitsForEverAtAnOrderedEndpoint(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "ordered = true")
	s.live(t)
	var want []string
	for range 60 {
		for _, webhook := range s.tell(t, added, "a") {
			want = append(want, webhook.String())
		}
		s.until(t, "it was begun", `SELECT count(*) FILTER (WHERE attempts > 0) >= $1 FROM deliveries`, len(want)-1)
	}
	s.until(t, "all is delivered", `SELECT count(*) = 60 AND bool_and(status = 'delivered') FROM deliveries`)
	var got []string
	for _, w := range r.all() {
		got = append(got, w.id)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("arrived (-want +got):\n%s", diff)
	}
}

func TestDeletingAnEndpointCancelsWhatWaits(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for name, settings := range map[string]string{"ordered": "ordered = true", "gathering": "batch_size = 2, batch_wait = '1 hour', ordered = true"} {
		t.Run(name, func(t *testing.T) {
			r := subscribe(t, status(503))
			id := s.endpoint(t, r.URL)
			s.set(t, id, settings)
			s.told(t, added, 7)
			s.relay(t)
			s.work(t, id)
			s.set(t, id, "deleted_at = now()")
			s.exec(t, `UPDATE endpoints SET due_at = now(), wanted = wanted + 1 WHERE id = $1`, id)
			s.exec(t, `UPDATE river_job SET scheduled_at = now() WHERE state = 'available'`)
			s.work(t, id)
			got := column[string](t, s, `SELECT DISTINCT status FROM deliveries WHERE endpoint_id = $1`, id)
			if diff := cmp.Diff([]string{"cancelled"}, got); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
			s.wantLane(t, id, s.lane(t, id))
			if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE endpoint_id = $1 AND outbox_id IS NOT NULL`, id); n != 7 {
				t.Errorf("%d deliveries, want 7", n)
			}
		})
	}
}
