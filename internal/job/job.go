// Package job is the table of contents of everything asynchronous: the args of
// every job, in the order an event meets them. Jobs carry ids only; what is
// true stands in the rows they name.
package job

import (
	"github.com/google/uuid"
	"github.com/riverqueue/river"
)

// Queues, one per station, so that none waits behind another's work.
const (
	QueueProcess   = "process"
	QueueSync      = "sync"
	QueueMirror    = "mirror"
	QueueMemory    = "memory"
	QueueRelay     = "relay"
	QueueDeliver   = "deliver"
	QueueRedeliver = "redeliver"
	QueueReplay    = "replay"
	QueueUpkeep    = "upkeep"
)

// unlimited is the number of attempts of jobs that must not end discarded: what
// can go wrong for good is marked on the rows they work on.
const unlimited = 10_000

// ProcessEvent asks which account an event belongs to, and wakes that account.
type ProcessEvent struct {
	EventID int64 `json:"event_id"`
}

// Kind names the job in river_job; it never changes.
func (ProcessEvent) Kind() string { return "process_event" }

// InsertOpts leaves the number of attempts to the client's settings.
func (ProcessEvent) InsertOpts() river.InsertOpts { return river.InsertOpts{Queue: QueueProcess} }

// SyncAccount brings the memory of one account up to date: the lane of process.
type SyncAccount struct {
	AccountID string `json:"account_id"`
}

// Kind names the job in river_job; it never changes.
func (SyncAccount) Kind() string { return "sync_account" }

// InsertOpts makes the job one that is never discarded.
func (SyncAccount) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueSync, MaxAttempts: unlimited}
}

// WakeAccount brings work to an account's lane without an event: a record came
// to it or left it.
type WakeAccount struct {
	AccountID string `json:"account_id"`
}

// Kind names the job in river_job; it never changes.
func (WakeAccount) Kind() string { return "wake_account" }

// InsertOpts makes the job one that is never discarded.
func (WakeAccount) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueProcess, MaxAttempts: unlimited}
}

// SyncMemory makes the copy of one memory in another memory system what the memory
// is: the lane of mirror.
type SyncMemory struct {
	Backend  string    `json:"backend"`
	MemoryID uuid.UUID `json:"memory_id"`
}

// Kind names the job in river_job; it never changes.
func (SyncMemory) Kind() string { return "sync_memory" }

// InsertOpts makes the job one that is never discarded.
func (SyncMemory) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueMirror, MaxAttempts: unlimited}
}

// Cognify has another memory system work up what was copied to it, as Cognee makes
// its graph: the lane of a digest.
type Cognify struct {
	Backend string `json:"backend"`
}

// Kind names the job in river_job; it never changes.
func (Cognify) Kind() string { return "cognify" }

// InsertOpts makes the job one that is never discarded.
func (Cognify) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueMirror, MaxAttempts: unlimited}
}

// RunMemory goes on with a run over all that is remembered of a user: the build of
// its graph, or the search for what it says twice.
type RunMemory struct {
	RunID uuid.UUID `json:"run_id"`
}

// Kind names the job in river_job; it never changes.
func (RunMemory) Kind() string { return "run_memory" }

// InsertOpts makes the job one that is never discarded.
func (RunMemory) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueMemory, MaxAttempts: unlimited}
}

// Relay makes deliveries of the webhooks that wait in the outbox.
type Relay struct{}

// Kind names the job in river_job; it never changes.
func (Relay) Kind() string { return "relay" }

// InsertOpts makes the job one that is never discarded.
func (Relay) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueRelay, MaxAttempts: unlimited}
}

// DeliverEndpoint sends an endpoint what is due: the lane of outbound.
type DeliverEndpoint struct {
	EndpointID uuid.UUID `json:"endpoint_id"`
}

// Kind names the job in river_job; it never changes.
func (DeliverEndpoint) Kind() string { return "deliver_endpoint" }

// InsertOpts makes the job one that is never discarded.
func (DeliverEndpoint) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueDeliver, MaxAttempts: unlimited}
}

// Redeliver goes on with a redelivery: what an endpoint missed, or all there was, is
// made due again.
type Redeliver struct {
	RedeliveryID uuid.UUID `json:"redelivery_id"`
}

// Kind names the job in river_job; it never changes.
func (Redeliver) Kind() string { return "redeliver" }

// InsertOpts makes the job one that is never discarded.
func (Redeliver) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueRedeliver, MaxAttempts: unlimited}
}

// Replay goes on with a replay: events that have ended are run again.
type Replay struct {
	ReplayID uuid.UUID `json:"replay_id"`
}

// Kind names the job in river_job; it never changes.
func (Replay) Kind() string { return "replay" }

// InsertOpts makes the job one that is never discarded.
func (Replay) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueReplay, MaxAttempts: unlimited}
}

// Reconcile goes on with a sync: what Zoho says, held against what we know.
type Reconcile struct {
	SyncID uuid.UUID `json:"sync_id"`
}

// Kind names the job in river_job; it never changes.
func (Reconcile) Kind() string { return "reconcile" }

// InsertOpts makes the job one that is never discarded.
func (Reconcile) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueUpkeep, MaxAttempts: unlimited}
}

// KeepChannels renews what is due of Zoho's notification channels.
type KeepChannels struct{}

// Kind names the job in river_job; it never changes.
func (KeepChannels) Kind() string { return "keep_channels" }

// InsertOpts leaves the next try to the next job: there is one each minute.
func (KeepChannels) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueUpkeep, MaxAttempts: 1}
}
