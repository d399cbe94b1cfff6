package zohotest_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func TestTokenErrorsComeWithStatus200(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{RedirectURI: "https://relay.example.com/back"})
	for want, change := range map[string]url.Values{
		"invalid_code":          {"refresh_token": {"other"}},
		"invalid_client":        {"client_id": {"other"}},
		"invalid_client_secret": {"client_secret": {"other"}},
		"invalid_redirect_uri":  {"grant_type": {"authorization_code"}, "code": {zohotest.GrantCode}, "redirect_uri": {"https://other.example.com"}},
	} {
		form := url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {zohotest.RefreshToken},
			"client_id": {zohotest.ClientID}, "client_secret": {zohotest.ClientSecret},
		}
		for name, values := range change {
			form[name] = values
		}
		if r := v.form(form); r.status != http.StatusOK || r.object()["error"] != want {
			t.Errorf("%s: status %d, %s", want, r.status, r.body)
		}
	}
}

func TestTokenExpires(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now})
	c.advance(time.Hour - time.Second)
	v.get("/crm/v8/org").is(200, "")
	c.advance(time.Second)
	v.get("/crm/v8/org").is(401, "INVALID_TOKEN")
	v.get("/crm/v8/org", "Authorization", "Bearer "+v.token).is(401, "AUTHENTICATION_FAILURE")
}

func TestTokensAreThrottled(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := visit(t, zohotest.Options{Now: c.now}) // has one
	for range 9 {
		c.advance(time.Minute)
		v.login()
	}
	if r := v.refresh(); r.status != http.StatusBadRequest || r.object()["error"] != "Access Denied" {
		t.Errorf("the eleventh: status %d, %s", r.status, r.body)
	}
	c.advance(time.Minute) // ten since the first: the window is over
	v.login()
	if n := v.s.TokensIssued(); n != 11 {
		t.Errorf("%d tokens were issued, want 11", n)
	}
}

func TestOldestTokenIsDropped(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{TokenRate: 100})
	first := v.token
	v.login()
	second := v.token
	for range 9 {
		v.login()
	}
	v.get("/crm/v8/org", "Authorization", "Zoho-oauthtoken "+first).is(401, "INVALID_TOKEN")
	v.get("/crm/v8/org", "Authorization", "Zoho-oauthtoken "+second).is(200, "")
}

func TestConsentExchangeAndRevocation(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{})
	r := v.get("/oauth/v2/auth?response_type=code&client_id=" + zohotest.ClientID + "&state=s&redirect_uri=" + url.QueryEscape("https://relay.example.com/back?a=b"))
	back, err := url.Parse(r.header.Get("Location"))
	if err != nil || r.status != http.StatusFound || back.Query().Get("state") != "s" || back.Query().Get("a") != "b" {
		t.Fatalf("status %d, location %q", r.status, r.header.Get("Location"))
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")},
		"client_id": {zohotest.ClientID}, "client_secret": {zohotest.ClientSecret},
	}
	given := v.form(form).object()
	refresh, _ := given["refresh_token"].(string)
	v.token, _ = given["access_token"].(string)
	if refresh == "" || given["api_domain"] != v.s.URL() {
		t.Fatalf("exchange: %v", given)
	}
	v.get("/crm/v8/org").is(200, "")
	if again := v.form(form).object(); again["error"] != "invalid_code" {
		t.Errorf("a grant code is good twice: %v", again)
	}
	if r := v.send(http.MethodPost, "/oauth/v2/token/revoke?token="+refresh, ""); r.object()["status"] != "success" {
		t.Errorf("revoke: %s", r.body)
	}
	v.get("/crm/v8/org").is(401, "INVALID_TOKEN")
	v.login() // the other refresh token is none of its business
	v.s.InvalidateAccessTokens()
	v.get("/crm/v8/org").is(401, "INVALID_TOKEN")
	v.login()
	v.s.RevokeRefreshToken()
	v.get("/crm/v8/org").is(401, "INVALID_TOKEN")
	if r := v.refresh().object(); r["error"] != "invalid_code" {
		t.Errorf("after revocation: %v", r)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	v := visit(t, zohotest.Options{Scopes: []string{"ZohoCRM.modules.contacts.READ", "ZohoCRM.notifications.READ"}})
	contact := v.s.Create("Contacts", map[string]any{"Last_Name": "A"})
	v.get("/crm/v8/Contacts/"+contact).is(200, "")
	v.get("/crm/v8/actions/watch").is(204, "")
	v.get("/crm/v8/Deals?fields=id").is(401, "OAUTH_SCOPE_MISMATCH")
	v.get("/crm/v8/org").is(401, "OAUTH_SCOPE_MISMATCH")
	v.enable("https://relay.example.com", `"Deals.all"`, "").is(401, "OAUTH_SCOPE_MISMATCH")
}
