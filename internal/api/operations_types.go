package api

import (
	"encoding/json"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/memory"
)

// What is sent. The handlers read the same fields with package body.
type (
	// addRequest is a memory to store: a text, or a conversation.
	addRequest struct {
		UserID  string `json:"user_id"`           // whose memory it is; it need not exist before
		Content string `json:"content,omitempty"` // what to remember; it or messages is required, and not both
		// Messages are a conversation, stored as one text, a line for each.
		Messages  []memory.Message `json:"messages,omitempty"`
		Kind      string           `json:"kind,omitempty"`     // fact unless said otherwise, of messages conversation
		Metadata  map[string]any   `json:"metadata,omitempty"` // at most 16 KiB of JSON, 8 levels deep
		ExpiresAt *time.Time       `json:"expires_at,omitempty"`
	}
	// batchRequest is memories of one user: all are stored, or none.
	batchRequest struct {
		UserID string      `json:"user_id"`
		Items  []batchItem `json:"items"`
	}
	// batchItem is one memory of a batch.
	batchItem struct {
		Content  string         `json:"content"`
		Kind     string         `json:"kind,omitempty"` // fact unless said otherwise
		Metadata map[string]any `json:"metadata,omitempty"`
	}
	// changeRequest is what shall be different; what is not named stays.
	changeRequest struct {
		Content  string         `json:"content,omitempty"`
		Metadata map[string]any `json:"metadata,omitempty"` // replaces all there was
	}
	// searchRequest is what to look for.
	searchRequest struct {
		UserID   string         `json:"user_id"`
		Query    string         `json:"query"` // words, names, numbers, parts of them
		Limit    int            `json:"limit,omitempty"`
		Kind     string         `json:"kind,omitempty"`     // of this kind alone
		Metadata map[string]any `json:"metadata,omitempty"` // contained in that of the memory
		Since    *time.Time     `json:"since,omitempty"`    // made at this time or later
		Until    *time.Time     `json:"until,omitempty"`    // made before
	}
	// buildRequest is whose graph to derive.
	buildRequest struct {
		UserID string `json:"user_id"`
	}
	// optimizeRequest is whose memories to tidy.
	optimizeRequest struct {
		UserID string `json:"user_id"`
		DryRun bool   `json:"dry_run,omitempty"` // count what would be done, and do nothing
	}
	// emitRequest is what happened to memories that are kept elsewhere.
	emitRequest struct {
		// Events are looked at each by itself: what is wrong with one is said in the
		// answer, and keeps none of the others.
		Events []emittedEvent `json:"events"`
	}
	// emittedEvent is one of them. GET /v1/event-types has the data of each event.
	emittedEvent struct {
		Event     string          `json:"event"`
		UserID    string          `json:"user_id"`
		Data      json.RawMessage `json:"data"`
		Timestamp *time.Time      `json:"timestamp,omitempty"`  // now unless said otherwise
		RequestID string          `json:"request_id,omitempty"` // that of this request unless said otherwise
		ID        *string         `json:"id,omitempty"`         // an event of the same id is told once
	}
)

