package process

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
)

// Observation is what one event says of one record, or what a read found.
type Observation struct {
	EventID  int64 // 0: of no event
	Module   string
	RecordID string
	Fields   Fields    // a field that is not in it is not known; null is cleared
	At       time.Time // when the values were written, by the best clock there is
	Life     Life      // what the event did to the record's life
	LifeAt   time.Time // when it did so
	// ReadAt is set when the fields are the whole record as Zoho had it, by a read
	// that began then; without fields Zoho had none. At and Life do not count.
	ReadAt time.Time
	// Of is the account in whose lists the record was found, "" for none.
	Of string
	// Err is a fault of this event alone: nothing else of the observation counts.
	Err error
}

// size is about what storing the observation takes, in bytes.
func (o Observation) size() int {
	n := 0
	for name, value := range o.Fields {
		n += len(name) + len(value)
	}
	return n
}

// Life is what an event says of a record's being there.
type Life int

// An update says nothing of life: the record may have been deleted since.
const (
	LifeUnsaid Life = iota
	LifeThere
	LifeGone
)

// record is a row of records: the fold of all events of one record. Folding the
// same observations in any order, any number of times, gives the same record.
type record struct {
	module, id  string
	accountID   string
	data        Fields
	times       map[string]stamp
	modifiedAt  time.Time // zero: never said
	lifeAt      time.Time // zero: never said
	lifeEventID int64
	deletedAt   time.Time // zero: there
	readAt      time.Time // of the read it was last made of; zero: made of payloads
}

func (r *record) there() bool { return r.deletedAt.IsZero() }

// stamp orders two values of one field: the newer time wins, then the later
// event. It stands in field_times as [microseconds since 1970, event id].
type stamp struct {
	micros  int64
	eventID int64
}

// MarshalJSON writes [microseconds, event id].
func (s stamp) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%d,%d]", s.micros, s.eventID), nil
}

// UnmarshalJSON reads [microseconds, event id].
func (s *stamp) UnmarshalJSON(raw []byte) error {
	var pair [2]int64
	if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	*s = stamp{micros: pair[0], eventID: pair[1]}
	return nil
}

func (s stamp) after(o stamp) bool {
	return s.micros > o.micros || (s.micros == o.micros && s.eventID > o.eventID)
}

// fold brings one observation into the record and settles whom it belongs to.
func (r *record) fold(o Observation) {
	if !o.ReadAt.IsZero() {
		r.foldRead(o)
		return
	}
	now := stamp{micros: o.At.UnixMicro(), eventID: o.EventID}
	for name, value := range o.Fields {
		old, ok := r.times[name]
		if !ok && !r.readAt.IsZero() {
			// What was read has no stamps of its own.
			old, ok = stamp{micros: r.readAt.UnixMicro()}, true
		}
		if ok && !now.after(old) {
			continue
		}
		r.data[name] = value
		r.times[name] = now
	}
	if len(o.Fields) > 0 && o.At.After(r.modifiedAt) {
		r.modifiedAt = o.At
	}
	r.foldLife(o)
	r.settle("")
}

// foldRead makes the record what Zoho answered, unless a newer answer is known:
// reads may end in another order than they began.
func (r *record) foldRead(o Observation) {
	if !o.ReadAt.After(r.readAt) {
		return
	}
	r.readAt, r.lifeAt, r.lifeEventID, r.deletedAt = o.ReadAt, o.ReadAt, o.EventID, time.Time{}
	if o.Fields == nil {
		r.deletedAt = o.ReadAt
		return
	}
	r.data, r.times = maps.Clone(o.Fields), map[string]stamp{}
	if t, ok := modifiedTime(r.data); ok {
		r.modifiedAt = t
	}
	r.settle(o.Of)
}

// foldLife follows the newest create, delete or restore. A deletion is sticky:
// an update, however new, does not revive.
func (r *record) foldLife(o Observation) {
	if o.Life == LifeUnsaid {
		return
	}
	now := stamp{micros: o.LifeAt.UnixMicro(), eventID: o.EventID}
	if !r.lifeAt.IsZero() && !now.after(stamp{micros: r.lifeAt.UnixMicro(), eventID: r.lifeEventID}) {
		return
	}
	r.lifeAt, r.lifeEventID, r.deletedAt = o.LifeAt, o.EventID, time.Time{}
	if o.Life == LifeGone {
		r.deletedAt = o.LifeAt
	}
}

// settle makes the account what the record's own fields say; where they do not
// say, the record is its own lane. So it follows from the fold alone, and moves
// when a later event knows better. of is the account in whose lists it was found:
// that says what kind of record a parent is, where the fields name but its id.
func (r *record) settle(of string) {
	id, known := accountOf(r.module, r.id, r.data)
	if !known {
		id = ownLane(r.module, r.id)
		if parent := parentOf(r.data); parent != "" && (parent == of || parent == r.accountID) {
			id = parent
		}
	}
	r.accountID = id
}

// modifiedTime reads Zoho's Modified_Time (RFC 3339 with an offset), to the
// microsecond, as it is stored. A value that is none counts as not given.
func modifiedTime(f Fields) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(scalar(f["Modified_Time"])))
	if err != nil || t.Year() < 2000 {
		return time.Time{}, false
	}
	return t.UTC().Truncate(time.Microsecond), true
}
