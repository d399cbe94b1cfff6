// Package endpoint is who webhooks go to. In go settings as people ask for them,
// out come checked rows whose secrets are sealed, and for those who deliver: what
// an endpoint is told of, and what it knows a delivery of ours by.
package endpoint

import (
	"slices"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
)

// EnvName is the name of the endpoint that the settings describe.
const EnvName = "env"

// The states of an endpoint.
const (
	Active   = "active"
	Paused   = "paused"   // by a person, until a person resumes it
	Disabled = "disabled" // by its own word, or for failing for long
)

// The forms of a payload.
const (
	FormMemrelay = "memrelay" // the outbox's bytes
	FormStandard = "standard" // Standard Webhooks' {type, timestamp, data}
)

// AllEvents stands for every event that tells of memory, also of those that a later
// version brings. It does not stand for what is told of the program itself.
const AllEvents = "*"

// WantsEvent reports whether a list of an endpoint's events, as it stands in its
// row, names the event.
func WantsEvent(events []string, event string) bool {
	return slices.Contains(events, event) || (slices.Contains(events, AllEvents) && !memory.IsOperational(event))
}

// WantsUser reports whether a list of an endpoint's user_ids, as it stands in its
// row, names the user. An empty one names everybody; a name that ends in * stands
// for all that begin so.
func WantsUser(userIDs []string, userID string) bool {
	return len(userIDs) == 0 || slices.ContainsFunc(userIDs, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return pattern == userID || (open && strings.HasPrefix(userID, prefix))
	})
}

const (
	// LongestWait is the longest wait of a Doubling, and the longest that a receiver is
	// left alone at its own word.
	LongestWait = time.Hour
	// LongestRetry is the longest wait that a retry schedule may name.
	LongestRetry = 7 * 24 * time.Hour
)

// StandardSchedule returns the waits after failed attempts that Standard Webhooks
// recommends: ten attempts over three days.
//
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#deliverability-and-reliability
func StandardSchedule() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// Doubling returns the waits of that many attempts in all: first, doubled for each
// further one, at most LongestWait.
func Doubling(first time.Duration, attempts int) []time.Duration {
	waits := make([]time.Duration, max(attempts-1, 0))
	for i := range waits {
		waits[i] = min(first, LongestWait)
		first = min(2*waits[i], LongestWait)
	}
	return waits
}
