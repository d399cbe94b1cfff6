// Package telemetry sets up what is seen from outside: the log. Records go in
// from the program, from pgx, River, goose and chi; lines come out of one
// handler, each with the id of the request it belongs to.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/memrelay/memrelay/internal/respond"
)

// NewLogger writes to w, as "json" or "text". Lines below level are left out.
func NewLogger(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(requestHandler{slog.NewJSONHandler(w, options)}), nil
	case "text":
		return slog.New(requestHandler{slog.NewTextHandler(w, options)}), nil
	default:
		return nil, fmt.Errorf("log format %q: want json or text", format)
	}
}

// requestHandler adds the request's id to each line written in its context.
type requestHandler struct{ slog.Handler }

func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := respond.RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}
