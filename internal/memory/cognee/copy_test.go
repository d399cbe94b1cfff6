package cognee_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/cognee"
	"github.com/memrelay/memrelay/internal/memory/cognee/cogneetest"
	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

const header = "memrelay_id: 0199aaaa-0000-7000-8000-000000000001\n\n"

// wantDocument is the document of item.
func wantDocument(id string) cogneetest.Document {
	dataset, data, _ := strings.Cut(id, "/")
	return cogneetest.Document{
		ID: data, DatasetID: dataset, Name: "memrelay-" + testID.String() + "-c0ffee",
		Label: "memrelay:" + testID.String(), Text: header + item().Content,
		Metadata: map[string]any{
			"memrelay_id": testID.String(), "memrelay_checksum": "c0ffee", "user_id": testUser, "kind": "contact", "module": "Contacts",
			"node_set": []any{testUser},
		},
	}
}

func documentsAre(t *testing.T, srv *cogneetest.Server, want ...cogneetest.Document) {
	t.Helper()
	got := srv.Documents()
	for i := range got {
		got[i].CreatedAt = time.Time{}
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(cogneetest.Document{})); d != "" {
		t.Fatal(d)
	}
}

func TestWalk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	srv, c := started(t, cogneetest.Options{})
	if err := c.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	id := added(t, c, item())
	want := wantDocument(id)
	documentsAre(t, srv, want)
	if sets := srv.Datasets(); len(sets) != 1 || sets[0].Name != "memrelay" || sets[0].ID != want.DatasetID {
		t.Errorf("%+v", sets)
	}
	if found := must[string](t)(c.Find(ctx, testUser, testID)); found != id {
		t.Errorf("found %q, want %q", found, id)
	}
	if found := must[string](t)(c.Find(ctx, testUser, otherID)); found != "" {
		t.Errorf("found %q", found)
	}

	newID := must[string](t)(c.Update(ctx, id, item(func(i *memory.Item) { i.Content, i.Checksum = "new", "beef" })))
	if newID != id {
		t.Errorf("%s became %s", id, newID)
	}
	want.Text, want.Name, want.Label = header+"new", "memrelay-"+testID.String()+"-beef", ""
	want.Metadata = map[string]any{"node_set": []any{testUser}}
	documentsAre(t, srv, want)

	// It is found as before, though the update took its metadata away.
	copies, next, err := c.List(ctx, testUser, "")
	if d := cmp.Diff([]memory.Copy{{RemoteID: id, ID: testID, UserID: testUser, Checksum: "beef"}}, copies); d != "" || next != "" || err != nil {
		t.Error(d, next, err)
	}
	if found := must[string](t)(c.Find(ctx, testUser, testID)); found != id {
		t.Errorf("found %q, want %q", found, id)
	}

	for range 2 {
		if err := c.Delete(ctx, id); err != nil {
			t.Error(err)
		}
		documentsAre(t, srv)
	}
	_, err = c.Update(ctx, id, item())
	if e := errorOf(t, err); e.Kind != memory.RemoteGone {
		t.Errorf("updated what is not there: %v", err)
	}
	documentsAre(t, srv)
}

// Equal texts would be one document, and go together.
func TestEqualMemoriesAreTwoCopies(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{})
	one, two := added(t, c, item()), added(t, c, item(other))
	if one == two || len(srv.Documents()) != 2 {
		t.Fatalf("%s, %s", one, two)
	}
	if err := c.Delete(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if found := must[string](t)(c.Find(t.Context(), testUser, otherID)); found != two {
		t.Errorf("found %q, want %q", found, two)
	}
}

