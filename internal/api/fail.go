package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/respond"
)

const (
	// retryAfter is when a client is told to come again.
	retryAfter = 5 * time.Second
	// tellLimit bounds what an answer waits for those who are told that it is none.
	tellLimit = 2 * time.Second
)

// problem is what a client is told of an error: the one place that says so.
func problem(err error) *respond.Error {
	var face *respond.Error
	var invalid *memory.Invalid
	switch {
	case errors.As(err, &face):
		return face
	case errors.As(err, &invalid):
		return &respond.Error{Status: http.StatusUnprocessableEntity, Code: "invalid_field", Field: invalid.Field, Message: invalid.Error() + "."}
	case errors.Is(err, memory.ErrNotFound):
		return &respond.Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is no such thing that this token may see."}
	case errors.Is(err, memory.ErrReadOnly):
		return &respond.Error{Status: http.StatusConflict, Code: "read_only", Message: "This follows a record of the CRM: change it there."}
	case errors.Is(err, memory.ErrKeyReused):
		return &respond.Error{
			Status: http.StatusUnprocessableEntity, Code: "idempotency_key_reused", Field: "Idempotency-Key",
			Message: "This Idempotency-Key came with another request before.",
		}
	case errors.Is(err, group.ErrFull), errors.Is(err, group.ErrHeld):
		return &respond.Error{
			Status: http.StatusServiceUnavailable, Code: "busy", RetryAfter: retryAfter, Err: err,
			Message: "Too much waits to be written. Nothing was done; send this again later.",
		}
	case postgres.Away(err), errors.Is(err, group.ErrConflict):
		return &respond.Error{
			Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: retryAfter, Err: err,
			Message: "This could not be done now. Send it again, with an Idempotency-Key if it must not be done twice.",
		}
	default:
		return &respond.Error{
			Status: http.StatusInternalServerError, Code: "internal", Err: err,
			Message: "Something went wrong here; the log has it under this request_id.",
		}
	}
}

// fail answers with what went wrong, once whoever follows the user's memory is told:
// of what was asked wrongly and of what broke here, not of what is nobody's
// business, and not while there is no database to tell it with.
func (a *API) fail(c *call, operation string, err error) {
	p := problem(err)
	ours := p.Status == http.StatusUnprocessableEntity || p.Status == http.StatusConflict || p.Status == http.StatusInternalServerError
	if operation != "" && ours {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx()), tellLimit)
		defer cancel()
		if err := a.tellFailure(ctx, c, operation, p); err != nil {
			a.p.Log.WarnContext(ctx, "memory_error could not be told", "operation", operation, "request_id", c.caller.RequestID, "error", err)
		}
	}
	respond.Problem(c.w, c.r, p)
}

// tellFailure tells of p, unless it is about nobody whom the caller may see.
func (a *API) tellFailure(ctx context.Context, c *call, operation string, p *respond.Error) error {
	userID, items := c.about()
	if c.owner != nil {
		var err error
		if userID, err = c.owner(ctx); errors.Is(err, memory.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if memory.CheckUserID(userID) != nil || !c.caller.May(userID) {
		return nil
	}
	return a.p.Store.Tell(ctx, c.caller, memory.Announcement{Event: memory.Failed, UserID: userID, Data: memory.FailedData{
		Operation: operation, Error: p.Message, ItemsCount: items,
	}})
}

// about says whom a request that failed was about, as far as it says so itself, and
// how many items a batch had; 1 for everything else.
func (c *call) about() (userID string, items int) {
	if c.body == nil {
		return c.params.Get("user_id"), 1
	}
	items = 1
	// Something is wrong with this body: what stands before that is read all the same,
	// and fields of another type are as if they were not there.
	_ = eachField(c.body, func(name string, value json.RawMessage) error {
		var list []json.RawMessage
		switch name {
		case "user_id":
			_ = json.Unmarshal(value, &userID)
		case "items":
			if json.Unmarshal(value, &list) == nil {
				items = max(items, len(list))
			}
		}
		return nil
	})
	return userID, items
}
