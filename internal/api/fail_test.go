package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
)

func TestWhatAClientIsTold(t *testing.T) {
	t.Parallel()
	state := func(code string) error { return &pgconn.PgError{Code: code, Message: "hunter2"} }
	for _, tc := range []struct {
		name   string
		err    error
		status int
		code   string
		later  bool // Retry-After
	}{
		{"a wrong field", &memory.Invalid{Field: "kind", Problem: "hm"}, 422, "invalid_field", false},
		{"nothing there", memory.ErrNotFound, 404, "not_found", false},
		{"read only", memory.ErrReadOnly, 409, "read_only", false},
		{"a key that was used", memory.ErrKeyReused, 422, "idempotency_key_reused", false},
		{"a line that is too long", group.ErrFull, 503, "busy", true},
		{"a row that is held", group.ErrHeld, 503, "busy", true},
		{"conflicts without end", group.ErrConflict, 503, "unavailable", true},
		{"a panic in a group", group.ErrPanic, 500, "internal", false},
		{"a network that is gone", &net.OpError{Op: "read", Err: errors.New("reset")}, 503, "unavailable", true},
		{"a connection that broke in the middle", io.ErrUnexpectedEOF, 503, "unavailable", true},
		{"a connection that is closed", pgconn.ErrConnClosed, 503, "unavailable", true},
		{"no time left", context.DeadlineExceeded, 503, "unavailable", true},
		{"a database that stops", state("57P01"), 503, "unavailable", true},
		{"a statement that took too long", state("57014"), 503, "unavailable", true},
		{"a lock that took too long", state("55P03"), 503, "unavailable", true},
		{"no room for connections", state("53300"), 503, "unavailable", true},
		{"a database that only reads", state("25006"), 503, "unavailable", true},
		{"data that it refuses", state("23514"), 500, "internal", false},
		{"a table that is missing", state("42P01"), 500, "internal", false},
		{"anything else", errors.New("hunter2"), 500, "internal", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := problem(fmt.Errorf("do it: %w", tc.err))
			if p.Status != tc.status || p.Code != tc.code || (p.RetryAfter > 0) != tc.later || p.Message == "" {
				t.Errorf("is %d %s, %s later: %q; want %d %s", p.Status, p.Code, p.RetryAfter, p.Message, tc.status, tc.code)
			}
		})
	}
}
