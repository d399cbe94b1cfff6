package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/memrelay/memrelay/db"
)

// fewEvents is how many events that have not ended are read at once: where there are more,
// any window of all events has some.
const fewEvents = 20_000

// eventSearch is one look for events.
type eventSearch struct {
	q       *db.Queries
	filter  EventFilter
	modules []string // of the record that is looked for
	since   int64    // ids below it are too old
	// few are all that can be meant, newest first, where there are few; nil: they are
	// looked for in windows.
	few []int64
}

// begin finds out where the search begins: before which id.
func (s *eventSearch) begin(ctx context.Context) (int64, error) {
	f := s.filter
	before := int64(math.MaxInt64)
	if f.Cursor != "" {
		at, err := readNumbers(f.Cursor, markOf(f), 1)
		if err != nil {
			return 0, err
		}
		before = at[0]
	}
	if !f.Since.IsZero() {
		var err error
		if s.since, err = s.q.FindEventAt(ctx, f.Since.Add(-disorder)); err != nil {
			return 0, fmt.Errorf("find the first event: %w", err)
		}
	}
	if !f.Until.IsZero() {
		until, err := s.q.FindEventAt(ctx, f.Until.Add(disorder))
		if err != nil {
			return 0, fmt.Errorf("find the last event: %w", err)
		}
		before = min(before, until)
	}
	return before, s.gather(ctx)
}

// gather reads what can be meant where that is few, and the modules of a record.
func (s *eventSearch) gather(ctx context.Context) (err error) {
	f := s.filter
	switch {
	case f.EventID != "":
		if s.few, err = s.q.ListEventsByKey(ctx, f.EventID); err != nil {
			return fmt.Errorf("list events of an id: %w", err)
		}
	case f.RecordID != "" && f.Module != "":
		s.modules = []string{f.Module}
	case f.RecordID != "":
		if s.modules, err = s.q.ListRecordModules(ctx, f.RecordID); err != nil {
			return fmt.Errorf("list the modules of a record: %w", err)
		}
	case f.AccountID == "" && (f.Status == "routed" || f.Status == "retrying"):
		if s.few, err = s.q.ListRoutedEvents(ctx, fewEvents); err != nil {
			return fmt.Errorf("list routed events: %w", err)
		}
		waiting, err := s.q.LookAtWaitingEvents(ctx, db.LookAtWaitingEventsParams{Before: math.MaxInt64, Most: fewEvents})
		if err != nil {
			return fmt.Errorf("list waiting events: %w", err)
		}
		if s.few = append(s.few, waiting...); len(s.few) >= fewEvents {
			s.few = nil // so many that any window of all events has some
			return nil
		}
		slices.Sort(s.few)
		s.few = slices.Compact(s.few)
		slices.Reverse(s.few)
	}
	return nil
}

// plain reports whether the windows are of all events.
func (s *eventSearch) plain() bool {
	f := s.filter
	return s.few == nil && f.RecordID == "" && f.AccountID == "" && f.Error == "" && (f.Status == "" || !slices.Contains(indexed(), f.Status))
}

// indexed are the statuses whose events an index finds.
func indexed() []string { return []string{"received", "dead", "ignored", "discarded"} }

// windows are how many events are looked at, one window after the other, for one page:
// most pages are in the first. Where events must be looked up one by one it is fewer, so
// that every page is answered in the same time.
func (s *eventSearch) windows() []int {
	if s.plain() {
		return []int{250, 1000, 6750}
	}
	return []int{250, 750}
}

