package mirror

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// mostRefusals of one memory in a row make its lane dead.
	mostRefusals = 5
	// firstWait is doubled with each further failure, up to longestWait; a fifth more
	// or less.
	firstWait   = 2 * time.Second
	longestWait = 5 * time.Minute
	// unauthorizedOpen is how long nobody calls after a refusal of the key: time alone
	// does not mend that.
	unauthorizedOpen = time.Minute
	// comeBack is over how long lanes come back that waited for an outage to end: first
	// those whose own calls did not fail, then the others, for as long again. One
	// memory that the system chokes on so does not become the probe each time.
	comeBack = 5 * time.Second
	// maxError bounds what is kept of an error, in bytes.
	maxError = 600
)

// judge says what a call's end means for the other system.
func judge(err error) breaker.Verdict {
	var e *memory.RemoteError
	switch {
	case err == nil:
		return breaker.Verdict{Judgement: breaker.Answered}
	case errors.Is(err, context.Canceled):
		return breaker.Verdict{} // we hung up
	case !errors.As(err, &e):
		if !errors.Is(err, context.DeadlineExceeded) {
			return breaker.Verdict{} // a fault of ours
		}
		e = &memory.RemoteError{Kind: memory.RemoteUnavailable, Err: err}
	}
	failed := breaker.Verdict{Judgement: breaker.Failed, Reason: reason(e)}
	switch e.Kind {
	case memory.RemoteRefused, memory.RemoteGone:
		return breaker.Verdict{Judgement: breaker.Answered}
	case memory.RemoteThrottled:
		failed.OpenFor = min(e.RetryAfter, longestWait)
	case memory.RemoteUnauthorized:
		failed.OpenFor = unauthorizedOpen
	}
	return failed
}

// worlds reports whether an error is the world's, or one that nobody can classify.
func worlds(err error) bool {
	if err == nil {
		return false
	}
	switch memory.RemoteKindOf(err) {
	case memory.RemoteRefused, memory.RemoteGone:
		return false
	}
	return true
}

// mayBeIts reports whether an error that is taken for the world's may be the
// memory's own: nobody answers so to a key or to a budget.
func mayBeIts(err error) bool { return memory.RemoteKindOf(err) == memory.RemoteUnavailable }

// backoff is how long a lane waits after so many failures.
func backoff(failures int32, random func() float64) time.Duration {
	wait := firstWait << min(max(failures, 1)-1, 16)
	return time.Duration(float64(min(wait, longestWait)) * (0.8 + 0.4*random()))
}

// spread is how long a lane comes later than the moment at which all could come.
func spread(waits int32, random func() float64) time.Duration {
	later := time.Duration(random() * float64(comeBack))
	if waits > 0 {
		later += comeBack
	}
	return later
}

// retryAfter is when the other system says to come again, as far as it is believed.
func retryAfter(err error) time.Duration {
	var e *memory.RemoteError
	if !errors.As(err, &e) {
		return 0
	}
	return min(e.RetryAfter, longestWait)
}

// reason is an error as a row keeps it.
func reason(err error) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", " "), "?")
	if len(text) <= maxError {
		return text
	}
	cut := maxError
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
