package endpoint

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/internal/config"
)

func TestANewEndpointHasTheDefaults(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, secrets := o.create(t, Settings{Name: new("crm"), URL: new("https://example.com/hook?a=b")})
	if len(secrets) != 1 || !strings.HasPrefix(secrets[0].Secret, "whsec_") || len(secrets[0].Secret) != len("whsec_")+44 || len(secrets[0].KeyID) != 8 {
		t.Errorf("secrets %+v", secrets)
	}
	want := Endpoint{
		Name: "crm", URL: "https://example.com/hook?a=b", Events: []string{"*"}, UserIDs: []string{}, Form: "memrelay",
		BatchSize: 1, MaxInFlight: 32, Timeout: Duration(30 * time.Second),
		Keys: []KeyInfo{{ID: secrets[0].KeyID, Kind: "hmac"}}, Auth: AuthInfo{Kind: "none"}, HeaderNames: []string{}, Status: "active",
	}
	for _, wait := range StandardSchedule() {
		want.RetrySchedule = append(want.RetrySchedule, Duration(wait))
	}
	ignored := []cmp.Option{cmpopts.IgnoreFields(Endpoint{}, "ID", "CreatedAt", "UpdatedAt"), cmpopts.IgnoreFields(KeyInfo{}, "CreatedAt")}
	if diff := cmp.Diff(want, e, ignored...); diff != "" {
		t.Errorf("the endpoint (-want +got):\n%s", diff)
	}
	for _, which := range []string{"crm", e.ID.String()} {
		got, err := o.Get(t.Context(), which)
		if diff := cmp.Diff(e, got); err != nil || diff != "" {
			t.Errorf("%s (-made +got): %v\n%s", which, err, diff)
		}
	}
	if o.woken(t, e.ID) != 0 {
		t.Error("its lane was woken, and there is nothing to send")
	}
}

// full are settings of which none is the default.
func full(t *testing.T) Settings {
	t.Helper()
	certificate, key := pair(t, time.Now().Add(time.Hour))
	return Settings{
		Name: new("crm"), URL: new("https://example.com/hook"), Description: new("what the CRM's people see"),
		Events: &[]string{"memory_added", "event.dead", "memory_added"}, UserIDs: &[]string{"zoho:*", "ada"},
		Filter: new(json.RawMessage(`{"result": {"metadata.module": "Deals"}}`)), Form: new("standard"), Ordered: new(true),
		BatchSize: new(50), BatchWait: new(Duration(5 * time.Second)), RateLimit: new(0.1), MaxInFlight: new(4),
		Timeout: new(Duration(40 * time.Second)), RetrySchedule: &[]Duration{Duration(time.Second), Duration(time.Minute)},
		Headers: &map[string]string{"X-Team": "header secret", "x-Api-Key": "api secret"},
		Auth: &AuthSettings{
			Kind:        "oauth2",
			OAuth2:      OAuth2Settings{TokenURL: "https://auth.example.com/token", ClientID: "ours", ClientSecret: "client secret", Scopes: []string{"a", "b"}, Audience: "hooks"},
			Certificate: certificate, PrivateKey: key, Authorities: certificate,
		},
		Signing: &[]string{"hmac", "ed25519"}, Secret: new("a secret of one's own, long enough"),
	}
}

func TestANewEndpointIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	in := full(t)
	e, secrets := o.create(t, in)
	got, err := o.Get(t.Context(), "crm")
	if diff := cmp.Diff(e, got, cmpopts.IgnoreFields(Endpoint{}, "Filter")); err != nil || diff != "" {
		t.Errorf("(-made +got): %v\n%s", err, diff)
	}
	want := Endpoint{
		ID: e.ID, Name: "crm", URL: "https://example.com/hook", Description: "what the CRM's people see",
		Events: []string{"memory_added", "event.dead"}, UserIDs: []string{"zoho:*", "ada"},
		Form: "standard", Ordered: true, BatchSize: 50, BatchWait: Duration(5 * time.Second), RateLimit: 0.1, MaxInFlight: 4,
		Timeout: Duration(40 * time.Second), RetrySchedule: *in.RetrySchedule,
		Keys: []KeyInfo{{ID: secrets[1].KeyID, Kind: "ed25519", PublicKey: secrets[1].PublicKey}, {ID: secrets[0].KeyID, Kind: "hmac"}},
		Auth: AuthInfo{
			Kind: "oauth2", TokenURL: "https://auth.example.com/token", ClientID: "ours", Scopes: []string{"a", "b"}, Audience: "hooks",
			Certificate: &CertificateInfo{Subject: "CN=memrelay,O=Example"}, OwnAuthorities: true,
		},
		HeaderNames: []string{"X-Team", "x-Api-Key"}, Status: "active",
	}
	ignored := []cmp.Option{
		cmpopts.IgnoreFields(Endpoint{}, "CreatedAt", "UpdatedAt", "Filter"),
		cmpopts.IgnoreFields(KeyInfo{}, "CreatedAt"), cmpopts.IgnoreFields(CertificateInfo{}, "NotAfter"),
	}
	if diff := cmp.Diff(want, got, ignored...); diff != "" {
		t.Errorf("the endpoint (-want +got):\n%s", diff)
	}
	if got.Auth.Certificate.NotAfter.Before(time.Now()) || !jsonEqual(t, got.Filter, *in.Filter) {
		t.Errorf("certificate %+v, filter %s", got.Auth.Certificate, got.Filter)
	}
	c := o.plain(t, e.ID)
	if c.Auth.OAuth2.ClientSecret != "client secret" || c.Auth.PrivateKey != in.Auth.PrivateKey || c.Headers["X-Team"] != "header secret" ||
		c.Keys[1].Secret != *in.Secret || c.Keys[0].Secret != secrets[1].Secret || secrets[0].Secret != *in.Secret {
		t.Error("those who deliver get other credentials")
	}
}

func jsonEqual(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return cmp.Equal(x, y)
}

// Nodes that stop wait for what is under way as long as the settings allow.
func TestLongestTimeoutIsThatOfTheSettings(t *testing.T) {
	t.Parallel()
	if LongestTimeout != config.LongestTimeout {
		t.Errorf("%s, want %s", LongestTimeout, config.LongestTimeout)
	}
}

func TestAChangeChangesWhatIsAskedForAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		in     Settings
		change func(*Endpoint)
		woken  bool
	}{
		{"name", Settings{Name: new("other")}, func(e *Endpoint) { e.Name = "other" }, false},
		{"url", Settings{URL: new("https://example.com/other")}, func(e *Endpoint) { e.URL = "https://example.com/other"; e.ResumeAt = nil }, true},
		{"a url's query", Settings{URL: new("https://example.com/hook?token=new")}, func(e *Endpoint) { e.URL = "https://example.com/hook?token=new"; e.ResumeAt = nil }, true},
		{"description", Settings{Description: new("")}, func(e *Endpoint) { e.Description = "" }, false},
		{"events", Settings{Events: &[]string{"*"}}, func(e *Endpoint) { e.Events = []string{"*"} }, false},
		{"user_ids", Settings{UserIDs: &[]string{}}, func(e *Endpoint) { e.UserIDs = []string{} }, false},
		{"no filter", Settings{Filter: new(json.RawMessage(`null`))}, func(e *Endpoint) { e.Filter = nil }, false},
		{"form", Settings{Form: new("memrelay")}, func(e *Endpoint) { e.Form = "memrelay" }, true},
		{"ordered", Settings{Ordered: new(false)}, func(e *Endpoint) { e.Ordered = false }, true},
		{"batch_size", Settings{BatchSize: new(1)}, func(e *Endpoint) { e.BatchSize = 1 }, true},
		{"batch_wait", Settings{BatchWait: new(Duration(0))}, func(e *Endpoint) { e.BatchWait = 0 }, true},
		{"no rate limit", Settings{RateLimit: new(0.0)}, func(e *Endpoint) { e.RateLimit = 0 }, true},
		{"max_in_flight", Settings{MaxInFlight: new(256)}, func(e *Endpoint) { e.MaxInFlight = 256 }, true},
		{"timeout", Settings{Timeout: new(Duration(time.Second))}, func(e *Endpoint) { e.Timeout = Duration(time.Second) }, true},
		{"retry_schedule", Settings{RetrySchedule: &[]Duration{}}, func(e *Endpoint) { e.RetrySchedule = []Duration{} }, false},
		{"headers", Settings{Headers: &map[string]string{}}, func(e *Endpoint) { e.HeaderNames = []string{}; e.ResumeAt = nil }, true},
		{"a header's value", Settings{Headers: &map[string]string{"X-Team": "new", "x-Api-Key": "api secret"}}, func(e *Endpoint) { e.ResumeAt = nil }, true},
		{"auth", Settings{Auth: &AuthSettings{Kind: "bearer", Token: "token"}}, func(e *Endpoint) { e.Auth = AuthInfo{Kind: "bearer"}; e.ResumeAt = nil }, true},
		{"signing", Settings{Signing: &[]string{"hmac"}}, func(e *Endpoint) { e.Keys = e.Keys[1:]; e.ResumeAt = nil }, true},
		{"all as it is", full(t), func(*Endpoint) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, memrelayKey)
			in := full(t)
			if tt.name == "all as it is" {
				in = tt.in
				in.Secret = nil
				tt.in = in
			}
			e, _ := o.create(t, in)
			o.exec(t, `UPDATE endpoints SET resume_at = now() + interval '1 hour', failures = 3`)
			before, err := o.Get(t.Context(), "crm")
			if err != nil {
				t.Fatal(err)
			}
			lines := len(o.audits(t))

			got, secrets := o.change(t, "crm", tt.in)
			want := before
			tt.change(&want)
			nothing := tt.name == "all as it is"
			if !nothing {
				want.UpdatedAt = got.UpdatedAt
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the endpoint (-want +got):\n%s", diff)
			}
			if stored, err := o.Get(t.Context(), e.ID.String()); err != nil || !cmp.Equal(got, stored) {
				t.Errorf("what was stored differs: %v\n%s", err, cmp.Diff(got, stored))
			}
			if !nothing && !got.UpdatedAt.After(before.UpdatedAt) {
				t.Error("updated_at has not grown: nodes would go on with what they know")
			}
			if woken := o.woken(t, e.ID) == 1; woken != tt.woken {
				t.Errorf("woken: %t, want %t", woken, tt.woken)
			}
			if written := len(o.audits(t)) - lines; (written == 1) == nothing || len(secrets) != 0 {
				t.Errorf("%d lines of audit, %d secrets", written, len(secrets))
			}
		})
	}
}

