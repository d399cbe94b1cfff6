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
//   - it is of a copy that we made there, or are making: the other system may tell
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
			p.Positions, p.Contents = append(p.Positions, id), append(p.Contents, t.content)
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

func (g *applyGroup) loadRemote(ctx context.Context, q *db.Queries) (map[int64]bool, error) {
	events := map[string][]int64{}
	for id, t := range g.heard {
		if t.line == nil && t.said != "" {
			events[t.said] = append(events[t.said], id)
		}
	}
	remote := map[int64]bool{}
	if len(events) == 0 {
		return remote, nil
	}
	ids, err := q.ListRemoteIDs(ctx, sortedKeys(events))
	if err != nil {
		return nil, fmt.Errorf("look for copies of ours: %w", err)
	}
	for _, id := range ids {
		for _, event := range events[id] {
			g.echo[event], remote[event] = true, true
		}
	}
	return remote, nil
}
