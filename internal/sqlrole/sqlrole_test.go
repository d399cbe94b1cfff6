package sqlrole_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/sqlrole"
)

// rightsOf are all rights that a role has been given in this database.
func rightsOf(t *testing.T, pool *pgxpool.Pool, name string) []string {
	t.Helper()
	return list[string](t, pool, `
		SELECT x.kind || ' ' || x.what || ' ' || a.privilege_type FROM (
			SELECT 'relation', relname::text, relacl FROM pg_class
			UNION ALL SELECT 'column', attrelid::regclass || '.' || attname, attacl FROM pg_attribute
			UNION ALL SELECT 'function', oid::regprocedure::text, proacl FROM pg_proc
			UNION ALL SELECT 'schema', nspname, nspacl FROM pg_namespace
			UNION ALL SELECT 'database', 'this', datacl FROM pg_database WHERE datname = current_database()
		) AS x (kind, what, acl), aclexplode(x.acl) AS a
		WHERE a.grantee = $1::regrole ORDER BY 1`, name)
}

// auditOf is what audit_log says of a role.
func auditOf(t *testing.T, pool *pgxpool.Pool, name string) []string {
	t.Helper()
	return list[string](t, pool, `SELECT format('%s %s %s', actor, action, details) FROM audit_log WHERE object = 'role/' || $1::text ORDER BY id`, name)
}

func TestTheLifeOfARole(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	roles, name := sqlrole.New(pool, rand.Reader), newName(t, pool)

	made, err := roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Password) != 32 {
		t.Errorf("the password is %d characters long, want 32", len(made.Password))
	}
	password := made.Password
	made.Password = ""
	if diff := cmp.Diff(sqlrole.Made{Name: name, Created: true, Login: true}, made); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	first := rightsOf(t, pool, name)
	if len(first) < 300 {
		t.Errorf("%d rights, want some hundreds", len(first))
	}
	who := as(t, pool, name, password)
	for setting, want := range map[string]string{"default_transaction_read_only": "on", "statement_timeout": "30s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "1min"} {
		if got := ask[string](t, who, t.Context(), `SELECT current_setting($1)`, setting); got != want {
			t.Errorf("%s is %s, want %s", setting, got, want)
		}
	}
	kept := ask[string](t, pool, t.Context(), `SELECT rolpassword || rolconnlimit || rolcanlogin || rolsuper || rolcreaterole || rolcreatedb FROM pg_authid WHERE rolname = $1`, name)
	if !strings.HasPrefix(kept, "SCRAM-SHA-256$4096:") || !strings.HasSuffix(kept, "5truefalsefalsefalse") || strings.Contains(kept, password) {
		t.Errorf("the server keeps %s", kept)
	}

	// Made again it may more, and then what it might at first, whatever others gave it.
	if made, err = roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name, Operate: true}); err != nil || made.Created || made.Password != "" {
		t.Fatalf("made %+v, %v", made, err)
	}
	more := rightsOf(t, pool, name)
	if diff := cmp.Diff(len(first)+3, len(more)); diff != "" {
		t.Errorf("rights of an operator (-want +got):\n%s", diff)
	}
	if _, err := pool.Exec(t.Context(), fmt.Sprintf(`GRANT SELECT (url) ON endpoints TO %s; GRANT INSERT ON events TO %s`, name, name)); err != nil {
		t.Fatal(err)
	}
	if _, err := roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, rightsOf(t, pool, name)); diff != "" {
		t.Errorf("rights in the end (-want +got):\n%s", diff)
	}
	if again := ask[string](t, pool, t.Context(), `SELECT rolpassword || rolconnlimit || rolcanlogin || rolsuper || rolcreaterole || rolcreatedb FROM pg_authid WHERE rolname = $1`, name); again != kept {
		t.Error("the password is another one")
	}

	if err := roles.Drop(t.Context(), "ada", name); err != nil {
		t.Fatal(err)
	}
	if err := roles.Drop(t.Context(), "ada", name); !errors.Is(err, sqlrole.ErrNotFound) {
		t.Errorf("dropped twice: %v", err)
	}
	if diff := cmp.Diff([]string{
		`ada sql.role {"login": true, "created": true, "operate": false}`, `ada sql.role {"login": true, "created": false, "operate": true}`,
		`ada sql.role {"login": true, "created": false, "operate": false}`, `ada sql.drop {}`,
	}, auditOf(t, pool, name)); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

