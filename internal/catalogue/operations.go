package catalogue

import (
	"net/http"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/respond"
)

// eventTypes is what List answers with.
type eventTypes struct {
	EventTypes []EventType `json:"event_types"` // in the order of the documentation
}

// Operations describes List and Show.
func (c *Catalogue) Operations() contract.Section {
	shown := c.types[len(c.types)-1]
	return contract.Section{
		Name: "event-types", Title: "Event types",
		Description: "Every event that webhooks tell of, for whoever writes a receiver. No token is asked for: nothing in it is secret.",
		Types: []contract.Type{{Of: EventType{}, Fields: map[string]contract.Bound{
			"schema":  func(s *jsonschema.Schema) { s.Type = "object" },
			"example": func(s *jsonschema.Schema) { s.Type = "object" },
		}}},
		Operations: []contract.Operation{
			{
				ID: "list_event_types", Method: "GET", Path: "/v1/event-types", Summary: "List all events",
				Answers: []contract.Answer{{Status: 200, Means: "All of them, each with its JSON Schema and an example.", Of: eventTypes{},
					Examples: []contract.Example{{Value: eventTypes{EventTypes: []EventType{shown}}}}}},
			},
			{
				ID: "get_event_type", Method: "GET", Path: "/v1/event-types/{name}", Summary: "Show an event",
				Params: []contract.Param{{
					Name: "name", In: "path", Means: "The event's name.", Schema: &jsonschema.Schema{Type: "string"}, Example: shown.Name,
				}},
				Answers: []contract.Answer{{Status: 200, Means: "The event.", Of: EventType{}, Examples: []contract.Example{{Value: shown}}}},
				Problems: []*respond.Error{{
					Status: http.StatusNotFound, Code: "event_type_not_found", Message: "There is no event of this name; /v1/event-types lists all.",
				}},
			},
		},
	}
}
