package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type eventsReplay struct {
	IDs []int64 `arg:"" optional:"" name:"id" help:"The events' ids; none: all that the filters find."`
	eventFilters
	Status    string `help:"Only these: processed, ignored, dead or discarded." enum:",processed,ignored,dead,discarded" default:""`
	PerSecond int    `help:"So many a second at most; else as many as the backlog has room for."`
	DryRun    bool   `help:"Only count, and show the oldest."`
	Key       string `help:"Who starts the same again under the same key gets the replay of the first time."`
	Wait      bool   `help:"Show progress until it has ended; on a terminal that is so anyway."`
	Reason    string `help:"Why, for the audit log."`
	asking
}

// Run runs events again.
func (c eventsReplay) Run(ctx context.Context, s streams) error {
	many := c.filter(c.Status, time.Now())
	switch {
	case len(c.IDs) > 0 && (many != eventFilter{} || c.DryRun || c.PerSecond != 0 || c.Key != ""):
		return usage(errors.New("want ids, or filters"))
	case len(c.IDs) > 0:
		return c.some(ctx, s)
	case many == eventFilter{}:
		return usage(errors.New("expected \"<id> ...\", or a filter as --status=dead"))
	}
	in := map[string]any{}
	for name, value := range many.fields() {
		in[name] = value
	}
	if c.PerSecond != 0 {
		in["per_second"] = c.PerSecond
	}
	if c.Reason != "" {
		in["reason"] = c.Reason
	}
	return s.operate(ctx, func(a api) error { return c.many(ctx, s, a, in) })
}

// some runs events again by their ids, and goes on after one that cannot be.
func (c eventsReplay) some(ctx context.Context, s streams) error {
	if len(c.IDs) > askAbove {
		if err := c.ask(ctx, s, "Run %d events again?", len(c.IDs)); err != nil {
			return err
		}
	}
	return s.operate(ctx, func(a api) error {
		var failed error
		replays := map[int64]string{}
		for _, id := range c.IDs {
			r, _, err := fetch[struct {
				ID string `json:"replay_id"`
			}](ctx, a, post(client.Path("admin", "events", strconv.FormatInt(id, 10), "replay"), given(c.Reason)))
			if err != nil {
				failed = errors.Join(failed, about(fmt.Sprintf("event %d", id), err))
				continue
			}
			replays[id] = r.ID
			s.tell("event %d runs again, replay %s", id, r.ID)
		}
		if s.asJSON {
			return errors.Join(failed, s.json(replays))
		}
		return failed
	})
}

// many starts a replay of all that the filters find, once somebody has said so where that
// is many, and follows it.
func (c eventsReplay) many(ctx context.Context, s streams, a api, in map[string]any) error {
	if c.DryRun || !c.Yes {
		dry := maps.Clone(in)
		dry["dry_run"] = true
		found, raw, err := fetch[admin.Found](ctx, a, post("/admin/replays", dry))
		if err != nil {
			return err
		}
		if c.DryRun {
			return s.sayFound(found, raw)
		}
		if found.Matched > askAbove {
			if err := c.ask(ctx, s, "Run %d events again?", found.Matched); err != nil {
				return err
			}
		}
	}
	start := post("/admin/replays", in)
	start.Key = c.Key
	r, _, err := fetch[admin.Replay](ctx, a, start)
	if err != nil {
		return err
	}
	s.tell("Replay %s of %d events started.", r.ID, r.Matched)
	if c.Wait || s.progress().terminal {
		if r, err = s.followReplay(ctx, a, r); err != nil {
			return err
		}
	}
	if s.asJSON {
		err = s.json(r)
	}
	if err == nil && r.State == admin.ReplayCancelled {
		return fmt.Errorf("replay %s was cancelled", r.ID)
	}
	return err
}

// sayFound prints what a replay would be of.
func (s streams) sayFound(found admin.Found, raw json.RawMessage) error {
	if s.asJSON {
		return s.json(raw)
	}
	fmt.Fprintf(s.out, "%d would run again.\n", found.Matched)
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, e := range found.Sample {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", e.ID, e.ReceivedAt.UTC().Format(time.DateTime), e.Status, e.Operation, e.Module, e.RecordID, e.LastError)
	}
	return w.Flush()
}

// followReplay shows its progress until it has ended, or the user has seen enough.
func (s streams) followReplay(ctx context.Context, a api, r admin.Replay) (admin.Replay, error) {
	id := r.ID
	p := s.progress()
	err := p.until(ctx, func() (string, bool, error) {
		now, _, err := fetch[admin.Replay](ctx, a, client.Request{Path: client.Path("admin", "replays", id.String())})
		if err != nil {
			return "", false, err
		}
		r = now
		line := fmt.Sprintf("%d of %d run again, %d refused, %s", r.Replayed, r.Matched, r.Refused, r.State)
		return p.bar(r.Replayed+r.Refused, r.Matched) + line, r.Ended() || r.State == admin.ReplayPaused, nil
	})
	if errors.Is(err, errSeenEnough) {
		s.tell("Not followed any more; it goes on. `memrelay events pause %s` lets it rest, `cancel` ends it.", id)
		return r, nil
	}
	return r, err
}

type eventsReplays struct {
	Limit int `help:"How many." default:"20"`
}

// Run lists replays.
func (c eventsReplays) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/replays", params(), "replays", c.Limit)
		if err != nil {
			return err
		}
		return table(s, rows, "ID | STARTED | STATE | MATCHED | REPLAYED | REFUSED | BY | REASON", func(r admin.Replay) []any {
			return []any{r.ID, timeOrNone(&r.CreatedAt), r.State, r.Matched, r.Replayed, r.Refused, r.Actor, r.Reason}
		})
	})
}

// namedReplay is the argument of commands about one replay.
type namedReplay struct {
	ID uuid.UUID `arg:"" help:"As events replays prints it."`
}

func (c namedReplay) change(ctx context.Context, s streams, action string) error {
	return s.operate(ctx, func(a api) error {
		r, raw, err := fetch[admin.Replay](ctx, a, post(client.Path("admin", "replays", c.ID.String(), action), nil))
		if err != nil {
			return about("replay "+c.ID.String(), err)
		}
		if s.asJSON {
			return s.json(raw)
		}
		_, err = fmt.Fprintf(s.out, "Replay %s is %s: %d of %d run again.\n", r.ID, r.State, r.Replayed, r.Matched)
		return err
	})
}

type eventsPause struct{ namedReplay }

// Run pauses a replay.
func (c eventsPause) Run(ctx context.Context, s streams) error { return c.change(ctx, s, "pause") }

type eventsResume struct{ namedReplay }

// Run resumes a replay.
func (c eventsResume) Run(ctx context.Context, s streams) error { return c.change(ctx, s, "resume") }

type eventsCancel struct{ namedReplay }

// Run cancels a replay; what it has run again by then runs.
func (c eventsCancel) Run(ctx context.Context, s streams) error { return c.change(ctx, s, "cancel") }
