package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/memrelay/memrelay/db"
)

// watch is what a stream knows of events.
type watch struct {
	begun  bool
	at     time.Time // of the last look, by the database's clock
	newest int64     // the greatest id that was seen
	audit  int64     // the same of what operators did
	// seen are how events stood: those that have not ended, and those that have lately.
	seen map[int64]stand
}

// stand is what of an event is told when it changes.
type stand struct {
	status   string
	failures int32
	moved    int64 // when it last took a step, in microseconds: it may be where it was, and have run again
}

func standOf(r db.ListEventStatesRow) stand {
	s := stand{status: r.Status, failures: r.Failures}
	for _, at := range []*time.Time{r.RoutedAt, r.ProcessedAt} {
		if at != nil {
			s.moved = max(s.moved, at.UnixMicro())
		}
	}
	return s
}

// look returns what has changed since the last look, in the order of the events' ids; the
// first look returns nothing.
func (w *watch) look(ctx context.Context, q *db.Queries) ([]Change, error) {
	now, err := q.EventStreamNow(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the time: %w", err)
	}
	if !w.begun {
		return nil, w.begin(ctx, q, now)
	}
	ids, newest, audit, err := w.candidates(ctx, q)
	if err != nil {
		return nil, err
	}
	rows, err := q.ListEventStates(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list how events stand: %w", err)
	}
	before := w.position()
	var changes []Change
	for _, r := range rows {
		if was, known := w.seen[r.ID]; known && was == standOf(r) {
			continue
		}
		w.seen[r.ID] = standOf(r)
		changes = append(changes, changeOf(r, before))
	}
	w.at, w.newest, w.audit = now.Now, newest, audit
	w.forget()
	// Who is cut off among them gets all of them again; after the last it goes on behind.
	if len(changes) > 0 {
		changes[len(changes)-1].Position = w.position()
	}
	return changes, nil
}

// begin takes what is open for known, and what came last: what becomes of it is told.
func (w *watch) begin(ctx context.Context, q *db.Queries, now db.EventStreamNowRow) error {
	open, err := q.ListOpenEvents(ctx, streamOpen)
	if err != nil {
		return fmt.Errorf("list open events: %w", err)
	}
	last, err := q.ListNewerEvents(ctx, db.ListNewerEventsParams{After: now.NewestEvent - streamLate, MaxEvents: streamRows})
	if err != nil {
		return fmt.Errorf("list newer events: %w", err)
	}
	rows, err := q.ListEventStates(ctx, append(open, last...))
	if err != nil {
		return fmt.Errorf("list how events stand: %w", err)
	}
	w.seen = map[int64]stand{}
	for _, r := range rows {
		w.seen[r.ID] = standOf(r)
	}
	w.at, w.newest, w.audit, w.begun = now.Now, now.NewestEvent, now.NewestAudit, true
	return nil
}

// candidates are the events that may have changed: those that are open, those that are
// new, and those that were run again or decided about.
func (w *watch) candidates(ctx context.Context, q *db.Queries) (ids []int64, newest, audit int64, err error) {
	newest, audit = w.newest, w.audit
	for id, s := range w.seen {
		if !slices.Contains(finalStatuses(), s.status) {
			ids = append(ids, id)
		}
	}
	// An id may become visible after a greater one.
	fresh, err := q.ListNewerEvents(ctx, db.ListNewerEventsParams{After: w.newest - streamLate, MaxEvents: streamLate + streamRows})
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list newer events: %w", err)
	}
	for _, id := range fresh {
		if _, known := w.seen[id]; !known {
			ids = append(ids, id)
		}
		newest = max(newest, id)
	}
	again, err := q.ListEventsRunSince(ctx, db.ListEventsRunSinceParams{Since: w.at.Add(-overlap), Most: streamRows})
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list events that were run again: %w", err)
	}
	ids = append(ids, again...)
	decided, err := q.ListEventsDecidedSince(ctx, db.ListEventsDecidedSinceParams{After: w.audit, Most: streamRows})
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list events that were decided about: %w", err)
	}
	for _, d := range decided {
		audit = max(audit, d.ID)
		if id, err := strconv.ParseInt(strings.TrimPrefix(d.Object, "event/"), 10, 64); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), newest, audit, nil
}

// forget keeps what is known of events small: what has ended and is not among the newest is
// of no use, and of what is open only so many are watched.
func (w *watch) forget() {
	maps.DeleteFunc(w.seen, func(id int64, s stand) bool {
		return id < w.newest-2*streamLate && slices.Contains(finalStatuses(), s.status)
	})
	if len(w.seen) <= 2*streamOpen {
		return
	}
	ids := slices.Sorted(maps.Keys(w.seen))
	for _, id := range ids[:len(ids)-streamOpen] {
		delete(w.seen, id)
	}
}

// catchUp returns what has changed since a position, as it stands now, and whether that is
// all. Only the newest ids are looked through: what was received before them, and was open
// until after the position, is not looked for. It returns a *body.Invalid for a position
// that is still to come.
func catchUp(ctx context.Context, q *db.Queries, from watch) ([]Change, bool, error) {
	now, err := q.EventStreamNow(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("look at the time: %w", err)
	}
	if from.at.After(now.Now.Add(overlap)) { // by the clock of a database that was replaced it may be a little later
		return nil, false, noPosition()
	}
	floor := now.NewestEvent - missable
	ids, err := q.ListEventsChangedSince(ctx, db.ListEventsChangedSinceParams{
		After: floor, UpTo: max(from.newest, now.NewestEvent), Since: from.at.Add(-overlap), Most: streamRows + 1,
	})
	if err != nil {
		return nil, false, fmt.Errorf("list events that changed: %w", err)
	}
	all := len(ids) <= streamRows && from.newest >= floor
	ids = ids[:min(streamRows, len(ids))]
	again, err := q.ListEventsRunSince(ctx, db.ListEventsRunSinceParams{Since: from.at.Add(-overlap), Most: streamRows})
	if err != nil {
		return nil, false, fmt.Errorf("list events that were run again: %w", err)
	}
	ids = append(ids, again...)
	rows, err := q.ListEventStates(ctx, ids)
	if err != nil {
		return nil, false, fmt.Errorf("list how events stand: %w", err)
	}
	var changes []Change
	for _, r := range rows {
		changes = append(changes, changeOf(r, fmt.Sprintf("%d-%d", from.newest, from.at.UnixMicro())))
	}
	if len(changes) > 0 {
		changes[len(changes)-1].Position = fmt.Sprintf("%d-%d", max(from.newest, now.NewestEvent), now.Now.UnixMicro())
	}
	return changes, all, nil
}

func changeOf(r db.ListEventStatesRow, position string) Change {
	return Change{
		Position: position, ID: r.ID, Source: r.Source, EventID: r.EventID, Module: r.Module, Operation: r.Operation, RecordID: r.RecordID,
		AccountID: r.AccountID, Status: r.Status, Failures: r.Failures, LastError: r.LastError, ReceivedAt: r.ReceivedAt, RoutedAt: r.RoutedAt,
		ProcessedAt: r.ProcessedAt,
	}
}
