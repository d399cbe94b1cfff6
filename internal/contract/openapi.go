package contract

import "github.com/google/jsonschema-go/jsonschema"

// Document is an OpenAPI 3.1 document, as far as this API needs one.
// https://spec.openapis.org/oas/v3.1.0
type Document struct {
	OpenAPI    string                          `json:"openapi"`
	Info       Info                            `json:"info"`
	Servers    []Server                        `json:"servers"`
	Tags       []Tag                           `json:"tags"`
	Paths      map[string]map[string]*Endpoint `json:"paths"`    // by path, then by method in lower case
	Webhooks   map[string]map[string]*Endpoint `json:"webhooks"` // by event, then by method
	Components Components                      `json:"components"`
}

// Info is what the document is about.
type Info struct {
	Title       string `json:"title"`
	Version     string `json:"version"`
	Description string `json:"description"`
}

// Server is where the API is.
type Server struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

// Tag is a chapter.
type Tag struct {
	Name        string `json:"name"` // in addresses
	Title       string `json:"x-title"`
	Description string `json:"description,omitempty"`
}

// Endpoint is what OpenAPI calls an operation: a method of a path.
type Endpoint struct {
	OperationID string                `json:"operationId"`
	Tags        []string              `json:"tags,omitempty"`
	Summary     string                `json:"summary,omitempty"`
	Description string                `json:"description,omitempty"`
	Security    []map[string][]string `json:"security,omitzero"` // empty: nothing is asked for
	Parameters  []*Parameter          `json:"parameters,omitempty"`
	RequestBody *RequestBody          `json:"requestBody,omitempty"`
	Responses   map[string]*Response  `json:"responses"` // by status
}

// Parameter is one of the path, the query or the headers.
type Parameter struct {
	Name        string             `json:"name"`
	In          string             `json:"in"`
	Description string             `json:"description,omitempty"`
	Required    bool               `json:"required,omitempty"`
	Schema      *jsonschema.Schema `json:"schema"`
	Example     any                `json:"example,omitempty"`
}

// RequestBody is what a request carries.
type RequestBody struct {
	Description string            `json:"description,omitempty"`
	Required    bool              `json:"required,omitempty"`
	Content     map[string]*Media `json:"content"` // by media type
}

// Media is a body of one media type.
type Media struct {
	Schema   *jsonschema.Schema       `json:"schema,omitempty"`
	Examples map[string]*MediaExample `json:"examples,omitempty"`
}

// MediaExample is a body as it is sent.
type MediaExample struct {
	Summary string `json:"summary,omitempty"`
	Value   any    `json:"value"`
}

// Response is an answer, or where it stands.
type Response struct {
	Ref         string             `json:"$ref,omitempty"`
	Description string             `json:"description,omitempty"`
	Headers     map[string]*Header `json:"headers,omitempty"`
	Content     map[string]*Media  `json:"content,omitempty"`
}

// Header is one of an answer, or where it stands.
type Header struct {
	Ref         string             `json:"$ref,omitempty"`
	Description string             `json:"description,omitempty"`
	Required    bool               `json:"required,omitempty"`
	Schema      *jsonschema.Schema `json:"schema,omitempty"`
}

// Components is what others refer to.
type Components struct {
	Schemas         map[string]*jsonschema.Schema `json:"schemas"`
	Responses       map[string]*Response          `json:"responses,omitempty"`
	Headers         map[string]*Header            `json:"headers,omitempty"`
	SecuritySchemes map[string]*SecurityScheme    `json:"securitySchemes"`
}

// SecurityScheme is a way to prove who one is.
type SecurityScheme struct {
	Type        string `json:"type"` // http or apiKey
	Description string `json:"description,omitempty"`
	Scheme      string `json:"scheme,omitempty"` // of http
	Name        string `json:"name,omitempty"`   // of an apiKey
	In          string `json:"in,omitempty"`     // of an apiKey
}
