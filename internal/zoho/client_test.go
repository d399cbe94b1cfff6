package zoho

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	tooMany := problemOf("TOO_MANY_REQUESTS", "You have exceeded the number of requests at one time")
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		want    Error // Kind (0: no error), Status, Code, RetryAfter
		calls   int64
		gate    []Kind
	}{
		{"a count", saying(200, `{"count":7}`), Error{}, 1, []Kind{0}},
		{"204", saying(204, ""), Error{}, 1, []Kind{0}},
		{"304", saying(304, ""), Error{}, 1, []Kind{0}},
		{"an unknown module", saying(400, problemOf("INVALID_MODULE", "the module name given seems to be invalid")),
			Error{Kind: KindInvalid, Status: 400, Code: "INVALID_MODULE"}, 1, []Kind{0}},
		{"an error within data", saying(400, `{"data":[`+problemOf("INVALID_DATA", "no")+`]}`),
			Error{Kind: KindInvalid, Status: 400, Code: "INVALID_DATA"}, 1, []Kind{0}},
		{"an error within watch", saying(202, `{"watch":[{"code":"SUCCESS","status":"success"},`+problemOf("INVALID_DATA", "no")+`]}`),
			Error{Kind: KindInvalid, Status: 202, Code: "INVALID_DATA"}, 1, []Kind{0}},
		{"an error that says success", saying(200, problemOf("INVALID_DATA", "no")),
			Error{Kind: KindInvalid, Status: 200, Code: "INVALID_DATA"}, 1, []Kind{0}},
		{"an error without a code", saying(400, `{}`), Error{Kind: KindInvalid, Status: 400}, 1, []Kind{0}},
		{"a wrong path", saying(404, problemOf("INVALID_URL_PATTERN", "no")),
			Error{Kind: KindInvalid, Status: 404, Code: "INVALID_URL_PATTERN"}, 1, []Kind{0}},
		{"a wrong method", saying(405, problemOf("METHOD_NOT_ALLOWED", "no")),
			Error{Kind: KindInvalid, Status: 405, Code: "METHOD_NOT_ALLOWED"}, 1, []Kind{0}},
		{"a scope is missing, 401", saying(401, problemOf("OAUTH_SCOPE_MISMATCH", "no")),
			Error{Kind: KindForbidden, Status: 401, Code: "OAUTH_SCOPE_MISMATCH"}, 1, []Kind{0}},
		{"a scope is missing, 403", saying(403, problemOf("OAUTH_SCOPE_MISMATCH", "no")),
			Error{Kind: KindForbidden, Status: 403, Code: "OAUTH_SCOPE_MISMATCH"}, 1, []Kind{0}},
		{"a permission is missing", saying(403, problemOf("NO_PERMISSION", "no")),
			Error{Kind: KindForbidden, Status: 403, Code: "NO_PERMISSION"}, 1, []Kind{0}},
		{"a token that has run out", inTurn(saying(401, problemOf("INVALID_TOKEN", "no")), saying(200, `{"count":7}`)),
			Error{}, 2, []Kind{0, 0}},
		{"no token is good", saying(401, problemOf("INVALID_TOKEN", "no")),
			Error{Kind: KindUnauthorized, Status: 401, Code: "INVALID_TOKEN"}, 2, []Kind{0, KindUnauthorized}},
		{"authentication failure", saying(401, problemOf("AUTHENTICATION_FAILURE", "no")),
			Error{Kind: KindForbidden, Status: 401, Code: "AUTHENTICATION_FAILURE"}, 1, []Kind{0}},
		{"authentication failure of a new token", inTurn(saying(401, problemOf("INVALID_TOKEN", "no")), saying(401, problemOf("AUTHENTICATION_FAILURE", "no"))),
			Error{Kind: KindForbidden, Status: 401, Code: "AUTHENTICATION_FAILURE"}, 2, []Kind{0, 0}},
		{"another refusal, 401", saying(401, problemOf("WHO_KNOWS", "no")),
			Error{Kind: KindForbidden, Status: 401, Code: "WHO_KNOWS"}, 1, []Kind{0}},
		{"a 401 without a code, once", inTurn(saying(401, `{}`), saying(200, `{"count":7}`)), Error{}, 2, []Kind{0, 0}},
		{"a 401 without a code", saying(401, `{}`), Error{Kind: KindUnauthorized, Status: 401}, 2, []Kind{0, KindUnauthorized}},
		{"a failure without a code", saying(200, `{"status":"failure","message":"maintenance"}`),
			Error{Kind: KindUnavailable, Status: 200}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"a failure with a code", saying(200, `{"status":"failure","code":"INVALID_DATA"}`),
			Error{Kind: KindInvalid, Status: 200, Code: "INVALID_DATA"}, 1, []Kind{0}},
		{"an error without a code that says success", saying(200, `{"status":"error","message":"x"}`),
			Error{Kind: KindUnavailable, Status: 200}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"throttled once", inTurn(saying(429, tooMany), saying(200, `{"count":7}`)),
			Error{}, 2, []Kind{KindThrottled, 0}},
		{"throttled on", saying(429, tooMany),
			Error{Kind: KindThrottled, Status: 429, Code: "TOO_MANY_REQUESTS"}, 3, []Kind{KindThrottled, KindThrottled, KindThrottled}},
		{"throttled for long", saying(429, tooMany, "Retry-After", "60"),
			Error{Kind: KindThrottled, Status: 429, Code: "TOO_MANY_REQUESTS", RetryAfter: time.Minute}, 1, []Kind{KindThrottled}},
		{"throttled with words in another status", saying(400, problemOf("RATE_LIMIT_EXCEEDED", "no"), "Retry-After", "60"),
			Error{Kind: KindThrottled, Status: 400, Code: "RATE_LIMIT_EXCEEDED", RetryAfter: time.Minute}, 1, []Kind{KindThrottled}},
		{"throttled by a proxy", saying(429, `<html>`, "Retry-After", "60"),
			Error{Kind: KindThrottled, Status: 429, RetryAfter: time.Minute}, 1, []Kind{KindThrottled}},
		{"the day's credits, by the header", saying(429, tooMany, "X-API-CREDITS-REMAINING", "0"),
			Error{Kind: KindCreditsSpent, Status: 429, Code: "TOO_MANY_REQUESTS"}, 1, []Kind{KindCreditsSpent}},
		{"the day's credits, by the words", saying(429, problemOf("LIMIT", "Daily API limit reached")),
			Error{Kind: KindCreditsSpent, Status: 429, Code: "LIMIT"}, 1, []Kind{KindCreditsSpent}},
		{"credits are left", saying(429, tooMany, "X-API-CREDITS-REMAINING", "5", "Retry-After", "60"),
			Error{Kind: KindThrottled, Status: 429, Code: "TOO_MANY_REQUESTS", RetryAfter: time.Minute}, 1, []Kind{KindThrottled}},
		{"a 5xx once", inTurn(saying(502, `<html>`), saying(200, `{"count":7}`)), Error{}, 2, []Kind{KindUnavailable, 0}},
		{"a 5xx", saying(500, problemOf("INTERNAL_ERROR", "no")),
			Error{Kind: KindUnavailable, Status: 500, Code: "INTERNAL_ERROR"}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"a 5xx for long", saying(503, `<html>`, "Retry-After", "120"),
			Error{Kind: KindUnavailable, Status: 503, RetryAfter: 2 * time.Minute}, 1, []Kind{KindUnavailable}},
		{"a page", saying(200, `<html>`), Error{Kind: KindUnavailable, Status: 200}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"a page that forbids", saying(403, `<html>`), Error{Kind: KindUnavailable, Status: 403}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"cut JSON", saying(200, `{"count":`), Error{Kind: KindUnavailable, Status: 200}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"a body shorter than promised", saying(200, `{"count":7}`, "Content-Length", "900"),
			Error{Kind: KindUnavailable, Status: 200}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"nothing", saying(200, ""), Error{Kind: KindUnavailable, Status: 200}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"another shape", saying(200, `{"count":"many"}`), Error{Kind: KindUnavailable, Status: 200}, 1, []Kind{0}},
		{"a list", saying(200, `[]`), Error{Kind: KindUnavailable, Status: 200}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"elsewhere", saying(307, `{}`, "Location", "/stolen"), Error{Kind: KindUnavailable, Status: 307}, 2, []Kind{KindUnavailable, KindUnavailable}},
		{"broken once", inTurn(broken, saying(200, `{"count":7}`)), Error{}, 2, []Kind{KindUnavailable, 0}},
		{"too large, as said", saying(200, strings.Repeat(" ", 2000)), Error{Kind: KindTooLarge, Status: 200}, 1, []Kind{0}},
		{"without an end", endless, Error{Kind: KindTooLarge, Status: 200}, 1, []Kind{0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			gate := &testGate{}
			c, _ := clientOf(t, tc.handler, func(o *Options) { o.Gate, o.MaxAnswer = gate, 1000 })
			_, err := c.Count(t.Context(), "Accounts")
			var got Error
			if err != nil {
				e := errorOf(t, err)
				got = Error{Kind: e.Kind, Status: e.Status, Code: e.Code, RetryAfter: e.RetryAfter}
				if e.Op != "count Accounts" {
					t.Errorf("op is %q", e.Op)
				}
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("%s\n%v", d, err)
			}
			if c.Calls() != tc.calls {
				t.Errorf("%d calls, want %d", c.Calls(), tc.calls)
			}
			if d := cmp.Diff(tc.gate, gate.reports()); d != "" || gate.allowed != len(tc.gate) {
				t.Errorf("the gate allowed %d and was told\n%s", gate.allowed, d)
			}
		})
	}
}

