package api

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/memrelay/memrelay/internal/body"
)

type (
	object = body.Object
	field  = body.Field
)

// read reads the body.
func (c *call) read(o object) error { return asInvalid(o.Read(c.body)) }

// asInvalid makes what is wrong with the form of a request the same as what is wrong
// with what it says.
func asInvalid(err error) error {
	var invalid *body.Invalid
	if errors.As(err, &invalid) {
		return wrong(invalid.Field, "%s", invalid.Problem)
	}
	return err
}

func eachField(raw []byte, do func(name string, value json.RawMessage) error) error {
	return body.Each(raw, do)
}

func text(into *string) field { return body.Text(into) }

func integer(into *int) field { return body.As(into, "a whole number") }

func number(into **float64) field { return body.As(into, "a number") }

func flag(into *bool) field { return body.As(into, "true or false") }

func optionalText(into **string) field { return body.As(into, "a string") }

func moment(into **time.Time) field { return body.Moment(into) }

func metadata(into *map[string]any) field { return body.Metadata(into) }

func list[T any](into *[]T, most int, fields func(*T) object) field {
	return body.List(into, most, fields)
}
