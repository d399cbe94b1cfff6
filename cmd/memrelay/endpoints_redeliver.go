package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/client"
	"github.com/memrelay/memrelay/internal/endpoint"
)

// moment is a time, or how long ago it was.
type moment struct {
	at  time.Time
	ago time.Duration
}

// UnmarshalText reads 2030-01-31T12:00:00Z, or 90m, or 3d.
func (m *moment) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339, string(text))
	if err == nil {
		m.at = at
		return nil
	}
	var ago lifetime
	if err := ago.UnmarshalText(text); err != nil {
		return fmt.Errorf("%q: want a time as 2030-01-31T12:00:00Z, or how long ago, as 90m or 3d", text)
	}
	m.ago = time.Duration(ago)
	return nil
}

// before is the time that it was, seen from now; the zero one when nobody said.
func (m moment) before(now time.Time) time.Time {
	if m.ago > 0 {
		return now.Add(-m.ago)
	}
	return m.at
}

// redeliverFlags are what recover and replay share.
type redeliverFlags struct {
	namedEndpoint
	Since     moment `required:"" help:"From when on: a time, or how long ago, as 90m or 3d."`
	Until     moment `help:"Up to when; else now."`
	PerSecond int    `help:"So many a second at most; else as many as it takes."`
	DryRun    bool   `help:"Only count."`
	Wait      bool   `help:"Show progress until all of it is given to the endpoint's queue."`
	Reason    string `help:"Why, for the audit log."`
	asking
}

type endpointsRecover struct{ redeliverFlags }

// Run sends again what died.
func (c endpointsRecover) Run(ctx context.Context, s streams) error {
	return c.start(ctx, s, endpoint.Recover, nil)
}

type endpointsReplay struct {
	redeliverFlags
	Events []string `name:"event" sep:"none" help:"Only this event; again for more. Else all that it wants."`
}

// Run sends again everything.
func (c endpointsReplay) Run(ctx context.Context, s streams) error {
	return c.start(ctx, s, endpoint.Replay, c.Events)
}

func (c redeliverFlags) start(ctx context.Context, s streams, kind string, events []string) error {
	in := map[string]any{"since": c.Since.param(time.Now())}
	if until := c.Until.param(time.Now()); until != "" {
		in["until"] = until
	}
	if c.PerSecond != 0 {
		in["per_second"] = c.PerSecond
	}
	if len(events) > 0 {
		in["events"] = events
	}
	if c.Reason != "" {
		in["reason"] = c.Reason
	}
	return s.operate(ctx, func(a api) error {
		if c.DryRun || !c.Yes {
			found, err := c.count(ctx, a, kind, in)
			if err != nil {
				return err
			}
			if c.DryRun {
				return s.say(map[string]any{"dry_run": true, "found": found}, fmt.Sprintf("%d would be sent again.", found))
			}
			if found > askAbove {
				if err := c.ask(ctx, s, "Send %d deliveries to %s again?", found, c.Which); err != nil {
					return err
				}
			}
		}
		return c.begin(ctx, s, a, post(c.path(kind), in))
	})
}

// count says how many would be sent again.
func (c redeliverFlags) count(ctx context.Context, a api, kind string, in map[string]any) (int64, error) {
	dry := maps.Clone(in)
	dry["dry_run"] = true
	found, _, err := fetch[struct {
		Found int64 `json:"found"`
	}](ctx, a, post(c.path(kind), dry))
	return found.Found, c.about(err)
}

func (c redeliverFlags) begin(ctx context.Context, s streams, a api, start client.Request) error {
	r, _, err := fetch[endpoint.Redelivery](ctx, a, start)
	if err != nil {
		return c.about(err)
	}
	s.tell("Redelivery %s of %d started.", r.ID, r.Found)
	if c.Wait {
		r, err = s.followRedelivery(ctx, a, r)
	}
	if err == nil && s.asJSON {
		err = s.json(r)
	}
	if err == nil && r.State == endpoint.RedeliveryCancelled {
		return fmt.Errorf("redelivery %s was cancelled", r.ID)
	}
	return err
}

// followRedelivery shows its progress until it has ended, or the user has seen enough.
func (s streams) followRedelivery(ctx context.Context, a api, r endpoint.Redelivery) (endpoint.Redelivery, error) {
	id := r.ID
	p := s.progress()
	err := p.until(ctx, func() (string, bool, error) {
		now, _, err := fetch[endpoint.Redelivery](ctx, a, client.Request{Path: client.Path("admin", "redeliveries", id.String())})
		if err != nil {
			return "", false, err
		}
		r = now
		line := fmt.Sprintf("%d of %d given to the queue, %d skipped, %s", r.Opened, r.Found, r.Skipped, r.State)
		return p.bar(r.Opened+r.Skipped, r.Found) + line, r.State != endpoint.RedeliveryRunning, nil
	})
	if errors.Is(err, errSeenEnough) {
		s.tell("Not followed any more; it goes on. `memrelay endpoints cancel %s` stops it.", id)
		return r, nil
	}
	return r, err
}

type endpointsRedeliveries struct{ namedEndpoint }

// Run lists an endpoint's redeliveries.
func (c endpointsRedeliveries) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, client.Request{Path: "/admin/redeliveries", Query: params("endpoint", c.Which)})
		if err != nil {
			return c.about(err)
		}
		rows, err := listed(answer.Body, "redeliveries")
		if err != nil {
			return err
		}
		return table(s, rows, "ID | STARTED | KIND | STATE | FOUND | OPENED | SKIPPED | SINCE | UNTIL | BY | REASON", func(r endpoint.Redelivery) []any {
			return []any{
				r.ID, timeOrNone(&r.CreatedAt), r.Kind, r.State, r.Found, r.Opened, r.Skipped, timeOrNone(&r.Since), timeOrNone(&r.Until), r.Actor, r.Reason,
			}
		})
	})
}

type endpointsCancel struct {
	ID uuid.UUID `arg:"" help:"As endpoints redeliveries prints it."`
}

// Run cancels a redelivery; what it has opened by then is sent.
func (c endpointsCancel) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		r, raw, err := fetch[endpoint.Redelivery](ctx, a, post(client.Path("admin", "redeliveries", c.ID.String(), "cancel"), nil))
		if err != nil {
			return about("redelivery "+c.ID.String(), err)
		}
		if s.asJSON {
			return s.json(raw)
		}
		_, err = fmt.Fprintf(s.out, "Redelivery %s is %s: %d of %d were given to the queue.\n", r.ID, r.State, r.Opened, r.Found)
		return err
	})
}