// endless never stops to answer.
func endless(w http.ResponseWriter, _ *http.Request) {
	for {
		if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
			return
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got []string
	c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, r.Method+" "+r.URL.RequestURI(), r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(body))
		if len(got) == 4 {
			saying(401, problemOf("INVALID_TOKEN", "no"))(w, r)
			return
		}
		saying(200, `{"data":[{"id":"1"}],"info":{"more_records":true}}`, "X-API-CREDITS-REMAINING", "41")(w, r)
	})
	if _, ok := c.CreditsRemaining(); ok {
		t.Error("credits are known before Zoho said a word")
	}
	records, more, err := c.Query(t.Context(), "select id from Accounts where id > 0")
	if err != nil || !more || len(records) != 1 || records[0].ID() != "1" {
		t.Errorf("%v %v %v", records, more, err)
	}
	body := `{"select_query":"select id from Accounts where id \u003e 0"}`
	if d := cmp.Diff([]string{
		"POST /crm/v8/coql", "Zoho-oauthtoken " + testToken, "application/json", body,
		"POST /crm/v8/coql", "Zoho-oauthtoken " + freshToken, "application/json", body,
	}, got); d != "" {
		t.Error(d)
	}
	if n, ok := c.CreditsRemaining(); n != 41 || !ok || c.Calls() != 2 {
		t.Errorf("%d credits (%v) after %d calls", n, ok, c.Calls())
	}
}

