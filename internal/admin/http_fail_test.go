package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/seal"
)

func TestWhatAnOperatorIsTold(t *testing.T) {
	t.Parallel()
	field := func(name string) error { return &endpoint.FieldError{Field: name, Problem: "hm"} }
	for _, tc := range []struct {
		name   string
		err    error
		status int
		code   string
		field  string
		fields int
	}{
		{"a face", &respond.Error{Status: 418, Code: "teapot", Message: "Tea."}, 418, "teapot", "", 0},
		{"a field of the request", &body.Invalid{Field: "limit", Problem: "hm"}, 422, "invalid_field", "limit", 1},
		{"a field of the settings", field("url"), 422, "invalid_field", "url", 1},
		{"nothing there", ErrNotFound, 404, "not_found", "", 0},
		{"no endpoint", endpoint.ErrNotFound, 404, "not_found", "", 0},
		{"a name that is taken", endpoint.ErrExists, 409, "endpoint_exists", "", 0},
		{"what the environment says", endpoint.ErrEnv, 409, "set_by_environment", "", 0},
		{"no key", endpoint.ErrNoKey, 409, "no_key", "", 0},
		{"another key", seal.ErrWrongKey, 409, "locked", "", 0},
		{"a delivery on its way", endpoint.ErrOpen, 409, "delivery_open", "", 0},
		{"a payload that is forgotten", endpoint.ErrPayloadGone, 409, "payload_gone", "", 0},
		{"an endpoint that is gone", endpoint.ErrEndpointGone, 409, "endpoint_gone", "", 0},
		{"a network that is gone", &net.OpError{Op: "read", Err: errors.New("hunter2")}, 503, "unavailable", "", 0},
		{"no time left", context.DeadlineExceeded, 503, "unavailable", "", 0},
		{"a database that stops", &pgconn.PgError{Code: "57P01", Message: "hunter2"}, 503, "unavailable", "", 0},
		{"anything else", errors.New("hunter2"), 500, "internal", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := problem(fmt.Errorf("do it: %w", tc.err))
			if p.Status != tc.status || p.Code != tc.code || p.Field != tc.field || len(p.Fields) != tc.fields || p.Message == "" {
				t.Errorf("is %+v, want %d %s of %q", p, tc.status, tc.code, tc.field)
			}
			if later := p.RetryAfter > 0; later != (tc.status == 503) {
				t.Errorf("to come again: %t", later)
			}
		})
	}
	// All of several.
	if p := problem(errors.Join(field("name"), field("url"))); len(p.Fields) != 2 || p.Field != "name" || p.Message != "name: hm; url: hm." {
		t.Errorf("of several: %+v", p)
	}
}
