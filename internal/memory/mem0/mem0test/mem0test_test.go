package mem0test_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
)

// It answers what the documents say, also where our client never asks.
func TestShapes(t *testing.T) {
	t.Parallel()
	const id = "0199aaaa-0000-4000-8000-000000000001"
	for _, tc := range []struct {
		server bool
		call   string // method, path, body
		status int
		part   string
	}{
		{false, `GET /v1/ping/`, 200, `"org_id":"org-1"`},
		{false, `GET /v1/ping`, 307, `Redirect`},
		{false, `GET /nothing/`, 404, `<h1>`},
		{false, `POST /v3/memories/add/ {"user_id":"u"}`, 400, `"error":"messages: `},
		{false, `POST /v3/memories/add/ {"messages":[{"role":"user","content":"x"}],"infer":false}`, 400, `At least one identifier`},
		{false, `POST /v3/memories/add/ {"messages":[{"role":"user","content":"x"}],"infer":false,"user_id":"u"}`, 200, `"event":"ADD"`},
		{false, `POST /v3/memories/add/ {"messages":[{"role":"user","content":"x"}],"infer":false,"user_id":"u","expiration_date":"31.1.2031"}`, 400, `YYYY-MM-DD`},
		{false, `POST /v3/memories/add/ {"messages":[{"role":"user","content":"x"}],"user_id":"u"}`, 400, `language model`},
		{false, `POST /v3/memories/ {"user_id":"u"}`, 400, `filters`},
		{false, `POST /v3/memories/?page_size=201 {"filters":{"user_id":"u"}}`, 400, `page`},
		{false, `POST /v3/memories/?page_size=x {"filters":{"user_id":"u"}}`, 400, `page`},
		{false, `POST /v3/memories/ {"filters":{"user_id":"u"}}`, 200, `"count":1`},
		{false, `POST /v3/memories/ {"filters":{"user_id":"u"},"show_expired":true}`, 200, `"count":2`},
		{false, `GET /v1/memories/x/`, 400, `memory_id should be a valid UUID`},
		{false, `GET /v1/memories/0199aaaa-0000-4000-8000-000000000009/`, 404, `Memory not found!`},
		{false, `PUT /v1/memories/` + id + `/ {}`, 400, `required`},
		{false, `PUT /v1/memories/` + id + `/ {"expiration_date":null}`, 200, `"expiration_date":null`},
		{false, `DELETE /v1/memories/` + id + `/`, 200, `Memory deleted successfully!`},
		{false, `GET /v1/event/x/`, 404, `Event not found`},
		{true, `GET /memories/`, 404, `{"detail":"Not Found"}`},
		{true, `POST /memories {"user_id":"u"}`, 422, `"loc":["body","messages"]`},
		{true, `POST /memories {"messages":[{"role":"user","content":"x"}],"infer":false}`, 400, `At least one identifier`},
		{true, `POST /memories {"messages":[{"role":"user","content":"x"}],"infer":false,"user_id":"u"}`, 200, `"event":"ADD"`},
		{true, `GET /memories?top_k=1001`, 422, `top_k`},
		{true, `GET /memories`, 200, `"2001-01-01"`},
		{true, `GET /memories?user_id=nobody`, 200, `{"results":[]}`},
		{true, `GET /memories/x`, 200, `null`},
		{true, `PUT /memories/x {"text":"x"}`, 404, `not found`},
		{true, `PUT /memories/` + id + ` no`, 422, `Field required`},
		{true, `DELETE /memories/x`, 404, `not found`},
		{true, `DELETE /memories/` + id, 200, `Memory deleted successfully"`},
		{true, `POST /search {"query":"x"}`, 400, `filters must contain`},
		{true, `POST /search {"filters":{"user_id":"u"}}`, 422, `query`},
		{true, `POST /search {"query":"x","filters":{"user_id":"u"},"top_k":1}`, 200, id},
	} {
		srv := mem0test.New(mem0test.Options{Server: tc.server})
		srv.Put(mem0test.Memory{ID: id, UserID: "u", Text: "likes tea"})
		srv.Put(mem0test.Memory{UserID: "u", Text: "likes tea", Expires: "2001-01-01"})
		call := strings.SplitN(tc.call, " ", 3)
		r := httptest.NewRequestWithContext(t.Context(), call[0], call[1], strings.NewReader(strings.Join(call[2:], "")))
		r.Header.Set("Authorization", "Token "+mem0test.Key)
		r.Header.Set("X-API-Key", mem0test.Key)
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, r)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.part) {
			t.Errorf("%s: %d %s", tc.call, w.Code, w.Body)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, server := range []bool{false, true} {
		srv := mem0test.New(mem0test.Options{Server: server, Key: "k"})
		for header, want := range map[string]int{"Authorization: Token k": 200, "X-API-Key: k": 200, "Authorization: Bearer k": 401, "X-API-Key: x": 401} {
			if server == strings.HasPrefix(header, "Authorization: Token") || !server && strings.HasPrefix(header, "X") {
				want = 401
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, map[bool]string{false: "/v1/ping/", true: "/memories"}[server], nil)
			name, value, _ := strings.Cut(header, ": ")
			r.Header.Set(name, value)
			w := httptest.NewRecorder()
			srv.ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("server %t, %s: %d", server, header, w.Code)
			}
		}
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	srv := mem0test.New(mem0test.Options{})
	srv.Forget(srv.Put(mem0test.Memory{UserID: "u"}))
	if left := srv.Memories(); len(left) != 0 {
		t.Error(left)
	}
}
