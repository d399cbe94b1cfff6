package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/breaker"
)

const (
	// shownDead is how many of the dead lanes a status shows.
	shownDead = 20
	// digestConcern is how many runs in a row may fail before health says so.
	digestConcern = 3
)

// Status is how the copies stand. Times are the database's.
type Status struct {
	Backend  string `json:"backend"`
	Synced   int64  `json:"synced"`
	Pending  int64  `json:"pending"`
	Retrying int64  `json:"retrying"`
	Dead     int64  `json:"dead"`
	// WaitingSince is since when the oldest copy is behind that will be made; nil: none is.
	WaitingSince *time.Time     `json:"waiting_since"`
	Breaker      breaker.Status `json:"breaker"`
	Cognify      *DigestStatus  `json:"cognify"`    // nil: nothing was to be worked up yet
	DeadLanes    []DeadLane     `json:"dead_lanes"` // some of them
}

// DigestStatus is how the runs stand that work up what was copied.
type DigestStatus struct {
	State       string     `json:"state"`   // idle, waiting, starting, running or retrying
	Waiting     int64      `json:"waiting"` // changes that no completed run has seen
	StartedAt   *time.Time `json:"started_at"`
	CompletedAt *time.Time `json:"completed_at"`
	NextAt      *time.Time `json:"next_at"`
	Failures    int32      `json:"failures"` // in a row
	LastError   string     `json:"last_error"`
}

// DeadLane is a memory that was given up until it changes or somebody resyncs.
type DeadLane struct {
	MemoryID  string     `json:"memory_id"`
	UserID    string     `json:"user_id"`
	LastError string     `json:"last_error"`
	TriedAt   *time.Time `json:"tried_at"`
}

// State reads how the copies in a backend stand.
func State(ctx context.Context, q *db.Queries, backend string) (Status, error) {
	s := Status{Backend: backend, DeadLanes: []DeadLane{}}
	counts, err := q.CountMirrors(ctx, backend)
	if err != nil {
		return s, fmt.Errorf("count the lanes of copies: %w", err)
	}
	for _, c := range counts {
		switch c.Status {
		case "synced":
			s.Synced = c.Lanes
		case "pending":
			s.Pending = c.Lanes
		case "retrying":
			s.Retrying = c.Lanes
		case "dead":
			s.Dead = c.Lanes
		}
		if since := c.WaitingSince; !since.IsZero() && (s.WaitingSince == nil || since.Before(*s.WaitingSince)) {
			s.WaitingSince = &since
		}
	}
	if s.Breaker, err = breaker.State(ctx, q, breakerName(backend)); err != nil {
		return s, err
	}
	dead, err := q.ListDeadMirrors(ctx, db.ListDeadMirrorsParams{Backend: backend, MaxRows: shownDead})
	if err != nil {
		return s, fmt.Errorf("list dead lanes: %w", err)
	}
	for _, d := range dead {
		s.DeadLanes = append(s.DeadLanes, DeadLane{MemoryID: d.MemoryID.String(), UserID: d.UserID, LastError: d.LastError, TriedAt: d.TriedAt})
	}
	s.Cognify, err = digestState(ctx, q, backend)
	return s, err
}

func digestState(ctx context.Context, q *db.Queries, backend string) (*DigestStatus, error) {
	d, err := q.GetDigest(ctx, backend)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the digest: %w", err)
	}
	return &DigestStatus{
		State: d.State, Waiting: d.Wanted - d.Done, StartedAt: d.StartedAt, CompletedAt: d.CompletedAt, NextAt: d.DueAt,
		Failures: d.Failures, LastError: d.LastError,
	}, nil
}

// Health returns what is wrong with the copies in a backend, a sentence each, for
// everybody's eyes: it tells kinds of errors, and nothing that the other system said.
func Health(ctx context.Context, q *db.Queries, backend string) ([]string, error) {
	var found []string
	b, err := breaker.State(ctx, q, breakerName(backend))
	if err != nil {
		return nil, err
	}
	if b.Open {
		kind, _, _ := strings.Cut(b.Reason, ":")
		found = append(found, fmt.Sprintf("Copies for %s wait, it is %s: `memrelay memory status` says more.", backend, kind))
	}
	open, err := q.CountOpenMirrors(ctx, backend)
	if err != nil {
		return nil, fmt.Errorf("count the lanes of copies: %w", err)
	}
	if open.Dead > 0 {
		found = append(found, fmt.Sprintf("%d memories could not be copied to %s: `memrelay memory status` says why, `memrelay memory resync` tries again.", open.Dead, backend))
	}
	d, err := digestState(ctx, q, backend)
	if err != nil {
		return nil, err
	}
	if d != nil && d.Failures >= digestConcern {
		found = append(found, fmt.Sprintf("%s does not work up what was copied: `memrelay memory status` says why.", backend))
	}
	return found, nil
}
