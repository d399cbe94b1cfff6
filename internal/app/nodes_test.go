package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// TestTwoNodes runs the program twice on one database. Events of thirty accounts
// go to either, repeats to the other, and one of the two is stopped in the middle.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	const events, accounts, senders = 300, 30, 8
	receiver := newReceiver(t)
	stays := start(t, setup{receiver: receiver.URL})
	leaves := start(t, setup{receiver: receiver.URL, url: stays.url})
	nodes := []*program{stays, leaves}

	var answers sync.Map // of every request, by its status
	count := func(status string) {
		n, _ := answers.LoadOrStore(status, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
	var sentEvents atomic.Int64
	halfway := make(chan struct{})
	work := make(chan int)
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for n := range work {
				to := rand.IntN(2)
				repeat := rand.IntN(3) == 0
				for _, node := range []*program{nodes[to], nodes[1-to]} {
					status, err := tell(t.Context(), node, n, n%accounts)
					if err != nil || status == "" {
						// Whoever is not answered sends again, to a node that is there.
						if status, err = tell(t.Context(), stays, n, n%accounts); err != nil {
							t.Errorf("event %d: %v", n, err)
						}
					}
					count(status)
					if !repeat {
						break
					}
				}
				if sentEvents.Add(1) == events/2 {
					close(halfway)
				}
			}
		})
	}
	go func() {
		defer close(work)
		for n := range events {
			work <- n
		}
	}()
	<-halfway
	leaves.stop()
	sending.Wait()

	stays.settled(t)
	got := rows[string](t, stays.pool, `
		SELECT format('%s events, %s processed', count(*), count(*) FILTER (WHERE status = 'processed')) FROM events
		UNION ALL SELECT format('%s memories of %s accounts', count(*), count(DISTINCT account_id)) FROM memories
		UNION ALL SELECT format('%s changes of %s memories', count(*), count(DISTINCT memory_id)) FROM memory_history
		UNION ALL SELECT format('%s webhooks', count(*)) FROM outbox
		UNION ALL SELECT format('%s deliveries, %s delivered', count(*), count(*) FILTER (WHERE status = 'delivered')) FROM deliveries`)
	if diff := cmp.Diff([]string{
		"300 events, 300 processed", "300 memories of 30 accounts", "300 changes of 300 memories", "300 webhooks", "300 deliveries, 300 delivered",
	}, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	told := map[string]bool{}
	for len(receiver.got) > 0 {
		w := <-receiver.got
		told[w.header.Get("webhook-id")] = true
	}
	if len(told) != events {
		t.Errorf("the receiver knows %d webhooks, want %d", len(told), events)
	}

	// What was answered is what is counted, over both nodes, before and after
	// the sweeper has folded the counters of the one that is gone.
	answered := func(status string) float64 {
		n, ok := answers.Load(status)
		if !ok {
			return 0
		}
		return float64(n.(*atomic.Int64).Load())
	}
	want := map[string]any{
		"queued_events": answered("accepted"), "duplicated_events": answered("duplicate"), "total_events": answered("accepted") + answered("duplicate"),
		"events_processed": 300.0, "events_succeeded": 300.0, "events_failed": 0.0, "events_dead_letter": 0.0,
		"current_queue_size": 0.0, "dead_letter_queue_size": 0.0, "success_rate": "100.0%", "processor_running": true,
	}
	for _, when := range []string{"before", "after"} {
		metrics := eventually(t, stays, "/webhooks/metrics", func(body map[string]any) bool { return body["current_queue_size"] == 0.0 })
		for name := range metrics {
			if _, ok := want[name]; !ok {
				delete(metrics, name)
			}
		}
		if diff := cmp.Diff(want, metrics); diff != "" {
			t.Errorf("metrics %s the sweep (-want +got):\n%s", when, diff)
		}
		stays.sweep(t, 0)
	}
	if answered("accepted") != events {
		t.Errorf("%v accepted, want %d", answered("accepted"), events)
	}

	stays.stop()
	// A session's statistics are there once it is gone.
	stays.waitFor(t, "the programs' sessions are gone", `
		SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'memrelay%')`)
	if n := rows[int](t, stays.pool, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)[0]; n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}

// tell sends the event of that number and returns the status of the answer, "" for a refusal.
func tell(ctx context.Context, p *program, n, account int) (string, error) {
	body := contact(fmt.Sprint(1000+n), fmt.Sprint(1+account), fmt.Sprintf("%d@example.com", n))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/webhooks/zoho", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header = http.Header{
		"Content-Type": {"application/json"}, "X-Zoho-Event-Id": {fmt.Sprint("evt-", n)}, "X-Zoho-Signature": {sign(inboundSecret, []byte(body))},
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Status any `json:"status"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	status, _ := answer.Status.(string) // a problem's is a number
	return status, nil
}

// eventually asks until the answer is as wanted: a node reads the others' part
// of the backlog each second.
func eventually(t *testing.T, p *program, path string, ok func(map[string]any) bool) map[string]any {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		body := p.get(t, path).body
		if ok(body) {
			return body
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute in vain for %s, which says %v", path, body)
		}
	}
}

// TestStopLeavesNoGoroutine runs alone, for it counts those of the whole process.
func TestStopLeavesNoGoroutine(t *testing.T) {
	receiver, url := newReceiver(t), dbtest.URL(t) // the tests' server has goroutines, too
	before := runtime.NumGoroutine()
	t.Run("a program lives", func(t *testing.T) {
		p := start(t, setup{receiver: receiver.URL, url: url})
		for n := range 20 {
			p.send(t, contact(fmt.Sprint(n), "77", "jane@example.com"), fmt.Sprint("evt-", n))
		}
		p.settled(t)
		p.stop()
	})
	http.DefaultClient.CloseIdleConnections() // the test's own
	if err := waitUntil(t.Context(), func() bool { return runtime.NumGoroutine() <= before }); err != nil {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before and %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
	}
}

// waitUntil gives goroutines that have been told to end the time to do so.
func waitUntil(ctx context.Context, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
