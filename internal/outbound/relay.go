package outbound

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
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
	// relayJobs is how many jobs one transaction ends that are there for what it does:
	// as many as queries/outbox.sql says.
	relayJobs = 1000
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
	var met meetings
	committed := false
	defer func() { met.end(committed) }() // also of what panicked
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		found, err := db.New(tx).BeginRelay(ctx, relayRows)
		if err != nil {
			return fmt.Errorf("lock what waits to be relayed: %w", err)
		}
		n := inOne(found.Sizes)
		more = n < len(found.Ids) || n == relayRows
		jobs := found.Jobs
		if jobID != 0 { // it was not nudged
			jobs = append(jobs, jobID)
		}
		if more {
			jobs = nil
		}
		more = more || len(found.Jobs) == relayJobs
		if n == 0 && len(jobs) == 0 {
			return nil
		}
		webhooks := make([]webhook, n)
		for i := range webhooks {
			webhooks[i] = webhook{id: found.Ids[i], event: found.Events[i], userID: found.UserIds[i]}
		}
		return r.deliver(ctx, tx, webhooks, jobs, &met)
	})
	committed = err == nil
	return more && committed, err
}

// webhook is what of one decides who gets it; its payload aside.
type webhook struct {
	id            uuid.UUID
	event, userID string
}

// meetings are the turns of the lanes that a relay has work for, when its transaction
// is committed: those that it may begin, and those that are at work here.
type meetings struct {
	claims []*claim
	turns  []meeting
}

type meeting struct {
	*present
	updatedAt time.Time // of the endpoint
}

func (m *meetings) end(committed bool) {
	for _, c := range m.claims {
		if committed {
			c.begin()
		} else {
			c.drop()
		}
	}
	for _, t := range m.turns {
		if committed {
			t.nudge(t.updatedAt)
		}
	}
}

// inOne returns how many webhooks of these sizes are relayed in one transaction.
func inOne(sizes []int32) int {
	sum := 0
	for i, size := range sizes {
		if sum += int(size); sum > relayBytes && i > 0 {
			return i
		}
	}
	return len(sizes)
}

// deliver makes the deliveries of webhooks, ends jobs that are there for that, and wakes
// the lanes of the endpoints that can be sent to. The deliveries of one that is paused
// or disabled are held.
func (r *Relayer) deliver(ctx context.Context, tx pgx.Tx, webhooks []webhook, jobs []int64, met *meetings) error {
	q := db.New(tx)
	p := db.RelayOutboxParams{Jobs: jobs, Relayed: make([]uuid.UUID, len(webhooks))}
	for i, w := range webhooks {
		p.Relayed[i] = w.id
	}
	var rows []db.LockEndpointsRow
	if len(webhooks) > 0 {
		var err error
		if rows, err = q.LockEndpoints(ctx); err != nil {
			return fmt.Errorf("lock endpoints: %w", err)
		}
		audiences, payloads, err := r.audiences(ctx, q, rows, p.Relayed)
		if err != nil {
			return err
		}
		for _, w := range webhooks {
			data := sync.OnceValues(func() (any, bool) { return endpoint.ReadData(payloads[w.id]) })
			for i, e := range rows {
				if !audiences[i].Wants(w.event, w.userID, data) {
					continue
				}
				p.OutboxIds = append(p.OutboxIds, w.id)
				p.EndpointIds = append(p.EndpointIds, e.ID)
				p.OrderKeys = append(p.OrderKeys, orderKey(e.Ordered, e.BatchSize, w.userID))
			}
		}
	}
	begun, err := q.RelayOutbox(ctx, p)
	if err != nil {
		return fmt.Errorf("relay outbox: %w", err)
	}
	// Those that wait for others of their user are let go by whoever records these.
	return r.wake(ctx, tx, rows, begun, met)
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
// are tried now and then. A turn that is at work here sees it without.
func (r *Relayer) wake(ctx context.Context, tx pgx.Tx, rows []db.LockEndpointsRow, begun []uuid.UUID, met *meetings) error {
	var lanes []endpoint.Lane
	var now time.Time
	for _, row := range rows {
		if !slices.Contains(begun, row.ID) || (row.Status != endpoint.Active && !row.Probing) {
			continue
		}
		if r.deliverer != nil {
			if t := r.deliverer.meet(row.JobID); t != nil {
				met.turns = append(met.turns, meeting{t, row.UpdatedAt})
				if t.sees(row) {
					continue
				}
			}
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
			met.claims = append(met.claims, c)
			l = l.Claimed(&c.Claim)
		}
		lanes = append(lanes, l)
	}
	return endpoint.WakeAll(ctx, tx, r.jobs, lanes, now)
}
