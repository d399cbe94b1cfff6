package outbound

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// turn is one job's turn at the lane of an endpoint.
type turn struct {
	d       *Deliverer
	p       db.Endpoint // as it was when the turn began
	target  *target
	pace    endpoint.Pace
	ahead   time.Duration // of the database's clock before ours
	others  int           // requests of earlier turns that are under way
	waiting bool          // deliveries wait for others
	unready bool          // the endpoint could not be made ready
	here    bool          // it came without a way through the queue
	present *present      // what a relay of this process knows of it
	more    bool          // more may be due than there was room for

	inFlight int
	running  sync.WaitGroup // its requests
	done     chan ended
	over     atomic.Bool // nobody waits for its requests any more
}

// ended is what became of a request, to the turn that began it.
type ended struct {
	stop bool // the endpoint is to get no more for now
	err  error
}

func (d *Deliverer) newTurn(taken db.TakeEndpointRow) *turn {
	p := taken.Endpoint
	return &turn{
		d: d, p: p, pace: endpoint.NewPace(p.RateLimit, p.RateAt), ahead: taken.Now.Sub(d.now()),
		others: int(taken.Leased), waiting: taken.Waiting > 0, done: make(chan ended, p.MaxInFlight),
	}
}

// now is the database's time, by which rows say when something is due.
func (t *turn) now() time.Time { return t.d.now().Add(t.ahead) }

// take makes the endpoint ready and sends it what is due.
func (t *turn) take(ctx context.Context) error {
	if t.p.ResumeAt != nil && t.p.ResumeAt.After(t.now()) {
		return nil
	}
	var err error
	if t.target, err = t.d.targets.get(t.p); err != nil {
		t.d.log.ErrorContext(ctx, "nothing is sent to an endpoint whose secrets cannot be used", "endpoint", t.p.Name, "error", err)
		t.unready = true
		return nil
	}
	if err := t.release(ctx); err != nil {
		return err
	}
	return t.send(ctx)
}

// release lets what waits for others go where the order does not matter any more.
func (t *turn) release(ctx context.Context) error {
	if !t.waiting || orderKey(t.p.Ordered, t.p.BatchSize, "any") != "" {
		return nil
	}
	for n := int64(sliceRows); n == sliceRows; {
		var err error
		n, err = db.New(t.d.pool).ReleaseWaiting(ctx, db.ReleaseWaitingParams{EndpointID: t.p.ID, MaxDeliveries: sliceRows})
		if err != nil {
			return fmt.Errorf("release what waits: %w", err)
		}
	}
	return nil
}

// count looks how many requests of earlier turns are under way, here or elsewhere.
func (t *turn) count(ctx context.Context) error {
	leased, err := db.New(t.d.pool).CountLeased(ctx, t.p.ID)
	if err != nil {
		return fmt.Errorf("count requests under way: %w", err)
	}
	t.others = max(int(leased.Leased)-t.inFlight, 0)
	return nil
}

// send sends due deliveries side by side until none is due and all have ended, or
// its slice is over.
func (t *turn) send(ctx context.Context) error {
	end := time.NewTimer(t.d.slice)
	defer end.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	requests, cut := context.WithCancel(t.d.base)
	// Our own end cuts them off as long as the job waits for them.
	defer context.AfterFunc(ctx, cut)()
	idle := time.NewTimer(linger)
	defer idle.Stop()
	var failed error
	stop, handing, again := false, false, true
	finish := func(e ended) {
		t.inFlight--
		stop = stop || e.stop || e.err != nil
		again = again || t.looksAgain()
		failed = errors.Join(failed, e.err)
	}
	for {
		stop = stop || t.d.hushed()
		if !stop && again {
			begun, err := t.begin(ctx, requests)
			failed = errors.Join(failed, err)
			stop = err != nil || (begun && resting(t.p))
		}
		if t.present.stale.Load() && !handing { // what hangs shall not keep the next turn
			stop, handing = true, true
			end.Reset(handover)
		}
		if t.inFlight == 0 {
			if stop || !t.lingers() {
				cut()
				return failed
			}
			idle.Reset(linger)
		}
		again = false
		select {
		case e := <-t.done:
			finish(e)
		case <-t.present.nudged:
			again = true
		case <-tick.C:
			again = t.inFlight > 0
		case <-idle.C:
			stop = stop || t.inFlight == 0
		case <-end.C:
			if handing {
				t.over.Store(true)
				t.d.requests.Go(func() { t.running.Wait(); cut() })
				return failed
			}
			stop, handing = true, true
			end.Reset(handover)
		}
		// Outcomes are committed in groups, so they end together: make room together.
		for more := true; more; {
			select {
			case e := <-t.done:
				finish(e)
			default:
				more = false
			}
		}
	}
}

