package main

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/reconcile"
)

// openSyncs returns the URL and a pool of a database in which somebody works.
func openSyncs(t *testing.T) (url string, pool *pgxpool.Pool) {
	t.Helper()
	url = dbtest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	execSync(t, pool, `INSERT INTO processes (process, host, workers) VALUES (gen_random_uuid(), 'here', 10)`)
	return url, pool
}

func execSync(t *testing.T, pool *pgxpool.Pool, query string, args ...any) int64 {
	t.Helper()
	tag, err := pool.Exec(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return tag.RowsAffected()
}

// onceThere does something as soon as there is a row for it.
func onceThere(t *testing.T, pool *pgxpool.Pool, query string) {
	t.Helper()
	go func() {
		for {
			tag, err := pool.Exec(t.Context(), query)
			if err != nil || tag.RowsAffected() > 0 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
}

// watchedOutput is what a command printed so far.
type watchedOutput struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *watchedOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *watchedOutput) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// connectedTo are settings with a client of Zoho's.
func connectedTo(url string) []string {
	return []string{"WEBHOOK_SECRET=" + typedSecret, "DATABASE_URL=" + url, "ZOHO_CLIENT_ID=1000.X", "ZOHO_CLIENT_SECRET=hush"}
}

func connected(t *testing.T, url string, args ...string) typed {
	t.Helper()
	return commandWith(t, connectedTo(url), args...)
}

// The nodes may have credentials that this command has not: it warns, and starts.
func TestSyncSaysThatNoClientIsSet(t *testing.T) {
	t.Parallel()
	url, _ := openSyncs(t)
	for _, what := range [][]string{{"account", "7"}, {"full"}, {"incremental"}} {
		args := append(append([]string{"--json", "sync"}, what...), "--detach")
		got := command(t, url, args...)
		if got.code != exitDone || !strings.Contains(got.err, "ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET, and this waits until one has them") {
			t.Errorf("%v: exit code %d\n%s%s", args, got.code, got.out, got.err)
		}
		if got := connected(t, url, args...); got.code != exitDone || got.err != "" {
			t.Errorf("%v with a client: exit code %d\n%s", args, got.code, got.err)
		}
	}
}

// A person who starts a sync is told how it goes, until its end.
func TestSyncIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind, end string
		code      int
		out, err  string
	}{
		"completed": {"full", `UPDATE syncs SET state = 'completed', finished_at = now()`, exitDone, "100 %  0 read, 0 changed, 0 gone, 0 missed, completed", ""},
		"failed":    {"full", `UPDATE syncs SET state = 'failed', last_error = 'no luck', finished_at = now()`, exitFailed, "0 %", "is failed: no luck"},
		"cancelled": {"full", `UPDATE syncs SET state = 'cancelled', finished_at = now()`, exitFailed, "cancelled", "is cancelled"},
		"the first": {"incremental", `UPDATE syncs SET state = 'completed', finished_at = now() WHERE kind = 'full'`, exitDone, "a full one, for none has completed yet", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, pool := openSyncs(t)
			onceThere(t, pool, c.end)
			got := connected(t, url, "sync", c.kind)
			if got.code != c.code || !strings.Contains(got.out, c.out) || !strings.Contains(got.err, c.err) || (c.err == "") != (got.err == "") {
				t.Errorf("exit code %d\n%s%s", got.code, got.out, got.err)
			}
		})
	}
}

func TestSyncGoesOnWithoutTheUser(t *testing.T) {
	t.Parallel()
	url, pool := openSyncs(t)
	started := decode[reconcile.Status](t, connected(t, url, "--json", "sync", "full", "--detach"))
	if started.State != reconcile.Running || started.Kind != reconcile.Full || len(started.Parts) != 7 {
		t.Errorf("started %+v", started)
	}
	// Ctrl-C ends the command and not the sync.
	ctx, stop := context.WithCancel(t.Context())
	var out, errOut watchedOutput
	ended := make(chan int)
	go func() { ended <- run(ctx, []string{"sync", "full"}, connectedTo(url), &out, &errOut) }()
	for !strings.Contains(out.String(), " read,") {
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	if code := <-ended; code != exitDone || !strings.Contains(out.String(), "under way already") || !strings.Contains(out.String(), "it goes on") {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errOut.String())
	}
	if got := decode[reconcile.Status](t, command(t, url, "--json", "sync", "show", "full")); got.ID != started.ID || got.State != reconcile.Running {
		t.Errorf("afterwards %+v", got)
	}
	execSync(t, pool, `UPDATE processes SET seen_at = now() - interval '11 seconds'`)
	if got := connected(t, url, "sync", "full", "--detach"); got.code != exitDone || !strings.Contains(got.err, "Nobody works") {
		t.Errorf("nobody works: exit code %d\n%s%s", got.code, got.out, got.err)
	}
}

