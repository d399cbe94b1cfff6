package process

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

// writeMemories writes everything that a group of syncs changed: events,
// records, and what that does to the memory. Deaths of events are told with it.
func (s *Syncer) writeMemories(ctx context.Context, tx pgx.Tx, g *syncGroup, deaths []memory.Announcement) error {
	q := db.New(tx)
	if len(g.processed) > 0 {
		if err := q.MarkEventsProcessed(ctx, g.processed); err != nil {
			return fmt.Errorf("mark events processed: %w", err)
		}
	}
	if len(g.touched) > 0 {
		if err := writeRecords(ctx, q, g); err != nil {
			return err
		}
	}
	if err := g.overview(ctx, q); err != nil {
		return err
	}
	if err := s.wakeOthers(ctx, tx, g); err != nil {
		return err
	}
	return s.writer.Write(ctx, tx, memory.Work{Changes: g.changes, Links: g.links, Announcements: deaths})
}

func writeRecords(ctx context.Context, q *db.Queries, g *syncGroup) error {
	var p db.UpdateRecordsParams
	for _, k := range sortedRecordKeys(g.touched) {
		r := g.records[k]
		data, err := json.Marshal(r.data)
		if err != nil {
			return fmt.Errorf("encode record %s %s: %w", k.module, k.id, err)
		}
		times, err := json.Marshal(r.times)
		if err != nil {
			return fmt.Errorf("encode field times of %s %s: %w", k.module, k.id, err)
		}
		p.Modules = append(p.Modules, k.module)
		p.RecordIds = append(p.RecordIds, k.id)
		p.AccountIds = append(p.AccountIds, r.accountID)
		p.Data = append(p.Data, data)
		p.FieldTimes = append(p.FieldTimes, times)
		p.ModifiedAt = append(p.ModifiedAt, r.modifiedAt)
		p.LifeAt = append(p.LifeAt, r.lifeAt)
		p.LifeEventIds = append(p.LifeEventIds, r.lifeEventID)
		p.DeletedAt = append(p.DeletedAt, r.deletedAt)
		p.ReadAt = append(p.ReadAt, r.readAt)
	}
	if err := q.UpdateRecords(ctx, p); err != nil {
		return fmt.Errorf("update records: %w", err)
	}
	return nil
}
