package admin

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/seal"
)

// retryAfter is when an operator is told to come again.
const retryAfter = 5 * time.Second

// conflicts are what stands in the way of what was asked, which is right as such.
func conflicts() []respond.Error {
	conflict := func(err error, code, message string) respond.Error {
		return respond.Error{Status: http.StatusConflict, Code: code, Message: message, Err: err}
	}
	return []respond.Error{
		conflict(endpoint.ErrExists, "endpoint_exists", "There is an endpoint of this name."),
		conflict(endpoint.ErrEnv, "set_by_environment", "This endpoint is what the settings say: change it there. It can be paused and resumed."),
		conflict(endpoint.ErrNoKey, "no_key", "MEMRELAY_KEY is not set: without it no secret is stored."),
		conflict(seal.ErrWrongKey, "locked", "No key of MEMRELAY_KEY opens the secrets of this endpoint: set the old key again, or send auth, headers and signing together."),
		conflict(ErrNotFinal, "event_open", "This event is still being worked: only what has ended can be run again."),
		conflict(ErrNoBody, "body_gone", "This event cannot be run again: its body is no longer stored."),
		conflict(ErrNotDead, "not_dead", "Nobody has to decide about this: it is not dead."),
		conflict(ErrReplayEnded, "replay_ended", "This replay has ended: it can neither be paused nor resumed."),
		conflict(endpoint.ErrOpen, "delivery_open", "This delivery is on its way: only what has ended can be sent again."),
		conflict(endpoint.ErrPayloadGone, "payload_gone", "What this delivery told is no longer stored."),
		conflict(endpoint.ErrEndpointGone, "endpoint_gone", "The endpoint of this delivery is deleted."),
		conflict(access.ErrTaken, "token_exists", "There is a token of this name: revoke it first, or take another name."),
		conflict(ErrChannelState, "channel_state", "Nobody looks after this channel: resume it, or register it first."),
	}
}

// problem is what an operator is told of an error: the one place that says so.
func problem(err error) *respond.Error {
	var face *respond.Error
	var invalid *body.Invalid
	switch {
	case errors.As(err, &face):
		return face
	case errors.As(err, &invalid):
		return invalidFields([]respond.Field{{Name: invalid.Field, Detail: invalid.Problem}})
	case errors.Is(err, endpoint.ErrInvalid):
		return invalidFields(fieldsOf(err))
	case errors.Is(err, ErrKeyReused):
		return &respond.Error{
			Status: http.StatusUnprocessableEntity, Code: "idempotency_key_reused", Field: "Idempotency-Key",
			Message: "This Idempotency-Key came with another request before.",
		}
	case errors.Is(err, ErrBodyGone):
		return &respond.Error{Status: http.StatusGone, Code: "body_gone", Message: "What this event came in is no longer stored: it is deleted after a while."}
	case errors.Is(err, ErrTooManyFollowers):
		return &respond.Error{
			Status: http.StatusServiceUnavailable, Code: "too_many_followers", RetryAfter: retryAfter,
			Message: fmt.Sprintf("As many follow events here as may, %d, or %d with this token: come again later.", maxFollowers, maxOfOne),
		}
	case errors.Is(err, ErrStopped):
		return &respond.Error{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: retryAfter, Message: "This node stops: ask another one."}
	case errors.Is(err, access.ErrInvalid):
		return &respond.Error{Status: http.StatusUnprocessableEntity, Code: "invalid_field", Message: sentence(err)}
	case errors.Is(err, access.ErrBeyond):
		return &respond.Error{Status: http.StatusForbidden, Code: "forbidden", Message: sentence(err)}
	case errors.Is(err, ErrNotFound), errors.Is(err, endpoint.ErrNotFound), errors.Is(err, access.ErrNotFound):
		return &respond.Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is no such thing."}
	}
	for _, c := range conflicts() {
		if errors.Is(err, c.Err) {
			return &c
		}
	}
	if postgres.Away(err) {
		return &respond.Error{
			Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: retryAfter, Err: err,
			Message: "This could not be done now. Look whether it was done, and else send it again.",
		}
	}
	return &respond.Error{
		Status: http.StatusInternalServerError, Code: "internal", Err: err,
		Message: "Something went wrong here; the log has it under this request_id.",
	}
}

// sentence is an error that says what the sender did, as people are told.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// invalidFields names all that is wrong: the first one where there is room for one.
func invalidFields(fields []respond.Field) *respond.Error {
	e := &respond.Error{Status: http.StatusUnprocessableEntity, Code: "invalid_field", Fields: fields}
	said := make([]string, len(fields))
	for i, f := range fields {
		said[i] = f.Name + ": " + f.Detail
	}
	e.Message = strings.Join(said, "; ") + "."
	if len(fields) > 0 {
		e.Field = fields[0].Name
	}
	return e
}

// fieldsOf are all the fields that err finds fault with.
func fieldsOf(err error) []respond.Field {
	problems := endpoint.Problems(err)
	fields := make([]respond.Field, len(problems))
	for i, p := range problems {
		fields[i] = respond.Field{Name: p.Field, Detail: p.Problem}
	}
	return fields
}
