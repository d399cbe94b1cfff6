package outbound

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
)

// attempt is one attempt whose outcome is known.
type attempt struct {
	deliveryID  int64
	number      int32
	endpointID  uuid.UUID
	asOf        time.Time // updated_at of the endpoint that was sent to
	outcome     outcome
	schedule    []time.Duration
	orderKey    *string    // others wait for it
	batchID     *uuid.UUID // it carries that batch
	interrupted bool       // by our own end: the delivery is given back uncounted
}

// recorder writes outcomes.
type recorder struct {
	jobs   lane.Inserter
	teller *memory.Teller
	counts *counter.Set
	policy Policy
	random func() float64 // in [0,1)
}

// record is the transaction of a group of outcomes: lock, load, apply, write, count.
// Each is answered whether its lane is to stop and look at its row. Where all has
// arrived as usual there is less to do.
func (r *recorder) record(ctx context.Context, tx pgx.Tx, slot int, units []attempt) ([]group.Answer[bool], error) {
	q := db.New(tx)
	arrived, done, err := recordArrived(ctx, q, units)
	switch {
	case err != nil:
		return nil, err
	case done:
		return make([]group.Answer[bool], len(units)), r.counts.Add(ctx, tx, counter.RecordSlots+slot, counter.Changes{counter.Delivered: arrived})
	}
	endpoints, err := r.lockEndpoints(ctx, q, units)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(units))
	for i, u := range units {
		ids[i] = u.deliveryID
	}
	rows, err := q.LockDeliveries(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("lock deliveries: %w", err)
	}
	deliveries := make(map[int64]*deliveryState, len(rows))
	for _, row := range rows {
		deliveries[row.ID] = &deliveryState{status: row.Status, attempts: row.Attempts, failures: int(row.Failures), lastError: row.LastError}
	}
	changes := counter.Changes{}
	answers := make([]group.Answer[bool], len(units))
	for i, u := range units {
		if h, ok := endpoints[u.endpointID]; ok && !u.interrupted {
			// What one met that a person has changed or resumed since says nothing of it.
			anew := !h.row.UpdatedAt.Equal(u.asOf)
			if !anew {
				h.apply(u.outcome, h.now, r.policy, r.random)
			}
			answers[i].Value = anew || h.stops()
		}
		if d, ok := deliveries[u.deliveryID]; ok {
			if counted := d.apply(u, r.random); u.batchID == nil || counted == counter.DeliveryRetries {
				changes[counted]++
			}
		}
	}
	delete(changes, "")
	if err := writeOutcomes(ctx, q, units, deliveries); err != nil {
		return nil, err
	}
	if err := finishBatches(ctx, q, units, deliveries, changes); err != nil {
		return nil, err
	}
	if err := promote(ctx, q, units, deliveries); err != nil {
		return nil, err
	}
	if err := r.writeEndpoints(ctx, tx, endpoints); err != nil {
		return nil, err
	}
	if err := r.counts.Add(ctx, tx, counter.RecordSlots+slot, changes); err != nil {
		return nil, err
	}
	return answers, nil
}

// endpointState is a locked row of endpoints.
type endpointState struct {
	*health
	row db.LockEndpointHealthRow
	now time.Time
}

// lockEndpoints locks those endpoints that the outcomes say something new of, and those
// that are ordered, for which the relay must not add to what waits in the meantime. Of
// an endpoint that is well and goes on being it no row is locked nor written.
func (r *recorder) lockEndpoints(ctx context.Context, q *db.Queries, units []attempt) (map[uuid.UUID]*endpointState, error) {
	failed := map[uuid.UUID]bool{}
	var ids []uuid.UUID
	for _, u := range units {
		if _, seen := failed[u.endpointID]; !seen {
			ids = append(ids, u.endpointID)
		}
		failed[u.endpointID] = failed[u.endpointID] || u.outcome.Verdict != verdictDelivered || u.orderKey != nil
	}
	known, err := q.ListEndpointHealth(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("list how endpoints are: %w", err)
	}
	var lock []uuid.UUID
	for _, p := range known {
		if failed[p.ID] || p.Resting || p.Status != endpoint.Active {
			lock = append(lock, p.ID)
		}
	}
	if len(lock) == 0 {
		return nil, nil
	}
	rows, err := q.LockEndpointHealth(ctx, lock)
	if err != nil {
		return nil, fmt.Errorf("lock endpoints: %w", err)
	}
	states := make(map[uuid.UUID]*endpointState, len(rows))
	for _, row := range rows {
		states[row.ID] = &endpointState{health: healthOf(row), row: row, now: row.Now}
	}
	return states, nil
}

