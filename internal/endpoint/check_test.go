package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func pointers[T any](values ...T) *[]T { return &values }

// Every way in which settings can be wrong, and what is said about it.
func TestWhatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	certificate, key := pair(t, time.Now().Add(time.Hour))
	expired, expiredKey := pair(t, time.Now().Add(-time.Hour))
	_, otherKey := pair(t, time.Now().Add(time.Hour))
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprintf("X-%d", i)] = "v"
	}
	header := func(name, value string) Settings { return Settings{Headers: &map[string]string{name: value}} }
	auth := func(a AuthSettings) Settings { return Settings{Auth: &a} }
	oauth2 := func(s OAuth2Settings) Settings { return auth(AuthSettings{Kind: "oauth2", OAuth2: s}) }
	for _, tt := range []struct {
		name, field string
		in          Settings
	}{
		{"an empty name", "name", Settings{Name: new("")}},
		{"a name in upper case", "name", Settings{Name: new("CRM")}},
		{"a name that begins with a dash", "name", Settings{Name: new("-crm")}},
		{"a name with a slash", "name", Settings{Name: new("a/b")}},
		{"a name with a line break", "name", Settings{Name: new("crm\n")}},
		{"a long name", "name", Settings{Name: new(strings.Repeat("a", 64))}},
		{"the name env", "name", Settings{Name: new("env")}},
		{"a name like an id", "name", Settings{Name: new("01a201a3-89ed-769a-b1f9-2106af11e64b")}},

		{"no url", "url", Settings{URL: new("")}},
		{"a host alone", "url", Settings{URL: new("example.com/hook")}},
		{"a url without a host", "url", Settings{URL: new("https:///hook")}},
		{"another scheme", "url", Settings{URL: new("ftp://example.com")}},
		{"a user in a url", "url", Settings{URL: new("https://user@example.com")}},
		{"a line break in a url", "url", Settings{URL: new("https://example.com/\n")}},
		{"a long url", "url", Settings{URL: new("https://example.com/" + strings.Repeat("a", 2000))}},
		{"a url that the guard refuses", "url", Settings{URL: new("https://10.0.0.1/hook")}},

		{"a long description", "description", Settings{Description: new(strings.Repeat("a", 1001))}},
		{"the character 0", "description", Settings{Description: new("a\x00")}},
		{"what steers a terminal", "description", Settings{Description: new("a\x1b[2J")}},
		{"no event", "events", Settings{Events: pointers[string]()}},
		{"an event that is none", "events", Settings{Events: pointers("memory_added", "memory.added")}},
		{"an empty user", "user_ids", Settings{UserIDs: pointers("a", " ")}},
		{"a long user", "user_ids", Settings{UserIDs: pointers(strings.Repeat("a", 256))}},
		{"too many users", "user_ids", Settings{UserIDs: new(slices.Repeat([]string{"a"}, 1001))}},
		{"a filter that is none", "filter", Settings{Filter: new(json.RawMessage(`{"a":{"$regex":"b"}}`))}},
		{"a form that is none", "form", Settings{Form: new("xml")}},
		{"no batch", "batch_size", Settings{BatchSize: new(0)}},
		{"a large batch", "batch_size", Settings{BatchSize: new(1001)}},
		{"a batch of more than an int32", "batch_size", Settings{BatchSize: new(math.MaxInt32 + 2)}},
		{"a negative wait", "batch_wait", Settings{BatchWait: new(Duration(-1))}},
		{"a long wait", "batch_wait", Settings{BatchWait: new(Duration(time.Hour + 1))}},
		{"a negative rate", "rate_limit", Settings{RateLimit: new(-1.0)}},
		{"a rate that is none", "rate_limit", Settings{RateLimit: new(math.NaN())}},
		{"a rate of nothing", "rate_limit", Settings{RateLimit: new(0.0001)}},
		{"a rate of everything", "rate_limit", Settings{RateLimit: new(math.Inf(1))}},
		{"nothing in flight", "max_in_flight", Settings{MaxInFlight: new(0)}},
		{"too much in flight", "max_in_flight", Settings{MaxInFlight: new(257)}},
		{"no time", "timeout", Settings{Timeout: new(Duration(0))}},
		{"too much time", "timeout", Settings{Timeout: new(Duration(40*time.Second + 1))}},
		{"too many retries", "retry_schedule", Settings{RetrySchedule: new(slices.Repeat([]Duration{Duration(time.Second)}, 51))}},
		{"a retry at once", "retry_schedule", Settings{RetrySchedule: pointers(Duration(time.Second), 0)}},
		{"a retry next month", "retry_schedule", Settings{RetrySchedule: pointers(Duration(LongestRetry + 1))}},

		{"no header", "headers.", header("", "a")},
		{"a header with a space", "headers.X Team", header("X Team", "a")},
		{"a header that is not ASCII", "headers.X-ä", header("X-ä", "a")},
		{"a header with a line break", `headers.X\r\nY`, header("X\r\nY", "a")},
		{"a value with a line break", "headers.X-Team", header("X-Team", "a\r\nX-Other: b")},
		{"a value with a space behind it", "headers.X-Team", header("X-Team", "a ")},
		{"a header of ours", "headers.Webhook-Id", header("Webhook-Id", "a")},
		{"our signature", "headers.x-webhook-signature", header("x-webhook-signature", "a")},
		{"what content is", "headers.Content-Encoding", header("Content-Encoding", "gzip")},
		{"another host", "headers.Host", header("Host", "a")},
		{"a header of the connection", "headers.Transfer-Encoding", header("Transfer-Encoding", "chunked")},
		{"the same header twice", "headers.x-team", Settings{Headers: &map[string]string{"X-Team": "a", "x-team": "b"}}},
		{"too many headers", "headers", Settings{Headers: &many}},
		{"large headers", "headers", header("X-Team", strings.Repeat("a", 16<<10))},
		{"Authorization beside auth", "headers.authorization", Settings{
			Headers: &map[string]string{"authorization": "a"}, Auth: &AuthSettings{Kind: "bearer", Token: "a"}}},

		{"an auth that is none", "auth.kind", auth(AuthSettings{Kind: "digest"})},
		{"bearer without a token", "auth.token", auth(AuthSettings{Kind: "bearer"})},
		{"a token with Bearer before it", "auth.token", auth(AuthSettings{Kind: "bearer", Token: "Bearer a"})},
		{"a token with a line break", "auth.token", auth(AuthSettings{Kind: "bearer", Token: "a\r\nb"})},
		{"a long token", "auth.token", auth(AuthSettings{Kind: "bearer", Token: strings.Repeat("a", 5000)})},
		{"a token for nothing", "auth.token", auth(AuthSettings{Kind: "none", Token: "a"})},
		{"basic without a user", "auth.username", auth(AuthSettings{Kind: "basic", Password: "a"})},
		{"basic with a colon", "auth.username", auth(AuthSettings{Kind: "basic", Username: "a:b"})},
		{"a password for bearer", "auth.password", auth(AuthSettings{Kind: "bearer", Token: "a", Password: "b"})},
		{"oauth2 for basic", "auth.oauth2.client_id", auth(AuthSettings{Kind: "basic", Username: "a", OAuth2: OAuth2Settings{ClientID: "b"}})},
		{"oauth2 without a token_url", "auth.oauth2.token_url", oauth2(OAuth2Settings{ClientID: "a", ClientSecret: "b"})},
		{"a token_url that the guard refuses", "auth.oauth2.token_url", oauth2(OAuth2Settings{TokenURL: "https://10.0.0.1", ClientID: "a", ClientSecret: "b"})},
		{"a token_url of another scheme", "auth.oauth2.token_url", oauth2(OAuth2Settings{TokenURL: "file:///etc/passwd", ClientID: "a", ClientSecret: "b"})},
		{"oauth2 without a client", "auth.oauth2.client_id", oauth2(OAuth2Settings{TokenURL: "https://example.com", ClientSecret: "b"})},
		{"oauth2 without a secret", "auth.oauth2.client_secret", oauth2(OAuth2Settings{TokenURL: "https://example.com", ClientID: "a"})},
		{"two scopes in one", "auth.oauth2.scopes", oauth2(OAuth2Settings{TokenURL: "https://example.com", ClientID: "a", ClientSecret: "b", Scopes: []string{"a b"}})},
		{"a certificate without its key", "auth.certificate", auth(AuthSettings{Certificate: certificate})},
		{"a key without its certificate", "auth.certificate", auth(AuthSettings{PrivateKey: key})},
		{"the key of another certificate", "auth.certificate", auth(AuthSettings{Certificate: certificate, PrivateKey: otherKey})},
		{"a certificate that is none", "auth.certificate", auth(AuthSettings{Certificate: "a", PrivateKey: "b"})},
		{"a certificate that has expired", "auth.certificate", auth(AuthSettings{Certificate: expired, PrivateKey: expiredKey})},
		{"authorities that are none", "auth.authorities", auth(AuthSettings{Authorities: "a"})},
		{"a key among authorities", "auth.authorities", auth(AuthSettings{Authorities: certificate + key})},
		{"a certificate for http", "url", Settings{URL: new("http://example.com"), Auth: &AuthSettings{Certificate: certificate, PrivateKey: key}}},

		{"a signature that is none", "signing", Settings{Signing: pointers("rsa")}},
		{"a secret for nothing", "secret", Settings{Signing: pointers("ed25519"), Secret: new("a secret of one's own, long enough")}},
		{"a public key as a secret", "secret", Settings{Secret: new("whpk_" + strings.Repeat("a", 44))}},
		{"a private key as a secret", "secret", Settings{Secret: new("whsk_" + strings.Repeat("a", 88))}},
		{"a short secret", "secret", Settings{Secret: new("twenty-three characters")}},
		{"a secret with a space before it", "secret", Settings{Secret: new(" a secret of one's own, long enough")}},
		{"a long secret", "secret", Settings{Secret: new(strings.Repeat("a", 256))}},
		{"a secret that is no base64", "secret", Settings{Secret: new("whsec_not-base64-at-all-but-long-enough")}},
		{"a secret of little base64", "secret", Settings{Secret: new("whsec_c2hvcnQgc2VjcmV0IQ==")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.in.Name == nil {
				tt.in.Name = new("crm")
			}
			if tt.in.URL == nil {
				tt.in.URL = new("https://example.com/hook")
			}
			_, secrets, err := o.Create(t.Context(), ada, tt.in)
			if !errors.Is(err, ErrInvalid) || secrets != nil {
				t.Fatalf("error %v, want ErrInvalid", err)
			}
			problems := Problems(err)
			if len(problems) != 1 || problems[0].Field != tt.field || problems[0].Problem == "" {
				t.Errorf("problems %v, want one of %s", err, tt.field)
			}
		})
	}
	if one[int](t, o, `SELECT (SELECT count(*) FROM endpoints) + (SELECT count(*) FROM audit_log)`) != 0 {
		t.Error("something was stored")
	}
}

