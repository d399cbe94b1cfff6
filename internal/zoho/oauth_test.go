package zoho

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	testRefresh = "1000.refresh.secret"
	testSecret  = "client-secret-words"
)

func oauthOf(t *testing.T, h http.HandlerFunc) *OAuth {
	t.Helper()
	srv := serving(t, h)
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	return NewOAuth(Config{AccountsURL: srv.URL + "/", ClientID: "1000.CLIENT", ClientSecret: testSecret},
		srv.Client().Transport, func() time.Time { return now })
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		cfg  Config
		want []string // words in the error; none: no error
	}{
		{"empty", Config{}, nil},
		{"all set", Config{DataCenter: "ca", Edition: "sandbox", APIURL: "http://127.0.0.1:80/x", AccountsURL: "https://a.example"}, nil},
		{"everything wrong is named", Config{DataCenter: "uk", Edition: "beta", APIURL: "ftp://x", AccountsURL: "accounts.zoho.com"},
			[]string{`"uk"`, `"beta"`, "API URL", "accounts URL"}},
		{"an URL with a query", Config{APIURL: "https://x.example?a=b"}, []string{"API URL"}},
		{"an URL with credentials is not quoted", Config{APIURL: "https://u:hush@x.example"}, []string{"API URL"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := tc.cfg.Check()
			if (err != nil) != (tc.want != nil) {
				t.Fatalf("Check: %v", err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %s", err, w)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("%q holds a password", err)
			}
		})
	}
}

