package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/mirror"
)

type memoryCommand struct {
	Status memoryStatus `cmd:"" help:"Show how the copies in Cognee or mem0 stand."`
	Resync memoryResync `cmd:"" help:"Hold the memories against their copies, and mend what differs."`
}

// backend is the memory system that follows; app.ErrNoRemote when none does.
func (s streams) backend() (config.Config, error) {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return cfg, fmt.Errorf("settings:\n%w", err)
	}
	if cfg.Memory.Backend == "postgres" {
		return cfg, app.ErrNoRemote
	}
	return cfg, nil
}

type memoryStatus struct{}

// Run shows how the copies stand. It asks the database alone.
func (memoryStatus) Run(ctx context.Context, s streams) error {
	cfg, err := s.backend()
	if err != nil {
		return err
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		status, err := mirror.State(ctx, db.New(pool), cfg.Memory.Backend)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(status)
		}
		return printMirror(s.out, status)
	})
}

func printMirror(out io.Writer, m mirror.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "backend\t%s\nsynced\t%d\npending\t%d\nretrying\t%d\ndead\t%d\n", m.Backend, m.Synced, m.Pending, m.Retrying, m.Dead)
	if m.WaitingSince != nil {
		fmt.Fprintf(w, "oldest waits since\t%s UTC\n", timeOrNone(m.WaitingSince))
	}
	called := "yes"
	if m.Breaker.Open {
		called = fmt.Sprintf("not before %s UTC: %s", timeOrNone(m.Breaker.OpenUntil), m.Breaker.Reason)
	}
	fmt.Fprintf(w, "called\t%s\n", called)
	if c := m.Cognify; c != nil {
		line := c.State
		switch {
		case c.State == "running" && c.StartedAt != nil:
			line += " since " + timeOrNone(c.StartedAt) + " UTC"
		case c.NextAt != nil:
			line += ", next at " + timeOrNone(c.NextAt) + " UTC"
		}
		if c.CompletedAt != nil {
			line += ", last completed at " + timeOrNone(c.CompletedAt) + " UTC"
		}
		if c.LastError != "" {
			line += fmt.Sprintf(", failed %d times: %s", c.Failures, c.LastError)
		}
		fmt.Fprintf(w, "cognify\t%s\n", line)
	}
	if len(m.DeadLanes) > 0 {
		fmt.Fprintln(w, "\nDEAD MEMORY\tUSER\tTRIED\tLAST ERROR")
	}
	for _, d := range m.DeadLanes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.MemoryID, d.UserID, timeOrNone(d.TriedAt), d.LastError)
	}
	return w.Flush()
}

type memoryResync struct {
	User   string `help:"Of one user alone, by user_id."`
	DryRun bool   `help:"Say what differs and change nothing; the exit code is 1 when something does."`
}

// resynced is what memory resync prints for machines.
type resynced struct {
	mirror.Report
	Drift  int  `json:"drift"`
	DryRun bool `json:"dry_run"`
}

// Run holds memories and copies against each other.
func (c memoryResync) Run(ctx context.Context, s streams) error {
	cfg, err := s.backend()
	if err != nil {
		return err
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: s.quiet()})
		if err != nil {
			return fmt.Errorf("build the job client: %w", err)
		}
		remote, err := app.NewRemote(cfg, version, time.Now)
		if err != nil {
			return err
		}
		defer remote.CloseIdleConnections()
		p := s.progress()
		report, err := app.NewMirror(cfg, pool, jobs, remote, time.Now, s.quiet()).Resync(ctx, mirror.ResyncOptions{
			UserID: c.User, DryRun: c.DryRun, Actor: "command line, " + account(),
			Progress: func(r mirror.Report) {
				p.print(fmt.Sprintf("%d copies and %d memories compared, %d differ", r.Copies, r.Memories, r.Drift()), false)
			},
		})
		p.stop()
		if err != nil {
			return fmt.Errorf("resync with %s: %w", cfg.Memory.Backend, err)
		}
		return c.tell(s, report)
	})
}

func (c memoryResync) tell(s streams, r mirror.Report) error {
	if s.asJSON {
		if err := s.json(resynced{Report: r, Drift: r.Drift(), DryRun: c.DryRun}); err != nil {
			return err
		}
	} else if err := c.print(s.out, r); err != nil {
		return err
	}
	if c.DryRun && r.Drift() > 0 {
		return fmt.Errorf("%d differences", r.Drift())
	}
	return nil
}

func (c memoryResync) print(out io.Writer, r mirror.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d\tmemories, %d copies, %d on their way\n", r.Memories, r.Copies, r.Pending)
	for _, line := range []struct {
		n    int
		what string
	}{
		{r.Missing, "memories that were never copied"},
		{r.Stale, "copies of what a memory was before"},
		{r.Altered, "copies that others changed"},
		{r.Lost, "copies that others removed"},
		{r.Adopted, "copies that had been forgotten"},
		{r.Orphaned, "copies of memories that are gone"},
		{r.Forsaken, "copies that were to be removed and were not"},
		{r.Duplicates, "second copies"},
		{r.Dead, "memories that had been given up"},
	} {
		if line.n > 0 {
			fmt.Fprintf(w, "%d\t%s\n", line.n, line.what)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, user := range r.Unlisted {
		fmt.Fprintf(out, "The copies of user %s are too many to be listed: they were not looked at.\n", user)
	}
	switch {
	case r.Drift() == 0:
		fmt.Fprintln(out, "Nothing differs.")
	case !c.DryRun:
		fmt.Fprintln(out, "What differs is being mended: `memrelay memory status` says how far that is.")
	}
	return nil
}
