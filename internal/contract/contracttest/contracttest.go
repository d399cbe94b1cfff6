// Package contracttest holds answers against openapi.json. In go the handlers of
// tests and what they answer, out come errors for each answer that the document does
// not describe; and requests made from the document, good and broken ones.
package contracttest

import (
	"bytes"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/memrelay/memrelay"
)

// location is what the document is called; nothing is fetched from there.
const location = "https://memrelay.invalid/openapi.json"

// Document is openapi.json, with the means to hold things against it.
type Document struct {
	root   map[string]any
	routes []route

	mu       sync.Mutex
	compiler *jsonschema.Compiler
	compiled map[string]*jsonschema.Schema
	answered map[string]bool // operations, with the statuses that they were answered with
}

// route is an operation and where it is.
type route struct {
	method, path string
	segments     []string
	operation    map[string]any
}

// Load reads what is checked in. Answers are to have no field that it does not name.
func Load() (*Document, error) {
	root, err := read(memrelay.OpenAPI)
	if err != nil {
		return nil, err
	}
	closeAnswers(root)
	d := &Document{root: root, compiler: jsonschema.NewCompiler(), compiled: map[string]*jsonschema.Schema{}, answered: map[string]bool{}}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(location, root); err != nil {
		return nil, fmt.Errorf("take up %s: %w", location, err)
	}
	for path, item := range object(root["paths"]) {
		for method, operation := range object(item) {
			d.routes = append(d.routes, route{strings.ToUpper(method), path, strings.Split(path, "/"), object(operation)})
		}
	}
	slices.SortFunc(d.routes, func(a, b route) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return d, nil
}

func read(raw []byte) (map[string]any, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", location, err)
	}
	return object(value), nil
}

func object(v any) map[string]any { o, _ := v.(map[string]any); return o }

func list(v any) []any { l, _ := v.([]any); return l }

func text(v any) string { s, _ := v.(string); return s }

// closeAnswers has the schemas of answers take no field that they do not name: what is
// answered and not described is to be seen. Those of requests, which say so
// themselves where it is so, stay as they are.
func closeAnswers(root map[string]any) {
	components := object(root["components"])
	sent := requestSchemas(root)
	for name, s := range object(components["schemas"]) {
		if !sent[name] {
			closeSchema(s)
		}
	}
}

// requestSchemas are the names of those that bodies of requests begin with.
func requestSchemas(root map[string]any) map[string]bool {
	sent := map[string]bool{}
	for _, item := range object(root["paths"]) {
		for _, operation := range object(item) {
			for _, media := range object(object(object(operation)["requestBody"])["content"]) {
				sent[strings.TrimPrefix(text(object(object(media)["schema"])["$ref"]), "#/components/schemas/")] = true
			}
		}
	}
	return sent
}

func closeSchema(s any) {
	o := object(s)
	if fields := object(o["properties"]); fields != nil {
		if _, said := o["additionalProperties"]; !said {
			o["additionalProperties"] = false
		}
		for _, f := range fields {
			closeSchema(f)
		}
	}
	if o["items"] != nil {
		closeSchema(o["items"])
	}
}

// schema compiles the one at a JSON pointer.
func (d *Document) schema(pointer string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.compiled[pointer]; s != nil {
		return s, nil
	}
	s, err := d.compiler.Compile(location + "#" + pointer)
	if err != nil {
		return nil, fmt.Errorf("compile the schema at %s: %w", pointer, err)
	}
	d.compiled[pointer] = s
	return s, nil
}

var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(parts ...string) string {
	var p strings.Builder
	for _, part := range parts {
		p.WriteString("/" + pointerEscape.Replace(part))
	}
	return p.String()
}

// find is the operation that a request is for, nil when the document has none.
// Segments that are named go before those that are parameters.
func (d *Document) find(method, path string) *route {
	segments := strings.Split(path, "/")
	var best *route
	for i, r := range d.routes {
		if r.method == method && fits(r.segments, segments) && (best == nil || strings.Count(r.path, "{") < strings.Count(best.path, "{")) {
			best = &d.routes[i]
		}
	}
	return best
}

func fits(pattern, segments []string) bool {
	return slices.EqualFunc(pattern, segments, func(want, got string) bool { return strings.HasPrefix(want, "{") || want == got })
}

