package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/body"
)

// eventRoutes are those over what came in.
func (h *HTTP) eventRoutes(look, do chi.Router) {
	// What came in, and what became of it.
	look.Get("/events", handle(h.listEvents))
	look.Get("/events/stream", handle(h.streamEvents))
	look.Get("/events/{id}", handle(h.getEvent))
	look.Get("/events/{id}/body", handle(h.getEventBody))
	do.Post("/events/{id}/replay", handle(h.replayEvent))
	look.Get("/records", handle(h.findRecord))
	look.Get("/records/{module}/{record_id}", handle(h.getRecord))
	look.Get("/memories/{id}/history", handle(h.getMemoryHistory))

	// Many of them again.
	look.Get("/replays", handle(h.listReplays))
	do.Post("/replays", handle(h.startReplay))
	look.Get("/replays/{id}", handle(h.getReplay))
	do.Post("/replays/{id}/cancel", handle(h.decideReplay((*Replays).Cancel)))
	do.Post("/replays/{id}/pause", handle(h.decideReplay((*Replays).Pause)))
	do.Post("/replays/{id}/resume", handle(h.decideReplay((*Replays).Resume)))

	// What waits for a decision.
	look.Get("/dead", handle(h.listDead))
	do.Post("/dead/retry", handle(h.retryAllDead))
	do.Post("/dead/{kind}/{id}/retry", handle(h.retryDead))
	do.Post("/dead/{kind}/{id}/discard", handle(h.discardDead))
}

// listEvents: GET /admin/events?status=&source=&module=&operation=&record_id=&account_id=&user_id=&event_id=&error=&since=&until=&limit=&cursor=.
// Answers 200 with a page, newest first.
func (h *HTTP) listEvents(c *call) error {
	var f EventFilter
	err := body.Params(c.params, append(slices.Collect(maps.Keys(f.texts())), "since", "until", "limit", "cursor")...)
	if err != nil {
		return err
	}
	for name, text := range f.texts() {
		*text = c.params.Get(name)
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
	f.Cursor = c.params.Get("cursor")
	page, err := h.p.Events.List(c.ctx(), f)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}

// getEvent: GET /admin/events/{id}. Answers 200 with the event and all that became of it.
func (h *HTTP) getEvent(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	id, err := c.number()
	if err != nil {
		return err
	}
	story, err := h.p.Events.Get(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, story)
}

// shownBody is a body as JSON.
type shownBody struct {
	EventID     int64           `json:"event_id"`
	ContentType string          `json:"content_type"`
	Headers     json.RawMessage `json:"headers"`
	Body        *string         `json:"body"`   // null: it is no text
	Base64      *string         `json:"base64"` // null: it is one
}

// bodyTypes are those that the doors take.
func bodyTypes() []string { return []string{"application/json", "application/x-www-form-urlencoded"} }

// getEventBody: GET /admin/events/{id}/body?as=json. Answers 200 with the bytes as they
// came, or with what is known of them as JSON; 410 once they are deleted.
func (h *HTTP) getEventBody(c *call) error {
	if err := body.Params(c.params, "as"); err != nil {
		return err
	}
	as := c.params.Get("as")
	if as != "" && as != "json" {
		return wrong("as", "want json, or nothing")
	}
	id, err := c.number()
	if err != nil {
		return err
	}
	b, err := h.p.Events.Body(c.ctx(), id)
	if err != nil {
		return err
	}
	header := c.w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	if as == "json" {
		shown := shownBody{EventID: id, ContentType: b.ContentType, Headers: b.Headers}
		if utf8.Valid(b.Body) {
			text := string(b.Body)
			shown.Body = &text
		} else {
			text := base64.StdEncoding.EncodeToString(b.Body)
			shown.Base64 = &text
		}
		return c.answer(http.StatusOK, shown)
	}
	// Whoever sent it has written it: no browser is to run any of it.
	header.Set("Content-Type", "application/octet-stream")
	if media, _, err := mime.ParseMediaType(b.ContentType); err == nil && slices.Contains(bodyTypes(), media) {
		header.Set("Content-Type", b.ContentType)
	}
	header.Set("Content-Security-Policy", "sandbox")
	header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=event-%d", id))
	c.w.WriteHeader(http.StatusOK)
	// A client that is gone is no fault of ours, and nobody is left to be told.
	_, _ = c.w.Write(b.Body)
	return nil
}

// replayed is that one event runs again.
type replayed struct {
	EventID  int64     `json:"event_id"`
	ReplayID uuid.UUID `json:"replay_id"`
}

// replayEvent: POST /admin/events/{id}/replay. Answers 202: it is worked as when it came.
func (h *HTTP) replayEvent(c *call) error {
	reason, err := c.reason()
	if err != nil {
		return err
	}
	id, err := c.number()
	if err != nil {
		return err
	}
	replay, err := h.p.Admin.Replay(c.ctx(), Actor(c.who), id, reason)
	if err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, replayed{EventID: id, ReplayID: replay})
}