func TestPasswordsAndMembers(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	roles, name := sqlrole.New(pool, rand.Reader), newName(t, pool)
	if made, err := roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name, NoLogin: true}); err != nil || made.Password != "" || made.Login {
		t.Fatalf("made %+v, %v", made, err)
	}
	if ask[bool](t, pool, t.Context(), `SELECT rolcanlogin OR rolpassword IS NOT NULL FROM pg_authid WHERE rolname = $1`, name) {
		t.Error("somebody can log in")
	}
	// One's own password, and then another one.
	seen := map[string]bool{}
	for _, password := range []string{"correct horse battery", "staple correct horse"} {
		if made, err := roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name, Password: password}); err != nil || made.Password != "" || !made.Login {
			t.Fatalf("made %+v, %v", made, err)
		}
		seen[ask[string](t, pool, t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname = $1`, name)] = true
	}
	if len(seen) != 2 {
		t.Error("the password has not changed")
	}
}

func TestRolesThatCannotBe(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	roles, theirs := sqlrole.New(pool, rand.Reader), newName(t, pool)
	if _, err := pool.Exec(t.Context(), `CREATE ROLE `+theirs); err != nil {
		t.Fatal(err)
	}
	_, reader := newRole(t, pool, false)
	for what, c := range map[string]struct {
		roles *sqlrole.Roles
		wish  sqlrole.Wish
		want  error
	}{
		"no name":                        {roles, sqlrole.Wish{}, sqlrole.ErrInvalid},
		"a name to be quoted":            {roles, sqlrole.Wish{Name: `a"; DROP TABLE events; --`}, sqlrole.ErrInvalid},
		"a name in capitals":             {roles, sqlrole.Wish{Name: "OnCall"}, sqlrole.ErrInvalid},
		"a name of Postgres's":           {roles, sqlrole.Wish{Name: "pg_monitor"}, sqlrole.ErrInvalid},
		"a name too long":                {roles, sqlrole.Wish{Name: strings.Repeat("a", 64)}, sqlrole.ErrInvalid},
		"a short password":               {roles, sqlrole.Wish{Name: "a", Password: "short"}, sqlrole.ErrInvalid},
		"a password with an umlaut":      {roles, sqlrole.Wish{Name: "a", Password: "lüttje lage und korn"}, sqlrole.ErrInvalid},
		"a password of nobody":           {roles, sqlrole.Wish{Name: "a", Password: "correct horse battery", NoLogin: true}, sqlrole.ErrInvalid},
		"somebody else's role":           {roles, sqlrole.Wish{Name: theirs}, sqlrole.ErrNotOurs},
		"asked for by who may make none": {sqlrole.New(reader, rand.Reader), sqlrole.Wish{Name: newName(t, pool)}, sqlrole.ErrMayNot},
	} {
		if made, err := c.roles.Create(t.Context(), "ada", c.wish); !errors.Is(err, c.want) || made != (sqlrole.Made{}) {
			t.Errorf("%s: made %+v, %v; want %v", what, made, err, c.want)
		}
	}
	if err := roles.Drop(t.Context(), "ada", theirs); !errors.Is(err, sqlrole.ErrNotOurs) {
		t.Errorf("dropped somebody else's role: %v", err)
	}
	if err := roles.Drop(t.Context(), "ada", "pg_monitor"); !errors.Is(err, sqlrole.ErrInvalid) {
		t.Errorf("dropped Postgres's role: %v", err)
	}
}

