package pages

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay"
	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/respond"
)

func serveOn(t *testing.T) *httptest.Server {
	t.Helper()
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.DiscardHandler))
	New(memrelay.OpenAPI).Routes(r)
	s := httptest.NewServer(contracttest.Wrap(t, r))
	t.Cleanup(s.Close)
	return s
}

// got is what a reader gets.
type got struct {
	status int
	header http.Header
}

func get(t *testing.T, url, etag string) (got, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got{resp.StatusCode, resp.Header}, string(body)
}

func TestTheDocumentIsServedAsItIs(t *testing.T) {
	t.Parallel()
	s := serveOn(t)
	resp, body := get(t, s.URL+"/openapi.json", "")
	if body != string(memrelay.OpenAPI) || resp.header.Get("Content-Type") != "application/json" {
		t.Errorf("answered %d bytes as %s", len(body), resp.header.Get("Content-Type"))
	}
	for path, etag := range map[string]string{"/openapi.json": resp.header.Get("Etag")} {
		if again, body := get(t, s.URL+path, etag); again.status != http.StatusNotModified || body != "" {
			t.Errorf("%s again: %d %q", path, again.status, body)
		}
		if other, body := get(t, s.URL+path, `"another"`); other.status != http.StatusOK || body == "" {
			t.Errorf("%s by another ETag: %d", path, other.status)
		}
	}
}

var link = regexp.MustCompile(`href="([^"]+)"`)

// Every link leads somewhere, to its place in the page, too, and nothing is fetched
// from elsewhere.
func TestPagesHoldTogether(t *testing.T) {
	t.Parallel()
	s := serveOn(t)
	pages := map[string]string{}
	var visit func(path string)
	visit = func(path string) {
		if _, seen := pages[path]; seen {
			return
		}
		resp, body := get(t, s.URL+path, "")
		pages[path] = body
		if resp.status != http.StatusOK {
			t.Errorf("%s: %d", path, resp.status)
			return
		}
		if path == "/openapi.json" {
			return
		}
		checkPage(t, path, resp, body)
		for _, m := range link.FindAllStringSubmatch(body, -1) {
			if to, _, _ := strings.Cut(m[1], "#"); to != "" {
				visit(to)
			}
		}
	}
	visit("/docs")
	if len(pages) < 10 {
		t.Errorf("only %d pages", len(pages))
	}
	for from, body := range pages {
		if from == "/openapi.json" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(body, -1) {
			to, place, found := strings.Cut(m[1], "#")
			if to == "" {
				to = from
			}
			if found && !strings.Contains(pages[to], `id="`+place+`"`) {
				t.Errorf("%s links to %s, which has no such place", from, m[1])
			}
		}
	}
}

func checkPage(t *testing.T, path string, resp got, body string) {
	t.Helper()
	if csp := resp.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("%s may fetch what it likes: %s", path, csp)
	}
	for _, not := range []string{"<script", "<link", "<img", "src=", "@import", "style=\"", "ZgotmplZ", "&lt;nil&gt;", "%!"} {
		if strings.Contains(body, not) {
			t.Errorf("%s has %s", path, not)
		}
	}
	if !strings.Contains(body, "prefers-color-scheme: dark") || !strings.Contains(body, `<html lang="en">`) {
		t.Errorf("%s is not as it should look", path)
	}
}

// What a reader needs of an operation stands on its page.
func TestAPageSaysWhatAnOperationIs(t *testing.T) {
	t.Parallel()
	s := serveOn(t)
	_, body := get(t, s.URL+"/docs/memory", "")
	_, section, _ := strings.Cut(body, `<section id="add_memory">`)
	section, _, _ = strings.Cut(section, "</section>")
	for _, want := range []string{
		"/v1/memories", "Store a memory", "a token with the scope memory", "Idempotency-Key", "0 to 65536 bytes", "user_id", "201",
		"idempotency_key_reused", `curl &#39;http://localhost:8000/v1/memories&#39;`, "Authorization: Bearer $TOKEN", "Drinks tea, never coffee",
	} {
		if !strings.Contains(section, want) && !strings.Contains(section, strings.Replace(want, "0 to", "at most", 1)) {
			t.Errorf("the page does not say %s of add_memory:\n%.3000s", want, section)
		}
	}
	if resp, _ := get(t, s.URL+"/docs/none", ""); resp.status != http.StatusNotFound {
		t.Errorf("a chapter that is none: %d", resp.status)
	}
}

func TestADocumentThatIsNone(t *testing.T) {
	t.Parallel()
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.DiscardHandler))
	New([]byte("no JSON")).Routes(r)
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	if resp, _ := get(t, s.URL+"/docs", ""); resp.status != http.StatusInternalServerError {
		t.Errorf("answered %d", resp.status)
	}
}
