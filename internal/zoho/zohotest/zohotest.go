// Package zohotest is a Zoho CRM on localhost, for tests, the demo and
// `memrelay dev`. In go the HTTP requests that Zoho takes and changes made from
// Go; out come Zoho's answers, limits and faults, and a notification to every
// channel that watches what changed. One base URL serves accounts and API.
//
// Nothing is kept on disk. Time is the clock it is given; only latency, drips
// and the sending of notifications take real time.
//
// It answers as these pages say: https://www.zoho.com/crm/developer/docs/api/v8/
// and https://www.zoho.com/accounts/protocol/oauth/. Where they are silent, the
// comments say what was assumed.
package zohotest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// What a Server knows unless its Options say otherwise.
const (
	ClientID     = "1000.ZOHOTESTCLIENT"
	ClientSecret = "zohotest-client-secret"
	RefreshToken = "1000.zohotest.refresh"
	GrantCode    = "1000.zohotest.grant"
)

// maxBody bounds a request's body.
const maxBody = 4 << 20

// Options say what kind of Zoho it is. The zero value is an Enterprise edition
// that answers at once.
type Options struct {
	// Now is the clock of tokens, records, credits and channels; nil: time.Now.
	Now func() time.Time
	// Zone is the offset times are written in; nil: +05:30, so that whoever
	// compares times as text is found out.
	Zone *time.Location
	// Addr is where Start listens; "": 127.0.0.1:0.
	Addr string
	// Latency is how long a call to the API takes, in real time; nil: no time.
	Latency func(*http.Request) time.Duration

	ClientID     string // "": ClientID
	ClientSecret string // "": ClientSecret
	RefreshToken string // known from the start; "": RefreshToken
	GrantCode    string // good for one exchange; "": GrantCode
	RedirectURI  string // what an exchange has to name; "": anything
	// Scopes are what tokens are good for; nil: everything served here.
	Scopes []string
	// HideScope leaves scope out of a token's answer, as Zoho does at times.
	HideScope bool
	// TokenLife is how long an access token is good for; 0: an hour.
	TokenLife time.Duration
	// TokenRate is how many access tokens a refresh token gives per ten minutes; 0: 10.
	TokenRate int

	// Credits are for a rolling 24 hours; 0: 5,000,000.
	Credits int64
	// Concurrency is how many calls may be under way at one time; 0: 20. Of those
	// with sort_by, cvid or COQL no more than 10.
	Concurrency int
	// PageLimit is how many records page numbers reach; 0: 2,000.
	PageLimit int

	// Modules are served beside the standard ones, or in place of those of the same name.
	Modules []Module
	// Rich are the fields by module that lists cut to 500 characters.
	Rich map[string][]string
	// Users are who owns and edits records, the first by default; nil: three people.
	Users []User

	// NotModified answers a list without changes since If-Modified-Since with 304
	// and not with 204: Zoho's pages know both.
	NotModified bool
	// StrictSince leaves out what was modified in the very second of
	// If-Modified-Since; otherwise it is in. Zoho's pages do not say.
	StrictSince bool
	// CountAsText writes a count as "7" and not as 7: Zoho's pages know both.
	CountAsText bool
	// ErrorShape is how the channel calls wrap their errors.
	ErrorShape ErrorShape

	// Notify carries the notifications; nil: http.DefaultTransport. A
	// notification that is not answered within 30 s has failed.
	Notify http.RoundTripper
	// Delivery spoils the sending of notifications.
	Delivery Delivery
	// QueueSize is how many notifications wait to be sent; what comes on top is
	// lost and counted. 0: 100,000.
	QueueSize int
}

// Server is the Zoho. Its methods may be called by anybody at any time. It works
// as an http.Handler without Start; it then takes the host it is called by for
// its own URL.
type Server struct {
	Records // changes that channels are told of

	o        Options
	store    *store
	tokens   *tokens
	meter    *meter
	channels *channels
	sender   *sender
	faults   *faults

	mu   sync.Mutex // guards what Start sets
	url  string
	http *http.Server
	stop context.CancelFunc
}

