//go:build unix

package localpg

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

// fakeDocker puts a docker on PATH that writes down how it is called. Its
// containers have the port in the file "port", once "run" was called.
func fakeDocker(t *testing.T, port string) (calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	script := `#!/bin/sh
echo "$@" >> "` + dir + `/calls"
case $1 in
port) cat "` + dir + `/port" 2>/dev/null || { echo "No such container: $2" >&2; exit 1; };;
run) echo "127.0.0.1:` + port + `" > "` + dir + `/port";;
stop) rm "` + dir + `/port";;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return func() []string {
		b, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
}

// forward opens a port that leads to the server's socket, as Docker's does.
func forward(t *testing.T, s *Server) (portOnLoopback string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", filepath.Join(s.cluster.sockets, ".s.PGSQL."+port))
			if err != nil {
				in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
	_, p, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStartContainer(t *testing.T) {
	calls := fakeDocker(t, forward(t, start(t, options(t, copied(t)))))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))

	dsn, stop, err := StartContainer(t.Context(), "memrelay-dev", false, log)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(t.Context())
	again, _, err := StartContainer(t.Context(), "memrelay-dev", false, log)
	if err != nil || again != dsn {
		t.Errorf("second start: %s, %v; want the first one's %s", again, err, dsn)
	}
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	want := []string{
		"version --format {{.Server.Version}}",
		"port memrelay-dev 5432/tcp",
		strings.Join(runArgs("memrelay-dev", false), " "),
		"port memrelay-dev 5432/tcp",
		"version --format {{.Server.Version}}",
		"port memrelay-dev 5432/tcp",
		"stop memrelay-dev",
	}
	if diff := cmp.Diff(want, calls()); diff != "" {
		t.Errorf("docker was called otherwise (-want +got):\n%s", diff)
	}
}

func TestContainerThatNeverAnswersIsStopped(t *testing.T) {
	calls := fakeDocker(t, "1")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, _, err := StartContainer(ctx, "memrelay-dev", true, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "memrelay-dev") {
		t.Errorf("error %v", err)
	}
	if all := calls(); all[len(all)-1] != "stop memrelay-dev" {
		t.Errorf("docker was called: %q", all)
	}
}

func TestNoDocker(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, _, err := StartContainer(t.Context(), "memrelay-dev", true, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "docker version") {
		t.Errorf("error %v", err)
	}
}

func TestOnlyAKeptContainerHasAVolume(t *testing.T) {
	t.Parallel()
	for throwaway, want := range map[bool]string{false: "-v m-data:", true: "fsync=off"} {
		if args := strings.Join(runArgs("m", throwaway), " "); !strings.Contains(args, want) ||
			strings.Contains(args, "-v ") == throwaway || strings.Contains(args, "fsync=off") != throwaway {
			t.Errorf("throwaway %v: %s", throwaway, args)
		}
	}
}
