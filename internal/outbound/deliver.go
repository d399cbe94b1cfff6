package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

const (
	// maxInFlight bounds the requests to one endpoint at one time: enough for a
	// receiver that answers in 10 ms to get thousands a second, few enough not to
	// be an attack on a small one.
	maxInFlight = 32
	// slice is how long one job goes on leasing. Then the lane's next job takes
	// over, so that stopping and crash recovery need not wait for a long backlog.
	slice = 5 * time.Second
	// look is how often a job with requests in flight looks for further ones, so
	// that a slow answer does not hold up what has come meanwhile.
	look = 50 * time.Millisecond
	// recordTime is what recording an outcome may take beyond the request itself.
	recordTime = 10 * time.Second
	// cancelRows is how many deliveries of an endpoint that is gone end in one transaction.
	cancelRows = 1000
)

// Deliverer works DeliverEndpoint jobs: the lane of an endpoint.
type Deliverer struct {
	river.WorkerDefaults[job.DeliverEndpoint]
	pool        *pgxpool.Pool
	jobs        lane.Inserter
	poster      *poster
	credentials func(endpoint string) Credentials
	maxTimeout  time.Duration
	log         *slog.Logger
	outcomes    *group.Committer[attempt, struct{}]
}

// NewDeliverer makes a Deliverer that sends through rt. credentials returns those
// of the endpoint of that name. maxTimeout is the longest timeout that any
// endpoint has.
func NewDeliverer(pool *pgxpool.Pool, jobs lane.Inserter, counts *counter.Set, rt http.RoundTripper, version string,
	credentials func(endpoint string) Credentials, maxTimeout time.Duration, now func() time.Time, log *slog.Logger,
) *Deliverer {
	r := &recorder{counts: counts, random: rand.Float64}
	return &Deliverer{
		pool: pool, jobs: jobs, poster: newPoster(rt, version, now), credentials: credentials, maxTimeout: maxTimeout, log: log,
		outcomes: group.New(pool, r.record, nil, group.Options{}),
	}
}

// Timeout is the longest that a job of the lane can rightly take; River gives a
// job that takes longer to another worker.
func (d *Deliverer) Timeout(*river.Job[job.DeliverEndpoint]) time.Duration {
	return slice + d.maxTimeout + 5*time.Second
}

// Work sends what is due and then closes the lane until the next is.
//
// It returns nil when the lane names another job. It never returns an error of a
// delivery: that stands on the delivery's own row.
func (d *Deliverer) Work(ctx context.Context, j *river.Job[job.DeliverEndpoint]) error {
	endpoint, err := db.New(d.pool).TakeEndpoint(ctx, db.TakeEndpointParams{ID: j.Args.EndpointID, JobID: j.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return d.notTaken(ctx, j)
	}
	if err == nil {
		switch {
		case endpoint.DeletedAt != nil:
			err = d.cancel(ctx, endpoint.ID)
		case endpoint.Status == "active":
			err = d.pump(ctx, endpoint)
		}
	}
	if err == nil {
		err = d.close(ctx, endpoint, j.ID)
	}
	// What is leased comes back by itself; nothing here is a delivery's fault.
	return endOf(ctx, d.log, err, "endpoint_id", j.Args.EndpointID)
}

// endOf is what a job returns that nobody's fault has kept from its end: the
// program's stop as it is, for River gives the job back at once, and anything
// else as a wait that costs no attempt and that nothing but the log explains.
func endOf(ctx context.Context, log *slog.Logger, err error, attrs ...any) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case err != nil:
		log.WarnContext(ctx, "job waits for the world", append(attrs, "error", err)...)
		return river.JobSnooze(time.Second)
	}
	return nil
}

// NextRetry is when a job runs again that was taken from its worker.
func (d *Deliverer) NextRetry(*river.Job[job.DeliverEndpoint]) time.Time {
	return time.Now().Add(time.Second)
}

// notTaken tells a lane that is not yet due from one that names another job.
func (d *Deliverer) notTaken(ctx context.Context, j *river.Job[job.DeliverEndpoint]) error {
	endpoint, err := db.New(d.pool).GetEndpoint(ctx, j.Args.EndpointID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return endOf(ctx, d.log, err, "endpoint_id", j.Args.EndpointID)
	case endpoint.JobID == nil || *endpoint.JobID != j.ID || endpoint.DueAt == nil:
		return nil
	}
	return river.JobSnooze(min(max(time.Until(*endpoint.DueAt), 0), 5*time.Second))
}

// pump sends due deliveries side by side until none is due, or its slice is
// over, and all its requests have ended.
func (d *Deliverer) pump(ctx context.Context, endpoint db.Endpoint) error {
	end := time.NewTimer(slice)
	defer end.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	done := make(chan error, maxInFlight)
	inFlight, over := 0, false
	var failed error
	finish := func(err error) {
		inFlight--
		switch {
		case errors.Is(err, errGone):
			over = true
		case err != nil:
			failed, over = err, true
		}
	}
	for {
		if !over {
			deliveries, err := d.lease(ctx, endpoint, maxInFlight-inFlight)
			if err != nil {
				failed, over = err, true
			}
			for _, delivery := range deliveries {
				inFlight++
				go func() { done <- d.deliver(ctx, endpoint, delivery) }()
			}
		}
		if inFlight == 0 {
			return failed
		}
		select {
		case err := <-done:
			finish(err)
		case <-tick.C:
		case <-end.C:
			over = true
		}
		// Outcomes are committed in groups, so they end together: make room together.
		for more := true; more; {
			select {
			case err := <-done:
				finish(err)
			default:
				more = false
			}
		}
	}
}

