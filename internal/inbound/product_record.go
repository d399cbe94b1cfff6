package inbound

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
)

// recordOf returns what a body says as a JSON object that can be stored: the body
// itself, or the fields of a form. It is {} for everything else, what is not JSON
// included: its bytes are kept anyway, and a sender that is proven could do
// nothing about a refusal but send the same again. The query of the address is no
// part of it: Zoho's own pages put API keys there.
func recordOf(contentType string, body []byte) json.RawMessage {
	none := json.RawMessage("{}")
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if decode := formType(contentType, body); decode != nil {
		fields := storableFields(decode, body)
		if len(fields) > maxUnfolded {
			return none // each "<" of a form is six bytes of JSON
		}
		return fields
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 || body[0] != '{' || checkJSON("the body", body) != nil {
		return none
	}
	return body
}

// storableFields returns a form's fields as an object, {} when any cannot be stored.
func storableFields(decode form, body []byte) json.RawMessage {
	fields, err := decode(body)
	if err != nil {
		return json.RawMessage("{}")
	}
	object := make(map[string]any, len(fields))
	for name, values := range fields {
		if !storable(name) || !storable(values...) {
			return json.RawMessage("{}")
		}
		if object[name] = values[0]; len(values) > 1 {
			object[name] = values
		}
	}
	return withFields(nil, object)
}

// recordIDOf returns the id of what a body is about, "" when it is not found: in
// Zoho Mail's bodies the message or the task; in those of the others the
// "invoice_id" of an object "invoice", or "request_id" of "requests", at the top
// or in what Payments and Billing wrap it in.
func recordIDOf(record json.RawMessage) string {
	// The text comes first: some programs on the way round numbers of that size.
	for _, name := range []string{"messageIdString", "messageId", "entityId"} {
		if id := usableID(find(record, name)); id != "" {
			return id
		}
	}
	for _, wrapper := range []string{"event_object", "data"} {
		if inner := find(record, wrapper); inner != nil && inner[0] == '{' {
			if id := namedID(inner); id != "" {
				return id
			}
		}
	}
	return namedID(record)
}

// namedID returns the id of the first member of object that is named after itself.
func namedID(object json.RawMessage) string {
	for name, value := range members(object) {
		if value[0] != '{' {
			continue
		}
		if id := usableID(find(value, strings.TrimSuffix(string(name), "s")+"_id")); id != "" {
			return id
		}
	}
	return ""
}

// usableID returns the id that a member holds, "" when it holds none, or none that
// can stand in an index and in a line of a log.
func usableID(raw json.RawMessage) string {
	if raw == nil {
		return ""
	}
	id, err := readID(nonNull(raw))
	if err != nil || strings.ContainsFunc(id, unicode.IsControl) {
		return ""
	}
	return id
}