// What is not shown of credentials is changed, too.
func TestAnotherTokenIsAChange(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm"), Auth: &AuthSettings{Kind: "bearer", Token: "a"}})
	got, _ := o.change(t, "crm", Settings{Auth: &AuthSettings{Kind: "bearer", Token: "b"}})
	if o.plain(t, e.ID).Auth.Token != "b" || !got.UpdatedAt.After(e.UpdatedAt) || o.woken(t, e.ID) != 1 {
		t.Error("the old one goes on being sent")
	}
	if after, _ := o.details(t)["after"].(map[string]any); after["auth"] == nil || len(after) != 1 {
		t.Errorf("the audit tells %v", after)
	}
}

// The limits of before do not go on for what they were.
func TestANewLimitCountsFromNow(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm"), RateLimit: new(0.001)})
	o.exec(t, `UPDATE endpoints SET rate_at = now() + interval '1 hour', full_until = now() + interval '1 hour'`)
	o.change(t, "crm", Settings{Description: new("d")})
	if one[int](t, o, `SELECT num_nonnulls(rate_at, full_until) FROM endpoints`) != 2 {
		t.Error("another change forgot what was sent")
	}
	o.change(t, "crm", Settings{RateLimit: new(5.0)})
	o.change(t, "crm", Settings{MaxInFlight: new(5)})
	if one[int](t, o, `SELECT num_nonnulls(rate_at, full_until) FROM endpoints`) != 0 || o.woken(t, e.ID) != 2 {
		t.Error("what waits goes on waiting")
	}
}

// Other credentials, or another URL, are tried at once: also where those of before could
// not be used, and where the endpoint is disabled and tried now and then.
func TestWhatIsAnewIsTriedAtOnce(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]string{
		"not ready": "full_until = now() + interval '1 hour'",
		"probed":    "status = 'disabled', probing = true, resume_at = now() + interval '1 hour'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t, memrelayKey)
			o.create(t, Settings{Name: new("crm")})
			o.exec(t, `UPDATE endpoints SET `+state)
			o.change(t, "crm", Settings{URL: new("https://example.com/other")})
			if !one[bool](t, o, `SELECT coalesce(due_at <= now() AND job_id IS NOT NULL, false) FROM endpoints`) {
				t.Error("the lane does not run")
			}
		})
	}
}

