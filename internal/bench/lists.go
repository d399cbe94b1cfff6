package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/postgres"
)

const (
	listedEvents = 100_000
	operator     = "the-token-of-the-operator-here"
	// mostPages bounds how far a list is walked: all of the longest has so many.
	mostPages = 2100
	pageLimit = "every page of every list, the slowest"
)

// listed are what operators page through, with filters that find much, little and nothing.
func listed() []string {
	return []string{
		"/admin/events", "/admin/events?status=processed", "/admin/events?status=dead", "/admin/events?status=discarded", "/admin/events?source=elsewhere",
		"/admin/events?module=Deals", "/admin/events?operation=delete", "/admin/events?record_id=filled-77", "/admin/events?account_id=filled-77",
		"/admin/events?error=quota", "/admin/events?error=nothing+says+this", "/admin/events?user_id=nobody", "/admin/events?event_id=nobody",
		"/admin/dead", "/admin/dead?kind=delivery", "/admin/dead?error=quota",
		"/admin/deliveries", "/admin/deliveries?status=dead", "/admin/deliveries?endpoint=listed", "/admin/deliveries?user_id=zoho:7", "/admin/deliveries?event=memory_deleted",
		"/admin/jobs", "/admin/jobs?state=completed", "/admin/jobs?kind=relay", "/admin/audit", "/admin/audit?actor=nobody", "/admin/rejected", "/admin/rejected?code=unauthorized",
		"/admin/replays", "/admin/queues", "/admin/stats?window=5m", "/admin/stats?window=24h", "/admin/records/Contacts/filled-77",
	}
}

// besideListed is what followed from the events: every hundredth died, every third was told.
const besideListed = `
UPDATE events SET status = 'dead', failures = 3, last_error = 'the quota of the account is used up' WHERE id % 100 = 0;
INSERT INTO endpoints (id, name, url, events, timeout) VALUES ('00000000-0000-0000-0000-000000000001', 'listed', 'https://receiver.invalid/', '{}', '10s');
INSERT INTO outbox (id, event, user_id, payload, created_at, relayed_at)
SELECT ('00000000-0000-0000-0001-' || lpad(id::text, 12, '0'))::uuid, 'memory_updated', 'zoho:' || id % 1000, '{}', processed_at, processed_at FROM events WHERE id % 3 = 0 ORDER BY id;
INSERT INTO memory_history (memory_id, user_id, module, record_id, operation, event_id, outbox_id, created_at)
SELECT gen_random_uuid(), 'zoho:' || id % 1000, module, record_id, 'updated', id, ('00000000-0000-0000-0001-' || lpad(id::text, 12, '0'))::uuid, processed_at FROM events WHERE id % 3 = 0 ORDER BY id;
INSERT INTO deliveries (outbox_id, endpoint_id, status, attempts, failures, last_error, created_at, finished_at)
SELECT id, '00000000-0000-0000-0000-000000000001', CASE WHEN seq % 100 = 0 THEN 'dead' ELSE 'delivered' END, 1, 0, '', created_at, created_at + interval '90 ms' FROM outbox ORDER BY seq;
INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, error_class, total)
SELECT id, 1, created_at, 204, '', interval '50 ms' FROM deliveries ORDER BY id;
INSERT INTO river_job (kind, args, queue, max_attempts, state, finalized_at)
SELECT 'process_event', jsonb_build_object('event_id', i), 'process', 3, 'completed', now() FROM generate_series(1, 50000) AS i;
INSERT INTO audit_log (actor, action, object, details, request_id)
SELECT 'token/ada', 'event.replay', 'event/' || i, '{}', '' FROM generate_series(1, 20000) AS i;
INSERT INTO rejected_requests (at, method, route, status, code, reason, address, user_agent, content_length, request_id)
SELECT now(), 'POST', '/webhooks/zoho', 401, 'unauthorized', '', '192.0.2.1', '', -1, '' FROM generate_series(1, 1000);
VACUUM ANALYZE;
CHECKPOINT`

// lists are the pages of operators' lists, one after the other to the last, over HTTP,
// with a hundred thousand events stored.
func (b *bench) lists(ctx context.Context) (rows []row, err error) {
	at, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	if err := fillListed(ctx, at); err != nil {
		return nil, err
	}
	p, err := b.serveOn(ctx, at, append(endless(), "ADMIN_TOKEN="+operator), "--no-workers")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	slowest := 0.0
	for _, path := range listed() {
		ms, err := walkPages(ctx, p.base, path)
		if err != nil {
			return nil, err
		}
		slices.Sort(ms)
		slowest = max(slowest, ms[len(ms)-1])
		name := fmt.Sprintf("%s, %d pages", path, len(ms))
		rows = append(rows, row{name + ": p50", "ms", percentile(ms, 0.5)}, row{name + ": the slowest", "ms", ms[len(ms)-1]})
	}
	return append(rows, row{pageLimit, "ms", slowest}), nil
}

func fillListed(ctx context.Context, at string) error {
	pool, err := postgres.Open(ctx, at, postgres.Options{Log: slog.New(slog.DiscardHandler), MaxConns: 2, Name: "bench", Unlimited: true})
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := fillEvents(ctx, pool, 0, listedEvents, time.Now().Add(-10*time.Hour)); err != nil {
		return err
	}
	for statement := range strings.SplitSeq(besideListed, ";\n") {
		if _, err := pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("fill what followed from events: %w", err)
		}
	}
	return nil
}

// walkPages asks for a list page by page, and returns how long each took in milliseconds.
// The first request of all is not among them: it plans.
func walkPages(ctx context.Context, base, path string) ([]float64, error) {
	if _, err := listPage(ctx, base+path); err != nil {
		return nil, err
	}
	var ms []float64
	at, err := url.Parse(base + path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for len(ms) < mostPages {
		began := time.Now()
		next, err := listPage(ctx, at.String())
		if err != nil {
			return nil, err
		}
		if ms = append(ms, milliseconds(time.Since(began))); next == "" {
			break
		}
		asked := at.Query()
		asked.Set("cursor", next)
		at.RawQuery = asked.Encode()
	}
	return ms, nil
}

func listPage(ctx context.Context, at string) (next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+operator)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: answered %s", at, resp.Status)
	}
	var page struct {
		Next string `json:"next_cursor"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return "", fmt.Errorf("%s: %w", at, err)
	}
	return page.Next, nil
}
