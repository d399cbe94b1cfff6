package outbound

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

const (
	// relayRows is how many webhooks one transaction relays: enough to share the
	// commit, few enough to hold the endpoints' rows only briefly.
	relayRows = 500
	// relayBytes is how much their payloads hold at most, unless a single one is larger:
	// filters read them meanwhile, which takes a tenth of a second for a MiB of the worst.
	relayBytes = 8 << 20
)

// Relayer works Relay jobs: webhooks of the outbox become deliveries. In the process
// that has written them it does so at once, by Run and Nudge: the job is what sees to
// it that somebody does.
type Relayer struct {
	river.WorkerDefaults[job.Relay]
	pool      *pgxpool.Pool
	jobs      lane.Inserter
	deliverer *Deliverer
	log       *slog.Logger
	nudged    chan struct{}
}

// NewRelayer makes a Relayer. The turns of lanes that it wakes are begun by d in this
// process, as far as it has room; nil leaves all of them to the queue.
func NewRelayer(pool *pgxpool.Pool, jobs lane.Inserter, d *Deliverer, log *slog.Logger) *Relayer {
	return &Relayer{pool: pool, jobs: jobs, deliverer: d, log: log, nudged: make(chan struct{}, 1)}
}

// Nudge says that webhooks have been committed. It does not block.
func (r *Relayer) Nudge() {
	select {
	case r.nudged <- struct{}{}:
	default: // it is about to look anyway
	}
}

// Run relays whenever it is nudged, until ctx ends.
func (r *Relayer) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.nudged:
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = r.nudge(ctx); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "relaying is left to its job", "error", err)
			}
		}
	}
}

// nudge relays without a job. A panic is an error of it: nobody catches it here as the
// queue does for jobs.
func (r *Relayer) nudge(ctx context.Context) (more bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			more, err = false, fmt.Errorf("panic in a relay: %v\n%s", p, debug.Stack())
		}
	}()
	return r.relay(ctx, 0)
}

// Work relays whatever waits, whichever job it came with. It finds nothing when
// another one was here before, which is no error.
func (r *Relayer) Work(ctx context.Context, j *river.Job[job.Relay]) error {
	for {
		more, err := r.relay(ctx, j.ID)
		if err != nil {
			// There is no fault of a webhook here that could be told from the
			// database's: nothing is counted, and the outbox waits.
			return endOf(ctx, r.log, err)
		}
		if !more {
			return nil
		}
	}
}

// NextRetry is when a job runs again that was taken from its worker.
func (r *Relayer) NextRetry(*river.Job[job.Relay]) time.Time { return time.Now().Add(time.Second) }

// relay is the transaction: one relay at a time, in the order of seq. It reports
// whether there may be more to relay; when not, the job is complete, and so are those
// that wait to do the same.
func (r *Relayer) relay(ctx context.Context, jobID int64) (more bool, err error) {
	var claims []*claim
	committed := false
	defer func() {
		for _, c := range claims { // also of what panicked
			if committed {
				c.begin()
			} else {
				c.drop()
			}
		}
	}()
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.LockRelay(ctx); err != nil {
			return fmt.Errorf("lock the relay: %w", err)
		}
		waiting, err := q.LockRelayJobs(ctx)
		if err != nil {
			return fmt.Errorf("lock the jobs of relays: %w", err)
		}
		rows, err := q.ListOutboxToRelay(ctx, relayRows)
		if err != nil {
			return fmt.Errorf("list outbox to relay: %w", err)
		}
		n := inOne(rows)
		more = n < len(rows) || n == relayRows
		if rows = rows[:n]; n > 0 {
			if err := r.deliver(ctx, tx, rows, &claims); err != nil {
				return err
			}
		}
		if more {
			return nil
		}
		if len(waiting) > 0 {
			if err := q.EndJobs(ctx, waiting); err != nil {
				return fmt.Errorf("end the jobs of relays: %w", err)
			}
		}
		if jobID == 0 {
			return nil // nobody's: it was nudged
		}
		if err := q.CompleteJobs(ctx, []int64{jobID}); err != nil {
			return fmt.Errorf("complete job: %w", err)
		}
		return nil
	})
	committed = err == nil
	return more && committed, err
}

// inOne returns how many webhooks are relayed in one transaction.
func inOne(rows []db.ListOutboxToRelayRow) int {
	size := 0
	for i, row := range rows {
		if size += int(row.Size); size > relayBytes && i > 0 {
			return i
		}
	}
	return len(rows)
}

