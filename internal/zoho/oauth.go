package zoho

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// tokenTimeout bounds one request for a token.
	tokenTimeout = 20 * time.Second
	// tokenAnswer bounds an answer to it, in bytes: a real one has a few hundred.
	tokenAnswer = 64 << 10
	// tokenPause is how long Zoho blocks who asked for more than ten access tokens
	// in ten minutes.
	tokenPause = 10 * time.Minute
	// tokenLife is how long an access token is good when Zoho does not say.
	tokenLife = time.Hour
)

type dataCenter struct{ name, accounts, api string }

func dataCenters() []dataCenter {
	return []dataCenter{
		{"us", "https://accounts.zoho.com", "https://www.zohoapis.com"},
		{"eu", "https://accounts.zoho.eu", "https://www.zohoapis.eu"},
		{"in", "https://accounts.zoho.in", "https://www.zohoapis.in"},
		{"au", "https://accounts.zoho.com.au", "https://www.zohoapis.com.au"},
		{"jp", "https://accounts.zoho.jp", "https://www.zohoapis.jp"},
		{"cn", "https://accounts.zoho.com.cn", "https://www.zohoapis.com.cn"},
		{"ca", "https://accounts.zohocloud.ca", "https://www.zohoapis.ca"},
		{"sa", "https://accounts.zoho.sa", "https://www.zohoapis.sa"},
	}
}

// DataCenters are the names of Zoho's data centres.
func DataCenters() []string {
	var names []string
	for _, dc := range dataCenters() {
		names = append(names, dc.name)
	}
	return names
}

// Check reports all that is wrong with c: an unknown data centre or edition, an
// URL that is none. Credentials may be missing.
func (c Config) Check() error {
	var problems []error
	if !slices.Contains(DataCenters(), cmp.Or(c.DataCenter, "us")) {
		problems = append(problems, fmt.Errorf("unknown data centre %q: want one of %s",
			c.DataCenter, strings.Join(DataCenters(), " ")))
	}
	if !slices.Contains([]string{"", "production", "sandbox", "developer"}, c.Edition) {
		problems = append(problems, fmt.Errorf("unknown edition %q: want production, sandbox or developer", c.Edition))
	}
	for _, u := range []struct{ name, text string }{{"accounts URL", c.AccountsURL}, {"API URL", c.APIURL}} {
		if u.text != "" && !isBaseURL(u.text) {
			problems = append(problems, fmt.Errorf("%s: want http(s)://host, with nothing after the path", u.name))
		}
	}
	return errors.Join(problems...)
}

func isBaseURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// center is the data centre that c names; the first one when it names none that
// exists, which Check has told.
func (c Config) center() dataCenter {
	all := dataCenters()
	for _, dc := range all {
		if dc.name == c.DataCenter {
			return dc
		}
	}
	return all[0]
}

func (c Config) accountsBase() string {
	return strings.TrimRight(cmp.Or(c.AccountsURL, c.center().accounts), "/")
}

// apiBase is where the API is, for a token that came with domain. An edition
// that is not production has its own host in place of www.
func (c Config) apiBase(domain string) string {
	if c.APIURL != "" {
		return strings.TrimRight(c.APIURL, "/")
	}
	base := strings.TrimRight(cmp.Or(domain, c.center().api), "/")
	if c.Edition == "sandbox" || c.Edition == "developer" {
		base = strings.Replace(base, "://www.", "://"+c.Edition+".", 1)
	}
	return base
}

// OAuth gets and revokes tokens at Zoho's accounts server. It keeps none: Zoho
// gives an access token ten times in ten minutes and keeps ten alive, so its
// caller shares what it got.
type OAuth struct {
	cfg  Config
	http *http.Client
	now  func() time.Time
}

// NewOAuth makes an OAuth. A nil transport is http.DefaultTransport, a nil now
// time.Now.
func NewOAuth(cfg Config, transport http.RoundTripper, now func() time.Time) *OAuth {
	if now == nil {
		now = time.Now
	}
	return &OAuth{cfg: cfg, http: plainClient(transport), now: now}
}

// plainClient follows no redirect: what it would carry elsewhere are credentials.
func plainClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Refresh gets an access token. An error is an *Error: KindUnauthorized when
// Zoho does not know the refresh token or the client, KindThrottled, with ten
// minutes to wait unless Zoho says otherwise, when it was asked too often.
func (o *OAuth) Refresh(ctx context.Context, refreshToken string) (Token, error) {
	return o.token(ctx, "refresh the access token", url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {refreshToken},
	}, refreshToken)
}

// Exchange turns a grant code, which is good once and for minutes, into tokens:
// Token.Refresh is always set. redirectURI is the one that the code was given
// to, "" for a self client. An error is an *Error; KindUnauthorized says that the
// code or the client is wrong.
func (o *OAuth) Exchange(ctx context.Context, code, redirectURI string) (Token, error) {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}}
	if redirectURI != "" {
		form.Set("redirect_uri", redirectURI)
	}
	const op = "exchange the grant code"
	t, err := o.token(ctx, op, form, code)
	if err == nil && t.Refresh == "" {
		return Token{}, &Error{
			Kind: KindUnauthorized, Op: op, Status: http.StatusOK,
			Message: "Zoho gave no refresh token: ask for the grant with access_type=offline and prompt=consent",
		}
	}
	return t, err
}

// Revoke makes a refresh token void. An error is an *Error; its Code invalid_code or
// invalid_token says that Zoho does not know the token, which is as good as revoked.
func (o *OAuth) Revoke(ctx context.Context, refreshToken string) error {
	_, err := o.post(ctx, "revoke the refresh token", "/oauth/v2/token/revoke",
		url.Values{"token": {refreshToken}}, nil, refreshToken)
	return err
}

