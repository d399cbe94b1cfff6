package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	bloatRate  = 500
	bloatSlice = 10 * time.Second
)

// tableSize is how a table stood at a time.
type tableSize struct {
	table string
	dead  float64 // rows that wait to be vacuumed
	heap  float64 // MB
	index float64
}

// bloat is a steady load that is worked and told, for a long time: what tables and their
// indexes grow to. Of the queue's tables the second half should be as large as the first;
// events, deliveries and what else is kept as a record grow with what happened.
func (b *bench) bloat(ctx context.Context) (rows []row, err error) {
	r, p, err := b.told(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer r.close()
	defer func() { err = errors.Join(err, p.stop()) }()
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	seen := map[string][]tableSize{}
	var names []string
	for began := time.Now(); time.Since(began) < b.o.bloat; {
		if _, err := open(ctx, p.addr, b.webhooks(bloatRate*int(bloatSlice.Seconds())), bloatRate, 256); err != nil {
			return nil, err
		}
		found, err := samples(ctx, conn)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			if seen[s.table] == nil {
				names = append(names, s.table)
			}
			seen[s.table] = append(seen[s.table], s)
		}
		fmt.Fprintf(os.Stderr, "%4.0f s of %.0f\n", time.Since(began).Seconds(), b.o.bloat.Seconds())
	}
	if b.o.docs != "" {
		if err := writeChart(b.o.docs, "performance-bloat", lines(names, seen)); err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	for _, name := range names {
		rows = append(rows, bloatRows(name, seen[name])...)
	}
	return rows, nil
}

func samples(ctx context.Context, conn *pgx.Conn) ([]tableSize, error) {
	rows, err := conn.Query(ctx, `SELECT relname, n_dead_tup::float8, pg_table_size(relid) / 1e6::float8, pg_indexes_size(relid) / 1e6::float8
		FROM pg_stat_user_tables WHERE n_tup_ins + n_tup_upd > 0 ORDER BY relname`)
	if err != nil {
		return nil, fmt.Errorf("look at tables: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s tableSize, err error) {
		return s, r.Scan(&s.table, &s.dead, &s.heap, &s.index)
	})
	if err != nil {
		return nil, fmt.Errorf("look at tables: %w", err)
	}
	return found, nil
}

func bloatRows(table string, all []tableSize) []row {
	var dead float64
	for _, s := range all {
		dead = max(dead, s.dead)
	}
	half, end := all[len(all)/2], all[len(all)-1]
	return []row{
		{table + ": dead rows, at most", "rows", dead},
		{table + ": table after half of the time", "MB", half.heap},
		{table + ": table at the end", "MB", end.heap},
		{table + ": indexes after half of the time", "MB", half.index},
		{table + ": indexes at the end", "MB", end.index},
	}
}
