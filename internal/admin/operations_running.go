package admin

import (
	"slices"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/respond"
)

// What is sent and answered beside the types of what is shown.
type (
	// queueList is all queues by name.
	queueList struct {
		Queues []Queue `json:"queues"`
	}
	// settingList is all settings of the node that answers.
	settingList struct {
		Settings []Setting `json:"settings"`
	}
	// tokenList is all tokens, newest first.
	tokenList struct {
		Tokens []ShownToken `json:"tokens"`
	}
	// newToken is a token to make.
	newToken struct {
		Name      string     `json:"name"`
		Scopes    []string   `json:"scopes,omitempty"`     // memory unless said otherwise
		UserIDs   []string   `json:"user_ids,omitempty"`   // whose memories it may see and change; everybody's unless said otherwise
		ExpiresAt *time.Time `json:"expires_at,omitempty"` // never unless said otherwise
	}
	// tokenRevoked is that a token is good for nothing any more.
	tokenRevoked struct {
		ID      uuid.UUID `json:"id"`
		Name    string    `json:"name"`
		Revoked bool      `json:"revoked"`
	}
)

// runningPage are the parameters of every list.
func runningPage() []contract.Param {
	return []contract.Param{
		contract.InQuery("limit", "How many at most.", contract.Bounded("integer", contract.Between(1, MaxPage), contract.Default("50")), 10),
		contract.InQuery("cursor", "The next_cursor of the page before.", contract.Bounded("string"), nil),
	}
}

// narrowed is a parameter that narrows a list to what has that text.
func narrowed(name, means string) contract.Param {
	return contract.InQuery(name, means, contract.Bounded("string"), nil)
}

func jobParam() []contract.Param {
	return []contract.Param{contract.InPath("id", "The job's id.", contract.Bounded("integer"), 48213)}
}

func windows() []string {
	var names []string
	for name := range Windows() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func queueOperations() contract.Section {
	name := contract.InPath("name", "The queue's name.", contract.Bounded("string"), "sync")
	queue := `{"name":"sync","paused_at":null,"available":0,"waiting":0,"running":2,"scheduled":1,"retryable":0,"cancelled":0,"discarded":0,"oldest_seconds":0,"completed_per_second":1.5}`
	job := `"id":48213,"kind":"sync_account","queue":"sync","state":"running","args":{"account_id":"5725767000000487001"},"attempt":1,"max_attempts":25,"failures":0,"last_error":"",` +
		`"process":"","host":"","created_at":"2026-11-22T05:03:44.621429Z","scheduled_at":"2026-11-22T05:03:44.621429Z","attempted_at":null,"finalized_at":null`
	one := []contract.Answer{contract.Shown(200, "The job.", JobStory{}, `{`+job+`,"errors":[]}`)}
	state := contract.OneOf(JobStates()...)
	decide := func(o contract.Operation) contract.Operation {
		o.Method, o.Body = "POST", contract.MaySend(deciding{}, `{"reason":"the release"}`)
		return doing(o)
	}
	return contract.Section{
		Name: "queues", Title: "Queues and jobs", Description: "The work that goes on behind the answers.",
		Types: []contract.Type{
			{Of: Job{}, Name: "QueueJob", Fields: map[string]contract.Bound{"state": state}}, {Of: JobStory{}, Name: "QueueJobStory"}, {Of: JobError{}, Name: "QueueJobError"},
			{Of: JobPage{}, Name: "QueueJobPage"}, {Of: deciding{}, Name: "Decision", Fields: map[string]contract.Bound{"reason": contract.Text(0, longestReason)}}, {Of: Percentiles{}}, {Of: StatsOf{}, Name: "Stats", Fields: map[string]contract.Bound{"window": contract.OneOf(windows()...)}},
		},
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "get_stats", Method: "GET", Path: "/admin/stats", Summary: "Figures of what happened lately",
				Params: []contract.Param{contract.InQuery("window", "Of how long ago until now.", contract.Bounded("string", contract.OneOf(windows()...), contract.Default(`"5m"`)), "1h")},
				Answers: []contract.Answer{contract.Shown(200, "Figures of that window.", StatsOf{}, `{"window":"1h","covered_seconds":3600,"per_second":{"received":12.5,"duplicated":0.1,"rejected":0,`+
					`"processed":12.5,"failed":0,"died":0,"delivered":25,"attempts_failed":0.2,"deliveries_died":0},"milliseconds":{"to_routed":{"p50":4,"p95":9,"p99":21},`+
					`"to_processed":null,"to_delivered":null,"attempt":null},"backlog":[{"stage":"routing","waiting":3,"oldest_seconds":0.1}],"sampled":{"events":1,"deliveries":0.4},`+
					`"sources":[{"source":"zoho","events":45000,"retrying":0,"dead":0}],"endpoints":[{"endpoint_id":"`+exampleEndpointID+`","endpoint":"crm-bot","deliveries":90000,`+
					`"delivered":90000,"open":0,"dead":0,"attempts":90120,"attempts_failed":120,"attempt_milliseconds":{"p50":18,"p95":41,"p99":96}}]}`)},
			}),
			looking(contract.Operation{
				ID: "list_queues", Method: "GET", Path: "/admin/queues", Summary: "List all queues",
				Answers: []contract.Answer{contract.Shown(200, "All of them.", queueList{}, `{"queues":[`+queue+`]}`)},
			}),
			decide(contract.Operation{
				ID: "pause_queue", Path: "/admin/queues/{name}/pause", Summary: "Work no more of its jobs", Params: []contract.Param{name},
				Answers: []contract.Answer{contract.Shown(200, "The queue, and what of its work goes on all the same.", Queue{}, queue)},
			}),
			decide(contract.Operation{
				ID: "resume_queue", Path: "/admin/queues/{name}/resume", Summary: "Work them again", Params: []contract.Param{name},
				Answers: []contract.Answer{contract.Shown(200, "The queue.", Queue{}, queue)},
			}),
			looking(contract.Operation{
				ID: "list_jobs", Method: "GET", Path: "/admin/jobs", Summary: "List jobs, newest first",
				Params: append([]contract.Param{
					narrowed("kind", "Of this kind."), contract.InQuery("queue", "Of this queue.", contract.Bounded("string", contract.OneOf(queueNames()...)), "sync"),
					contract.InQuery("state", "In this state.", contract.Bounded("string", state), "running"),
				}, runningPage()...),
				Answers: []contract.Answer{contract.Shown(200, "A page; without next_cursor it is the last.", JobPage{}, `{"jobs":[{`+job+`}]}`)},
			}),
			looking(contract.Operation{ID: "get_queue_job", Method: "GET", Path: "/admin/jobs/{id}", Summary: "A job, and what went wrong with it", Params: jobParam(), Answers: one}),
			decide(contract.Operation{ID: "cancel_job", Path: "/admin/jobs/{id}/cancel", Summary: "End it", Params: jobParam(), Answers: one}),
			decide(contract.Operation{ID: "retry_job", Path: "/admin/jobs/{id}/retry", Summary: "Have it worked now", Params: jobParam(), Answers: one}),
		},
	}
}

