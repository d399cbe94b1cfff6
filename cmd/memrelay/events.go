package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
)

type eventsCommand struct {
	List   eventsList   `cmd:"" help:"List events, newest first."`
	Show   eventsShow   `cmd:"" help:"Show one event's whole life."`
	Replay eventsReplay `cmd:"" help:"Run final events again."`
}

type eventsList struct {
	Status string `help:"Only these: received, routed, retrying, processed, ignored, dead or discarded." enum:",received,routed,retrying,processed,ignored,dead,discarded" default:""`
	Limit  int32  `help:"How many." default:"50"`
	Before int64  `help:"Only those before this id: the next page."`
}

// Run lists a page of events.
func (c eventsList) Run(ctx context.Context, s streams) error {
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		rows, err := db.New(pool).ListEvents(ctx, db.ListEventsParams{Before: c.Before, Status: c.Status, MaxEvents: c.Limit})
		if err != nil {
			return fmt.Errorf("list events: %w", err)
		}
		if s.asJSON {
			return s.json(rows)
		}
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tRECEIVED\tSTATUS\tOPERATION\tMODULE\tRECORD\tACCOUNT\tLAST ERROR")
		for _, r := range rows {
			account := ""
			if r.AccountID != nil {
				account = *r.AccountID
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.ReceivedAt.UTC().Format(time.DateTime), r.Status, r.Operation, r.Module, r.RecordID, account, r.LastError)
		}
		return w.Flush()
	})
}

type eventsShow struct {
	ID   int64 `arg:"" help:"The event's id."`
	Body bool  `help:"Show the body as it came, too."`
}

// eventStory is what events show prints.
type eventStory struct {
	Event    db.Event                  `json:"event"`
	Timeline []db.ListEventTimelineRow `json:"timeline"`
	Body     string                    `json:"body,omitempty"`
}

// Run shows one event.
func (c eventsShow) Run(ctx context.Context, s streams) error {
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		story, err := c.read(ctx, db.New(pool))
		if err != nil {
			return err
		}
		if s.asJSON {
			return s.json(story)
		}
		e := story.Event
		fmt.Fprintf(s.out, "event %d: %s %s %s, %s\n\n", e.ID, e.Operation, e.Module, e.RecordID, e.Status)
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		for _, step := range story.Timeline {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", step.At.UTC().Format("2006-01-02 15:04:05.000"), step.Station, step.What, step.Detail)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if c.Body {
			fmt.Fprintf(s.out, "\n%s\n", story.Body)
		}
		return nil
	})
}

func (c eventsShow) read(ctx context.Context, q *db.Queries) (eventStory, error) {
	var story eventStory
	var err error
	if story.Event, err = q.GetEvent(ctx, c.ID); errors.Is(err, pgx.ErrNoRows) {
		return story, fmt.Errorf("event %d %w", c.ID, admin.ErrNotFound)
	} else if err != nil {
		return story, fmt.Errorf("get event %d: %w", c.ID, err)
	}
	if story.Timeline, err = q.ListEventTimeline(ctx, c.ID); err != nil {
		return story, fmt.Errorf("read the timeline of event %d: %w", c.ID, err)
	}
	if !c.Body {
		return story, nil
	}
	body, err := q.GetEventBody(ctx, c.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return story, fmt.Errorf("event %d: the body is no longer stored", c.ID)
	}
	if err != nil {
		return story, fmt.Errorf("get the body of event %d: %w", c.ID, err)
	}
	story.Body = masked(body.Body)
	return story, nil
}

// masked shows a body without the token that Zoho echoes in it: whoever sees one
// could send as Zoho.
func masked(body []byte) string {
	// The door takes a body with a byte order mark, and so must this.
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) == nil && object["token"] != nil {
		object["token"] = json.RawMessage(`"[hidden]"`)
		if text, err := json.Marshal(object); err == nil {
			return string(text)
		}
	}
	if !utf8.Valid(body) {
		return fmt.Sprintf("%q", body)
	}
	return string(body)
}

type eventsReplay struct {
	IDs    []int64 `arg:"" name:"id" help:"The events' ids."`
	Reason string  `help:"Why, for the audit log."`
}

// Run runs events again, and goes on after one that cannot be.
func (c eventsReplay) Run(ctx context.Context, s streams) error {
	return s.withAdmin(ctx, func(a *admin.Admin, who admin.Actor) error {
		var failed error
		replays := map[int64]string{}
		for _, id := range c.IDs {
			replay, err := a.Replay(ctx, who, id, c.Reason)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			replays[id] = replay.String()
			if !s.asJSON {
				fmt.Fprintf(s.out, "event %d runs again, replay %s\n", id, replay)
			}
		}
		if s.asJSON {
			return errors.Join(failed, s.json(replays))
		}
		return failed
	})
}
