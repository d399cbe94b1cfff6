package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/localpg"
	"github.com/memrelay/memrelay/internal/postgres"
)

const crashSecret = "the-secret-of-the-crash-test"

// TestNothingAcknowledgedIsLost kills the program and then the database under
// traffic. Every event that was answered 200 must be processed once within two
// minutes, none twice, none dead, and every change of memory must be told.
//
// It runs the real program on a Postgres of its own with fsync on: the shared
// one of the other tests does not keep what it acknowledges.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "memrelay-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres may run as another user
		t.Fatal(err)
	}
	pg := startPostgres(t, dir)
	url := pg.URL("crash")
	execute(t, pg.URL("postgres"), "CREATE DATABASE crash")
	if err := postgres.Migrate(t.Context(), url, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	told := newTold(t)
	p := &victim{t: t, binary: build(t, dir), url: url, addr: freeAddr(t), receiver: told.server.URL}
	p.start()

	traffic := startTraffic(t, p.addr)
	traffic.waitFor(t, 200)
	p.kill()
	p.start()
	traffic.waitFor(t, 600)
	if err := pg.StopImmediately(t.Context()); err != nil {
		t.Fatal(err)
	}
	startPostgres(t, dir)
	traffic.waitFor(t, 1000)
	acknowledged := traffic.stop()
	t.Logf("%d events acknowledged across the crashes", len(acknowledged))

	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	began := time.Now()
	wait(t, pool, 2*time.Minute, `SELECT NOT EXISTS (SELECT FROM events WHERE status <> 'processed')
		AND NOT EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)
		AND NOT EXISTS (SELECT FROM deliveries WHERE status <> 'delivered')`)
	t.Logf("everything was done %s after the last acknowledgement", time.Since(began).Round(time.Second))

	for _, id := range acknowledged {
		if n := one[int](t, pool, `SELECT count(*) FROM events WHERE event_id = $1 AND status = 'processed'`, id); n != 1 {
			t.Errorf("event %s is there and processed %d times, want once", id, n)
		}
	}
	// Each event made a record of its own: one memory, one change, one webhook each.
	events := one[int](t, pool, `SELECT count(*) FROM events`)
	for what, query := range map[string]string{
		"memories":   `SELECT count(*) FROM memories`,
		"changes":    `SELECT count(*) FROM memory_history WHERE operation = 'added'`,
		"webhooks":   `SELECT count(*) FROM outbox`,
		"deliveries": `SELECT count(*) FROM deliveries WHERE status = 'delivered'`,
	} {
		if n := one[int](t, pool, query); n != events {
			t.Errorf("%d %s for %d events", n, what, events)
		}
	}
	if n := told.different(); n != events {
		t.Errorf("the receiver was told of %d changes, want %d", n, events)
	}
	if n := one[int](t, pool, `SELECT count(*) FROM river_job WHERE state = 'discarded'`); n != 0 {
		t.Errorf("%d jobs were discarded", n)
	}
}