// deciding is why a person decides so, for the audit log.
type deciding struct {
	Reason string `json:"reason,omitempty"`
}

func channelOperations() contract.Section {
	channel := `{"channel_id":"1000000068001","source":"zoho","module":"Contacts","events":["Contacts.all"],"notify_url":"https://example.com/webhooks/zoho","state":"active",` +
		`"expires_at":"2026-11-23T05:03:44Z","due_at":null,"failures":0,"last_error":"","confirmed_at":"2026-11-22T05:03:44Z","received":41,"received_at":"2026-11-22T05:03:44Z"}`
	asking := []*respond.Error{
		{Status: 409, Code: "zoho_not_connected", Message: "This node has no credentials of Zoho: docs/zoho.md tells how to connect."},
		{Status: 409, Code: "channel_overtaken", Message: "Somebody else changed this channel meanwhile: look at it again."},
		{Status: 502, Code: "zoho_refused", Message: "Zoho did not say yes, or did not answer: the channel's last_error and the log say why."},
	}
	operate := func(what, summary string) contract.Operation {
		o := contract.Operation{
			ID: what + "_channel", Method: "POST", Path: "/admin/channels/{id}/" + what, Summary: summary,
			Params:   []contract.Param{contract.InPath("id", "The channel's id, or its module.", contract.Bounded("string"), "Contacts")},
			Answers:  []contract.Answer{contract.Shown(200, "The channel, once Zoho has said yes.", Channel{}, channel)},
			Problems: append(conflicting(ErrChannelState), asking...),
		}
		if what == "renew" {
			o.Answers = []contract.Answer{contract.Shown(202, "The channel; a job renews it.", Channel{}, channel)}
		}
		return doing(o)
	}
	return contract.Section{
		Name: "channels", Title: "Channels", Description: "Zoho's notification channels, by which it tells of changes.", Types: []contract.Type{{Of: Channel{}}},
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_channels", Method: "GET", Path: "/admin/channels", Summary: "List all channels, and the modules that have none",
				Answers: []contract.Answer{contract.Shown(200, "All of them.", ChannelList{}, `{"channels":[`+channel+`],"missing":["Deals"]}`)},
			}),
			operate("renew", "Renew it now"), operate("pause", "Have Zoho tell nothing for a while"), operate("resume", "Have Zoho tell again"), operate("disable", "End it for good"),
		},
	}
}

