package outbound

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// The classes of what can go wrong with an attempt, all there are; a CHECK in the database lists them too.
const (
	ClassRefused = "refused" // the guard refused the URL or every address of its name
	ClassDNS     = "dns"     // the name has no address, or nobody said which
	ClassConnect = "connect" // no connection
	ClassTLS     = "tls"     // no encryption, or a certificate we do not trust
	ClassTimeout = "timeout" // no answer in time
	ClassReset   = "reset"   // the connection was lost before there was an answer
	ClassAuth    = "auth"    // no access token to send
	ClassHTTP    = "http"    // an answer that is not 2xx
	ClassRequest = "request" // the request could not be built
	ClassOther   = "other"
)

// errRequest is why a request that was never sent failed: its URL or a header of it cannot be sent.
var errRequest = errors.New("request cannot be built")

const (
	maxAnswer    = 64 << 10 // bytes of an answer's body that are read
	maxHead      = 4 << 10  // bytes of ResponseHead
	maxHeadBody  = 1 << 10  // bytes of the body in it
	maxErrorText = 500      // bytes of Error
	redacted     = "[redacted]"
)

// request is one delivery to one URL.
type request struct {
	URL         string
	ID          string        // webhook-id: the same for every attempt
	Body        []byte        // JSON, sent as it is
	Timeout     time.Duration // for all of it: fetching a token, dialling, sending, reading the answer; positive
	Credentials endpoint.Credentials
	Through     http.RoundTripper // usually [Guard.TransportWith]
	Tokens      *tokens           // whose one is sent as Authorization; nil: none is
}

// outcome is what became of one attempt. Texts are valid UTF-8 without control characters that a terminal or Postgres
// would mind, and hold nothing of the request's credentials.
type outcome struct {
	StartedAt  time.Time
	StatusCode int    // 0 without an answer
	ErrorClass string // one of the Class constants; empty if delivered
	Error      string // at most 500 bytes; empty if delivered

	DNS, Connect, TLS time.Duration // 0 where a connection was reused
	FirstByte         time.Duration // from StartedAt on
	Total             time.Duration

	ResponseHead  string        // status line, headers and the first KiB of the body, at most 4 KiB
	RetryAfter    time.Duration // what the receiver asks for, at most an hour
	HasRetryAfter bool          // only where Verdict is retry
	Verdict       verdict
}

// poster sends requests. It uses the round tripper itself and no http.Client: nothing in it could follow a redirect, and
// a client turns a redirect whose Location it cannot read into an error without a status.
type poster struct {
	userAgent string
	now       func() time.Time
}

// newPoster returns a poster that calls itself memrelay/<version>.
func newPoster(version string, now func() time.Time) *poster {
	return &poster{userAgent: "memrelay/" + version, now: now}
}

// post makes one attempt. Whatever goes wrong is in the outcome. The status line is the answer: a 2xx whose body breaks
// off or never ends is delivered, for the receiver has said that it took it.
//
// If ctx itself ends, the outcome says other or timeout and is not the receiver's fault: look at ctx.Err() before
// counting it.
//
// A kept connection that turns out to be dead makes the transport send the request a second time on a new one. That is
// still one attempt; the receiver knows the repeat by its webhook-id.
func (p *poster) post(ctx context.Context, r request) outcome {
	o := outcome{StartedAt: p.now()}
	watch := &stopwatch{now: p.now, startedAt: o.StartedAt}
	hide := secretsOf(r)

	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	token, err := r.token(ctx)
	var resp *http.Response
	if err == nil {
		hide = longestFirst(append(hide, spelled(token.text)...))
		resp, err = p.send(httptrace.WithClientTrace(ctx, watch.trace()), r, token, o.StartedAt) //nolint:bodyclose // readBody closes it
	}
	if err != nil {
		o.Verdict = judge(0, err)
		o.ErrorClass = classify(err, watch)
		o.Error = clip(printable(redact(err.Error(), len(err.Error()), hide)), maxErrorText)
	} else {
		body := readBody(resp, cancel)
		o.StatusCode = resp.StatusCode
		o.Verdict = judge(resp.StatusCode, nil)
		if r.Tokens != nil && resp.StatusCode == http.StatusUnauthorized {
			r.Tokens.drop(token)
			if !token.fresh { // the next may do: it was withdrawn before its time
				o.Verdict = verdictRetry
			}
		}
		o.ResponseHead = responseHead(resp, body, hide)
		if o.Verdict == verdictRetry {
			o.RetryAfter, o.HasRetryAfter = retryAfter(resp.Header, p.now())
		}
		if o.Verdict != verdictDelivered {
			o.ErrorClass = ClassHTTP
			o.Error = strings.TrimSpace(fmt.Sprintf("answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))
		}
	}
	watch.read(&o)
	o.Total = p.now().Sub(o.StartedAt)
	return o
}

// token returns the access token that the request is to be sent with, an empty one where none is needed.
func (r request) token(ctx context.Context) (accessToken, error) {
	if r.Tokens == nil {
		return accessToken{}, nil
	}
	return r.Tokens.get(ctx)
}

func (p *poster) send(ctx context.Context, r request, token accessToken, at time.Time) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // without the URL, which the text of a url.Error quotes
		}
		return nil, fmt.Errorf("%w: %w", errRequest, err)
	}
	if req.URL.Hostname() == "" {
		return nil, fmt.Errorf("%w: the URL holds no host", errRequest)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.userAgent)
	// An empty list is not sent, it tells the transport that a repeat does no harm. Without it a POST fails whenever the
	// receiver closes a kept connection in the moment we use it.
	req.Header["Idempotency-Key"] = []string{}
	if err := sign(req.Header, r.Credentials, r.ID, at, r.Body); err != nil {
		return nil, fmt.Errorf("%w: %w", errRequest, err)
	}
	if token.text != "" {
		req.Header.Set("Authorization", "Bearer "+token.text)
	}
	if err := checkHeader(req.Header); err != nil {
		return nil, err
	}
	return r.Through.RoundTrip(req)
}