// streamEvents: GET /admin/events/stream?status=&module=&source=&last_event_id=. Answers
// 200 with server-sent events, one for each change of an event, until the client leaves
// or its token is no longer good.
func (h *HTTP) streamEvents(c *call) error {
	if err := body.Params(c.params, "status", "module", "source", "last_event_id"); err != nil {
		return err
	}
	f := StreamFilter{Status: c.params.Get("status"), Module: c.params.Get("module"), Source: c.params.Get("source")}
	if f.Status != "" && !slices.Contains(EventStatuses(), f.Status) {
		return (&EventFilter{Status: f.Status}).check()
	}
	position := c.r.Header.Get("Last-Event-ID")
	if position == "" {
		position = c.params.Get("last_event_id")
	}
	follow, err := h.p.Stream.Follow(c.ctx(), c.who.Name, f, position)
	if err != nil {
		return err
	}
	defer h.p.Stream.Leave(follow)
	header := c.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // a proxy that gathers would keep what is new to itself
	out := feed{w: c.w, control: http.NewResponseController(c.w)}
	c.w.WriteHeader(http.StatusOK)
	out.run(c, follow, beats{every: h.p.Stream.heartbeat, may: h.mayFollow(c), until: h.untilExpired(c)})
	return nil
}

// mayFollow asks again whether the token of a request is good. A database that does not
// say so ends no stream: nothing new is told meanwhile.
func (h *HTTP) mayFollow(c *call) func() bool {
	return func() bool {
		ctx, cancel := context.WithTimeout(c.ctx(), feedWait)
		defer cancel()
		return !errors.Is(h.p.Access.Still(c.r.WithContext(ctx), access.AdminRead), access.ErrUnauthorized)
	}
}

// untilExpired is how long the token of a request is good; nil: it does not expire.
func (h *HTTP) untilExpired(c *call) *time.Duration {
	who, _ := access.From(c.ctx())
	if who.Until == nil {
		return nil
	}
	left := who.Until.Sub(h.p.Now())
	return &left
}

// feedWait is how long one write to a follower may take.
const feedWait = 10 * time.Second

// feed is a stream on its way to one client.
type feed struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// beats are when a stream says that it is there, and when it ends.
type beats struct {
	every time.Duration
	may   func() bool    // whether who follows may go on
	until *time.Duration // how long it may at most; nil: for good
}

// run writes what is told until there is nothing more, or nobody who reads it or may. A
// client that does not read is let go: its next request says where it was.
func (f feed) run(c *call, follow *Follow, b beats) {
	defer func() { _ = f.control.SetWriteDeadline(time.Time{}) }()
	first := "retry: 2000\n: from now on\n\n"
	if follow.Missed {
		first = "retry: 2000\nevent: missed\ndata: {\"message\":\"More was missed than is told here: GET /admin/events has it.\"}\n\n"
	}
	if !f.write(first) || !f.flush() {
		return
	}
	beat := time.NewTicker(b.every)
	defer beat.Stop()
	var expired <-chan time.Time
	if b.until != nil {
		end := time.NewTimer(*b.until)
		defer end.Stop()
		expired = end.C
	}
	for {
		select {
		case <-c.ctx().Done():
			return
		case <-expired:
			return
		case change, more := <-follow.Changes:
			if !more || !f.change(change) || len(follow.Changes) == 0 && !f.flush() {
				return
			}
		case <-beat.C:
			if !b.may() || !f.write(": still here\n\n") || !f.flush() {
				return
			}
		}
	}
}

func (f feed) change(c Change) bool {
	text, err := json.Marshal(c)
	return err == nil && f.write("id: "+c.Position+"\nevent: event\ndata: "+string(text)+"\n\n")
}

// write reports whether somebody may still read.
func (f feed) write(text string) bool {
	// A recorder in a test has no deadline to set; a server's connection does.
	_ = f.control.SetWriteDeadline(time.Now().Add(feedWait))
	_, err := f.w.Write([]byte(text))
	return err == nil
}

func (f feed) flush() bool { return f.control.Flush() == nil }
