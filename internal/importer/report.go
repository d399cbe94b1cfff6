package importer

import (
	"cmp"
	"slices"
)

// maxShown is how many elements are shown that could not be read; all are counted.
const maxShown = 100

// Report says what became of the elements of each key. Every element that was there is
// in one of the numbers.
type Report struct {
	DryRun bool  `json:"dry_run"`
	Keys   []Key `json:"keys"`
	// Stopped is that ctx ended first.
	Stopped bool `json:"stopped"`
	// Waits is that there is no room at present: what is stored is to be routed first.
	Waits bool `json:"-"`
}

// Key is one key of Redis. An element of several events counts as accepted when any of
// them is new.
type Key struct {
	Name string `json:"key"`
	Type string `json:"type"` // list, zset, or none where there is no such key

	Accepted  int64 `json:"accepted"`  // stored, to be worked
	Duplicate int64 `json:"duplicate"` // stored before
	Ignored   int64 `json:"ignored"`   // stored and not worked: of a module that nobody asked for
	Dead      int64 `json:"dead"`      // stored as dead letters
	Refused   int64 `json:"unreadable"`
	Left      int64 `json:"left"` // in Redis at the end, what is unreadable included
	// Vanished were taken out by somebody else after they had been stored here.
	Vanished int64 `json:"vanished"`

	Unreadable []Unreadable `json:"unreadable_elements"` // the first of them
	// ExpiresIn is in how many seconds Redis deletes the key with what is left in it; 0: it
	// does not.
	ExpiresIn int64 `json:"expires_in_seconds"`

	dead bool
}

// Unreadable is an element that was left in Redis.
type Unreadable struct {
	// Position is its index in the key, as LINDEX and ZRANGE count: -1 is the last.
	Position int64  `json:"position"`
	Reason   string `json:"reason"`
}

// Taken is how many elements are stored here by now.
func (k Key) Taken() int64 { return k.Accepted + k.Duplicate + k.Ignored + k.Dead }

// refusal is an element that stays in Redis.
type refusal struct {
	index  int // in its page
	reason string
}

// passOver notes those of a page of n elements that stay, and returns how many elements
// stand before the next page: all that were looked at when none is taken out.
func (k *Key) passOver(q queue, skip int64, refused []refusal, dryRun bool, n int) int64 {
	slices.SortFunc(refused, func(a, b refusal) int { return cmp.Compare(a.index, b.index) })
	for i, r := range refused {
		at := skip + int64(i)
		if dryRun {
			at = skip + int64(r.index)
		}
		if k.Refused++; len(k.Unreadable) < maxShown {
			k.Unreadable = append(k.Unreadable, Unreadable{Position: q.position(at), Reason: r.reason})
		}
	}
	if dryRun {
		return skip + int64(n)
	}
	return skip + int64(len(refused))
}
