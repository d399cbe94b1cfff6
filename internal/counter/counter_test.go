package counter

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/dbtest"
)

// node returns the counters of one more process on the database.
func node(t *testing.T, pool *pgxpool.Pool) *Set {
	t.Helper()
	return New(pool, uuid.New(), "host", 7, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func ask[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (v T) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// in runs do in a transaction and commits it.
func in(t *testing.T, pool *pgxpool.Pool, do func(tx pgx.Tx) error) {
	t.Helper()
	if err := pgx.BeginFunc(t.Context(), pool, do); err != nil {
		t.Fatal(err)
	}
}

func (s *Set) mustAdd(t *testing.T, slot int, c Changes) {
	t.Helper()
	in(t, s.pool, func(tx pgx.Tx) error { return s.Add(t.Context(), tx, slot, c) })
}

func (s *Set) mustFlush(t *testing.T) {
	t.Helper()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func wantSums(t *testing.T, pool *pgxpool.Pool, want Changes) {
	t.Helper()
	got, err := Read(t.Context(), db.New(pool))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}
}

func wantBacklog(t *testing.T, s *Set, want int64) {
	t.Helper()
	if got := s.Backlog(); got != want {
		t.Errorf("backlog %d, want %d", got, want)
	}
}

func TestSumsAreOverAllProcessesAndSlots(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	a, b := node(t, pool), node(t, pool)
	a.mustAdd(t, 0, Changes{Queued: 3, Backlog: 3, Ignored: 0})
	a.mustAdd(t, 0, Changes{Queued: 2})
	a.mustAdd(t, 1, Changes{Queued: 10, Backlog: -1})
	b.mustAdd(t, 0, Changes{Queued: 100, Dead: 1})
	a.mustAdd(t, FaultSlot, Changes{Dead: -1, Died: 1})
	in(t, pool, func(tx pgx.Tx) error { return AddOnce(t.Context(), tx, Changes{Dead: 5}) })
	wantSums(t, pool, Changes{Queued: 115, Backlog: 2, Dead: 5, Died: 1})

	// Nothing to change writes nothing.
	rows := ask[int](t, pool, `SELECT count(*) FROM counters`)
	a.mustAdd(t, 9, Changes{Queued: 0})
	a.mustAdd(t, 9, nil)
	if got := ask[int](t, pool, `SELECT count(*) FROM counters`); got != rows {
		t.Errorf("%d rows, want %d", got, rows)
	}
}

func TestTheLatestOfATimeStays(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	a, b := node(t, pool), node(t, pool)
	a.mustAdd(t, 0, Changes{LastProcessed: 500})
	a.mustAdd(t, 0, Changes{LastProcessed: 300})
	a.mustAdd(t, 1, Changes{LastProcessed: 400})
	b.mustAdd(t, 0, Changes{LastProcessed: 450})
	wantSums(t, pool, Changes{LastProcessed: 500})
	b.mustAdd(t, 0, Changes{LastProcessed: 501})
	wantSums(t, pool, Changes{LastProcessed: 501})
}

func TestACountIsTrueOnlyWithItsTransaction(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Add(t.Context(), tx, 0, Changes{Queued: 1}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSums(t, pool, Changes{})
}

// Transactions that run side by side in slots of their own do not wait for each
// other; those of one slot do not lose a count either.
func TestCountsAreExactUnderLoad(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	nodes := []*Set{node(t, pool), node(t, pool)}
	const writers, times = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range times {
				err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
					return nodes[w%2].Add(t.Context(), tx, w%3, Changes{Queued: 1, Backlog: 2, Duplicated: 3})
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	wantSums(t, pool, Changes{Queued: writers * times, Backlog: 2 * writers * times, Duplicated: 3 * writers * times})
}

func TestReservationsNeverExceedTheLimit(t *testing.T) {
	t.Parallel()
	s := node(t, nil)
	const limit = 100
	var inside, stored, most, full atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 500 {
				n := rand.Int64N(7) + 1
				if !s.Reserve(n, limit) {
					full.Add(1)
					// Somebody works.
					if s.Backlog() > 0 && stored.Load() > 0 {
						if stored.Add(-1) >= 0 {
							inside.Add(-1)
							s.Routed(1)
						} else {
							stored.Add(1)
						}
					}
					continue
				}
				// Counted after room was made and before it is given back: never too high.
				now := inside.Add(n)
				for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
				}
				kept := rand.Int64N(n + 1)
				inside.Add(kept - n)
				s.Settle(n, kept)
				stored.Add(kept)
			}
		})
	}
	wg.Wait()
	if most.Load() > limit {
		t.Errorf("%d events were let in at one time, the limit is %d", most.Load(), limit)
	}
	if full.Load() == 0 || most.Load() < limit/2 {
		t.Errorf("%d were refused and at most %d let in: the limit was not reached", full.Load(), most.Load())
	}
	wantBacklog(t, s, stored.Load())
}

func TestReserveCountsWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	s := node(t, nil)
	for _, step := range []struct {
		name        string
		do          func() bool
		ok          bool
		wantBacklog int64
	}{
		{"a body greater than the limit, when nothing waits", func() bool { return s.Reserve(11, 10) }, true, 0},
		{"nothing besides it", func() bool { return s.Reserve(1, 10) }, false, 0},
		{"nothing of it was new", func() bool { s.Settle(11, 0); return true }, true, 0},
		{"three of ten", func() bool { return s.Reserve(3, 10) }, true, 0},
		{"seven more fit exactly", func() bool { return s.Reserve(7, 10) }, true, 0},
		{"not one more", func() bool { return s.Reserve(1, 10) }, false, 0},
		{"two of the three were new", func() bool { s.Settle(3, 2); return true }, true, 2},
		{"one fits again", func() bool { return s.Reserve(1, 10) }, true, 2},
		{"but no second", func() bool { return s.Reserve(1, 10) }, false, 2},
		{"nothing of the others was stored", func() bool { s.Settle(8, 0); return true }, true, 2},
		{"both are routed", func() bool { s.Routed(2); return true }, true, 0},
		{"all of the room is free", func() bool { return s.Reserve(10, 10) }, true, 0},
	} {
		if got := step.do(); got != step.ok {
			t.Errorf("%s: %v, want %v", step.name, got, step.ok)
		}
		wantBacklog(t, s, step.wantBacklog)
	}
}

