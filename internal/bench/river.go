package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/postgres"
)

// noop is a job that does nothing.
type noop struct{}

// Kind is how River names the job.
func (noop) Kind() string { return "bench_noop" }

type noopWorker struct {
	river.WorkerDefaults[noop]
}

// Work does nothing.
func (noopWorker) Work(context.Context, *river.Job[noop]) error { return nil }

// river is how many jobs that do nothing River works a second, fetched as the program's
// own are: the wall that a job per event runs into.
func (b *bench) river(ctx context.Context) (rows []row, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := postgres.Open(ctx, url, postgres.Options{Log: slog.New(slog.DiscardHandler), MaxConns: 10, Name: "bench", Unlimited: true})
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, noopWorker{})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger: slog.New(slog.DiscardHandler), Workers: workers,
		Queues: map[string]river.QueueConfig{
			river.QueueDefault: {MaxWorkers: 200, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 50 * time.Millisecond},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("build a job client: %w", err)
	}
	jobs := make([]river.InsertManyParams, b.plan.jobs)
	for i := range jobs {
		jobs[i] = river.InsertManyParams{Args: noop{}}
	}
	if _, err := client.InsertManyFast(ctx, jobs); err != nil {
		return nil, fmt.Errorf("insert jobs: %w", err)
	}
	if err := client.Start(ctx); err != nil {
		return nil, fmt.Errorf("work jobs: %w", err)
	}
	defer func() { err = errors.Join(err, client.Stop(context.WithoutCancel(ctx))) }()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := until(ctx, conn, `SELECT NOT EXISTS (SELECT FROM river_job WHERE state <> 'completed')`); err != nil {
		return nil, err
	}
	var seconds float64
	if err := conn.QueryRow(ctx, `SELECT extract(epoch FROM max(finalized_at) - min(attempted_at))::float8 FROM river_job`).Scan(&seconds); err != nil {
		return nil, fmt.Errorf("read when jobs were worked: %w", err)
	}
	return []row{{"River: jobs that do nothing", jobsPerSecond, float64(len(jobs)) / seconds}}, nil
}
