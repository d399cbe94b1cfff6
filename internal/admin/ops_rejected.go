package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/rejected"
)

// RejectedFilter says which refusals a list is of; what is left empty does not matter.
type RejectedFilter struct {
	Status  int
	Code    string
	Route   string // the pattern, as /webhooks/zoho
	Address string
	Limit   int    // 0: 50; at most MaxPage
	Cursor  string // next_cursor of the page before
}

// RejectedRequest is a request that was turned away.
type RejectedRequest struct {
	ID            int64     `json:"id"`
	At            time.Time `json:"at"`
	Method        string    `json:"method"`
	Route         string    `json:"route"` // the pattern that matched
	Status        int       `json:"status"`
	Code          string    `json:"code"`
	Reason        string    `json:"reason"`
	Address       string    `json:"address"`
	UserAgent     string    `json:"user_agent"`
	ContentLength *int64    `json:"content_length"` // null: the sender did not say
	RequestID     string    `json:"request_id"`
}

// RejectedPage is a part of the list, newest first.
type RejectedPage struct {
	Rejected []RejectedRequest `json:"rejected"`
	// Unlisted is how many were ever turned away and only counted: too many at one time.
	Unlisted   int64  `json:"unlisted"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// Rejected is who was turned away.
type Rejected struct {
	pool *pgxpool.Pool
}

// NewRejected makes a Rejected.
func NewRejected(pool *pgxpool.Pool) *Rejected { return &Rejected{pool: pool} }

// List returns a page of the newest thousand refusals of all nodes, newest first. It
// returns a *body.Invalid for a filter that is none.
func (r *Rejected) List(ctx context.Context, f RejectedFilter) (RejectedPage, error) {
	page := RejectedPage{Rejected: []RejectedRequest{}}
	if f.Limit == 0 {
		f.Limit = defaultPage
	}
	if f.Limit < 1 || f.Limit > MaxPage {
		return page, wrong("limit", "want 1 to %d", MaxPage)
	}
	before, err := idCursor(f.Cursor, f.mark())
	if err != nil {
		return page, err
	}
	q := db.New(r.pool)
	if page.Unlisted, err = q.SumCounter(ctx, string(rejected.Unlisted)); err != nil {
		return page, fmt.Errorf("count refused requests: %w", err)
	}
	rows, err := q.ListRejectedRequests(ctx, db.ListRejectedRequestsParams{
		Before: before, Status: orNil(int32(f.Status)), Code: orNil(f.Code), Route: orNil(f.Route), Address: orNil(f.Address), //nolint:gosec // three digits
		MaxRequests: int32(f.Limit) + 1, //nolint:gosec // at most MaxPage
	})
	if err != nil {
		return page, fmt.Errorf("list refused requests: %w", err)
	}
	if len(rows) > f.Limit {
		rows = rows[:f.Limit]
		page.NextCursor = writeCursor(f.mark(), place{id: rows[f.Limit-1].ID})
	}
	for _, row := range rows {
		page.Rejected = append(page.Rejected, shownRejected(row))
	}
	return page, nil
}

func (f RejectedFilter) mark() []byte {
	f.Cursor, f.Limit = "", 0
	return filterMark(f)
}

func shownRejected(r db.RejectedRequest) RejectedRequest {
	shown := RejectedRequest{
		ID: r.ID, At: r.At, Method: r.Method, Route: r.Route, Status: int(r.Status), Code: r.Code, Reason: r.Reason,
		Address: r.Address, UserAgent: r.UserAgent, RequestID: r.RequestID,
	}
	if r.ContentLength >= 0 {
		shown.ContentLength = &r.ContentLength
	}
	return shown
}
