package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/outbound"
)

type deliveriesCommand struct {
	List   deliveriesList   `cmd:"" help:"List deliveries, newest first."`
	Show   deliveriesShow   `cmd:"" help:"Show one delivery, its attempts and what it tells."`
	Resend deliveriesResend `cmd:"" help:"Send deliveries again that have ended, whatever became of them."`
}

// withDeliveries opens the database for a command about deliveries.
func (s streams) withDeliveries(ctx context.Context, do func(*admin.Deliveries, admin.Actor) error) error {
	return s.withOffice(ctx, func(d office) error {
		return do(admin.NewDeliveries(d.pool, d.jobs, outbound.Resend), admin.Actor(d.who))
	})
}

type deliveriesList struct {
	Endpoint string    `help:"Only to this one: its name or id."`
	Status   string    `help:"Only these: pending, retrying, waiting, batched, delivered, dead, cancelled or discarded."`
	Event    string    `help:"Only of this event, as memory_added."`
	User     string    `help:"Only of this user_id."`
	Webhook  uuid.UUID `help:"Only of this webhook-id."`
	Since    moment    `help:"Only those made since: a time, or how long ago, as 90m or 3d."`
	Until    moment    `help:"Only those made before."`
	Limit    int       `help:"How many." default:"50"`
}

// Run lists deliveries.
func (c deliveriesList) Run(ctx context.Context, s streams) error {
	if c.Limit < 1 {
		return usage(errors.New("--limit: want more than none"))
	}
	return s.withDeliveries(ctx, func(d *admin.Deliveries, _ admin.Actor) error {
		all, err := c.read(ctx, d, time.Now())
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(all)
		}
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tMADE\tENDPOINT\tSTATUS\tATTEMPTS\tEVENT\tUSER\tWEBHOOK\tLAST ERROR")
		for _, r := range all {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.ID, timeOrNone(&r.CreatedAt), r.Endpoint, r.Status, r.Attempts,
				textOrNone(r.Event), textOrNone(r.UserID), webhookOf(r), r.LastError)
		}
		return w.Flush()
	})
}

// read reads as many pages as it takes.
func (c deliveriesList) read(ctx context.Context, d *admin.Deliveries, now time.Time) ([]admin.Delivery, error) {
	all := []admin.Delivery{}
	f := admin.DeliveryFilter{
		Endpoint: c.Endpoint, Status: c.Status, Event: c.Event, UserID: c.User, WebhookID: c.Webhook,
		Since: c.Since.before(now), Until: c.Until.before(now),
	}
	for {
		f.Limit = min(c.Limit-len(all), admin.MaxPage)
		page, err := d.List(ctx, f)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Deliveries...)
		if f.Cursor = page.NextCursor; f.Cursor == "" || len(all) == c.Limit {
			return all, nil
		}
	}
}

func textOrNone(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// webhookOf is what it carries.
func webhookOf(d admin.Delivery) string {
	switch {
	case d.WebhookID != nil:
		return d.WebhookID.String()
	case d.BatchID != nil:
		return "batch " + d.BatchID.String()
	}
	return ""
}

type deliveriesShow struct {
	ID int64 `arg:"" help:"As deliveries list prints it."`
}

// Run shows a delivery.
func (c deliveriesShow) Run(ctx context.Context, s streams) error {
	return s.withDeliveries(ctx, func(d *admin.Deliveries, _ admin.Actor) error {
		story, err := d.Get(ctx, c.ID)
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(story)
		}
		return printDelivery(s.out, story)
	})
}

func printDelivery(out io.Writer, d admin.DeliveryStory) error {
	what := textOrNone(d.Event) + " of " + textOrNone(d.UserID)
	if d.WebhookID == nil {
		what = fmt.Sprintf("%d webhooks", len(d.Batch))
	}
	fmt.Fprintf(out, "delivery %d: %s to %s, %s\nwebhook-id %s\n", d.ID, what, d.Endpoint, d.Status, strings.TrimPrefix(webhookOf(d.Delivery), "batch "))
	if d.NextAttemptAt != nil {
		fmt.Fprintf(out, "next attempt %s UTC\n", timeOrNone(d.NextAttemptAt))
	}
	if d.CarriedBy != nil {
		fmt.Fprintf(out, "in a batch: `memrelay deliveries show %d` shows its attempts\n", *d.CarriedBy)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(d.AttemptsMade) > 0 {
		fmt.Fprintln(w, "\nATTEMPT\tSTARTED\tSTATUS\tMS\tDNS\tCONNECT\tTLS\tFIRST BYTE\tCLASS\tERROR")
	}
	for _, a := range d.AttemptsMade {
		status := ""
		if a.StatusCode != nil {
			status = fmt.Sprint(*a.StatusCode)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%s\t%s\n", a.Number, timeOrNone(&a.StartedAt), status, a.Total, a.DNS, a.Connect, a.TLS,
			a.FirstByte, a.ErrorClass, a.Error)
	}
	if len(d.Batch) > 0 {
		fmt.Fprintln(w, "\nDELIVERY\tEVENT\tUSER\tWEBHOOK")
	}
	for _, m := range d.Batch {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", m.ID, textOrNone(m.Event), textOrNone(m.UserID), m.WebhookID)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if n := len(d.AttemptsMade); n > 0 && d.AttemptsMade[n-1].ResponseHead != "" {
		fmt.Fprintf(out, "\nThe last answer:\n%s\n", strings.TrimRight(d.AttemptsMade[n-1].ResponseHead, "\n"))
	}
	if d.Payload != nil {
		fmt.Fprintf(out, "\n%s\n", *d.Payload)
	}
	return nil
}

type deliveriesResend struct {
	IDs    []int64 `arg:"" name:"id" help:"As deliveries list prints them."`
	Reason string  `help:"Why, for the audit log."`
}

// Run sends deliveries again, and goes on after one that cannot be.
func (c deliveriesResend) Run(ctx context.Context, s streams) error {
	return s.withDeliveries(ctx, func(d *admin.Deliveries, who admin.Actor) error {
		var failed error
		opened := []int64{}
		for _, id := range c.IDs {
			if _, err := d.Resend(ctx, who, id, c.Reason); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			opened = append(opened, id)
			s.tell("delivery %d is sent again", id)
		}
		if s.asJSON {
			return errors.Join(failed, s.json(map[string][]int64{"resent": opened}))
		}
		return failed
	})
}
