//go:build unix

package localpg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// folder returns a short one that every user may enter: t.TempDir is closed,
// and as root the server runs as somebody else.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(ThrowawayHome(), "localpg")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// made creates one cluster for the many tests that need one that is not new.
// Creating costs most of a second, copying very little.
var made = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp(ThrowawayHome(), "localpg"); err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return dir, err
	}
	s, err := Start(context.Background(), Options{Dir: dir, Throwaway: true})
	if err != nil {
		return dir, err
	}
	return dir, s.Stop(context.Background())
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := made(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// copied returns a folder with a cluster in it.
func copied(t *testing.T) string {
	t.Helper()
	from, err := made()
	if errors.Is(err, ErrNoBinaries) {
		t.Skip("needs initdb and postgres, which this machine does not have")
	}
	if err != nil {
		t.Fatal(err)
	}
	to := folder(t)
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	return to
}

func options(t *testing.T, dir string) Options {
	return Options{Dir: dir, Throwaway: true, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

// start skips where no server can be had. The server is gone after the test.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	began := time.Now()
	s, err := Start(t.Context(), o)
	if errors.Is(err, ErrNoBinaries) {
		t.Skip("needs initdb and postgres, which this machine does not have")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %v", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := s.StopImmediately(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func query[T any](t *testing.T, s *Server, sql string) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestDataOutlivesTheServer(t *testing.T) {
	t.Parallel()
	o := options(t, folder(t))
	o.Throwaway = false
	o.MaxConnections = 17
	o.OwnGroup = true

	s := start(t, o)
	if got := query[string](t, s, `SELECT current_setting('max_connections')`); got != "17" {
		t.Errorf("max_connections = %s, want 17", got)
	}
	if got := query[string](t, s, `SELECT current_setting('fsync') || current_setting('synchronous_commit')`); got != "onon" {
		t.Errorf("fsync, synchronous_commit = %s, want on", got)
	}
	if got := query[string](t, s, `SELECT current_setting('server_encoding') || ' ' || datcollate FROM pg_database WHERE datname = 'postgres'`); got != "UTF8 C" {
		t.Errorf("encoding, locale = %s", got)
	}
	if group, err := syscall.Getpgid(s.Pid()); err != nil || group != s.Pid() {
		t.Errorf("process group %d, %v; want its own, %d", group, err, s.Pid())
	}
	execute(t, s, `CREATE TABLE kept AS SELECT 42 AS n`)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stop a second time: %v", err)
	}

	again := start(t, o)
	if got := query[int](t, again, `SELECT n FROM kept`); got != 42 {
		t.Errorf("n = %d, want 42", got)
	}
}

func execute(t *testing.T, s *Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestStopCutsSessionsOff(t *testing.T) {
	t.Parallel()
	s := start(t, options(t, copied(t)))
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if commandLine(s.Pid()) != "" {
		t.Errorf("process %d still runs", s.Pid())
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the session still works")
	}
}

func TestStartTwiceIsOneServer(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	first := start(t, o)
	second := start(t, o)
	if first.Pid() != second.Pid() {
		t.Fatalf("pids %d and %d", first.Pid(), second.Pid())
	}
	if got := query[int](t, second, `SELECT 1`); got != 1 {
		t.Errorf("got %d", got)
	}
	if err := second.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if commandLine(first.Pid()) != "" {
		t.Errorf("process %d still runs", first.Pid())
	}
}

func TestStartsAtOnceAreOneServer(t *testing.T) {
	t.Parallel()
	o := options(t, folder(t))
	pids := make(chan int)
	for range 3 {
		go func() {
			s, err := Start(t.Context(), o)
			if err != nil {
				t.Log(err)
				pids <- 0
				return
			}
			pids <- s.Pid()
		}()
	}
	a, b, c := <-pids, <-pids, <-pids
	s := start(t, o) // skips, or is the fourth
	if a != s.Pid() || b != s.Pid() || c != s.Pid() {
		t.Errorf("pids %d, %d, %d, %d", a, b, c, s.Pid())
	}
}

// helperDir makes the test binary start a server and end without a word to it.
const helperDir = "LOCALPG_TEST_HELPER_DIR"

func TestHelperProcess(t *testing.T) {
	dir := os.Getenv(helperDir)
	if dir == "" {
		return // an ordinary run
	}
	s, err := Start(t.Context(), Options{Dir: dir, Throwaway: true})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("pid", s.Pid())
	os.Exit(0)
}

func TestOrphanIsTakenOver(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	helper := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperProcess$")
	helper.Env = append(os.Environ(), helperDir+"="+o.Dir)
	out, err := helper.Output()
	if err != nil {
		if _, findErr := Find(os.Getenv); errors.Is(findErr, ErrNoBinaries) {
			t.Skip("needs initdb and postgres, which this machine does not have")
		}
		t.Fatalf("helper: %v\n%s", err, out)
	}

	s := start(t, o)
	if want := fmt.Sprintf("pid %d", s.Pid()); !strings.Contains(string(out), want) {
		t.Errorf("the helper said %q, want %q", out, want)
	}
	// Nobody reads any more what it says; saying it must not hurt.
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for range 100 {
		if _, err := conn.Exec(t.Context(), `SELECT 1/0`); err == nil {
			t.Fatal("no error")
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestStartAfterKill(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	o.Throwaway = false // it would lose the table
	s := start(t, o)
	execute(t, s, `CREATE TABLE kept AS SELECT 42 AS n`)
	if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.exited
	if pid, err := s.cluster.recordedPid(); err != nil || pid != s.Pid() {
		t.Fatalf("postmaster.pid says %d, %v; the test needs the stale one, %d", pid, err, s.Pid())
	}

	again := start(t, o)
	if again.Pid() == s.Pid() {
		t.Error("no new server")
	}
	if got := query[int](t, again, `SELECT n FROM kept`); got != 42 {
		t.Errorf("n = %d, want 42", got)
	}
}

func TestStartAfterCrash(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	o.Throwaway = false // it would lose the table
	s := start(t, o)
	execute(t, s, `CREATE TABLE kept AS SELECT 42 AS n`)
	if err := s.StopImmediately(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query[int](t, start(t, o), `SELECT n FROM kept`); got != 42 {
		t.Errorf("n = %d, want 42", got)
	}
}

// After a reboot the process id in a stale postmaster.pid may be anybody's.
func TestStartWhenTheOldPidIsSomebodyElse(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	s := start(t, o)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command("sleep", "600")
	stranger.SysProcAttr = s.cluster.user.attributes(false) // another user's process would not disturb Postgres
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Process.Kill(); stranger.Wait() })

	stale := fmt.Sprintf("%d\n%s\n%d\n%s\n%s\n\n", stranger.Process.Pid, s.cluster.data(), time.Now().Unix(), port, s.cluster.sockets)
	for _, file := range []string{filepath.Join(s.cluster.data(), "postmaster.pid"), filepath.Join(s.cluster.sockets, ".s.PGSQL."+port+".lock")} {
		if err := os.WriteFile(file, []byte(stale), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, int(s.cluster.user.uid), int(s.cluster.user.gid)); err != nil {
			t.Fatal(err)
		}
	}
	start(t, o)
	if commandLine(stranger.Process.Pid) == "" {
		t.Error("the stranger is gone")
	}
}

func TestHalfMadeClusterIsMadeAnew(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	s := start(t, o)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.cluster.data(), s.cluster.path("data.init")); err != nil {
		t.Fatal(err)
	}
	start(t, o)
}

func TestLongFolderGetsAShortSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(folder(t), strings.Repeat("long/", 20))
	o := options(t, dir)
	s := start(t, o)
	t.Cleanup(func() { os.RemoveAll(s.cluster.sockets) })
	if got := s.cluster.sockets; len(got) > 30 {
		t.Errorf("socket in %s", got)
	}
	if second := start(t, o); second.Pid() != s.Pid() {
		t.Error("the second start did not find the first")
	}
}

func TestClosedFolderIsNamed(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root starts the server as another user")
	}
	closed := filepath.Join(folder(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), options(t, filepath.Join(closed, "a", "b")))
	if err == nil || !strings.Contains(err.Error(), "cannot enter "+closed+":") {
		t.Errorf("error %v, want one that names %s", err, closed)
	}
}

func TestFolderThatCannotBeMade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(folder(t), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), options(t, filepath.Join(file, "below"))); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v, want one that names %s", err, file)
	}
}

