package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	fairRate  = 100 // events a second of the source that is looked at: its whole share
	fairToken = "the-token-of-the-second-organisation"
	// lead is how long the neighbour sends before: what it may send at once is used up then.
	lead = 2 * time.Second
)

// neighbour is what another source sends meanwhile, until ctx ends.
type neighbour func(ctx context.Context, addr string) (loaded, error)

// fair is how long the events of a source take that keeps to its share: alone, beside
// one that sends ten times as much, and beside one that sends as fast as it is answered.
func (b *bench) fair(ctx context.Context) ([]row, error) {
	enough := b.duration() + lead + 5*time.Second
	ten := func(ctx context.Context, addr string) (loaded, error) {
		const rate = 10 * fairRate
		return open(ctx, addr, b.webhooks(int(rate*enough.Seconds())), rate, 256)
	}
	flood := func(ctx context.Context, addr string) (loaded, error) {
		return closed(ctx, addr, b.webhooks(int(10_000*enough.Seconds())), 128, enough)
	}
	var rows []row
	var alone map[string]float64
	for _, with := range []struct {
		name string
		neighbour
	}{{"100/s of one source alone", nil}, {besideTen, ten}, {besideFlood, flood}} {
		url, err := b.database(ctx)
		if err != nil {
			return nil, err
		}
		all, err := b.beside(ctx, url, with.neighbour)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", with.name, err)
		}
		p99 := map[string]float64{}
		for _, where := range []string{"door", "memory"} {
			name := with.name + ": " + where
			p99[where] = percentile(all[where], 0.99)
			rows = append(rows, row{name + ", p50", "ms", percentile(all[where], 0.5)}, row{name + ", p99", "ms", p99[where]})
			if alone != nil {
				rows = append(rows, row{name + ", p99, of alone", "×", p99[where] / alone[where]})
			}
		}
		if alone == nil {
			alone = p99
		}
	}
	return rows, nil
}

// beside returns how long the events of a source took to their answer and to their
// memory, sorted, while a neighbour sends.
func (b *bench) beside(ctx context.Context, url string, other neighbour) (ms map[string][]float64, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if err := addOrganisation(ctx, conn); err != nil {
		return nil, err
	}
	p, err := b.serveOn(ctx, url, endless())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if _, err := open(ctx, p.addr, b.notifications(2*fairRate), fairRate, 64); err != nil {
		return nil, err
	}
	leave := startNeighbour(ctx, p.addr, other)
	ms, err = b.measured(ctx, conn, p.addr)
	return ms, errors.Join(err, leave())
}

// startNeighbour has other send, and returns once it has done so for a while. leave ends it.
func startNeighbour(ctx context.Context, addr string, other neighbour) (leave func() error) {
	if other == nil {
		return func() error { return nil }
	}
	sending, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := other(sending, addr)
		if sending.Err() != nil {
			err = nil // it was told to stop
		}
		done <- err
	}()
	select {
	case <-time.After(lead):
	case <-ctx.Done():
	}
	return func() error { end(); return <-done }
}

// measured sends what is measured, and waits for its memories.
func (b *bench) measured(ctx context.Context, conn *pgx.Conn, addr string) (map[string][]float64, error) {
	all := b.notifications(int(fairRate * b.duration().Seconds()))
	var l loaded
	var failed error
	sent := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(sent)
		l, failed = open(ctx, addr, all, fairRate, 64)
	}()
	seen, err := memoriesSeen(ctx, conn, all, began)
	<-sent
	if err := errors.Join(failed, err); err != nil {
		return nil, err
	}
	remembered, err := since(l, all.first, seen)
	return map[string][]float64{"door": l.ms, "memory": remembered}, err
}

// memoriesSeen looks for the memories of all these events, none of which is due before
// its turn at fairRate from began on. It returns when each was first seen by conn, to
// the time between two looks.
func memoriesSeen(ctx context.Context, conn *pgx.Conn, all requests, began time.Time) (map[int64]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := map[int64]time.Time{}
	awaited := map[string]int64{} // by the record's id: those that are due
	for due := 0; len(seen) < all.len(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d events have no memory: %w", all.len()-len(seen), ctx.Err())
		}
		for ; due < all.len() && time.Since(began) > time.Duration(due)*time.Second/fairRate; due++ {
			n := all.first + int64(due)
			awaited[secondContact(n)] = n
		}
		rows, err := conn.Query(ctx, `SELECT record_id FROM memories WHERE module = 'Contacts' AND record_id = ANY ($1)`, slices.Collect(maps.Keys(awaited)))
		if err != nil {
			return nil, fmt.Errorf("look for memories: %w", err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("look for memories: %w", err)
		}
		now := time.Now()
		for _, id := range found {
			seen[awaited[id]] = now
			delete(awaited, id)
		}
	}
	return seen, nil
}

// addOrganisation makes a second organisation whose events can be told from those that
// are signed: a channel says whose they are.
func addOrganisation(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, `INSERT INTO channels (channel_id, source) VALUES ('2', 'second')`); err != nil {
		return fmt.Errorf("insert a channel: %w", err)
	}
	if _, err := conn.Exec(ctx, `INSERT INTO channel_tokens (channel_id, token_hash) VALUES ('2', sha256($1))`, []byte(fairToken)); err != nil {
		return fmt.Errorf("insert a token: %w", err)
	}
	return nil
}

// secondContact is the id of a contact of the second organisation.
func secondContact(n int64) string { return fmt.Sprintf("67257670000%d", n) }

// notifications are n events of the second organisation as Zoho sends them, each of
// another contact, of 500 accounts.
func (b *bench) notifications(n int) requests {
	r := requests{first: b.numbers(n), ends: make([]int, 0, n)}
	for i := range int64(n) {
		n := r.first + i
		text := fmt.Appendf(nil, `{"operation":"update","module":"Contacts","ids":[%[1]q],"affected_values":[{"record_id":%[1]q,"values":{"First_Name":"John","Last_Name":"Doe %[2]d","Email":"john%[2]d@example.com","Description":"`+mark+`%[2]d wants the offer by the end of the month, a call before it.","Account_Name":{"id":"67257670001%[3]d","name":"Second %[3]d"}}}],"channel_id":"2","token":%[4]q}`,
			secondContact(n), n, n%500, fairToken)
		r.slab = fmt.Appendf(r.slab, "POST /webhooks/zoho HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Zoho-Event-Id: bench-%d\r\nContent-Length: %d\r\n\r\n", n, len(text))
		r.slab = append(r.slab, text...)
		r.ends = append(r.ends, len(r.slab))
	}
	return r
}
