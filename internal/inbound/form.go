package inbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// form decodes one of the two encodings of forms.
type form func(body []byte) (url.Values, error)

// formType returns how to decode body, nil when it is no form: what begins like
// JSON is JSON, and curl -d says form for everything.
func formType(contentType string, body []byte) form {
	if start := bytes.TrimLeft(body, " \t\r\n"); len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		return nil
	}
	// A malformed parameter leaves the type readable, and is an error only of
	// the encoding that needs it.
	mediaType, params, _ := mime.ParseMediaType(contentType)
	switch mediaType {
	case "application/x-www-form-urlencoded":
		return decodeURLEncoded
	case "multipart/form-data":
		return func(body []byte) (url.Values, error) { return decodeMultipart(body, params["boundary"]) }
	}
	return nil
}

func decodeURLEncoded(body []byte) (url.Values, error) {
	fields, err := url.ParseQuery(string(bytes.TrimSpace(body)))
	if err != nil {
		return nil, refuse(400, "invalid_form", "the form is malformed: %v", err)
	}
	return fields, nil
}

// decodeMultipart leaves files out: no webhook is known to send any.
func decodeMultipart(body []byte, boundary string) (url.Values, error) {
	// The errors of the reader quote whole lines and are not passed on.
	malformed := refuse(400, "invalid_form", "the form has no field, is malformed, ends early or its boundary is wrong")
	if boundary == "" {
		return nil, malformed
	}
	fields := make(url.Values)
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) && len(fields) > 0 {
			return fields, nil
		}
		if err != nil {
			return nil, malformed
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, malformed
		}
		if part.FileName() == "" && part.FormName() != "" {
			fields.Add(part.FormName(), string(value))
		}
	}
}

// open reads a form as if its fields were the members of a JSON body. Fields
// without a meaning of their own, id among them, are fields of the record:
// beside those of data or record_data when these hold one object, which win.
// Beside several records nobody could tell whose they are, and they are left out.
func (f form) open(body []byte) (envelope, error) {
	e := envelope{shape: ShapeForm}
	fields, err := f(body)
	if err != nil {
		return e, err
	}
	rest := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !storable(name) || !storable(fields[name]...) {
			return e, refuse(400, "invalid_form", "the form field %s is not UTF-8 or holds a NUL", quote(name))
		}
		if err := e.setField(name, fields[name], rest); err != nil {
			return e, err
		}
	}
	if e.recordID == nil {
		e.recordID = textAsJSON(last(fields["id"]))
	}
	if e.operation == nil && e.eventType == nil && e.data == nil && e.recordData == nil && e.recordID == nil {
		return e, refuse(400, "unknown_shape", "the form has none of id, record_id, data, record_data, event_type and operation")
	}
	if e.data == nil {
		e.data = e.recordData
	}
	e.data = withFields(e.data, rest)
	return e, nil
}

// setField keeps a field where its name belongs, in rest when it has no meaning.
// The names of Zoho's own notifications belong nowhere: a form is none, and its
// token must not become a field of a record.
func (e *envelope) setField(name string, values []string, rest map[string]any) error {
	value := last(values)
	switch name {
	case "operation", "event_type", "module", "record_id", "user_id", "server_time":
		*e.member(name) = textAsJSON(value)
	case "modified_fields":
		value = strings.Join(values, ",")
		fallthrough
	case "data", "record_data", "user":
		var err error
		*e.member(name), err = formJSON(name, value)
		return err
	default:
		if e.member(name) != nil {
			break
		}
		if rest[name] = value; len(values) > 1 {
			rest[name] = values
		}
	}
	return nil
}

// formJSON returns the JSON that a field holds, or its text as JSON when it
// does not begin like an object or array.
func formJSON(name, value string) (json.RawMessage, error) {
	value = strings.TrimSpace(value)
	if !strings.HasPrefix(value, "{") && !strings.HasPrefix(value, "[") {
		return textAsJSON(value), nil
	}
	return json.RawMessage(value), checkJSON("the form field "+name, []byte(value))
}

// withFields returns object with fields before its own members.
func withFields(object json.RawMessage, fields map[string]any) json.RawMessage {
	if object != nil && (object[0] != '{' || len(fields) == 0) {
		return object
	}
	made, _ := json.Marshal(fields) // cannot fail: text and lists of text
	if object == nil || object[skipSpace(object, 1)] == '}' {
		return made
	}
	return slices.Concat(made[:len(made)-1], []byte(","), object[1:])
}

func storable(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(s string) bool {
		return !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0
	})
}

// textAsJSON returns s as a JSON string, nil when it is empty.
func textAsJSON(s string) json.RawMessage {
	if s == "" {
		return nil
	}
	quoted, _ := json.Marshal(s) // cannot fail: it is a string
	return quoted
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
