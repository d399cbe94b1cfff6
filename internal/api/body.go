package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

// field reads the value of one field; path is how an error names it.
type field func(path string, raw json.RawMessage) error

// object says which fields an object may have, and where their values go. A field
// with null is one that is not there.
type object map[string]field

// read reads the body. It refuses what is no object, fields that are not asked for
// (a name that is typed wrong must not be lost), fields that are there twice, and
// values of another type.
func (c *call) read(o object) error {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return notJSON("The body is empty: send a JSON object.")
	}
	if name, deep := tooDeep(c.body); deep {
		if name == "" {
			return notJSON("The body is not a JSON object.")
		}
		return wrong(shorten(name), "is nested too deeply")
	}
	if !json.Valid(c.body) {
		return notJSON("The body is not JSON.")
	}
	if !opens(c.body, '{') {
		return notJSON("The body is not a JSON object.")
	}
	return o.read("", c.body)
}

func notJSON(message string) error {
	return &respond.Error{Status: http.StatusBadRequest, Code: "invalid_json", Message: message}
}

// opens reports whether JSON begins with that.
func opens(raw []byte, with byte) bool {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	return len(raw) > 0 && raw[0] == with
}

// read is a field. raw is valid JSON.
func (o object) read(path string, raw json.RawMessage) error {
	if !opens(raw, '{') {
		return wrong(path, "want an object")
	}
	seen := map[string]bool{}
	return eachField(raw, func(name string, value json.RawMessage) error {
		twice := seen[name]
		seen[name] = true
		return o.readField(path, name, twice, value)
	})
}

// eachField hands over the fields of an object in their order, up to the first error.
func eachField(raw []byte, do func(name string, value json.RawMessage) error) error {
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

func (o object) readField(path, name string, twice bool, value json.RawMessage) error {
	full := shorten(name)
	if path != "" {
		full = path + "." + full
	}
	read, known := o[name]
	switch {
	case !known:
		return wrong(full, "is no field here: there are %s", orNone(slices.Sorted(maps.Keys(o))))
	case twice:
		return wrong(full, "want it once")
	case string(value) == "null":
		return nil
	}
	return read(full, value)
}

// as reads a value of Go's type T; want says what it is in JSON.
func as[T any](into *T, want string) field {
	return func(path string, raw json.RawMessage) error {
		if json.Unmarshal(raw, into) != nil {
			return wrong(path, "want %s", want)
		}
		return nil
	}
}

func text(into *string) field { return as(into, "a string") }

func integer(into *int) field { return as(into, "a whole number") }

func number(into **float64) field { return as(into, "a number") }

func flag(into *bool) field { return as(into, "true or false") }

func optionalText(into **string) field { return as(into, "a string") }

// moment reads a time as RFC 3339 writes it.
func moment(into **time.Time) field { return as(into, "a time as 2030-01-31T12:00:00Z") }

// metadata reads an object of anything. Numbers stay as they are written: ids are
// greater than a float can hold.
func metadata(into *map[string]any) field {
	return func(path string, raw json.RawMessage) error {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if !opens(raw, '{') || d.Decode(into) != nil {
			return wrong(path, "want an object")
		}
		return nil
	}
}

// list reads a list of at most that many objects, each with a fresh value and where
// its fields go. A body has room for a million empty ones, which would take up a
// hundred times the memory that it does.
func list[T any](into *[]T, most int, fields func(*T) object) field {
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

// maxDepth is deeper than any body is that is good; encoding/json gives up at
// 10,000 levels without saying where.
const maxDepth = memory.MaxMetadataDepth + 8

// tooDeep reports whether body is nested deeper than maxDepth, and the outermost
// field that is. It need not be JSON.
func tooDeep(body []byte) (name string, deep bool) {
	depth, start := 0, 0
	inString, escaped := false, false
	var last []byte // the string that ended last, of the outermost object
	for i, b := range body {
		switch {
		case escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			if inString = !inString; inString {
				start = i
			} else if depth == 1 {
				last = body[start : i+1]
			}
		case inString:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				_ = json.Unmarshal(last, &name) // what is no string names nothing
				return name, true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return "", false
}