func TestTheBacklogIsNeverNegative(t *testing.T) {
	t.Parallel()
	s := node(t, nil)
	s.Routed(3) // what another node has stored, which is read within a second
	wantBacklog(t, s, 0)
}

func TestTheOthersBacklogIsSeenAtTheNextFlush(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	a, b := node(t, pool), node(t, pool)
	// a stores four events, as a door does.
	if !a.Reserve(4, 10) {
		t.Fatal("no room")
	}
	a.mustAdd(t, 0, Changes{Backlog: 4})
	a.Settle(4, 4)
	wantBacklog(t, a, 4)
	wantBacklog(t, b, 0)

	b.mustFlush(t)
	wantBacklog(t, b, 4)
	if b.Reserve(7, 10) || !b.Reserve(6, 10) {
		t.Error("b does not count what a stored")
	}
	b.Settle(6, 0)

	// What a itself stored is not counted twice.
	a.mustFlush(t)
	wantBacklog(t, a, 4)

	// b routes three of them.
	b.mustAdd(t, 0, Changes{Backlog: -3})
	b.Routed(3)
	wantBacklog(t, b, 1)
	a.mustFlush(t)
	wantBacklog(t, a, 1)
}

// What a process believes of itself goes astray when the answer of a commit is
// lost; a quiet moment sets it right.
func TestAFlushCorrectsOnesOwnBacklog(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	s.mustAdd(t, 0, Changes{Backlog: 5}) // committed, and nobody settled it
	wantBacklog(t, s, 0)
	s.mustFlush(t)
	s.mustFlush(t)
	wantBacklog(t, s, 5)

	// Not while something is under way: the database may not have it yet.
	if !s.Reserve(1, 10) {
		t.Fatal("no room")
	}
	s.mustAdd(t, 0, Changes{Backlog: 1})
	s.mustFlush(t)
	s.mustFlush(t)
	s.Settle(1, 1)
	wantBacklog(t, s, 6)
}

// The database knows of a routed event a moment before Routed is told.
func TestAFlushBetweenCommitAndRoutedCountsOnce(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	s.mustAdd(t, 0, Changes{Backlog: 5})
	s.mustFlush(t)
	s.mustFlush(t)
	s.mustAdd(t, 0, Changes{Backlog: -2})
	s.mustFlush(t)
	s.Routed(1)
	s.mustFlush(t)
	s.Routed(1)
	wantBacklog(t, s, 3)
	s.mustFlush(t)
	s.mustFlush(t)
	wantBacklog(t, s, 3)
}

func TestRefusalsAreWrittenOnce(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			s.Refuse(Rejected)
			s.Refuse(Failed)
			s.Refuse(Rejected)
		})
	}
	wg.Wait()
	wantSums(t, pool, Changes{})
	s.mustFlush(t)
	s.mustFlush(t)
	wantSums(t, pool, Changes{Rejected: 100, Failed: 50})
}

func TestRefusalsOutliveADatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	s.Refuse(Rejected)
	exec(t, pool, `ALTER TABLE counters RENAME TO elsewhere`)
	if err := s.Flush(t.Context()); err == nil {
		t.Fatal("flushed into a table that is not there")
	}
	s.Refuse(Rejected)
	exec(t, pool, `ALTER TABLE elsewhere RENAME TO counters`)
	s.mustFlush(t)
	wantSums(t, pool, Changes{Rejected: 2})
}

func TestFlushSaysThatTheProcessIsAlive(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	s.mustFlush(t)
	exec(t, pool, `UPDATE processes SET seen_at = now() - interval '1 hour', started_at = now() - interval '2 hours'`)
	s.mustFlush(t)
	type row struct {
		Process  uuid.UUID
		Host     string
		Workers  int32
		Seen     bool
		Restarts bool
	}
	rows, err := pool.Query(t.Context(), `SELECT process, host, workers, seen_at > now() - interval '1 minute', started_at > now() - interval '1 hour' FROM processes`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]row{{Process: s.process, Host: "host", Workers: 7, Seen: true}}, got); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestFlushReportsWhatItCouldNotRead(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"processes", "counters"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			s := node(t, pool)
			exec(t, pool, `ALTER TABLE `+table+` RENAME TO elsewhere`)
			if err := s.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), table) {
				t.Errorf("error %v, want one about %s", err, table)
			}
		})
	}
}

// lines is a log that tells of each line.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	l.text.Write(p)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the query says true. It polls: the truth is in the database.
func await(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ask[bool](t, pool, sql); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", sql)
		}
	}
}

func TestRunSignsTheProcessOffAtTheEnd(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	s.Refuse(Rejected)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	await(t, pool, `SELECT EXISTS (SELECT FROM processes) AND EXISTS (SELECT FROM counters)`)
	s.Refuse(Rejected) // less than a second before the end
	cancel()
	<-ended
	if n := ask[int](t, pool, `SELECT count(*) FROM processes`); n != 0 {
		t.Errorf("%d processes are said to be alive, want none", n)
	}
	wantSums(t, pool, Changes{Rejected: 2})
}

func TestRunGoesOnWithoutADatabase(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	out := &lines{more: make(chan struct{}, 1)}
	s := New(pool, uuid.New(), "host", 0, slog.New(slog.NewTextHandler(out, nil)))
	exec(t, pool, `ALTER TABLE processes RENAME TO elsewhere`)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	<-out.more
	if !strings.Contains(out.String(), `level=WARN msg="counters not flushed" error=`) {
		t.Errorf("the log says %s", out)
	}
	// A second later it asks again.
	exec(t, pool, `ALTER TABLE elsewhere RENAME TO processes`)
	await(t, pool, `SELECT EXISTS (SELECT FROM processes)`)

	exec(t, pool, `ALTER TABLE processes RENAME TO elsewhere`)
	cancel()
	<-ended
	if !strings.Contains(out.String(), "counters not flushed at the end") {
		t.Errorf("the log says %s", out)
	}
}

