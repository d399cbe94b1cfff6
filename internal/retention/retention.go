// Package retention deletes what was kept long enough. In goes how long events are kept,
// out comes what was deleted: events that have ended, with their bodies and runs, months
// of bodies that nothing is left of, and redeliveries that have ended. What waits for its
// work or for a person's decision stays, whatever its age. What was remembered and told
// because of an event stays, too, and names the event that is gone.
package retention

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

const (
	// sliceRows is how many events one transaction looks at: some 30 ms of work, which is
	// how long somebody who wants one of them waits at most.
	sliceRows = 1000
	// settled is by how much the order of ids and that of arrival may differ, and how
	// long the end of an event follows its arrival as a rule. What is old by so much
	// more than it is kept need not be looked at in each run.
	settled = time.Hour
	// wholeEvery is every how many runs those events are looked at again that were old
	// already and stayed: somebody has decided about them since.
	wholeEvery = 60
)

// Settings say how long what is kept.
type Settings struct {
	// Events is how long one is kept after it has ended.
	Events time.Duration
	// Repeats is how long one that has come is recognised when it comes again, whatever
	// else is deleted: no longer than Events.
	Repeats time.Duration
}

// Forgotten is what one run deleted.
type Forgotten struct {
	Events       int64
	Redeliveries int64
	Months       []string // partitions of event_bodies
}

// Retention deletes on behalf of one process. Not for use by several goroutines; several
// processes may each have one, of whom one deletes at a time.
type Retention struct {
	pool *pgxpool.Pool
	keep Settings
	now  func() time.Time
	rest func(context.Context, time.Duration) error
	log  *slog.Logger

	runs int
	from int64 // events up to this id were looked at, and stay until the next whole run
}

// New makes a Retention. now measures how long a slice took.
func New(pool *pgxpool.Pool, keep Settings, now func() time.Time, log *slog.Logger) *Retention {
	return &Retention{pool: pool, keep: keep, now: now, rest: pause, log: log}
}

// Forget deletes all that was kept long enough, slice by slice, each a transaction and
// followed by a pause as long as it took: others get at least half of what the database
// can do. It returns what it deleted, also beside an error. That another process deletes
// is none: then there is nothing to do.
func (r *Retention) Forget(ctx context.Context) (Forgotten, error) {
	var f Forgotten
	err := r.forget(ctx, &f)
	if f.Events > 0 || f.Redeliveries > 0 || len(f.Months) > 0 {
		r.log.InfoContext(ctx, "what was kept long enough is deleted", "events", f.Events, "redeliveries", f.Redeliveries, "months", f.Months)
	}
	return f, err
}

func (r *Retention) forget(ctx context.Context, f *Forgotten) error {
	whole := r.runs%wholeEvery == 0
	if whole {
		r.from = 0
	}
	walked, ours, err := r.walk(ctx, f)
	if err != nil || !ours {
		return err
	}
	if err := r.redeliveries(ctx, f); err != nil {
		return err
	}
	if whole {
		if err := r.months(ctx, walked, f); err != nil {
			return err
		}
	}
	r.runs++
	return nil
}

// walk goes through the events from the oldest on until there are only younger ones, and
// returns the last that it looked at.
func (r *Retention) walk(ctx context.Context, f *Forgotten) (walked int64, ours bool, err error) {
	after := r.from
	for {
		began := r.now()
		var s slice
		if s, ours, err = r.slice(ctx, after); err != nil || !ours {
			return after, ours, err
		}
		f.Events += s.deleted
		r.from = max(r.from, s.next.Settled)
		after = max(after, s.next.Last)
		if s.next.Old == 0 || s.next.Found < sliceRows {
			return after, true, nil
		}
		if err := r.rest(ctx, r.now().Sub(began)); err != nil {
			return after, true, err
		}
	}
}

type slice struct {
	next    db.NextEventsRow
	deleted int64
}

// slice deletes what may go of the next events.
func (r *Retention) slice(ctx context.Context, after int64) (s slice, ours bool, err error) {
	ours, err = r.alone(ctx, func(q *db.Queries) error {
		s.next, err = q.NextEvents(ctx, db.NextEventsParams{After: after, Kept: r.keep.Events, Settled: r.keep.Events + settled, MaxRows: sliceRows})
		if err != nil || s.next.Old == 0 {
			return wrap("look at the next events", err)
		}
		old, err := q.LockOldEvents(ctx, db.LockOldEventsParams{After: after, Last: s.next.Last, Kept: r.keep.Events, Repeats: r.keep.Repeats})
		if err != nil || len(old) == 0 {
			return wrap("lock old events", err)
		}
		s.deleted, err = remove(ctx, q, old)
		return err
	})
	return s, ours, err
}

// remove deletes locked events and their bodies.
func remove(ctx context.Context, q *db.Queries, old []db.LockOldEventsRow) (int64, error) {
	ids := make([]int64, len(old))
	first, last := old[0].ReceivedAt, old[0].ReceivedAt
	for i, e := range old {
		ids[i] = e.ID
		if e.ReceivedAt.Before(first) {
			first = e.ReceivedAt
		}
		if e.ReceivedAt.After(last) {
			last = e.ReceivedAt
		}
	}
	if err := q.HandOverBodies(ctx, db.HandOverBodiesParams{Ids: ids, First: first, Last: last}); err != nil {
		return 0, fmt.Errorf("hand over bodies: %w", err)
	}
	if err := q.DeleteEventBodies(ctx, db.DeleteEventBodiesParams{Ids: ids, First: first, Last: last}); err != nil {
		return 0, fmt.Errorf("delete event bodies: %w", err)
	}
	n, err := q.DeleteEvents(ctx, ids)
	return n, wrap("delete events", err)
}

// redeliveries deletes those that ended as long ago as an event must have.
func (r *Retention) redeliveries(ctx context.Context, f *Forgotten) error {
	for n := int64(sliceRows); n == sliceRows; {
		n = 0
		_, err := r.alone(ctx, func(q *db.Queries) (err error) {
			n, err = q.DeleteOldRedeliveries(ctx, db.DeleteOldRedeliveriesParams{Kept: r.keep.Events, MaxRows: sliceRows})
			return wrap("delete old redeliveries", err)
		})
		if err != nil {
			return err
		}
		f.Redeliveries += n
	}
	return nil
}

// alone runs do in a transaction unless another process deletes; then it is not ours.
func (r *Retention) alone(ctx context.Context, do func(*db.Queries) error) (ours bool, err error) {
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
		q := db.New(tx)
		if ours, err = q.TryLockRetention(ctx); err != nil {
			return fmt.Errorf("lock retention: %w", err)
		}
		if !ours {
			return nil
		}
		return do(q)
	})
	return ours, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
