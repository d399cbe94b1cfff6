package importer

import (
	"context"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/inbound"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// newRedis starts a Redis: the one of this machine, where there is one, else one in this process.
func newRedis(t *testing.T) *redis.Client {
	t.Helper()
	url := ""
	if program, err := exec.LookPath("redis-server"); err == nil {
		socket := filepath.Join(t.TempDir(), "s")
		server := exec.Command(program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", filepath.Dir(socket))
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = server.Process.Kill()
			_ = server.Wait()
		})
		url = "unix://" + socket
	} else {
		url = "redis://" + miniredis.RunT(t).Addr()
	}
	client, err := Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	waitFor(t, "Redis answers", func() bool { return client.Ping(t.Context()).Err() == nil })
	return client
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for tick := time.NewTicker(5 * time.Millisecond); !is(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// fixture is a Redis to take over from, and a memrelay that does.
type fixture struct {
	redis *redis.Client
	pool  *pgxpool.Pool
	jobs  inbound.Inserter
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	pool := dbtest.New(t)
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{redis: newRedis(t), pool: pool, jobs: jobs}
}

// importer makes one for both keys unless o names others.
func (f *fixture) importer(t *testing.T, o Options) *Importer {
	t.Helper()
	if o.Queue == "" && o.Dead == "" {
		o.Queue, o.Dead = "queue", "dead"
	}
	if o.Source == "" {
		o.Source = inbound.SourceZoho
	}
	counts := counter.New(f.pool, uuid.New(), "", 0, slog.New(slog.DiscardHandler))
	ingester := inbound.NewIngester(f.pool, f.jobs, counts, []string{"Accounts", "Contacts"}, group.Options{})
	return New(f.redis, f.pool, ingester, time.Now, o)
}

// run runs one, which must not fail.
func (f *fixture) run(t *testing.T, o Options) Report {
	t.Helper()
	r, err := f.importer(t, o).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// push puts elements into a list as LPUSH does: the first is the oldest.
func (f *fixture) push(t *testing.T, key string, elements ...string) {
	t.Helper()
	for _, e := range elements {
		if err := f.redis.LPush(t.Context(), key, e).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// list returns what is in a list, the oldest first.
func (f *fixture) list(t *testing.T, key string) []string {
	t.Helper()
	all, err := queue{client: f.redis, name: key, kind: "list"}.read(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// rows returns what a query finds, a text for each row.
func (f *fixture) rows(t *testing.T, query string) []string {
	t.Helper()
	rows, err := f.pool.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := []string{}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

const (
	eventsAndJobs = `SELECT format('%s %s %s %s jobs %s', event_id, operation, record_id, status,
		(SELECT count(*) FROM river_job j WHERE j.kind = 'process_event' AND (j.args ->> 'event_id')::bigint = e.id)) FROM events e ORDER BY id`
	counted = `SELECT format('%s %s', name, sum(value)) FROM counters GROUP BY name HAVING sum(value) <> 0 ORDER BY name`
)
