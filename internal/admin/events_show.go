package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// Step is one thing that happened.
type Step struct {
	At      time.Time `json:"at"` // of something that is still going on, when it began
	Station string    `json:"station"`
	What    string    `json:"what"`
	Detail  string    `json:"detail"` // for people
	// What it is about; null where it is about none, or more than one.
	EventID    *int64     `json:"event_id"`
	MemoryID   *uuid.UUID `json:"memory_id"`
	WebhookID  *uuid.UUID `json:"webhook_id"`
	DeliveryID *int64     `json:"delivery_id"`

	order int32 // among those of the same moment
}

// EventRun is one time that an event was run again.
type EventRun struct {
	ReplayID  uuid.UUID `json:"replay_id"`
	CreatedAt time.Time `json:"created_at"`
}

// EventStory is an event and all that became of it.
type EventStory struct {
	Event
	// HasBody says whether its body is still stored: without it it cannot be run again.
	HasBody bool `json:"has_body"`
	// Timeline is its life in order, with what its record's sync changed and who was told.
	Timeline []Step     `json:"timeline"`
	Replays  []EventRun `json:"replays"`
}

// Get returns an event's story, and ErrNotFound when there is none of that id.
func (e *Events) Get(ctx context.Context, id int64) (EventStory, error) {
	q := db.New(e.pool)
	row, err := q.GetEvent(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return EventStory{}, fmt.Errorf("event %d %w", id, ErrNotFound)
	}
	if err != nil {
		return EventStory{}, fmt.Errorf("get event %d: %w", id, err)
	}
	story := EventStory{Replays: []EventRun{}, Event: Event{
		ID: row.ID, Source: row.Source, EventID: row.EventID, Module: row.Module, Operation: row.Operation, RecordID: row.RecordID,
		AccountID: row.AccountID, Revision: row.Revision, UserID: row.UserID, ModifiedFields: row.ModifiedFields, OccurredAt: row.OccurredAt,
		ReceivedAt: row.ReceivedAt, RoutedAt: row.RoutedAt, Status: row.Status, Failures: row.Failures, LastError: row.LastError,
		RetryAt: row.RetryAt, ProcessedAt: row.ProcessedAt,
	}}
	if story.HasBody, err = q.HasEventBody(ctx, id); err != nil {
		return story, fmt.Errorf("look for the body of event %d: %w", id, err)
	}
	runs, err := q.ListEventRuns(ctx, id)
	if err != nil {
		return story, fmt.Errorf("list the runs of event %d: %w", id, err)
	}
	for _, r := range runs {
		story.Replays = append(story.Replays, EventRun(r))
	}
	changes, err := q.ListEventChanges(ctx, id)
	if err != nil {
		return story, fmt.Errorf("list what event %d changed: %w", id, err)
	}
	story.Timeline, err = steps(ctx, q, []int64{id}, changes)
	return story, err
}

// steps tells what became of events and of changes of memory, in the order of time.
func steps(ctx context.Context, q *db.Queries, events, changes []int64) ([]Step, error) {
	all := []Step{}
	of, err := q.ListEventSteps(ctx, events)
	if err != nil {
		return nil, fmt.Errorf("list steps of events: %w", err)
	}
	for _, r := range of {
		all = append(all, Step{At: r.At, Station: r.Station, What: r.What, Detail: r.Detail, EventID: &r.EventID, order: r.Step})
	}
	after, err := q.ListChangeSteps(ctx, changes)
	if err != nil {
		return nil, fmt.Errorf("list steps of changes: %w", err)
	}
	for _, r := range after {
		all = append(all, Step{
			At: r.At, Station: r.Station, What: r.What, Detail: r.Detail, order: r.Step,
			EventID: r.EventID, MemoryID: &r.MemoryID, WebhookID: r.WebhookID, DeliveryID: r.DeliveryID,
		})
	}
	slices.SortStableFunc(all, func(a, b Step) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return int(a.order - b.order)
	})
	return all, nil
}
