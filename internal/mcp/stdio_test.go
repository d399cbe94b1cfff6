package mcp_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/mcp"
	"github.com/memrelay/memrelay/internal/memory"
)

// talk sends lines over stdio and returns the lines that came back.
func talk(t *testing.T, s *mcp.Server, lines ...string) []string {
	t.Helper()
	in, out := io.Pipe()
	answers, back := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context(), in, back); back.Close() }()
	read := make(chan []string)
	calls := 0
	for _, l := range lines {
		if strings.Contains(l, `"id":`) {
			calls++
		}
	}
	go func() {
		var all []string
		scanner := bufio.NewScanner(answers)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			if all = append(all, scanner.Text()); len(all) == calls {
				out.Close() // the client has all it wanted
			}
		}
		read <- all
	}()
	for _, l := range lines {
		if _, err := io.WriteString(out, l+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	return <-read
}

var hello = []string{
	`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"agent","version":"1"}}}`,
	`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
}

// Whatever comes back is a message of the protocol, also when things go wrong.
func TestStdioCarriesTheProtocolAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	lines := talk(t, h.server(t, always(ada())), append(hello,
		`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"add","arguments":{"content":"one\ntwo"}}}`,
		`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"delete","arguments":{"id":"x"}}}`,
		`{"jsonrpc":"2.0","id":5,"method":"tools/eat","params":{}}`,
	)...)
	ids := map[float64]bool{}
	for _, l := range lines {
		var message struct {
			Version string   `json:"jsonrpc"`
			ID      *float64 `json:"id"`
		}
		if err := json.Unmarshal([]byte(l), &message); err != nil || message.Version != "2.0" || message.ID == nil {
			t.Fatalf("%v in %q", err, l)
		}
		ids[*message.ID] = true
	}
	if len(ids) != 5 || len(lines) != 5 {
		t.Errorf("%d answers to 5 calls:\n%s", len(lines), strings.Join(lines, "\n"))
	}
}

// A client may say all it has to say and close: it is answered all the same.
func TestWhatWasAskedBeforeTheEndIsAnswered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var out bytes.Buffer
	in := strings.Join(append(hello, addCall, strings.Replace(searchCall, `"id":1`, `"id":3`, 1)), "\n") + "\n"
	if err := h.server(t, always(ada())).Serve(t.Context(), io.NopCloser(strings.NewReader(in)), &out); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 3 || !strings.Contains(out.String(), "Remembered of ada") {
		t.Errorf("%d answers to 3 calls:\n%s", n, out.String())
	}
}

// Nor does a call that never ends keep the program from stopping.
func TestAStopDoesNotWaitForAClientThatIsGone(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	r := &rig{told: make(chan memory.Announcement, 1), add: func() error { close(begun); <-ctx.Done(); return ctx.Err() }}
	s, err := mcp.NewServer(r, r, mcp.Options{Caller: always(ada()), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	in := strings.Join(append(hello, addCall), "\n") + "\n"
	go func() { ended <- s.Serve(ctx, io.NopCloser(strings.NewReader(in)), io.Discard) }()
	<-begun
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second): // half of what a call may take
		t.Error("it has not stopped yet")
	}
}

func TestAStopIsNoError(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	in, _ := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := h.server(t, always(ada())).Serve(ctx, in, io.Discard); err != nil {
		t.Error(err)
	}
}

// rig is a memory that does what a test says, and keeps what was told.
type rig struct {
	add  func() error
	told chan memory.Announcement
}

func (r *rig) Add(context.Context, memory.Caller, memory.New) (memory.Row, error) {
	return memory.Row{}, r.add()
}
func (r *rig) Delete(context.Context, memory.Caller, uuid.UUID) (memory.Row, error) {
	panic("not used")
}
func (r *rig) Get(context.Context, memory.Caller, uuid.UUID) (memory.Row, error) {
	panic("not used")
}
func (r *rig) Relate(context.Context, memory.Caller, memory.NewLink) (memory.Link, error) {
	return memory.Link{}, nil
}
func (r *rig) Account(context.Context, memory.Caller, string) (memory.Account, error) {
	return memory.Account{}, nil
}
func (r *rig) Tell(_ context.Context, _ memory.Caller, a memory.Announcement) error {
	r.told <- a
	return errors.New("nobody can be told")
}

func (r *rig) Search(context.Context, memory.Query) ([]memory.Found, error) { return nil, nil }

const addCall = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"content":"tea"}}}`

// Nothing of the inside goes out, and whoever is told reads what the agent read.
func TestWhatFailsInsideStaysInside(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		says string
		told bool
	}{
		"a database that is gone": {errors.New("password of ada is hush"), "Something went wrong here; the log has it under the request ", true},
		"too much waits":          {group.ErrFull, "Too much waits to be written. Nothing was done", false},
		"a client that gave up":   {context.Canceled, "This took too long and was given up.", false},
		"a call that takes long":  {context.DeadlineExceeded, "This took too long and was given up.", false},
	} {
		r := &rig{told: make(chan memory.Announcement, 1), add: func() error { return tc.err }}
		s, err := mcp.NewServer(r, r, mcp.Options{Caller: always(ada()), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		lines := talk(t, s, append(hello, addCall)...)
		if last := lines[len(lines)-1]; !strings.Contains(last, tc.says) || !strings.Contains(last, `"isError":true`) || strings.Contains(last, "hush") {
			t.Errorf("%s: %s", name, last)
		}
		if !tc.told {
			if len(r.told) > 0 {
				t.Errorf("%s: told %+v", name, <-r.told)
			}
			continue
		}
		told := <-r.told
		if data, ok := told.Data.(memory.FailedData); !ok || told.UserID != "ada" || data.Operation != "add" || !strings.Contains(data.Error, tc.says) {
			t.Errorf("%s: told %+v", name, told)
		}
	}
}

// Whoever follows a memory knows of every search, or there was none.
func TestASearchThatCannotBeToldOfFails(t *testing.T) {
	t.Parallel()
	r := &rig{told: make(chan memory.Announcement, 2)}
	s, err := mcp.NewServer(r, r, mcp.Options{Caller: always(ada()), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	lines := talk(t, s, append(hello, strings.Replace(searchCall, `"id":1`, `"id":2`, 1))...)
	if last := lines[len(lines)-1]; !strings.Contains(last, `"isError":true`) || !strings.Contains(last, "Something went wrong here") {
		t.Errorf("answered %s", last)
	}
}

func TestAPanicEndsTheCallAlone(t *testing.T) {
	t.Parallel()
	r := &rig{told: make(chan memory.Announcement, 1), add: func() error { panic("hush") }}
	s, err := mcp.NewServer(r, r, mcp.Options{Caller: always(ada()), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	lines := talk(t, s, append(hello, addCall, `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`)...)
	all := strings.Join(lines, "\n")
	if len(lines) != 3 || !strings.Contains(all, `"something went wrong here"`) || strings.Contains(all, "hush") {
		t.Errorf("answers:\n%s", all)
	}
}
