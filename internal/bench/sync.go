package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// The company that is synced: its size, and how much of it changes.
const (
	syncAccounts = 5000
	syncRelated  = 4 // of each account
	syncChanges  = 1000
	syncUntold   = 10 // one of so many changes gets no webhook
)

// syncs measures a company that connects its Zoho: everything is read once, then
// a part changes, of which some is told by nobody, and the incremental sync finds
// that. Zoho is on this machine and takes 150 to 350 ms for an answer.
func (b *bench) syncs(ctx context.Context) (rows []row, err error) {
	var addr atomic.Pointer[string] // nil until the program listens
	zoho := zohotest.New(zohotest.Options{
		// Behind, so that no change is one of the last minute, which a sync leaves to its webhook.
		Now:     func() time.Time { return time.Now().Add(-5 * time.Minute) },
		Latency: func(*http.Request) time.Duration { return time.Duration(150+rand.IntN(200)) * time.Millisecond },
		Notify: zohotest.To(func() string {
			if a := addr.Load(); a != nil {
				return *a
			}
			return ""
		}),
		Delivery: zohotest.Delivery{Senders: 16},
	})
	if err := zoho.Start(); err != nil {
		return nil, fmt.Errorf("start a Zoho: %w", err)
	}
	defer func() { err = errors.Join(err, zoho.Close()) }()
	zoho.Seed(syncAccounts, syncRelated, 1)
	p, err := b.serveWith(ctx, append(zohoSettings(zoho.URL()), "WEBHOOK_MAX_QUEUE_SIZE=10000"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	listens := p.base[len("http://"):]
	addr.Store(&listens)
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()

	began := time.Now()
	took := func() float64 { return time.Since(began).Seconds() }
	figure := func(what, unit string, value float64) { rows = append(rows, row{what, unit, value}) }
	const settled = `SELECT NOT EXISTS (SELECT FROM events WHERE status <> 'processed')`
	if err := until(ctx, conn, `SELECT EXISTS (SELECT FROM syncs WHERE kind = 'full' AND state = 'completed')`); err != nil {
		return nil, err
	}
	figure("full sync of 5,000 accounts and 20,000 other records: Zoho read", "s", took())
	if err := until(ctx, conn, settled); err != nil {
		return nil, err
	}
	figure("full sync: all in memory", "s", took())
	figure("full sync: API calls, where one per account would be 5,000", "calls", float64(zoho.Calls()))
	if err := until(ctx, conn, `SELECT count(*) = 6 FROM channels WHERE state = 'active'`); err != nil {
		return nil, err
	}

	calls, began := zoho.Calls(), time.Now()
	contacts := zoho.IDs("Contacts")
	for i := range syncChanges {
		change := zoho.Records
		if i%syncUntold == 0 {
			change = zoho.Silently()
		}
		change.Update("Contacts", contacts[i], map[string]any{"Title": fmt.Sprintf("Changed %d", i)})
	}
	if err := errors.Join(zoho.Flush(ctx), until(ctx, conn, settled)); err != nil {
		return nil, err
	}
	figure("900 changes told by webhooks: all in memory", "s", took())
	figure("900 changes told by webhooks: API calls", "calls", float64(zoho.Calls()-calls))

	calls, began = zoho.Calls(), time.Now()
	command := exec.CommandContext(ctx, b.binary, "sync", "incremental")
	command.Env = append(os.Environ(), "DATABASE_URL="+p.url)
	if text, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("sync: %w\n%s", err, text)
	}
	if err := until(ctx, conn, settled); err != nil {
		return nil, err
	}
	figure("incremental sync: all in memory", "s", took())
	figure("incremental sync: API calls", "calls", float64(zoho.Calls()-calls))
	var missed, known float64
	if err := conn.QueryRow(ctx, `SELECT (SELECT sum(missed) FROM sync_parts)::float8,
		(SELECT count(*) FROM memories WHERE content LIKE '%Title: Changed%')::float8`).Scan(&missed, &known); err != nil {
		return nil, fmt.Errorf("count what was missed: %w", err)
	}
	if known != syncChanges {
		return nil, fmt.Errorf("%v changes are in memory, want %d", known, syncChanges)
	}
	if missed != syncChanges/syncUntold {
		return nil, fmt.Errorf("%v changes were missed, want %d", missed, syncChanges/syncUntold)
	}
	figure("incremental sync: changes that no webhook had told of", "missed", missed)
	return rows, nil
}
