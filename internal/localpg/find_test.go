package localpg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// install puts programs into dir that claim to be this version of Postgres.
func install(t *testing.T, dir, says string, programs ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", says)
		if err := os.WriteFile(filepath.Join(dir, p), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func TestFindPrefersTheHighestVersion(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	globs := []string{filepath.Join(root, "*", "bin")}
	install(t, filepath.Join(root, "9", "bin"), "postgres (PostgreSQL) 9.6.24", "initdb", "postgres")
	install(t, filepath.Join(root, "15", "bin"), "postgres (PostgreSQL) 15.20 (Debian)", "initdb", "postgres")
	want := install(t, filepath.Join(root, "17", "bin"), "postgres (PostgreSQL) 17.10", "initdb", "postgres")
	onPath := install(t, filepath.Join(root, "path"), "postgres (PostgreSQL) 17.9", "initdb", "postgres")
	install(t, filepath.Join(root, "18", "bin"), "postgres (PostgreSQL) 18.1", "postgres")        // no initdb
	install(t, filepath.Join(root, "99", "bin"), "no cluster of this kind", "initdb", "postgres") // a wrapper

	got, err := find(env(map[string]string{"PATH": onPath}), globs)
	if err != nil || got != want {
		t.Errorf("find = %s, %v; want %s", got, err, want)
	}
}

func TestFindLooksWherePathAndPgConfigLead(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := install(t, filepath.Join(root, "server"), "postgres (PostgreSQL) 18beta1", "initdb", "postgres")

	linked := filepath.Join(root, "linked")
	if err := os.Mkdir(linked, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(want, "postgres"), filepath.Join(linked, "postgres")); err != nil {
		t.Fatal(err)
	}
	told := install(t, filepath.Join(root, "told"), want, "pg_config")

	for _, path := range []string{linked, told} {
		got, err := find(env(map[string]string{"PATH": "." + string(os.PathListSeparator) + path}), nil)
		if err != nil || got != want {
			t.Errorf("find with PATH %s = %s, %v; want %s", path, got, err, want)
		}
	}
}

func TestFindFollowsTheSetting(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	newer := install(t, filepath.Join(root, "newer"), "postgres (PostgreSQL) 18.1", "initdb", "postgres")
	chosen := install(t, filepath.Join(root, "chosen"), "postgres (PostgreSQL) 15.1", "initdb", "postgres")

	got, err := find(env(map[string]string{"PATH": newer, binEnv: chosen}), nil)
	if err != nil || got != chosen {
		t.Errorf("find = %s, %v; want %s", got, err, chosen)
	}
	// A wrong setting is not "nothing found": the caller would then go on
	// to Docker and the person would never hear of it.
	_, err = find(env(map[string]string{"PATH": newer, binEnv: root}), nil)
	if err == nil || errors.Is(err, ErrNoBinaries) {
		t.Errorf("find with a wrong setting: %v", err)
	}
}

func TestFindNothing(t *testing.T) {
	t.Parallel()
	if dir, err := find(env(nil), nil); !errors.Is(err, ErrNoBinaries) {
		t.Errorf("find = %s, %v; want ErrNoBinaries", dir, err)
	}
}
