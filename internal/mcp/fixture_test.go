package mcp_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/mcp"
	"github.com/memrelay/memrelay/internal/memory"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// house is a memory on a database of its own, with somebody who wants all webhooks.
type house struct {
	pool     *pgxpool.Pool
	store    *memory.Store
	searcher *memory.Searcher
	log      *slog.Logger
}

func newHouse(t *testing.T) *house {
	t.Helper()
	pool := dbtest.New(t)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'all', 'https://example.com', $2, '30s', '{1s,2s}')`, uuid.New(), memory.Events()); err != nil {
		t.Fatal(err)
	}
	h := &house{
		pool: pool, log: log,
		store:    memory.NewStore(pool, memory.NewWriter(jobs, memory.Sender{Source: "memrelay", BotVersion: "1.2.3"}, "", time.Now)),
		searcher: memory.NewSearcher(pool, memory.SearchOptions{Language: "english", Now: time.Now, Log: log}),
	}
	t.Cleanup(h.store.Wait)
	return h
}

func (h *house) server(t *testing.T, caller func(context.Context) (memory.Caller, bool)) *mcp.Server {
	t.Helper()
	s, err := mcp.NewServer(h.store, h.searcher, mcp.Options{Caller: caller, Version: "1.2.3", Log: h.log})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// always is the same caller, whatever the request.
func always(c memory.Caller) func(context.Context) (memory.Caller, bool) {
	return func(context.Context) (memory.Caller, bool) { return c, true }
}

func ada() memory.Caller { return memory.Caller{Actor: "token/ada", UserIDs: []string{"ada"}} }

// agent is a client with its session.
type agent struct {
	*sdk.ClientSession
	outputs map[string]*jsonschema.Resolved
}

// meet connects a client.
func meet(t *testing.T, transport sdk.Transport) *agent {
	t.Helper()
	session, err := sdk.NewClient(&sdk.Implementation{Name: "agent", Version: "1"}, nil).Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	a := &agent{ClientSession: session, outputs: map[string]*jsonschema.Resolved{}}
	listed, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range listed.Tools {
		text, err := json.Marshal(tool.OutputSchema)
		if err != nil {
			t.Fatal(err)
		}
		var s jsonschema.Schema
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		if a.outputs[tool.Name], err = s.Resolve(nil); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// near connects a client over pipes, as stdio does.
func (h *house) near(t *testing.T, c memory.Caller) *agent {
	t.Helper()
	serverIn, clientOut := io.Pipe()
	clientIn, serverOut := io.Pipe()
	server := h.server(t, always(c))
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { ended <- server.Serve(ctx, serverIn, serverOut) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return meet(t, &sdk.IOTransport{Reader: clientIn, Writer: clientOut})
}

// use calls a tool and returns what it said; structured goes into out, unless that
// is nil. The call must succeed, and its result must be as the tool's schema says.
func (a *agent) use(t *testing.T, tool string, arguments map[string]any, out any) string {
	t.Helper()
	result, err := a.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	if result.IsError {
		t.Fatalf("%s: %s", tool, said(result))
	}
	if err := a.outputs[tool].Validate(result.StructuredContent); err != nil {
		t.Errorf("%s: the result is not as its schema says: %v", tool, err)
	}
	text, err := json.Marshal(result.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s: %v in %s", tool, err, text)
		}
	}
	return said(result)
}

// refused calls a tool that must answer with an error for the agent to read.
func (a *agent) refused(t *testing.T, tool string, arguments any) string {
	t.Helper()
	result, err := a.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s(%v): %v, want an error of the tool", tool, arguments, err)
	}
	if !result.IsError || result.StructuredContent != nil {
		t.Errorf("%s(%v) is done: %s", tool, arguments, said(result))
	}
	return said(result)
}

func said(r *sdk.CallToolResult) string {
	var all []string
	for _, c := range r.Content {
		if text, ok := c.(*sdk.TextContent); ok {
			all = append(all, text.Text)
		}
	}
	return strings.Join(all, "\n")
}

func one[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (v T) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
