package localpg

import "strings"

// Remedy returns what to tell a person on this system who has no Postgres: all
// the ways to get one, as text of several lines without a final newline.
func Remedy(goos string) string {
	var ways []string
	switch goos {
	case "linux":
		ways = append(ways,
			"install it:         sudo apt install postgresql          (Debian, Ubuntu)",
			"                    sudo dnf install postgresql-server   (Fedora, RHEL)",
		)
	case "darwin":
		ways = append(ways, "install it:         brew install postgresql@17")
	}
	ways = append(ways,
		"or start Docker:    memrelay then runs "+image+" by itself",
		"or use your own:    DATABASE_URL=postgres://user:password@host:5432/database",
	)
	if goos != "windows" {
		ways = append(ways, "or show where:      "+binEnv+"=/folder/of/initdb/and/postgres")
	}
	return "memrelay needs a PostgreSQL server and found none on this machine. Any of these will do:\n  " +
		strings.Join(ways, "\n  ")
}
