// Package client talks to a memrelay's HTTP API. In goes where that is, or a handler of
// this process, and requests; out come answers, or errors made of the problem details.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// requestLimit bounds one request and its answer: a test of an endpoint waits for as
	// long as that may take.
	requestLimit = 90 * time.Second
	// silenceLimit is how long a stream may say nothing: a server says something at least
	// twice in that time.
	silenceLimit = 45 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 20
	// tries bounds how often a safe request is sent, and maxWait what is waited between.
	tries   = 4
	maxWait = 10 * time.Second
)

// ErrInsecure is returned for an address that everybody on the way could read the token at.
var ErrInsecure = errors.New("want https: over http everybody on the way reads the token and all answers")

// Options say whom to talk to.
type Options struct {
	// URL is where the API is, as https://relay.example.com; a path before /admin may
	// follow. http is taken to this machine alone, unless InsecureHTTP says otherwise.
	URL          string
	Token        string // "": none is sent
	InsecureHTTP bool
	// Handler answers instead of the network; URL and Token do not matter then.
	Handler http.Handler
	// Agent is sent as User-Agent.
	Agent string
	// Wait waits between tries, or until ctx ends; nil: by the machine's clock.
	Wait func(ctx context.Context, d time.Duration) error
}

// Client sends requests. It may be used by many at one time.
type Client struct {
	base    *url.URL
	token   string
	agent   string
	http    *http.Client
	wait    func(ctx context.Context, d time.Duration) error
	silence time.Duration
}

// New makes a Client. It asks nobody anything yet.
func New(o Options) (*Client, error) {
	c := &Client{token: o.Token, agent: o.Agent, wait: o.Wait, silence: silenceLimit}
	if c.wait == nil {
		c.wait = sleep
	}
	transport := http.RoundTripper(inProcess{o.Handler})
	if o.Handler != nil {
		o.URL, c.token = "http://localhost", ""
	} else {
		transport = overNetwork()
	}
	c.http = &http.Client{
		Transport: transport,
		// Wherever a redirect leads, the token is not for it.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if strings.ContainsFunc(c.token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token has a character that none has")
	}
	var err error
	c.base, err = parseBase(o.URL, o.InsecureHTTP)
	return c, err
}

func overNetwork() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: requestLimit, IdleConnTimeout: time.Minute,
	}
}

// parseBase reads where the API is. What it says of a URL does not repeat it: somebody may
// have written a password into it.
func parseBase(text string, insecure bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("want a URL as https://relay.example.com")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("want a URL without a user, a query and a fragment")
	case u.Scheme == "http" && !insecure && !loopback(u.Hostname()):
		return nil, ErrInsecure
	}
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), ""
	return u, nil
}

func loopback(host string) bool {
	at, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && at.Unmap().IsLoopback()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Path joins the parts of a path, each escaped.
func Path(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}

// Request is what is asked for.
type Request struct {
	Method string // "": GET
	Path   string // as /admin/events; what is variable in it is escaped, see Path
	Query  url.Values
	Body   any    // sent as JSON; nil: none
	Key    string // sent as Idempotency-Key; "": none
}

// Answer is one that says yes.
type Answer struct {
	Status int
	Body   json.RawMessage
}

// Read reads the answer's body as JSON.
func (a Answer) Read(into any) error {
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	return nil
}

// Do sends a request and returns the answer, or a *Problem. A request that changes nothing
// is sent again when the server says that it is busy, and when to come again.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	for try := 1; ; try++ {
		a, problem, err := c.once(ctx, r)
		if problem == nil || err != nil {
			return a, err
		}
		safe := r.Method == "" || r.Method == http.MethodGet
		again := problem.retryAfter
		if !safe || try == tries || problem.Status != http.StatusServiceUnavailable || again <= 0 || again > maxWait {
			return a, problem
		}
		if err := c.wait(ctx, again); err != nil {
			return a, errors.Join(problem, err)
		}
	}
}

// Get is Do of a GET, whose answer is read into into.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	a, err := c.Do(ctx, Request{Path: path, Query: query})
	if err != nil {
		return err
	}
	return a.Read(into)
}

func (c *Client) once(ctx context.Context, r Request) (Answer, *Problem, error) {
	resp, err := c.send(ctx, r, "application/json")
	if err != nil {
		return Answer{}, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Answer{}, nil, fmt.Errorf("read the answer of %s: %w", c.base.Host, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return Answer{}, problemOf(resp, text), nil
	}
	if len(text) > maxAnswer {
		return Answer{}, nil, fmt.Errorf("%s answered more than %d MiB", c.base.Host, maxAnswer>>20)
	}
	if media := mediaOf(resp); media != "application/json" {
		return Answer{}, nil, fmt.Errorf("%s answered %s and not JSON: there is no memrelay at this address", c.base.Host, media)
	}
	return Answer{Status: resp.StatusCode, Body: text}, nil, nil
}

func (c *Client) send(ctx context.Context, r Request, accept string) (*http.Response, error) {
	var body io.Reader
	if r.Body != nil {
		text, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fmt.Errorf("encode a request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	to := c.base.String() + r.Path
	if len(r.Query) > 0 {
		to += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, fmt.Errorf("build a request: %w", err)
	}
	req.Header.Set("Accept", accept)
	for name, value := range map[string]string{"User-Agent": c.agent, "Idempotency-Key": r.Key} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base.Host, plain(err))
	}
	return resp, nil
}

// plain leaves out the URL: it has been said, and a query may be long.
func plain(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func mediaOf(resp *http.Response) string {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return "something"
	}
	return media
}

// Field is one that is wrong, and what about it.
type Field struct {
	Name   string `json:"field"`
	Detail string `json:"detail"`
}

// Problem is an answer that says no: problem details, as RFC 9457 has them.
type Problem struct {
	Status    int     `json:"status"`
	Title     string  `json:"title"`
	Detail    string  `json:"detail"`
	Code      string  `json:"code"`
	Field     string  `json:"field"`
	Errors    []Field `json:"errors"`
	RequestID string  `json:"request_id"` // the server's log has it

	retryAfter time.Duration
}

// problemOf reads an answer that says no. What stands before a server answers in its own
// words, or in none.
func problemOf(resp *http.Response, text []byte) *Problem {
	p := &Problem{}
	if mediaOf(resp) != "application/problem+json" || json.Unmarshal(text, p) != nil {
		p = &Problem{RequestID: resp.Header.Get("X-Request-Id")}
	}
	p.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		p.retryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// Error says what the server says, all fields that are wrong, and the id that its log has
// the request under.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = strings.TrimSpace(fmt.Sprintf("answered %d %s", p.Status, http.StatusText(p.Status)))
	}
	for _, f := range p.Errors {
		if !strings.Contains(p.Detail, f.Name+": "+f.Detail) {
			text += " " + f.Name + ": " + f.Detail + "."
		}
	}
	if p.RequestID != "" {
		text += " (request_id " + p.RequestID + ")"
	}
	return text
}
