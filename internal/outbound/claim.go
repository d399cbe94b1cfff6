package outbound

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// maxTurns is how many turns are begun in this process without a way through the
// queue at one time. Beyond it they go the usual way, which spreads them over nodes.
const maxTurns = 64

// claim is a turn that may be begun here, once the transaction is committed that the
// lane was woken in.
type claim struct {
	lane.Claim
	d          *Deliverer
	endpointID uuid.UUID
	reserved   bool
}

func (d *Deliverer) claim(endpointID uuid.UUID) *claim {
	c := &claim{d: d, endpointID: endpointID}
	c.Claim = lane.Claim{Process: d.process, Ready: func() bool {
		c.reserved = d.reserve()
		return c.reserved
	}}
	return c
}

// begin takes the turn if its job was claimed.
func (c *claim) begin() {
	if c.JobID == 0 {
		c.drop()
		return
	}
	go func() {
		defer c.drop()
		ctx, cancel := context.WithTimeout(c.d.base, c.d.Timeout(nil))
		defer cancel()
		if err := c.work(ctx); err != nil {
			c.d.giveBack(context.WithoutCancel(ctx), c.JobID)
		}
	}()
}

// work takes the turn. A panic is an error of it: nobody catches it here as the queue
// does for jobs.
func (c *claim) work(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a turn: %v", p)
			c.d.log.ErrorContext(ctx, "panic in a turn", "endpoint_id", c.endpointID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return c.d.work(ctx, &river.Job[job.DeliverEndpoint]{
		JobRow: &rivertype.JobRow{ID: c.JobID, Attempt: 1}, Args: job.DeliverEndpoint{EndpointID: c.endpointID},
	}, true)
}

// giveBack has the queue go on with a job that could not be ended here. In vain, it is
// rescued as one whose worker is gone.
func (d *Deliverer) giveBack(ctx context.Context, jobID int64) {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	if err := db.New(d.pool).ReturnJob(ctx, db.ReturnJobParams{ID: jobID, Process: d.process.String()}); err != nil {
		d.log.WarnContext(ctx, "a job waits to be rescued", "job_id", jobID, "error", err)
	}
}

// drop gives the room back that was kept for it.
func (c *claim) drop() {
	if c.reserved {
		c.reserved = false
		c.d.release()
	}
}

// Hold has the queue hand out all turns while held says so: it is paused. To be called
// before the first job is worked.
func (d *Deliverer) Hold(held func() bool) { d.held = held }

// reserve keeps room for a turn; false when there is none, or when all is being stopped.
func (d *Deliverer) reserve() bool {
	if d.held() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping || d.turns == maxTurns {
		return false
	}
	d.turns++
	d.requests.Add(1)
	return true
}

func (d *Deliverer) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turns--
	d.requests.Done()
}
