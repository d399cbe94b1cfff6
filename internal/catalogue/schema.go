package catalogue

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

const draft = "https://json-schema.org/draft/2020-12/schema"

// Patterns rather than formats alone: few validators look at a format.
const (
	uuidPattern = `^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`
	timePattern = `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`
)

// describer makes schemas of Go types, and keeps what went wrong.
type describer struct {
	// known are the types that others are made of.
	known map[reflect.Type]*jsonschema.Schema
	err   error
}

func newDescriber() *describer {
	return &describer{known: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[uuid.UUID](): {Type: "string", Format: "uuid", Pattern: uuidPattern},
		reflect.TypeFor[time.Time](): {Type: "string", Format: "date-time", Pattern: timePattern},
	}}
}

func (d *describer) fail(err error) { d.err = errors.Join(d.err, err) }

// object is the schema of a struct, with a meaning for each of its fields.
func (d *describer) object(of reflect.Type, meanings map[string]string) *jsonschema.Schema {
	s, err := jsonschema.ForType(of, &jsonschema.ForOptions{TypeSchemas: d.known})
	if err != nil {
		d.fail(err)
		return &jsonschema.Schema{}
	}
	for name, field := range s.Properties {
		if field.Description = meanings[name]; field.Description == "" {
			d.fail(fmt.Errorf("%s.%s has no description", of, name))
		}
		tighten(field)
	}
	for name := range meanings {
		if s.Properties[name] == nil {
			d.fail(fmt.Errorf("%s has no field %s to describe", of, name))
		}
	}
	d.known[of] = s
	return s
}

// tighten says what holds for all fields: whole numbers are counts, an empty list is
// a list, and what there is not is absent, never null.
func tighten(field *jsonschema.Schema) {
	if field.Type == "integer" {
		field.Minimum = jsonschema.Ptr(0.0)
	}
	if len(field.Types) == 2 && field.Types[0] == "null" {
		field.Type, field.Types = field.Types[1], nil
	}
}

// envelope is the schema of an event's whole payload.
func (d *describer) envelope(e entry) *jsonschema.Schema {
	s := d.object(reflect.TypeFor[memory.Envelope](), map[string]string{
		"event":       "What happened.",
		"user_id":     "Whose memory it happened to; \"system\" for what belongs to no user.",
		"data":        "What is to be said of this event.",
		"timestamp":   "When it happened, in UTC.",
		"source":      "Who sends it.",
		"bot_version": "The BOT_VERSION of whoever sends it.",
		"request_id":  "The id of the request that was the cause, else the webhook-id.",
	})
	delete(d.known, reflect.TypeFor[memory.Envelope]())
	var name any = e.name
	s.Schema, s.Title, s.Description = draft, e.name, e.description
	s.Properties["event"].Const = &name
	s.Properties["request_id"].MinLength = jsonschema.Ptr(1)
	data := e.schema.CloneSchemas()
	data.Description = s.Properties["data"].Description
	s.Properties["data"] = data
	return s
}

// published is a schema that lets fields pass that it does not name.
func published(strict *jsonschema.Schema) *jsonschema.Schema {
	s := strict.CloneSchemas()
	open(s)
	return s
}

func open(s *jsonschema.Schema) {
	if s.Properties != nil {
		s.AdditionalProperties = nil
	}
	for _, field := range s.Properties {
		open(field)
	}
	if s.Items != nil {
		open(s.Items)
	}
}