// checkHeader finds what the transport would refuse to send, so that a token with a line break in it is final.
func checkHeader(h http.Header) error {
	for name, values := range h {
		for _, v := range values {
			if !sendable(v) {
				return fmt.Errorf("%w: header %s holds a control character", errRequest, name)
			}
		}
	}
	return nil
}

// sendable reports whether a header may have that value.
func sendable(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && (r < ' ' || r == 0x7f) })
}

// readBody reads an answer to its end, which keeps the connection for the next request, or gives the connection up.
func readBody(resp *http.Response, cancel context.CancelFunc) []byte {
	defer func() {
		cancel() // before Close, so that a rest is cut off rather than read by whoever closes
		_ = resp.Body.Close()
	}()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil // the body is the bare connection; reading it obeys no context
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return body
}

// classify names what went wrong before there was an answer. What is more telling comes first: a timeout while shaking
// hands is a timeout, a connection lost while shaking hands is TLS.
func classify(err error, watch *stopwatch) string {
	handshakeFailed, unanswered := watch.failedAt()
	var (
		lookup  *net.DNSError
		timeout net.Error
		op      *net.OpError
	)
	switch {
	case errors.Is(err, errAuth):
		return ClassAuth
	case errors.Is(err, ErrRefused):
		return ClassRefused
	case errors.Is(err, errRequest):
		return ClassRequest
	case errors.Is(err, context.DeadlineExceeded):
		return ClassTimeout
	case errors.Is(err, context.Canceled):
		return ClassOther
	case errors.As(err, &lookup):
		return ClassDNS
	case errors.As(err, &timeout) && timeout.Timeout():
		return ClassTimeout
	case handshakeFailed:
		return ClassTLS
	}
	errors.As(err, &op)
	switch {
	case op != nil && op.Op == "dial":
		return ClassConnect
	case op != nil && (op.Op == "remote error" || op.Op == "local error"):
		return ClassTLS // an alert after the handshake, such as for a client certificate we do not have
	case unanswered, op != nil && op.Op == "read",
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return ClassReset
	}
	return ClassOther
}

// responseHead renders an answer for a person: status line, headers by name, the beginning of the body.
func responseHead(resp *http.Response, body []byte, hide []string) string {
	var top strings.Builder
	fmt.Fprintf(&top, "%s %s\n", resp.Proto, resp.Status)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		for _, value := range resp.Header[name] {
			if secretHeader(name) {
				value = redacted
			}
			fmt.Fprintf(&top, "%s: %s\n", name, value)
		}
	}
	// No more than is kept is looked through, of as much as a receiver may send.
	head := clip(printable(redact(top.String(), maxHead, hide)), maxHead-maxHeadBody-1)
	if len(body) == 0 {
		return head
	}
	return head + "\n" + clip(printable(redact(string(body), maxHeadBody+1, hide)), maxHeadBody)
}
