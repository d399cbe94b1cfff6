package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/job"
)

const (
	// replayRows is how many events one transaction runs again at most.
	replayRows = 500
	// replayBacklog is how many events may wait to be routed for a replay to add to them:
	// what arrives meanwhile waits behind no more than these, and the door stays open.
	replayBacklog = 1000
	// replayTime is how long one job runs events again before it makes room for others,
	// and lookTime how long it looks for the next of them.
	replayTime = 5 * time.Second
	lookTime   = 2 * time.Second
	// replayWait is between two looks whether there is room.
	replayWait = 500 * time.Millisecond
)

// Replayer works Replay jobs: events are run again, a slice at a time.
type Replayer struct {
	river.WorkerDefaults[job.Replay]
	replays *Replays
	log     *slog.Logger
}

// NewReplayer makes a Replayer.
func NewReplayer(replays *Replays, log *slog.Logger) *Replayer {
	return &Replayer{replays: replays, log: log}
}

// Timeout is what a job may take: its time, and the slice it has begun by then.
func (r *Replayer) Timeout(*river.Job[job.Replay]) time.Duration {
	return replayTime + lookTime + 10*time.Second
}

// NextRetry is when a job runs again that was taken from its worker.
func (r *Replayer) NextRetry(*river.Job[job.Replay]) time.Time { return time.Now().Add(time.Second) }

// Work goes on with a replay where it stands, for some seconds. One that does not run, or
// that names another job, is left alone. The same job comes again until all is done.
func (r *Replayer) Work(ctx context.Context, j *river.Job[job.Replay]) error {
	for ends := time.Now().Add(replayTime); ; {
		var over bool
		var wait time.Duration
		err := pgx.BeginFunc(ctx, r.replays.pool, func(tx pgx.Tx) (err error) {
			over, wait, err = r.slice(ctx, tx, j.Args.ReplayID, j.ID)
			return err
		})
		switch {
		case errors.Is(ctx.Err(), context.Canceled):
			// The program stops: River gives the job back at once.
			return ctx.Err()
		case err != nil:
			r.log.WarnContext(ctx, "job waits for the world", "replay_id", j.Args.ReplayID, "error", err)
			return river.JobSnooze(time.Second)
		case over:
			return nil
		case !time.Now().Add(wait).Before(ends):
			return river.JobSnooze(wait)
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// slice is the transaction: it runs some events again and writes how far the replay is, or
// that it is over. wait is how long to wait before the next.
func (r *Replayer) slice(ctx context.Context, tx pgx.Tx, id uuid.UUID, jobID int64) (over bool, wait time.Duration, err error) {
	q := db.New(tx)
	// Whoever works the same replay waits here, and finds what this one has done.
	row, err := q.LockReplay(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return true, 0, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("lock replay: %w", err)
	}
	if row.State != ReplayRunning || row.JobID == nil || *row.JobID != jobID {
		return true, 0, nil
	}
	n, wait, err := replayRoom(ctx, q, row)
	if err != nil || n == 0 {
		return false, wait, err
	}
	shown, err := replayFrom(db.Replay{ID: row.ID, Filter: row.Filter})
	if err != nil {
		return false, 0, err
	}
	ids, position, err := r.look(ctx, shown.Filter, row, n)
	if err != nil {
		return false, 0, err
	}
	replayed, err := r.again(ctx, tx, id, shown.Filter, ids)
	if err != nil {
		return false, 0, err
	}
	err = q.AdvanceReplay(ctx, db.AdvanceReplayParams{
		ID: id, Position: position, Replayed: int64(replayed), Refused: int64(len(ids) - replayed), PacedAt: paced(row, replayed),
	})
	if err != nil {
		return false, 0, fmt.Errorf("advance replay: %w", err)
	}
	if position < row.Newest {
		return false, 0, nil
	}
	if _, err := q.EndReplay(ctx, db.EndReplayParams{ID: id, State: ReplayDone}); err != nil {
		return false, 0, fmt.Errorf("end replay: %w", err)
	}
	if err := q.CompleteJobs(ctx, []int64{jobID}); err != nil {
		return false, 0, fmt.Errorf("complete job: %w", err)
	}
	return true, 0, nil
}

// replayRoom returns how many events may be run again now, and, when that is none, how
// long to wait until some may.
func replayRoom(ctx context.Context, q *db.Queries, row db.LockReplayRow) (n int, wait time.Duration, err error) {
	n = replayRows
	if row.PerSecond != nil {
		if wait := row.PacedAt.Sub(row.Now); wait > 0 {
			return 0, wait, nil
		}
		n = min(n, int(*row.PerSecond))
	}
	waiting, err := q.SumCounter(ctx, string(counter.Backlog))
	if err != nil {
		return 0, 0, fmt.Errorf("look at the backlog: %w", err)
	}
	if n = min(n, int(replayBacklog-waiting)); n <= 0 {
		return 0, replayWait, nil
	}
	return n, 0, nil
}

// paced is when the next event is due at the replay's rate. Told by its row alone, it
// holds whoever works it, and after a pause.
func paced(row db.LockReplayRow, replayed int) time.Time {
	if row.PerSecond == nil {
		return row.Now
	}
	from := row.PacedAt
	if from.Before(row.Now) {
		from = row.Now
	}
	return from.Add(time.Duration(replayed) * time.Second / time.Duration(*row.PerSecond))
}

// look returns the next events of a replay, at most n, and up to which id it has looked.
func (r *Replayer) look(ctx context.Context, f EventFilter, row db.LockReplayRow, n int) (ids []int64, position int64, err error) {
	position = row.Position
	for until := time.Now().Add(lookTime); position < row.Newest && len(ids) == 0 && time.Now().Before(until); {
		end := min(position+replayWindow, row.Newest)
		if ids, err = r.replays.next(ctx, f, position, end, n); err != nil {
			return nil, 0, err
		}
		if position = end; len(ids) == n {
			position = ids[n-1]
		}
	}
	return ids, position, nil
}

// again makes those of the events as new that can be, and inserts their jobs.
func (r *Replayer) again(ctx context.Context, tx pgx.Tx, id uuid.UUID, f EventFilter, ids []int64) (int, error) {
	if len(ids) == 0 {
		return 0, nil
	}
	q := db.New(tx)
	rows, err := q.LockEventsToReplay(ctx, db.LockEventsToReplayParams{Ids: ids, ReplayID: id})
	if err != nil {
		return 0, fmt.Errorf("lock events to run again: %w", err)
	}
	var can []int64
	var params []river.InsertManyParams
	changes := counter.Changes{}
	for _, e := range rows {
		// A person may have decided about it since it was found.
		if !e.Can || f.Status != "" && e.Status != f.Status {
			continue
		}
		can = append(can, e.ID)
		params = append(params, river.InsertManyParams{Args: job.ProcessEvent{EventID: e.ID}})
		changes[counter.Backlog]++
		if e.Status == "dead" {
			changes[counter.Dead]--
		}
	}
	if len(can) == 0 {
		return 0, nil
	}
	if err := q.ResetEvents(ctx, can); err != nil {
		return 0, fmt.Errorf("reset events: %w", err)
	}
	if err := q.InsertEventRuns(ctx, db.InsertEventRunsParams{ReplayID: id, Ids: can}); err != nil {
		return 0, fmt.Errorf("insert event runs: %w", err)
	}
	if _, err := r.replays.jobs.InsertManyTx(ctx, tx, params); err != nil {
		return 0, fmt.Errorf("insert jobs: %w", err)
	}
	return len(can), counter.AddOnce(ctx, tx, changes)
}
