package body

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Field reads the value of one field; path is how an error names it. raw is valid JSON.
type Field func(path string, raw json.RawMessage) error

// Object says which fields an object may have, and where their values go. A field
// with null is one that is not there.
type Object map[string]Field

// opens reports whether JSON begins with that.
func opens(raw []byte, with byte) bool {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	return len(raw) > 0 && raw[0] == with
}

func (o Object) read(path string, raw json.RawMessage) error {
	if !opens(raw, '{') {
		return wrong(path, "want an object")
	}
	seen := map[string]bool{}
	return Each(raw, func(name string, value json.RawMessage) error {
		twice := seen[name]
		seen[name] = true
		return o.readField(path, name, twice, value)
	})
}

// Each hands over the fields of an object in their order, up to the first error.
func Each(raw []byte, do func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("read an object: %w", err)
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("read the name of a field: %w", err)
		}
		name, _ := token.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("read the value of a field: %w", err)
		}
		if err := do(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (o Object) readField(path, name string, twice bool, value json.RawMessage) error {
	full := Shorten(name)
	if path != "" {
		full = path + "." + full
	}
	read, known := o[name]
	switch {
	case !known:
		return wrong(full, "is no field here: there are %s", OrNone(slices.Sorted(maps.Keys(o))))
	case twice:
		return wrong(full, "want it once")
	case string(value) == "null":
		return nil
	}
	return read(full, value)
}

// As reads a value of Go's type T; want says what it is in JSON.
func As[T any](into *T, want string) Field {
	return func(path string, raw json.RawMessage) error {
		if json.Unmarshal(raw, into) != nil {
			return wrong(path, "want %s", want)
		}
		return nil
	}
}

// Text reads a string.
func Text(into *string) Field { return As(into, "a string") }

// Moment reads a time as RFC 3339 writes it.
func Moment(into **time.Time) Field { return As(into, "a time as 2030-01-31T12:00:00Z") }

// Metadata reads an object of anything. Numbers stay as they are written: ids are
// greater than a float can hold.
func Metadata(into *map[string]any) Field {
	return func(path string, raw json.RawMessage) error {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if !opens(raw, '{') || d.Decode(into) != nil {
			return wrong(path, "want an object")
		}
		return nil
	}
}

// List reads a list of at most that many objects, each with a fresh value and where
// its fields go. A body has room for a million empty ones, which would take up a
// hundred times the memory that it does.
func List[T any](into *[]T, most int, fields func(*T) Object) Field {
	return func(path string, raw json.RawMessage) error {
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) != nil {
			return wrong(path, "want a list")
		}
		if len(items) > most {
			return wrong(path, "want at most %d", most)
		}
		for i, item := range items {
			var value T
			if err := fields(&value).read(fmt.Sprintf("%s[%d]", path, i), item); err != nil {
				return err
			}
			*into = append(*into, value)
		}
		return nil
	}
}
