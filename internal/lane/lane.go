// Package lane sees to the one job of a lane. A lane is work that belongs
// together and must not run twice at once: a row with wanted, done, due_at and
// job_id. In go lanes whose rows the caller has locked and whose due_at it will
// write; out come the ids of their jobs, for job_id.
package lane

import (
	"context"
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
	JobID *int64        // the lane's job_id; nil: it has none
	Due   time.Time     // when the lane is to run
	Args  river.JobArgs // of the job to insert when there is none
	Claim *Claim        // nil: the job is left to the queue
}

// Claim is how the work of a lane is begun in this process at once, without a way
// through the queue: the job it needs is there and runs, so that others see to it
// when this process is gone.
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
	var insert []river.InsertManyParams
	var inserted []int // positions in wakes
	claimed := map[int]bool{}
	for i, w := range wakes {
		switch state, ok := live[jobID(w)]; {
		case !ok:
			p := river.InsertManyParams{Args: w.Args}
			if w.Claim != nil && !w.Due.After(now) && w.Claim.Ready() {
				claimed[i] = true
				p.InsertOpts = &river.InsertOpts{ScheduledAt: now.Add(time.Second)} // nobody is told of it
			}
			insert = append(insert, p)
			inserted = append(inserted, i)
		default:
			ids[i] = *w.JobID
			if state != db.RiverJobStateRunning {
				pull.Ids = append(pull.Ids, *w.JobID)
				pull.DueAt = append(pull.DueAt, w.Due)
			}
		}
	}
	if len(pull.Ids) > 0 {
		if err := q.PullJobsForward(ctx, pull); err != nil {
			return nil, fmt.Errorf("pull jobs forward: %w", err)
		}
	}
	if len(insert) == 0 {
		return ids, nil
	}
	results, err := jobs.InsertManyTx(ctx, tx, insert)
	if err != nil {
		return nil, fmt.Errorf("insert jobs: %w", err)
	}
	var delay db.DelayJobsParams
	var claim db.ClaimJobsParams
	for n, i := range inserted {
		ids[i] = results[n].Job.ID
		if claimed[i] {
			wakes[i].Claim.JobID = ids[i]
			claim.Process, claim.Ids = wakes[i].Claim.Process.String(), append(claim.Ids, ids[i])
			continue
		}
		if wakes[i].Due.After(now) {
			delay.Ids = append(delay.Ids, ids[i])
			delay.DueAt = append(delay.DueAt, wakes[i].Due)
		}
	}
	if len(claim.Ids) > 0 {
		if err := q.ClaimJobs(ctx, claim); err != nil {
			return nil, fmt.Errorf("claim jobs: %w", err)
		}
	}
	if len(delay.Ids) > 0 {
		if err := q.DelayJobs(ctx, delay); err != nil {
			return nil, fmt.Errorf("delay jobs: %w", err)
		}
	}
	return ids, nil
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
