package mcp

import (
	"context"
	"errors"
	"log/slog"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
)

// tellLimit bounds what an answer waits for those who are told that it is none; the
// call may have used up its own time.
const tellLimit = 2 * time.Second

// refusal is a call that came to nothing and is the agent's to mend.
type refusal struct {
	text string
	told bool // to those who follow the user's memory
}

// Error returns what the agent reads.
func (r *refusal) Error() string { return r.text }

// failed is what an agent reads of a call that came to nothing. Those who follow the
// user's memory are told as they are of a request over HTTP: of what was asked
// wrongly and of what broke here, not of what is nobody's business, and not while
// nothing can be written.
func (s *Server) failed(ctx context.Context, tool, operation string, c *call, err error) *sdk.CallToolResult {
	text, told, level := explain(err, c.caller.RequestID)
	if level > slog.LevelInfo {
		s.o.Log.Log(ctx, level, "tool failed", "tool", tool, "actor", c.caller.Actor, "request_id", c.caller.RequestID, "error", err)
	}
	if told && operation != "" && c.user != "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellLimit)
		defer cancel()
		if err := s.tell(ctx, c, memory.Failed, memory.FailedData{Operation: operation, Error: text, ItemsCount: 1}); err != nil {
			s.o.Log.WarnContext(ctx, "memory_error could not be told", "operation", operation, "request_id", c.caller.RequestID, "error", err)
		}
	}
	return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}, IsError: true}
}

// tell tells of what changed nothing.
func (s *Server) tell(ctx context.Context, c *call, event string, data any) error {
	return s.store.Tell(ctx, c.caller, memory.Announcement{Event: event, UserID: c.user, Data: data})
}

// explain says what went wrong, whether anybody is told, and how loud the log is of it.
func explain(err error, requestID string) (text string, told bool, level slog.Level) {
	var wrong *memory.Invalid
	var refused *refusal
	switch {
	case errors.As(err, &wrong):
		return wrong.Error(), true, slog.LevelInfo
	case errors.As(err, &refused):
		return refused.text, refused.told, slog.LevelInfo
	case errors.Is(err, group.ErrFull), errors.Is(err, group.ErrHeld):
		return "Too much waits to be written. Nothing was done: try again in a few seconds.", false, slog.LevelWarn
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "This took too long and was given up. What was to be written may be all the same: search before you try again.", false, slog.LevelWarn
	default:
		return "Something went wrong here; the log has it under the request " + requestID + ".", true, slog.LevelError
	}
}