// looksAgain reports whether a request that has ended may have left something to lease
// that nobody tells of: what there was no room for, what waited for it, or what came by
// a relay elsewhere, which is looked for less often by a turn that is told of most.
func (t *turn) looksAgain() bool {
	return !t.here || t.more || t.p.Ordered || t.p.BatchSize > 1
}

// lingers reports whether a turn with nothing left to do waits for what comes next.
func (t *turn) lingers() bool {
	return t.here && !t.more && t.p.BatchSize == 1 && t.d.roomy()
}

// begin leases as many deliveries as there is room for and begins their requests.
func (t *turn) begin(ctx, requests context.Context) (bool, error) {
	if t.others > 0 {
		if err := t.count(ctx); err != nil {
			return false, err
		}
	}
	room := mostInFlight(t.p) - t.inFlight - t.others
	now := t.now()
	room = min(room, t.pace.Allows(now))
	if t.more = room <= 0; t.more {
		return false, nil
	}
	leases, err := t.lease(ctx, room)
	if err != nil {
		return false, err
	}
	t.more = len(leases) >= room
	if len(leases) == 0 && t.inFlight > 0 {
		if err := t.notice(ctx); err != nil {
			return false, err
		}
	}
	t.pace.Take(now, len(leases))
	for _, l := range leases {
		t.inFlight++
		t.running.Add(1)
		t.d.requests.Go(func() { defer t.running.Done(); t.deliver(requests, l) })
	}
	return len(leases) > 0, nil
}

// notice looks whether the endpoint has changed since it was taken: then nothing more is
// leased, and another turn goes on with it while these requests are under way.
func (t *turn) notice(ctx context.Context) error {
	p, err := db.New(t.d.pool).GetEndpoint(ctx, t.p.ID)
	if err != nil {
		return fmt.Errorf("look whether the endpoint has changed: %w", err)
	}
	if !p.UpdatedAt.Equal(t.p.UpdatedAt) {
		t.present.stale.Store(true)
	}
	return nil
}

// leased is a delivery that is to be attempted now, or a batch.
type leased struct {
	id       int64
	number   int32     // of the attempt
	webhook  uuid.UUID // webhook-id
	webhooks []told
	orderKey *string
	batch    bool
}

func (t *turn) lease(ctx context.Context, room int) ([]leased, error) {
	q := db.New(t.d.pool)
	var leases []leased
	if t.p.BatchSize > 1 {
		if err := t.d.gather(ctx, t.p, room); err != nil {
			return nil, err
		}
		rows, err := q.LeaseBatches(ctx, db.LeaseBatchesParams{EndpointID: t.p.ID, MaxDeliveries: int32(room), Lease: t.p.Timeout + recordTime, Process: t.d.process, AsOf: t.p.UpdatedAt})
		if err != nil {
			return nil, fmt.Errorf("lease batches: %w", err)
		}
		for _, r := range rows {
			leases = append(leases, leased{id: r.ID, number: r.Attempts, webhook: *r.BatchID, batch: true})
		}
	} else {
		rows, err := q.LeaseDeliveries(ctx, db.LeaseDeliveriesParams{EndpointID: t.p.ID, MaxDeliveries: int32(room), Lease: t.p.Timeout + recordTime, Process: t.d.process, AsOf: t.p.UpdatedAt})
		if err != nil {
			return nil, fmt.Errorf("lease deliveries: %w", err)
		}
		for _, r := range rows {
			l := leased{id: r.ID, number: r.Attempts, orderKey: r.OrderKey}
			if r.OutboxID != nil {
				l.webhook, l.webhooks = *r.OutboxID, []told{{*r.OutboxID, r.Payload}}
			} else { // it was made when the endpoint still gathered
				l.webhook, l.batch = *r.BatchID, true
			}
			leases = append(leases, l)
		}
	}
	slices.SortFunc(leases, func(a, b leased) int { return int(a.id - b.id) })
	return leases, fill(ctx, q, leases)
}

