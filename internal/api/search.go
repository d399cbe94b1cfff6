package api

import (
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// defaultResults is how many memories a search returns that does not say.
	defaultResults = 10
	// toldResults is how many of them memory_searched carries.
	toldResults = 3
)

// found is what a search returns.
type found struct {
	Results []memory.Found `json:"results"` // best first
	Count   int            `json:"count"`
}

// search: POST /v1/memories/search. Answers 200 with what fits best, once whoever
// follows the user's memory is told: a search that cannot be told of fails.
func (a *API) search(c *call) error {
	q := memory.Query{Limit: defaultResults}
	var since, until *time.Time
	err := c.only(object{
		"user_id": text(&q.UserID), "query": text(&q.Text), "limit": integer(&q.Limit), "kind": text(&q.Kind),
		"metadata": metadata(&q.Metadata), "since": moment(&since), "until": moment(&until),
	})
	if err != nil {
		return err
	}
	if since != nil {
		q.Since = *since
	}
	if until != nil {
		q.Until = *until
	}
	// To the Searcher no user is everybody.
	if err := memory.CheckUserID(q.UserID); err != nil {
		return err
	}
	if !c.caller.May(q.UserID) {
		return memory.ErrNotFound
	}
	results, err := a.p.Searcher.Search(c.ctx(), q)
	if err != nil {
		return err
	}
	if err := a.p.Store.Tell(c.ctx(), c.caller, searched(q, results)); err != nil {
		return err
	}
	if results == nil {
		results = []memory.Found{}
	}
	return c.answer(http.StatusOK, found{Results: results, Count: len(results)})
}

func searched(q memory.Query, results []memory.Found) memory.Announcement {
	data := memory.SearchedData{Query: q.Text, Limit: q.Limit, ResultsCount: len(results), Memories: []memory.Snapshot{}}
	for _, r := range results[:min(toldResults, len(results))] {
		data.Memories = append(data.Memories, r.Snapshot())
	}
	return memory.Announcement{Event: memory.Searched, UserID: q.UserID, Data: data}
}
