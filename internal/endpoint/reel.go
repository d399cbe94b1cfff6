package endpoint

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

const (
	// reelRows is how many webhooks a page of a Reel has at most, and reelWindow how
	// many of the outbox's rows it looks at: where few are wanted a page stays short work.
	reelRows   = 500
	reelWindow = 20_000
)

// Webhook is one that an endpoint wants, and may have been told of.
type Webhook struct {
	ID   uuid.UUID
	Seq  int64
	Kept bool // its payload is still stored
	Open bool // it is being delivered to the endpoint as it is
}

// Reel is the webhooks of a time that an endpoint wants, in the order of seq.
//
// Rows of the outbox become visible out of order, so "seq > last" may pass one by.
// None is missed by that: whoever replays goes no further than Relayed, and one that
// becomes visible only after it was passed is relayed after that, as anything new is
// to all who want it.
type Reel struct {
	endpointID   uuid.UUID
	since, until time.Time
	events       []string
	audience     Audience
	anybody      Audience // the same whatever the data is, for what has no data any more
	filtered     bool
	first, last  int64 // of the webhooks that have a payload
}

// NewReel makes a Reel of the webhooks written since then until then, both included.
// events are those to be told of instead of the endpoint's; none: the endpoint's.
func NewReel(ctx context.Context, q *db.Queries, e db.Endpoint, since, until time.Time, events []string) (*Reel, error) {
	if len(events) == 0 {
		events = e.Events
	}
	r := &Reel{endpointID: e.ID, since: since, until: until, filtered: e.Filter != nil}
	var err error
	if r.audience, err = NewAudience(events, e.UserIds, e.Filter); err != nil {
		return nil, fmt.Errorf("read whom endpoint %s is told of: %w", e.ID, err)
	}
	if r.anybody, err = NewAudience(events, e.UserIds, nil); err != nil {
		return nil, fmt.Errorf("read whom endpoint %s is told of: %w", e.ID, err)
	}
	r.events = slices.DeleteFunc(known(), func(event string) bool { return !WantsEvent(events, event) })
	found, err := q.GetOutboxRange(ctx, db.GetOutboxRangeParams{Since: since, Until: until})
	if err != nil {
		return nil, fmt.Errorf("get the range of the outbox: %w", err)
	}
	r.first, r.last = found.First, found.Last
	return r, nil
}

// Start is the position before the first webhook.
func (r *Reel) Start() int64 { return max(r.first-1, 0) }

// Relayed is the position up to which all webhooks that are visible are relayed.
func (r *Reel) Relayed(ctx context.Context, q *db.Queries) (int64, error) {
	waiting, err := q.GetFirstUnrelayed(ctx, db.GetFirstUnrelayedParams{Since: r.since, Until: r.until})
	if err != nil {
		return 0, fmt.Errorf("get the first webhook that is not relayed: %w", err)
	}
	if waiting == 0 {
		return r.last, nil
	}
	return min(r.last, waiting-1), nil
}

// End is the position of the last webhook.
func (r *Reel) End() int64 { return r.last }

// Next returns relayed and wanted webhooks after a position and up to another, which
// may be none, and the position after them. At End there are no more.
func (r *Reel) Next(ctx context.Context, q *db.Queries, after, upTo int64) (page []Webhook, next int64, err error) {
	next = min(upTo, after+reelWindow)
	if next <= after {
		return nil, after, nil
	}
	rows, err := q.ListOutboxToReplay(ctx, db.ListOutboxToReplayParams{
		EndpointID: r.endpointID, After: after, UpTo: next, Since: r.since, Until: r.until, Events: r.events, MaxRows: reelRows,
	})
	if err != nil {
		return nil, after, fmt.Errorf("list outbox to replay: %w", err)
	}
	if len(rows) == reelRows {
		next = rows[len(rows)-1].Seq
	}
	if page, err = r.wanted(ctx, q, rows); err != nil {
		return nil, after, err
	}
	return page, next, nil
}

// wanted keeps those that the endpoint wants. Whether it wants one without a payload
// is not known: such a one counts as wanted, for it is told of as passed over.
func (r *Reel) wanted(ctx context.Context, q *db.Queries, rows []db.ListOutboxToReplayRow) ([]Webhook, error) {
	payloads := map[uuid.UUID][]byte{}
	if r.filtered && len(rows) > 0 {
		ids := make([]uuid.UUID, len(rows))
		for i, row := range rows {
			ids[i] = row.ID
		}
		found, err := q.ListPayloads(ctx, ids)
		if err != nil {
			return nil, fmt.Errorf("list payloads: %w", err)
		}
		for _, p := range found {
			payloads[p.ID] = p.Payload
		}
	}
	var page []Webhook
	for _, row := range rows {
		audience := r.audience
		if row.Kept = row.Kept && (!r.filtered || payloads[row.ID] != nil); !row.Kept {
			audience = r.anybody
		}
		if audience.Wants(row.Event, row.UserID, func() (any, bool) { return ReadData(payloads[row.ID]) }) {
			page = append(page, Webhook{ID: row.ID, Seq: row.Seq, Kept: row.Kept, Open: isOpen(row.Status)})
		}
	}
	return page, nil
}

// isOpen reports whether a delivery in that status ("": there is none) will be sent
// without anybody's doing.
func isOpen(status string) bool {
	return slices.Contains([]string{"pending", "retrying", "waiting", "batched"}, status)
}