func TestUserChanges(t *testing.T) {
	t.Parallel()
	_, c := started(t, cogneetest.Options{})
	id := added(t, c, item())
	must[string](t)(c.Update(t.Context(), id, item(func(i *memory.Item) { i.UserID = "zoho:2" })))
	for userID, want := range map[string]int{testUser: 0, "zoho:2": 1, "": 1} {
		if copies, _, err := c.List(t.Context(), userID, ""); len(copies) != want || err != nil {
			t.Errorf("%q: %v %v", userID, copies, err)
		}
	}
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, fault := range []remotetest.Fault{{Lose: true}, {Truncate: true}} {
		srv, c := started(t, cogneetest.Options{})
		fault.Match = remotetest.Route(http.MethodPost, "/api/v1/add")
		srv.Fail(fault)
		_, err := c.Add(t.Context(), item())
		if e := errorOf(t, err); e.Kind != memory.RemoteUnavailable || !e.Sent {
			t.Fatalf("%+v", e)
		}
		id := must[string](t)(c.Find(t.Context(), testUser, testID))
		if again := added(t, c, item()); again != id || len(srv.Documents()) != 1 {
			t.Errorf("added %s, found %s", again, id)
		}
		fault.Match = remotetest.Route(http.MethodPatch, "/")
		srv.Fail(fault)
		newer := item(func(i *memory.Item) { i.Content, i.Checksum = "new", "beef" })
		if newID, err := c.Update(t.Context(), id, newer); newID != id || err != nil {
			t.Errorf("%s became %q: %v", id, newID, err)
		}
		if d := cmp.Diff([]string{header + "new"}, texts(srv)); d != "" {
			t.Error(d)
		}
	}
}

// The document is replaced before language models read it: what they say comes
// after, and may take long.
func TestUpdateWhoseGraphFails(t *testing.T) {
	t.Parallel()
	newer := item(func(i *memory.Item) { i.Content, i.Checksum = "new", "beef" })
	t.Run("with an error", func(t *testing.T) {
		t.Parallel()
		srv, c := started(t, cogneetest.Options{Graph: func() error { return errors.New("no LLM key") }})
		id := added(t, c, item())
		if newID, err := c.Update(t.Context(), id, newer); newID != id || err != nil {
			t.Errorf("%q %v", newID, err)
		}
		if d := cmp.Diff([]string{header + "new"}, texts(srv)); d != "" {
			t.Error(d)
		}
	})
	t.Run("by taking too long", func(t *testing.T) {
		t.Parallel()
		srv, c := started(t, cogneetest.Options{}, func(o *cognee.Options) {
			o.Timeout, o.LongTimeout = hang, hang
		})
		id := added(t, c, item())
		srv.Fail(remotetest.Fault{Match: remotetest.Route(http.MethodPatch, "/"), Hang: true})
		if _, err := c.Update(t.Context(), id, newer); !errorOf(t, err).Sent || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("not replaced, and no error: %v", err)
		}
	})
	t.Run("before the document was replaced", func(t *testing.T) {
		t.Parallel()
		srv, c := started(t, cogneetest.Options{})
		id := added(t, c, item())
		srv.Fail(remotetest.Fault{Match: remotetest.Route(http.MethodPatch, "/"), Status: 500, Body: `{"error":"Internal server error","detail":"boom"}`})
		if _, err := c.Update(t.Context(), id, newer); errorOf(t, err).Message != "Internal server error: boom" {
			t.Error(err)
		}
	})
}

// Before 1.5 an update makes a new document, of any id at all.
func TestOldCognee(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{Old: true})
	id := added(t, c, item())
	kept := added(t, c, item(other))
	newer := item(func(i *memory.Item) { i.Content, i.Checksum = "new", "beef" })
	newID := must[string](t)(c.Update(t.Context(), id, newer))
	if newID == id || newID == kept || len(srv.Documents()) != 2 {
		t.Fatalf("%s became %s: %v", id, newID, texts(srv))
	}
	if found := must[string](t)(c.Find(t.Context(), testUser, testID)); found != newID {
		t.Errorf("found %q, want %q", found, newID)
	}
	if _, err := c.Update(t.Context(), id, newer); errorOf(t, err).Kind != memory.RemoteGone {
		t.Error(err)
	}
	if n := len(srv.Documents()); n != 2 {
		t.Errorf("%d documents", n)
	}
	srv.Fail(remotetest.Fault{Match: remotetest.Route(http.MethodPatch, "/"), Lose: true})
	last := must[string](t)(c.Update(t.Context(), newID, item()))
	if last == newID || len(srv.Documents()) != 2 {
		t.Errorf("%s became %s", newID, last)
	}
	for _, set := range srv.Datasets() {
		srv.RemoveDataset(set.ID)
	}
	if _, err := c.Update(t.Context(), last, newer); errorOf(t, err).Kind != memory.RemoteGone {
		t.Error(err)
	}
}

