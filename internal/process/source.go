package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Event is an event as a sync sees it.
type Event struct {
	ID         int64  // 0: no event asks, but the read of a whole account
	Source     string // who sent it
	AccountID  string
	Revision   int64
	Module     string
	Operation  string
	RecordID   string
	OccurredAt time.Time // the sender's clock; zero when the body did not say
	ReceivedAt time.Time // the database's clock
	RoutedAt   time.Time // the database's clock; a fault nobody can classify is borne so long
	TakenAt    time.Time // the database's clock; a read that is made for the event begins after this
	Failures   int
	Record     []byte // the fields the event came with, a JSON object; nil when its body is gone
}

// Source says what is true of the records that events name. It is asked outside
// of any transaction and may call the world; an error is the world's failure and
// the sync waits. Otherwise there is one observation for each event, in their
// order, and after them any that belong to no event; a fault of one event stands
// in its own.
type Source interface {
	Observe(ctx context.Context, events []Event) ([]Observation, error)
}

// errSource is a source that breaks its promise, which is no event's fault.
var errSource = errors.New("the source answered for other events than it was asked")

// check keeps what a source said from harming others: an event it left out would
// wait for ever, and a value that is not JSON could not be encoded, which would
// fail all that share the transaction.
func check(events []Event, observations []Observation) error {
	if len(observations) < len(events) {
		return errSource
	}
	for i := range observations {
		o := &observations[i]
		if i < len(events) && o.EventID != events[i].ID || i >= len(events) && o.EventID != 0 {
			return errSource
		}
		for name, value := range o.Fields {
			if o.Err == nil && !json.Valid(value) {
				o.Err = fmt.Errorf("%w: the value of %s is not JSON", errEvent, name)
			}
		}
	}
	return nil
}

// errNoBody is why an event cannot be worked any more.
var errNoBody = errors.New("the event's body is no longer stored")

// Payloads is the source when no Zoho is connected: an event is believed what
// it came with.
type Payloads struct{}

// Observe returns one observation per event, in their order.
func (Payloads) Observe(_ context.Context, events []Event) ([]Observation, error) {
	observations := make([]Observation, len(events))
	for i, e := range events {
		observations[i] = observe(e)
	}
	return observations, nil
}

// observe takes the time of values from Modified_Time, else from the sender's
// clock, else from ours; the time of life from the sender's clock, else from
// ours. None is later than the receipt: a clock that is ahead would otherwise
// win over everything that comes until it is past.
func observe(e Event) Observation {
	o := Observation{EventID: e.ID, Module: e.Module, RecordID: e.RecordID}
	if e.Record == nil {
		o.Err = errNoBody
		return o
	}
	if err := json.Unmarshal(e.Record, &o.Fields); err != nil {
		o.Err = errors.New("the event's record is not a JSON object")
		return o
	}
	sent := e.ReceivedAt
	if !e.OccurredAt.IsZero() {
		sent = e.OccurredAt
	}
	o.At, o.LifeAt = sent, earlier(sent, e.ReceivedAt)
	if t, ok := modifiedTime(o.Fields); ok {
		o.At = t
	}
	o.At = earlier(o.At, e.ReceivedAt)
	switch e.Operation {
	case "create", "restore":
		o.Life = LifeThere
	case "delete":
		o.Life = LifeGone
	}
	return o
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
