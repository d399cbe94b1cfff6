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
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/lane"
)

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
			gone, err := q.DeleteEndpoint(ctx, endpoint.EnvName)
			if err != nil {
				return fmt.Errorf("delete endpoint %s: %w", endpoint.EnvName, err)
			}
			for _, id := range gone {
				if err := endpoint.Wake(ctx, tx, jobs, id); err != nil {
					return err
				}
			}
			return nil
		}
		id, err := q.UpsertEndpoint(ctx, db.UpsertEndpointParams{
			ID: uuid.Must(uuid.NewV7()), Name: endpoint.EnvName, URL: e.URL, Events: e.Events,
			Timeout: e.Timeout, RetrySchedule: endpoint.Doubling(e.RetryDelay, e.MaxAttempts),
		})
		if err != nil {
			return fmt.Errorf("set endpoint %s: %w", endpoint.EnvName, err)
		}
		_, err = q.NextDelivery(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for open deliveries: %w", err)
		}
		return endpoint.Wake(ctx, tx, jobs, id)
	})
}
