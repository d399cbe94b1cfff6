package process

import (
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

// recordKey names a record.
type recordKey struct{ module, id string }

func (k recordKey) less(o recordKey) bool {
	return k.module < o.module || (k.module == o.module && k.id < o.id)
}

// changesOf compares what is remembered of a record with what its fold says.
// No difference that a reader could see is no change.
// summary are lines about what belongs to an account.
//
// A record that moved to another account is a deletion and an addition, for to
// each of the two users it is no more than one of them.
func changesOf(r *record, summary []string, old *memory.Row, eventID int64, newID func() uuid.UUID) []memory.Change {
	wanted, ok := memoryOf(r, summary)
	switch {
	case !ok && old == nil:
		return nil
	case !ok:
		return told(memory.Change{Before: old, EventID: eventID})
	case old == nil:
		wanted.ID = newID()
		return told(memory.Change{After: wanted, EventID: eventID})
	case old.UserID != wanted.UserID:
		wanted.ID = newID()
		return told(memory.Change{Before: old, EventID: eventID}, memory.Change{After: wanted, EventID: eventID})
	case old.Checksum() == wanted.Checksum():
		return nil
	default:
		wanted.ID = old.ID
		return told(memory.Change{Before: old, After: wanted, EventID: eventID})
	}
}

func told(changes ...memory.Change) []memory.Change {
	for i := range changes {
		changes[i].Told = changes[i].Usual()
	}
	return changes
}

// memoryOf makes what is to be remembered of a record; false when it is gone or
// nothing is known of it.
func memoryOf(r *record, summary []string) (*memory.Row, bool) {
	if !r.there() {
		return nil, false
	}
	known := r.known()
	known.Summary = summary
	m, ok := memory.FromRecord(known)
	if !ok {
		return nil, false
	}
	return &memory.Row{
		UserID: m.UserID, Kind: m.Kind, Content: m.Content, Metadata: m.Metadata,
		AccountID: r.accountID, Module: r.module, RecordID: r.id,
	}, true
}

// known is the record as memory reads it.
func (r *record) known() memory.Record {
	known := memory.Record{Module: r.module, ID: r.id, AccountID: r.accountID, Fields: r.data}
	if !r.modifiedAt.IsZero() {
		known.ModifiedTime = r.modifiedAt.UTC().Format(time.RFC3339Nano)
	}
	return known
}
