package outbound

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// members returns the request_ids of what a batch carried, in its order.
func members(t *testing.T, body string) []string {
	t.Helper()
	var all []struct {
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("a batch is a list: %v\n%s", err, body)
	}
	ids := []string{}
	for _, m := range all {
		ids = append(ids, m.RequestID)
	}
	return ids
}

func texts(ids []uuid.UUID) []string {
	all := []string{}
	for _, id := range ids {
		all = append(all, id.String())
	}
	return all
}

func TestAFullBatchIsSentAtOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "batch_size = 10, batch_wait = '1 hour', max_in_flight = 1")
	s.live(t)
	ids := s.tell(t, added, repeat("u", 25)...)
	for n := range 2 {
		w := r.next(t)
		if diff := cmp.Diff(texts(ids[10*n:10*n+10]), members(t, w.body)); diff != "" {
			t.Errorf("batch %d (-want +got):\n%s", n, diff)
		}
		if slices.Contains(texts(ids), w.id) || w.id == "" {
			t.Errorf("batch %d goes as %s, want a webhook-id of its own", n, w.id)
		}
	}
	s.until(t, "both have arrived", `SELECT count(*) FILTER (WHERE status = 'delivered') = 22 AND count(*) FILTER (WHERE status = 'pending') = 5 FROM deliveries`)
	s.until(t, "the lane waits for the rest", `SELECT coalesce(due_at > now() + interval '50 minutes', false) FROM endpoints`)
	// One more makes no job run: it is not full.
	before := s.deliveryJobs(t)
	s.tell(t, added, "u")
	s.until(t, "it is relayed", `SELECT bool_and(relayed_at IS NOT NULL) FROM outbox`)
	if after := s.deliveryJobs(t); after != before {
		t.Errorf("%d more jobs for a batch that is not full", after-before)
	}
	if diff := cmp.Diff(int64(20), one[int64](t, s, `SELECT sum(value)::bigint FROM counters WHERE name = 'delivered'`)); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

func TestABatchIsSentWhenItsFirstHasWaited(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "batch_size = 10, batch_wait = '300 ms'")
	s.live(t)
	ids := s.tell(t, added, "u", "v", "w")
	if diff := cmp.Diff(texts(ids), members(t, r.next(t).body)); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	s.until(t, "all is delivered", `SELECT bool_and(status = 'delivered') AND count(*) = 4 FROM deliveries`)
}

// Every attempt at a batch sends the same bytes under the same id, whatever comes or
// changes meanwhile.
func TestABatchIsFrozen(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(503), status(503), status(204)))
	id := s.endpoint(t, r.URL)
	s.set(t, id, "batch_size = 3, batch_wait = '1 hour', retry_schedule = '{10ms,10ms,10ms}', max_in_flight = 1, ordered = true")
	s.live(t)
	ids := s.tell(t, added, repeat("u", 3)...)
	first := r.next(t)
	later := s.tell(t, added, repeat("u", 3)...)
	s.set(t, id, "batch_size = 100")
	for n := range 2 {
		again := r.next(t)
		if again.id != first.id || again.body != first.body {
			t.Errorf("attempt %d sent %s %s, want %s %s", n+2, again.id, again.body, first.id, first.body)
		}
	}
	s.until(t, "the first batch is delivered", `SELECT count(*) FILTER (WHERE status = 'delivered') = 4 FROM deliveries`)
	s.set(t, id, "batch_size = 3")
	last := s.tell(t, added, "u")
	if diff := cmp.Diff(texts(later), members(t, r.next(t).body)); diff != "" {
		t.Errorf("second batch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(texts(ids), members(t, first.body)); diff != "" {
		t.Errorf("first batch (-want +got):\n%s", diff)
	}
	s.until(t, "one is left", `SELECT count(*) FILTER (WHERE status = 'pending') = 1 FROM deliveries WHERE outbox_id IS NOT NULL AND status <> 'delivered'`)
	_ = last
}

func TestWhatADeadBatchCarriedIsDead(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, status(400))
	id := s.endpoint(t, r.URL)
	s.set(t, id, "batch_size = 2, batch_wait = '1 hour'")
	s.told(t, added, 2)
	s.relay(t)
	s.work(t, id)
	r.next(t)
	s.wantOutcomes(t, id, "dead after 0 attempts, 0 failed: answered 400 Bad Request", "dead after 0 attempts, 0 failed: answered 400 Bad Request",
		"dead after 1 attempts, 1 failed: answered 400 Bad Request")
	letters := column[string](t, s, `SELECT id FROM dead_letters`)
	if len(letters) != 2 {
		t.Errorf("dead letters %v, want the two webhooks and not the batch", letters)
	}
}

func TestABatchIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.set(t, id, "batch_size = 100, batch_wait = '0'")
	big := strings.Repeat("x", 400<<10)
	for range 7 {
		s.told(t, added, 1)
	}
	s.exec(t, `UPDATE outbox SET payload = convert_to('{"big":"' || $1 || '"}', 'UTF8')`, big)
	s.relay(t)
	s.work(t, id)
	var sizes []int
	for _, w := range r.all() {
		sizes = append(sizes, strings.Count(w.body, `"big"`))
	}
	slices.Sort(sizes)
	if diff := cmp.Diff([]int{1, 2, 2, 2}, sizes); diff != "" {
		t.Errorf("sizes (-want +got):\n%s", diff)
	}
}

// Whoever stops to gather still sends what was gathered.
func TestBatchesOutliveTheSetting(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(503), status(204)))
	id := s.endpoint(t, r.URL)
	s.set(t, id, "batch_size = 2, batch_wait = '1 hour', retry_schedule = '{1ms,1ms}', max_in_flight = 1")
	s.told(t, added, 3)
	s.relay(t)
	s.work(t, id)
	s.set(t, id, "batch_size = 1")
	s.hasten(t)
	s.work(t, id)
	var kinds []string
	for _, w := range r.all() {
		kinds = append(kinds, w.body[:1])
	}
	slices.Sort(kinds)
	if diff := cmp.Diff([]string{"[", "[", "{"}, kinds); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	s.until(t, "all is delivered", `SELECT bool_and(status = 'delivered') FROM deliveries`)
}
