package inbound

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
)

// Imported is a body that another system had taken, proof of its sender included, and
// that memrelay works in its place.
type Imported struct {
	Delivery
	serverTime time.Time // zero when the body says none
}

// Kept is what another system had kept of a webhook.
type Kept struct {
	EventID string    // as the sender or that system named it; "": it did not
	Event   []byte    // what the webhook said, in one of the shapes of JSON
	Body    []byte    // all that was kept, stored as it is; Event may be a part of it
	At      time.Time // when it came in there, for events that carry no server_time; may be zero
	Headers json.RawMessage
}

// maxKept bounds what was kept, in bytes: wrapped and escaped it is more than what came in.
const maxKept = 4 * MaxBody

// ReadImported reads what another system had kept, as the door of source would.
//
// An event keeps its id, as X-Zoho-Event-Id does. Without one the id follows from
// server_time as it does at the door, and else from the bytes that were kept, so that
// reading the same again makes the same ids whatever was stored meanwhile.
//
// The error is a refusal, as the door would answer it; it says little of the input.
func ReadImported(source string, k Kept) (Imported, error) {
	if len(k.Body) > maxKept {
		return Imported{}, refuse(413, "body_too_large", "is greater than %d bytes", maxKept)
	}
	n, err := parse("application/json", k.Event, MaxRecords)
	if err != nil {
		return Imported{}, err
	}
	d := Imported{Delivery: Delivery{
		Notification: n, Source: source, Digest: digest(k.Body), ContentType: "application/json", Headers: k.Headers, Body: k.Body,
	}, serverTime: n.Events[0].OccurredAt}
	if d.HeaderIDs, err = d.ids(k.EventID); err != nil {
		return Imported{}, err
	}
	if d.serverTime.IsZero() {
		for i := range n.Events {
			n.Events[i].OccurredAt = k.At
		}
	}
	return d, nil
}

func (d Imported) ids(eventID string) ([]string, error) {
	switch {
	case eventID != "":
		return headerIDs(eventID, d.Events)
	case d.serverTime.IsZero():
		return headerIDs("import-"+hex.EncodeToString(d.Digest[:16]), d.Events)
	}
	ids := make([]string, len(d.Events))
	for i, times := range occurrences(d.Events) {
		ids[i] = derivedID(d.Notification, d.Events[i], d.Digest, "", times)
	}
	return ids, nil
}

// Import stores bodies of one source in their order, in tx, and returns what became of
// each one's events. Their jobs stand behind what comes in. An event that is stored
// already is a repeat when it says the same, although the bytes that came in here were
// others; when it says something else its id was used twice, and both are kept.
//
// group.ErrConflict says that another transaction stored one of them meanwhile: roll
// back and call it again.
func (in *Ingester) Import(ctx context.Context, tx pgx.Tx, bodies []Imported) ([][]EventStatus, error) {
	return in.imported(ctx, tx, bodies, func(parts []Delivery) ([]planned, error) {
		return in.storeSource(ctx, tx, 0, bodies[0].Source, parts)
	})
}

// Foresee returns what Import would, and writes nothing.
func (in *Ingester) Foresee(ctx context.Context, tx pgx.Tx, bodies []Imported) ([][]EventStatus, error) {
	return in.imported(ctx, tx, bodies, func(parts []Delivery) ([]planned, error) {
		known := stored{digests: map[string][32]byte{}, newest: map[recordKey]newest{}}
		return in.plan(ctx, db.New(tx), bodies[0].Source, parts, known)
	})
}

// imported splits each body by which body it repeats, has the parts decided upon, and
// puts the answers together again.
func (in *Ingester) imported(ctx context.Context, tx pgx.Tx, bodies []Imported, decide func([]Delivery) ([]planned, error)) ([][]EventStatus, error) {
	if len(bodies) == 0 {
		return nil, nil
	}
	known, err := loadTwins(ctx, db.New(tx), bodies)
	if err != nil {
		return nil, err
	}
	var parts []Delivery
	var places [][2]int // of each event of the parts: its body, and its place in that
	for i, b := range bodies {
		for _, part := range known.split(b) {
			parts = append(parts, part.Delivery)
			for _, j := range part.events {
				places = append(places, [2]int{i, j})
			}
		}
	}
	all, err := decide(parts)
	if err != nil {
		return nil, err
	}
	answers := make([][]EventStatus, len(bodies))
	for i, b := range bodies {
		answers[i] = make([]EventStatus, len(b.Events))
	}
	for n, e := range all {
		answers[places[n][0]][places[n][1]] = EventStatus{EventID: e.eventID, Status: e.status}
	}
	return answers, nil
}

