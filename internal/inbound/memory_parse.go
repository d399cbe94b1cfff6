package inbound

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The shapes of a body of /webhooks/memory.
const (
	ShapeMemory   Shape = "memory"   // ours: {"event","user_id","data","timestamp",…}
	ShapeStandard Shape = "standard" // Standard Webhooks: {"type","timestamp","data"}
	ShapeMem0     Shape = "mem0"     // {"event_details":{"id","data":{"memory"},"event":"ADD"}}
	ShapeMem0Flat Shape = "mem0flat" // {"event":"memory_add","memory_id","user_id","memory","timestamp"}
)

// originMem0 is where mem0's shapes come from: they do not say.
const originMem0 = "mem0"

// told is what another memory system says, in whichever shape it said it. All its
// text can be stored.
type told struct {
	shape     Shape
	event     string          // one of memoryEvents, or categorized
	userID    string          // "" where mem0's nested shape does not say
	data      json.RawMessage // an object as our own webhooks carry it
	at        time.Time       // UTC; zero: not said
	source    string          // who tells; "": not said
	requestID string          // "" for none
	memoryID  string          // of the memory there, "" for none
}

// memoryEvents are the events of the payload: ours, and what they do to a record
// of events.
func memoryEvents() map[string]string {
	return map[string]string{
		"memory_added": opCreate, "memory_updated": opUpdate, "memory_deleted": opDelete,
		"preference_stored": opCreate, "correction_stored": opCreate,
		"relationship_added": opCreate, "relationship_deleted": opDelete,
		"memory_searched": opUpdate, "graph_built": opUpdate, "memory_optimized": opUpdate,
		"batch_operation_completed": opUpdate, "memory_error": opUpdate,
	}
}

// categorized is mem0's alone: it put a memory into categories. Nothing follows.
const categorized = "memory_categorized"

func (t told) operation() string {
	if op, ok := memoryEvents()[t.event]; ok {
		return op
	}
	return opUpdate
}

// record is the event in the shape of our own webhooks, whichever it came in.
func (t told) record() json.RawMessage {
	out := []byte(`{"event":` + strconv.Quote(t.event) + `,"user_id":`)
	out = append(out, jsonText(t.userID)...)
	out = append(append(out, `,"source":`...), jsonText(t.source)...)
	return append(append(append(out, `,"data":`...), t.data...), '}')
}

// jsonText writes s as a JSON string, no longer than it has to be.
func jsonText(s string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // cannot fail: it is text
	return bytes.TrimRight(out.Bytes(), "\n")
}

// parseTold reads the body of a webhook of another memory system. The shape is told
// by the body: event_details is mem0's, so are its names of events; type without
// event is Standard Webhooks; anything else is ours. Names are matched exactly; of
// a name that stands twice the last value holds; null is the same as none.
//
// The error is always a refusal:
//
//	400 invalid_json   not JSON
//	422 not_storable   JSON that Postgres cannot keep, as a NUL
//	422 unknown_shape  not an object
//	422 missing_field  422 invalid_field  422 id_too_long  422 unknown_event
//	422 time_out_of_range
func parseTold(body []byte) (told, error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if len(body) == 0 {
		return told{}, refuse(400, "invalid_json", "the body is empty")
	}
	if err := checkJSON("the body", body); err != nil {
		if utf8.Valid(body) && json.Valid(body) {
			return told{}, refuse(422, "not_storable", "%s", err)
		}
		return told{}, err
	}
	body = body[skipSpace(body, 0):]
	if body[0] != '{' {
		return told{}, refuse(422, "unknown_shape", "the body is not a JSON object")
	}
	f := fields{object: body}
	switch event, err := f.text("event", false); {
	case f.has("event_details"):
		return parseMem0(f)
	case err != nil:
		return told{}, err
	case mem0Event(event) != "":
		return parseMem0Flat(f, mem0Event(event))
	case event == "" && f.has("type"):
		return parseStandard(f)
	default:
		return parseOurs(f, event)
	}
}