func TestARoleThatIsNotAuditedIsNotMade(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	if _, err := pool.Exec(t.Context(), `ALTER TABLE audit_log ADD CHECK (action <> 'sql.role')`); err != nil {
		t.Fatal(err)
	}
	name := newName(t, pool)
	if _, err := sqlrole.New(pool, rand.Reader).Create(t.Context(), "ada", sqlrole.Wish{Name: name}); codeOf(err) != "23514" {
		t.Fatalf("error %v", err)
	}
	if ask[bool](t, pool, t.Context(), `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, name) {
		t.Error("it is there")
	}
}

// What is printed makes the same role that Create makes.
func TestPrintedIsWhatIsDone(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	for _, w := range []sqlrole.Wish{{}, {Operate: true}, {NoLogin: true}} {
		done, printed := w, w
		done.Name, printed.Name = newName(t, pool), newName(t, pool)
		if _, err := sqlrole.New(pool, rand.Reader).Create(t.Context(), "ada", done); err != nil {
			t.Fatal(err)
		}
		sql, made, err := sqlrole.Print(printed, pool.Config().ConnConfig.Database, pool.Config().ConnConfig.User, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if (made.Password == "") != w.NoLogin || (made.Password != "" && strings.Contains(sql, made.Password)) {
			t.Errorf("password %q in:\n%s", made.Password, sql)
		}
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
		if diff := cmp.Diff(rightsOf(t, pool, done.Name), rightsOf(t, pool, printed.Name)); diff != "" {
			t.Errorf("rights (-done +printed):\n%s", diff)
		}
		const role = `SELECT format('%s %s %s %s %s', r.rolcanlogin, r.rolconnlimit, r.rolpassword IS NULL, s.setconfig, shobj_description(r.oid, 'pg_authid'))
			FROM pg_authid r LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid WHERE r.rolname = $1`
		if diff := cmp.Diff(list[string](t, pool, role, done.Name), list[string](t, pool, role, printed.Name)); diff != "" {
			t.Errorf("role (-done +printed):\n%s", diff)
		}
		if diff := cmp.Diff(strings.TrimPrefix(auditOf(t, pool, done.Name)[0], "ada "), strings.TrimPrefix(auditOf(t, pool, printed.Name)[0], "sql, "+pool.Config().ConnConfig.User+" ")); diff != "" {
			t.Errorf("audit (-done +printed):\n%s", diff)
		}
	}
}

// The program's own role is no superuser where people are careful: it owns the tables
// and may make roles.
func TestAnOwnerWhoMayMakeRolesIsEnough(t *testing.T) {
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
	tell(t, pool, "story.sql")
	roles := sqlrole.New(pool, rand.Reader)
	for range 2 {
		if _, err := roles.Create(t.Context(), "ada", sqlrole.Wish{Name: name, Operate: true, Password: "correct horse battery"}); err != nil {
			t.Fatal(err)
		}
	}
	operator := as(t, pool, name, "correct horse battery")
	if n := ask[int](t, operator, t.Context(), `SELECT count(*) FROM memrelay_replay_many(ARRAY[7]) WHERE refused IS NULL`); n != 1 {
		t.Error("event 7 was not run again")
	}
	operator.Close()
	if err := roles.Drop(t.Context(), "ada", name); err != nil {
		t.Fatal(err)
	}
}

// urlOf is the same database as somebody else.
func urlOf(t *testing.T, url, user string) string {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c := config.ConnConfig
	return fmt.Sprintf("host=%s port=%d dbname=%s user=%s password='the owner of it all' sslmode=disable", c.Host, c.Port, c.Database, user)
}

// What a role can try with all its might: it is refused, not only out of its way.
func TestARoleChangesNothing(t *testing.T) {
	t.Parallel()
	pool := newStory(t)
	for _, operate := range []bool{false, true} {
		name, who := newRole(t, pool, operate)
		if _, err := who.Exec(t.Context(), `UPDATE events SET status = 'processed'`); !operate && codeOf(err) != "25006" && codeOf(err) != refused {
			t.Errorf("in a session as it begins: %v", err)
		}
		for _, sql := range []string{
			`INSERT INTO audit_log (actor, action, object) VALUES ('me', 'a', 'b')`, `UPDATE events SET status = 'processed'`, `DELETE FROM deliveries`, `TRUNCATE outbox`,
			`CREATE TABLE mine ()`, `DROP VIEW record_timeline`, `ALTER TABLE events ADD COLUMN mine int`, `UPDATE sync_lag SET account_id = ''`, `DELETE FROM record_timeline`,
			`SELECT nextval('events_id_seq')`, `INSERT INTO river_job (kind, max_attempts) VALUES ('relay', 1)`, `SELECT * FROM events FOR UPDATE`,
			`CREATE ROLE mine`, `GRANT SELECT ON events TO PUBLIC`, `COPY events TO PROGRAM 'cat'`, `SELECT pg_read_file('postgresql.conf')`, `SET ROLE postgres`,
		} {
			_, err := who.Exec(t.Context(), `BEGIN READ WRITE; `+sql)
			if codeOf(err) == "" || strings.HasPrefix(codeOf(err), "08") {
				t.Errorf("operate %t: %s: %v", operate, sql, err)
			}
		}
		if can := list[string](t, pool, `
			SELECT c.relname || ' ' || p FROM pg_class c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
			WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND has_table_privilege($1, c.oid, p)`, name); len(can) > 0 {
			t.Errorf("operate %t: it may %v", operate, can)
		}
		// What runs with its owner's rights runs for operators alone.
		var want []string
		if operate {
			want = []string{"memrelay_discard(text,text)", "memrelay_replay(bigint,text,integer)", "memrelay_replay_many(bigint[],text,integer)"}
		}
		got := list[string](t, pool, `SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace AND has_function_privilege($1, p.oid, 'EXECUTE') ORDER BY 1`, name)
		if diff := cmp.Diff(len(want), len(got)); diff != "" || len(want) > 0 && cmp.Diff(want, got) != "" {
			t.Errorf("operate %t: may call %v, want %v", operate, got, want)
		}
	}
	if n := ask[int](t, pool, t.Context(), `SELECT count(*) FROM pg_proc p WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace AND (p.proconfig IS NULL OR p.proconfig::text NOT LIKE '%search_path=pg_catalog, pg_temp%')`); n != 0 {
		t.Errorf("%d functions with their owner's rights look for names where others may put some", n)
	}
}

// Secrets stand in the story; a role that reads all it may read finds none of them.
func TestARoleSeesNoSecret(t *testing.T) {
	t.Parallel()
	pool := newStory(t)
	name, who := newRole(t, pool, true)
	var seen bytes.Buffer
	for _, view := range list[string](t, pool, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' AND has_table_privilege($1, oid, 'SELECT')`, name) {
		read(t, who, &seen, `SELECT * FROM `+view)
	}
	for _, table := range list[string](t, pool, `
		SELECT format('SELECT %s FROM %I', string_agg(quote_ident(a.attname), ', '), c.relname)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND has_column_privilege($1, c.oid, a.attnum, 'SELECT') GROUP BY c.oid`, name) {
		read(t, who, &seen, table)
	}
	if !bytes.Contains(seen.Bytes(), []byte("jane@example.com")) || !bytes.Contains(seen.Bytes(), []byte("the birthday is no date")) {
		t.Error("not even what it may see")
	}
	for _, secret := range []string{"the-key-in-the-url", "the-sealed-secret", "the-token-in-a-body", "the-refresh-token", "the-access-token", "the-key-of-the-door", "the-client"} {
		if bytes.Contains(seen.Bytes(), []byte(secret)) || bytes.Contains(seen.Bytes(), []byte(hex.EncodeToString([]byte(secret)))) {
			t.Errorf("it sees %s", secret)
		}
	}
	for _, hash := range list[string](t, pool, `SELECT encode(token_hash, 'hex') FROM channel_tokens UNION ALL SELECT encode(hash, 'hex') FROM api_tokens UNION ALL SELECT encode(grant_digest, 'hex') FROM zoho_tokens`) {
		if bytes.Contains(seen.Bytes(), []byte(hash)) {
			t.Errorf("it sees the hash %s", hash)
		}
	}
	for _, sql := range []string{`SELECT url FROM endpoints`, `SELECT * FROM endpoints`, `SELECT sealed FROM endpoints`, `SELECT hash FROM api_tokens`, `SELECT token_hash FROM channel_tokens`,
		`SELECT state FROM zoho_tokens`, `SELECT body FROM event_bodies`, `SELECT body FROM event_bodies_other`, `SELECT answer FROM idempotency_keys`, `SELECT rolpassword FROM pg_authid`,
		`SELECT checksum FROM memories_to_copy`} {
		if _, err := texts(t.Context(), who, sql); codeOf(err) != refused {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func read(t *testing.T, who *pgxpool.Pool, into *bytes.Buffer, sql string) {
	t.Helper()
	rows, err := texts(context.WithoutCancel(t.Context()), who, sql)
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	into.WriteString(strings.Join(rows, "\n") + "\n")
}
