package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// scheduler is who asks for a sync that nobody asked for.
const scheduler = "schedule"

// Schedule starts the syncs whose time has come, and gives a fresh job to those
// that have lost theirs. It is called each minute on every node, in a transaction
// that keeps the others from it; were they not kept, each sync would start once
// all the same.
func (r *Reconciler) Schedule(ctx context.Context, tx pgx.Tx, now time.Time) error {
	q := db.New(tx)
	if err := r.mend(ctx, tx, q); err != nil {
		return err
	}
	rows, err := q.ListScheduledSyncs(ctx)
	if err != nil {
		return fmt.Errorf("list syncs: %w", err)
	}
	last := map[string]latest{}
	for _, row := range rows {
		last[row.Kind] = latest{active: row.Active}
		if row.StartedAt.Year() > 1 {
			last[row.Kind] = latest{active: row.Active, started: row.StartedAt}
		}
	}
	for _, kind := range r.due(now, last[Incremental], last[Full]) {
		started, err := r.start(ctx, tx, kind, scheduler)
		if errors.Is(err, ErrNoModules) {
			r.o.Log.WarnContext(ctx, "no sync is started", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		if started.already {
			continue
		}
		why := "its time has come"
		if last[Full].started.IsZero() && started.kind == Full {
			why = "nothing is known yet"
		}
		r.o.Log.InfoContext(ctx, "sync started", "sync_id", started.id, "kind", started.kind, "why", why)
	}
	return nil
}

// latest is the newest sync of a kind.
type latest struct {
	started time.Time // zero: there was none
	active  bool
}

// due are the kinds that are to be started now. On a new database that is a full
// one, at once: nothing is known that changes could be held against.
func (r *Reconciler) due(now time.Time, incremental, full latest) []string {
	var kinds []string
	if moment, ok := r.fullMoment(now); ok && !full.active && full.started.Before(moment) {
		kinds = append(kinds, Full)
		full.started = now
	}
	newest := incremental.started
	if full.started.After(newest) {
		newest = full.started
	}
	if r.o.IncrementalEvery > 0 && !incremental.active && now.Sub(newest) >= r.o.IncrementalEvery {
		kinds = append(kinds, Incremental)
	}
	return kinds
}

// fullMoment is when the full sync was last to start; false: never.
//
// On a day whose clock jumps over the time, or shows it twice, it is one of the
// two times that time.Date may choose, and always the same one: there is one full
// sync on such a day, too.
func (r *Reconciler) fullMoment(now time.Time) (time.Time, bool) {
	at, err := time.Parse("15:04", r.o.FullAt)
	if err != nil {
		return time.Time{}, false
	}
	today := now.In(r.o.Timezone)
	moment := func(day int) time.Time {
		return time.Date(today.Year(), today.Month(), day, at.Hour(), at.Minute(), 0, 0, r.o.Timezone)
	}
	if m := moment(today.Day()); !m.After(now) {
		return m, true
	}
	return moment(today.Day() - 1), true
}

// mend gives a fresh job to syncs whose job is not live any more: jobs can end
// without our code running.
func (r *Reconciler) mend(ctx context.Context, tx pgx.Tx, q *db.Queries) error {
	rows, err := q.LockOrphanedSyncs(ctx)
	if err != nil {
		return fmt.Errorf("lock orphaned syncs: %w", err)
	}
	for _, row := range rows {
		due := row.Now
		if row.WaitsUntil != nil {
			due = *row.WaitsUntil
		}
		ids, err := lane.Ensure(ctx, tx, r.jobs, row.Now, []lane.Wake{{Due: due, Args: job.Reconcile{SyncID: row.ID}}})
		if err != nil {
			return err
		}
		if err := q.SetSyncJob(ctx, db.SetSyncJobParams{ID: row.ID, JobID: ids[0]}); err != nil {
			return fmt.Errorf("set the sync's job: %w", err)
		}
		r.o.Log.WarnContext(ctx, "a sync that had lost its job got a new one", "sync_id", row.ID, "kind", row.Kind)
	}
	return nil
}
