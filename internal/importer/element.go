package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/inbound"
)

// maxLayers bounds how often an event may be wrapped.
const maxLayers = 8

// element is what one element of a queue says.
type element struct {
	event    json.RawMessage // the innermost object that reads like an event
	eventID  string
	at       time.Time // when it came in; zero: not said
	failures int32
	reason   string // of the last failure
}

// The names by which what is about an event was written. Of several the first that is
// there holds.
var (
	wrapNames    = []string{"event", "payload", "webhook_event", "original_event", "body", "raw_body"}
	idNames      = []string{"event_id", "zoho_event_id"}
	timeNames    = []string{"received_at", "timestamp", "created_at", "queued_at", "enqueued_at"}
	failedNames  = []string{"failed_at", "dead_at", "moved_at"}
	attemptNames = []string{"attempts", "retry_count", "retries"}
	reasonNames  = []string{"last_error", "error", "failure_reason", "reason"}
	recordNames  = []string{"record", "payload", "fields"}
	// eventNames are members that only an event has.
	eventNames = []string{"data", "record_id", "record_data", "ids", "operation", "event_type"}
)

// Refusals of what holds no event at all.
var (
	errNoObject = errors.New("is not a JSON object")
	errDeep     = errors.New("is wrapped too often")
)

// readElement finds the event in an element, which may be JSON in a JSON string, and
// wrapped in what a queue notes of it. What stands nearest to the event holds.
func readElement(raw []byte, now time.Time) (element, error) {
	var e element
	var failedAt time.Time
	for range maxLayers {
		raw = bytes.TrimSpace(raw)
		if text, ok := asText(raw); ok {
			raw = []byte(text)
			continue
		}
		object, ok := asObject(raw)
		if !ok {
			return e, errNoObject
		}
		e.eventID = firstOf(asName(first(object, idNames)), e.eventID)
		e.reason = firstOf(asReason(first(object, reasonNames)), e.reason)
		if n := asCount(first(object, attemptNames)); n > 0 {
			e.failures = n
		}
		if at := asTime(first(object, timeNames), now); !at.IsZero() {
			e.at = at
		}
		if at := asTime(first(object, failedNames), now); !at.IsZero() {
			failedAt = at
		}
		inner := wrapped(object)
		if inner == nil {
			e.event = normal(raw, object)
			if e.at.IsZero() {
				// Later than it came in, and better than when it is read here.
				e.at = failedAt
			}
			return e, nil
		}
		raw = inner
	}
	return e, errDeep
}

// wrapped returns the event that object is only the wrapper of, nil when it is one itself.
func wrapped(object map[string]json.RawMessage) json.RawMessage {
	for _, name := range wrapNames {
		inner := object[name]
		for range maxLayers {
			text, ok := asText(inner)
			if !ok {
				break
			}
			inner = json.RawMessage(strings.TrimSpace(text))
		}
		// A record may have a field of that name: then it is no wrapper.
		if within, ok := asObject(inner); ok && (first(within, eventNames) != nil || wrapped(within) != nil) {
			return inner
		}
	}
	return nil
}

// normal is the event as the door reads it, in its own bytes where nothing is in the way
// of that. Where operation says what was done, event_type may be anything, as a name for
// all that the queue is for. Values may be JSON in text, and the record have another name.
func normal(raw []byte, object map[string]json.RawMessage) json.RawMessage {
	changed := false
	set := func(name string, value json.RawMessage) { object[name], changed = value, true }
	for _, name := range []string{"data", "record_data", "modified_fields"} {
		text, _ := asText(object[name])
		if text = strings.TrimSpace(text); (strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[")) && json.Valid([]byte(text)) {
			set(name, json.RawMessage(text))
		}
	}
	if first(object, []string{"data", "record_data", "ids"}) == nil {
		if _, ok := asObject(first(object, recordNames)); ok {
			set("record_data", first(object, recordNames))
		}
	}
	if asName(object["operation"]) != "" && object["event_type"] != nil {
		delete(object, "event_type")
		changed = true
	}
	if !changed {
		return raw
	}
	made, err := json.Marshal(object)
	if err != nil {
		return raw
	}
	return made
}

func first(object map[string]json.RawMessage, names []string) json.RawMessage {
	for _, name := range names {
		if v := object[name]; v != nil && string(v) != "null" {
			return v
		}
	}
	return nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func asObject(raw []byte) (map[string]json.RawMessage, bool) {
	var object map[string]json.RawMessage
	ok := len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &object) == nil
	return object, ok
}

func asText(raw []byte) (string, bool) {
	var text string
	ok := len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &text) == nil
	return text, ok
}

// asName is text or a number, as text.
func asName(raw json.RawMessage) string {
	if text, ok := asText(raw); ok {
		return strings.TrimSpace(text)
	}
	if len(raw) > 0 && (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9') {
		return string(raw)
	}
	return ""
}

// maxReason bounds what is kept of a failure, in bytes, as for events that fail here.
const maxReason = 500

// asReason is text, or JSON as text: some write an object with a message.
func asReason(raw json.RawMessage) string {
	text, ok := asText(raw)
	if !ok {
		text = string(raw)
	}
	text = strings.TrimSpace(strings.ReplaceAll(text, "\x00", ""))
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	return strings.ToValidUTF8(text, "")
}

func asCount(raw json.RawMessage) int32 {
	n, err := strconv.ParseInt(asName(raw), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return int32(min(n, math.MaxInt32))
}

// timeLayouts are those of Python's isoformat, with a zone and without, which is UTC then.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05"}

// asTime reads text of ISO 8601, or a number of seconds or milliseconds since 1970. What
// is no time between 2000 and now is zero: a clock that is ahead, or a field of another
// meaning, must not make an old event the newest.
func asTime(raw json.RawMessage, now time.Time) time.Time {
	text := asName(raw)
	at := time.Time{}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if n > 1e11 { // seconds of the year 5138, or milliseconds of 1973
			n /= 1000
		}
		if n > 0 && n < 1e11 {
			at = time.UnixMicro(int64(n * 1e6))
		}
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			at = t
		}
	}
	if at.Year() < 2000 || at.After(now) {
		return time.Time{}
	}
	return at.UTC().Truncate(time.Microsecond)
}

// kept is the element as it is stored: with its bytes as they came.
func (e element) kept(raw []byte, headers json.RawMessage) inbound.Kept {
	return inbound.Kept{EventID: e.eventID, Event: e.event, Body: raw, At: e.at, Headers: headers}
}
