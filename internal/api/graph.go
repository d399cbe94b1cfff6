package api

import (
	"context"
	"net/http"

	"github.com/memrelay/memrelay/internal/memory"
)

// defaultDepth is how many steps away the graph is read that does not say.
const defaultDepth = 1

// relate: POST /v1/relationships. Answers 201 with the line of the graph.
func (a *API) relate(c *call) error {
	var n memory.NewLink
	err := c.only(object{
		"user_id": text(&n.UserID), "source": text(&n.Source), "relationship": text(&n.Relationship), "target": text(&n.Target),
		"confidence": number(&n.Confidence), "metadata": metadata(&n.Metadata),
	})
	if err != nil {
		return err
	}
	l, err := a.p.Store.Relate(c.ctx(), c.caller, n)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, l)
}

// unrelate: DELETE /v1/relationships/{id}. Answers 200 with what it was.
func (a *API) unrelate(c *call) error {
	id, err := c.id()
	if err != nil {
		return err
	}
	c.owner = func(ctx context.Context) (string, error) { return a.p.Store.UserOfLink(ctx, c.caller, id) }
	if err := c.query(); err != nil {
		return err
	}
	l, err := a.p.Store.Unrelate(c.ctx(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, removed{ID: id, Deleted: true, Relationship: &l})
}

// graph: GET /v1/graph?user_id=&entity=&depth=. Answers 200 with what is around the
// entity, or without one with all of the user's graph.
func (a *API) graph(c *call) error {
	if err := c.query("user_id", "entity", "depth"); err != nil {
		return err
	}
	depth, err := c.number("depth", defaultDepth)
	if err != nil {
		return err
	}
	g, err := a.p.Grapher.Neighbours(c.ctx(), c.caller, c.params.Get("user_id"), c.params.Get("entity"), depth)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, g)
}

// build: POST /v1/graph/build. Answers 202 with the run that does it.
func (a *API) build(c *call) error {
	var userID string
	if err := c.only(object{"user_id": text(&userID)}); err != nil {
		return err
	}
	return a.start(c, memory.GraphBuild, userID, false)
}

// optimize: POST /v1/memories/optimize. Answers 202 with the run that does it; with
// dry_run that run counts what it would do, and does nothing.
func (a *API) optimize(c *call) error {
	var userID string
	var dryRun bool
	if err := c.only(object{"user_id": text(&userID), "dry_run": flag(&dryRun)}); err != nil {
		return err
	}
	return a.start(c, memory.Optimize, userID, dryRun)
}

// start answers with a run, and with where to follow it.
func (a *API) start(c *call, kind, userID string, dryRun bool) error {
	run, err := a.p.Runner.Start(c.ctx(), c.caller, kind, userID, dryRun)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", "/v1/jobs/"+run.ID.String())
	return c.answer(http.StatusAccepted, run)
}

// run: GET /v1/jobs/{id}. Answers 200 with how it stands.
func (a *API) run(c *call) error {
	id, err := c.idOnly()
	if err != nil {
		return err
	}
	run, err := a.p.Runner.Get(c.ctx(), c.caller, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, run)
}