// twin is an event that has an id already, and what it says.
type twin struct {
	digest   [32]byte
	key      recordKey
	does     string
	happened time.Time // server_time; zero: not said
	record   json.RawMessage
}

// twins are the events known, by id: those stored, and those of the bodies before.
type twins map[string]twin

func loadTwins(ctx context.Context, q *db.Queries, bodies []Imported) (twins, error) {
	p := db.ListEventTwinsParams{Source: bodies[0].Source}
	for _, b := range bodies {
		p.EventIds = append(p.EventIds, b.HeaderIDs...)
	}
	rows, err := q.ListEventTwins(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list events of the same ids: %w", err)
	}
	known := twins{}
	for _, r := range rows {
		t := twin{digest: [32]byte(r.Digest), key: recordKey{r.Module, r.RecordID}, does: r.Operation, record: r.Record}
		if r.OccurredAt != nil {
			t.happened = *r.OccurredAt
		}
		known[r.EventID] = t
	}
	return known, nil
}

// part are those events of a body that came with the same body before, or never.
type part struct {
	Delivery
	events []int // their places in the body
}

// split gives the events of a body that are repeats the digest of what they repeat, by
// which plan knows them, and notes the others.
func (known twins) split(b Imported) []part {
	var parts []part
	at := map[[32]byte]int{}
	for i, p := range b.Events {
		id, mine := b.HeaderIDs[i], twin{digest: b.Digest, key: recordKey{p.Module, p.RecordID}, does: p.Operation, happened: b.serverTime, record: p.Record}
		other, taken := known[id]
		switch {
		case !taken:
			known[id] = mine
		case other.says(mine):
			mine.digest = other.digest
		}
		n, ok := at[mine.digest]
		if !ok {
			n, at[mine.digest] = len(parts), len(parts)
			d := b.Delivery
			d.Events, d.HeaderIDs, d.Digest = nil, nil, mine.digest
			parts = append(parts, part{Delivery: d})
		}
		parts[n].Events, parts[n].HeaderIDs = append(parts[n].Events, p), append(parts[n].HeaderIDs, id)
		parts[n].events, parts[n].behind = append(parts[n].events, i), len(parts[n].Events)
	}
	return parts
}

// says reports whether two events of one id are one: nothing that both say differs.
func (t twin) says(o twin) bool {
	if t.digest == o.digest {
		return true
	}
	if t.key != o.key || t.does != o.does || !t.happened.IsZero() && !o.happened.IsZero() && !t.happened.Equal(o.happened) {
		return false
	}
	mine, yours := values(t.record), values(o.record)
	return len(mine) == 0 || len(yours) == 0 || reflect.DeepEqual(mine, yours)
}

// values are a record's fields as JSON means them, without its id, which stands
// elsewhere in some shapes. A program that reads and writes JSON changes its bytes:
// spaces, escapes, the zeros of 1250.50.
func values(record json.RawMessage) map[string]any {
	var fields map[string]any
	_ = json.Unmarshal(record, &fields) // it is an object, or empty where it is no longer stored
	delete(fields, "id")
	return fields
}

// Death says of an event that it had used up its attempts, by the id it is stored under.
type Death struct {
	EventID  string
	Failures int32
	Reason   string
}

// ImportedDead makes dead letters, in tx, of events that Import has just stored of bodies
// that were Unworked.
func (in *Ingester) ImportedDead(ctx context.Context, tx pgx.Tx, source string, deaths []Death) error {
	p := db.MarkEventsImportedDeadParams{Source: source}
	for _, d := range deaths {
		p.EventIds, p.Failures, p.Errors = append(p.EventIds, d.EventID), append(p.Failures, d.Failures), append(p.Errors, d.Reason)
	}
	n, err := db.New(tx).MarkEventsImportedDead(ctx, p)
	if err != nil {
		return fmt.Errorf("mark events dead: %w", err)
	}
	// Not Died: nobody here has tried them. And not Ignored, as Import has counted them.
	return in.counts.Add(ctx, tx, counter.IngestSlots, counter.Changes{counter.Dead: n, counter.Ignored: -n})
}
