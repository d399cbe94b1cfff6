package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
	"github.com/memrelay/memrelay/internal/mirror"
)

// followed is a database whose memories a mem0 follows.
func followed(t *testing.T) (server *mem0test.Server, environ []string, url string) {
	t.Helper()
	server = mem0test.New(mem0test.Options{})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop mem0: %v", err)
		}
	})
	url = dbtest.URL(t)
	return server, []string{
		"DATABASE_URL=" + url, "WEBHOOK_SECRET=" + typedSecret, "MEMORY_BACKEND=mem0",
		"MEM0_URL=" + server.URL(), "MEM0_API_KEY=" + mem0test.Key, "MEM0_MODE=platform",
	}, url
}

func TestMemoryWhereNothingFollows(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	for _, what := range []string{"status", "resync"} {
		if got := command(t, url, "memory", what); got.code != exitFailed || !strings.Contains(got.err, "MEMORY_BACKEND is postgres") {
			t.Errorf("%s: exit code %d\n%s%s", what, got.code, got.out, got.err)
		}
	}
}

func TestMemoryResync(t *testing.T) {
	t.Parallel()
	server, environ, url := followed(t)
	if got := commandWith(t, environ, "memory", "resync", "--dry-run").done(t); !strings.Contains(got, "Nothing differs.") {
		t.Errorf("of nothing it says:\n%s", got)
	}
	execute(t, url, `INSERT INTO memories (id, user_id, kind, content, checksum)
		SELECT gen_random_uuid(), 'user-' || n, 'fact', 'a fact', sha256('x') FROM generate_series(1, 2) AS n`)
	server.Put(mem0test.Memory{UserID: "user-9", Text: "an orphan", Metadata: map[string]any{"memrelay_id": "0198c5a4-0000-7000-8000-000000000001"}})

	got := commandWith(t, environ, "--json", "memory", "resync", "--dry-run")
	want := resynced{Report: mirror.Report{Memories: 2, Copies: 1, Missing: 2, Orphaned: 1}, Drift: 3, DryRun: true}
	if diff := cmp.Diff(want, decode[resynced](t, got)); diff != "" || got.code != exitFailed || got.err != "memrelay: 3 differences\n" {
		t.Errorf("a dry run: exit code %d\n%s(-want +got):\n%s", got.code, got.err, diff)
	}
	if n := one[int](t, poolOn(t, url), `SELECT count(*) FROM mirrors`); n != 0 || len(server.Memories()) != 1 {
		t.Errorf("a dry run made %d lanes, and %d copies are there", n, len(server.Memories()))
	}

	if got := commandWith(t, environ, "memory", "resync", "--user=user-1").done(t); !strings.Contains(got, "1  memories that were never copied") {
		t.Errorf("of one user it says:\n%s", got)
	}
	out := commandWith(t, environ, "memory", "resync").done(t)
	for _, line := range []string{"2  memories, 1 copies, 1 on their way", "1  memories that were never copied", "1  copies of memories that are gone", "is being mended"} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is not in what it says:\n%s", line, out)
		}
	}
	pool := poolOn(t, url)
	if n := one[int](t, pool, `SELECT count(*) FROM mirrors m JOIN river_job j ON j.id = m.job_id AND j.kind = 'sync_memory'`); n != 2 || len(server.Memories()) != 0 {
		t.Errorf("%d lanes with a job, want 2; and %d copies, want none", n, len(server.Memories()))
	}
	if n := one[int](t, pool, `SELECT count(*) FROM audit_log WHERE action = 'memory.resync' AND starts_with(actor, 'command line, ')`); n != 2 {
		t.Errorf("%d resyncs in the audit log, want 2", n)
	}

	server.Outage(true)
	if got := commandWith(t, environ, "memory", "resync"); got.code != exitFailed || !strings.Contains(got.err, "resync with mem0: list copies: unavailable") {
		t.Errorf("in an outage: exit code %d\n%s", got.code, got.err)
	}
}

func TestMemoryStatus(t *testing.T) {
	t.Parallel()
	_, environ, url := followed(t)
	execute(t, url, `INSERT INTO mirrors (backend, memory_id, user_id, status, wanted, waiting_since, last_error, tried_at) VALUES
		('mem0', gen_random_uuid(), 'user-1', 'synced', 0, NULL, '', NULL),
		('mem0', gen_random_uuid(), 'user-1', 'pending', 1, '2026-03-01 10:00Z', '', NULL),
		('mem0', '0198c5a4-0000-7000-8000-000000000001', 'user-2', 'dead', 1, '2026-02-01 10:00Z', 'add: refused: too long', '2026-02-01 11:00Z'),
		('cognee', gen_random_uuid(), 'user-1', 'pending', 1, now(), '', NULL)`)
	execute(t, url, `INSERT INTO breakers (name, open_until, reason) VALUES ('memory/mem0', '2026-03-01 11:00Z', 'unavailable: down')`)
	out := commandWith(t, environ, "memory", "status").done(t)
	for _, line := range []string{
		"backend             mem0", "synced              1", "pending             1", "retrying            0", "dead                1",
		"oldest waits since  2026-03-01 10:00:00 UTC", "called              not before 2026-03-01 11:00:00 UTC: unavailable: down",
		"0198c5a4-0000-7000-8000-000000000001  user-2  2026-02-01 11:00:00  add: refused: too long",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is not in what it says:\n%s", line, out)
		}
	}
	status := decode[mirror.Status](t, commandWith(t, environ, "--json", "memory", "status"))
	if status.Backend != "mem0" || status.Dead != 1 || !status.Breaker.Open || status.Cognify != nil {
		t.Errorf("for machines: %+v", status)
	}

	environ = append(environ, "MEMORY_BACKEND=cognee", "COGNEE_URL=http://127.0.0.1:1")
	execute(t, url, `INSERT INTO digests (backend, state, failures, last_error, due_at, completed_at)
		VALUES ('cognee', 'retrying', 2, 'refused: no datasets', '2026-03-01 12:00Z', '2026-03-01 09:00Z')`)
	out = commandWith(t, environ, "memory", "status").done(t)
	want := "retrying, next at 2026-03-01 12:00:00 UTC, last completed at 2026-03-01 09:00:00 UTC, failed 2 times: refused: no datasets"
	if !strings.Contains(out, want) {
		t.Errorf("%q is not in what it says:\n%s", want, out)
	}
}
