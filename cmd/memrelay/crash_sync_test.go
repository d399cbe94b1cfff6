package main

import (
	"log/slog"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// TestAFullSyncGoesOnAfterAKill kills the program in the middle of a full sync. The
// next one goes on after the last page, and everything is remembered once.
func TestAFullSyncGoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "memrelay-crash-sync-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // Postgres may run as another user
		t.Fatal(err)
	}
	pg := startPostgres(t, dir)
	execute(t, pg.URL("postgres"), "CREATE DATABASE crash")
	url := pg.URL("crash")
	if err := postgres.Migrate(t.Context(), url, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	// Slow enough that a sync has a middle: a page of each module side by side.
	zoho := zohotest.New(zohotest.Options{Latency: func(*http.Request) time.Duration { return 200 * time.Millisecond }})
	if err := zoho.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = zoho.Close() })
	zoho.Seed(1000, 4, 1)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)

	p := &victim{t: t, binary: build(t, dir), url: url, addr: freeAddr(t), receiver: newTold(t).server.URL, environ: []string{
		"ZOHO_CLIENT_ID=" + zohotest.ClientID, "ZOHO_CLIENT_SECRET=" + zohotest.ClientSecret, "ZOHO_REFRESH_TOKEN=" + zohotest.RefreshToken,
		"ZOHO_API_URL=" + zoho.URL(), "ZOHO_ACCOUNTS_URL=" + zoho.URL(),
	}}
	p.start()
	wait(t, pool, time.Minute, `SELECT coalesce(sum(read), 0) >= 1000 FROM sync_parts`)
	p.kill()
	read := one[int64](t, pool, `SELECT sum(read)::bigint FROM sync_parts`)
	if state := one[string](t, pool, `SELECT state FROM syncs`); state != "running" || read == 5000 {
		t.Fatalf("killed too late: the sync is %s, %d records read", state, read)
	}
	calls := zoho.Calls()
	began := time.Now()
	p.start()
	wait(t, pool, 2*time.Minute, `SELECT state = 'completed' FROM syncs`)
	wait(t, pool, time.Minute, `SELECT NOT EXISTS (SELECT FROM events WHERE status <> 'processed') AND NOT EXISTS (SELECT FROM deliveries WHERE status <> 'delivered')`)
	t.Logf("killed after %d of 5000 records and %d calls; done %s after the restart, %d calls in all", read, calls, time.Since(began).Round(time.Second), zoho.Calls())

	for what, query := range map[string]string{
		"syncs":            `SELECT count(*) * 5000 FROM syncs`,
		"records read":     `SELECT sum(read)::bigint FROM sync_parts`,
		"events":           `SELECT count(*) FROM events`,
		"memories":         `SELECT count(*) FROM memories`,
		"memories added":   `SELECT count(*) FROM memory_history WHERE operation = 'added'`,
		"memories by name": `SELECT count(DISTINCT (module, record_id)) FROM memories`,
	} {
		if n := one[int64](t, pool, query); n != 5000 {
			t.Errorf("%s: %d, want 5000", what, n)
		}
	}
}
