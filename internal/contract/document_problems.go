package contract

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/respond"
)

// problems adds an answer for each status that there are problems of.
func (b *builder) problems(e *Endpoint, o Operation, all []*respond.Error) {
	byStatus := map[int]map[string]*respond.Error{}
	for _, p := range all {
		if byStatus[p.Status] == nil {
			byStatus[p.Status] = map[string]*respond.Error{}
		}
		if _, said := byStatus[p.Status][p.Code]; !said {
			byStatus[p.Status][p.Code] = p
		}
	}
	for status, codes := range byStatus {
		key := strconv.Itoa(status)
		if answered := e.Responses[key]; answered != nil {
			// Monitors answer 503 with what they found, or with a problem.
			for media, content := range b.problemResponse(status, codes).Content {
				answered.Content[media] = content
			}
			continue
		}
		e.Responses[key] = b.sharedProblem(status, codes, o.Scope)
	}
}

// sharedProblem refers to an answer that all operations share which have the same problems.
func (b *builder) sharedProblem(status int, codes map[string]*respond.Error, scope string) *Response {
	names := sortedKeys(codes)
	name := strconv.Itoa(status) + "." + strings.Join(names, ".")
	if status == http.StatusForbidden && scope != "" {
		name += "." + strings.ReplaceAll(scope, ":", "-")
	}
	// What the same code says differs a little: the first one stands for all.
	if b.doc.Components.Responses[name] == nil {
		b.doc.Components.Responses[name] = b.problemResponse(status, codes)
	}
	return &Response{Ref: "#/components/responses/" + name}
}

func (b *builder) problemResponse(status int, codes map[string]*respond.Error) *Response {
	r := &Response{
		Description: http.StatusText(status), Headers: map[string]*Header{requestID: {Ref: "#/components/headers/" + requestID}},
	}
	text := &jsonschema.Schema{Type: "string"}
	enum, examples := []any{}, map[string]*MediaExample{}
	for _, code := range sortedKeys(codes) {
		p := codes[code]
		enum = append(enum, code)
		examples[code] = &MediaExample{Value: exampleOf(p)}
		if p.RetryAfter > 0 {
			r.Headers["Retry-After"] = &Header{Description: "After how many seconds to come again.", Schema: text}
		}
	}
	if status == http.StatusUnauthorized {
		r.Headers["WWW-Authenticate"] = &Header{Description: "How to prove oneself, where it is by a token.", Schema: text}
	}
	r.Content = map[string]*Media{asProblem: {
		Schema: &jsonschema.Schema{AllOf: []*jsonschema.Schema{
			b.problem.CloneSchemas(), {Properties: map[string]*jsonschema.Schema{"code": {Enum: enum}}},
		}},
		Examples: examples,
	}}
	return r
}
