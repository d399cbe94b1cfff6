package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/lane"
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

// office is what commands about endpoints and deliveries work with.
type office struct {
	cfg       config.Config
	pool      *pgxpool.Pool
	jobs      lane.Inserter
	endpoints *endpoint.Store
	who       endpoint.Actor
}

// withOffice opens the database for a command about endpoints. What was asked wrongly
// is wrong usage.
func (s streams) withOffice(ctx context.Context, do func(office) error) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	err = s.withPool(ctx, func(pool *pgxpool.Pool) error {
		jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: s.quiet()})
		if err != nil {
			return fmt.Errorf("build the job client: %w", err)
		}
		endpoints, err := app.NewEndpoints(cfg, pool, jobs, time.Now)
		if err != nil {
			return err
		}
		return do(office{cfg: cfg, pool: pool, jobs: jobs, endpoints: endpoints, who: endpoint.Actor{Name: "command line, " + account()}})
	})
	var invalid *body.Invalid
	if errors.Is(err, endpoint.ErrInvalid) || errors.As(err, &invalid) {
		return usage(err)
	}
	return err
}

type endpointsList struct{}

// Run lists endpoints.
func (endpointsList) Run(ctx context.Context, s streams) error {
	return s.withOffice(ctx, func(d office) error {
		all, err := d.endpoints.List(ctx)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(append([]endpoint.Endpoint{}, all...))
		}
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tNAME\tSTATUS\tOPEN\tFAILURES\tFAILING SINCE\tEVENTS\tURL\tREASON")
		for _, e := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", e.ID, e.Name, e.Status, e.Open, e.Failures, timeOrNone(e.FailingSince),
				strings.Join(e.Events, ","), e.URL, e.StatusReason)
		}
		return w.Flush()
	})
}

// namedEndpoint is the argument of commands about one endpoint.
type namedEndpoint struct {
	Which string `arg:"" name:"name-or-id" help:"As endpoints list prints them."`
}

type endpointsShow struct{ namedEndpoint }

// Run shows an endpoint; its secrets are shown by nobody.
func (c endpointsShow) Run(ctx context.Context, s streams) error {
	return s.withOffice(ctx, func(d office) error {
		e, err := d.endpoints.Get(ctx, c.Which)
		if err != nil {
			return err
		}
		return s.showEndpoint(e)
	})
}

// showEndpoint prints all there is, in the order and under the names of the API.
func (s streams) showEndpoint(e endpoint.Endpoint) error {
	if s.asJSON {
		return s.json(e)
	}
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode an endpoint: %w", err)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	err = body.Each(text, func(name string, value json.RawMessage) error {
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

// sayEndpoint says what was done to an endpoint, and prints its new secrets alone on
// their stream, so that they can be piped to where they are kept.
func (s streams) sayEndpoint(e endpoint.Endpoint, secrets []endpoint.Secret, done string) error {
	if s.asJSON {
		return s.json(admin.WithSecrets{Endpoint: e, Secrets: secrets})
	}
	if len(secrets) == 0 {
		_, err := fmt.Fprintf(s.out, "Endpoint %s %s.\n", e.Name, done)
		return err
	}
	fmt.Fprintf(s.err, "Endpoint %s %s. What it signs with is shown this once:\n", e.Name, done)
	for _, secret := range secrets {
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
	return s.withOffice(ctx, func(d office) error {
		e, secrets, err := d.endpoints.Create(ctx, d.who, in)
		if err != nil {
			return err
		}
		return s.sayEndpoint(e, secrets, "created")
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
	return s.withOffice(ctx, func(d office) error {
		e, secrets, err := d.endpoints.Change(ctx, d.who, c.Which, in)
		if err != nil {
			return err
		}
		return s.sayEndpoint(e, secrets, "changed")
	})
}
