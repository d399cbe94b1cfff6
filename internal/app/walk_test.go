package app_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	inboundSecret  = "the-secret-of-the-door"
	outboundSecret = "the-secret-of-the-receiver"
)

// TestWalk follows one event from bytes to the receiver, station by station.
func TestWalk(t *testing.T) {
	t.Parallel()
	receiver := newReceiver(t)
	p := start(t, setup{receiver: receiver.URL})

	// inbound: bytes become an event row and a ProcessEvent job.
	answer := p.send(t, contact("1", "77", "jane@example.com"), "evt-1")
	if diff := cmp.Diff(map[string]any{
		"status": "accepted", "event_id": "evt-1", "message": "1 of 1 events stored.", "queued": true,
		"events": []any{map[string]any{"event_id": "evt-1", "status": "accepted"}},
	}, answer.body); answer.status != http.StatusOK || diff != "" {
		t.Fatalf("answered %d (-want +got):\n%s", answer.status, diff)
	}

	// process: the event becomes memory, told in the outbox.
	// outbound: the receiver gets it, signed.
	webhook := receiver.next(t)
	if want := sign(outboundSecret, webhook.body); webhook.header.Get("X-Webhook-Signature") != "sha256="+want {
		t.Errorf("signature %q, want sha256=%s", webhook.header.Get("X-Webhook-Signature"), want)
	}
	var payload struct {
		Event  string           `json:"event"`
		UserID string           `json:"user_id"`
		Data   memory.AddedData `json:"data"`
	}
	if err := json.Unmarshal(webhook.body, &payload); err != nil {
		t.Fatal(err)
	}
	if payload.Event != "memory_added" || payload.UserID != "zoho:77" {
		t.Errorf("webhook tells of %s for %s, want memory_added for zoho:77", payload.Event, payload.UserID)
	}
	want := "Contact Jane Doe of Acme\nAccount Name: Acme\nEmail: jane@example.com\nFirst Name: Jane\nLast Name: Doe"
	if diff := cmp.Diff(want, payload.Data.Result.Content); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}

	// The whole life is one query.
	p.waitFor(t, "the delivery is recorded", `SELECT EXISTS (SELECT FROM deliveries WHERE status = 'delivered')`)
	steps := rows[string](t, p.pool, `SELECT station || ': ' || what FROM event_timeline WHERE event_id = 1 ORDER BY at, step`)
	if diff := cmp.Diff([]string{
		"inbound: received", "process: routed", "process: processed", "memory: memory added",
		"outbound: told", "outbound: relayed", "outbound: attempt 1", "outbound: delivered",
	}, steps); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	p.settled(t)
}

func contact(id, account, email string) string {
	return fmt.Sprintf(`{"operation":"update","module":"Contacts","data":[{"id":"%s","First_Name":"Jane","Last_Name":"Doe","Email":"%s","Account_Name":{"id":"%s","name":"Acme"}}]}`, id, email, account)
}

func sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// setup is what a test's program differs in.
type setup struct {
	receiver string
	url      string // of the database; "" makes one
	change   func(*config.Config)
	noWork   bool
	ln       net.Listener // nil makes one
}

// program is a running memrelay.
type program struct {
	url  string
	pool *pgxpool.Pool
	base string
	app  *app.App
	stop func()
}

