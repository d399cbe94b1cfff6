package admin

import (
	"slices"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/seal"
)

// Operations describes Routes: a chapter for each part of it.
func Operations() []contract.Section {
	return []contract.Section{
		eventOperations(), replayOperations(), deadOperations(), endpointOperations(), redeliveryOperations(), deliveryOperations(),
		queueOperations(), channelOperations(), guardOperations(),
	}
}

// looking is an operation that changes nothing.
func looking(o contract.Operation) contract.Operation {
	o.Scope = access.AdminRead
	return asked(o)
}

// doing is an operation that changes something: it stands in the audit log.
func doing(o contract.Operation) contract.Operation {
	o.Scope = access.AdminWrite
	return asked(o)
}

// asked adds what every operation of operators may answer.
func asked(o contract.Operation) contract.Operation {
	o.Problems = append(o.Problems, contract.QueryProblem(), problem(wrong("limit", "want 1 to 200")))
	for _, p := range o.Params {
		if p.In == "path" {
			o.Problems = append(o.Problems, problem(ErrNotFound))
		}
	}
	if o.Method == "POST" || o.Method == "PATCH" {
		if o.Body == nil {
			o.Body = &contract.Body{Of: nothing{}, Optional: true, Means: "There is nothing to say.", Examples: []contract.Example{{Value: "{}"}}}
		}
		o.Problems = append(o.Problems, contract.BodyProblems(maxBody)...)
	}
	return o
}

// conflicting are the problems of what stands in the way.
func conflicting(all ...error) []*respond.Error {
	shown := make([]*respond.Error, len(all))
	for i, err := range all {
		shown[i] = problem(err)
	}
	return shown
}

func whichParam() contract.Param {
	return contract.InPath("endpoint", "The endpoint's name or id.", &jsonschema.Schema{Type: "string"}, "crm-bot")
}

func madeAt(a contract.Answer) contract.Answer {
	a.Headers = []contract.Param{{Name: "Location", Means: "Where it is.", Required: true, Schema: &jsonschema.Schema{Type: "string"}}}
	return a
}

// What is sent and answered beside the types of what is shown.
type (
	// nothing is a body without fields.
	nothing struct{}
	// reasonGiven is why a person does something, for the audit log.
	reasonGiven struct {
		Reason string `json:"reason,omitempty"`
	}
	// replayReason is why an event is run again, for the audit log.
	replayReason struct {
		Reason string `json:"reason,omitempty"`
	}
	// discardReason is why nothing more is to be done, for the audit log.
	discardReason struct {
		Reason string `json:"reason"`
	}
	// resending is why a delivery is sent again, for the audit log.
	resending struct {
		Reason string `json:"reason,omitempty"`
	}
	// rotation is a key to be replaced.
	rotation struct {
		Kind    string            `json:"kind,omitempty"`
		Overlap endpoint.Duration `json:"overlap,omitempty"` // for how long the old key signs beside the new one: at most 7 days, 24h unless said otherwise
		Secret  string            `json:"secret,omitempty"`  // a secret of one's own, instead of a new one
	}
	// testAsked is which event to send.
	testAsked struct {
		Event string `json:"event,omitempty"`
	}
	// endpointList is all that are not deleted.
	endpointList struct {
		Endpoints []endpoint.Endpoint `json:"endpoints"`
	}
	// endpointDeleted is that it is no more.
	endpointDeleted struct {
		Endpoint string `json:"endpoint"` // as it was named
		Deleted  bool   `json:"deleted"`
	}
	// recovery is a time of which what died is sent again.
	recovery struct {
		Since     endpointTime  `json:"since"`
		Until     *endpointTime `json:"until,omitempty"` // now unless said otherwise
		PerSecond int           `json:"per_second,omitempty"`
		DryRun    bool          `json:"dry_run,omitempty"` // count them, and do nothing
		Reason    string        `json:"reason,omitempty"`
	}
	// replay is a time of which everything is sent again.
	replay struct {
		recovery
		Events []string `json:"events,omitempty"` // of these alone; all that the endpoint wants unless said otherwise
	}
	// endpointTime is a time.
	endpointTime struct{}
	// redeliveryCount is what a dry run has found.
	redeliveryCount struct {
		DryRun bool  `json:"dry_run"`
		Found  int64 `json:"found"` // how many would be sent
	}
	// redeliveryList is those of an endpoint, newest first, at most a hundred.
	redeliveryList struct {
		Redeliveries []endpoint.Redelivery `json:"redeliveries"`
	}
)

