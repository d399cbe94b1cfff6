package process

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/postgres"
)

// Three nodes work the same twenty accounts, whose records move between them,
// while more and more comes in. Locks are taken in one order: nobody ever waits
// for somebody who waits for him.
func TestThreeNodesNeverDeadlock(t *testing.T) {
	t.Parallel()
	const accounts = 20
	events := story(rand.New(rand.NewPCG(3, 3)), storyKeys(accounts, 30, 10), accounts, 400)
	url := dbtest.URL(t)
	s := stationOn(t, openPool(t, url, "test"), Payloads{})
	nodes := make([]node, 3)
	for i := range nodes {
		nodes[i] = startNode(t, url, fmt.Sprint("node ", i), Payloads{})
	}
	for at := 0; at < len(events); at += 50 {
		s.receiveAll(t, events[at:at+50])
	}
	s.doneWithoutFault(t, nodes)
	s.converged(t, foldAll(events))
	want := []int64{int64(len(events)), 0, 0}
	if diff := cmp.Diff(want, s.counters(t, counter.Processed, counter.Backlog, counter.Retried)); diff != "" {
		t.Errorf("processed, backlog, retried (-want +got):\n%s", diff)
	}
}

// doneWithoutFault waits until the nodes have done everything, and checks that
// none of it was a deadlock or another fault.
func (s *station) doneWithoutFault(t *testing.T, nodes []node) {
	t.Helper()
	s.waitFor(t, "everything is done", `
		SELECT NOT EXISTS (SELECT FROM events WHERE status <> 'processed')
		   AND NOT EXISTS (SELECT FROM accounts WHERE due_at IS NOT NULL OR job_id IS NOT NULL)
		   AND NOT EXISTS (SELECT FROM river_job WHERE kind <> 'relay' AND state IN `+live+`)`)
	for _, n := range nodes {
		n.stop(t)
	}

	// A backend reports its deadlocks at the latest when it ends.
	s.waitFor(t, "the nodes' connections are gone", `
		SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'memrelay node%')`)
	if n := rows[int64](t, s.pool, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)[0]; n != 0 {
		t.Errorf("%d deadlocks", n)
	}
	faults := rows[string](t, s.pool, `SELECT DISTINCT concat_ws(' ', kind, errors::text) FROM river_job WHERE errors <> '{}'
		UNION SELECT last_error FROM events WHERE last_error <> '' OR failures > 0`)
	if diff := cmp.Diff([]string(nil), faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	s.closed(t)
}

// node is one process that works jobs.
type node struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

func startNode(t *testing.T, url, name string, source Source) node {
	t.Helper()
	pool := openPool(t, url, name)
	s := stationOn(t, pool, source)
	s.router.debounce = 50 * time.Millisecond
	workers := river.NewWorkers()
	river.AddWorker(workers, s.router)
	river.AddWorker(workers, s.syncer)
	river.AddWorker(workers, s.waker)
	queue := river.QueueConfig{MaxWorkers: 50, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 50 * time.Millisecond}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		ID: name, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		Queues: map[string]river.QueueConfig{job.QueueProcess: queue, job.QueueSync: queue}, Workers: workers,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	n := node{pool: pool, client: client}
	t.Cleanup(func() { n.stop(t) })
	return n
}

// stop stops a node; once more does nothing.
func (n node) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if err := n.client.Stop(ctx); err != nil {
		t.Errorf("stop a node: %v", err)
	}
	n.pool.Close()
}

// openPool opens a pool as the program does, its time limits and plans included.
func openPool(t *testing.T, url, name string) *pgxpool.Pool {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	pool, err := postgres.Open(t.Context(), url, postgres.Options{Log: log, MaxConns: 16, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// waitFor waits until the query says true.
func (s *station) waitFor(t *testing.T, what, query string) {
	t.Helper()
	deadline := time.NewTimer(60 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !rows[bool](t, s.pool, query)[0] {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}