// start runs the program on a database of its own until the test ends.
func start(t *testing.T, s setup) *program {
	t.Helper()
	if s.url == "" {
		s.url = dbtest.URL(t)
	}
	cfg, _, err := config.FromEnv([]string{
		"DATABASE_URL=" + s.url, "WEBHOOK_SECRET=" + inboundSecret, "WEBHOOK_RETRY_DELAY_BASE=0.05", "SHUTDOWN_TIMEOUT=5",
		"MEM0_WEBHOOK_URL=" + s.receiver, "MEM0_WEBHOOK_SECRET=" + outboundSecret, "MEM0_WEBHOOK_RETRY_DELAY=0.05",
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg.OutboundAllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if s.change != nil {
		s.change(&cfg)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	a, err := app.New(t.Context(), cfg, app.Options{Log: log, Version: "test", Work: !s.noWork})
	if err != nil {
		t.Fatal(err)
	}
	ln := s.ln
	if ln == nil {
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	pool, err := pgxpool.New(t.Context(), s.url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, ln) }()
	stopped := false
	p := &program{url: s.url, pool: pool, base: "http://" + ln.Addr().String(), app: a}
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the program ended with: %v", err)
		}
		a.Close()
	}
	t.Cleanup(func() {
		p.stop()
		pool.Close()
	})
	return p
}

type answered struct {
	status int
	header http.Header
	body   map[string]any
}

// send posts a signed body.
func (p *program) send(t *testing.T, body, eventID string) answered {
	t.Helper()
	return p.post(t, body, http.Header{
		"Content-Type": {"application/json"}, "X-Zoho-Event-Id": {eventID}, "X-Zoho-Signature": {sign(inboundSecret, []byte(body))},
	})
}

func (p *program) post(t *testing.T, body string, header http.Header) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/webhooks/zoho", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	return do(t, req)
}

func (p *program) get(t *testing.T, path string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) answered {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answered{status: resp.StatusCode, header: resp.Header}
	if err := json.Unmarshal(text, &a.body); err != nil {
		t.Fatalf("answered %d with %q, which is not JSON", resp.StatusCode, text)
	}
	return a
}

// waitFor waits until the query says true. It polls, for the truth is in the
// database and nothing in the program needs to tell a test.
func (p *program) waitFor(t *testing.T, what, query string, args ...any) {
	t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if rows[bool](t, p.pool, query, args...)[0] {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}

// settled waits until nothing is left to do and checks that nothing is left lying:
// no event, lane, webhook or delivery without its end, no job that still runs.
func (p *program) settled(t *testing.T) {
	t.Helper()
	p.waitFor(t, "everything is done", `
		SELECT NOT EXISTS (SELECT FROM events WHERE status IN ('received', 'routed', 'retrying'))
		   AND NOT EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)
		   AND NOT EXISTS (SELECT FROM deliveries WHERE status IN ('pending', 'retrying'))
		   AND NOT EXISTS (SELECT FROM accounts WHERE due_at IS NOT NULL OR job_id IS NOT NULL OR wanted <> done)
		   AND NOT EXISTS (SELECT FROM endpoints WHERE due_at IS NOT NULL OR job_id IS NOT NULL OR wanted <> done)
		   AND NOT EXISTS (SELECT FROM river_job WHERE state <> 'completed')`)
	cataloguetest.Outbox(t, p.pool)
	if got := rows[int64](t, p.pool, `SELECT coalesce(sum(value), 0)::bigint FROM counters WHERE name = 'backlog'`)[0]; got != 0 {
		t.Errorf("the backlog counter is %d with nothing waiting, want 0", got)
	}
}

// rows reads the one column of a query.
func rows[T any](t *testing.T, pool *pgxpool.Pool, query string, args ...any) []T {
	t.Helper()
	r, err := pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []T
	for r.Next() {
		var v T
		if err := r.Scan(&v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// receiver is a subscriber on localhost.
type receiver struct {
	*httptest.Server
	got chan webhook
}

type webhook struct {
	header http.Header
	body   []byte
}

// newReceiver answers 204 to everything, or what answer says.
func newReceiver(t *testing.T, answer ...func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	r := &receiver{got: make(chan webhook, 100_000)}
	calls := make(chan int, 1)
	calls <- 0
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Errorf("read a webhook: %v", err)
		}
		n := <-calls + 1
		calls <- n
		r.got <- webhook{header: req.Header, body: body}
		if len(answer) > 0 {
			answer[0](n, w, req)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) next(t *testing.T) webhook {
	t.Helper()
	select {
	case w := <-r.got:
		return w
	case <-time.After(60 * time.Second):
		t.Fatal("waited a minute for a webhook in vain")
		return webhook{}
	}
}