const (
	exampleEndpointID = "01a201a3-85e8-7166-bd98-bdae5e578908"
	exampleEndpoint   = `{"id":"` + exampleEndpointID + `","name":"crm-bot","url":"https://example.com/hooks","description":"","events":["*"],"user_ids":[],"filter":null,` +
		`"form":"memrelay","ordered":false,"batch_size":1,"batch_wait":"0s","rate_limit":0,"max_in_flight":32,"timeout":"30s","retry_schedule":["5s","5m0s"],` +
		`"keys":[],"auth":{"kind":"none"},"header_names":[],"status":"active","status_reason":"","failing_since":null,"failures":0,"resume_at":null,"probing":false,` +
		`"open":0,"created_at":"2026-11-22T05:03:44.621429Z","updated_at":"2026-11-22T05:03:44.621429Z"}`
	exampleRedelivery = `{"id":"01a201a3-85e8-7166-bd98-bdae5e578909","endpoint_id":"` + exampleEndpointID + `","kind":"recover","since":"2026-11-22T04:00:00Z",` +
		`"until":"2026-11-22T05:00:00Z","events":[],"per_second":0,"found":12,"opened":0,"skipped":0,"state":"running","actor":"token/operator","reason":"the outage",` +
		`"created_at":"2026-11-22T05:03:44.621429Z","finished_at":null}`
	exampleDelivery = `"id":4711,"webhook_id":"01a201a3-89ed-769a-b1f9-2106af11e64b","endpoint_id":"` + exampleEndpointID + `","endpoint":"crm-bot","event":"memory_added",` +
		`"user_id":"user-42","status":"delivered","attempts":1,"failures":0,"last_error":"","next_attempt_at":null,"batch_id":null,"redelivery_id":null,` +
		`"created_at":"2026-11-22T05:03:44.621429Z","finished_at":"2026-11-22T05:03:44.7Z"`
)

// withSecret is an endpoint as it is answered when a secret is new.
func withSecret() string {
	return exampleEndpoint[:len(exampleEndpoint)-1] + `,"secrets":[{"key_id":"k1","kind":"hmac","secret":"whsec_bWVtcmVsYXktZXhhbXBsZS1zZWNyZXQtb2YtMzItYnk="}]}`
}

func eventNames() []string {
	return slices.Concat(memory.Events(), memory.OperationalEvents())
}

func duration(kinds ...string) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: kinds[0], Description: `As "30s" or "5m0s".`}
	if len(kinds) > 1 {
		s = &jsonschema.Schema{Types: kinds, Description: `As "30s" or "5m"; a number is seconds.`}
	}
	return s
}

