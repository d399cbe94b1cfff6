package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/localpg"
)

const (
	typedSecret = "the-secret-of-the-commands"
	typedToken  = "the-admin-token-of-the-commands"
)

// typed is what a command printed.
type typed struct {
	code     int
	out, err string
}

// command runs one as if it were typed, with DATABASE_URL=url unless that is "".
func command(t *testing.T, url string, args ...string) typed {
	t.Helper()
	environ := []string{"WEBHOOK_SECRET=" + typedSecret}
	if url != "" {
		environ = append(environ, "DATABASE_URL="+url)
	}
	return commandWith(t, environ, args...)
}

func commandWith(t *testing.T, environ []string, args ...string) typed {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(t.Context(), args, environ, &out, &errOut)
	return typed{code: code, out: out.String(), err: errOut.String()}
}

// done fails the test unless the command has done what it was told, without a word about it.
func (c typed) done(t *testing.T) string {
	t.Helper()
	if c.code != exitDone || c.err != "" {
		t.Fatalf("exit code %d\n%s%s", c.code, c.out, c.err)
	}
	return c.out
}

// decode reads what a command printed with --json.
func decode[T any](t *testing.T, c typed) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.out), &v); err != nil {
		t.Fatalf("%v in what was printed:\n%s%s", err, c.out, c.err)
	}
	return v
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	empty := dbtest.Empty(t)
	const nobody = "postgres://ada:hush@127.0.0.1:1/app?sslmode=disable"
	for name, c := range map[string]struct {
		url  string
		args string
		code int
		says string
	}{
		"help":                                 {args: "--help", code: exitDone, says: "Send a signed test webhook."},
		"help of a command":                    {args: "events --help", code: exitDone, says: "events replay [<id>"},
		"mcp of nobody":                        {args: "mcp", code: exitUsage, says: "missing flags: --user=USER or --all-users"},
		"nothing":                              {args: "", code: exitUsage, says: `memrelay: expected one of "dev", "serve"`},
		"a command that is not there":          {args: "fly", code: exitUsage, says: "memrelay: unexpected argument fly"},
		"half a command":                       {args: "events", code: exitUsage, says: `memrelay: expected one of "list"`},
		"a flag that is not there":             {args: "version --loud", code: exitUsage, says: "memrelay: unknown flag --loud"},
		"a status that is none":                {args: "events list --status=fine", code: exitUsage, says: "memrelay: --status must be one of"},
		"an id that is none":                   {args: "events show first", code: exitUsage, says: "first"},
		"no id":                                {args: "events replay", code: exitUsage, says: "<id>"},
		"a letter that is none":                {url: empty, args: "dead retry 42", code: exitUsage, says: "want event/ID or delivery/ID"},
		"a decision without a reason":          {url: empty, args: "dead discard event/1", code: exitUsage, says: "missing flags: --reason"},
		"a destruction that nobody meant":      {url: empty, args: "migrate down", code: exitUsage, says: "say --yes"},
		"a file that is not there":             {args: "send nothing.json", code: exitUsage, says: "nothing.json"},
		"a URL that is none":                   {args: "send --url=:", code: exitUsage, says: "missing protocol scheme"},
		"no database said":                     {args: "events list", code: exitFailed, says: "DATABASE_URL is required"},
		"no database said to migrate":          {args: "migrate up", code: exitFailed, says: "DATABASE_URL is required"},
		"no database said to migrate down":     {args: "migrate down --yes", code: exitFailed, says: "DATABASE_URL is required"},
		"no database said to ask for a status": {args: "migrate status", code: exitFailed, says: "DATABASE_URL is required"},
		"no database said to work":             {args: "work", code: exitFailed, says: "DATABASE_URL is required"},
		"no database there":                    {url: nobody, args: "events list", code: exitFailed, says: "connect to the database"},
		"no database there to migrate":         {url: nobody, args: "migrate up", code: exitFailed, says: "connect to the database"},
		"no database there to migrate down":    {url: nobody, args: "migrate down --yes", code: exitFailed, says: "connect to the database"},
		"no database there to have a status":   {url: nobody, args: "migrate status", code: exitFailed, says: "connect to the database"},
		"no database there to work":            {url: nobody, args: "work", code: exitFailed, says: "connect to the database"},
		"no schema":                            {url: empty, args: "dead list", code: exitFailed, says: "run `memrelay migrate up`"},
		"no schema to decide in":               {url: empty, args: "dead retry event/1", code: exitFailed, says: "run `memrelay migrate up`"},
		"no schema to work in":                 {url: empty, args: "work", code: exitFailed, says: "run `memrelay migrate up`"},
		"nobody to send to":                    {args: "send --url=http://127.0.0.1:1/", code: exitFailed, says: "send: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, c.url, strings.Fields(c.args)...)
			if got.code != c.code {
				t.Errorf("exit code %d, want %d", got.code, c.code)
			}
			where := got.err
			if c.code == exitDone {
				where = got.out
			}
			if !strings.Contains(where, c.says) {
				t.Errorf("does not say %q", c.says)
			}
			if strings.Contains(got.out+got.err, "hush") || strings.Contains(got.out+got.err, typedSecret) {
				t.Error("says a secret")
			}
			if t.Failed() {
				t.Logf("printed:\n%s\nsaid:\n%s", got.out, got.err)
			}
		})
	}
}