func (d *Deliverer) lease(ctx context.Context, endpoint db.Endpoint, room int) ([]db.LeaseDeliveriesRow, error) {
	if room == 0 {
		return nil, nil
	}
	rows, err := db.New(d.pool).LeaseDeliveries(ctx, db.LeaseDeliveriesParams{
		EndpointID: endpoint.ID, MaxDeliveries: int32(room), Lease: endpoint.Timeout + recordTime,
	})
	if err != nil {
		return nil, fmt.Errorf("lease deliveries: %w", err)
	}
	slices.SortFunc(rows, func(a, b db.LeaseDeliveriesRow) int { return int(a.Seq - b.Seq) })
	return rows, nil
}

// errGone ends a pump whose endpoint wants no more: it knows the endpoint as it
// was when its job began, and would send it all that is due.
var errGone = errors.New("the endpoint answered 410 Gone")

// deliver makes one attempt and records its outcome. An attempt that our own end
// cut off is nobody's fault: the delivery is given back as it was.
func (d *Deliverer) deliver(ctx context.Context, endpoint db.Endpoint, delivery db.LeaseDeliveriesRow) error {
	outcome := d.attempt(ctx, endpoint, delivery)
	d.log.InfoContext(ctx, "delivery attempted", "delivery_id", delivery.ID, "webhook_id", delivery.OutboxID, "endpoint", endpoint.Name,
		"attempt", delivery.Attempts, "status", outcome.StatusCode, "error_class", outcome.ErrorClass, "duration_ms", outcome.Total.Milliseconds())
	// An answer that came in the moment of our end is an answer all the same.
	interrupted := ctx.Err() != nil && outcome.StatusCode == 0
	// The outcome is recorded even when the job is being cancelled: it is known.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	_, err := d.outcomes.Do(ctx, attempt{
		deliveryID: delivery.ID, number: delivery.Attempts, endpointID: endpoint.ID, outcome: outcome,
		maxAttempts: int(endpoint.MaxAttempts), retryDelay: endpoint.RetryDelay, interrupted: interrupted,
	})
	if err != nil {
		return fmt.Errorf("record attempt %d of delivery %d: %w", delivery.Attempts, delivery.ID, err)
	}
	if outcome.Verdict == verdictGone {
		return errGone
	}
	return nil
}

// attempt makes one attempt. A panic is its failure: River catches those of a
// job, but not of a goroutine that the job has started, which would end the
// program, and the next one that tries this delivery.
func (d *Deliverer) attempt(ctx context.Context, endpoint db.Endpoint, delivery db.LeaseDeliveriesRow) (o outcome) {
	began := d.poster.now()
	defer func() {
		if p := recover(); p != nil {
			d.log.ErrorContext(ctx, "panic in an attempt", "delivery_id", delivery.ID, "panic", p, "stack", string(debug.Stack()))
			o = outcome{StartedAt: began, ErrorClass: ClassOther, Error: "panic in the attempt; the log has it", Verdict: verdictRetry, Total: d.poster.now().Sub(began)}
		}
	}()
	return d.poster.post(ctx, request{
		URL: endpoint.URL, ID: delivery.OutboxID.String(), Body: delivery.Payload,
		Timeout: endpoint.Timeout, Credentials: d.credentials(endpoint.Name),
	})
}

// cancel ends the open deliveries of an endpoint that is gone, a slice at a time.
func (d *Deliverer) cancel(ctx context.Context, endpointID uuid.UUID) error {
	for {
		n, err := db.New(d.pool).CancelDeliveries(ctx, db.CancelDeliveriesParams{EndpointID: endpointID, MaxDeliveries: cancelRows})
		if err != nil {
			return fmt.Errorf("cancel deliveries: %w", err)
		}
		if n < cancelRows {
			return nil
		}
	}
}

// close ends the job's claim on the lane: done is what it was taken for, and the
// next job is for when something is due again. A lane that names another job, or
// that a newer one closed, is left alone.
func (d *Deliverer) close(ctx context.Context, taken db.Endpoint, jobID int64) error {
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		p, err := q.LockEndpoint(ctx, taken.ID)
		if err != nil {
			return fmt.Errorf("lock endpoint: %w", err)
		}
		if p.Done >= taken.Wanted || p.JobID == nil || *p.JobID != jobID {
			return nil
		}
		next := db.CloseEndpointParams{ID: p.ID, Wanted: p.Wanted, Done: taken.Wanted, DueAt: p.DueAt}
		if p.DeletedAt != nil || p.Status == "active" {
			at, err := q.NextDelivery(ctx, p.ID)
			if p.DeletedAt != nil {
				// Still to be cancelled: the endpoint went while this job was sending, or
				// another transaction held the row. It will not for a second.
				at = p.Now.Add(time.Second)
			}
			switch {
			case errors.Is(err, pgx.ErrNoRows):
			case err != nil:
				return fmt.Errorf("look for the next delivery: %w", err)
			case next.DueAt == nil || at.Before(*next.DueAt):
				// Work that the lane leaves to itself is brought like any other.
				next.DueAt, next.Wanted = &at, next.Wanted+1
			}
		} else {
			next.DueAt = nil
		}
		if next.DueAt != nil {
			ids, err := lane.Ensure(ctx, tx, d.jobs, p.Now, []lane.Wake{{Due: *next.DueAt, Args: job.DeliverEndpoint{EndpointID: p.ID}}})
			if err != nil {
				return err
			}
			next.JobID = &ids[0]
		}
		if err := q.CloseEndpoint(ctx, next); err != nil {
			return fmt.Errorf("close endpoint: %w", err)
		}
		if err := q.CompleteJobs(ctx, []int64{jobID}); err != nil {
			return fmt.Errorf("complete job: %w", err)
		}
		return nil
	})
}
