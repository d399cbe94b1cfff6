package contract

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"
)

const schemasAt = "#/components/schemas/"

// schemas makes schemas of Go types, one component for each struct that has a name.
type schemas struct {
	source *source
	types  map[reflect.Type]Type
	made   map[string]*jsonschema.Schema
	owner  map[string]reflect.Type // of a component's name
	// meanings are those of fields whose declaration says none, by their JSON names.
	meanings map[string]string
	closed   map[string]bool // it is of a request: unknown fields are refused
}

func newSchemas(src *source) *schemas {
	return &schemas{
		source: src, types: map[reflect.Type]Type{}, made: map[string]*jsonschema.Schema{},
		owner: map[string]reflect.Type{}, closed: map[string]bool{},
	}
}

// of is the schema of a type; strict is that of a request, which takes no field that
// it does not name.
func (s *schemas) of(t reflect.Type, strict bool) (*jsonschema.Schema, error) {
	said := s.types[t]
	switch {
	case strict && said.Sent != nil:
		return said.Sent.CloneSchemas(), nil
	case said.Schema != nil:
		return said.Schema.CloneSchemas(), nil
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}, nil
	case reflect.TypeFor[uuid.UUID]():
		return &jsonschema.Schema{Type: "string", Format: "uuid"}, nil
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[jsonschema.Schema]():
		return &jsonschema.Schema{}, nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem(), strict)
	case reflect.Interface:
		return &jsonschema.Schema{}, nil
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}, nil
	case reflect.String:
		return &jsonschema.Schema{Type: "string"}, nil
	case reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return &jsonschema.Schema{Type: "integer"}, nil
	case reflect.Float32, reflect.Float64:
		return &jsonschema.Schema{Type: "number"}, nil
	case reflect.Slice, reflect.Array:
		items, err := s.of(t.Elem(), strict)
		return &jsonschema.Schema{Type: "array", Items: items}, err
	case reflect.Map:
		values, err := s.of(t.Elem(), strict)
		m := &jsonschema.Schema{Type: "object"}
		if err == nil && t.Elem().Kind() != reflect.Interface {
			m.AdditionalProperties = values
		}
		return m, err
	case reflect.Struct:
		if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
			return &jsonschema.Schema{Type: "string"}, nil
		}
		return s.component(t, strict)
	}
	return nil, fmt.Errorf("there is no schema of %s", t)
}

// component is a reference to the schema of a struct, which is made when it is met first.
func (s *schemas) component(t reflect.Type, strict bool) (*jsonschema.Schema, error) {
	if t.Name() == "" {
		return s.object(t, strict)
	}
	name := s.types[t].Name
	if name == "" {
		name = strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	}
	ref := &jsonschema.Schema{Ref: schemasAt + name}
	if of, taken := s.owner[name]; taken {
		if of != t {
			return nil, fmt.Errorf("%s and %s are both called %s: name one of them", of, t, name)
		}
		if s.closed[name] != strict {
			return nil, fmt.Errorf("%s stands in a request and in an answer: make two types of it", t)
		}
		return ref, nil
	}
	s.owner[name], s.closed[name] = t, strict
	made, err := s.object(t, strict)
	if err != nil {
		return nil, err
	}
	if made.Description, err = s.source.ofType(t); err != nil {
		return nil, err
	}
	s.made[name] = made
	return ref, nil
}

func (s *schemas) object(t reflect.Type, strict bool) (*jsonschema.Schema, error) {
	o := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}}
	if strict {
		o.AdditionalProperties = &jsonschema.Schema{Not: &jsonschema.Schema{}}
	}
	if err := s.fields(o, t, strict); err != nil {
		return nil, err
	}
	for name, bound := range s.types[t].Fields {
		field := o.Properties[name]
		if field == nil {
			return nil, fmt.Errorf("%s has no field %s to bound", t, name)
		}
		bound(field)
	}
	for name, field := range o.Properties {
		if field.Description == "" {
			field.Description = s.meanings[name]
		}
		values := slices.Clone(field.Enum)
		if field.Items != nil {
			values = append(values, field.Items.Enum...)
		}
		field.Description = sentence(field.Description, append(values, propertyNames(o)...))
	}
	return o, nil
}

func propertyNames(o *jsonschema.Schema) []any {
	var names []any
	for name := range o.Properties {
		names = append(names, name)
	}
	return names
}

// fields adds those of t, those of what it embeds among them.
func (s *schemas) fields(o *jsonschema.Schema, t reflect.Type, strict bool) error {
	for f := range t.Fields() {
		name, optional, embedded := jsonName(f)
		if embedded {
			if err := s.fields(o, f.Type, strict); err != nil {
				return err
			}
			for inner, bound := range s.types[f.Type].Fields {
				bound(o.Properties[inner])
			}
			continue
		}
		if name == "" {
			continue
		}
		field, err := s.field(t, f, optional, strict)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
		if o.Properties[name] == nil {
			o.PropertyOrder = append(o.PropertyOrder, name)
		}
		o.Properties[name] = field
		if !optional && !slices.Contains(o.Required, name) {
			o.Required = append(o.Required, name)
		}
	}
	return nil
}

// field is the schema of one. What can be nil and is always there may be null; a list
// or a map never is.
func (s *schemas) field(owner reflect.Type, f reflect.StructField, optional, strict bool) (*jsonschema.Schema, error) {
	schema, err := s.of(f.Type, strict)
	if err != nil {
		return nil, err
	}
	if f.Type.Kind() == reflect.Pointer && !optional && !strict {
		if schema.Ref != "" {
			schema = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{schema, {Type: "null"}}}
		} else if schema.Type != "" {
			schema.Types, schema.Type = []string{schema.Type, "null"}, ""
		}
	}
	text, err := s.source.ofField(owner, f)
	if err != nil {
		return nil, err
	}
	if text != "" {
		schema.Description = text
	}
	return schema, nil
}

// jsonName is what encoding/json calls a field; "" for one that it leaves out.
func jsonName(f reflect.StructField) (name string, optional, embedded bool) {
	tag, tagged := f.Tag.Lookup("json")
	name, options, _ := strings.Cut(tag, ",")
	switch {
	case tag == "-":
		return "", false, false
	case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
		return "", false, true
	case !f.IsExported():
		return "", false, false
	case !tagged || name == "":
		name = f.Name
	}
	return name, strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero"), false
}