func TestWhatChangesSomethingIsNotSentTwice(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{"broken": broken, "502": saying(502, "")} {
		c, _ := clientOf(t, h)
		if _, err := c.EnableChannel(t.Context(), Channel{ID: "1"}); KindOf(err) != KindUnavailable || c.Calls() != 1 {
			t.Errorf("%s: %v after %d calls", name, err, c.Calls())
		}
	}
}

func TestAThrottledCallWaits(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 10, 30, 8, 0, time.UTC)
	for _, tc := range []struct {
		name   string
		header []string
		want   []time.Duration
	}{
		{"twice as long each time", nil, []time.Duration{time.Second, 2 * time.Second}},
		{"as told in seconds", []string{"Retry-After", "4"}, []time.Duration{4250 * time.Millisecond, 4250 * time.Millisecond}},
		{"as told by a date", []string{"Retry-After", at.Format(http.TimeFormat)}, []time.Duration{8250 * time.Millisecond, 2 * time.Second}},
		{"as told by a date that is past", []string{"Retry-After", at.Add(-time.Hour).Format(http.TimeFormat)}, []time.Duration{time.Second, 2 * time.Second}},
		{"as told by the limit, seconds", []string{"X-RATELIMIT-RESET", "5"}, []time.Duration{5250 * time.Millisecond, 5250 * time.Millisecond}},
		{"as told by the limit, an epoch", []string{"X-RATELIMIT-RESET", fmt.Sprint(at.Unix())}, []time.Duration{8250 * time.Millisecond, 2 * time.Second}},
		{"as told by the limit, in milliseconds", []string{"X-RATELIMIT-RESET", fmt.Sprint(at.UnixMilli())}, []time.Duration{8250 * time.Millisecond, 2 * time.Second}},
		{"as nobody could mean it", []string{"Retry-After", "soon", "X-RATELIMIT-RESET", "-1"}, []time.Duration{time.Second, 2 * time.Second}},
		{"not for years", []string{"Retry-After", at.AddDate(80, 0, 0).Format(http.TimeFormat)}, nil},
		{"not for days", []string{"Retry-After", "9223372036854775807"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, clock := clientOf(t, saying(429, problemOf("TOO_MANY_REQUESTS", "no"), tc.header...))
			_, err := c.Count(t.Context(), "Accounts")
			if d := cmp.Diff(tc.want, clock.waited()); d != "" || KindOf(err) != KindThrottled {
				t.Errorf("%v\n%s", err, d)
			}
			if RetryAfter(err) < 0 || RetryAfter(err) > 24*time.Hour {
				t.Errorf("come again in %s", RetryAfter(err))
			}
		})
	}
}

