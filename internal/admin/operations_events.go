package admin

import (
	"net/http"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/respond"
)

// What is sent beside the types of what is shown.
type (
	// replayAsked are events to be run again: the filters of the list, and how.
	replayAsked struct {
		Status string `json:"status,omitempty"`
		deadAsked
	}
	// deadAsked are dead events to be run again.
	deadAsked struct {
		Source    string        `json:"source,omitempty"`
		Module    string        `json:"module,omitempty"`
		Operation string        `json:"operation,omitempty"`
		RecordID  string        `json:"record_id,omitempty"`
		AccountID string        `json:"account_id,omitempty"`
		UserID    string        `json:"user_id,omitempty"`  // of who changed the record, as the sender says
		EventID   string        `json:"event_id,omitempty"` // as it was sent
		Error     string        `json:"error,omitempty"`    // a part of the last error, in any case
		Since     *endpointTime `json:"since,omitempty"`    // received then or later
		Until     *endpointTime `json:"until,omitempty"`    // received before
		PerSecond int           `json:"per_second,omitempty"`
		DryRun    bool          `json:"dry_run,omitempty"` // count them, and do nothing
		Reason    string        `json:"reason,omitempty"`
	}
)

const (
	exampleEvent = `"id":42,"source":"zoho","event_id":"evt-42","module":"Contacts","operation":"update","record_id":"3652397000000649013","account_id":"3652397000000624046",` +
		`"revision":7,"user_id":"3652397000000186017","modified_fields":["Email"],"occurred_at":null,"received_at":"2026-11-22T05:03:44.621429Z","routed_at":"2026-11-22T05:03:44.63Z",` +
		`"status":"dead","failures":3,"last_error":"the record has no owner","retry_at":null,"processed_at":"2026-11-22T05:03:50Z"`
	exampleStep = `{"at":"2026-11-22T05:03:44.621429Z","station":"inbound","what":"received","detail":"update Contacts 3652397000000649013 from zoho as evt-42","event_id":42,` +
		`"memory_id":null,"webhook_id":null,"delivery_id":null}`
	exampleReplayID = "01a201a3-85e8-7166-bd98-bdae5e57890a"
	exampleReplay   = `{"id":"` + exampleReplayID + `","filter":{"status":"dead"},"per_second":0,"matched":12,"replayed":0,"refused":0,"state":"running","actor":"token/operator",` +
		`"reason":"the mapping was wrong","created_at":"2026-11-22T05:03:44.621429Z","finished_at":null}`
	exampleMemoryID = "01a201a3-85e8-7166-bd98-bdae5e57890b"
)

func eventTypes() []contract.Type {
	status, operation := contract.OneOf(EventStatuses()...), contract.OneOf(operations()...)
	asked := map[string]contract.Bound{
		"operation": operation, "per_second": contract.All(contract.Between(0, fastest), contract.Means("How many a second at most; 0: as many as the backlog has room for.")),
		"reason": contract.All(contract.Text(0, longestReason), contract.Means("Why, for the audit log.")), "source": contract.Means("Of this source."),
	}
	all := map[string]contract.Bound{"status": contract.All(contract.OneOf(finalStatuses()...), contract.Means("Which ended like that."))}
	for name, bound := range asked {
		all[name] = bound
	}
	sourced := map[string]contract.Bound{"status": status, "operation": contract.All(operation, contract.Means("What was done to the record.")), "source": contract.Means("Who sent it.")}
	return []contract.Type{
		{Of: Event{}, Name: "StoredEvent", Fields: sourced},
		{Of: EventFilter{}, Name: "StoredEventFilter", Fields: sourced},
		{Of: EventPage{}, Name: "StoredEventPage"}, {Of: EventStory{}, Name: "StoredEventStory"}, {Of: EventRun{}, Name: "StoredEventRun"},
		{Of: replayed{}, Name: "StoredEventReplayed"},
		{Of: Step{}, Name: "StoryStep"},
		{Of: Record{}, Name: "RecordNow"}, {Of: RecordStory{}}, {Of: MemoryChange{}, Name: "OperatorsMemoryChange"}, {Of: MemoryPage{}, Name: "OperatorsMemoryPage"},
		{Of: Replay{}, Name: "EventReplay", Fields: map[string]contract.Bound{"state": contract.OneOf(ReplayRunning, ReplayPaused, ReplayDone, ReplayCancelled)}},
		{Of: replayPage{}, Name: "EventReplayPage"}, {Of: Found{}, Name: "EventReplayFound"},
		{Of: replayAsked{}, Name: "EventReplayAsked", Fields: all}, {Of: deadAsked{}, Name: "DeadRetryAsked", Fields: asked},
		{Of: DeadLetter{}, Fields: map[string]contract.Bound{"kind": contract.OneOf("event", "delivery")}}, {Of: DeadPage{}},
		{Of: decided{}, Name: "DeadDecided", Fields: map[string]contract.Bound{"decision": contract.OneOf("retry", "discard")}},
	}
}