func parseOurs(f fields, event string) (told, error) {
	t := told{shape: ShapeMemory, event: event}
	if event == "" {
		return t, missing("event")
	}
	if err := f.readPayload(&t, f, "user_id"); err != nil {
		return t, err
	}
	var err error
	if t.source, err = f.text("source", false); err != nil {
		return t, err
	}
	t.requestID, err = f.text("request_id", false)
	return t, err
}

func parseStandard(f fields) (told, error) {
	t := told{shape: ShapeStandard}
	var err error
	if t.event, err = f.text("type", true); err != nil {
		return t, err
	}
	data := fields{prefix: "data.", object: f.get("data")}
	if data.object != nil && data.object[0] != '{' {
		data.object = nil // refused by name when data itself is read
	}
	if err := f.readPayload(&t, data, "user_id"); err != nil {
		return t, err
	}
	t.source, err = f.text("source", false)
	return t, err
}

// readPayload reads what our shape and Standard Webhooks share; who it is about
// stands in user under the name.
func (f fields) readPayload(t *told, user fields, name string) error {
	if _, ok := memoryEvents()[t.event]; !ok {
		return refuse(422, "unknown_event", "event %s is none that is known", quote(t.event))
	}
	var err error
	if t.data, err = f.objectOf("data"); err != nil {
		return err
	}
	if t.at, err = f.time("timestamp", false); err != nil {
		return err
	}
	// What is told of everybody's memory names nobody.
	ofNobody := t.operation() == opUpdate && t.event != "memory_updated"
	if t.userID, err = user.text(name, !ofNobody); err != nil {
		return err
	}
	if ofNobody && !user.has(name) && t.shape == ShapeMemory {
		return missing(user.prefix + name)
	}
	t.memoryID = memoryIDOf(t.data)
	return nil
}

// memoryIDOf is the id of the memory that the data of a webhook is about, "" when
// it is not found.
func memoryIDOf(data json.RawMessage) string {
	for _, name := range []string{"result", "after", "before"} {
		if inner := find(data, name); inner != nil && inner[0] == '{' {
			if id := usableID(find(inner, "id")); id != "" {
				return id
			}
		}
	}
	return ""
}

// mem0Event returns our name of an event of mem0's, "" for what is none. Its pages
// write the names with an underscore and, elsewhere, with a colon.
func mem0Event(name string) string {
	switch name {
	case "memory_add", "memory:add", "ADD":
		return "memory_added"
	case "memory_update", "memory:update", "UPDATE":
		return "memory_updated"
	case "memory_delete", "memory:delete", "DELETE":
		return "memory_deleted"
	case "memory_categorize", "memory:categorize", "CATEGORIZE":
		return categorized
	}
	return ""
}

// parseMem0 reads {"event_details":{"id","data":{"memory"},"event":"ADD"}}. It says
// neither when nor, as a rule, whose memory it is.
// https://docs.mem0.ai/platform/features/webhooks
func parseMem0(f fields) (told, error) {
	t := told{shape: ShapeMem0, source: originMem0}
	object, err := f.objectOf("event_details")
	if err != nil {
		return t, err
	}
	details := fields{prefix: "event_details.", object: object}
	name, err := details.text("event", true)
	if err != nil {
		return t, err
	}
	if t.event = mem0Event(name); t.event == "" {
		return t, refuse(422, "unknown_event", "event_details.event %s is none that is known", quote(name))
	}
	idName := "id"
	if !details.has("id") && details.has("memory_id") {
		idName = "memory_id" // so it is called where categories are told
	}
	if t.memoryID, err = details.text(idName, true); err != nil {
		return t, err
	}
	data := fields{prefix: "event_details.data.", object: json.RawMessage("{}")}
	if details.has("data") {
		if data.object, err = details.objectOf("data"); err != nil {
			return t, err
		}
	}
	if t.userID, err = data.text("user_id", false); err != nil {
		return t, err
	}
	return t, t.readMem0(data)
}

