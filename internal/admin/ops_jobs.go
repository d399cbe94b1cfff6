package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/db"
)

// JobFilter says which jobs a list is of; what is left empty does not matter.
type JobFilter struct {
	Kind   string
	Queue  string
	State  string
	Limit  int    // 0: 50; at most MaxPage
	Cursor string // next_cursor of the page before
}

// JobStates are all that a job may be in.
func JobStates() []string {
	return []string{"available", "scheduled", "retryable", "running", "completed", "cancelled", "discarded", "pending"}
}

// Job is one job: a row of work on its way to somebody.
type Job struct {
	ID    int64  `json:"id"`
	Kind  string `json:"kind"`
	Queue string `json:"queue"`
	State string `json:"state"`
	// Args name the rows that it works on.
	Args        json.RawMessage `json:"args"`
	Attempt     int             `json:"attempt"` // of those begun
	MaxAttempts int             `json:"max_attempts"`
	Failures    int             `json:"failures"`
	LastError   string          `json:"last_error"`
	// Process is who works it, or worked it last, and Host where that runs; "" of one that
	// nobody has begun, or whose process is gone.
	Process     string     `json:"process"`
	Host        string     `json:"host"`
	CreatedAt   time.Time  `json:"created_at"`
	ScheduledAt time.Time  `json:"scheduled_at"` // not before
	AttemptedAt *time.Time `json:"attempted_at"`
	FinalizedAt *time.Time `json:"finalized_at"`
}

// JobStory is a job with what went wrong with it, the last twenty times.
type JobStory struct {
	Job
	Errors []JobError `json:"errors"`
}

// JobError is one attempt that failed.
type JobError struct {
	At      time.Time `json:"at"`
	Attempt int       `json:"attempt"`
	Error   string    `json:"error"`
}

// JobPage is a part of a list, newest first.
type JobPage struct {
	Jobs []Job `json:"jobs"`
	// NextCursor leads to the next page, "" to none. A page may have fewer jobs than were
	// asked for, or none, and a next one all the same: 10,000 are looked at for a page.
	NextCursor string `json:"next_cursor,omitempty"`
}

// Jobs returns a page of jobs, newest first. It returns a *body.Invalid for a filter
// that is none.
func (q *Queues) Jobs(ctx context.Context, f JobFilter) (JobPage, error) {
	page := JobPage{Jobs: []Job{}}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	before, err := f.check()
	if err != nil {
		return page, err
	}
	look, err := q.windows(ctx, f)
	if err != nil {
		return page, err
	}
	for range maxWindows {
		seen, err := look(ctx, before)
		if err != nil {
			return page, fmt.Errorf("look at jobs: %w", err)
		}
		rows, err := db.New(q.pool).ListJobs(ctx, db.ListJobsParams{
			Ids: seen, Kind: orNil(f.Kind), Queue: orNil(f.Queue), State: orNil(f.State),
			MaxJobs: int32(f.Limit - len(page.Jobs)), //nolint:gosec // at most MaxPage
		})
		if err != nil {
			return page, fmt.Errorf("list jobs: %w", err)
		}
		for _, r := range rows {
			page.Jobs = append(page.Jobs, shownJob(r))
		}
		if len(page.Jobs) == f.Limit {
			before = page.Jobs[f.Limit-1].ID
			if before != seen[len(seen)-1] || len(seen) == window {
				page.NextCursor = writeCursor(f.mark(), place{id: before})
			}
			return page, nil
		}
		if len(seen) < window {
			return page, nil
		}
		before = seen[len(seen)-1]
	}
	page.NextCursor = writeCursor(f.mark(), place{id: before})
	return page, nil
}

// windows returns what finds the ids before one, the newest first: fewer than window
// when there are no more. Jobs of a state are looked at by themselves when they are
// few, for then they lie anywhere among very many others.
func (q *Queues) windows(ctx context.Context, f JobFilter) (func(context.Context, int64) ([]int64, error), error) {
	r := db.New(q.pool)
	if f.State == "" || f.State == "completed" {
		return r.LookAtJobs, nil
	}
	const most = maxWindows * window
	ids, err := r.LookAtJobsIn(ctx, db.LookAtJobsInParams{State: db.RiverJobState(f.State), Queue: orNil(f.Queue)})
	if err != nil {
		return nil, fmt.Errorf("look at jobs of a state: %w", err)
	}
	if len(ids) == most {
		return r.LookAtJobs, nil
	}
	slices.SortFunc(ids, func(a, b int64) int { return int(b - a) })
	return func(_ context.Context, before int64) ([]int64, error) {
		first := slices.IndexFunc(ids, func(id int64) bool { return id < before })
		if first < 0 {
			return nil, nil
		}
		return ids[first:min(first+window, len(ids))], nil
	}, nil
}

