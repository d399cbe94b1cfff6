// Package lane sees to the one job of a lane. A lane is work that belongs
// together and must not run twice at once: a row with wanted, done, due_at and
// job_id. In go lanes whose rows the caller has locked and whose due_at it will
// write; out come the ids of their jobs, for job_id.
package lane

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/db"
)

// Inserter inserts jobs in a transaction: a River client does.
type Inserter interface {
	InsertManyTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error)
}

// Wake is one lane that has work.
type Wake struct {
	JobID *int64    // the lane's job_id; nil: it has none
	Due   time.Time // when the lane is to run
	Args  Args      // of the job to insert when there is none
	// Behind lets others go first: its job is worked when no other waits. A lane whose job
	// waits behind is pulled forward by one who need not.
	Behind bool
	Claim  *Claim // nil: the job is left to the queue
}

// Args are a job's, with its queue and its number of attempts.
type Args interface {
	river.JobArgs
	InsertOpts() river.InsertOpts
}

// Claim is how the work of a lane is begun in this process at once, without a way
// through the queue: the job it needs is there from the start as one that runs, so
// that others see to it when this process is gone.
type Claim struct {
	Process uuid.UUID   // as whom the client of this process works
	Ready   func() bool // asked when a job must be inserted that is due: whether there is room
	JobID   int64       // set by Ensure: the job to work; 0: the queue hands it to somebody
}

// Ensure sees to it that each lane has one live job that runs no later than it
// is due, and returns the jobs' ids in the order of wakes: a job that is gone is
// inserted anew, one that waits is pulled forward, one that runs is left. That
// is enough, because a running job locks the lane's row before it ends and
// looks at due_at again.
//
// A job that is not yet due waits as available with its time in the future,
// which River fetches to the precision of its poll interval. Waiting as
// scheduled would depend on the leader's tick of five seconds.
func Ensure(ctx context.Context, tx pgx.Tx, jobs Inserter, now time.Time, wakes []Wake) ([]int64, error) {
	q := db.New(tx)
	live, err := liveJobs(ctx, q, wakes)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(wakes))
	var pull db.PullJobsForwardParams
	var insert, claim []int // positions in wakes
	for i, w := range wakes {
		switch state, ok := live[jobID(w)]; {
		case !ok && w.Claim != nil && !w.Due.After(now) && w.Claim.Ready():
			claim = append(claim, i)
		case !ok:
			insert = append(insert, i)
		default:
			ids[i] = *w.JobID
			if state != db.RiverJobStateRunning {
				pull.Ids = append(pull.Ids, *w.JobID)
				pull.DueAt = append(pull.DueAt, w.Due)
				pull.Priorities = append(pull.Priorities, w.priority())
			}
		}
	}
	if len(pull.Ids) > 0 {
		if err := q.PullJobsForward(ctx, pull); err != nil {
			return nil, fmt.Errorf("pull jobs forward: %w", err)
		}
	}
	if err := insertRunning(ctx, q, wakes, claim, ids); err != nil {
		return nil, err
	}
	return ids, insertWaiting(ctx, tx, jobs, now, wakes, insert, ids)
}

// insertRunning makes the jobs of lanes that are claimed, those at these positions.
func insertRunning(ctx context.Context, q *db.Queries, wakes []Wake, positions []int, ids []int64) error {
	if len(positions) == 0 {
		return nil
	}
	var p db.InsertRunningJobsParams
	for _, i := range positions {
		w := wakes[i]
		args, err := json.Marshal(w.Args)
		if err != nil {
			return fmt.Errorf("encode the args of a job: %w", err)
		}
		p.Process = w.Claim.Process.String()
		p.Kinds, p.Args = append(p.Kinds, w.Args.Kind()), append(p.Args, args)
		o := w.Args.InsertOpts()
		p.Queues, p.MaxAttempts = append(p.Queues, o.Queue), append(p.MaxAttempts, int16(o.MaxAttempts))
		p.Priorities = append(p.Priorities, w.priority())
	}
	made, err := q.InsertRunningJobs(ctx, p)
	if err != nil {
		return fmt.Errorf("insert claimed jobs: %w", err)
	}
	for n, i := range positions {
		ids[i], wakes[i].Claim.JobID = made[n], made[n]
	}
	return nil
}

// insertWaiting makes the jobs that the queue hands to somebody.
func insertWaiting(ctx context.Context, tx pgx.Tx, jobs Inserter, now time.Time, wakes []Wake, positions []int, ids []int64) error {
	if len(positions) == 0 {
		return nil
	}
	params := make([]river.InsertManyParams, len(positions))
	for n, i := range positions {
		params[n] = river.InsertManyParams{Args: wakes[i].Args, InsertOpts: &river.InsertOpts{Priority: int(wakes[i].priority())}}
	}
	made, err := jobs.InsertManyTx(ctx, tx, params)
	if err != nil {
		return fmt.Errorf("insert jobs: %w", err)
	}
	var delay db.DelayJobsParams
	for n, i := range positions {
		ids[i] = made[n].Job.ID
		if wakes[i].Due.After(now) {
			delay.Ids = append(delay.Ids, ids[i])
			delay.DueAt = append(delay.DueAt, wakes[i].Due)
		}
	}
	if len(delay.Ids) == 0 {
		return nil
	}
	if err := db.New(tx).DelayJobs(ctx, delay); err != nil {
		return fmt.Errorf("delay jobs: %w", err)
	}
	return nil
}

// priority is the queue's: 1 goes first.
func (w Wake) priority() int16 {
	if w.Behind {
		return 2
	}
	return 1
}

func jobID(w Wake) int64 {
	if w.JobID == nil {
		return 0
	}
	return *w.JobID
}

// liveJobs returns the states of those jobs that will still run or are running.
func liveJobs(ctx context.Context, q *db.Queries, wakes []Wake) (map[int64]db.RiverJobState, error) {
	var ids []int64
	for _, w := range wakes {
		if w.JobID != nil {
			ids = append(ids, *w.JobID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := q.ListJobStates(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list job states: %w", err)
	}
	live := make(map[int64]db.RiverJobState, len(rows))
	for _, r := range rows {
		switch r.State {
		case db.RiverJobStateAvailable, db.RiverJobStateRetryable, db.RiverJobStateRunning, db.RiverJobStateScheduled:
			live[r.ID] = r.State
		}
	}
	return live, nil
}
