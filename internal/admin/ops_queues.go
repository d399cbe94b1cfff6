package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// JobClient is what decisions about queues and jobs are made through: a River client.
type JobClient interface {
	lane.Inserter
	QueuePauseTx(ctx context.Context, tx pgx.Tx, name string, opts *river.QueuePauseOpts) error
	QueueResumeTx(ctx context.Context, tx pgx.Tx, name string, opts *river.QueuePauseOpts) error
	JobCancelTx(ctx context.Context, tx pgx.Tx, jobID int64) (*rivertype.JobRow, error)
	JobRetryTx(ctx context.Context, tx pgx.Tx, jobID int64) (*rivertype.JobRow, error)
}

// Queues looks at queues and jobs for operators, and decides about them.
type Queues struct {
	pool *pgxpool.Pool
	jobs JobClient
}

// NewQueues makes a Queues. jobs may be a client that works none.
func NewQueues(pool *pgxpool.Pool, jobs JobClient) *Queues { return &Queues{pool: pool, jobs: jobs} }

// queueNames are all queues there are, whether a node works them or not.
func queueNames() []string {
	return []string{
		job.QueueDeliver, job.QueueMemory, job.QueueMirror, job.QueueProcess, job.QueueRedeliver, job.QueueRelay, job.QueueReplay, job.QueueSync,
		job.QueueUpkeep,
	}
}

// Queue is one queue. Numbers of jobs end at 10,000: that means so many or more.
type Queue struct {
	Name      string     `json:"name"`
	PausedAt  *time.Time `json:"paused_at"` // null: it is worked
	Available int64      `json:"available"` // their time has come
	Waiting   int64      `json:"waiting"`   // their time has not
	Running   int64      `json:"running"`
	Scheduled int64      `json:"scheduled"` // put off by their work
	Retryable int64      `json:"retryable"` // failed, and tried again later
	Cancelled int64      `json:"cancelled"` // of the last day
	Discarded int64      `json:"discarded"` // of the last week
	// OldestSeconds is how long the first of the available ones waits.
	OldestSeconds float64 `json:"oldest_seconds"`
	// CompletedPerSecond is of the last minute; where very many were completed, of the newest.
	CompletedPerSecond float64 `json:"completed_per_second"`
}

// List returns all queues by name.
func (q *Queues) List(ctx context.Context) ([]Queue, error) { return q.look(ctx, queueNames()) }

func (q *Queues) look(ctx context.Context, names []string) ([]Queue, error) {
	r := db.New(q.pool)
	rows, err := r.ListQueues(ctx)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	counts, err := r.CountQueueJobs(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	done, err := r.CountCompletedJobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("count completed jobs: %w", err)
	}
	all := make([]Queue, len(counts))
	for i, c := range counts {
		all[i] = Queue{
			Name: c.Queue, Available: c.Available, Waiting: c.Waiting, Running: c.Running, Scheduled: c.Scheduled,
			Retryable: c.Retryable, Cancelled: c.Cancelled, Discarded: c.Discarded, OldestSeconds: max(0, c.OldestSeconds),
		}
		if at := slices.IndexFunc(rows, func(r db.ListQueuesRow) bool { return r.Name == c.Queue }); at >= 0 {
			all[i].PausedAt = rows[at].PausedAt
		}
		if at := slices.IndexFunc(done, func(d db.CountCompletedJobsRow) bool { return d.Queue == c.Queue }); at >= 0 {
			all[i].CompletedPerSecond = round(float64(done[at].Completed) / done[at].Span)
		}
	}
	return all, nil
}

// Pause has nodes begin no job of a queue until Resume, within a second also what goes
// past it; what runs goes on, a turn of an endpoint for 5 s at most. It returns the queue, and ErrNotFound for one that no node works.
func (q *Queues) Pause(ctx context.Context, who Actor, name, reason string) (Queue, error) {
	return q.decide(ctx, who, "queue.pause", name, reason, q.jobs.QueuePauseTx)
}

// Resume has nodes work a queue again. It returns the queue, and ErrNotFound for one
// that no node works.
func (q *Queues) Resume(ctx context.Context, who Actor, name, reason string) (Queue, error) {
	return q.decide(ctx, who, "queue.resume", name, reason, q.jobs.QueueResumeTx)
}

func (q *Queues) decide(ctx context.Context, who Actor, action, name, reason string,
	do func(context.Context, pgx.Tx, string, *river.QueuePauseOpts) error,
) (Queue, error) {
	if !slices.Contains(queueNames(), name) {
		return Queue{}, ErrNotFound
	}
	err := pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
		before, err := db.New(tx).LockQueue(ctx, name)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("queue %s: no node works it: %w", name, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("lock queue: %w", err)
		}
		if err := do(ctx, tx, name, nil); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		after, err := db.New(tx).LockQueue(ctx, name)
		if err != nil {
			return fmt.Errorf("look at the queue again: %w", err)
		}
		paused := func(at *time.Time) map[string]any { return map[string]any{"paused_at": at} }
		return audit(ctx, tx, who, action, "queue/"+name, map[string]any{"before": paused(before), "after": paused(after), "reason": reason})
	})
	if err != nil {
		return Queue{}, err
	}
	all, err := q.look(ctx, []string{name})
	if err != nil {
		return Queue{}, err
	}
	return all[0], nil
}
