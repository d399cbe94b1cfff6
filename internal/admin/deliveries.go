package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// MaxPage is how many deliveries a page has at most.
	MaxPage = 200
	// defaultPage is how many it has when nobody says.
	defaultPage = 50
	// window is how many deliveries one statement looks at: those of
	// queries/deliveries_list.sql, which say so, too.
	window = 1000
	// maxWindows bounds what is looked at for one page.
	maxWindows = 10
)

// Deliveries looks at deliveries for operators, and sends them again.
type Deliveries struct {
	pool   *pgxpool.Pool
	jobs   lane.Inserter
	resend ResendDelivery
}

// ResendDelivery opens a final delivery again, in tx, and wakes its endpoint:
// outbound knows how. It returns endpoint.ErrNotFound, ErrOpen, ErrPayloadGone or
// ErrEndpointGone, and then changed nothing.
type ResendDelivery func(ctx context.Context, tx pgx.Tx, jobs lane.Inserter, deliveryID int64) error

// NewDeliveries makes a Deliveries. jobs may be a client that works none.
func NewDeliveries(pool *pgxpool.Pool, jobs lane.Inserter, resend ResendDelivery) *Deliveries {
	return &Deliveries{pool: pool, jobs: jobs, resend: resend}
}

// Statuses are all that a delivery may have.
func Statuses() []string {
	return []string{"pending", "retrying", "waiting", "batched", "delivered", "dead", "cancelled", "discarded"}
}

// DeliveryFilter says which deliveries a list is of; what is left empty does not
// matter. WebhookID, UserID, the status dead, Endpoint and the times are read by an
// index, in this order of preference; what else there is, is looked for among those.
type DeliveryFilter struct {
	Endpoint  string // id or name
	Status    string
	Event     string
	UserID    string
	WebhookID uuid.UUID // uuid.Nil: any
	// Since and Until are of when a delivery was made; Until is not in it.
	Since, Until time.Time
	Limit        int    // 0: 50; at most MaxPage
	Cursor       string // next_cursor of the page before
}

// Delivery is one webhook on its way to one endpoint, or one batch of them.
type Delivery struct {
	ID         int64      `json:"id"`
	WebhookID  *uuid.UUID `json:"webhook_id"` // null: it carries the batch
	EndpointID uuid.UUID  `json:"endpoint_id"`
	Endpoint   string     `json:"endpoint"` // its name
	Event      *string    `json:"event"`
	UserID     *string    `json:"user_id"`
	Status     string     `json:"status"`
	Attempts   int32      `json:"attempts"` // begun, those of its batch not among them
	Failures   int32      `json:"failures"` // since it was opened last
	LastError  string     `json:"last_error"`
	// NextAttemptAt is when it is due, or its lease ends; null unless it is pending or retrying.
	NextAttemptAt *time.Time `json:"next_attempt_at"`
	BatchID       *uuid.UUID `json:"batch_id"`
	RedeliveryID  *uuid.UUID `json:"redelivery_id"` // that opened it last
	CreatedAt     time.Time  `json:"created_at"`
	FinishedAt    *time.Time `json:"finished_at"`
}

func shown(r db.ListDeliveriesRow) Delivery {
	d := Delivery{
		ID: r.ID, WebhookID: r.WebhookID, EndpointID: r.EndpointID, Endpoint: r.Endpoint, Event: r.Event, UserID: r.UserID,
		Status: r.Status, Attempts: r.Attempts, Failures: r.Failures, LastError: r.LastError, BatchID: r.BatchID,
		RedeliveryID: r.RedeliveryID, CreatedAt: r.CreatedAt, FinishedAt: r.FinishedAt,
	}
	if r.Status == "pending" || r.Status == "retrying" {
		d.NextAttemptAt = &r.NextAttemptAt
	}
	return d
}

// DeliveryPage is a part of a list, newest first.
type DeliveryPage struct {
	Deliveries []Delivery `json:"deliveries"`
	// NextCursor leads to the next page, "" to none. A page may have fewer deliveries
	// than were asked for, or none, and a next one all the same: 10,000 are looked at
	// for a page, and then the answer is given.
	NextCursor string `json:"next_cursor,omitempty"`
}

// List returns a page of deliveries, newest first: by their ids, those of a user by
// the order of the webhooks. What comes meanwhile is in none of the later pages, and
// puts nothing into two of them. It returns a *body.Invalid for a filter that is none,
// also for an endpoint that nobody knows.
func (d *Deliveries) List(ctx context.Context, f DeliveryFilter) (DeliveryPage, error) {
	page := DeliveryPage{Deliveries: []Delivery{}}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if err := f.check(); err != nil {
		return page, err
	}
	s := search{q: db.New(d.pool), filter: f}
	at, err := s.begin(ctx)
	if err != nil {
		return page, err
	}
	for range maxWindows {
		seen, err := s.window(ctx, at)
		if err != nil {
			return page, fmt.Errorf("look at deliveries: %w", err)
		}
		rows, err := s.q.ListDeliveries(ctx, s.wanted(seen, f.Limit-len(page.Deliveries)))
		if err != nil {
			return page, fmt.Errorf("list deliveries: %w", err)
		}
		for _, r := range rows {
			page.Deliveries = append(page.Deliveries, shown(r))
		}
		switch {
		case len(page.Deliveries) == f.Limit:
			last := page.Deliveries[f.Limit-1].ID
			at = seen[slices.IndexFunc(seen, func(p place) bool { return p.id == last })]
			if at == seen[len(seen)-1] && len(seen) < window {
				return page, nil
			}
			page.NextCursor = writeCursor(f.mark(), at)
			return page, nil
		case len(seen) < window:
			return page, nil
		}
		at = seen[len(seen)-1]
	}
	page.NextCursor = writeCursor(f.mark(), at)
	return page, nil
}

// check refuses what no delivery can be like: a name that is typed wrong must not
// look like a list that is empty.
func (f DeliveryFilter) check() error {
	events := append(memory.Events(), memory.OperationalEvents()...)
	switch {
	case f.Limit < 1 || f.Limit > MaxPage:
		return wrong("limit", "want 1 to %d", MaxPage)
	case f.Status != "" && !slices.Contains(Statuses(), f.Status):
		return wrong("status", "want one of %s", strings.Join(Statuses(), ", "))
	case f.Event != "" && !slices.Contains(events, f.Event):
		return wrong("event", "want one of %s", strings.Join(events, ", "))
	}
	return nil
}

func wrong(field, format string, args ...any) error {
	return &body.Invalid{Field: field, Problem: fmt.Sprintf(format, args...)}
}
