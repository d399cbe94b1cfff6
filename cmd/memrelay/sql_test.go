package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/sqlrole"
)

// newRoleName is a name that no other test has: roles belong to the whole server.
func newRoleName(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:16])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if _, err := pool.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN IF to_regrole('%s') IS NOT NULL THEN DROP OWNED BY %s; DROP ROLE %s; END IF; END $$`, name, name, name)); err != nil {
			t.Error(err)
		}
	})
	return name
}

// connectAs connects to the same database as somebody else.
func connectAs(t *testing.T, url, name, password string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Password = name, password
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func TestSQLRoles(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	url := pool.Config().ConnString()
	name, other := newRoleName(t, pool), newRoleName(t, pool)

	made := command(t, url, "sql", "role", name)
	if made.code != exitDone || !regexp.MustCompile(`^[A-Za-z0-9_-]{32}\n$`).MatchString(made.out) {
		t.Fatalf("exit code %d, printed %q, said %q", made.code, made.out, made.err)
	}
	if want := "Role " + name + " sees all but secrets and changes nothing. Its password is shown this once:\n"; made.err != want {
		t.Errorf("said %q, want %q", made.err, want)
	}
	var n int
	if err := connectAs(t, url, name, strings.TrimSpace(made.out)).QueryRow(t.Context(), `SELECT count(*) FROM record_timeline`).Scan(&n); err != nil {
		t.Error(err)
	}
	if got, want := command(t, url, "sql", "role", name, "--operate").done(t), "Role "+name+" sees all but secrets, runs events again and discards dead letters.\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if diff := cmp.Diff(sqlrole.Made{Name: name}, decode[sqlrole.Made](t, command(t, url, "sql", "role", name, "--nologin", "--json"))); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}

	printed := command(t, url, "sql", "role", other, "--print")
	password, said := strings.CutPrefix(printed.err, "The password of "+other+" will be ")
	if printed.code != exitDone || !said || strings.Contains(printed.out, strings.TrimSpace(password)) {
		t.Fatalf("exit code %d, printed %q, said %q", printed.code, printed.out, printed.err)
	}
	if _, err := pool.Exec(t.Context(), printed.out); err != nil {
		t.Fatalf("%v\n%s", err, printed.out)
	}

	for _, role := range []string{name, other} {
		if got := command(t, url, "sql", "drop", role).done(t); got != "Role "+role+" dropped.\n" {
			t.Errorf("printed %q", got)
		}
	}
	var lines string
	if err := pool.QueryRow(t.Context(), `SELECT string_agg(action || ' ' || (actor LIKE 'command line, %')::text, '; ' ORDER BY id) FROM audit_log WHERE object LIKE 'role/%'`).Scan(&lines); err != nil {
		t.Fatal(err)
	}
	if want := "sql.role true; sql.role true; sql.role true; sql.role false; sql.drop true; sql.drop true"; lines != want {
		t.Errorf("audited %s, want %s", lines, want)
	}
}

func TestSQLRolesThatCannotBe(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	url := pool.Config().ConnString()
	reader := newRoleName(t, pool)
	made := command(t, url, "sql", "role", reader, "--operate")
	if made.code != exitDone {
		t.Fatal(made.err)
	}
	// Who asks is the role itself, which may make none.
	c := pool.Config().ConnConfig
	asReader := fmt.Sprintf("host=%s port=%d dbname=%s user=%s password=%s sslmode=disable", c.Host, c.Port, c.Database, reader, strings.TrimSpace(made.out))
	for what, c := range map[string]struct {
		url  string
		args []string
		code int
		says string
	}{
		"no name":                   {url, []string{"role"}, exitUsage, "<name>"},
		"a name that cannot be":     {url, []string{"role", "On-Call"}, exitUsage, "small letters"},
		"one to print, too":         {url, []string{"role", "On-Call", "--print"}, exitUsage, "small letters"},
		"nothing on stdin":          {url, []string{"role", "oncall", "--password-stdin"}, exitUsage, "no password on stdin"},
		"a role of nobody's":        {url, []string{"drop", "nobody_at_all"}, exitFailed, "no such role"},
		"a name of Postgres's":      {url, []string{"drop", "pg_monitor"}, exitUsage, "and not pg_"},
		"who may not, and the way":  {asReader, []string{"role", "oncall"}, exitFailed, "have somebody who may run what --print prints"},
		"no database to print for":  {"", []string{"role", "oncall", "--print"}, exitFailed, "DATABASE_URL"},
		"a database that is no URL": {"postgres://me:hush@:x/", []string{"role", "oncall", "--print"}, exitFailed, "not a URL"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			got := command(t, c.url, append([]string{"sql"}, c.args...)...)
			if got.code != c.code || !strings.Contains(got.err, c.says) || strings.Contains(got.err, "hush") {
				t.Errorf("exit code %d, printed %q, said %q; want %d and %q", got.code, got.out, got.err, c.code, c.says)
			}
		})
	}
}

// A webhook goes in, its life is asked for with SQL, it is run again with SQL, and a node works it.
func TestAReplayFromSQLIsWorked(t *testing.T) {
	t.Parallel()
	d := newDesk(t, ok)
	name := newRoleName(t, d.pool)
	made := command(t, d.url, "sql", "role", name, "--operate")
	if made.code != exitDone {
		t.Fatal(made.err)
	}
	operator := connectAs(t, d.url, name, strings.TrimSpace(made.out))
	d.send(t, "evt-1", `{"operation":"create","module":"Contacts","data":[{"id":"1","Last_Name":"Doe","Account_Name":{"id":"77"}}]}`).done(t)
	d.send(t, "evt-2", `{"operation":"create","module":"Leads","data":[{"id":"2","Last_Name":"Roe","Account_Name":{"id":"77"}}]}`).done(t)
	d.settled(t)

	if tag, err := operator.Exec(t.Context(), `SELECT * FROM memrelay_replay_many(ARRAY(SELECT id FROM events), 'the mapping was wrong')`); err != nil || tag.RowsAffected() != 2 {
		t.Fatalf("%s, %v", tag, err)
	}
	d.settled(t)
	remembered := []string{"memory: memory added", "outbound: told", "outbound: relayed", "outbound: attempt 1", "outbound: delivered"}
	again := []string{"operator: event.replay", "inbound: replayed", "process: routed", "process: processed"}
	for record, want := range map[string][]string{
		// What is remembered already is not told again; what was ignored is remembered now.
		"1": slices.Concat([]string{"inbound: received"}, remembered, again),
		"2": slices.Concat([]string{"inbound: received"}, again, remembered),
	} {
		rows, err := operator.Query(t.Context(), `SELECT station || ': ' || what FROM record_timeline WHERE record_id = $1 ORDER BY at, step`, record)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, steps); diff != "" {
			t.Errorf("the life of record %s (-want +got):\n%s", record, diff)
		}
	}
	if n := one[int](t, d.pool, `SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'backlog'`); n != 0 {
		t.Errorf("the backlog counter is %d with nothing waiting", n)
	}
}
