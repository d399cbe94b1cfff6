package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
	"github.com/memrelay/memrelay/internal/endpoint"
)

type endpointsPause struct {
	namedEndpoint
	Reason string `help:"Why, for the audit log and for whoever wonders."`
}

// Run pauses an endpoint.
func (c endpointsPause) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		return c.about(s.changeEndpoint(ctx, a, post(c.path("pause"), given(c.Reason)), "paused"))
	})
}

type endpointsResume struct {
	namedEndpoint
	Reason string `help:"Why, for the audit log."`
}

// Run resumes an endpoint.
func (c endpointsResume) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		return c.about(s.changeEndpoint(ctx, a, post(c.path("resume"), given(c.Reason)), "resumed"))
	})
}

type endpointsDelete struct {
	namedEndpoint
	asking
}

// Run deletes an endpoint, once somebody has said so.
func (c endpointsDelete) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		e, _, err := fetch[endpoint.Endpoint](ctx, a, client.Request{Path: c.path()})
		if err != nil {
			return c.about(err)
		}
		if err := c.ask(ctx, s, "Delete endpoint %s (%s) and cancel %d deliveries?", e.Name, e.URL, e.Open); err != nil {
			return err
		}
		if _, err := a.Do(ctx, client.Request{Method: http.MethodDelete, Path: client.Path("admin", "endpoints", e.ID.String())}); err != nil {
			return c.about(err)
		}
		return s.say(map[string]any{"deleted": e.ID, "name": e.Name}, fmt.Sprintf("Endpoint %s deleted.", e.Name))
	})
}

type endpointsRotate struct {
	namedEndpoint
	Kind    string        `help:"hmac or ed25519." enum:"hmac,ed25519" default:"hmac"`
	Overlap time.Duration `help:"How long the old one signs, too; at most 168h." default:"24h"`
	Secret  string        `help:"Take this one instead of a fresh one: @FILE, or - for stdin."`
}

// Run gives an endpoint a new secret.
func (c endpointsRotate) Run(ctx context.Context, s streams) error {
	secret, err := secretFrom(c.Secret, os.Stdin)
	if err != nil {
		return err
	}
	in := map[string]string{"kind": c.Kind, "overlap": c.Overlap.String()}
	if secret != "" {
		in["secret"] = secret
	}
	return s.operate(ctx, func(a api) error {
		done := fmt.Sprintf("signs with a new key; the old one signs beside it for %s", c.Overlap)
		return c.about(s.changeEndpoint(ctx, a, post(c.path("rotate"), in), done))
	})
}

type endpointsTest struct {
	namedEndpoint
	Event string `help:"Of which event." default:"memory_added"`
}

// Run sends a test webhook; an endpoint that does not take it is a failure.
func (c endpointsTest) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		o, raw, err := fetch[admin.TestOutcome](ctx, a, post(c.path("test"), map[string]string{"event": c.Event}))
		if err != nil {
			return c.about(err)
		}
		if s.asJSON {
			err = s.json(raw)
		} else if o.Delivered {
			_, err = fmt.Fprintf(s.out, "%s arrived as %s: answered %d in %d ms.\n", c.Event, o.WebhookID, o.StatusCode, o.DurationMs)
		}
		if err == nil && !o.Delivered {
			return fmt.Errorf("%s did not arrive: %s", c.Event, o.Error)
		}
		return err
	})
}