// writeEndpoints writes how endpoints are now, tells operators, and lets what waits
// for one that has recovered go at once.
func (r *recorder) writeEndpoints(ctx context.Context, tx pgx.Tx, endpoints map[uuid.UUID]*endpointState) error {
	q := db.New(tx)
	ids := slices.SortedFunc(maps.Keys(endpoints), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	var told []memory.Announcement
	var woken []uuid.UUID
	for _, id := range ids {
		h := endpoints[id]
		if !h.changed {
			continue
		}
		err := q.UpdateEndpointHealth(ctx, db.UpdateEndpointHealthParams{
			ID: id, Status: h.status, StatusReason: h.reason, FailingSince: h.failingSince, Failures: int32(h.failures),
			WarnedAt: h.warnedAt, ResumeAt: h.resumeAt, Probing: h.probing,
		})
		if err != nil {
			return fmt.Errorf("write how endpoint %s is: %w", id, err)
		}
		for _, event := range h.told {
			told = append(told, memory.Announcement{Event: event, UserID: memory.SystemUser, Data: h.data(event)})
		}
		if h.recovered {
			if err := q.PullDeliveriesForward(ctx, db.PullDeliveriesForwardParams{EndpointID: id, MaxDeliveries: pulledRows}); err != nil {
				return fmt.Errorf("pull deliveries forward: %w", err)
			}
		}
		if h.recovered || h.probing {
			woken = append(woken, id)
		}
	}
	if _, err := r.teller.Tell(ctx, tx, told); err != nil {
		return err
	}
	for _, id := range woken {
		if err := endpoint.Wake(ctx, tx, r.jobs, id); err != nil {
			return err
		}
	}
	return nil
}

// data is what operators are told of an endpoint.
func (e *endpointState) data(event string) memory.EndpointData {
	d := memory.EndpointData{EndpointID: e.row.ID, Name: e.row.Name, Reason: e.reason, Failures: int64(e.failures), FailingSince: e.failingSince}
	if event == memory.EndpointRecovered {
		d.Failures, d.FailingSince = int64(e.row.Failures), e.row.FailingSince
	}
	if d.Reason == "" {
		d.Reason = e.lastError
	}
	return d
}

// finishBatches gives what batches carry the end that those have had, and counts it.
func finishBatches(ctx context.Context, q *db.Queries, units []attempt, deliveries map[int64]*deliveryState, changes counter.Changes) error {
	var p db.FinishBatchesParams
	for _, u := range units {
		if d, ok := deliveries[u.deliveryID]; ok && u.batchID != nil && d.changed && !d.open() {
			p.BatchIds = append(p.BatchIds, *u.batchID)
			p.Statuses = append(p.Statuses, d.status)
			p.LastErrors = append(p.LastErrors, d.lastError)
		}
	}
	if len(p.BatchIds) == 0 {
		return nil
	}
	finished, err := q.FinishBatches(ctx, p)
	if err != nil {
		return fmt.Errorf("finish batches: %w", err)
	}
	for _, f := range finished {
		switch f.Status {
		case "delivered":
			changes[counter.Delivered] += f.Members
		case "dead":
			changes[counter.DeliveriesDied] += f.Members
		}
	}
	return nil
}

// promote lets the next of those go that waited for what has ended.
func promote(ctx context.Context, q *db.Queries, units []attempt, deliveries map[int64]*deliveryState) error {
	var p db.PromoteWaitingParams
	for _, u := range units {
		if d, ok := deliveries[u.deliveryID]; ok && u.orderKey != nil && d.changed && !d.open() {
			p.EndpointIds = append(p.EndpointIds, u.endpointID)
			p.OrderKeys = append(p.OrderKeys, *u.orderKey)
		}
	}
	if len(p.EndpointIds) == 0 {
		return nil
	}
	if err := q.PromoteWaiting(ctx, p); err != nil {
		return fmt.Errorf("let the next ones go: %w", err)
	}
	return nil
}

// deliveryState is a locked row of deliveries.
type deliveryState struct {
	status    string
	attempts  int32
	failures  int
	lastError string
	delay     time.Duration
	changed   bool
}

func (d *deliveryState) open() bool { return d.status == "pending" || d.status == "retrying" }

// apply settles what an outcome does to its delivery, and returns what is to be
// counted. What has arrived has arrived, however late we learn of it; a failure
// counts only when no later attempt has begun, for that one decides.
func (d *deliveryState) apply(u attempt, random func() float64) counter.Name {
	latest := d.attempts == u.number
	switch {
	case !d.open():
		return ""
	case u.outcome.Verdict == verdictDelivered:
		d.status, d.lastError, d.changed = "delivered", "", true
		return counter.Delivered
	case !latest:
		return ""
	case u.interrupted:
		d.delay, d.changed = 0, true
		return ""
	}
	d.failures++
	d.lastError, d.changed = u.outcome.Error, true
	wait, again := backoff(u.schedule, d.failures, random)
	if u.outcome.Verdict != verdictRetry || !again {
		d.status = "dead"
		return counter.DeliveriesDied
	}
	d.status = "retrying"
	d.delay = max(wait, u.outcome.RetryAfter)
	return counter.DeliveryRetries
}

func writeOutcomes(ctx context.Context, q *db.Queries, units []attempt, deliveries map[int64]*deliveryState) error {
	var attempts db.InsertDeliveryAttemptsParams
	var updates db.UpdateDeliveriesParams
	updated := map[int64]bool{}
	for _, u := range units {
		d, ok := deliveries[u.deliveryID]
		if !ok {
			continue // deleted by retention while it was under way
		}
		if !u.interrupted {
			appendAttempt(&attempts, u)
		}
		if d.changed && !updated[u.deliveryID] {
			updated[u.deliveryID] = true
			updates.Ids = append(updates.Ids, u.deliveryID)
			updates.Statuses = append(updates.Statuses, d.status)
			updates.Failures = append(updates.Failures, int32(d.failures))
			updates.LastErrors = append(updates.LastErrors, d.lastError)
			updates.DelaysMs = append(updates.DelaysMs, d.delay.Milliseconds())
		}
	}
	if len(updates.Ids) > 0 {
		if err := q.UpdateDeliveries(ctx, updates); err != nil {
			return fmt.Errorf("update deliveries: %w", err)
		}
	}
	if len(attempts.DeliveryIds) > 0 {
		if err := q.InsertDeliveryAttempts(ctx, attempts); err != nil {
			return fmt.Errorf("insert delivery attempts: %w", err)
		}
	}
	return nil
}

func appendAttempt(p *db.InsertDeliveryAttemptsParams, u attempt) {
	o := u.outcome
	p.DeliveryIds = append(p.DeliveryIds, u.deliveryID)
	p.Numbers = append(p.Numbers, u.number)
	p.StartedAt = append(p.StartedAt, o.StartedAt)
	p.StatusCodes = append(p.StatusCodes, int32(o.StatusCode))
	p.ErrorClasses = append(p.ErrorClasses, o.ErrorClass)
	p.Errors = append(p.Errors, o.Error)
	p.DNSUs = append(p.DNSUs, o.DNS.Microseconds())
	p.ConnectUs = append(p.ConnectUs, o.Connect.Microseconds())
	p.TLSUs = append(p.TLSUs, o.TLS.Microseconds())
	p.FirstByteUs = append(p.FirstByteUs, o.FirstByte.Microseconds())
	p.TotalUs = append(p.TotalUs, o.Total.Microseconds())
	p.ResponseHeads = append(p.ResponseHeads, o.ResponseHead)
}
