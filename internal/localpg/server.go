// Package localpg runs a private Postgres out of the programs that are already
// installed: the database behind `memrelay dev` and behind the tests. In goes
// a folder, out comes a URL; the cluster is created when the folder is new, and
// a server that an earlier process left running is taken over. Without those
// programs, [StartContainer] does the same through Docker.
//
// The server listens on a Unix socket in a folder only its user may enter, and
// on no network port. Nothing here is meant for production.
package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	superuser = "memrelay"
	port      = "5432" // only a part of the socket's name

	startLimit = 2 * time.Minute // crash recovery included
	fastLimit  = 10 * time.Second
	quitLimit  = 10 * time.Second // Postgres itself kills its children after 5 s
	lookEvery  = 10 * time.Millisecond
)

// Options say which server to start and how.
type Options struct {
	Dir            string // where the cluster lies: <Dir>/pg<major>/…; the user the server runs as must be able to enter it
	Throwaway      bool   // fast, but a crash of the server loses the last commits: only for data nobody will miss
	BinDir         string // folder of initdb and postgres; "" means Find
	MaxConnections int    // 0 means 100
	// OwnGroup puts the server into a process group of its own, so that Ctrl-C
	// in a terminal reaches only its starter, who still needs it to finish.
	OwnGroup bool
	Log      *slog.Logger        // what the server says, at debug level; nil means nowhere
	Getenv   func(string) string // for Find, and for SUDO_USER; nil means os.Getenv
}

func (o Options) withDefaults() Options {
	o.MaxConnections = cmp.Or(o.MaxConnections, 100)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	return o
}

// Server is a running Postgres. It outlives the process that started it unless
// somebody calls Stop.
type Server struct {
	cluster *cluster
	pid     int
	exited  chan struct{} // closed when our child has ended; nil when the server was taken over
	said    *tail         // nil when the server was taken over
}

// Start returns a server that answers. The cluster is created when there is
// none for this major version of Postgres; a server that already runs on it is
// taken over as it is, whatever o says. ctx bounds the start, not the server's
// life. The error is [ErrNoBinaries] when there is nothing to start, and then
// [Remedy] helps.
func Start(ctx context.Context, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	c, err := prepare(ctx, o.withDefaults())
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, c.path("start.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.create(ctx); err != nil {
		return nil, err
	}
	return c.start(ctx)
}

// URL returns the DSN of a database on this server, for its superuser. It asks
// for no password: who can enter the socket's folder is trusted.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {s.cluster.sockets}, "port": {port}}.Encode(),
	}
	return u.String()
}

// Pid returns the process id of the server, the parent of all its processes.
func (s *Server) Pid() int { return s.pid }

// Stop ends the server: sessions are cut off, everything is written, the next
// start needs no recovery. When that takes longer than ten seconds, or than
// ctx allows, it goes on as StopImmediately. A server that has already ended
// is not an error.
func (s *Server) Stop(ctx context.Context) error {
	fast, cancel := context.WithTimeout(ctx, fastLimit)
	defer cancel()
	if err := s.signal(syscall.SIGINT); err != nil {
		return err
	}
	if s.waitUntilEnded(fast) == nil {
		return nil
	}
	return s.StopImmediately(ctx)
}

// StopImmediately ends the server as a crash would: nothing more is written,
// and the next start replays the log. It waits for the end even when ctx is
// already done, for a server that is left half ended blocks the next start.
func (s *Server) StopImmediately(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), quitLimit)
	defer cancel()
	if err := s.signal(syscall.SIGQUIT); err != nil {
		return err
	}
	if err := s.waitUntilEnded(ctx); err != nil {
		return fmt.Errorf("stop postgres, process %d: %w", s.pid, err)
	}
	return nil
}

func (s *Server) signal(sig os.Signal) error {
	if s.hasEnded() {
		return nil // its process id may belong to somebody else by now
	}
	p, err := os.FindProcess(s.pid)
	if err == nil {
		err = p.Signal(sig)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to postgres, process %d: %w", sig, s.pid, err)
	}
	return nil
}

func (s *Server) hasEnded() bool {
	if s.exited == nil {
		return !s.cluster.isServer(s.pid)
	}
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// waitUntilEnded looks again and again: only a parent is told of a process's
// end, and we may have taken this one over.
func (s *Server) waitUntilEnded(ctx context.Context) error {
	return poll(ctx, func() (bool, error) { return s.hasEnded(), nil })
}

var errEnded = errors.New("postgres ended before it answered")

func (s *Server) waitUntilAnswers(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return true, conn.Close(ctx)
		}
		if s.hasEnded() {
			return false, errEnded
		}
		return judge(err)
	})
}

// judge reports whether a server that refused a connection is up all the same.
// The error is for what waiting will not change.
func judge(err error) (up bool, _ error) {
	var refused *pgconn.PgError
	switch {
	case !errors.As(err, &refused): // no socket yet
		return false, nil
	case strings.HasPrefix(refused.Code, "57P"): // starting up or shutting down
		return false, nil
	case refused.Code == "53300": // all connections are in use
		return true, nil
	default:
		return false, err
	}
}

// poll asks until done says yes or fails, or ctx ends.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
