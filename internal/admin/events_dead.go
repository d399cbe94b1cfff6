package admin

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
)

// DeadFilter says which dead letters a list is of; what is left empty does not matter.
// Source, Module, RecordID and AccountID are of events alone, Endpoint of deliveries alone.
type DeadFilter struct {
	Kind      string // event or delivery
	Source    string
	Module    string
	RecordID  string
	AccountID string
	Endpoint  string // id or name
	Error     string // a part of the last error, in any case
	// Since and Until are of when an event was received, or a delivery made.
	Since, Until time.Time
	Limit        int    `json:"-"` // 0: 50; at most MaxPage
	Cursor       string `json:"-"` // next_cursor of the page before
}

// DeadLetter is what waits for a person's decision: an event or a delivery.
type DeadLetter struct {
	ID       string    `json:"id"` // event/42, delivery/7
	Kind     string    `json:"kind"`
	DiedAt   time.Time `json:"died_at"`
	Failures int32     `json:"failures"`
	Reason   string    `json:"reason"`
	What     string    `json:"what"` // for people
	Event    *Event    `json:"event,omitempty"`
	Delivery *Delivery `json:"delivery,omitempty"`

	since time.Time // received or made
}

// DeadPage is a part of a list, newest first by when they came.
type DeadPage struct {
	Letters []DeadLetter `json:"letters"`
	// NextCursor leads to the next page, "" to none; a page may have fewer letters than
	// were asked for, and a next one all the same.
	NextCursor string `json:"next_cursor,omitempty"`
}

// ListDead returns a page of dead letters. It is two lists in one: each goes on behind its
// own last letter, so that nothing is in two pages or in none. It returns a *body.Invalid
// for a filter that is none.
func ListDead(ctx context.Context, events *Events, deliveries *Deliveries, f DeadFilter) (DeadPage, error) {
	page := DeadPage{Letters: []DeadLetter{}}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if f.Kind != "" && f.Kind != "event" && f.Kind != "delivery" {
		return page, wrong("kind", "want event or delivery")
	}
	at := []int64{math.MaxInt64, math.MaxInt64}
	if f.Cursor != "" {
		var err error
		if at, err = readNumbers(f.Cursor, markOf(f), len(at)); err != nil {
			return page, err
		}
	}
	of, err := f.events(ctx, events, at[0])
	if err != nil {
		return page, err
	}
	to, err := f.deliveries(ctx, deliveries, at[1])
	if err != nil {
		return page, err
	}
	for len(page.Letters) < f.Limit && len(of.letters)+len(to.letters) > 0 {
		from := &of
		if len(of.letters) == 0 || len(to.letters) > 0 && to.letters[0].since.After(of.letters[0].since) {
			from = &to
		}
		page.Letters = append(page.Letters, from.letters[0])
		from.at, from.letters, from.ids = from.ids[0], from.letters[1:], from.ids[1:]
	}
	if of.more() || to.more() {
		page.NextCursor = writeNumbers(markOf(f), of.position(), to.position())
	}
	return page, nil
}

// deadPart is what one of the two lists has for a page.
type deadPart struct {
	letters []DeadLetter
	ids     []int64
	at      int64 // the last that was taken
	next    int64 // where the list goes on behind all letters; 0: nowhere
}

func (p *deadPart) more() bool { return len(p.letters) > 0 || p.next > 0 }

// position is where the next page goes on.
func (p *deadPart) position() int64 {
	if len(p.letters) == 0 {
		return p.next
	}
	return p.at
}

// events are the dead events below an id.
func (f DeadFilter) events(ctx context.Context, events *Events, below int64) (deadPart, error) {
	p := deadPart{at: below}
	if f.Kind == "delivery" || f.Endpoint != "" || below == 0 {
		return p, nil
	}
	in := EventFilter{
		Status: "dead", Source: f.Source, Module: f.Module, RecordID: f.RecordID, AccountID: f.AccountID, Error: f.Error,
		Since: f.Since, Until: f.Until, Limit: f.Limit,
	}
	in.Cursor = writeNumbers(markOf(in), below)
	page, err := events.List(ctx, in)
	if err != nil {
		return p, err
	}
	if page.NextCursor != "" {
		at, err := readNumbers(page.NextCursor, markOf(in), 1)
		if err != nil {
			return p, err
		}
		p.next = at[0]
	}
	for _, e := range page.Events {
		died := e.ReceivedAt
		if e.ProcessedAt != nil {
			died = *e.ProcessedAt
		}
		p.ids = append(p.ids, e.ID)
		p.letters = append(p.letters, DeadLetter{
			ID: Letter{Kind: "event", ID: e.ID}.String(), Kind: "event", DiedAt: died, Failures: e.Failures, Reason: e.LastError,
			What: fmt.Sprintf("%s %s %s", e.Operation, e.Module, e.RecordID), Event: &e, since: e.ReceivedAt,
		})
	}
	return p, nil
}

// deliveries are the dead deliveries below an id.
func (f DeadFilter) deliveries(ctx context.Context, deliveries *Deliveries, below int64) (deadPart, error) {
	p := deadPart{at: below}
	if f.Kind == "event" || f.Source+f.Module+f.RecordID+f.AccountID != "" || below == 0 {
		return p, nil
	}
	in := DeliveryFilter{Status: "dead", Endpoint: f.Endpoint, Since: f.Since, Until: f.Until, Limit: f.Limit}
	if f.Error != "" {
		in.Limit = MaxPage // few of them may be meant
	}
	in.Cursor = writeCursor(in.mark(), place{seq: math.MaxInt64, id: below})
	page, err := deliveries.List(ctx, in)
	if err != nil {
		return p, err
	}
	if page.NextCursor != "" {
		at, err := readCursor(page.NextCursor, in.mark())
		if err != nil {
			return p, err
		}
		p.next = at.id
	}
	for _, d := range page.Deliveries {
		if f.Error != "" && !strings.Contains(strings.ToLower(d.LastError), strings.ToLower(f.Error)) {
			continue
		}
		died := d.CreatedAt
		if d.FinishedAt != nil {
			died = *d.FinishedAt
		}
		p.ids = append(p.ids, d.ID)
		p.letters = append(p.letters, DeadLetter{
			ID: Letter{Kind: "delivery", ID: d.ID}.String(), Kind: "delivery", DiedAt: died, Failures: d.Failures, Reason: d.LastError,
			What: told(d), Delivery: &d, since: d.CreatedAt,
		})
	}
	return p, nil
}

// told is what a delivery tells, for people.
func told(d Delivery) string {
	if d.WebhookID == nil || d.Event == nil {
		return fmt.Sprintf("batch %s to %s", orNone(d.BatchID), d.Endpoint)
	}
	return fmt.Sprintf("%s %s to %s", *d.Event, d.WebhookID, d.Endpoint)
}

func orNone(id *uuid.UUID) string {
	if id == nil {
		return "none"
	}
	return id.String()
}
