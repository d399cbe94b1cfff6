package migrations_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/memrelay/memrelay/migrations"
)

// The door waits for whoever builds an index of these in a transaction, for as long as
// that takes. event_bodies has partitions, where it cannot be otherwise: docs/upgrading.md
// says what that costs.
func TestIndexesOfLargeTablesAreBuiltBesideTheirWriters(t *testing.T) {
	t.Parallel()
	index := regexp.MustCompile(`(?s)CREATE (UNIQUE )?INDEX (CONCURRENTLY )?(?:IF NOT EXISTS )?(\w+)\s+ON (\w+)`)
	const large = " events deliveries delivery_attempts outbox memories memory_history records event_runs "
	files, err := migrations.Files.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		if file.Name() < "00022" {
			continue // with the tables themselves, or before there was a release
		}
		text, err := migrations.Files.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		for _, m := range index.FindAllStringSubmatch(up, -1) {
			if !strings.Contains(large, " "+m[4]+" ") {
				continue
			}
			found++
			if m[2] == "" {
				t.Errorf("%s: %s on %s keeps writers waiting: build it CONCURRENTLY, in a file with NO TRANSACTION", file.Name(), m[3], m[4])
			}
			if !strings.Contains(up, "DROP INDEX CONCURRENTLY IF EXISTS "+m[3]+";") {
				t.Errorf("%s: %s stays invalid when its building is broken off: drop it first", file.Name(), m[3])
			}
		}
	}
	if found == 0 {
		t.Error("no index was looked at")
	}
}
