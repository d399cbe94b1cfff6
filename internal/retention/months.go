package retention

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/memrelay/memrelay/db"
)

const (
	// mostMoved and mostBytes bound what is moved out of a month before it is dropped,
	// for nobody reads or writes a body meanwhile. A month that has more stays until
	// somebody has decided; what of it was deleted is free space of its own.
	mostMoved = 1000
	mostBytes = 8 << 20
	// lockWait is how long, in milliseconds, that waits for each of its locks, and so how
	// long others may have to wait behind it: they do not notice.
	lockWait = "100"
)

// months drops the partitions of months all of whose events were kept long enough.
// walked is the last event that was looked at.
func (r *Retention) months(ctx context.Context, walked int64, f *Forgotten) error {
	expired, err := db.New(r.pool).ListExpiredBodyMonths(ctx, r.keep.Events+settled)
	if err != nil {
		return fmt.Errorf("list expired months: %w", err)
	}
	for _, m := range expired {
		dropped, err := r.dropMonth(ctx, m, walked)
		if err != nil {
			return fmt.Errorf("drop %s: %w", m.Partition, err)
		}
		if dropped {
			f.Months = append(f.Months, m.Partition)
		}
	}
	return nil
}

// dropMonth reports whether a month is gone: not when too much of it stays, when somebody
// uses it for too long, or when another process deletes.
func (r *Retention) dropMonth(ctx context.Context, m db.ListExpiredBodyMonthsRow, walked int64) (bool, error) {
	kept, err := db.New(r.pool).CountKeptBodies(ctx, db.CountKeptBodiesParams{UpTo: walked, First: m.First, Until: m.Until})
	if err != nil {
		return false, fmt.Errorf("count kept bodies: %w", err)
	}
	if kept.Bodies > mostMoved || kept.Bytes > mostBytes {
		r.log.InfoContext(ctx, "a month of bodies stays: too many of its events wait for a decision", "partition", m.Partition, "events", kept.Bodies, "bytes", kept.Bytes)
		return false, nil
	}
	dropped, err := r.alone(ctx, func(q *db.Queries) error {
		if err := q.WaitShortly(ctx, lockWait); err != nil {
			return fmt.Errorf("bound the wait for locks: %w", err)
		}
		_, err := q.DropEventBodiesMonth(ctx, db.DropEventBodiesMonthParams{Partition: m.Partition, UpTo: walked})
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "55P03" { // lock_not_available
		r.log.InfoContext(ctx, "a month of bodies is in use and dropped later", "partition", m.Partition)
		return false, nil
	}
	return dropped, err
}
