package admin

import (
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/respond"
)

func redeliveryOperations() contract.Section {
	started := []contract.Answer{
		contract.Shown(200, "Of a dry run: how many there are.", redeliveryCount{}, `{"dry_run":true,"found":12}`),
		madeAt(contract.Shown(202, "It goes on from now.", endpoint.Redelivery{}, exampleRedelivery)),
	}
	one := []contract.Answer{contract.Shown(200, "How it stands.", endpoint.Redelivery{}, exampleRedelivery)}
	id := contract.InPath("id", "The redelivery's id.", &jsonschema.Schema{Type: "string", Format: "uuid"}, "01a201a3-85e8-7166-bd98-bdae5e578909")
	bounds := map[string]contract.Bound{
		"since": contract.Means("From when on."), "per_second": contract.All(contract.Between(0, 10_000), contract.Means("How many a second at most; 0: as many as the endpoint takes.")),
		"reason": contract.All(contract.Text(0, 2000), contract.Means("Why, for the audit log.")),
	}
	return contract.Section{
		Name: "redeliveries", Title: "Redeliveries", Description: "Sending again what an endpoint missed.",
		Types: []contract.Type{
			{Of: recovery{}, Name: "Recovery", Fields: bounds},
			{Of: replay{}, Name: "Replay", Fields: map[string]contract.Bound{"events": contract.OneOf(eventNames()...)}},
			{Of: endpointTime{}, Schema: contract.Moment()},
			{Of: endpoint.Redelivery{}, Fields: map[string]contract.Bound{
				"kind":  contract.OneOf(endpoint.Recover, endpoint.Replay),
				"state": contract.OneOf(endpoint.RedeliveryRunning, endpoint.RedeliveryDone, endpoint.RedeliveryCancelled),
			}},
		},
		Operations: []contract.Operation{
			doing(contract.Operation{
				ID: "recover_endpoint", Method: "POST", Path: "/admin/endpoints/{endpoint}/recover", Summary: "Send again what died",
				Params: []contract.Param{whichParam()}, Answers: started, Body: contract.Sent(recovery{}, `{"since":"2026-11-22T04:00:00Z","per_second":10,"reason":"the outage"}`),
			}),
			doing(contract.Operation{
				ID: "replay_endpoint", Method: "POST", Path: "/admin/endpoints/{endpoint}/replay", Summary: "Send again everything of a time, delivered or not",
				Params: []contract.Param{whichParam()}, Answers: started, Body: contract.Sent(replay{}, `{"since":"2026-11-22T04:00:00Z","events":["memory_added"],"dry_run":true}`),
			}),
			looking(contract.Operation{
				ID: "list_redeliveries", Method: "GET", Path: "/admin/redeliveries", Summary: "What was sent again to an endpoint",
				Params: []contract.Param{{
					Name: "endpoint", In: "query", Required: true, Means: "The endpoint's name or id.", Schema: contract.Bounded("string"), Example: "crm-bot",
				}},
				Answers:  []contract.Answer{contract.Shown(200, "The newest first, at most a hundred.", redeliveryList{}, `{"redeliveries":[`+exampleRedelivery+`]}`)},
				Problems: []*respond.Error{problem(ErrNotFound)},
			}),
			looking(contract.Operation{
				ID: "get_redelivery", Method: "GET", Path: "/admin/redeliveries/{id}", Summary: "How far it is", Params: []contract.Param{id}, Answers: one,
			}),
			doing(contract.Operation{
				ID: "cancel_redelivery", Method: "POST", Path: "/admin/redeliveries/{id}/cancel", Summary: "Stop it",
				Details: "What it has opened by then is sent.", Params: []contract.Param{id}, Answers: one,
			}),
		},
	}
}

func deliveryOperations() contract.Section {
	id := contract.InPath("id", "The delivery's id.", &jsonschema.Schema{Type: "integer"}, 4711)
	status := contract.OneOf(Statuses()...)
	story := `{` + exampleDelivery + `,"payload":"{\"event\":\"memory_added\"}","attempts_made":[{"number":1,"started_at":"2026-11-22T05:03:44.65Z","status_code":204,` +
		`"error_class":"","error":"","dns_ms":0.4,"connect_ms":1.2,"tls_ms":8.1,"first_byte_ms":21.5,"total_ms":21.6,"response_head":"HTTP/1.1 204 No Content"}],"carried_by":null,"batch":[]}`
	return contract.Section{
		Name: "deliveries", Title: "Deliveries", Description: "What was told to endpoints, and how that went.",
		Types: []contract.Type{
			{Of: Delivery{}, Fields: map[string]contract.Bound{"status": status}},
			{Of: DeliveryPage{}},
			{Of: DeliveryStory{}},
			{Of: BatchMember{}, Fields: map[string]contract.Bound{"status": status}},
			{Of: resending{}, Fields: map[string]contract.Bound{"reason": contract.Text(0, longestReason)}},
		},
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_deliveries", Method: "GET", Path: "/admin/deliveries", Summary: "What was told, newest first",
				Params: []contract.Param{
					contract.InQuery("endpoint", "Of this endpoint, by name or id.", contract.Bounded("string"), nil),
					contract.InQuery("status", "With this status.", contract.Bounded("string", status), "dead"),
					contract.InQuery("event", "Of this event.", contract.Bounded("string"), "memory_added"),
					contract.InQuery("user_id", "Of this user.", contract.Bounded("string"), "user-42"),
					contract.InQuery("webhook_id", "Of this webhook.", &jsonschema.Schema{Type: "string", Format: "uuid"}, nil),
					contract.InQuery("since", "Made at this time or later.", contract.Moment(), "2026-11-22T04:00:00Z"),
					contract.InQuery("until", "Made before.", contract.Moment(), "2026-11-22T05:00:00Z"),
					contract.InQuery("limit", "How many at most.", contract.Bounded("integer", contract.Between(1, MaxPage), contract.Default("50")), 10),
					contract.InQuery("cursor", "The next_cursor of the page before.", contract.Bounded("string"), nil),
				},
				Answers: []contract.Answer{contract.Shown(200, "A page; without next_cursor it is the last.", DeliveryPage{}, `{"deliveries":[{`+exampleDelivery+`}]}`)},
			}),
			looking(contract.Operation{
				ID: "get_delivery", Method: "GET", Path: "/admin/deliveries/{id}", Summary: "One delivery, its attempts and what it tells",
				Params: []contract.Param{id}, Answers: []contract.Answer{contract.Shown(200, "The delivery.", DeliveryStory{}, story)},
			}),
			doing(contract.Operation{
				ID: "resend_delivery", Method: "POST", Path: "/admin/deliveries/{id}/resend", Summary: "Send it again",
				Params: []contract.Param{id}, Body: contract.MaySend(resending{}, `{"reason":"they lost it"}`),
				Answers:  []contract.Answer{contract.Shown(200, "The delivery, which is open again.", Delivery{}, `{`+exampleDelivery+`}`)},
				Problems: conflicting(endpoint.ErrOpen, endpoint.ErrPayloadGone, endpoint.ErrEndpointGone),
			}),
		},
	}
}
