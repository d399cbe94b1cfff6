// Package pages serves the description of the API: in goes the OpenAPI document, out
// come /openapi.json and pages for people. They are plain HTML: no script, nothing
// from elsewhere.
package pages

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"sync"

	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/respond"
)

//go:embed page.html page.css
var files embed.FS

// Pages answers with the description. It does not change.
type Pages struct {
	document *served
	// pages are by chapter; "": the first one. They are rendered when one is asked for first.
	pages func() (map[string]*served, error)
}

// served is an answer that is always the same.
type served struct {
	body, etag, contentType string
}

// New makes Pages of an OpenAPI document.
func New(document []byte) *Pages {
	return &Pages{
		document: serve(document, "application/json"),
		pages:    sync.OnceValues(func() (map[string]*served, error) { return render(document) }),
	}
}

// render makes all pages. An error is a fault of the program: a document that is none.
func render(document []byte) (map[string]*served, error) {
	var doc contract.Document
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	css, err := files.ReadFile("page.css")
	if err != nil {
		return nil, fmt.Errorf("read the style of the pages: %w", err)
	}
	look, err := template.ParseFS(files, "page.html")
	if err != nil {
		return nil, fmt.Errorf("read the template of the pages: %w", err)
	}
	pages := map[string]*served{}
	for _, v := range views(&doc) {
		v.Style = template.CSS(css) //nolint:gosec // our own file
		var out bytes.Buffer
		if err := look.Execute(&out, v); err != nil {
			return nil, fmt.Errorf("render the page %q: %w", v.Name, err)
		}
		pages[v.Name] = serve(out.Bytes(), "text/html; charset=utf-8")
	}
	return pages, nil
}

func serve(body []byte, contentType string) *served {
	sum := sha256.Sum256(body)
	return &served{body: string(body), etag: `"` + hex.EncodeToString(sum[:16]) + `"`, contentType: contentType}
}

// Routes puts the description onto r. It wants no token: nothing in it is secret.
func (p *Pages) Routes(r chi.Router) {
	r.Method(http.MethodGet, "/openapi.json", respond.Handler(p.showDocument))
	r.Method(http.MethodGet, "/docs", respond.Handler(p.showPage))
	r.Method(http.MethodGet, "/docs/{chapter}", respond.Handler(p.showPage))
}

func (p *Pages) showDocument(w http.ResponseWriter, r *http.Request) error {
	p.document.answer(w, r)
	return nil
}

func (p *Pages) showPage(w http.ResponseWriter, r *http.Request) error {
	pages, err := p.pages()
	if err != nil {
		return err
	}
	page := pages[chi.URLParam(r, "chapter")]
	if page == nil {
		return noSuchPage()
	}
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; style-src '"+styleHash()+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	page.answer(w, r)
	return nil
}

// styleHash lets the one style of the pages pass, and no other.
func styleHash() string {
	css, _ := files.ReadFile("page.css") // New has read it before
	sum := sha256.Sum256(css)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func noSuchPage() *respond.Error {
	return &respond.Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is no such chapter; /docs has all."}
}

func (s *served) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Etag", s.etag)
	h.Set("Cache-Control", "no-cache") // asked for anew each time, and sent when it differs
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Header.Get("If-None-Match") == s.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", s.contentType)
	h.Set("Content-Length", fmt.Sprint(len(s.body)))
	// A client that is gone is no fault of ours, and nobody is left to be told.
	_, _ = w.Write([]byte(s.body))
}
