// Package remotetest is what the memory systems on localhost have in common. In
// goes an http.Handler that answers well, out comes a server that listens, counts
// what it is asked and goes wrong as it is told.
package remotetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxBody bounds a request's body.
const maxBody = 16 << 20

// Server serves a handler. Its methods may be called by anybody at any time. It
// works as an http.Handler without Start.
type Server struct {
	handler http.Handler
	faults  faults

	mu    sync.Mutex
	addr  string // once it has listened
	http  *http.Server
	stop  context.CancelFunc
	calls []string
}

// New returns a Server of h that does not listen yet.
func New(h http.Handler) *Server { return &Server{handler: h} }

// Start listens on a port of loopback, the same as before when it is started
// again after Stop, and serves until Stop.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return errors.New("remotetest: started already")
	}
	ctx, stop := context.WithCancel(context.Background())
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		stop()
		return fmt.Errorf("remotetest: %w", err)
	}
	s.stop, s.addr = stop, l.Addr().String()
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func(server *http.Server) { _ = server.Serve(l) }(s.http) // it ends with Stop
	return nil
}

// Stop ends serving at once: calls under way break off, and the next find nobody
// who listens. What it knows stays.
func (s *Server) Stop() error {
	s.mu.Lock()
	server, stop := s.http, s.stop
	s.http = nil
	s.mu.Unlock()
	if server == nil {
		return nil
	}
	stop()
	if err := server.Close(); err != nil {
		return fmt.Errorf("remotetest: %w", err)
	}
	return nil
}

// URL is the base URL, without a slash at its end; "" before Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == "" {
		return ""
	}
	return "http://" + s.addr
}

// Calls are the requests so far, in order, as "GET /v1/ping/".
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// CallsTo is how many requests there were of a method to paths that begin with prefix.
func (s *Server) CallsTo(method, prefix string) int {
	n := 0
	for _, call := range s.Calls() {
		if strings.HasPrefix(call, method+" "+prefix) {
			n++
		}
	}
	return n
}

// ServeHTTP answers one request, faults permitting.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The body is read first: only then does the server notice that a client hung up.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	s.calls = append(s.calls, r.Method+" "+r.URL.EscapedPath())
	s.mu.Unlock()
	if f, found := s.faults.take(r); found {
		f.serve(w, r, s.handler)
		return
	}
	s.handler.ServeHTTP(w, r)
}
