package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/postgres"
)

// template is a database that is migrated once, and copied as often as one is needed.
const template = "bench_template"

func (b *bench) ensureTemplate(ctx context.Context) error {
	if b.migrated {
		return nil
	}
	if err := execute(ctx, b.server.URL("postgres"), "CREATE DATABASE "+template); err != nil {
		return err
	}
	b.migrated = true
	return postgres.Migrate(ctx, b.server.URL(template), slog.New(slog.DiscardHandler))
}

// database makes an empty, migrated database. dropDatabases takes it away.
func (b *bench) database(ctx context.Context) (string, error) {
	if err := b.ensureTemplate(ctx); err != nil {
		return "", err
	}
	b.made++
	name := fmt.Sprintf("bench_%d", b.made)
	if err := execute(ctx, b.server.URL("postgres"), "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		return "", err
	}
	b.databases = append(b.databases, name)
	return b.server.URL(name), nil
}

// segments is how many of 16 MB the log has in advance: as many as it grows to between
// two checkpoints.
const segments = 64

// steady brings the server's log to where that of one stands that has run for a while:
// it writes over segments that it needs no more. A new server makes each in the moment
// when it is full, and all that commits waits meanwhile: measured, a sixth of the time
// of a door at full load, and p99 of one at half of it between 17 and 124 ms.
func (b *bench) steady(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.server.URL("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	statements := []string{`ALTER SYSTEM SET min_wal_size = '1GB'`, `SELECT pg_reload_conf()`}
	for range segments {
		statements = append(statements, `SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()`)
	}
	for _, statement := range append(statements, `CHECKPOINT`) {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// dropDatabases takes away those that a part has left: disk is finite, and vacuuming
// them would be charged to who comes next.
func (b *bench) dropDatabases(ctx context.Context) error {
	for _, name := range b.databases {
		if err := execute(ctx, b.server.URL("postgres"), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			return err
		}
	}
	b.databases = nil
	return nil
}

func execute(ctx context.Context, url, statement string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// until waits until a query says true, for ten minutes at most.
func until(ctx context.Context, conn *pgx.Conn, query string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var done bool
		if err := conn.QueryRow(ctx, query).Scan(&done); err != nil {
			return fmt.Errorf("wait for %q: %w", query, err)
		}
		if done {
			return nil
		}
		<-tick.C
	}
}
