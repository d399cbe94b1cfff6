// Package api is the memory over HTTP, for bots and agents. In go requests with a
// bearer token, out come memories, what was found, the graph, and the events that
// bots emit; and for whoever follows the memory a memory_error of each operation
// that failed.
package api

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/memory"
)

// Searcher finds memories, best first. It returns a *memory.Invalid for a query that
// cannot be asked.
type Searcher interface {
	Search(ctx context.Context, q memory.Query) ([]memory.Found, error)
}

// Grapher reads the graph around an entity, or all of it for "". It returns a
// *memory.Invalid for what cannot be asked, and memory.ErrNotFound for a user that
// the caller may not see.
type Grapher interface {
	Neighbours(ctx context.Context, c memory.Caller, userID, entity string, depth int) (memory.Graph, error)
}

// Runner starts work that goes on after its request, and says how it stands. It
// returns a *memory.Invalid, memory.ErrNotFound for what the caller may not see, and
// memory.ErrKeyReused.
type Runner interface {
	Start(ctx context.Context, c memory.Caller, kind, userID string, dryRun bool) (memory.Run, error)
	Get(ctx context.Context, c memory.Caller, id uuid.UUID) (memory.Run, error)
}

// Checker holds the data of an event against what is published of it.
type Checker interface {
	CheckData(event string, data []byte) error
}

// Parts are what the API is made of.
type Parts struct {
	Access   *access.Access
	Store    *memory.Store
	Searcher Searcher
	Grapher  Grapher
	Runner   Runner
	Events   Checker
	Log      *slog.Logger
}

// API answers requests.
type API struct {
	p Parts
}

// New makes an API.
func New(p Parts) *API { return &API{p: p} }

// Routes puts the memory API onto r, which is mounted at /v1. All of it takes a token
// with the scope memory, whose user_ids bound what it sees.
func (a *API) Routes(r chi.Router) {
	r = r.With(a.p.Access.Require(access.Memory))

	// Agents that remember.
	r.Post("/memories", a.handle("add", a.add))
	r.Post("/memories/batch", a.handle("batch", a.addBatch))
	r.Patch("/memories/{id}", a.handle("update", a.update))
	r.Delete("/memories/{id}", a.handle("delete", a.remove))
	r.Delete("/memories", a.handle("delete_all", a.removeAll))
	r.Post("/preferences", a.handle("preference", a.addPreference))
	r.Post("/corrections", a.handle("correction", a.addCorrection))
	r.Post("/relationships", a.handle("relationship", a.relate))
	r.Delete("/relationships/{id}", a.handle("relationship_delete", a.unrelate))

	// Bots that keep a memory of their own, and have it told here.
	r.Post("/events/batch", a.handle("", a.emit))

	// Agents that recall.
	r.Post("/memories/search", a.handle("search", a.search))
	r.Get("/memories", a.handle("", a.list))
	r.Get("/memories/{id}", a.handle("", a.get))
	r.Get("/memories/{id}/history", a.handle("", a.history))
	r.Get("/graph", a.handle("graph", a.graph))
	r.Get("/accounts/{id}", a.handle("", a.account))

	// Whoever keeps a memory in order: these go on after the answer.
	r.Post("/graph/build", a.handle("graph_build", a.build))
	r.Post("/memories/optimize", a.handle("optimize", a.optimize))
	r.Get("/jobs/{id}", a.handle("", a.run))
}

// handle makes a handler of what a route does. operation is what memory_error calls
// it; "": nobody is told when it fails.
func (a *API) handle(operation string, do func(*call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := newCall(w, r)
		err := c.take()
		if err == nil {
			err = do(c)
		}
		if err != nil {
			a.fail(c, operation, err)
		}
	}
}
