package sqlrole_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/sqlrole"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// refused is what Postgres says to who has no right.
const refused = "42501"

// newStory returns a database in which the story of testdata/story.sql has happened.
func newStory(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool := dbtest.New(t)
	tell(t, pool, "story.sql")
	return pool
}

func tell(t testing.TB, pool *pgxpool.Pool, file string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), string(text)); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// newName is a name that no other test has: roles belong to the whole server.
func newName(t testing.TB, pool *pgxpool.Pool) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:16])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if !ask[bool](t, pool, ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, name) {
			return
		}
		if _, err := pool.Exec(ctx, `REASSIGN OWNED BY `+name+` TO CURRENT_USER; DROP OWNED BY `+name+`; DROP ROLE `+name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// newRole makes a role and connects as it.
func newRole(t testing.TB, pool *pgxpool.Pool, operate bool) (string, *pgxpool.Pool) {
	t.Helper()
	w := sqlrole.Wish{Name: newName(t, pool), Operate: operate}
	made, err := sqlrole.New(pool, rand.Reader).Create(t.Context(), "ada", w)
	if err != nil {
		t.Fatal(err)
	}
	return w.Name, as(t, pool, w.Name, made.Password)
}

// as connects to the pool's database as somebody else, until the test ends.
func as(t testing.TB, pool *pgxpool.Pool, name, password string) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	config.ConnConfig.User, config.ConnConfig.Password = name, password
	config.MaxConns = 2
	other, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	return other
}

func ask[T any](t testing.TB, pool *pgxpool.Pool, ctx context.Context, sql string, args ...any) (v T) {
	t.Helper()
	if err := pool.QueryRow(ctx, sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func list[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) []T {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

// texts asks as psql does, and returns the rows as text, "|" between columns.
func texts(ctx context.Context, pool *pgxpool.Pool, sql string) ([]string, error) {
	rows, err := pool.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var columns []string
		for _, v := range rows.RawValues() {
			columns = append(columns, string(v))
		}
		all = append(all, strings.Join(columns, "|"))
	}
	return all, rows.Err()
}

// codeOf is the SQLSTATE of an error, "" of one that Postgres has not sent.
func codeOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// query is a block of docs/sql.md under its heading.
type query struct{ heading, sql string }

func queries(t testing.TB) []query {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "sql.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []query
	for _, section := range strings.Split(string(page), "\n### ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		for _, block := range regexp.MustCompile("(?s)\n```sql\n(.*?)```").FindAllStringSubmatch(text, -1) {
			all = append(all, query{heading, block[1]})
		}
	}
	if blocks := strings.Count(string(page), "```sql\n"); len(all) != blocks || blocks == 0 {
		t.Fatalf("%d of %d queries stand under a heading", len(all), blocks)
	}
	return all
}

// mends reports whether a query changes something.
func (q query) mends() bool {
	return strings.Contains(q.sql, "memrelay_replay") || strings.Contains(q.sql, "memrelay_discard(")
}
