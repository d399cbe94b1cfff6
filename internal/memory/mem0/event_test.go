package mem0_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/mem0"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

func TestQueuedAdd(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]mem0test.Options{
		"done at the first question": {Queue: 1},
		"done at the fourth":         {Queue: 4},
		"done, and not named":        {Queue: 2, Unnamed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, c := started(t, o)
			id := added(t, c, item())
			if all := srv.Memories(); len(all) != 1 || all[0].ID != id {
				t.Errorf("%s: %+v", id, all)
			}
			if n := srv.CallsTo(http.MethodGet, "/v1/event/"); n != o.Queue {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// Whoever loses one answer asks again: the event is what counts.
func TestQueuedAddIsAskedAgain(t *testing.T) {
	t.Parallel()
	srv, c := started(t, mem0test.Options{Queue: 1})
	match := remotetest.Route(http.MethodGet, "/v1/event/")
	srv.Fail(remotetest.Fault{Match: match, Drop: true})
	srv.Fail(remotetest.Fault{Match: match, Status: 500, Body: `{"detail":"boom"}`})
	srv.Fail(remotetest.Fault{Match: match, Status: 429, Body: `{}`})
	added(t, c, item())
}

func TestQueuedAddFails(t *testing.T) {
	t.Parallel()
	_, c := started(t, mem0test.Options{Queue: 1, FailQueued: true})
	_, err := c.Add(t.Context(), item())
	if e := errorOf(t, err); e.Kind != memory.RemoteUnavailable || e.Sent {
		t.Errorf("%+v", e)
	}
}

// What is still queued at the end is done later: Find finds it.
func TestQueuedAddTakesTooLong(t *testing.T) {
	t.Parallel()
	srv, c := started(t, mem0test.Options{Queue: 1 << 30}, func(o *mem0.Options) { o.Timeout = hang })
	_, err := c.Add(t.Context(), item())
	if e := errorOf(t, err); e.Kind != memory.RemoteUnavailable || !e.Sent || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v", e)
	}
	if found := must[string](t)(c.Find(t.Context(), testUser, testID)); found != "" {
		t.Errorf("found %q already", found)
	}
	srv.RunQueue()
	if found := must[string](t)(c.Find(t.Context(), testUser, testID)); found != srv.Memories()[0].ID {
		t.Errorf("found %q", found)
	}
}

func TestQueuedAddAndContextEnds(t *testing.T) {
	t.Parallel()
	srv, c := started(t, mem0test.Options{Queue: 1 << 30})
	ctx, cancel := context.WithCancel(t.Context())
	srv.Fail(remotetest.Fault{Times: -1, Match: func(r *http.Request) bool {
		if r.Method == http.MethodGet {
			cancel()
		}
		return false
	}})
	_, err := c.Add(ctx, item())
	if e := errorOf(t, err); !errors.Is(err, context.Canceled) || !e.Sent {
		t.Errorf("%+v", e)
	}
}

func TestKeyIsWithdrawnWhileQueued(t *testing.T) {
	t.Parallel()
	srv, c := started(t, mem0test.Options{Queue: 1 << 30})
	srv.Fail(remotetest.Fault{Match: remotetest.Route(http.MethodGet, "/v1/event/"), Status: 401, Body: `{"detail":"Invalid API key"}`})
	_, err := c.Add(t.Context(), item())
	if e := errorOf(t, err); e.Kind != memory.RemoteUnauthorized || !e.Sent {
		t.Errorf("%+v", e)
	}
}

// mem0's documents show more than one shape.
func TestShapesOfAdd(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		id   string
		kind memory.RemoteKind
		sent bool
	}{
		`{"results":[{"id":"a","event":"ADD"}]}`:                       {"a", "", false},
		`{"results":[{"memory_id":"a"}],"relations":[]}`:               {"a", "", false},
		`{"message":"ok","status":"SUCCEEDED","results":[{"id":"a"}]}`: {"a", "", false},
		`[{"id":"a","event":"ADD"}]`:                                   {"a", "", false},
		`{"results":[]}`:                                               {"", memory.RemoteRefused, true},
		`{"results":null}`:                                             {"", memory.RemoteRefused, true},
		`[]`:                                                           {"", memory.RemoteRefused, true},
		`{"status":"FAILED","event_id":"e"}`:                           {"", memory.RemoteUnavailable, false},
		`"ok"`:                                                         {"", memory.RemoteUnavailable, true},
		`<html>`:                                                       {"", memory.RemoteUnavailable, true},
	} {
		c := answering(t, mem0.Platform, saying(text))
		id, err := c.Add(t.Context(), item())
		if id != want.id || memory.RemoteKindOf(err) != want.kind {
			t.Errorf("%s: %q %v", text, id, err)
		}
		if err != nil && errorOf(t, err).Sent != want.sent {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Before v3 an add was answered with a list, and queued as well.
func TestQueuedAddInAList(t *testing.T) {
	t.Parallel()
	c := answering(t, mem0.Platform, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, `[{"message":"queued","status":"PENDING","event_id":"a/b"}]`)
			return
		}
		if r.URL.EscapedPath() != "/v1/event/a%2Fb/" {
			t.Errorf("asked for %s", r.URL.EscapedPath())
		}
		_, _ = io.WriteString(w, `{"status":"SUCCEEDED","results":[{"id":"a"}]}`)
	})
	if id := added(t, c, item()); id != "a" {
		t.Errorf("%q", id)
	}
}
