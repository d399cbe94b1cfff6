package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// mergePairs locks memories that were found to say the same, looks at them again,
// and merges those that still do. It returns the others as they are now: whatever
// they say, it is not what was read before.
func (r *Runner) mergePairs(ctx context.Context, s *slice, pairs []pair) (left []*seen, err error) {
	is, err := lockPairs(ctx, s, pairs)
	if err != nil {
		return nil, err
	}
	m := merge{actor: s.run.Actor, survivors: map[uuid.UUID]*survivor{}}
	for _, p := range pairs {
		of, older := is[p.of.ID], is[p.older.ID]
		switch {
		case of == nil: // deleted, or expired
		case older == nil || !m.take(of, older):
			left = append(left, of)
		}
	}
	s.progress.removed(len(m.gone), 0)
	work, said, err := r.mergeWork(ctx, s, &m)
	if err != nil {
		return nil, err
	}
	if err := setLines(ctx, s.q, said); err != nil {
		return nil, err
	}
	return left, r.writer.Write(ctx, s.tx, work)
}

func lockPairs(ctx context.Context, s *slice, pairs []pair) (map[uuid.UUID]*seen, error) {
	var ids []uuid.UUID
	for _, p := range pairs {
		ids = append(ids, p.of.ID, p.older.ID)
	}
	rows, err := s.q.LockMemoriesToMerge(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("lock memories: %w", err)
	}
	is := map[uuid.UUID]*seen{}
	for _, row := range rows {
		m, err := seenFrom(row)
		if err != nil {
			return nil, err
		}
		is[m.ID] = m
	}
	return is, nil
}

// merge is what becomes of some memories that say the same as others.
type merge struct {
	actor     string
	gone      []Change
	survivors map[uuid.UUID]*survivor
	order     []uuid.UUID // of survivors
}

// survivor is a memory that others are merged into.
type survivor struct {
	before, after Row
	merged        []uuid.UUID
}

// take merges a memory into an older one, unless they do not say the same any more.
func (m *merge) take(of, older *seen) bool {
	s := m.survivors[older.ID]
	if s == nil {
		s = &survivor{before: older.Row, after: older.Row}
	}
	if !of.same(older.reading) || !mergeable(of.Row, s.after) {
		return false
	}
	if m.survivors[older.ID] == nil {
		m.survivors[older.ID] = s
		m.order = append(m.order, older.ID)
	}
	s.after.Metadata = mergedMetadata(of.Row, s.after)
	s.after.ExpiresAt = later(of.ExpiresAt, s.after.ExpiresAt)
	s.merged = append(s.merged, of.ID)
	m.gone = append(m.gone, Change{Before: &of.Row, Actor: m.actor, MergedInto: older.ID})
	return true
}

// mergedMetadata is what both say; where they were heard at different places, what
// the survivor says of that.
func mergedMetadata(of, survivor Row) map[string]any {
	merged := maps.Clone(of.Metadata)
	if merged == nil {
		merged = map[string]any{}
	}
	maps.Copy(merged, survivor.Metadata)
	return merged
}

// mergeable reports whether the metadata of both together loses nothing, and is
// still metadata.
func mergeable(of, survivor Row) bool {
	return !contradicts(of.Metadata, survivor.Metadata) && CheckMetadata(mergedMetadata(of, survivor)) == nil
}

// later is the later of two times; nil is never.
func later(a, b *time.Time) *time.Time {
	switch {
	case a == nil || b == nil:
		return nil
	case a.After(*b):
		return a
	default:
		return b
	}
}

// mergeWork is what to write: what is gone, what the survivors are now, and the
// lines of the graph that hung on what is gone and hang on them now.
func (r *Runner) mergeWork(ctx context.Context, s *slice, m *merge) (work Work, said []Link, err error) {
	work.Changes = m.gone
	var ids []uuid.UUID
	for _, id := range m.order {
		ids = append(append(ids, id), m.survivors[id].merged...)
	}
	lines, err := linesByMemory(ctx, s.q, ids)
	if err != nil {
		return work, nil, err
	}
	for _, id := range m.order {
		is := m.survivors[id]
		if is.before.Checksum() != is.after.Checksum() || !sameTime(is.before.ExpiresAt, is.after.ExpiresAt) {
			work.Changes = append(work.Changes, Change{Before: &is.before, After: &is.after, Actor: m.actor})
		}
		if !slices.ContainsFunc(is.merged, func(gone uuid.UUID) bool { return len(lines[gone]) > 0 }) {
			continue
		}
		d := differ(lines[id], linesOf(id, is.after.UserID, is.after.Metadata), r.writer.newID)
		work.Links, said = append(work.Links, d.changes...), append(said, d.said...)
	}
	return work, said, nil
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}
