package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/cognee"
	"github.com/memrelay/memrelay/internal/memory/cognee/cogneetest"
	"github.com/memrelay/memrelay/internal/memory/mem0"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
	"github.com/memrelay/memrelay/internal/memory/memorytest"
)

// TestBackends holds every backend to the contract.
func TestBackends(t *testing.T) {
	t.Parallel()
	for name, backend := range map[string]func(t *testing.T) memorytest.System{
		"postgres": func(t *testing.T) memorytest.System {
			pool := dbtest.New(t)
			return memorytest.System{Pool: pool, Writer: writerOn(t, pool, "postgres")}
		},
		"in memory": func(t *testing.T) memorytest.System {
			f := newFake()
			return systemOf(t, "mem0", f, f)
		},
		"mem0 platform": func(t *testing.T) memorytest.System { return mem0System(t, mem0test.Options{}, mem0.Platform) },
		"mem0 platform with a queue": func(t *testing.T) memorytest.System {
			return mem0System(t, mem0test.Options{Queue: 1}, mem0.Platform)
		},
		"mem0 server": func(t *testing.T) memorytest.System {
			return mem0System(t, mem0test.Options{Server: true}, mem0.Server)
		},
		"cognee":     func(t *testing.T) memorytest.System { return cogneeSystem(t, cogneetest.Options{}) },
		"cognee 1.4": func(t *testing.T) memorytest.System { return cogneeSystem(t, cogneetest.Options{Old: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			memorytest.Run(t, backend)
		})
	}
}

func mem0System(t *testing.T, o mem0test.Options, form mem0.Form) memorytest.System {
	t.Helper()
	server := mem0test.New(o)
	listen(t, server)
	w := &wire{
		rest: http.DefaultTransport, outage: server.Outage, refusal: http.StatusBadRequest,
		adds: func(r *http.Request) bool {
			return r.Method == http.MethodPost && (strings.HasSuffix(r.URL.Path, "/add/") || r.URL.Path == "/memories")
		},
		copies: func() []memorytest.Copy {
			var all []memorytest.Copy
			for _, m := range server.Memories() {
				id, _ := m.Metadata[memory.MetadataID].(string)
				all = append(all, memorytest.Copy{ID: uuid.MustParse(id), Text: m.Text})
			}
			return all
		},
	}
	client, err := mem0.New(mem0.Options{URL: server.URL(), APIKey: mem0test.Key, Form: form, Transport: w, Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return systemOf(t, "mem0", client, w)
}

func cogneeSystem(t *testing.T, o cogneetest.Options) memorytest.System {
	t.Helper()
	server := cogneetest.New(o)
	listen(t, server)
	w := &wire{
		rest: http.DefaultTransport, outage: server.Outage, refusal: http.StatusBadRequest,
		adds: func(r *http.Request) bool { return r.URL.Path == "/api/v1/add" },
		copies: func() []memorytest.Copy {
			var all []memorytest.Copy
			for _, d := range server.Documents() {
				first, text, _ := strings.Cut(d.Text, "\n\n")
				all = append(all, memorytest.Copy{ID: uuid.MustParse(strings.TrimPrefix(first, memory.MetadataID+": ")), Text: text})
			}
			return all
		},
	}
	client, err := cognee.New(cognee.Options{URL: server.URL(), APIKey: cogneetest.Key, Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	return systemOf(t, "cognee", client, w)
}

// listen starts a server until the test ends.
func listen(t *testing.T, server interface {
	Start() error
	Stop() error
}) {
	t.Helper()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
	})
}

// wire is the line to another system, on which things go wrong.
type wire struct {
	rest    http.RoundTripper
	adds    func(*http.Request) bool
	copies  func() []memorytest.Copy
	outage  func(on bool)
	refusal int

	mu      sync.Mutex
	changes int
	lose    int
	refused string
	hold    *held
}

var _ memorytest.Server = (*wire)(nil)

func (w *wire) Copies() []memorytest.Copy { return w.copies() }
func (w *wire) Outage(on bool)            { w.outage(on) }

func (w *wire) Lose(n int) { w.set(func() { w.lose = n }) }

func (w *wire) Refuse(text string) (relent func()) {
	w.set(func() { w.refused = text })
	return func() { w.set(func() { w.refused = "" }) }
}

func (w *wire) Hold() (arrived <-chan struct{}, release func()) {
	h := &held{arrived: make(chan struct{}), release: make(chan struct{})}
	w.set(func() { w.hold = h })
	return h.arrived, sync.OnceFunc(func() { close(h.release) })
}

func (w *wire) Changes() (n int) {
	w.set(func() { n = w.changes })
	return n
}

func (w *wire) set(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if !w.adds(r) && r.Method != http.MethodPut && r.Method != http.MethodPatch && r.Method != http.MethodDelete {
		return w.rest.RoundTrip(r)
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	w.mu.Lock()
	w.changes++
	h, lost := w.hold, w.lose > 0 && w.adds(r)
	w.hold = nil
	if lost {
		w.lose--
	}
	bad := w.refused != "" && bytes.Contains(body, []byte(w.refused))
	w.mu.Unlock()
	if h != nil {
		close(h.arrived)
		select {
		case <-h.release:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if bad {
		said, _ := json.Marshal(map[string]string{"detail": "nobody may say that"})
		return &http.Response{
			StatusCode: w.refusal, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(said)),
			Request: r, ProtoMajor: 1, ProtoMinor: 1,
		}, nil
	}
	res, err := w.rest.RoundTrip(r)
	if lost && err == nil {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return nil, errors.New("the answer is lost")
	}
	return res, err
}

func writerOn(t *testing.T, pool *pgxpool.Pool, backend string) *memory.Writer {
	t.Helper()
	return memory.NewWriter(clientOn(t, pool), memory.Sender{Source: "memrelay", BotVersion: "1"}, backend, time.Now)
}

// clientOn is a client that only inserts.
func clientOn(t *testing.T, pool *pgxpool.Pool) *river.Client[pgx.Tx] {
	t.Helper()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet(t)})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func quiet(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
}

func optionsOf(t *testing.T, backend string) Options {
	return Options{Backend: backend, GiveUpAfter: 24 * time.Hour, Now: time.Now, Random: rand.Float64, Log: quiet(t)}
}

func systemOf(t *testing.T, backend string, remote memory.Remote, server memorytest.Server) memorytest.System {
	t.Helper()
	pool := dbtest.New(t)
	jobs := clientOn(t, pool)
	return memorytest.System{
		Pool: pool, Writer: writerOn(t, pool, backend), Server: server,
		Start: func(t *testing.T) func() { return startNode(t, pool, remote, optionsOf(t, backend)) },
		Drift: func(t *testing.T) int {
			report, err := New(pool, jobs, remote, optionsOf(t, backend)).Resync(t.Context(), ResyncOptions{DryRun: true})
			if err != nil {
				t.Errorf("resync: %v", err)
			}
			if n := report.Drift(); n > 0 {
				t.Logf("a resync says %+v", report)
			}
			return report.Drift()
		},
	}
}

// startNode works the jobs of this package with a client of River's own.
func startNode(t *testing.T, pool *pgxpool.Pool, remote memory.Remote, o Options) (stop func()) {
	t.Helper()
	workers := river.NewWorkers()
	AddWorkers(workers, New(pool, clientOn(t, pool), remote, o))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Logger: quiet(t), Workers: workers, TestOnly: true,
		Queues: map[string]river.QueueConfig{
			job.QueueMirror: {MaxWorkers: 8, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	if err := client.Start(ctx); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := client.StopAndCancel(ctx); err != nil {
			t.Errorf("stop the node: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