func types() []contract.Type {
	userID := contract.All(contract.Text(1, memory.MaxName), contract.Means("Whose memory it is."))
	name, content := contract.Text(1, memory.MaxName), contract.Text(1, memory.MaxContent)
	kind := contract.OneOf(memory.Kinds()...)
	correction := contract.Text(1, 4<<10)
	return []contract.Type{
		{Of: addRequest{}, Name: "NewMemory", Fields: map[string]contract.Bound{
			"user_id": userID, "content": contract.Text(0, memory.MaxContent), "kind": kind, "messages": contract.Items(1, memory.MaxMessages), "expires_at": contract.Means("When it is forgotten; it stays unless said otherwise."),
		}},
		{Of: memory.Message{}, Fields: map[string]contract.Bound{"role": name, "content": content}},
		{Of: batchRequest{}, Name: "NewMemories", Fields: map[string]contract.Bound{"user_id": userID, "items": contract.Items(1, memory.MaxBatch)}},
		{Of: batchItem{}, Name: "NewMemoryOfBatch", Fields: map[string]contract.Bound{"content": content, "kind": kind}},
		{Of: memory.Preference{}, Name: "NewPreference", Fields: map[string]contract.Bound{
			"user_id": userID, "preference": content, "category": contract.Text(0, memory.MaxName),
		}},
		{Of: memory.Correction{}, Name: "NewCorrection", Fields: map[string]contract.Bound{
			"user_id": userID, "original": correction, "corrected": correction, "context": contract.Text(0, 4<<10),
		}},
		{Of: memory.NewLink{}, Name: "NewRelationship", Fields: map[string]contract.Bound{
			"user_id": userID, "source": name, "relationship": name, "target": name,
			"confidence": contract.All(contract.Between(0, 1), contract.Default("1"), contract.Means("How sure it is.")),
		}},
		{Of: changeRequest{}, Name: "MemoryChange", Fields: map[string]contract.Bound{"content": content}},
		{Of: searchRequest{}, Name: "Search", Fields: map[string]contract.Bound{
			"user_id": userID, "query": contract.Text(1, memory.MaxQuery), "kind": kind,
			"limit": contract.All(contract.Between(1, memory.MaxPage), contract.Default("10"), contract.Means("How many at most.")),
		}},
		{Of: buildRequest{}, Name: "GraphBuild", Fields: map[string]contract.Bound{"user_id": userID}},
		{Of: optimizeRequest{}, Name: "OptimizeRequest", Fields: map[string]contract.Bound{"user_id": userID}},
		{Of: emitRequest{}, Name: "EventBatch", Fields: map[string]contract.Bound{"events": contract.Items(1, memory.MaxEmit)}},
		{Of: emittedEvent{}, Name: "NewEvent", Fields: map[string]contract.Bound{
			"event": contract.OneOf(memory.Events()...), "user_id": userID, "request_id": contract.Text(0, memory.MaxName), "id": name,
			"data": contract.Means("What is to be said of the event, an object of at most 256 KiB."),
		}},

		{Of: memory.Row{}, Name: "Memory", Fields: map[string]contract.Bound{"metadata": contract.Means("What was stored beside it.")}},
		{Of: memory.Found{}, Name: "FoundMemory", Fields: map[string]contract.Bound{"score": contract.Between(0, 1)}},
		{Of: found{}, Name: "SearchResults"},
		{Of: memory.Batch{}, Name: "StoredMemories"},
		{Of: memory.Page{}, Name: "MemoryPage"},
		{Of: memory.Version{}, Name: "MemoryVersion", Fields: map[string]contract.Bound{
			"operation": contract.OneOf("added", "updated", "deleted"), "before": state("What it was before."), "after": state("What it was after."),
		}},
		{Of: changes{}, Name: "MemoryHistory"},
		{Of: removed{}, Name: "Removed"},
		{Of: removedAll{}, Name: "RemovedAll"},
		{Of: memory.Link{}, Name: "Relationship", Fields: map[string]contract.Bound{"confidence": contract.Between(0, 1)}},
		{Of: memory.Run{}, Name: "Job", Fields: map[string]contract.Bound{
			"kind": contract.OneOf(memory.GraphBuild, memory.Optimize), "state": contract.OneOf("queued", "running", "completed", "failed"),
		}},
		{Of: memory.Progress{}, Name: "JobProgress"},
		{Of: memory.Emitted{}, Name: "EventBatchResult"},
		{Of: memory.EmittedEvent{}, Name: "EventResult", Fields: map[string]contract.Bound{
			"status": contract.OneOf(memory.EmitSuccess, memory.EmitFailed, memory.EmitSkipped),
		}},
	}
}

// state is a memory as it stood: what could be changed of it.
func state(means string) contract.Bound {
	return func(s *jsonschema.Schema) {
		s.Types, s.Description = []string{"object", "null"}, means
		s.Properties = map[string]*jsonschema.Schema{"content": {Type: "string"}, "metadata": {Type: "object"}}
		s.Required = []string{"content", "metadata"}
	}
}
