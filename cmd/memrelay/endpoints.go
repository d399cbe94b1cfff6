package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/client"
	"github.com/memrelay/memrelay/internal/endpoint"
)

type endpointsCommand struct {
	List   endpointsList   `cmd:"" help:"List endpoints and how they fare."`
	Show   endpointsShow   `cmd:"" help:"Show one endpoint's settings and how it fares."`
	Create endpointsCreate `cmd:"" help:"Tell somebody more of what happens."`
	Update endpointsUpdate `cmd:"" help:"Change settings of an endpoint; the others stay as they are."`
	Pause  endpointsPause  `cmd:"" help:"Send nothing for a while; what comes is kept."`
	Resume endpointsResume `cmd:"" help:"Send again, also to one that was disabled for failing."`
	Delete endpointsDelete `cmd:"" help:"Tell an endpoint nothing any more; what is on its way is cancelled."`
	Rotate endpointsRotate `cmd:"" help:"Make a new secret; the old one signs beside it for a while."`
	Test   endpointsTest   `cmd:"" help:"Send an example of an event from here and say what became of it."`

	Recover      endpointsRecover      `cmd:"" help:"Send again what died."`
	Replay       endpointsReplay       `cmd:"" help:"Send again everything of a time, delivered or not."`
	Redeliveries endpointsRedeliveries `cmd:"" help:"List what was sent again, newest first."`
	Cancel       endpointsCancel       `cmd:"" help:"Stop sending again."`
}

type endpointsList struct{}

// Run lists endpoints.
func (endpointsList) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, client.Request{Path: "/admin/endpoints"})
		if err != nil {
			return err
		}
		rows, err := listed(answer.Body, "endpoints")
		if err != nil {
			return err
		}
		return table(s, rows, "ID | NAME | STATUS | OPEN | FAILURES | FAILING SINCE | EVENTS | URL | REASON", func(e endpoint.Endpoint) []any {
			return []any{e.ID, e.Name, e.Status, e.Open, e.Failures, timeOrNone(e.FailingSince), strings.Join(e.Events, ","), e.URL, e.StatusReason}
		})
	})
}

// namedEndpoint is the argument of commands about one endpoint.
type namedEndpoint struct {
	Which string `arg:"" name:"name-or-id" help:"As endpoints list prints them."`
}

// path is the endpoint's, or that of something below it.
func (c namedEndpoint) path(below ...string) string {
	return client.Path(append([]string{"admin", "endpoints", c.Which}, below...)...)
}

// about says of an error which endpoint it is about.
func (c namedEndpoint) about(err error) error { return about("endpoint "+c.Which, err) }

type endpointsShow struct{ namedEndpoint }

// Run shows an endpoint; its secrets are shown by nobody.
func (c endpointsShow) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, client.Request{Path: c.path()})
		if err != nil {
			return c.about(err)
		}
		return s.showObject(answer.Body)
	})
}

// showObject prints all that an object has, in the order and under the names of the API.
func (s streams) showObject(text json.RawMessage) error {
	if s.asJSON {
		return s.json(text)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	err := body.Each(text, func(name string, value json.RawMessage) error {
		shown := string(value)
		var plain string
		if json.Unmarshal(value, &plain) == nil {
			shown = plain
		}
		if shown != "" && shown != "null" && shown != "[]" && shown != "{}" {
			fmt.Fprintf(w, "%s\t%s\n", name, shown)
		}
		return nil
	})
	return errors.Join(err, w.Flush())
}

// changeEndpoint sends a change of an endpoint and says that it was done. It prints new
// secrets alone on their stream, so that they can be piped to where they are kept.
func (s streams) changeEndpoint(ctx context.Context, a api, r client.Request, done string) error {
	e, raw, err := fetch[admin.WithSecrets](ctx, a, r)
	if err != nil {
		return err
	}
	if s.asJSON {
		return s.json(raw)
	}
	if len(e.Secrets) == 0 {
		_, err := fmt.Fprintf(s.out, "Endpoint %s %s.\n", e.Name, done)
		return err
	}
	fmt.Fprintf(s.err, "Endpoint %s %s. What it signs with is shown this once:\n", e.Name, done)
	for _, secret := range e.Secrets {
		if secret.PublicKey != "" {
			fmt.Fprintf(s.err, "The public key of the next one, for receivers: %s\n", secret.PublicKey)
		}
		if _, err := fmt.Fprintln(s.out, secret.Secret); err != nil {
			return err
		}
	}
	return nil
}

type endpointsCreate struct {
	Name string `arg:"" optional:"" help:"As billing; --from may say it, too."`
	From string `help:"Read the settings from this JSON file, as the API takes them; - for stdin. Flags come before it."`
	endpointFlags
}

// Run makes an endpoint.
func (c endpointsCreate) Run(ctx context.Context, s streams) error {
	in, err := c.settings(c.From, os.Stdin)
	if err != nil {
		return err
	}
	if c.Name != "" {
		in.Name = &c.Name
	}
	return s.operate(ctx, func(a api) error {
		return s.changeEndpoint(ctx, a, post("/admin/endpoints", in), "created")
	})
}

type endpointsUpdate struct {
	namedEndpoint
	Name string `name:"rename" help:"Its new name."`
	From string `help:"Read the changes from this JSON file, as the API takes them; - for stdin. Flags come before it."`
	endpointFlags
}

// Run changes an endpoint.
func (c endpointsUpdate) Run(ctx context.Context, s streams) error {
	in, err := c.settings(c.From, os.Stdin)
	if err != nil {
		return err
	}
	if c.Name != "" {
		in.Name = &c.Name
	}
	return s.operate(ctx, func(a api) error {
		return c.about(s.changeEndpoint(ctx, a, client.Request{Method: http.MethodPatch, Path: c.path(), Body: in}, "changed"))
	})
}