func numberInPath(means string) contract.Param {
	return contract.InPath("id", means, &jsonschema.Schema{Type: "integer"}, 42)
}

func textParam(name, means string) contract.Param {
	return contract.InQuery(name, means, contract.Bounded("string"), nil)
}

func limitParam() contract.Param {
	return contract.InQuery("limit", "How many at most.", contract.Bounded("integer", contract.Between(1, MaxPage), contract.Default("50")), 10)
}

// pageParams are the parameters of every list.
func pageParams() []contract.Param {
	return []contract.Param{limitParam(), textParam("cursor", "The next_cursor of the page before.")}
}

// timeParams bound when a thing was.
func timeParams() []contract.Param {
	return []contract.Param{
		contract.InQuery("since", "At this time or later.", contract.Moment(), "2026-11-22T04:00:00Z"),
		contract.InQuery("until", "Before then.", contract.Moment(), "2026-11-22T05:00:00Z"),
	}
}

// paged adds the parameters of every list to those of one.
func paged(params ...contract.Param) []contract.Param { return append(params, pageParams()...) }

// timed adds those of a list that times bound.
func timed(params ...contract.Param) []contract.Param {
	return append(append(params, timeParams()...), pageParams()...)
}

func eventOperations() contract.Section {
	status := contract.Bounded("string", contract.OneOf(EventStatuses()...))
	story := []contract.Answer{contract.Shown(200, "How it stands, and the newest part of what happened.", RecordStory{}, `{"record_id":"3652397000000649013","records":[],"steps":[`+exampleStep+`]}`)}
	return contract.Section{
		Name: "events", Title: "Events", Description: "What came in, and what became of it. docs/operating.md says how to find out what happened to a record.", Types: eventTypes(),
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_events", Method: "GET", Path: "/admin/events", Summary: "What came in, newest first",
				Params: timed(contract.InQuery("status", "With this status.", status, "dead"), textParam("source", "Of this source."),
					textParam("module", "Of this module."), contract.InQuery("operation", "Of this operation.", contract.Bounded("string", contract.OneOf(operations()...)), "update"),
					textParam("record_id", "Of this record."), textParam("account_id", "Of this account."), textParam("user_id", "Of who changed the record."),
					textParam("event_id", "With this id, as it was sent."), textParam("error", "With this in the last error, in any case.")),
				Answers: []contract.Answer{contract.Shown(200, "A page; without next_cursor it is the last.", EventPage{}, `{"events":[{`+exampleEvent+`}]}`)},
			}),
			looking(contract.Operation{
				ID: "follow_events", Method: "GET", Path: "/admin/events/stream", Summary: "What becomes of events, as it does",
				Details: "Server-sent events; Last-Event-ID goes on where the last one was.",
				Params: []contract.Param{
					contract.InQuery("status", "With this status.", status, "dead"), textParam("module", "Of this module."), textParam("source", "Of this source."),
					textParam("last_event_id", "For clients that cannot send Last-Event-ID."),
				},
				Answers:  []contract.Answer{{Status: http.StatusOK, Means: "One event for each change, until the client leaves.", Media: "text/event-stream"}},
				Problems: conflicting(ErrTooManyFollowers),
			}),
			looking(contract.Operation{
				ID: "get_event", Method: "GET", Path: "/admin/events/{id}", Summary: "One event and all that became of it", Params: []contract.Param{numberInPath("The event's id.")},
				Answers: []contract.Answer{contract.Shown(200, "The event.", EventStory{}, `{`+exampleEvent+`,"has_body":true,"timeline":[`+exampleStep+`],"replays":[]}`)},
			}),
			looking(contract.Operation{
				ID: "get_event_body", Method: "GET", Path: "/admin/events/{id}/body", Summary: "What it came in",
				Details: "The bytes as they came, but for tokens; as=json: with content_type, headers, and body or base64.",
				Params:  []contract.Param{numberInPath("The event's id."), contract.InQuery("as", "In which form.", contract.Bounded("string", contract.OneOf("json")), nil)},
				Answers: []contract.Answer{{
					Status: http.StatusOK, Means: "The body, of the content type that it came with; of as=json an object.", More: []string{"*/*"},
					Examples: []contract.Example{{Value: `{"event_id":42,"content_type":"application/json","headers":{},"body":"{}","base64":null}`}},
				}},
				Problems: conflicting(ErrBodyGone),
			}),
			doing(contract.Operation{
				ID: "replay_event", Method: "POST", Path: "/admin/events/{id}/replay", Summary: "Run it again",
				Params: []contract.Param{numberInPath("The event's id.")}, Body: contract.MaySend(replayReason{}, `{"reason":"the mapping was wrong"}`), Problems: conflicting(ErrNotFinal, ErrNoBody),
				Answers: []contract.Answer{contract.Shown(202, "It is worked as when it came.", replayed{}, `{"event_id":42,"replay_id":"`+exampleReplayID+`"}`)},
			}),
			looking(contract.Operation{
				ID: "find_record", Method: "GET", Path: "/admin/records", Summary: "What happened to a record, by its id alone",
				Params: paged(contract.Param{
					Name: "record_id", In: "query", Required: true, Means: "The record's id.", Schema: contract.Bounded("string"), Example: "3652397000000649013",
				}),
				Answers: story, Problems: []*respond.Error{problem(ErrNotFound)},
			}),
			looking(contract.Operation{
				ID: "get_record", Method: "GET", Path: "/admin/records/{module}/{record_id}", Summary: "What happened to a record",
				Params: paged(contract.InPath("module", "The record's module.", &jsonschema.Schema{Type: "string"}, "Contacts"),
					contract.InPath("record_id", "The record's id.", &jsonschema.Schema{Type: "string"}, "3652397000000649013")),
				Answers: story,
			}),
			looking(contract.Operation{
				ID: "get_memory_past", Method: "GET", Path: "/admin/memories/{id}/history", Summary: "What became of a memory",
				Params: []contract.Param{contract.InPath("id", "The memory's id.", contract.UUID(), exampleMemoryID), limitParam(),
					contract.InQuery("before", "The next_before of the page before.", &jsonschema.Schema{Type: "integer"}, nil)},
				Answers: []contract.Answer{contract.Shown(200, "A page, newest first.", MemoryPage{}, `{"memory_id":"`+exampleMemoryID+`","changes":[]}`)},
			}),
		},
	}
}

