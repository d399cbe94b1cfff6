package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/reconcile"
)

type syncCommand struct {
	Account     syncAccount     `cmd:"" help:"Read whole accounts from Zoho."`
	Incremental syncIncremental `cmd:"" help:"Look at what changed since the last sync."`
	Full        syncFull        `cmd:"" help:"Look at everything: the only one that surely finds all."`
	List        syncList        `cmd:"" help:"List syncs, newest first."`
	Show        syncShow        `cmd:"" help:"Show one sync and what it could not read."`
	Pause       syncPause       `cmd:"" help:"Stop a sync for the time being."`
	Resume      syncResume      `cmd:"" help:"Let a paused sync go on where it stands."`
	Cancel      syncCancel      `cmd:"" help:"End a sync for good; what it found is worked."`
}

// reconciling opens the database for a command about syncs.
func (s streams) reconciling(ctx context.Context, do func(*reconcile.Reconciler, reconcile.Actor) error) error {
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		cfg, _, err := config.FromEnv(s.environ)
		if err != nil {
			return fmt.Errorf("settings:\n%w", err)
		}
		jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: s.quiet()})
		if err != nil {
			return fmt.Errorf("build the job client: %w", err)
		}
		r := reconcile.New(pool, jobs, nil, nil, reconcile.Options{Modules: cfg.ZohoModules, Log: s.quiet()})
		return do(r, reconcile.Actor{Name: "command line, " + account()})
	})
}

// following is how a command that starts something goes on.
type following struct {
	Detach bool `help:"Return at once: it goes on without you."`
}

type syncIncremental struct{ following }

// Run starts an incremental sync and follows it.
func (c syncIncremental) Run(ctx context.Context, s streams) error {
	return c.start(ctx, s, reconcile.Incremental)
}

type syncFull struct{ following }

// Run starts a full sync and follows it.
func (c syncFull) Run(ctx context.Context, s streams) error { return c.start(ctx, s, reconcile.Full) }

// start starts a sync, or takes the one that is active, and follows it to its end.
func (f following) start(ctx context.Context, s streams, kind string) error {
	return s.reconciling(ctx, func(r *reconcile.Reconciler, who reconcile.Actor) error {
		id, already, err := r.Start(ctx, kind, who)
		if err != nil {
			return err
		}
		status, err := r.Status(ctx, id.String())
		if err != nil {
			return err
		}
		switch {
		case already:
			s.tell("A %s sync is under way already: %s.", status.Kind, id)
		case status.Kind != kind:
			s.tell("Sync %s started: a full one, for none has completed yet.", id)
		default:
			s.tell("Sync %s started.", id)
		}
		if err := s.warnOfWaiting(ctx, r); err != nil {
			return err
		}
		if !f.Detach {
			status, err = s.followSync(ctx, r, status)
		}
		if err != nil {
			return err
		}
		if s.asJSON {
			err = s.json(status)
		}
		if status.State == reconcile.Failed || status.State == reconcile.Cancelled {
			return errors.Join(err, fmt.Errorf("sync %s is %s: %s", id, status.State, orNothing(status.LastError)))
		}
		return err
	})
}

// tell says on the way what a command does; machines read only how it went.
func (s streams) tell(format string, args ...any) {
	if !s.asJSON {
		fmt.Fprintf(s.out, format+"\n", args...)
	}
}

// warnOfWaiting says why what was started may not go on. The nodes may have
// credentials that this command has not, so nothing is refused.
func (s streams) warnOfWaiting(ctx context.Context, r *reconcile.Reconciler) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	if !cfg.Zoho.Connected() {
		fmt.Fprintln(s.err, "No Zoho client is set here: the nodes need ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET, and this waits until one has them.")
	}
	works, err := r.SomebodyWorks(ctx)
	if err == nil && !works {
		fmt.Fprintln(s.err, "Nobody works: it goes on once `memrelay serve` or `memrelay work` runs with Zoho's credentials.")
	}
	return err
}

const (
	// lookEvery is how often a command that follows something looks.
	lookEvery = time.Second
	// lineEvery is how often it prints a line where it cannot overwrite the last one.
	lineEvery = 10 * time.Second
)

// followSync shows a sync's progress until it has ended, or the user has seen enough.
func (s streams) followSync(ctx context.Context, r *reconcile.Reconciler, status reconcile.Status) (reconcile.Status, error) {
	id := status.ID.String()
	p := s.progress()
	err := p.until(ctx, func() (string, bool, error) {
		now, err := r.Status(ctx, id)
		if err != nil {
			return "", false, err
		}
		status = now
		return progressLine(status), status.Ended(), nil
	})
	if errors.Is(err, errSeenEnough) {
		s.tell("Not followed any more; it goes on. See `memrelay sync show %s`.", id)
		return status, nil
	}
	return status, err
}

