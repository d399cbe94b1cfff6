package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/reconcile"
)

type syncAccount struct {
	following
	IDs []string `arg:"" name:"id" help:"The accounts' ids, as Zoho shows them."`
}

// Run asks for whole accounts and follows until all are read.
func (c syncAccount) Run(ctx context.Context, s streams) error {
	return s.operate(ctx, func(a api) error {
		asked := []json.RawMessage{}
		for _, id := range c.IDs {
			answer, err := a.Do(ctx, post("/admin/syncs", map[string]string{"kind": "account", "account_id": id}))
			if err != nil {
				return about("account "+id, err)
			}
			asked = append(asked, answer.Body)
		}
		s.tell("Asked for %d accounts.", len(c.IDs))
		s.warnOfWaiting(ctx, a)
		if !a.remote {
			return s.readsHere(ctx, func(r *reconcile.Reconciler) error { return c.follow(ctx, s, r) })
		}
		if s.asJSON {
			return s.json(asked)
		}
		s.tell("How far they are is not told over HTTP. See `memrelay record show ID --module=Accounts`.")
		return nil
	})
}

// follow shows how far the reads are.
func (c syncAccount) follow(ctx context.Context, s streams, r *reconcile.Reconciler) error {
	var reads []reconcile.AccountRead
	look := func() (line string, ended bool, err error) {
		if reads, err = r.AccountReads(ctx, c.IDs); err != nil {
			return "", false, err
		}
		line, ended = accountLine(reads)
		return line, ended, nil
	}
	if c.Detach {
		if _, _, err := look(); err != nil {
			return err
		}
	} else if err := s.progress().until(ctx, look); errors.Is(err, errSeenEnough) {
		s.tell("Not followed any more; it goes on.")
	} else if err != nil {
		return err
	}
	if s.asJSON {
		return s.json(reads)
	}
	return nil
}

// accountLine is how far the reads of accounts are, in one line.
func accountLine(reads []reconcile.AccountRead) (line string, ended bool) {
	read, under, lastError := 0, 0, ""
	for _, a := range reads {
		switch {
		case a.WholeAt != nil:
			read++
		case a.Since != nil:
			under++
		}
		if a.WholeAt == nil && a.LastError != "" {
			lastError = fmt.Sprintf(", %s: %s", a.AccountID, a.LastError)
		}
	}
	return fmt.Sprintf("%d of %d accounts read, %d under way%s", read, len(reads), under, lastError), read == len(reads)
}

// readsHere looks at the reads of accounts in the database: no route tells of them.
func (s streams) readsHere(ctx context.Context, do func(*reconcile.Reconciler) error) error {
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		return do(reconcile.New(pool, nil, nil, nil, reconcile.Options{Log: s.quiet()}))
	})
}
