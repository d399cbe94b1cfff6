package zoho

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	testToken  = "1000.access.one"
	freshToken = "1000.access.two"
)

// serving starts a Zoho that answers as h does.
func serving(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// clientOf makes a client of a Zoho that answers as h does. It never waits: what
// it would have waited for is in the clock.
func clientOf(t *testing.T, h http.HandlerFunc, change ...func(*Options)) (*Client, *testClock) {
	t.Helper()
	srv := serving(t, h)
	clock := &testClock{now: time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)}
	o := Options{Tokens: &twoTokens{}, Now: clock.Now, Timeout: time.Minute, Transport: srv.Client().Transport}
	for _, f := range change {
		f(&o)
	}
	c := NewClient(Config{APIURL: srv.URL}, o)
	c.after, c.jitter = clock.after, func() float64 { return 1 }
	return c, clock
}

// testClock stands still until somebody waits, and then is at the end of the
// wait; by hand, it waits for Advance.
type testClock struct {
	mu     sync.Mutex
	now    time.Time
	byHand bool
	waits  []time.Duration
	timers []timer
}

type timer struct {
	at time.Time
	f  func()
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) after(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, d)
	if c.byHand {
		c.timers = append(c.timers, timer{c.now.Add(d), f})
		return func() bool { return false }
	}
	c.now = c.now.Add(d)
	go f()
	return func() bool { return false }
}

// Advance lets d go by and runs what is due.
func (c *testClock) Advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []timer
	c.timers = slices.DeleteFunc(c.timers, func(t timer) bool {
		if t.at.After(c.now) {
			return false
		}
		due = append(due, t)
		return true
	})
	c.mu.Unlock()
	for _, t := range due {
		t.f()
	}
}

// runs is the end of by hand: nobody waits any more.
func (c *testClock) runs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byHand = false
}

func (c *testClock) waited() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.waits)
}

// twoTokens gives testToken, and freshToken once that is refused.
type twoTokens struct {
	mu      sync.Mutex
	refused []string
	err     error
}

func (k *twoTokens) Token(_ context.Context, refused string) (Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if refused == "" {
		return Token{Access: testToken}, k.err
	}
	k.refused = append(k.refused, refused)
	return Token{Access: freshToken}, k.err
}

// testGate notes what it is told.
type testGate struct {
	mu      sync.Mutex
	shut    error
	allowed int
	told    []Kind // 0: alive
	ended   bool   // a report came with a context that had ended
}

func (g *testGate) Allow(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		return g.shut
	}
	g.allowed++
	return nil
}

func (g *testGate) Report(ctx context.Context, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && KindOf(err) == 0 {
		panic("a report that is no *Error")
	}
	g.told = append(g.told, KindOf(err))
	g.ended = g.ended || ctx.Err() != nil
}

func (g *testGate) reports() []Kind {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.told)
}

// saying answers every request alike.
func saying(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// inTurn answers the first request as the first does, and so on; then as the last.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handlers[0]
		if len(handlers) > 1 {
			handlers = handlers[1:]
		}
		mu.Unlock()
		h(w, r)
	}
}

// broken closes the connection without an answer.
func broken(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// problemOf is Zoho's envelope of an error.
func problemOf(code, message string) string {
	return fmt.Sprintf(`{"code":%q,"details":{},"message":%q,"status":"error"}`, code, message)
}

// errorOf is the *Error in err, which must have one.
func errorOf(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want an *Error", err)
	}
	return e
}
