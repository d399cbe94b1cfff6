package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// redeliverRows is how many deliveries one transaction opens at most: it holds the
	// endpoint's row, which whoever records an outcome may want.
	redeliverRows = 500
	// redeliverOpen is how many deliveries of one redelivery may be open at one time, or
	// two seconds' worth where that is more. What is told anew meanwhile waits behind
	// no more than these.
	redeliverOpen = 1000
	// redeliverTime is how long one job opens deliveries before it makes room for others.
	redeliverTime = 5 * time.Second
	// redeliverWait is between two looks whether there is room, or whether something
	// that has to come before has come.
	redeliverWait = 500 * time.Millisecond
)

// Redeliverer works Redeliver jobs: deliveries that an endpoint is to get again are
// opened, a slice at a time. The endpoint's lane sends them.
type Redeliverer struct {
	river.WorkerDefaults[job.Redeliver]
	pool *pgxpool.Pool
	jobs lane.Inserter
	log  *slog.Logger
}

// NewRedeliverer makes a Redeliverer.
func NewRedeliverer(pool *pgxpool.Pool, jobs lane.Inserter, log *slog.Logger) *Redeliverer {
	return &Redeliverer{pool: pool, jobs: jobs, log: log}
}

// Timeout is what a job may take: its time, and the slice it has begun by then.
func (r *Redeliverer) Timeout(*river.Job[job.Redeliver]) time.Duration {
	return redeliverTime + 10*time.Second
}

// NextRetry is when a job runs again that was taken from its worker.
func (r *Redeliverer) NextRetry(*river.Job[job.Redeliver]) time.Time {
	return time.Now().Add(time.Second)
}

// Work goes on with a redelivery where it stands, for some seconds. One that has
// ended, or that names another job, is left alone. The same job comes again until
// all is opened.
func (r *Redeliverer) Work(ctx context.Context, j *river.Job[job.Redeliver]) error {
	s := &redelivering{jobs: r.jobs, jobID: j.ID}
	for ends := time.Now().Add(redeliverTime); ; {
		var over bool
		var wait time.Duration
		err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
			over, wait, err = s.slice(ctx, tx, j.Args.RedeliveryID)
			return err
		})
		switch {
		case err != nil:
			return endOf(ctx, r.log, err, "redelivery_id", j.Args.RedeliveryID)
		case over:
			return nil
		case !time.Now().Add(wait).Before(ends):
			return river.JobSnooze(wait)
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return endOf(ctx, r.log, ctx.Err(), "redelivery_id", j.Args.RedeliveryID)
		}
	}
}

// redelivering is the work of one job.
type redelivering struct {
	jobs  lane.Inserter
	jobID int64
	reel  *endpoint.Reel // of a replay, read when the job began; nil: not yet
}

// slice is the transaction: it opens some deliveries and writes how far the
// redelivery is, or that it is over. wait is how long to wait before the next.
func (s *redelivering) slice(ctx context.Context, tx pgx.Tx, id uuid.UUID) (over bool, wait time.Duration, err error) {
	q := db.New(tx)
	// Whoever works the same redelivery waits here, and finds what this one has done.
	row, err := q.LockRedelivery(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return true, 0, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("lock redelivery: %w", err)
	}
	if row.State != endpoint.RedeliveryRunning || row.JobID == nil || *row.JobID != s.jobID {
		return true, 0, nil
	}
	p, err := q.GetEndpoint(ctx, row.EndpointID)
	if err != nil {
		return false, 0, fmt.Errorf("get endpoint: %w", err)
	}
	if p.DeletedAt != nil {
		return true, 0, s.end(ctx, q, id, endpoint.RedeliveryCancelled)
	}
	n, wait, err := room(ctx, q, row)
	if err != nil || n == 0 {
		return false, wait, err
	}
	part, err := s.next(ctx, q, row, p, n)
	if err != nil {
		return false, 0, err
	}
	var done opened
	if len(part.ids) > 0 {
		done, err = openAgain(ctx, tx, s.jobs, p.ID, part.ids, part.opening)
		if errors.Is(err, endpoint.ErrEndpointGone) {
			return true, 0, s.end(ctx, q, id, endpoint.RedeliveryCancelled)
		}
		if err != nil {
			return false, 0, err
		}
	}
	if over, err = s.advance(ctx, q, row, part, done); err != nil || over {
		return over, 0, err
	}
	return false, breath(row, part, done), nil
}

// part is what of a redelivery is to be opened next.
type part struct {
	ids      []uuid.UUID // in the order of seq
	opening  opening
	position int64 // after these
	last     bool  // nothing follows
}

