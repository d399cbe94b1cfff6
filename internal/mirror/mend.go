package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// mendRows is how many lanes one transaction mends.
const mendRows = 1000

// Mend gives a fresh job to lanes that have work and no live one, and returns how
// many those were, at most 1000 and one for the digest: when there were so many,
// there may be more. Being late is never a reason.
func (m *Mirror) Mend(ctx context.Context, tx pgx.Tx) (int, error) {
	q := db.New(tx)
	rows, err := q.LockOrphanedMirrors(ctx, db.LockOrphanedMirrorsParams{Backend: m.o.Backend, MaxRows: mendRows})
	if err != nil {
		return 0, fmt.Errorf("lock orphaned mirrors: %w", err)
	}
	digest, err := q.LockOrphanedDigest(ctx, m.o.Backend)
	if err != nil {
		return 0, fmt.Errorf("lock the orphaned digest: %w", err)
	}
	var wakes []lane.Wake
	var now time.Time
	p := db.MendMirrorsParams{Backend: m.o.Backend}
	for _, r := range rows {
		now = r.Now
		due := later(orZero(r.DueAt), r.Now)
		p.MemoryIds, p.DueAt = append(p.MemoryIds, r.MemoryID), append(p.DueAt, due)
		wakes = append(wakes, lane.Wake{Due: due, Args: job.SyncMemory{Backend: m.o.Backend, MemoryID: r.MemoryID}})
	}
	for _, d := range digest {
		now = d.Now
		wakes = append(wakes, lane.Wake{Due: later(orZero(d.DueAt), d.Now), Args: job.Cognify{Backend: m.o.Backend}})
	}
	if len(wakes) == 0 {
		return 0, nil
	}
	ids, err := lane.Ensure(ctx, tx, m.jobs, now, wakes)
	if err != nil {
		return 0, err
	}
	p.JobIds = ids[:len(rows)]
	if err := q.MendMirrors(ctx, p); err != nil {
		return 0, fmt.Errorf("mend mirrors: %w", err)
	}
	for i := range digest {
		mend := db.MendDigestParams{Backend: m.o.Backend, DueAt: wakes[len(rows)+i].Due, JobID: ids[len(rows)+i]}
		if err := q.MendDigest(ctx, mend); err != nil {
			return 0, fmt.Errorf("mend the digest: %w", err)
		}
	}
	return len(wakes), nil
}
