package cogneetest_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/memrelay/memrelay/internal/memory/cognee/cogneetest"
)

// form is a body of one file and a few values.
func form(values ...string) string {
	var b strings.Builder
	b.WriteString("--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.txt\"\r\n\r\nhello\r\n")
	for i := 0; i < len(values); i += 2 {
		b.WriteString("--b\r\nContent-Disposition: form-data; name=\"" + values[i] + "\"\r\n\r\n" + values[i+1] + "\r\n")
	}
	return b.String() + "--b--\r\n"
}

// It answers what the routers say, also where our client never asks. SET and DOC
// stand for the ids of a dataset and of its document.
func TestShapes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		method, path, body string
		status             int
		part               string
	}{
		{"GET", "/health", "", 200, `"status":"ready"`},
		{"GET", "/api/v1/nothing", "", 404, `{"detail":"Not Found"}`},
		{"POST", "/api/v1/add", "", 400, `"loc":["body","data"]`},
		{"POST", "/api/v1/add", form(), 400, `Either datasetId or datasetName must be provided.`},
		{"POST", "/api/v1/add", form("datasetName", "one"), 200, `"status":"PipelineRunCompleted"`},
		{"POST", "/api/v1/add", form("datasetId", "SET"), 200, `"dataset_name":"one"`},
		{"POST", "/api/v1/add", form("datasetId", "nobody"), 500, `"error":"Internal server error"`},
		{"POST", "/api/v1/add", form("datasetName", "one", "labels", "no"), 400, `InvalidLabelsError`},
		{"POST", "/api/v1/add", form("datasetName", "one", "labels", `["a","b"]`), 400, `LabelCountMismatchError`},
		{"POST", "/api/v1/add", form("datasetName", "one", "external_metadata", "no"), 400, `InvalidExternalMetadataError`},
		{"POST", "/api/v1/add", form("datasetName", "one", "external_metadata", `[{"node_set":1}]`), 400, `reserved`},
		{"PATCH", "/api/v1/update", form(), 400, `data_id`},
		{"PATCH", "/api/v1/update?data_id=DOC&dataset_id=SET", form("node_set", "u"), 200, `"status":"PipelineRunCompleted"`},
		{"PATCH", "/api/v1/update?data_id=x&dataset_id=SET", form(), 404, `UpdateTargetNotFoundError`},
		{"PATCH", "/api/v1/update?data_id=DOC&dataset_id=x", form(), 404, `UpdateTargetNotFoundError`},
		{"GET", "/api/v1/datasets", "", 200, `"name":"one"`},
		{"POST", "/api/v1/datasets", `{"name":"one"}`, 200, `"id":"SET"`},
		{"POST", "/api/v1/datasets", `{}`, 400, `Field required`},
		{"DELETE", "/api/v1/datasets/SET", "", 200, `null`},
		{"DELETE", "/api/v1/datasets/x", "", 403, `PermissionDeniedError`},
		{"GET", "/api/v1/datasets/SET/data", "", 200, `"externalMetadata":{"k":"v"}`},
		{"GET", "/api/v1/datasets/x/data", "", 403, `PermissionDeniedError`},
		{"GET", "/api/v1/datasets/SET/data/DOC/raw", "", 200, `likes tea`},
		{"GET", "/api/v1/datasets/SET/data/x/raw", "", 404, `DataNotFoundError`},
		{"DELETE", "/api/v1/datasets/SET/data/DOC", "", 200, `null`},
		{"DELETE", "/api/v1/datasets/SET/data/x", "", 200, `null`},
		{"DELETE", "/api/v1/datasets/x/data/DOC", "", 401, `not accessible`},
		{"POST", "/api/v1/cognify", `{}`, 400, `No datasets`},
		{"POST", "/api/v1/cognify", `no`, 400, `dataset_ids`},
		{"POST", "/api/v1/cognify", `{"datasetIds":["SET"]}`, 200, `{"SET":{`},
		{"POST", "/api/v1/cognify", `{"dataset_ids":["SET"],"run_in_background":true}`, 200, `PipelineRunStarted`},
		{"POST", "/api/v1/cognify", `{"dataset_ids":["x"]}`, 500, `Internal server error`},
		{"GET", "/api/v1/datasets/status?dataset=SET", "", 200, `{}`},
		{"GET", "/api/v1/datasets/status?dataset=x", "", 409, `Unable to retrieve`},
	} {
		srv := cogneetest.New(cogneetest.Options{})
		doc := srv.Put("one", cogneetest.Document{Name: "a", Text: "likes tea", Metadata: map[string]any{"k": "v"}})
		ids := strings.NewReplacer("SET", srv.Datasets()[0].ID, "DOC", doc)
		r := httptest.NewRequestWithContext(t.Context(), tc.method, ids.Replace(tc.path), strings.NewReader(ids.Replace(tc.body)))
		r.Header.Set("X-Api-Key", cogneetest.Key)
		if strings.HasPrefix(tc.body, "--b") {
			r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		}
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), ids.Replace(tc.part)) {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, w.Code, w.Body)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int{cogneetest.Key: 200, "x": 401, "": 401} {
		srv := cogneetest.New(cogneetest.Options{})
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/datasets", nil)
		r.Header.Set("X-Api-Key", key)
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d", key, w.Code)
		}
	}
}

// The same text in the same dataset is the same document; elsewhere it is not.
func TestEqualTexts(t *testing.T) {
	t.Parallel()
	srv := cogneetest.New(cogneetest.Options{})
	one := srv.Put("one", cogneetest.Document{Text: "x", Label: "first"})
	if again := srv.Put("one", cogneetest.Document{Text: "x", Name: "b"}); again != one {
		t.Error("two documents")
	}
	if elsewhere := srv.Put("two", cogneetest.Document{Text: "x"}); elsewhere == one {
		t.Error("one document in two datasets")
	}
	if d := srv.Documents()[0]; d.Label != "first" || d.Name != "b" {
		t.Errorf("%+v", d)
	}
	srv.Forget(one)
	if n := len(srv.Documents()); n != 1 {
		t.Errorf("%d documents", n)
	}
}
