package inbound

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
)

// The status of one event in an answer, and of the whole body.
const (
	StatusAccepted  = "accepted"  // stored, with a job
	StatusDuplicate = "duplicate" // stored before
	StatusIgnored   = "ignored"   // stored without a job: of a module, or a product, that nobody asked for
	StatusLogged    = "logged"    // stored without a job: to be on record is all that is wanted
)

// recordKey names the record that an event is about.
type recordKey struct{ module, id string }

// newest is what is stored of a record: its newest event, and the newest one
// that came with another body than that.
type newest struct {
	eventID string
	digest  [32]byte
	other   string // its event id, "" when there is none
}

// before returns the id of the newest stored event that came with a body other
// than digest.
func (n newest) before(digest [32]byte) string {
	if n.eventID != "" && n.digest != digest {
		return n.eventID
	}
	return n.other
}

// with returns what is stored once the event is, too.
func (n newest) with(eventID string, digest [32]byte) newest {
	return newest{eventID: eventID, digest: digest, other: n.before(digest)}
}

// stored is what the database knows of the events of a group.
type stored struct {
	digests map[string][32]byte // of the bodies, by event id
	newest  map[recordKey]newest
}

func (s stored) clone() stored {
	return stored{digests: maps.Clone(s.digests), newest: maps.Clone(s.newest)}
}

// planned is one event of a group and what becomes of it.
type planned struct {
	delivery int // position in the group
	event    int // position in the delivery
	eventID  string
	status   string
	reused   bool // its id belonged to another body
}

// plan decides, in order of arrival, for each event of a group whether it is a
// repeat. Each sees those before it, so that A, B, A of one record are three
// events even when they arrive together. It changes what it is given.
func plan(group []Delivery, s stored, modules map[string]bool) []planned {
	var all []planned
	for i, d := range group {
		times := occurrences(d.Events)
		for j, p := range d.Events {
			e := planned{delivery: i, event: j}
			key := recordKey{p.Module, p.RecordID}
			id := ""
			if d.HeaderIDs != nil {
				id = d.HeaderIDs[j]
			} else {
				// Other events of this body have its digest: they are not before it.
				id = derivedID(d.Notification, p, d.Digest, s.newest[key].before(d.Digest), times[j])
			}
			e.eventID, e.status, e.reused = s.judge(id, d.Digest)
			if e.status == "" {
				e.status = d.fresh(modules[p.Module])
				s.digests[e.eventID] = d.Digest
				s.newest[key] = s.newest[key].with(e.eventID, d.Digest)
			}
			all = append(all, e)
		}
	}
	return all
}

// fresh is what becomes of an event that is no repeat. asked is that somebody asked
// for its module.
func (d Delivery) fresh(asked bool) string {
	switch {
	case d.Logged:
		return StatusLogged
	case d.AnyModule, asked && !d.Unworked:
		return StatusAccepted
	default:
		return StatusIgnored
	}
}

// judge says under which id an event is stored, and "duplicate" when it is
// already. An id whose event has another body is no proof of a repeat: the
// header is outside of the signature, and answering "duplicate" would lose a change.
func (s stored) judge(id string, digest [32]byte) (eventID, status string, reused bool) {
	known, ok := s.digests[id]
	if !ok {
		return id, "", false
	}
	if known == digest {
		return id, StatusDuplicate, false
	}
	id = reusedID(id, digest)
	if _, ok := s.digests[id]; ok {
		return id, StatusDuplicate, true
	}
	return id, "", true
}

// timeless are the records of a group whose events neither have an id of their
// sender nor a time: their ids depend on what came before.
func timeless(group []Delivery) []recordKey {
	seen := map[recordKey]bool{}
	for _, d := range group {
		if d.HeaderIDs != nil {
			continue
		}
		for _, p := range d.Events {
			if p.OccurredAt.IsZero() {
				seen[recordKey{p.Module, p.RecordID}] = true
			}
		}
	}
	keys := make([]recordKey, 0, len(seen))
	for k := range seen {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b recordKey) int {
		return cmp.Or(cmp.Compare(a.module, b.module), cmp.Compare(a.id, b.id))
	})
	return keys
}

// lockKey is the advisory lock under which the events of a record get their ids.
func lockKey(source string, k recordKey) int64 {
	sum := fnv.New64a()
	for _, part := range []string{"memrelay event", source, k.module, k.id} {
		sum.Write(append([]byte(part), 0))
	}
	return int64(sum.Sum64())
}

// candidates are the ids whose presence decides about the plan.
func candidates(group []Delivery, p []planned) []string {
	ids := make([]string, 0, 2*len(p))
	for _, e := range p {
		ids = append(ids, e.eventID, reusedID(e.eventID, group[e.delivery].Digest))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// answer gathers what became of one delivery's events.
func answer(all []planned, delivery int) []EventStatus {
	var events []EventStatus
	for _, e := range all {
		if e.delivery == delivery {
			events = append(events, EventStatus{EventID: e.eventID, Status: e.status})
		}
	}
	return events
}
