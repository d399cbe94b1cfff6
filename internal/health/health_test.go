package health

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/respond"
)

// monitored is a server with the monitors' routes, at a time of its own.
type monitored struct {
	*httptest.Server
	pool   *pgxpool.Pool
	counts *counter.Set
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))

func serve(t *testing.T, pool *pgxpool.Pool, capacity int64, now time.Time, concerns ...Concern) *monitored {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	m := &monitored{pool: pool, counts: counter.New(pool, uuid.New(), "host", 3, log)}
	h := New(pool, m.counts, capacity, func() time.Time { return now }, concerns...)
	r := chi.NewRouter()
	respond.Use(r, log)
	r.Method(http.MethodGet, "/livez", respond.Handler(h.Live))
	r.Method(http.MethodGet, "/readyz", respond.Handler(h.Ready))
	r.Method(http.MethodGet, "/webhooks/health", respond.Handler(h.Health))
	r.Method(http.MethodGet, "/webhooks/metrics", respond.Handler(h.Metrics))
	m.Server = httptest.NewServer(contracttest.Wrap(t, r))
	t.Cleanup(m.Close)
	return m
}

func (m *monitored) get(t *testing.T, path string) (status int, body []byte) {
	t.Helper()
	resp, err := m.Client().Get(m.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// wantBody checks a status and a whole body, but for the request's id.
func (m *monitored) wantBody(t *testing.T, path string, status int, want map[string]any) {
	t.Helper()
	gotStatus, text := m.get(t, path)
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	delete(got, "request_id")
	if diff := cmp.Diff(want, got); gotStatus != status || diff != "" {
		t.Errorf("%s answered %d, want %d (-want +got):\n%s", path, gotStatus, status, diff)
	}
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// count changes the counters as a station does.
func (m *monitored) count(t *testing.T, c counter.Changes) {
	t.Helper()
	if err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error { return m.counts.Add(t.Context(), tx, 0, c) }); err != nil {
		t.Fatal(err)
	}
}

func TestConcernsDegrade(t *testing.T) {
	t.Parallel()
	concern := func(found []string, err error) Concern {
		return func(context.Context) ([]string, error) { return found, err }
	}
	m := serve(t, dbtest.New(t), 1000, noon, concern(nil, nil), concern([]string{"a is lost", "b is lost"}, nil), concern([]string{"unsaid"}, errors.New("secret")))
	m.wantBody(t, "/webhooks/health", http.StatusOK, map[string]any{
		"status": "degraded", "database_connected": true, "queue_size": 0.0, "queue_capacity": 1000.0, "queue_utilization": "0.0%",
		"oldest_event_age_seconds": 0.0, "timestamp": noon.UTC().Format(time.RFC3339),
		"concerns": []any{"a is lost", "b is lost", "It could not be looked whether all is well."},
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name        string
		backlog     int64
		events      map[string]time.Duration // age by status
		status      string
		utilization string
		age         float64
	}{
		{"nothing waits", 0, nil, "healthy", "0.0%", 0},
		{"a little waits", 1, map[string]time.Duration{"received": 2 * time.Second}, "healthy", "0.1%", 2},
		{"80 % is not yet a worry", 800, nil, "healthy", "80.0%", 0},
		{"more than 80 % is", 801, nil, "degraded", "80.1%", 0},
		{"more than there is room for", 1200, nil, "degraded", "120.0%", 0},
		{"five minutes are not yet a worry", 1, map[string]time.Duration{"received": 5 * time.Minute}, "healthy", "0.1%", 300},
		{"more than five minutes are", 1, map[string]time.Duration{"received": 5*time.Minute + time.Millisecond}, "degraded", "0.1%", 300.001},
		{"an event that is tried again waits, too", 1, map[string]time.Duration{"retrying": time.Hour}, "degraded", "0.1%", 3600},
		{
			"what is done or given up does not wait", 0,
			map[string]time.Duration{"ignored": time.Hour, "dead": time.Hour, "discarded": time.Hour, "processed": time.Hour, "routed": time.Hour},
			"healthy", "0.0%", 0,
		},
		{"a database whose clock is ahead", 1, map[string]time.Duration{"received": -time.Minute}, "healthy", "0.1%", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := serve(t, dbtest.New(t), 1000, noon)
			m.counts.Reserve(tc.backlog, tc.backlog)
			m.counts.Settle(tc.backlog, tc.backlog)
			for status, age := range tc.events {
				exec(t, m.pool, `INSERT INTO events (source, event_id, digest, module, operation, record_id, status, received_at, account_id, revision)
					VALUES ('zoho', $1, sha256(''), 'Accounts', 'update', '1', $1, $2, CASE WHEN $1 IN ('routed', 'processed') THEN '1' END, CASE WHEN $1 IN ('routed', 'processed') THEN 1 END)`,
					status, noon.Add(-age))
			}
			m.wantBody(t, "/webhooks/health", http.StatusOK, map[string]any{
				"status": tc.status, "database_connected": true, "queue_size": float64(tc.backlog), "queue_capacity": 1000.0,
				"queue_utilization": tc.utilization, "oldest_event_age_seconds": tc.age, "timestamp": "2026-03-01T11:00:00Z",
			})
		})
	}
}

// The oldest is that which arrived first, whatever became of its id's neighbours.
func TestHealthLooksAtTheOldestEvent(t *testing.T) {
	t.Parallel()
	m := serve(t, dbtest.New(t), 1000, noon)
	for i, minutes := range []int{3, 2, 1} {
		exec(t, m.pool, `INSERT INTO events (source, event_id, digest, module, operation, record_id, received_at)
			VALUES ('zoho', $1, sha256(''), 'Accounts', 'update', '1', $2)`, string(rune('a'+i)), noon.Add(-time.Duration(minutes)*time.Minute))
	}
	var report Report
	_, text := m.get(t, "/webhooks/health")
	if err := json.Unmarshal(text, &report); err != nil || report.OldestEventAge != 180 {
		t.Errorf("the oldest is %v s old, %v, want 180", report.OldestEventAge, err)
	}
}

func TestWithoutADatabase(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	m := serve(t, pool, 1000, noon)
	m.counts.Reserve(7, 10)
	m.counts.Settle(7, 7)
	pool.Close()
	m.wantBody(t, "/webhooks/health", http.StatusServiceUnavailable, map[string]any{
		"status": "unhealthy", "database_connected": false, "queue_size": 7.0, "queue_capacity": 1000.0,
		"queue_utilization": "0.7%", "oldest_event_age_seconds": 0.0, "timestamp": "2026-03-01T11:00:00Z",
	})
	m.wantBody(t, "/webhooks/metrics", http.StatusServiceUnavailable, map[string]any{
		"type": "about:blank", "title": "Service Unavailable", "status": 503.0, "code": "no_database", "detail": "The database does not answer.",
	})
	m.wantBody(t, "/readyz", http.StatusServiceUnavailable, map[string]any{
		"type": "about:blank", "title": "Service Unavailable", "status": 503.0, "code": "not_ready",
		"detail": "The database does not answer, or its schema does not fit.",
	})
	m.wantBody(t, "/livez", http.StatusOK, map[string]any{"status": "ok"})
}

func TestReadyWhateverTheBacklog(t *testing.T) {
	t.Parallel()
	m := serve(t, dbtest.New(t), 1000, noon)
	m.counts.Reserve(5000, 5000)
	m.counts.Settle(5000, 5000)
	m.wantBody(t, "/readyz", http.StatusOK, map[string]any{"status": "ready"})
}

func TestNotReadyOnAnUnmigratedDatabase(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), dbtest.Empty(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	m := serve(t, pool, 1000, noon)
	m.wantBody(t, "/readyz", http.StatusServiceUnavailable, map[string]any{
		"type": "about:blank", "title": "Service Unavailable", "status": 503.0, "code": "not_ready",
		"detail": "The database does not answer, or its schema does not fit.",
	})
	m.wantBody(t, "/livez", http.StatusOK, map[string]any{"status": "ok"})
}

func TestMetricsArithmetic(t *testing.T) {
	t.Parallel()
	last := "2026-02-28T23:00:00.25Z"
	at := time.Date(2026, 2, 28, 23, 0, 0, 250e6, time.UTC).UnixMilli()
	for _, tc := range []struct {
		name             string
		counts           counter.Changes
		backlog, workers int64
		want             Metrics
	}{
		{
			"nothing has happened", counter.Changes{}, 0, 0,
			Metrics{AcceptanceRate: "0.0%", DeduplicationRate: "0.0%", SuccessRate: "0.0%"},
		},
		{
			"a day's work",
			counter.Changes{
				counter.Queued: 960, counter.Duplicated: 32, counter.Ignored: 8, counter.IDReused: 2, counter.Rejected: 1, counter.Failed: 1,
				counter.Backlog: 77, counter.Dead: 4, counter.Processed: 900, counter.ProcessingMicros: 2_250_000_000, counter.Retried: 20,
				counter.Died: 100, counter.Batches: 50, counter.LastProcessed: at, counter.Delivered: 5, counter.DeliveriesDied: 6,
			},
			12, 502,
			Metrics{
				TotalEvents: 1002, VerifiedEvents: 1000, RejectedEvents: 1, DuplicatedEvents: 32, QueuedEvents: 960, FailedEvents: 1,
				AcceptanceRate: "99.8%", DeduplicationRate: "3.2%", CurrentQueueSize: 12, DeadLetterQueueSize: 4,
				EventsProcessed: 1000, EventsSucceeded: 900, EventsFailed: 120, EventsRetried: 20, EventsDeadLetter: 100,
				BatchesProcessed: 50, AverageProcessingTime: 2.5, LastProcessed: &last, SuccessRate: "90.0%",
				WorkersRunning: 502, ProcessorRunning: true,
			},
		},
		{
			"only refusals", counter.Changes{counter.Rejected: 3, counter.Failed: 1}, 0, 0,
			Metrics{TotalEvents: 4, RejectedEvents: 3, FailedEvents: 1, AcceptanceRate: "0.0%", DeduplicationRate: "0.0%", SuccessRate: "0.0%"},
		},
		{
			"only deaths", counter.Changes{counter.Died: 1, counter.ProcessingMicros: 5}, 0, 1,
			Metrics{
				AcceptanceRate: "0.0%", DeduplicationRate: "0.0%", EventsProcessed: 1, EventsFailed: 1, EventsDeadLetter: 1,
				SuccessRate: "0.0%", WorkersRunning: 1, ProcessorRunning: true,
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.want.Timestamp = "2026-03-01T11:00:00Z"
			if diff := cmp.Diff(tc.want, metricsOf(tc.counts, tc.backlog, tc.workers, noon)); diff != "" {
				t.Errorf("metrics (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		part, whole int64
		want        string
	}{
		{0, 0, "0.0%"}, {5, 0, "0.0%"}, {0, 7, "0.0%"}, {7, 7, "100.0%"}, {1, 3, "33.3%"}, {2, 3, "66.7%"}, {1, 10000, "0.0%"}, {8, 10000, "0.1%"},
		{1 << 62, 1 << 62, "100.0%"},
	} {
		if got := percent(tc.part, tc.whole); got != tc.want {
			t.Errorf("percent(%d, %d) = %s, want %s", tc.part, tc.whole, got, tc.want)
		}
	}
}

// keys are the names of an object, in their order.
func keys(t *testing.T, object []byte) []string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(object))
	var names []string
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// Monitors read these names; they are part of the API.
func TestTheNamesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	m := serve(t, dbtest.New(t), 1000, noon)
	_, report := m.get(t, "/webhooks/health")
	if diff := cmp.Diff([]string{
		"status", "database_connected", "queue_size", "queue_capacity", "queue_utilization", "oldest_event_age_seconds", "timestamp",
	}, keys(t, report)); diff != "" {
		t.Errorf("/webhooks/health (-want +got):\n%s", diff)
	}
	_, metrics := m.get(t, "/webhooks/metrics")
	if diff := cmp.Diff([]string{
		"total_events", "verified_events", "rejected_events", "duplicated_events", "queued_events", "failed_events", "acceptance_rate",
		"deduplication_rate", "current_queue_size", "dead_letter_queue_size", "events_processed", "events_succeeded", "events_failed",
		"events_retried", "events_dead_letter", "batches_processed", "average_processing_time", "last_processed", "success_rate",
		"workers_running", "processor_running", "timestamp",
	}, keys(t, metrics)); diff != "" {
		t.Errorf("/webhooks/metrics (-want +got):\n%s", diff)
	}
}

func TestMetricsAreOverAllNodes(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	a, b := serve(t, pool, 1000, noon), serve(t, pool, 1000, noon)
	a.count(t, counter.Changes{counter.Queued: 3, counter.Backlog: 3})
	b.count(t, counter.Changes{counter.Queued: 1, counter.Backlog: -1, counter.Processed: 1, counter.ProcessingMicros: 1500})
	for range 2 {
		b.counts.Refuse(counter.Rejected)
	}
	for _, m := range []*monitored{a, b, a, b} {
		if err := m.counts.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]any{
		"total_events": 6.0, "verified_events": 4.0, "rejected_events": 2.0, "duplicated_events": 0.0, "queued_events": 4.0, "failed_events": 0.0,
		"acceptance_rate": "66.7%", "deduplication_rate": "0.0%", "current_queue_size": 2.0, "dead_letter_queue_size": 0.0,
		"events_processed": 1.0, "events_succeeded": 1.0, "events_failed": 0.0, "events_retried": 0.0, "events_dead_letter": 0.0,
		"batches_processed": 0.0, "average_processing_time": 0.0015, "last_processed": nil, "success_rate": "100.0%",
		"workers_running": 6.0, "processor_running": true, "timestamp": "2026-03-01T11:00:00Z",
	}
	a.wantBody(t, "/webhooks/metrics", http.StatusOK, want)
	b.wantBody(t, "/webhooks/metrics", http.StatusOK, want)

	// A node that was not seen for five seconds works no more.
	exec(t, pool, `UPDATE processes SET seen_at = now() - interval '6 seconds'`)
	want["workers_running"], want["processor_running"] = 0.0, false
	a.wantBody(t, "/webhooks/metrics", http.StatusOK, want)

	exec(t, pool, `ALTER TABLE processes RENAME TO elsewhere`)
	if status, _ := a.get(t, "/webhooks/metrics"); status != http.StatusServiceUnavailable {
		t.Errorf("answered %d without knowing who works, want 503", status)
	}
}
