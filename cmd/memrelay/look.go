package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type statsCommand struct {
	Window string `help:"Of the last 5m, 1h or 24h." enum:"5m,1h,24h" default:"5m"`
}

// Run shows how much came, how long it took, and what waits.
func (c statsCommand) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		stats, raw, err := fetch[admin.StatsOf](ctx, a, client.Request{Path: "/admin/stats", Query: params("window", c.Window)})
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(raw)
		}
		return s.showStats(stats)
	})
}

func (s streams) showStats(st admin.StatsOf) error {
	fmt.Fprintf(s.out, "the last %s, of which %.0f s are known\n\n", st.Window, st.CoveredSeconds)
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	r := st.PerSecond
	fmt.Fprintln(w, "A SECOND\tRECEIVED\tREPEATED\tREJECTED\tPROCESSED\tFAILED\tDIED\tDELIVERED\tATTEMPTS FAILED\tDELIVERIES DIED")
	fmt.Fprintf(w, "\t%g\t%g\t%g\t%g\t%g\t%g\t%g\t%g\t%g\n", r.Received, r.Duplicated, r.Rejected, r.Processed, r.Failed, r.Died, r.Delivered, r.AttemptsFailed, r.DeliveriesDied)
	fmt.Fprintln(w, "\nMILLISECONDS\tP50\tP95\tP99")
	m := st.Milliseconds
	for _, t := range []struct {
		what string
		of   *admin.Percentiles
	}{{"until routed", m.ToRouted}, {"until processed", m.ToProcessed}, {"until delivered", m.ToDelivered}, {"an attempt", m.Attempt}} {
		fmt.Fprintf(w, "%s\t%s\n", t.what, percentiles(t.of))
	}
	fmt.Fprintln(w, "\nWAITING AT\tNUMBER\tOLDEST")
	for _, b := range st.Backlog {
		fmt.Fprintf(w, "%s\t%d\t%s\n", b.Stage, b.Waiting, seconds(b.OldestSeconds))
	}
	fmt.Fprintln(w, "\nSOURCE\tEVENTS\tRETRYING\tDEAD")
	for _, e := range st.Sources {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", e.Source, e.Events, e.Retrying, e.Dead)
	}
	fmt.Fprintln(w, "\nENDPOINT\tDELIVERIES\tDELIVERED\tOPEN\tDEAD\tATTEMPTS\tFAILED\tP50 MS\tP95\tP99")
	for _, e := range st.Endpoints {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", e.Endpoint, e.Deliveries, e.Delivered, e.Open, e.Dead, e.Attempts, e.AttemptsFailed, percentiles(e.Attempt))
	}
	return w.Flush()
}

// percentiles are three columns; empty ones where there was nothing.
func percentiles(p *admin.Percentiles) string {
	if p == nil {
		return "\t\t"
	}
	return fmt.Sprintf("%.1f\t%.1f\t%.1f", p.P50, p.P95, p.P99)
}

// seconds is how long something has waited; "" for not at all.
func seconds(of float64) string {
	if of <= 0 {
		return ""
	}
	return (time.Duration(of*1000) * time.Millisecond).Round(100 * time.Millisecond).String()
}

type rejectedCommand struct {
	Status  int    `help:"Only those answered so, as 401."`
	Code    string `help:"Only those of this code, as unauthorized."`
	Route   string `help:"Only those to this route, as /webhooks/zoho."`
	Address string `help:"Only those from this address."`
	Limit   int    `help:"How many." default:"50"`
}

// Run lists who was turned away.
func (c rejectedCommand) Run(ctx context.Context, s streams) error {
	query := params("code", c.Code, "route", c.Route, "address", c.Address)
	if c.Status != 0 {
		query.Set("status", strconv.Itoa(c.Status))
	}
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/rejected", query, "rejected", c.Limit)
		if err != nil {
			return err
		}
		return table(s, rows, "AT | STATUS | CODE | METHOD | ROUTE | ADDRESS | REQUEST | REASON", func(r admin.RejectedRequest) []any {
			return []any{timeOrNone(&r.At), r.Status, r.Code, r.Method, r.Route, r.Address, r.RequestID, r.Reason}
		})
	})
}

type settingsCommand struct {
	All bool `help:"Those that are not set, too."`
}

// Run lists the settings in force: of the node that answers, or of this command. Secrets
// are shown by a fingerprint alone.
func (c settingsCommand) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		answer, err := a.Do(ctx, client.Request{Path: "/admin/settings"})
		if err != nil {
			return err
		}
		all, err := listed(answer.Body, "settings")
		if err != nil {
			return err
		}
		rows := []json.RawMessage{}
		for _, raw := range all {
			var set admin.Setting
			if err := json.Unmarshal(raw, &set); err != nil {
				return fmt.Errorf("read a setting: %w", err)
			}
			if c.All || set.Source != "default" {
				rows = append(rows, raw)
			}
		}
		return table(s, rows, "NAME | VALUE | FROM | DEFAULT", func(set admin.Setting) []any {
			value := set.Value
			if set.Secret && set.Set {
				value = strings.TrimSpace("[secret] " + set.Fingerprint)
			}
			return []any{set.Name, value, set.Source, set.Default}
		})
	})
}

// settings are those in force, by name.
func (a api) settings(ctx context.Context) (map[string]admin.Setting, error) {
	all, _, err := fetch[struct {
		Settings []admin.Setting `json:"settings"`
	}](ctx, a, client.Request{Path: "/admin/settings"})
	if err != nil {
		return nil, err
	}
	byName := map[string]admin.Setting{}
	for _, set := range all.Settings {
		byName[set.Name] = set
	}
	return byName, nil
}

type auditCommand struct {
	Actor  string `help:"Only by this one, as token/ada or admin."`
	Action string `help:"Only this, as endpoint.pause."`
	Object string `help:"Only to this one, as event/42."`
	Since  moment `help:"Since then: a time, or how long ago, as 90m or 3d."`
	Until  moment `help:"Before then."`
	Limit  int    `help:"How many." default:"50"`
}

// Run lists who did what.
func (c auditCommand) Run(ctx context.Context, s streams) error {
	now := time.Now()
	query := params("actor", c.Actor, "action", c.Action, "object", c.Object, "since", c.Since.param(now), "until", c.Until.param(now))
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/audit", query, "audit", c.Limit)
		if err != nil {
			return err
		}
		return table(s, rows, "AT | ACTOR | ACTION | OBJECT | REQUEST | DETAILS", func(l admin.AuditLine) []any {
			return []any{timeOrNone(&l.At), l.Actor, l.Action, l.Object, l.RequestID, string(l.Details)}
		})
	})
}
