package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/memrelay/memrelay/internal/dbtest/container"
	"github.com/memrelay/memrelay/internal/localpg"
)

// source opens a server at the first question and remembers the answer.
type source struct {
	mu     sync.Mutex
	server *server
	err    error
}

func (s *source) open(t testing.TB) *server {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil && s.err == nil {
		// Not the test's context: all tests of this binary get this server.
		ctx, cancel := context.WithTimeout(context.Background(), openLimit)
		defer cancel()
		s.server, s.err = choose(ctx, os.Getenv)
		if s.err == nil {
			fmt.Fprintln(os.Stderr, "dbtest: using", s.server.from)
		}
	}
	if s.err != nil {
		t.Fatalf("find a Postgres for the tests: %v", s.err)
	}
	return s.server
}

func (s *source) close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	return s.server.leave(ctx)
}

// choose takes the first of the three servers that can be had.
func choose(ctx context.Context, getenv func(string) string) (*server, error) {
	if url := getenv("TEST_DATABASE_URL"); url != "" {
		nothing := func(context.Context) error { return nil }
		return newServer("the server of TEST_DATABASE_URL", url, nothing), nil
	}
	s, err := private(ctx, getenv)
	if !errors.Is(err, localpg.ErrNoBinaries) && !errors.Is(err, errors.ErrUnsupported) {
		return s, err
	}
	url, stop, err := container.Start(ctx)
	if err != nil {
		return nil, fmt.Errorf("set TEST_DATABASE_URL, or install Postgres, or start Docker: %w", err)
	}
	return newServer("a container", url, stop), nil
}

// private joins the server that all test binaries of this user share. It has no
// process group of its own, so Ctrl-C ends it together with the tests.
func private(ctx context.Context, getenv func(string) string) (*server, error) {
	dir := filepath.Join(localpg.ThrowawayHome(), "memrelay-test-"+strconv.Itoa(os.Getuid()))
	s, leave, err := localpg.Join(ctx, localpg.Options{
		Dir:            dir,
		Throwaway:      true,
		MaxConnections: 15 * maxConns,
		Getenv:         getenv,
	}, func(ctx context.Context, s *localpg.Server) error {
		return newServer("", s.URL("postgres"), nil).tidy(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("join the private server (no data is lost if you remove %s): %w", dir, err)
	}
	return newServer("a private server in "+dir, s.URL("postgres"), leave), nil
}
