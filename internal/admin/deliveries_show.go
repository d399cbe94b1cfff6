package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// DeliveryStory is a delivery and all that became of it.
type DeliveryStory struct {
	Delivery
	// Payload is the webhook's bytes as they were made: JSON, as text. Null once it is
	// forgotten, and of a delivery that carries a batch.
	Payload *string `json:"payload"`
	// AttemptsMade are those whose outcome is known; a number that is missing was cut off
	// by a crash. Those of a webhook in a batch are with CarriedBy.
	AttemptsMade []Attempt `json:"attempts_made"`
	// CarriedBy is the delivery that carries the batch which this one is in; null: it goes alone.
	CarriedBy *int64 `json:"carried_by"`
	// Batch are the webhooks that it carries, in their order; none where it carries no batch.
	Batch []BatchMember `json:"batch"`
}

// Attempt is one request to an endpoint, and the answer. Times are in milliseconds.
type Attempt struct {
	Number     int32     `json:"number"`
	StartedAt  time.Time `json:"started_at"`
	StatusCode *int32    `json:"status_code"` // null: there was no answer
	ErrorClass string    `json:"error_class"` // "" when delivered
	Error      string    `json:"error"`
	// DNS, Connect and TLS are 0 where a connection was used again.
	DNS          float64 `json:"dns_ms"`
	Connect      float64 `json:"connect_ms"`
	TLS          float64 `json:"tls_ms"`
	FirstByte    float64 `json:"first_byte_ms"`
	Total        float64 `json:"total_ms"`
	ResponseHead string  `json:"response_head"` // of the answer, with secrets masked
}

// BatchMember is a webhook within a batch.
type BatchMember struct {
	ID        int64      `json:"id"`
	WebhookID *uuid.UUID `json:"webhook_id"`
	Event     *string    `json:"event"`
	UserID    *string    `json:"user_id"`
	Status    string     `json:"status"`
}

// Get returns a delivery's story, and ErrNotFound when there is none of that id.
func (d *Deliveries) Get(ctx context.Context, id int64) (DeliveryStory, error) {
	q := db.New(d.pool)
	row, err := q.ShowDelivery(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return DeliveryStory{}, fmt.Errorf("delivery %d %w", id, ErrNotFound)
	}
	if err != nil {
		return DeliveryStory{}, fmt.Errorf("get delivery %d: %w", id, err)
	}
	s := DeliveryStory{AttemptsMade: []Attempt{}, Batch: []BatchMember{}, Delivery: shown(db.ListDeliveriesRow{
		ID: row.ID, WebhookID: row.WebhookID, EndpointID: row.EndpointID, Endpoint: row.Endpoint, Event: row.Event, UserID: row.UserID,
		Status: row.Status, Attempts: row.Attempts, Failures: row.Failures, NextAttemptAt: row.NextAttemptAt, LastError: row.LastError,
		BatchID: row.BatchID, RedeliveryID: row.RedeliveryID, CreatedAt: row.CreatedAt, FinishedAt: row.FinishedAt,
	})}
	if row.Payload != nil {
		text := string(row.Payload)
		s.Payload = &text
	}
	attempts, err := q.ListDeliveryAttempts(ctx, id)
	if err != nil {
		return DeliveryStory{}, fmt.Errorf("list attempts of delivery %d: %w", id, err)
	}
	for _, a := range attempts {
		s.AttemptsMade = append(s.AttemptsMade, Attempt{
			Number: a.Number, StartedAt: a.StartedAt, StatusCode: a.StatusCode, ErrorClass: a.ErrorClass, Error: a.Error,
			DNS: milliseconds(a.DNS), Connect: milliseconds(a.Connect), TLS: milliseconds(a.TLS), FirstByte: milliseconds(a.FirstByte),
			Total: milliseconds(a.Total), ResponseHead: a.ResponseHead,
		})
	}
	if s.BatchID == nil {
		return s, nil
	}
	return s, s.addBatch(ctx, q)
}

// addBatch adds whom it carries, or who carries it.
func (s *DeliveryStory) addBatch(ctx context.Context, q *db.Queries) error {
	rows, err := q.ListBatch(ctx, *s.BatchID)
	if err != nil {
		return fmt.Errorf("list batch %s: %w", s.BatchID, err)
	}
	for _, r := range rows {
		switch {
		case r.WebhookID == nil && r.ID != s.ID:
			s.CarriedBy = &r.ID
		case r.WebhookID != nil && s.WebhookID == nil:
			s.Batch = append(s.Batch, BatchMember(r))
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / float64(time.Millisecond/time.Microsecond)
}

// Resend opens a final delivery again, whatever became of it, and returns it as it is
// then. It returns ErrNotFound, endpoint.ErrOpen, endpoint.ErrPayloadGone or
// endpoint.ErrEndpointGone, and then changed nothing.
func (d *Deliveries) Resend(ctx context.Context, who Actor, id int64, reason string) (Delivery, error) {
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		before, err := q.GetDeliveryStatus(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("delivery %d %w", id, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("look at delivery %d: %w", id, err)
		}
		if err := d.resend(ctx, tx, d.jobs, id); err != nil {
			return fmt.Errorf("resend delivery %d: %w", id, err)
		}
		after, err := q.GetDeliveryStatus(ctx, id)
		if err != nil {
			return fmt.Errorf("look at delivery %d again: %w", id, err)
		}
		status := func(s string) map[string]any { return map[string]any{"status": s} }
		return audit(ctx, tx, who, "delivery.resend", "delivery/"+strconv.FormatInt(id, 10), map[string]any{
			"before": status(before), "after": status(after), "reason": reason,
		})
	})
	if err != nil {
		return Delivery{}, err
	}
	story, err := d.Get(ctx, id)
	return story.Delivery, err
}
