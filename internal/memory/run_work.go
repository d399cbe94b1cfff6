package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

const (
	// runTurn is how long a job goes on with one run before others have their turn:
	// a slice that is begun then has still time to end.
	runTurn = 3 * time.Second
	// runWait is between two tries while the database is away.
	runWait = 2 * time.Second
	// runFailures is how often in a row a slice may fail for what it holds. Other
	// faults are the database's, for a day.
	runFailures    = 5
	giveUpRunAfter = 24 * time.Hour
	// maxRunError bounds what is kept of an error, in bytes.
	maxRunError = 500
)

// phaseBegin is where a run is before its first slice, phaseEnd when its next ends it.
const (
	phaseBegin = ""
	phaseEnd   = "end"
)

// Runner works runs: the worker of RunMemory. A run is cut into slices, each one
// transaction, which locks the run, does a page of its work and writes where it
// stands. So nothing is done twice, and a job that its run does not name does nothing.
type Runner struct {
	river.WorkerDefaults[job.RunMemory]
	pool   *pgxpool.Pool
	jobs   lane.Inserter
	writer *Writer
	now    func() time.Time
	log    *slog.Logger
	page   int32         // memories or records looked at in one slice
	turn   time.Duration // how long one job works
}

// runPage is how many memories a slice looks at. Each may hold MaxContent, and each
// may have to be held against others.
const runPage = 250

// NewRunner makes a Runner.
func NewRunner(pool *pgxpool.Pool, jobs lane.Inserter, writer *Writer, now func() time.Time, log *slog.Logger) *Runner {
	return &Runner{pool: pool, jobs: jobs, writer: writer, now: now, log: log, page: runPage, turn: runTurn}
}

// checkpoint is the row behind which a run goes on: a record, or a memory.
type checkpoint struct {
	Module   string    `json:"module,omitempty"`
	RecordID string    `json:"record_id,omitempty"`
	At       time.Time `json:"at,omitzero"`
	ID       uuid.UUID `json:"id,omitzero"`
}

// slice is one transaction of a run, which holds the run's row.
type slice struct {
	tx       pgx.Tx
	q        *db.Queries
	run      db.MemoryRun
	phase    string
	at       checkpoint
	progress Progress
}

// errNotOurs says that a run has ended, or that another job works it.
var errNotOurs = errors.New("the run is another's")

// Work goes on with a run where it stands, for some seconds, and sees to its next
// job. What is wrong with the database makes it wait; a slice that fails for what it
// holds is tried some times, then the run has failed and memory_error tells of it.
func (r *Runner) Work(ctx context.Context, j *river.Job[job.RunMemory]) error {
	until := r.now().Add(r.turn)
	for {
		ended, err := r.slice(ctx, j.Args.RunID, j.ID)
		switch {
		case errors.Is(err, errNotOurs), err == nil && ended:
			return nil
		case err != nil:
			return r.failed(ctx, j, err)
		case !r.now().Before(until):
			return r.later(ctx, j, r.handOver(ctx, j))
		}
	}
}

// NextRetry is when a job runs again that was taken from its worker.
func (r *Runner) NextRetry(*river.Job[job.RunMemory]) time.Time { return r.now().Add(time.Second) }

// slice works one slice and reports whether the run has ended with it.
func (r *Runner) slice(ctx context.Context, id uuid.UUID, jobID int64) (ended bool, err error) {
	err = r.inRun(ctx, id, jobID, func(s *slice) error {
		if s.phase == phaseEnd {
			ended = true
			return r.end(ctx, s)
		}
		steps := r.optimizeSteps()
		if s.run.Kind == GraphBuild {
			steps = r.graphSteps()
		}
		step, ok := steps[s.phase]
		if !ok {
			return fmt.Errorf("run %s is at %q, which no %s is", s.run.ID, s.phase, s.run.Kind)
		}
		if err := step(ctx, s); err != nil {
			return err
		}
		return s.advance(ctx)
	})
	return ended && err == nil, err
}

// inRun is a transaction that holds the run; it returns errNotOurs when the run
// has ended or names another job.
func (r *Runner) inRun(ctx context.Context, id uuid.UUID, jobID int64, do func(*slice) error) error {
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		run, err := q.LockMemoryRun(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNotOurs
		}
		if err != nil {
			return fmt.Errorf("lock run: %w", err)
		}
		if run.EndedAt != nil || run.JobID == nil || *run.JobID != jobID {
			return errNotOurs
		}
		s := &slice{tx: tx, q: q, run: run, phase: run.Phase}
		if err := json.Unmarshal(run.Checkpoint, &s.at); err != nil {
			return fmt.Errorf("read the checkpoint of run %s: %w", id, err)
		}
		if err := json.Unmarshal(run.Progress, &s.progress); err != nil {
			return fmt.Errorf("read the progress of run %s: %w", id, err)
		}
		return do(s)
	})
}

// next is the phase after the one that has come to its end.
func (s *slice) next(phase string) { s.phase, s.at = phase, checkpoint{} }

