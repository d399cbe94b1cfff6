package admin

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// RecordFilter says whose story is told.
type RecordFilter struct {
	Module   string `json:"module"` // "": all that have a record of this id
	RecordID string `json:"record_id"`
	Limit    int    `json:"-"` // events and changes of a page; 0: 50, at most MaxPage
	Cursor   string `json:"-"` // next_cursor of the page before
}

// Record is how a record stands now.
type Record struct {
	Module     string     `json:"module"`
	AccountID  *string    `json:"account_id"`  // null: nothing is known of it
	ModifiedAt *time.Time `json:"modified_at"` // by Zoho's clock
	ReadAt     *time.Time `json:"read_at"`     // from Zoho; null: it never was
	DeletedAt  *time.Time `json:"deleted_at"`
	MemoryID   *uuid.UUID `json:"memory_id"` // null: nothing is remembered of it
	SyncedAt   *time.Time `json:"synced_at"` // its account
	// AccountWaits says whether a sync of its account is due; AccountError is what kept
	// the last one from its end.
	AccountWaits bool   `json:"account_waits"`
	AccountError string `json:"account_error"`
}

// RecordStory is what happened to a record.
type RecordStory struct {
	RecordID string   `json:"record_id"`
	Records  []Record `json:"records"` // one for each module that has it
	// Steps are all that followed from the events and changes of this page, in the order
	// of time; the first page has the newest.
	Steps []Step `json:"steps"`
	// NextCursor leads to what was before, "" to nothing.
	NextCursor string `json:"next_cursor,omitempty"`
}

// Record returns the story of a record: its events, the syncs, what became of its memory,
// who was told and how that went. It returns ErrNotFound when nothing is known of it.
func (e *Events) Record(ctx context.Context, f RecordFilter) (RecordStory, error) {
	story := RecordStory{RecordID: f.RecordID, Steps: []Step{}, Records: []Record{}}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		return story, wrong("limit", "want 1 to %d", MaxPage)
	}
	if f.RecordID == "" || !storable(f.RecordID) || !storable(f.Module) {
		return story, wrong("record_id", "want the id of a record")
	}
	q := db.New(e.pool)
	modules, err := q.ListRecordModules(ctx, f.RecordID)
	if err != nil {
		return story, fmt.Errorf("list the modules of a record: %w", err)
	}
	if f.Module != "" {
		modules = []string{f.Module}
	}
	rows, err := q.ListRecordsKnown(ctx, db.ListRecordsKnownParams{Modules: modules, RecordID: f.RecordID})
	if err != nil {
		return story, fmt.Errorf("list what is known of a record: %w", err)
	}
	known := false
	for _, r := range rows {
		story.Records = append(story.Records, Record(r))
		known = known || r.AccountID != nil || r.MemoryID != nil
	}
	part, err := recordPart(ctx, q, f, modules)
	if err != nil {
		return story, err
	}
	if !known && len(part.events)+len(part.changes) == 0 && f.Cursor == "" {
		return story, fmt.Errorf("record %s %w", f.RecordID, ErrNotFound)
	}
	story.NextCursor = part.next
	story.Steps, err = steps(ctx, q, part.events, part.changes)
	return story, err
}

// part is what one page of a record's story is made of.
type part struct {
	events, changes []int64
	next            string // cursor
}

// recordPart merges the events of a record and the changes of its memory, newest first.
// Each of the two is read by its own order, so that nothing is in two pages or in none.
func recordPart(ctx context.Context, q *db.Queries, f RecordFilter, modules []string) (p part, err error) {
	at := []int64{math.MaxInt64, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), math.MaxInt64}
	if f.Cursor != "" {
		if at, err = readNumbers(f.Cursor, markOf(f), len(at)); err != nil {
			return p, err
		}
	}
	most := int32(f.Limit) + 1 //nolint:gosec // at most MaxPage
	events, err := q.LookAtRecordEvents(ctx, db.LookAtRecordEventsParams{Modules: modules, RecordID: f.RecordID, Before: at[0], Most: most})
	if err != nil {
		return p, fmt.Errorf("look at the events of a record: %w", err)
	}
	changes, err := q.LookAtRecordChanges(ctx, db.LookAtRecordChangesParams{
		Modules: modules, RecordID: &f.RecordID, BeforeAt: time.UnixMicro(at[1]), Before: at[2], Most: most,
	})
	if err != nil {
		return p, fmt.Errorf("look at the changes of a record: %w", err)
	}
	for len(p.events)+len(p.changes) < f.Limit && len(events)+len(changes) > 0 {
		if len(changes) == 0 || len(events) > 0 && events[0].ReceivedAt.After(changes[0].CreatedAt) {
			p.events, at[0], events = append(p.events, events[0].ID), events[0].ID, events[1:]
			continue
		}
		p.changes, at[1], at[2] = append(p.changes, changes[0].ID), changes[0].CreatedAt.UnixMicro(), changes[0].ID
		changes = changes[1:]
	}
	if len(events)+len(changes) > 0 {
		p.next = writeNumbers(markOf(f), at...)
	}
	return p, nil
}
