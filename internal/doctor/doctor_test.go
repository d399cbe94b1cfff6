package doctor

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// good is a secret that nobody guesses.
const good = "uN7tq0Zb4YxP1sLw9RkD3vEcHg"

// room is an installation that is examined.
type room struct {
	t       *testing.T
	url     string
	options Options
}

// newRoom is one with a database and settings that are well.
func newRoom(t *testing.T, settings ...string) *room {
	t.Helper()
	return newRoomAt(t, dbtest.URL(t), settings...)
}

func newRoomAt(t *testing.T, url string, settings ...string) *room {
	t.Helper()
	environ := []string{"WEBHOOK_SECRET=" + good, "MEMRELAY_KEY=" + good}
	if url != "" {
		environ = append(environ, "DATABASE_URL="+url)
	}
	return &room{t: t, url: url, options: Options{Environ: append(environ, settings...), Now: time.Now, Transport: http.DefaultTransport}}
}

// exec changes the database.
func (r *room) exec(statements ...string) {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(r.t.Context())
	for _, s := range statements {
		if _, err := conn.Exec(r.t.Context(), s); err != nil {
			r.t.Fatalf("%s: %v", s, err)
		}
	}
}

// examine makes checks.
func (r *room) examine(only ...string) []Finding {
	r.t.Helper()
	r.options.Only = only
	found, err := Examine(r.t.Context(), r.options)
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// finds fails the test unless a check has found this, of this status, and says what to do.
func (r *room) finds(check string, status Status, what string) {
	r.t.Helper()
	found := r.examine(check)
	if !has(found, status, what) {
		r.t.Errorf("%s did not find %s: %q, but %s", check, status, what, lines(found))
	}
}

// doesNotFind fails the test if a check has found this.
func (r *room) doesNotFind(check, what string) {
	r.t.Helper()
	found := r.examine(check)
	if slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.Found, what) }) {
		r.t.Errorf("%s found %q: %s", check, what, lines(found))
	}
}

func has(found []Finding, status Status, what string) bool {
	return slices.ContainsFunc(found, func(f Finding) bool {
		helps := f.Remedy != "" || f.Status == OK || f.Status == Skipped || f.Status == Note
		return f.Status == status && strings.Contains(f.Found, what) && helps
	})
}

func lines(found []Finding) string {
	var text strings.Builder
	for _, f := range found {
		text.WriteString("\n  " + string(f.Status) + ": " + f.Found + " => " + f.Remedy)
	}
	return text.String()
}

func TestAGoodInstallationHasNoWarnings(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	// The server of the tests is not durable, and it is shared with others.
	notOurs := []string{"fsync", "synchronous_commit", "full_page_writes", "a commit takes", "a round trip", "connections", "a transaction has been open"}
	for _, f := range r.examine() {
		if (f.Status == Warning || f.Status == Failure) && !slices.ContainsFunc(notOurs, func(s string) bool { return strings.Contains(f.Found, s) }) {
			t.Errorf("%s: %s: %s", f.Check, f.Status, f.Found)
		}
	}
}

func TestEveryCheckSaysSomething(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*room{
		"well": newRoom(t), "without a schema": newRoomAt(t, dbtest.Empty(t)), "without a database": newRoomAt(t, ""),
		"wrong settings": newRoom(t, "WEBHOOK_MAX_RETRIES=0"),
	} {
		found := r.examine()
		var checks []string
		for _, f := range found {
			if !slices.Contains(checks, f.Check) {
				checks = append(checks, f.Check)
			}
			if f.Found == "" {
				t.Errorf("%s: %s found nothing", name, f.Check)
			}
			if (f.Status == Warning || f.Status == Failure) && f.Remedy == "" {
				t.Errorf("%s: nothing is to be done about %q", name, f.Found)
			}
		}
		if !slices.Equal(checks, Names()) {
			t.Errorf("%s: %v, want %v", name, checks, Names())
		}
	}
}