func replayOperations() contract.Section {
	id := contract.InPath("id", "The replay's id.", contract.UUID(), exampleReplayID)
	one := []contract.Answer{contract.Shown(200, "How it stands.", Replay{}, exampleReplay)}
	started := []contract.Answer{
		contract.Shown(200, "Of a dry run: how many there are.", Found{}, `{"dry_run":true,"matched":1,"sample":[{`+exampleEvent+`}]}`),
		madeAt(contract.Shown(202, "It goes on from now.", Replay{}, exampleReplay)),
	}
	key := []contract.Param{{
		Name: "Idempotency-Key", In: "header", Means: "Who sends the same again under the same key gets the replay of the first time.",
		Schema: contract.Bounded("string", contract.Text(1, maxKey)), Example: "outage-of-monday",
	}}
	decide := func(how, summary string, problems ...error) contract.Operation {
		return doing(contract.Operation{
			ID: how + "_replay", Method: "POST", Path: "/admin/replays/{id}/" + how, Summary: summary, Params: []contract.Param{id}, Answers: one, Problems: conflicting(problems...),
		})
	}
	return contract.Section{
		Name: "replays", Title: "Replays", Description: "Running many events again, oldest first, none twice.",
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_replays", Method: "GET", Path: "/admin/replays", Summary: "Replays, newest first",
				Params: paged(contract.InQuery("state", "In this state.",
					contract.Bounded("string", contract.OneOf(ReplayRunning, ReplayPaused, ReplayDone, ReplayCancelled)), ReplayRunning)),
				Answers: []contract.Answer{contract.Shown(200, "A page; without next_cursor it is the last.", replayPage{}, `{"replays":[`+exampleReplay+`]}`)},
			}),
			doing(contract.Operation{
				ID: "start_replay", Method: "POST", Path: "/admin/replays", Summary: "Run again all that a filter finds", Details: "Something has to be asked for.",
				Params: key, Body: contract.MaySend(replayAsked{}, `{"status":"dead","error":"no owner","per_second":50,"reason":"the mapping was wrong"}`),
				Answers: started, Problems: conflicting(ErrKeyReused),
			}),
			looking(contract.Operation{ID: "get_replay", Method: "GET", Path: "/admin/replays/{id}", Summary: "How far it is", Params: []contract.Param{id}, Answers: one}),
			decide("pause", "Let it rest", ErrReplayEnded), decide("resume", "Go on", ErrReplayEnded), decide("cancel", "End it where it is"),
		},
	}
}

