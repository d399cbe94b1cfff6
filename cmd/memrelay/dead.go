package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/client"
)

type deadCommand struct {
	List    deadList    `cmd:"" help:"List what waits for a decision, newest first by when it came."`
	Retry   deadRetry   `cmd:"" help:"Give letters all their attempts again."`
	Discard deadDiscard `cmd:"" help:"Decide that letters need no more."`
}

type deadList struct {
	Kind     string `help:"Only these: event or delivery." enum:",event,delivery" default:""`
	Source   string `help:"Only events of this source."`
	Module   string `help:"Only events of this module, as Contacts."`
	Record   string `help:"Only events of the record of this id."`
	Account  string `help:"Only events of the account of this id."`
	Endpoint string `help:"Only deliveries to this endpoint: its name or id."`
	Error    string `help:"Only those whose last error has this text in it."`
	Since    moment `help:"Come since: a time, or how long ago, as 90m or 3d."`
	Until    moment `help:"Come before."`
	Limit    int    `help:"How many." default:"50"`
}

// Run lists dead letters.
func (c deadList) Run(ctx context.Context, s streams) error {
	now := time.Now()
	query := params("kind", c.Kind, "source", c.Source, "module", c.Module, "record_id", c.Record, "account_id", c.Account,
		"endpoint", c.Endpoint, "error", c.Error, "since", c.Since.param(now), "until", c.Until.param(now))
	return s.operate(ctx, func(a api) error {
		rows, err := a.pages(ctx, "/admin/dead", query, "letters", c.Limit)
		if err != nil {
			return err
		}
		return table(s, rows, "ID | DIED | FAILURES | WHAT | REASON", func(l admin.DeadLetter) []any {
			return []any{l.ID, timeOrNone(&l.DiedAt), l.Failures, l.What, l.Reason}
		})
	})
}

type deadRetry struct {
	IDs []string `arg:"" name:"id" help:"As dead list prints them: event/42, delivery/7."`
	asking
}

// Run retries letters, and goes on after one that cannot be.
func (c deadRetry) Run(ctx context.Context, s streams) error {
	return c.decide(ctx, s, c.IDs, "retry", "tried again", nil)
}

type deadDiscard struct {
	IDs    []string `arg:"" name:"id" help:"As dead list prints them: event/42, delivery/7."`
	Reason string   `help:"Why, for the audit log." required:""`
	asking
}

// Run discards letters, and goes on after one that cannot be.
func (c deadDiscard) Run(ctx context.Context, s streams) error {
	return c.decide(ctx, s, c.IDs, "discard", "discarded", given(c.Reason))
}

func (c asking) decide(ctx context.Context, s streams, ids []string, action, done string, body any) error {
	for _, id := range ids {
		if _, err := admin.ParseLetter(id); err != nil {
			return usage(err)
		}
	}
	if len(ids) > askAbove {
		if err := c.ask(ctx, s, "%d letters: %s?", len(ids), action); err != nil {
			return err
		}
	}
	return s.operate(ctx, func(a api) error {
		var failed error
		decided := []string{}
		for _, id := range ids {
			kind, number, _ := strings.Cut(id, "/")
			if _, err := a.Do(ctx, post(client.Path("admin", "dead", kind, number, action), body)); err != nil {
				failed = errors.Join(failed, about(id, err))
				continue
			}
			decided = append(decided, id)
			s.tell("%s %s", id, done)
		}
		if s.asJSON {
			return errors.Join(failed, s.json(map[string][]string{done: decided}))
		}
		return failed
	})
}
