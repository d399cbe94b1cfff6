package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

// callLimit bounds one call, also of a client that has hung up.
const callLimit = 20 * time.Second

// call is one use of a tool.
type call struct {
	caller memory.Caller
	user   string // whose memory it is about; "" where that is not known
}

// about looks whose memory a call is about: who the arguments name, else the one user
// that the caller may see. It is for whoever is told of a failure, so it reads
// arguments in which something else is wrong, and says nothing of users that the
// caller may not see.
func (c *call) about(arguments json.RawMessage) {
	var named struct {
		UserID any `json:"user_id"`
	}
	_ = json.Unmarshal(arguments, &named)
	user, _ := named.UserID.(string)
	if user == "" {
		user = c.sole()
	}
	if memory.CheckUserID(user) == nil && c.caller.May(user) {
		c.user = user
	}
}

// of says whose memory the call is about, and returns an error when that is nobody
// whom the caller may see.
func (c *call) of(asked string) error {
	user := asked
	if user == "" {
		user = c.sole()
	}
	if user == "" {
		return &memory.Invalid{Field: "user_id", Problem: "is required: you may see the memory of more than one user, or of none"}
	}
	if err := memory.CheckUserID(user); err != nil {
		return err
	}
	if !c.caller.May(user) {
		return &refusal{text: "user_id: there is no such user, or you may not see it"}
	}
	c.user = user
	return nil
}

// sole is the one user that the caller may see, "" when there is more than one.
func (c *call) sole() string {
	if c.caller.All || len(c.caller.UserIDs) != 1 {
		return ""
	}
	return c.caller.UserIDs[0]
}

// tool is what an agent can do: from arguments to something to read.
type tool[In, Out any] struct {
	name        string
	title       string
	description string
	hints       sdk.ToolAnnotations
	// operation is what memory_error calls it; "": nobody is told when it fails.
	operation string
	// shape says of the arguments what their Go type does not.
	shape func(arguments map[string]*jsonschema.Schema)
	do    func(ctx context.Context, c *call, in In) (Out, error)
	read  func(c *call, out Out) string
}

// add offers a tool.
func add[In, Out any](s *Server, t tool[In, Out]) error {
	in, err := schemaOf[In]()
	if err != nil {
		return fmt.Errorf("arguments of %s: %w", t.name, err)
	}
	t.shape(in.Properties)
	out, err := schemaOf[Out]()
	if err != nil {
		return fmt.Errorf("result of %s: %w", t.name, err)
	}
	t.hints.Title = t.title
	s.sdk.AddTool(&sdk.Tool{
		Name: t.name, Title: t.title, Description: t.description, Annotations: &t.hints, InputSchema: in, OutputSchema: out,
	}, func(ctx context.Context, req *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		ctx, cancel := context.WithTimeout(ctx, callLimit)
		defer cancel()
		c, err := s.callOf(ctx)
		if err != nil {
			return s.failed(ctx, t.name, "", c, err), nil
		}
		c.about(req.Params.Arguments)
		result, err := t.use(ctx, c, in, req.Params.Arguments)
		if err != nil {
			return s.failed(ctx, t.name, t.operation, c, err), nil
		}
		return result, nil
	})
	return nil
}

// use is one call that is not known to fail: arguments are read, the tool does what
// it does, and what came of it is written down, for programs and for readers.
func (t tool[In, Out]) use(ctx context.Context, c *call, in *jsonschema.Schema, raw json.RawMessage) (*sdk.CallToolResult, error) {
	var arguments In
	if err := decode(raw, in, &arguments); err != nil {
		return nil, err
	}
	result, err := t.do(ctx, c, arguments)
	if err != nil {
		return nil, err
	}
	structured, err := json.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("encode the result: %w", err)
	}
	return &sdk.CallToolResult{
		Content: []sdk.Content{&sdk.TextContent{Text: t.read(c, result)}}, StructuredContent: json.RawMessage(structured),
	}, nil
}

// errNoCaller is returned where nobody has said who calls.
var errNoCaller = errors.New("nobody has said who calls")

// callOf begins a call: in the name of whoever calls, under the id of the request
// that it came in, else under a new one.
func (s *Server) callOf(ctx context.Context) (*call, error) {
	caller, ok := s.o.Caller(ctx)
	id := respond.RequestID(ctx)
	if id == "" {
		id = uuid.Must(uuid.NewV7()).String()
	}
	c := &call{caller: memory.Caller{Actor: caller.Actor, UserIDs: caller.UserIDs, All: caller.All, RequestID: id}}
	if !ok {
		c.caller = memory.Caller{RequestID: id}
		return c, errNoCaller
	}
	return c, nil
}

// decode reads arguments. It returns an *Invalid that names the one that is wrong.
// Numbers stay as they are written: an id can be greater than a float can hold.
func decode(arguments json.RawMessage, schema *jsonschema.Schema, into any) error {
	var named map[string]json.RawMessage
	if !utf8.Valid(arguments) {
		return &memory.Invalid{Field: "arguments", Problem: "want UTF-8"}
	}
	if len(arguments) > 0 && json.Unmarshal(arguments, &named) != nil {
		return &memory.Invalid{Field: "arguments", Problem: "want a JSON object"}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if schema.Properties[name] == nil {
			return &memory.Invalid{Field: cut(name, maxEcho), Problem: fmt.Sprintf("is no argument of this tool; it takes %s", list(schema.PropertyOrder))}
		}
	}
	if named == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(arguments))
	decoder.UseNumber()
	err := decoder.Decode(into)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return &memory.Invalid{Field: wrong.Field, Problem: "want " + kindOf(schema.Properties[wrong.Field])}
	}
	if err != nil {
		return &memory.Invalid{Field: "arguments", Problem: "want a JSON object"}
	}
	return nil
}

// kindOf says what an argument is to be.
func kindOf(s *jsonschema.Schema) string {
	switch {
	case s == nil:
		return "something else"
	case s.Type == "integer", s.Type == "object":
		return "an " + s.Type
	default:
		return "a " + s.Type
	}
}
