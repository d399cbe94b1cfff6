package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/singleflight"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// errAuth is why an attempt failed before the receiver was asked: there was no access token to be had. It may pass, so
// nothing that is final is wrapped beside it.
var errAuth = errors.New("no access token")

// tokens are the access tokens of one endpoint: each serves until shortly before it expires, or until the receiver turns
// it away. Deliveries that need one at the same time share one fetch.
type tokens struct {
	config  *clientcredentials.Config
	client  *http.Client
	timeout time.Duration // of a fetch
	fetches singleflight.Group

	mu      sync.Mutex
	current *oauth2.Token
}

// newTokens returns those of o, fetched through rt. How the server wants to be told the client's secret is found out by
// the first fetch: in a header or, where that fails, in the body.
func newTokens(o endpoint.OAuth2, rt http.RoundTripper, timeout time.Duration) *tokens {
	config := &clientcredentials.Config{ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenURL, Scopes: o.Scopes}
	if o.Audience != "" {
		config.EndpointParams = url.Values{"audience": {o.Audience}}
	}
	return &tokens{config: config, client: &http.Client{Transport: tokenServer{rt}}, timeout: timeout}
}

// accessToken is one as it is sent.
type accessToken struct {
	text  string
	fresh bool // it was fetched for this attempt
}

// get returns a token that is valid for ten seconds at least. The error is errAuth. A fetch goes on when ctx ends:
// others may wait for it.
func (t *tokens) get(ctx context.Context) (accessToken, error) {
	if text, ok := t.kept(); ok {
		return accessToken{text: text}, nil
	}
	fetched := t.fetches.DoChan("", func() (any, error) {
		if text, ok := t.kept(); ok {
			return text, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
		defer cancel()
		return t.fetch(ctx)
	})
	select {
	case f := <-fetched:
		if f.Err != nil {
			return accessToken{}, f.Err
		}
		return accessToken{text: f.Val.(string), fresh: true}, nil
	case <-ctx.Done():
		return accessToken{}, fmt.Errorf("%w: %w", errAuth, ctx.Err())
	}
}

func (t *tokens) kept() (text string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.current.Valid() {
		return "", false
	}
	return t.current.AccessToken, true
}

// drop forgets a token that was turned away, unless another has taken its place.
func (t *tokens) drop(token accessToken) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil && t.current.AccessToken == token.text {
		t.current = nil
	}
}

func (t *tokens) fetch(ctx context.Context) (text string, err error) {
	defer func() {
		if p := recover(); p != nil { // nobody else would catch it here, and the program would end
			err = fmt.Errorf("%w: panic while it was fetched", errAuth)
		}
	}()
	token, err := t.config.Token(context.WithValue(ctx, oauth2.HTTPClient, t.client))
	if err != nil {
		return "", fmt.Errorf("%w: %s", errAuth, whyNoToken(err))
	}
	if !sendable(token.AccessToken) {
		return "", fmt.Errorf("%w: the one that the token server gives holds a control character", errAuth)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = token
	return token.AccessToken, nil
}

// errorCode is what the codes of RFC 6749, section 5.2, look like, and those that servers make up.
var errorCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// whyNoToken says why a fetch failed, without the token server's words but for an error code: they may quote what it was
// asked, or the token itself.
func whyNoToken(err error) string {
	var answered *oauth2.RetrieveError
	if errors.As(err, &answered) {
		code := answered.ErrorCode
		if !errorCode.MatchString(code) {
			code = http.StatusText(answered.Response.StatusCode)
		}
		return fmt.Sprintf("the token server answered %d %s", answered.Response.StatusCode, code)
	}
	var unanswered *url.Error
	if errors.As(err, &unanswered) {
		return "ask the token server: " + unanswered.Err.Error() // without the URL
	}
	return "there is none in the token server's answer"
}

// tokenServer reads at most maxAnswer bytes of an answer, and takes away where a redirect leads to: without it nobody
// follows.
type tokenServer struct{ http.RoundTripper }

func (s tokenServer) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Header.Del("Location")
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}

// tlsConfig returns what a connection needs beyond the usual: a certificate of ours, or authorities of the endpoint's
// own. It returns nil where there is neither.
func tlsConfig(a endpoint.Auth) (*tls.Config, error) {
	if a.Certificate == "" && a.Authorities == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(a.Certificate), []byte(a.PrivateKey))
		if err != nil {
			return nil, fmt.Errorf("read the certificate and its key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if a.Authorities != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(a.Authorities)) {
			return nil, errors.New("read the authorities: there is no certificate in them")
		}
	}
	return c, nil
}
