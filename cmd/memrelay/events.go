package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type eventsCommand struct {
	List   eventsList   `cmd:"" help:"List events, newest first."`
	Show   eventsShow   `cmd:"" help:"Show one event's whole life."`
	Tail   eventsTail   `cmd:"" help:"Show what becomes of events as it does, until Ctrl-C."`
	Replay eventsReplay `cmd:"" help:"Run final events again: some by their ids, or all that filters find."`

	Replays eventsReplays `cmd:"" help:"List replays of many events, newest first."`
	Pause   eventsPause   `cmd:"" help:"Let a replay rest."`
	Resume  eventsResume  `cmd:"" help:"Go on with a replay where it was paused."`
	Cancel  eventsCancel  `cmd:"" help:"End a replay where it is."`
}

// eventFilters are the filters that list and replay share.
type eventFilters struct {
	Source    string `help:"Only of this source."`
	Module    string `help:"Only of this module, as Contacts."`
	Operation string `help:"Only these: create, update, delete or restore." enum:",create,update,delete,restore" default:""`
	Record    string `help:"Only of the record of this id."`
	Account   string `help:"Only of the account of this id."`
	User      string `help:"Only changes that this user of the sender's made."`
	EventID   string `name:"event-id" help:"Only what was sent with this id."`
	Error     string `help:"Only those whose last error has this text in it."`
	Since     moment `help:"Received from then on: a time, or how long ago, as 90m or 3d."`
	Until     moment `help:"Received before then."`
}

// eventFilter is one that is sent.
type eventFilter admin.EventFilter

func (c eventFilters) filter(status string, now time.Time) eventFilter {
	return eventFilter{
		Status: status, Source: c.Source, Module: c.Module, Operation: c.Operation, RecordID: c.Record, AccountID: c.Account, UserID: c.User,
		EventID: c.EventID, Error: c.Error, Since: c.Since.before(now).UTC(), Until: c.Until.before(now).UTC(),
	}
}

// fields are what it says, by the names of the API.
func (f eventFilter) fields() map[string]string {
	all := map[string]string{
		"status": f.Status, "source": f.Source, "module": f.Module, "operation": f.Operation, "record_id": f.RecordID, "account_id": f.AccountID,
		"user_id": f.UserID, "event_id": f.EventID, "error": f.Error,
	}
	for name, at := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !at.IsZero() {
			all[name] = at.Format(time.RFC3339Nano)
		}
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

func (f eventFilter) query() url.Values {
	query := url.Values{}
	for name, value := range f.fields() {
		query.Set(name, value)
	}
	return query
}

type eventsList struct {
	eventFilters
	Status string `help:"Only these: received, routed, retrying, processed, ignored, dead or discarded." enum:",received,routed,retrying,processed,ignored,dead,discarded" default:""`
	Limit  int    `help:"How many." default:"50"`
	Before int64  `help:"Only those before this id: the next page."`
}

// Run lists events.
func (c eventsList) Run(ctx context.Context, s streams) error {
	f := c.filter(c.Status, time.Now())
	query := f.query()
	if c.Before > 0 {
		query.Set("cursor", admin.EventFilter(f).Before(c.Before).Cursor)
	}
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/events", query, "events", c.Limit)
		if err != nil {
			return err
		}
		return table(s, rows, "ID | RECEIVED | STATUS | OPERATION | MODULE | RECORD | ACCOUNT | LAST ERROR", eventColumns)
	})
}

func eventColumns(e admin.Event) []any {
	return []any{e.ID, timeOrNone(&e.ReceivedAt), e.Status, e.Operation, e.Module, e.RecordID, textOrNone(e.AccountID), e.LastError}
}

type eventsShow struct {
	ID   int64 `arg:"" help:"The event's id."`
	Body bool  `help:"Show the body as it came, too."`
}

// eventStory is what events show prints for machines.
type eventStory struct {
	Event    admin.Event      `json:"event"`
	HasBody  bool             `json:"has_body"`
	Timeline []admin.Step     `json:"timeline"`
	Replays  []admin.EventRun `json:"replays"`
	Body     string           `json:"body,omitempty"`
}

// Run shows one event.
func (c eventsShow) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		e, err := c.read(ctx, a)
		if err != nil {
			return about(fmt.Sprintf("event %d", c.ID), err)
		}
		if s.asJSON {
			return s.json(e)
		}
		fmt.Fprintf(s.out, "event %d: %s %s %s, %s\n\n", e.Event.ID, e.Event.Operation, e.Event.Module, e.Event.RecordID, e.Event.Status)
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		for _, step := range e.Timeline {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", step.At.UTC().Format(toTheMillisecond), step.Station, step.What, step.Detail)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if c.Body {
			fmt.Fprintf(s.out, "\n%s\n", e.Body)
		}
		return nil
	})
}

// toTheMillisecond is how moments of a story are printed.
const toTheMillisecond = "2006-01-02 15:04:05.000"

func (c eventsShow) read(ctx context.Context, a api) (eventStory, error) {
	path := client.Path("admin", "events", strconv.FormatInt(c.ID, 10))
	e, _, err := fetch[admin.EventStory](ctx, a, client.Request{Path: path})
	if err != nil {
		return eventStory{}, err
	}
	story := eventStory{Event: e.Event, HasBody: e.HasBody, Timeline: e.Timeline, Replays: e.Replays}
	if !c.Body {
		return story, nil
	}
	came, _, err := fetch[struct {
		Body   *string `json:"body"`
		Base64 []byte  `json:"base64"`
	}](ctx, a, client.Request{Path: path + "/body", Query: params("as", "json")})
	if err != nil {
		return story, err
	}
	if story.Body = textOrNone(came.Body); came.Body == nil {
		story.Body = fmt.Sprintf("%q", came.Base64) // no text
	}
	return story, nil
}
