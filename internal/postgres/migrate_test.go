package postgres_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/postgres"
)

// schema describes every table, column, index, constraint, view, sequence, type
// and function of a database, one a line.
func schema(t *testing.T, url string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `
		WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg\_toast%')
		SELECT format('relation %s kind %s persistence %s options %s partition %s of %s', c.oid::regclass, c.relkind, c.relpersistence, c.reloptions,
		              pg_get_expr(c.relpartbound, c.oid), (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = c.oid))
		FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM ours)
		UNION ALL
		SELECT format('column %s.%s %s %s %s default %s identity %s', c.oid::regclass, a.attname,
		              -- the place among the columns there are: a column that is dropped leaves its number behind
		              row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod),
		              CASE WHEN a.attnotnull THEN 'not null' END, pg_get_expr(d.adbin, d.adrelid), a.attidentity)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE c.relnamespace IN (SELECT oid FROM ours) AND a.attnum > 0 AND NOT a.attisdropped
		UNION ALL
		SELECT format('index %s', pg_get_indexdef(i.indexrelid))
		FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace IN (SELECT oid FROM ours)
		UNION ALL
		SELECT format('constraint %s on %s: %s', k.conname, k.conrelid::regclass, pg_get_constraintdef(k.oid))
		FROM pg_constraint k WHERE k.connamespace IN (SELECT oid FROM ours)
		UNION ALL
		SELECT format('view %s: %s', c.oid::regclass, pg_get_viewdef(c.oid))
		FROM pg_class c WHERE c.relnamespace IN (SELECT oid FROM ours) AND c.relkind = 'v'
		UNION ALL
		SELECT format('function %s', pg_get_functiondef(p.oid)) FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM ours)
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') -- of an extension
		UNION ALL
		SELECT format('trigger %s', pg_get_triggerdef(g.oid)) FROM pg_trigger g WHERE NOT g.tgisinternal
		UNION ALL
		SELECT format('type %s: %s', y.oid::regtype, (SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = y.oid))
		FROM pg_type y WHERE y.typnamespace IN (SELECT oid FROM ours) AND y.typtype <> 'b'
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func migrate(t *testing.T, url string) {
	t.Helper()
	if err := postgres.Migrate(t.Context(), url, quiet(t)); err != nil {
		t.Fatal(err)
	}
}

func down(t *testing.T, url string, all bool) {
	t.Helper()
	if err := postgres.MigrateDown(t.Context(), url, all, quiet(t)); err != nil {
		t.Fatal(err)
	}
}

// onlyVersions leaves out the table in which goose remembers what is applied: it stays.
func onlyVersions(lines []string) (rest []string) {
	for _, l := range lines {
		if !strings.Contains(l, "goose_db_version") {
			rest = append(rest, l)
		}
	}
	return rest
}

func TestUpDownUpIsTheSameSchema(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	migrate(t, url)
	want := schema(t, url)
	if len(want) < 200 || !strings.Contains(strings.Join(want, "\n"), "index CREATE INDEX events_backlog_idx") {
		t.Fatalf("%d lines: the test does not see the schema", len(want))
	}
	migrate(t, url)
	if diff := cmp.Diff(want, schema(t, url)); diff != "" {
		t.Errorf("up twice (-want +got):\n%s", diff)
	}
	down(t, url, true)
	if left := onlyVersions(schema(t, url)); len(left) > 0 {
		t.Errorf("down leaves behind:\n%s", strings.Join(left, "\n"))
	}
	down(t, url, true) // there is nothing to take back
	down(t, url, false)
	migrate(t, url)
	if diff := cmp.Diff(want, schema(t, url)); diff != "" {
		t.Errorf("up, down, up (-want +got):\n%s", diff)
	}
}

// However many steps are taken back, doing them again gives the same schema.
func TestEachMigrationCanBeTakenBack(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	want, all := schema(t, url), applied(t, url)
	for steps := 1; steps <= all; steps++ {
		for range steps {
			down(t, url, false)
		}
		if got := applied(t, url); got != all-steps {
			t.Fatalf("%d steps down from %d migrations leave %d", steps, all, got)
		}
		migrate(t, url)
		if diff := cmp.Diff(want, schema(t, url)); diff != "" {
			t.Errorf("%d steps down and up again (-want +got):\n%s", steps, diff)
		}
	}
}

func applied(t *testing.T, url string) (n int) {
	t.Helper()
	for _, m := range status(t, url) {
		if m.Applied {
			n++
		}
	}
	return n
}

func status(t *testing.T, url string) []postgres.Migration {
	t.Helper()
	list, err := postgres.MigrationStatus(t.Context(), url, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestMigrationStatus(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	want := []postgres.Migration{
		{Version: 1, Name: "river", Applied: true},
		{Version: 2, Name: "00002_events.sql", Applied: true},
		{Version: 3, Name: "00003_accounts.sql", Applied: true},
		{Version: 4, Name: "00004_memories.sql", Applied: true},
		{Version: 5, Name: "00005_outbox.sql", Applied: true},
		{Version: 6, Name: "00006_operation.sql", Applied: true},
		{Version: 7, Name: "00007_views.sql", Applied: true},
	}
	got := status(t, url)
	if len(got) < len(want) {
		t.Fatalf("%d migrations, want at least %d", len(got), len(want))
	}
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	for i, m := range got[len(want):] {
		if !m.Applied || m.Version != int64(len(want)+i+1) {
			t.Errorf("migration %+v", m)
		}
	}

	down(t, url, false)
	got[len(got)-1].Applied = false
	if diff := cmp.Diff(got, status(t, url)); diff != "" {
		t.Errorf("status after a step down (-want +got):\n%s", diff)
	}
}

func TestNothingIsAppliedToAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	for _, m := range status(t, dbtest.Empty(t)) {
		if m.Applied {
			t.Errorf("%s is applied", m.Name)
		}
	}
}

// Several nodes start at once after a deploy: one migrates, the others wait for it.
func TestSeveralMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		make func(t *testing.T) string
	}{
		{"an empty database", func(t *testing.T) string { return dbtest.Empty(t) }},
		{"one that goose knows already", func(t *testing.T) string {
			url := dbtest.URL(t)
			down(t, url, true)
			return url
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := tc.make(t)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := postgres.Migrate(t.Context(), url, quiet(t)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if diff := cmp.Diff(schema(t, dbtest.URL(t)), schema(t, url)); diff != "" {
				t.Errorf("the schema differs from that of one migration (-want +got):\n%s", diff)
			}
			for table, want := range map[string]int{"goose_db_version": len(status(t, url)) + 1, "river_migration": 8} {
				if got := ask[int](t, url, `SELECT count(*) FROM `+table); got != want {
					t.Errorf("%s has %d rows, want %d", table, got, want)
				}
			}
		})
	}
}

// goose holds a connection while River's migrations need one of their own.
func TestMigrateWithOneConnection(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	url := dbtest.Empty(t)
	if err := postgres.Migrate(ctx, with(t, url, "pool_max_conns", "1"), quiet(t)); err != nil {
		t.Fatal(err)
	}
	if err := postgres.CheckSchema(ctx, open(t, url, postgres.Options{})); err != nil {
		t.Error(err)
	}
}

func TestCheckSchema(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, url string)
		fits   bool
	}{
		{"a migrated database", func(*testing.T, string) {}, true},
		{"one that is one step behind", func(t *testing.T, url string) { down(t, url, false) }, false},
		{"one that was taken all the way back", func(t *testing.T, url string) { down(t, url, true) }, false},
		{"one whose River is behind", func(t *testing.T, url string) {
			ask[int](t, url, `DELETE FROM river_migration WHERE version = 8 RETURNING version`)
		}, false},
		// An older node during a rolling deploy.
		{"a newer one", func(t *testing.T, url string) {
			ask[int](t, url, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true) RETURNING id`)
		}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := dbtest.URL(t)
			tc.change(t, url)
			err := postgres.CheckSchema(t.Context(), open(t, url, postgres.Options{}))
			switch {
			case tc.fits && err != nil:
				t.Error(err)
			case !tc.fits && !errors.Is(err, postgres.ErrSchema):
				t.Errorf("error %v, want %v", err, postgres.ErrSchema)
			case !tc.fits && !strings.Contains(err.Error(), "memrelay migrate up"):
				t.Errorf("error %q does not say what to do", err)
			}
		})
	}
	t.Run("an empty database", func(t *testing.T) {
		t.Parallel()
		if err := postgres.CheckSchema(t.Context(), open(t, dbtest.Empty(t), postgres.Options{})); !errors.Is(err, postgres.ErrSchema) {
			t.Errorf("error %v, want %v", err, postgres.ErrSchema)
		}
	})
	t.Run("a database that does not answer", func(t *testing.T) {
		t.Parallel()
		pool := open(t, dbtest.URL(t), postgres.Options{})
		pool.Close()
		if err := postgres.CheckSchema(t.Context(), pool); err == nil || errors.Is(err, postgres.ErrSchema) {
			t.Errorf("error %v, want that of the database", err)
		}
	})
}

