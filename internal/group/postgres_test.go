package group

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// shelf is a table with one row per unit, written set-based.
type shelf struct {
	pool *pgxpool.Pool
	// before runs in the transaction, before the rows are written.
	before func(ctx context.Context, tx pgx.Tx, units []string) error
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{pool: dbtest.New(t)}
	s.exec(t, `CREATE TABLE shelf (note text PRIMARY KEY, position bigint GENERATED ALWAYS AS IDENTITY, transaction xid8 DEFAULT pg_current_xact_id())`)
	return s
}

func (s *shelf) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (s *shelf) write(ctx context.Context, tx pgx.Tx, _ int, units []string) ([]Answer[string], error) {
	if s.before != nil {
		if err := s.before(ctx, tx, units); err != nil {
			return nil, err
		}
	}
	if _, err := tx.Exec(ctx, `INSERT INTO shelf (note) SELECT unnest($1::text[])`, units); err != nil {
		return nil, err
	}
	answers := make([]Answer[string], len(units))
	for i, u := range units {
		answers[i].Value = "stored " + u
	}
	return answers, nil
}

func (s *shelf) notes(t *testing.T) []string {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `SELECT note FROM shelf ORDER BY position`)
	if err != nil {
		t.Fatal(err)
	}
	notes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return notes
}

func (s *shelf) number(t *testing.T, sql string) (n int) {
	t.Helper()
	if err := s.pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// await waits until the query says true. It polls: the truth is in the database.
func (s *shelf) await(t *testing.T, sql string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		var ok bool
		if err := s.pool.QueryRow(t.Context(), sql).Scan(&ok); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", sql)
		}
	}
}

// together hands units over so that they make one group, behind one that a lock
// of the test holds up. Their answers come in their order.
func (s *shelf) together(t *testing.T, units ...string) (values []string, errs []error) {
	t.Helper()
	c := New(s.pool, s.write, nil, Options{InFlight: 1})
	blocker, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Rollback(context.WithoutCancel(t.Context()))
	if _, err := blocker.Exec(t.Context(), `LOCK TABLE shelf IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Do(t.Context(), "first"); err != nil {
			t.Errorf("the unit before them: %v", err)
		}
	})
	s.await(t, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'shelf'::regclass)`)
	values, errs = make([]string, len(units)), make([]error, len(units))
	for i, u := range units {
		wg.Go(func() { values[i], errs[i] = c.Do(t.Context(), u) })
		for waiting := 0; waiting <= i; { // they shall stand in their order
			c.mu.Lock()
			waiting = c.line.units
			c.mu.Unlock()
		}
	}
	if err := blocker.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return values, errs
}

func TestAnIdleUnitIsATransactionAndWaitingOnesShareOne(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	c := New(s.pool, s.write, nil, Options{})
	for _, u := range []string{"a", "b"} {
		if v, err := c.Do(t.Context(), u); err != nil || v != "stored "+u {
			t.Errorf("answered %q, %v", v, err)
		}
	}
	if n := s.number(t, `SELECT count(DISTINCT transaction) FROM shelf`); n != 2 {
		t.Errorf("two units on an idle system took %d transactions, want 2", n)
	}
	_, errs := s.together(t, "c", "d", "e")
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if n := s.number(t, `SELECT count(DISTINCT transaction) FROM shelf WHERE note IN ('c', 'd', 'e')`); n != 1 {
		t.Errorf("three units that waited took %d transactions, want 1", n)
	}
}

func TestPostgresRefusesOneUnitOfTwenty(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, poison, code string
	}{
		{"a NUL in a text", "m\x00", "22021"},
		{"a byte that is no UTF-8", "m\xff", "22021"},
		{"a key that an earlier unit of the group has", "a", "23505"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			units := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", tc.poison, "n", "o", "p", "q", "r", "s", "t"}
			values, errs := s.together(t, units...)
			for i, u := range units {
				if u == tc.poison && i > 0 {
					if sqlState(errs[i]) != tc.code {
						t.Errorf("unit %q: %v, want %s", u, errs[i], tc.code)
					}
					continue
				}
				if errs[i] != nil || values[i] != "stored "+u {
					t.Errorf("unit %q was answered %q, %v", u, values[i], errs[i])
				}
			}
			wantEqual(t, "stored, in order", slices.Concat([]string{"first"}, units[:12], units[13:]), s.notes(t))
		})
	}
}

