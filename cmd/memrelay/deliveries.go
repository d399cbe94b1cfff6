package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type deliveriesCommand struct {
	List   deliveriesList   `cmd:"" help:"List deliveries, newest first."`
	Show   deliveriesShow   `cmd:"" help:"Show one delivery, its attempts and what it tells."`
	Resend deliveriesResend `cmd:"" help:"Send deliveries again that have ended, whatever became of them."`
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
	now := time.Now()
	query := params("endpoint", c.Endpoint, "status", c.Status, "event", c.Event, "user_id", c.User,
		"since", c.Since.param(now), "until", c.Until.param(now))
	if c.Webhook != uuid.Nil {
		query.Set("webhook_id", c.Webhook.String())
	}
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/deliveries", query, "deliveries", c.Limit)
		if err != nil {
			return err
		}
		return table(s, rows, "ID | MADE | ENDPOINT | STATUS | ATTEMPTS | EVENT | USER | WEBHOOK | LAST ERROR", func(d admin.Delivery) []any {
			return []any{
				d.ID, timeOrNone(&d.CreatedAt), d.Endpoint, d.Status, d.Attempts, textOrNone(d.Event), textOrNone(d.UserID), webhookOf(d), d.LastError,
			}
		})
	})
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
	return s.operate(ctx, func(a api) error {
		story, raw, err := fetch[admin.DeliveryStory](ctx, a, client.Request{Path: client.Path("admin", "deliveries", strconv.FormatInt(c.ID, 10))})
		if err != nil {
			return about(fmt.Sprintf("delivery %d", c.ID), err)
		}
		if s.asJSON {
			return s.json(raw)
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
	asking
}

// Run sends deliveries again, and goes on after one that cannot be.
func (c deliveriesResend) Run(ctx context.Context, s streams) error {
	if len(c.IDs) > askAbove {
		if err := c.ask(ctx, s, "Send %d deliveries again?", len(c.IDs)); err != nil {
			return err
		}
	}
	return s.operate(ctx, func(a api) error {
		var failed error
		opened := []int64{}
		for _, id := range c.IDs {
			if _, err := a.Do(ctx, post(client.Path("admin", "deliveries", strconv.FormatInt(id, 10), "resend"), given(c.Reason))); err != nil {
				failed = errors.Join(failed, about(fmt.Sprintf("delivery %d", id), err))
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
