package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// sliceTime is how long one job goes on leasing. Then the lane's next job takes
	// over, so that stopping and crash recovery need not wait for a long backlog.
	sliceTime = 5 * time.Second
	// handover is how long a job then waits for the requests that it has begun. Those
	// of most receivers end by then; others go on without a job.
	handover = 100 * time.Millisecond
	// look is how often a job with requests in flight looks for further ones, so
	// that a slow answer does not hold up what has come meanwhile.
	look = 50 * time.Millisecond
	// recordTime is what recording an outcome may take beyond the request itself.
	recordTime = 10 * time.Second
	// endTime is what a job may take beyond its slice: to look, to lease, to close.
	endTime = 15 * time.Second
	// unreadyTime is how long an endpoint is left alone that cannot be made ready, for
	// somebody has to set a key first.
	unreadyTime = time.Minute
	// sliceRows is how many deliveries one transaction tidies up.
	sliceRows = 1000
)

// Deliverer works DeliverEndpoint jobs: the lane of an endpoint. Its Stop must be
// called once its jobs have ended.
type Deliverer struct {
	river.WorkerDefaults[job.DeliverEndpoint]
	pool     *pgxpool.Pool
	jobs     lane.Inserter
	poster   *poster
	targets  *Targets
	now      func() time.Time
	log      *slog.Logger
	outcomes *group.Committer[attempt, bool]
	process  uuid.UUID
	slice    time.Duration
	held     func() bool // its queue is paused

	// Requests may outlive the job that began them: one that hangs must not keep those
	// that come after it. They end by themselves, or with base.
	requests sync.WaitGroup // and turns that are begun here
	base     context.Context
	cut      context.CancelFunc

	mu       sync.Mutex
	turns    int                // that were begun here
	stopping bool               // no more of them
	present  map[int64]*present // by their jobs
}

// NewDeliverer makes a Deliverer that sends to targets. process is as whom this
// program is seen: what it has leased is given to others when it is gone.
func NewDeliverer(pool *pgxpool.Pool, jobs lane.Inserter, counts *counter.Set, targets *Targets, teller *memory.Teller, policy Policy,
	process uuid.UUID, version string, now func() time.Time, log *slog.Logger,
) *Deliverer {
	r := &recorder{jobs: jobs, teller: teller, counts: counts, policy: policy, random: rand.Float64}
	d := &Deliverer{
		pool: pool, jobs: jobs, poster: newPoster(version, now), targets: targets, now: now, log: log,
		outcomes: group.New(pool, r.record, nil, group.Options{}), process: process, slice: sliceTime, held: func() bool { return false },
		present: map[int64]*present{},
	}
	d.base, d.cut = context.WithCancel(context.Background())
	return d
}

// Hush has no turn begin further requests, for all is being stopped: what is under way
// gets the time that is left for itself.
func (d *Deliverer) Hush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping = true
}

func (d *Deliverer) hushed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopping
}

// Stop waits for the requests that are under way, and cuts them off when ctx ends:
// their deliveries are given back then. No job may run any more.
func (d *Deliverer) Stop(ctx context.Context) {
	d.Hush()
	ended := make(chan struct{})
	go func() { defer close(ended); d.requests.Wait() }()
	select {
	case <-ended:
	case <-ctx.Done():
		d.cut()
		<-ended
	}
	d.cut()
}

// Timeout is the longest that a job of the lane can rightly take; River gives a
// job that takes longer to another worker.
func (d *Deliverer) Timeout(*river.Job[job.DeliverEndpoint]) time.Duration { return d.slice + endTime }

// Work sends what is due and then closes the lane until the next is.
//
// It returns nil when the lane names another job. It never returns an error of a
// delivery: that stands on the delivery's own row.
func (d *Deliverer) Work(ctx context.Context, j *river.Job[job.DeliverEndpoint]) error {
	return d.work(ctx, j, false)
}

// work is Work, of a job that was claimed here or that the queue has handed over.
func (d *Deliverer) work(ctx context.Context, j *river.Job[job.DeliverEndpoint], here bool) error {
	met, leave := d.enter(j.ID)
	defer leave()
	taken, err := db.New(d.pool).TakeEndpoint(ctx, db.TakeEndpointParams{ID: j.Args.EndpointID, JobID: j.ID})
	if errors.Is(err, pgx.ErrNoRows) {
		return d.notTaken(ctx, j, here)
	}
	if err != nil {
		return endOf(ctx, d.log, err, "endpoint_id", j.Args.EndpointID)
	}
	t := d.newTurn(taken)
	t.here, t.present = here, met
	met.take(taken.Endpoint)
	switch p := taken.Endpoint; {
	case p.DeletedAt != nil:
		err = d.cancel(ctx, p.ID)
	case p.Status == endpoint.Active || p.Probing:
		err = t.take(ctx)
	}
	if err == nil {
		err = t.close(ctx, j.ID)
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

// notTaken tells a lane that is not yet due from one that names another job. The queue
// ends a job that it has handed out; one that was claimed here is ended here.
func (d *Deliverer) notTaken(ctx context.Context, j *river.Job[job.DeliverEndpoint], here bool) error {
	q := db.New(d.pool)
	p, err := q.GetEndpoint(ctx, j.Args.EndpointID)
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return endOf(ctx, d.log, err, "endpoint_id", j.Args.EndpointID)
	case err != nil || p.JobID == nil || *p.JobID != j.ID || p.DueAt == nil:
		if here {
			err = q.CompleteJobs(ctx, []int64{j.ID})
			return endOf(ctx, d.log, err, "endpoint_id", j.Args.EndpointID)
		}
		return nil
	}
	return river.JobSnooze(min(max(time.Until(*p.DueAt), 0), 5*time.Second))
}

// cancel ends the open deliveries of an endpoint that is gone, a slice at a time.
// What batches carry comes first: the batches lead to it.
func (d *Deliverer) cancel(ctx context.Context, endpointID uuid.UUID) error {
	q := db.New(d.pool)
	for _, step := range []func() (int64, error){
		func() (int64, error) {
			return q.CancelBatched(ctx, db.CancelBatchedParams{EndpointID: endpointID, MaxDeliveries: sliceRows})
		},
		func() (int64, error) {
			return q.CancelWaiting(ctx, db.CancelWaitingParams{EndpointID: endpointID, MaxDeliveries: sliceRows})
		},
		func() (int64, error) {
			return q.CancelDeliveries(ctx, db.CancelDeliveriesParams{EndpointID: endpointID, MaxDeliveries: sliceRows})
		},
	} {
		for n := int64(sliceRows); n == sliceRows; {
			var err error
			if n, err = step(); err != nil {
				return fmt.Errorf("cancel deliveries: %w", err)
			}
		}
	}
	return nil
}
