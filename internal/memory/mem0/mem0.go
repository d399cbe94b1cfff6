// Package mem0 keeps copies of memories in mem0. In go memories, out come the ids
// of their copies, or errors that say whose fault it is. It speaks both forms:
// the platform, https://docs.mem0.ai/api-reference, and the open-source server,
// https://docs.mem0.ai/open-source/features/rest-api.
//
// Texts are stored as they are (infer: false): no language model picks facts out
// of them, and one memory is one copy. An embedding is made all the same.
//
// A copy's metadata is our id, the checksum and the kind, and beside them what the
// memory's own metadata holds, but for the keys that the open-source server keeps
// for itself. There a key that goes from a memory's metadata stays in its copy's.
//
// mem0 forgets by days: a copy is hidden after the last day (UTC) on which the
// memory is good.
package mem0

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/exchange"
)

// PlatformURL is where the platform is.
const PlatformURL = "https://api.mem0.ai"

// Form is one of the two APIs that go by the name of mem0.
type Form string

const (
	// Auto is Platform when the host is the platform's, otherwise Server.
	Auto Form = ""
	// Platform is mem0's own service, or a proxy in front of it.
	Platform Form = "platform"
	// Server is the open-source server that people run themselves.
	Server Form = "server"
)

// ParseForm reads a Form as a setting holds it: auto or "", platform, server.
func ParseForm(s string) (Form, error) {
	switch form := Form(strings.ToLower(strings.TrimSpace(s))); form {
	case Auto, "auto":
		return Auto, nil
	case Platform, Server:
		return form, nil
	default:
		return Auto, fmt.Errorf("%q is not auto, platform or server", s)
	}
}

// Options say which mem0, and who we are to it.
type Options struct {
	URL    string // "": PlatformURL. Without a version: /v1, /v3 are added where they belong
	APIKey string // "": none is sent, as to a server with AUTH_DISABLED
	Form   Form
	// Transport carries the requests; nil: http.DefaultTransport.
	Transport http.RoundTripper
	// Timeout bounds a call with its answer, and with the wait for what the platform
	// put into its queue; 0: 30 s. An embedding is made meanwhile.
	Timeout time.Duration
	// Poll is how long to wait before asking what became of something queued; it
	// doubles each time, up to eight times that. 0: 500 ms.
	Poll      time.Duration
	UserAgent string           // "": memrelay
	Now       func() time.Time // for dates in Retry-After; nil: time.Now
}

// Client is a mem0 as a memory.Remote. Its methods may be called side by side.
type Client struct {
	form     Form
	exchange *exchange.Client
	timeout  time.Duration
	poll     time.Duration
}

var _ memory.Remote = (*Client)(nil)

// New returns a Client; it calls nobody yet. An error says what is wrong with the
// options, without the key and without the address.
func New(o Options) (*Client, error) {
	o.URL = cmp.Or(o.URL, PlatformURL)
	if o.Form == Auto {
		o.Form = formOf(o.URL)
	}
	header := http.Header{}
	switch {
	case o.Form != Platform && o.Form != Server:
		return nil, fmt.Errorf("mem0: %q is no form", o.Form)
	case o.Form == Platform && o.APIKey == "":
		return nil, errors.New("mem0: the platform needs an API key")
	case o.Form == Platform:
		header.Set("Authorization", "Token "+o.APIKey)
	case o.APIKey != "":
		header.Set("X-Api-Key", o.APIKey)
	}
	o.Timeout = cmp.Or(o.Timeout, exchange.DefaultTimeout)
	e, err := exchange.New(exchange.Options{
		URL: o.URL, Header: header, Secret: o.APIKey, UserAgent: o.UserAgent, Transport: o.Transport,
		Timeout: o.Timeout, Now: o.Now, Kind: kindOf,
	})
	if err != nil {
		return nil, fmt.Errorf("mem0: %w", err)
	}
	return &Client{form: o.Form, exchange: e, timeout: o.Timeout, poll: cmp.Or(o.Poll, 500*time.Millisecond)}, nil
}

// Form is the form that is spoken: Platform or Server.
func (c *Client) Form() Form { return c.form }

// CloseIdleConnections closes what is kept open to mem0 and not in use.
func (c *Client) CloseIdleConnections() { c.exchange.CloseIdleConnections() }

func formOf(address string) Form {
	if u, err := url.Parse(address); err == nil && strings.EqualFold(u.Hostname(), "api.mem0.ai") {
		return Platform
	}
	return Server
}

// kindOf is what a refusal means. The open-source server answers 502 when the
// providers behind it fail, and says in a code how: their key is not ours. The
// platform answers 413 also when an account's quota is used up.
func kindOf(r exchange.Refusal) memory.RemoteKind {
	switch {
	case r.Status == http.StatusBadGateway && r.Code == "provider_rate_limited":
		return memory.RemoteThrottled
	case r.Status == http.StatusBadGateway && r.Code == "provider_bad_request":
		return memory.RemoteRefused
	case r.Status == http.StatusRequestEntityTooLarge && strings.Contains(strings.ToLower(r.Words), "quota"):
		return memory.RemoteThrottled
	default:
		return r.Usual
	}
}

// at is the path of a memory.
func (c *Client) at(remoteID string) string {
	if c.form == Platform {
		return "/v1/memories/" + url.PathEscape(remoteID) + "/"
	}
	return "/memories/" + url.PathEscape(remoteID)
}
