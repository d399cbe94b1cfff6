package contract_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/contract/contractsample"
	"github.com/memrelay/memrelay/internal/respond"
)

func build(t *testing.T, sections ...contract.Section) (*contract.Document, error) {
	t.Helper()
	return contract.Build(contract.API{
		Info: contract.Info{Title: "t", Version: "1.0.0"}, Sections: sections, Meanings: map[string]string{"at": "When it was."},
	}, "../..", "github.com/memrelay/memrelay")
}

func section(operations ...contract.Operation) contract.Section {
	return contract.Section{Name: "s", Title: "S", Operations: operations}
}

func operation(id string, answers ...contract.Answer) contract.Operation {
	return contract.Operation{ID: id, Method: "GET", Path: "/" + id, Answers: answers}
}

// What a type's declaration and its comments say becomes its schema.
func TestTypesBecomeSchemas(t *testing.T) {
	t.Parallel()
	s := section(operation("look", contract.Answer{Status: 200, Of: contractsample.Parcel{}}))
	s.Types = []contract.Type{{Of: contractsample.Parcel{}, Name: "Box", Fields: map[string]contract.Bound{
		"state": contract.OneOf("sent", "lost"), "weight": contract.Between(0, 30),
	}}}
	doc, err := build(t, s)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(doc.Components.Schemas["Box"], "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "type": "object",
 "description": "What is on its way.",
 "required": ["number","state","at","receiver","sender","items"],
 "properties": {
  "number": {"type": "integer","description": "The one on the label."},
  "state": {"type": "string","description": "sent or lost.","enum": ["sent","lost"]},
  "weight": {"type": "number","description": "In kilograms; weight is absent when it was not put on scales.","minimum": 0,"maximum": 30},
  "at": {"type": ["string","null"],"description": "When it was.","format": "date-time"},
  "receiver": {"description": "receiver and sender are at the ends; 40 bytes at most.","anyOf": [{"$ref": "#/components/schemas/Person"},{"type": "null"}]},
  "sender": {"$ref": "#/components/schemas/Person","description": "receiver and sender are at the ends; 40 bytes at most."},
  "items": {"type": "array","description": "What is in it, by its name.","items": {"type": "string"}}
 }
}`
	if diff := cmp.Diff(normal(t, []byte(want)), normal(t, got)); diff != "" {
		t.Errorf("schema (-want +got):\n%s\n%s", diff, got)
	}
}

func normal(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A request takes no field that it does not name, and what can be nil in it is left out.
func TestRequestsAreClosed(t *testing.T) {
	t.Parallel()
	o := contract.Operation{ID: "send", Method: "POST", Path: "/send", Body: contract.Sent(contractsample.Parcel{}, `{}`)}
	doc, err := build(t, section(o))
	if err != nil {
		t.Fatal(err)
	}
	parcel := doc.Components.Schemas["Parcel"]
	if parcel.AdditionalProperties == nil || parcel.Properties["at"].Type != "string" {
		t.Errorf("%+v", parcel)
	}
}

// Operations with the same problems share an answer.
func TestProblemsAreShared(t *testing.T) {
	t.Parallel()
	late := &respond.Error{Status: 409, Code: "late", Message: "It is too late."}
	busy := &respond.Error{Status: 503, Code: "busy", Message: "Come again.", RetryAfter: time.Second}
	one, two := operation("one"), operation("two")
	one.Problems, two.Problems = []*respond.Error{late, busy}, []*respond.Error{late}
	two.Scope = "memory"
	doc, err := build(t, section(one, two))
	if err != nil {
		t.Fatal(err)
	}
	first, second := doc.Paths["/one"]["get"], doc.Paths["/two"]["get"]
	if first.Responses["409"].Ref != "#/components/responses/409.late" || first.Responses["409"].Ref != second.Responses["409"].Ref {
		t.Errorf("%+v and %+v", first.Responses["409"], second.Responses["409"])
	}
	if r := doc.Components.Responses["503.busy"]; r == nil || r.Headers["Retry-After"] == nil {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff([]map[string][]string{{"token": {"memory"}}}, second.Security); diff != "" || second.Responses["401"] == nil {
		t.Errorf("security (-want +got):\n%s", diff)
	}
	if len(first.Security) != 0 || first.Security == nil || first.Responses["401"] != nil {
		t.Errorf("what is open is not said to be: %+v", first)
	}
}

func TestFaultsOfTheProgram(t *testing.T) {
	t.Parallel()
	byPath := operation("by_path")
	byPath.Path = "/by/{path}"
	for says, s := range map[string]contract.Section{
		"two operations are called one":  section(operation("one"), operation("one")),
		"describes the parameters":       section(byPath),
		"has no field weigth to bound":   {Types: []contract.Type{{Of: contractsample.Parcel{}, Fields: map[string]contract.Bound{"weigth": contract.AtLeast(0)}}}, Operations: []contract.Operation{operation("a", contract.Answer{Status: 200, Of: contractsample.Parcel{}})}},
		"there is no schema of chan int": section(operation("a", contract.Answer{Status: 200, Of: make(chan int)})),
		"is not JSON":                    section(operation("a", contract.Answer{Status: 200, Examples: []contract.Example{{Value: json.RawMessage("{")}}})),
		"make two types of it": section(contract.Operation{
			ID: "a", Method: "POST", Path: "/a", Body: contract.Sent(contractsample.Parcel{}, `{}`), Answers: []contract.Answer{{Status: 200, Of: contractsample.Parcel{}}},
		}),
		"are both called Person": {Types: []contract.Type{{Of: contractsample.Parcel{}, Name: "Person"}}, Operations: []contract.Operation{operation("a", contract.Answer{Status: 200, Of: contractsample.Parcel{}})}},
	} {
		if _, err := build(t, s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want one that says %s", err, says)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]*jsonschema.Schema{
		`{"type":"string","minLength":1,"maxLength":5}`:       contract.Bounded("string", contract.Text(1, 5)),
		`{"type":"array","minItems":1,"maxItems":2}`:          contract.Bounded("array", contract.Items(1, 2)),
		`{"type":"integer","default":7,"minimum":0}`:          contract.Bounded("integer", contract.Default("7"), contract.AtLeast(0)),
		`{"type":"string","description":"m","pattern":"^a$"}`: contract.Bounded("string", contract.Means("m"), contract.Like("^a$")),
		`{"type":"string","format":"uuid"}`:                   contract.UUID(),
		`{"type":"string","format":"date-time"}`:              contract.Moment(),
	} {
		raw, err := json.Marshal(got)
		if err != nil || cmp.Diff(normal(t, []byte(want)), normal(t, raw)) != "" {
			t.Errorf("%s, %v; want %s", raw, err, want)
		}
	}
}
