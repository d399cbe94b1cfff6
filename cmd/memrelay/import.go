package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/importer"
	"github.com/memrelay/memrelay/internal/inbound"
)

type importCommand struct {
	Redis importRedis `cmd:"" help:"Take over what a webhook sync on Redis has not worked yet."`
}

type importRedis struct {
	URL    string `name:"url" help:"redis://user:password@host:6379/0, or rediss:// for TLS. Without it REDIS_URL."`
	Queue  string `help:"Key of what waits to be worked, a list or a sorted set; empty: none." default:"webhook:queue"`
	Dead   string `help:"Key of the dead letters, a list or a sorted set; empty: none." default:"webhook:dead_letter"`
	DeadAs string `name:"dead-as" help:"process: dead letters are tried again; dead: they wait here for a decision." enum:"process,dead" default:"process"`
	Oldest string `help:"Where the oldest element of a list stands, which the old consumer takes first: last (LPUSH, BRPOP) or first (RPUSH, BLPOP)." enum:"last,first" default:"last"`
	Source string `help:"The source of the events." default:"zoho"`
	Follow bool   `help:"Go on until Ctrl-C."`
	DryRun bool   `help:"Only say what would become of it."`
	Yes    bool   `help:"Do not ask."`
}

// Run takes over what is in Redis.
func (c importRedis) Run(ctx context.Context, s streams) error {
	if c.URL == "" {
		c.URL = s.getenv("REDIS_URL")
	}
	switch {
	case c.URL == "":
		return usage(errors.New("missing flags: --url=URL, or REDIS_URL"))
	case c.Queue == "" && c.Dead == "":
		return usage(errors.New("want --queue or --dead"))
	case c.Queue == c.Dead:
		return usage(errors.New("--queue and --dead are the same key"))
	case c.Source == "" || c.Source == inbound.SourceMemory || strings.HasPrefix(c.Source, "zoho-"):
		return usage(fmt.Errorf("--source: %q is no sender of records of Zoho CRM", c.Source))
	case c.DryRun && c.Follow:
		return usage(errors.New("want --dry-run or --follow"))
	}
	client, err := importer.Open(c.URL)
	if err != nil {
		return usage(fmt.Errorf("--url: %w", err))
	}
	defer func() { _ = client.Close() }()
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		if !c.DryRun {
			if err := c.begin(ctx, s, pool); err != nil {
				return err
			}
		}
		ingester, err := s.ingester(pool)
		if err != nil {
			return err
		}
		p := s.progress()
		r, err := importer.New(client, pool, ingester, time.Now, c.options(func(r importer.Report) { p.print(importLine(r), false) })).Run(ctx)
		p.stop()
		return errors.Join(s.sayImported(r), err, c.unfinished(r, err))
	})
}

func (c importRedis) options(progress func(importer.Report)) importer.Options {
	return importer.Options{
		Source: c.Source, Queue: c.Queue, Dead: c.Dead, FromLeft: c.Oldest == "first", KeepDead: c.DeadAs == "dead",
		DryRun: c.DryRun, Follow: c.Follow, Progress: progress,
	}
}

// begin has somebody say that this is meant, and writes down that it was.
func (c importRedis) begin(ctx context.Context, s streams, pool *pgxpool.Pool) error {
	keys := slices.DeleteFunc([]string{c.Queue, c.Dead}, func(k string) bool { return k == "" })
	if !c.Yes {
		if err := s.confirm(ctx, os.Stdin, fmt.Sprintf("Take over what is in %s, and take it out of Redis?", strings.Join(keys, " and "))); err != nil {
			return err
		}
	}
	q := db.New(pool)
	details, err := json.Marshal(map[string]any{"keys": keys, "source": c.Source, "dead_as": c.DeadAs, "follow": c.Follow})
	if err != nil {
		return err
	}
	err = q.InsertAudit(ctx, db.InsertAuditParams{Actor: "command line, " + account(), Action: "events.import", Object: "source/" + c.Source, Details: details})
	if err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	workers, err := q.SumWorkers(ctx)
	if err != nil {
		return fmt.Errorf("look for who works: %w", err)
	}
	if workers == 0 {
		fmt.Fprintln(s.err, "Nobody works: of many events only the first thousand are taken over until `memrelay serve` or `memrelay work` runs.")
	}
	return nil
}

// ingester makes what stores events, for a command.
func (s streams) ingester(pool *pgxpool.Pool) (*inbound.Ingester, error) {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	jobs, err := app.NewJobs(cfg, pool, s.quiet())
	if err != nil {
		return nil, err
	}
	// The counters of a process that is not among the living are folded by the sweeper.
	counts := counter.New(pool, uuid.New(), "", 0, s.quiet())
	return inbound.NewIngester(pool, jobs, counts, cfg.ZohoModules, group.Options{}), nil
}

// importLine is how far it is, in one line.
func importLine(r importer.Report) string {
	var parts []string
	for _, k := range r.Keys {
		parts = append(parts, fmt.Sprintf("%s: %d taken over, %d unreadable", k.Name, k.Taken(), k.Refused))
	}
	line := strings.Join(parts, "; ")
	if r.Waits {
		line += "; waits until events are worked"
	}
	return line
}

// sayImported prints what became of it.
func (s streams) sayImported(r importer.Report) error {
	if s.asJSON {
		return s.json(r)
	}
	if r.DryRun {
		fmt.Fprintln(s.out, "Nothing was written. This would become of it:")
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tTYPE\tACCEPTED\tDUPLICATE\tIGNORED\tDEAD\tUNREADABLE\tLEFT")
	for _, k := range r.Keys {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", k.Name, k.Type, k.Accepted, k.Duplicate, k.Ignored, k.Dead, k.Refused, k.Left)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, k := range r.Keys {
		for _, u := range k.Unreadable {
			fmt.Fprintf(s.out, "%s %d: %s\n", k.Name, u.Position, u.Reason)
		}
		if k.ExpiresIn > 0 && k.Left > 0 {
			fmt.Fprintf(s.out, "%s expires in %s, and what is left in it with it.\n", k.Name, time.Duration(k.ExpiresIn)*time.Second)
		}
		if k.Vanished > 0 {
			fmt.Fprintf(s.out, "%d elements of %s were taken out by somebody else meanwhile: does the old consumer still run?\n", k.Vanished, k.Name)
		}
	}
	return nil
}

// unfinished is an error when something was left that should not have been.
func (c importRedis) unfinished(r importer.Report, err error) error {
	var unreadable, left int64
	for _, k := range r.Keys {
		unreadable, left = unreadable+k.Refused, left+k.Left
	}
	switch {
	case err != nil:
		return nil
	case unreadable > 0:
		return fmt.Errorf("%d elements could not be read", unreadable)
	case r.Stopped && left > 0 && !c.Follow:
		return fmt.Errorf("stopped: %d elements are left; run it again to go on", left)
	}
	return nil
}
