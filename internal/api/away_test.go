package api_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A database that is away is nobody's fault: what was asked can be asked again, and
// a good token is not called a bad one.
func TestTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.memoryOf(t, "ada", "likes tea")
	before := h.stored(t)
	name := rows[string](t, h, `SELECT current_database()::text`)[0]
	config, err := pgxpool.ParseConfig(h.database)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Database = "postgres"
	server, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	for _, sql := range []string{
		`ALTER DATABASE ` + name + ` ALLOW_CONNECTIONS false`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + name + `'`,
	} {
		if _, err := server.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range append(routes("zoho:77", m, m, m), routes("ada", m, m, m)[:8]...) {
		for _, q.token = range []string{"admin", "ada"} {
			a := h.do(t, q)
			wantProblem(t, a, 503, "unavailable", "")
			if a.header.Get("Retry-After") != "5" {
				t.Errorf("%s %s: Retry-After %q", q.method, q.path, a.header.Get("Retry-After"))
			}
		}
	}
	// What is wrong with a request is said without a database; only nobody is told.
	wantProblem(t, h.as(t, "admin", "POST", "/v1/memories", `{"user_id":"ada","content":""}`), 422, "invalid_field", "content")
	if _, err := server.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`); err != nil {
		t.Fatal(err)
	}
	if after := h.stored(t); after != before {
		t.Errorf("there are %s, were %s", after, before)
	}
	h.memoryOf(t, "ada", "likes coffee")
}
