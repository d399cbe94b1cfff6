package process

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// loadEchoes finds out which events tell us of our own memories: two systems that
// tell each other would go on for ever otherwise. An event is an echo when
//
//   - an id in it, its own or the one it says it comes from, is or was that of a
//     memory of ours;
//   - it is of a copy that we made elsewhere, or are making: the other system may tell
//     of a copy before it has answered us with its id;
//   - it is of a line of the graph that whoever tells has been told of: lines have
//     no id to know them by, so they travel one step.
//
// It returns the events of copies whose ids we know.
func (g *applyGroup) loadEchoes(ctx context.Context, q *db.Queries) (remote map[int64]bool, err error) {
	g.echo = map[int64]bool{}
	for id, t := range g.heard {
		g.echo[id] = t.line != nil && t.secondHand
	}
	if err := g.loadOwn(ctx, q); err != nil {
		return nil, err
	}
	// In this order: a copy whose id comes in between is found by its id.
	if err := g.loadUnderWay(ctx, q); err != nil {
		return nil, err
	}
	return g.loadRemote(ctx, q)
}

func (g *applyGroup) loadOwn(ctx context.Context, q *db.Queries) error {
	events := map[uuid.UUID][]int64{}
	for id, t := range g.heard {
		for _, text := range t.ids {
			if parsed, err := uuid.Parse(text); err == nil {
				events[parsed] = append(events[parsed], id)
			}
		}
	}
	if len(events) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, 0, len(events))
	for id := range events {
		ids = append(ids, id)
	}
	own, err := q.ListOwnIDs(ctx, ids)
	if err != nil {
		return fmt.Errorf("look for our own ids: %w", err)
	}
	for _, id := range own {
		for _, event := range events[id] {
			g.echo[event] = true
		}
	}
	return nil
}

func (g *applyGroup) loadUnderWay(ctx context.Context, q *db.Queries) error {
	var p db.ListCopiesUnderWayParams
	for id, t := range g.heard {
		if t.content != "" {
			p.Positions, p.UserIds, p.Contents = append(p.Positions, id), append(p.UserIds, t.userID), append(p.Contents, t.content)
		}
	}
	if len(p.Positions) == 0 {
		return nil
	}
	events, err := q.ListCopiesUnderWay(ctx, p)
	if err != nil {
		return fmt.Errorf("look for copies under way: %w", err)
	}
	for _, id := range events {
		g.echo[id] = true
	}
	return nil
}

// loadRemote finds copies of ours by the ids that they have there, also those that
// come back from a third system. What a copy itself says of where it comes from is
// what we said of our memory, and the event is not about that.
func (g *applyGroup) loadRemote(ctx context.Context, q *db.Queries) (map[int64]bool, error) {
	asked := map[string]bool{}
	for _, t := range g.heard {
		if t.line == nil && t.follows() {
			asked[t.said], asked[t.originID] = true, true
		}
	}
	remote := map[int64]bool{}
	if len(asked) == 0 {
		return remote, nil
	}
	ids, err := q.ListRemoteIDs(ctx, sortedKeys(asked))
	if err != nil {
		return nil, fmt.Errorf("look for copies of ours: %w", err)
	}
	copies := map[string]bool{}
	for _, id := range ids {
		copies[id] = true
	}
	for id, t := range g.heard {
		if t.line != nil || !(copies[t.said] || copies[t.originID]) {
			continue
		}
		if copies[t.said] {
			t.origin, t.originID, t.secondHand = t.teller, t.said, false
			g.heard[id] = t
		}
		g.echo[id], remote[id] = true, true
	}
	return remote, nil
}
