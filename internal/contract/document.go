package contract

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/respond"
)

// Bearer is the security scheme of tokens with scopes.
const Bearer = "token"

// API is all that a document is made of.
type API struct {
	Info     Info
	Servers  []Server
	Sections []Section
	// Schemes are those that operations and webhooks name, beside Bearer.
	Schemes map[string]*SecurityScheme
	Events  []Event
	// Meanings are those of fields whose declaration says none, by their JSON names.
	Meanings map[string]string
	// Webhook is what the webhooks of all events have in common.
	Webhook Operation
}

// Event is one that webhooks tell of.
type Event struct {
	Name, Description string
	Schema            *jsonschema.Schema // of the whole payload
	Example           json.RawMessage
}

// Build makes the document. Root is the folder of the module whose source has the
// comments, module its path. An error is a fault of the program: two operations of
// one id, an example that is no JSON, a type that cannot be described.
func Build(a API, root, module string) (*Document, error) {
	b := &builder{
		schemas: newSchemas(newSource(root, module)), operations: map[string]bool{},
		doc: &Document{
			OpenAPI: "3.1.0", Info: a.Info, Servers: a.Servers,
			Paths: map[string]map[string]*Endpoint{}, Webhooks: map[string]map[string]*Endpoint{},
			Components: Components{
				Responses: map[string]*Response{}, SecuritySchemes: map[string]*SecurityScheme{Bearer: bearerScheme()},
				Headers: map[string]*Header{requestID: {
					Description: "The id of the request: the one that was sent, where it can stand in a log, else a new one.",
					Required:    true, Schema: &jsonschema.Schema{Type: "string"},
				}},
			},
		},
	}
	b.schemas.meanings = a.Meanings
	for name, scheme := range a.Schemes {
		b.doc.Components.SecuritySchemes[name] = scheme
	}
	for _, s := range a.Sections {
		for _, t := range s.Types {
			b.schemas.types[reflect.TypeOf(t.Of)] = t
		}
	}
	problem, err := b.schemas.of(reflect.TypeFor[Problem](), false)
	if err != nil {
		return nil, err
	}
	b.problem = problem
	for _, s := range a.Sections {
		b.section(s)
	}
	b.webhooks(a)
	b.doc.Components.Schemas = b.schemas.made
	return b.doc, b.err
}

// Encode is a document as it is checked in and served.
func Encode(d *Document) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(d); err != nil {
		return nil, fmt.Errorf("encode the OpenAPI document: %w", err)
	}
	return out.Bytes(), nil
}

const requestID = "X-Request-Id"

func bearerScheme() *SecurityScheme {
	return &SecurityScheme{
		Type: "http", Scheme: "bearer",
		Description: "A token of `memrelay tokens create`, or ADMIN_TOKEN, which has every scope. An operation names the scope that it takes.",
	}
}

type builder struct {
	schemas    *schemas
	doc        *Document
	problem    *jsonschema.Schema
	operations map[string]bool // by id
	err        error
}

func (b *builder) fail(format string, args ...any) {
	b.err = errors.Join(b.err, fmt.Errorf(format, args...))
}

func (b *builder) section(s Section) {
	b.doc.Tags = append(b.doc.Tags, Tag{Name: s.Name, Title: s.Title, Description: s.Description})
	for _, o := range s.Operations {
		if b.operations[o.ID] {
			b.fail("two operations are called %s", o.ID)
		}
		b.operations[o.ID] = true
		method := strings.ToLower(o.Method)
		if b.doc.Paths[o.Path] == nil {
			b.doc.Paths[o.Path] = map[string]*Endpoint{}
		}
		if b.doc.Paths[o.Path][method] != nil {
			b.fail("%s %s is described twice", o.Method, o.Path)
		}
		b.doc.Paths[o.Path][method] = b.endpoint(s.Name, o)
	}
}

func (b *builder) endpoint(tag string, o Operation) *Endpoint {
	e := &Endpoint{
		OperationID: o.ID, Tags: []string{tag}, Summary: o.Summary, Description: o.Details,
		Security: security(o), Responses: map[string]*Response{},
	}
	b.checkPath(o)
	for _, p := range o.Params {
		e.Parameters = append(e.Parameters, &Parameter{
			Name: p.Name, In: p.In, Description: p.Means, Required: p.Required || p.In == "path", Schema: p.Schema, Example: p.Example,
		})
	}
	if o.Body != nil {
		e.RequestBody = b.body(o)
	}
	for _, a := range o.Answers {
		e.Responses[strconv.Itoa(a.Status)] = b.answer(o, a)
	}
	problems := append([]*respond.Error{internalProblem()}, o.Problems...)
	if o.Scope != "" {
		problems = append(problems, tokenProblems(o.Scope)...)
	}
	b.problems(e, o, problems)
	return e
}

