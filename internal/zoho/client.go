package zoho

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// throttledTries is how often a call is made again after a 429.
	throttledTries = 2
	// patience is the longest wait for that inside a call. Who must wait for longer
	// is told, and its slot and its caller are free for something else.
	patience = 15 * time.Second
	// firstThrottledWait and firstBrokenWait are what a call waits before it is made
	// again after a 429 or a broken answer, when Zoho does not say; doubled each time.
	firstThrottledWait = time.Second
	firstBrokenWait    = 500 * time.Millisecond
	// errorAnswer bounds the body of an answer that is no success, in bytes.
	errorAnswer = 64 << 10
	// reportTime bounds what a gate does with a report.
	reportTime = 5 * time.Second
)

// errNothing ends a call that turned out not to be needed.
var errNothing = errors.New("nothing to ask")

// Client is Zoho CRM's API for one organisation. Its methods may be called side
// by side; they return an *Error, and nothing else, when they fail.
//
// What a method does by itself: it waits for a slot (Options.Concurrency), asks
// the gate, gets a new token once when Zoho does not take the one it had, comes
// again up to twice after a 429 when the wait is short and the caller's context
// long enough, and reads once more when a read's answer broke off or was a 5xx.
// Everything beyond that is the caller's.
//
// An *Error of KindUnavailable whose cause is context.Canceled or
// context.DeadlineExceeded says that the caller's context ended and nothing of
// Zoho. The gate is told of it, too.
type Client struct {
	cfg     Config
	o       Options
	http    *http.Client
	limit   *limiter
	gather  *gatherer
	calls   atomic.Int64
	texts   atomic.Int64 // records that are read singly for their texts, or wait for that
	credits atomic.Pointer[int64]
	now     func() time.Time
	after   func(d time.Duration, f func()) (stop func() bool)
	jitter  func() float64 // 0 … 1

	mu    sync.Mutex
	lists map[string]knownLists
}