func TestMigrationsOfADatabaseThatIsNotThere(t *testing.T) {
	t.Parallel()
	const nowhere = "postgres://ada@127.0.0.1:1/app"
	if err := postgres.Migrate(t.Context(), nowhere, quiet(t)); err == nil {
		t.Error("migrated up")
	}
	if err := postgres.MigrateDown(t.Context(), nowhere, true, quiet(t)); err == nil {
		t.Error("migrated down")
	}
	if _, err := postgres.MigrationStatus(t.Context(), nowhere, quiet(t)); err == nil {
		t.Error("read the status")
	}
}

// A migration that fails leaves the version before it, says which it was, and
// can be done again once the cause is gone.
func TestAFailedMigrationCanBeRepeated(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `CREATE TABLE memory_history ()`); err != nil {
		t.Fatal(err)
	}
	err = postgres.Migrate(t.Context(), url, quiet(t))
	if err == nil || !strings.Contains(err.Error(), "migrate up") || !strings.Contains(err.Error(), "version:4") {
		t.Errorf("error %v, want one that names the migration", err)
	}
	if n := applied(t, url); n != 3 {
		t.Errorf("%d migrations are applied, want 3", n)
	}
	if _, err := conn.Exec(t.Context(), `DROP TABLE memory_history`); err != nil {
		t.Fatal(err)
	}
	migrate(t, url)
	if _, err := conn.Exec(t.Context(), `CREATE VIEW mine AS SELECT FROM memory_history`); err != nil {
		t.Fatal(err)
	}
	if err := postgres.MigrateDown(t.Context(), url, true, quiet(t)); err == nil || !strings.Contains(err.Error(), "migrate down") {
		t.Errorf("error %v, want one about the view", err)
	}
}

