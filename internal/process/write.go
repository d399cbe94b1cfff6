package process

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

// writeMemories writes everything that a group of syncs changed: events,
// records, memories and their history, and the webhooks that tell of it with
// the job that relays them.
func (s *Syncer) writeMemories(ctx context.Context, tx pgx.Tx, g *syncGroup) error {
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
	if len(g.changes) == 0 && len(g.links) == 0 {
		return nil
	}
	if err := writeChanges(ctx, q, g.changes); err != nil {
		return err
	}
	if err := writeLinks(ctx, q, g.links); err != nil {
		return err
	}
	webhooks, err := s.writeOutbox(ctx, q, g)
	if err != nil {
		return err
	}
	if err := writeHistory(ctx, q, g.changes, webhooks); err != nil {
		return err
	}
	if len(webhooks) == 0 {
		return nil
	}
	// One job for the group: it relays whatever waits.
	if _, err := s.jobs.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: job.Relay{}}}); err != nil {
		return fmt.Errorf("insert relay job: %w", err)
	}
	return nil
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

// writeChanges deletes first: a record that moved makes room for itself.
func writeChanges(ctx context.Context, q *db.Queries, changes []change) error {
	var gone []uuid.UUID
	var added db.InsertMemoriesParams
	var updated db.UpdateMemoriesParams
	for _, c := range changes {
		if c.after == nil {
			gone = append(gone, c.before.id)
			continue
		}
		metadata, err := json.Marshal(c.after.memory.Metadata)
		if err != nil {
			return fmt.Errorf("encode metadata: %w", err)
		}
		sum := c.after.checksum
		if c.before != nil {
			updated.Ids = append(updated.Ids, c.after.id)
			updated.Kinds = append(updated.Kinds, c.after.memory.Kind)
			updated.Contents = append(updated.Contents, c.after.memory.Content)
			updated.Metadata = append(updated.Metadata, metadata)
			updated.Checksums = append(updated.Checksums, sum[:])
			continue
		}
		added.Ids = append(added.Ids, c.after.id)
		added.UserIds = append(added.UserIds, c.after.memory.UserID)
		added.AccountIds = append(added.AccountIds, c.after.accountID)
		added.Modules = append(added.Modules, c.key.module)
		added.RecordIds = append(added.RecordIds, c.key.id)
		added.Kinds = append(added.Kinds, c.after.memory.Kind)
		added.Contents = append(added.Contents, c.after.memory.Content)
		added.Metadata = append(added.Metadata, metadata)
		added.Checksums = append(added.Checksums, sum[:])
	}
	if len(gone) > 0 {
		if err := q.DeleteMemories(ctx, gone); err != nil {
			return fmt.Errorf("delete memories: %w", err)
		}
	}
	if len(updated.Ids) > 0 {
		if err := q.UpdateMemories(ctx, updated); err != nil {
			return fmt.Errorf("update memories: %w", err)
		}
	}
	if len(added.Ids) > 0 {
		if err := q.InsertMemories(ctx, added); err != nil {
			return fmt.Errorf("insert memories: %w", err)
		}
	}
	return nil
}

// writeOutbox stores the webhooks that somebody receives, those of the graph after
// those of memories. It returns the ids by the position of the change they tell
// of, with the graph's after all of g.changes.
func (s *Syncer) writeOutbox(ctx context.Context, q *db.Queries, g *syncGroup) (map[int]uuid.UUID, error) {
	webhooks := map[int]uuid.UUID{}
	var p db.InsertOutboxParams
	now := s.now()
	for i := range len(g.changes) + len(g.links) {
		var event, userID string
		var data any
		if i < len(g.changes) {
			event, userID, data = g.changes[i].told()
		} else {
			event, userID, data = g.links[i-len(g.changes)].told()
		}
		if !g.wanted[event] {
			continue
		}
		id := s.newID()
		payload, err := s.render(id, event, userID, data, now)
		if err != nil {
			return nil, err
		}
		webhooks[i] = id
		p.Ids = append(p.Ids, id)
		p.Events = append(p.Events, event)
		p.UserIds = append(p.UserIds, userID)
		p.Payloads = append(p.Payloads, payload)
	}
	if len(p.Ids) == 0 {
		return nil, nil
	}
	if err := q.InsertOutbox(ctx, p); err != nil {
		return nil, fmt.Errorf("insert outbox: %w", err)
	}
	return webhooks, nil
}

func (s *Syncer) render(id uuid.UUID, event, userID string, data any, now time.Time) ([]byte, error) {
	return memory.Envelope{
		Event: event, UserID: userID, Data: data, Timestamp: now,
		Source: s.sender.Source, BotVersion: s.sender.BotVersion, RequestID: id.String(),
	}.Render()
}

func writeHistory(ctx context.Context, q *db.Queries, changes []change, webhooks map[int]uuid.UUID) error {
	if len(changes) == 0 {
		return nil
	}
	var p db.InsertMemoryHistoryParams
	for i, c := range changes {
		subject, operation := c.after, "updated"
		switch {
		case c.before == nil:
			operation = "added"
		case c.after == nil:
			subject, operation = c.before, "deleted"
		}
		before, err := historyJSON(c.before)
		if err != nil {
			return err
		}
		after, err := historyJSON(c.after)
		if err != nil {
			return err
		}
		p.MemoryIds = append(p.MemoryIds, subject.id)
		p.UserIds = append(p.UserIds, subject.memory.UserID)
		p.AccountIds = append(p.AccountIds, subject.accountID)
		p.Modules = append(p.Modules, c.key.module)
		p.RecordIds = append(p.RecordIds, c.key.id)
		p.Operations = append(p.Operations, operation)
		p.Before = append(p.Before, before)
		p.After = append(p.After, after)
		p.EventIds = append(p.EventIds, c.eventID)
		p.OutboxIds = append(p.OutboxIds, webhooks[i])
	}
	if err := q.InsertMemoryHistory(ctx, p); err != nil {
		return fmt.Errorf("insert memory history: %w", err)
	}
	return nil
}

// historyJSON is a memory as its history keeps it; JSON's null for none.
func historyJSON(r *remembered) ([]byte, error) {
	if r == nil {
		return []byte("null"), nil
	}
	text, err := json.Marshal(map[string]any{"content": r.memory.Content, "metadata": r.memory.Metadata})
	if err != nil {
		return nil, fmt.Errorf("encode memory %s: %w", r.id, err)
	}
	return text, nil
}
