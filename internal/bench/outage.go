package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	outageRate  = 200 // webhooks a second
	outageUsers = 20
)

// outage is a receiver that is away for a while, during which webhooks go on: how
// soon all of them have arrived once it is back. It is an error when one is missing,
// or not in the order of its user.
func (b *bench) outage(ctx context.Context) (rows []row, err error) {
	r, err := newReceiver(ctx, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	p, err := b.serveWith(ctx, toMyself())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := addEndpoint(ctx, conn, r.url, true); err != nil {
		return nil, err
	}
	const before = 5 * time.Second
	want := map[string][]string{}
	total := 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < before+b.o.outage; <-tick.C {
		r.away.Store(time.Since(began) > before)
		ids, err := tellAll(ctx, conn, outageRate/10, outageUsers)
		if err != nil {
			return nil, err
		}
		for i, id := range ids {
			user := fmt.Sprint("user-", i%outageUsers)
			want[user] = append(want[user], id)
		}
		total += len(ids)
	}
	r.away.Store(false)
	back := time.Now()
	waited := r.count()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := r.wait(ctx, total); err != nil {
		return nil, err
	}
	for user, ids := range want {
		if !slices.Equal(ids, r.perUser[user]) {
			return nil, fmt.Errorf("the webhooks of %s arrived in another order than they were told", user)
		}
	}
	var tried float64
	if err := conn.QueryRow(ctx, `SELECT count(*)::float8 FROM delivery_attempts WHERE status_code = 503`).Scan(&tried); err != nil {
		return nil, fmt.Errorf("count attempts: %w", err)
	}
	name := fmt.Sprintf("receiver away for %s at %d webhooks a second, ordered by user", b.o.outage, outageRate)
	return []row{
		{name + ": told meanwhile", "webhooks", float64(total - waited)},
		{name + ": attempts in vain", "requests", tried},
		{name + ": all arrived after its return", "s", r.lastAt().Sub(back).Seconds()},
		{name + ": missing, or out of order", "webhooks", 0},
	}, nil
}
