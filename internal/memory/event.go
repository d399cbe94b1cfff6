package memory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// The events that subscribers are told of.
const (
	Added                   = "memory_added"
	Searched                = "memory_searched"
	Deleted                 = "memory_deleted"
	Updated                 = "memory_updated"
	PreferenceStored        = "preference_stored"
	CorrectionStored        = "correction_stored"
	RelationshipAdded       = "relationship_added"
	RelationshipDeleted     = "relationship_deleted"
	GraphBuilt              = "graph_built"
	Optimized               = "memory_optimized"
	BatchOperationCompleted = "batch_operation_completed"
	Failed                  = "memory_error"
)

// Events returns all twelve, in the order of the documentation.
func Events() []string {
	return []string{
		Added, Searched, Deleted, Updated, PreferenceStored, CorrectionStored,
		RelationshipAdded, RelationshipDeleted, GraphBuilt, Optimized, BatchOperationCompleted, Failed,
	}
}

// What is told of the program itself, to endpoints that name it: "all" does not
// mean these.
const (
	SyncCompleted     = "sync.completed"
	SyncFailed        = "sync.failed"
	EndpointFailing   = "endpoint.failing"
	EndpointRecovered = "endpoint.recovered"
	EndpointDisabled  = "endpoint.disabled"
	EventDead         = "event.dead"
	ChannelLost       = "channel.lost"
)

// OperationalEvents returns those of the program itself.
func OperationalEvents() []string {
	return []string{SyncCompleted, SyncFailed, EndpointFailing, EndpointRecovered, EndpointDisabled, EventDead, ChannelLost}
}

// IsOperational reports whether the event tells of the program itself.
func IsOperational(event string) bool { return slices.Contains(OperationalEvents(), event) }

// Snapshot is a memory inside a webhook.
type Snapshot struct {
	ID       uuid.UUID      `json:"id"`
	Content  string         `json:"content"`
	Metadata map[string]any `json:"metadata"`
}

// AddedData is the data of memory_added.
type AddedData struct {
	Result Snapshot `json:"result"`
}

// DeletedData is the data of memory_deleted: what the memory was.
type DeletedData struct {
	Result Snapshot `json:"result"`
}

// UpdatedData is the data of memory_updated.
type UpdatedData struct {
	Before Snapshot `json:"before"`
	After  Snapshot `json:"after"`
}

// Reference names what was stored.
type Reference struct {
	ID uuid.UUID `json:"id"`
}

// PreferenceData is the data of preference_stored.
type PreferenceData struct {
	Preference string    `json:"preference"`
	Category   string    `json:"category"`
	Result     Reference `json:"result"` // the memory that it is kept as
}

// CorrectionData is the data of correction_stored.
type CorrectionData struct {
	Original  string    `json:"original"`
	Corrected string    `json:"corrected"`
	Context   string    `json:"context"`
	Result    Reference `json:"result"` // the memory that it is kept as
}

// SearchedData is the data of memory_searched.
type SearchedData struct {
	Query        string     `json:"query"`
	Limit        int        `json:"limit"`
	ResultsCount int        `json:"results_count"`
	Memories     []Snapshot `json:"memories"` // the first three
}

// BatchData is the data of batch_operation_completed: one for the whole batch.
type BatchData struct {
	Operation  string      `json:"operation"` // add
	ItemsCount int         `json:"items_count"`
	IDs        []uuid.UUID `json:"ids"`
}

// GraphBuiltData is the data of graph_built.
type GraphBuiltData struct {
	Entities      int `json:"entities"`      // ends of lines there are now
	Relationships int `json:"relationships"` // lines there are now
	Added         int `json:"added"`
	Removed       int `json:"removed"`
}

// OptimizedData is the data of memory_optimized.
type OptimizedData struct {
	Before  int `json:"before"` // memories there were
	After   int `json:"after"`
	Removed int `json:"removed"` // expired, or merged into others
	Merged  int `json:"merged"`
	Expired int `json:"expired"`
}

// FailedData is the data of memory_error.
type FailedData struct {
	Operation  string `json:"operation"`
	Error      string `json:"error"`
	ItemsCount int    `json:"items_count"`
}

// SyncData is the data of sync.completed and sync.failed.
type SyncData struct {
	SyncID  uuid.UUID `json:"sync_id"`
	Kind    string    `json:"kind"`
	Read    int64     `json:"read"`
	Changed int64     `json:"changed"`
	Gone    int64     `json:"gone"`
	Missed  int64     `json:"missed"`
	Errors  int64     `json:"errors"` // records that could not be read
	Seconds float64   `json:"seconds"`
	Error   string    `json:"error,omitempty"`
}

// EndpointData is the data of endpoint.failing, endpoint.recovered and
// endpoint.disabled.
type EndpointData struct {
	EndpointID   uuid.UUID  `json:"endpoint_id"`
	Name         string     `json:"name"`
	Reason       string     `json:"reason"`                  // what its last failure was, or why it was disabled
	Failures     int64      `json:"failures"`                // since its last success
	FailingSince *time.Time `json:"failing_since,omitempty"` // nil: it did not fail, it asked for no more
}

// EventDeadData is the data of event.dead: an event that is not tried any more.
type EventDeadData struct {
	EventID   int64  `json:"event_id"` // as memrelay events show takes it
	Source    string `json:"source"`
	Module    string `json:"module"`
	Operation string `json:"operation"`
	RecordID  string `json:"record_id"`
	Failures  int64  `json:"failures"`
	Error     string `json:"error"`
}

// ChannelLostData is the data of channel.lost: Zoho told of changes no more. Upkeep
// makes the channel anew at once, and again and again while that fails.
type ChannelLostData struct {
	ChannelID string   `json:"channel_id"`
	Modules   []string `json:"modules"`
	Error     string   `json:"error"`
}

// Envelope is the payload of a webhook; its keys are sent in this order.
type Envelope struct {
	Event      string    `json:"event"`
	UserID     string    `json:"user_id"`
	Data       any       `json:"data"`
	Timestamp  time.Time `json:"timestamp"` // UTC
	Source     string    `json:"source"`    // "memrelay" unless set
	BotVersion string    `json:"bot_version"`
	RequestID  string    `json:"request_id"` // the webhook-id, where no request of a client was the cause
}

// Render makes the payload's bytes. They are made once and sent as they are, for
// a signature covers bytes. Data that is a json.RawMessage keeps its own.
func (e Envelope) Render() ([]byte, error) {
	e.Timestamp = e.Timestamp.UTC()
	raw, isRaw := e.Data.(json.RawMessage)
	if isRaw {
		e.Data = nil // encoding/json would write it anew
	}
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", e.Event, err)
	}
	if isRaw {
		// No string holds this: its quotes would be escaped.
		const name = `"data":`
		payload = bytes.Replace(payload, []byte(name+"null"), append([]byte(name), raw...), 1)
	}
	return payload, nil
}
