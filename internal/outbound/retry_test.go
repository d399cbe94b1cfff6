package outbound

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		err    error
		want   verdict
	}{
		{name: "200", status: 200, want: verdictDelivered},
		{name: "204", status: 204, want: verdictDelivered},
		{name: "299", status: 299, want: verdictDelivered},
		{name: "101", status: 101, want: verdictRetry},
		{name: "300", status: 300, want: verdictRetry},
		{name: "302 to a maintenance page", status: 302, want: verdictRetry},
		{name: "304", status: 304, want: verdictRetry},
		{name: "399", status: 399, want: verdictRetry},
		{name: "400", status: 400, want: verdictFinal},
		{name: "401", status: 401, want: verdictFinal},
		{name: "404", status: 404, want: verdictFinal},
		{name: "408", status: 408, want: verdictRetry},
		{name: "409", status: 409, want: verdictFinal},
		{name: "410", status: 410, want: verdictGone},
		{name: "413", status: 413, want: verdictFinal},
		{name: "425", status: 425, want: verdictRetry},
		{name: "429", status: 429, want: verdictRetry},
		{name: "499", status: 499, want: verdictFinal},
		{name: "500", status: 500, want: verdictRetry},
		{name: "503", status: 503, want: verdictRetry},
		{name: "599", status: 599, want: verdictRetry},
		{name: "999", status: 999, want: verdictRetry},
		{name: "refused by the guard", err: fmt.Errorf("dial: %w", ErrRefused), want: verdictFinal},
		{name: "not a request", err: fmt.Errorf("%w: bad URL", errRequest), want: verdictFinal},
		{name: "timeout", err: context.DeadlineExceeded, want: verdictRetry},
		{name: "anything else", err: errors.New("connection lost"), want: verdictRetry},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := judge(tt.status, tt.err); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	schedule := []time.Duration{time.Second, time.Minute, 10 * time.Hour}
	for name, tt := range map[string]struct {
		schedule []time.Duration
		failures int
		random   float64
		want     time.Duration
		over     bool
	}{
		"the first wait":             {schedule, 1, 0.5, time.Second, false},
		"the second":                 {schedule, 2, 0.5, time.Minute, false},
		"the last":                   {schedule, 3, 0.5, 10 * time.Hour, false},
		"none is left":               {schedule, 4, 0.5, 0, true},
		"a fifth less":               {schedule, 2, 0, 48 * time.Second, false},
		"a fifth more":               {schedule, 2, 1, 72 * time.Second, false},
		"no failure waits like one":  {schedule, 0, 0.5, time.Second, false},
		"one attempt in all":         {nil, 1, 0.5, 0, true},
		"none of one attempt in all": {nil, 0, 0.5, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := backoff(tt.schedule, tt.failures, always(tt.random))
			if (got-tt.want).Abs() > time.Microsecond || ok == tt.over {
				t.Errorf("got %s, %t", got, ok)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	tests := []struct {
		name  string
		value string
		want  time.Duration
		ok    bool
	}{
		{name: "seconds", value: "120", want: 2 * time.Minute, ok: true},
		{name: "zero", value: "0", ok: true},
		{name: "blanks around it", value: " 7 ", want: 7 * time.Second, ok: true},
		{name: "an hour", value: "3600", want: time.Hour, ok: true},
		{name: "more than an hour", value: "3601", want: time.Hour, ok: true},
		{name: "more than a duration holds", value: "9223372037", want: time.Hour, ok: true},
		{name: "more than a number holds", value: "99999999999999999999999", want: time.Hour, ok: true},
		{name: "HTTP date", value: "Sun, 01 Mar 2026 11:01:30 GMT", want: 90 * time.Second, ok: true},
		{name: "date in the past", value: "Sun, 01 Mar 2026 10:00:00 GMT", ok: true},
		{name: "date far ahead", value: "Sun, 01 Mar 2099 11:00:00 GMT", want: time.Hour, ok: true},
		{name: "old form of a date", value: "Sunday, 01-Mar-26 11:00:10 GMT", want: 10 * time.Second, ok: true},
		{name: "no header"},
		{name: "negative", value: "-5"},
		{name: "fraction", value: "1.5"},
		{name: "duration", value: "5m"},
		{name: "words", value: "later"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if tt.value != "" {
				h.Set("Retry-After", tt.value)
			}
			got, ok := retryAfter(h, now)
			if got != tt.want || ok != tt.ok {
				t.Errorf("got %s, %t, want %s, %t", got, ok, tt.want, tt.ok)
			}
		})
	}
}
