package localpg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// takeOver returns the server that runs on the cluster, whoever started it, or
// nil when there is none.
func (c *cluster) takeOver() (*Server, error) {
	pid, err := c.recordedPid()
	if err != nil || pid == 0 {
		return nil, err
	}
	if c.isServer(pid) {
		c.Log.Debug("postgres taken over", "pid", pid)
		return &Server{cluster: c, pid: pid}, nil
	}
	return nil, c.clearStale(pid)
}

// recordedPid reads postmaster.pid, which a running server keeps and a killed
// one leaves behind. 0 means there is none.
func (c *cluster) recordedPid() (int, error) {
	b, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for a running postgres: %w", err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return 0, nil // half written or empty; Postgres itself judges that
	}
	return pid, nil
}

// isServer reports whether the process is a server on this cluster. Its id
// alone proves nothing: after a reboot, and in a container soon, others have it.
func (c *cluster) isServer(pid int) bool {
	return strings.Contains(commandLine(pid)+" ", " "+c.data()+" ")
}

// clearStale removes the lock files of a dead server if its process id now
// belongs to something that is no Postgres. Postgres refuses to start then; it
// clears all other stale files itself, and knows better than we do when not to.
func (c *cluster) clearStale(pid int) error {
	now := commandLine(pid)
	if now == "" || strings.Contains(now, "postgres") || strings.Contains(now, "postmaster") {
		return nil
	}
	c.Log.Debug("lock files of a dead postgres removed", "pid", pid, "now", now)
	return errors.Join(
		removeIfThere(filepath.Join(c.data(), "postmaster.pid")),
		removeIfThere(filepath.Join(c.sockets, ".s.PGSQL."+port+".lock")),
	)
}

func removeIfThere(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove lock file of a dead postgres: %w", err)
	}
	return nil
}

// commandLine returns the words a process was started with, or "" when there is
// no such process or it has ended and only its parent has not noticed.
func commandLine(pid int) string {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
	}
	if _, err := os.Stat("/proc/self"); err == nil {
		return ""
	}
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output() //nolint:noctx // it prints a line and ends
	if err != nil {
		return "" // that is how ps says: no such process
	}
	return strings.TrimSpace(string(out))
}
