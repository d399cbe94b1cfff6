package process

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// Waker works WakeAccount jobs: it brings work to an account's lane for which
// there is no event. A sync may not do so itself, for it holds records already,
// and accounts are locked before those.
type Waker struct {
	river.WorkerDefaults[job.WakeAccount]
	pool *pgxpool.Pool
	jobs lane.Inserter
	log  *slog.Logger
}

// NewWaker makes a Waker.
func NewWaker(pool *pgxpool.Pool, jobs lane.Inserter, log *slog.Logger) *Waker {
	return &Waker{pool: pool, jobs: jobs, log: log}
}

// Work makes the account's lane due now, making the lane if there is none, and
// ends the job in the same transaction. A lane that somebody else holds is woken
// with the next try.
func (w *Waker) Work(ctx context.Context, j *river.Job[job.WakeAccount]) error {
	held := false
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		lanes, now, err := lockLanes(ctx, q, map[int64]target{0: {accountID: j.Args.AccountID}})
		if err != nil {
			return err
		}
		l, ok := lanes[j.Args.AccountID]
		if !ok {
			held = true
			return nil
		}
		l.wanted++
		if l.due == nil || now.Before(*l.due) {
			l.due = &now
		}
		l.woken = true
		if err := wakeLanes(ctx, tx, w.jobs, now, lanes); err != nil {
			return err
		}
		if err := q.CompleteJobs(ctx, []int64{j.ID}); err != nil {
			return fmt.Errorf("complete job: %w", err)
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return ended(ctx)
	case err != nil:
		return wait(ctx, w.log, err, "account_id", j.Args.AccountID)
	case held:
		return river.JobSnooze(50 * time.Millisecond)
	}
	return nil
}

// wakeOthers gives a job to each account that a record came to or left, but those
// whose own lane this transaction closes: they have just looked.
func (s *Syncer) wakeOthers(ctx context.Context, tx pgx.Tx, g *syncGroup) error {
	for _, u := range g.closing() {
		delete(g.woken, u.accountID)
	}
	var params []river.InsertManyParams
	for _, id := range sortedKeys(g.woken) {
		params = append(params, river.InsertManyParams{Args: job.WakeAccount{AccountID: id}})
	}
	if len(params) == 0 {
		return nil
	}
	if _, err := s.jobs.InsertManyTx(ctx, tx, params); err != nil {
		return fmt.Errorf("insert wake jobs: %w", err)
	}
	return nil
}
