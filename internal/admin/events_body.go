package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// EventBody is what an event came in.
type EventBody struct {
	ContentType string
	Headers     json.RawMessage // an object of the few that are kept
	Body        []byte          // as it came, but for the tokens in it
}

// Body returns the body that an event came in. It returns ErrNotFound, or ErrBodyGone.
func (e *Events) Body(ctx context.Context, id int64) (EventBody, error) {
	q := db.New(e.pool)
	row, err := q.GetEventBody(ctx, id)
	if err == nil {
		return EventBody{ContentType: row.ContentType, Headers: row.Headers, Body: Masked(row.ContentType, row.Body)}, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return EventBody{}, fmt.Errorf("get the body of event %d: %w", id, err)
	}
	switch _, err := q.GetEvent(ctx, id); {
	case errors.Is(err, pgx.ErrNoRows):
		return EventBody{}, fmt.Errorf("event %d %w", id, ErrNotFound)
	case err != nil:
		return EventBody{}, fmt.Errorf("get event %d: %w", id, err)
	}
	return EventBody{}, fmt.Errorf("event %d: %w", id, ErrBodyGone)
}
