package api

import (
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

// Operations describes Routes.
func Operations() contract.Section {
	return contract.Section{
		Name: "memory", Title: "The memory",
		Description: "What bots and agents remember and recall, with a token of the scope memory. A token may be for the users that it names; others are not there for it (404). " +
			"Times are RFC 3339. What follows a record of the CRM is changed there alone.",
		Types:      types(),
		Operations: append(append(writes(), reads()...), runs()...),
	}
}

const (
	exampleID     = "01a201a3-85e8-7166-bd98-bdae5e578901"
	exampleRun    = "01a201a3-85e8-7166-bd98-bdae5e578905"
	exampleLine   = "01a201a3-85e8-7166-bd98-bdae5e578904"
	exampleMemory = `{"id":"` + exampleID + `","user_id":"user-42","kind":"fact","content":"Drinks tea, never coffee","metadata":{"channel":"chat"},` +
		`"created_at":"2026-11-22T05:03:44.621429Z","updated_at":"2026-11-22T05:03:44.621429Z"}`
	exampleLink = `{"id":"` + exampleLine + `","user_id":"user-42","source":"Jane Doe","relationship":"WORKS_AT","target":"Acme","confidence":0.9,` +
		`"metadata":{},"created_at":"2026-11-22T05:03:44.621429Z"}`
	exampleJob = `{"id":"` + exampleRun + `","kind":"graph_build","user_id":"user-42","dry_run":false,"state":"queued",` +
		`"progress":{"done":0,"total":0},"created_at":"2026-11-22T05:03:44.621429Z","ended_at":null}`
)

func userParam() contract.Param {
	return contract.Param{
		Name: "user_id", In: "query", Required: true, Means: "Whose memory it is.", Example: "user-42",
		Schema: contract.Bounded("string", contract.Text(1, memory.MaxName)),
	}
}

func idParam(means, example string) contract.Param {
	return contract.Param{Name: "id", In: "path", Means: means, Schema: &jsonschema.Schema{Type: "string", Format: "uuid"}, Example: example}
}

func keyHeader() contract.Param {
	return contract.Param{
		Name: "Idempotency-Key", In: "header", Example: "order-4711",
		Means:  "Any text of the client's own. Sent again with the same key, the same request is answered as it was the first time, and done once.",
		Schema: contract.Bounded("string", contract.Text(1, maxKey)),
	}
}

// write is an operation that changes something.
func write(o contract.Operation) contract.Operation {
	o = read(o)
	o.Params = append(o.Params, keyHeader())
	o.Problems = append(o.Problems, problem(memory.ErrKeyReused), problem(group.ErrFull))
	return withBody(o)
}

func withBody(o contract.Operation) contract.Operation {
	if o.Body != nil {
		o.Problems = append(o.Problems, contract.BodyProblems(MaxBody)...)
	}
	return o
}

// read is an operation that changes nothing. What it may not see is not there.
func read(o contract.Operation) contract.Operation {
	o.Scope = access.Memory
	o.Problems = append(o.Problems, contract.QueryProblem(), problem(wrong("user_id", "is required")), problem(memory.ErrNotFound))
	return o
}

func shown(status int, means string, of any, example string) []contract.Answer {
	return []contract.Answer{contract.Shown(status, means, of, example)}
}

func writes() []contract.Operation {
	readOnly := []*respond.Error{problem(memory.ErrReadOnly)}
	return []contract.Operation{
		write(contract.Operation{
			ID: "add_memory", Method: "POST", Path: "/v1/memories", Summary: "Store a memory",
			Body: &contract.Body{Of: addRequest{}, Examples: []contract.Example{
				{Name: "text", Value: `{"user_id":"user-42","content":"Drinks tea, never coffee","metadata":{"channel":"chat"}}`},
				{Name: "conversation", Value: `{"user_id":"user-42","messages":[{"role":"user","content":"I moved to Graz."},{"role":"assistant","content":"Noted."}]}`},
			}},
			Answers: shown(201, "The memory.", memory.Row{}, exampleMemory),
		}),
		write(contract.Operation{
			ID: "add_memories", Method: "POST", Path: "/v1/memories/batch", Summary: "Store many memories, or none",
			Body:    contract.Sent(batchRequest{}, `{"user_id":"user-42","items":[{"content":"Lives in Graz"},{"content":"Call back on Monday","kind":"task"}]}`),
			Answers: shown(201, "Their ids, in the order of the items.", memory.Batch{}, `{"ids":["01a201a3-85e8-7166-bd98-bdae5e578902","01a201a3-85e8-7166-bd98-bdae5e578903"]}`),
		}),
		write(contract.Operation{
			ID: "change_memory", Method: "PATCH", Path: "/v1/memories/{id}", Summary: "Change a memory",
			Params: []contract.Param{idParam("The memory's id.", exampleID)}, Problems: readOnly,
			Body:    contract.Sent(changeRequest{}, `{"content":"Drinks green tea, never coffee"}`),
			Answers: shown(200, "The memory as it is now.", memory.Row{}, exampleMemory),
		}),
		write(contract.Operation{
			ID: "delete_memory", Method: "DELETE", Path: "/v1/memories/{id}", Summary: "Delete a memory",
			Params: []contract.Param{idParam("The memory's id.", exampleID)}, Problems: readOnly,
			Answers: shown(200, "What it was.", removed{}, `{"id":"`+exampleID+`","deleted":true,"memory":`+exampleMemory+`}`),
		}),
		write(contract.Operation{
			ID: "delete_memories", Method: "DELETE", Path: "/v1/memories", Summary: "Delete all of a user's memories",
			Params:  []contract.Param{userParam()},
			Answers: shown(200, "How many went. Those are kept that follow records of the CRM.", removedAll{}, `{"user_id":"user-42","deleted":12,"kept":0}`),
		}),
		write(contract.Operation{
			ID: "add_preference", Method: "POST", Path: "/v1/preferences", Summary: "Store what a user likes",
			Body:    contract.Sent(memory.Preference{}, `{"user_id":"user-42","preference":"answers in short sentences","category":"style"}`),
			Answers: shown(201, "The memory that it is kept as.", memory.Row{}, exampleMemory),
		}),
		write(contract.Operation{
			ID: "add_correction", Method: "POST", Path: "/v1/corrections", Summary: "Store what a user put right",
			Body:    contract.Sent(memory.Correction{}, `{"user_id":"user-42","original":"The renewal is in May","corrected":"The renewal is in June","context":"on the phone"}`),
			Answers: shown(201, "The memory that it is kept as.", memory.Row{}, exampleMemory),
		}),
		write(contract.Operation{
			ID: "add_relationship", Method: "POST", Path: "/v1/relationships", Summary: "Draw a line of the graph",
			Body:    contract.Sent(memory.NewLink{}, `{"user_id":"user-42","source":"Jane Doe","relationship":"WORKS_AT","target":"Acme","confidence":0.9}`),
			Answers: shown(201, "The line.", memory.Link{}, exampleLink), Problems: readOnly,
		}),
		write(contract.Operation{
			ID: "delete_relationship", Method: "DELETE", Path: "/v1/relationships/{id}", Summary: "Remove a line of the graph",
			Params: []contract.Param{idParam("The relationship's id.", exampleLine)}, Problems: readOnly,
			Answers: shown(200, "What it was.", removed{}, `{"id":"`+exampleLine+`","deleted":true,"relationship":`+exampleLink+`}`),
		}),
		write(contract.Operation{
			ID: "emit_events", Method: "POST", Path: "/v1/events/batch", Summary: "Have events of a memory elsewhere told to the endpoints here",
			Details: "For bots with a memory of their own. Nothing of the memory here changes. Each event is looked at by itself.",
			Body: &contract.Body{Of: emitRequest{}, Examples: []contract.Example{{
				Value: `{"events":[{"event":"memory_error","user_id":"user-42","id":"bot-7-1","data":{"operation":"add","error":"the disk is full","items_count":1}}]}`,
			}}},
			Answers: shown(200, "What became of each event, in their order.", memory.Emitted{},
				`{"success":1,"failed":0,"skipped":0,"results":[{"index":0,"status":"success","webhook_id":"01a201a3-85e8-7166-bd98-bdae5e578906"}]}`),
		}),
	}
}

func reads() []contract.Operation {
	limit := contract.Bounded("integer", contract.Between(1, memory.MaxPage), contract.Default("50"))
	depth := contract.Bounded("integer", contract.Between(1, memory.MaxDepth), contract.Default("1"))
	kind := contract.Bounded("string", contract.OneOf(memory.Kinds()...))
	return []contract.Operation{
		withBody(read(contract.Operation{
			ID: "search_memories", Method: "POST", Path: "/v1/memories/search", Summary: "Find memories",
			Details:  "Every search is told to the endpoints that want memory_searched: one that cannot be told of fails.",
			Problems: []*respond.Error{problem(group.ErrFull)},
			Body:     contract.Sent(searchRequest{}, `{"user_id":"user-42","query":"what does she drink?","limit":3}`),
			Answers: shown(200, "What fits best, the best first.", found{},
				`{"results":[`+exampleMemory[:len(exampleMemory)-1]+`,"score":0.62}],"count":1}`),
		})),
		read(contract.Operation{
			ID: "list_memories", Method: "GET", Path: "/v1/memories", Summary: "List a user's memories, newest first",
			Params: []contract.Param{
				userParam(),
				{Name: "kind", In: "query", Means: "Of this kind alone.", Schema: kind, Example: "fact"},
				{Name: "limit", In: "query", Means: "How many at most.", Schema: limit, Example: 10},
				{Name: "cursor", In: "query", Means: "The next_cursor of the page before.", Schema: &jsonschema.Schema{Type: "string"}},
			},
			Answers: shown(200, "A page; without next_cursor it is the last.", memory.Page{}, `{"memories":[`+exampleMemory+`]}`),
		}),
		read(contract.Operation{
			ID: "get_memory", Method: "GET", Path: "/v1/memories/{id}", Summary: "Read a memory",
			Params:  []contract.Param{idParam("The memory's id.", exampleID)},
			Answers: shown(200, "The memory.", memory.Row{}, exampleMemory),
		}),
		read(contract.Operation{
			ID: "get_memory_history", Method: "GET", Path: "/v1/memories/{id}/history", Summary: "What became of a memory",
			Params: []contract.Param{idParam("The memory's id.", exampleID)},
			Answers: shown(200, "Its changes, newest first; also of a memory that is gone.", changes{},
				`{"id":"`+exampleID+`","history":[{"operation":"added","before":null,"after":{"content":"Drinks tea, never coffee","metadata":{"channel":"chat"}},`+
					`"actor":"token/bot","webhook_id":"01a201a3-85e8-7166-bd98-bdae5e578906","at":"2026-11-22T05:03:44.621429Z"}]}`),
		}),
		read(contract.Operation{
			ID: "get_graph", Method: "GET", Path: "/v1/graph", Summary: "Who has to do with whom",
			Params: []contract.Param{
				userParam(),
				{Name: "entity", In: "query", Means: "Around this one; without it all of the user's graph.", Schema: contract.Bounded("string", contract.Text(1, memory.MaxName)), Example: "Jane Doe"},
				{Name: "depth", In: "query", Means: "How many lines away from the entity.", Schema: depth, Example: 2},
			},
			Answers: shown(200, "What is around the entity.", memory.Graph{},
				`{"entity":"Jane Doe","depth":2,"nodes":[{"entity":"Jane Doe","distance":0},{"entity":"Acme","distance":1}],"relationships":[`+exampleLink+`],"truncated":false}`),
		}),
		read(contract.Operation{
			ID: "get_account", Method: "GET", Path: "/v1/accounts/{id}", Summary: "An account of the CRM as it is remembered",
			Params: []contract.Param{{Name: "id", In: "path", Means: "The account's id in the CRM.", Schema: contract.Bounded("string", contract.Text(1, memory.MaxName)), Example: "5725767000000487001"}},
			Answers: shown(200, "The account, with its recent events.", memory.Account{},
				`{"id":"5725767000000487001","user_id":"zoho:5725767000000487001","overview":null,"memories":[],"more":false,"relationships_count":0,"events":[{"id":48213,`+
					`"event_id":"evt-1","module":"Contacts","operation":"update","record_id":"5725767000000499002","status":"processed","received_at":"2026-11-22T05:03:44.621429Z"}]}`),
		}),
	}
}

// runs are what goes on after the answer.
func runs() []contract.Operation {
	started := func(means, example string) []contract.Answer {
		a := shown(202, means, memory.Run{}, example)
		a[0].Headers = []contract.Param{{Name: "Location", Means: "Where to follow it.", Required: true, Schema: &jsonschema.Schema{Type: "string"}}}
		return a
	}
	return []contract.Operation{
		write(contract.Operation{
			ID: "build_graph", Method: "POST", Path: "/v1/graph/build", Summary: "Derive lines from records and memories",
			Body: contract.Sent(buildRequest{}, `{"user_id":"user-42"}`), Answers: started("The job that does it.", exampleJob),
		}),
		write(contract.Operation{
			ID: "optimize_memories", Method: "POST", Path: "/v1/memories/optimize", Summary: "Merge what is said twice",
			Body: contract.Sent(optimizeRequest{}, `{"user_id":"user-42","dry_run":true}`), Answers: started("The job that does it.", exampleJob),
		}),
		read(contract.Operation{
			ID: "get_job", Method: "GET", Path: "/v1/jobs/{id}", Summary: "How a build or an optimize stands",
			Params:  []contract.Param{idParam("The job's id.", exampleRun)},
			Answers: shown(200, "The job.", memory.Run{}, exampleJob),
		}),
	}
}
