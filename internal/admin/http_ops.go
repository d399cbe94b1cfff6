package admin

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/body"
)

// runningRoutes are those over the running of the program.
func (h *HTTP) runningRoutes(look, do chi.Router) {
	// How it runs.
	look.Get("/stats", handle(h.getStats))
	look.Get("/queues", handle(h.listQueues))
	do.Post("/queues/{name}/pause", handle(h.pauseQueue))
	do.Post("/queues/{name}/resume", handle(h.resumeQueue))
	look.Get("/jobs", handle(h.listJobs))
	look.Get("/jobs/{id}", handle(h.getJob))
	do.Post("/jobs/{id}/cancel", handle(h.cancelJob))
	do.Post("/jobs/{id}/retry", handle(h.retryJob))

	// What binds it to Zoho.
	look.Get("/channels", handle(h.listChannels))
	do.Post("/channels/{id}/renew", handle(h.renewChannel))
	do.Post("/channels/{id}/pause", handle(h.operateChannel("pause")))
	do.Post("/channels/{id}/resume", handle(h.operateChannel("resume")))
	do.Post("/channels/{id}/disable", handle(h.operateChannel("disable")))
	look.Get("/syncs", handle(h.listSyncs))
	do.Post("/syncs", handle(h.startSync))
	look.Get("/syncs/{id}", handle(h.getSync))
	do.Post("/syncs/{id}/pause", handle(h.decideSync("pause")))
	do.Post("/syncs/{id}/resume", handle(h.decideSync("resume")))
	do.Post("/syncs/{id}/cancel", handle(h.decideSync("cancel")))

	// Who may what, who did what, and who was turned away.
	look.Get("/settings", handle(h.listSettings))
	look.Get("/tokens", handle(h.listTokens))
	do.Post("/tokens", handle(h.createToken))
	do.Delete("/tokens/{id}", handle(h.revokeToken))
	look.Get("/audit", handle(h.listAudit))
	look.Get("/rejected", handle(h.listRejected))
}

// named is a part of the path.
func (c *call) named(part string) string { return chi.URLParam(c.r, part) }

// limit is the parameter of the query of that name; 0 when it is not there.
func (c *call) limit() (int, error) {
	if !c.params.Has("limit") {
		return 0, nil
	}
	n, err := strconv.Atoi(c.params.Get("limit"))
	if err != nil || n < 1 || n > MaxPage {
		return 0, wrong("limit", "want 1 to %d", MaxPage)
	}
	return n, nil
}

// reason reads the body of a decision: why, or nothing at all.
func (c *call) reason() (string, error) {
	var reason string
	if err := c.optional(body.Object{"reason": body.Text(&reason)}); err != nil {
		return "", err
	}
	return reason, checkReason(reason)
}

// getStats: GET /admin/stats?window=. Answers 200 with figures of the last 5m, 1h or 24h.
func (h *HTTP) getStats(c *call) error {
	if err := body.Params(c.params, "window"); err != nil {
		return err
	}
	window := "5m"
	if c.params.Has("window") {
		window = c.params.Get("window")
	}
	of, err := h.p.Running.Stats.Of(c.ctx(), window)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, of)
}

// listSettings: GET /admin/settings. Answers 200 with the settings in force on the node
// that answers, without secrets.
func (h *HTTP) listSettings(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string][]Setting{"settings": append([]Setting{}, h.p.Running.Settings...)})
}

// listAudit: GET /admin/audit?actor=&action=&object=&since=&until=&limit=&cursor=.
// Answers 200 with a page of who did what, newest first.
func (h *HTTP) listAudit(c *call) (err error) {
	if err := body.Params(c.params, "actor", "action", "object", "since", "until", "limit", "cursor"); err != nil {
		return err
	}
	f := AuditFilter{Actor: c.params.Get("actor"), Action: c.params.Get("action"), Object: c.params.Get("object"), Cursor: c.params.Get("cursor")}
	if f.Limit, err = c.limit(); err != nil {
		return err
	}
	if f.Since, err = c.moment("since"); err != nil {
		return err
	}
	if f.Until, err = c.moment("until"); err != nil {
		return err
	}
	page, err := h.p.Running.Audit.List(c.ctx(), f)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}

// listRejected: GET /admin/rejected?status=&code=&route=&address=&limit=&cursor=.
// Answers 200 with a page of who was turned away, newest first.
func (h *HTTP) listRejected(c *call) (err error) {
	if err := body.Params(c.params, "status", "code", "route", "address", "limit", "cursor"); err != nil {
		return err
	}
	f := RejectedFilter{Code: c.params.Get("code"), Route: c.params.Get("route"), Address: c.params.Get("address"), Cursor: c.params.Get("cursor")}
	if c.params.Has("status") {
		if f.Status, err = strconv.Atoi(c.params.Get("status")); err != nil || f.Status < 400 || f.Status > 599 {
			return wrong("status", "want 400 to 599")
		}
	}
	if f.Limit, err = c.limit(); err != nil {
		return err
	}
	page, err := h.p.Running.Rejected.List(c.ctx(), f)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}

// ShownToken is a token as operators see it.
type ShownToken struct {
	access.Token
	State string `json:"state"` // active, expired or revoked
}

// MadeToken is a token with its secret: nothing shows that again.
type MadeToken struct {
	Secret string `json:"token"`
	ShownToken
}

// listTokens: GET /admin/tokens. Answers 200 with all tokens, newest first.
func (h *HTTP) listTokens(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	all, err := h.p.Running.Tokens.List(c.ctx())
	if err != nil {
		return err
	}
	shown := make([]ShownToken, len(all))
	for i, t := range all {
		shown[i] = ShownToken{t, t.State(h.p.Now())}
	}
	return c.answer(http.StatusOK, map[string][]ShownToken{"tokens": shown})
}

// createToken: POST /admin/tokens. Answers 201 with the token, whose secret it shows
// this once. It may no more than the token that it is asked for with.
func (h *HTTP) createToken(c *call) error {
	var n access.NewToken
	var until *time.Time
	err := c.only(body.Object{
		"name": body.Text(&n.Name), "scopes": body.As(&n.Scopes, "a list of strings"),
		"user_ids": body.As(&n.UserIDs, "a list of strings"), "expires_at": body.Moment(&until),
	})
	if err != nil {
		return err
	}
	if until != nil {
		if n.Lasts = until.Sub(h.p.Now()); n.Lasts <= 0 {
			return wrong("expires_at", "want a time to come")
		}
	}
	who, _ := access.From(c.ctx())
	secret, token, err := h.p.Running.Tokens.CreateFor(c.ctx(), who, n)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, MadeToken{secret, ShownToken{token, token.State(h.p.Now())}})
}

// revokeToken: DELETE /admin/tokens/{id}. Answers 200; the next request with the token
// is refused. It takes the name for the id, too.
func (h *HTTP) revokeToken(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	id, name, err := h.p.Running.Tokens.Revoke(c.ctx(), c.who.Name, c.named("id"))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"id": id, "name": name, "revoked": true})
}

// oneOf refuses a parameter that is there and is none of these.
func (c *call) oneOf(name string, these ...string) (string, error) {
	text := c.params.Get(name)
	if c.params.Has(name) && !slices.Contains(these, text) {
		return "", wrong(name, "want one of %s", strings.Join(these, ", "))
	}
	return text, nil
}