func endpointTypes() []contract.Type {
	filter := func(s *jsonschema.Schema) { s.Types = []string{"object", "null"} }
	const events = "Names of events, or *, the default, for all that tell of memory."
	settings := map[string]contract.Bound{
		"name": contract.Like(`^[a-z0-9][a-z0-9_.-]{0,62}$`), "url": contract.Text(1, 2000), "description": contract.Text(0, 1000),
		"events":   contract.All(contract.OneOf(append([]string{endpoint.AllEvents}, eventNames()...)...), contract.Means(events)),
		"user_ids": contract.All(contract.Items(0, 1000), contract.Means("Whose events; a name that ends in * stands for all that begin so. Default: everybody's. Those of the program itself are of system.")),
		"filter":   contract.All(filter, contract.Means("What the data of an event must be like: docs/filters.md. Null, the default, is none.")),
		"timeout":  contract.Means("Of one request, in all; at most 40s, default 30s."),
		"form":     contract.OneOf(endpoint.FormMemrelay, endpoint.FormStandard), "batch_size": contract.Between(1, 1000),
		"max_in_flight": contract.Between(1, 256), "rate_limit": contract.AtLeast(0),
		"retry_schedule": contract.All(contract.Items(0, 50), contract.Means("The waits after failed attempts; none: one attempt. Default: those that Standard Webhooks recommends.")),
		"signing":        contract.OneOf(endpoint.KeyHMAC, endpoint.KeyEd25519),
	}
	return []contract.Type{
		{Of: endpoint.Settings{}, Name: "EndpointSettings", Fields: settings},
		{Of: endpoint.AuthSettings{}, Name: "EndpointAuthSettings", Fields: map[string]contract.Bound{
			"kind": contract.OneOf("none", endpoint.AuthBearer, endpoint.AuthBasic, endpoint.AuthOAuth2),
		}},
		{Of: endpoint.OAuth2Settings{}, Name: "EndpointOAuth2Settings"},
		{Of: endpoint.Duration(0), Schema: duration("string"), Sent: duration("string", "number")},
		{Of: endpoint.Endpoint{}, Fields: map[string]contract.Bound{
			"status": contract.OneOf(endpoint.Active, endpoint.Paused, endpoint.Disabled),
			"form":   contract.OneOf(endpoint.FormMemrelay, endpoint.FormStandard), "filter": filter,
		}},
		{Of: endpoint.KeyInfo{}, Name: "EndpointKey", Fields: map[string]contract.Bound{"kind": contract.OneOf(endpoint.KeyHMAC, endpoint.KeyEd25519)}},
		{Of: endpoint.AuthInfo{}, Name: "EndpointAuth", Fields: map[string]contract.Bound{
			"kind": contract.OneOf("none", endpoint.AuthBearer, endpoint.AuthBasic, endpoint.AuthOAuth2),
		}},
		{Of: endpoint.CertificateInfo{}, Name: "EndpointCertificate"},
		{Of: endpoint.Secret{}, Name: "EndpointSecret"},
		{Of: WithSecrets{}, Name: "EndpointWithSecrets"},
		{Of: rotation{}, Name: "KeyRotation", Fields: map[string]contract.Bound{
			"kind": contract.All(contract.OneOf(endpoint.KeyHMAC, endpoint.KeyEd25519), contract.Default(`"hmac"`), contract.Means("Of which kind the new key is.")),
		}},
		{Of: testAsked{}, Name: "EndpointTest", Fields: map[string]contract.Bound{
			"event": contract.All(contract.OneOf(eventNames()...), contract.Default(`"`+memory.Added+`"`), contract.Means("The event whose example is sent.")),
		}},
		{Of: TestOutcome{}, Name: "EndpointTestOutcome"},
		{Of: reasonGiven{}, Name: "Reason", Fields: map[string]contract.Bound{"reason": contract.All(contract.Text(0, 1000), contract.Means("Why, for the audit log."))}},
		{Of: replayReason{}, Fields: map[string]contract.Bound{"reason": contract.Text(0, longestReason)}},
		{Of: discardReason{}, Fields: map[string]contract.Bound{"reason": contract.Text(1, longestReason)}},
		{Of: nothing{}, Name: "Nothing"},
	}
}

