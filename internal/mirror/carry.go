package mirror

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/memory"
)

// outcome is what became of one attempt.
type outcome struct {
	claim
	upTo   int64  // what the lane was taken for; 0: it was not
	userID string // the lane's
	err    error  // nil: the copy is what the memory was, or is gone as it is

	gone     bool   // the memory is
	remoteID string // of the copy as it is known now, "" for none
	checksum []byte // of what it holds; nil: nothing is known of it
	begun    bool   // a copy may have been made that remoteID does not name
	called   bool   // somebody was
	made     string // the copy that this attempt made; "": it made none
	changed  bool   // something there is another now
	// postponed is not 0 when nobody was called: for so long nobody is.
	postponed time.Duration
	// open is how long nobody is called from now on, because of this failure or of
	// others; 0: others go on.
	open time.Duration
}

// carry makes the copy what was taken. An error says that the job's context has
// ended: then nothing is known, and the next attempt takes the same again.
func (m *Mirror) carry(ctx context.Context, c claim, work taken) (outcome, error) {
	out := outcome{claim: c, upTo: work.upTo, userID: work.userID, gone: work.item == nil, remoteID: work.remoteID, checksum: work.checksum, begun: work.begun}
	if work.err != nil {
		out.err = work.err
		return out, nil
	}
	if work.same() {
		return out, nil
	}
	var open *breaker.OpenError
	if errors.As(m.breaker.Allow(ctx), &open) {
		out.postponed, out.err = open.Wait, open
		return out, nil
	}
	within, cancel := context.WithTimeout(ctx, m.o.CallTime)
	defer cancel()
	out.called = true
	m.call(within, work, &out)
	m.breaker.Report(ctx, out.err)
	if out.err != nil && ctx.Err() != nil {
		return out, ctx.Err()
	}
	if errors.As(m.breaker.Look(ctx), &open) && worlds(out.err) {
		out.open = open.Wait
	}
	return out, nil
}

// call calls the remote. A panic is a fault that nobody can classify.
func (m *Mirror) call(ctx context.Context, work taken, out *outcome) {
	defer func() {
		if p := recover(); p != nil {
			m.o.Log.ErrorContext(ctx, "panic in a call", "memory_id", out.memoryID, "panic", p, "stack", string(debug.Stack()))
			out.err = errors.New("panic in the call; the log has it")
		}
	}()
	if work.remoteID == "" && work.begun {
		user := work.userID
		if work.item != nil {
			user = work.item.UserID
		}
		found, err := m.remote.Find(ctx, user, out.memoryID)
		if err != nil {
			out.err = fmt.Errorf("find: %w", err)
			return
		}
		// Found or not, no Add of an earlier attempt is unaccounted for.
		out.remoteID, out.begun = found, false
	}
	if work.item == nil {
		m.remove(ctx, out)
		// What an update came to is not known: it may have given the copy another name, and
		// then nothing was under the old one.
		if out.err == nil && work.remoteID != "" && work.checksum == nil {
			m.removeRenamed(ctx, work, out)
		}
		return
	}
	if out.remoteID == "" {
		m.add(ctx, work, out)
		return
	}
	m.update(ctx, work, out)
}

func (m *Mirror) update(ctx context.Context, work taken, out *outcome) {
	held := out.checksum
	out.checksum = nil // what it holds is not known until there is an answer
	id, err := m.remote.Update(ctx, out.remoteID, *work.item)
	switch {
	case memory.RemoteKindOf(err) == memory.RemoteGone:
		// The next attempt makes it anew, and looks first: this one may have been told an
		// old name of a copy that is there.
		out.remoteID, out.begun = "", true
		out.err = fmt.Errorf("update: %w", err)
	case err != nil:
		out.err = fmt.Errorf("update: %w", err)
		if !sent(err) {
			out.checksum = held
		}
	default:
		if id != out.remoteID {
			out.made = id
		}
		out.remoteID, out.checksum, out.changed = id, work.sum, true
	}
}

func (m *Mirror) add(ctx context.Context, work taken, out *outcome) {
	out.begun = true
	id, err := m.remote.Add(ctx, *work.item)
	switch {
	case err != nil:
		out.err = fmt.Errorf("add: %w", err)
		out.begun = sent(err)
	case id == "":
		out.err = errors.New("add: the remote named no copy")
	default:
		out.remoteID, out.made, out.checksum, out.begun, out.changed = id, id, work.sum, false, true
	}
}

func (m *Mirror) remove(ctx context.Context, out *outcome) {
	if out.remoteID == "" {
		return
	}
	if err := m.remote.Delete(ctx, out.remoteID); err != nil && memory.RemoteKindOf(err) != memory.RemoteGone {
		out.err = fmt.Errorf("delete: %w", err)
		return
	}
	out.remoteID, out.checksum, out.changed = "", nil, true
}

// removeRenamed removes what still carries the memory's id.
func (m *Mirror) removeRenamed(ctx context.Context, work taken, out *outcome) {
	out.begun = true // until it is known, the lane must not end
	found, err := m.remote.Find(ctx, work.userID, out.memoryID)
	if err != nil {
		out.err = fmt.Errorf("find: %w", err)
		return
	}
	out.remoteID, out.begun = found, false
	m.remove(ctx, out)
}

// sent reports whether a call that failed may have had its effect.
func sent(err error) bool {
	var e *memory.RemoteError
	return !errors.As(err, &e) || e.Sent
}
