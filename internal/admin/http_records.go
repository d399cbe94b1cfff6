package admin

import (
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay/internal/body"
)

// findRecord: GET /admin/records?record_id=&limit=&cursor=. Answers 200 with the story of
// all records of that id, whatever their module.
func (h *HTTP) findRecord(c *call) error {
	if err := body.Params(c.params, "record_id", "limit", "cursor"); err != nil {
		return err
	}
	return h.tellRecord(c, RecordFilter{RecordID: c.params.Get("record_id")})
}

// getRecord: GET /admin/records/{module}/{record_id}?limit=&cursor=. Answers 200 with how
// the record stands and what happened to it, the newest part first.
func (h *HTTP) getRecord(c *call) error {
	if err := body.Params(c.params, "limit", "cursor"); err != nil {
		return err
	}
	return h.tellRecord(c, RecordFilter{Module: chi.URLParam(c.r, "module"), RecordID: chi.URLParam(c.r, "record_id")})
}

func (h *HTTP) tellRecord(c *call, f RecordFilter) (err error) {
	if f.Limit, err = c.limit(); err != nil {
		return err
	}
	f.Cursor = c.params.Get("cursor")
	story, err := h.p.Events.Record(c.ctx(), f)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, story)
}

// getMemoryHistory: GET /admin/memories/{id}/history?limit=&before=. Answers 200 with what
// became of a memory, newest first, also of one that is gone.
func (h *HTTP) getMemoryHistory(c *call) error {
	if err := body.Params(c.params, "limit", "before"); err != nil {
		return err
	}
	id, err := c.id()
	if err != nil {
		return err
	}
	limit, err := c.limit()
	if err != nil {
		return err
	}
	before := int64(0)
	if c.params.Has("before") {
		if before, err = strconv.ParseInt(c.params.Get("before"), 10, 64); err != nil || before < 1 {
			return wrong("before", "want next_before of the page before")
		}
	}
	page, err := h.p.Events.MemoryHistory(c.ctx(), id, before, limit)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}