// A person mends all of them at once, not one after each start.
func TestWrongSettingsAreAllSaidAtOnce(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"serve", "work"} {
		got := commandWith(t, []string{
			"HTTP_ADDR=8000", "LOG_FORMAT=xml", "LOG_LEVEL=loud", "SHUTDOWN_TIMEOUT=soon", "WEBHOOK_SECRET=" + typedSecret, "WEBHOOK_MAX_RETRIES=0",
			"MEM0_WEBHOOK_URL=ftp://ada:hush@receiver.invalid/", "MEM0_WEBHOOK_TIMEOUT=46", "MEM0_WEBHOOK_EVENTS=memory_added,memory_forgotten",
			"OUTBOUND_ALLOW_PRIVATE=10.0.0.0/33",
		}, name)
		if got.code != exitFailed || got.out != "" {
			t.Errorf("%s: exit code %d, printed %q; want %d and nothing", name, got.code, got.out, exitFailed)
		}
		for _, want := range []string{
			"DATABASE_URL", "HTTP_ADDR", "LOG_FORMAT", "LOG_LEVEL", "SHUTDOWN_TIMEOUT", "WEBHOOK_MAX_RETRIES", "MEM0_WEBHOOK_URL", "MEM0_WEBHOOK_TIMEOUT",
			"memory_forgotten", "OUTBOUND_ALLOW_PRIVATE",
		} {
			if !strings.Contains(got.err, want) {
				t.Errorf("%s does not say what is wrong with %s", name, want)
			}
		}
		if strings.Contains(got.err, "hush") || strings.Contains(got.err, typedSecret) {
			t.Errorf("%s says a secret", name)
		}
		if t.Failed() {
			t.Log(got.err)
		}
	}
}

func TestServeNeedsASecret(t *testing.T) {
	t.Parallel()
	got := commandWith(t, []string{"DATABASE_URL=postgres://nowhere.invalid/"}, "serve")
	if got.code != exitFailed || !strings.Contains(got.err, "WEBHOOK_SECRET is required to serve") {
		t.Errorf("exit code %d\n%s", got.code, got.err)
	}
	got = commandWith(t, nil, "send")
	if got.code != exitUsage || !strings.Contains(got.err, "WEBHOOK_SECRET is not set") {
		t.Errorf("exit code %d\n%s", got.code, got.err)
	}
}

func TestServeNeedsItsAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	got := commandWith(t, []string{"DATABASE_URL=postgres://nowhere.invalid/", "WEBHOOK_SECRET=" + typedSecret, "HTTP_ADDR=" + taken.Addr().String()}, "serve")
	if got.code != exitFailed || !strings.Contains(got.err, "address already in use") {
		t.Errorf("exit code %d\n%s", got.code, got.err)
	}
}

