package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/retention"
)

const (
	deletedRate    = "old events deleted, each with its body, while the door is open"
	doorUndeleted  = "door at 500/s, open loop, while nothing is deleted"
	doorDeleted    = "door at 500/s, open loop, while old events are deleted"
	retentionRate  = 500
	retentionAge   = 120 * 24 * time.Hour // of the oldest
	retentionKept  = 90 * 24 * time.Hour
	retentionStock = "stock_old" // the database of all rounds
)

// retention is the door at a fixed rate on a database with a million old events, while
// they stay and while they are deleted at full pace, and that pace.
func (b *bench) retention(ctx context.Context) (rows []row, err error) {
	url, err := b.oldStock(ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.serveOn(ctx, url, endless(), "--no-workers")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	requests := retentionRate * b.plan.seconds
	// Whoever comes first warms what both need.
	if _, err := open(ctx, p.addr, b.webhooks(retentionRate), retentionRate, 256); err != nil {
		return nil, err
	}
	without, err := open(ctx, p.addr, b.webhooks(requests), retentionRate, 256)
	if err != nil {
		return nil, err
	}
	deleting, end := context.WithCancel(ctx)
	type outcome struct {
		perSecond float64
		err       error
	}
	ended := make(chan outcome, 1)
	go func() {
		perSecond, err := deleteOld(deleting, url)
		ended <- outcome{perSecond, err}
	}()
	with, err := open(ctx, p.addr, b.webhooks(requests), retentionRate, 256)
	end()
	deleted := <-ended
	if err := errors.Join(err, deleted.err); err != nil {
		return nil, err
	}
	rows = append(without.latencies(doorUndeleted), with.latencies(doorDeleted)...)
	return append(rows, row{deletedRate, perSecond, deleted.perSecond}), nil
}

// deleteOld deletes, as a node that works does, until ctx ends, and returns how many
// events a second. That there was not enough to delete is an error: then something else
// was measured.
func deleteOld(ctx context.Context, url string) (perSecond float64, err error) {
	pool, err := postgres.Open(ctx, url, postgres.Options{Log: slog.New(slog.DiscardHandler), MaxConns: 2, Lookups: true, Name: "bench"})
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	began := time.Now()
	r := retention.New(pool, retention.Settings{Events: retentionKept, Repeats: time.Hour}, time.Now, slog.New(slog.DiscardHandler))
	f, err := r.Forget(ctx)
	switch {
	case ctx.Err() == nil && err != nil:
		return 0, fmt.Errorf("delete old events: %w", err)
	case ctx.Err() == nil:
		return 0, fmt.Errorf("all %d old events were deleted before the load ended: measure for a shorter time", f.Events)
	}
	return float64(f.Events) / time.Since(began).Seconds(), nil
}

// oldStock makes the database of all rounds, with a million events that are older than
// they are kept.
func (b *bench) oldStock(ctx context.Context) (url string, err error) {
	url = b.server.URL(retentionStock)
	if b.oldStored {
		return url, nil
	}
	if err := b.ensureTemplate(ctx); err != nil {
		return "", err
	}
	if err := execute(ctx, b.server.URL("postgres"), "CREATE DATABASE "+retentionStock+" TEMPLATE "+template); err != nil {
		return "", err
	}
	pool, err := postgres.Open(ctx, url, postgres.Options{Log: slog.New(slog.DiscardHandler), MaxConns: 2, Name: "bench", Unlimited: true})
	if err != nil {
		return "", err
	}
	defer pool.Close()
	began := time.Now().Add(-retentionAge)
	for _, at := range []time.Time{began, began.Add(7 * 24 * time.Hour)} {
		if _, err := pool.Exec(ctx, `SELECT ensure_event_bodies_month($1)`, at); err != nil {
			return "", fmt.Errorf("make the month of old events: %w", err)
		}
	}
	for from := int64(0); from < million; from += chunk {
		if err := fillEvents(ctx, pool, from, from+chunk, began); err != nil {
			return "", err
		}
	}
	for _, statement := range []string{`VACUUM ANALYZE`, `CHECKPOINT`} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			return "", fmt.Errorf("%s: %w", statement, err)
		}
	}
	b.oldStored = true
	return url, nil
}