// progressLine is a sync in one line.
func progressLine(s reconcile.Status) string {
	line := fmt.Sprintf("%3d %%  %d read, %d changed, %d gone, %d missed", s.Percent, s.Read, s.Changed, s.Gone, s.Missed)
	if s.OpenErrors > 0 {
		line += fmt.Sprintf(", %d not read", s.OpenErrors)
	}
	switch {
	case s.State != reconcile.Running:
		line += ", " + s.State
	case s.WaitsFor != "" && s.WaitsUntil != nil:
		line += fmt.Sprintf(", waits until %s UTC for %s", s.WaitsUntil.UTC().Format(time.TimeOnly), s.WaitsFor)
	case s.SecondsLeft != nil:
		line += fmt.Sprintf(", about %s left", time.Duration(*s.SecondsLeft)*time.Second)
	}
	return line
}

// progress prints how something goes: on a terminal in one line, elsewhere in a
// line from time to time, for machines not at all.
type progress struct {
	out      io.Writer
	terminal bool
	width    int // of the line that stands there
	printed  time.Time
}

func (s streams) progress() *progress {
	p := &progress{out: s.out}
	if s.asJSON {
		p.out = io.Discard
		return p
	}
	if f, ok := s.out.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// errSeenEnough says that the user stopped looking.
var errSeenEnough = errors.New("the user has seen enough")

// until looks each second until there is nothing more to come.
func (p *progress) until(ctx context.Context, look func() (line string, ended bool, err error)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		line, ended, err := look()
		if ctx.Err() != nil {
			p.stop()
			return errSeenEnough
		}
		if err != nil {
			p.stop()
			return err
		}
		p.print(line, ended)
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
			p.stop()
			return errSeenEnough
		case <-tick.C:
		}
	}
}

func (p *progress) print(line string, last bool) {
	if p.terminal {
		fmt.Fprintf(p.out, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-len(line))))
		p.width = len(line)
		if last {
			p.stop()
		}
		return
	}
	if now := time.Now(); last || now.Sub(p.printed) >= lineEvery {
		fmt.Fprintln(p.out, line)
		p.printed = now
	}
}

// stop leaves the line that stands there.
func (p *progress) stop() {
	if p.terminal && p.width > 0 {
		fmt.Fprintln(p.out)
		p.width = 0
	}
}

type syncAccount struct {
	following
	IDs []string `arg:"" name:"id" help:"The accounts' ids, as Zoho shows them."`
}

// Run asks for whole accounts and follows until all are read.
func (c syncAccount) Run(ctx context.Context, s streams) error {
	return s.reconciling(ctx, func(r *reconcile.Reconciler, who reconcile.Actor) error {
		if err := r.SyncAccounts(ctx, c.IDs, who); errors.Is(err, reconcile.ErrAccountID) {
			return usage(err)
		} else if err != nil {
			return err
		}
		s.tell("Asked for %d accounts.", len(c.IDs))
		if err := s.warnOfWaiting(ctx, r); err != nil {
			return err
		}
		var reads []reconcile.AccountRead
		look := func() (line string, ended bool, err error) {
			if reads, err = r.AccountReads(ctx, c.IDs); err != nil {
				return "", false, err
			}
			line, ended = accountLine(reads)
			return line, ended, nil
		}
		if c.Detach {
			if _, _, err := look(); err != nil {
				return err
			}
		} else if err := s.progress().until(ctx, look); errors.Is(err, errSeenEnough) {
			s.tell("Not followed any more; it goes on.")
		} else if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(reads)
		}
		return nil
	})
}

// accountLine is how far the reads of accounts are, in one line.
func accountLine(reads []reconcile.AccountRead) (line string, ended bool) {
	read, under, lastError := 0, 0, ""
	for _, a := range reads {
		switch {
		case a.WholeAt != nil:
			read++
		case a.Since != nil:
			under++
		}
		if a.WholeAt == nil && a.LastError != "" {
			lastError = fmt.Sprintf(", %s: %s", a.AccountID, a.LastError)
		}
	}
	return fmt.Sprintf("%d of %d accounts read, %d under way%s", read, len(reads), under, lastError), read == len(reads)
}

type syncList struct {
	Limit int `help:"How many." default:"20"`
}