func TestWhatTheServerSaidIsInTheError(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	s := start(t, o)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(s.cluster.data(), "postgresql.conf")
	if err := os.WriteFile(conf, []byte("no_such_setting = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("error %v, want one with the server's words", err)
	}
}

func TestStartObeysItsContext(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	s := start(t, o)
	unlock, err := lock(t.Context(), s.cluster.path("start.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, o); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline", err)
	}
}

func TestLastOutStopsTheServer(t *testing.T) {
	t.Parallel()
	o := options(t, copied(t))
	tidied := 0
	tidy := func(context.Context, *Server) error { tidied++; return nil }
	start(t, o) // left by a run that was killed, so to say

	a, leaveA, err := Join(t.Context(), o, tidy)
	if err != nil {
		t.Fatal(err)
	}
	_, leaveB, err := Join(t.Context(), o, tidy)
	if err != nil {
		t.Fatal(err)
	}
	if tidied != 1 {
		t.Errorf("tidied %d times, want once", tidied)
	}
	if err := leaveA(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query[int](t, a, `SELECT 1`); got != 1 {
		t.Errorf("got %d", got)
	}
	if err := leaveB(t.Context()); err != nil {
		t.Fatal(err)
	}
	if commandLine(a.Pid()) != "" {
		t.Error("the server still runs")
	}

	_, leave, err := Join(t.Context(), o, tidy)
	if err != nil {
		t.Fatal(err)
	}
	if tidied != 2 {
		t.Errorf("tidied %d times, want twice", tidied)
	}
	if err := leave(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "echo ready; read line", "named")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if got := commandLine(cmd.Process.Pid); !strings.HasSuffix(got, " named") {
		t.Errorf("got %q", got)
	}
	stdin.Close()
	cmd.Wait()
	if got := commandLine(cmd.Process.Pid); got != "" {
		t.Errorf("after its end: %q", got)
	}
}
