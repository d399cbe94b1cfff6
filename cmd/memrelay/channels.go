package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/channel"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

type channelsCommand struct {
	Register channelsRegister `cmd:"" help:"Have Zoho tell of changes."`
	List     channelsList     `cmd:"" help:"List channels and how they fare."`
	Renew    channelsRenew    `cmd:"" help:"Renew channels now, with fresh tokens."`
	Pause    channelsPause    `cmd:"" help:"Have Zoho tell nothing of a module for a while."`
	Resume   channelsResume   `cmd:"" help:"Have Zoho tell of a paused module again."`
	Events   channelsEvents   `cmd:"" help:"Set which events a channel tells of."`
	Remove   channelsRemove   `cmd:"" help:"Remove channels for good: upkeep leaves them alone, too."`
}

type channelsRegister struct {
	URL     string   `name:"url" help:"Where Zoho sends to, as https://relay.example.com/webhooks/zoho, unless WEBHOOK_BASE_URL says so."`
	Modules []string `arg:"" optional:"" name:"module" help:"As Contacts; else all of ZOHO_MODULES."`
}

// Run registers channels, and goes on after one that is refused.
func (c channelsRegister) Run(ctx context.Context, s streams) error {
	return s.withChannels(ctx, func(k *channel.Keeper) error {
		done, err := k.Register(ctx, c.Modules, c.URL)
		if len(c.Modules) == 0 && !s.asJSON {
			_, unwatched := k.Modules()
			for _, u := range unwatched {
				fmt.Fprintln(s.err, u)
			}
		}
		return s.sayOf(done, "registered", err)
	})
}

type channelsRenew struct {
	Modules []string `arg:"" optional:"" name:"module" help:"As Contacts; else all that are not paused."`
}

// Run renews channels, and goes on after one that is refused.
func (c channelsRenew) Run(ctx context.Context, s streams) error {
	return s.withChannels(ctx, func(k *channel.Keeper) error {
		done, err := k.Renew(ctx, c.Modules)
		return s.sayOf(done, "renewed", err)
	})
}

type channelsRemove struct {
	Modules []string `arg:"" name:"module" help:"As Contacts."`
}

// Run removes channels, and goes on after one that Zoho does not let go.
func (c channelsRemove) Run(ctx context.Context, s streams) error {
	return s.withChannels(ctx, func(k *channel.Keeper) error {
		done, err := k.Remove(ctx, c.Modules)
		return s.sayOf(done, "removed", err)
	})
}

type channelsPause struct {
	Module string `arg:"" help:"As Contacts."`
}

// Run pauses a channel.
func (c channelsPause) Run(ctx context.Context, s streams) error {
	return s.withChannels(ctx, func(k *channel.Keeper) error { return s.sayOfOne(c.Module, "paused", k.Pause(ctx, c.Module)) })
}

type channelsResume struct {
	Module string `arg:"" help:"As Contacts."`
}

// Run resumes a channel.
func (c channelsResume) Run(ctx context.Context, s streams) error {
	return s.withChannels(ctx, func(k *channel.Keeper) error { return s.sayOfOne(c.Module, "resumed", k.Resume(ctx, c.Module)) })
}

type channelsEvents struct {
	Module string   `arg:"" help:"As Contacts."`
	Events []string `arg:"" name:"event" help:"create, edit, delete or all."`
}

// Run sets a channel's events.
func (c channelsEvents) Run(ctx context.Context, s streams) error {
	return s.withChannels(ctx, func(k *channel.Keeper) error {
		return s.sayOfOne(c.Module, "changed", k.SetEvents(ctx, c.Module, c.Events))
	})
}

type channelsList struct{}

// channelList is what channels list prints.
type channelList struct {
	Channels  []db.ListChannelsRow `json:"channels"`
	Missing   []string             `json:"missing"` // modules that should have a channel
	Unwatched []channel.Unwatched  `json:"unwatched"`
}

// Run lists channels. It asks the database alone.
func (c channelsList) Run(ctx context.Context, s streams) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		list, err := c.read(ctx, channel.New(pool, nil, s.channelOptions(cfg)))
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(list)
		}
		return list.print(s)
	})
}

func (channelsList) read(ctx context.Context, k *channel.Keeper) (list channelList, err error) {
	if list.Channels, err = k.List(ctx); err != nil {
		return list, err
	}
	var watched []string
	watched, list.Unwatched = k.Modules()
	there := map[string]bool{}
	for _, row := range list.Channels {
		there[row.Module] = true
	}
	list.Missing = []string{}
	for _, m := range watched {
		if !there[m] {
			list.Missing = append(list.Missing, m)
		}
	}
	return list, nil
}

// print is for people: what hinders a channel stands at the end of its line.
func (l channelList) print(s streams) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODULE\tSTATE\tEVENTS\tCHANNEL\tEXPIRES\tNEXT CALL\tRECEIVED\tNEWEST\tFAILURES\tLAST ERROR")
	for _, r := range l.Channels {
		events := strings.ReplaceAll(strings.Join(r.Events, ","), r.Module+".", "")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", r.Module, r.State, events, r.ChannelID,
			timeOrNone(r.ExpiresAt), timeOrNone(r.DueAt), r.Received, timeOrNone(r.ReceivedAt), r.Failures, r.LastError)
	}
	for _, m := range l.Missing {
		fmt.Fprintf(w, "%s\tnot registered\t\t\t\t\t\t\t\t\n", m)
	}
	for _, u := range l.Unwatched {
		fmt.Fprintf(w, "%s\tnot possible\t\t\t\t\t\t\t\t%s\n", u.Module, u.Reason)
	}
	return w.Flush()
}

func timeOrNone(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.DateTime)
}

// withChannels opens the database and Zoho for a command about channels.
func (s streams) withChannels(ctx context.Context, do func(*channel.Keeper) error) error {
	return s.withZoho(ctx, func(pool *pgxpool.Pool, z *zoho.Client, cfg config.Config) error {
		jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: s.quiet()})
		if err != nil {
			return fmt.Errorf("build the job client: %w", err)
		}
		o := s.channelOptions(cfg)
		o.Teller = memory.NewTeller(jobs, app.Sender(cfg), o.Now)
		err = do(channel.New(pool, z, o))
		if errors.Is(err, channel.ErrInvalid) {
			return usage(err)
		}
		return err
	})
}

func (s streams) channelOptions(cfg config.Config) channel.Options {
	return channel.Options{
		Modules: cfg.ZohoModules, NotifyURL: app.NotifyURL(cfg), Now: time.Now, Random: rand.Reader,
		Actor: "command line, " + account(), Log: s.quiet(),
	}
}

// sayOf prints the modules that something was done for, and returns what became
// of the others.
func (s streams) sayOf(modules []string, done string, failed error) error {
	if s.asJSON {
		if len(modules) == 0 && failed != nil {
			return failed
		}
		return errors.Join(failed, s.json(map[string][]string{done: modules}))
	}
	for _, m := range modules {
		fmt.Fprintln(s.out, m, done)
	}
	return failed
}

func (s streams) sayOfOne(module, done string, failed error) error {
	if failed != nil {
		return failed
	}
	return s.sayOf([]string{module}, done, nil)
}