// advance writes where the run stands.
func (s *slice) advance(ctx context.Context) error {
	at, err := json.Marshal(s.at)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	progress, err := json.Marshal(s.progress)
	if err != nil {
		return fmt.Errorf("encode the progress: %w", err)
	}
	if err := s.q.AdvanceMemoryRun(ctx, db.AdvanceMemoryRunParams{ID: s.run.ID, Phase: s.phase, Checkpoint: at, Progress: progress}); err != nil {
		return fmt.Errorf("advance run: %w", err)
	}
	return nil
}

// end completes a run and tells of it, once. A dry run has changed nothing, and
// nobody is told.
func (r *Runner) end(ctx context.Context, s *slice) error {
	told := Announcement{Event: Optimized, UserID: s.run.UserID, Data: s.progress.Optimized, RequestID: s.run.RequestID}
	if s.run.Kind == GraphBuild {
		counts, err := s.q.CountGraph(ctx, s.run.UserID)
		if err != nil {
			return fmt.Errorf("count the graph: %w", err)
		}
		s.progress.Graph.Entities, s.progress.Graph.Relationships = int(counts.Entities), int(counts.Relationships)
		told.Event, told.Data = GraphBuilt, s.progress.Graph
	}
	if err := s.close(ctx, RunCompleted, ""); err != nil {
		return err
	}
	r.log.InfoContext(ctx, "memory run ended", "run_id", s.run.ID, "kind", s.run.Kind, "dry_run", s.run.DryRun, "looked_at", s.progress.Done)
	if s.run.DryRun {
		return nil
	}
	return r.writer.Write(ctx, s.tx, Work{Announcements: []Announcement{told}})
}

func (s *slice) close(ctx context.Context, state, lastError string) error {
	progress, err := json.Marshal(s.progress)
	if err != nil {
		return fmt.Errorf("encode the progress: %w", err)
	}
	p := db.EndMemoryRunParams{ID: s.run.ID, State: state, Phase: s.phase, Progress: progress, LastError: lastError}
	if err := s.q.EndMemoryRun(ctx, p); err != nil {
		return fmt.Errorf("end run: %w", err)
	}
	return nil
}

// handOver gives the run its next job: those of other runs are before it.
func (r *Runner) handOver(ctx context.Context, j *river.Job[job.RunMemory]) error {
	return r.inRun(ctx, j.Args.RunID, j.ID, func(s *slice) error {
		return giveRunJobs(ctx, s.tx, r.jobs, s.run.UpdatedAt, []uuid.UUID{s.run.ID})
	})
}

// failed is what follows from a slice that came to nothing: it is tried again, or
// the run has failed.
func (r *Runner) failed(ctx context.Context, j *river.Job[job.RunMemory], cause error) error {
	if ctx.Err() != nil {
		return r.later(ctx, j, cause)
	}
	r.log.WarnContext(ctx, "a slice of a memory run failed", "run_id", j.Args.RunID, "error", cause)
	return r.later(ctx, j, r.inRun(ctx, j.Args.RunID, j.ID, func(s *slice) error {
		now, err := s.q.TransactionTime(ctx)
		if err != nil {
			return fmt.Errorf("read the time: %w", err)
		}
		failures, wait := s.run.Failures, runWait
		if group.IsData(cause) || now.Sub(s.run.UpdatedAt) > giveUpRunAfter {
			failures, wait = failures+1, runWait<<failures
		}
		if failures >= runFailures {
			return r.giveUp(ctx, s, runError(cause))
		}
		ids, err := lane.Ensure(ctx, s.tx, r.jobs, now, []lane.Wake{{Due: now.Add(wait), Args: job.RunMemory{RunID: s.run.ID}}})
		if err != nil {
			return err
		}
		p := db.FailMemoryRunSliceParams{ID: s.run.ID, Failures: failures, LastError: runError(cause), JobID: ids[0]}
		if err := s.q.FailMemoryRunSlice(ctx, p); err != nil {
			return fmt.Errorf("write why the run waits: %w", err)
		}
		return nil
	}))
}

// giveUp ends a run that cannot go on, and tells of it. What it has done stays.
func (r *Runner) giveUp(ctx context.Context, s *slice, reason string) error {
	if err := s.close(ctx, RunFailed, reason); err != nil {
		return err
	}
	data := FailedData{Operation: s.run.Kind, Error: reason, ItemsCount: int(s.progress.Done)}
	return r.writer.Write(ctx, s.tx, Work{Announcements: []Announcement{
		{Event: Failed, UserID: s.run.UserID, Data: data, RequestID: s.run.RequestID},
	}})
}

// later is what a job returns: nil when all is written, else it is tried again,
// which costs no attempt. A stop gives it back as it was.
func (r *Runner) later(ctx context.Context, j *river.Job[job.RunMemory], err error) error {
	switch {
	case err == nil, errors.Is(err, errNotOurs):
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return river.JobSnooze(runWait)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	r.log.WarnContext(ctx, "a memory run waits for the database", "run_id", j.Args.RunID, "error", err)
	return river.JobSnooze(runWait)
}

// runError is an error as a row keeps it: short, and text that Postgres takes.
func runError(err error) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "")
	if len(text) <= maxRunError {
		return text
	}
	return strings.ToValidUTF8(text[:maxRunError], "")
}
