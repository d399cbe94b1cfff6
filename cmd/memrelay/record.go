package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type recordCommand struct {
	Show recordShow `cmd:"" help:"Show a record's whole story: its events, what became of its memory, who was told."`
}

type recordShow struct {
	ID     string `arg:"" help:"The record's id, as Zoho shows it."`
	Module string `help:"Only of this module, as Contacts; else of all that have a record of this id."`
	Limit  int    `help:"How many events and changes, from the newest back." default:"50"`
	Cursor string `help:"Go on behind a page: as the page before says at its end."`
}

// Run shows a record's story.
func (c recordShow) Run(ctx context.Context, s streams) error {
	query := params("limit", fmt.Sprint(c.Limit), "cursor", c.Cursor)
	path := "/admin/records"
	if c.Module == "" {
		query.Set("record_id", c.ID)
	} else {
		path = client.Path("admin", "records", c.Module, c.ID)
	}
	return s.operate(ctx, func(a api) error {
		story, raw, err := fetch[admin.RecordStory](ctx, a, client.Request{Path: path, Query: query})
		if err != nil {
			return about("record "+c.ID, err)
		}
		if s.asJSON {
			return s.json(raw)
		}
		return printRecord(s.out, story)
	})
}

func printRecord(out io.Writer, story admin.RecordStory) error {
	for _, r := range story.Records {
		fmt.Fprintf(out, "%s %s: %s\n", r.Module, story.RecordID, strings.Join(standing(r), ", "))
	}
	fmt.Fprintln(out)
	if err := printSteps(out, story.Steps); err != nil {
		return err
	}
	if story.NextCursor != "" {
		_, err := fmt.Fprintf(out, "\nMore was before: --cursor=%s\n", story.NextCursor)
		return err
	}
	return nil
}

// standing is how a record stands now.
func standing(r admin.Record) []string {
	var says []string
	say := func(format string, of *time.Time) {
		if of != nil {
			says = append(says, fmt.Sprintf(format, timeOrNone(of)+" UTC"))
		}
	}
	if r.AccountID != nil {
		says = append(says, "account "+*r.AccountID)
	}
	if r.MemoryID != nil {
		says = append(says, "memory "+r.MemoryID.String())
	} else {
		says = append(says, "nothing is remembered of it")
	}
	say("modified %s by Zoho's clock", r.ModifiedAt)
	say("read %s", r.ReadAt)
	say("deleted %s", r.DeletedAt)
	say("account synced %s", r.SyncedAt)
	if r.AccountWaits {
		says = append(says, "a sync of its account is due")
	}
	if r.AccountError != "" {
		says = append(says, "the last one: "+r.AccountError)
	}
	return says
}

// printSteps prints what happened, one a line, with what it was about.
func printSteps(out io.Writer, steps []admin.Step) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, step := range steps {
		var of []string
		if step.EventID != nil {
			of = append(of, fmt.Sprintf("event %d", *step.EventID))
		}
		if step.DeliveryID != nil {
			of = append(of, fmt.Sprintf("delivery %d", *step.DeliveryID))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", step.At.UTC().Format(toTheMillisecond), step.Station, step.What, strings.Join(of, ", "), step.Detail)
	}
	return w.Flush()
}
