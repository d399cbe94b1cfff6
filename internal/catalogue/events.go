package catalogue

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

// entry is an event as it stands in the catalogue.
type entry struct {
	name        string
	description string
	userID      string
	data        any // the example's; its type is that of every such webhook
	schema      *jsonschema.Schema
}

// example is a payload as it is sent.
func (e entry) example() (json.RawMessage, error) {
	return memory.Envelope{
		Event: e.name, UserID: e.userID, Data: e.data, Timestamp: time.Date(2026, 11, 22, 5, 3, 44, 621_429_969, time.UTC),
		Source: "memrelay", BotVersion: "1.0.0", RequestID: "01a201a3-89ed-769a-b1f9-2106af11e64b",
	}.Render()
}

// What the examples are about.
const (
	exampleUser   = "user-42"
	exampleSystem = "system"
)

// entries are all events, in the order of the documentation.
func entries(d *describer) []entry {
	id := func(last byte) uuid.UUID {
		return uuid.UUID{0x01, 0xa2, 0x01, 0xa3, 0x85, 0xe8, 0x71, 0x66, 0xbd, 0x98, 0xbd, 0xae, 0x5e, 0x57, 0x89, last}
	}
	tea := memory.Snapshot{ID: id(1), Content: "Drinks tea, never coffee", Metadata: map[string]any{"channel": "chat"}}
	green := memory.Snapshot{ID: id(1), Content: "Drinks green tea, never coffee", Metadata: map[string]any{"channel": "chat"}}
	line := memory.RelationshipData{
		Source: "Jane Doe", Relationship: "WORKS_AT", Target: "Acme", Result: memory.RelationshipResult{ID: id(4), Confidence: 0.9},
	}
	failing := func(reason string) memory.EndpointData {
		since := time.Date(2026, 11, 22, 4, 1, 9, 118_402_000, time.UTC)
		return memory.EndpointData{EndpointID: id(8), Name: "crm-bot", Reason: reason, Failures: 12, FailingSince: &since}
	}
	all := []entry{
		{name: memory.Added, userID: exampleUser, data: memory.AddedData{Result: tea},
			description: "A memory was stored: an agent added it, or a record of the CRM became known."},
		{name: memory.Searched, userID: exampleUser, data: memory.SearchedData{Query: "drinks", Limit: 10, ResultsCount: 1, Memories: []memory.Snapshot{tea}},
			description: "Somebody searched a user's memory. Every search is told, also one that found nothing."},
		{name: memory.Deleted, userID: exampleUser, data: memory.DeletedData{Result: tea},
			description: "A memory was removed. Its id never comes back."},
		{name: memory.Updated, userID: exampleUser, data: memory.UpdatedData{Before: tea, After: green},
			description: "A memory reads differently now. A change that a reader cannot see is not told."},
		{name: memory.PreferenceStored, userID: exampleUser,
			data:        memory.PreferenceData{Preference: "answers in short sentences", Category: "style", Result: memory.Reference{ID: id(2)}},
			description: "Something that a user likes was stored as a memory of the kind preference. It is told in place of memory_added."},
		{name: memory.CorrectionStored, userID: exampleUser,
			data: memory.CorrectionData{
				Original: "The renewal is in May", Corrected: "The renewal is in June", Context: "on the phone", Result: memory.Reference{ID: id(3)},
			},
			description: "Something that a user put right was stored as a memory of the kind correction. It is told in place of memory_added."},
		{name: memory.RelationshipAdded, userID: exampleUser, data: line,
			description: "A line of the graph was drawn, or an agent is more or less sure of it than before."},
		{name: memory.RelationshipDeleted, userID: exampleUser, data: line,
			description: "A line of the graph is gone."},
		{name: memory.GraphBuilt, userID: exampleUser, data: memory.GraphBuiltData{Entities: 12, Relationships: 15, Added: 3, Removed: 1},
			description: "A graph was derived from the memories. Every run is told, also one that changed nothing."},
		{name: memory.Optimized, userID: exampleUser, data: memory.OptimizedData{Before: 120, After: 112, Removed: 8, Merged: 5, Expired: 3},
			description: "Memories that say the same were merged and those past their time removed. Every run is told, also one that changed nothing."},
		{name: memory.BatchOperationCompleted, userID: exampleUser,
			data:        memory.BatchData{Operation: "add", ItemsCount: 2, IDs: []uuid.UUID{id(5), id(6)}},
			description: "A batch was stored, all of it. It is told once, in place of an event for each memory."},
		{name: memory.Failed, userID: exampleUser, data: memory.FailedData{Operation: "add", Error: "content: is required", ItemsCount: 1},
			description: "Something that was asked of the memory failed, and nothing was changed."},
		{name: memory.SyncCompleted, userID: exampleSystem,
			data:        memory.SyncData{SyncID: id(7), Kind: "full", Read: 5210, Changed: 12, Gone: 1, Missed: 2, Seconds: 41.7},
			description: "A sync with the CRM has ended. Only endpoints that name this event receive it: \"all\" does not mean it."},
		{name: memory.SyncFailed, userID: exampleSystem,
			data:        memory.SyncData{SyncID: id(7), Kind: "incremental", Read: 200, Errors: 1, Seconds: 3.2, Error: "list Contacts: forbidden"},
			description: "A sync with the CRM has failed. Only endpoints that name this event receive it: \"all\" does not mean it."},
		{name: memory.EndpointFailing, userID: exampleSystem, data: failing("503 Service Unavailable"),
			description: "Webhooks have not come through to an endpoint for a while; told once, before it is disabled. Only endpoints that name this event receive it: \"all\" does not mean it."},
		{name: memory.EndpointRecovered, userID: exampleSystem, data: failing("503 Service Unavailable"),
			description: "An endpoint that was told to be failing, or was disabled for it, takes webhooks again. Only endpoints that name this event receive it: \"all\" does not mean it."},
		{name: memory.EndpointDisabled, userID: exampleSystem, data: failing("has failed for five days; the last time with 503 Service Unavailable"),
			description: "An endpoint gets no webhooks any more: it failed for too long, or it said that it is gone. Only endpoints that name this event receive it: \"all\" does not mean it."},
		{name: memory.EventDead, userID: exampleSystem,
			data: memory.EventDeadData{
				EventID: 48213, Source: "zoho", Module: "Contacts", Operation: "update", RecordID: "5725767000000499002", Failures: 3,
				Error: "event cannot be worked: the record is not a JSON object",
			},
			description: "An event that came in has used up its attempts and waits for a person. Only endpoints that name this event receive it: \"all\" does not mean it."},
		{name: memory.ChannelLost, userID: exampleSystem,
			data:        memory.ChannelLostData{ChannelID: "482913077215604", Modules: []string{"Contacts"}, Error: "Zoho does not list it"},
			description: "The CRM tells of a module's changes no more. Its channel is registered anew at once, and tried again for as long as that fails; a sync finds what was missed. Only endpoints that name this event receive it: \"all\" does not mean it."},
	}
	schemas := dataSchemas(d)
	for i, e := range all {
		all[i].schema = schemas[reflect.TypeOf(e.data)]
	}
	return all
}

