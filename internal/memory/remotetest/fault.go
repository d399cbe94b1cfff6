package remotetest

import (
	"bytes"
	"cmp"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Fault is how a request goes wrong.
type Fault struct {
	// Match says which requests it befalls; nil: all.
	Match func(*http.Request) bool
	// Times is how many requests it befalls; 0: one, below 0: until cancelled.
	Times int

	Status int         // an answer in place of the usual one; the call is not done
	Body   string      // of that answer: JSON when it begins like it, otherwise HTML
	Header http.Header // added to the answer, whichever it is

	Hang     bool // no answer until the client gives up; the call is not done
	Drop     bool // the connection breaks; the call is not done
	Lose     bool // the call is done, then the connection breaks
	Truncate bool // the call is done, half of its answer arrives
}

// Route matches requests of a method to paths that begin with prefix.
func Route(method, prefix string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.Method == method && strings.HasPrefix(r.URL.EscapedPath(), prefix)
	}
}

// Fail lets requests go wrong from now on, until it has befallen Times of them or
// is cancelled. Of several faults that match, the oldest strikes.
func (s *Server) Fail(f Fault) (cancel func()) { return s.faults.add(f) }

// Outage takes the system down, or brings it back: every request gets a 503 with a
// page of HTML.
func (s *Server) Outage(on bool) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.outage = on
}

// faults are the faults in force, oldest first.
type faults struct {
	mu     sync.Mutex
	outage bool
	active []*armed
}

type armed struct {
	Fault
	left int
}

func (f *faults) add(fault Fault) (cancel func()) {
	a := &armed{fault, cmp.Or(fault.Times, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active = append(f.active, a)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.remove(a)
	}
}

func (f *faults) remove(a *armed) {
	f.active = slices.DeleteFunc(f.active, func(b *armed) bool { return a == b })
}

func (f *faults) take(r *http.Request) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage {
		return Fault{Status: http.StatusServiceUnavailable, Body: "<h1>We will be back soon</h1>"}, true
	}
	for _, a := range f.active {
		if a.Match != nil && !a.Match(r) {
			continue
		}
		if a.left--; a.left == 0 {
			f.remove(a)
		}
		return a.Fault, true
	}
	return Fault{}, false
}

// serve answers r as the fault says; usual answers as if there were none.
func (f Fault) serve(w http.ResponseWriter, r *http.Request, usual http.Handler) {
	if f.Hang {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // the server breaks the connection, quietly
	}
	if f.Drop {
		drop(w)
	}
	a := f.answer(r, usual)
	if f.Lose {
		drop(w)
	}
	maps.Copy(w.Header(), a.header)
	for name, values := range f.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	body := a.body.Bytes()
	if !f.Truncate {
		w.WriteHeader(a.status)
		_, _ = w.Write(body) // whoever hung up does not want it
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// answer is what is said: what the fault says, otherwise what the handler does.
func (f Fault) answer(r *http.Request, usual http.Handler) *written {
	a := &written{header: http.Header{}}
	if f.Status == 0 && f.Body == "" {
		usual.ServeHTTP(a, r)
		a.status = cmp.Or(a.status, http.StatusOK)
		return a
	}
	a.status = cmp.Or(f.Status, http.StatusOK)
	kind := "text/html; charset=utf-8"
	if strings.HasPrefix(f.Body, "{") || strings.HasPrefix(f.Body, "[") {
		kind = "application/json"
	}
	a.header.Set("Content-Type", kind)
	_, _ = io.WriteString(a, f.Body)
	return a
}

// drop breaks the connection after a few bytes that are no answer: without any,
// Go's client would quietly ask again on another connection.
func drop(w http.ResponseWriter) {
	if conn, buf, err := http.NewResponseController(w).Hijack(); err == nil {
		_, _ = buf.WriteString("HTTP/1.1 ")
		_ = buf.Flush()
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// written is an answer that has not gone out yet.
type written struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (a *written) Header() http.Header { return a.header }

func (a *written) WriteHeader(status int) { a.status = cmp.Or(a.status, status) }

func (a *written) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
