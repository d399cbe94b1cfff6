package cognee_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/cognee"
	"github.com/memrelay/memrelay/internal/memory/cognee/cogneetest"
	"github.com/memrelay/memrelay/internal/memory/remotetest"
)

func TestDatasetIsAskedForOnce(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{}, func(o *cognee.Options) { o.Dataset = "team memory" })
	one, two := must[string](t)(c.Dataset(t.Context())), must[string](t)(c.Dataset(t.Context()))
	if one != two || len(srv.Calls()) != 1 || srv.Datasets()[0].Name != "team memory" {
		t.Errorf("%s %s %v", one, two, srv.Calls())
	}
	if !strings.HasPrefix(added(t, c, item()), one+"/") {
		t.Error("added somewhere else")
	}
}

func TestDatasetIsRemoved(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(t *testing.T, c *cognee.Client, id string){
		"add": func(t *testing.T, c *cognee.Client, id string) {
			if newID := added(t, c, item()); newID == id {
				t.Error("added to what is gone")
			}
		},
		"find": func(t *testing.T, c *cognee.Client, _ string) {
			if found := must[string](t)(c.Find(t.Context(), testUser, testID)); found != "" {
				t.Errorf("found %q", found)
			}
		},
		"list": func(t *testing.T, c *cognee.Client, _ string) {
			if copies, _, err := c.List(t.Context(), "", ""); len(copies) != 0 || err != nil {
				t.Error(copies, err)
			}
		},
		"update": func(t *testing.T, c *cognee.Client, id string) {
			if _, err := c.Update(t.Context(), id, item()); errorOf(t, err).Kind != memory.RemoteGone {
				t.Error(err)
			}
		},
		"delete": func(t *testing.T, c *cognee.Client, id string) {
			if err := c.Delete(t.Context(), id); err != nil {
				t.Error(err)
			}
		},
		"cognify": func(t *testing.T, c *cognee.Client, id string) {
			dataset, _, _ := strings.Cut(id, "/")
			if _, err := c.Cognify(t.Context(), dataset); errorOf(t, err).Kind != memory.RemoteGone {
				t.Error(err)
			}
			if now := must[string](t)(c.Dataset(t.Context())); now == dataset {
				t.Error("the dataset is still taken for there")
			}
		},
		"status": func(t *testing.T, c *cognee.Client, id string) {
			dataset, _, _ := strings.Cut(id, "/")
			if _, err := c.Status(t.Context(), dataset); errorOf(t, err).Kind != memory.RemoteGone {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, c := started(t, cogneetest.Options{})
			id := added(t, c, item())
			srv.RemoveDataset(srv.Datasets()[0].ID)
			call(t, c, id)
			if id := added(t, c, item()); id == "" || len(srv.Documents()) != 1 {
				t.Errorf("%q: %v", id, srv.Documents())
			}
		})
	}
}

// What says 401, or fails, is not taken for gone: the dataset is there.
func TestDatasetIsThere(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 404, 409, 500} {
		srv, c := started(t, cogneetest.Options{}, func(o *cognee.Options) { o.Dataset = "one" })
		id := added(t, c, item())
		// Somebody changed the setting meanwhile; the old dataset is still there.
		c = clientOf(t, srv.URL(), func(o *cognee.Options) { o.Dataset = "two" })
		srv.Fail(remotetest.Fault{Match: remotetest.Route(http.MethodDelete, "/"), Status: status, Body: `{"detail":"Not Found"}`})
		if err := c.Delete(t.Context(), id); err == nil {
			t.Errorf("%d: a copy that stays is said to be deleted", status)
		}
		if err := c.Delete(t.Context(), id); err != nil || len(srv.Documents()) != 0 {
			t.Error(err)
		}
	}
}