// next returns at most n webhooks to be opened.
func (s *redelivering) next(ctx context.Context, q *db.Queries, row db.LockRedeliveryRow, p db.Endpoint, n int) (part, error) {
	next := part{position: row.Position, opening: opening{redelivery: &row.ID, onlyDead: true}}
	if row.Kind == endpoint.Recover {
		var err error
		// What dies again does so later than it was asked for, and bears the redelivery's
		// id besides: it is not opened twice.
		next.ids, err = q.ListDeadToRecover(ctx, db.ListDeadToRecoverParams{
			EndpointID: p.ID, Since: row.Since, Until: row.Until, RedeliveryID: &row.ID, MaxRows: int32(n), //nolint:gosec // at most redeliverRows
		})
		if err != nil {
			return next, fmt.Errorf("list dead deliveries: %w", err)
		}
		next.last = len(next.ids) == 0
		return next, nil
	}
	next.opening = opening{redelivery: &row.ID, insert: true}
	var err error
	if s.reel == nil {
		if s.reel, err = endpoint.NewReel(ctx, q, p, row.Since, row.Until, row.Events); err != nil {
			return next, err
		}
	}
	relayed, err := s.reel.Relayed(ctx, q)
	if err != nil {
		return next, err
	}
	page, at, err := s.reel.Next(ctx, q, row.Position, relayed)
	if err != nil {
		return next, err
	}
	if len(page) > n {
		page = page[:n]
		at = page[n-1].Seq
	}
	next.position, next.last = at, at >= s.reel.End()
	for _, w := range page {
		next.ids = append(next.ids, w.ID)
	}
	return next, nil
}

// advance writes what became of a part, and whether the redelivery is over.
func (s *redelivering) advance(ctx context.Context, q *db.Queries, row db.LockRedeliveryRow, p part, done opened) (over bool, err error) {
	if done.cut > 0 {
		p.last = false
		if row.Kind == endpoint.Replay {
			p.position = done.cut - 1
		}
	}
	if done.forgotten > 0 && row.Kind == endpoint.Recover {
		err := q.PassOverDeliveries(ctx, db.PassOverDeliveriesParams{RedeliveryID: &row.ID, EndpointID: row.EndpointID, OutboxIds: p.ids})
		if err != nil {
			return false, fmt.Errorf("pass over deliveries: %w", err)
		}
	}
	err = q.AdvanceRedelivery(ctx, db.AdvanceRedeliveryParams{
		ID: row.ID, Position: p.position, Opened: int64(done.opened), Skipped: int64(done.open + done.forgotten),
	})
	if err != nil {
		return false, fmt.Errorf("advance redelivery: %w", err)
	}
	if !p.last {
		return false, nil
	}
	return true, s.end(ctx, q, row.ID, endpoint.RedeliveryDone)
}

// end writes that a redelivery is over, and its job with it.
func (s *redelivering) end(ctx context.Context, q *db.Queries, id uuid.UUID, state string) error {
	if _, err := q.EndRedelivery(ctx, db.EndRedeliveryParams{ID: id, State: state}); err != nil {
		return fmt.Errorf("end redelivery: %w", err)
	}
	if err := q.CompleteJobs(ctx, []int64{s.jobID}); err != nil {
		return fmt.Errorf("complete job: %w", err)
	}
	return nil
}

// room returns how many deliveries may be opened now, and, when that is none, how
// long to wait until some may.
func room(ctx context.Context, q *db.Queries, row db.LockRedeliveryRow) (n int, wait time.Duration, err error) {
	n, most := redeliverRows, redeliverOpen
	if row.PerSecond != nil {
		perSecond := int(*row.PerSecond)
		most = max(most, 2*perSecond)
		// Told by the row alone, so that it holds whoever works it, and after a stop: one
		// second's worth at once, and never more than there were seconds.
		allowed := int64((row.Now.Sub(row.CreatedAt).Seconds()+1)*float64(perSecond)) - row.Opened
		if allowed <= 0 {
			return 0, max(time.Second/time.Duration(perSecond), 10*time.Millisecond), nil
		}
		n = int(min(int64(n), int64(perSecond), allowed))
	}
	open, err := q.CountRedelivering(ctx, db.CountRedeliveringParams{
		RedeliveryID: row.ID, Most: int32(most), //nolint:gosec // at most twice what per_second may be
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count what is open of a redelivery: %w", err)
	}
	if n = min(n, most-int(open)); n == 0 {
		return 0, redeliverWait, nil
	}
	return n, 0, nil
}

// breath returns how long to wait after a part: as long as what was opened is worth
// at its rate, and a while when nothing could be done.
func breath(row db.LockRedeliveryRow, p part, done opened) time.Duration {
	switch {
	case done.cut > 0 && done.opened == 0, p.position == row.Position && len(p.ids) == 0:
		return redeliverWait
	case row.PerSecond != nil:
		return time.Duration(done.opened) * time.Second / time.Duration(*row.PerSecond)
	}
	return 0
}
