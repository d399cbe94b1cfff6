package localpg

import (
	"errors"
	"path/filepath"
	"runtime"
)

// DefaultHome returns the folder in which memrelay keeps the data of this user:
// MEMRELAY_HOME if set, else where the system wants such data. For root it is
// one that the database's user can enter, which root's own home is not. Nothing
// is created.
func DefaultHome(getenv func(string) string, uid int) (string, error) {
	return defaultHome(runtime.GOOS, getenv, uid)
}

func defaultHome(goos string, getenv func(string) string, uid int) (string, error) {
	if home := getenv("MEMRELAY_HOME"); home != "" {
		return home, nil
	}
	if uid == 0 {
		return "/var/lib/memrelay", nil
	}
	if goos == "windows" {
		if data := getenv("LOCALAPPDATA"); data != "" {
			return filepath.Join(data, "memrelay"), nil
		}
		return "", errors.New("no place for data: set MEMRELAY_HOME or LOCALAPPDATA")
	}
	// The specification wants a relative XDG_DATA_HOME ignored.
	if data := getenv("XDG_DATA_HOME"); filepath.IsAbs(data) && goos != "darwin" {
		return filepath.Join(data, "memrelay"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("no place for data: set MEMRELAY_HOME or HOME")
	}
	if goos == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "memrelay"), nil
	}
	return filepath.Join(home, ".local", "share", "memrelay"), nil
}
