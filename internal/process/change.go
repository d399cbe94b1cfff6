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

// remembered is a row of memories.
type remembered struct {
	id        uuid.UUID
	accountID string
	memory    memory.Memory
	checksum  [32]byte
}

// change is what a sync does to the memory of one record: before nil is an
// addition, after nil a deletion. A record that moved to another account is both,
// for to each of the two users it is no more than one of them.
type change struct {
	key           recordKey
	before, after *remembered
	eventID       int64 // the newest event that had a part in it
}

// changesOf compares what is remembered of a record with what its fold says.
// No difference that a reader could see is no change.
// summary are lines about what belongs to an account.
func changesOf(r *record, summary []string, old *remembered, eventID int64, newID func() uuid.UUID) []change {
	key := recordKey{r.module, r.id}
	wanted, ok := memoryOf(r, summary)
	switch {
	case !ok && old == nil:
		return nil
	case !ok:
		return []change{{key: key, before: old, eventID: eventID}}
	case old == nil:
		wanted.id = newID()
		return []change{{key: key, after: wanted, eventID: eventID}}
	case old.memory.UserID != wanted.memory.UserID:
		wanted.id = newID()
		return []change{{key: key, before: old, eventID: eventID}, {key: key, after: wanted, eventID: eventID}}
	case old.checksum == wanted.checksum:
		return nil
	default:
		wanted.id = old.id
		return []change{{key: key, before: old, after: wanted, eventID: eventID}}
	}
}

// memoryOf makes what is to be remembered of a record; false when it is gone or
// nothing is known of it.
func memoryOf(r *record, summary []string) (*remembered, bool) {
	if !r.there() {
		return nil, false
	}
	known := r.known()
	known.Summary = summary
	m, ok := memory.FromRecord(known)
	if !ok {
		return nil, false
	}
	return &remembered{accountID: r.accountID, memory: m, checksum: m.Checksum()}, true
}

// known is the record as memory reads it.
func (r *record) known() memory.Record {
	known := memory.Record{Module: r.module, ID: r.id, AccountID: r.accountID, Fields: r.data}
	if !r.modifiedAt.IsZero() {
		known.ModifiedTime = r.modifiedAt.UTC().Format(time.RFC3339Nano)
	}
	return known
}

// told is the webhook that tells of a change.
func (c change) told() (event, userID string, data any) {
	switch {
	case c.before == nil:
		return memory.Added, c.after.memory.UserID, memory.AddedData{Result: c.after.snapshot()}
	case c.after == nil:
		return memory.Deleted, c.before.memory.UserID, memory.DeletedData{Result: c.before.snapshot()}
	default:
		return memory.Updated, c.after.memory.UserID, memory.UpdatedData{Before: c.before.snapshot(), After: c.after.snapshot()}
	}
}

func (r *remembered) snapshot() memory.Snapshot {
	return memory.Snapshot{ID: r.id, Content: r.memory.Content, Metadata: r.memory.Metadata}
}
