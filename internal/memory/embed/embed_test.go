package embed

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory"
)

var _ memory.Embedder = (*Client)(nil)

const key = "sk-very-secret"

func client(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := New(Options{URL: server.URL + "/v1/", Key: key, Model: "text-embedding-3-small", Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEmbed(t *testing.T) {
	t.Parallel()
	type asked struct {
		Method, Path, Key, Type string
		Body                    map[string]any
	}
	got := make(chan asked, 1)
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		a := asked{Method: r.Method, Path: r.URL.Path, Key: r.Header.Get("Authorization"), Type: r.Header.Get("Content-Type")}
		if err := json.NewDecoder(r.Body).Decode(&a.Body); err != nil {
			t.Error(err)
		}
		got <- a
		_, _ = io.WriteString(w, `{"object":"list","data":[
			{"object":"embedding","embedding":[0.5,-1e-3],"index":1},
			{"object":"embedding","embedding":[0.25,1],"index":0}],
			"model":"text-embedding-3-small-0001","usage":{"prompt_tokens":8,"total_tokens":8}}`)
	})
	vectors, err := c.Embed(t.Context(), []string{"one", "two"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]float32{{0.25, 1}, {0.5, -1e-3}}, vectors); diff != "" {
		t.Error(diff)
	}
	want := asked{
		Method: "POST", Path: "/v1/embeddings", Key: "Bearer " + key, Type: "application/json",
		Body: map[string]any{"model": "text-embedding-3-small", "input": []any{"one", "two"}, "encoding_format": "float"},
	}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
}

func TestEmbedRefusesAnswers(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"a wrong key, repeated":  say(401, `{"error":{"message":"Incorrect API key provided: `+key+`"}}`),
		"too many requests":      say(429, `{"error":{"message":"slow down"}}`),
		"broken":                 say(500, `oops `+key),
		"a redirect":             redirect,
		"no JSON":                say(200, `<html>`+key),
		"too few":                say(200, `{"data":[{"index":0,"embedding":[1]}]}`),
		"the same twice":         say(200, `{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}`),
		"an index outside":       say(200, `{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]}`),
		"an index below":         say(200, `{"data":[{"index":-1,"embedding":[1]},{"index":1,"embedding":[1]}]}`),
		"an empty vector":        say(200, `{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[1]}]}`),
		"base64":                 say(200, `{"data":[{"index":0,"embedding":"AACAPw=="},{"index":1,"embedding":"AACAPw=="}]}`),
		"numbers beyond a float": say(200, `{"data":[{"index":0,"embedding":[1e99]},{"index":1,"embedding":[1]}]}`),
		"null":                   say(200, `null`),
		"too long":               long,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vectors, err := client(t, h).Embed(t.Context(), []string{"one", "two"})
			if err == nil {
				t.Fatalf("got %v and no error", vectors)
			}
			if strings.Contains(err.Error(), key) {
				t.Errorf("the error holds the key: %v", err)
			}
		})
	}
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// redirect leads to what would be a good answer.
func redirect(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/elsewhere" {
		_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1]}]}`)
		return
	}
	http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
}

func long(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[1`)
	numbers := strings.Repeat(",1", 1<<19)
	for range 20 {
		_, _ = io.WriteString(w, numbers)
	}
	_, _ = io.WriteString(w, `]},{"index":1,"embedding":[1]}]}`)
}

func TestVectorsWithoutIndexStandInOrder(t *testing.T) {
	t.Parallel()
	got, err := client(t, say(200, `{"data":[{"embedding":[1]},{"embedding":[2]}]}`)).Embed(t.Context(), []string{"one", "two"})
	if diff := cmp.Diff([][]float32{{1}, {2}}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestEmbedEndsWithItsContext(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	c := client(t, func(http.ResponseWriter, *http.Request) { close(arrived); <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err := c.Embed(ctx, []string{"one"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{URL: "ftp://x", Model: "m"}, {URL: "http://ada:secret@x", Model: "m"}, {URL: "http://x"}, {URL: "http://x", Model: "m", Key: "secret\nb"},
	} {
		if _, err := New(o); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%+v): %v", o, err)
		}
	}
}
