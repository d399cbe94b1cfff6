package admin_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/memrelay/memrelay/internal/admin"
)

// fill stores so many events a source, one second apart and the last of them now, each
// routed after 10 ms and processed after 100 ms; of a tenth of them the memory was told
// and delivered within a second, at the second attempt.
func (d *desk) fill(t *testing.T, events int) {
	t.Helper()
	d.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout) VALUES ('00000000-0000-0000-0000-000000000001', 'crm', 'https://receiver.invalid/', '{}', '10s')`)
	d.exec(t, `INSERT INTO events (source, event_id, digest, module, operation, record_id, account_id, revision, status, received_at, routed_at, processed_at)
		SELECT CASE n % 4 WHEN 0 THEN 'mail' ELSE 'zoho' END, n::text, sha256('body'), 'Contacts', 'update', n::text, '77', n, 'processed', at, at + interval '10 ms', at + interval '100 ms'
		FROM (SELECT n, now() - ($1 - n) * interval '1 s' AS at FROM generate_series(1, $1::int) n) AS e ORDER BY e.n`, events)
	d.exec(t, `INSERT INTO outbox (id, event, user_id, payload, created_at, relayed_at)
		SELECT ('00000000-0000-0000-0001-' || lpad(id::text, 12, '0'))::uuid, 'memory_added', 'zoho:77', '{}', processed_at, processed_at FROM events WHERE id % 10 = 0 ORDER BY id`)
	d.exec(t, `INSERT INTO memory_history (memory_id, user_id, module, record_id, operation, event_id, outbox_id, created_at)
		SELECT gen_random_uuid(), 'zoho:77', module, record_id, 'added', id, ('00000000-0000-0000-0001-' || lpad(id::text, 12, '0'))::uuid, processed_at FROM events WHERE id % 10 = 0 ORDER BY id`)
	d.exec(t, `INSERT INTO deliveries (outbox_id, endpoint_id, status, attempts, created_at, finished_at)
		SELECT id, '00000000-0000-0000-0000-000000000001', 'delivered', 2, created_at, created_at + interval '900 ms' FROM outbox ORDER BY seq`)
	d.exec(t, `INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, error_class, total)
		SELECT d.id, n, d.created_at, CASE n WHEN 1 THEN 500 ELSE 204 END, CASE n WHEN 1 THEN 'http' ELSE '' END, n * interval '50 ms' FROM deliveries d, generate_series(1, 2) n ORDER BY d.id, n`)
	d.exec(t, `ANALYZE`)
}

func (d *desk) of(t *testing.T, window string) admin.StatsOf {
	t.Helper()
	return decode[admin.StatsOf](t, d.do(t, 200, "GET", "/admin/stats?window="+window, ""))
}

var nearly = cmpopts.EquateApprox(0, 0.01)

func TestStatsOfAWindow(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if of := d.of(t, "24h"); of.CoveredSeconds != 0 || of.Milliseconds.ToRouted != nil || len(of.Sources)+len(of.Endpoints) != 0 || len(of.Backlog) != 4 {
		t.Errorf("of nothing: %+v", of)
	}
	d.fill(t, 600)
	// 300 of these events are of the last five minutes; two beside them wait, one was run again.
	d.exec(t, `INSERT INTO events (source, event_id, digest, module, operation, record_id, received_at) SELECT 'sign', n::text, sha256('body'), 'Sign', 'update', n::text, now() - n * interval '20 s' FROM generate_series(1, 2) n`)
	d.exec(t, `UPDATE events SET processed_at = now() + interval '1 day', routed_at = now() + interval '1 day' WHERE id = 555`)
	d.exec(t, `INSERT INTO event_runs (event_id, replay_id) VALUES (555, gen_random_uuid())`)
	d.exec(t, `INSERT INTO counter_samples (bin, at, sums) VALUES
		(date_bin('15 seconds', now() - interval '400 s', 'epoch'), now() - interval '400 s', '{"queued": 1}'),
		(date_bin('15 seconds', now() - interval '300 s', 'epoch'), now() - interval '300 s', '{"queued": 100, "delivered": 10, "retried": 5}')`)
	d.exec(t, `INSERT INTO counters (process, slot, name, value) SELECT gen_random_uuid(), 0, n.name, n.value
		FROM (VALUES ('queued', 400), ('ignored', 300), ('duplicated', 30), ('delivered', 310), ('retried', 11), ('died', 6), ('delivery_retries', 600), ('backlog', 2)) AS n (name, value)`)
	of := d.of(t, "5m")
	if of.CoveredSeconds < 300 || of.CoveredSeconds > 400 {
		t.Fatalf("covers %v s", of.CoveredSeconds)
	}
	// By the second, for the machine may be slow.
	per := func(n float64) float64 { return n / of.CoveredSeconds }
	if diff := cmp.Diff(admin.Rates{
		Received: per(600), Duplicated: per(30), Failed: per(12), Died: per(6), Delivered: per(300), AttemptsFailed: per(600),
	}, of.PerSecond, nearly); diff != "" {
		t.Errorf("rates (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(admin.Times{
		ToRouted: &admin.Percentiles{P50: 10, P95: 10, P99: 10}, ToProcessed: &admin.Percentiles{P50: 100, P95: 100, P99: 100},
		ToDelivered: &admin.Percentiles{P50: 1000, P95: 1000, P99: 1000}, Attempt: &admin.Percentiles{P50: 75, P95: 100, P99: 100},
	}, of.Milliseconds, nearly); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
	if of.Sampled != (admin.Sampled{Events: 1, Deliveries: 1}) {
		t.Errorf("sampled: %+v", of.Sampled)
	}
	// 299 or 300, as the seconds pass.
	sources := map[string]int64{}
	for _, s := range of.Sources {
		sources[s.Source] = s.Events
	}
	if len(of.Sources) != 3 || of.Sources[0].Source != "zoho" || sources["zoho"] < 200 || sources["zoho"] > 226 || sources["mail"] < 66 || sources["mail"] > 76 || sources["sign"] != 2 {
		t.Errorf("sources: %+v", of.Sources)
	}
	if e := of.Endpoints; len(e) != 1 || e[0].Endpoint != "crm" || e[0].Deliveries < 26 || e[0].Deliveries > 31 || e[0].Delivered != e[0].Deliveries ||
		e[0].Attempts != 2*e[0].Deliveries || e[0].AttemptsFailed != e[0].Deliveries || e[0].Attempt == nil {
		t.Errorf("endpoints: %+v", of.Endpoints)
	}
	if b := of.Backlog[0]; b.Stage != "to be routed" || b.Waiting != 2 || b.OldestSeconds < 40 || b.OldestSeconds > 400 {
		t.Errorf("backlog: %+v", of.Backlog)
	}
	wantProblem(t, d.as(t, "reader", "GET", "/admin/stats?window=1y", ""), 422, "invalid_field", "window")
	wantProblem(t, d.as(t, "reader", "GET", "/admin/stats?since=1y", ""), 422, "invalid_field", "since")
}

// Where there are too many to look at all of them, numbers are projected.
func TestStatsOfASample(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fill(t, 40_000)
	of := d.of(t, "24h")
	if of.Sampled.Events > 0.11 || of.Sampled.Events < 0.09 {
		t.Errorf("sampled %v of the events", of.Sampled.Events)
	}
	if len(of.Sources) != 2 || of.Sources[0].Events < 29_000 || of.Sources[0].Events > 31_000 || of.Sources[1].Events < 9_000 || of.Sources[1].Events > 11_000 {
		t.Errorf("sources: %+v", of.Sources)
	}
	if e := of.Endpoints; len(e) != 1 || e[0].Deliveries < 3_800 || e[0].Deliveries > 4_200 {
		t.Errorf("endpoints: %+v", of.Endpoints)
	}
}

// Sums are kept once for each quarter of a minute, by whichever node is first.
func TestSumsAreKept(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.exec(t, `INSERT INTO counter_samples (bin, sums) VALUES (now() - interval '26 hours', '{}'), (now() - interval '24 hours', '{}')`)
	keep := func() {
		t.Helper()
		if err := d.stats.Keep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	keep() // nothing is counted yet
	if n := one[int](t, d.office, `SELECT count(*) FROM counter_samples`); n != 1 {
		t.Errorf("%d samples, want that of yesterday", n)
	}
	d.exec(t, `INSERT INTO counters (process, slot, name, value) VALUES (gen_random_uuid(), 0, 'queued', 3), (gen_random_uuid(), 0, 'queued', 4), (gen_random_uuid(), 0, 'last_processed', 9)`)
	for range 3 {
		keep()
	}
	got := column[string](t, d.office, `SELECT DISTINCT sums::text FROM counter_samples WHERE bin > now() - interval '1 hour'`)
	if want := []string{`{"queued": 7, "last_processed": 9}`}; !slices.Equal(got, want) {
		t.Errorf("kept %v, want %v", got, want)
	}
	if n := one[int](t, d.office, `SELECT count(*) FROM counter_samples WHERE bin > now() - interval '1 hour'`); n > 2 {
		t.Errorf("%d samples of one moment", n)
	}
}