// NewClient makes a Client; Options.Tokens must be set.
func NewClient(cfg Config, o Options) *Client {
	o.Concurrency = cmp.Or(o.Concurrency, 3)
	o.Timeout = cmp.Or(o.Timeout, 20*time.Second)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 32<<20)
	o.GatherLeast = min(cmp.Or(o.GatherLeast, 10), MaxIDs)
	o.GatherWait = cmp.Or(o.GatherWait, 5*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Gate == nil {
		o.Gate = openGate{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Client{
		cfg: cfg, o: o, http: plainClient(o.Transport), limit: newLimiter(o.Concurrency), now: o.Now,
		after:  func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop },
		jitter: rand.Float64,
		lists:  map[string]knownLists{},
	}
	c.gather = newGatherer(c)
	return c
}

// CloseIdleConnections closes what is kept open to Zoho and not in use.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// openGate lets everybody through.
type openGate struct{}

func (openGate) Allow(context.Context) error   { return nil }
func (openGate) Report(context.Context, error) {}

// Calls is how many requests were sent to the API so far, tokens not counted.
// Most cost one credit.
func (c *Client) Calls() int64 { return c.calls.Load() }

// CreditsRemaining is what Zoho last said is left of the day's credits; false
// while it did not say, which it does only once half of them are used.
func (c *Client) CreditsRemaining() (int64, bool) {
	n := c.credits.Load()
	if n == nil {
		return 0, false
	}
	return *n, true
}

// call is one question to the API.
type call struct {
	op     string
	method string
	path   string // below /crm/v8
	query  url.Values
	since  time.Time // If-Modified-Since, unless zero
	body   any       // as JSON, unless nil
	read   bool      // changes nothing, so that it may be made twice
	secret string    // kept out of errors, besides the access token
	// part is a question that is asked because a greater one met an INTERNAL_ERROR:
	// that is not asked again.
	part bool
	// alive says that Zoho has just answered for other records: an INTERNAL_ERROR
	// that stays is about what is asked for, and nothing that the gate has to know.
	alive bool
	// prepare, unless nil, is asked once, when the call has its slot: it fills in
	// query, or says that there is nothing to ask any more.
	prepare func(query url.Values) bool
}

// progress is what came of a call so far.
type progress struct {
	token     string // that the last request was sent with; "": it was not sent
	refused   string // an access token that Zoho did not take
	throttled int
	broken    int
	prepared  bool
}

// stale reports whether e says that Zoho did not take the token, for the first time.
func (p *progress) stale(e *Error) bool {
	return e.Kind == KindUnauthorized && p.token != "" && p.refused == ""
}

// do asks q and returns what Zoho said, nil when it said that there is nothing
// (204, 304). An error is an *Error, or errNothing when prepare said so.
func (c *Client) do(ctx context.Context, q call) (*said, error) {
	var p progress
	for {
		s, err := c.attempt(ctx, q, &p)
		var e *Error
		if !errors.As(err, &e) {
			return s, err
		}
		wait, again := c.again(ctx, q, &p, e)
		if !again {
			return nil, e
		}
		c.o.Log.DebugContext(ctx, "zoho is asked again", "op", q.op, "error", e, "wait", wait)
		if !c.pause(ctx, wait) {
			return nil, e
		}
	}
}

// again reports whether a call that failed with e is made once more, and how long
// from now.
func (c *Client) again(ctx context.Context, q call, p *progress, e *Error) (time.Duration, bool) {
	var wait time.Duration
	switch {
	case ctx.Err() != nil, p.token == "":
		return 0, false
	case p.stale(e):
		p.refused = p.token
		return 0, true
	case e.Kind == KindThrottled && p.throttled < throttledTries:
		wait = c.backoff(firstThrottledWait, p.throttled)
		p.throttled++
	case q.part && isInternal(e):
		return 0, false
	case e.Kind == KindUnavailable && q.read && p.broken == 0 && !errors.Is(e, errTimeout):
		wait = c.backoff(firstBrokenWait, p.broken)
		p.broken++
	default:
		return 0, false
	}
	if e.RetryAfter > 0 {
		// Not all at once: whoever was told the same comes within the same moment.
		wait = e.RetryAfter + time.Duration(c.jitter()*float64(250*time.Millisecond))
	}
	deadline, bounded := ctx.Deadline()
	if wait > patience || (bounded && c.now().Add(wait).After(deadline)) {
		return 0, false
	}
	return wait, true
}

// backoff is between half of first·2ⁿ and the whole.
func (c *Client) backoff(first time.Duration, n int) time.Duration {
	whole := float64(first << n)
	return time.Duration(whole/2 + c.jitter()*whole/2)
}

// pause waits; false when ctx ended first.
func (c *Client) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	done := make(chan struct{})
	stop := c.after(d, func() { close(done) })
	defer stop()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt makes one request: slot, gate, token, request, report. The gate is
// asked last before what costs something, and answers for the token, too: while
// none is to be had, nobody gets through.
func (c *Client) attempt(ctx context.Context, q call, p *progress) (*said, error) {
	p.token = ""
	s, err := c.limit.acquire(ctx)
	if err != nil {
		return nil, &Error{Kind: KindUnavailable, Op: q.op, Err: err}
	}
	end := endedElse
	defer func() { c.limit.release(s, end) }()
	if q.prepare != nil && !p.prepared && !q.prepare(q.query) {
		return nil, errNothing
	}
	p.prepared = true
	if err := c.o.Gate.Allow(ctx); err != nil {
		return nil, asError(q.op, err)
	}
	answer, e := c.exchange(ctx, q, p)
	if e != nil && q.alive && (q.part || p.broken > 0) && isInternal(e) {
		e = onRecord(e)
	}
	end = c.report(ctx, p, e)
	if e != nil {
		return nil, e
	}
	return answer, nil
}

// asError is err as an *Error: whoever gives tokens or keeps the gate promised one.
func asError(op string, err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: KindUnavailable, Op: op, Err: err}
}

