package memory

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// Remote is a memory system of somebody else that follows ours. Its calls are
// made one at a time for one memory, side by side for several. Every error they
// return is a *RemoteError, or that of ctx.
type Remote interface {
	// Add makes a copy and returns its id there. The copy carries Item.ID in its
	// metadata under MetadataID, for Find. When the answer is lost there may be a
	// copy all the same.
	Add(ctx context.Context, item Item) (remoteID string, err error)
	// Find looks for the copy of one of our memories by the id it carries, as after
	// an Add whose answer was lost. "" and no error: there is none.
	Find(ctx context.Context, userID string, id uuid.UUID) (remoteID string, err error)
	// Update makes the copy what item is now. A copy that is not there is an error of
	// kind RemoteGone. remoteID is returned as it is from now on, for it may change.
	Update(ctx context.Context, remoteID string, item Item) (newRemoteID string, err error)
	// Delete removes the copy. One that is not there is no error.
	Delete(ctx context.Context, remoteID string) error
	// List returns a page of the copies that carry an id of ours, for resync, and the
	// cursor of the next, "" at the end. userID limits it to one user; a system that
	// cannot list without one ignores pages of others and says so in its documentation.
	List(ctx context.Context, userID, cursor string) (copies []Copy, next string, err error)
	// Ping asks whether the system is there and lets us in.
	Ping(ctx context.Context) error
}

// MetadataID is the key in a copy's metadata under which our id stands.
const MetadataID = "memrelay_id"

// MetadataChecksum is the key under which the checksum of what was copied stands,
// in hexadecimal.
const MetadataChecksum = "memrelay_checksum"

// Item is a memory as it is copied.
type Item struct {
	ID        uuid.UUID
	UserID    string
	Kind      string
	Content   string
	Metadata  map[string]any // what the memory's own metadata holds
	ExpiresAt *time.Time     // nil: it stays
	Checksum  string         // hexadecimal; equal means there is nothing to copy
}

// Copy is one of our memories as a remote system holds it.
type Copy struct {
	RemoteID string
	ID       uuid.UUID // ours, from its metadata
	UserID   string    // "" where the system does not say
	Checksum string    // "" where the system does not say
}

// RemoteKind says what an error of a remote system means for us.
type RemoteKind string

// The kinds of errors. Unavailable, throttled and unauthorized are the world's:
// one waits. Refused is this item's own.
const (
	RemoteUnavailable  RemoteKind = "unavailable"  // no answer, 5xx, or an answer nobody can read
	RemoteThrottled    RemoteKind = "throttled"    // 429, or a budget that is spent
	RemoteUnauthorized RemoteKind = "unauthorized" // the key is wrong, or was withdrawn
	RemoteRefused      RemoteKind = "refused"      // this item will not be taken as it is
	RemoteGone         RemoteKind = "gone"         // the copy is not there
)

// RemoteError is what went wrong with a call to a remote system.
type RemoteError struct {
	Kind       RemoteKind
	Status     int           // of the answer; 0: there was none
	Message    string        // what the system said, without secrets, at most 500 bytes
	RetryAfter time.Duration // > 0: the system says when to come again
	// Sent says that the request may have had its effect although no answer came:
	// false only when it surely never left or was answered.
	Sent bool
	Err  error
}

// Error says what went wrong.
func (e *RemoteError) Error() string {
	text := string(e.Kind)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the inner error.
func (e *RemoteError) Unwrap() error { return e.Err }

// RemoteKindOf returns the kind of err: unavailable for what is no *RemoteError,
// "" for nil.
func RemoteKindOf(err error) RemoteKind {
	if err == nil {
		return ""
	}
	var e *RemoteError
	if errors.As(err, &e) {
		return e.Kind
	}
	return RemoteUnavailable
}
