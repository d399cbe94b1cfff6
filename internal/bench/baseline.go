package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/localpg"
)

// script inserts what the door inserts for one event.
const script = `BEGIN;
\set n random(1, 9000000000000000)
INSERT INTO events (id, source, event_id, digest, module, operation, record_id) VALUES (nextval('events_id_seq'), 'zoho', gen_random_uuid()::text, sha256(:n::text::bytea), 'Contacts', 'update', :n::text);
INSERT INTO event_bodies (event_id, received_at, body_id, content_type, body, record) VALUES (currval('events_id_seq'), now(), currval('events_id_seq'), 'application/json', repeat('x', 420)::bytea, repeat('x', 330)::bytea);
INSERT INTO river_job (args, kind, max_attempts, queue) VALUES (jsonb_build_object('event_id', currval('events_id_seq')), 'process_event', 3, 'process');
COMMIT;
`

// pgbench is what Postgres does with one transaction per event and no program of ours;
// over many connections, and how long one alone takes.
func (b *bench) pgbench(ctx context.Context) ([]row, error) {
	tps, _, err := b.runPgbench(ctx, 32)
	if err != nil {
		return nil, err
	}
	_, latency, err := b.runPgbench(ctx, 1)
	if err != nil {
		return nil, err
	}
	return []row{
		{baseline, perSecond, tps},
		{"pgbench: the same, one connection: mean of a transaction", "ms", latency},
	}, nil
}

func (b *bench) runPgbench(ctx context.Context, connections int) (tps, latency float64, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return 0, 0, err
	}
	file := filepath.Join(b.tmp, "pgbench.sql")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		return 0, 0, fmt.Errorf("write the script: %w", err)
	}
	bin, err := localpg.Find(os.Getenv)
	if err != nil {
		return 0, 0, err
	}
	text, err := exec.CommandContext(ctx, filepath.Join(bin, "pgbench"), "-n", "-M", "prepared", "-c", strconv.Itoa(connections), "-j", "1",
		"-T", strconv.Itoa(b.plan.seconds), "-f", file, url).CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("pgbench: %w\n%s", err, text)
	}
	tps, err1 := said(text, `tps = ([0-9.]+)`)
	latency, err2 := said(text, `latency average = ([0-9.]+) ms`)
	return tps, latency, errors.Join(err1, err2)
}

// said reads a number out of what a program has printed.
func said(text []byte, pattern string) (float64, error) {
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("nothing like %s was said:\n%s", pattern, text)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// copies is what Postgres does at its best: the same rows, 500 in a transaction, by COPY.
func (b *bench) copies(ctx context.Context) ([]row, error) {
	var rows []row
	for i, connections := range []string{"one connection", "two connections"} {
		rate, err := b.copyOver(ctx, i+1)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{"COPY: the same rows, 500 in a transaction, " + connections, perSecond, rate})
	}
	return rows, nil
}

func (b *bench) copyOver(ctx context.Context, connections int) (float64, error) {
	url, err := b.database(ctx)
	if err != nil {
		return 0, err
	}
	const batch = 500
	var ids, copied atomic.Int64
	failed := make([]error, connections)
	var wg sync.WaitGroup
	began := time.Now()
	for c := range connections {
		wg.Go(func() {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				failed[c] = fmt.Errorf("connect: %w", err)
				return
			}
			defer conn.Close(context.WithoutCancel(ctx))
			for time.Since(began) < b.duration() {
				if err := copyBatch(ctx, conn, ids.Add(batch)-batch+1, batch); err != nil {
					failed[c] = err
					return
				}
				copied.Add(batch)
			}
		})
	}
	wg.Wait()
	return float64(copied.Load()) / time.Since(began).Seconds(), errors.Join(failed...)
}

// copyBatch writes n events with their bodies and jobs, from one id on.
func copyBatch(ctx context.Context, conn *pgx.Conn, first int64, n int) error {
	now := time.Now()
	body, record := []byte(strings.Repeat("x", 420)), []byte(strings.Repeat("x", 330))
	tables := []struct {
		name    string
		columns []string
		row     func(id int64) []any
	}{
		{"events", []string{"id", "source", "event_id", "digest", "module", "operation", "record_id", "received_at"}, func(id int64) []any {
			return []any{id, "zoho", fmt.Sprintf("%016x-%d", rand.Uint64(), id), make([]byte, 32), "Contacts", "update", strconv.FormatInt(rand.Int64N(9e15), 10), now}
		}},
		{"event_bodies", []string{"event_id", "received_at", "body_id", "content_type", "body", "record"}, func(id int64) []any {
			return []any{id, now, id, "application/json", body, record}
		}},
		{"river_job", []string{"args", "kind", "max_attempts", "queue"}, func(id int64) []any {
			return []any{fmt.Appendf(nil, `{"event_id":%d}`, id), "process_event", 3, "process"}
		}},
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, t := range tables {
			rows := pgx.CopyFromSlice(n, func(i int) ([]any, error) { return t.row(first + int64(i)), nil })
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, rows); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	return nil
}
