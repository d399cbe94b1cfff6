package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/memrelay/memrelay/internal/match"
)

// Audience is what an endpoint is told of. It is safe for concurrent use.
type Audience struct {
	events, userIDs []string
	filter          *match.Match // nil: whatever the data is
}

// NewAudience makes an Audience of an endpoint's row. The filter is nil for none; the
// error says what is wrong with it, which for one that Store stored is nothing.
func NewAudience(events, userIDs []string, filter []byte) (Audience, error) {
	a := Audience{events: events, userIDs: userIDs}
	if filter == nil {
		return a, nil
	}
	var err error
	if a.filter, err = match.Parse(filter); err != nil {
		return Audience{}, fmt.Errorf("parse the filter: %w", err)
	}
	return a, nil
}

// Wants reports whether the endpoint is told of an event of a user. data returns what
// ReadData does of its envelope; it is called when only the filter is left to ask. What
// is no envelope is not wanted by who has a filter.
func (a Audience) Wants(event, userID string, data func() (any, bool)) bool {
	if !WantsEvent(a.events, event) || !WantsUser(a.userIDs, userID) {
		return false
	}
	if a.filter == nil {
		return true
	}
	value, ok := data()
	return ok && a.filter.AcceptsValue(value)
}

// ReadData returns the data of an envelope as filters look at it, and whether it is
// one. It takes longer than they do: read it once for all who may want it.
func ReadData(payload []byte) (any, bool) {
	var envelope struct {
		Data any `json:"data"`
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	err := d.Decode(&envelope)
	return envelope.Data, err == nil
}