// An event that was acknowledged must survive a power cut.
func TestServeRefusesADatabaseThatForgets(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool := poolOn(t, url)
	if one[bool](t, pool, `SELECT current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off'`) {
		t.Skip("the tests' server forgets nothing")
	}
	for _, name := range []string{"serve", "work"} {
		got := commandWith(t, []string{"DATABASE_URL=" + url, "WEBHOOK_SECRET=" + typedSecret, "HTTP_ADDR=127.0.0.1:0", "WEBHOOK_SECERT=x"}, name)
		if got.code != exitFailed || !strings.Contains(got.err, "fsync is off") {
			t.Errorf("%s: exit code %d\n%s", name, got.code, got.err)
		}
		if !strings.Contains(got.err, "setting has no effect") || !strings.Contains(got.err, "WEBHOOK_SECERT") {
			t.Errorf("%s does not warn of a setting that does not exist:\n%s", name, got.err)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if got := command(t, "", "version").done(t); got != "memrelay dev\n" {
		t.Errorf("printed %q", got)
	}
	if diff := cmp.Diff(map[string]string{"version": "dev"}, decode[map[string]string](t, command(t, "", "version", "--json"))); diff != "" {
		t.Errorf("printed as JSON (-want +got):\n%s", diff)
	}
}

func TestSecretIsFreshAndAsStandardWebhooksWritesIt(t *testing.T) {
	t.Parallel()
	first, second := command(t, "", "secret").done(t), decode[map[string]string](t, command(t, "", "--json", "secret"))["secret"]
	for _, secret := range []string{strings.TrimSpace(first), second} {
		coded, ok := strings.CutPrefix(secret, "whsec_")
		if key, err := base64.StdEncoding.DecodeString(coded); !ok || err != nil || len(key) != 32 {
			t.Errorf("%q is not whsec_ and 32 bytes", secret)
		}
	}
	if strings.TrimSpace(first) == second {
		t.Error("the same secret twice")
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	type migration struct {
		Version int64  `json:"version"`
		Name    string `json:"name"`
		Applied bool   `json:"applied"`
	}
	// status returns how many migrations there are and how many of them, the first ones, are applied.
	status := func() (all, applied int) {
		t.Helper()
		list := decode[[]migration](t, command(t, url, "migrate", "status", "--json"))
		for i, m := range list {
			if m.Version != int64(i+1) || m.Name == "" {
				t.Errorf("migration %d is %+v", i+1, m)
			}
			if m.Applied && i == applied {
				applied++
			} else if m.Applied {
				t.Errorf("migration %d is applied and the one before is not", m.Version)
			}
		}
		return len(list), applied
	}
	all, applied := status()
	if applied != 0 || all < 7 {
		t.Fatalf("%d of %d are applied to an empty database", applied, all)
	}
	for range 2 { // the second finds nothing to do
		if got := command(t, url, "migrate", "up").done(t); got != "the schema is at the newest version\n" {
			t.Errorf("printed %q", got)
		}
		if _, applied = status(); applied != all {
			t.Errorf("%d of %d are applied", applied, all)
		}
	}
	table := command(t, url, "migrate", "status").done(t)
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != all+1 || !regexp.MustCompile(`^1 +true +river$`).MatchString(lines[1]) {
		t.Errorf("printed:\n%s", table)
	}

	command(t, url, "migrate", "down", "--yes").done(t)
	if _, applied = status(); applied != all-1 {
		t.Errorf("%d of %d are applied after one was taken back", applied, all)
	}
	if got := command(t, url, "events", "list"); got.code != exitFailed || !strings.Contains(got.err, "migrate up") {
		t.Errorf("an old schema: exit code %d\n%s", got.code, got.err)
	}
	command(t, url, "migrate", "up").done(t)
	if diff := cmp.Diff(map[string]string{"status": "ok"}, decode[map[string]string](t, command(t, url, "--json", "migrate", "down", "--yes", "--all"))); diff != "" {
		t.Errorf("printed as JSON (-want +got):\n%s", diff)
	}
	if _, applied = status(); applied != 0 {
		t.Errorf("%d are applied after all were taken back", applied)
	}
	if n := one[int](t, poolOn(t, url), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version'`); n != 0 {
		t.Errorf("%d tables are left", n)
	}
	if got := decode[map[string]string](t, command(t, url, "migrate", "up", "--json"))["status"]; got != "ok" {
		t.Errorf("status %q", got)
	}
	if _, applied = status(); applied != all {
		t.Errorf("%d of %d are applied", applied, all)
	}
}

// desk is a running program, and a person who types commands about it.
type desk struct {
	url, base string
	pool      *pgxpool.Pool
}

// newDesk runs the program on a database of its own, with a receiver that
// answers what answer says.
func newDesk(t *testing.T, answer http.HandlerFunc) *desk {
	t.Helper()
	receiver := httptest.NewServer(answer)
	t.Cleanup(receiver.Close)
	d := &desk{url: dbtest.URL(t)}
	cfg, _, err := config.FromEnv([]string{
		"DATABASE_URL=" + d.url, "WEBHOOK_SECRET=" + typedSecret, "WEBHOOK_DEBOUNCE=0", "SHUTDOWN_TIMEOUT=5", "ADMIN_TOKEN=" + typedToken,
		"MEM0_WEBHOOK_URL=" + receiver.URL, "OUTBOUND_ALLOW_PRIVATE=127.0.0.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.New(t.Context(), cfg, app.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Version: "test", Work: true})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the program ended with: %v", err)
		}
		a.Close()
	})
	d.base, d.pool = "http://"+ln.Addr().String(), poolOn(t, d.url)
	return d
}

func poolOn(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// until waits until the query says true.
func (d *desk) until(t *testing.T, what, query string, args ...any) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !one[bool](t, d.pool, query, args...) {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}

// settled waits until nothing is left to do.
func (d *desk) settled(t *testing.T) {
	t.Helper()
	d.until(t, "everything is done", `
		SELECT NOT EXISTS (SELECT FROM events WHERE status IN ('received', 'routed', 'retrying'))
		   AND NOT EXISTS (SELECT FROM deliveries WHERE status IN ('pending', 'retrying'))
		   AND NOT EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)`)
}

// send sends a body by the command of that name.
func (d *desk) send(t *testing.T, id, body string) typed {
	t.Helper()
	file := filepath.Join(t.TempDir(), "body.json")
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return command(t, "", "send", file, "--url="+d.base+"/webhooks/zoho", "--id="+id)
}

func TestSend(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	type answer struct {
		Status string `json:"status"`
		Code   string `json:"code"`
	}
	to := "--url=" + d.base + "/webhooks/zoho"
	for _, c := range []struct {
		name    string
		environ []string
		args    []string
		want    string
		code    int
	}{
		{"the sample", []string{"WEBHOOK_SECRET=" + typedSecret}, []string{"send", to, "--id=evt-1"}, "accepted", exitDone},
		{"the sample again", []string{"WEBHOOK_SECRET=" + typedSecret}, []string{"send", to, "--id=evt-1"}, "duplicate", exitDone},
		{"the first of several secrets", []string{"WEBHOOK_SECRET=" + typedSecret + ",other"}, []string{"send", to, "--id=evt-2"}, "accepted", exitDone},
		{"another secret", []string{"WEBHOOK_SECRET=other," + typedSecret}, []string{"send", to, "--id=evt-3"}, "", exitFailed},
	} {
		got := commandWith(t, c.environ, c.args...)
		if got.code != c.code {
			t.Errorf("%s: exit code %d, want %d\n%s", c.name, got.code, c.code, got.err)
		}
		if c.code == exitDone {
			if a := decode[answer](t, got); a.Status != c.want {
				t.Errorf("%s: answered %+v, want %s", c.name, a, c.want)
			}
			continue
		}
		if !strings.Contains(got.out, `"code":"unauthorized"`) || !strings.Contains(got.err, "answered 401 Unauthorized") {
			t.Errorf("%s: printed %s, said %s", c.name, got.out, got.err)
		}
	}
	if got := d.send(t, "evt-4", `{"operation":"update","module":"Contacts","data":[{"id":"8","Last_Name":"Roe","Account_Name":{"id":"77"}}]}`); got.code != exitDone {
		t.Errorf("a file: exit code %d\n%s%s", got.code, got.out, got.err)
	}
	ids := one[[]string](t, d.pool, `SELECT array_agg(event_id ORDER BY event_id) FROM events`)
	if diff := cmp.Diff([]string{"evt-1", "evt-2", "evt-4"}, ids); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

func TestSendDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is the sender's hanging up noticed
		<-r.Context().Done()
	}))
	t.Cleanup(slow.Close)
	if got := command(t, "", "send", "--url="+slow.URL, "--wait=50ms"); got.code != exitFailed || !strings.Contains(got.err, "deadline exceeded") {
		t.Errorf("exit code %d\n%s", got.code, got.err)
	}
}