// fill loads what batches carry.
func fill(ctx context.Context, q *db.Queries, leases []leased) error {
	batches := map[uuid.UUID]int{}
	var ids []uuid.UUID
	for i, l := range leases {
		if l.batch {
			batches[l.webhook] = i
			ids = append(ids, l.webhook)
			leases[i].webhooks = nil
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := q.ListBatchPayloads(ctx, ids)
	if err != nil {
		return fmt.Errorf("list what batches carry: %w", err)
	}
	for _, row := range rows {
		l := &leases[batches[row.BatchID]]
		l.webhooks = append(l.webhooks, told{row.OutboxID, row.Payload})
	}
	return nil
}

// deliver makes one attempt and records its outcome. An attempt that our own end
// cut off is nobody's fault: the delivery is given back as it was.
func (t *turn) deliver(ctx context.Context, l leased) {
	o := t.attempt(ctx, l)
	t.d.log.InfoContext(ctx, "delivery attempted", "delivery_id", l.id, "webhook_id", l.webhook, "endpoint", t.p.Name, "webhooks", len(l.webhooks),
		"attempt", l.number, "status", o.StatusCode, "error_class", o.ErrorClass, "duration_ms", o.Total.Milliseconds())
	a := attempt{
		deliveryID: l.id, number: l.number, endpointID: t.p.ID, asOf: t.p.UpdatedAt, outcome: o, schedule: t.p.RetrySchedule, orderKey: l.orderKey,
		// An answer that came in the moment of our end is an answer all the same.
		interrupted: ctx.Err() != nil && o.StatusCode == 0,
	}
	if l.batch {
		a.batchID = &l.webhook
	}
	// The outcome is recorded even when all is being stopped: it is known.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	stop, err := t.d.outcomes.Do(ctx, a)
	if err != nil {
		err = fmt.Errorf("record attempt %d of delivery %d: %w", l.number, l.id, err)
	}
	t.done <- ended{stop: stop, err: err}
	if t.over.Load() {
		t.d.free(ctx, t.p.ID, err)
	}
}

// attempt makes one attempt. A panic is its failure: River catches those of a
// job, but not of a goroutine that the job has started, which would end the
// program, and the next one that tries this delivery.
func (t *turn) attempt(ctx context.Context, l leased) (o outcome) {
	began := t.d.now()
	failed := func(err string, v verdict, class string) outcome {
		return outcome{StartedAt: began, ErrorClass: class, Error: err, Verdict: v, Total: t.d.now().Sub(began)}
	}
	defer func() {
		if p := recover(); p != nil {
			t.d.log.ErrorContext(ctx, "panic in an attempt", "delivery_id", l.id, "panic", p, "stack", string(debug.Stack()))
			o = failed("panic in the attempt; the log has it", verdictRetry, ClassOther)
		}
	}()
	body, err := render(t.p.Form, l.batch, l.webhooks)
	if err != nil {
		return failed(err.Error(), verdictFinal, ClassRequest)
	}
	return t.d.poster.post(ctx, t.target.request(l.webhook.String(), body))
}

// free wakes the lane of an endpoint when a request has ended that no turn waits for:
// there is room for another one. In vain, the lane looks again when its leases end.
func (d *Deliverer) free(ctx context.Context, id uuid.UUID, failed error) {
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		p, err := q.LockEndpoint(ctx, id)
		if err != nil {
			return fmt.Errorf("lock endpoint: %w", err)
		}
		// There is room also for what has not come yet.
		if p.FullUntil != nil {
			if err := q.FreeEndpoint(ctx, id); err != nil {
				return fmt.Errorf("free endpoint: %w", err)
			}
			p.FullUntil = nil
		}
		due, ok, err := nextWork(ctx, q, p)
		if err != nil || !ok {
			return err
		}
		if p.DueAt != nil && !p.DueAt.After(endpoint.NotBefore(p, due)) {
			return nil // it comes to it by itself
		}
		return endpoint.WakeAll(ctx, tx, d.jobs, []endpoint.Lane{endpoint.NewLane(p, due)}, p.Now)
	})
	if err = errors.Join(failed, err); err != nil {
		d.log.WarnContext(ctx, "a request ended after its turn", "endpoint_id", id, "error", err)
	}
}

