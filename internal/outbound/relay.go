package outbound

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// relayRows is how many webhooks one transaction relays: enough to share the
// commit, few enough to hold the endpoints' rows only briefly.
const relayRows = 500

// Relayer works Relay jobs: webhooks of the outbox become deliveries.
type Relayer struct {
	river.WorkerDefaults[job.Relay]
	pool *pgxpool.Pool
	jobs lane.Inserter
	log  *slog.Logger
}

// NewRelayer makes a Relayer.
func NewRelayer(pool *pgxpool.Pool, jobs lane.Inserter, log *slog.Logger) *Relayer {
	return &Relayer{pool: pool, jobs: jobs, log: log}
}

// Work relays whatever waits, whichever job it came with. It finds nothing when
// another one was here before, which is no error.
func (r *Relayer) Work(ctx context.Context, j *river.Job[job.Relay]) error {
	for {
		n, err := r.relay(ctx, j.ID)
		if err != nil {
			// There is no fault of a webhook here that could be told from the
			// database's: nothing is counted, and the outbox waits.
			return endOf(ctx, r.log, err)
		}
		if n < relayRows {
			return nil
		}
	}
}

// NextRetry is when a job runs again that was taken from its worker.
func (r *Relayer) NextRetry(*river.Job[job.Relay]) time.Time { return time.Now().Add(time.Second) }

// relay is the transaction: one relay at a time, in the order of seq. It returns
// how many webhooks it relayed; when fewer than it could, the job is complete.
func (r *Relayer) relay(ctx context.Context, jobID int64) (int, error) {
	var n int
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.LockRelay(ctx); err != nil {
			return fmt.Errorf("lock the relay: %w", err)
		}
		rows, err := q.ListOutboxToRelay(ctx, relayRows)
		if err != nil {
			return fmt.Errorf("list outbox to relay: %w", err)
		}
		n = len(rows)
		if n > 0 {
			if err := r.deliver(ctx, tx, rows); err != nil {
				return err
			}
		}
		if n < relayRows {
			if err := q.CompleteJobs(ctx, []int64{jobID}); err != nil {
				return fmt.Errorf("complete job: %w", err)
			}
		}
		return nil
	})
	return n, err
}

// deliver makes the deliveries of webhooks and wakes the lanes of the endpoints
// that can be sent to. The deliveries of one that is paused or disabled are held.
func (r *Relayer) deliver(ctx context.Context, tx pgx.Tx, webhooks []db.ListOutboxToRelayRow) error {
	q := db.New(tx)
	endpoints, err := q.LockEndpoints(ctx)
	if err != nil {
		return fmt.Errorf("lock endpoints: %w", err)
	}
	var deliveries db.InsertDeliveriesParams
	ids := make([]uuid.UUID, len(webhooks))
	wanting := map[uuid.UUID]bool{}
	for i, w := range webhooks {
		ids[i] = w.ID
		for _, p := range endpoints {
			if slices.Contains(p.Events, w.Event) {
				deliveries.OutboxIds = append(deliveries.OutboxIds, w.ID)
				deliveries.EndpointIds = append(deliveries.EndpointIds, p.ID)
				wanting[p.ID] = true
			}
		}
	}
	if len(deliveries.OutboxIds) > 0 {
		if err := q.InsertDeliveries(ctx, deliveries); err != nil {
			return fmt.Errorf("insert deliveries: %w", err)
		}
	}
	if err := q.MarkOutboxRelayed(ctx, ids); err != nil {
		return fmt.Errorf("mark outbox relayed: %w", err)
	}
	var lanes []sleeper
	var now time.Time
	for _, p := range endpoints {
		if wanting[p.ID] && p.Status == "active" {
			lanes = append(lanes, sleeper{id: p.ID, wanted: p.Wanted, jobID: p.JobID})
			now = p.Now
		}
	}
	return wakeAll(ctx, tx, r.jobs, lanes, now)
}
