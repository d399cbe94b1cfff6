// Package catalogue says what webhooks look like: in go the Go types that they
// are rendered from, out come each event's JSON Schema and an example, for whoever
// writes a receiver, and a check that holds what is sent against them.
//
// Webhooks are rendered from the same types, so the check stands in tests and not
// in the way of what is sent: every test of a station that tells somebody ends
// with cataloguetest.Outbox.
package catalogue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/jsonschema-go/jsonschema"
)

// EventType is one event that webhooks tell of.
type EventType struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	// Schema is of the whole payload (JSON Schema, draft 2020-12). It lets fields pass
	// that it does not name: a later version may send more.
	Schema *jsonschema.Schema `json:"schema"`
	// Example is a payload as it is sent.
	Example json.RawMessage `json:"example"`
}

// Catalogue is all event types. It does not change.
type Catalogue struct {
	types []EventType
	// strict are the schemas without room for fields that they do not name.
	strict map[string]*jsonschema.Resolved
	// data are those of the data alone, with room.
	data map[string]*jsonschema.Resolved
}

// New builds the catalogue. An error is a fault of the program: a field that
// nobody has described, an example that its own schema refuses.
func New() (*Catalogue, error) {
	d := newDescriber()
	c := &Catalogue{strict: map[string]*jsonschema.Resolved{}, data: map[string]*jsonschema.Resolved{}}
	for _, e := range entries(d) {
		strict := d.envelope(e)
		resolved, err := strict.Resolve(nil)
		if err != nil {
			d.fail(fmt.Errorf("schema of %s: %w", e.name, err))
			continue
		}
		c.strict[e.name] = resolved
		if c.data[e.name], err = published(e.schema).Resolve(nil); err != nil {
			d.fail(fmt.Errorf("schema of the data of %s: %w", e.name, err))
		}
		example, err := e.example()
		if err != nil {
			d.fail(err)
			continue
		}
		if err := c.Check(example); err != nil {
			d.fail(fmt.Errorf("example: %w", err))
		}
		c.types = append(c.types, EventType{Name: e.name, Description: e.description, Schema: published(strict), Example: example})
	}
	if d.err != nil {
		return nil, fmt.Errorf("build the catalogue of events: %w", d.err)
	}
	return c, nil
}

// Types returns all event types, in the order of the documentation. They must not
// be changed.
func (c *Catalogue) Types() []EventType { return c.types }

// Type returns one; ok is false when there is none of this name.
func (c *Catalogue) Type(name string) (t EventType, ok bool) {
	for _, t := range c.types {
		if t.Name == name {
			return t, true
		}
	}
	return EventType{}, false
}

// CheckData returns an error for data that is not what an event of this name tells:
// with a field too few or of another kind. More fields than the catalogue names are
// fine, as they are to whoever receives them.
func (c *Catalogue) CheckData(event string, data []byte) error {
	schema, ok := c.data[event]
	if !ok {
		return fmt.Errorf("the catalogue has no event %q", event)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		return fmt.Errorf("read the data: %w", err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("data of %s: %w", event, err)
	}
	return nil
}

// Check returns an error for a payload that is not as the catalogue says: of an
// event that it does not know, with a field too few, too many or of another kind.
func (c *Catalogue) Check(payload []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(payload))
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		return fmt.Errorf("read a payload: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the payload")
	}
	event, _ := value["event"].(string)
	schema, ok := c.strict[event]
	if !ok {
		return fmt.Errorf("the catalogue has no event %q", event)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("payload of %s: %w", event, err)
	}
	return nil
}