// Run lists syncs.
func (c syncList) Run(ctx context.Context, s streams) error {
	return s.reconciling(ctx, func(r *reconcile.Reconciler, _ reconcile.Actor) error {
		all, err := r.List(ctx, c.Limit)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(all)
		}
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tKIND\tSTATE\tDONE\tSTARTED\tTOOK\tREAD\tCHANGED\tGONE\tMISSED\tBY\tLAST ERROR")
		for _, st := range all {
			took := ""
			if st.FinishedAt != nil {
				took = st.FinishedAt.Sub(st.StartedAt).Round(time.Second).String()
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d %%\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", st.ID, st.Kind, st.State, st.Percent,
				st.StartedAt.UTC().Format(time.DateTime), took, st.Read, st.Changed, st.Gone, st.Missed, st.RequestedBy, st.LastError)
		}
		return w.Flush()
	})
}

// namedSync is a sync that the user names, or need not.
type namedSync struct {
	Which string `arg:"" optional:"" name:"id" help:"The sync's id, or its kind: full or incremental. Without it the one there is."`
}

// which returns what the user named, else the sync that was started last of those
// that fit.
func (n namedSync) which(ctx context.Context, r *reconcile.Reconciler, fits func(reconcile.Status) bool) (string, error) {
	if n.Which != "" {
		return n.Which, nil
	}
	all, err := r.List(ctx, 100)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, st := range all {
		if fits(st) {
			ids = append(ids, st.ID.String())
		}
	}
	switch len(ids) {
	case 0:
		return "", reconcile.ErrNotFound
	case 1:
		return ids[0], nil
	default:
		return "", usage(fmt.Errorf("say which: %s", strings.Join(ids, " ")))
	}
}

type syncShow struct{ namedSync }

// Run shows one sync: without a name the newest.
func (c syncShow) Run(ctx context.Context, s streams) error {
	return s.reconciling(ctx, func(r *reconcile.Reconciler, _ reconcile.Actor) error {
		first := true
		which, err := c.which(ctx, r, func(reconcile.Status) bool {
			was := first
			first = false
			return was
		})
		if err != nil {
			return err
		}
		st, err := r.Status(ctx, which)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(st)
		}
		return s.showSync(st)
	})
}

func (s streams) showSync(st reconcile.Status) error {
	fmt.Fprintf(s.out, "%s sync %s by %s, started %s UTC, %d API requests\n%s\n", st.Kind, st.ID, st.RequestedBy,
		st.StartedAt.UTC().Format(time.DateTime), st.Calls, progressLine(st))
	if st.LastError != "" {
		fmt.Fprintln(s.out, "last error:", st.LastError)
	}
	fmt.Fprintln(s.out)
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODULE\tPHASE\tREAD\tOF\tCHANGED\tGONE\tMISSED\tLAST ERROR")
	for _, p := range st.Parts {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", p.Module, p.Phase, p.Read, p.Expected, p.Changed, p.Gone, p.Missed, p.LastError)
	}
	if len(st.Errors) > 0 {
		fmt.Fprintln(w, "\nMODULE\tRECORD\tTRIED\tREAD\tERROR")
	}
	for _, e := range st.Errors {
		read := "no"
		if e.ResolvedAt != nil {
			read = "later"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", e.Module, e.RecordID, e.Attempts, read, e.Error)
	}
	return w.Flush()
}

type syncPause struct{ namedSync }

// Run pauses a sync.
func (c syncPause) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "paused", func(r *reconcile.Reconciler, which string, who reconcile.Actor) error {
		_, err := r.Pause(ctx, which, who)
		return err
	}, func(st reconcile.Status) bool { return st.State == reconcile.Running })
}

type syncResume struct{ namedSync }

// Run resumes a sync.
func (c syncResume) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "resumed", func(r *reconcile.Reconciler, which string, who reconcile.Actor) error {
		_, err := r.Resume(ctx, which, who)
		return err
	}, func(st reconcile.Status) bool { return st.State == reconcile.Paused })
}

type syncCancel struct{ namedSync }

// Run cancels a sync.
func (c syncCancel) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "cancelled", func(r *reconcile.Reconciler, which string, who reconcile.Actor) error {
		_, err := r.Cancel(ctx, which, who)
		return err
	}, func(st reconcile.Status) bool { return !st.Ended() })
}

func (n namedSync) change(ctx context.Context, s streams, done string, do func(*reconcile.Reconciler, string, reconcile.Actor) error,
	fits func(reconcile.Status) bool,
) error {
	return s.reconciling(ctx, func(r *reconcile.Reconciler, who reconcile.Actor) error {
		which, err := n.which(ctx, r, fits)
		if err != nil {
			return err
		}
		if err := do(r, which, who); err != nil {
			return err
		}
		return s.say(map[string]any{done: which}, fmt.Sprintf("Sync %s %s.", which, done))
	})
}

func orNothing(text string) string {
	if text == "" {
		return "nothing more is known"
	}
	return text
}