func TestWhatIsUnusualIsTaken(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	certificate, key := pair(t, time.Now().Add(time.Hour))
	for name, in := range map[string]Settings{
		"0.-_":                  {URL: new("http://192.0.2.1:8080/a%20b?c=d")},
		strings.Repeat("a", 63): {Events: pointers("channel.lost"), UserIDs: pointers("*")},
		"many-users":            {UserIDs: new([]string{strings.Repeat("a", 255)})},
		"no-retries":            {RetrySchedule: pointers[Duration](), RateLimit: new(0.001), MaxInFlight: new(256), BatchSize: new(1000)},
		"long":                  {RetrySchedule: new(slices.Repeat([]Duration{Duration(LongestRetry)}, 50)), BatchWait: new(Duration(time.Hour))},
		"basic":                 {Auth: &AuthSettings{Kind: "basic", Username: "ada"}},
		"own-authorization":     {Headers: &map[string]string{"Authorization": "Key abc", "X-Empty": ""}, Auth: &AuthSettings{Kind: "none"}},
		"tls-alone":             {Auth: &AuthSettings{Certificate: certificate, PrivateKey: key, Authorities: "a comment\n" + certificate + certificate}},
		"own-whsec":             {Secret: new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")},
		"unsigned":              {Signing: pointers[string]()},
		"signed-twice":          {Signing: pointers("hmac", "hmac")},
	} {
		in.Name = &name
		o.create(t, in)
	}
}

func TestAllProblemsAreToldTogether(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	wrong := Settings{
		Name: new("CRM"), URL: new("https://10.0.0.1"), Events: pointers("x"), RateLimit: new(-1.0), Filter: new(json.RawMessage(`[]`)),
		Headers: &map[string]string{"Host": "a", "Connection": "b"}, Auth: &AuthSettings{Kind: "oauth2"}, Signing: pointers("rsa"), Secret: new("short"),
	}
	fields := []string{
		"name", "url", "events", "filter", "rate_limit", "auth.oauth2.client_id", "auth.oauth2.client_secret", "auth.oauth2.token_url",
		"headers.Connection", "headers.Host", "secret", "secret", "signing",
	}
	told := func(err error) []string {
		var names []string
		for _, p := range Problems(err) {
			names = append(names, p.Field)
		}
		return names
	}
	_, _, err := o.Create(t.Context(), ada, wrong)
	if diff := cmp.Diff(fields, told(err)); diff != "" {
		t.Errorf("create (-want +got):\n%s", diff)
	}
	o.create(t, Settings{Name: new("crm"), Signing: pointers[string]()})
	_, _, err = o.Change(t.Context(), ada, "crm", wrong)
	if diff := cmp.Diff(fields, told(err)); diff != "" {
		t.Errorf("change (-want +got):\n%s", diff)
	}
	_, _, err = o.Create(t.Context(), ada, Settings{})
	if diff := cmp.Diff([]string{"name", "url"}, told(err)); diff != "" {
		t.Errorf("create of nothing (-want +got):\n%s", diff)
	}
	if Problems(ErrNotFound) != nil || Problems(nil) != nil {
		t.Error("other errors have problems")
	}
}

// What was asked for before and what is asked for now must fit each other.
func TestAChangeMustFitWhatIsThere(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	certificate, key := pair(t, time.Now().Add(time.Hour))
	o.create(t, Settings{Name: new("header"), Headers: &map[string]string{"Authorization": "a"}})
	o.create(t, Settings{Name: new("auth"), Auth: &AuthSettings{Kind: "bearer", Token: "a"}})
	o.create(t, Settings{Name: new("tls"), Auth: &AuthSettings{Certificate: certificate, PrivateKey: key}})
	for _, tt := range []struct {
		which, field string
		in           Settings
	}{
		{"header", "headers.Authorization", Settings{Auth: &AuthSettings{Kind: "bearer", Token: "a"}}},
		{"auth", "headers.AUTHORIZATION", Settings{Headers: &map[string]string{"AUTHORIZATION": "a"}}},
		{"tls", "url", Settings{URL: new("http://example.com")}},
		{"auth", "secret", Settings{Secret: new("a secret of one's own, long enough")}},
		{"auth", "secret", Settings{Secret: new("a secret of one's own, long enough"), Signing: pointers("hmac")}},
	} {
		_, _, err := o.Change(t.Context(), ada, tt.which, tt.in)
		if problems := Problems(err); len(problems) != 1 || problems[0].Field != tt.field {
			t.Errorf("%s: %v, want a problem of %s", tt.which, err, tt.field)
		}
	}
	o.change(t, "header", Settings{Headers: &map[string]string{}, Auth: &AuthSettings{Kind: "bearer", Token: "a"}})
	o.change(t, "tls", Settings{URL: new("http://example.com"), Auth: &AuthSettings{}})
}

// Secrets are shown to nobody: not to whoever may change a URL and reads what arrives
// at the new one, either.
func TestWhatIsKeptForOneHostIsNotSentToAnother(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	auth, headers := &AuthSettings{Kind: "bearer", Token: "a"}, &map[string]string{"X-Api-Key": "a"}
	certificate, key := pair(t, time.Now().Add(time.Hour))
	for i, tt := range []struct {
		name     string
		auth     *AuthSettings
		headers  *map[string]string
		in       Settings
		problems int
		toHost   string
	}{
		{name: "a token", auth: auth, toHost: "https://other.example/", problems: 1},
		{name: "a password", auth: &AuthSettings{Kind: "basic", Username: "a", Password: "b"}, toHost: "https://other.example/", problems: 1},
		{
			name: "access tokens", toHost: "https://other.example/", problems: 1,
			auth: &AuthSettings{Kind: "oauth2", OAuth2: OAuth2Settings{TokenURL: "https://auth.example.com/", ClientID: "a", ClientSecret: "b"}},
		},
		{name: "a header", headers: headers, toHost: "https://other.example/", problems: 1},
		{name: "both", auth: auth, headers: headers, toHost: "https://other.example/", problems: 2},
		{name: "one of both is said again", auth: auth, headers: headers, toHost: "https://other.example/", in: Settings{Auth: auth}, problems: 1},
		{name: "another port", auth: auth, toHost: "https://example.com:8443/hook", problems: 1},
		{name: "no encryption", auth: auth, toHost: "http://example.com/hook", problems: 1},
		{name: "no encryption on the same port", auth: auth, toHost: "http://example.com:443/hook", problems: 1},
		{name: "a host below", auth: auth, toHost: "https://example.com.other.example/hook", problems: 1},

		{name: "both are said again", auth: auth, headers: headers, toHost: "https://other.example/", in: Settings{Auth: auth, Headers: headers}},
		{name: "both go", auth: auth, headers: headers, toHost: "https://other.example/", in: Settings{Auth: &AuthSettings{Kind: "none"}, Headers: &map[string]string{}}},
		{name: "the same host", auth: auth, headers: headers, toHost: "https://example.com/other?a=b"},
		{name: "the same host, written otherwise", auth: auth, headers: headers, toHost: "https://EXAMPLE.com:443/other"},
		{name: "keys stay here", toHost: "https://other.example/"},
		{name: "a certificate's key stays here", auth: &AuthSettings{Certificate: certificate, PrivateKey: key}, toHost: "https://other.example/"},
	} {
		name := fmt.Sprintf("e%d", i)
		e, _ := o.create(t, Settings{Name: &name, Auth: tt.auth, Headers: tt.headers})
		tt.in.URL = &tt.toHost
		_, _, err := o.Change(t.Context(), ada, name, tt.in)
		problems := Problems(err)
		if len(problems) != tt.problems || (err != nil) != (tt.problems > 0) {
			t.Errorf("%s: %v, want %d problems", tt.name, err, tt.problems)
		}
		for _, p := range problems {
			if p.Field != "url" || strings.Contains(p.Problem, "X-Api-Key") {
				t.Errorf("%s: %v", tt.name, p)
			}
		}
		if got, err := o.Get(t.Context(), name); err != nil || (got.URL == e.URL) == (tt.problems == 0) {
			t.Errorf("%s: it is at %s, %v", tt.name, got.URL, err)
		}
	}
}