func TestSyncIsPausedResumedAndCancelled(t *testing.T) {
	t.Parallel()
	url, pool := openSyncs(t)
	if got := command(t, url, "sync", "pause"); got.code != exitFailed || !strings.Contains(got.err, "there is no such sync") {
		t.Errorf("nothing to pause: exit code %d\n%s", got.code, got.err)
	}
	if got := command(t, url, "sync", "show"); got.code != exitFailed {
		t.Errorf("nothing to show: exit code %d", got.code)
	}
	connected(t, url, "sync", "full", "--detach").done(t)
	command(t, url, "sync", "pause").done(t)
	if got := command(t, url, "sync", "pause", "full"); got.code != exitFailed || !strings.Contains(got.err, "is paused") {
		t.Errorf("paused twice: exit code %d\n%s", got.code, got.err)
	}
	command(t, url, "sync", "resume").done(t)
	execSync(t, pool, `INSERT INTO syncs (id, kind, requested_by) VALUES (gen_random_uuid(), 'incremental', 'x')`)
	if got := command(t, url, "sync", "cancel"); got.code != exitUsage || !strings.Contains(got.err, "say which") {
		t.Errorf("two run: exit code %d\n%s", got.code, got.err)
	}
	if out := command(t, url, "sync", "cancel", "full").done(t); !strings.Contains(out, "cancelled") {
		t.Errorf("said %s", out)
	}
	list := command(t, url, "sync", "list").done(t)
	if !strings.Contains(list, "full") || !strings.Contains(list, "cancelled") || !strings.Contains(list, "command line, ") || strings.Count(list, "\n") != 3 {
		t.Errorf("listed\n%s", list)
	}
	execSync(t, pool, `UPDATE syncs SET last_error = 'too bad' WHERE kind = 'full'`)
	execSync(t, pool, `INSERT INTO sync_errors (sync_id, module, record_id, error) SELECT id, 'Contacts', '77', 'too large' FROM syncs WHERE kind = 'full'`)
	id := decode[[]reconcile.Status](t, command(t, url, "--json", "sync", "list"))[1].ID.String()
	show := command(t, url, "sync", "show", id).done(t)
	for _, want := range []string{id, "too bad", "Accounts", "77", "too large", "1 not read"} {
		if !strings.Contains(show, want) {
			t.Errorf("does not show %q:\n%s", want, show)
		}
	}
}

func TestSyncAccount(t *testing.T) {
	t.Parallel()
	url, pool := openSyncs(t)
	if got := connected(t, url, "sync", "account", "Acme"); got.code != exitUsage || !strings.Contains(got.err, "want the digits of an account's id") {
		t.Errorf("exit code %d\n%s", got.code, got.err)
	}
	onceThere(t, pool, `UPDATE accounts SET whole_at = now() WHERE account_id IN ('7', '8') AND (SELECT count(*) FROM accounts) = 2`)
	out := connected(t, url, "sync", "account", "7", "8").done(t)
	if !strings.Contains(out, "2 of 2 accounts read") {
		t.Errorf("said %s", out)
	}
	reads := decode[[]reconcile.AccountRead](t, connected(t, url, "--json", "sync", "account", "--detach", "7"))
	if len(reads) != 1 || reads[0].AccountID != "7" || reads[0].WholeAt != nil {
		t.Errorf("asked again: %+v", reads)
	}
}

// On a terminal there is one line, and a shorter one leaves nothing of a longer.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &progress{out: &out, terminal: true}
	p.print("a long line", false)
	p.print("short", false)
	p.print("the end", true)
	if got, want := out.String(), "\ra long line\rshort      \rthe end\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	left, until := int64(125), time.Date(2026, 11, 22, 12, 0, 5, 0, time.UTC)
	for want, s := range map[string]reconcile.Status{
		" 42 %  1 read, 2 changed, 3 gone, 4 missed, about 2m5s left": {State: "running", Percent: 42, Read: 1, Changed: 2, Gone: 3, Missed: 4, SecondsLeft: &left},
		"  0 %  0 read, 0 changed, 0 gone, 0 missed, waits until 12:00:05 UTC for the day's API credits": {
			State: "running", WaitsFor: "the day's API credits", WaitsUntil: &until,
		},
		"  0 %  0 read, 0 changed, 0 gone, 0 missed, 5 not read, paused": {State: "paused", OpenErrors: 5},
	} {
		if got := progressLine(s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
