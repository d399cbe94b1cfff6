package memory

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// The phases of the search for what is said twice: what has expired is dropped,
// then memories are read from the oldest on, then what was noted is thrown away.
const (
	phaseExpire = "expire"
	phaseMerge  = "merge"
	phaseTidy   = "tidy"
)

const (
	// marksEach is how many memories one is held against at most.
	marksEach = 3
	// tidyRows is how many notes one slice throws away.
	tidyRows = 10_000
)

// optimizeSteps are the slices of an optimization, by phase.
func (r *Runner) optimizeSteps() map[string]func(context.Context, *slice) error {
	return map[string]func(context.Context, *slice) error{
		phaseBegin: r.beginOptimize, phaseExpire: r.dropExpired, phaseMerge: r.mergePage, phaseTidy: r.tidy,
	}
}

func (r *Runner) beginOptimize(ctx context.Context, s *slice) error {
	n, err := s.q.CountMemoriesToOptimize(ctx, s.run.UserID)
	if err != nil {
		return fmt.Errorf("count memories: %w", err)
	}
	s.progress = Progress{Total: n.Comparable, Optimized: &OptimizedData{Before: int(n.Memories), After: int(n.Memories)}}
	if s.run.DryRun {
		s.progress.removed(0, int(n.Expired))
		s.next(phaseMerge)
		return nil
	}
	s.next(phaseExpire)
	return nil
}

// removed counts what is removed. What others add or remove meanwhile does not count.
func (p *Progress) removed(merged, expired int) {
	o := p.Optimized
	o.Merged, o.Expired = o.Merged+merged, o.Expired+expired
	o.Removed = o.Merged + o.Expired
	o.After = o.Before - o.Removed
}

// dropExpired removes memories whose time is up. The run tells of them as one.
func (r *Runner) dropExpired(ctx context.Context, s *slice) error {
	rows, err := s.q.LockExpiredMemories(ctx, db.LockExpiredMemoriesParams{UserID: s.run.UserID, MaxRows: r.page})
	if err != nil {
		return fmt.Errorf("lock expired memories: %w", err)
	}
	var work Work
	for _, row := range rows {
		before, err := rowFrom(db.GetMemoryRow(row))
		if err != nil {
			return err
		}
		work.Changes = append(work.Changes, Change{Before: &before, Actor: s.run.Actor})
	}
	s.progress.removed(0, len(rows))
	if len(rows) < int(r.page) {
		s.next(phaseMerge)
	}
	return r.writer.Write(ctx, s.tx, work)
}

// tidy throws away what the run has noted.
func (r *Runner) tidy(ctx context.Context, s *slice) error {
	n, err := s.q.DeleteMemoryMarks(ctx, db.DeleteMemoryMarksParams{RunID: s.run.ID, MaxRows: tidyRows})
	if err != nil {
		return fmt.Errorf("delete marks: %w", err)
	}
	if n < tidyRows {
		s.next(phaseEnd)
	}
	return nil
}

// seen is a memory as it was looked at.
type seen struct {
	Row
	reading
}

func seenFrom(row db.LockMemoriesToMergeRow) (*seen, error) {
	r, err := rowFrom(db.GetMemoryRow{
		ID: row.ID, UserID: row.UserID, AccountID: row.AccountID, Module: row.Module, RecordID: row.RecordID, Kind: row.Kind,
		Content: row.Content, Metadata: row.Metadata, Origin: row.Origin, OriginID: row.OriginID, ExpiresAt: row.ExpiresAt,
		CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	})
	if err != nil {
		return nil, err
	}
	return &seen{Row: r, reading: readingOf(r.Kind, r.Content, r.Metadata, row.Language == "english")}, nil
}

// pair is a memory that says the same as an older one.
type pair struct{ of, older *seen }

// mergePage is a page of memories, each held against those before it.
func (r *Runner) mergePage(ctx context.Context, s *slice) error {
	page, err := r.readPage(ctx, s)
	if err != nil {
		return err
	}
	known, err := knownBefore(ctx, s, page)
	if err != nil {
		return err
	}
	pairs, fresh := match(page, known)
	s.progress.Done += int64(len(page))
	if s.run.DryRun {
		s.progress.removed(len(pairs), 0)
	} else if len(pairs) > 0 {
		left, err := r.mergePairs(ctx, s, pairs)
		if err != nil {
			return err
		}
		fresh = append(fresh, left...)
	}
	if err := note(ctx, s, fresh); err != nil {
		return err
	}
	if len(page) < int(r.page) {
		s.next(phaseTidy)
		return nil
	}
	last := page[len(page)-1]
	s.at = checkpoint{At: last.CreatedAt, ID: last.ID}
	return nil
}

func (r *Runner) readPage(ctx context.Context, s *slice) ([]*seen, error) {
	rows, err := s.q.ListMemoriesToOptimize(ctx, db.ListMemoriesToOptimizeParams{
		UserID: s.run.UserID, AfterAt: s.at.At, AfterID: s.at.ID, MaxRows: r.page,
	})
	if err != nil {
		return nil, fmt.Errorf("list memories: %w", err)
	}
	page := make([]*seen, len(rows))
	for i, row := range rows {
		if page[i], err = seenFrom(db.LockMemoriesToMergeRow(row)); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// knownBefore reads the older memories that those of a page may say the same as, by mark.
func knownBefore(ctx context.Context, s *slice, page []*seen) (map[int64][]*seen, error) {
	known := map[int64][]*seen{}
	if len(page) == 0 {
		return known, nil
	}
	p := db.ListMarkedMemoriesParams{RunID: s.run.ID, MostEach: marksEach}
	for _, m := range page {
		p.Marks = append(p.Marks, m.mark)
	}
	marked, err := s.q.ListMarkedMemories(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list marked memories: %w", err)
	}
	if len(marked) == 0 {
		return known, nil
	}
	var ids []uuid.UUID
	for _, m := range marked {
		ids = append(ids, m.MemoryID)
	}
	rows, err := s.q.ListMemoriesToCompare(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list memories to compare: %w", err)
	}
	byID := map[uuid.UUID]*seen{}
	for _, row := range rows {
		m, err := seenFrom(db.LockMemoriesToMergeRow(row))
		if err != nil {
			return nil, err
		}
		byID[m.ID] = m
	}
	for _, m := range marked {
		if older := byID[m.MemoryID]; older != nil {
			known[m.Mark] = append(known[m.Mark], older)
		}
	}
	return known, nil
}

// match finds those of a page that say the same as one before them, and returns the
// others as fresh.
func match(page []*seen, known map[int64][]*seen) (pairs []pair, fresh []*seen) {
	for _, m := range page {
		found := false
		for _, older := range known[m.mark] {
			if found = m.same(older.reading) && mergeable(m.Row, older.Row); found {
				pairs = append(pairs, pair{of: m, older: older})
				older.Metadata = mergedMetadata(m.Row, older.Row) // as it will be to those behind
				break
			}
		}
		if !found {
			known[m.mark] = append(known[m.mark], m)
			fresh = append(fresh, m)
		}
	}
	return pairs, fresh
}

// note keeps what has been seen and may have its like later on.
func note(ctx context.Context, s *slice, fresh []*seen) error {
	if len(fresh) == 0 {
		return nil
	}
	p := db.InsertMemoryMarksParams{RunID: s.run.ID}
	for _, m := range fresh {
		p.Marks, p.MemoryIds = append(p.Marks, m.mark), append(p.MemoryIds, m.ID)
	}
	if err := s.q.InsertMemoryMarks(ctx, p); err != nil {
		return fmt.Errorf("insert marks: %w", err)
	}
	return nil
}
