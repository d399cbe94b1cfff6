package mem0_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/memrelay/memrelay/internal/memory/mem0"
	"github.com/memrelay/memrelay/internal/memory/mem0/mem0test"
)

func TestForm(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		address string
		form    mem0.Form
		want    mem0.Form
	}{
		{"", mem0.Auto, mem0.Platform},
		{"https://api.mem0.ai", mem0.Auto, mem0.Platform},
		{"https://API.mem0.ai:443/", mem0.Auto, mem0.Platform},
		{"http://localhost:8888", mem0.Auto, mem0.Server},
		{"https://api.mem0.ai.example", mem0.Auto, mem0.Server},
		{"https://proxy.example/mem0", mem0.Platform, mem0.Platform},
		{"https://api.mem0.ai", mem0.Server, mem0.Server},
	} {
		c, err := mem0.New(mem0.Options{URL: tc.address, Form: tc.form, APIKey: "k"})
		if err != nil || c.Form() != tc.want {
			t.Errorf("%q as %q: %v %v", tc.address, tc.form, c, err)
		}
	}
}

func TestParseForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]mem0.Form{"": mem0.Auto, "auto": mem0.Auto, "Platform": mem0.Platform, " server ": mem0.Server} {
		if got, err := mem0.ParseForm(text); got != want || err != nil {
			t.Errorf("%q: %q %v", text, got, err)
		}
	}
	if _, err := mem0.ParseForm("oss"); err == nil {
		t.Error("oss is taken")
	}
}

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []mem0.Options{
		{}, // the platform without a key
		{URL: "http://user:hidden@localhost", APIKey: "k"},
		{URL: "localhost:8888", APIKey: "k"},
		{URL: "http://localhost", Form: "both", APIKey: "k"},
		{URL: "http://localhost", APIKey: "hidden\n"},
	} {
		if _, err := mem0.New(o); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Each form is asked for what it has: versions and slashes, and its own key header.
func TestPaths(t *testing.T) {
	t.Parallel()
	for server, want := range map[bool]string{
		false: "POST /v3/memories/add/ Token, GET /v1/memories/a%2Fb/ Token, PUT /v1/memories/a%2Fb/ Token, DELETE /v1/memories/a%2Fb/ Token, POST /v3/memories/ Token, GET /v1/ping/ Token",
		true:  "POST /memories , GET /memories/a%2Fb , PUT /memories/a%2Fb , DELETE /memories/a%2Fb , GET /memories , GET /memories ",
	} {
		form := mem0.Platform
		if server {
			form = mem0.Server
		}
		var got []string
		c := answering(t, form, func(w http.ResponseWriter, r *http.Request) {
			scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			if server {
				key = r.Header.Get("X-API-Key")
			}
			if key != mem0test.Key || r.Header.Get("User-Agent") != "memrelay" {
				t.Errorf("%v", r.Header)
			}
			got = append(got, r.Method+" "+r.URL.EscapedPath()+" "+scheme)
			_, _ = w.Write([]byte(`{"results":[{"id":"a"}],"next":null}`))
		})
		ctx := t.Context()
		added(t, c, item())
		_, _ = c.Update(ctx, "a/b", item())
		_ = c.Delete(ctx, "a/b")
		_, _ = c.Find(ctx, testUser, testID)
		_ = c.Ping(ctx)
		if joined := strings.Join(got, ", "); joined != want {
			t.Errorf("%s\nwant %s", joined, want)
		}
	}
}
