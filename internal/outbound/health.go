package outbound

import (
	"fmt"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/memory"
)

// Policy says what follows when an endpoint goes on failing.
type Policy struct {
	// FailingAfter is how long it fails before operators are told.
	FailingAfter time.Duration
	// DisableAfter is how long it fails before it is disabled, if it failed at least
	// DisableFailures times by then; 0: never.
	DisableAfter    time.Duration
	DisableFailures int
	// ProbeEvery is how often one that was disabled is tried.
	ProbeEvery time.Duration
}

const (
	// restAfter is how many failures in a row, of the endpoint and not of what it was
	// sent, make its lane rest. Then one request at a time finds out when it is back.
	restAfter = 5
	// A rest is a quarter of the time the endpoint has been failing, within these: who
	// was away for a minute is found back after a quarter of one, and who is away for
	// days costs a request a minute.
	leastRest, longestRest = time.Second, time.Minute
	// pulledRows is how many deliveries that wait for their next attempt go at once when
	// their endpoint has recovered. As it rested there are few; the others keep their time.
	pulledRows = 1000
)

// health is how an endpoint is, as its row says.
type health struct {
	status, reason string
	failingSince   *time.Time
	failures       int // in a row
	warnedAt       *time.Time
	resumeAt       *time.Time
	probing        bool

	changed   bool
	lastError string   // of the last failure
	recovered bool     // what waits for its next attempt need not wait any longer
	told      []string // operational events, in order
}

func healthOf(p db.LockEndpointHealthRow) *health {
	return &health{
		status: p.Status, reason: p.StatusReason, failingSince: p.FailingSince, failures: int(p.Failures),
		warnedAt: p.WarnedAt, resumeAt: p.ResumeAt, probing: p.Probing,
	}
}

// resting reports whether an endpoint fails so that only one request at a time tries it.
func resting(p db.Endpoint) bool {
	return p.Probing || (p.ResumeAt != nil && p.Failures >= restAfter)
}

// mostInFlight is how many requests to an endpoint may be under way.
func mostInFlight(p db.Endpoint) int {
	if resting(p) {
		return 1
	}
	return int(p.MaxInFlight)
}

// apply settles what an outcome says of its endpoint.
func (h *health) apply(o outcome, now time.Time, policy Policy, random func() float64) {
	switch o.Verdict {
	case verdictDelivered:
		h.well()
	case verdictGone:
		switch {
		case h.status == endpoint.Active:
			h.disable("answered 410 Gone")
		case h.probing:
			h.reason, h.probing, h.resumeAt, h.changed = "answered 410 Gone", false, nil, true
		}
	default:
		h.fail(o, now, policy, random)
	}
}

func (h *health) well() {
	if h.failures == 0 && h.resumeAt == nil && !h.probing {
		return
	}
	h.recovered = h.recovered || h.failures >= restAfter || h.probing
	if h.probing {
		h.status, h.reason = endpoint.Active, ""
	}
	if h.warnedAt != nil {
		h.told = append(h.told, memory.EndpointRecovered)
	}
	h.failingSince, h.failures, h.warnedAt, h.resumeAt, h.probing, h.changed = nil, 0, nil, nil, false, true
}

func (h *health) fail(o outcome, now time.Time, policy Policy, random func() float64) {
	h.failures++
	h.lastError, h.changed = o.Error, true
	if h.failingSince == nil {
		h.failingSince = &now
	}
	failing := now.Sub(*h.failingSince)
	// One that is paused goes on being it, and one that was disabled is tried now and then.
	if h.status == endpoint.Active && h.warnedAt == nil && failing >= policy.FailingAfter && h.failures >= restAfter {
		h.warnedAt = &now
		h.told = append(h.told, memory.EndpointFailing)
	}
	if h.status == endpoint.Active && policy.DisableAfter > 0 && failing >= policy.DisableAfter && h.failures >= policy.DisableFailures {
		h.disable(fmt.Sprintf("failed for %s, %d times in a row, the last time: %s", failing.Round(time.Second), h.failures, o.Error))
		h.probing = true
	}
	switch {
	case h.probing:
		h.rest(now.Add(policy.ProbeEvery))
	case !ofTheEndpoint(o):
		h.resumeAt = nil // it is there
	case h.failures >= restAfter:
		wait := min(max(failing/4, leastRest), longestRest)
		h.rest(now.Add(time.Duration(float64(wait) * (0.8 + 0.4*random()))))
	}
	if asksForRest(o) {
		h.rest(now.Add(o.RetryAfter))
	}
}

// rest leaves the endpoint alone until then; a longer rest stays.
func (h *health) rest(until time.Time) {
	if h.resumeAt == nil || until.After(*h.resumeAt) {
		h.resumeAt = &until
	}
}

func (h *health) disable(reason string) {
	h.status, h.reason, h.changed = endpoint.Disabled, reason, true
	h.told = append(h.told, memory.EndpointDisabled)
}

// ofTheEndpoint reports whether a failure says that others would fare no better. Other
// 4xx are an opinion of what was sent: whoever can have one is there.
func ofTheEndpoint(o outcome) bool {
	switch o.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return o.StatusCode < 400 || o.StatusCode > 499
}

// asksForRest reports whether the receiver asks to be left alone, and not only by
// this delivery.
func asksForRest(o outcome) bool {
	return o.HasRetryAfter && (o.StatusCode == http.StatusTooManyRequests || o.StatusCode == http.StatusServiceUnavailable)
}

// stops reports whether the lane's job must look at the row before it sends more.
func (h *health) stops() bool {
	return h.status != endpoint.Active || h.resumeAt != nil
}
