package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/app"
)

type endpointsPause struct {
	namedEndpoint
	Reason string `help:"Why, for the audit log and for whoever wonders."`
}

// Run pauses an endpoint.
func (c endpointsPause) Run(ctx context.Context, s streams) error {
	return s.withOffice(ctx, func(d office) error {
		e, err := d.endpoints.Pause(ctx, d.who, c.Which, c.Reason)
		if err != nil {
			return err
		}
		return s.sayEndpoint(e, nil, "paused")
	})
}

type endpointsResume struct {
	namedEndpoint
	Reason string `help:"Why, for the audit log."`
}

// Run resumes an endpoint.
func (c endpointsResume) Run(ctx context.Context, s streams) error {
	return s.withOffice(ctx, func(d office) error {
		e, err := d.endpoints.Resume(ctx, d.who, c.Which, c.Reason)
		if err != nil {
			return err
		}
		return s.sayEndpoint(e, nil, "resumed")
	})
}

type endpointsDelete struct {
	namedEndpoint
	Yes bool `help:"Do not ask."`
}

// Run deletes an endpoint, once somebody has said so.
func (c endpointsDelete) Run(ctx context.Context, s streams) error {
	return s.withOffice(ctx, func(d office) error {
		e, err := d.endpoints.Get(ctx, c.Which)
		if err != nil {
			return err
		}
		if !c.Yes {
			if err := s.confirm(ctx, os.Stdin, fmt.Sprintf("Delete endpoint %s (%s) and cancel %d deliveries?", e.Name, e.URL, e.Open)); err != nil {
				return err
			}
		}
		if err := d.endpoints.Delete(ctx, d.who, e.ID.String()); err != nil {
			return err
		}
		return s.say(map[string]any{"deleted": e.ID, "name": e.Name}, fmt.Sprintf("Endpoint %s deleted.", e.Name))
	})
}

// confirm asks whoever sits at the terminal; without one, or with another answer
// than yes, it is wrong usage.
func (s streams) confirm(ctx context.Context, in *os.File, question string) error {
	info, err := in.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return usage(errors.New("say --yes"))
	}
	fmt.Fprint(s.err, question, " Type yes: ")
	answer, err := readLine(ctx, in)
	if err != nil {
		return err
	}
	if answer != "yes" {
		return usage(errors.New("nothing was done: say --yes, or type yes"))
	}
	return nil
}

// readLine waits for a line; nothing and no answer are the same.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	typed := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		typed <- strings.TrimSpace(line)
	}()
	select {
	case line := <-typed:
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
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
	return s.withOffice(ctx, func(d office) error {
		e, secrets, err := d.endpoints.Rotate(ctx, d.who, c.Which, c.Kind, c.Overlap, secret)
		if err != nil {
			return err
		}
		return s.sayEndpoint(e, secrets, fmt.Sprintf("signs with a new key; the old one signs beside it for %s", c.Overlap))
	})
}

type endpointsTest struct {
	namedEndpoint
	Event string `help:"Of which event." default:"memory_added"`
}

// Run sends a test webhook; an endpoint that does not take it is a failure.
func (c endpointsTest) Run(ctx context.Context, s streams) error {
	return s.withOffice(ctx, func(d office) error {
		test, release, err := app.NewTest(d.cfg, d.pool, d.endpoints, version, time.Now)
		if err != nil {
			return err
		}
		defer release()
		o, err := test(ctx, c.Which, c.Event)
		if err != nil {
			return err
		}
		if s.asJSON {
			err = s.json(o)
		} else if o.Delivered {
			_, err = fmt.Fprintf(s.out, "%s arrived as %s: answered %d in %d ms.\n", c.Event, o.WebhookID, o.StatusCode, o.DurationMs)
		}
		if err == nil && !o.Delivered {
			return fmt.Errorf("%s did not arrive: %s", c.Event, o.Error)
		}
		return err
	})
}
