package mem0_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/mem0"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

func TestWalk(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		ctx := t.Context()
		if err := c.Ping(ctx); err != nil {
			t.Fatal(err)
		}
		id := added(t, c, item())
		want := mem0test.Memory{ID: id, UserID: testUser, Text: item().Content, Metadata: wantMetadata()}
		if d := cmp.Diff([]mem0test.Memory{want}, timeless(srv.Memories())); d != "" {
			t.Fatal(d)
		}

		found := must[string](t)(c.Find(ctx, testUser, testID))
		if found != id {
			t.Errorf("found %q, want %q", found, id)
		}
		if found := must[string](t)(c.Find(ctx, testUser, otherID)); found != "" {
			t.Errorf("found %q", found)
		}

		expires := time.Date(2031, 1, 31, 12, 0, 0, 0, time.UTC)
		newID := must[string](t)(c.Update(ctx, id, item(func(i *memory.Item) {
			i.Content, i.Checksum, i.ExpiresAt = "new", "beef", &expires
		})))
		want.Text, want.Expires, want.Metadata["memrelay_checksum"] = "new", "2031-01-31", "beef"
		if d := cmp.Diff([]mem0test.Memory{want}, timeless(srv.Memories())); d != "" || newID != id {
			t.Fatal(newID, d)
		}
		must[string](t)(c.Update(ctx, id, item()))
		if m := srv.Memories()[0]; m.Expires != "" {
			t.Errorf("it still expires on %s", m.Expires)
		}

		if err := c.Delete(ctx, id); err != nil {
			t.Fatal(err)
		}
		if left := srv.Memories(); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		if err := c.Delete(ctx, id); err != nil {
			t.Errorf("deleted again: %v", err)
		}
		_, err := c.Update(ctx, id, item())
		if e := errorOf(t, err); e.Kind != memory.RemoteGone {
			t.Errorf("updated what is not there: %v", err)
		}
	})
}

func timeless(all []mem0test.Memory) []mem0test.Memory {
	for i := range all {
		all[i].CreatedAt, all[i].UpdatedAt = time.Time{}, time.Time{}
	}
	return all
}

// The open-source server keeps its own things beside the metadata.
func TestMetadataIsKeptApart(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		own := map[string]any{
			"expiration_date": "2001-01-01", "user_id": "somebody", "data": "x", "role": "x",
			"memrelay_id": "x", "memrelay_checksum": "x", "module": "Contacts", "record_id": "572",
		}
		added(t, c, item(func(i *memory.Item) { i.Metadata = own }))
		m := srv.Memories()[0]
		if d := cmp.Diff(wantMetadata(), m.Metadata); d != "" || m.Expires != "" || m.UserID != testUser {
			t.Errorf("%s\n%+v", d, m)
		}
		if own["memrelay_id"] != "x" {
			t.Error("the caller's map was changed")
		}
		added(t, c, item(func(i *memory.Item) { i.Metadata, i.ID = nil, otherID }))
	})
}

