package admin

import (
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/endpoint"
)

// recoverEndpoint: POST /admin/endpoints/{endpoint}/recover. What died in that time is
// sent again.
func (h *HTTP) recoverEndpoint(c *call) error { return h.redeliver(c, endpoint.Recover) }

// replayEndpoint: POST /admin/endpoints/{endpoint}/replay. Everything of that time is
// sent again, delivered or not.
func (h *HTTP) replayEndpoint(c *call) error { return h.redeliver(c, endpoint.Replay) }

// redeliver answers 202 with what goes on from now, or, of a dry run, 200 with how
// many there are.
func (h *HTTP) redeliver(c *call, kind string) error {
	in := endpoint.RedeliverySettings{Kind: kind, Until: h.p.Now()}
	var since, until *time.Time
	var dryRun bool
	fields := body.Object{
		"since": body.Moment(&since), "until": body.Moment(&until), "per_second": body.As(&in.PerSecond, "a whole number"),
		"dry_run": body.As(&dryRun, "true or false"), "reason": body.Text(&in.Reason),
	}
	if kind == endpoint.Replay {
		fields["events"] = body.As(&in.Events, "a list of strings")
	}
	if err := c.only(fields); err != nil {
		return err
	}
	if err := checkReason(in.Reason); err != nil {
		return err
	}
	if since == nil {
		return wrong("since", "want a time as 2030-01-31T12:00:00Z")
	}
	in.Since = *since
	if until != nil {
		in.Until = *until
	}
	if dryRun {
		found, err := h.p.Redeliveries.Count(c.ctx(), c.which(), in)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, map[string]any{"dry_run": true, "found": found})
	}
	r, err := h.p.Redeliveries.Start(c.ctx(), c.who, c.which(), in)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/admin/redeliveries/"+r.ID.String())
	return c.answer(http.StatusAccepted, r)
}

// listRedeliveries: GET /admin/redeliveries?endpoint=. Answers 200 with them, newest first.
func (h *HTTP) listRedeliveries(c *call) error {
	if err := body.Params(c.params, "endpoint"); err != nil {
		return err
	}
	which := c.params.Get("endpoint")
	if which == "" {
		return wrong("endpoint", "want one: its name or its id")
	}
	all, err := h.p.Redeliveries.List(c.ctx(), which)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string][]endpoint.Redelivery{"redeliveries": append([]endpoint.Redelivery{}, all...)})
}

// getRedelivery: GET /admin/redeliveries/{id}. Answers 200 with how it stands.
func (h *HTTP) getRedelivery(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	id, err := c.id()
	if err != nil {
		return err
	}
	r, err := h.p.Redeliveries.Get(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, r)
}

// cancelRedelivery: POST /admin/redeliveries/{id}/cancel. Answers 200 with where it
// stopped; what it has opened by then is sent.
func (h *HTTP) cancelRedelivery(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	id, err := c.id()
	if err != nil {
		return err
	}
	r, err := h.p.Redeliveries.Cancel(c.ctx(), c.who, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, r)
}