// close ends the job's claim on the lane: done is what it was taken for, and the
// next job is for when something is due again. A lane that names another job, or
// that a newer one closed, is left alone.
//
// A turn that was begun here is followed by one that is begun here.
func (t *turn) close(ctx context.Context, jobID int64) error {
	next := t.d.claim(t.p.ID)
	wake := lane.Wake{Args: job.DeliverEndpoint{EndpointID: t.p.ID}}
	if t.here {
		wake.Claim = &next.Claim
	}
	committed := false
	defer func() {
		if !committed { // also when it panicked
			next.drop()
		}
	}()
	if err := t.end(ctx, jobID, wake); err != nil {
		return err
	}
	committed = true
	next.begin()
	return nil
}

// end is the transaction of close.
func (t *turn) end(ctx context.Context, jobID int64, wake lane.Wake) error {
	return pgx.BeginFunc(ctx, t.d.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		p, err := q.LockEndpoint(ctx, t.p.ID)
		if err != nil {
			return fmt.Errorf("lock endpoint: %w", err)
		}
		if p.Done >= t.p.Wanted || p.JobID == nil || *p.JobID != jobID {
			return nil
		}
		if p.FullUntil, err = t.fullUntil(ctx, q, p); err != nil {
			return err
		}
		if sameLimit(p.RateLimit, t.p.RateLimit) {
			p.RateAt = t.pace.At() // else it counts anew
		}
		next := db.CloseEndpointParams{ID: p.ID, Wanted: p.Wanted, Done: t.p.Wanted, DueAt: p.DueAt, RateAt: p.RateAt, FullUntil: p.FullUntil, EndedJob: jobID}
		due, ok, err := nextWork(ctx, q, p)
		switch {
		case err != nil:
			return err
		case p.DeletedAt == nil && p.Status != endpoint.Active && !p.Probing:
			next.DueAt = nil
		case next.DueAt != nil && (!ok || !due.Before(*next.DueAt)):
			due = endpoint.NotBefore(p, *next.DueAt)
			next.DueAt = &due
		case ok:
			// Work that the lane leaves to itself is brought like any other.
			due = endpoint.NotBefore(p, due)
			next.DueAt, next.Wanted = &due, next.Wanted+1
		}
		if next.DueAt != nil {
			wake.Due = *next.DueAt
			ids, err := lane.Ensure(ctx, tx, t.d.jobs, p.Now, []lane.Wake{wake})
			if err != nil {
				return err
			}
			next.JobID = &ids[0]
		}
		if err := q.CloseEndpoint(ctx, next); err != nil {
			return fmt.Errorf("close endpoint: %w", err)
		}
		return nil
	})
}

// fullUntil returns when the first lease ends if as many requests are under way as may
// be; nil when there is room.
func (t *turn) fullUntil(ctx context.Context, q *db.Queries, p db.LockEndpointRow) (*time.Time, error) {
	if t.unready {
		until := p.Now.Add(unreadyTime)
		return &until, nil
	}
	if !t.over.Load() && t.others == 0 {
		return nil, nil
	}
	leased, err := q.CountLeased(ctx, p.ID)
	if err != nil {
		return nil, fmt.Errorf("count requests under way: %w", err)
	}
	now := db.Endpoint{MaxInFlight: p.MaxInFlight, Probing: p.Probing, ResumeAt: p.ResumeAt, Failures: p.Failures}
	if leased.Leased < int64(mostInFlight(now)) {
		return nil, nil
	}
	return &leased.FirstEnd, nil
}

// sameLimit reports whether two rate_limits are the same.
func sameLimit(a, b *float32) bool {
	return a == b || (a != nil && b != nil && *a == *b)
}

// nextWork returns when there is something to be done for an endpoint; ok is false
// when nothing is open, or when what is open is held.
func nextWork(ctx context.Context, q *db.Queries, p db.LockEndpointRow) (due time.Time, ok bool, err error) {
	switch {
	case p.DeletedAt != nil:
		// Still to be cancelled: the endpoint went while a job was sending, or another
		// transaction held the row. It will not for a second.
		_, err = q.NextDelivery(ctx, p.ID)
		due = p.Now.Add(time.Second)
	case p.Status != endpoint.Active && !p.Probing:
		return due, false, nil
	case p.BatchSize > 1:
		return dueBatch(ctx, q, p)
	default:
		due, err = q.NextDelivery(ctx, p.ID)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return due, false, nil
	}
	if err != nil {
		return due, false, fmt.Errorf("look for the next delivery: %w", err)
	}
	return due, true, nil
}
