package outbound

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// story tells an endpoint of outcomes, one each second or later, and writes down what
// follows: "+90s 503" is an answer a minute and a half after the last, and "x60" at its
// end repeats it.
func story(t *testing.T, h *health, policy Policy, outcomes string) (told []string) {
	t.Helper()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, o := range strings.Split(outcomes, ", ") {
		repeat := 1
		if head, n, ok := strings.Cut(o, " x"); ok {
			o = head
			if _, err := fmt.Sscan(n, &repeat); err != nil {
				t.Fatal(err)
			}
		}
		for range repeat {
			step, what := time.Second, o
			if after, rest, ok := strings.Cut(o, " "); ok && strings.HasPrefix(o, "+") {
				var err error
				if step, err = time.ParseDuration(after[1:]); err != nil {
					t.Fatal(err)
				}
				what = rest
			}
			now = now.Add(step)
			h.told = nil
			h.apply(outcomeOf(t, what), now, policy, always(0.5))
			told = append(told, h.told...)
		}
	}
	rest := "none"
	if h.resumeAt != nil {
		rest = h.resumeAt.Sub(now).Round(100 * time.Millisecond).String()
	}
	return append(told, fmt.Sprintf("%s, %d failures, rests %s", h.status, h.failures, rest))
}

// outcomeOf reads "204", "503 after 30s" or "timeout".
func outcomeOf(t *testing.T, what string) outcome {
	t.Helper()
	if what == "timeout" {
		return outcome{ErrorClass: ClassTimeout, Error: "timeout", Verdict: verdictRetry}
	}
	var o outcome
	code, after, asks := strings.Cut(what, " after ")
	if _, err := fmt.Sscan(code, &o.StatusCode); err != nil {
		t.Fatal(err)
	}
	o.Verdict = judge(o.StatusCode, nil)
	o.Error = "answered " + code
	if asks {
		wait, err := time.ParseDuration(after)
		if err != nil {
			t.Fatal(err)
		}
		o.RetryAfter, o.HasRetryAfter = wait, true
	}
	return o
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		outcomes string
		want     []string
	}{
		"well":                                    {"204, 204", []string{"active, 0 failures, rests none"}},
		"a few failures are nothing":              {"503 x4", []string{"active, 4 failures, rests none"}},
		"five in a row make it rest":              {"503 x5", []string{"active, 5 failures, rests 1s"}},
		"one success ends all":                    {"503 x9, 204", []string{"active, 0 failures, rests none"}},
		"failures that are not in a row":          {"503 x4, 204, 503 x4, 204, 503 x4", []string{"active, 4 failures, rests none"}},
		"no answer is as bad":                     {"timeout x5", []string{"active, 5 failures, rests 1s"}},
		"a login that does not work":              {"401 x5", []string{"active, 5 failures, rests 1s"}},
		"a page that is not there":                {"404 x5", []string{"active, 5 failures, rests 1s"}},
		"a redirect":                              {"302 x5", []string{"active, 5 failures, rests 1s"}},
		"an opinion of what was sent is no fault": {"400 x50", []string{"active, 50 failures, rests none"}},
		"who has an opinion is there":             {"503 x5, 422", []string{"active, 6 failures, rests none"}},
		"it rests for a quarter of its failing":   {"503 x4, +117s 503", []string{"active, 5 failures, rests 30s"}},
		"at most a minute":                        {"503 x5, +4m 503 x1", []string{"active, 6 failures, rests 1m0s"}},
		"told once when it goes on":               {"503 x5, +1m 503 x30", []string{"endpoint.failing", "active, 35 failures, rests 1m0s"}},
		"and when it is back":                     {"503 x5, +1m 503 x6, 204, 503 x4", []string{"endpoint.failing", "endpoint.recovered", "active, 4 failures, rests none"}},
		"told again the next time":                {"503 x5, +6m 503, 204, 503 x5, +6m 503", []string{"endpoint.failing", "endpoint.recovered", "endpoint.failing", "active, 6 failures, rests 1m0s"}},
		"a day with two failures is not told of":  {"503, +24h 503", []string{"active, 2 failures, rests none"}},
		"it asks for rest":                        {"429 after 30m", []string{"active, 1 failures, rests 30m0s"}},
		"a longer rest stays":                     {"429 after 30m, 503 x9, 503 after 10s", []string{"active, 11 failures, rests 29m50s"}},
		"others may not ask for the endpoint":     {"408 after 30m", []string{"active, 1 failures, rests none"}},
		"success after that":                      {"429 after 30m, 204", []string{"active, 0 failures, rests none"}},
		"five days": {
			"503 x5, +1h 503 x119, +59m 503, +5m 503",
			[]string{"endpoint.failing", "endpoint.disabled", "disabled, 126 failures, rests 1h0m0s"},
		},
		"five days with few attempts": {
			"503, +24h 503 x4, +26h 503, +1h 503 x3", []string{"endpoint.failing", "active, 9 failures, rests 1m0s"},
		},
		"a probe that fails": {
			"503 x5, +24h 503 x5, +1h 503", []string{"endpoint.failing", "endpoint.disabled", "disabled, 11 failures, rests 1h0m0s"},
		},
		"a probe that succeeds": {
			"503 x5, +24h 503 x5, +1h 204", []string{"endpoint.failing", "endpoint.disabled", "endpoint.recovered", "active, 0 failures, rests none"},
		},
		"a probe that is asked to end": {
			"503 x5, +24h 503 x5, +1h 410 x3", []string{"endpoint.failing", "endpoint.disabled", "disabled, 10 failures, rests none"},
		},
		"it wants no more":              {"410", []string{"endpoint.disabled", "disabled, 0 failures, rests none"}},
		"it wants no more, said twice":  {"410, 410", []string{"endpoint.disabled", "disabled, 0 failures, rests none"}},
		"what came after its last word": {"410, 204, 204", []string{"endpoint.disabled", "disabled, 0 failures, rests none"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := story(t, &health{status: endpoint.Active}, testPolicy(), c.outcomes)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.outcomes, diff)
			}
		})
	}
}

func TestHealthOfAProbeThatIsAskedToEnd(t *testing.T) {
	t.Parallel()
	h := &health{status: endpoint.Active}
	story(t, h, testPolicy(), "503 x5, +24h 503 x5")
	if !h.probing {
		t.Fatal("it is not tried")
	}
	story(t, h, testPolicy(), "+1h 410")
	if h.probing || h.status != endpoint.Disabled || h.reason != "answered 410 Gone" {
		t.Errorf("tried %t, %s: %s", h.probing, h.status, h.reason)
	}
}

func TestHealthNeverDisablesWhenItIsOff(t *testing.T) {
	t.Parallel()
	policy := testPolicy()
	policy.DisableAfter = 0
	got := story(t, &health{status: endpoint.Active}, policy, "503 x5, +24h 503 x100")
	if diff := cmp.Diff([]string{"endpoint.failing", "active, 105 failures, rests 1m0s"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A person's pause is a person's to end.
func TestHealthOfAPausedEndpoint(t *testing.T) {
	t.Parallel()
	for outcomes, want := range map[string]string{
		"410":                 "paused, 0 failures, rests none",
		"503 x5, +24h 503 x9": "paused, 14 failures, rests 1m0s",
		"503 x9, 204":         "paused, 0 failures, rests none",
	} {
		got := story(t, &health{status: endpoint.Paused}, testPolicy(), outcomes)
		if diff := cmp.Diff([]string{want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", outcomes, diff)
		}
	}
}
