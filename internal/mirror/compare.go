package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

// lost looks for copies that were not listed although their lanes had come to rest
// before. A list may leave out what moves from one page to another while it is read,
// so that each is asked for; where not everything was listed, none is.
func (r *resync) lost(ctx context.Context) error {
	if !r.whole {
		return nil
	}
	q := db.New(r.m.pool)
	for after := uuid.Nil; ; {
		rows, err := q.ListRestingMirrors(ctx, db.ListRestingMirrorsParams{
			Backend: r.m.o.Backend, After: after, UserID: r.o.UserID, Before: r.since, MaxRows: resyncRows,
		})
		if err != nil {
			return fmt.Errorf("list lanes at rest: %w", err)
		}
		forget := db.ForgetCopiesParams{Backend: r.m.o.Backend}
		wake := map[uuid.UUID]string{}
		for _, row := range rows {
			after = row.MemoryID
			if _, ok := r.seen[row.MemoryID]; ok {
				continue
			}
			id, err := r.m.remote.Find(ctx, row.UserID, row.MemoryID)
			if err != nil {
				return fmt.Errorf("find the copy of memory %s: %w", row.MemoryID, err)
			}
			if id == row.RemoteID {
				continue
			}
			r.report.Lost++
			r.seen[row.MemoryID] = true
			wake[row.MemoryID] = row.UserID
			forget.MemoryIds, forget.RemoteIds = append(forget.MemoryIds, row.MemoryID), append(forget.RemoteIds, row.RemoteID)
		}
		if len(wake) > 0 && !r.o.DryRun {
			if err := q.ForgetCopies(ctx, forget); err != nil {
				return fmt.Errorf("forget copies: %w", err)
			}
			if err := r.wake(ctx, wake); err != nil {
				return err
			}
		}
		r.tell()
		if len(rows) < resyncRows {
			return nil
		}
	}
}

// ours goes through the memories and wakes the lanes of those whose copies are not
// what they are.
func (r *resync) ours(ctx context.Context) error {
	for after := uuid.Nil; ; {
		rows, err := db.New(r.m.pool).CompareMirrors(ctx, db.CompareMirrorsParams{
			Backend: r.m.o.Backend, After: after, UserID: r.o.UserID, MaxRows: resyncRows,
		})
		if err != nil {
			return fmt.Errorf("compare memories with their lanes: %w", err)
		}
		wake := map[uuid.UUID]string{}
		for _, row := range rows {
			after = row.ID
			r.report.Memories++
			if r.differs(row) {
				wake[row.ID] = row.UserID
			}
		}
		if err := r.wake(ctx, wake); err != nil {
			return err
		}
		r.tell()
		if len(rows) < resyncRows {
			return nil
		}
	}
}

// differs counts a memory whose copy is not what it is, and reports whether its lane
// is to be woken.
func (r *resync) differs(row db.CompareMirrorsRow) bool {
	altered, listed := r.seen[row.ID]
	switch row.State {
	case "missing":
		if !listed { // else it is counted as adopted: this is a dry run
			r.report.Missing++
		}
	case "stale":
		if !altered {
			r.report.Stale++
		}
	case "dead":
		r.report.Dead++
	case "open":
		if !altered {
			r.report.Pending++
		}
		return false
	default:
		return false
	}
	return true
}

// forsaken wakes lanes at rest whose memory is gone: their copies go, too.
func (r *resync) forsaken(ctx context.Context) error {
	for after := uuid.Nil; ; {
		rows, err := db.New(r.m.pool).ListForsakenMirrors(ctx, db.ListForsakenMirrorsParams{
			Backend: r.m.o.Backend, After: after, UserID: r.o.UserID, MaxRows: resyncRows,
		})
		if err != nil {
			return fmt.Errorf("list lanes whose memory is gone: %w", err)
		}
		wake := map[uuid.UUID]string{}
		for _, row := range rows {
			after = row.MemoryID
			r.report.Forsaken++
			wake[row.MemoryID] = row.UserID
		}
		if err := r.wake(ctx, wake); err != nil {
			return err
		}
		if len(rows) < resyncRows {
			return nil
		}
	}
}

func (r *resync) wake(ctx context.Context, users map[uuid.UUID]string) error {
	if len(users) == 0 || r.o.DryRun {
		return nil
	}
	return pgx.BeginFunc(ctx, r.m.pool, func(tx pgx.Tx) error {
		if err := memory.WakeMirrors(ctx, tx, r.m.jobs, r.m.o.Backend, users); err != nil {
			return err
		}
		if r.whole {
			return nil
		}
		// What was not listed may be there, although no lane knows of it.
		ids := slices.Collect(maps.Keys(users))
		if err := db.New(tx).LookFirst(ctx, db.LookFirstParams{Backend: r.m.o.Backend, MemoryIds: ids}); err != nil {
			return fmt.Errorf("have lanes look first: %w", err)
		}
		return nil
	})
}

func (r *resync) tell() {
	if r.o.Progress != nil {
		r.o.Progress(r.report)
	}
}
