package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// The kinds of runs over all that is remembered of a user.
const (
	GraphBuild = "graph_build"
	Optimize   = "optimize"
)

// The states of a run. Completed and failed ones have ended.
const (
	RunQueued    = "queued"
	RunRunning   = "running"
	RunCompleted = "completed"
	RunFailed    = "failed"
)

// runsKept is how long a run can be asked about after its end.
const runsKept = 90 * 24 * time.Hour

// Run is some work on all that is remembered of a user, as it is shown.
type Run struct {
	ID        uuid.UUID  `json:"id"`
	Kind      string     `json:"kind"` // graph_build or optimize
	UserID    string     `json:"user_id"`
	DryRun    bool       `json:"dry_run"` // it counts what it would do, and does nothing
	State     string     `json:"state"`   // queued, running, completed or failed
	Progress  Progress   `json:"progress"`
	LastError string     `json:"last_error,omitempty"` // why it failed, or what keeps it
	CreatedAt time.Time  `json:"created_at"`
	EndedAt   *time.Time `json:"ended_at"`
}

// Progress is how far a run is, and what it came to so far: one of the two, by its
// kind. Before the run has begun there is neither.
type Progress struct {
	Done      int64           `json:"done"`  // memories and records looked at
	Total     int64           `json:"total"` // that there were when it began
	Graph     *GraphBuiltData `json:"graph,omitempty"`
	Optimized *OptimizedData  `json:"optimized,omitempty"`
}

// Runs starts and shows runs. A Runner works them.
type Runs struct {
	pool *pgxpool.Pool
	jobs lane.Inserter
}

// NewRuns makes Runs.
func NewRuns(pool *pgxpool.Pool, jobs lane.Inserter) *Runs { return &Runs{pool: pool, jobs: jobs} }

// Start asks for a run and returns it as it waits. Is one like it waiting already,
// that one is returned: it will see all that there is now. dryRun is for Optimize
// alone. It returns an *Invalid, ErrNotFound for a user that the caller may not
// see, or ErrKeyReused; the answer to a key that was used before is that of before.
func (r *Runs) Start(ctx context.Context, c Caller, kind, userID string, dryRun bool) (Run, error) {
	if kind != GraphBuild && kind != Optimize {
		return Run{}, invalid("kind", "want %s or %s", GraphBuild, Optimize)
	}
	if dryRun && kind != Optimize {
		return Run{}, invalid("dry_run", "is for %s alone", Optimize)
	}
	if err := CheckUserID(userID); err != nil {
		return Run{}, err
	}
	if !c.May(userID) {
		return Run{}, ErrNotFound
	}
	asked := db.InsertMemoryRunParams{Kind: kind, UserID: userID, DryRun: dryRun, Actor: c.Actor, RequestID: c.RequestID}
	var run Run
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		run, err = r.answerOnce(ctx, tx, c, func() (Run, error) { return r.start(ctx, tx, asked) })
		return err
	})
	return run, err
}

// attempts is how often a moment's change may cross a question.
const attempts = 3

// answerOnce does something under the caller's Idempotency-Key, or gives the
// answer of before.
func (r *Runs) answerOnce(ctx context.Context, tx pgx.Tx, c Caller, do func() (Run, error)) (Run, error) {
	if c.Key == "" {
		return do()
	}
	q := db.New(tx)
	actors, keys := []string{c.Actor}, []string{c.Key}
	for range attempts {
		ours, err := q.ClaimIdempotencyKeys(ctx, db.ClaimIdempotencyKeysParams{Actors: actors, Keys: keys, Digests: [][]byte{c.Digest[:]}})
		if err != nil {
			return Run{}, fmt.Errorf("claim the idempotency key: %w", err)
		}
		if len(ours) > 0 {
			run, err := do()
			if err != nil {
				return Run{}, err
			}
			answer, err := json.Marshal(run)
			if err != nil {
				return Run{}, fmt.Errorf("encode the run: %w", err)
			}
			err = q.AnswerIdempotencyKeys(ctx, db.AnswerIdempotencyKeysParams{Actors: actors, Keys: keys, Answers: [][]byte{answer}})
			if err != nil {
				return Run{}, fmt.Errorf("keep the answer of the idempotency key: %w", err)
			}
			return run, nil
		}
		before, err := q.ListIdempotencyKeys(ctx, db.ListIdempotencyKeysParams{Actors: actors, Keys: keys})
		if err != nil {
			return Run{}, fmt.Errorf("list idempotency keys: %w", err)
		}
		if len(before) == 0 {
			continue // whoever had it has let it go
		}
		if !bytes.Equal(before[0].Digest, c.Digest[:]) {
			return Run{}, ErrKeyReused
		}
		var run Run
		if err := json.Unmarshal(before[0].Answer, &run); err != nil {
			return Run{}, fmt.Errorf("read the answer of before: %w", err)
		}
		return run, nil
	}
	return Run{}, group.ErrHeld
}

