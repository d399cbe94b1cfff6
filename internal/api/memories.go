package api

import (
	"context"
	"net/http"
	"net/url"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

// defaultPage is how many memories a list has that does not say.
const defaultPage = 50

// of is whose a memory is.
func (a *API) of(c *call, id uuid.UUID) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		row, err := a.p.Store.Get(ctx, c.caller, id)
		return row.UserID, err
	}
}

// add: POST /v1/memories. Answers 201 with the memory.
func (a *API) add(c *call) error {
	var n memory.New
	err := c.only(object{
		"user_id": text(&n.UserID), "content": text(&n.Content), "kind": text(&n.Kind), "metadata": metadata(&n.Metadata),
		"expires_at": moment(&n.ExpiresAt),
		"messages": list(&n.Messages, memory.MaxMessages, func(m *memory.Message) object {
			return object{"role": text(&m.Role), "content": text(&m.Content)}
		}),
	})
	if err != nil {
		return err
	}
	row, err := a.p.Store.Add(c.ctx(), c.caller, n)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, row)
}

// only reads the body of a route whose query has nothing to say.
func (c *call) only(o object) error {
	if err := c.query(); err != nil {
		return err
	}
	return c.read(o)
}

// addBatch: POST /v1/memories/batch. Answers 201 with the ids, in the order of the
// items: all of them are stored, or none.
func (a *API) addBatch(c *call) error {
	var userID string
	var items []memory.New
	err := c.only(object{
		"user_id": text(&userID),
		"items": list(&items, memory.MaxBatch, func(n *memory.New) object {
			return object{"content": text(&n.Content), "kind": text(&n.Kind), "metadata": metadata(&n.Metadata)}
		}),
	})
	if err != nil {
		return err
	}
	batch, err := a.p.Store.AddBatch(c.ctx(), c.caller, userID, items)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, batch)
}

// addPreference: POST /v1/preferences. Answers 201 with the memory that it is kept as.
func (a *API) addPreference(c *call) error {
	var p memory.Preference
	if err := c.only(object{"user_id": text(&p.UserID), "preference": text(&p.Preference), "category": text(&p.Category)}); err != nil {
		return err
	}
	row, err := a.p.Store.AddPreference(c.ctx(), c.caller, p)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, row)
}

// addCorrection: POST /v1/corrections. Answers 201 with the memory that it is kept as.
func (a *API) addCorrection(c *call) error {
	var k memory.Correction
	err := c.only(object{
		"user_id": text(&k.UserID), "original": text(&k.Original), "corrected": text(&k.Corrected), "context": text(&k.Context),
	})
	if err != nil {
		return err
	}
	row, err := a.p.Store.AddCorrection(c.ctx(), c.caller, k)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, row)
}

// update: PATCH /v1/memories/{id}. Answers 200 with the memory as it is now.
func (a *API) update(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	c.owner = a.of(c, id)
	var p memory.Patch
	if err := c.only(object{"content": optionalText(&p.Content), "metadata": metadata(&p.Metadata)}); err != nil {
		return err
	}
	row, err := a.p.Store.Update(c.ctx(), c.caller, id, p)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, row)
}

// removed is what was removed.
type removed struct {
	ID      uuid.UUID `json:"id"`
	Deleted bool      `json:"deleted"`
	// What it was: one of these.
	Memory       *memory.Row  `json:"memory,omitempty"`
	Relationship *memory.Link `json:"relationship,omitempty"`
}

// remove: DELETE /v1/memories/{id}. Answers 200 with what it was.
func (a *API) remove(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	c.owner = a.of(c, id)
	if err := c.query(); err != nil {
		return err
	}
	row, err := a.p.Store.Delete(c.ctx(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, removed{ID: id, Deleted: true, Memory: &row})
}

// removedAll is what was removed of a user.
type removedAll struct {
	UserID string `json:"user_id"`
	memory.Removed
}

// removeAll: DELETE /v1/memories?user_id=. Answers 200 with how many went, and how
// many are kept because they follow the CRM.
func (a *API) removeAll(c *call) error {
	if err := c.query("user_id"); err != nil {
		return err
	}
	userID := c.params.Get("user_id")
	r, err := a.p.Store.DeleteAll(c.ctx(), c.caller, userID)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, removedAll{UserID: userID, Removed: r})
}

// list: GET /v1/memories?user_id=&kind=&limit=&cursor=. Answers 200 with a page,
// newest first.
func (a *API) list(c *call) error {
	if err := c.query("user_id", "kind", "limit", "cursor"); err != nil {
		return err
	}
	limit, err := c.number("limit", defaultPage)
	if err != nil {
		return err
	}
	page, err := a.p.Store.List(c.ctx(), c.caller, memory.List{
		UserID: c.params.Get("user_id"), Kind: c.params.Get("kind"), Limit: limit, Cursor: c.params.Get("cursor"),
	})
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page)
}

// get: GET /v1/memories/{id}. Answers 200 with the memory.
func (a *API) get(c *call) error {
	id, err := c.idOnly()
	if err != nil {
		return err
	}
	row, err := a.p.Store.Get(c.ctx(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, row)
}

// idOnly is the path's id, of a route whose query has nothing to say.
func (c *call) idOnly() (uuid.UUID, error) {
	if err := c.query(); err != nil {
		return uuid.UUID{}, err
	}
	return c.id()
}

// changes are what became of a memory.
type changes struct {
	ID      uuid.UUID        `json:"id"`
	History []memory.Version `json:"history"`
}

// history: GET /v1/memories/{id}/history. Answers 200 with its changes, newest first,
// also of a memory that is gone.
func (a *API) history(c *call) error {
	id, err := c.idOnly()
	if err != nil {
		return err
	}
	versions, err := a.p.Store.History(c.ctx(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, changes{ID: id, History: versions})
}

// account: GET /v1/accounts/{id}. Answers 200 with the account as remembered.
func (a *API) account(c *call) error {
	if err := c.query(); err != nil {
		return err
	}
	id := chi.URLParam(c.r, "id")
	if c.r.URL.RawPath != "" {
		// Then chi hands over what was sent, which is escaped.
		var err error
		if id, err = url.PathUnescape(id); err != nil {
			return memory.ErrNotFound
		}
	}
	known, err := a.p.Store.Account(c.ctx(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, known)
}
