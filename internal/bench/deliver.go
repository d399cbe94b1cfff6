package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	healthy     = 50 // endpoints beside the one that hangs
	healthyRate = 20 // webhooks a second, each to all endpoints
)

// deliveries measures what goes out.
func (b *bench) deliveries(ctx context.Context) ([]row, error) {
	var rows []row
	for _, measure := range []func(context.Context) ([]row, error){b.receiverLimit, b.throughput, b.isolation} {
		r, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// sample is a webhook as it is usual: 330 bytes.
func sample(user, id string) []byte {
	return fmt.Appendf(nil, `{"event":"memory_added","user_id":%q,"data":{"result":{"id":%q,"content":"Contact Jane Doe of Example\nEmail: jane@example.com\nTitle: Head of Purchasing","metadata":{"module":"Contacts","source":"zoho"}}},"timestamp":"2026-11-22T05:03:44.621429969Z","source":"memrelay","bot_version":"1.0.0","request_id":%q}`, user, id, id)
}

// receiverLimit is what the receiver takes from wrk, which does nothing but send.
func (b *bench) receiverLimit(ctx context.Context) ([]row, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		fmt.Fprintln(os.Stderr, "wrk is not installed: the receiver's own limit is left out")
		return nil, nil
	}
	r, err := newReceiver(ctx, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	script := filepath.Join(b.tmp, "post.lua")
	lua := fmt.Sprintf("wrk.method = \"POST\"\nwrk.body = %q\nwrk.headers[\"Content-Type\"] = \"application/json\"\n", sample("u", uuid.NewString()))
	if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
		return nil, fmt.Errorf("write the script: %w", err)
	}
	text, err := exec.CommandContext(ctx, wrk, "-t", "1", "-c", "32", "-d", fmt.Sprintf("%ds", b.plan.seconds), "-s", script, r.url).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("wrk: %w\n%s", err, text)
	}
	rate, err := said(text, `Requests/sec:\s+([0-9.]+)`)
	return []row{{"receiver's own limit, by wrk at 32 connections", "requests/s", rate}}, err
}

// throughput is how fast a backlog goes to one endpoint, relay included.
func (b *bench) throughput(ctx context.Context) ([]row, error) {
	r, err := newReceiver(ctx, false)
	if err != nil {
		return nil, err
	}
	defer r.close()
	p, err := b.serveWith(ctx, toMyself())
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", err), p.stop())
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := addEndpoint(ctx, conn, r.url, false); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	began := time.Now()
	_, err = tellAll(ctx, conn, b.plan.deliveries, 20)
	if err == nil {
		err = r.wait(ctx, b.plan.deliveries)
	}
	if err := errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	took := r.lastAt().Sub(began)
	return []row{
		{toOneEndpoint, deliveriesOfOne, float64(b.plan.deliveries) / took.Seconds()},
		{"memory, while webhooks are delivered", "MB", p.peak},
	}, nil
}

// tellAll writes n webhooks of so many users into the outbox, in one transaction with
// the job that relays them, and returns their ids in their order.
func tellAll(ctx context.Context, conn *pgx.Conn, n, users int) ([]string, error) {
	ids := make([]string, n)
	names := make([]string, n)
	payloads := make([][]byte, n)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7()).String()
		names[i] = fmt.Sprint("user-", i%users)
		payloads[i] = sample(names[i], ids[i])
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO outbox (id, event, user_id, payload)
			SELECT id::uuid, 'memory_added', user_id, payload FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS n (id, user_id, payload, place) ORDER BY place`,
			ids, names, payloads)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO river_job (args, kind, max_attempts, queue) VALUES ('{}', 'relay', 10000, 'relay')`)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("write webhooks: %w", err)
	}
	return ids, nil
}

// isolation is how long webhooks take to endpoints that are well, without and with one
// beside them that never answers.
func (b *bench) isolation(ctx context.Context) ([]row, error) {
	var rows []row
	for _, hanging := range []bool{false, true} {
		took, err := b.besides(ctx, hanging)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%d endpoints, %d webhooks a second to each", healthy, healthyRate)
		if hanging {
			name += ", one more that hangs 30 s on every call"
		}
		ms := func(share float64) float64 {
			return float64(took[int(share*float64(len(took)-1))].Microseconds()) / 1000
		}
		rows = append(rows, row{name + ": p50", "ms", ms(0.5)}, row{name + ": p99", "ms", ms(0.99)})
	}
	return rows, nil
}

// besides returns how long webhooks took to those endpoints that are well, sorted.
func (b *bench) besides(ctx context.Context, hanging bool) (took []time.Duration, err error) {
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
	all := make([]*receiver, healthy)
	for i := range all {
		if all[i], err = newReceiver(ctx, false); err != nil {
			return nil, err
		}
		defer all[i].close()
		if err := addEndpoint(ctx, conn, all[i].url, false); err != nil {
			return nil, err
		}
	}
	if hanging {
		h, err := newReceiver(ctx, true)
		if err != nil {
			return nil, err
		}
		defer h.close()
		if err := addEndpoint(ctx, conn, h.url, false); err != nil {
			return nil, err
		}
	}
	told := map[string]time.Time{}
	tick := time.NewTicker(time.Second / healthyRate)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < b.plan.isolation; <-tick.C {
		at := time.Now()
		ids, err := tellAll(ctx, conn, 1, 1)
		if err != nil {
			return nil, err
		}
		told[ids[0]] = at
	}
	for _, r := range all {
		if err := r.wait(ctx, len(told)); err != nil {
			return nil, err
		}
		for id, at := range r.arrived {
			took = append(took, at.Sub(told[id]))
		}
	}
	slices.Sort(took)
	return took, nil
}