// wanted returns those of what was seen that the filter wants, newest first.
func (s *eventSearch) wanted(ctx context.Context, seen []int64, most int) ([]Event, error) {
	if len(seen) == 0 {
		return nil, nil
	}
	f := s.filter
	p := db.FilterEventsParams{
		Ids: seen, Status: orNil(f.Status), Source: orNil(f.Source), Module: orNil(f.Module), Operation: orNil(f.Operation),
		RecordID: orNil(f.RecordID), AccountID: orNil(f.AccountID), UserID: orNil(f.UserID), EventID: orNil(f.EventID),
		Error: orNil(f.Error), Since: orNil(f.Since), Until: orNil(f.Until), MaxEvents: int32(most), //nolint:gosec // at most MaxPage
	}
	var found []Event
	if !s.plain() {
		rows, err := s.q.FilterEvents(ctx, p)
		for _, r := range rows {
			found = append(found, Event(r))
		}
		return found, err
	}
	rows, err := s.q.FilterEventsBetween(ctx, db.FilterEventsBetweenParams{
		First: seen[len(seen)-1], Last: seen[0], Status: p.Status, Source: p.Source, Module: p.Module, Operation: p.Operation, RecordID: p.RecordID,
		AccountID: p.AccountID, UserID: p.UserID, EventID: p.EventID, Error: p.Error, Since: p.Since, Until: p.Until, MaxEvents: p.MaxEvents,
	})
	for _, r := range rows {
		found = append(found, Event(r))
	}
	return found, err
}

// window returns the ids of the next events before that one, newest first: fewer than
// most when there are no more.
func (s *eventSearch) window(ctx context.Context, before int64, most int) ([]int64, error) {
	f, n := s.filter, int32(most) //nolint:gosec // one of windows
	switch {
	case s.few != nil:
		rest := s.few[len(s.few)-countBelow(s.few, before):]
		return rest[:min(most, len(rest))], nil
	case f.RecordID != "":
		rows, err := s.q.LookAtRecordEvents(ctx, db.LookAtRecordEventsParams{RecordID: f.RecordID, Modules: s.modules, Before: before, SinceID: s.since, Most: n})
		ids := make([]int64, len(rows))
		for i, r := range rows {
			ids[i] = r.ID
		}
		return ids, err
	case f.AccountID != "":
		return s.q.LookAtAccountEvents(ctx, db.LookAtAccountEventsParams{AccountID: f.AccountID, Before: before, SinceID: s.since, Most: n})
	case f.Status == "dead":
		return s.q.LookAtDeadEvents(ctx, db.LookAtDeadEventsParams{Before: before, SinceID: s.since, Most: n})
	case f.Status == "ignored", f.Status == "discarded":
		return s.q.LookAtPassedEvents(ctx, db.LookAtPassedEventsParams{Status: f.Status, Before: before, SinceID: s.since, Most: n})
	case f.Status == "received":
		return s.q.LookAtWaitingEvents(ctx, db.LookAtWaitingEventsParams{Before: before, SinceID: s.since, Most: n})
	case f.Error != "":
		return s.q.LookAtFaultyEvents(ctx, db.LookAtFaultyEventsParams{Before: before, SinceID: s.since, Most: n})
	}
	return s.q.LookAtEvents(ctx, db.LookAtEventsParams{Before: before, SinceID: s.since, Most: n})
}

// countBelow returns how many of ids, greatest first, are below that one.
func countBelow(ids []int64, before int64) int {
	n := len(ids)
	for n > 0 && ids[len(ids)-n] >= before {
		n--
	}
	return n
}

// Before is the filter of those before that id.
func (f EventFilter) Before(id int64) EventFilter {
	f.Cursor = writeNumbers(markOf(f), id)
	return f
}

// markOf tells the cursors of one filter from those of another.
func markOf(filter any) []byte {
	text, _ := json.Marshal(filter) // strings and times: it always can be
	sum := sha256.Sum256(text)
	return sum[:markLength]
}

// writeNumbers makes a cursor: the mark of its filter, and where the next page begins.
func writeNumbers(mark []byte, numbers ...int64) string {
	raw := slices.Clone(mark)
	for _, n := range numbers {
		raw = binary.BigEndian.AppendUint64(raw, uint64(n)) //nolint:gosec // read back as it was written
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// readNumbers reads so many numbers of what writeNumbers made.
func readNumbers(cursor string, mark []byte, n int) ([]int64, error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) != markLength+8*n || !bytes.Equal(raw[:markLength], mark) {
		return nil, wrong("cursor", "want next_cursor of the page before, with the same filters")
	}
	numbers := make([]int64, n)
	for i := range numbers {
		numbers[i] = int64(binary.BigEndian.Uint64(raw[markLength+8*i:])) //nolint:gosec // as it was written
	}
	return numbers, nil
}