type listedEvent struct {
	ID        int64  `json:"id"`
	EventID   string `json:"event_id"`
	Module    string `json:"module"`
	Status    string `json:"status"`
	LastError string `json:"last_error"`
}

func TestEventsList(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	if got := command(t, d.url, "events", "list", "--json").done(t); strings.TrimSpace(got) != "[]" {
		t.Errorf("no events are printed as %q, want an empty list", got)
	}
	for n := range 5 {
		d.send(t, fmt.Sprint("evt-", n), fmt.Sprintf(`{"operation":"create","module":"Contacts","data":[{"id":"%d","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`, n)).done(t)
	}
	d.send(t, "evt-lead", `{"operation":"create","module":"Leads","data":[{"id":"9","Last_Name":"Doe"}]}`).done(t)
	d.settled(t)

	list := func(args ...string) []string {
		t.Helper()
		var ids []string
		for _, e := range decode[[]listedEvent](t, command(t, d.url, append([]string{"events", "list", "--json"}, args...)...)) {
			ids = append(ids, e.EventID+" "+e.Status)
		}
		return ids
	}
	for _, c := range []struct {
		name, args string
		want       []string
	}{
		{"newest first", "", []string{"evt-lead ignored", "evt-4 processed", "evt-3 processed", "evt-2 processed", "evt-1 processed", "evt-0 processed"}},
		{"a page", "--limit=2", []string{"evt-lead ignored", "evt-4 processed"}},
		{"the next page", "--limit=2 --before=5", []string{"evt-3 processed", "evt-2 processed"}},
		{"of one status", "--status=ignored", []string{"evt-lead ignored"}},
		{"of a status that none has", "--status=dead", nil},
	} {
		if diff := cmp.Diff(c.want, list(strings.Fields(c.args)...), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}

	table := command(t, d.url, "events", "list", "--limit=1").done(t)
	if !regexp.MustCompile(`(?s)^ID +RECEIVED +STATUS +OPERATION +MODULE +RECORD +ACCOUNT +LAST ERROR *\n6 +\S+ \S+ +ignored +create +Leads +9 *\n$`).MatchString(table) {
		t.Errorf("printed:\n%s", table)
	}
}

type shownEvent struct {
	Event struct {
		EventID string `json:"event_id"`
		Status  string `json:"status"`
	} `json:"event"`
	Timeline []struct {
		Station string `json:"station"`
		What    string `json:"what"`
	} `json:"timeline"`
	Body string `json:"body"`
}

func (e shownEvent) steps() []string {
	var steps []string
	for _, s := range e.Timeline {
		steps = append(steps, s.Station+": "+s.What)
	}
	return steps
}

func TestEventsShow(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	const body = `{"operation":"create","module":"Contacts","data":[{"id":"1","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`
	d.send(t, "evt-1", body).done(t)
	d.settled(t)

	shown := decode[shownEvent](t, command(t, d.url, "events", "show", "1", "--body", "--json"))
	if shown.Event.EventID != "evt-1" || shown.Event.Status != "processed" || shown.Body != body {
		t.Errorf("shown: %+v", shown)
	}
	if diff := cmp.Diff([]string{
		"inbound: received", "process: routed", "process: processed", "memory: memory added",
		"outbound: told", "outbound: relayed", "outbound: attempt 1", "outbound: delivered",
	}, shown.steps()); diff != "" {
		t.Errorf("timeline (-want +got):\n%s", diff)
	}
	text := command(t, d.url, "events", "show", "1").done(t)
	if !strings.HasPrefix(text, "event 1: create Contacts 1, processed\n\n") || !regexp.MustCompile(`(?m) outbound +attempt 1 +env: 204 in `).MatchString(text) || strings.Contains(text, body) {
		t.Errorf("printed:\n%s", text)
	}
	if text := command(t, d.url, "events", "show", "1", "--body").done(t); !strings.HasSuffix(text, "\n\n"+body+"\n") {
		t.Errorf("printed:\n%s", text)
	}

	if got := command(t, d.url, "events", "show", "99"); got.code != exitFailed || !strings.HasPrefix(got.err, "memrelay: event 99: There is no such thing. (request_id ") {
		t.Errorf("an event that is not there: exit code %d\n%s", got.code, got.err)
	}
	execute(t, d.url, `DELETE FROM event_bodies`)
	if got := command(t, d.url, "events", "show", "1", "--body"); got.code != exitFailed || !strings.Contains(got.err, "What this event came in is no longer stored") {
		t.Errorf("a body that is not there: exit code %d\n%s", got.code, got.err)
	}
	command(t, d.url, "events", "show", "1").done(t)
}

func TestEventsReplay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	d.send(t, "evt-1", `{"operation":"create","module":"Contacts","data":[{"id":"1","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`).done(t)
	d.send(t, "evt-2", `{"operation":"create","module":"Leads","data":[{"id":"2","Last_Name":"Roe","Account_Name":{"id":"77"}}]}`).done(t)
	d.settled(t)

	// A replay goes on after one that cannot be.
	got := command(t, d.url, "events", "replay", "1", "99", "2", "--reason=the mapping was wrong")
	if got.code != exitFailed || !strings.HasPrefix(got.err, "memrelay: event 99: There is no such thing. (request_id ") {
		t.Errorf("exit code %d\n%s", got.code, got.err)
	}
	if !regexp.MustCompile(`^event 1 runs again, replay [0-9a-f-]{36}\nevent 2 runs again, replay [0-9a-f-]{36}\n$`).MatchString(got.out) {
		t.Errorf("printed:\n%s", got.out)
	}
	d.settled(t)
	// The processed one changes nothing, the ignored one is remembered now.
	for id, want := range map[string][]string{
		"1": {"inbound: received", "memory: memory added", "outbound: told", "outbound: relayed", "outbound: attempt 1", "outbound: delivered", "operator: event.replay", "inbound: replayed", "process: routed", "process: processed"},
		"2": {"inbound: received", "operator: event.replay", "inbound: replayed", "process: routed", "process: processed", "memory: memory added", "outbound: told", "outbound: relayed", "outbound: attempt 1", "outbound: delivered"},
	} {
		shown := decode[shownEvent](t, command(t, d.url, "events", "show", id, "--json"))
		if diff := cmp.Diff(want, shown.steps()); diff != "" {
			t.Errorf("timeline of event %s (-want +got):\n%s", id, diff)
		}
	}
	if n := one[int](t, d.pool, `SELECT count(*) FROM memories`); n != 2 {
		t.Errorf("%d memories, want 2", n)
	}

	replays := decode[map[string]string](t, command(t, d.url, "events", "replay", "1", "--json"))
	if len(replays) != 1 || len(replays["1"]) != 36 {
		t.Errorf("printed as JSON: %v", replays)
	}
	d.settled(t)
	actions := one[[]string](t, d.pool, `SELECT array_agg(format('%s %s %s', starts_with(actor, 'command line, '), action, object) ORDER BY id) FROM audit_log`)
	if diff := cmp.Diff([]string{"t event.replay event/1", "t event.replay event/2", "t event.replay event/1"}, actions); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
	if n := one[int](t, d.pool, `SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'backlog'`); n != 0 {
		t.Errorf("the backlog counter is %d with nothing waiting", n)
	}
}

