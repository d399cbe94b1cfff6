package mcp

import (
	"reflect"
	"slices"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"
)

// schemaOf is the JSON Schema of a struct: what its fields' tags say, with ids and
// times as they are written.
func schemaOf[T any]() (*jsonschema.Schema, error) {
	s, err := jsonschema.For[T](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[uuid.UUID](): {Type: "string", Format: "uuid"},
		reflect.TypeFor[time.Time](): {Type: "string", Format: "date-time"},
	}})
	if err != nil {
		return nil, err
	}
	tighten(s)
	return s, nil
}

// tighten says that what may be left out is never null, and that lists never are:
// in Go both could be nil.
func tighten(s *jsonschema.Schema) {
	for name, field := range s.Properties {
		if field.Items != nil || !slices.Contains(s.Required, name) {
			neverNull(field)
		}
		tighten(field)
	}
	if s.Items != nil {
		tighten(s.Items)
	}
}

func neverNull(s *jsonschema.Schema) {
	if i := slices.Index(s.Types, "null"); i >= 0 && len(s.Types) == 2 {
		s.Type, s.Types = s.Types[1-i], nil
	}
}