func endpointOperations() contract.Section {
	one := func(means string) []contract.Answer {
		return []contract.Answer{contract.Shown(200, means, endpoint.Endpoint{}, exampleEndpoint)}
	}
	secrets := conflicting(endpoint.ErrEnv, endpoint.ErrNoKey, seal.ErrWrongKey)
	return contract.Section{
		Name: "endpoints", Title: "Endpoints",
		Description: "Who is told of what happens. Secrets are shown once, in the answer that brings them. docs/webhooks-out.md says what the settings mean.",
		Types:       endpointTypes(),
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_endpoints", Method: "GET", Path: "/admin/endpoints", Summary: "List all endpoints, and how they fare",
				Answers: []contract.Answer{contract.Shown(200, "All that are not deleted.", endpointList{}, `{"endpoints":[`+exampleEndpoint+`]}`)},
			}),
			doing(contract.Operation{
				ID: "create_endpoint", Method: "POST", Path: "/admin/endpoints", Summary: "Tell somebody more",
				Details:  "Name and url are required; everything else has a default.",
				Body:     contract.Sent(endpoint.Settings{}, `{"name":"crm-bot","url":"https://example.com/hooks","events":["memory_added","memory_updated"],"signing":[]}`),
				Answers:  []contract.Answer{madeAt(contract.Shown(201, "The endpoint, with its new secrets: nothing shows them again.", WithSecrets{}, withSecret()))},
				Problems: append(conflicting(endpoint.ErrExists), secrets...),
			}),
			looking(contract.Operation{
				ID: "get_endpoint", Method: "GET", Path: "/admin/endpoints/{endpoint}", Summary: "Show an endpoint",
				Params: []contract.Param{whichParam()}, Answers: one("The endpoint."),
			}),
			doing(contract.Operation{
				ID: "change_endpoint", Method: "PATCH", Path: "/admin/endpoints/{endpoint}", Summary: "Change settings; the others stay as they are",
				Params: []contract.Param{whichParam()}, Body: contract.Sent(endpoint.Settings{}, `{"description":"The bot of the sales team","batch_size":10,"batch_wait":"5s"}`),
				Answers:  []contract.Answer{contract.Shown(200, "The endpoint as it is now, with secrets that the change has brought.", WithSecrets{}, exampleEndpoint)},
				Problems: append(conflicting(endpoint.ErrExists), secrets...),
			}),
			doing(contract.Operation{
				ID: "delete_endpoint", Method: "DELETE", Path: "/admin/endpoints/{endpoint}", Summary: "Tell it nothing any more",
				Params: []contract.Param{whichParam()}, Problems: conflicting(endpoint.ErrEnv),
				Answers: []contract.Answer{contract.Shown(200, "What was on its way is cancelled soon.", endpointDeleted{}, `{"endpoint":"crm-bot","deleted":true}`)},
			}),
			doing(contract.Operation{
				ID: "pause_endpoint", Method: "POST", Path: "/admin/endpoints/{endpoint}/pause", Summary: "Send nothing for a while",
				Params: []contract.Param{whichParam()}, Body: contract.MaySend(reasonGiven{}, `{"reason":"their release"}`), Answers: one("The endpoint; what comes for it is kept."),
			}),
			doing(contract.Operation{
				ID: "resume_endpoint", Method: "POST", Path: "/admin/endpoints/{endpoint}/resume", Summary: "Send again, also to one that is disabled",
				Params: []contract.Param{whichParam()}, Body: contract.MaySend(reasonGiven{}, `{"reason":"they are back"}`), Answers: one("The endpoint."),
			}),
			doing(contract.Operation{
				ID: "rotate_endpoint", Method: "POST", Path: "/admin/endpoints/{endpoint}/rotate", Summary: "Make a new secret",
				Details: "The old one signs beside it until the overlap is over.",
				Params:  []contract.Param{whichParam()}, Body: contract.MaySend(rotation{}, `{"kind":"hmac","overlap":"24h"}`), Problems: secrets,
				Answers: []contract.Answer{contract.Shown(200, "The endpoint and its new secret.", WithSecrets{}, withSecret())},
			}),
			doing(contract.Operation{
				ID: "test_endpoint", Method: "POST", Path: "/admin/endpoints/{endpoint}/test", Summary: "Send an example of an event",
				Details: "It is sent once and stored nowhere. The answer waits for that of the endpoint.",
				Params:  []contract.Param{whichParam()}, Body: contract.MaySend(testAsked{}, `{"event":"memory_added"}`), Problems: conflicting(seal.ErrWrongKey),
				Answers: []contract.Answer{contract.Shown(200, "What became of it.", TestOutcome{}, `{"delivered":true,"status_code":204,"error":"","webhook_id":"01a201a3-89ed-769a-b1f9-2106af11e64b","duration_ms":41}`)},
			}),
		},
	}
}
