package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type queuesCommand struct {
	List   queuesList   `cmd:"" help:"List queues, what waits in each and how fast it goes."`
	Pause  queuesPause  `cmd:"" help:"Begin no job of a queue until it is resumed; what runs goes on."`
	Resume queuesResume `cmd:"" help:"Work a queue again."`
}

type queuesList struct{}

// Run lists queues.
func (queuesList) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, client.Request{Path: "/admin/queues"})
		if err != nil {
			return err
		}
		rows, err := listed(answer.Body, "queues")
		if err != nil {
			return err
		}
		head := "NAME | PAUSED | AVAILABLE | OLDEST | RUNNING | WAITING | PUT OFF | RETRYABLE | DISCARDED | A SECOND"
		return table(s, rows, head, func(q admin.Queue) []any {
			return []any{
				q.Name, timeOrNone(q.PausedAt), q.Available, seconds(q.OldestSeconds), q.Running, q.Waiting, q.Scheduled, q.Retryable, q.Discarded, q.CompletedPerSecond,
			}
		})
	})
}

// namedQueue is the argument of commands about one queue.
type namedQueue struct {
	Name   string `arg:"" help:"As queues list prints it."`
	Reason string `help:"Why, for the audit log."`
}

func (c namedQueue) change(ctx context.Context, s streams, action, done string) error {
	return s.operate(ctx, func(a api) error {
		q, raw, err := fetch[admin.Queue](ctx, a, post(client.Path("admin", "queues", c.Name, action), given(c.Reason)))
		if err != nil {
			return about("queue "+c.Name, err)
		}
		if s.asJSON {
			return s.json(raw)
		}
		_, err = fmt.Fprintf(s.out, "Queue %s %s.\n", q.Name, done)
		return err
	})
}

type queuesPause struct{ namedQueue }

// Run pauses a queue.
func (c queuesPause) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "pause", "paused")
}

type queuesResume struct{ namedQueue }

// Run resumes a queue.
func (c queuesResume) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "resume", "resumed")
}

type jobsCommand struct {
	List   jobsList   `cmd:"" help:"List jobs, newest first."`
	Show   jobsShow   `cmd:"" help:"Show one job and what went wrong with it."`
	Cancel jobsCancel `cmd:"" help:"End a job: it is not tried again."`
	Retry  jobsRetry  `cmd:"" help:"Work a job now."`
}

type jobsList struct {
	Kind  string `help:"Only of this kind, as process_event."`
	Queue string `help:"Only of this queue."`
	State string `help:"Only in this state, as retryable."`
	Limit int    `help:"How many." default:"50"`
}

// Run lists jobs.
func (c jobsList) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/jobs", params("kind", c.Kind, "queue", c.Queue, "state", c.State), "jobs", c.Limit)
		if err != nil {
			return err
		}
		return table(s, rows, "ID | KIND | QUEUE | STATE | ATTEMPT | FAILURES | CREATED | SCHEDULED | HOST | LAST ERROR", func(j admin.Job) []any {
			return []any{
				j.ID, j.Kind, j.Queue, j.State, fmt.Sprintf("%d of %d", j.Attempt, j.MaxAttempts), j.Failures,
				timeOrNone(&j.CreatedAt), timeOrNone(&j.ScheduledAt), j.Host, j.LastError,
			}
		})
	})
}

// namedJob is the argument of commands about one job.
type namedJob struct {
	ID int64 `arg:"" help:"As jobs list prints it."`
}

func (c namedJob) path(below ...string) string {
	return client.Path(append([]string{"admin", "jobs", strconv.FormatInt(c.ID, 10)}, below...)...)
}

func (c namedJob) change(ctx context.Context, s streams, action, reason string) error {
	return s.operate(ctx, func(a api) error {
		j, raw, err := fetch[admin.JobStory](ctx, a, post(c.path(action), given(reason)))
		if err != nil {
			return about(fmt.Sprintf("job %d", c.ID), err)
		}
		if s.asJSON {
			return s.json(raw)
		}
		_, err = fmt.Fprintf(s.out, "Job %d is %s.\n", j.ID, j.State)
		return err
	})
}

type jobsShow struct{ namedJob }

// Run shows a job.
func (c jobsShow) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, client.Request{Path: c.path()})
		if err != nil {
			return about(fmt.Sprintf("job %d", c.ID), err)
		}
		if s.asJSON {
			return s.json(answer.Body)
		}
		return s.showJob(answer.Body)
	})
}

func (s streams) showJob(raw json.RawMessage) error {
	var j admin.JobStory
	if err := json.Unmarshal(raw, &j); err != nil {
		return fmt.Errorf("read a job: %w", err)
	}
	plain, err := json.Marshal(j.Job)
	if err != nil {
		return fmt.Errorf("encode a job: %w", err)
	}
	if err := s.showObject(plain); err != nil {
		return err
	}
	if len(j.Errors) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nAT\tATTEMPT\tERROR")
	for _, e := range j.Errors {
		fmt.Fprintf(w, "%s\t%d\t%s\n", timeOrNone(&e.At), e.Attempt, e.Error)
	}
	return w.Flush()
}

type jobsCancel struct {
	namedJob
	Reason string `help:"Why, for the audit log."`
	asking
}

// Run cancels a job, once somebody has said so.
func (c jobsCancel) Run(ctx context.Context, s streams) error {
	if err := c.ask(ctx, s, "Cancel job %d?", c.ID); err != nil {
		return err
	}
	return c.change(ctx, s, "cancel", c.Reason)
}

type jobsRetry struct {
	namedJob
	Reason string `help:"Why, for the audit log."`
}

// Run retries a job.
func (c jobsRetry) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "retry", c.Reason)
}
