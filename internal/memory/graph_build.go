package memory

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// The phases of a graph build: lines of the account's records, lines of records
// that are not the account's any more, lines of memories.
const (
	phaseRecords  = "records"
	phaseStrays   = "strays"
	phaseMemories = "memories"
)

// graphSteps are the slices of a graph build, by phase. Each page is looked at
// without locks first; what is not as it should be is locked and looked at again,
// so that whoever changes a record or a memory is neither kept nor overtaken.
func (r *Runner) graphSteps() map[string]func(context.Context, *slice) error {
	return map[string]func(context.Context, *slice) error{
		phaseBegin: r.beginGraph, phaseRecords: r.drawRecords, phaseStrays: r.dropStrays, phaseMemories: r.drawMemories,
	}
}

func (r *Runner) beginGraph(ctx context.Context, s *slice) error {
	total, err := s.q.CountGraphSources(ctx, db.CountGraphSourcesParams{UserID: s.run.UserID, AccountID: AccountOfUser(s.run.UserID)})
	if err != nil {
		return fmt.Errorf("count what the graph is made of: %w", err)
	}
	s.progress = Progress{Total: total, Graph: &GraphBuiltData{}}
	s.next(phaseRecords)
	return nil
}

// write makes the graph what d says and counts it.
func (r *Runner) writeGraph(ctx context.Context, s *slice, d difference) error {
	for _, c := range d.changes {
		if c.Gone {
			s.progress.Graph.Removed++
		} else {
			s.progress.Graph.Added++
		}
	}
	if err := setLines(ctx, s.q, d.said); err != nil {
		return err
	}
	return r.writer.Write(ctx, s.tx, Work{Links: d.changes})
}

// setLines writes what lines say of themselves.
func setLines(ctx context.Context, q *db.Queries, lines []Link) error {
	if len(lines) == 0 {
		return nil
	}
	var p db.SetLinesParams
	for _, l := range lines {
		metadata, err := writeMetadata(l.Metadata)
		if err != nil {
			return err
		}
		p.Ids, p.Confidences, p.Metadata = append(p.Ids, l.ID), append(p.Confidences, float32(l.Confidence)), append(p.Metadata, metadata)
	}
	if err := q.SetLines(ctx, p); err != nil {
		return fmt.Errorf("set lines: %w", err)
	}
	return nil
}

// drawRecords is a page of the account's records.
func (r *Runner) drawRecords(ctx context.Context, s *slice) error {
	account := AccountOfUser(s.run.UserID)
	page, err := s.q.ListRecordsForGraph(ctx, db.ListRecordsForGraphParams{
		AccountID: account, AfterModule: s.at.Module, AfterRecordID: s.at.RecordID, MaxRows: r.page,
	})
	if err != nil {
		return fmt.Errorf("list records: %w", err)
	}
	differing, _, err := r.recordLines(ctx, s, page)
	if err != nil {
		return err
	}
	if len(differing) > 0 {
		if err := r.redrawRecords(ctx, s, differing); err != nil {
			return err
		}
	}
	s.progress.Done += int64(len(page))
	if len(page) < int(r.page) {
		s.next(phaseStrays)
		return nil
	}
	last := page[len(page)-1]
	s.at = checkpoint{Module: last.Module, RecordID: last.RecordID}
	return nil
}

// redrawRecords locks records, reads them again, and makes their lines what they say.
func (r *Runner) redrawRecords(ctx context.Context, s *slice, records []db.ListRecordsForGraphRow) error {
	var p db.LockRecordsForGraphParams
	for _, record := range records {
		p.Modules, p.RecordIds = append(p.Modules, record.Module), append(p.RecordIds, record.RecordID)
	}
	locked, err := s.q.LockRecordsForGraph(ctx, p)
	if err != nil {
		return fmt.Errorf("lock records: %w", err)
	}
	records = records[:0]
	for _, record := range locked {
		records = append(records, db.ListRecordsForGraphRow(record))
	}
	_, d, err := r.recordLines(ctx, s, records)
	if err != nil {
		return err
	}
	return r.writeGraph(ctx, s, d)
}

// recordLines returns those of the records whose lines are not what their fields
// say, and what is to be done about it.
func (r *Runner) recordLines(ctx context.Context, s *slice, records []db.ListRecordsForGraphRow) ([]db.ListRecordsForGraphRow, difference, error) {
	if len(records) == 0 {
		return nil, difference{}, nil
	}
	p := db.ListLinesOfRecordsParams{UserID: s.run.UserID}
	for _, record := range records {
		p.Modules, p.RecordIds = append(p.Modules, record.Module), append(p.RecordIds, record.RecordID)
	}
	rows, err := s.q.ListLinesOfRecords(ctx, p)
	if err != nil {
		return nil, difference{}, fmt.Errorf("list lines of records: %w", err)
	}
	there := map[[2]string][]Link{}
	for _, row := range rows {
		l, err := linkFrom(db.LockRelationshipsRow(row))
		if err != nil {
			return nil, difference{}, err
		}
		key := [2]string{l.Module, l.RecordID}
		there[key] = append(there[key], l)
	}
	var differing []db.ListRecordsForGraphRow
	var all difference
	for _, record := range records {
		wanted, err := linesOfRecord(record, s.run.UserID)
		if err != nil {
			return nil, difference{}, err
		}
		if d := differ(there[[2]string{record.Module, record.RecordID}], wanted, r.writer.newID); !d.empty() {
			differing = append(differing, record)
			all.join(d)
		}
	}
	return differing, all, nil
}

