package process

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Observation is what one event says of one record.
type Observation struct {
	EventID  int64
	Module   string
	RecordID string
	Fields   Fields    // a field that is not in it is not known; null is cleared
	At       time.Time // when the values were written, by the best clock there is
	Life     Life      // what the event did to the record's life
	LifeAt   time.Time // when it did so
	// Err is a fault of this event alone: nothing else of the observation counts.
	Err error
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
}

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
	now := stamp{micros: o.At.UnixMicro(), eventID: o.EventID}
	for name, value := range o.Fields {
		if old, ok := r.times[name]; ok && !now.after(old) {
			continue
		}
		r.data[name] = value
		r.times[name] = now
	}
	if len(o.Fields) > 0 && o.At.After(r.modifiedAt) {
		r.modifiedAt = o.At
	}
	r.foldLife(o)
	r.settle()
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
// when a later event knows better.
func (r *record) settle() {
	if id, known := accountOf(r.module, r.id, r.data); known {
		r.accountID = id
		return
	}
	r.accountID = ownLane(r.module, r.id)
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
