package lane

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// jobs is a client that only inserts.
func jobs(t *testing.T, pool *pgxpool.Pool) *river.Client[pgx.Tx] {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// jobRow is what counts of a row of river_job.
type jobRow struct {
	State       string
	ScheduledAt time.Time
}

func read(t *testing.T, pool *pgxpool.Pool, id int64) jobRow {
	t.Helper()
	var j jobRow
	if err := pool.QueryRow(t.Context(), `SELECT state, scheduled_at FROM river_job WHERE id = $1`, id).Scan(&j.State, &j.ScheduledAt); err != nil {
		t.Fatalf("read job %d: %v", id, err)
	}
	return j
}

// exec runs a statement.
func exec(t *testing.T, pool *pgxpool.Pool, query string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func count(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM river_job`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// insert makes a job of a lane.
func insert(t *testing.T, client *river.Client[pgx.Tx], accountID string) int64 {
	t.Helper()
	inserted, err := client.Insert(t.Context(), job.SyncAccount{AccountID: accountID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return inserted.Job.ID
}

// ensure is Ensure in a transaction of its own.
func ensure(t *testing.T, pool *pgxpool.Pool, jobs Inserter, now time.Time, wakes ...Wake) ([]int64, error) {
	t.Helper()
	var ids []int64
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		ids, err = Ensure(t.Context(), tx, jobs, now, wakes)
		return err
	})
	return ids, err
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC().Truncate(time.Microsecond)
	ago, soon, later := now.Add(-time.Minute), now.Add(time.Minute), now.Add(time.Hour)
	const final = `, finalized_at = now()`
	for _, tt := range []struct {
		name  string
		state string    // of the lane's job; "": it has none; "gone": its job is there no more
		at    time.Time // when the job is to run
		due   time.Time
		anew  bool
		want  jobRow // zero time: when it was inserted
	}{
		{"a lane without a job gets one", "", now, now, true, jobRow{State: "available"}},
		{"one that is due later waits as available", "", now, soon, true, jobRow{"available", soon}},
		{"one that was due before runs at once", "", now, ago, true, jobRow{State: "available"}},
		{"a job that is gone is inserted anew", "gone", now, now, true, jobRow{State: "available"}},
		{"one that is completed is, too", "completed", now, soon, true, jobRow{"available", soon}},
		{"one that was discarded is, too", "discarded", now, now, true, jobRow{State: "available"}},
		{"one that was cancelled is, too", "cancelled", now, now, true, jobRow{State: "available"}},

		{"one that waits is pulled forward", "available", later, soon, false, jobRow{"available", soon}},
		{"to now", "available", later, now, false, jobRow{"available", now}},
		{"and not pushed back", "available", soon, later, false, jobRow{"available", soon}},
		{"nor to its very time", "available", soon, soon, false, jobRow{"available", soon}},
		{"one that could run already may", "available", ago, now, false, jobRow{"available", ago}},
		{"one that is scheduled waits as available from now on", "scheduled", later, soon, false, jobRow{"available", soon}},
		{"also when it is due at the same time", "scheduled", soon, soon, false, jobRow{"available", soon}},
		{"one that failed is pulled forward", "retryable", later, soon, false, jobRow{"available", soon}},

		{"one that runs is left", "running", ago, now, false, jobRow{"running", ago}},
		{"also when it is due later", "running", ago, later, false, jobRow{"running", ago}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			client := jobs(t, pool)
			w := Wake{Due: tt.due, Args: job.SyncAccount{AccountID: "77"}}
			before := 0
			if tt.state != "" {
				id := insert(t, client, "77")
				w.JobID = &id
				switch tt.state {
				case "gone":
					exec(t, pool, `DELETE FROM river_job WHERE id = $1`, id)
				case "completed", "discarded", "cancelled":
					exec(t, pool, `UPDATE river_job SET state = $2, scheduled_at = $3`+final+` WHERE id = $1`, id, tt.state, tt.at)
				default:
					exec(t, pool, `UPDATE river_job SET state = $2, scheduled_at = $3 WHERE id = $1`, id, tt.state, tt.at)
				}
				before = count(t, pool)
			}

			ids, err := ensure(t, pool, client, now, w)
			if err != nil {
				t.Fatal(err)
			}
			if anew := w.JobID == nil || ids[0] != *w.JobID; anew != tt.anew {
				t.Errorf("inserted anew: %t, want %t", anew, tt.anew)
			}
			if tt.anew {
				before++
			}
			if got := count(t, pool); got != before {
				t.Errorf("%d jobs, want %d", got, before)
			}
			got := read(t, pool, ids[0])
			if tt.want.ScheduledAt.IsZero() {
				// Then it may run as soon as it is there.
				if got.ScheduledAt.After(time.Now().Add(time.Second)) {
					t.Errorf("it waits until %v, want now", got.ScheduledAt)
				}
				got.ScheduledAt = time.Time{}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("the job (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnsureAnswersInTheOrderOfTheLanes(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	client := jobs(t, pool)
	now := time.Now().UTC().Truncate(time.Microsecond)
	waiting, running, completed := insert(t, client, "1"), insert(t, client, "2"), insert(t, client, "3")
	exec(t, pool, `UPDATE river_job SET scheduled_at = $1`, now.Add(time.Hour))
	exec(t, pool, `UPDATE river_job SET state = 'running' WHERE id = $1`, running)
	exec(t, pool, `UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1`, completed)

	wake := func(jobID *int64, account string, wait time.Duration) Wake {
		return Wake{JobID: jobID, Due: now.Add(wait), Args: job.SyncAccount{AccountID: account}}
	}
	ids, err := ensure(t, pool, client, now,
		wake(nil, "0", time.Minute), wake(&waiting, "1", 2*time.Minute), wake(&running, "2", 0),
		wake(&completed, "3", 3*time.Minute), wake(nil, "4", 0))
	if err != nil {
		t.Fatal(err)
	}
	type jobOf struct {
		account, state string
		wait           time.Duration
	}
	var got []jobOf
	for _, id := range ids {
		j := read(t, pool, id)
		var account string
		if err := pool.QueryRow(t.Context(), `SELECT args ->> 'account_id' FROM river_job WHERE id = $1`, id).Scan(&account); err != nil {
			t.Fatal(err)
		}
		got = append(got, jobOf{account, j.State, j.ScheduledAt.Sub(now).Round(time.Minute)})
	}
	want := []jobOf{
		{"0", "available", time.Minute}, {"1", "available", 2 * time.Minute}, {"2", "running", time.Hour},
		{"3", "available", 3 * time.Minute}, {"4", "available", 0},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(jobOf{})); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if ids[1] != waiting || ids[2] != running || ids[3] == completed {
		t.Errorf("ids %v: want the job that waits (%d), the one that runs (%d), and one anew for %d", ids, waiting, running, completed)
	}
}

func TestEnsureOfNoLanesDoesNothing(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	ids, err := ensure(t, pool, jobs(t, pool), time.Now())
	if err != nil || len(ids) != 0 || count(t, pool) != 0 {
		t.Errorf("ids %v, %v, and %d jobs", ids, err, count(t, pool))
	}
}

// A lane that lets others go first has a job of lower priority, until one wakes it that
// need not.
func TestLaneThatStandsBehind(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	client := jobs(t, pool)
	now := time.Now()
	priority := func(id int64) (p int) {
		if err := pool.QueryRow(t.Context(), `SELECT priority FROM river_job WHERE id = $1`, id).Scan(&p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	w := Wake{Due: now, Args: job.SyncAccount{AccountID: "77"}, Behind: true}
	for i, tt := range []struct {
		behind bool
		want   int
	}{{true, 2}, {true, 2}, {false, 1}, {true, 1}} {
		w.Behind = tt.behind
		ids, err := ensure(t, pool, client, now, w)
		if err != nil {
			t.Fatal(err)
		}
		if got := priority(ids[0]); got != tt.want {
			t.Errorf("woken for the %d. time: priority %d, want %d", i+1, got, tt.want)
		}
		w.JobID = &ids[0]
	}
	claim := newHere(t, pool, 2).Claim(true)
	ids, err := ensure(t, pool, client, now, Wake{Due: now, Args: job.SyncAccount{AccountID: "88"}, Behind: true, Claim: claim})
	if err != nil || claim.JobID == 0 {
		t.Fatalf("claimed job %d: %v", claim.JobID, err)
	}
	if got := priority(ids[0]); got != 2 {
		t.Errorf("a claimed job has priority %d, want 2", got)
	}
}

// noInserter cannot insert.
type noInserter struct{}

var errInsert = errors.New("refused")

func (noInserter) InsertManyTx(context.Context, pgx.Tx, []river.InsertManyParams) ([]*rivertype.JobInsertResult, error) {
	return nil, errInsert
}

// Whoever calls must roll back: each step's error is passed on.
func TestEnsureLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		name  string
		fault string
		jobs  Inserter // nil: a client
	}{
		{name: "reading", fault: `ALTER TABLE river_job RENAME COLUMN state TO hidden`},
		{name: "pulling forward", fault: `CREATE TRIGGER t BEFORE UPDATE ON river_job FOR EACH ROW WHEN (NEW.scheduled_at < OLD.scheduled_at) EXECUTE FUNCTION refuse()`},
		{name: "inserting", jobs: noInserter{}},
		{name: "delaying", fault: `CREATE TRIGGER t BEFORE UPDATE ON river_job FOR EACH ROW WHEN (NEW.scheduled_at > OLD.scheduled_at) EXECUTE FUNCTION refuse()`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			client := jobs(t, pool)
			waiting := insert(t, client, "1")
			later := now.Add(time.Hour).UTC().Truncate(time.Microsecond)
			exec(t, pool, `UPDATE river_job SET scheduled_at = $1`, later)
			exec(t, pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused on purpose'; END $$`)
			if tt.fault != "" {
				exec(t, pool, tt.fault)
			}
			if tt.jobs == nil {
				tt.jobs = client
			}
			_, err := ensure(t, pool, tt.jobs, now,
				Wake{JobID: &waiting, Due: now.Add(time.Minute), Args: job.SyncAccount{AccountID: "1"}},
				Wake{Due: now.Add(time.Minute), Args: job.SyncAccount{AccountID: "2"}})
			if err == nil {
				t.Error("no error")
			}
			if got := count(t, pool); got != 1 {
				t.Errorf("%d jobs, want 1", got)
			}
			var at time.Time
			if err := pool.QueryRow(t.Context(), `SELECT scheduled_at FROM river_job`).Scan(&at); err != nil || !at.Equal(later) {
				t.Errorf("the job waits until %v (%v), want %v", at, err, later)
			}
		})
	}
}