// New returns a Zoho without records. It panics when an option makes no sense.
func New(o Options) *Server {
	o = withDefaults(o)
	s := &Server{
		o: o, store: newStore(o), tokens: newTokens(o), meter: newMeter(o),
		channels: newChannels(), sender: newSender(o), faults: &faults{},
	}
	s.Records = Records{s: s}
	return s
}

func withDefaults(o Options) Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Zone == nil {
		o.Zone = time.FixedZone("Asia/Kolkata", int((5*time.Hour + 30*time.Minute).Seconds()))
	}
	if o.Latency == nil {
		o.Latency = Fixed(0)
	}
	if o.Scopes == nil {
		o.Scopes = []string{
			"ZohoCRM.modules.ALL", "ZohoCRM.notifications.ALL", "ZohoCRM.settings.ALL",
			"ZohoCRM.coql.READ", "ZohoCRM.org.READ", "ZohoCRM.users.READ",
		}
	}
	if o.Users == nil {
		o.Users = []User{
			{ID: "5725767000000411001", Name: "Patricia Boyle", Email: "patricia.boyle@example.com"},
			{ID: "5725767000000411002", Name: "Tomas Eriksen", Email: "tomas.eriksen@example.com"},
			{ID: "5725767000000411003", Name: "Nadia Haddad", Email: "nadia.haddad@example.com"},
		}
	}
	if o.Notify == nil {
		o.Notify = http.DefaultTransport
	}
	o.Addr = cmp.Or(o.Addr, "127.0.0.1:0")
	o.ClientID = cmp.Or(o.ClientID, ClientID)
	o.ClientSecret = cmp.Or(o.ClientSecret, ClientSecret)
	o.RefreshToken = cmp.Or(o.RefreshToken, RefreshToken)
	o.GrantCode = cmp.Or(o.GrantCode, GrantCode)
	o.TokenLife = cmp.Or(o.TokenLife, time.Hour)
	o.TokenRate = cmp.Or(o.TokenRate, 10)
	o.Credits = cmp.Or(o.Credits, 5_000_000)
	o.Concurrency = cmp.Or(o.Concurrency, 20)
	o.PageLimit = cmp.Or(o.PageLimit, 2000)
	o.QueueSize = cmp.Or(o.QueueSize, 100_000)
	return o
}

// Fixed is a latency that is always the same.
func Fixed(d time.Duration) func(*http.Request) time.Duration {
	return func(*http.Request) time.Duration { return d }
}

// Start listens, on loopback unless Options.Addr says otherwise, and serves
// until Close.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return errors.New("zohotest: started already")
	}
	ctx, stop := context.WithCancel(context.Background())
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.o.Addr)
	if err != nil {
		stop()
		return fmt.Errorf("zohotest: %w", err)
	}
	s.stop, s.url = stop, "http://"+l.Addr().String()
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func(server *http.Server) { _ = server.Serve(l) }(s.http) // it ends with Close
	return nil
}

// URL is the base URL of accounts and API, without a slash at its end; "" before Start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Close stops serving and sending at once: calls under way break off, and
// notifications not yet sent never are.
func (s *Server) Close() error {
	s.mu.Lock()
	server, stop := s.http, s.stop
	s.mu.Unlock()
	s.sender.close()
	if server == nil {
		return nil
	}
	stop()
	if err := server.Close(); err != nil {
		return fmt.Errorf("zohotest: %w", err)
	}
	return nil
}

// base is the URL that r reached us by.
func (s *Server) base(r *http.Request) string {
	return cmp.Or(s.URL(), "http://"+r.Host)
}

// ServeHTTP answers one request as Zoho would, faults permitting.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The body is read first: only then does the server notice that a client hung up.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		refuse(http.StatusRequestEntityTooLarge, "INVALID_DATA", "the body is too large", nil).write(w)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	serve := s.accounts
	if strings.HasPrefix(r.URL.Path, "/crm/") {
		over := s.meter.enter(r)
		defer s.meter.leave(r)
		serve = func(r *http.Request) answer { return s.api(r, over) }
	} else {
		s.meter.count(routeOf(r))
	}
	fault, found := s.faults.take(r)
	if !found {
		serve(r).write(w)
		return
	}
	fault.serve(w, r, serve)
}