// linesOfRecord are the lines that a record draws for a user: none when it is gone
// or another's.
func linesOfRecord(record db.ListRecordsForGraphRow, userID string) ([]Link, error) {
	if record.DeletedAt != nil || UserOfAccount(record.AccountID) != userID {
		return nil, nil
	}
	known := Record{Module: record.Module, ID: record.RecordID, AccountID: record.AccountID}
	if err := json.Unmarshal(record.Data, &known.Fields); err != nil {
		return nil, fmt.Errorf("read the fields of %s %s: %w", record.Module, record.RecordID, err)
	}
	var lines []Link
	for _, relation := range RelationsOf(known) {
		lines = append(lines, LinkOf(uuid.Nil, relation, record.Module, record.RecordID))
	}
	return lines, nil
}

// dropStrays removes lines of records that moved to another account or are unknown.
func (r *Runner) dropStrays(ctx context.Context, s *slice) error {
	list := db.ListStrayLinesParams{UserID: s.run.UserID, AccountID: AccountOfUser(s.run.UserID), MaxRows: r.page}
	rows, err := s.q.ListStrayLines(ctx, list)
	if err != nil {
		return fmt.Errorf("list stray lines: %w", err)
	}
	if len(rows) == 0 {
		s.next(phaseMemories)
		return nil
	}
	var p db.LockRecordsForGraphParams
	stray := map[uuid.UUID]bool{}
	for _, row := range rows {
		p.Modules, p.RecordIds = append(p.Modules, orEmpty(row.Module)), append(p.RecordIds, orEmpty(row.RecordID))
		stray[row.ID] = true
	}
	if _, err := s.q.LockRecordsForGraph(ctx, p); err != nil {
		return fmt.Errorf("lock records: %w", err)
	}
	// One may have come back meanwhile, and others may have joined; these wait their turn.
	if rows, err = s.q.ListStrayLines(ctx, list); err != nil {
		return fmt.Errorf("list stray lines: %w", err)
	}
	var d difference
	for _, row := range rows {
		if stray[row.ID] {
			d.changes = append(d.changes, LinkChange{Link: Link{ID: row.ID}, Gone: true})
		}
	}
	return r.writeGraph(ctx, s, d)
}

// drawMemories is a page of the user's memories.
func (r *Runner) drawMemories(ctx context.Context, s *slice) error {
	page, err := s.q.ListMemoriesForGraph(ctx, db.ListMemoriesForGraphParams{
		UserID: s.run.UserID, AfterAt: s.at.At, AfterID: s.at.ID, MaxRows: r.page,
	})
	if err != nil {
		return fmt.Errorf("list memories: %w", err)
	}
	memories := make([]db.LockMemoriesForGraphRow, len(page))
	for i, m := range page {
		memories[i] = db.LockMemoriesForGraphRow(m)
	}
	differing, _, err := r.memoryLines(ctx, s.q, memories)
	if err != nil {
		return err
	}
	if len(differing) > 0 {
		locked, err := s.q.LockMemoriesForGraph(ctx, differing)
		if err != nil {
			return fmt.Errorf("lock memories: %w", err)
		}
		_, d, err := r.memoryLines(ctx, s.q, locked)
		if err != nil {
			return err
		}
		if err := r.writeGraph(ctx, s, d); err != nil {
			return err
		}
	}
	s.progress.Done += int64(len(page))
	if len(page) < int(r.page) {
		s.next(phaseEnd)
		return nil
	}
	last := page[len(page)-1]
	s.at = checkpoint{At: last.CreatedAt, ID: last.ID}
	return nil
}

// memoryLines returns the ids of those memories whose lines are not what their
// metadata says, and what is to be done about it.
func (r *Runner) memoryLines(ctx context.Context, q *db.Queries, memories []db.LockMemoriesForGraphRow) ([]uuid.UUID, difference, error) {
	ids := make([]uuid.UUID, len(memories))
	for i, m := range memories {
		ids[i] = m.ID
	}
	there, err := linesByMemory(ctx, q, ids)
	if err != nil {
		return nil, difference{}, err
	}
	var differing []uuid.UUID
	var all difference
	for _, m := range memories {
		var wanted []Link
		if m.Alive {
			metadata, err := ReadMetadata(m.Metadata)
			if err != nil {
				return nil, difference{}, fmt.Errorf("memory %s: %w", m.ID, err)
			}
			wanted = linesOf(m.ID, m.UserID, metadata)
		}
		if d := differ(there[m.ID], wanted, r.writer.newID); !d.empty() {
			differing = append(differing, m.ID)
			all.join(d)
		}
	}
	return differing, all, nil
}

// linesByMemory reads what was derived from memories.
func linesByMemory(ctx context.Context, q *db.Queries, ids []uuid.UUID) (map[uuid.UUID][]Link, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := q.ListLinesOfMemories(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list lines of memories: %w", err)
	}
	lines := map[uuid.UUID][]Link{}
	for _, row := range rows {
		l, err := linkFrom(db.LockRelationshipsRow(row))
		if err != nil {
			return nil, err
		}
		lines[*l.MemoryID] = append(lines[*l.MemoryID], l)
	}
	return lines, nil
}
