package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// auditWindow is how many lines are looked at for one page of those of no one object.
const auditWindow = 100_000

// AuditFilter says which lines of the audit log a list is of; what is left empty does
// not matter.
type AuditFilter struct {
	Actor  string
	Action string
	Object string
	// Since and Until are of when it was done; Until is not in it.
	Since, Until time.Time
	Limit        int    // 0: 50; at most MaxPage
	Cursor       string // next_cursor of the page before
}

// AuditLine is one decision of a person or a program.
type AuditLine struct {
	ID     int64     `json:"id"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor"`
	Action string    `json:"action"`
	Object string    `json:"object"`
	// Details have what it was before and after, and why, where that was said.
	Details   json.RawMessage `json:"details"`
	RequestID string          `json:"request_id"` // "" of what was no request
}

// AuditPage is a part of the audit log, newest first.
type AuditPage struct {
	Audit []AuditLine `json:"audit"`
	// NextCursor leads to the next page, "" to none. A page may have fewer lines than were
	// asked for, or none, and a next one all the same: 100,000 are looked at for a page.
	NextCursor string `json:"next_cursor,omitempty"`
}

// AuditLog is who did what.
type AuditLog struct {
	pool *pgxpool.Pool
}

// NewAuditLog makes an AuditLog.
func NewAuditLog(pool *pgxpool.Pool) *AuditLog { return &AuditLog{pool: pool} }

// List returns a page of it, newest first. It returns a *body.Invalid for a filter that
// is none.
func (a *AuditLog) List(ctx context.Context, f AuditFilter) (AuditPage, error) {
	page := AuditPage{Audit: []AuditLine{}}
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
	rows, next, err := a.rows(ctx, f, before)
	if err != nil {
		return page, fmt.Errorf("list the audit log: %w", err)
	}
	for _, r := range rows {
		page.Audit = append(page.Audit, AuditLine{
			ID: r.ID, At: r.At, Actor: r.Actor, Action: r.Action, Object: r.Object, Details: r.Details, RequestID: r.RequestID,
		})
	}
	if next > 0 {
		page.NextCursor = writeCursor(f.mark(), place{id: next})
	}
	return page, nil
}

// rows returns at most a page of rows, and the id that the next page is before; 0 when
// there is none.
func (a *AuditLog) rows(ctx context.Context, f AuditFilter, before int64) (rows []db.AuditLog, next int64, err error) {
	q, most := db.New(a.pool), int32(f.Limit)+1 //nolint:gosec // at most MaxPage
	if f.Object != "" {
		rows, err = q.ListAuditOf(ctx, db.ListAuditOfParams{
			Object: f.Object, Before: before, Actor: orNil(f.Actor), Action: orNil(f.Action), Since: orNil(f.Since), Until: orNil(f.Until), MaxRows: most,
		})
	} else {
		if before == math.MaxInt64 {
			if before, err = q.LastAuditID(ctx); err != nil {
				return nil, 0, err
			}
			before++
		}
		floor := before - auditWindow
		rows, err = q.ListAudit(ctx, db.ListAuditParams{
			Before: before, Floor: floor, Actor: orNil(f.Actor), Action: orNil(f.Action), Since: orNil(f.Since), Until: orNil(f.Until), MaxRows: most,
		})
		next = max(0, floor)
	}
	if len(rows) > f.Limit {
		rows = rows[:f.Limit]
		next = rows[f.Limit-1].ID
	}
	return rows, next, err
}

func (f AuditFilter) mark() []byte {
	f.Cursor, f.Limit = "", 0
	return filterMark(f)
}