func security(o Operation) []map[string][]string {
	all := []map[string][]string{}
	if o.Scope != "" {
		all = append(all, map[string][]string{Bearer: {o.Scope}})
	}
	for _, together := range o.Proofs {
		proof := map[string][]string{}
		for _, scheme := range together {
			proof[scheme] = []string{}
		}
		all = append(all, proof)
	}
	return all
}

var inPath = regexp.MustCompile(`\{([^}]+)\}`)

// checkPath wants each parameter of the path described, and no other.
func (b *builder) checkPath(o Operation) {
	want, got := map[string]bool{}, map[string]bool{}
	for _, m := range inPath.FindAllStringSubmatch(o.Path, -1) {
		want[m[1]] = true
	}
	for _, p := range o.Params {
		if p.In == "path" {
			got[p.Name] = true
		}
	}
	if !reflect.DeepEqual(want, got) {
		b.fail("%s %s describes the parameters %v of its path", o.Method, o.Path, got)
	}
}

const asJSON = "application/json"

func (b *builder) body(o Operation) *RequestBody {
	media := &Media{Examples: b.examples(o.ID, o.Body.Examples)}
	if o.Body.Of != nil {
		media.Schema = b.schemaOf(o.ID, o.Body.Of, !o.Body.Open)
	} else {
		media.Schema = &jsonschema.Schema{Type: "object"}
	}
	body := &RequestBody{Description: o.Body.Means, Required: !o.Body.Optional, Content: map[string]*Media{cmp.Or(o.Body.Media, asJSON): media}}
	for _, more := range o.Body.More {
		body.Content[more] = &Media{Schema: &jsonschema.Schema{Type: "object"}}
	}
	return body
}

func (b *builder) schemaOf(id string, of any, strict bool) *jsonschema.Schema {
	s, err := b.schemas.of(reflect.TypeOf(of), strict)
	if err != nil {
		b.fail("%s: %w", id, err)
		return &jsonschema.Schema{}
	}
	return s
}

func (b *builder) answer(o Operation, a Answer) *Response {
	r := &Response{Description: a.Means, Headers: map[string]*Header{requestID: {Ref: "#/components/headers/" + requestID}}}
	for _, h := range a.Headers {
		r.Headers[h.Name] = &Header{Description: h.Means, Required: h.Required, Schema: h.Schema}
	}
	if a.Empty {
		return r
	}
	media := &Media{Examples: b.examples(o.ID, a.Examples), Schema: &jsonschema.Schema{}}
	if a.Of != nil {
		media.Schema = b.schemaOf(o.ID, a.Of, false)
	}
	r.Content = map[string]*Media{cmp.Or(a.Media, asJSON): media}
	for _, more := range a.More {
		r.Content[more] = &Media{Schema: &jsonschema.Schema{}}
	}
	return r
}

// examples are those of a body; nil when there are none.
func (b *builder) examples(id string, all []Example) map[string]*MediaExample {
	var shown map[string]*MediaExample
	for _, e := range all {
		value := e.Value
		if text, ok := value.(string); ok && json.Valid([]byte(text)) {
			value = json.RawMessage(text)
		} else if raw, ok := value.(json.RawMessage); ok && !json.Valid(raw) {
			b.fail("%s: the example %s is not JSON", id, e.Name)
		}
		if shown == nil {
			shown = map[string]*MediaExample{}
		}
		shown[cmp.Or(e.Name, "example")] = &MediaExample{Summary: e.Means, Value: value}
	}
	return shown
}

// webhooks describes what is sent to endpoints.
func (b *builder) webhooks(a API) {
	for _, event := range a.Events {
		schema := event.Schema.CloneSchemas()
		schema.Schema = "" // that of OpenAPI is the same draft
		o := a.Webhook
		o.ID, o.Summary, o.Details = "webhook_"+strings.ReplaceAll(event.Name, ".", "_"), event.Name, event.Description
		e := &Endpoint{
			OperationID: o.ID, Tags: []string{WebhooksTag}, Summary: o.Summary, Description: o.Details,
			Security: security(o), Responses: map[string]*Response{},
			RequestBody: &RequestBody{
				Description: a.Webhook.Details, Required: true,
				Content: map[string]*Media{asJSON: {Schema: schema, Examples: b.examples(o.ID, []Example{{Value: event.Example}})}},
			},
		}
		for _, p := range o.Params {
			e.Parameters = append(e.Parameters, &Parameter{Name: p.Name, In: p.In, Description: p.Means, Required: p.Required, Schema: p.Schema, Example: p.Example})
		}
		for _, answer := range o.Answers {
			e.Responses[strconv.Itoa(answer.Status)] = &Response{Description: answer.Means}
		}
		b.doc.Webhooks[event.Name] = map[string]*Endpoint{"post": e}
	}
	b.doc.Tags = append(b.doc.Tags, Tag{Name: WebhooksTag, Title: "Webhooks", Description: a.Webhook.Summary})
}

// WebhooksTag is the chapter of what is sent to endpoints.
const WebhooksTag = "webhooks"

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
