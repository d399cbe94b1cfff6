package mirror

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// ending is what an attempt learns of its lane when it writes.
type ending struct {
	fenced   bool   // somebody newer has the lane: nothing was written
	remoteID string // the copy by the lane, if it has not ended
}

// closing is a group of outcomes on its way through the write.
type closing struct {
	now       time.Time
	ids       []uuid.UUID // of the lanes that are written, in the order of the units
	next      map[uuid.UUID]next
	completed []int64
	changed   bool
}

// write is the transaction of a group of outcomes: lock, fence, settle, write. An
// attempt that the lane does not name, or that somebody newer has overtaken, touches
// nothing of it.
func (m *Mirror) write(ctx context.Context, tx pgx.Tx, _ int, units []outcome) ([]group.Answer[ending], error) {
	q := db.New(tx)
	locked, err := m.lock(ctx, q, idsOf(units, func(u outcome) uuid.UUID { return u.memoryID }))
	if err != nil {
		return nil, err
	}
	answers := make([]group.Answer[ending], len(units))
	g := &closing{next: map[uuid.UUID]next{}}
	for i, u := range units {
		row, ok := locked.rows[u.memoryID]
		written, twice := g.next[u.memoryID]
		switch {
		case locked.held[u.memoryID]:
			answers[i].Err = group.ErrHeld
		case !ok:
			answers[i].Value = ending{fenced: true}
		case twice: // two attempts of one job have met: the first ended the claim
			answers[i].Value = ending{fenced: true, remoteID: written.remoteID}
		case row.JobID == nil || *row.JobID != u.jobID, u.upTo > 0 && row.Done >= u.upTo:
			answers[i].Value = ending{fenced: true, remoteID: before(row).remoteID}
		default:
			giveUp, err := m.givesUp(ctx, q, row, u)
			if err != nil {
				return nil, err
			}
			g.now = row.Now
			g.ids = append(g.ids, u.memoryID)
			g.next[u.memoryID] = settle(row, u, giveUp, m.o.Random)
			g.completed = append(g.completed, u.jobID)
			g.changed = g.changed || u.changed
		}
	}
	if len(g.ids) == 0 {
		return answers, nil
	}
	return answers, m.close(ctx, tx, g)
}

// givesUp reports whether a fault that nobody can classify has lasted for too long
// although the other system takes what others bring: an outage makes nothing dead.
func (m *Mirror) givesUp(ctx context.Context, q *db.Queries, row db.LockMirrorsRow, u outcome) (bool, error) {
	if u.postponed > 0 || !worlds(u.err) || !mayBeIts(u.err) || row.FailingSince == nil || row.TriedAt == nil ||
		row.Now.Sub(*row.FailingSince) < m.o.GiveUpAfter {
		return false, nil
	}
	others, err := q.HasSyncedSince(ctx, db.HasSyncedSinceParams{Backend: m.o.Backend, Since: *row.TriedAt})
	if err != nil {
		return false, fmt.Errorf("look for what was synced since: %w", err)
	}
	return others, nil
}

// close writes the lanes' rows and gives those that are due their next jobs. The
// jobs that have done it end with it.
func (m *Mirror) close(ctx context.Context, tx pgx.Tx, g *closing) error {
	q := db.New(tx)
	var wakes []lane.Wake
	var waking []uuid.UUID
	for _, id := range g.ids {
		if due := g.next[id].due; !due.IsZero() {
			waking = append(waking, id)
			wakes = append(wakes, lane.Wake{Due: due, Args: job.SyncMemory{Backend: m.o.Backend, MemoryID: id}})
		}
	}
	digesting, err := m.bringDigest(ctx, q, g.changed)
	if err != nil {
		return err
	}
	jobIDs, err := lane.Ensure(ctx, tx, m.jobs, g.now, append(wakes, digesting...))
	if err != nil {
		return err
	}
	if len(digesting) > 0 {
		if err := q.SetDigestJob(ctx, db.SetDigestJobParams{Backend: m.o.Backend, JobID: jobIDs[len(wakes)]}); err != nil {
			return fmt.Errorf("set the digest's job: %w", err)
		}
	}
	jobs := make(map[uuid.UUID]int64, len(waking))
	for i, id := range waking {
		jobs[id] = jobIDs[i]
	}
	if err := m.writeRows(ctx, q, g, jobs); err != nil {
		return err
	}
	if err := q.CompleteJobs(ctx, g.completed); err != nil {
		return fmt.Errorf("complete jobs: %w", err)
	}
	return nil
}

func (m *Mirror) writeRows(ctx context.Context, q *db.Queries, g *closing, jobs map[uuid.UUID]int64) error {
	slices.SortFunc(g.ids, compareIDs)
	p := db.CloseMirrorsParams{Backend: m.o.Backend}
	var ended []uuid.UUID
	for _, id := range g.ids {
		n := g.next[id]
		if n.ended {
			ended = append(ended, id)
			continue
		}
		p.MemoryIds = append(p.MemoryIds, id)
		p.RemoteIds = append(p.RemoteIds, n.remoteID)
		p.AddingSince = append(p.AddingSince, n.adding)
		p.Checksums = append(p.Checksums, orEmpty(n.checksum))
		p.Done = append(p.Done, n.done)
		p.DueAt = append(p.DueAt, n.due)
		p.JobIds = append(p.JobIds, jobs[id])
		p.Failures = append(p.Failures, n.failures)
		p.Waits = append(p.Waits, n.waits)
		p.FailingSince = append(p.FailingSince, n.failingSince)
		p.TriedAt = append(p.TriedAt, n.triedAt)
		p.Statuses = append(p.Statuses, n.status)
		p.LastErrors = append(p.LastErrors, n.lastError)
		p.WaitingSince = append(p.WaitingSince, n.waitingSince)
		p.SyncedAt = append(p.SyncedAt, n.syncedAt)
	}
	if len(ended) > 0 {
		if err := q.DeleteMirrors(ctx, db.DeleteMirrorsParams{Backend: m.o.Backend, MemoryIds: ended}); err != nil {
			return fmt.Errorf("delete mirrors: %w", err)
		}
	}
	if len(p.MemoryIds) > 0 {
		if err := q.CloseMirrors(ctx, p); err != nil {
			return fmt.Errorf("close mirrors: %w", err)
		}
	}
	return nil
}

// orEmpty is b as an array holds it, in which nothing is null.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