func TestDead(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	healthy := false
	d := newDesk(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if !healthy {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	if got := command(t, d.url, "dead", "list", "--json").done(t); strings.TrimSpace(got) != "[]" {
		t.Errorf("no letters are printed as %q, want an empty list", got)
	}
	for n := range 3 {
		d.send(t, fmt.Sprint("evt-", n), fmt.Sprintf(`{"operation":"create","module":"Contacts","data":[{"id":"%d","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`, n)).done(t)
	}
	d.settled(t)
	execute(t, d.url, `UPDATE events SET status = 'dead', failures = 3, last_error = 'of the test', processed_at = now() + interval '1 minute' WHERE id = 1`)

	type letter struct{ ID, Kind, Reason, What string }
	list := func(args ...string) map[string]string {
		t.Helper()
		letters := map[string]string{}
		for _, l := range decode[[]letter](t, command(t, d.url, append([]string{"dead", "list", "--json"}, args...)...)) {
			letters[l.ID] = l.Kind + ": " + l.Reason
		}
		return letters
	}
	const refused = "delivery: answered 400 Bad Request"
	if diff := cmp.Diff(map[string]string{"event/1": "event: of the test", "delivery/1": refused, "delivery/2": refused, "delivery/3": refused}, list()); diff != "" {
		t.Errorf("dead letters (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"delivery/3": refused}, list("--limit=1")); diff != "" {
		t.Errorf("the newest (-want +got):\n%s", diff)
	}
	table := command(t, d.url, "dead", "list").done(t)
	if !regexp.MustCompile(`(?m)^event/1 +\S+ \S+ +3 +create Contacts 0 +of the test$`).MatchString(table) {
		t.Errorf("printed:\n%s", table)
	}

	mu.Lock()
	healthy = true
	mu.Unlock()
	got := command(t, d.url, "dead", "retry", "event/1", "delivery/99", "delivery/1")
	if got.code != exitFailed || got.out != "event/1 tried again\ndelivery/1 tried again\n" || !strings.HasPrefix(got.err, "memrelay: delivery/99: Nobody has to decide about this: it is not dead. (request_id ") {
		t.Errorf("retry: exit code %d, printed %q, said %q", got.code, got.out, got.err)
	}
	d.settled(t)
	if got := command(t, d.url, "dead", "discard", "delivery/2", "--reason=a test").done(t); got != "delivery/2 discarded\n" {
		t.Errorf("discard printed %q", got)
	}
	if got := command(t, d.url, "dead", "discard", "delivery/3", "delivery/2", "--reason=a test", "--json"); got.code != exitFailed ||
		!cmp.Equal(map[string][]string{"discarded": {"delivery/3"}}, decode[map[string][]string](t, got)) {
		t.Errorf("discard: exit code %d\n%s%s", got.code, got.out, got.err)
	}
	if diff := cmp.Diff(map[string]string{}, list()); diff != "" {
		t.Errorf("dead letters in the end (-want +got):\n%s", diff)
	}
	states := one[[]string](t, d.pool, `SELECT array_agg(status ORDER BY id) FROM deliveries`)
	if diff := cmp.Diff([]string{"delivered", "discarded", "discarded"}, states); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

// devHome returns a folder that the database's user may enter.
func devHome(t *testing.T) string {
	t.Helper()
	if _, err := localpg.Find(os.Getenv); errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip("needs initdb and postgres, which this machine does not have")
	}
	dir, err := os.MkdirTemp(localpg.ThrowawayHome(), "memrelay-dev-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// screen is what a long command has written so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// find waits until the pattern is on the screen, and returns its first group.
func (s *screen) find(t *testing.T, pattern string) string {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		text := s.text.String()
		s.mu.Unlock()
		if found := regexp.MustCompile(pattern).FindStringSubmatch(text); found != nil {
			return found[1]
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute in vain for %s in\n%s", pattern, text)
		}
	}
}

// long runs a command that goes on until stop is called, which checks that it
// ended as it should.
func long(t *testing.T, environ []string, args ...string) (out, errOut *screen, stop func()) {
	t.Helper()
	out, errOut = &screen{}, &screen{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, args, environ, out, errOut) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("%v: exit code %d\n%s", args, code, errOut.text.String())
		}
	})
	t.Cleanup(stop)
	return out, errOut, stop
}

// TestDevServeAndWork goes from an empty folder to three programs on one
// database, which dev brings.
func TestDevServeAndWork(t *testing.T) {
	t.Parallel()
	home := devHome(t)
	environ := []string{"MEMRELAY_HOME=" + home, "PATH=" + os.Getenv("PATH"), "HTTP_ADDR=127.0.0.1:0", "LOG_LEVEL=info", "WEBHOOK_UNHEARD_OF=1"}
	out, errOut, stopDev := long(t, environ, "dev")
	errOut.find(t, `(setting has no effect).*WEBHOOK_UNHEARD_OF`)
	base := out.find(t, `address +(http://127\.0\.0\.1:\d+)\n`)
	secret := out.find(t, `secret +WEBHOOK_SECRET=(whsec_\S+)\n`)
	url := out.find(t, `database +(postgres://\S+)\n`)
	if got := commandWith(t, []string{"WEBHOOK_SECRET=" + secret}, "send", "--url="+base+"/webhooks/zoho", "--id=evt-1"); got.code != exitDone {
		t.Fatalf("send to dev: exit code %d\n%s%s", got.code, got.out, got.err)
	}
	// What can be pasted is signed as it must be.
	signature, body := out.find(t, `X-Zoho-Signature: ([0-9a-f]{64})'`), out.find(t, `-d '(.*)'\n`)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/webhooks/zoho", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "X-Zoho-Signature": {signature}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the pasted command is answered %s", resp.Status)
	}

	token, query := out.find(t, `Authorization: Bearer (\S+)'`), out.find(t, `-d '(\{"user_id".*)'\n`)
	req, err = http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/memories/search", strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}}
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the pasted search is answered %s", resp.Status)
	}

	serving := []string{"DATABASE_URL=" + url, "WEBHOOK_SECRET=" + typedSecret, "HTTP_ADDR=127.0.0.1:0"}
	_, served, stopServe := long(t, serving, "serve", "--no-workers")
	_, worked, stopWork := long(t, serving, "work")
	addr := served.find(t, `"msg":"listening","address":"([^"]+)"`)
	d := &desk{url: url, base: "http://" + addr, pool: poolOn(t, url)}
	d.until(t, "two work and one serves", `SELECT count(*) FILTER (WHERE workers > 0) = 2 AND count(*) = 3 FROM processes`)
	d.until(t, "dev has worked what it was sent", `SELECT count(*) = 2 AND bool_and(status = 'processed') FROM events`)
	d.send(t, "evt-2", `{"operation":"create","module":"Contacts","data":[{"id":"2","Last_Name":"Roe","Account_Name":{"id":"77"}}]}`).done(t)
	d.until(t, "the event is processed", `SELECT status = 'processed' FROM events WHERE event_id = 'evt-2'`)
	stopServe()
	stopWork()
	served.find(t, `"msg":"(stopped)"`)
	worked.find(t, `"msg":"(stopped)"`)
	d.pool.Close()
	stopDev()

	// The next day the same secret opens the same data.
	out, _, stopDev = long(t, environ, "dev")
	if again := out.find(t, `secret +WEBHOOK_SECRET=(whsec_\S+)\n`); again != secret {
		t.Errorf("the secret is %s, was %s", again, secret)
	}
	if info, err := os.Stat(filepath.Join(home, "webhook-secret")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret's file: %v, %v", info.Mode(), err)
	}
	if events := decode[[]listedEvent](t, command(t, url, "events", "list", "--json")); len(events) != 3 {
		t.Errorf("%d events are still there, want 3", len(events))
	}
	stopDev()
}