func TestWhatCannotBeLookedAtIsSkipped(t *testing.T) {
	t.Parallel()
	const nobody = "postgres://ada:hush-hush@127.0.0.1:1/app?sslmode=disable"
	away, empty, wrong := newRoomAt(t, nobody), newRoomAt(t, dbtest.Empty(t)), newRoom(t, "WEBHOOK_MAX_RETRIES=0")
	for _, c := range []struct {
		room   *room
		check  string
		status Status
		what   string
	}{
		{away, "database", Failure, "cannot be reached"},
		{away, "work", Skipped, "the database cannot be reached"},
		{away, "settings", OK, "all settings can be read"},
		{away, "memory", OK, "Postgres alone"},
		{empty, "database", OK, "Postgres"},
		{empty, "migrations", Failure, "are missing"},
		{empty, "work", Skipped, "the schema is not the one of this program"},
		{wrong, "settings", Failure, "WEBHOOK_MAX_RETRIES"},
		{wrong, "endpoints", Skipped, "the settings are wrong"},
		{wrong, "work", OK, "what comes in is worked"},
		{newRoomAt(t, ""), "database", Failure, "DATABASE_URL is not set"},
		{newRoomAt(t, ""), "inbound", Note, "WEBHOOK_BASE_URL is not set"},
	} {
		c.room.finds(c.check, c.status, c.what)
	}
}

func TestNoCheckEndsTheOthers(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	found := run(t.Context(), &patient{}, []check{
		{"panics", nil, time.Minute, func(context.Context, *patient, *notes) { panic("broken") }},
		{"hangs", nil, time.Millisecond, func(_ context.Context, _ *patient, n *notes) {
			n.ok("the first half")
			<-never
		}},
		{"obeys", nil, time.Millisecond, func(ctx context.Context, _ *patient, n *notes) {
			<-ctx.Done()
			n.unseen("it", ctx.Err())
		}},
		{"well", nil, time.Minute, func(_ context.Context, _ *patient, n *notes) { n.ok("fine") }},
	})
	for _, want := range []struct {
		check  string
		status Status
		what   string
	}{
		{"panics", Failure, "the check itself broke off: broken"},
		{"hangs", OK, "the first half"},
		{"hangs", Failure, "did not end within 1ms"},
		{"obeys", Warning, "it could not be looked at: context deadline exceeded"},
		{"well", OK, "fine"},
	} {
		of := slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.Check != want.check })
		if !has(of, want.status, want.what) {
			t.Errorf("%s did not find %s: %q, but %s", want.check, want.status, want.what, lines(of))
		}
	}
}

func TestUnknownCheck(t *testing.T) {
	t.Parallel()
	if _, err := Examine(t.Context(), Options{Only: []string{"clock", "weather"}}); err == nil || !strings.Contains(err.Error(), `"weather"`) {
		t.Errorf("error %v", err)
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	const hush = "hush/hush+hush=hush"
	r := newRoomAt(t, "postgres://ada:database-hush@127.0.0.1:1/app?sslmode=disable", "WEBHOOK_TOKEN=token-hush", "ADMIN_TOKEN=admin-hush-admin-hush",
		"MEM0_WEBHOOK_URL=https://ada:url-hush@127.0.0.1:1/x?key=query-hush", "MEM0_WEBHOOK_SECRET="+hush, "ZOHO_CLIENT_ID=1000.A", "ZOHO_CLIENT_SECRET=client-hush", "ZOHO_REFRESH_TOKEN=refresh-hush",
		"ZOHO_ACCOUNTS_URL=http://127.0.0.1:1", "MEMORY_BACKEND=mem0", "MEM0_API_KEY=mem0-hush", "MEM0_URL=http://127.0.0.1:1")
	// Whoever answers may say what was sent, in any spelling.
	r.options.Transport = refuses{errors.New("refused client-hush and refresh-hush and " + hush + " and hush%2Fhush%2Bhush%3Dhush")}
	if text := lines(r.examine()); strings.Contains(text, "hush") || strings.Contains(text, good) {
		t.Errorf("a secret stands in it:%s", text)
	}
}

// refuses carries nothing.
type refuses struct{ err error }

func (r refuses) RoundTrip(*http.Request) (*http.Response, error) { return nil, r.err }
