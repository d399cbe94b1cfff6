package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// MemoryChange is what became of a memory once.
type MemoryChange struct {
	ID         int64           `json:"id"`
	UserID     string          `json:"user_id"`
	Operation  string          `json:"operation"` // added, updated or deleted
	Before     json.RawMessage `json:"before"`    // content and metadata; null where there was none
	After      json.RawMessage `json:"after"`
	EventID    *int64          `json:"event_id"`   // the newest that had a part in it
	WebhookID  *uuid.UUID      `json:"webhook_id"` // that told of it; null: nobody was to be told
	Actor      string          `json:"actor"`
	MergedInto *uuid.UUID      `json:"merged_into"`
	CreatedAt  time.Time       `json:"created_at"`
}

// MemoryPage is a part of a memory's history, newest first.
type MemoryPage struct {
	MemoryID   uuid.UUID      `json:"memory_id"`
	Changes    []MemoryChange `json:"changes"`
	NextBefore int64          `json:"next_before,omitempty"` // leads to the next page, 0 to none
}

// MemoryHistory returns what became of a memory before that change; 0: from the newest on.
// It returns ErrNotFound when nothing was ever known of it.
func (e *Events) MemoryHistory(ctx context.Context, id uuid.UUID, before int64, limit int) (MemoryPage, error) {
	page := MemoryPage{MemoryID: id, Changes: []MemoryChange{}}
	if limit == 0 {
		limit = defaultPage
	}
	rows, err := db.New(e.pool).ListMemoryHistory(ctx, db.ListMemoryHistoryParams{
		MemoryID: id, BeforeID: before, MaxRows: int32(limit) + 1, //nolint:gosec // at most MaxPage
	})
	if err != nil {
		return page, fmt.Errorf("list the history of a memory: %w", err)
	}
	if len(rows) == 0 && before == 0 {
		return page, fmt.Errorf("memory %s %w", id, ErrNotFound)
	}
	if len(rows) > limit {
		rows = rows[:limit]
		page.NextBefore = rows[limit-1].ID
	}
	for _, r := range rows {
		page.Changes = append(page.Changes, MemoryChange{
			ID: r.ID, UserID: r.UserID, Operation: r.Operation, Before: orNull(r.Before), After: orNull(r.After), EventID: r.EventID,
			WebhookID: r.OutboxID, Actor: r.Actor, MergedInto: r.MergedInto, CreatedAt: r.CreatedAt,
		})
	}
	return page, nil
}

func orNull(text []byte) json.RawMessage {
	if text == nil {
		return json.RawMessage("null")
	}
	return text
}