// deliver makes the deliveries of webhooks and wakes the lanes of the endpoints
// that can be sent to. The deliveries of one that is paused or disabled are held.
func (r *Relayer) deliver(ctx context.Context, tx pgx.Tx, webhooks []db.ListOutboxToRelayRow, claims *[]*claim) error {
	q := db.New(tx)
	rows, err := q.LockEndpoints(ctx)
	if err != nil {
		return fmt.Errorf("lock endpoints: %w", err)
	}
	ids := make([]uuid.UUID, len(webhooks))
	for i, w := range webhooks {
		ids[i] = w.ID
	}
	audiences, payloads, err := r.audiences(ctx, q, rows, ids)
	if err != nil {
		return err
	}
	var deliveries db.InsertDeliveriesParams
	wanting := map[uuid.UUID]bool{}
	for _, w := range webhooks {
		data := sync.OnceValues(func() (any, bool) { return endpoint.ReadData(payloads[w.ID]) })
		for i, p := range rows {
			if !audiences[i].Wants(w.Event, w.UserID, data) {
				continue
			}
			deliveries.OutboxIds = append(deliveries.OutboxIds, w.ID)
			deliveries.EndpointIds = append(deliveries.EndpointIds, p.ID)
			deliveries.OrderKeys = append(deliveries.OrderKeys, orderKey(p.Ordered, p.BatchSize, w.UserID))
		}
	}
	if len(deliveries.OutboxIds) > 0 {
		begun, err := q.InsertDeliveries(ctx, deliveries)
		if err != nil {
			return fmt.Errorf("insert deliveries: %w", err)
		}
		// Those that wait for others of their user are let go by whoever records these.
		for _, id := range begun {
			wanting[id] = true
		}
	}
	if err := q.MarkOutboxRelayed(ctx, ids); err != nil {
		return fmt.Errorf("mark outbox relayed: %w", err)
	}
	return r.wake(ctx, tx, rows, wanting, claims)
}

// audiences are what the endpoints want to be told of, and the payloads of the
// webhooks if one of them looks into those.
func (r *Relayer) audiences(ctx context.Context, q *db.Queries, rows []db.LockEndpointsRow, ids []uuid.UUID) ([]endpoint.Audience, map[uuid.UUID][]byte, error) {
	all := make([]endpoint.Audience, len(rows))
	payloads := map[uuid.UUID][]byte{}
	filtered := false
	for i, p := range rows {
		var err error
		if all[i], err = endpoint.NewAudience(p.Events, p.UserIds, p.Filter); err != nil {
			// A filter that was changed by hand, or by a later version. What it would let
			// pass is not known: all is kept for whoever mends it, and nothing is sent.
			r.log.ErrorContext(ctx, "endpoint disabled: its filter cannot be read", "endpoint", p.Name, "error", err)
			if err := q.DisableEndpoint(ctx, db.DisableEndpointParams{ID: p.ID, Reason: "its filter cannot be read: " + err.Error()}); err != nil {
				return nil, nil, fmt.Errorf("disable endpoint %s: %w", p.ID, err)
			}
			rows[i].Status = endpoint.Disabled
			if all[i], err = endpoint.NewAudience(p.Events, p.UserIds, nil); err != nil {
				return nil, nil, fmt.Errorf("read whom endpoint %s is told of: %w", p.ID, err)
			}
			continue
		}
		filtered = filtered || p.Filter != nil
	}
	if !filtered {
		return all, payloads, nil
	}
	found, err := q.ListPayloads(ctx, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("list payloads: %w", err)
	}
	for _, row := range found {
		payloads[row.ID] = row.Payload
	}
	return all, payloads, nil
}

// orderKey is by what the deliveries of an endpoint follow one another; "": they do
// not, or its batches do.
func orderKey(ordered bool, batchSize int32, userID string) string {
	if !ordered || batchSize > 1 {
		return ""
	}
	return userID
}

// wake brings work to the lanes of those endpoints that got some and are active, or
// are tried now and then.
func (r *Relayer) wake(ctx context.Context, tx pgx.Tx, rows []db.LockEndpointsRow, wanting map[uuid.UUID]bool, claims *[]*claim) error {
	var lanes []endpoint.Lane
	var now time.Time
	for _, row := range rows {
		if !wanting[row.ID] || (row.Status != endpoint.Active && !row.Probing) {
			continue
		}
		p := db.LockEndpointRow(row)
		now = p.Now
		due := now
		if p.BatchSize > 1 {
			var err error
			if due, _, err = dueBatch(ctx, db.New(tx), p); err != nil {
				return err
			}
		}
		l := endpoint.NewLane(p, due)
		if r.deliverer != nil {
			c := r.deliverer.claim(p.ID)
			*claims = append(*claims, c)
			l = l.Claimed(&c.Claim)
		}
		lanes = append(lanes, l)
	}
	return endpoint.WakeAll(ctx, tx, r.jobs, lanes, now)
}
