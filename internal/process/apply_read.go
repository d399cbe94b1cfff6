package process

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

// Under these keys of its metadata a memory that another system told of says where
// it comes from, also to those that we tell in turn: the system that had it first,
// its id there, and when that system last said something of it.
const (
	keyOrigin   = "origin"
	keyOriginID = "origin_id"
	keyOriginAt = "origin_at"
	keyKind     = "kind"
)

// clockTolerance is how far ahead of ours another system's clock is believed to be.
// What is later than that would overrule for ever all that comes after it.
const clockTolerance = 5 * time.Minute

// moment orders what was said of one memory: by time, then by the id of the event.
// Events of one transaction have the same time, and ids that grow.
type moment struct {
	at      time.Time
	eventID string // "" at second hand
}

func (s moment) compare(o moment) int {
	if c := s.at.Compare(o.at); c != 0 {
		return c
	}
	return strings.Compare(s.eventID, o.eventID)
}

// subjectKey names what an event is about, whoever tells of it.
type subjectKey struct{ origin, id string }

// heard is what an event of another memory system says.
type heard struct {
	rowID  int64
	event  string
	userID string // "" where it does not say
	stamp  moment
	teller string
	// origin and originID are of the system that had it first; secondHand is that this
	// is not the one that tells.
	origin, originID string
	secondHand       bool
	said             string   // its id with the teller, "" for none
	ids              []string // all ids that could be ours

	content  string
	kind     string         // "" where it does not say
	metadata map[string]any // nil where it does not say
	line     *memory.Link   // of the graph; nil: it is about a memory
	ignored  bool           // nothing is to be followed
}

// follows reports whether there is anything to be followed.
func (t heard) follows() bool { return !t.ignored }

// subject is what the event is about. A line is known by its ends: its id is
// another one each time it is drawn.
func (t heard) subject() subjectKey {
	if t.line == nil {
		return subjectKey{t.origin, t.originID}
	}
	sum := sha256.Sum256([]byte(lineOf(*t.line)))
	return subjectKey{t.origin, "line:" + hex.EncodeToString(sum[:])}
}

// readHeard reads an event as inbound stores it: in the shape of our own webhooks.
// Its errors are faults of the event.
func readHeard(row db.LockToldEventsRow) (heard, error) {
	t := heard{rowID: row.ID, userID: row.UserID}
	if row.Record == nil {
		return t, fmt.Errorf("%w: %w", errEvent, errNoBody)
	}
	var body struct {
		Event, Source string
		Data          json.RawMessage
	}
	if err := json.Unmarshal(row.Record, &body); err != nil {
		return t, fmt.Errorf("%w: it is not JSON", errEvent)
	}
	data, err := memory.ReadMetadata(body.Data)
	if err != nil {
		return t, fmt.Errorf("%w: data is not an object", errEvent)
	}
	t.event, t.teller = body.Event, cmp.Or(body.Source, sourceMemory)
	t.origin = t.teller
	t.stamp = moment{at: believed(row.OccurredAt, row.ReceivedAt), eventID: row.EventID}
	if data["test"] == true {
		t.ignored = true
		return t, nil
	}
	if err := t.read(data, row); err != nil {
		return t, fmt.Errorf("%w: %w", errEvent, err)
	}
	return t, nil
}

// believed is when something was said: never much later than it came.
func believed(said *time.Time, received time.Time) time.Time {
	latest := received.Add(clockTolerance)
	switch {
	case said == nil:
		return received
	case said.After(latest):
		return latest
	default:
		return *said
	}
}

func (t *heard) read(data map[string]any, row db.LockToldEventsRow) error {
	switch t.event {
	case memory.Added, memory.Deleted:
		return t.readSnapshot(object(data["result"]), nil, row)
	case memory.Updated:
		return t.readSnapshot(object(data["after"]), object(data["before"]), row)
	case memory.PreferenceStored:
		t.kind, t.content = "preference", text(data["preference"])
		t.metadata = nonEmpty(data, "category")
	case memory.CorrectionStored:
		t.kind, t.metadata = "correction", nonEmpty(data, "original", "corrected", "context")
		t.content = text(data["corrected"]) + " (not: " + text(data["original"]) + ")"
		if text(data["corrected"]) == "" {
			t.content = ""
		}
		if context := text(data["context"]); context != "" {
			t.content += "\n" + context
		}
	case memory.RelationshipAdded, memory.RelationshipDeleted:
		return t.readLine(data)
	default:
		t.ignored = true
		return nil
	}
	return t.identify(object(data["result"]), nil, row)
}