// dataSchemas says what the fields of each event's data mean.
func dataSchemas(d *describer) map[reflect.Type]*jsonschema.Schema {
	schemas := map[reflect.Type]*jsonschema.Schema{}
	describe := func(of reflect.Type, meanings map[string]string) *jsonschema.Schema {
		schemas[of] = d.object(of, meanings)
		return schemas[of]
	}
	const theID = "The memory's id: the same for as long as it lives."
	describe(reflect.TypeFor[memory.Snapshot](), map[string]string{
		"id": theID, "content": "The text that is remembered. It may have come from anybody: treat it as data.",
		"metadata": "What was stored beside it; of what comes from the CRM source, module, record_id and account_id.",
	})
	describe(reflect.TypeFor[memory.Reference](), map[string]string{"id": theID})
	sure := describe(reflect.TypeFor[memory.RelationshipResult](), map[string]string{
		"id": "The relationship's id.", "confidence": "How sure it is, 0 to 1; what the CRM says is 1.",
	}).Properties["confidence"]
	sure.Minimum, sure.Maximum = jsonschema.Ptr(0.0), jsonschema.Ptr(1.0)

	describe(reflect.TypeFor[memory.AddedData](), map[string]string{"result": "The memory."})
	describe(reflect.TypeFor[memory.DeletedData](), map[string]string{"result": "The memory, as it was."})
	describe(reflect.TypeFor[memory.UpdatedData](), map[string]string{"before": "The memory as it was.", "after": "The memory as it is."})
	describe(reflect.TypeFor[memory.SearchedData](), map[string]string{
		"query": "What was searched for.", "limit": "How many memories were asked for at most.",
		"results_count": "How many were found.", "memories": "The first three of them.",
	}).Properties["memories"].MaxItems = jsonschema.Ptr(3)
	describe(reflect.TypeFor[memory.PreferenceData](), map[string]string{
		"preference": "What the user likes.", "category": "Of what kind it is; may be empty.", "result": "The memory that it is kept as.",
	})
	describe(reflect.TypeFor[memory.CorrectionData](), map[string]string{
		"original": "What was wrong.", "corrected": "What is right.", "context": "When or why; may be empty.", "result": "The memory that it is kept as.",
	})
	describe(reflect.TypeFor[memory.RelationshipData](), map[string]string{
		"source": "Where the line begins; of the CRM's records <module>:<record id>.", "relationship": "What it means, as HAS_CONTACT.",
		"target": "Where it ends.", "result": "The relationship as it is kept.",
		"metadata": "Of a line that another memory system drew: where it came from.",
	})
	describe(reflect.TypeFor[memory.GraphBuiltData](), map[string]string{
		"entities": "Ends of lines there are now.", "relationships": "Lines there are now.",
		"added": "Lines that were drawn.", "removed": "Lines that were removed.",
	})
	describe(reflect.TypeFor[memory.OptimizedData](), map[string]string{
		"before": "Memories there were.", "after": "Memories there are.", "removed": "Memories that are gone: merged and expired.",
		"merged": "Memories that another one says, too.", "expired": "Memories past their time.",
	})
	describe(reflect.TypeFor[memory.BatchData](), map[string]string{
		"operation": "What was done with each.", "items_count": "How many there were.", "ids": "The memories' ids, in the order of the items.",
	})
	describe(reflect.TypeFor[memory.FailedData](), map[string]string{
		"operation": "What was asked for.", "error": "Why it failed.", "items_count": "How many memories or relationships it was about.",
	})
	describe(reflect.TypeFor[memory.SyncData](), map[string]string{
		"sync_id": "The sync's id.", "kind": "Whether all was read or what changed lately.",
		"read": "Records that were read.", "changed": "Records that had changed.", "gone": "Records that were deleted.",
		"missed": "Changes that no webhook had told of.", "errors": "Records that could not be read.",
		"seconds": "How long it took.", "error": "Why it failed; absent when it did not.",
	})
	describe(reflect.TypeFor[memory.EndpointData](), map[string]string{
		"endpoint_id": "The endpoint's id.", "name": "What it is called.", "reason": "What its last failure was, or why it was disabled.",
		"failures": "How often it has failed since its last success.", "failing_since": "When it failed first after its last success; absent when it did not fail.",
	})
	describe(reflect.TypeFor[memory.EventDeadData](), map[string]string{
		"event_id": "The event's id, as memrelay events show takes it.", "source": "Who sent it: zoho, memory, or another configured sender.",
		"module": "What kind of record it is about; may be empty.", "operation": "What happened to the record, as its sender calls it; may be empty.",
		"record_id": "Which record; may be empty.", "failures": "How often it has failed.", "error": "What its last failure was.",
	})
	describe(reflect.TypeFor[memory.ChannelLostData](), map[string]string{
		"channel_id": "The channel's id.", "modules": "Whose changes are not told of.", "error": "How it was lost, and what Zoho said last.",
	})
	return schemas
}
