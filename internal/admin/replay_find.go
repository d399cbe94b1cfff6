package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/memrelay/memrelay/db"
)

const (
	// fastest is the most that per_second may be.
	fastest = 10_000
	// longestReason bounds what a person may give as one, in bytes.
	longestReason = 2000
	// countTime is how long the events of a replay are counted.
	countTime = 8 * time.Second
	// replayWindow is how many ids one statement looks at: it ends in time whatever the
	// filter leaves of them.
	replayWindow = 100_000
	// sampled is how many events a dry run shows.
	sampled = 10
)

// ReplaySettings is what a person asks to be run again.
type ReplaySettings struct {
	// Filter is as a list's; Status is one that is final, or none. Something must be asked
	// for: a replay of everything there is has a Since.
	Filter    EventFilter
	PerSecond int // how many at most run again in a second; 0: as many as the backlog has room for
	Reason    string
	Key       string // of whoever may have to ask twice; "": none
}

// Found is what a replay would be of.
type Found struct {
	DryRun  bool    `json:"dry_run"`
	Matched int64   `json:"matched"`
	Sample  []Event `json:"sample"` // the oldest ten
}

// Count returns what would be run again if it were asked for now, and changes nothing. It
// returns a *body.Invalid, also for more events than can be counted in some seconds.
func (r *Replays) Count(ctx context.Context, in ReplaySettings) (Found, error) {
	found := Found{DryRun: true, Sample: []Event{}}
	p, err := r.prepare(ctx, in)
	if err != nil {
		return found, err
	}
	if found.Matched, err = r.count(ctx, in.Filter, p.Position, p.Newest); err != nil {
		return found, err
	}
	var ids []int64
	for at := p.Position; at < p.Newest && len(ids) < sampled && int64(len(ids)) < found.Matched; at += replayWindow {
		more, err := r.next(ctx, in.Filter, at, min(at+replayWindow, p.Newest), sampled-len(ids))
		if err != nil {
			return found, err
		}
		ids = append(ids, more...)
	}
	rows, err := db.New(r.pool).FilterEvents(ctx, db.FilterEventsParams{Ids: ids, MaxEvents: sampled})
	if err != nil {
		return found, fmt.Errorf("list events: %w", err)
	}
	slices.Reverse(rows)
	for _, row := range rows {
		found.Sample = append(found.Sample, Event(row))
	}
	return found, nil
}

// prepare checks what is asked for and fixes the ids that it lies between. The row it
// returns lacks its id, its count, and who asks.
func (r *Replays) prepare(ctx context.Context, in ReplaySettings) (p db.InsertReplayParams, err error) {
	if err := in.check(); err != nil {
		return p, err
	}
	if p.Filter, err = json.Marshal(in.Filter); err != nil {
		return p, fmt.Errorf("encode a filter: %w", err)
	}
	p.Reason = in.Reason
	if in.PerSecond > 0 {
		n := int32(in.PerSecond) //nolint:gosec // at most fastest
		p.PerSecond = &n
	}
	q := db.New(r.pool)
	newest, err := q.NewestEvent(ctx)
	if err != nil {
		return p, fmt.Errorf("look for the newest event: %w", err)
	}
	p.Newest = newest.ID
	if !in.Filter.Since.IsZero() {
		first, err := q.FindEventAt(ctx, in.Filter.Since.Add(-disorder))
		if err != nil {
			return p, fmt.Errorf("find the first event: %w", err)
		}
		p.Position = max(first-1, 0)
	}
	if !in.Filter.Until.IsZero() {
		end, err := q.FindEventAt(ctx, in.Filter.Until.Add(disorder))
		if err != nil {
			return p, fmt.Errorf("find the last event: %w", err)
		}
		p.Newest = min(p.Newest, end)
	}
	return p, nil
}

func (in ReplaySettings) check() error {
	f := in.Filter
	switch {
	case f.Status != "" && !slices.Contains(finalStatuses(), f.Status):
		return wrong("status", "only what has ended can be run again: want one of %s", strings.Join(finalStatuses(), ", "))
	case f == EventFilter{}:
		return wrong("since", "say which: since, status, source, module, operation, record_id, account_id, user_id, event_id or error")
	case !f.Since.IsZero() && !f.Until.IsZero() && f.Since.After(f.Until):
		return wrong("since", "is after until")
	case in.PerSecond < 0 || in.PerSecond > fastest:
		return wrong("per_second", "want 1 to %d, or none", fastest)
	}
	if err := f.check(); err != nil {
		return err
	}
	return checkReason(in.Reason)
}

// count reads all events of a replay once, a window at a time.
func (r *Replays) count(ctx context.Context, f EventFilter, after, newest int64) (found int64, err error) {
	counting, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	q := db.New(r.find)
	for at := after; at < newest; at += replayWindow {
		n, err := q.CountEventsToReplay(counting, db.CountEventsToReplayParams{
			After: at, UpTo: min(at+replayWindow, newest), Status: orNil(f.Status), Source: orNil(f.Source), Module: orNil(f.Module),
			Operation: orNil(f.Operation), RecordID: orNil(f.RecordID), AccountID: orNil(f.AccountID), UserID: orNil(f.UserID),
			EventID: orNil(f.EventID), Error: orNil(f.Error), Since: orNil(f.Since), Until: orNil(f.Until),
		})
		if err != nil && counting.Err() != nil && ctx.Err() == nil {
			return 0, wrong("since", "there are more events than can be counted in %s: ask for a shorter time", countTime)
		}
		if err != nil {
			return 0, fmt.Errorf("count events: %w", err)
		}
		found += n
	}
	return found, nil
}

// next returns at most n events between two ids that can be run again, oldest first.
func (r *Replays) next(ctx context.Context, f EventFilter, after, upTo int64, n int) ([]int64, error) {
	ids, err := db.New(r.find).ListEventsToReplay(ctx, db.ListEventsToReplayParams{
		After: after, UpTo: upTo, Status: orNil(f.Status), Source: orNil(f.Source), Module: orNil(f.Module), Operation: orNil(f.Operation),
		RecordID: orNil(f.RecordID), AccountID: orNil(f.AccountID), UserID: orNil(f.UserID), EventID: orNil(f.EventID),
		Error: orNil(f.Error), Since: orNil(f.Since), Until: orNil(f.Until), MaxEvents: int32(n), //nolint:gosec // at most replayRows
	})
	if err != nil {
		return nil, fmt.Errorf("list events to run again: %w", err)
	}
	return ids, nil
}