func startPostgres(t *testing.T, dir string) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: filepath.Join(dir, "pg"), OwnGroup: true})
	if errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip("needs initdb and postgres, which this machine does not have: a container cannot be crashed like this")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Log(err)
		}
	})
	return s
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, dir string) string {
	t.Helper()
	binary := filepath.Join(dir, "memrelay")
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	return binary
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// victim is the program in a process that can be killed.
type victim struct {
	t                           *testing.T
	binary, url, addr, receiver string
	environ                     []string // besides
	command                     *exec.Cmd
	output                      bytes.Buffer
}

func (v *victim) start() {
	v.t.Helper()
	v.command = exec.Command(v.binary, "serve")
	v.command.Env = append(append(os.Environ(), v.environ...), "DATABASE_URL="+v.url, "HTTP_ADDR="+v.addr, "WEBHOOK_SECRET="+crashSecret,
		"MEM0_WEBHOOK_URL="+v.receiver, "OUTBOUND_ALLOW_PRIVATE=127.0.0.1/32", "LOG_LEVEL=warn", "WEBHOOK_MAX_QUEUE_SIZE=100000")
	v.output.Reset()
	v.command.Stderr = &v.output
	if err := v.command.Start(); err != nil {
		v.t.Fatal(err)
	}
	command := v.command
	v.t.Cleanup(func() {
		_ = command.Process.Kill() // already gone when it was killed before
		_ = command.Wait()
		if v.t.Failed() {
			v.t.Logf("the program said:\n%s", v.output.String())
		}
	})
}

func (v *victim) kill() {
	v.t.Helper()
	if err := v.command.Process.Kill(); err != nil {
		v.t.Fatal(err)
	}
	_ = v.command.Wait() // says that it was killed
}

// traffic posts events until it is stopped; one that was not answered 200 is
// sent again, as a sender does.
type traffic struct {
	mu           sync.Mutex
	acknowledged []string
	cancel       context.CancelFunc
	done         sync.WaitGroup
}

func startTraffic(t *testing.T, addr string) *traffic {
	ctx, cancel := context.WithCancel(t.Context())
	tr := &traffic{cancel: cancel}
	t.Cleanup(cancel)
	for sender := range 8 {
		tr.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("crash-%d-%d", sender, n)
				body := fmt.Sprintf(`{"operation":"create","module":"Contacts","data":[{"id":"%d%06d","Last_Name":"%s","Account_Name":{"id":"%d"}}]}`, sender+1, n, id, n%50+1)
				for ctx.Err() == nil {
					if deliver(ctx, addr, id, body) == nil {
						tr.mu.Lock()
						tr.acknowledged = append(tr.acknowledged, id)
						tr.mu.Unlock()
						break
					}
					pause(ctx, 20*time.Millisecond)
				}
				pause(ctx, 5*time.Millisecond)
			}
		})
	}
	return tr
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func deliver(ctx context.Context, addr, id, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/webhooks/zoho", bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, []byte(crashSecret))
	mac.Write([]byte(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Zoho-Event-Id", id)
	req.Header.Set("X-Zoho-Signature", hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// waitFor returns when so many events are acknowledged.
func (tr *traffic) waitFor(t *testing.T, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		tr.mu.Lock()
		got := len(tr.acknowledged)
		tr.mu.Unlock()
		if got >= n {
			return
		}
		pause(t.Context(), 10*time.Millisecond)
	}
	t.Fatalf("waited a minute in vain for %d acknowledgements", n)
}

func (tr *traffic) stop() []string {
	tr.cancel()
	tr.done.Wait()
	return tr.acknowledged
}

// told is a subscriber that counts different webhooks.
type told struct {
	server *httptest.Server
	mu     sync.Mutex
	ids    map[string]int
}

func newTold(t *testing.T) *told {
	r := &told{ids: map[string]int{}}
	r.server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ids[req.Header.Get("webhook-id")]++
	}))
	t.Cleanup(r.server.Close)
	return r
}

func (r *told) different() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

func wait(t *testing.T, pool *pgxpool.Pool, limit time.Duration, query string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		if one[bool](t, pool, query) {
			return
		}
		pause(t.Context(), 100*time.Millisecond)
	}
	t.Errorf("waited %s in vain; left: events %v, lanes %v, jobs %v", limit,
		one[string](t, pool, `SELECT coalesce(jsonb_object_agg(status, n)::text, '') FROM (SELECT status, count(*) AS n FROM events GROUP BY 1) s`),
		one[string](t, pool, `SELECT coalesce(jsonb_agg(a)::text, '') FROM (SELECT * FROM accounts WHERE wanted <> done LIMIT 5) a`),
		one[string](t, pool, `SELECT coalesce(jsonb_object_agg(kind || ' ' || state, n)::text, '') FROM (SELECT kind, state, count(*) AS n FROM river_job GROUP BY 1, 2) s`))
}

func one[T any](t *testing.T, pool *pgxpool.Pool, query string, args ...any) T {
	t.Helper()
	var v T
	if err := pool.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
