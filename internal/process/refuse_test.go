package process

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/group"
)

// refusal is a fault of the database at one statement.
type refusal struct {
	table    string
	on       string // INSERT, UPDATE, DELETE
	state    string // SQLSTATE
	when     string // a condition over NEW; "": always, also when no row is changed
	atCommit bool
	hide     bool // the table is not there at all: for what only reads it
}

// refuse breaks the database until the returned function is called.
func (s *station) refuse(t *testing.T, r refusal) (mend func()) {
	t.Helper()
	table := pgx.Identifier{r.table}.Sanitize()
	if r.hide {
		s.exec(t, `ALTER TABLE `+table+` RENAME TO hidden`)
		return func() { t.Helper(); s.exec(t, `ALTER TABLE hidden RENAME TO `+table) }
	}
	s.exec(t, fmt.Sprintf(`CREATE OR REPLACE FUNCTION refuse_%s() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'refused on purpose' USING ERRCODE = '%s'; END $$`, r.table, r.state))
	call := fmt.Sprintf(`EXECUTE FUNCTION refuse_%s()`, r.table)
	switch {
	case r.atCommit:
		s.exec(t, fmt.Sprintf(`CREATE CONSTRAINT TRIGGER refuse AFTER %s ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW %s`, r.on, table, call))
	case r.when != "":
		s.exec(t, fmt.Sprintf(`CREATE TRIGGER refuse BEFORE %s ON %s FOR EACH ROW WHEN (%s) %s`, r.on, table, r.when, call))
	default:
		s.exec(t, fmt.Sprintf(`CREATE TRIGGER refuse BEFORE %s ON %s FOR EACH STATEMENT %s`, r.on, table, call))
	}
	return func() { t.Helper(); s.exec(t, `DROP TRIGGER refuse ON `+table) }
}

// hold locks rows in another transaction until the returned function is called.
func (s *station) hold(t *testing.T, query string) (release func()) {
	t.Helper()
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), query); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func errorsOf[R any](answers []group.Answer[R]) []error {
	errs := make([]error, len(answers))
	for i, a := range answers {
		errs[i] = a.Err
	}
	return errs
}

func equateErrors() cmp.Option { return cmpopts.EquateErrors() }

func ignoreTimes() cmp.Option { return cmpopts.IgnoreTypes(time.Time{}) }

var errWorld = errors.New("the world is down")

// sortedLines compares lists of text in any order.
func sortedLines() cmp.Option { return cmpopts.SortSlices(func(a, b string) bool { return a < b }) }

// cmpEmpty compares no lines and none.
func cmpEmpty() cmp.Option { return cmpopts.EquateEmpty() }
