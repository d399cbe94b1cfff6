package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNoBinaries means that no folder on this machine holds both initdb and
// postgres. [Remedy] says what a person can do about it.
var ErrNoBinaries = errors.New("no initdb and postgres on this machine")

// binEnv names the setting that overrides the search.
const binEnv = "MEMRELAY_POSTGRES_BIN"

// Find returns the folder with the newest initdb and postgres of this machine.
// MEMRELAY_POSTGRES_BIN decides when it is set, and is an error when it is
// wrong; otherwise PATH, pg_config and the folders that packagers use are
// searched. Without a find the error is [ErrNoBinaries].
func Find(getenv func(string) string) (binDir string, err error) {
	return find(getenv, packagedBins())
}

// packagedBins lists where distributions put the server. Most of them leave it
// out of PATH: Debian has only psql and pg_config there.
func packagedBins() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",                                       // Debian, Ubuntu
		"/usr/pgsql-*/bin",                                                // RHEL, Fedora (PGDG)
		"/usr/libexec/postgresql*",                                        // Alpine
		"/opt/homebrew/opt/postgresql@*/bin",                              // Homebrew on Apple silicon
		"/usr/local/opt/postgresql@*/bin",                                 // Homebrew on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",                 // Homebrew on Linux
		"/Applications/Postgres.app/Contents/Versions/*/bin",              // Postgres.app
		"/usr/local/pgsql/bin",                                            // built from source
		"/opt/local/lib/postgresql*/bin",                                  // MacPorts
		"/nix/var/nix/profiles/default/bin", "/run/current-system/sw/bin", // Nix
	}
}

func find(getenv func(string) string, globs []string) (string, error) {
	if dir := getenv(binEnv); dir != "" {
		if !holdsServer(dir) {
			return "", fmt.Errorf("%s=%s: no initdb and postgres in that folder", binEnv, dir)
		}
		return dir, nil
	}

	type install struct {
		dir     string
		version version
	}
	var found []install
	for _, dir := range candidates(getenv("PATH"), globs) {
		v, err := versionOf(context.Background(), filepath.Join(dir, "postgres"))
		if err != nil {
			continue // a wrapper or a leftover: not a server we could start
		}
		found = append(found, install{dir, v})
	}
	if len(found) == 0 {
		return "", ErrNoBinaries
	}
	newest := slices.MaxFunc(found, func(a, b install) int { return a.version.compare(b.version) })
	return newest.dir, nil
}

// candidates lists the folders that hold both programs, each once.
func candidates(path string, globs []string) []string {
	var dirs []string
	add := func(dir string) {
		if holdsServer(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // the current folder is no place to take programs from
		}
		// A link such as /usr/local/bin/postgres leads to a folder that has
		// initdb and the libraries beside it.
		if file, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
			add(filepath.Dir(file))
		}
		if out, err := exec.Command(filepath.Join(dir, "pg_config"), "--bindir").Output(); err == nil { //nolint:noctx // it prints a line and ends
			add(filepath.Clean(strings.TrimSpace(string(out))))
		}
	}
	for _, glob := range globs {
		matches, _ := filepath.Glob(glob) // the only error is a bad pattern, and the patterns are ours
		for _, dir := range matches {
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				add(real)
			}
		}
	}
	return dirs
}

func holdsServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

type version struct{ major, minor int }

func (v version) compare(w version) int {
	return cmp.Or(cmp.Compare(v.major, w.major), cmp.Compare(v.minor, w.minor))
}

// versionOf asks the program. It answers as root too, which only starting a
// server refuses.
func versionOf(ctx context.Context, postgres string) (version, error) {
	out, err := exec.CommandContext(ctx, postgres, "--version").Output()
	if err != nil {
		return version{}, fmt.Errorf("ask %s for its version: %w", postgres, err)
	}
	return parseVersion(string(out))
}

// parseVersion reads "postgres (PostgreSQL) 17.2 (Debian …)" and "… 18beta1".
func parseVersion(out string) (version, error) {
	m := regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`).FindStringSubmatch(out)
	if m == nil {
		return version{}, fmt.Errorf("read version from %q", out)
	}
	major, err := strconv.Atoi(m[1])
	if err != nil {
		return version{}, fmt.Errorf("read version from %q: %w", out, err)
	}
	minor, _ := strconv.Atoi(m[2]) // a beta has none
	return version{major, minor}, nil
}
