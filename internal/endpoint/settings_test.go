package endpoint

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSettingsAreReadAsTheyAreSent(t *testing.T) {
	t.Parallel()
	var got Settings
	err := json.Unmarshal([]byte(`{"name":"crm","url":"https://example.com","description":null,"events":["*"],"user_ids":[],"filter":{"a":1},
		"form":"standard","ordered":true,"batch_size":2,"batch_wait":1.5,"rate_limit":0.5,"max_in_flight":3,"timeout":"10s",
		"retry_schedule":["5s",300,"1h30m"],"headers":{"A":"b"},"auth":{"kind":"oauth2","oauth2":{"token_url":"u","client_id":"i","client_secret":"s","scopes":["a"],"audience":"x"}},
		"signing":["ed25519"],"secret":"s"}`), &got)
	want := Settings{
		Name: new("crm"), URL: new("https://example.com"), Events: &[]string{"*"}, UserIDs: &[]string{}, Filter: new(json.RawMessage(`{"a":1}`)),
		Form: new("standard"), Ordered: new(true), BatchSize: new(2), BatchWait: new(Duration(1500 * time.Millisecond)), RateLimit: new(0.5),
		MaxInFlight: new(3), Timeout: new(Duration(10 * time.Second)),
		RetrySchedule: &[]Duration{Duration(5 * time.Second), Duration(5 * time.Minute), Duration(90 * time.Minute)},
		Headers:       &map[string]string{"A": "b"}, Signing: &[]string{"ed25519"}, Secret: new("s"),
		Auth: &AuthSettings{Kind: "oauth2", OAuth2: OAuth2Settings{TokenURL: "u", ClientID: "i", ClientSecret: "s", Scopes: []string{"a"}, Audience: "x"}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	encoded, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var again Settings
	if err := json.Unmarshal(encoded, &again); err != nil || !cmp.Equal(want, again) {
		t.Errorf("%s is read as %+v, %v", encoded, again, err)
	}
}

// null is what is not asked for, but a filter that is null is none.
func TestANullFilterIsAskedFor(t *testing.T) {
	t.Parallel()
	var got Settings
	if err := json.Unmarshal([]byte(`{"filter":null,"url":null,"headers":null}`), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Settings{Filter: new(json.RawMessage(`null`))}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSettingsThatAreNoneAreAllNamed(t *testing.T) {
	t.Parallel()
	err := json.Unmarshal([]byte(`{"urls":"x","url":5,"timeout":"soon","retry_schedule":[null],"headers":{"A":1},"auth":{"kind":"bearer","tokn":"secret"},"batch_wait":1e300,"rate_limit":"fast"}`), new(Settings))
	got := map[string]string{}
	for _, p := range Problems(err) {
		got[p.Field] = p.Problem
	}
	want := map[string]string{
		"auth":       "want an object: kind, and token, username and password, or oauth2; certificate, private_key, authorities",
		"batch_wait": `want a duration as "30s", or a number of seconds`, "headers": "want an object of texts", "rate_limit": "want a number",
		"retry_schedule": `want a list of durations, as ["5s", "5m"]`, "timeout": `want a duration as "30s", or a number of seconds`, "url": "want a text",
		"urls": "is no setting: there are auth, batch_size, batch_wait, description, events, form, headers, max_in_flight, name, ordered, rate_limit, retry_schedule, secret, signing, timeout, url, user_ids, filter",
	}
	if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, ErrInvalid) {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, text := range []string{`[]`, `"a"`, `5`} {
		if err := json.Unmarshal([]byte(text), new(Settings)); err == nil || !strings.Contains(err.Error(), "want an object of settings") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestDurationsAreShownAsGoDoes(t *testing.T) {
	t.Parallel()
	encoded, err := json.Marshal([]Duration{Duration(30 * time.Second), Duration(5 * time.Minute), Duration(1500 * time.Millisecond), 0})
	if want := `["30s","5m0s","1.5s","0s"]`; err != nil || string(encoded) != want {
		t.Errorf("%s, %v; want %s", encoded, err, want)
	}
}
