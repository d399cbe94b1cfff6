package outbound

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// maxBatch is how many bytes of payloads one request carries at most, unless a single
// one is larger: what receivers and what stands before them usually take.
const maxBatch = 1 << 20

// dueBatch returns when an endpoint that gathers webhooks has something to send: a
// batch that is open, enough for a new one, or one that has waited for long enough.
// ok is false when nothing is open. An ordered endpoint gets one batch at a time.
func dueBatch(ctx context.Context, q *db.Queries, p db.LockEndpointRow) (due time.Time, ok bool, err error) {
	open, err := q.NextBatch(ctx, p.ID)
	switch {
	case err == nil && p.Ordered:
		return open, true, nil
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return due, false, fmt.Errorf("look for the next batch: %w", err)
	}
	ok = err == nil
	next, err := q.NextMembers(ctx, db.NextMembersParams{EndpointID: p.ID, BatchSize: p.BatchSize})
	switch {
	case err != nil:
		return due, false, fmt.Errorf("count what waits for a batch: %w", err)
	case next.Members == 0:
		return open, ok, nil
	}
	due = next.Oldest.Add(p.BatchWait)
	if next.Members == int64(p.BatchSize) && next.LastDue.Before(due) {
		due = next.LastDue
	}
	if ok && open.Before(due) {
		due = open
	}
	return due, true, nil
}

// gather forms at most n batches of what waits, each with a delivery that carries it.
// What a batch holds does not change any more: every attempt sends the same bytes
// under the same webhook-id.
func (d *Deliverer) gather(ctx context.Context, p db.Endpoint, n int) error {
	for range n {
		formed := false
		err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) (err error) {
			formed, err = gatherOne(ctx, db.New(tx), p.ID)
			return err
		})
		if err != nil || !formed {
			return err
		}
	}
	return nil
}

// gatherOne forms a batch of an endpoint as it is by now. It locks the endpoint: its
// row is looked at for a new delivery, and that would be after those of the members.
func gatherOne(ctx context.Context, q *db.Queries, id uuid.UUID) (bool, error) {
	p, err := q.LockEndpoint(ctx, id)
	if err != nil {
		return false, fmt.Errorf("lock endpoint %s: %w", id, err)
	}
	if p.DeletedAt != nil || p.BatchSize == 1 {
		return false, nil
	}
	if p.Ordered {
		switch _, err := q.NextBatch(ctx, p.ID); {
		case err == nil:
			return false, nil // the one before has not arrived
		case !errors.Is(err, pgx.ErrNoRows):
			return false, fmt.Errorf("look for an open batch: %w", err)
		}
	}
	rows, err := q.LockMembers(ctx, db.LockMembersParams{EndpointID: p.ID, BatchSize: p.BatchSize})
	if err != nil {
		return false, fmt.Errorf("lock what waits for a batch: %w", err)
	}
	if len(rows) == 0 {
		return false, nil
	}
	var ids []int64
	size := 0
	for _, row := range rows {
		if size += int(row.Size); size > maxBatch && len(ids) > 0 {
			break
		}
		ids = append(ids, row.ID)
	}
	full := len(rows) == int(p.BatchSize) || len(ids) < len(rows)
	if !full && rows[0].NextAttemptAt.Add(p.BatchWait).After(rows[0].Now) {
		return false, nil
	}
	batch := uuid.Must(uuid.NewV7())
	if err := q.InsertBatch(ctx, db.InsertBatchParams{EndpointID: p.ID, BatchID: batch, NextAttemptAt: rows[0].NextAttemptAt}); err != nil {
		return false, fmt.Errorf("insert batch: %w", err)
	}
	if err := q.JoinBatch(ctx, db.JoinBatchParams{BatchID: batch, Ids: ids}); err != nil {
		return false, fmt.Errorf("fill batch %s: %w", batch, err)
	}
	return true, nil
}