// Indexes are built without a transaction, so what was begun before a failure stays: what is
// invalid or half there must not stay for ever.
func TestIndexesThatWereBrokenOffAreBuiltAgain(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	want := schema(t, url)
	down(t, url, false)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{
		`INSERT INTO events (source, event_id, digest, module, operation, record_id) SELECT 'zoho', n::text, sha256('a'), 'Deals', 'create', '1' FROM generate_series(1, 2) AS n`,
		`CREATE INDEX events_received_idx ON events (received_at)`, // one of a program that was not released
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	// What is left of one that failed: it was to be unique, and is invalid.
	if _, err := conn.Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY events_faults_idx ON events (record_id)`); err == nil {
		t.Fatal("two events of a record are one")
	}
	// A view of that name: the fourth of the indexes finds it in its way.
	if _, err := conn.Exec(t.Context(), `CREATE VIEW events_passed_idx AS SELECT 1 AS one`); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Migrate(t.Context(), url, quiet(t)); err == nil || !strings.Contains(err.Error(), "version:26") {
		t.Fatalf("error %v", err)
	}
	if _, err := conn.Exec(t.Context(), `DROP VIEW events_passed_idx`); err != nil {
		t.Fatal(err)
	}
	migrate(t, url)
	if diff := cmp.Diff(want, schema(t, url)); diff != "" {
		t.Errorf("the schema (-want +got):\n%s", diff)
	}
	if n := ask[int](t, url, `SELECT count(*)::int FROM pg_index WHERE NOT indisvalid`); n != 0 {
		t.Errorf("%d indexes are invalid", n)
	}
}

// Doctor asks for the status while somebody migrates: it neither waits nor is waited for.
func TestMigrationStatusTakesNoLock(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, lock.DefaultLockID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if list, err := postgres.MigrationStatus(ctx, url, quiet(t)); err != nil || len(list) == 0 {
		t.Errorf("%d migrations, %v", len(list), err)
	}
}
