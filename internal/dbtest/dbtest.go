// Package dbtest gives each test a Postgres database of its own, migrated to the
// newest schema: in goes a *testing.T, out comes a pool or a URL, and when the
// test ends the database is gone. It costs some 35 ms, so a test need not think
// twice.
//
// The server is the one in TEST_DATABASE_URL, whose user must be allowed to
// create databases; else a private one that all test binaries of this user share
// (see localpg); else a container. Each package that uses dbtest has
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
// Tests of internal/postgres must be in package postgres_test, for dbtest
// imports it. The private server answers before its log is on disk: a test that
// needs a durable server, or one it may crash, starts its own with localpg.
package dbtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	maxConns   = 20              // of a pool; the private server has room for fifteen such
	openLimit  = 5 * time.Minute // it may have to download an image
	tidyLimit  = 30 * time.Second
	closeLimit = 5 * time.Second
)

// shared is this test binary's server. It has to be a variable of the package:
// New knows nothing but its test.
var shared source

// Main runs the tests of a package, lets go of the server and ends the process
// with the tests' exit code. The last test binary to let go of the private
// server stops it; without Main it goes on until a later run takes it over.
func Main(m *testing.M) {
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), tidyLimit)
	defer cancel()
	if err := shared.close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dbtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// New returns a pool on a new, migrated database. The pool is closed and the
// database dropped when the test ends; a connection that the test has not
// released by then fails it.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(URL(t))
	if err != nil {
		t.Fatalf("read the test database's URL: %v", err)
	}
	config.MaxConns = maxConns
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("open the test database: %v", err)
	}
	t.Cleanup(func() { closePool(t, pool, closeLimit) })
	return pool
}

// URL returns the DSN of a new, migrated database, for code that opens its own
// pools. The database is dropped when the test ends, whoever still uses it.
func URL(t testing.TB) string {
	t.Helper()
	s := shared.open(t)
	template, err := s.schema()
	if err != nil {
		t.Fatalf("migrate the template database: %v", err)
	}
	return database(t, s, template)
}

// Empty returns the DSN of a new database without any schema of ours, dropped
// when the test ends.
func Empty(t testing.TB) string {
	t.Helper()
	return database(t, shared.open(t), "template0")
}

// database creates one from a template and drops it at the end of the test.
func database(t testing.TB, s *server, template string) string {
	t.Helper()
	name, err := s.create(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), tidyLimit)
		defer cancel()
		if err := s.drop(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return s.urlOf(name)
}

// closePool does not wait for ever: Close does when a connection was never
// released, and the test would hang without saying why.
func closePool(t testing.TB, pool *pgxpool.Pool, limit time.Duration) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(limit):
		t.Errorf("the test has ended and %d of its database connections are still in use", pool.Stat().AcquiredConns())
	}
}