// Whoever stops a program that is still starting has stopped it, no more.
func TestStopWhileStartingIsAStop(t *testing.T) {
	t.Parallel()
	url, home := dbtest.URL(t), t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, name := range []string{"serve", "work", "dev"} {
		var out, errOut bytes.Buffer
		environ := []string{"DATABASE_URL=" + url, "MEMRELAY_HOME=" + home, "WEBHOOK_SECRET=" + typedSecret, "HTTP_ADDR=127.0.0.1:0"}
		if code := run(ctx, []string{name}, environ, &out, &errOut); code != exitDone {
			t.Errorf("%s: exit code %d\n%s", name, code, errOut.String())
		}
	}
	// What was to be done once and was not is not done.
	var out, errOut bytes.Buffer
	if code := run(ctx, []string{"dev", "--once"}, []string{"DATABASE_URL=" + url, "MEMRELAY_HOME=" + home}, &out, &errOut); code != exitFailed {
		t.Errorf("dev --once: exit code %d, want %d", code, exitFailed)
	}
}

func TestDevOnce(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	got := commandWith(t, []string{"DATABASE_URL=" + url, "MEMRELAY_HOME=" + t.TempDir()}, "dev", "--once")
	if got.code != exitDone || !strings.Contains(got.out, "The walk of one event") || strings.Contains(got.out, "DIFFERS") {
		t.Errorf("exit code %d\n%s%s", got.code, got.out, got.err)
	}
}

func TestDevSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	url, home := dbtest.URL(t), t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	occupied := filepath.Join(home, "file")
	if err := os.WriteFile(occupied, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		environ []string
		says    string
	}{
		"a database that is no URL":  {[]string{"DATABASE_URL=host=db password=hush"}, "DATABASE_URL is not a URL"},
		"settings that are wrong":    {[]string{"DATABASE_URL=" + url, "LOG_FORMAT=xml", "WEBHOOK_MAX_RETRIES=0"}, "LOG_FORMAT"},
		"an address that is taken":   {[]string{"DATABASE_URL=" + url, "HTTP_ADDR=" + taken.Addr().String()}, "address already in use"},
		"a home that is a file":      {[]string{"DATABASE_URL=" + url, "MEMRELAY_HOME=" + occupied}, "webhook-secret"},
		"a database that is not up":  {[]string{"DATABASE_URL=postgres://127.0.0.1:1/app?sslmode=disable"}, "connect to the database"},
		"a folder without a program": {[]string{"MEMRELAY_POSTGRES_BIN=" + home}, "MEMRELAY_POSTGRES_BIN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := commandWith(t, append([]string{"MEMRELAY_HOME=" + home}, c.environ...), "dev")
			if got.code != exitFailed || !strings.Contains(got.err, c.says) || strings.Contains(got.err, "hush") {
				t.Errorf("exit code %d\n%s%s", got.code, got.out, got.err)
			}
		})
	}
}

// TestDevWithZoho sees a Zoho read whole, its channels registered, and what is
// changed there arrive.
func TestDevWithZoho(t *testing.T) {
	t.Parallel()
	environ := []string{"MEMRELAY_HOME=" + devHome(t), "PATH=" + os.Getenv("PATH"), "HTTP_ADDR=127.0.0.1:0"}
	out, _, stop := long(t, environ, "dev", "--zoho")
	url := out.find(t, `psql '(postgres://[^']+)'`)
	if again := out.find(t, `DATABASE_URL='(postgres://[^']+)'`); again != url {
		t.Errorf("one database is at %s, another at %s", again, url)
	}
	d := &desk{url: url, pool: poolOn(t, url)}
	d.until(t, "all of it is remembered", `SELECT count(*) = 100 FROM memories`)
	d.until(t, "a change has been told and is remembered", `SELECT EXISTS (SELECT FROM events WHERE source = 'zoho' AND status = 'processed')
		AND EXISTS (SELECT FROM memories WHERE content LIKE '%Title: Buyer, since%')`)
	d.pool.Close()
	stop()
}
