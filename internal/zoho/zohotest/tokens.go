package zohotest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	tokenWindow   = 10 * time.Minute // of TokenRate
	maxLiveTokens = 10               // access tokens of a refresh token; the oldest goes
	maxGrants     = 20               // refresh tokens of a user; the oldest goes
	grantRate     = 5                // refresh tokens a minute
)

// tokens are the accounts side: who may have an access token, and which are good.
type tokens struct {
	o Options

	mu     sync.Mutex
	codes  map[string]bool // grant codes not yet exchanged
	grants []*grant        // oldest first
	made   []time.Time     // when the last refresh tokens were made
	serial int
	issued int64
}

// grant is a refresh token and what it gave.
type grant struct {
	refresh string
	access  []accessToken // oldest first
	opened  time.Time     // beginning of the window
	asked   int           // access tokens in that window
}

type accessToken struct {
	text    string
	expires time.Time
}

func newTokens(o Options) *tokens {
	return &tokens{
		o: o, codes: map[string]bool{o.GrantCode: true},
		grants: []*grant{{refresh: o.RefreshToken}},
	}
}

// accounts answers what is no API: tokens, their revocation, and consent.
func (s *Server) accounts(r *http.Request) answer {
	form, err := formOf(r)
	if err != nil {
		return found(oauthError("invalid_request"))
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /oauth/v2/token":
		return s.tokens.give(form, s.base(r))
	case "POST /oauth/v2/token/revoke":
		return s.tokens.revoke(form.Get("token"))
	case "GET /oauth/v2/auth":
		return s.tokens.consent(form, s.base(r))
	default:
		return htmlPage(http.StatusNotFound)
	}
}

// formOf is what was sent in the query and in the body.
func formOf(r *http.Request) (url.Values, error) {
	if err := r.ParseForm(); err != nil {
		return nil, fmt.Errorf("read form: %w", err)
	}
	return r.Form, nil
}

// oauthError is how the accounts server refuses: with status 200.
func oauthError(code string) map[string]string { return map[string]string{"error": code} }

// throttled is how the accounts server says that it was asked too often.
func throttled() answer {
	return answer{status: http.StatusBadRequest, body: map[string]string{
		"error_description": "You have made too many requests continuously. Please try again after some time.",
		"error":             "Access Denied",
		"status":            "failure",
	}}
}

// give answers a request for tokens.
func (t *tokens) give(form url.Values, domain string) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if form.Get("client_id") != t.o.ClientID {
		return found(oauthError("invalid_client"))
	}
	if form.Get("client_secret") != t.o.ClientSecret {
		return found(oauthError("invalid_client_secret"))
	}
	switch form.Get("grant_type") {
	case "refresh_token":
		g := t.find(form.Get("refresh_token"))
		if g == nil {
			return found(oauthError("invalid_code"))
		}
		if !t.allowed(g) {
			return throttled()
		}
		return found(t.issue(g, domain))
	case "authorization_code":
		return t.exchange(form, domain)
	default:
		return found(oauthError("unsupported_grant_type"))
	}
}

// exchange makes a refresh token of a grant code, which is good once.
func (t *tokens) exchange(form url.Values, domain string) answer {
	code := form.Get("code")
	if !t.codes[code] {
		return found(oauthError("invalid_code"))
	}
	if t.o.RedirectURI != "" && form.Get("redirect_uri") != t.o.RedirectURI {
		return found(oauthError("invalid_redirect_uri"))
	}
	now := t.o.Now()
	t.made = slices.DeleteFunc(t.made, func(at time.Time) bool { return !now.Before(at.Add(time.Minute)) })
	if len(t.made) >= grantRate {
		return throttled()
	}
	t.made = append(t.made, now)
	delete(t.codes, code)
	g := &grant{refresh: t.mint("refresh")}
	t.grants = append(t.grants, g)
	if len(t.grants) > maxGrants {
		t.grants = t.grants[1:]
	}
	given := t.issue(g, domain)
	given["refresh_token"] = g.refresh
	return found(given)
}

// allowed counts a request against the window of g, which begins with its first.
func (t *tokens) allowed(g *grant) bool {
	now := t.o.Now()
	if g.asked == 0 || !now.Before(g.opened.Add(tokenWindow)) {
		g.opened, g.asked = now, 0
	}
	g.asked++
	return g.asked <= t.o.TokenRate
}

// issue gives a new access token of g.
func (t *tokens) issue(g *grant, domain string) map[string]any {
	t.issued++
	token := accessToken{t.mint("access"), t.o.Now().Add(t.o.TokenLife)}
	g.access = append(g.access, token)
	if len(g.access) > maxLiveTokens {
		g.access = g.access[1:]
	}
	given := map[string]any{
		"access_token": token.text, "api_domain": domain, "token_type": "Bearer",
		"expires_in": int(t.o.TokenLife.Seconds()),
	}
	if !t.o.HideScope {
		given["scope"] = strings.Join(t.o.Scopes, " ")
	}
	return given
}

// mint makes a token's text: never the same twice.
func (t *tokens) mint(kind string) string {
	t.serial++
	return fmt.Sprintf("1000.zohotest.%s.%06d", kind, t.serial)
}

func (t *tokens) find(refresh string) *grant {
	for _, g := range t.grants {
		if g.refresh == refresh {
			return g
		}
	}
	return nil
}

// good reports whether an access token is live.
func (t *tokens) good(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.o.Now()
	for _, g := range t.grants {
		for _, token := range g.access {
			if token.text == text {
				return now.Before(token.expires)
			}
		}
	}
	return false
}

func (t *tokens) revoke(refresh string) answer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.find(refresh) == nil {
		return found(oauthError("invalid_code"))
	}
	t.grants = slices.DeleteFunc(t.grants, func(g *grant) bool { return g.refresh == refresh })
	return found(map[string]string{"status": "success"})
}

// consent is the page where a person agrees, who does so at once: the browser
// goes back with a grant code.
func (t *tokens) consent(form url.Values, domain string) answer {
	back, err := url.Parse(form.Get("redirect_uri"))
	if err != nil || back.Host == "" || form.Get("client_id") != t.o.ClientID ||
		(t.o.RedirectURI != "" && form.Get("redirect_uri") != t.o.RedirectURI) {
		return htmlPage(http.StatusBadRequest)
	}
	query := back.Query()
	query.Set("code", t.newCode())
	query.Set("location", "us")
	query.Set("accounts-server", domain)
	if state := form.Get("state"); state != "" {
		query.Set("state", state)
	}
	back.RawQuery = query.Encode()
	return answer{status: http.StatusFound, header: http.Header{"Location": {back.String()}}}
}

func (t *tokens) newCode() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	code := t.mint("grant")
	t.codes[code] = true
	return code
}

// NewGrantCode returns a further grant code, good for one exchange.
func (s *Server) NewGrantCode() string { return s.tokens.newCode() }

// TokensIssued is how many access tokens were given.
func (s *Server) TokensIssued() int64 {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	return s.tokens.issued
}

// RevokeRefreshToken takes back every refresh token, and the access tokens with
// them, as when a person withdraws their consent. A grant code still helps.
func (s *Server) RevokeRefreshToken() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	s.tokens.grants = nil
}

// InvalidateAccessTokens makes every access token given so far a bad one;
// refresh tokens stay good.
func (s *Server) InvalidateAccessTokens() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	for _, g := range s.tokens.grants {
		g.access = nil
	}
}
