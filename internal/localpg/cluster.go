package localpg

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// socketLimit is the longest path a Unix socket can have everywhere: 104 bytes
// on macOS and 108 on Linux, the final zero included.
const socketLimit = 103

// cluster is one data folder with all that is needed to run a server on it.
type cluster struct {
	Options
	user    account
	bin     string
	dir     string // <Dir>/pg<major>
	sockets string
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

// data is how a server is told from others, so it must never change its
// spelling: dir has its links resolved.
func (c *cluster) data() string { return c.path("data") }

// prepare makes the folders and finds out whether the server's user can use
// them and the programs.
func prepare(ctx context.Context, o Options) (*cluster, error) {
	c := &cluster{Options: o, bin: o.BinDir}
	var err error
	if c.user, err = serverUser(o.Getenv); err != nil {
		return nil, err
	}
	if c.bin == "" {
		if c.bin, err = Find(o.Getenv); err != nil {
			return nil, err
		}
	}
	// A relative folder would be looked for in the one the program runs in.
	if c.bin, err = filepath.Abs(c.bin); err != nil {
		return nil, fmt.Errorf("find postgres: %w", err)
	}
	home, err := makeHome(o.Dir)
	if err != nil {
		return nil, err
	}
	if err := c.user.trusts(home); err != nil {
		return nil, err
	}
	v, err := c.probe(ctx, home)
	if err != nil {
		return nil, err
	}
	c.dir = filepath.Join(home, "pg"+strconv.Itoa(v.major))
	if err := c.user.makeOwn(c.dir); err != nil {
		return nil, err
	}
	c.sockets = socketFolder(c.dir)
	return c, c.user.makeOwn(c.sockets)
}

// makeHome returns the folder with its links resolved. Others may enter it:
// the server often is another user, and its own folders inside are closed.
func makeHome(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = makeOpen(dir)
	}
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return "", fmt.Errorf("make the database's folder: %w", err)
	}
	return dir, nil
}

func makeOpen(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755) // whatever the umask says
}

// probe runs the program as the user it will run as, where it will run.
// Without it a folder that this user may not enter shows as "fork/exec
// …/initdb: permission denied", which blames the program.
func (c *cluster) probe(ctx context.Context, home string) (version, error) {
	out, err := c.command(ctx, "/", "postgres", "--version").Output()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // it was killed for that, which is all that its own error says
		}
		return version{}, fmt.Errorf("run %s as user %s: %w", filepath.Join(c.bin, "postgres"), c.user.name, err)
	}
	if c.command(ctx, home, "postgres", "--version").Run() != nil {
		if ctx.Err() != nil {
			return version{}, fmt.Errorf("look at the database's folder: %w", ctx.Err())
		}
		return version{}, fmt.Errorf("user %s, who runs the database, cannot enter %s: choose another folder or open this one to him", c.user.name, c.firstClosed(ctx, home))
	}
	return parseVersion(string(out))
}

// firstClosed returns the topmost folder on the way to dir that the server's
// user cannot enter.
func (c *cluster) firstClosed(ctx context.Context, dir string) string {
	if parent := filepath.Dir(dir); parent != dir && c.command(ctx, parent, "postgres", "--version").Run() != nil {
		return c.firstClosed(ctx, parent)
	}
	return dir
}

func socketFolder(dir string) string {
	near := filepath.Join(dir, "run")
	if len(filepath.Join(near, ".s.PGSQL."+port+".lock")) <= socketLimit {
		return near
	}
	// Not os.TempDir: on macOS that is long, and closed to other users.
	sum := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("/tmp/memrelay-%x", sum[:6])
}

// command is one of Postgres's programs, to be run as the server's user. Its
// messages are in English: start reads them.
func (c *cluster) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	cmd.SysProcAttr = c.user.attributes(false)
	return cmd
}

