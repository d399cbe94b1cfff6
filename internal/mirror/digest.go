package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
)

// Digester is a memory system that works up what was copied to it, in runs that go
// on by themselves: Cognee makes its graph so. Errors are as those of memory.Remote.
type Digester interface {
	// Start begins a run, and returns without waiting for its end. over says that it
	// has ended already, as when there was nothing to work up.
	Start(ctx context.Context) (over bool, err error)
	// Progress says how far the last run is.
	Progress(ctx context.Context) (Progress, error)
}

// Progress is how far a run is.
type Progress string

// The progress of a run.
const (
	ProgressNone      Progress = "none" // nobody has begun one
	ProgressRunning   Progress = "running"
	ProgressCompleted Progress = "completed"
	ProgressErrored   Progress = "errored"
)

const (
	// A run begins digestQuiet after the last change, so that a flood is worked up
	// once, and digestLongest after the first at the latest.
	digestQuiet   = 10 * time.Second
	digestLongest = time.Minute
	// A run is asked after each digestLook at first, more seldom the longer it goes on.
	digestLook       = 2 * time.Second
	digestSeldom     = 15 * time.Second
	digestCalm       = 20 * time.Second // how long it is asked after so often
	digestGivenUp    = 2 * time.Hour    // one of which nothing is heard for so long has died
	firstDigestRetry = 30 * time.Second
	lastDigestRetry  = time.Hour // runs cost money, those that err too
)

// errRun is what is kept of a run that ended badly: nobody says why.
var errRun = errors.New("the run ended with an error: the system's own log says which")

// errLost is kept of a run that does not end.
var errLost = fmt.Errorf("nothing was heard of the end of a run for %s", digestGivenUp)

// bringDigest says that copies have changed, and returns the wake of the digest's
// lane: none when nobody works anything up, or when a run is under way, which looks
// again at its end.
func (m *Mirror) bringDigest(ctx context.Context, q *db.Queries, changed bool) ([]lane.Wake, error) {
	if !changed || m.o.Digester == nil {
		return nil, nil
	}
	row, err := q.BringDigest(ctx, db.BringDigestParams{Backend: m.o.Backend, Quiet: digestQuiet, Longest: digestLongest})
	if err != nil {
		return nil, fmt.Errorf("bring work to the digest: %w", err)
	}
	if row.State != "waiting" || row.DueAt == nil {
		return nil, nil
	}
	return []lane.Wake{{JobID: row.JobID, Due: *row.DueAt, Args: job.Cognify{Backend: m.o.Backend}}}, nil
}

// digestWorker works Cognify jobs: the lane of a digest.
type digestWorker struct {
	river.WorkerDefaults[job.Cognify]
	m *Mirror
}

// Timeout is the longest that a step of a run can rightly take.
func (w *digestWorker) Timeout(*river.Job[job.Cognify]) time.Duration {
	return w.m.o.CallTime + recordTime + 5*time.Second
}

// NextRetry is when a job runs again that ended without an answer, as after a crash.
func (w *digestWorker) NextRetry(*river.Job[job.Cognify]) time.Time {
	return time.Now().Add(time.Second)
}

// Work does the next step of a run: it begins one, or asks how far it is. The job
// stays until nothing is left to do; between steps it waits in the queue. What goes
// wrong stands in the lane's row.
func (w *digestWorker) Work(ctx context.Context, j *river.Job[job.Cognify]) error {
	m := w.m
	if j.Args.Backend != m.o.Backend || m.o.Digester == nil {
		return nil
	}
	if open := new(breaker.OpenError); errors.As(m.breaker.Look(ctx), &open) {
		return river.JobSnooze(open.Wait + spread(0, m.o.Random))
	}
	row, mine, err := m.takeDigest(ctx, j.ID)
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case err != nil:
		return m.wait(ctx, err, "digest", m.o.Backend)
	case !mine:
		return nil
	case row.DueAt != nil && row.DueAt.After(row.Now):
		return river.JobSnooze(min(row.DueAt.Sub(row.Now), 5*time.Second))
	}
	var open *breaker.OpenError
	if errors.As(m.breaker.Allow(ctx), &open) {
		return river.JobSnooze(open.Wait + spread(0, m.o.Random))
	}
	within, cancel := context.WithTimeout(ctx, m.o.CallTime)
	defer cancel()
	progress, err := m.step(within, row)
	m.breaker.Report(ctx, err)
	if err != nil && ctx.Err() != nil {
		return ended(ctx)
	}
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	wait, err := m.closeDigest(record, j.ID, row.Taken, progress, err)
	switch {
	case err != nil:
		return m.wait(ctx, err, "digest", m.o.Backend)
	case wait > 0:
		return river.JobSnooze(wait)
	}
	return nil
}

