package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/postgres"
)

const (
	million = 1_000_000
	// bytesPerEvent is what one takes on disk with its body, its indexes and the log, and
	// spare what the rest takes: memories, records, the log of what is measured.
	bytesPerEvent = 2500
	spare         = 8 << 30
	chunk         = 250_000
)

// stock is a database with so many events in it.
type stock struct {
	events int64
	url    string
}

// fill makes the databases of growth, each a copy of the one before with more in it. One
// that the disk has no room for is left out, and said to be.
func (b *bench) fill(ctx context.Context) error {
	stocks := []stock{{}}
	for _, n := range []int64{million, 10 * million} {
		if n <= b.o.most {
			stocks = append(stocks, stock{events: n})
		}
	}
	began := time.Now()
	for i := range stocks {
		s := &stocks[i]
		if free, err := freeBytes(ctx, b.tmp); err != nil || free < s.events*bytesPerEvent+spare {
			fmt.Fprintf(os.Stderr, "%d million events are left out: they need %d GB and %d are free (%v)\n",
				s.events/million, (s.events*bytesPerEvent+spare)>>30, free>>30, err)
			stocks = stocks[:i]
			break
		}
		s.url = b.server.URL(fmt.Sprintf("stock_%d", s.events))
		from := template
		var had int64
		if i > 1 {
			had = stocks[i-1].events
			from = fmt.Sprintf("stock_%d", had)
		}
		if err := b.ensureTemplate(ctx); err != nil {
			return err
		}
		if err := execute(ctx, b.server.URL("postgres"), fmt.Sprintf("CREATE DATABASE stock_%d TEMPLATE %s STRATEGY FILE_COPY", s.events, from)); err != nil {
			return err
		}
		if err := s.fill(ctx, had); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%4.0f s: %d million events are stored\n", time.Since(began).Seconds(), s.events/million)
	}
	b.stocks = stocks
	return nil
}

// freeBytes is what the disk has room for.
func freeBytes(ctx context.Context, dir string) (int64, error) {
	fields := strings.Fields(asked(ctx, "df", "-Pk", dir))
	if len(fields) < 3 {
		return 0, errors.New("df does not say what is free")
	}
	var kib int64
	if _, err := fmt.Sscan(fields[len(fields)-3], &kib); err != nil {
		return 0, fmt.Errorf("read what df says: %w", err)
	}
	return kib << 10, nil
}

// fill adds events, and where there are none yet a million records and memories beside them.
func (s stock) fill(ctx context.Context, had int64) error {
	if s.events == 0 {
		return nil
	}
	pool, err := postgres.Open(ctx, s.url, postgres.Options{Log: slog.New(slog.DiscardHandler), MaxConns: 2, Language: "english", Name: "bench", Unlimited: true})
	if err != nil {
		return err
	}
	defer pool.Close()
	if had == 0 {
		if _, err := pool.Exec(ctx, besideEvents); err != nil {
			return fmt.Errorf("fill records: %w", err)
		}
		c := newCorpus(1)
		if err := seed(ctx, pool, c, owners(c.random, searchMemories, searchUsers, searchHeavy)); err != nil {
			return err
		}
	}
	began := time.Now().Add(-30 * 24 * time.Hour)
	for from := had; from < s.events; from += chunk {
		if err := fillEvents(ctx, pool, from, min(from+chunk, s.events), began); err != nil {
			return err
		}
	}
	for _, statement := range []string{`VACUUM ANALYZE`, `CHECKPOINT`} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// besideEvents are a hundred thousand accounts and a million records of theirs, and the
// months that the events lie in.
const besideEvents = `
SELECT ensure_event_bodies_month(now() - interval '1 month');
INSERT INTO accounts (account_id, wanted, done) SELECT 'filled-' || i, 100, 100 FROM generate_series(0, 99999) AS i;
INSERT INTO records (module, record_id, account_id, data, modified_at)
SELECT 'Contacts', 'filled-' || i, 'filled-' || i % 100000,
       jsonb_build_object('id', 'filled-' || i, 'First_Name', 'Jane', 'Last_Name', 'Doe ' || i, 'Email', 'jane' || i || '@example.com', 'Title', 'Head of Purchasing'),
       now() - interval '30 days'
FROM generate_series(0, 999999) AS i;`

// fillEvents adds those behind one number up to another, processed long ago, each some
// moments after the one before.
func fillEvents(ctx context.Context, pool *pgxpool.Pool, after, to int64, began time.Time) error {
	const step = `$3::timestamptz + i * interval '0.25 seconds'`
	_, err := pool.Exec(ctx, `WITH told AS (
			INSERT INTO events (id, source, event_id, digest, module, operation, record_id, account_id, revision, received_at, routed_at, status, processed_at)
			SELECT i, 'zoho', gen_random_uuid()::text, sha256(i::text::bytea), 'Contacts', 'update', 'filled-' || i % 1000000, 'filled-' || i % 100000,
			       i / 100000 + 1, `+step+`, `+step+`, 'processed', `+step+`
			FROM generate_series($1::bigint + 1, $2::bigint) AS i
			RETURNING id, received_at)
		INSERT INTO event_bodies (event_id, received_at, body_id, content_type, body, record)
		SELECT id, received_at, id, 'application/json', repeat('x', 420)::bytea, repeat('x', 330)::bytea FROM told`, after, to, began)
	if err == nil {
		_, err = pool.Exec(ctx, `SELECT setval('events_id_seq', $1)`, to)
	}
	if err != nil {
		return fmt.Errorf("fill events: %w", err)
	}
	return nil
}