func TestLastDay(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("", 5*3600+1800)
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		for _, tc := range []struct {
			at   time.Time
			want string
		}{
			{time.Date(2031, 1, 31, 12, 0, 0, 0, time.UTC), "2031-01-31"},
			{time.Date(2031, 2, 1, 0, 0, 0, 0, time.UTC), "2031-01-31"},
			{time.Date(2031, 2, 1, 0, 0, 0, 1, time.UTC), "2031-02-01"},
			{time.Date(2031, 2, 1, 3, 0, 0, 0, east), "2031-01-31"},
		} {
			id := added(t, c, item(func(i *memory.Item) { i.ExpiresAt = &tc.at }))
			if got := srv.Memories()[0].Expires; got != tc.want {
				t.Errorf("%s is %s, want %s", tc.at, got, tc.want)
			}
			if err := c.Delete(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// mem0 does not move a memory to another user.
func TestUserChanges(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		id := added(t, c, item())
		moved := item(func(i *memory.Item) { i.UserID = "zoho:2" })
		newID := must[string](t)(c.Update(t.Context(), id, moved))
		all := srv.Memories()
		if len(all) != 1 || all[0].UserID != "zoho:2" || all[0].ID != newID || newID == id {
			t.Fatalf("%s became %s: %+v", id, newID, all)
		}

		// The second half fails: nothing is there twice, and the next try says so.
		refusal := remotetest.Fault{Match: func(r *http.Request) bool { return r.Method == http.MethodPost }, Status: 422, Body: `{"detail":"no"}`}
		srv.Fail(refusal)
		if _, err := c.Update(t.Context(), newID, item()); errorOf(t, err).Kind != memory.RemoteRefused || !errorOf(t, err).Sent {
			t.Errorf("%+v", errorOf(t, err))
		}
		if _, err := c.Update(t.Context(), newID, item()); errorOf(t, err).Kind != memory.RemoteGone {
			t.Error(err)
		}
		if all := srv.Memories(); len(all) != 0 {
			t.Errorf("left: %+v", all)
		}
	})
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		for _, fault := range []remotetest.Fault{{Lose: true}, {Truncate: true}} {
			srv.Fail(fault)
			_, err := c.Add(t.Context(), item())
			if e := errorOf(t, err); e.Kind != memory.RemoteUnavailable || !e.Sent {
				t.Fatalf("%+v", e)
			}
			id := must[string](t)(c.Find(t.Context(), testUser, testID))
			if all := srv.Memories(); len(all) != 1 || id != all[0].ID {
				t.Fatalf("found %q in %+v", id, all)
			}
			srv.Fail(fault)
			if err := c.Delete(t.Context(), id); err == nil && fault.Lose {
				t.Error("the answer was lost, and nobody says so")
			}
			if err := c.Delete(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	})
}

// hang is how long a call waits for an answer that does not come.
const hang = 500 * time.Millisecond

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		fault remotetest.Fault
		want  memory.RemoteKind
		sent  bool
		after time.Duration
	}{
		{"an outage", remotetest.Fault{Status: 503, Body: "<h1>soon</h1>"}, memory.RemoteUnavailable, true, 0},
		{"too many calls", remotetest.Fault{Status: 429, Body: `{"detail":"slow down"}`, Header: http.Header{"Retry-After": {"30"}}}, memory.RemoteThrottled, false, 30 * time.Second},
		{"a withdrawn key", remotetest.Fault{Status: 401, Body: `{"detail":"Invalid API key"}`}, memory.RemoteUnauthorized, false, 0},
		{"a spent quota", remotetest.Fault{Status: 413, Body: `{"detail":"Memory quota exceeded"}`}, memory.RemoteThrottled, false, 0},
		{"too large", remotetest.Fault{Status: 413, Body: `<html>`}, memory.RemoteRefused, false, 0},
		{"refused", remotetest.Fault{Status: 400, Body: `{"error":"no"}`}, memory.RemoteRefused, false, 0},
		{"invalid", remotetest.Fault{Status: 422, Body: `{"detail":[{"loc":["body"],"msg":"no"}]}`}, memory.RemoteRefused, false, 0},
		{"the provider's limit", remotetest.Fault{Status: 502, Body: `{"detail":"x","code":"provider_rate_limited","request_id":"1"}`}, memory.RemoteThrottled, false, 0},
		{"the provider's key", remotetest.Fault{Status: 502, Body: `{"detail":"x","code":"provider_auth_failed","request_id":"1"}`}, memory.RemoteUnavailable, true, 0},
		{"the provider refuses", remotetest.Fault{Status: 502, Body: `{"detail":"x","code":"provider_bad_request","request_id":"1"}`}, memory.RemoteRefused, false, 0},
		{"the provider is slow", remotetest.Fault{Status: 502, Body: `{"detail":"x","code":"provider_timeout","request_id":"1"}`}, memory.RemoteUnavailable, true, 0},
		{"the database is gone", remotetest.Fault{Status: 502, Body: `{"detail":"x","code":"datastore_unavailable","request_id":"1"}`}, memory.RemoteUnavailable, true, 0},
		{"a proxy", remotetest.Fault{Status: 502, Body: `<html>`}, memory.RemoteUnavailable, true, 0},
		{"the connection breaks", remotetest.Fault{Drop: true}, memory.RemoteUnavailable, true, 0},
		{"no answer", remotetest.Fault{Hang: true}, memory.RemoteUnavailable, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
				id := added(t, c, item())
				fault := tc.fault
				fault.Times = -1
				srv.Fail(fault)
				ctx := t.Context()
				for name, call := range map[string]func() error{
					"add":    func() error { _, err := c.Add(ctx, item()); return err },
					"update": func() error { _, err := c.Update(ctx, id, item()); return err },
					"delete": func() error { return c.Delete(ctx, id) },
					"find":   func() error { _, err := c.Find(ctx, testUser, testID); return err },
					"list":   func() error { _, _, err := c.List(ctx, testUser, ""); return err },
					"ping":   func() error { return c.Ping(ctx) },
				} {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						e := errorOf(t, call())
						sent := tc.sent && (name == "add" || name == "delete") // an update asks before it writes
						if e.Kind != tc.want || e.Sent != sent || e.RetryAfter != tc.after {
							t.Errorf("%+v", e)
						}
					})
				}
			}, func(o *mem0.Options) {
				if tc.fault.Hang {
					o.Timeout = hang
				}
			})
		})
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		if err := srv.Stop(); err != nil {
			t.Fatal(err)
		}
		_, err := c.Add(t.Context(), item())
		if e := errorOf(t, err); e.Kind != memory.RemoteUnavailable || (e.Sent && errors.Is(err, syscall.ECONNREFUSED)) {
			t.Errorf("%+v", e)
		}
		if err := srv.Start(); err != nil {
			t.Fatal(err)
		}
		added(t, c, item())
	})
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		srv.Fail(remotetest.Fault{Match: func(*http.Request) bool { cancel(); return true }, Hang: true})
		_, err := c.Add(ctx, item())
		if e := errorOf(t, err); !errors.Is(err, context.Canceled) || !e.Sent {
			t.Errorf("%+v", e)
		}
	})
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, _ *mem0test.Server, c *mem0.Client) {
		if e := errorOf(t, c.Ping(t.Context())); e.Kind != memory.RemoteUnauthorized {
			t.Errorf("%+v", e)
		}
	}, func(o *mem0.Options) { o.APIKey = "wrong" })
}

