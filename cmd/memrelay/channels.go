package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/channel"
	"github.com/memrelay/memrelay/internal/client"
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
	s.onlyHere("channels register")
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

// Run has channels renewed, and goes on after one that cannot be. A node does it: whether
// Zoho says yes is seen in the list.
func (c channelsRenew) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		modules := c.Modules
		if len(modules) == 0 {
			list, err := a.channels(ctx)
			if err != nil {
				return err
			}
			for _, ch := range list.Channels {
				if ch.Source == "zoho" && slices.Contains([]string{"pending", "active", "lost"}, ch.State) {
					modules = append(modules, ch.Module)
				}
			}
		}
		return s.eachChannel(ctx, a, modules, "renew", "due", "is renewed by the next node that works: `memrelay channels list` says how that went")
	})
}

type channelsRemove struct {
	Modules []string `arg:"" name:"module" help:"As Contacts."`
	asking
}

// Run removes channels, once somebody has said so, and goes on after one that Zoho does
// not let go.
func (c channelsRemove) Run(ctx context.Context, s streams) error {
	if err := c.ask(ctx, s, "Remove the channels of %s for good?", strings.Join(c.Modules, ", ")); err != nil {
		return err
	}
	return s.operate(ctx, func(a api) error { return s.eachChannel(ctx, a, c.Modules, "disable", "removed", "removed") })
}

type channelsPause struct {
	Module string `arg:"" help:"As Contacts."`
}

// Run pauses a channel.
func (c channelsPause) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error { return s.eachChannel(ctx, a, []string{c.Module}, "pause", "paused", "paused") })
}

type channelsResume struct {
	Module string `arg:"" help:"As Contacts."`
}

// Run resumes a channel.
func (c channelsResume) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error { return s.eachChannel(ctx, a, []string{c.Module}, "resume", "resumed", "resumed") })
}

// eachChannel does something to channels, and goes on after one that it cannot be done to.
// done is for machines, says for people.
func (s streams) eachChannel(ctx context.Context, a api, modules []string, action, done, says string) error {
	var failed error
	changed := []string{}
	for _, module := range modules {
		if _, err := a.Do(ctx, post(client.Path("admin", "channels", module, action), nil)); err != nil {
			failed = errors.Join(failed, about("channel of "+module, err))
			continue
		}
		changed = append(changed, module)
		s.tell("%s %s", module, says)
	}
	if s.asJSON && (failed == nil || len(changed) > 0) {
		return errors.Join(failed, s.json(map[string][]string{done: changed}))
	}
	return failed
}

type channelsEvents struct {
	Module string   `arg:"" help:"As Contacts."`
	Events []string `arg:"" name:"event" help:"create, edit, delete or all."`
}

// Run sets a channel's events.
func (c channelsEvents) Run(ctx context.Context, s streams) error {
	s.onlyHere("channels events")
	return s.withChannels(ctx, func(k *channel.Keeper) error {
		return s.sayOfOne(c.Module, "changed", k.SetEvents(ctx, c.Module, c.Events))
	})
}

type channelsList struct{}

// channelList is what channels list prints.
type channelList struct {
	admin.ChannelList
	Unwatched []channel.Unwatched `json:"unwatched"`
}

// Run lists channels. It asks Zoho nothing.
func (channelsList) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		list, err := a.channels(ctx)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(list)
		}
		return list.print(s)
	})
}

// channels are all there are, and what becomes of the modules that have none.
func (a api) channels(ctx context.Context) (list channelList, err error) {
	if err := a.Get(ctx, "/admin/channels", nil, &list.ChannelList); err != nil {
		return list, err
	}
	shown, err := a.settings(ctx)
	if err != nil {
		return list, err
	}
	keeper := channel.New(nil, nil, channel.Options{Modules: strings.Split(shown["ZOHO_MODULES"].Value, ",")})
	_, list.Unwatched = keeper.Modules()
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
		jobs, err := app.NewJobs(cfg, pool, s.quiet())
		if err != nil {
			return err
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