// create makes the cluster unless it is there. It grows under another name, so
// one that was interrupted never counts.
func (c *cluster) create(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(c.data(), "PG_VERSION")); err == nil {
		return nil
	}
	c.warnOfOthers()
	began := time.Now()
	growing := c.path("data.init")
	if err := os.RemoveAll(growing); err != nil {
		return fmt.Errorf("create database cluster: %w", err)
	}
	// The C locale is the one that every system has.
	args := []string{"-D", growing, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C"}
	if c.Throwaway {
		args = append(args, "--no-sync")
	}
	if out, err := c.command(ctx, c.dir, "initdb", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("create database cluster in %s: %w\n%s", c.dir, err, out)
	}
	if err := os.Rename(growing, c.data()); err != nil {
		return fmt.Errorf("create database cluster: %w", err)
	}
	c.Log.Debug("database cluster created", "dir", c.data(), "duration_ms", time.Since(began).Milliseconds())
	return nil
}

// warnOfOthers tells whoever has upgraded Postgres where the data went.
func (c *cluster) warnOfOthers() {
	others, _ := filepath.Glob(filepath.Join(c.Dir, "pg*", "data", "PG_VERSION"))
	for _, other := range others {
		c.Log.Warn("data of another version of Postgres is left alone", "dir", filepath.Dir(other), "new_dir", c.data())
	}
}

// start takes over the server that runs on the cluster, or starts one.
func (c *cluster) start(ctx context.Context) (*Server, error) {
	for {
		s, err := c.takeOver()
		if s == nil && err == nil {
			s, err = c.launch()
		}
		if err != nil {
			return nil, err
		}
		err = s.waitUntilAnswers(ctx)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errEnded) {
			err = fmt.Errorf("wait for postgres in %s: %w", c.data(), err)
			if s.exited != nil { // ours, and nobody would ever stop it
				err = errors.Join(err, s.StopImmediately(ctx))
			}
			return nil, err
		}
		if s.said != nil && !s.said.passing() {
			return nil, fmt.Errorf("start postgres in %s: it said:\n%s", c.data(), s.said)
		}
		// One is just ending, or processes of a killed one are. Ask again.
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("start postgres in %s: %w", c.data(), ctx.Err())
		case <-time.After(5 * lookEvery):
		}
	}
}

// launch starts a server as a child of this process, in the foreground: pg_ctl
// would take its messages and its process id from us. That ctx does not reach
// the child is intended; it would be killed the hard way.
func (c *cluster) launch() (*Server, error) {
	cmd := c.command(context.Background(), c.dir, "postgres", c.serverArgs()...)
	cmd.SysProcAttr = c.user.attributes(c.OwnGroup)
	said := &tail{log: c.Log}
	cmd.Stderr = said
	cmd.WaitDelay = time.Second // when it is killed, its children hold the pipe a little longer
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	s := &Server{cluster: c, pid: cmd.Process.Pid, exited: make(chan struct{}), said: said}
	go func() {
		defer close(s.exited)
		err := cmd.Wait()
		c.Log.Debug("postgres ended", "pid", s.pid, "err", err)
	}()
	return s, nil
}

func (c *cluster) serverArgs() []string {
	settings := []string{
		"listen_addresses=",
		"unix_socket_directories=" + c.sockets,
		"unix_socket_permissions=0700",
		"port=" + port,
		"max_connections=" + strconv.Itoa(c.MaxConnections),
		"shared_buffers=128MB",
		"timezone=UTC",
		"jit=off", // compiling costs more than any query of ours takes
	}
	if c.Throwaway {
		settings = append(settings,
			"fsync=off", "synchronous_commit=off", "full_page_writes=off",
			"wal_level=minimal", "max_wal_senders=0",
			// It may lie in main memory: keep the log small.
			"max_wal_size=256MB", "min_wal_size=32MB",
		)
	} else {
		settings = append(settings, "autovacuum_naptime=10s") // queues want it often
	}
	args := []string{"-D", c.data()}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return args
}

// tail passes on what a server says, line by line, and keeps the last lines for
// the error in case it does not start.
type tail struct {
	log *slog.Logger

	mu   sync.Mutex
	rest string
	last []string
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(t.rest+string(p), "\n")
	t.rest = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		t.log.Debug("postgres", "said", line)
		t.last = append(t.last, line)
	}
	t.last = t.last[max(0, len(t.last)-20):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(strings.Join(append(t.last, t.rest), "\n"))
}

// passing reports whether the server did not start for a reason that goes away
// by itself: what is left of one that was killed.
func (t *tail) passing() bool {
	return strings.Contains(t.String(), "is still in use")
}
