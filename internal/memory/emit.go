package memory

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// MaxEmit bounds the events of one Emit.
	MaxEmit = 1000
	// MaxEmitData bounds the data of one of them, in bytes: four of the longest texts
	// that a memory holds here.
	MaxEmitData = 4 * MaxContent
	// emitAhead is how far the clocks of those who emit may be ahead of ours.
	emitAhead = 5 * time.Minute
	// emitAlone is how many events make a batch commit alone: a thousand rows would
	// make all others of its group wait for them.
	emitAlone = 100
	// maxEmitReason bounds what an answer says of one event, in bytes.
	maxEmitReason = 300
)

// Emission is an event of a memory that somebody else keeps, to be told as those of
// ours are.
type Emission struct {
	Event     string // one of Events
	UserID    string
	Data      json.RawMessage // valid JSON; its bytes are told as they are
	Timestamp *time.Time      // nil: now
	RequestID string          // "": that of the request that emits it
	// ID makes it be told once, whoever of the same actor emits it again; nil: it is
	// told each time.
	ID *string
	// Refused is what was found wrong with it before; nil: nothing.
	Refused error
}

// What became of an Emission.
const (
	EmitSuccess = "success"
	EmitFailed  = "failed"
	EmitSkipped = "skipped"
)

// Emitted is what became of a batch, each event by itself.
type Emitted struct {
	Success int            `json:"success"` // stored: they are told
	Failed  int            `json:"failed"`  // something is wrong with them
	Skipped int            `json:"skipped"` // nobody receives them, or they were emitted before
	Results []EmittedEvent `json:"results"` // in the order of the events
}

// EmittedEvent is what became of one event.
type EmittedEvent struct {
	Index  int    `json:"index"`
	Status string `json:"status"`
	// WebhookID is what it is told under; nil: it is not.
	WebhookID *uuid.UUID `json:"webhook_id,omitempty"`
	Reason    string     `json:"reason,omitempty"` // why it is not told, or not again
}

// Emit tells of what happened to memories that are kept elsewhere; nothing of ours
// changes. What is wrong with one event keeps none of the others. check holds an
// event's data against the catalogue.
//
// It returns an *Invalid for a batch that is empty or too large, and ErrKeyReused.
func (s *Store) Emit(ctx context.Context, c Caller, all []Emission, check func(event string, data []byte) error) (Emitted, error) {
	if len(all) == 0 || len(all) > MaxEmit {
		return Emitted{}, invalid("events", "want 1 to %d", MaxEmit)
	}
	b := &emitBatch{results: make([]EmittedEvent, len(all))}
	now := s.writer.now()
	for i, e := range all {
		b.results[i].Index = i
		err := e.problem(c, now, check)
		if err == nil {
			err = b.take(s.writer.teller, c, i, e, now)
		}
		if err != nil {
			b.results[i].Status, b.results[i].Reason = EmitFailed, emitReason(err)
		}
	}
	return do[Emitted](ctx, s, operation{caller: c, emits: b, bytes: b.weight()})
}

// problem is what is wrong with e: an *Invalid, or an error of check.
func (e Emission) problem(c Caller, now time.Time, check func(event string, data []byte) error) error {
	switch {
	case e.Refused != nil:
		return e.Refused
	case !slices.Contains(Events(), e.Event):
		return invalid("event", "want one of %s", strings.Join(Events(), " "))
	}
	if err := CheckUserID(e.UserID); err != nil {
		return err
	}
	if !c.May(e.UserID) {
		return invalid("user_id", "this token may not see it")
	}
	if e.ID != nil {
		if err := checkText("id", *e.ID, MaxName); err != nil {
			return err
		}
	}
	if e.RequestID != "" {
		if err := checkText("request_id", e.RequestID, MaxName); err != nil {
			return err
		}
	}
	if t := e.Timestamp; t != nil && (t.Before(time.Unix(0, 0)) || t.After(now.Add(emitAhead))) {
		return invalid("timestamp", "want a time since 1970, at most %s ahead", emitAhead)
	}
	switch {
	case len(e.Data) == 0:
		return invalid("data", "is required")
	case len(e.Data) > MaxEmitData:
		return invalid("data", "want at most %d bytes", MaxEmitData)
	case e.tellsOfAnother():
		return invalid("data", "its user_id is another than that of the event")
	}
	return check(e.Event, e.Data)
}

// tellsOfAnother reports whether the data has a user_id that is not the event's. Where
// it has one, Standard Webhooks' form shows no other: what a token may not see would
// be told in its name. Several of the same name, and in any case, are all looked at:
// which of them a receiver takes is its own affair.
func (e Emission) tellsOfAnother() bool {
	d := json.NewDecoder(bytes.NewReader(e.Data))
	if opening, err := d.Token(); err != nil || opening != json.Delim('{') {
		return false // which check refuses
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return false
		}
		var userID string
		if text, _ := name.(string); strings.EqualFold(text, "user_id") && (json.Unmarshal(value, &userID) != nil || userID != e.UserID) {
			return true
		}
	}
	return false
}

// emitReason is an error as an answer says it: short, and such that it can be kept.
func emitReason(err error) string {
	text := strings.ReplaceAll(err.Error(), "\x00", "")
	if len(text) > maxEmitReason {
		text = strings.ToValidUTF8(text[:maxEmitReason], "") + "…"
	}
	return text
}

// emitBatch is what is emitted together, on its way to the outbox. Once it is made it
// does not change: a group may write it more than once.
type emitBatch struct {
	results []EmittedEvent // of those that failed, and places for the others
	hooks   []hook         // of the others
	at      []int          // their positions in results
}

// take makes the webhook of an event that nothing is wrong with.
func (b *emitBatch) take(t *Teller, c Caller, position int, e Emission, now time.Time) error {
	id := t.newID()
	if e.ID != nil {
		id = emitID(c.Actor, *e.ID)
	}
	if e.Timestamp != nil {
		now = *e.Timestamp
	}
	if e.RequestID == "" {
		e.RequestID = c.RequestID
	}
	payload, err := t.render(id, Announcement{Event: e.Event, UserID: e.UserID, Data: e.Data, RequestID: e.RequestID}, now)
	if err != nil {
		return err
	}
	b.hooks, b.at = append(b.hooks, hook{id: id, event: e.Event, userID: e.UserID, payload: payload}), append(b.at, position)
	return nil
}

// emitID is the webhook-id of what an actor emits under an id of his own, always the
// same: so the outbox's key decides what is a repeat.
func emitID(actor, id string) uuid.UUID {
	space := uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/memrelay/memrelay#emit"))
	return uuid.NewSHA1(space, []byte(actor+"\x00"+id))
}

func (b *emitBatch) weight() int {
	if len(b.hooks) > emitAlone {
		return 1 << 20
	}
	n := 0
	for _, h := range b.hooks {
		n += len(h.payload)
	}
	return n
}

// answer says what became of the batch.
func (b *emitBatch) answer(fates []fate) Emitted {
	done := Emitted{Results: slices.Clone(b.results)}
	for n, f := range fates {
		r := &done.Results[b.at[n]]
		r.Status, r.WebhookID = EmitSkipped, &b.hooks[n].id
		switch f {
		case fateTold:
			r.Status = EmitSuccess
		case fateRepeat:
			r.Reason = "id: it was emitted before"
		case fateUnwanted:
			r.WebhookID, r.Reason = nil, "no endpoint asks for this event"
		}
	}
	for _, r := range done.Results {
		switch r.Status {
		case EmitSuccess:
			done.Success++
		case EmitFailed:
			done.Failed++
		default:
			done.Skipped++
		}
	}
	return done
}