// tokenSaid is an answer of the accounts server. Everything is taken as it
// comes, because an error comes with status 200 too.
type tokenSaid struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	APIDomain    string `json:"api_domain"`
	Scope        string `json:"scope"`
	ExpiresIn    text   `json:"expires_in"`
	ExpiresInSec text   `json:"expires_in_sec"` // older answers, whose expires_in is in milliseconds
	Error        text   `json:"error"`
	Description  text   `json:"error_description"`
}

func (o *OAuth) token(ctx context.Context, op string, form url.Values, secret string) (Token, error) {
	form.Set("client_id", o.cfg.ClientID)
	form.Set("client_secret", o.cfg.ClientSecret)
	asked := o.now()
	said, err := o.post(ctx, op, "/oauth/v2/token", nil, form, secret)
	if err != nil {
		return Token{}, err
	}
	if said.AccessToken == "" {
		return Token{}, &Error{
			Kind: KindUnauthorized, Op: op, Status: http.StatusOK,
			Message: "Zoho gave no access token: connect anew",
		}
	}
	return Token{
		Access:    said.AccessToken,
		APIDomain: o.domain(said.APIDomain),
		// From before the request: a token is never thought to live longer than it does.
		Expires: asked.Add(said.life()),
		Scopes:  strings.FieldsFunc(said.Scope, func(r rune) bool { return r == ' ' || r == ',' }),
		Refresh: said.RefreshToken,
	}, nil
}

// domain is the API's base URL as Zoho says it; "" when that is no URL, or one
// that would send the token in clear although it came encrypted.
func (o *OAuth) domain(said string) string {
	encrypted := strings.HasPrefix(o.cfg.accountsBase(), "https://")
	if !isBaseURL(said) || (encrypted && !strings.HasPrefix(said, "https://")) {
		return ""
	}
	return said
}

func (t tokenSaid) life() time.Duration {
	for _, said := range []text{t.ExpiresInSec, t.ExpiresIn} {
		if seconds, err := said.number(); err == nil && 0 < seconds && seconds <= 24*3600 {
			return time.Duration(seconds) * time.Second
		}
	}
	return tokenLife
}

// post asks the accounts server. secrets are kept out of the error besides the
// client's own.
func (o *OAuth) post(ctx context.Context, op, path string, query, form url.Values, secrets ...string) (*tokenSaid, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tokenTimeout, errTimeout)
	defer cancel()
	address := o.cfg.accountsBase() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		// The parser's own words would quote the URL, and with it the token.
		return nil, &Error{Kind: KindUnavailable, Op: op, Message: "the accounts URL is none"}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	res, err := o.http.Do(req)
	if err != nil {
		return nil, unanswered(ctx, op, err)
	}
	defer res.Body.Close()
	body, err := readBody(res, tokenAnswer)
	if err != nil && !errors.Is(err, errTooLong) {
		return nil, unanswered(ctx, op, err)
	}
	var said tokenSaid
	parsed := isObject(body) && json.Unmarshal(body, &said) == nil
	for _, secret := range append(secrets, o.cfg.ClientSecret, said.AccessToken, said.RefreshToken) {
		said.Error, said.Description = hide(said.Error, secret), hide(said.Description, secret)
	}
	if e := o.fault(op, res, parsed, said); e != nil {
		return nil, e
	}
	return &said, nil
}

// fault says what is wrong with an answer; nil when nothing is. The accounts
// server answers 200 for errors, and 400 both for wrong credentials and for too
// many requests, so its words decide.
func (o *OAuth) fault(op string, res *http.Response, parsed bool, said tokenSaid) *Error {
	e := &Error{Op: op, Status: res.StatusCode, RetryAfter: retryAfter(res.Header, o.now())}
	if !parsed {
		e.Kind, e.Message = KindUnavailable, noAnswer(res)
		if res.StatusCode == http.StatusTooManyRequests {
			e.Kind, e.RetryAfter = KindThrottled, cmp.Or(e.RetryAfter, tokenPause)
		}
		return e
	}
	e.Code, e.Message = bounded(said.Error.String()), bounded(said.Description.String())
	words := strings.ToLower(e.Code + " " + e.Message)
	switch {
	case res.StatusCode == http.StatusTooManyRequests,
		strings.Contains(words, "too many requests"), strings.Contains(words, "access denied"):
		e.Kind, e.RetryAfter = KindThrottled, cmp.Or(e.RetryAfter, tokenPause)
	case res.StatusCode >= 500, isRedirect(res.StatusCode),
		strings.Contains(words, "server_error"), strings.Contains(words, "temporarily_unavailable"):
		e.Kind = KindUnavailable
	case e.Code != "" || res.StatusCode >= 400:
		e.Kind, e.RetryAfter = KindUnauthorized, 0
		e.Message = strings.TrimPrefix(e.Message+": "+remedy(e.Code), ": ")
	default:
		return nil
	}
	return e
}

// remedy says what a person can do about credentials that Zoho refuses.
func remedy(code string) string {
	switch code {
	case "invalid_code":
		return "Zoho does not know the refresh token or grant code: it was revoked, has run out, " +
			"was used before, or belongs to another data centre; connect anew"
	case "invalid_client":
		return "Zoho does not know the client: check the client id, and that the data centre is the client's"
	case "invalid_client_secret":
		return "the client secret is wrong: check it"
	case "invalid_redirect_uri":
		return "the redirect URI is not the one registered with the client"
	default:
		return "Zoho refuses the credentials: check them and connect anew"
	}
}

// isObject reports whether body begins as a JSON object does; HTML does not, and
// null would pass for an answer that says nothing.
func isObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}
