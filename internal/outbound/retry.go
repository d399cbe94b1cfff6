package outbound

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// verdict is what follows from one attempt.
type verdict string

const (
	verdictDelivered verdict = "delivered"
	verdictRetry     verdict = "retry"
	verdictFinal     verdict = "final" // trying again would bring the same
	verdictGone      verdict = "gone"  // final, and the endpoint wants no more of anything
)

// judge says what follows from an answer's status code or, if there was no answer, from err. Without an answer a retry
// may help, except where the reason is the URL itself.
//
// A redirect is never followed, but it is retried like a 5xx and not final like a 4xx: it says nothing about this
// delivery, and receivers answer 302 to a login or maintenance page while they are being worked on.
func judge(statusCode int, err error) verdict {
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, errRequest):
		return verdictFinal
	case err != nil:
		return verdictRetry
	case statusCode >= 200 && statusCode <= 299:
		return verdictDelivered
	case statusCode == http.StatusGone:
		return verdictGone
	case statusCode == http.StatusRequestTimeout,
		statusCode == http.StatusTooEarly,
		statusCode == http.StatusTooManyRequests:
		return verdictRetry
	case statusCode >= 400 && statusCode <= 499:
		return verdictFinal
	default:
		return verdictRetry
	}
}

// backoff returns how long to wait after that many failures: what the schedule says, up to a fifth more or less, so that
// what failed together does not come back together. ok is false when the schedule is used up. random returns a number in
// [0, 1).
func backoff(schedule []time.Duration, failures int, random func() float64) (wait time.Duration, ok bool) {
	i := max(failures, 1) - 1
	if i >= len(schedule) {
		return 0, false
	}
	wait = schedule[i]
	return time.Duration(float64(wait) * (0.8 + 0.4*random())), true
}

// retryAfter returns how long the receiver asks to be left alone, as seconds or as an HTTP date, within 0 and an hour,
// and reports whether it asks at all. What it cannot read is no request.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	seconds, err := strconv.ParseUint(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // out of range is a number too, and the largest one
		return time.Duration(min(seconds, uint64(endpoint.LongestWait/time.Second))) * time.Second, true
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), endpoint.LongestWait), true
}
