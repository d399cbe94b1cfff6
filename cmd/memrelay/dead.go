package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
)

type deadCommand struct {
	List    deadList    `cmd:"" help:"List what waits for a decision, newest first."`
	Retry   deadRetry   `cmd:"" help:"Give letters all their attempts again."`
	Discard deadDiscard `cmd:"" help:"Decide that letters need no more."`
}

type deadList struct {
	Limit int32 `help:"How many." default:"50"`
}

// Run lists dead letters.
func (c deadList) Run(ctx context.Context, s streams) error {
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		rows, err := db.New(pool).ListDeadLetters(ctx, c.Limit)
		if err != nil {
			return fmt.Errorf("list dead letters: %w", err)
		}
		if s.asJSON {
			return s.json(rows)
		}
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tDIED\tFAILURES\tWHAT\tREASON")
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", r.ID, r.DiedAt.UTC().Format(time.DateTime), r.Failures, r.What, r.Reason)
		}
		return w.Flush()
	})
}

type deadRetry struct {
	IDs []string `arg:"" name:"id" help:"As dead list prints them: event/42, delivery/7."`
}

// Run retries letters, and goes on after one that cannot be.
func (c deadRetry) Run(ctx context.Context, s streams) error {
	return decide(ctx, s, c.IDs, "tried again", func(a *admin.Admin, who admin.Actor, l admin.Letter) error {
		return a.RetryDead(ctx, who, l)
	})
}

type deadDiscard struct {
	IDs    []string `arg:"" name:"id" help:"As dead list prints them: event/42, delivery/7."`
	Reason string   `help:"Why, for the audit log." required:""`
}

// Run discards letters, and goes on after one that cannot be.
func (c deadDiscard) Run(ctx context.Context, s streams) error {
	return decide(ctx, s, c.IDs, "discarded", func(a *admin.Admin, who admin.Actor, l admin.Letter) error {
		return a.DiscardDead(ctx, who, l, c.Reason)
	})
}

func decide(ctx context.Context, s streams, ids []string, done string, do func(*admin.Admin, admin.Actor, admin.Letter) error) error {
	letters := make([]admin.Letter, len(ids))
	for i, id := range ids {
		var err error
		if letters[i], err = admin.ParseLetter(id); err != nil {
			return usage(err)
		}
	}
	return s.withAdmin(ctx, func(a *admin.Admin, who admin.Actor) error {
		var failed error
		decided := []string{}
		for _, l := range letters {
			if err := do(a, who, l); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			decided = append(decided, l.String())
			if !s.asJSON {
				fmt.Fprintln(s.out, l, done)
			}
		}
		if s.asJSON {
			return errors.Join(failed, s.json(map[string][]string{done: decided}))
		}
		return failed
	})
}
