package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// longestText bounds what a filter may be, in bytes.
const longestText = 500

// Events looks at what came in, for operators.
type Events struct {
	pool *pgxpool.Pool
}

// NewEvents makes an Events.
func NewEvents(pool *pgxpool.Pool) *Events { return &Events{pool: pool} }

// EventStatuses are all that an event may have.
func EventStatuses() []string {
	return append([]string{"received", "routed", "retrying"}, finalStatuses()...)
}

// finalStatuses are those of events that can be run again.
func finalStatuses() []string { return []string{"processed", "ignored", "dead", "discarded"} }

func operations() []string { return []string{"create", "update", "delete", "restore"} }

// EventFilter says which events a list is of, or a replay; what is left empty does not
// matter. EventID, RecordID, AccountID, a Status that is not processed, Error and the
// times are read by an index, in this order of preference; what else there is, is looked
// for among those.
type EventFilter struct {
	Status    string `json:"status,omitempty"`
	Source    string `json:"source,omitempty"`
	Module    string `json:"module,omitempty"`
	Operation string `json:"operation,omitempty"`
	RecordID  string `json:"record_id,omitempty"`
	AccountID string `json:"account_id,omitempty"`
	UserID    string `json:"user_id,omitempty"`  // of who changed the record, as the sender says
	EventID   string `json:"event_id,omitempty"` // as it was sent
	Error     string `json:"error,omitempty"`    // a part of the last error, in any case
	// Since and Until are of when an event was received; Until is not in it.
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	Limit  int       `json:"-"` // 0: 50; at most MaxPage
	Cursor string    `json:"-"` // next_cursor of the page before
}

// texts are the filters that are texts, by their names.
func (f *EventFilter) texts() map[string]*string {
	return map[string]*string{
		"status": &f.Status, "source": &f.Source, "module": &f.Module, "operation": &f.Operation, "record_id": &f.RecordID,
		"account_id": &f.AccountID, "user_id": &f.UserID, "event_id": &f.EventID, "error": &f.Error,
	}
}

// check refuses what no event can be like: a name that is typed wrong must not look like
// a list that is empty.
func (f *EventFilter) check() error {
	if f.Status != "" && !slices.Contains(EventStatuses(), f.Status) {
		return wrong("status", "want one of %s", strings.Join(EventStatuses(), ", "))
	}
	if f.Operation != "" && !slices.Contains(operations(), f.Operation) {
		return wrong("operation", "want one of %s", strings.Join(operations(), ", "))
	}
	for name, text := range f.texts() {
		if !storable(*text) {
			return wrong(name, "want a text of at most %d bytes", longestText)
		}
	}
	return nil
}

// storable reports whether a text can be a part of what is stored.
func storable(text string) bool {
	return len(text) <= longestText && keepable(text)
}

// keepable reports whether Postgres can keep a text.
func keepable(text string) bool { return utf8.ValidString(text) && !strings.ContainsRune(text, 0) }

// Event is one record's change, as one webhook told it.
type Event struct {
	ID             int64      `json:"id"`
	Source         string     `json:"source"`
	EventID        string     `json:"event_id"` // as it was sent
	Module         string     `json:"module"`
	Operation      string     `json:"operation"`
	RecordID       string     `json:"record_id"`
	AccountID      *string    `json:"account_id"` // null until it is routed
	Revision       *int64     `json:"revision"`   // of its account
	UserID         string     `json:"user_id"`
	ModifiedFields []string   `json:"modified_fields"`
	OccurredAt     *time.Time `json:"occurred_at"` // by the sender's clock
	ReceivedAt     time.Time  `json:"received_at"`
	RoutedAt       *time.Time `json:"routed_at"`
	Status         string     `json:"status"`
	Failures       int32      `json:"failures"`
	LastError      string     `json:"last_error"`
	RetryAt        *time.Time `json:"retry_at"` // not tried before; null: at once
	ProcessedAt    *time.Time `json:"processed_at"`
}

// EventPage is a part of a list, newest first.
type EventPage struct {
	Events []Event `json:"events"`
	// NextCursor leads to the next page, "" to none. A page may have fewer events than
	// were asked for, or none, and a next one all the same: 8,000 are looked at for a
	// page, or 1,000 that must be looked up one by one, and then the answer is given.
	NextCursor string `json:"next_cursor,omitempty"`
}

// List returns a page of events, newest first. What comes meanwhile is in none of the
// later pages, and puts nothing into two of them. It returns a *body.Invalid for a filter
// that is none.
func (e *Events) List(ctx context.Context, f EventFilter) (EventPage, error) {
	page := EventPage{Events: []Event{}}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		return page, wrong("limit", "want 1 to %d", MaxPage)
	}
	if err := f.check(); err != nil {
		return page, err
	}
	s := eventSearch{q: db.New(e.pool), filter: f}
	before, err := s.begin(ctx)
	if err != nil {
		return page, err
	}
	for _, most := range s.windows() {
		seen, err := s.window(ctx, before, most)
		if err != nil {
			return page, fmt.Errorf("look at events: %w", err)
		}
		events, err := s.wanted(ctx, seen, f.Limit-len(page.Events))
		if err != nil {
			return page, fmt.Errorf("list events: %w", err)
		}
		page.Events = append(page.Events, events...)
		last := len(seen) < most
		if len(page.Events) == f.Limit {
			before = page.Events[f.Limit-1].ID
			if !last || before != seen[len(seen)-1] {
				page.NextCursor = writeNumbers(markOf(f), before)
			}
			return page, nil
		}
		if last {
			return page, nil
		}
		before = seen[len(seen)-1]
	}
	page.NextCursor = writeNumbers(markOf(f), before)
	return page, nil
}

// checkReason refuses what is no reason that can be shown.
func checkReason(reason string) error {
	// Operators see it on their terminals.
	steers := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if len(reason) > longestReason || !utf8.ValidString(reason) || strings.ContainsFunc(reason, steers) {
		return wrong("reason", "want a text of at most %d bytes, without control characters", longestReason)
	}
	return nil
}
