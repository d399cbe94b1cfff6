package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// connections of the closed loops, the least first.
func connections() []int { return []int{1, 32, 128, 512, 1000} }

// mostPerSecond is more than any door here takes: so many requests are made beforehand.
const mostPerSecond = 20_000

// door is the door alone: events stored with their jobs, nobody works them.
func (b *bench) door(ctx context.Context) (rows []row, err error) {
	p, err := b.serveWith(ctx, endless(), "--no-workers")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	rows = append(rows, row{idleMemory, "MB", p.rss()})
	half := 0.0
	for _, n := range connections() {
		most := mostPerSecond
		if n == 1 {
			most /= 4
		}
		l, err := closed(ctx, p.addr, b.webhooks(most*b.plan.seconds), n, b.duration())
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("door at %d connections", n)
		switch n {
		case 1:
			name = "door, idle but for one request at a time"
		case 128:
			half = l.rate() / 2
		}
		rows = append(rows, l.rows(name)...)
	}
	rows = append(rows, row{doorMemory, "MB", p.peak})
	for _, o := range []struct {
		name string
		rate float64
	}{{"door at 500/s, open loop", 500}, {"door at 2,000/s, open loop", 2000}, {doorAtHalf, half}} {
		l, err := open(ctx, p.addr, b.webhooks(int(o.rate*b.duration().Seconds())), o.rate, 256)
		if err != nil {
			return nil, err
		}
		rows = append(rows, l.latencies(o.name)...)
	}
	return rows, nil
}

// whole is the door while all that comes in is worked and told to one receiver.
func (b *bench) whole(ctx context.Context) (rows []row, err error) {
	r, p, err := b.told(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer r.close()
	defer func() { err = errors.Join(err, p.stop()) }()
	l, err := closed(ctx, p.addr, b.webhooks(mostPerSecond*b.plan.seconds), 128, b.duration())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := r.wait(ctx, l.sent); err != nil {
		return nil, err
	}
	rows = l.rows("door at 128 connections, while events are worked and told")
	return append(rows,
		row{"events taken, worked and told, from the first to the last", perSecond, float64(l.sent) / (l.took + time.Since(began)).Seconds()},
		row{fullMemory, "MB", p.peak},
	), nil
}
