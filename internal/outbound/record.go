package outbound

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
)

// attempt is one attempt whose outcome is known.
type attempt struct {
	deliveryID  int64
	number      int32
	endpointID  uuid.UUID
	outcome     outcome
	maxAttempts int
	retryDelay  time.Duration
	interrupted bool // by our own end: the delivery is given back uncounted
}

// recorder writes outcomes.
type recorder struct {
	counts *counter.Set
	random func() float64 // in [0,1)
}

// record is the transaction of a group of outcomes: lock, load, apply, write, count.
func (r *recorder) record(ctx context.Context, tx pgx.Tx, slot int, units []attempt) ([]group.Answer[struct{}], error) {
	q := db.New(tx)
	if err := disableGone(ctx, q, units); err != nil {
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
	for _, u := range units {
		if d, ok := deliveries[u.deliveryID]; ok {
			changes[d.apply(u, r.random)]++
		}
	}
	delete(changes, "")
	if err := writeOutcomes(ctx, q, units, deliveries); err != nil {
		return nil, err
	}
	if err := r.counts.Add(ctx, tx, counter.RecordSlots+slot, changes); err != nil {
		return nil, err
	}
	return make([]group.Answer[struct{}], len(units)), nil
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
	if u.outcome.Verdict != verdictRetry || d.failures >= u.maxAttempts {
		d.status = "dead"
		return counter.DeliveriesDied
	}
	d.status = "retrying"
	d.delay = max(backoff(u.retryDelay, d.failures, random), u.outcome.RetryAfter)
	return counter.DeliveryRetries
}

// disableGone stops sending to endpoints that answered 410: they want no more.
func disableGone(ctx context.Context, q *db.Queries, units []attempt) error {
	gone := map[uuid.UUID]bool{}
	for _, u := range units {
		if u.outcome.Verdict == verdictGone {
			gone[u.endpointID] = true
		}
	}
	ids := make([]uuid.UUID, 0, len(gone))
	for id := range gone {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
	for _, id := range ids {
		if err := q.DisableEndpoint(ctx, db.DisableEndpointParams{ID: id, Reason: "answered 410 Gone"}); err != nil {
			return fmt.Errorf("disable endpoint %s: %w", id, err)
		}
	}
	return nil
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
