package admin

import (
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/body"
)

// listDeliveries: GET /admin/deliveries?endpoint=&status=&event=&user_id=&webhook_id=&since=&until=&limit=&cursor=.
// Answers 200 with a page, newest first.
func (h *HTTP) listDeliveries(c *call) error {
	f, err := c.deliveryFilter()
	if err != nil {
		return err
	}
	page, err := h.p.Deliveries.List(c.ctx(), f)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}

func (c *call) deliveryFilter() (f DeliveryFilter, err error) {
	if err := body.Params(c.params, "endpoint", "status", "event", "user_id", "webhook_id", "since", "until", "limit", "cursor"); err != nil {
		return f, err
	}
	f = DeliveryFilter{
		Endpoint: c.params.Get("endpoint"), Status: c.params.Get("status"), Event: c.params.Get("event"),
		UserID: c.params.Get("user_id"), Cursor: c.params.Get("cursor"),
	}
	if text := c.params.Get("webhook_id"); text != "" {
		if f.WebhookID, err = uuid.Parse(text); err != nil {
			return f, wrong("webhook_id", "want a UUID")
		}
	}
	if c.params.Has("limit") {
		if f.Limit, err = strconv.Atoi(c.params.Get("limit")); err != nil || f.Limit == 0 {
			return f, wrong("limit", "want 1 to %d", MaxPage)
		}
	}
	if f.Since, err = c.moment("since"); err != nil {
		return f, err
	}
	f.Until, err = c.moment("until")
	return f, err
}

// getDelivery: GET /admin/deliveries/{id}. Answers 200 with the delivery, its attempts
// and what it tells.
func (h *HTTP) getDelivery(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	id, err := c.number()
	if err != nil {
		return err
	}
	story, err := h.p.Deliveries.Get(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, story)
}

// resendDelivery: POST /admin/deliveries/{id}/resend. Answers 200 with the delivery,
// which is open again.
func (h *HTTP) resendDelivery(c *call) error {
	reason, err := c.reason()
	if err != nil {
		return err
	}
	id, err := c.number()
	if err != nil {
		return err
	}
	d, err := h.p.Deliveries.Resend(c.ctx(), Actor(c.who), id, reason)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, d)
}
