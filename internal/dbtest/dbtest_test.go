package dbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func TestMain(m *testing.M) { Main(m) }

func ask[T any](t *testing.T, url, sql string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func exists(t *testing.T, database string) bool {
	t.Helper()
	return ask[bool](t, shared.open(t).urlOf("postgres"), `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database)
}

func name(t *testing.T, pool *pgxpool.Pool) (s string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT current_database()`).Scan(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	a, b := New(t), New(t)
	if name(t, a) == name(t, b) {
		t.Errorf("both have %s", name(t, a))
	}
	if _, err := a.Exec(t.Context(), `CREATE TABLE mine ()`); err != nil {
		t.Fatal(err)
	}
	var there bool
	if err := b.QueryRow(t.Context(), `SELECT to_regclass('mine') IS NOT NULL`).Scan(&there); err != nil || there {
		t.Errorf("one test's table is in the other's database: %v, %v", there, err)
	}
	if got := a.Config().MaxConns; got != maxConns {
		t.Errorf("MaxConns = %d", got)
	}
}

func TestDatabaseIsMigrated(t *testing.T) {
	t.Parallel()
	if !ask[bool](t, URL(t), `SELECT to_regclass('events') IS NOT NULL AND to_regclass('river_job') IS NOT NULL`) {
		t.Error("no tables events and river_job")
	}
}

func TestEmptyIsEmpty(t *testing.T) {
	t.Parallel()
	const count = `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`
	if got := ask[int](t, Empty(t), count); got != 0 {
		t.Errorf("%d tables, views and indexes", got)
	}
}

func TestDatabaseIsGoneAfterwards(t *testing.T) {
	t.Parallel()
	var names []string
	t.Run("test", func(t *testing.T) {
		pool := New(t)
		names = append(names, name(t, pool), ask[string](t, Empty(t), `SELECT current_database()`))

		// Somebody else's session does not keep it.
		conn, err := pgx.Connect(t.Context(), URL(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
		names = append(names, conn.Config().Database)
		for _, n := range names {
			if !exists(t, n) {
				t.Errorf("%s does not exist", n)
			}
		}
	})
	for _, n := range names {
		if exists(t, n) {
			t.Errorf("%s still exists", n)
		}
	}
}

// recorder is a test whose failing is the subject of another one.
type recorder struct {
	testing.TB
	errors atomic.Int32
}

func (r *recorder) Errorf(string, ...any) { r.errors.Add(1) }

func TestForgottenConnectionFailsTheTest(t *testing.T) {
	t.Parallel()
	pool := New(t)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{TB: t}
	closePool(r, pool, 50*time.Millisecond)
	if r.errors.Load() != 1 {
		t.Errorf("%d complaints, want 1", r.errors.Load())
	}
	conn.Release()
}

// scratch is a name for a template that no other test uses.
func scratch(t *testing.T, s *server) string {
	t.Helper()
	template := templatePrefix + "scratch_" + strings.ToLower(rand.Text()[:12])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), tidyLimit)
		defer cancel()
		if err := errors.Join(s.drop(ctx, template), s.drop(ctx, template+"_growing")); err != nil {
			t.Error(err)
		}
	})
	return template
}

func TestTemplateIsBuiltOnce(t *testing.T) {
	t.Parallel()
	s := shared.open(t)
	template := scratch(t, s)
	var built atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := s.build(t.Context(), template, func(ctx context.Context, url string) error {
				built.Add(1)
				conn, err := pgx.Connect(ctx, url)
				if err != nil {
					return err
				}
				defer conn.Close(ctx)
				_, err = conn.Exec(ctx, `CREATE TABLE migrated ()`)
				return err
			})
			if err != nil {
				t.Error(err)
				return
			}
			database(t, s, template) // can be cloned at once
		})
	}
	wg.Wait()
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
	if !ask[bool](t, database(t, s, template), `SELECT to_regclass('migrated') IS NOT NULL`) {
		t.Error("the clone has no table")
	}
}

func TestUnfinishedTemplateIsBuiltAnew(t *testing.T) {
	t.Parallel()
	s := shared.open(t)
	template := scratch(t, s)
	broken := errors.New("broken")
	if err := s.build(t.Context(), template, func(context.Context, string) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("error %v, want %v", err, broken)
	}
	if exists(t, template) {
		t.Fatal("the unfinished template has the finished one's name")
	}
	if err := s.build(t.Context(), template, func(context.Context, string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if !exists(t, template) {
		t.Error("no template")
	}
}

func TestNobodyCanConnectToATemplate(t *testing.T) {
	t.Parallel()
	s := shared.open(t)
	template, err := s.schema()
	if err != nil {
		t.Fatal(err)
	}
	_, err = pgx.Connect(t.Context(), s.urlOf(template))
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "55000" {
		t.Errorf("error %v, want 55000", err)
	}
}

func TestURLOfKeepsTheRest(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://ada:secret@db:5433/app?sslmode=disable": "postgres://ada:secret@db:5433/other?sslmode=disable",
		"postgresql://ada@/app?host=%2Frun%2Fpg":            "postgresql://ada@/other?host=%2Frun%2Fpg",
		"host=db user=ada password=secret dbname=app":       "host=db user=ada password=secret dbname=app dbname=other",
		"host=/run/pg user=ada":                             "host=/run/pg user=ada dbname=other",
	} {
		got := newServer("", url, nil).urlOf("other")
		if got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
		config, err := pgx.ParseConfig(got)
		if err != nil || config.Database != "other" {
			t.Errorf("%s: database %q, %v", got, config.Database, err)
		}
	}
}

func TestSettingWins(t *testing.T) {
	t.Parallel()
	const url = "postgres://ada@nowhere.invalid/app"
	s, err := choose(t.Context(), func(name string) string {
		if name == "TEST_DATABASE_URL" {
			return url
		}
		return ""
	})
	if err != nil || s.url != url {
		t.Errorf("got %v, %v", s, err)
	}
	if err := s.leave(t.Context()); err != nil {
		t.Error(err)
	}
}

// The figure in the package comment: make a database, use it, drop it.
func BenchmarkDatabase(b *testing.B) {
	s := shared.open(b)
	template, err := s.schema()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		name, err := s.create(b.Context(), template)
		if err != nil {
			b.Fatal(err)
		}
		conn, err := pgx.Connect(b.Context(), s.urlOf(name))
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(conn.Close(b.Context()), s.drop(b.Context(), name)); err != nil {
			b.Fatal(err)
		}
	}
}
