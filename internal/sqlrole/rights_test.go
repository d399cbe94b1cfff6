package sqlrole

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// A column that is new is shown to nobody until somebody has decided whether it may be:
// this test fails until it stands in one of the two lists of rights.go.
func TestEveryColumnIsDecidedUpon(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	rows, err := pool.Query(t.Context(), `
		SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition`)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ table, name string }
	there, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) { return c, row.Scan(&c.table, &c.name) })
	if err != nil {
		t.Fatal(err)
	}
	decided := map[column]int{}
	for _, table := range tables {
		for _, name := range strings.Fields(table.shown + " " + table.hidden) {
			decided[column{table.name, name}]++
		}
	}
	for _, c := range there {
		if n := decided[c]; n != 1 {
			t.Errorf("rights.go names column %s of %s %d times: may people see it? name it once, under shown or hidden", c.name, c.table, n)
		}
		delete(decided, c)
	}
	for c := range decided {
		t.Errorf("rights.go names column %s of %s, which is not there", c.name, c.table)
	}
}

// own are views that the program reads itself.
var own = []string{"memories_to_copy"}

func TestEveryViewIsDecidedUponAndExplained(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	there := column(t, pool, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'`)
	for _, view := range there {
		if slices.Contains(views, view) == slices.Contains(own, view) {
			t.Errorf("view %s: may people see it? name it in rights.go or here", view)
		}
	}
	for _, view := range views {
		if !slices.Contains(there, view) {
			t.Errorf("rights.go names view %s, which is not there", view)
		}
	}
	for _, bare := range column(t, pool, `
		SELECT c.relname || coalesce('.' || a.attname, '') FROM pg_class c
		LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		     AND c.relname NOT IN ('event_timeline', 'dead_letters', 'delivery_health', 'sync_lag', 'sync_health') -- older than the comments
		WHERE c.relname = ANY ($1) AND c.relkind = 'v'
		  AND (obj_description(c.oid, 'pg_class') IS NULL OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)`, views) {
		t.Errorf("%s has no comment", bare)
	}
}

// A view has its owner's rights: what it shows is decided by what it is made of.
func TestNoViewIsMadeOfWhatIsHidden(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	var hidden []string
	for _, table := range tables {
		for _, name := range strings.Fields(table.hidden) {
			hidden = append(hidden, table.name+"."+name)
		}
	}
	// How the authorisation stands is no secret; all of its table is hidden, for most of it is.
	for _, harmless := range []string{"name", "state", "last_error", "updated_at"} {
		hidden = slices.DeleteFunc(hidden, func(c string) bool { return c == "zoho_tokens."+harmless })
	}
	for _, found := range column(t, pool, `
		SELECT DISTINCT v.relname || ' is made of ' || c.relname || '.' || a.attname
		FROM pg_class v JOIN pg_rewrite w ON w.ev_class = v.oid JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refobjsubid > 0
		JOIN pg_class c ON c.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
		WHERE v.relname = ANY ($1) AND c.relname || '.' || a.attname = ANY ($2)`, views, hidden) {
		t.Error(found)
	}
}

// The program's text of what a password is checked against is Postgres's own.
func TestThePasswordIsWhatPostgresWouldKeep(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	const password = "correct horse battery"
	var kept string
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `SET LOCAL password_encryption = 'scram-sha-256'; CREATE ROLE test_scram_`+t.Name()+` PASSWORD '`+password+`'`); err != nil {
			return err
		}
		if err := tx.QueryRow(t.Context(), `SELECT rolpassword FROM pg_authid WHERE rolname = lower('test_scram_' || $1)`, t.Name()).Scan(&kept); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `DROP ROLE test_scram_`+t.Name())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(kept, ":")
	text, _, _ := strings.Cut(rest, "$")
	salt, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	got, err := scramOf(password, salt)
	if err != nil || got != kept {
		t.Errorf("got %s, %v\nwant %s", got, err, kept)
	}
}

func column(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}
