package outbound

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// Purged is how far a purge of old payloads has come; the zero value is its beginning.
type Purged struct {
	createdAt time.Time
	seq       int64
}

// Purge forgets, in tx, what webhooks said that were written longer ago than kept, and
// what receivers answered: at most most of them, oldest first, after those of before.
// It goes only for what was relayed and of which nothing is open, or dead and waits
// for a person. That they were told, to whom, when and how that went is kept. It
// returns how far it came and how many it looked at; fewer than most: there are no more.
func Purge(ctx context.Context, tx pgx.Tx, kept time.Duration, before Purged, most int32) (Purged, int, error) {
	q := db.New(tx)
	old, err := q.LockOldPayloads(ctx, db.LockOldPayloadsParams{
		OlderThan: kept, AfterCreatedAt: before.createdAt, AfterSeq: before.seq, MaxRows: most,
	})
	if err != nil {
		return before, 0, fmt.Errorf("lock old payloads: %w", err)
	}
	if len(old) == 0 {
		return before, 0, nil
	}
	ids := make([]uuid.UUID, len(old))
	for i, row := range old {
		ids[i] = row.ID
	}
	// Whoever opens a delivery locks its webhook first. What was opened just before we
	// did is seen by this statement, which is why it asks again.
	forgotten, err := q.ForgetPayloads(ctx, ids)
	if err != nil {
		return before, 0, fmt.Errorf("forget payloads: %w", err)
	}
	if err := q.ForgetAnswers(ctx, forgotten); err != nil {
		return before, 0, fmt.Errorf("forget answers: %w", err)
	}
	last := old[len(old)-1]
	return Purged{createdAt: last.CreatedAt, seq: last.Seq}, len(old), nil
}