func deadOperations() contract.Section {
	letter := []contract.Param{
		contract.InPath("kind", "event or delivery.", contract.Bounded("string", contract.OneOf("event", "delivery")), "event"),
		contract.InPath("id", "Its id.", &jsonschema.Schema{Type: "integer"}, 42),
	}
	answer := func(status int, decision string) []contract.Answer {
		return []contract.Answer{contract.Shown(status, "It is done.", decided{}, `{"id":"event/42","decision":"`+decision+`"}`)}
	}
	replays := replayOperations().Operations[1]
	return contract.Section{
		Name: "dead", Title: "Dead letters", Description: "What used up its attempts, or cannot be worked at all.",
		Operations: []contract.Operation{
			looking(contract.Operation{
				ID: "list_dead", Method: "GET", Path: "/admin/dead", Summary: "What waits for a decision, newest first",
				Params: timed(contract.InQuery("kind", "Of this kind.", contract.Bounded("string", contract.OneOf("event", "delivery")), "event"),
					textParam("source", "Events of this source."), textParam("module", "Events of this module."), textParam("record_id", "Events of this record."),
					textParam("account_id", "Events of this account."), textParam("endpoint", "Deliveries to this endpoint."), textParam("error", "With this in the last error.")),
				Answers: []contract.Answer{contract.Shown(200, "A page; without next_cursor it is the last.", DeadPage{}, `{"letters":[{"id":"event/42","kind":"event","died_at":"2026-11-22T05:03:50Z",`+
					`"failures":3,"reason":"the record has no owner","what":"update Contacts 3652397000000649013","event":{`+exampleEvent+`}}]}`)},
			}),
			doing(contract.Operation{
				ID: "retry_all_dead", Method: "POST", Path: "/admin/dead/retry", Summary: "Run dead events again that a filter finds",
				Details: "A replay of those with the status dead. Deliveries are sent again by /admin/endpoints/{endpoint}/recover.",
				Params:  replays.Params, Body: contract.MaySend(deadAsked{}, `{"module":"Contacts","dry_run":true}`), Answers: replays.Answers, Problems: conflicting(ErrKeyReused),
			}),
			doing(contract.Operation{
				ID: "retry_dead", Method: "POST", Path: "/admin/dead/{kind}/{id}/retry", Summary: "Give one its attempts again", Params: letter,
				Answers: answer(202, "retry"), Problems: conflicting(ErrNotDead, ErrNoBody),
			}),
			doing(contract.Operation{
				ID: "discard_dead", Method: "POST", Path: "/admin/dead/{kind}/{id}/discard", Summary: "Decide that it needs no more", Params: letter,
				Body: contract.Sent(discardReason{}, `{"reason":"they know"}`), Answers: answer(200, "discard"), Problems: conflicting(ErrNotDead),
			}),
		},
	}
}
