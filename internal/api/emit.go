package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/memory"
)

// emit: POST /v1/events/batch. Answers 200 with what became of each event: something
// wrong with one of them is no error of the request.
func (a *API) emit(c *call) error {
	var items []json.RawMessage
	if err := c.only(object{"events": body.As(&items, "a list")}); err != nil {
		return err
	}
	if len(items) > memory.MaxEmit {
		return wrong("events", "want 1 to %d", memory.MaxEmit) // before each of a million is read
	}
	events := make([]memory.Emission, len(items))
	for i, item := range items {
		events[i] = emission(item)
	}
	emitted, err := a.p.Store.Emit(c.ctx(), c.caller, events, a.p.Events.CheckData)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, emitted)
}

// emission reads one event of a batch. What is wrong with it stands in it.
func emission(item json.RawMessage) memory.Emission {
	var e memory.Emission
	err := object{
		"event": text(&e.Event), "user_id": text(&e.UserID), "timestamp": moment(&e.Timestamp),
		"request_id": text(&e.RequestID), "id": optionalText(&e.ID),
		"data": func(_ string, raw json.RawMessage) error { e.Data = raw; return nil },
	}.Read(item)
	var invalid *body.Invalid
	if err != nil && !errors.As(err, &invalid) {
		err = errors.New("want an object")
	}
	e.Refused = err
	return e
}