const exampleTokenID = "01a201a3-85e8-7166-bd98-bdae5e57890c"

func guardOperations() contract.Section {
	token := `"id":"` + exampleTokenID + `","name":"support-bot","scopes":["memory"],"user_ids":["ada"],"created_at":"2026-11-22T05:03:44.621429Z","expires_at":null,"revoked_at":null,` +
		`"last_used_at":null,"state":"active"`
	beyond := []*respond.Error{problem(access.ErrBeyond)}
	return contract.Section{
		Name: "guard", Title: "Tokens, settings, audit", Description: "Who may what, who did what, and who was turned away.",
		Types: []contract.Type{
			{Of: access.Token{}}, {Of: ShownToken{}, Name: "Token", Fields: map[string]contract.Bound{"state": contract.OneOf("active", "expired", "revoked"), "user_ids": listOrNull()}},
			{Of: MadeToken{}, Name: "TokenWithSecret"},
			{Of: newToken{}, Name: "NewToken", Fields: map[string]contract.Bound{"name": contract.Like(`^[A-Za-z0-9._-]{1,100}$`), "scopes": contract.OneOf(access.Scopes()...)}},
			{Of: Setting{}, Fields: map[string]contract.Bound{"source": contract.OneOf("environment", "default")}},
			{Of: AuditLine{}, Fields: map[string]contract.Bound{"details": func(s *jsonschema.Schema) { s.Type = "object" }}},
		},
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_settings", Method: "GET", Path: "/admin/settings", Summary: "The settings in force, without secrets",
				Answers: []contract.Answer{contract.Shown(200, "Those of the node that answers.", settingList{}, `{"settings":[{"name":"HTTP_ADDR","value":":8000","default":":8000","source":"default","set":true,"secret":false}]}`)},
			}),
			looking(contract.Operation{
				ID: "list_tokens", Method: "GET", Path: "/admin/tokens", Summary: "List all tokens",
				Answers: []contract.Answer{contract.Shown(200, "The newest first.", tokenList{}, `{"tokens":[{`+token+`}]}`)},
			}),
			doing(contract.Operation{
				ID: "create_token", Method: "POST", Path: "/admin/tokens", Summary: "Make a token", Details: "It may no more than the token that it is asked for with.",
				Body:     contract.Sent(newToken{}, `{"name":"support-bot","scopes":["admin:read"],"expires_at":"2030-01-31T12:00:00Z"}`),
				Answers:  []contract.Answer{contract.Shown(201, "The token, shown this once.", MadeToken{}, `{"token":"mrt_`+strings.Repeat("x", 43)+`",`+token+`}`)},
				Problems: append(conflicting(access.ErrTaken), beyond...),
			}),
			doing(contract.Operation{
				ID: "revoke_token", Method: "DELETE", Path: "/admin/tokens/{id}", Summary: "Make a token good for nothing",
				Params:  []contract.Param{contract.InPath("id", "The token's id, or its name.", contract.Bounded("string"), "support-bot")},
				Answers: []contract.Answer{contract.Shown(200, "It is.", tokenRevoked{}, `{"id":"`+exampleTokenID+`","name":"support-bot","revoked":true}`)}, Problems: beyond,
			}),
			looking(contract.Operation{
				ID: "list_audit", Method: "GET", Path: "/admin/audit", Summary: "Who did what, newest first",
				Params: append([]contract.Param{narrowed("actor", "By this one."), narrowed("action", "Of this kind."), narrowed("object", "To this."), contract.InQuery("since", "At this time or later.", contract.Moment(), "2026-11-22T04:00:00Z"), contract.InQuery("until", "Before.", contract.Moment(), "2026-11-22T05:00:00Z")}, runningPage()...),
				Answers: []contract.Answer{contract.Shown(200, "A page; without next_cursor it is the last.", AuditPage{}, `{"audit":[{"id":7,"at":"2026-11-22T05:03:44.621429Z","actor":"token/operator",`+
					`"action":"endpoint.pause","object":"endpoint/`+exampleEndpointID+`","details":{"reason":"their release"},"request_id":"01a201a3-89ed-769a-b1f9-2106af11e64b"}]}`)},
			}),
			looking(contract.Operation{
				ID: "list_rejected", Method: "GET", Path: "/admin/rejected", Summary: "Who was turned away, newest first",
				Params: append([]contract.Param{
					contract.InQuery("status", "With this status.", contract.Bounded("integer", contract.Between(400, 599)), 401),
					narrowed("code", "With this code."), narrowed("route", "At this route."), narrowed("address", "From this address."),
				}, runningPage()...),
				Answers: []contract.Answer{contract.Shown(200, "A page of the newest thousand.", RejectedPage{}, `{"rejected":[{"id":7,"at":"2026-11-22T05:03:44.621429Z","method":"POST","route":"/webhooks/zoho",`+
					`"status":401,"code":"unauthorized","reason":"Nothing here proves who sent this.","address":"192.0.2.7","user_agent":"curl/8","content_length":12,"request_id":"r-1"}],"unlisted":0}`)},
			}),
		},
	}
}

