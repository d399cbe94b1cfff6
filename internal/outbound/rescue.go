package outbound

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
)

// Rescue ends the leases of processes that have not been seen for gone: they have
// crashed, and what they were sending would count against its endpoint's cap until
// the leases end by themselves. It returns how many it ended. That such a process
// lives all the same does no harm but a second request.
func (d *Deliverer) Rescue(ctx context.Context, gone time.Duration) (int, error) {
	ids, err := db.New(d.pool).ListAbandoned(ctx, db.ListAbandonedParams{GoneAfter: gone, Process: d.process})
	if err != nil {
		return 0, fmt.Errorf("list endpoints with abandoned leases: %w", err)
	}
	total := 0
	for _, id := range ids {
		n, err := d.endLeases(ctx, id, gone)
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

func (d *Deliverer) endLeases(ctx context.Context, id uuid.UUID, gone time.Duration) (ended int, err error) {
	err = pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		p, err := q.LockEndpoint(ctx, id)
		if err != nil {
			return fmt.Errorf("lock endpoint %s: %w", id, err)
		}
		n, err := q.EndAbandonedLeases(ctx, db.EndAbandonedLeasesParams{EndpointID: id, GoneAfter: gone})
		if err != nil || n == 0 {
			return err
		}
		ended = int(n)
		if err := q.FreeEndpoint(ctx, id); err != nil {
			return fmt.Errorf("free endpoint %s: %w", id, err)
		}
		p.FullUntil = nil
		return endpoint.WakeAll(ctx, tx, d.jobs, []endpoint.Lane{endpoint.NewLane(p, p.Now)}, p.Now)
	})
	if err != nil {
		return 0, fmt.Errorf("end abandoned leases: %w", err)
	}
	return ended, nil
}