// report tells the gate how a request ended, and says what that means for the
// limiter. Zoho is alive when it says that the question is wrong, and when it
// does not take a token that has run out: only when it does not take the next one
// either, everybody is concerned.
func (c *Client) report(ctx context.Context, p *progress, e *Error) ending {
	// The caller may be gone: the gate is told all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTime)
	defer cancel()
	if e == nil {
		c.o.Gate.Report(ctx, nil)
		return endedWell
	}
	switch {
	case e.Kind == KindInvalid, e.Kind == KindForbidden, e.Kind == KindTooLarge:
		c.o.Gate.Report(ctx, nil)
		return endedWell
	case p.stale(e):
		c.o.Gate.Report(ctx, nil)
	case e.Kind == KindThrottled && p.token != "":
		c.o.Gate.Report(ctx, e)
		return endedThrottled
	default:
		c.o.Gate.Report(ctx, e)
	}
	return endedElse
}

// exchange sends the request and reads the answer.
func (c *Client) exchange(ctx context.Context, q call, p *progress) (*said, *Error) {
	token, err := c.o.Tokens.Token(ctx, p.refused)
	if err != nil {
		return nil, asError(q.op, err)
	}
	if p.refused != "" && token.Access == p.refused {
		return nil, &Error{Kind: KindUnauthorized, Op: q.op, Message: "there is no other access token than one that Zoho refused"}
	}
	within, cancel := context.WithTimeoutCause(ctx, c.o.Timeout, errTimeout)
	defer cancel()
	req, err := c.request(within, q, token)
	if err != nil {
		return nil, &Error{Kind: KindInvalid, Op: q.op, Err: bare(err)}
	}
	p.token = token.Access
	c.calls.Add(1)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, unanswered(within, q.op, err)
	}
	defer res.Body.Close()
	if left, ok := creditsLeft(res.Header); ok {
		c.credits.Store(&left)
	}
	return c.answer(within, q, res, token.Access)
}

func (c *Client) request(ctx context.Context, q call, token Token) (*http.Request, error) {
	address := c.cfg.apiBase(token.APIDomain) + "/crm/" + Version + q.path
	if len(q.query) > 0 {
		address += "?" + q.query.Encode()
	}
	var body []byte
	if q.body != nil {
		var err error
		if body, err = json.Marshal(q.body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, q.method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Zoho-oauthtoken "+token.Access)
	req.Header.Set("Accept", "application/json")
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !q.since.IsZero() {
		req.Header.Set("If-Modified-Since", zohoTime(q.since))
	}
	return req, nil
}

// answer reads what came, nil and no error when Zoho says that there is nothing.
func (c *Client) answer(ctx context.Context, q call, res *http.Response, token string) (*said, *Error) {
	status := res.StatusCode
	if status == http.StatusNoContent || status == http.StatusNotModified {
		return nil, nil
	}
	failed := status < 200 || status > 299
	limit := c.o.MaxAnswer
	if failed {
		limit = errorAnswer
	}
	body, err := readBody(res, limit)
	switch {
	case errors.Is(err, errTooLong) && !failed:
		return nil, &Error{Kind: KindTooLarge, Op: q.op, Status: status, Err: err}
	case err != nil && !failed:
		e := unanswered(ctx, q.op, err)
		e.Status = status
		return nil, e
	}
	s, parseErr := parse(body)
	if parseErr != nil {
		return nil, c.unreadable(q, res)
	}
	wrong, is := s.failure(failed)
	if !is {
		return s, nil
	}
	for _, secret := range []string{token, q.secret} {
		wrong.Code, wrong.Message = hide(wrong.Code, secret), hide(wrong.Message, secret)
	}
	return nil, &Error{
		Kind: kindFor(status, wrong, res.Header), Op: q.op, Status: status,
		Code: bounded(wrong.Code.String()), Message: bounded(wrong.Message.String()),
		RetryAfter: retryAfter(res.Header, c.now()), Err: about(wrong.param()),
	}
}

// unreadable is an answer that is not JSON. A 429 may be a proxy's page, and
// means the same.
func (c *Client) unreadable(q call, res *http.Response) *Error {
	e := &Error{
		Kind: KindUnavailable, Op: q.op, Status: res.StatusCode,
		Message: noAnswer(res), RetryAfter: retryAfter(res.Header, c.now()),
	}
	if res.StatusCode == http.StatusTooManyRequests {
		e.Kind = kindFor(res.StatusCode, problem{}, res.Header)
	}
	return e
}

// zohoTime writes a time as Zoho takes it: with an offset, and without fractions
// of a second, which it refuses.
func zohoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-07:00") }
