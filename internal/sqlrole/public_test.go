package sqlrole_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/sqlrole"
)

// Before Postgres 15 everybody could make functions where the program looks for its own.
func TestNoRoleWhereEverybodyMayMakeFunctions(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	roles, name, printed := sqlrole.New(pool, rand.Reader), newName(t, pool), newName(t, pool)
	if _, err := pool.Exec(t.Context(), `GRANT CREATE ON SCHEMA public TO PUBLIC`); err != nil {
		t.Fatal(err)
	}
	made, err := roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name})
	if !errors.Is(err, sqlrole.ErrOpen) || made != (sqlrole.Made{}) {
		t.Fatalf("made %+v, %v", made, err)
	}
	_, statements, _ := strings.Cut(err.Error(), "run\n")
	if !strings.Contains(statements, `REVOKE CREATE ON SCHEMA public FROM PUBLIC;`) {
		t.Errorf("it says %v", err)
	}
	if ask[bool](t, pool, t.Context(), `SELECT to_regrole($1) IS NOT NULL`, name) {
		t.Error("the role is there")
	}
	// What is said helps, and what is printed does it by itself.
	if _, err := pool.Exec(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
	if _, err := roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `GRANT CREATE ON SCHEMA public TO PUBLIC`); err != nil {
		t.Fatal(err)
	}
	sql, made, err := sqlrole.Print(sqlrole.Wish{Name: printed}, pool.Config().ConnConfig.Database, pool.Config().ConnConfig.User, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
	const shadow = `BEGIN READ WRITE; CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS 'SELECT current_user::text'`
	if _, err := as(t, pool, printed, made.Password).Exec(t.Context(), shadow); codeOf(err) != refused {
		t.Errorf("it puts a function in the program's way: %v", err)
	}
}

// disturbs is what a login of Postgres may do unless it is taken from all of them.
var disturbs = []string{
	`CREATE TEMPORARY TABLE mine AS SELECT 1`, `SELECT lo_create(0)`, `SELECT lo_creat(-1)`, `SELECT lo_from_bytea(0, '')`, `SELECT pg_notify('river_control', '{}')`,
	`SELECT pg_try_advisory_lock(1)`, `SELECT pg_advisory_lock(1, 2)`, `SELECT pg_advisory_xact_lock_shared(1)`,
	`SELECT pg_try_advisory_xact_lock(hashtextextended('memrelay sweep', 0))`,
}

func TestWhatASuperuserTakesFromAllLogins(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	admin, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	owner, name := newName(t, admin), newName(t, admin)
	database := admin.Config().ConnConfig.Database
	if _, err := admin.Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %s LOGIN CREATEROLE PASSWORD 'the owner of it all'; ALTER DATABASE %s OWNER TO %s; ALTER SCHEMA public OWNER TO %s`, owner, database, owner, owner)); err != nil {
		t.Fatal(err)
	}
	pool := as(t, admin, owner, "the owner of it all")
	if err := postgres.Migrate(t.Context(), urlOf(t, url, owner), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	sql, made, err := sqlrole.Print(sqlrole.Wish{Name: name}, database, owner, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	who := as(t, admin, name, made.Password)
	for _, sql := range disturbs {
		if _, err := who.Exec(t.Context(), `BEGIN READ WRITE; `+sql); err != nil {
			t.Errorf("before, and docs/sql.md says that it may: %s: %v", sql, err)
		}
	}
	_, comment, _ := strings.Cut(sql, "COMMIT;\n")
	var taken string
	for line := range strings.Lines(comment) {
		if statement := strings.TrimPrefix(line, "-- "); strings.HasSuffix(statement, ";\n") {
			taken += statement
		}
	}
	if _, err := admin.Exec(t.Context(), taken); err != nil {
		t.Fatalf("%v\n%s", err, taken)
	}
	who.Reset()
	for _, sql := range disturbs {
		if _, err := who.Exec(t.Context(), `BEGIN READ WRITE; `+sql); codeOf(err) != refused {
			t.Errorf("afterwards: %s: %v", sql, err)
		}
	}
	// A command and no function: no right says who may.
	if _, err := who.Exec(t.Context(), `NOTIFY river_control, '{}'`); err != nil {
		t.Errorf("docs/sql.md says that it may: %v", err)
	}
	// The program goes on.
	if n := len(list[bool](t, pool, `SELECT pg_try_advisory_xact_lock(1) UNION ALL SELECT pg_notify('a', '') IS NOT NULL`)); n != 2 {
		t.Errorf("%d rows", n)
	}
	if err := postgres.MigrateDown(t.Context(), urlOf(t, url, owner), false, slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
	if err := postgres.Migrate(t.Context(), urlOf(t, url, owner), slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}

	// The page says the same.
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "sql.md"))
	if err != nil {
		t.Fatal(err)
	}
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if want := squeeze(strings.NewReplacer(database, "memrelay", owner, "relay", `"`, "", "pg_catalog.", "").Replace(taken)); !strings.Contains(squeeze(string(page)), want) {
		t.Errorf("docs/sql.md does not say:\n%s", want)
	}
}