// What was under way when it was paused has ended, or is counted anew.
func TestAnEndpointThatIsResumedIsNotFull(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	o.create(t, Settings{Name: new("crm")})
	o.exec(t, `UPDATE endpoints SET status = 'paused', full_until = now() + interval '1 hour'`)
	if _, err := o.Resume(t.Context(), ada, "crm", ""); err != nil {
		t.Fatal(err)
	}
	if !one[bool](t, o, `SELECT coalesce(due_at <= now(), false) FROM endpoints`) {
		t.Error("the lane waits for leases to end")
	}
}

func TestAPausedEndpointIsChangedWithoutASound(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm")})
	if _, err := o.Pause(t.Context(), ada, "crm", ""); err != nil {
		t.Fatal(err)
	}
	got, _ := o.change(t, "crm", Settings{URL: new("https://example.com/other")})
	if got.Status != Paused || o.woken(t, e.ID) != 0 {
		t.Errorf("it is %s, woken %d times", got.Status, o.woken(t, e.ID))
	}
}

func TestTheAuditTellsWhatHasChanged(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm"), URL: new("https://example.com/hook?token=secret-query"), Filter: new(json.RawMessage(`{"a":1}`))})
	after, _ := o.details(t)["after"].(map[string]any)
	if len(after) != 17 || after["url"] != "https://example.com/hook?…" || after["name"] != "crm" {
		t.Errorf("create tells %v", after)
	}
	o.change(t, "crm", Settings{
		URL: new("https://example.com/hook?token=other"), MaxInFlight: new(5), Filter: new(json.RawMessage(`null`)),
		Auth: &AuthSettings{Kind: "bearer", Token: "hidden"}, Headers: &map[string]string{"X-Team": "hidden"},
	})
	want := map[string]any{
		"name": "crm",
		"before": map[string]any{
			"url": "https://example.com/hook?…", "max_in_flight": 32.0, "filter": map[string]any{"a": 1.0},
			"auth": map[string]any{"kind": "none"}, "headers": []any{},
		},
		"after": map[string]any{
			"url": "https://example.com/hook?…", "max_in_flight": 5.0, "filter": nil,
			"auth": map[string]any{"kind": "bearer"}, "headers": []any{"X-Team"},
		},
	}
	if diff := cmp.Diff(want, o.details(t)); diff != "" {
		t.Errorf("change tells (-want +got):\n%s", diff)
	}
	if _, err := o.Pause(t.Context(), ada, "crm", "they asked for it"); err != nil {
		t.Fatal(err)
	}
	if details := o.details(t); details["reason"] != "they asked for it" || details["name"] != "crm" {
		t.Errorf("pause tells %v", details)
	}
	if _, err := o.Resume(t.Context(), ada, "crm", "back"); err != nil {
		t.Fatal(err)
	}
	if before, _ := o.details(t)["before"].(map[string]any); before["status"] != "paused" || before["status_reason"] != "they asked for it" {
		t.Errorf("resume tells %v", before)
	}
	if _, _, err := o.Rotate(t.Context(), ada, "crm", "hmac", time.Hour, ""); err != nil {
		t.Fatal(err)
	}
	if details := o.details(t); details["kind"] != "hmac" || details["overlap"] != "1h0m0s" {
		t.Errorf("rotate tells %v", details)
	}
	if err := o.Delete(t.Context(), ada, "crm"); err != nil {
		t.Fatal(err)
	}
	var wantLines []string
	for _, action := range []string{"create", "change", "pause", "resume", "rotate", "delete"} {
		wantLines = append(wantLines, "token/ada endpoint."+action+" endpoint/"+e.ID.String()+" request-7")
	}
	if diff := cmp.Diff(wantLines, o.audits(t)); diff != "" {
		t.Errorf("audit (-want +got):\n%s", diff)
	}
}

func TestOfTwoOfTheSameNameOneIsMade(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	errs := make([]error, 8)
	var g errgroup.Group
	for i := range errs {
		g.Go(func() error {
			_, _, errs[i] = o.Create(t.Context(), ada, Settings{Name: new("crm"), URL: new("https://example.com")})
			return nil
		})
	}
	_ = g.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !errors.Is(err, ErrExists) {
			t.Errorf("error %v, want ErrExists", err)
		}
	}
	if made != 1 || len(o.audits(t)) != 1 {
		t.Errorf("%d were made, %d lines of audit", made, len(o.audits(t)))
	}
	o.create(t, Settings{Name: new("other")})
	if _, _, err := o.Change(t.Context(), ada, "other", Settings{Name: new("crm")}); !errors.Is(err, ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := o.Delete(t.Context(), ada, "crm"); err != nil {
		t.Fatal(err)
	}
	o.change(t, "other", Settings{Name: new("crm")}) // the name is free
}

