package pages

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
)

// view is one page.
type view struct {
	Name, Title, Description string
	Style                    template.CSS
	Info                     contract.Info
	Chapters                 []chapter // all there are
	Operations               []operation
	Schemas                  []named
	First                    bool // it lists the operations of all chapters
}

// chapter is one of the list at the top.
type chapter struct {
	Name, Title string
	Operations  []operation
}

// operation is a route, or a webhook.
type operation struct {
	ID, Method, Path, Summary, Description string
	Needs                                  string // to be let in
	Params                                 []row
	Body                                   []row
	BodyType                               kind
	BodyMeans                              string
	Curl                                   string
	Examples                               []example
	Answers                                []answer
}

// answer is one, by its status.
type answer struct {
	Status, Means string
	Type          kind
	Codes         []code
	Examples      []example
}

// code is one of a problem, with what it says.
type code struct{ Code, Detail string }

// example is a body as it is sent.
type example struct{ Name, Text string }

// named is a schema with its fields.
type named struct {
	Name, Description string
	Fields            []row
}

// row is a field or a parameter.
type row struct {
	Name, In, Means, Bounds string
	Type                    kind
	Required                bool
}

// kind is a type in words, with the schema that it refers to.
type kind struct{ Text, Ref string }

const schemasPage = "schemas"

// views are all pages of a document.
func views(d *contract.Document) []*view {
	byChapter := map[string][]operation{}
	add := func(path, method string, e *contract.Endpoint) {
		o := describe(d, path, method, e)
		byChapter[e.Tags[0]] = append(byChapter[e.Tags[0]], o)
	}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for _, method := range []string{"get", "post", "patch", "put", "delete"} {
			if e := d.Paths[path][method]; e != nil {
				add(path, method, e)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Webhooks)) {
		add(name, "post", d.Webhooks[name]["post"])
	}
	var chapters []chapter
	for _, t := range d.Tags {
		chapters = append(chapters, chapter{Name: t.Name, Title: t.Title, Operations: byChapter[t.Name]})
	}
	all := []*view{{Title: d.Info.Title, Description: d.Info.Description, Info: d.Info, Chapters: chapters, First: true}}
	for _, t := range d.Tags {
		all = append(all, &view{Name: t.Name, Title: t.Title, Description: t.Description, Info: d.Info, Chapters: chapters, Operations: byChapter[t.Name]})
	}
	return append(all, &view{Name: schemasPage, Title: "Schemas", Description: "What bodies are made of.", Info: d.Info, Chapters: chapters, Schemas: schemas(d)})
}

func schemas(d *contract.Document) []named {
	var all []named
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		s := d.Components.Schemas[name]
		all = append(all, named{Name: name, Description: s.Description, Fields: fields("", s)})
	}
	return all
}

func describe(d *contract.Document, path, method string, e *contract.Endpoint) operation {
	o := operation{
		ID: e.OperationID, Method: strings.ToUpper(method), Path: path, Summary: e.Summary, Description: e.Description,
		Needs: needs(e.Security), Curl: curl(path, method, e),
	}
	for _, p := range e.Parameters {
		o.Params = append(o.Params, row{Name: p.Name, In: p.In, Means: p.Description, Bounds: bounds(p.Schema), Type: kindOf(p.Schema), Required: p.Required})
	}
	if e.RequestBody != nil {
		o.BodyMeans = e.RequestBody.Description
		if media := e.RequestBody.Content["application/json"]; media != nil {
			o.BodyType = kindOf(media.Schema)
			o.Body = fields("", follow(d, media.Schema))
			o.Examples = examples(media)
		}
	}
	for _, status := range slices.Sorted(maps.Keys(e.Responses)) {
		o.Answers = append(o.Answers, answerOf(d, status, e.Responses[status]))
	}
	return o
}

// follow is the schema that a reference leads to.
func follow(d *contract.Document, s *jsonschema.Schema) *jsonschema.Schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return d.Components.Schemas[name]
	}
	return s
}

func answerOf(d *contract.Document, status string, r *contract.Response) answer {
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		r = d.Components.Responses[name]
	}
	a := answer{Status: status, Means: r.Description}
	if media := r.Content["application/json"]; media != nil {
		a.Type, a.Examples = kindOf(media.Schema), examples(media)
	}
	if media := r.Content["application/problem+json"]; media != nil {
		for _, name := range slices.Sorted(maps.Keys(media.Examples)) {
			detail := ""
			if problem, ok := media.Examples[name].Value.(map[string]any); ok {
				detail, _ = problem["detail"].(string)
			}
			a.Codes = append(a.Codes, code{name, detail})
		}
	}
	return a
}

func examples(m *contract.Media) []example {
	var all []example
	for _, name := range slices.Sorted(maps.Keys(m.Examples)) {
		all = append(all, example{name, indented(m.Examples[name].Value)})
	}
	return all
}

func indented(v any) string {
	text, err := encode(v, "  ")
	if err != nil {
		return fmt.Sprint(v)
	}
	return text
}

func encode(v any, indent string) (string, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return strings.TrimSpace(out.String()), err
}

// fields are those of an object, those of objects inside it behind a dot.
func fields(prefix string, s *jsonschema.Schema) []row {
	if s == nil {
		return nil
	}
	names := slices.SortedFunc(maps.Keys(s.Properties), func(a, b string) int {
		inOrder := func(name string) int {
			if slices.Contains(s.Required, name) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(inOrder(a), inOrder(b)), cmp.Compare(a, b))
	})
	var rows []row
	for _, name := range names {
		f := s.Properties[name]
		rows = append(rows, row{
			Name: prefix + name, Means: f.Description, Bounds: bounds(f), Type: kindOf(f), Required: slices.Contains(s.Required, name),
		})
		rows = append(rows, fields(prefix+name+".", f)...)
	}
	return rows
}

// StatusText is what a status means.
func (a answer) StatusText() string {
	var status int
	_, _ = fmt.Sscan(a.Status, &status) // a status that is no number has no text
	return http.StatusText(status)
}