// check refuses what no job can be like, and returns the id that the page is before.
func (f JobFilter) check() (before int64, err error) {
	switch {
	case f.Limit < 1 || f.Limit > MaxPage:
		return 0, wrong("limit", "want 1 to %d", MaxPage)
	case f.State != "" && !slices.Contains(JobStates(), f.State):
		return 0, wrong("state", "want one of %s", strings.Join(JobStates(), ", "))
	case f.Queue != "" && !slices.Contains(queueNames(), f.Queue):
		return 0, wrong("queue", "want one of %s", strings.Join(queueNames(), ", "))
	}
	return idCursor(f.Cursor, f.mark())
}

func (f JobFilter) mark() []byte {
	f.Cursor, f.Limit = "", 0
	return filterMark(f)
}

// idCursor is the id that the page of a cursor is before.
func idCursor(cursor string, mark []byte) (int64, error) {
	if cursor == "" {
		return math.MaxInt64, nil
	}
	at, err := readCursor(cursor, mark)
	return at.id, err
}

func shownJob(r db.ListJobsRow) Job {
	return Job{
		ID: r.ID, Kind: r.Kind, Queue: r.Queue, State: string(r.State), Args: r.Args, Attempt: int(r.Attempt), MaxAttempts: int(r.MaxAttempts),
		Failures: int(r.Failures), LastError: r.LastError, Process: r.Process, Host: r.Host,
		CreatedAt: r.CreatedAt, ScheduledAt: r.ScheduledAt, AttemptedAt: r.AttemptedAt, FinalizedAt: r.FinalizedAt,
	}
}

// Job returns one job; ErrNotFound when it is not there, or not any more: completed
// ones are kept for ten minutes.
func (q *Queues) Job(ctx context.Context, id int64) (JobStory, error) {
	return jobStory(ctx, db.New(q.pool), id)
}

func jobStory(ctx context.Context, r *db.Queries, id int64) (JobStory, error) {
	rows, err := r.ListJobs(ctx, db.ListJobsParams{Ids: []int64{id}, MaxJobs: 1})
	if err != nil {
		return JobStory{}, fmt.Errorf("get job: %w", err)
	}
	if len(rows) == 0 {
		return JobStory{}, fmt.Errorf("job %d %w", id, ErrNotFound)
	}
	text, err := r.ListJobErrors(ctx, id)
	if err != nil {
		return JobStory{}, fmt.Errorf("list errors of a job: %w", err)
	}
	story := JobStory{Job: shownJob(rows[0]), Errors: []JobError{}}
	if err := json.Unmarshal(text, &story.Errors); err != nil {
		return JobStory{}, fmt.Errorf("read errors of a job: %w", err)
	}
	return story, nil
}

// CancelJob ends a job that nobody works; one that runs is asked to end, and has ended
// with its next error. What has ended is left as it is. It returns the job, or ErrNotFound.
func (q *Queues) CancelJob(ctx context.Context, who Actor, id int64, reason string) (JobStory, error) {
	return q.decideJob(ctx, who, "job.cancel", id, reason, q.jobs.JobCancelTx)
}

// RetryJob has a job worked now, whatever it is in; one that runs is left as it is. It
// returns the job, or ErrNotFound.
func (q *Queues) RetryJob(ctx context.Context, who Actor, id int64, reason string) (JobStory, error) {
	return q.decideJob(ctx, who, "job.retry", id, reason, q.jobs.JobRetryTx)
}

func (q *Queues) decideJob(ctx context.Context, who Actor, action string, id int64, reason string,
	do func(context.Context, pgx.Tx, int64) (*rivertype.JobRow, error),
) (story JobStory, err error) {
	err = pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
		before, err := jobStory(ctx, db.New(tx), id)
		if err != nil {
			return err
		}
		if _, err := do(ctx, tx, id); errors.Is(err, rivertype.ErrNotFound) {
			return fmt.Errorf("job %d %w", id, ErrNotFound)
		} else if err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
		if story, err = jobStory(ctx, db.New(tx), id); err != nil {
			return err
		}
		facts := func(j Job) map[string]any { return map[string]any{"state": j.State, "max_attempts": j.MaxAttempts} }
		return audit(ctx, tx, who, action, fmt.Sprintf("job/%d", id), map[string]any{
			"kind": story.Kind, "args": story.Args, "before": facts(before.Job), "after": facts(story.Job), "reason": reason,
		})
	})
	return story, err
}
