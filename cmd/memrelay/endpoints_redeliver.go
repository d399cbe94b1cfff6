package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

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
	return s.withOffice(ctx, func(d office) error {
		now := time.Now()
		in := endpoint.RedeliverySettings{
			Kind: kind, Since: c.Since.before(now), Until: c.Until.before(now), Events: events, PerSecond: c.PerSecond, Reason: c.Reason,
		}
		all := endpoint.NewRedeliveries(d.pool, d.jobs)
		if c.DryRun {
			found, err := all.Count(ctx, c.Which, in)
			if err != nil {
				return err
			}
			return s.say(map[string]any{"dry_run": true, "found": found}, fmt.Sprintf("%d would be sent again.", found))
		}
		r, err := all.Start(ctx, d.who, c.Which, in)
		if err != nil {
			return err
		}
		s.tell("Redelivery %s of %d started.", r.ID, r.Found)
		if c.Wait {
			r, err = s.followRedelivery(ctx, all, r)
		}
		if err == nil && s.asJSON {
			err = s.json(r)
		}
		if err == nil && r.State == endpoint.RedeliveryCancelled {
			return fmt.Errorf("redelivery %s was cancelled", r.ID)
		}
		return err
	})
}

// followRedelivery shows its progress until it has ended, or the user has seen enough.
func (s streams) followRedelivery(ctx context.Context, all *endpoint.Redeliveries, r endpoint.Redelivery) (endpoint.Redelivery, error) {
	id := r.ID
	err := s.progress().until(ctx, func() (string, bool, error) {
		now, err := all.Get(ctx, id)
		if err != nil {
			return "", false, err
		}
		r = now
		return fmt.Sprintf("%d of %d given to the queue, %d skipped, %s", r.Opened, r.Found, r.Skipped, r.State), r.State != endpoint.RedeliveryRunning, nil
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
	return s.withOffice(ctx, func(d office) error {
		all, err := endpoint.NewRedeliveries(d.pool, d.jobs).List(ctx, c.Which)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(append([]endpoint.Redelivery{}, all...))
		}
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tSTARTED\tKIND\tSTATE\tFOUND\tOPENED\tSKIPPED\tSINCE\tUNTIL\tBY\tREASON")
		for _, r := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", r.ID, timeOrNone(&r.CreatedAt), r.Kind, r.State, r.Found, r.Opened, r.Skipped,
				timeOrNone(&r.Since), timeOrNone(&r.Until), r.Actor, r.Reason)
		}
		return w.Flush()
	})
}

type endpointsCancel struct {
	ID uuid.UUID `arg:"" help:"As endpoints redeliveries prints it."`
}

// Run cancels a redelivery; what it has opened by then is sent.
func (c endpointsCancel) Run(ctx context.Context, s streams) error {
	return s.withOffice(ctx, func(d office) error {
		r, err := endpoint.NewRedeliveries(d.pool, d.jobs).Cancel(ctx, d.who, c.ID)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(r)
		}
		_, err = fmt.Fprintf(s.out, "Redelivery %s is %s: %d of %d were given to the queue.\n", r.ID, r.State, r.Opened, r.Found)
		return err
	})
}
