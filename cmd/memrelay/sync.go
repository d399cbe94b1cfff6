package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/memrelay/memrelay/internal/client"
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
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, post("/admin/syncs", map[string]string{"kind": kind}))
		if err != nil {
			return err
		}
		var status reconcile.Status
		if err := answer.Read(&status); err != nil {
			return err
		}
		switch {
		case answer.Status == http.StatusOK:
			s.tell("A %s sync is under way already: %s.", status.Kind, status.ID)
		case status.Kind != kind:
			s.tell("Sync %s started: a full one, for none has completed yet.", status.ID)
		default:
			s.tell("Sync %s started.", status.ID)
		}
		s.warnOfWaiting(ctx, a)
		if !f.Detach {
			status, err = s.followSync(ctx, a, status)
		}
		if err != nil {
			return err
		}
		if s.asJSON {
			err = s.json(status)
		}
		if status.State == reconcile.Failed || status.State == reconcile.Cancelled {
			return errors.Join(err, fmt.Errorf("sync %s is %s: %s", status.ID, status.State, orNothing(status.LastError)))
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

// warnOfWaiting says why what was started may not go on. Other nodes may have
// credentials that the one which answers has not, so nothing is refused; and who may not
// look at that is not told.
func (s streams) warnOfWaiting(ctx context.Context, a api) {
	shown, err := a.settings(ctx)
	if err == nil && (!shown["ZOHO_CLIENT_ID"].Set || !shown["ZOHO_CLIENT_SECRET"].Set) {
		where := "here"
		if a.remote {
			where = "at the node that answered"
		}
		fmt.Fprintf(s.err, "No Zoho client is set %s: the nodes need ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET, and this waits until one has them.\n", where)
	}
	var metrics struct {
		Running bool `json:"processor_running"`
	}
	if err := a.Get(ctx, "/webhooks/metrics", nil, &metrics); err == nil && !metrics.Running {
		fmt.Fprintln(s.err, "Nobody works: it goes on once `memrelay serve` or `memrelay work` runs with Zoho's credentials.")
	}
}

// followSync shows a sync's progress until it has ended, or the user has seen enough.
func (s streams) followSync(ctx context.Context, a api, status reconcile.Status) (reconcile.Status, error) {
	id := status.ID.String()
	p := s.progress()
	err := p.until(ctx, func() (string, bool, error) {
		now, _, err := fetch[reconcile.Status](ctx, a, client.Request{Path: client.Path("admin", "syncs", id)})
		if err != nil {
			return "", false, err
		}
		status = now
		return p.bar(int64(status.Percent), 100) + progressLine(status), status.Ended(), nil
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

type syncList struct {
	Limit int `help:"How many." default:"20"`
}

// Run lists syncs.
func (c syncList) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/syncs", params(), "syncs", c.Limit)
		if err != nil {
			return err
		}
		head := "ID | KIND | STATE | DONE | STARTED | TOOK | READ | CHANGED | GONE | MISSED | BY | LAST ERROR"
		return table(s, rows, head, func(st reconcile.Status) []any {
			took := ""
			if st.FinishedAt != nil {
				took = st.FinishedAt.Sub(st.StartedAt).Round(time.Second).String()
			}
			return []any{
				st.ID, st.Kind, st.State, fmt.Sprintf("%d %%", st.Percent), timeOrNone(&st.StartedAt), took,
				st.Read, st.Changed, st.Gone, st.Missed, st.RequestedBy, st.LastError,
			}
		})
	})
}

// namedSync is a sync that the user names, or need not.
type namedSync struct {
	Which string `arg:"" optional:"" name:"id" help:"The sync's id, or its kind: full or incremental. Without it the one there is."`
}

// which returns what the user named, else the sync that was started last of those
// that fit.
func (n namedSync) which(ctx context.Context, a api, fits func(reconcile.Status) bool) (string, error) {
	if n.Which != "" {
		return n.Which, nil
	}
	newest, _, err := fetch[struct {
		Syncs []reconcile.Status `json:"syncs"`
	}](ctx, a, client.Request{Path: "/admin/syncs", Query: params("limit", "100")})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, st := range newest.Syncs {
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
	return s.operate(ctx, func(a api) error {
		first := true
		which, err := c.which(ctx, a, func(reconcile.Status) bool {
			was := first
			first = false
			return was
		})
		if err != nil {
			return err
		}
		st, raw, err := fetch[reconcile.Status](ctx, a, client.Request{Path: client.Path("admin", "syncs", which)})
		if err != nil {
			return about("sync "+which, err)
		}
		if s.asJSON {
			return s.json(raw)
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
	return c.change(ctx, s, "pause", "paused", func(st reconcile.Status) bool { return st.State == reconcile.Running })
}

type syncResume struct{ namedSync }

// Run resumes a sync.
func (c syncResume) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "resume", "resumed", func(st reconcile.Status) bool { return st.State == reconcile.Paused })
}

type syncCancel struct{ namedSync }

// Run cancels a sync.
func (c syncCancel) Run(ctx context.Context, s streams) error {
	return c.change(ctx, s, "cancel", "cancelled", func(st reconcile.Status) bool { return !st.Ended() })
}

func (n namedSync) change(ctx context.Context, s streams, action, done string, fits func(reconcile.Status) bool) error {
	return s.operate(ctx, func(a api) error {
		which, err := n.which(ctx, a, fits)
		if err != nil {
			return err
		}
		if _, err := a.Do(ctx, post(client.Path("admin", "syncs", which, action), nil)); err != nil {
			return about("sync "+which, err)
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
