package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/postgres"
)

// grown names a figure by how much was stored when it was measured.
func grown(what string, events int64) string {
	switch events {
	case 0:
		return what + ", empty"
	case million:
		return what + ", 1 million events stored"
	}
	return fmt.Sprintf("%s, %d million events stored", what, events/million)
}

// growth is the door, the drain, the walk and the lists, on a database that is empty and
// on those that are not, one after the other in each round.
func (b *bench) growth(ctx context.Context) ([]row, error) {
	if b.stocks == nil {
		if err := b.fill(ctx); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, s := range b.stocks {
		for _, measure := range []func(context.Context, stock) ([]row, error){b.doorOf, b.drainOf, b.walkOf, b.memoryPages, b.eventPages} {
			found, err := measure(ctx, s)
			if err != nil {
				return nil, fmt.Errorf("with %d events: %w", s.events, err)
			}
			for _, r := range found {
				r.what = grown(r.what, s.events)
				rows = append(rows, r)
			}
		}
	}
	return rows, nil
}

func (b *bench) doorOf(ctx context.Context, s stock) (rows []row, err error) {
	p, err := b.serveOn(ctx, s.url, endless(), "--no-workers")
	if err != nil {
		return nil, err
	}
	l, err := closed(ctx, p.addr, b.webhooks(mostPerSecond*b.plan.seconds), 128, b.duration())
	if err := errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	// What the door has stored is not what the drain is to work.
	return l.rows(doorAt128), execute(ctx, s.url, `WITH gone AS (DELETE FROM river_job) UPDATE events SET status = 'discarded' WHERE status = 'received'`)
}

func (b *bench) drainOf(ctx context.Context, s stock) ([]row, error) {
	rate, err := b.drain(ctx, s.url, b.webhooks(b.plan.backlog), endless())
	return []row{{drained, perSecond, rate}}, err
}

// walkOf leaves no endpoint behind whom the next round would tell, too.
func (b *bench) walkOf(ctx context.Context, s stock) ([]row, error) {
	rows, err := b.walkOn(ctx, s.url, 100)
	return rows, errors.Join(err, execute(context.WithoutCancel(ctx), s.url, `UPDATE endpoints SET deleted_at = now() WHERE deleted_at IS NULL`))
}

const (
	pagesRead = 300
	pageSize  = 50
)

// memoryPages are pages of the user who has the most memories, one after the other, over HTTP.
func (b *bench) memoryPages(ctx context.Context, s stock) (rows []row, err error) {
	p, err := b.serveOn(ctx, s.url, endless(), "--no-workers")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	name := fmt.Sprintf("pages-%d", b.numbers(1))
	token, err := b.token(ctx, s.url, name)
	if err != nil {
		return nil, err
	}
	var ms []float64
	cursor := ""
	for range pagesRead {
		began := time.Now()
		next, err := memoryPage(ctx, p.base, token, cursor)
		if err != nil {
			return nil, err
		}
		ms = append(ms, milliseconds(time.Since(began)))
		cursor = next // "" after the last: from the first again
	}
	return pageRows("GET /v1/memories, a page of 50", ms), nil
}

func memoryPage(ctx context.Context, base, token, cursor string) (next string, err error) {
	asked := url.Values{"user_id": {userName(0)}, "limit": {fmt.Sprint(pageSize)}}
	if cursor != "" {
		asked.Set("cursor", cursor)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/memories?"+asked.Encode(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var page struct {
		Next string `json:"next_cursor"`
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("a page of memories: answered %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		return "", fmt.Errorf("a page of memories: %w", err)
	}
	return page.Next, nil
}

// eventPages are the newest, those around the middle of all, and those of a status,
// each planned for its values, as `memrelay events list` has it, which asks once.
func (b *bench) eventPages(ctx context.Context, s stock) ([]row, error) {
	pool, err := postgres.Open(ctx, s.url, postgres.Options{Log: slog.New(slog.DiscardHandler), MaxConns: 2, Searches: true, Name: "bench"})
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	var rows []row
	for _, o := range []struct {
		what   string
		before int64
		status string
	}{
		{"the newest", math.MaxInt64, ""},
		{"from the middle", max(s.events/2, 1), ""},
		{"those that are dead, of which there are none", math.MaxInt64, "dead"},
	} {
		var ms []float64
		before := o.before
		for range pagesRead {
			began := time.Now()
			found, err := db.New(pool).ListEvents(ctx, db.ListEventsParams{Before: before, Status: o.status, MaxEvents: pageSize})
			if err != nil {
				return nil, fmt.Errorf("list events: %w", err)
			}
			ms = append(ms, milliseconds(time.Since(began)))
			if before = o.before; len(found) == pageSize {
				before = found[pageSize-1].ID
			}
		}
		rows = append(rows, pageRows("a page of 50 events, "+o.what, ms)...)
	}
	return rows, nil
}

func pageRows(what string, ms []float64) []row {
	slices.Sort(ms)
	return []row{{what + ": p50", "ms", percentile(ms, 0.5)}, {what + ": p99", "ms", percentile(ms, 0.99)}}
}