// A deadlock costs one of the two groups a second try, and no unit its answer.
func TestARealDeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.exec(t, `CREATE TABLE hook (name text PRIMARY KEY)`)
	s.exec(t, `INSERT INTO hook VALUES ('x'), ('y')`)
	var wg, both sync.WaitGroup
	both.Add(2)
	deadlocks := make(chan error, 8)
	for _, order := range [][2]string{{"x", "y"}, {"y", "x"}} {
		tries := 0
		node := &shelf{pool: s.pool, before: func(ctx context.Context, tx pgx.Tx, _ []string) error {
			if _, err := tx.Exec(ctx, `SET LOCAL deadlock_timeout = '5ms'`); err != nil {
				return err
			}
			for i, name := range order {
				if _, err := tx.Exec(ctx, `SELECT FROM hook WHERE name = $1 FOR UPDATE`, name); err != nil {
					deadlocks <- err
					return err
				}
				if tries++; i == 0 && tries == 1 {
					both.Done()
					both.Wait()
				}
			}
			return nil
		}}
		c := New(s.pool, node.write, nil, Options{})
		wg.Go(func() {
			if _, err := c.Do(t.Context(), order[0]); err != nil {
				t.Errorf("the unit that began with %s: %v", order[0], err)
			}
		})
	}
	wg.Wait()
	close(deadlocks)
	if err := <-deadlocks; sqlState(err) != "40P01" {
		t.Errorf("one of the groups met %v, want a deadlock", err)
	}
	if got := s.notes(t); len(got) != 2 {
		t.Errorf("stored %q, want both", got)
	}
}

// Nobody knows what became of a commit whose answer is lost: it is not tried
// again, and the next unit finds a connection that works.
func TestALostConnectionFailsTheGroupAndNotTheNext(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	lose := true
	s.before = func(ctx context.Context, tx pgx.Tx, _ []string) error {
		if !lose {
			return nil
		}
		lose = false
		pid := tx.Conn().PgConn().PID()
		_, err := s.pool.Exec(ctx, `SELECT pg_terminate_backend($1, 5000)`, int32(pid))
		return err
	}
	c := New(s.pool, s.write, nil, Options{InFlight: 1})
	if v, err := c.Do(t.Context(), "a"); err == nil {
		t.Errorf("answered %q without a connection", v)
	}
	if v, err := c.Do(t.Context(), "b"); err != nil || v != "stored b" {
		t.Errorf("answered %q, %v", v, err)
	}
	wantEqual(t, "stored", []string{"b"}, s.notes(t))
}

// What a deferred constraint says at the commit is found in halves, too.
func TestPostgresRefusesOneUnitAtTheCommit(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.exec(t, `CREATE TABLE allowed (note text PRIMARY KEY)`)
	s.exec(t, `INSERT INTO allowed VALUES ('first'), ('a'), ('c'), ('d')`)
	s.exec(t, `ALTER TABLE shelf ADD FOREIGN KEY (note) REFERENCES allowed DEFERRABLE INITIALLY DEFERRED`)
	_, errs := s.together(t, "a", "b", "c", "d")
	for i, err := range errs {
		if i == 1 {
			if sqlState(err) != "23503" {
				t.Errorf("unit b: %v, want 23503", err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
		}
	}
	wantEqual(t, "stored, in order", []string{"first", "a", "c", "d"}, s.notes(t))
}

func TestALeavingCallersTransactionGoesOn(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	ctx, cancel := context.WithCancel(t.Context())
	// Its caller leaves while its transaction is open.
	s.before = func(context.Context, pgx.Tx, []string) error { cancel(); return nil }
	c := New(s.pool, s.write, nil, Options{})
	_, err := c.Do(ctx, "a")
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.Wait()
	wantEqual(t, "stored", []string{"a"}, s.notes(t))
}

// What is to follow a commit follows each that succeeds, and none that does not.
func TestOnCommitFollowsTheCommit(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	var mu sync.Mutex
	var followed []string
	s.before = func(ctx context.Context, _ pgx.Tx, units []string) error {
		ok := OnCommit(ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			for _, u := range units {
				if !slices.Contains(s.notes(t), u) {
					t.Errorf("%s is not stored yet", u)
				}
			}
			followed = append(followed, units...)
		})
		if !ok {
			t.Error("a group's context is not known as one")
		}
		return nil
	}
	c := New(s.pool, s.write, nil, Options{})
	for _, note := range []string{"a", "b", "a"} { // the last one is refused
		_, err := c.Do(t.Context(), note)
		mu.Lock()
		if got := len(followed); err == nil && followed[got-1] != note {
			t.Errorf("%s was answered before what follows it: %v", note, followed)
		}
		mu.Unlock()
	}
	c.Wait()
	if !slices.Equal(followed, []string{"a", "b"}) {
		t.Errorf("followed %v, want a and b", followed)
	}
	if OnCommit(t.Context(), func() {}) {
		t.Error("any context is taken for a group's")
	}
}
