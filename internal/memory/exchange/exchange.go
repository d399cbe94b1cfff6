// Package exchange is one HTTP call to a memory system of somebody else. In goes
// what is asked, out come the answer as it is read or a *memory.RemoteError that
// says what it means for us and whether the call may have had its effect.
package exchange

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// DefaultTimeout bounds a call with its answer.
	DefaultTimeout = 30 * time.Second
	// answerLimit bounds an answer that is a success, in bytes.
	answerLimit = 4 << 20
	// errorLimit bounds one that is none.
	errorLimit = 1 << 20
)

// errTimeout is the cause of an error when the answer did not come within the
// time of a call: no context of the caller's has ended.
var errTimeout = errors.New("no whole answer in time")

// Options say whom to call, and how.
type Options struct {
	URL       string            // http or https, maybe with a path; no user, query or fragment
	Header    http.Header       // sent with every request: the key stands here
	Secret    string            // kept out of all errors
	UserAgent string            // "": memrelay
	Transport http.RoundTripper // nil: http.DefaultTransport
	Timeout   time.Duration     // of a call with its answer; 0: DefaultTimeout
	Now       func() time.Time  // nil: time.Now
	// Kind says what a refusal means where this system means something else than
	// others; nil: it does not.
	Kind func(Refusal) memory.RemoteKind
}

// Refusal is an answer that is no success.
type Refusal struct {
	Status int
	Code   string            // "code" of its JSON, "" for none
	Words  string            // what it says, bounded
	Usual  memory.RemoteKind // what the status means with others
}

// Call is one question.
type Call struct {
	Method  string
	Path    string // below Options.URL, escaped
	Query   url.Values
	Body    []byte // nil: none
	Type    string // of Body; "": application/json
	Effect  bool   // it changes something there
	Gone    bool   // a 404 says that what it is about is not there
	Timeout time.Duration
	// Limit bounds the answer in bytes; 0: 4 MiB.
	Limit int64
	// Read reads the answer to the end of what it wants; nil: it does not matter.
	Read func(io.Reader) error
}

// Client makes calls; they may be made side by side. It follows no redirect,
// since the key would travel along.
type Client struct {
	o    Options
	base string
	http *http.Client
}

// New returns a Client. An error says what is wrong with o, without repeating it:
// an address may hold a password.
func New(o Options) (*Client, error) {
	u, err := url.Parse(strings.TrimSpace(o.URL))
	switch {
	case err != nil:
		return nil, errors.New("the address is no URL")
	case (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return nil, errors.New("the address is no http or https URL")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("the address has a user, a query or a fragment: only scheme, host and path belong there")
	}
	for name, values := range o.Header {
		if strings.ContainsFunc(strings.Join(values, ""), func(r rune) bool { return r < ' ' || r > '~' }) {
			return nil, fmt.Errorf("the value of %s has characters that no header can hold", name)
		}
	}
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.UserAgent = cmp.Or(o.UserAgent, "memrelay")
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{o: o, base: strings.TrimRight(u.String(), "/"), http: &http.Client{
		Transport:     o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// CloseIdleConnections closes what is kept open and not in use.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Do asks q. An error is a *memory.RemoteError; when ctx ended, ctx's error is
// in its chain.
func (c *Client) Do(ctx context.Context, q Call) error {
	if err := ctx.Err(); err != nil {
		return &memory.RemoteError{Kind: memory.RemoteUnavailable, Err: err}
	}
	within, cancel := context.WithTimeoutCause(ctx, cmp.Or(q.Timeout, c.o.Timeout), errTimeout)
	defer cancel()
	var way way
	req, err := c.request(httptrace.WithClientTrace(within, way.trace()), q)
	if err != nil {
		return &memory.RemoteError{Kind: memory.RemoteRefused, Err: c.bare(err)}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return c.unanswered(within, q, 0, way.left(), err)
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return c.refused(q, res)
	}
	return c.read(within, q, res)
}

func (c *Client) request(ctx context.Context, q Call) (*http.Request, error) {
	address := c.base + q.Path
	if len(q.Query) > 0 {
		address += "?" + q.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.Method, address, bytes.NewReader(q.Body))
	if err != nil {
		return nil, err
	}
	for name, values := range c.o.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	req.Header.Set("Accept", "application/json")
	if q.Body != nil {
		req.Header.Set("Content-Type", cmp.Or(q.Type, "application/json"))
	}
	return req, nil
}

// read reads a success. What cannot be read had its effect all the same.
func (c *Client) read(ctx context.Context, q Call, res *http.Response) error {
	body := &limited{from: res.Body, left: cmp.Or(q.Limit, answerLimit)}
	if q.Read != nil {
		if err := q.Read(body); err != nil {
			return c.unread(ctx, q, res.StatusCode, body, err)
		}
	}
	// A connection is used again only when its answer was read to the end.
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	return nil
}

func (c *Client) unread(ctx context.Context, q Call, status int, body *limited, err error) error {
	e := &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: status, Sent: q.Effect}
	switch {
	case body.tooLong:
		e.Message = "the answer is too long"
	case body.err != nil: // it broke off
		return c.unanswered(ctx, q, status, true, body.err)
	default:
		e.Message, e.Err = "the answer has another shape than expected", c.bare(err)
	}
	return e
}

// unanswered is a call that no whole answer came to.
func (c *Client) unanswered(ctx context.Context, q Call, status int, left bool, err error) error {
	e := &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: status, Sent: q.Effect && left, Err: c.bare(err)}
	if cause := context.Cause(ctx); errors.Is(cause, errTimeout) {
		e.Err = errTimeout
	} else if ctx.Err() != nil {
		e.Err = ctx.Err()
	}
	return e
}

// bare is err without the address, and without the key where a server or a proxy
// repeated it.
func (c *Client) bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if text := err.Error(); c.hide(text) != text {
		return errors.New(c.hide(text))
	}
	return err
}

// hide takes the key out of a text, also as it stands in a query.
func (c *Client) hide(text string) string {
	if c.o.Secret == "" {
		return text
	}
	return strings.NewReplacer(c.o.Secret, "…", url.QueryEscape(c.o.Secret), "…").Replace(text)
}

// way follows a request out.
type way struct{ looked, found atomic.Bool }

func (w *way) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { w.looked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { w.found.Store(true) },
	}
}

// left reports whether the request may have left: not when a connection was looked
// for and none was found. A transport that does not say leaves it open.
func (w *way) left() bool { return w.found.Load() || !w.looked.Load() }

// limited reads so much and no more. It remembers why it ended: a JSON decoder
// tells a broken body and a broken connection apart no more.
type limited struct {
	from    io.Reader
	left    int64
	tooLong bool
	err     error
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		var more [1]byte
		if n, err := io.ReadFull(l.from, more[:]); n == 0 {
			return 0, l.end(err)
		}
		l.tooLong = true
		return 0, errors.New("too long")
	}
	n, err := l.from.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, l.end(err)
}

func (l *limited) end(err error) error {
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		l.err = err
	}
	return err
}
