package app

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/outbound"
)

const (
	// sweepEvery is how long a row that lost its job waits for a new one at most.
	sweepEvery = time.Minute
	// sweepRows is how many rows one transaction mends.
	sweepRows = 1000
	// purgeRows is how many webhooks one transaction forgets the payloads of, each with
	// what all its receivers answered.
	purgeRows = 500
	// rescueEvery and goneAfter say how soon the jobs of a process that crashed are
	// given to others. Each writes its row every second: one that has not done so for
	// ten is gone, or has lost the database, and then its jobs end without effect.
	rescueEvery = 5 * time.Second
	goneAfter   = 10 * time.Second
	// toldKept is how long it is known of a memory that another system deleted: for as
	// long as something said of it before may still come.
	toldKept = 90 * 24 * time.Hour
)

// rescue gives back what processes that crashed had in hand, until ctx ends.
func (a *App) rescue(ctx context.Context) {
	a.each(ctx, rescueEvery, a.Rescue, "jobs of a process that is gone were given back")
}

// each does something at once and then so often until ctx ends, and says how many
// rows it was done to, or that it failed.
func (a *App) each(ctx context.Context, every time.Duration, do func(context.Context) (int, error), done string) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		n, err := do(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.log.WarnContext(ctx, "upkeep of the database failed and is tried again", "every", every, "error", err)
		case n > 0:
			a.log.WarnContext(ctx, done, "rows", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Rescue gives back the jobs of processes that are gone, and returns how many.
// That one of them lives all the same does no harm: who writes second finds the
// effect of the first.
func (a *App) Rescue(ctx context.Context) (int, error) {
	n, err := db.New(a.pool).RescueJobs(ctx, db.RescueJobsParams{GoneAfter: goneAfter, Process: a.process})
	if err != nil {
		return 0, fmt.Errorf("rescue jobs: %w", err)
	}
	leases, err := a.deliverer.Rescue(ctx, goneAfter)
	return int(n) + leases, err
}

// sweep mends what lost its job, at once and then each minute, until ctx ends.
// Jobs can end without our code running: discarded by a rescue, deleted by hand.
func (a *App) sweep(ctx context.Context) {
	a.each(ctx, sweepEvery, a.Sweep, "rows that had lost their job got a new one")
}

// Sweep gives a fresh job to every event, lane and outbox row that has none
// alive, folds the counters of processes that are gone, corrects the backlog's,
// makes next month's partition, starts the syncs of Zoho and the upkeep of its
// channels when their time has come, and deletes what has expired. It returns how many rows it mended. Being
// late is never a reason to mend: only having no job is. Several nodes may sweep
// at once; one does, the others find nothing to do.
func (a *App) Sweep(ctx context.Context) (int, error) {
	mended := 0
	for _, mend := range []func(context.Context, pgx.Tx) (int, error){
		a.mendEvents, a.mendAccounts, a.mendMirrors, a.mendRuns, a.mendOutbox, a.mendEndpoints, a.mendRedeliveries, a.mendReplays,
	} {
		for {
			n, err := a.alone(ctx, pgx.TxOptions{}, mend)
			if err != nil {
				return mended, err
			}
			mended += n
			if n < sweepRows {
				break
			}
		}
	}
	if _, err := a.alone(ctx, pgx.TxOptions{}, a.fold); err != nil {
		return mended, err
	}
	if _, err := a.alone(ctx, pgx.TxOptions{}, a.schedule); err != nil {
		return mended, err
	}
	if _, err := a.alone(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, trueUp); err != nil {
		return mended, err
	}
	return mended, a.forget(ctx)
}

// forget deletes what is kept for a while: memories whose time is up, which is told,
// the answers of Idempotency-Keys, and what webhooks said that were told long ago.
func (a *App) forget(ctx context.Context) error {
	for n := memory.MaxBatch; n == memory.MaxBatch; {
		var err error
		if n, err = a.memories.Expire(ctx); err != nil {
			return fmt.Errorf("delete memories that have expired: %w", err)
		}
	}
	for n := int64(sweepRows); n == sweepRows; {
		var err error
		if n, err = db.New(a.pool).DeleteOldIdempotencyKeys(ctx, sweepRows); err != nil {
			return fmt.Errorf("delete old idempotency keys: %w", err)
		}
	}
	if _, err := a.applier.Forget(ctx, toldKept); err != nil {
		return err
	}
	if err := a.purge(ctx); err != nil {
		return err
	}
	_, err := a.alone(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (int, error) {
		return a.agents.runs.Forget(ctx, tx, sweepRows)
	})
	return err
}

// purge forgets the payloads of webhooks that are older than they are kept.
func (a *App) purge(ctx context.Context) error {
	if a.cfg.OutboundPayloadRetention == 0 {
		return nil
	}
	var to outbound.Purged
	for n := purgeRows; n == purgeRows; {
		var err error
		n, err = a.alone(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (n int, err error) {
			to, n, err = outbound.Purge(ctx, tx, a.cfg.OutboundPayloadRetention, to, purgeRows)
			return n, err
		})
		if err != nil {
			return fmt.Errorf("purge payloads: %w", err)
		}
	}
	return nil
}

// alone runs do in a transaction of its own unless another node sweeps.
func (a *App) alone(ctx context.Context, o pgx.TxOptions, do func(context.Context, pgx.Tx) (int, error)) (n int, err error) {
	err = pgx.BeginTxFunc(ctx, a.pool, o, func(tx pgx.Tx) error {
		q := db.New(tx)
		ours, err := q.TryLockSweep(ctx)
		if err != nil {
			return fmt.Errorf("lock the sweep: %w", err)
		}
		if !ours {
			return nil
		}
		// The pool's planner is told to look rows up one by one; the sweep compares
		// whole sets.
		if err := q.AllowHashJoins(ctx); err != nil {
			return fmt.Errorf("allow hash joins: %w", err)
		}
		n, err = do(ctx, tx)
		return err
	})
	return n, err
}

func (a *App) mendEvents(ctx context.Context, tx pgx.Tx) (int, error) {
	ids, err := db.New(tx).ListOrphanedEvents(ctx, sweepRows)
	if err != nil {
		return 0, fmt.Errorf("list orphaned events: %w", err)
	}
	params := make([]river.InsertManyParams, len(ids))
	for i, id := range ids {
		params[i] = river.InsertManyParams{Args: job.ProcessEvent{EventID: id}}
	}
	return len(ids), a.insert(ctx, tx, params)
}

// mendAccounts sees to it that wanted is ahead: a lane whose done is as
// far would take its new job for one that came late.
func (a *App) mendAccounts(ctx context.Context, tx pgx.Tx) (int, error) {
	q := db.New(tx)
	rows, err := q.LockOrphanedAccounts(ctx, sweepRows)
	if err != nil || len(rows) == 0 {
		return 0, wrap("lock orphaned accounts", err)
	}
	var p db.WakeAccountsParams
	wakes := make([]lane.Wake, len(rows))
	for i, r := range rows {
		due := r.Now
		if r.DueAt != nil {
			due = *r.DueAt
		}
		p.AccountIds, p.Wanted, p.DueAt = append(p.AccountIds, r.AccountID), append(p.Wanted, r.Wanted), append(p.DueAt, due)
		wakes[i] = lane.Wake{Due: due, Args: job.SyncAccount{AccountID: r.AccountID}}
	}
	if p.JobIds, err = lane.Ensure(ctx, tx, a.jobs, rows[0].Now, wakes); err != nil {
		return 0, err
	}
	return len(rows), wrap("wake accounts", q.WakeAccounts(ctx, p))
}

func (a *App) mendOutbox(ctx context.Context, tx pgx.Tx) (int, error) {
	orphaned, err := db.New(tx).HasOrphanedOutbox(ctx)
	if err != nil || !orphaned {
		return 0, wrap("look for an orphaned outbox", err)
	}
	return 1, a.insert(ctx, tx, []river.InsertManyParams{{Args: job.Relay{}}})
}

func (a *App) mendEndpoints(ctx context.Context, tx pgx.Tx) (int, error) {
	q := db.New(tx)
	rows, err := q.LockOrphanedEndpoints(ctx)
	if err != nil || len(rows) == 0 {
		return 0, wrap("lock orphaned endpoints", err)
	}
	var p db.WakeEndpointsParams
	wakes := make([]lane.Wake, len(rows))
	for i, r := range rows {
		due := r.Now
		if r.DueAt != nil {
			due = *r.DueAt
		}
		p.Ids, p.Wanted, p.DueAt = append(p.Ids, r.ID), append(p.Wanted, r.Wanted), append(p.DueAt, due)
		wakes[i] = lane.Wake{Due: due, Args: job.DeliverEndpoint{EndpointID: r.ID}}
	}
	if p.JobIds, err = lane.Ensure(ctx, tx, a.jobs, rows[0].Now, wakes); err != nil {
		return 0, err
	}
	return len(rows), wrap("wake endpoints", q.WakeEndpoints(ctx, p))
}

// mendMirrors gives copies a fresh job where a memory system follows: lanes of one
// that does not follow any more rest.
func (a *App) mendMirrors(ctx context.Context, tx pgx.Tx) (int, error) {
	if a.mirror == nil {
		return 0, nil
	}
	return a.mirror.Mend(ctx, tx)
}

func (a *App) mendRuns(ctx context.Context, tx pgx.Tx) (int, error) {
	return a.agents.runs.Mend(ctx, tx, sweepRows)
}

func (a *App) mendRedeliveries(ctx context.Context, tx pgx.Tx) (int, error) {
	return endpoint.NewRedeliveries(a.pool, a.jobs).Mend(ctx, tx, sweepRows)
}

func (a *App) mendReplays(ctx context.Context, tx pgx.Tx) (int, error) {
	return admin.NewReplays(a.pool, a.search, a.jobs).Mend(ctx, tx, sweepRows)
}

func (a *App) fold(ctx context.Context, tx pgx.Tx) (int, error) {
	q := db.New(tx)
	if err := q.EnsureEventBodiesMonth(ctx); err != nil {
		return 0, fmt.Errorf("make next month's partition: %w", err)
	}
	if err := q.DeleteGoneProcesses(ctx); err != nil {
		return 0, fmt.Errorf("delete processes that are gone: %w", err)
	}
	return 0, wrap("fold counters", q.FoldCounters(ctx))
}

func trueUp(ctx context.Context, tx pgx.Tx) (int, error) {
	_, err := counter.TrueUp(ctx, tx)
	return 0, err
}

func (a *App) insert(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) error {
	if len(params) == 0 {
		return nil
	}
	_, err := a.jobs.InsertManyTx(ctx, tx, params)
	return wrap("insert jobs", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