// Who is refused at the same time does not come again at the same time.
func TestThrottledCallsSpread(t *testing.T) {
	t.Parallel()
	c, clock := clientOf(t, saying(429, ""))
	c.jitter = func() float64 { return 0 }
	_, _ = c.Count(t.Context(), "Accounts")
	if d := cmp.Diff([]time.Duration{500 * time.Millisecond, time.Second}, clock.waited()); d != "" {
		t.Error(d)
	}
}

func TestACallWaitsNoLongerThanItsCaller(t *testing.T) {
	t.Parallel()
	c, clock := clientOf(t, saying(429, problemOf("TOO_MANY_REQUESTS", "no"), "Retry-After", "10"))
	c.now = time.Now
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
	defer cancel()
	if _, err := c.Count(ctx, "Accounts"); KindOf(err) != KindThrottled || RetryAfter(err) != 10*time.Second || len(clock.waited()) > 0 {
		t.Errorf("%v, waited %v", err, clock.waited())
	}
}

func TestACallerWhoLeaves(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	gate := &testGate{}
	c, _ := clientOf(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}, func(o *Options) { o.Gate = gate })
	_, err := c.Count(ctx, "Accounts")
	if KindOf(err) != KindUnavailable || !errors.Is(err, context.Canceled) || c.Calls() != 1 {
		t.Errorf("%v after %d calls", err, c.Calls())
	}
	if d := cmp.Diff([]Kind{KindUnavailable}, gate.reports()); d != "" || gate.ended {
		t.Errorf("the gate was told with an ended context (%v)\n%s", gate.ended, d)
	}
}

func TestASlowAnswer(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]bool{"nothing comes": false, "the end does not come": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				if begin {
					_, _ = io.WriteString(w, `{"count":`)
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			}, func(o *Options) { o.Timeout = 50 * time.Millisecond })
			_, err := c.Count(t.Context(), "Accounts")
			// Not tried again: it would cost the caller as much time once more. And not
			// to be mistaken for a caller whose own time is up.
			if KindOf(err) != KindUnavailable || c.Calls() != 1 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v after %d calls", err, c.Calls())
			}
		})
	}
}

func TestAShutGate(t *testing.T) {
	t.Parallel()
	gate := &testGate{shut: &Error{Kind: KindUnavailable, Op: "wait for zoho", RetryAfter: 42 * time.Second}}
	tokens := &twoTokens{}
	c, _ := clientOf(t, saying(200, `{"count":7}`), func(o *Options) { o.Gate, o.Tokens = gate, tokens })
	if _, err := c.Count(t.Context(), "Accounts"); RetryAfter(err) != 42*time.Second || c.Calls() != 0 || len(gate.reports()) != 0 {
		t.Errorf("%v after %d calls, reports %v", err, c.Calls(), gate.reports())
	}
	gate.shut = nil
	if _, err := c.Count(t.Context(), "Accounts"); err != nil {
		t.Errorf("opened: %v", err)
	}
}

func TestNoTokenIsToBeHad(t *testing.T) {
	t.Parallel()
	for _, want := range []*Error{
		{Kind: KindUnauthorized, Op: "refresh"},
		{Kind: KindThrottled, Op: "refresh", RetryAfter: time.Second},
		{Kind: KindUnavailable, Op: "refresh"},
	} {
		gate := &testGate{}
		c, clock := clientOf(t, saying(200, `{"count":7}`), func(o *Options) { o.Tokens, o.Gate = &twoTokens{err: want}, gate })
		_, err := c.Count(t.Context(), "Accounts")
		if got := errorOf(t, err); got != want {
			t.Errorf("%v, want %v", got, want)
		}
		if d := cmp.Diff([]Kind{want.Kind}, gate.reports()); d != "" || c.Calls() != 0 || len(clock.waited()) != 0 {
			t.Errorf("%d calls, waited %v, the gate was told\n%s", c.Calls(), clock.waited(), d)
		}
	}
}

func TestErrorsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, saying(400, problemOf("INVALID_DATA", "what is hush-hush and "+testToken+"?\n"+strings.Repeat("ä", 400))))
	_, err := c.EnableChannel(t.Context(), Channel{ID: "1", Token: "hush-hush"})
	e := errorOf(t, err)
	if strings.Contains(e.Error(), "hush-hush") || strings.Contains(e.Error(), testToken) {
		t.Error("a secret stands in", e)
	}
	if len(e.Message) > 310 || strings.Contains(e.Message, "\n") || strings.Contains(e.Message, "\uFFFD") {
		t.Errorf("the message is not one short line: %q", e.Message)
	}
}

// sameToken does not know another one.
type sameToken struct{}

func (sameToken) Token(context.Context, string) (Token, error) { return Token{Access: testToken}, nil }

func TestARefusedTokenIsNotSentAgain(t *testing.T) {
	t.Parallel()
	c, _ := clientOf(t, saying(401, problemOf("INVALID_TOKEN", "no")), func(o *Options) { o.Tokens = sameToken{} })
	if _, err := c.Count(t.Context(), "Accounts"); KindOf(err) != KindUnauthorized || c.Calls() != 1 {
		t.Errorf("%v after %d calls", err, c.Calls())
	}
}

// TestConcurrency holds calls in the handler and sees how many are let through:
// three, after a 429 one, and more again after successes.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}), make(chan http.HandlerFunc)
	c, _ := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		h := <-answer
		h(w, r)
	}, func(o *Options) { o.Concurrency = 4 })
	var calls sync.WaitGroup
	begin := func(n int) {
		for range n {
			calls.Go(func() { _, _ = c.Count(context.WithoutCancel(t.Context()), "Accounts") })
		}
	}
	// under lets in as many as come, and no further one.
	under := func(want int) {
		t.Helper()
		for range want {
			<-arrived
		}
		c.limit.mu.Lock()
		defer c.limit.mu.Unlock()
		if c.limit.busy != want || c.limit.allowed != want {
			t.Fatalf("%d calls are under way and %d allowed, want %d", c.limit.busy, c.limit.allowed, want)
		}
	}
	spent := saying(429, "", "X-API-CREDITS-REMAINING", "0")
	throttled := saying(429, "", "Retry-After", "60")
	good := saying(200, `{"count":1}`)
	begin(4)
	under(4)
	answer <- spent // says nothing about how many
	for range 3 {
		answer <- throttled // those under way together count once
	}
	calls.Wait()
	begin(2)
	under(2)
	answer <- throttled
	answer <- throttled
	calls.Wait()
	for range growEvery {
		begin(1)
		under(1)
		answer <- good
		calls.Wait()
	}
	begin(2)
	under(2)
	answer <- good
	answer <- good
	calls.Wait()
}

func TestWhoWaitsForASlotMayLeave(t *testing.T) {
	t.Parallel()
	l := newLimiter(1)
	first, err := l.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.acquire(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("acquire: %v", err)
	}
	l.release(first, endedWell)
	// Where the slot and the end come together, either may be seen first.
	for range 100 {
		if s, err := l.acquire(ctx); err == nil {
			l.release(s, endedWell)
		}
	}
	if l.busy != 0 || len(l.line) != 0 {
		t.Errorf("%d slots are taken, %d wait", l.busy, len(l.line))
	}
}

// TestLimiterCrowd looks for lost and doubled slots where granting and leaving
// meet.
func TestLimiterCrowd(t *testing.T) {
	t.Parallel()
	l := newLimiter(2)
	var all sync.WaitGroup
	for i := range 400 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if i%3 == 0 {
				go cancel()
			}
			defer cancel()
			if s, err := l.acquire(ctx); err == nil {
				l.release(s, endedWell)
			}
		})
	}
	all.Wait()
	if l.busy != 0 || len(l.line) != 0 {
		t.Errorf("%d slots are taken, %d wait", l.busy, len(l.line))
	}
}
