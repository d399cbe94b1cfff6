package app_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/cognee/cogneetest"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
	"github.com/memrelay/memrelay/internal/mirror"
)

func TestNewRemote(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		memory config.Memory
		ok     bool
	}{
		"cognee":            {config.Memory{Backend: "cognee", CogneeURL: "http://localhost:8000"}, true},
		"mem0's platform":   {config.Memory{Backend: "mem0", Mem0URL: "https://api.mem0.ai", Mem0APIKey: "m0"}, true},
		"mem0's server":     {config.Memory{Backend: "mem0", Mem0URL: "http://localhost:8888", Mem0Mode: "server"}, true},
		"a mode of mem0's":  {config.Memory{Backend: "mem0", Mem0URL: "http://localhost:8888", Mem0Mode: "both"}, false},
		"no key":            {config.Memory{Backend: "mem0", Mem0URL: "https://api.mem0.ai"}, false},
		"a URL with a user": {config.Memory{Backend: "cognee", CogneeURL: "http://ada:hush@localhost:8000"}, false},
	} {
		remote, err := app.NewRemote(config.Config{Memory: tc.memory}, "1", time.Now)
		if (err == nil) != tc.ok || (remote != nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := app.NewRemote(config.Config{Memory: config.Memory{Backend: "postgres"}}, "1", time.Now); !errors.Is(err, app.ErrNoRemote) {
		t.Errorf("error %v, want ErrNoRemote", err)
	}
}

// followed works the copies of one memory, made of settings alone, until it has come
// to rest, and returns what the database then says of it.
func followed(t *testing.T, settings config.Memory, until string) *pgxpool.Pool {
	t.Helper()
	cfg := config.Config{Memory: settings}
	cfg.Inbound.NumWorkers, cfg.Inbound.GiveUpAfter = 3, 24*time.Hour
	remote, err := app.NewRemote(cfg, "1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.CloseIdleConnections)
	pool, log := dbtest.New(t), slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	inserter, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	workers := river.NewWorkers()
	mirror.AddWorkers(workers, app.NewMirror(cfg, pool, inserter, remote, time.Now, log))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger: log, Workers: workers, TestOnly: true,
		Queues: map[string]river.QueueConfig{job.QueueMirror: {MaxWorkers: 3, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		writer := memory.NewWriter(inserter, memory.Sender{Source: "memrelay"}, settings.Backend, time.Now)
		row := &memory.Row{ID: uuid.Must(uuid.NewV7()), UserID: "user-1", Kind: "fact", Content: "a fact", Metadata: map[string]any{}}
		return writer.Write(t.Context(), tx, memory.Work{Changes: []memory.Change{{After: row}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { <-client.Stopped() }) // it stops with the test's context
	ended := waitUntil(t.Context(), func() bool {
		if _, err := pool.Exec(t.Context(), `UPDATE digests SET due_at = now() WHERE due_at > now()`); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), `UPDATE river_job SET state = 'available', scheduled_at = now()
			WHERE kind = 'cognify' AND state IN ('available', 'scheduled') AND scheduled_at > now()`); err != nil {
			t.Fatal(err)
		}
		return rows[bool](t, pool, until)[0]
	})
	if ended != nil {
		t.Fatalf("waited in vain: %v", ended)
	}
	return pool
}

func TestMem0Follows(t *testing.T) {
	t.Parallel()
	server := mem0test.New(mem0test.Options{})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop() }()
	followed(t, config.Memory{Backend: "mem0", Mem0URL: server.URL(), Mem0APIKey: mem0test.Key, Mem0Mode: "platform"},
		`SELECT count(*) = 1 FROM mirrors WHERE status = 'synced'`)
	if n := len(server.Memories()); n != 1 {
		t.Errorf("%d copies, want 1", n)
	}
}

// Cognee gets a copy, is had to make its graph, and is asked until it has.
func TestCogneeFollows(t *testing.T) {
	t.Parallel()
	server := cogneetest.New(cogneetest.Options{})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Stop() }()
	pool := followed(t, config.Memory{Backend: "cognee", CogneeURL: server.URL(), CogneeAPIKey: cogneetest.Key, CogneeDataset: "ours"},
		`SELECT EXISTS (SELECT FROM digests WHERE state = 'running')`)
	sets := server.Datasets()
	if len(sets) != 1 || sets[0].Name != "ours" || len(server.Documents()) != 1 {
		t.Fatalf("datasets %+v, %d documents", sets, len(server.Documents()))
	}
	if n := server.CallsTo("POST", "/api/v1/cognify"); n != 1 {
		t.Errorf("%d runs, want 1", n)
	}
	server.Advance(sets[0].ID, cogneetest.Completed)
	if err := waitUntil(t.Context(), func() bool {
		return rows[bool](t, pool, `SELECT EXISTS (SELECT FROM digests WHERE state = 'idle' AND done = wanted AND completed_at IS NOT NULL)`)[0]
	}); err != nil {
		t.Errorf("the run does not end: %v", err)
	}
}
