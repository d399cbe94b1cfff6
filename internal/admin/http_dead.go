package admin

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay/internal/body"
)

// listDead: GET /admin/dead?kind=&source=&module=&record_id=&account_id=&endpoint=&error=&since=&until=&limit=&cursor=.
// Answers 200 with a page of what waits for a decision, newest first.
func (h *HTTP) listDead(c *call) error {
	err := body.Params(c.params, "kind", "source", "module", "record_id", "account_id", "endpoint", "error", "since", "until", "limit", "cursor")
	if err != nil {
		return err
	}
	f := DeadFilter{
		Kind: c.params.Get("kind"), Source: c.params.Get("source"), Module: c.params.Get("module"), RecordID: c.params.Get("record_id"),
		AccountID: c.params.Get("account_id"), Endpoint: c.params.Get("endpoint"), Error: c.params.Get("error"), Cursor: c.params.Get("cursor"),
	}
	if f.Limit, err = c.limit(); err != nil {
		return err
	}
	if f.Since, err = c.moment("since"); err != nil {
		return err
	}
	if f.Until, err = c.moment("until"); err != nil {
		return err
	}
	page, err := ListDead(c.ctx(), h.p.Events, h.p.Deliveries, f)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}

// letter is what the path names; ErrNotFound for what can be none.
func (c *call) letter() (Letter, error) {
	l, err := ParseLetter(chi.URLParam(c.r, "kind") + "/" + chi.URLParam(c.r, "id"))
	if err != nil {
		return l, ErrNotFound
	}
	return l, nil
}

// decided is what a person said of a letter.
type decided struct {
	ID       string `json:"id"` // event/42, delivery/7
	Decision string `json:"decision"`
}

// retryDead: POST /admin/dead/{kind}/{id}/retry. Answers 202: it has all its attempts again.
func (h *HTTP) retryDead(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	l, err := c.letter()
	if err != nil {
		return err
	}
	if err := h.p.Admin.RetryDead(c.ctx(), Actor(c.who), l); err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, decided{ID: l.String(), Decision: "retry"})
}

// discardDead: POST /admin/dead/{kind}/{id}/discard. Answers 200: nothing more is done.
func (h *HTTP) discardDead(c *call) error {
	var reason string
	if err := c.only(body.Object{"reason": body.Text(&reason)}); err != nil {
		return err
	}
	if reason == "" {
		return wrong("reason", "say why: it stands in the audit log")
	}
	if err := checkReason(reason); err != nil {
		return err
	}
	l, err := c.letter()
	if err != nil {
		return err
	}
	if err := h.p.Admin.DiscardDead(c.ctx(), Actor(c.who), l, reason); err != nil {
		return err
	}
	return c.answer(http.StatusOK, decided{ID: l.String(), Decision: "discard"})
}