// Whoever changes secrets locks the row before reading them.
func TestChangesAtTheSameTimeLoseNothing(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm")})
	var g errgroup.Group
	for i := range 4 {
		g.Go(func() error {
			_, _, err := o.Rotate(t.Context(), ada, "crm", "hmac", time.Hour, "")
			return err
		})
		g.Go(func() error {
			settings := []Settings{
				{Headers: &map[string]string{"X-Team": "b"}}, {Auth: &AuthSettings{Kind: "bearer", Token: "token"}},
				{Description: new("d")}, {Signing: &[]string{"hmac", "ed25519"}},
			}
			_, _, err := o.Change(t.Context(), ada, "crm", settings[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	c := o.plain(t, e.ID)
	if c.count("hmac") != 5 || c.count("ed25519") != 1 || c.Headers["X-Team"] != "b" || c.Auth.Token != "token" {
		t.Errorf("there are %d and %d keys, %d headers, auth %q", c.count("hmac"), c.count("ed25519"), len(c.Headers), c.Auth.Kind)
	}
	if got, err := o.Get(t.Context(), "crm"); err != nil || got.Description != "d" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestListTellsHowMuchIsOpen(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	for _, name := range []string{"c", "a", "b"} {
		o.create(t, Settings{Name: &name, Signing: &[]string{}})
	}
	b, err := o.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		o.waiting(t, b.ID)
	}
	// Two due, two that wait for an earlier one, two in a batch, and two that have ended.
	batch := uuid.New()
	o.exec(t, `UPDATE deliveries SET status = (ARRAY['pending','retrying','waiting','waiting','batched','batched','delivered','dead'])[id],
		order_key = CASE WHEN id IN (3, 4) THEN 'a' END, batch_id = CASE WHEN id IN (5, 6) THEN $1::uuid END`, batch)
	o.exec(t, `INSERT INTO deliveries (endpoint_id, batch_id) VALUES ($1, $2)`, b.ID, batch)
	all, err := o.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]int64{}
	var names []string
	for _, e := range all {
		open[e.Name] = e.Open
		names = append(names, e.Name)
	}
	if diff := cmp.Diff(map[string]int64{"a": 0, "b": 6, "c": 0}, open); diff != "" || !cmp.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("%v (-want +got):\n%s", names, diff)
	}
}

// Whoever changes an endpoint either does all of it or nothing.
func TestAChangeThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	o.create(t, Settings{Name: new("crm")})
	state := func() string {
		return one[string](t, o, `SELECT md5(string_agg(row::text, ';')) FROM (SELECT p::text AS row FROM endpoints p UNION ALL SELECT a::text FROM audit_log a UNION ALL SELECT j::text FROM river_job j) AS rows`)
	}
	before := state()
	o.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused on purpose'; END $$`)
	for _, table := range []string{"audit_log", "river_job"} {
		o.exec(t, `CREATE TRIGGER refuse BEFORE INSERT ON `+table+` FOR EACH ROW EXECUTE FUNCTION refuse()`)
		_, _, create := o.Create(t.Context(), ada, Settings{Name: new("other"), URL: new("https://example.com")})
		_, _, change := o.Change(t.Context(), ada, "crm", Settings{MaxInFlight: new(1)})
		_, resume := o.Resume(t.Context(), ada, "crm", "")
		for i, err := range []error{create, change, resume, o.Delete(t.Context(), ada, "crm")} {
			if err == nil && (table != "river_job" || i != 0) { // a new endpoint has nothing to send
				t.Errorf("%s, %d: no error", table, i)
			}
		}
		if table == "audit_log" && state() != before {
			t.Errorf("%s: something was left behind", table)
		}
		o.exec(t, `DROP TRIGGER refuse ON `+table)
	}
	if e, err := o.Get(t.Context(), "crm"); err != nil || e.MaxInFlight != 32 {
		t.Errorf("%+v, %v", e, err)
	}
}
