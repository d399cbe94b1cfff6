package outbound

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// EnvName is the name of the endpoint that the settings describe.
const EnvName = "env"

// Endpoint is a receiver as the settings describe it.
type Endpoint struct {
	URL         string        // "" when there is none
	Events      []string      // which it receives
	Timeout     time.Duration // of one attempt
	MaxAttempts int           // in all, the first included
	RetryDelay  time.Duration // before the second attempt, doubled for each further one
}

// SetEnv makes the endpoint named env what the settings say, and wakes its lane
// for what is open: with other settings it may now arrive. Without a URL the
// endpoint is gone and its open deliveries are cancelled.
func SetEnv(ctx context.Context, pool *pgxpool.Pool, jobs lane.Inserter, e Endpoint) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if e.URL == "" {
			gone, err := q.DeleteEndpoint(ctx, EnvName)
			if err != nil {
				return fmt.Errorf("delete endpoint %s: %w", EnvName, err)
			}
			for _, id := range gone {
				if err := wake(ctx, tx, jobs, id); err != nil {
					return err
				}
			}
			return nil
		}
		id, err := q.UpsertEndpoint(ctx, db.UpsertEndpointParams{
			ID: uuid.Must(uuid.NewV7()), Name: EnvName, URL: e.URL, Events: e.Events,
			Timeout: e.Timeout, MaxAttempts: int32(e.MaxAttempts), RetryDelay: e.RetryDelay,
		})
		if err != nil {
			return fmt.Errorf("set endpoint %s: %w", EnvName, err)
		}
		_, err = q.NextDelivery(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for open deliveries: %w", err)
		}
		return wake(ctx, tx, jobs, id)
	})
}

// Retry opens a dead delivery again, in tx, and wakes its endpoint. It returns
// pgx.ErrNoRows when the delivery is not dead.
func Retry(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, deliveryID int64) error {
	q := db.New(tx)
	delivery, err := q.GetDelivery(ctx, deliveryID)
	if err != nil {
		return fmt.Errorf("get delivery %d: %w", deliveryID, err)
	}
	// Endpoints are locked before deliveries, as by those who record a 410.
	if _, err := q.LockEndpoint(ctx, delivery.EndpointID); err != nil {
		return fmt.Errorf("lock endpoint %s: %w", delivery.EndpointID, err)
	}
	if _, err := q.RetryDelivery(ctx, deliveryID); err != nil {
		return fmt.Errorf("open delivery %d again: %w", deliveryID, err)
	}
	return wake(ctx, tx, jobs, delivery.EndpointID)
}

// wake brings work to one endpoint's lane, due now.
func wake(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, id uuid.UUID) error {
	p, err := db.New(tx).LockEndpoint(ctx, id)
	if err != nil {
		return fmt.Errorf("lock endpoint %s: %w", id, err)
	}
	return wakeAll(ctx, tx, jobs, []sleeper{{id: id, wanted: p.Wanted, jobID: p.JobID}}, p.Now)
}

// sleeper is a locked lane that has work.
type sleeper struct {
	id     uuid.UUID
	wanted int64
	jobID  *int64
}

// wakeAll raises wanted of the lanes, makes them due now, and sees to their jobs.
func wakeAll(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, lanes []sleeper, now time.Time) error {
	if len(lanes) == 0 {
		return nil
	}
	var p db.WakeEndpointsParams
	wakes := make([]lane.Wake, len(lanes))
	for i, l := range lanes {
		p.Ids = append(p.Ids, l.id)
		p.Wanted = append(p.Wanted, l.wanted+1)
		p.DueAt = append(p.DueAt, now)
		wakes[i] = lane.Wake{JobID: l.jobID, Due: now, Args: job.DeliverEndpoint{EndpointID: l.id}}
	}
	var err error
	if p.JobIds, err = lane.Ensure(ctx, tx, jobs, now, wakes); err != nil {
		return err
	}
	if err := db.New(tx).WakeEndpoints(ctx, p); err != nil {
		return fmt.Errorf("wake endpoints: %w", err)
	}
	return nil
}