// Answer is what a server said.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Check returns an error for an answer that the document does not describe. path is
// as it was sent, escaped.
func (d *Document) Check(method, path string, a Answer) error {
	r := d.find(method, path)
	if r == nil {
		return d.checkUnknown(a)
	}
	d.note(r, a.Status)
	at := pointer("paths", r.path, strings.ToLower(r.method), "responses", strconv.Itoa(a.Status))
	response := object(object(r.operation["responses"])[strconv.Itoa(a.Status)])
	if response == nil {
		return fmt.Errorf("the status %d is not described", a.Status)
	}
	if ref := text(response["$ref"]); ref != "" {
		at = strings.TrimPrefix(ref, "#")
		response = object(object(object(d.root["components"])["responses"])[strings.TrimPrefix(ref, "#/components/responses/")])
	}
	if err := d.checkHeaders(response, a.Header); err != nil {
		return err
	}
	return d.checkBody(at, object(response["content"]), a)
}

func (d *Document) checkHeaders(response map[string]any, got http.Header) error {
	for name, h := range object(response["headers"]) {
		header := object(h)
		if ref := text(header["$ref"]); ref != "" {
			header = object(object(object(d.root["components"])["headers"])[strings.TrimPrefix(ref, "#/components/headers/")])
		}
		if required, _ := header["required"].(bool); required && got.Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
	}
	return nil
}

func (d *Document) checkBody(at string, content map[string]any, a Answer) error {
	if len(content) == 0 {
		if len(a.Body) > 0 {
			return fmt.Errorf("a body is not described: %.200s", a.Body)
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if content["*/*"] != nil {
		return nil // bytes as somebody else has sent them
	}
	if err != nil || content[media] == nil {
		return fmt.Errorf("the content type %q is not described, only %v", a.Header.Get("Content-Type"), slices.Sorted(maps.Keys(content)))
	}
	if !strings.HasSuffix(media, "json") {
		return nil
	}
	return d.checkJSON(at+pointer("content", media, "schema"), a.Body)
}

func (d *Document) checkJSON(at string, body []byte) error {
	schema, err := d.schema(at)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return schema.Validate(value)
}

// checkUnknown wants the problem of an address that there is not.
func (d *Document) checkUnknown(a Answer) error {
	if a.Status != http.StatusNotFound && a.Status != http.StatusMethodNotAllowed {
		return fmt.Errorf("the document has no such operation, and the answer is %d", a.Status)
	}
	if a.Header.Get("Content-Type") != "application/problem+json" {
		return fmt.Errorf("a problem comes as %q", a.Header.Get("Content-Type"))
	}
	return d.checkJSON(pointer("components", "schemas", "Problem"), a.Body)
}

func (d *Document) note(r *route, status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answered[fmt.Sprintf("%s %s %d", r.method, r.path, status)] = true
}

// Unanswered are the operations that nothing has answered yet with a status that is no problem.
func (d *Document) Unanswered() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var missing []string
	for _, r := range d.routes {
		answered := false
		for status := range object(r.operation["responses"]) {
			answered = answered || status < "400" && d.answered[r.method+" "+r.path+" "+status]
		}
		if !answered {
			missing = append(missing, r.method+" "+r.path)
		}
	}
	return missing
}

// loaded is read once for all tests of a package.
var loaded = sync.OnceValues(Load)

// Wrap returns next, each of whose answers is held against the document: t fails for
// one that it does not describe. It must not be called after t has ended.
func Wrap(t testing.TB, next http.Handler) http.Handler {
	t.Helper()
	d, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return d.Wrap(t, next)
}

// Wrap is Wrap for a document that is kept.
func (d *Document) Wrap(t testing.TB, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		ww.Tee(&body)
		// A handler that breaks its answer off panics past this: there is nothing to hold.
		next.ServeHTTP(ww, r)
		status := ww.Status()
		if status == 0 {
			status = http.StatusOK
		}
		if err := d.Check(r.Method, r.URL.EscapedPath(), Answer{status, ww.Header().Clone(), body.Bytes()}); err != nil {
			t.Errorf("%s %s answers %d, which is not as openapi.json says: %v\n%.500s", r.Method, r.URL.Path, status, err, body.Bytes())
		}
	})
}
