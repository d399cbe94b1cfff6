package endpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// fastest is the most that per_second may be.
	fastest = 10_000
	// longestReason bounds what a person may give as one, in bytes.
	longestReason = 2000
	// countTime is how long the webhooks of a replay are counted.
	countTime = 8 * time.Second
)

// RedeliverySettings is what a person asks to be sent again.
type RedeliverySettings struct {
	Kind string `json:"kind"` // Recover or Replay
	// Since and Until bound when deliveries died, or when webhooks were written, both
	// included. No Until, or one in the future, is now: what comes later comes anyway.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
	// Events are for Replay alone; none: all that the endpoint wants.
	Events []string `json:"events"`
	// PerSecond is how many at most become due in a second; 0: as many as the endpoint takes.
	PerSecond int    `json:"per_second"`
	Reason    string `json:"reason"`
}

// prepare checks what is asked for and counts it. The row it returns lacks its id and actor.
func (r *Redeliveries) prepare(ctx context.Context, which string, in RedeliverySettings) (db.InsertRedeliveryParams, error) {
	p, err := r.find(ctx, which)
	if err != nil {
		return db.InsertRedeliveryParams{}, err
	}
	if in.Until.IsZero() || in.Until.After(p.Now) {
		in.Until = p.Now
	}
	if err := in.check(); err != nil {
		return db.InsertRedeliveryParams{}, err
	}
	row := db.InsertRedeliveryParams{
		EndpointID: p.Endpoint.ID, Kind: in.Kind, Since: in.Since, Until: in.Until, Events: append([]string{}, in.Events...), Reason: in.Reason,
	}
	if in.PerSecond > 0 {
		n := int32(in.PerSecond) //nolint:gosec // at most fastest
		row.PerSecond = &n
	}
	if in.Kind == Recover {
		row.Found, err = db.New(r.pool).CountDeadToRecover(ctx, db.CountDeadToRecoverParams{EndpointID: row.EndpointID, Since: row.Since, Until: row.Until})
		if err != nil {
			return row, fmt.Errorf("count dead deliveries: %w", err)
		}
		return row, nil
	}
	row.Found, row.Position, err = r.countReplay(ctx, p.Endpoint, row)
	return row, err
}

// countReplay reads all webhooks of a replay once, and returns how many can be sent
// again and the position before the first of them.
func (r *Redeliveries) countReplay(ctx context.Context, e db.Endpoint, row db.InsertRedeliveryParams) (found, position int64, err error) {
	counting, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	q := db.New(r.pool)
	reel, err := NewReel(counting, q, e, row.Since, row.Until, row.Events)
	if err != nil {
		return 0, 0, err
	}
	position = reel.Start()
	for at := position; at < reel.End(); {
		var page []Webhook
		if page, at, err = reel.Next(counting, q, at, reel.End()); err != nil {
			if counting.Err() != nil && ctx.Err() == nil {
				return 0, 0, &FieldError{Field: "since", Problem: fmt.Sprintf("there are more webhooks than can be counted in %s: ask for a shorter time", countTime)}
			}
			return 0, 0, err
		}
		for _, w := range page {
			if w.Kept && !w.Open {
				found++
			}
		}
	}
	return found, position, nil
}

func (in RedeliverySettings) check() error {
	var problems []error
	bad := func(field, problem string) { problems = append(problems, &FieldError{Field: field, Problem: problem}) }
	if in.Kind != Recover && in.Kind != Replay {
		bad("kind", "want "+Recover+" or "+Replay)
	}
	if in.Since.IsZero() {
		bad("since", "is required")
	} else if in.Since.After(in.Until) {
		bad("since", "is after until, or in the future")
	}
	if in.Kind == Recover && len(in.Events) > 0 {
		bad("events", "is for "+Replay+" alone")
	}
	for _, e := range in.Events {
		if e != AllEvents && !slices.Contains(known(), e) {
			bad("events", fmt.Sprintf("%q is no event", e))
			break
		}
	}
	if in.PerSecond < 0 || in.PerSecond > fastest {
		bad("per_second", fmt.Sprintf("want 1 to %d, or none", fastest))
	}
	if problem := textProblem(in.Reason, longestReason); problem != "" {
		bad("reason", problem)
	}
	return errors.Join(problems...)
}

// known are all events that there are.
func known() []string { return slices.Concat(memory.Events(), memory.OperationalEvents()) }