func listOrNull() contract.Bound {
	return func(s *jsonschema.Schema) { s.Types, s.Type = []string{"array", "null"}, "" }
}

// SyncOperations describes the routes over syncs. list and of are values of the
// types that are answered, a page of syncs and one that is called Sync; example is one, problems what stands in the way.
func SyncOperations(list, of any, example string, problems []*respond.Error) contract.Section {
	which := []contract.Param{contract.InPath("id", "The sync's id; or its kind, for the one that is active.", contract.Bounded("string"), "full")}
	one := []contract.Answer{contract.Shown(200, "The sync.", of, example)}
	decide := func(what, summary string) contract.Operation {
		return doing(contract.Operation{ID: what + "_sync", Method: "POST", Path: "/admin/syncs/{id}/" + what, Summary: summary, Params: which, Answers: one, Problems: problems})
	}
	started := madeAt(contract.Shown(202, "The sync, which goes on from now; or, of the kind account, that it is asked for.", of, example))
	started.Headers, started.Of = nil, syncBegun{}
	started.Examples = append(started.Examples, contract.Example{Name: "account", Value: `{"kind":"account","account_id":"5725767000000487001"}`})
	return contract.Section{
		Name: "syncs", Title: "Syncs", Description: "Holding what is known against what Zoho has.",
		Types: []contract.Type{
			{Of: newSync{}, Name: "NewSync", Fields: map[string]contract.Bound{"kind": contract.OneOf("account", "incremental", "full")}},
			{Of: syncBegun{}, Schema: &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Ref: "#/components/schemas/Sync"}, {
				Type: "object", Required: []string{"kind", "account_id"}, Description: "Of the kind account, which is no sync of its own.",
				Properties: map[string]*jsonschema.Schema{"kind": contract.Bounded("string", contract.OneOf("account")), "account_id": {Type: "string"}},
			}}}},
		},
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_syncs", Method: "GET", Path: "/admin/syncs", Summary: "List syncs, newest first",
				Params: append([]contract.Param{
					contract.InQuery("kind", "Of this kind.", contract.Bounded("string", contract.OneOf("full", "incremental")), "full"),
					contract.InQuery("state", "In this state.", contract.Bounded("string", contract.OneOf("running", "paused", "completed", "failed", "cancelled")), "running"),
				}, runningPage()...),
				Answers: []contract.Answer{contract.Shown(200, "A page; without next_cursor it is the last.", list, `{"syncs":[`+example+`]}`)},
			}),
			doing(contract.Operation{
				ID: "start_sync", Method: "POST", Path: "/admin/syncs", Summary: "Start a sync", Body: contract.Sent(newSync{}, `{"kind":"full"}`),
				Answers:  []contract.Answer{contract.Shown(200, "The sync of its kind that is under way.", of, example), started},
				Problems: problems,
			}),
			looking(contract.Operation{ID: "get_sync", Method: "GET", Path: "/admin/syncs/{id}", Summary: "A sync, module by module", Params: which, Answers: one}),
			decide("pause", "Let it stand still"), decide("resume", "Let it go on"), decide("cancel", "End it"),
		},
	}
}

// syncBegun is a sync, or that an account is read.
type syncBegun struct{}

// newSync is what is to be held against Zoho.
type newSync struct {
	Kind      string `json:"kind"`
	AccountID string `json:"account_id,omitempty"` // of the kind account
}
