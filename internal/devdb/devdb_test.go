package devdb_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/devdb"
	"github.com/memrelay/memrelay/internal/localpg"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// environment looks names up in a list of names and values.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func open(t *testing.T, getenv func(string) string) *devdb.Database {
	t.Helper()
	d, err := devdb.Open(t.Context(), getenv, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ask[T any](t *testing.T, url, query string) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if err := conn.QueryRow(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return v
}

func TestDatabaseURLWins(t *testing.T) {
	t.Parallel()
	const given = "postgres://ada@nowhere.invalid/app?sslmode=disable"
	d := open(t, environment("DATABASE_URL", given, "MEMRELAY_HOME", "/var/lib/somewhere"))
	if d.URL != given || d.Described != given || d.Home != "/var/lib/somewhere" {
		t.Errorf("got %+v", d)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPasswordIsNotDescribed(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"postgres://ada:hush@db:5433/app":                            "postgres://ada:xxxxx@db:5433/app",
		"postgresql://ada@db/app?password=hush&sslmode=disable":      "postgresql://ada@db/app?sslmode=disable",
		"postgres://ada@db/app?sslkey=a.pem&sslpassword=hush":        "postgres://ada@db/app?sslkey=a.pem",
		"postgres://ada:hush@/app?host=%2Frun%2Fpg&port=5432":        "postgres://ada:xxxxx@/app?host=%2Frun%2Fpg&port=5432",
		"postgres://ada:hush@one:1,two:2/app?target_session_attrs=x": "postgres://ada:xxxxx@one:1,two:2/app?target_session_attrs=x",
	} {
		if d := open(t, environment("DATABASE_URL", given, "MEMRELAY_HOME", "/")); d.Described != want || d.URL != given {
			t.Errorf("%s is described as %s, want %s", given, d.Described, want)
		}
	}
}

func TestWhatIsNoURLIsRefusedWithoutQuotingIt(t *testing.T) {
	t.Parallel()
	for _, given := range []string{
		"host=db user=ada password=hush dbname=app", "user=ada:hush@db", "ada:hush@db/app", "mysql://ada:hush@db/app", "postgres://ada:hush@db/%zz", "postgres:hush",
	} {
		d, err := devdb.Open(t.Context(), environment("DATABASE_URL", given, "MEMRELAY_HOME", "/"), slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: described as %s, want an error", given, d.Described)
			continue
		}
		if !strings.Contains(err.Error(), "DATABASE_URL") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", given, err)
		}
	}
}

func TestOpenNeedsAPlaceForItsData(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root always has one")
	}
	if _, err := devdb.Open(t.Context(), environment(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error without HOME")
	}
}

func TestWithFreshIsEmptyAndGoneAfterwards(t *testing.T) {
	t.Parallel()
	const count = `SELECT count(*) FROM pg_database WHERE starts_with(datname, 'memrelay_once_') AND datname = '`
	server := dbtest.URL(t)
	d := open(t, environment("DATABASE_URL", server, "MEMRELAY_HOME", "/"))
	failure := errors.New("of the test")
	for _, want := range []error{nil, failure} {
		var name string
		err := d.WithFresh(t.Context(), func(fresh string) error {
			name = ask[string](t, fresh, `SELECT current_database()`)
			if n := ask[int](t, fresh, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`); n != 0 {
				t.Errorf("%d tables in a fresh database", n)
			}
			if n := ask[int](t, server, count+name+`'`); n != 1 {
				t.Errorf("the database is not where it was asked for")
			}
			// Somebody who is still connected does not keep it.
			conn, err := pgx.Connect(t.Context(), fresh)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
			return want
		})
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if n := ask[int](t, server, count+name+`'`); n != 0 {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestWithFreshIsGoneAlsoAfterAnInterrupt(t *testing.T) {
	t.Parallel()
	server := dbtest.URL(t)
	d := open(t, environment("DATABASE_URL", server, "MEMRELAY_HOME", "/"))
	ctx, interrupt := context.WithCancel(t.Context())
	var name string
	if err := d.WithFresh(ctx, func(fresh string) error {
		name = ask[string](t, fresh, `SELECT current_database()`)
		interrupt()
		return ctx.Err()
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if n := ask[int](t, server, `SELECT count(*) FROM pg_database WHERE datname = '`+name+`'`); n != 0 {
		t.Errorf("%s is still there", name)
	}
}

func TestWithFreshReportsThatThereIsNoServer(t *testing.T) {
	t.Parallel()
	d := open(t, environment("DATABASE_URL", "postgres://ada:hush@127.0.0.1:1/app?sslmode=disable", "MEMRELAY_HOME", "/"))
	err := d.WithFresh(t.Context(), func(string) error { t.Error("called"); return nil })
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
}

// home returns a folder that every user may enter: t.TempDir is closed, and as
// root the server runs as somebody else.
func home(t *testing.T) string {
	t.Helper()
	if _, err := localpg.Find(os.Getenv); errors.Is(err, localpg.ErrNoBinaries) {
		t.Skip("needs initdb and postgres, which this machine does not have")
	}
	dir, err := os.MkdirTemp(localpg.ThrowawayHome(), "devdb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What dev stored yesterday is there today, and nothing runs in between.
func TestOpenStartsAServerWhoseDataStays(t *testing.T) {
	t.Parallel()
	dir := home(t)
	getenv := environment("MEMRELAY_HOME", dir, "PATH", os.Getenv("PATH"))
	first := open(t, getenv)
	if got := ask[string](t, first.URL, `SELECT current_database()`); got != "memrelay" {
		t.Errorf("the database is %s, want memrelay", got)
	}
	if got := ask[string](t, first.URL, `SELECT current_setting('fsync') || current_setting('synchronous_commit')`); got != "onon" {
		t.Errorf("fsync, synchronous_commit = %s, want on", got)
	}
	if u, err := url.Parse(first.Described); err != nil || u.Path != "/memrelay" || first.Home != dir {
		t.Errorf("described as %s in %s", first.Described, first.Home)
	}
	if !strings.HasPrefix(ask[string](t, first.URL, `SELECT current_setting('data_directory')`), filepath.Join(dir, "postgres")) {
		t.Error("the data lies somewhere else")
	}

	// A second dev on this machine shares it.
	second := open(t, getenv)
	if second.URL != first.URL {
		t.Errorf("the second one is at %s, want %s", second.URL, first.URL)
	}
	execute(t, first.URL, `CREATE TABLE yesterday ()`)
	for _, d := range []*devdb.Database{first, second} {
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := pgx.Connect(t.Context(), d.URL); (err == nil) != (d == first) {
			t.Errorf("a server that was left by %v: %v", d == first, err)
		}
	}

	third := open(t, getenv)
	t.Cleanup(func() {
		if err := third.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if !ask[bool](t, third.URL, `SELECT to_regclass('yesterday') IS NOT NULL`) {
		t.Error("what was stored is gone")
	}
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestOpenSaysWhyThereIsNoServer(t *testing.T) {
	t.Parallel()
	_, err := devdb.Open(t.Context(), environment("MEMRELAY_HOME", t.TempDir(), "MEMRELAY_POSTGRES_BIN", t.TempDir()), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "start Postgres: MEMRELAY_POSTGRES_BIN=") {
		t.Errorf("got %v, want the setting that is wrong", err)
	}
}
