package mirror

import (
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

// next is a lane's row after an attempt. Zero times are none.
type next struct {
	remoteID     string
	adding       time.Time
	checksum     []byte
	done         int64
	due          time.Time
	failures     int32
	waits        int32
	failingSince time.Time
	triedAt      time.Time
	status       string
	lastError    string
	waitingSince time.Time
	syncedAt     time.Time
	ended        bool // memory and copy are gone, and so is the lane
}

// settle says what follows from an attempt for the lane. random returns numbers in
// [0, 1). giveUp says that a fault which nobody can classify has lasted for too long.
func settle(row db.LockMirrorsRow, out outcome, giveUp bool, random func() float64) next {
	n := before(row)
	if out.upTo > 0 {
		n.remoteID, n.checksum = out.remoteID, out.checksum
		switch {
		case !out.begun:
			n.adding = time.Time{}
		case n.adding.IsZero():
			n.adding = row.Now
		}
	}
	switch {
	case out.postponed > 0:
		n.due = later(n.due, row.Now.Add(out.postponed+spread(row.Waits, random)))
		n.lastError = reason(out.err)
	case out.err == nil:
		n.succeed(row, out)
	default:
		n.fail(row, out, giveUp, random)
	}
	return n
}

func before(row db.LockMirrorsRow) next {
	n := next{
		adding: orZero(row.AddingSince), checksum: row.Checksum, done: row.Done, due: orZero(row.DueAt), failures: row.Failures,
		waits: row.Waits, failingSince: orZero(row.FailingSince), triedAt: orZero(row.TriedAt), status: row.Status, lastError: row.LastError,
		waitingSince: orZero(row.WaitingSince), syncedAt: orZero(row.SyncedAt),
	}
	if row.RemoteID != nil {
		n.remoteID = *row.RemoteID
	}
	return n
}

func (n *next) succeed(row db.LockMirrorsRow, out outcome) {
	n.done, n.failures, n.waits, n.lastError, n.syncedAt = out.upTo, 0, 0, "", row.Now
	n.failingSince, n.triedAt = time.Time{}, time.Time{}
	if hasNewer(row, out) {
		n.bring(row)
		n.waitingSince = n.due
		// It may have been brought by an attempt that met this one: see makeGood.
		n.checksum = nil
		return
	}
	n.status, n.waitingSince, n.due = "synced", time.Time{}, time.Time{}
	n.ended = out.gone
}

// hasNewer reports whether the memory has changed since the lane was taken.
func hasNewer(row db.LockMirrorsRow, out outcome) bool {
	return row.DueAt != nil || row.Wanted > out.upTo
}

// bring makes the lane due for what has come meanwhile. Without a time another
// attempt of the same job has taken it, which will find that the lane is not its own
// any more.
func (n *next) bring(row db.LockMirrorsRow) {
	n.status = "pending"
	if n.due.IsZero() {
		n.due = row.Now
	}
}

func (n *next) fail(row db.LockMirrorsRow, out outcome, giveUp bool, random func() float64) {
	n.triedAt, n.lastError, n.status = row.Now, reason(out.err), "retrying"
	switch {
	case memory.RemoteKindOf(out.err) == memory.RemoteGone:
		n.waits++
		n.due = row.Now
		if row.Waits > 0 { // a system that names what it does not have
			n.due = row.Now.Add(backoff(n.waits, random))
		}
	case worlds(out.err):
		n.waits++
		if n.failingSince.IsZero() {
			n.failingSince = row.Now
		}
		if giveUp {
			n.die()
			return
		}
		wait := max(backoff(n.waits, random), retryAfter(out.err))
		if out.open > 0 {
			wait = out.open + spread(n.waits, random)
		}
		n.due = row.Now.Add(wait)
	case hasNewer(row, out):
		// What was refused is what the memory was.
		n.bring(row)
	default:
		n.failures++
		if n.failures >= mostRefusals {
			n.die()
			return
		}
		n.due = row.Now.Add(backoff(n.failures, random))
	}
}

// die gives the lane up until the memory changes or somebody asks for a resync.
func (n *next) die() { n.status, n.due = "dead", time.Time{} }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