// Old servers do not name what was added.
func TestAddThatIsNotNamed(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{Unnamed: true})
	id := added(t, c, item())
	documentsAre(t, srv, wantDocument(id))
	srv.Fail(remotetest.Fault{Match: remotetest.Route(http.MethodGet, "/"), Status: 503})
	_, err := c.Add(t.Context(), item())
	if e := errorOf(t, err); !e.Sent || e.Kind != memory.RemoteUnavailable {
		t.Errorf("%+v", e)
	}
}

func TestShapesOfAdd(t *testing.T) {
	t.Parallel()
	for text, sent := range map[string]bool{
		`{"status":"PipelineRunErrored","dataset_id":"d","data_ingestion_info":[{"data_id":"x"}]}`: true,
		`{}`: true, `[]`: true, `<html>`: true, `null`: true,
	} {
		c := answering(t, map[string]string{"POST /api/v1/add": text, "POST /api/v1/datasets": `{"id":"d"}`, "GET /api/v1/datasets/d/data": `[]`})
		if id, err := c.Add(t.Context(), item()); errorOf(t, err).Kind != memory.RemoteUnavailable || errorOf(t, err).Sent != sent {
			t.Errorf("%s: %q %v", text, id, err)
		}
	}
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
		{"an outage", remotetest.Fault{Status: 503, Body: `{"status":"not ready"}`}, memory.RemoteUnavailable, true, 0},
		{"too many calls", remotetest.Fault{Status: 429, Body: `<html>`, Header: http.Header{"Retry-After": {"30"}}}, memory.RemoteThrottled, false, 30 * time.Second},
		{"a spent budget", remotetest.Fault{Status: 402, Body: `{"error":"Token budget exhausted","detail":"x"}`}, memory.RemoteThrottled, false, 0},
		{"a withdrawn key", remotetest.Fault{Status: 401, Body: `{"detail":"Unauthorized"}`}, memory.RemoteUnauthorized, false, 0},
		{"no permission", remotetest.Fault{Status: 403, Body: `{"detail":"no [PermissionDeniedError]"}`}, memory.RemoteUnauthorized, false, 0},
		{"a validation", remotetest.Fault{Status: 400, Body: `{"detail":[{"loc":["body"],"msg":"no"}],"body":null}`}, memory.RemoteRefused, false, 0},
		{"something went wrong", remotetest.Fault{Status: 409, Body: `{"error":"x"}`}, memory.RemoteUnavailable, true, 0},
		{"the pipeline errored", remotetest.Fault{Status: 500, Body: `{"error":"Pipeline run errored","detail":"x"}`}, memory.RemoteUnavailable, true, 0},
		{"a wrong path", remotetest.Fault{Status: 404, Body: `{"detail":"Not Found"}`}, memory.RemoteUnavailable, false, 0},
		{"the connection breaks", remotetest.Fault{Drop: true}, memory.RemoteUnavailable, true, 0},
		{"no answer", remotetest.Fault{Hang: true}, memory.RemoteUnavailable, true, 0},
		{"elsewhere", remotetest.Fault{Status: 307, Header: http.Header{"Location": {"/"}}}, memory.RemoteUnavailable, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv, c := started(t, cogneetest.Options{}, func(o *cognee.Options) {
				if tc.fault.Hang {
					o.Timeout, o.LongTimeout = hang, hang
				}
			})
			ctx := t.Context()
			if err := c.Ping(ctx); err != nil {
				t.Fatal(err)
			}
			id := added(t, c, item())
			dataset := must[string](t)(c.Dataset(ctx))
			fault := tc.fault
			fault.Times = -1
			srv.Fail(fault)
			for name, call := range map[string]func() error{
				"add":     func() error { _, err := c.Add(ctx, item()); return err },
				"update":  func() error { _, err := c.Update(ctx, id, item()); return err },
				"delete":  func() error { return c.Delete(ctx, id) },
				"find":    func() error { _, err := c.Find(ctx, testUser, testID); return err },
				"list":    func() error { _, _, err := c.List(ctx, testUser, ""); return err },
				"ping":    func() error { return c.Ping(ctx) },
				"cognify": func() error { _, err := c.Cognify(ctx, dataset); return err },
				"status":  func() error { _, err := c.Status(ctx, dataset); return err },
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					e := errorOf(t, call())
					writes := name == "add" || name == "update" || name == "delete" || name == "cognify"
					if e.Kind != tc.want || e.Sent != (tc.sent && writes) || e.RetryAfter != tc.after {
						t.Errorf("%+v", e)
					}
				})
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{})
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
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{})
	id := added(t, c, item())
	for method, call := range map[string]func(context.Context) error{
		http.MethodPost:   func(ctx context.Context) error { _, err := c.Add(ctx, item()); return err },
		http.MethodPatch:  func(ctx context.Context) error { _, err := c.Update(ctx, id, item()); return err },
		http.MethodDelete: func(ctx context.Context) error { return c.Delete(ctx, id) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		srv.Fail(remotetest.Fault{Match: func(r *http.Request) bool {
			if r.Method == method {
				cancel()
			}
			return r.Method == method
		}, Hang: true})
		err := call(ctx)
		if e := errorOf(t, err); !errors.Is(err, context.Canceled) || !e.Sent {
			t.Errorf("%s: %+v", method, e)
		}
		cancel()
	}
}