func TestWhereTheAPIIs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		cfg    Config
		domain string
		want   string
	}{
		{"the first data centre", Config{}, "", "https://www.zohoapis.com"},
		{"a data centre", Config{DataCenter: "ca"}, "", "https://www.zohoapis.ca"},
		{"the token knows better", Config{DataCenter: "eu"}, "https://www.zohoapis.in/", "https://www.zohoapis.in"},
		{"a setting knows best", Config{APIURL: "http://127.0.0.1:1/", Edition: "sandbox"}, "https://www.zohoapis.in", "http://127.0.0.1:1"},
		{"sandbox", Config{DataCenter: "au", Edition: "sandbox"}, "", "https://sandbox.zohoapis.com.au"},
		{"developer, by the token", Config{Edition: "developer"}, "https://www.zohoapis.jp", "https://developer.zohoapis.jp"},
		{"already there", Config{Edition: "sandbox"}, "https://sandbox.zohoapis.jp", "https://sandbox.zohoapis.jp"},
		{"production", Config{DataCenter: "sa", Edition: "production"}, "", "https://www.zohoapis.sa"},
	} {
		if got := tc.cfg.apiBase(tc.domain); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	if got := (Config{DataCenter: "ca"}).accountsBase(); got != "https://accounts.zohocloud.ca" {
		t.Errorf("Canada's accounts server is %s", got)
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	var form map[string][]string
	var query string
	o := oauthOf(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		_ = r.ParseForm()
		form = r.PostForm
		saying(200, `{"access_token":"1000.new","scope":"ZohoCRM.modules.ALL ZohoCRM.coql.READ,ZohoCRM.users.READ",
			"api_domain":"https://www.zohoapis.eu","token_type":"Bearer","expires_in":3600}`)(w, r)
	})
	got, err := o.Refresh(t.Context(), testRefresh)
	if err != nil {
		t.Fatal(err)
	}
	want := Token{
		Access: "1000.new", APIDomain: "https://www.zohoapis.eu", Expires: o.now().Add(time.Hour),
		Scopes: []string{"ZohoCRM.modules.ALL", "ZohoCRM.coql.READ", "ZohoCRM.users.READ"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if query != "" {
		t.Errorf("the query is %q: credentials belong into the body", query)
	}
	if d := cmp.Diff(map[string][]string{
		"grant_type": {"refresh_token"}, "refresh_token": {testRefresh},
		"client_id": {"1000.CLIENT"}, "client_secret": {testSecret},
	}, form); d != "" {
		t.Error(d)
	}
}

func TestHowLongATokenLives(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]time.Duration{
		`{"access_token":"a"}`:                                              time.Hour,
		`{"access_token":"a","expires_in":1800}`:                            30 * time.Minute,
		`{"access_token":"a","expires_in":"1800"}`:                          30 * time.Minute,
		`{"access_token":"a","expires_in":3600000,"expires_in_sec":3600}`:   time.Hour,
		`{"access_token":"a","expires_in":3600000}`:                         time.Hour,
		`{"access_token":"a","expires_in":-5}`:                              time.Hour,
		`{"access_token":"a","expires_in":99999999999999999999999999999.5}`: time.Hour,
	} {
		o := oauthOf(t, saying(200, answer))
		got, err := o.Refresh(t.Context(), testRefresh)
		if err != nil || !got.Expires.Equal(o.now().Add(want)) {
			t.Errorf("%s: expires %v, %v; want in %s", answer, got.Expires, err, want)
		}
	}
}

func TestTokenFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		want    Error // Kind, Status, Code, RetryAfter
		words   string
	}{
		{"revoked", saying(200, `{"error":"invalid_code"}`), Error{Kind: KindUnauthorized, Status: 200, Code: "invalid_code"}, "connect anew"},
		{"wrong client", saying(200, `{"error":"invalid_client"}`), Error{Kind: KindUnauthorized, Status: 200, Code: "invalid_client"}, "client id"},
		{"wrong secret", saying(400, `{"error":"invalid_client_secret"}`), Error{Kind: KindUnauthorized, Status: 400, Code: "invalid_client_secret"}, "secret is wrong"},
		{"no token", saying(200, `{"token_type":"Bearer"}`), Error{Kind: KindUnauthorized, Status: 200}, "no access token"},
		{"too many, as Zoho says it", saying(400, `{"error_description":"You have made too many requests continuously. Please try again after some time.","error":"Access Denied","status":"failure"}`),
			Error{Kind: KindThrottled, Status: 400, Code: "Access Denied", RetryAfter: 10 * time.Minute}, "too many"},
		{"too many, in one word", saying(400, `{"error":"Access Denied"}`),
			Error{Kind: KindThrottled, Status: 400, Code: "Access Denied", RetryAfter: 10 * time.Minute}, ""},
		{"too many, with a time", saying(429, `{"error":"whatever"}`, "Retry-After", "30"),
			Error{Kind: KindThrottled, Status: 429, Code: "whatever", RetryAfter: 30 * time.Second}, ""},
		{"too many, from a proxy", saying(429, `<html>`), Error{Kind: KindThrottled, Status: 429, RetryAfter: 10 * time.Minute}, ""},
		{"a page", saying(200, `<html>maintenance</html>`, "Content-Type", "text/html; charset=utf-8"), Error{Kind: KindUnavailable, Status: 200}, "text/html"},
		{"a page for a 404", saying(404, `<html>`), Error{Kind: KindUnavailable, Status: 404}, ""},
		{"cut", saying(200, `{"access_token":"1000.`), Error{Kind: KindUnavailable, Status: 200}, ""},
		{"null", saying(200, `null`), Error{Kind: KindUnavailable, Status: 200}, ""},
		{"empty", saying(200, ``), Error{Kind: KindUnavailable, Status: 200}, ""},
		{"503", saying(503, `{"error":"invalid_client"}`, "Retry-After", "7"), Error{Kind: KindUnavailable, Status: 503, Code: "invalid_client", RetryAfter: 7 * time.Second}, ""},
		{"its own fault", saying(200, `{"error":"server_error"}`), Error{Kind: KindUnavailable, Status: 200, Code: "server_error"}, ""},
		{"elsewhere", saying(302, `{}`, "Location", "https://elsewhere.example/"), Error{Kind: KindUnavailable, Status: 302}, ""},
		{"too long", saying(200, `{"access_token":"`+strings.Repeat("x", tokenAnswer)+`"}`), Error{Kind: KindUnavailable, Status: 200}, ""},
		{"broken", broken, Error{Kind: KindUnavailable}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			token, err := oauthOf(t, tc.handler).Refresh(t.Context(), testRefresh)
			got := errorOf(t, err)
			if token.Access != "" {
				t.Errorf("a token came with the error: %v", token)
			}
			if d := cmp.Diff(tc.want, Error{Kind: got.Kind, Status: got.Status, Code: got.Code, RetryAfter: got.RetryAfter}); d != "" {
				t.Error(d)
			}
			if !strings.Contains(got.Error(), tc.words) {
				t.Errorf("%q does not say %q", got, tc.words)
			}
		})
	}
}

func TestTokenErrorsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	echo := func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		// Long enough for a cut to fall into the last secret.
		words := strings.Repeat("x", 285) + r.Form.Get("client_secret") + r.Form.Get("refresh_token") + r.Form.Get("code") + r.Form.Get("token")
		saying(200, `{"error":"invalid_code","error_description":"`+words+`"}`)(w, r)
	}
	for name, h := range map[string]http.HandlerFunc{"echoed": echo, "no answer": broken, "a page": saying(502, "<html>")} {
		o := oauthOf(t, h)
		_, refreshed := o.Refresh(t.Context(), testRefresh)
		_, exchanged := o.Exchange(t.Context(), testRefresh, "")
		for _, err := range []error{refreshed, exchanged, o.Revoke(t.Context(), testRefresh)} {
			if err == nil || strings.Contains(err.Error(), "1000.ref") || strings.Contains(err.Error(), "client-sec") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Revoke sends the token in the query, which an answer may quote.
func TestASecretInAQueryIsHidden(t *testing.T) {
	t.Parallel()
	o := oauthOf(t, func(w http.ResponseWriter, r *http.Request) {
		saying(400, `{"error":"invalid_token","error_description":"no such thing: `+r.URL.RequestURI()+`"}`)(w, r)
	})
	err := o.Revoke(t.Context(), "1000.re/hush+hush=")
	if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("%v", err)
	}
}

func TestExchange(t *testing.T) {
	t.Parallel()
	var form map[string][]string
	o := oauthOf(t, inTurn(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		form = r.PostForm
		saying(200, `{"access_token":"a","refresh_token":"r","api_domain":"javascript:alert(1)","expires_in":3600}`)(w, r)
	}, saying(200, `{"access_token":"a","expires_in":3600}`)))
	got, err := o.Exchange(t.Context(), "1000.grant", "https://us.example/back")
	if err != nil || got.Refresh != "r" || got.APIDomain != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if d := cmp.Diff(map[string][]string{
		"grant_type": {"authorization_code"}, "code": {"1000.grant"}, "redirect_uri": {"https://us.example/back"},
		"client_id": {"1000.CLIENT"}, "client_secret": {testSecret},
	}, form); d != "" {
		t.Error(d)
	}
	// Without a refresh token it would be over in an hour.
	if _, err := o.Exchange(t.Context(), "1000.grant", ""); KindOf(err) != KindUnauthorized || !strings.Contains(err.Error(), "access_type=offline") {
		t.Errorf("without a refresh token: %v", err)
	}
}

func TestAnEncryptedTokenIsNotSentInClear(t *testing.T) {
	t.Parallel()
	o := NewOAuth(Config{}, nil, time.Now)
	if got := o.domain("http://www.zohoapis.com"); got != "" {
		t.Errorf("the API is at %s", got)
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	var asked string
	o := oauthOf(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path + " " + r.FormValue("token")
		saying(200, `{"status":"success"}`)(w, r)
	})
	if err := o.Revoke(t.Context(), testRefresh); err != nil {
		t.Fatal(err)
	}
	if asked != "POST /oauth/v2/token/revoke "+testRefresh {
		t.Errorf("asked %s", asked)
	}
}

func TestTokenOfACallerWhoLeft(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	o := oauthOf(t, func(_ http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // until the body is read, a server does not notice who leaves
		cancel()
		<-r.Context().Done()
	})
	_, err := o.Refresh(ctx, testRefresh)
	if KindOf(err) != KindUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
