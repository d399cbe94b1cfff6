package migrations_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/memrelay/memrelay/migrations"
)

var update = flag.Bool("update", false, "rewrite river/schema.sql")

// TestRiverSchemaIsTheOneQueriesAreCheckedAgainst keeps river/schema.sql, which
// only sqlc reads, equal to what River's migrations do, and RiverVersion equal
// to the newest that the linked River knows.
func TestRiverSchemaIsTheOneQueriesAreCheckedAgainst(t *testing.T) {
	t.Parallel()
	migrator, err := rivermigrate.New(riverpgxv5.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("-- River's tables, for sqlc alone: `go test ./migrations -update` writes this file.\n")
	newest := 0
	for _, v := range migrator.AllVersions() {
		newest = max(newest, v.Version)
		want.WriteString("\n" + strings.ReplaceAll(v.SQLUp, "/* TEMPLATE: schema */", "") + "\n")
	}
	if newest != migrations.RiverVersion {
		t.Errorf("the linked River knows schema version %d, RiverVersion is %d", newest, migrations.RiverVersion)
	}
	file := filepath.Join("river", "schema.sql")
	if *update {
		if err := os.WriteFile(file, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(got)); diff != "" {
		t.Errorf("river/schema.sql differs from River's migrations (-want +got):\n%s", diff)
	}
}