func TestWrongKey(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{}, func(o *cognee.Options) { o.APIKey = "wrong" })
	if e := errorOf(t, c.Ping(t.Context())); e.Kind != memory.RemoteUnauthorized {
		t.Errorf("%+v", e)
	}
	id := srv.Put("memrelay", cogneetest.Document{Text: "x"})
	err := c.Delete(t.Context(), srv.Datasets()[0].ID+"/"+id)
	if e := errorOf(t, err); e.Kind != memory.RemoteUnauthorized || len(srv.Documents()) != 1 {
		t.Errorf("%+v", e)
	}
}

func TestWithoutAccessControl(t *testing.T) {
	t.Parallel()
	_, c := started(t, cogneetest.Options{Open: true}, func(o *cognee.Options) { o.APIKey = "" })
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), added(t, c, item())); err != nil {
		t.Error(err)
	}
}

func TestIDsOfSomebodyElse(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{})
	for _, id := range []string{"", "/", "x", "x/", "/x", "a/b/c"} {
		if err := c.Delete(t.Context(), id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := c.Update(t.Context(), id, item()); errorOf(t, err).Kind != memory.RemoteGone {
			t.Errorf("%q: %v", id, err)
		}
	}
	if calls := srv.Calls(); len(calls) != 0 {
		t.Errorf("asked: %v", calls)
	}
}

func TestRefusedItems(t *testing.T) {
	t.Parallel()
	_, c := started(t, cogneetest.Options{})
	_, err := c.Add(t.Context(), item(func(i *memory.Item) { i.Metadata = map[string]any{"x": func() {}} }))
	if e := errorOf(t, err); e.Kind != memory.RemoteRefused || e.Sent {
		t.Errorf("%+v", e)
	}
	// A checksum that no file name can hold is left out of it.
	added(t, c, item(func(i *memory.Item) { i.Checksum, i.Metadata, i.UserID = "../\"\r\n", nil, "" }))
}

func TestSideBySide(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{})
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			mine := item(func(i *memory.Item) { i.ID[15] = byte(n) })
			id, err := c.Add(t.Context(), mine)
			if err == nil {
				_, err = c.Update(t.Context(), id, mine)
			}
			if err == nil {
				_, err = c.Dataset(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(srv.Documents()); n != 20 || len(srv.Datasets()) != 1 {
		t.Errorf("%d documents", n)
	}
}