// parseMem0Flat reads {"event":"memory_add","memory_id","user_id","memory","timestamp"}.
// https://docs.mem0.ai/migration/oss-to-platform
func parseMem0Flat(f fields, event string) (told, error) {
	t := told{shape: ShapeMem0Flat, source: originMem0, event: event}
	var err error
	if t.memoryID, err = f.text("memory_id", true); err != nil {
		return t, err
	}
	if t.userID, err = f.text("user_id", true); err != nil {
		return t, err
	}
	if t.at, err = f.time("timestamp", true); err != nil {
		return t, err
	}
	return t, t.readMem0(f)
}

// readMem0 makes of mem0's memory the data of a webhook of ours.
func (t *told) readMem0(in fields) error {
	snapshot := append([]byte(`{"id":`), jsonText(t.memoryID)...)
	if t.event == "memory_added" || t.event == "memory_updated" {
		memory, err := in.raw("memory", '"', true)
		if err != nil {
			return err
		}
		snapshot = append(append(snapshot, `,"content":`...), memory...)
	}
	metadata, err := in.raw("metadata", '{', false)
	if err != nil {
		return err
	}
	if metadata != nil {
		snapshot = append(append(snapshot, `,"metadata":`...), metadata...)
	}
	name := `{"result":`
	if t.event == "memory_updated" {
		name = `{"after":`
	}
	t.data = slices.Concat([]byte(name), snapshot, []byte(`}}`))
	return nil
}

// fields reads members of an object and says of those that are wrong which it was.
type fields struct {
	prefix string // of the names in messages
	object json.RawMessage
}

func missing(name string) error { return refuse(422, "missing_field", "%s is missing", name) }

// get returns the member, nil for none and null.
func (f fields) get(name string) json.RawMessage {
	if f.object == nil {
		return nil
	}
	return nonNull(find(f.object, name))
}

func (f fields) has(name string) bool { return f.get(name) != nil }

// raw returns a member that begins with that character, as it came.
func (f fields) raw(name string, begins byte, required bool) (json.RawMessage, error) {
	value := f.get(name)
	switch {
	case value == nil && required:
		return nil, missing(f.prefix + name)
	case value != nil && value[0] != begins:
		what := "text"
		if begins == '{' {
			what = "an object"
		}
		return nil, refuse(422, "invalid_field", "%s is not %s", f.prefix+name, what)
	}
	return value, nil
}

func (f fields) objectOf(name string) (json.RawMessage, error) { return f.raw(name, '{', true) }

// text returns a name or an id: text of at most maxName bytes, or an integer as text.
func (f fields) text(name string, required bool) (string, error) {
	value := f.get(name)
	if value != nil && value[0] != '"' && !(isNumber(value) && isInteger(value)) {
		return "", refuse(422, "invalid_field", "%s is not text", f.prefix+name)
	}
	text := string(value)
	if value != nil && value[0] == '"' {
		text = string(unquote(value))
	}
	switch {
	case len(text) > maxName:
		return "", refuse(422, "id_too_long", "%s is longer than %d bytes", f.prefix+name, maxName)
	case strings.TrimSpace(text) != "":
		return text, nil
	case required:
		return "", missing(f.prefix + name)
	}
	return "", nil
}

// time returns what RFC 3339 says, and where unix is allowed, a number of seconds
// since 1970, also one written as text.
func (f fields) time(name string, unix bool) (time.Time, error) {
	value := f.get(name)
	if value == nil {
		return time.Time{}, missing(f.prefix + name)
	}
	written := string(value)
	if value[0] == '"' {
		written = string(unquote(value))
	}
	when, err := time.Parse(time.RFC3339Nano, written)
	if err != nil || value[0] != '"' {
		seconds, parseErr := strconv.ParseFloat(written, 64)
		if !unix || parseErr != nil || !(math.Abs(seconds) < 1e12) {
			want := "RFC 3339"
			if unix {
				want += " or seconds since 1970"
			}
			return time.Time{}, refuse(422, "invalid_field", "%s is not a time: want %s", f.prefix+name, want)
		}
		whole, fraction := math.Modf(seconds)
		when = time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1e3)
	}
	when = when.UTC()
	if when.Year() < 2000 || when.Year() >= 2100 {
		return time.Time{}, refuse(422, "time_out_of_range", "%s is before 2000 or after 2099", f.prefix+name)
	}
	return when, nil
}