// takeDigest returns the lane's row as it is, after it has begun a run where one is
// due; mine is false when the lane names another job.
func (m *Mirror) takeDigest(ctx context.Context, jobID int64) (row db.LockDigestRow, mine bool, err error) {
	err = pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) (err error) {
		q := db.New(tx)
		row, err = q.LockDigest(ctx, m.o.Backend)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("lock the digest: %w", err)
		}
		mine = row.JobID != nil && *row.JobID == jobID && row.State != "idle"
		due := row.DueAt == nil || !row.DueAt.After(row.Now)
		if !mine || !due || (row.State != "waiting" && row.State != "retrying") {
			return nil
		}
		row.Taken = row.Wanted
		if err := q.BeginDigest(ctx, m.o.Backend); err != nil {
			return fmt.Errorf("begin a run: %w", err)
		}
		return nil
	})
	return row, mine, err
}

// step begins a run, or asks how far it is. One that was asked for without an answer
// may be under way: it is asked after first.
func (m *Mirror) step(ctx context.Context, row db.LockDigestRow) (Progress, error) {
	if row.State == "running" || row.State == "starting" {
		progress, err := m.o.Digester.Progress(ctx)
		if err != nil || row.State == "running" || progress == ProgressRunning {
			return progress, err
		}
	}
	over, err := m.o.Digester.Start(ctx)
	if over {
		return ProgressCompleted, err
	}
	return ProgressRunning, err
}

// closeDigest writes what became of a step, and returns when the job is to go on;
// 0: it has ended.
func (m *Mirror) closeDigest(ctx context.Context, jobID, taken int64, progress Progress, failed error) (wait time.Duration, err error) {
	err = pgx.BeginFunc(ctx, m.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.LockDigest(ctx, m.o.Backend)
		if err != nil {
			return fmt.Errorf("lock the digest: %w", err)
		}
		if row.JobID == nil || *row.JobID != jobID || row.Taken != taken {
			return nil // somebody newer goes on with it
		}
		next := settleDigest(row, progress, failed, m.o.Random)
		if next.DueAt != nil {
			wait = max(next.DueAt.Sub(row.Now), time.Millisecond)
			next.JobID = row.JobID
		}
		next.Backend = m.o.Backend
		if err := q.CloseDigest(ctx, next); err != nil {
			return fmt.Errorf("close the digest: %w", err)
		}
		return nil
	})
	return wait, err
}

// isRemote reports whether the system itself said err, or did not answer.
func isRemote(err error) bool {
	var e *memory.RemoteError
	return errors.As(err, &e)
}

// settleDigest says what follows from a step of a run.
func settleDigest(row db.LockDigestRow, progress Progress, failed error, random func() float64) db.CloseDigestParams {
	next := db.CloseDigestParams{
		State: row.State, Done: row.Done, Failures: row.Failures, LastError: row.LastError, CompletedAt: row.CompletedAt,
	}
	after := func(d time.Duration) {
		at := row.Now.Add(d)
		next.DueAt = &at
	}
	age := time.Duration(0)
	if row.StartedAt != nil {
		age = row.Now.Sub(*row.StartedAt)
	}
	if failed == nil && progress == ProgressErrored {
		failed = errRun
	}
	if failed == nil && progress != ProgressCompleted && age > digestGivenUp {
		failed = errLost
	}
	switch {
	case row.State == "running" && isRemote(failed) && worlds(failed):
		// Whoever cannot be asked may be at work: the run is asked after again.
		next.LastError = reason(failed)
		after(max(digestSeldom, retryAfter(failed)))
	case failed != nil:
		next.State, next.LastError = "retrying", reason(failed)
		next.Failures++
		wait := min(firstDigestRetry<<min(next.Failures-1, 16), lastDigestRetry)
		after(max(time.Duration(float64(wait)*(0.8+0.4*random())), retryAfter(failed)))
	case progress == ProgressCompleted:
		next.State, next.Done, next.Failures, next.LastError, next.CompletedAt = "idle", row.Taken, 0, "", &row.Now
		if row.Wanted > row.Taken {
			next.State = "waiting"
			after(digestQuiet)
		}
	default:
		next.State = "running"
		after(digestLook)
		if age > digestCalm {
			after(digestSeldom)
		}
	}
	return next
}
