package admin

import (
	"net/http"
	"slices"

	"github.com/memrelay/memrelay/internal/body"
)

// listChannels: GET /admin/channels. Answers 200 with all channels, and the modules that
// should have one and have none.
func (h *HTTP) listChannels(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	list, err := h.p.Running.Channels.List(c.ctx())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, list)
}

// renewChannel: POST /admin/channels/{id}/renew, where id is the channel's or its module.
// Answers 202 with the channel; a job renews it.
func (h *HTTP) renewChannel(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	ch, err := h.p.Running.Channels.Renew(c.ctx(), Actor(c.who), c.named("id"))
	if err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, ch)
}

// operateChannel: POST /admin/channels/{id}/pause, resume and disable. Answers 200 with
// the channel once Zoho has said yes.
func (h *HTTP) operateChannel(action string) func(*call) error {
	return func(c *call) error {
		if err := c.nothing(); err != nil {
			return err
		}
		ch, err := h.p.Running.Channels.Operate(c.ctx(), Actor(c.who), action, c.named("id"))
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, ch)
	}
}

// listSyncs: GET /admin/syncs?kind=&state=&limit=&cursor=. Answers 200 with a page,
// newest first, of the newest thousand.
func (h *HTTP) listSyncs(c *call) error {
	if err := body.Params(c.params, "kind", "state", "limit", "cursor"); err != nil {
		return err
	}
	kind, err := c.oneOf("kind", "full", "incremental")
	if err != nil {
		return err
	}
	state, err := c.oneOf("state", "running", "paused", "completed", "failed", "cancelled")
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = defaultPage
	}
	all, err := h.p.Running.Syncs.List(c.ctx())
	if err != nil {
		return err
	}
	if cursor := c.params.Get("cursor"); cursor != "" {
		at := slices.IndexFunc(all, func(s SyncRow) bool { return s.ID == cursor })
		if at < 0 {
			return wrong("cursor", "want next_cursor of the page before")
		}
		all = all[at+1:]
	}
	all = slices.DeleteFunc(all, func(s SyncRow) bool { return (kind != "" && s.Kind != kind) || (state != "" && s.State != state) })
	page := struct {
		Syncs      []any  `json:"syncs"`
		NextCursor string `json:"next_cursor,omitempty"`
	}{Syncs: []any{}}
	for i, s := range all {
		if i == limit {
			page.NextCursor = all[i-1].ID
			break
		}
		page.Syncs = append(page.Syncs, s.Status)
	}
	return c.answer(http.StatusOK, page)
}

// getSync: GET /admin/syncs/{id}. Answers 200 with the sync, its modules and the records
// that it could not take. For the id it takes a kind, too: then it is the active one.
func (h *HTTP) getSync(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	s, err := h.p.Running.Syncs.Get(c.ctx(), c.named("id"))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, s)
}

// startSync: POST /admin/syncs. Answers 202 with the sync that goes on from now, or 200
// with that of its kind which is under way. The read of an account is no sync of its
// own: it is answered with the account.
func (h *HTTP) startSync(c *call) error {
	var kind, account string
	if err := c.only(body.Object{"kind": body.Text(&kind), "account_id": body.Text(&account)}); err != nil {
		return err
	}
	switch kind {
	case "account":
		if account == "" || !storable(account) {
			return wrong("account_id", "want the id of an account")
		}
		if err := h.p.Running.Syncs.ReadAccount(c.ctx(), Actor(c.who), account); err != nil {
			return err
		}
		return c.answer(http.StatusAccepted, map[string]string{"kind": kind, "account_id": account})
	case "full", "incremental":
		if account != "" {
			return wrong("account_id", "is for the kind account")
		}
		return h.startWhole(c, kind)
	}
	return wrong("kind", "want account, incremental or full")
}

func (h *HTTP) startWhole(c *call, kind string) error {
	id, already, err := h.p.Running.Syncs.Start(c.ctx(), Actor(c.who), kind)
	if err != nil {
		return err
	}
	s, err := h.p.Running.Syncs.Get(c.ctx(), id)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/admin/syncs/"+id)
	if already {
		return c.answer(http.StatusOK, s)
	}
	return c.answer(http.StatusAccepted, s)
}

// decideSync: POST /admin/syncs/{id}/pause, resume and cancel. Answers 200 with the sync.
func (h *HTTP) decideSync(action string) func(*call) error {
	return func(c *call) error {
		if err := c.nothing(); err != nil {
			return err
		}
		id, err := h.p.Running.Syncs.Decide(c.ctx(), Actor(c.who), action, c.named("id"))
		if err != nil {
			return err
		}
		s, err := h.p.Running.Syncs.Get(c.ctx(), id)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, s)
	}
}
