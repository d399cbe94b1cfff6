package outbound

import (
	"sync/atomic"
	"time"

	"github.com/memrelay/memrelay/db"
)

// linger is how long a turn that was begun here stays when all is sent, for what comes
// next: a lane that is closed and opened again costs six statements more. It is also
// what another node's webhook may have to wait that is relayed meanwhile.
const linger = 25 * time.Millisecond

// present is a turn in this process, to a relay in it.
type present struct {
	asOf   time.Time     // updated_at of the endpoint that was taken; set before taken
	taken  atomic.Bool   // the turn will look at the deliveries again under the lock, before it ends
	stale  atomic.Bool   // the endpoint has changed: another turn goes on with it
	nudged chan struct{} // there is something new
}

// enter notes that a turn of that job is at work here; the returned function ends that.
func (d *Deliverer) enter(jobID int64) (p *present, leave func()) {
	p = &present{nudged: make(chan struct{}, 1)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.present[jobID] = p
	return p, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.present[jobID] == p {
			delete(d.present, jobID)
		}
	}
}

// meet returns the turn here that has the lane of a locked endpoint; nil when none has.
func (d *Deliverer) meet(jobID *int64) *present {
	if jobID == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.present[*jobID]
}

// roomy reports whether turns need not make room for others: those begun here are few,
// and nothing is being stopped.
func (d *Deliverer) roomy() bool {
	if d.held() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.stopping && d.turns <= maxTurns/2
}

// take notes which endpoint the turn has taken.
func (p *present) take(e db.Endpoint) {
	p.asOf = e.UpdatedAt
	p.taken.Store(true)
}

// sees reports whether the turn sends by itself what is made for the endpoint as it is
// in a transaction that has locked it. When not, its lane is to be woken.
//
// The turn closes its lane under the same lock, and looks then: it cannot miss anything.
// When it ends otherwise its job runs again, here or where it is rescued to.
func (p *present) sees(e db.LockEndpointsRow) bool {
	return p.taken.Load() && e.BatchSize == 1
}

// nudge says that there is something new, after the commit. It does not block.
func (p *present) nudge(updatedAt time.Time) {
	if p.taken.Load() && !p.asOf.Equal(updatedAt) {
		p.stale.Store(true)
	}
	select {
	case p.nudged <- struct{}{}:
	default: // it is about to look anyway
	}
}
