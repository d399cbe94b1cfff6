package admin

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/body"
)

// maxKey bounds an Idempotency-Key, in bytes.
const maxKey = 255

// startReplay: POST /admin/replays. Answers 202 with a replay that goes on from now, or,
// of a dry run, 200 with how many there are and the oldest of them.
func (h *HTTP) startReplay(c *call) error {
	var in ReplaySettings
	return h.replay(c, &in, in.Filter.texts())
}

// retryAllDead: POST /admin/dead/retry. As startReplay, of events that are dead.
func (h *HTTP) retryAllDead(c *call) error {
	in := ReplaySettings{Filter: EventFilter{Status: "dead"}}
	texts := in.Filter.texts()
	delete(texts, "status")
	return h.replay(c, &in, texts)
}

func (h *HTTP) replay(c *call, in *ReplaySettings, texts map[string]*string) (err error) {
	var since, until *time.Time
	var dryRun bool
	fields := body.Object{
		"since": body.Moment(&since), "until": body.Moment(&until), "per_second": body.As(&in.PerSecond, "a whole number"),
		"dry_run": body.As(&dryRun, "true or false"), "reason": body.Text(&in.Reason),
	}
	for name, text := range texts {
		fields[name] = body.Text(text)
	}
	if err := c.optional(fields); err != nil {
		return err
	}
	if since != nil {
		in.Filter.Since = *since
	}
	if until != nil {
		in.Filter.Until = *until
	}
	if in.Key, err = c.key(); err != nil {
		return err
	}
	if dryRun {
		found, err := h.p.Replays.Count(c.ctx(), *in)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, found)
	}
	r, err := h.p.Replays.Start(c.ctx(), Actor(c.who), *in)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/admin/replays/"+r.ID.String())
	return c.answer(http.StatusAccepted, r)
}

// key is the Idempotency-Key; "" when there is none.
func (c *call) key() (string, error) {
	values := c.r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	hidden := strings.ContainsFunc(values[0], func(r rune) bool { return r <= ' ' || r > '~' })
	if len(values) > 1 || values[0] == "" || len(values[0]) > maxKey || hidden {
		return "", wrong("Idempotency-Key", "want one, of 1 to %d visible ASCII characters", maxKey)
	}
	return values[0], nil
}

// replayPage is a part of a list, newest first.
type replayPage struct {
	Replays    []Replay `json:"replays"`
	NextCursor string   `json:"next_cursor,omitempty"`
}

// listReplays: GET /admin/replays?state=&limit=&cursor=. Answers 200 with a page, newest first.
func (h *HTTP) listReplays(c *call) error {
	if err := body.Params(c.params, "state", "limit", "cursor"); err != nil {
		return err
	}
	states := []string{ReplayRunning, ReplayPaused, ReplayDone, ReplayCancelled}
	state := c.params.Get("state")
	if state != "" && !slices.Contains(states, state) {
		return wrong("state", "want one of %s", strings.Join(states, ", "))
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = defaultPage
	}
	before := uuid.Max
	if c.params.Has("cursor") {
		if before, err = uuid.Parse(c.params.Get("cursor")); err != nil {
			return wrong("cursor", "want next_cursor of the page before")
		}
	}
	all, next, err := h.p.Replays.List(c.ctx(), state, before, limit)
	if err != nil {
		return err
	}
	page := replayPage{Replays: all}
	if next != uuid.Nil {
		page.NextCursor = next.String()
	}
	return c.answer(http.StatusOK, page)
}

// getReplay: GET /admin/replays/{id}. Answers 200 with how it stands.
func (h *HTTP) getReplay(c *call) error {
	if err := c.nothing(); err != nil {
		return err
	}
	id, err := c.id()
	if err != nil {
		return err
	}
	r, err := h.p.Replays.Get(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, r)
}

// decideReplay: POST /admin/replays/{id}/cancel, pause and resume. Answers 200 with where
// it stands; what it has run again by then runs.
func (h *HTTP) decideReplay(decide func(*Replays, context.Context, Actor, uuid.UUID) (Replay, error)) func(*call) error {
	return func(c *call) error {
		if err := c.nothing(); err != nil {
			return err
		}
		id, err := c.id()
		if err != nil {
			return err
		}
		r, err := decide(h.p.Replays, c.ctx(), Actor(c.who), id)
		if err != nil {
			return err
		}
		return c.answer(http.StatusOK, r)
	}
}
