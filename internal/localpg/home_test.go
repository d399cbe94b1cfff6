package localpg

import (
	"strings"
	"testing"
)

func TestDefaultHome(t *testing.T) {
	t.Parallel()
	home := map[string]string{"HOME": "/home/ada"}
	for name, c := range map[string]struct {
		goos string
		env  map[string]string
		uid  int
		want string // "" means an error
	}{
		"the setting wins":              {"linux", map[string]string{"MEMRELAY_HOME": "/srv/m", "HOME": "/home/ada"}, 0, "/srv/m"},
		"root's home is closed":         {"linux", map[string]string{"HOME": "/root"}, 0, "/var/lib/memrelay"},
		"linux":                         {"linux", home, 1000, "/home/ada/.local/share/memrelay"},
		"linux with a data folder":      {"linux", map[string]string{"HOME": "/home/ada", "XDG_DATA_HOME": "/data"}, 1000, "/data/memrelay"},
		"a relative one is ignored":     {"linux", map[string]string{"HOME": "/home/ada", "XDG_DATA_HOME": "data"}, 1000, "/home/ada/.local/share/memrelay"},
		"macOS":                         {"darwin", home, 501, "/home/ada/Library/Application Support/memrelay"},
		"no home":                       {"linux", nil, 1000, ""},
		"windows without a data folder": {"windows", nil, -1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := defaultHome(c.goos, env(c.env), c.uid)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestRemedyNamesEachWayOut(t *testing.T) {
	t.Parallel()
	for goos, want := range map[string][]string{
		"linux":   {"apt install", "dnf install", "Docker", "DATABASE_URL", binEnv},
		"darwin":  {"brew install", "Docker", "DATABASE_URL", binEnv},
		"windows": {"Docker", "DATABASE_URL"},
	} {
		for _, w := range want {
			if !strings.Contains(Remedy(goos), w) {
				t.Errorf("Remedy(%q) does not mention %s", goos, w)
			}
		}
	}
}