// start makes a run and its job, or finds the one that waits.
func (r *Runs) start(ctx context.Context, tx pgx.Tx, asked db.InsertMemoryRunParams) (Run, error) {
	q := db.New(tx)
	asked.ID = uuid.Must(uuid.NewV7())
	for range attempts {
		row, err := q.InsertMemoryRun(ctx, asked)
		if err == nil {
			if err := giveRunJobs(ctx, tx, r.jobs, row.CreatedAt, []uuid.UUID{row.ID}); err != nil {
				return Run{}, err
			}
			return runFrom(row)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return Run{}, fmt.Errorf("insert run: %w", err)
		}
		row, err = q.GetQueuedMemoryRun(ctx, db.GetQueuedMemoryRunParams{UserID: asked.UserID, Kind: asked.Kind, DryRun: asked.DryRun})
		if err == nil {
			return runFrom(row)
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return Run{}, fmt.Errorf("get the run that waits: %w", err)
		}
	}
	return Run{}, group.ErrHeld
}

// giveRunJobs inserts a job for each run, which any other of its jobs is to leave alone.
func giveRunJobs(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, now time.Time, ids []uuid.UUID) error {
	wakes := make([]lane.Wake, len(ids))
	for i, id := range ids {
		wakes[i] = lane.Wake{Due: now, Args: job.RunMemory{RunID: id}}
	}
	jobIDs, err := lane.Ensure(ctx, tx, jobs, now, wakes)
	if err != nil {
		return err
	}
	if err := db.New(tx).SetMemoryRunJobs(ctx, db.SetMemoryRunJobsParams{Ids: ids, JobIds: jobIDs}); err != nil {
		return fmt.Errorf("set the jobs of runs: %w", err)
	}
	return nil
}

// Get returns a run; ErrNotFound when there is none that the caller may see.
func (r *Runs) Get(ctx context.Context, c Caller, id uuid.UUID) (Run, error) {
	row, err := db.New(r.pool).GetMemoryRun(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) || (err == nil && !c.May(row.UserID)) {
		return Run{}, ErrNotFound
	}
	if err != nil {
		return Run{}, fmt.Errorf("get run: %w", err)
	}
	return runFrom(row)
}

// Mend gives a fresh job to runs whose job is not live any more, at most most of
// them, and returns to how many.
func (r *Runs) Mend(ctx context.Context, tx pgx.Tx, most int32) (int, error) {
	rows, err := db.New(tx).LockOrphanedMemoryRuns(ctx, most)
	if err != nil {
		return 0, fmt.Errorf("lock orphaned runs: %w", err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return len(ids), giveRunJobs(ctx, tx, r.jobs, rows[0].Now, ids)
}

// Forget deletes runs that ended ninety days ago, at most most of them, and
// returns how many.
func (r *Runs) Forget(ctx context.Context, tx pgx.Tx, most int32) (int, error) {
	n, err := db.New(tx).DeleteOldMemoryRuns(ctx, db.DeleteOldMemoryRunsParams{OlderThan: runsKept, MaxRows: most})
	if err != nil {
		return 0, fmt.Errorf("delete old runs: %w", err)
	}
	return int(n), nil
}

// runFrom reads a run as the database returns it.
func runFrom(row db.MemoryRun) (Run, error) {
	run := Run{
		ID: row.ID, Kind: row.Kind, UserID: row.UserID, DryRun: row.DryRun, State: row.State,
		LastError: row.LastError, CreatedAt: row.CreatedAt.UTC(), EndedAt: inUTC(row.EndedAt),
	}
	if err := json.Unmarshal(row.Progress, &run.Progress); err != nil {
		return Run{}, fmt.Errorf("read the progress of run %s: %w", row.ID, err)
	}
	return run, nil
}