func TestServerWithoutKeys(t *testing.T) {
	t.Parallel()
	_, c := started(t, mem0test.Options{Server: true, Open: true}, func(o *mem0.Options) { o.APIKey = "" })
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is refused is so for what it is: the next one is taken.
func TestRefusedItems(t *testing.T) {
	t.Parallel()
	_, c := started(t, mem0test.Options{Server: true})
	_, err := c.Add(t.Context(), item(func(i *memory.Item) { i.UserID = "two words" }))
	if e := errorOf(t, err); e.Kind != memory.RemoteRefused || e.Status != 400 {
		t.Errorf("%+v", e)
	}
	_, err = c.Add(t.Context(), item(func(i *memory.Item) { i.Metadata = map[string]any{"x": func() {}} }))
	if e := errorOf(t, err); e.Kind != memory.RemoteRefused || e.Sent {
		t.Errorf("%+v", e)
	}
	added(t, c, item())
}

// The two forms are not the same server: whoever takes one for the other is told
// that nobody is there, and not that memories are gone.
func TestWrongForm(t *testing.T) {
	t.Parallel()
	for _, form := range []mem0.Form{mem0.Platform, mem0.Server} {
		_, c := started(t, mem0test.Options{Server: form == mem0.Platform}, func(o *mem0.Options) { o.Form = form })
		if e := errorOf(t, c.Delete(t.Context(), testID.String())); e.Kind != memory.RemoteUnauthorized {
			t.Errorf("%+v", e)
		}
		_, c = started(t, mem0test.Options{Server: form == mem0.Platform, Open: true}, func(o *mem0.Options) { o.Form = form })
		if e := errorOf(t, c.Delete(t.Context(), testID.String())); e.Kind != memory.RemoteUnavailable {
			t.Errorf("%+v", e)
		}
	}
}

func TestSideBySide(t *testing.T) {
	t.Parallel()
	bothForms(t, func(t *testing.T, srv *mem0test.Server, c *mem0.Client) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				id, err := c.Add(t.Context(), item())
				if err == nil {
					_, err = c.Update(t.Context(), id, item())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(srv.Memories()); n != 20 {
			t.Errorf("%d memories", n)
		}
	})
}
