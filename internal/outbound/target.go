package outbound

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/seal"
)

// forgetAfter is how long a target is kept that nobody asks for.
const forgetAfter = time.Hour

// Targets makes endpoints ready to be sent to, and keeps what that costs: opened
// secrets, connections, access tokens. It is safe for concurrent use.
type Targets struct {
	transport func(*tls.Config) http.RoundTripper
	box       *seal.Box
	env       endpoint.Credentials
	now       func() time.Time
	// shared is for all endpoints without TLS settings of their own, and for token servers.
	shared http.RoundTripper

	mu    sync.Mutex
	known map[uuid.UUID]*target
}

// NewTargets makes Targets. transport makes what requests go through, usually
// [Guard.TransportWith]; it is asked once with nil, and once for each endpoint that
// has TLS settings of its own. box opens the secrets of endpoints; env are those of
// the endpoint that the settings describe.
func NewTargets(transport func(*tls.Config) http.RoundTripper, box *seal.Box, env endpoint.Credentials, now func() time.Time) *Targets {
	return &Targets{transport: transport, box: box, env: env, now: now, shared: transport(nil), known: map[uuid.UUID]*target{}}
}

// target is an endpoint at one version of its row.
type target struct {
	url         string
	timeout     time.Duration
	credentials endpoint.Credentials
	through     http.RoundTripper
	tokens      *tokens // nil: none are needed

	own       bool // through is not shared
	updatedAt time.Time
	usedAt    time.Time
}

// get returns the target of an endpoint as the row says. When the row is another than
// the last time, tokens and connections of its own start anew. The error is that of
// secrets that cannot be opened or used: nothing is to be sent then.
func (t *Targets) get(e db.Endpoint) (*target, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if known, ok := t.known[e.ID]; ok && known.updatedAt.Equal(e.UpdatedAt) {
		known.usedAt = now
		return known, nil
	}
	made, err := t.make(e)
	if err != nil {
		return nil, fmt.Errorf("make endpoint %s ready: %w", e.Name, err)
	}
	made.usedAt = now
	for id, old := range t.known {
		if id == e.ID || now.Sub(old.usedAt) > forgetAfter {
			old.close()
			delete(t.known, id)
		}
	}
	t.known[e.ID] = made
	return made, nil
}

func (t *Targets) make(e db.Endpoint) (*target, error) {
	credentials := t.env
	if e.Name != endpoint.EnvName {
		var err error
		if credentials, err = endpoint.Open(t.box, e.ID, e.Sealed); err != nil {
			return nil, err
		}
	}
	// A key that cannot sign is found here, once, and not by every delivery.
	if err := sign(http.Header{}, credentials, "", t.now(), nil); err != nil {
		return nil, err
	}
	settings, err := tlsConfig(credentials.Auth)
	if err != nil {
		return nil, err
	}
	made := &target{url: e.URL, timeout: e.Timeout, credentials: credentials, through: t.shared, updatedAt: e.UpdatedAt}
	if settings != nil {
		made.through, made.own = t.transport(settings), true
	}
	if credentials.Auth.Kind == endpoint.AuthOAuth2 {
		made.tokens = newTokens(credentials.Auth.OAuth2, t.shared, e.Timeout)
	}
	return made, nil
}

// CloseIdleConnections closes the connections that wait for a next request.
func (t *Targets) CloseIdleConnections() {
	closeIdle(t.shared)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, known := range t.known {
		known.close()
	}
}

// request is a delivery to the target. id is its webhook-id, body what render returned.
func (t *target) request(id string, body []byte) request {
	return request{
		URL: t.url, ID: id, Body: body, Timeout: t.timeout,
		Credentials: t.credentials, Through: t.through, Tokens: t.tokens,
	}
}

// close closes the idle connections of a target that has its own. Those in use close
// by themselves, a while after they come back.
func (t *target) close() {
	if t.own {
		closeIdle(t.through)
	}
}

func closeIdle(rt http.RoundTripper) {
	if idle, ok := rt.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}
