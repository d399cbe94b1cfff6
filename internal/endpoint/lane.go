package endpoint

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// Wake brings work to one endpoint's lane, in tx, for as soon as something may be
// sent to it. It locks the endpoint's row: before those of deliveries.
func Wake(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, id uuid.UUID) error {
	p, err := db.New(tx).LockEndpoint(ctx, id)
	if err != nil {
		return fmt.Errorf("lock endpoint %s: %w", id, err)
	}
	return WakeAll(ctx, tx, jobs, []Lane{NewLane(p, p.Now)}, p.Now)
}

// Lane is an endpoint whose row is locked and that has work.
type Lane struct {
	id     uuid.UUID
	wanted int64
	jobID  *int64
	due    time.Time
	claim  *lane.Claim
}

// Claimed returns the lane with a claim on the job that it may need.
func (l Lane) Claimed(c *lane.Claim) Lane {
	l.claim = c
	return l
}

// NewLane returns the lane of a locked endpoint that has work at that time. It is due
// then, or when something may be sent again: a lane that waits shall cost no jobs.
func NewLane(p db.LockEndpointRow, due time.Time) Lane {
	due = NotBefore(p, due)
	if p.DueAt != nil && p.DueAt.Before(due) {
		due = *p.DueAt
	}
	return Lane{id: p.ID, wanted: p.Wanted, jobID: p.JobID, due: due}
}

// NotBefore returns that time, or when something may be sent to the endpoint again
// if that is later.
func NotBefore(p db.LockEndpointRow, due time.Time) time.Time {
	if p.DeletedAt != nil {
		return due // there is only to be tidied up
	}
	pace := NewPace(p.RateLimit, p.RateAt)
	next := pace.Next()
	for _, at := range []*time.Time{p.ResumeAt, p.FullUntil, &next} {
		if at != nil && at.After(due) {
			due = *at
		}
	}
	return due
}

// WakeAll raises wanted of the lanes, sets when they are due, and sees to their jobs.
func WakeAll(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, lanes []Lane, now time.Time) error {
	if len(lanes) == 0 {
		return nil
	}
	var p db.WakeEndpointsParams
	wakes := make([]lane.Wake, len(lanes))
	for i, l := range lanes {
		p.Ids = append(p.Ids, l.id)
		p.Wanted = append(p.Wanted, l.wanted+1)
		p.DueAt = append(p.DueAt, l.due)
		wakes[i] = lane.Wake{JobID: l.jobID, Due: l.due, Args: job.DeliverEndpoint{EndpointID: l.id}, Claim: l.claim}
	}
	var err error
	if p.JobIds, err = lane.Ensure(ctx, tx, jobs, now, wakes); err != nil {
		return err
	}
	if err := db.New(tx).WakeEndpoints(ctx, p); err != nil {
		return fmt.Errorf("wake endpoints: %w", err)
	}
	return nil
}
