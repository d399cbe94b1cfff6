package admin

import (
	"context"
	"net/http"

	"github.com/memrelay/memrelay/internal/body"
)

// listQueues: GET /admin/queues. Answers 200 with all queues.
func (h *HTTP) listQueues(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	all, err := h.p.Running.Queues.List(c.ctx())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string][]Queue{"queues": all})
}

// pauseQueue: POST /admin/queues/{name}/pause. Answers 200 with the queue, and with
// what of its work goes on all the same.
func (h *HTTP) pauseQueue(c *call) error { return decideQueue(c, h.p.Running.Queues.Pause) }

// resumeQueue: POST /admin/queues/{name}/resume. Answers 200 with the queue.
func (h *HTTP) resumeQueue(c *call) error { return decideQueue(c, h.p.Running.Queues.Resume) }

func decideQueue(c *call, do func(context.Context, Actor, string, string) (Queue, error)) error {
	reason, err := c.reason()
	if err != nil {
		return err
	}
	q, err := do(c.ctx(), Actor(c.who), c.named("name"), reason)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, q)
}

// listJobs: GET /admin/jobs?kind=&queue=&state=&limit=&cursor=. Answers 200 with a page,
// newest first.
func (h *HTTP) listJobs(c *call) (err error) {
	if err := body.Params(c.params, "kind", "queue", "state", "limit", "cursor"); err != nil {
		return err
	}
	f := JobFilter{Kind: c.params.Get("kind"), Queue: c.params.Get("queue"), State: c.params.Get("state"), Cursor: c.params.Get("cursor")}
	if f.Limit, err = c.limit(); err != nil {
		return err
	}
	page, err := h.p.Running.Queues.Jobs(c.ctx(), f)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}

// getJob: GET /admin/jobs/{id}. Answers 200 with the job and what went wrong with it.
func (h *HTTP) getJob(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	id, err := c.number()
	if err != nil {
		return err
	}
	j, err := h.p.Running.Queues.Job(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, j)
}

// cancelJob: POST /admin/jobs/{id}/cancel. Answers 200 with the job: cancelled, or still
// running and asked to end.
func (h *HTTP) cancelJob(c *call) error { return decideJob(c, h.p.Running.Queues.CancelJob) }

// retryJob: POST /admin/jobs/{id}/retry. Answers 200 with the job, which is worked now.
func (h *HTTP) retryJob(c *call) error { return decideJob(c, h.p.Running.Queues.RetryJob) }

func decideJob(c *call, do func(context.Context, Actor, int64, string) (JobStory, error)) error {
	reason, err := c.reason()
	if err != nil {
		return err
	}
	id, err := c.number()
	if err != nil {
		return err
	}
	j, err := do(c.ctx(), Actor(c.who), id, reason)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, j)
}