// Others keep documents in the dataset, too, and older ones of ours look different.
func TestStrangeDocuments(t *testing.T) {
	t.Parallel()
	const id = "0199aaaa-0000-7000-8000-000000000001"
	for document, want := range map[string]*memory.Copy{
		`{"id":"x","name":"report"}`: nil,
		`{"id":"x","name":"memrelay-report","label":"finance","externalMetadata":{"memrelay_id":7}}`:                nil,
		`{"id":"x","name":"memrelay-0199aaaa","label":null,"externalMetadata":null}`:                                nil,
		`{"id":"x","name":"text_1","label":"` + id + `","externalMetadata":[1]}`:                                    nil,
		`{"id":"x","name":"memrelay-` + id + `-beef"}`:                                                              {Checksum: "beef"},
		`{"id":"x","name":"memrelay-` + id + `"}`:                                                                   {},
		`{"id":"x","name":"memrelay-` + id + `-beef","externalMetadata":{"node_set":["u"]}}`:                        {Checksum: "beef", UserID: "u"},
		`{"id":"x","name":"memrelay-` + id + `-beef","externalMetadata":{"memrelay_checksum":"old","user_id":"u"}}`: {Checksum: "beef", UserID: "u"},
		`{"id":"x","name":"text_1","externalMetadata":{"memrelay_id":"` + id + `","memrelay_checksum":"c"}}`:        {Checksum: "c"},
		`{"id":"x","name":"text_1","label":"memrelay:` + id + `","externalMetadata":{"node_set":["a","b"]}}`:        {},
	} {
		c := answering(t, map[string]string{"POST /api/v1/datasets": `{"id":"d"}`, "GET /api/v1/datasets/d/data": `[` + document + `]`})
		copies, _, err := c.List(t.Context(), "", "")
		var wanted []memory.Copy
		if want != nil {
			want.RemoteID, want.ID = "d/x", testID
			wanted = []memory.Copy{*want}
		}
		if d := cmp.Diff(wanted, copies); d != "" || err != nil {
			t.Errorf("%s: %s %v", document, d, err)
		}
	}
}

func TestListsThatAreNone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, `null`, `{}`, `[{"id":"x"}`, `<html>`} {
		c := answering(t, map[string]string{"POST /api/v1/datasets": `{"id":"d"}`, "GET /api/v1/datasets/d/data": text})
		if found, err := c.Find(t.Context(), testUser, testID); errorOf(t, err).Kind != memory.RemoteUnavailable {
			t.Errorf("%s: %q", text, found)
		}
	}
	_, c := started(t, cogneetest.Options{})
	if _, _, err := c.List(t.Context(), "", "2"); errorOf(t, err).Kind != memory.RemoteRefused {
		t.Error(err)
	}
}

// A list is longer than other answers may be.
func TestLongList(t *testing.T) {
	t.Parallel()
	srv, c := started(t, cogneetest.Options{})
	for n := range 6000 {
		srv.Put("memrelay", cogneetest.Document{
			Name: fmt.Sprintf("memrelay-0199aaaa-0000-7000-8000-%012x-beef", n), Text: fmt.Sprint(n),
			Metadata: map[string]any{"note": strings.Repeat("x", 800)},
		})
	}
	copies, _, err := c.List(t.Context(), "", "")
	if len(copies) != 6000 || err != nil {
		t.Errorf("%d copies: %v", len(copies), err)
	}
}

func TestGraph(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	srv, c := started(t, cogneetest.Options{})
	dataset := must[string](t)(c.Dataset(ctx))
	progress := func(want cognee.Progress, running bool) {
		t.Helper()
		if got := must[cognee.Progress](t)(c.Status(ctx, dataset)); got != want || got.Running() != running {
			t.Errorf("%q, want %q", got, want)
		}
	}
	progress(cognee.ProgressNone, false)
	run := must[cognee.Run](t)(c.Cognify(ctx, dataset))
	if run.ID == "" || run.DatasetID != dataset || run.Status != cognee.RunStarted {
		t.Errorf("%+v", run)
	}
	progress(cognee.ProgressInitiated, true)
	srv.Advance(dataset, cogneetest.Started)
	progress(cognee.ProgressStarted, true)
	srv.Advance(dataset, cogneetest.Completed)
	progress(cognee.ProgressCompleted, false)
	srv.Advance(dataset, cogneetest.Errored)
	progress(cognee.ProgressErrored, false)
}

func TestShapesOfCognify(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{}`, `[]`, `{"d":{"status":"PipelineRunErrored"}}`, `{"e":{"status":"PipelineRunStarted"}}`} {
		c := answering(t, map[string]string{"POST /api/v1/cognify": text})
		if _, err := c.Cognify(t.Context(), "d"); errorOf(t, err).Kind != memory.RemoteUnavailable {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []cognee.Options{
		{}, {URL: "localhost:8000"}, {URL: "http://user:hidden@localhost:8000"}, {URL: "http://localhost:8000", APIKey: "hidden\n"},
	} {
		if _, err := cognee.New(o); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// The address is taken as people copy it.
func TestAddressWithAPI(t *testing.T) {
	t.Parallel()
	srv, _ := started(t, cogneetest.Options{})
	for _, address := range []string{srv.URL(), srv.URL() + "/", srv.URL() + "/api/v1", srv.URL() + "/api/v1/"} {
		if err := clientOf(t, address).Ping(t.Context()); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}
