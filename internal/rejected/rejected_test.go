package rejected_test

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/rejected"
)

// tally counts what a Log does not keep.
type tally struct {
	mu sync.Mutex
	n  int
}

func (c *tally) Refuse(name counter.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name == rejected.Unlisted {
		c.n++
	}
}

func (c *tally) unlisted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func newLog(t *testing.T) (*rejected.Log, *tally, *pgxpool.Pool) {
	t.Helper()
	pool, counts := dbtest.New(t), &tally{}
	return rejected.New(pool, counts, slog.New(slog.NewTextHandler(t.Output(), nil))), counts, pool
}

func rowsOf(t *testing.T, pool *pgxpool.Pool, sql string) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func flush(t *testing.T, l *rejected.Log) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestARefusalIsKept(t *testing.T) {
	t.Parallel()
	l, counts, pool := newLog(t)
	l.Add(rejected.Request{
		At: time.Now().UTC().Truncate(24 * time.Hour).Add(3*time.Hour + 4*time.Minute + 5*time.Second), Method: "POST", Route: "/webhooks/zoho", Status: 401, Code: "unauthorized",
		Reason: `The field "secret \" thing" is not signed.`, Address: "203.0.113.7", UserAgent: "a\x00b\xff\nc", ContentLength: -1, RequestID: "request-7",
	})
	flush(t, l)
	flush(t, l) // nothing more
	want := []string{`03:04:05 POST /webhooks/zoho 401 unauthorized The field "…" is not signed. 203.0.113.7 a?b??c -1 request-7`}
	got := rowsOf(t, pool, `SELECT concat_ws(' ', to_char(at AT TIME ZONE 'UTC', 'HH24:MI:SS'), method, route, status, code, reason, address, user_agent, content_length, request_id)
		FROM rejected_requests`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if counts.unlisted() != 0 {
		t.Errorf("%d were only counted", counts.unlisted())
	}
}

// A flood fills neither memory nor the database, and does not hide the others.
func TestAFloodIsCountedAndLeavesRoom(t *testing.T) {
	t.Parallel()
	l, counts, pool := newLog(t)
	var g sync.WaitGroup
	for range 8 {
		g.Go(func() {
			for range 1000 {
				l.Add(rejected.Request{At: time.Now(), Address: "203.0.113.7"})
			}
		})
	}
	g.Wait()
	for i := range 60 {
		l.Add(rejected.Request{At: time.Now(), Address: fmt.Sprintf("198.51.100.%d", i)})
	}
	flush(t, l)
	want := []string{"10", "40"}
	got := rowsOf(t, pool, `SELECT count(*)::text FROM (SELECT address = '203.0.113.7' AS flood FROM rejected_requests) AS r GROUP BY flood ORDER BY flood DESC`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept of the flood, and of the others (-want +got):\n%s", diff)
	}
	if want := 8000 - 10 + 20; counts.unlisted() != want {
		t.Errorf("%d were only counted, want %d", counts.unlisted(), want)
	}
	// The next second has room again.
	l.Add(rejected.Request{At: time.Now(), Address: "203.0.113.7"})
	flush(t, l)
	if got := rowsOf(t, pool, `SELECT count(*)::text FROM rejected_requests`); got[0] != "51" {
		t.Errorf("%s are kept, want 51", got[0])
	}
}

func TestTheNewestThousandStay(t *testing.T) {
	t.Parallel()
	l, _, pool := newLog(t)
	if _, err := pool.Exec(t.Context(), `INSERT INTO rejected_requests (at, method, route, status, code, reason, address, user_agent, content_length, request_id)
		SELECT now(), '', '', 400, '', '', n::text, '', 0, n::text FROM generate_series(1, 1500) n`); err != nil {
		t.Fatal(err)
	}
	l.Add(rejected.Request{At: time.Now(), RequestID: "newest"})
	flush(t, l)
	if got := rowsOf(t, pool, `SELECT count(*) || ' ' || min(id) || ' ' || max(request_id) FROM rejected_requests`); got[0] != "1000 502 newest" {
		t.Errorf("kept: %s", got[0])
	}
}

// Many nodes write at one time, and none waits for another or fails.
func TestNodesWriteSideBySide(t *testing.T) {
	t.Parallel()
	_, counts, pool := newLog(t)
	var g sync.WaitGroup
	for range 6 {
		l := rejected.New(pool, counts, slog.New(slog.NewTextHandler(t.Output(), nil)))
		g.Go(func() {
			for range 10 {
				for i := range 50 {
					l.Add(rejected.Request{At: time.Now(), Address: fmt.Sprint(i % 10)})
				}
				if err := l.Flush(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	flushed := rejected.New(pool, counts, slog.New(slog.DiscardHandler))
	flushed.Add(rejected.Request{At: time.Now(), RequestID: "last"})
	flush(t, flushed)
	if got := rowsOf(t, pool, `SELECT count(*)::text FROM rejected_requests`); got[0] != "1000" {
		t.Errorf("%s are kept, want 1000", got[0])
	}
}

// One sender hides nobody, from however many addresses of its network it comes.
func TestOneSenderLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	l, counts, pool := newLog(t)
	for i := range 12 {
		l.Add(rejected.Request{At: time.Now(), Address: fmt.Sprintf("2001:db8:0:1::%x", i)})
		l.Add(rejected.Request{At: time.Now(), Address: fmt.Sprintf("2001:db8:0:2%02x::1", i)})
	}
	if counts.unlisted() != 2 {
		t.Errorf("%d of one network were only counted, want 2", counts.unlisted())
	}
	flush(t, l)
	if _, err := pool.Exec(t.Context(), `TRUNCATE rejected_requests RESTART IDENTITY`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO rejected_requests (at, method, route, status, code, reason, address, user_agent, content_length, request_id)
		SELECT now(), '', '', 400, '', '', a.address, '', 0, a.sender
		FROM generate_series(1, 150) n, LATERAL (VALUES ('one network', '2001:db8:0:1::' || to_hex(n)), ('one address', '203.0.113.7'),
			('many networks', '2001:db8:0:' || to_hex(n) || '1::7'), ('none', 'invalid IP'), ('zone', 'fe80::1%eth0')) AS a (sender, address)`); err != nil {
		t.Fatal(err)
	}
	if err := l.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := rowsOf(t, pool, `SELECT request_id || ' ' || count(*) || ' ' || (min(id) > 250) FROM rejected_requests GROUP BY request_id ORDER BY request_id`)
	want := []string{"many networks 150 false", "none 100 true", "one address 100 true", "one network 100 true", "zone 100 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

// They name people by their addresses: none is kept for longer than a month.
func TestOldRefusalsGo(t *testing.T) {
	t.Parallel()
	l, _, pool := newLog(t)
	for _, age := range []time.Duration{31 * 24 * time.Hour, 29 * 24 * time.Hour} {
		l.Add(rejected.Request{At: time.Now().Add(-age), RequestID: fmt.Sprint(age)})
	}
	flush(t, l)
	if got := rowsOf(t, pool, `SELECT request_id FROM rejected_requests`); len(got) != 1 || got[0] != "696h0m0s" {
		t.Errorf("kept: %v", got)
	}
}

func TestWhatCannotBeWrittenIsCounted(t *testing.T) {
	t.Parallel()
	l, counts, pool := newLog(t)
	l.Add(rejected.Request{At: time.Now()})
	if _, err := pool.Exec(t.Context(), `ALTER TABLE rejected_requests RENAME TO gone`); err != nil {
		t.Fatal(err)
	}
	if err := l.Flush(t.Context()); err == nil || counts.unlisted() != 1 {
		t.Errorf("error %v, counted %d", err, counts.unlisted())
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "curl/8": "curl/8", "ä\x1b[31m": "ä?[31m", strings.Repeat("ä", 101): strings.Repeat("ä", 100) + "…",
		strings.Repeat("a", 199) + "ä": strings.Repeat("a", 199) + "…",
	} {
		if got := rejected.Plain(in); got != want {
			t.Errorf("Plain(%q) = %q, want %q", in, got, want)
		}
	}
}
