package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// openEvents asks whether every event is worked. Partial indexes hold just these:
// looking costs what it measures little.
const openEvents = `SELECT NOT EXISTS (SELECT FROM events WHERE status IN ('routed', 'retrying') OR (revision IS NULL AND status IN ('received', 'retrying')))`

// payloads is how fast events that were stored before are worked, each all the way from
// ProcessEvent to its record's memory, when nobody but them says what is true.
func (b *bench) payloads(ctx context.Context) ([]row, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	rate, err := b.drain(ctx, url, b.webhooks(b.plan.backlog), endless())
	return []row{{drained, perSecond, rate}}, err
}

// drain stores events while nobody works, then lets the program work, and returns how
// many a second it worked: by the database's clock, from when the first was routed until
// the last was processed, so that neither the start nor the looking counts.
func (b *bench) drain(ctx context.Context, url string, r requests, settings []string) (perSecond float64, err error) {
	p, err := b.serveOn(ctx, url, settings, "--no-workers")
	if err != nil {
		return 0, err
	}
	after, err := b.greatestEvent(ctx, url)
	if err == nil {
		_, err = closed(ctx, p.addr, r, 128, 10*time.Minute)
	}
	if err := errors.Join(err, p.stop()); err != nil {
		return 0, err
	}
	if p, err = b.serveOn(ctx, url, settings); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := until(ctx, conn, openEvents); err != nil {
		return 0, err
	}
	var n int
	var seconds float64
	err = conn.QueryRow(ctx, `SELECT count(*), coalesce(extract(epoch FROM max(processed_at) - min(routed_at)), 0)::float8
		FROM events WHERE id > $1 AND status = 'processed'`, after).Scan(&n, &seconds)
	if err != nil {
		return 0, fmt.Errorf("read when events were processed: %w", err)
	}
	if n != r.len() || seconds <= 0 {
		return 0, fmt.Errorf("%d of %d events were processed", n, r.len())
	}
	return float64(n) / seconds, nil
}

func (b *bench) greatestEvent(ctx context.Context, url string) (id int64, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM events`).Scan(&id); err != nil {
		return 0, fmt.Errorf("look for the newest event: %w", err)
	}
	return id, nil
}

// fromZoho is the same with a Zoho that knows what is true, and answers at once or
// after 20 ms: events only say which record has changed, each another one's.
func (b *bench) fromZoho(ctx context.Context) (rows []row, err error) {
	var latency atomic.Int64
	zoho := zohotest.New(zohotest.Options{
		Now:     func() time.Time { return time.Now().Add(-5 * time.Minute) }, // as in syncs
		Latency: func(*http.Request) time.Duration { return time.Duration(latency.Load()) },
	})
	if err := zoho.Start(); err != nil {
		return nil, fmt.Errorf("start a Zoho: %w", err)
	}
	defer func() { err = errors.Join(err, zoho.Close()) }()
	zoho.Seed(b.plan.contacts, 1, 1)
	settings := append(zohoSettings(zoho.URL()), endless()...)
	url, err := b.connected(ctx, settings)
	if err != nil {
		return nil, err
	}
	for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
		contacts := zoho.IDs("Contacts")
		for _, id := range contacts {
			zoho.Silently().Update("Contacts", id, map[string]any{"Title": fmt.Sprintf("Changed while an answer takes %s", wait)})
		}
		latency.Store(int64(wait))
		rate, err := b.drain(ctx, url, b.touches(contacts), settings)
		if err != nil {
			return nil, err
		}
		if err := b.known(ctx, url, wait, len(contacts)); err != nil {
			return nil, err
		}
		rows = append(rows, row{fmt.Sprintf("backlog drained, each record read from a Zoho that answers in %d ms", wait.Milliseconds()), perSecond, rate})
		latency.Store(0)
	}
	return rows, nil
}

func zohoSettings(url string) []string {
	return []string{
		"ZOHO_CLIENT_ID=" + zohotest.ClientID, "ZOHO_CLIENT_SECRET=" + zohotest.ClientSecret, "ZOHO_REFRESH_TOKEN=" + zohotest.RefreshToken,
		"ZOHO_API_URL=" + url, "ZOHO_ACCOUNTS_URL=" + url, "WEBHOOK_BASE_URL=https://relay.example.com",
	}
}

// connected is a database in which everything that a Zoho has is in memory.
func (b *bench) connected(ctx context.Context, settings []string) (url string, err error) {
	p, err := b.serveWith(ctx, settings)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = errors.Join(
		until(ctx, conn, `SELECT EXISTS (SELECT FROM syncs WHERE kind = 'full' AND state = 'completed')`),
		until(ctx, conn, `SELECT NOT EXISTS (SELECT FROM events WHERE status <> 'processed')`),
		until(ctx, conn, `SELECT count(*) = 6 FROM channels WHERE state = 'active'`),
	)
	return p.url, err
}

// known makes sure that what was measured was done.
func (b *bench) known(ctx context.Context, url string, wait time.Duration, want int) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var n int
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM memories WHERE content LIKE $1`, fmt.Sprintf("%%takes %s%%", wait)).Scan(&n); err != nil {
		return fmt.Errorf("count what is known: %w", err)
	}
	if n != want {
		return fmt.Errorf("%d of %d changes are in memory", n, want)
	}
	return nil
}
