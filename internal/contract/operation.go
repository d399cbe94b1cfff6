// Package contract writes down what the HTTP API promises. In go operations, which
// stand beside the routes that they describe, and the source of their types, whose
// comments say what fields mean; out comes an OpenAPI 3.1 document.
//
// What is said here is held against what is answered: contracttest wraps the
// handlers of the tests.
package contract

import (
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/respond"
)

// Section is a part of the API that belongs together: a chapter of the documentation.
type Section struct {
	Name        string // of the chapter: its address, too; lower case, no spaces
	Title       string
	Description string // Markdown is shown as it is written
	Types       []Type // what there is to say of types beside what they say themselves
	Operations  []Operation
}

// Operation is one route.
type Operation struct {
	ID      string // snake case; never changes
	Method  string
	Path    string // as chi has it
	Summary string // a few words
	Details string // what else a caller must know; may be ""
	// Scope is what a token must have; "": no token is asked for.
	Scope string
	// Proofs are the security schemes by which a sender can prove who it is, any of
	// them; each a list of schemes that are needed together.
	Proofs   [][]string
	Params   []Param
	Body     *Body
	Answers  []Answer
	Problems []*respond.Error
}

// Param is one of the path, the query or the headers.
type Param struct {
	Name     string
	In       string // path, query or header
	Means    string
	Required bool // always true in a path
	Schema   *jsonschema.Schema
	Example  any
}

// Body is what a request carries.
type Body struct {
	Of       any    // a value of the type that it is; nil: anything
	Media    string // "": application/json
	Means    string
	Optional bool
	Examples []Example
	// Open lets fields pass that the type does not name.
	Open bool
	// More are other media types of the same content, whose form is not described.
	More []string
}

// Answer is an answer that is no problem.
type Answer struct {
	Status   int
	Means    string
	Of       any    // a value of the type that it is; nil: there is no body, or anything
	Media    string // "": application/json
	Headers  []Param
	Examples []Example
	Empty    bool // there is no body
	// More are other media types that it may come as, whose form is not described.
	More []string
}

// Example is one that is sent or answered as it stands.
type Example struct {
	Name  string // snake case
	Means string
	Value any // becomes JSON
}

// Type says of a Go type what its declaration does not.
type Type struct {
	Of   any
	Name string // of its schema; "": that of the Go type
	// Fields are the bounds of its fields, by their JSON names.
	Fields map[string]Bound
	// Schema is used instead of what the type says; nil: its fields say it.
	Schema *jsonschema.Schema
	// Sent is used in requests, where they take other forms, too; nil: Schema is.
	Sent *jsonschema.Schema
}

// Bound narrows the schema of a field.
type Bound func(*jsonschema.Schema)

// Text bounds a text by its length, in bytes of UTF-8; the schema counts characters,
// of which there are at most as many.
func Text(least, most int) Bound {
	return func(s *jsonschema.Schema) {
		if least > 0 {
			s.MinLength = &least
		}
		s.MaxLength = &most
	}
}

// OneOf names all values there can be.
func OneOf(values ...string) Bound {
	return func(s *jsonschema.Schema) {
		all := make([]any, len(values))
		for i, v := range values {
			all[i] = v
		}
		if s.Items != nil {
			s.Items.Enum = all
			return
		}
		if len(s.Types) > 0 { // it may be null
			all = append(all, nil)
		}
		s.Enum = all
	}
}

// Between bounds a number, both ends included.
func Between(least, most float64) Bound {
	return func(s *jsonschema.Schema) { s.Minimum, s.Maximum = &least, &most }
}

// AtLeast bounds a number from below.
func AtLeast(least float64) Bound {
	return func(s *jsonschema.Schema) { s.Minimum = &least }
}

// Items bounds the length of a list.
func Items(least, most int) Bound {
	return func(s *jsonschema.Schema) {
		if least > 0 {
			s.MinItems = &least
		}
		s.MaxItems = &most
	}
}

// Like is a pattern that a text matches.
func Like(pattern string) Bound {
	return func(s *jsonschema.Schema) { s.Pattern = pattern }
}

// Default is what a field is when it is not sent.
func Default(json string) Bound {
	return func(s *jsonschema.Schema) { s.Default = []byte(json) }
}

// Means describes a field whose declaration cannot.
func Means(text string) Bound {
	return func(s *jsonschema.Schema) { s.Description = text }
}

// All is several bounds.
func All(bounds ...Bound) Bound {
	return func(s *jsonschema.Schema) {
		for _, b := range bounds {
			b(s)
		}
	}
}

// Bounded is the schema of a value of that JSON type.
func Bounded(kind string, bounds ...Bound) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: kind}
	All(bounds...)(s)
	return s
}

// Moment is the schema of a time.
func Moment() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Format: "date-time"} }

// UUID is the schema of an id.
func UUID() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Format: "uuid"} }

// InQuery is a parameter of the query that may be left out; example may be nil.
func InQuery(name, means string, s *jsonschema.Schema, example any) Param {
	return Param{Name: name, In: "query", Means: means, Schema: s, Example: example}
}

// InPath is a parameter of the path.
func InPath(name, means string, s *jsonschema.Schema, example any) Param {
	return Param{Name: name, In: "path", Means: means, Schema: s, Example: example, Required: true}
}

// Shown is an answer in JSON with one example, which is JSON, too.
func Shown(status int, means string, of any, example string) Answer {
	return Answer{Status: status, Means: means, Of: of, Examples: []Example{{Value: example}}}
}

// Sent is a body in JSON with one example, which is JSON, too.
func Sent(of any, example string) *Body {
	return &Body{Of: of, Examples: []Example{{Value: example}}}
}

// MaySend is one that may be left out.
func MaySend(of any, example string) *Body {
	b := Sent(of, example)
	b.Optional = true
	return b
}
