package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
)

// allocations is what one webhook costs in allocations: the door of a program in this
// process, HTTP, group commit and all, asked by a sender that makes none of its own.
func (b *bench) allocations(ctx context.Context) (rows []row, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	cfg, _, err := config.FromEnv(append(endless(), "DATABASE_URL="+url, "WEBHOOK_SECRET="+secret))
	if err != nil {
		return nil, err
	}
	a, err := app.New(ctx, cfg, app.Options{Log: slog.New(slog.DiscardHandler), Version: "bench"})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(running, ln) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	addr := ln.Addr().String()
	for _, o := range []struct {
		name                  string
		connections, requests int
	}{{"one after the other", 1, 300}, {"over 128 connections", 128, 10_000}} {
		if _, err := closed(ctx, addr, b.webhooks(o.requests/3), o.connections, time.Minute); err != nil { // statements are prepared
			return nil, err
		}
		r := b.webhooks(o.requests)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := closed(ctx, addr, r, o.connections, time.Minute); err != nil {
			return nil, err
		}
		runtime.ReadMemStats(&after)
		each := func(total uint64) float64 { return float64(total) / float64(r.len()) }
		rows = append(rows,
			row{"allocations for a webhook, " + o.name, "allocations", each(after.Mallocs - before.Mallocs)},
			row{"bytes allocated for a webhook, " + o.name, "bytes", each(after.TotalAlloc - before.TotalAlloc)},
		)
	}
	return rows, nil
}
