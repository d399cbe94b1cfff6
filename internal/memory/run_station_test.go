package memory

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
)

// office is all that has to do with runs, on a database of its own. Nothing works
// by itself: a test works a run's job by hand, as River does.
type office struct {
	pool   *pgxpool.Pool
	store  *Store
	graphs *Graphs
	runs   *Runs
	runner *Runner
	born   time.Time // of the newest memory
}

// newOffice has somebody who wants all webhooks.
func newOffice(tb testing.TB) *office {
	tb.Helper()
	pool := dbtest.New(tb)
	log := slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: log})
	if err != nil {
		tb.Fatal(err)
	}
	writer := NewWriter(jobs, Sender{Source: "memrelay"}, "mem0", time.Now)
	o := &office{
		pool: pool, store: NewStore(pool, writer), graphs: NewGraphs(pool), runs: NewRuns(pool, jobs),
		runner: NewRunner(pool, jobs, writer, time.Now, log), born: time.Now().Add(-24 * time.Hour),
	}
	tb.Cleanup(o.store.Wait)
	o.exec(tb, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'all', 'https://example.com', $2, '30s', '{1s,2s}')`, uuid.New(), Events())
	return o
}

func (o *office) exec(tb testing.TB, sql string, args ...any) {
	tb.Helper()
	if _, err := o.pool.Exec(tb.Context(), sql, args...); err != nil {
		tb.Fatal(err)
	}
}

// texts are the rows of a query of one column.
func (o *office) texts(tb testing.TB, sql string, args ...any) []string {
	tb.Helper()
	result, err := o.pool.Query(tb.Context(), sql, args...)
	if err != nil {
		tb.Fatal(err)
	}
	all, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func clerk() Caller { return Caller{Actor: "token/clerk", UserIDs: []string{"ada"}, RequestID: "r-1"} }

// remember stores a memory, a second younger than the one before.
func (o *office) remember(tb testing.TB, r Row) Row {
	tb.Helper()
	o.born = o.born.Add(time.Second)
	r.ID, r.CreatedAt = uuid.Must(uuid.NewV7()), o.born
	if r.UserID == "" {
		r.UserID = "ada"
	}
	if r.Kind == "" {
		r.Kind = "fact"
	}
	metadata, err := writeMetadata(r.Metadata)
	if err != nil {
		tb.Fatal(err)
	}
	sum := r.Checksum()
	o.exec(tb, `INSERT INTO memories (id, user_id, module, record_id, kind, content, metadata, checksum, origin, origin_id, expires_at, created_at)
		VALUES ($1, $2, nullif($3, ''), nullif($4, ''), $5, $6, $7, $8, nullif($9, ''), nullif($10, ''), $11, $12)`,
		r.ID, r.UserID, r.Module, r.RecordID, r.Kind, r.Content, metadata, sum[:], r.Origin, r.OriginID, r.ExpiresAt, r.CreatedAt)
	return r
}

// metadataOf reads JSON as a database gives it back.
func metadataOf(tb testing.TB, text string) map[string]any {
	tb.Helper()
	m, err := ReadMetadata([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// record stores what is known of a record of account 77.
func (o *office) record(tb testing.TB, module, id, data string) {
	tb.Helper()
	o.exec(tb, `INSERT INTO records (module, record_id, account_id, data) VALUES ($1, $2, '77', $3)
		ON CONFLICT (module, record_id) DO UPDATE SET data = $3`, module, id, data)
}

// ask asks for a run.
func (o *office) ask(tb testing.TB, kind, userID string, dryRun bool) Run {
	tb.Helper()
	run, err := o.runs.Start(tb.Context(), Caller{Actor: "token/clerk", All: true, RequestID: "r-1"}, kind, userID, dryRun)
	if err != nil {
		tb.Fatal(err)
	}
	return run
}

// job is the job of a run, as River hands it to its worker.
func (o *office) job(tb testing.TB, id uuid.UUID) *river.Job[job.RunMemory] {
	tb.Helper()
	var jobID *int64
	if err := o.pool.QueryRow(tb.Context(), `SELECT job_id FROM memory_runs WHERE id = $1`, id).Scan(&jobID); err != nil {
		tb.Fatal(err)
	}
	j := &river.Job[job.RunMemory]{JobRow: &rivertype.JobRow{}, Args: job.RunMemory{RunID: id}}
	if jobID != nil {
		j.ID = *jobID
	}
	return j
}

// work works a run to its end.
func (o *office) work(tb testing.TB, id uuid.UUID) Run {
	tb.Helper()
	for range 10_000 {
		if run := o.get(tb, id); run.EndedAt != nil {
			return run
		}
		if err := o.runner.Work(tb.Context(), o.job(tb, id)); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Fatal("the run does not end")
	return Run{}
}

func (o *office) get(tb testing.TB, id uuid.UUID) Run {
	tb.Helper()
	run, err := o.runs.Get(tb.Context(), Caller{All: true}, id)
	if err != nil {
		tb.Fatal(err)
	}
	return run
}

// do asks for a run and works it.
func (o *office) do(tb testing.TB, kind, userID string, dryRun bool) Run {
	tb.Helper()
	run := o.work(tb, o.ask(tb, kind, userID, dryRun).ID)
	if run.State != RunCompleted {
		tb.Fatalf("the run is %s: %s", run.State, run.LastError)
	}
	return run
}

// told are the webhooks in their order: event, user, data.
func (o *office) told(tb testing.TB) []string {
	tb.Helper()
	return o.texts(tb, `SELECT event || ' ' || user_id || ' ' || (convert_from(payload, 'UTF8')::json -> 'data')::text FROM outbox ORDER BY seq`)
}

// lines are a user's lines as text.
func (o *office) lines(tb testing.TB, userID string) []string {
	tb.Helper()
	return o.texts(tb, `SELECT source || ' ' || relationship || ' ' || target FROM relationships WHERE user_id = $1 ORDER BY 1`, userID)
}

// contents are what is remembered of a user, oldest first.
func (o *office) contents(tb testing.TB, userID string) []string {
	tb.Helper()
	return o.texts(tb, `SELECT content FROM memories WHERE user_id = $1 ORDER BY created_at, id`, userID)
}

// cutAt lets the nth slice from now on fail at its last statement, and no other:
// sequences go on, whatever becomes of a transaction.
func (o *office) cutAt(tb testing.TB, n int) {
	tb.Helper()
	o.exec(tb, `CREATE SEQUENCE slices`)
	o.exec(tb, fmt.Sprintf(`CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF nextval('slices') = %d THEN RAISE EXCEPTION 'cut by the test' USING ERRCODE = '57P01'; END IF;
		RETURN NEW; END $$`, n))
	o.exec(tb, `CREATE TRIGGER cut BEFORE UPDATE OF state ON memory_runs FOR EACH ROW EXECUTE FUNCTION cut()`)
}

func encoded(tb testing.TB, value any) string {
	tb.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// waiting waits until a connection waits for a lock of another.
func (o *office) waiting(ctx context.Context, tb testing.TB) {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		var n int
		err := o.pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
		if err != nil {
			tb.Fatal(err)
		}
		if n > 0 {
			return
		}
	}
	tb.Fatal("nobody waits")
}

// during works a job of a run while a transaction with these statements is open,
// and commits it when the run waits for it.
func (o *office) during(tb testing.TB, run Run, statements ...string) {
	tb.Helper()
	tx, err := o.pool.Begin(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(tb.Context()))
	for _, sql := range statements {
		if _, err := tx.Exec(tb.Context(), sql); err != nil {
			tb.Fatal(err)
		}
	}
	worked := make(chan error, 1)
	j := o.job(tb, run.ID)
	go func() { worked <- o.runner.Work(tb.Context(), j) }()
	o.waiting(tb.Context(), tb)
	if err := tx.Commit(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if err := <-worked; err != nil {
		tb.Fatal(err)
	}
}