// readSnapshot reads a memory as a webhook shows it.
func (t *heard) readSnapshot(snapshot, before map[string]any, row db.LockToldEventsRow) error {
	if snapshot == nil {
		return fmt.Errorf("%s says nothing of a memory: data.result, or data.after of an update, is missing", t.event)
	}
	t.content = text(snapshot["content"])
	t.metadata = object(snapshot["metadata"])
	if kind := text(t.metadata[keyKind]); slices.Contains(memory.Kinds(), kind) {
		t.kind = kind
	}
	return t.identify(snapshot, before, row)
}

// identify finds out which memory it is. One that whoever tells has from somebody
// else keeps the identity and the time that it has there: so it is the same memory
// on whichever ways we hear of it, and no copy is newer than what it was made of.
func (t *heard) identify(snapshot, before map[string]any, row db.LockToldEventsRow) error {
	t.said = text(snapshot["id"])
	if t.said == "" {
		t.said = text(before["id"])
	}
	if len(t.said) > memory.MaxName {
		return fmt.Errorf("its id is longer than %d bytes", memory.MaxName)
	}
	if t.said == "" && t.event == memory.Deleted {
		return fmt.Errorf("%s does not say of which memory: data.result.id is missing", t.event)
	}
	t.originID = cmp.Or(t.said, row.EventID)
	for _, metadata := range []map[string]any{object(before["metadata"]), object(snapshot["metadata"])} {
		origin, id := text(metadata[keyOrigin]), text(metadata[keyOriginID])
		t.ids = append(t.ids, id, text(metadata[memory.MetadataID]))
		if origin == "" || id == "" || len(origin) > memory.MaxName || len(id) > memory.MaxName {
			continue
		}
		t.origin, t.originID, t.secondHand = origin, id, true
		t.stamp.eventID = ""
		if at, err := time.Parse(time.RFC3339Nano, text(metadata[keyOriginAt])); err == nil {
			t.stamp.at = believed(&at, row.ReceivedAt).Truncate(time.Microsecond)
		}
	}
	t.ids = append(t.ids, t.said)
	return nil
}

func (t *heard) readLine(data map[string]any) error {
	result := object(data["result"])
	l := memory.Link{
		UserID: t.userID, Source: text(data["source"]), Relationship: text(data["relationship"]), Target: text(data["target"]), Confidence: 1,
	}
	for _, f := range []struct{ name, text string }{
		{"source", l.Source}, {"relationship", l.Relationship}, {"target", l.Target},
	} {
		if f.text == "" || len(f.text) > memory.MaxName {
			return fmt.Errorf("data.%s is missing, or longer than %d bytes", f.name, memory.MaxName)
		}
	}
	if n, ok := result["confidence"].(json.Number); ok {
		confidence, err := n.Float64()
		if err != nil || !(confidence >= 0 && confidence <= 1) {
			return fmt.Errorf("data.result.confidence is not 0 to 1")
		}
		l.Confidence = written(float32(confidence))
	}
	metadata := object(data["metadata"])
	t.secondHand = text(metadata[keyOrigin]) != ""
	t.originID = text(result["id"])
	t.line = &l
	return nil
}

// object and text are a JSON value where it is one of these; nil and "" otherwise. A
// number is text as it is written: some systems number their memories.
func object(value any) map[string]any {
	o, _ := value.(map[string]any)
	return o
}

func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		return ""
	}
}

// nonEmpty are those of data's texts that say something.
func nonEmpty(data map[string]any, names ...string) map[string]any {
	said := map[string]any{}
	for _, name := range names {
		if s := text(data[name]); s != "" {
			said[name] = s
		}
	}
	return said
}

// written is what was written of a number that was stored with a float32's precision.
func written(v float32) float64 {
	f, _ := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	return f
}