func TestAProcessThatCannotSignOffSaysSo(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	out := &lines{}
	s := New(pool, uuid.New(), "host", 0, slog.New(slog.NewTextHandler(out, nil)))
	exec(t, pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$`)
	exec(t, pool, `CREATE TRIGGER refuse BEFORE DELETE ON processes FOR EACH ROW EXECUTE FUNCTION refuse()`)
	s.leave()
	if !strings.Contains(out.String(), "process not signed off") {
		t.Errorf("the log says %s", out)
	}
}

func TestCountersOfGoneProcessesAreFolded(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	alive, gone := node(t, pool), node(t, pool)
	alive.mustFlush(t)
	gone.mustFlush(t)
	alive.mustAdd(t, 0, Changes{Queued: 1, LastProcessed: 70})
	gone.mustAdd(t, 0, Changes{Queued: 10, LastProcessed: 90, Backlog: 4})
	gone.mustAdd(t, 1, Changes{Queued: 20, LastProcessed: 80})
	gone.mustAdd(t, FaultSlot, Changes{Dead: 2})
	in(t, pool, func(tx pgx.Tx) error { return AddOnce(t.Context(), tx, Changes{Dead: -1}) })
	want := Changes{Queued: 31, LastProcessed: 90, Backlog: 4, Dead: 1}
	wantSums(t, pool, want)

	q := db.New(pool)
	exec(t, pool, `UPDATE processes SET seen_at = now() - interval '61 seconds' WHERE process = $1`, gone.process)
	if err := q.DeleteGoneProcesses(t.Context()); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the second finds nothing to fold
		if err := q.FoldCounters(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSums(t, pool, want)
		rows, err := pool.Query(t.Context(), `SELECT process::text || ' ' || slot || ' ' || name || ' ' || value FROM counters ORDER BY process = $1, name`, alive.process)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		none := uuid.Nil.String()
		if diff := cmp.Diff([]string{
			none + " 0 backlog 4", none + " 0 dead 1", none + " 0 last_processed 90", none + " 0 queued 30",
			alive.process.String() + " 0 last_processed 70", alive.process.String() + " 0 queued 1",
		}, got); diff != "" {
			t.Errorf("round %d: counters (-want +got):\n%s", round, diff)
		}
	}

	// A time that is folded onto a later one does not go back, and sums go on.
	gone.mustAdd(t, 0, Changes{LastProcessed: 85, Queued: 1})
	if err := q.FoldCounters(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSums(t, pool, Changes{Queued: 32, LastProcessed: 90, Backlog: 4, Dead: 1})
}

// insertEvents makes events in each state; three of them wait to be routed.
func insertEvents(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for i, status := range []string{"received", "received", "retrying", "ignored", "routed", "processed", "dead", "discarded"} {
		exec(t, pool, `INSERT INTO events (source, event_id, digest, module, operation, record_id, account_id, revision, status)
			VALUES ('zoho', $1, sha256(''), 'Accounts', 'update', '1', CASE WHEN $2 THEN '1' END, CASE WHEN $2 THEN 1 END, $3)`,
			fmt.Sprint(i), status == "routed" || status == "processed", status)
	}
}

func TestTrueUpCorrectsAWrongCounter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		counted int64
		want    int64
	}{
		{"a counter that is too low", 1, 2},
		{"a counter that is too high", 50, -47},
		{"a counter below nothing", -4, 7},
		{"a counter that is right", 3, 0},
		{"no counter", 0, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			insertEvents(t, pool)
			s := node(t, pool)
			s.mustAdd(t, 0, Changes{Backlog: tc.counted})
			for _, want := range []int64{tc.want, 0} { // a second time there is nothing to correct
				if got := trueUp(t, pool, nil); got != want {
					t.Errorf("corrected by %d, want %d", got, want)
				}
			}
			wantSums(t, pool, Changes{Backlog: 3})
			s.mustFlush(t)
			s.mustFlush(t)
			wantBacklog(t, s, 3)
		})
	}
}

// trueUp runs TrueUp as the sweeper does; between runs after its snapshot was
// taken and before it looks.
func trueUp(t *testing.T, pool *pgxpool.Pool, between func()) (correction int64) {
	t.Helper()
	err := pgx.BeginTxFunc(t.Context(), pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(t.Context(), `SELECT FROM events LIMIT 1`); err != nil {
			return err
		}
		if between != nil {
			between()
		}
		correction, err = TrueUp(t.Context(), tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return correction
}

func TestTrueUpIsNotFooledByEventsThatArriveMeanwhile(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := node(t, pool)
	arrive := func() {
		in(t, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `INSERT INTO events (source, event_id, digest, module, operation, record_id) VALUES ('zoho', 'x', sha256(''), 'Accounts', 'update', '1')`); err != nil {
				return err
			}
			return s.Add(t.Context(), tx, 0, Changes{Backlog: 1})
		})
	}
	if got := trueUp(t, pool, arrive); got != 0 {
		t.Errorf("corrected by %d, want 0", got)
	}
	wantSums(t, pool, Changes{Backlog: 1})
}

func TestErrorsOfTheDatabaseAreReported(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, table string }{
		{"without counters", "counters"},
		{"without events", "events"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			exec(t, pool, `ALTER TABLE `+tc.table+` RENAME TO elsewhere`)
			if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { _, err := TrueUp(t.Context(), tx); return err }); err == nil {
				t.Error("TrueUp reports nothing")
			}
			if tc.table == "counters" {
				if _, err := Read(t.Context(), db.New(pool)); err == nil {
					t.Error("Read reports nothing")
				}
			}
		})
	}
	t.Run("when the correction cannot be written", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		insertEvents(t, pool)
		exec(t, pool, `ALTER TABLE counters ADD CHECK (value < 0)`)
		if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { _, err := TrueUp(t.Context(), tx); return err }); err == nil {
			t.Error("TrueUp reports nothing")
		}
	})
}
