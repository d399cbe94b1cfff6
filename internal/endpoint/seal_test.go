package endpoint

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/seal"
)

// Whoever only has the database reads no secret in it, whatever was done.
func TestNoSecretStandsInTheDatabase(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	in := full(t)
	_, made := o.create(t, in)
	secrets := map[string]string{
		"own hmac": *in.Secret, "header": "header secret", "other header": "api secret", "client secret": "client secret",
		"private key": strings.Split(in.Auth.PrivateKey, "\n")[1], "ed25519": made[1].Secret, "query of a url": "query-secret", "query of a token_url": "other-query",
	}
	add := func(name string, all []Secret) {
		for i, s := range all {
			secrets[fmt.Sprintf("%s %d", name, i)] = s.Secret
		}
	}
	add("create", made)
	_, made = o.change(t, "crm", Settings{
		Headers: &map[string]string{"X-Other": "changed header"}, Auth: &AuthSettings{Kind: "basic", Username: "ada", Password: "the password"},
	})
	add("change", made)
	secrets["changed header"], secrets["password"] = "changed header", "the password"
	o.change(t, "crm", Settings{Auth: &AuthSettings{Kind: "bearer", Token: "the-token"}})
	secrets["token"] = "the-token"
	for _, kind := range []string{KeyHMAC, KeyEd25519} {
		_, made, err := o.Rotate(t.Context(), ada, "crm", kind, time.Hour, "")
		if err != nil {
			t.Fatal(err)
		}
		add("rotate "+kind, made)
	}
	_, made, err := o.Rotate(t.Context(), ada, "crm", KeyHMAC, time.Hour, "another secret of one's own")
	if err != nil {
		t.Fatal(err)
	}
	add("rotate own", made)
	// The audit does not tell what a URL was.
	o.change(t, "crm", Settings{URL: new("https://example.com/?t=query-secret"), Auth: &AuthSettings{
		Kind: "oauth2", OAuth2: OAuth2Settings{TokenURL: "https://example.com/?t=other-query", ClientID: "a", ClientSecret: "b-secret"},
	}})
	o.change(t, "crm", Settings{URL: new("https://example.com/")})
	if _, _, err := o.Create(t.Context(), ada, Settings{Name: new("refused"), URL: new("https://u:the-token@example.com"), Secret: new("the-token")}); err == nil || strings.Contains(err.Error(), "the-token") {
		t.Errorf("the refusal quotes a secret: %v", err)
	}

	dump := one[string](t, o, `SELECT string_agg(row, E'\n') FROM (SELECT p::text AS row FROM endpoints p UNION ALL SELECT a::text FROM audit_log a UNION ALL SELECT j::text FROM river_job j) AS rows`)
	all, err := o.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%+v", all)
	for name, secret := range secrets {
		for _, form := range []string{
			secret, strings.TrimPrefix(strings.TrimPrefix(secret, "whsec_"), "whsk_"), hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)),
		} {
			if strings.Contains(dump, form) {
				t.Errorf("%s stands in the database", name)
			}
			if strings.Contains(shown, form) && !strings.HasPrefix(name, "query") { // operators see URLs as they are
				t.Errorf("%s is shown", name)
			}
		}
	}
	if len(o.audits(t)) != 8 || !strings.Contains(dump, "X-Other") {
		t.Errorf("the audit has %d lines", len(o.audits(t)))
	}
}

func TestCredentialsOpenInTheirOwnRowAlone(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	a, _ := o.create(t, Settings{Name: new("a")})
	b, _ := o.create(t, Settings{Name: new("b")})
	o.exec(t, `UPDATE endpoints SET sealed = (SELECT sealed FROM endpoints WHERE name = 'a') WHERE name = 'b'`)
	if _, err := Open(o.box, b.ID, one[[]byte](t, o, `SELECT sealed FROM endpoints WHERE name = 'b'`)); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("moved to another row: %v", err)
	}
	if got, err := o.Get(t.Context(), "b"); err != nil || got.Locked == "" || len(got.Keys) != 0 {
		t.Errorf("it is shown as %+v, %v", got, err)
	}
	if c := o.plain(t, a.ID); len(c.Keys) != 1 {
		t.Errorf("in its own row: %s", c)
	}
	if c, err := Open(o.box, a.ID, nil); err != nil || !c.empty() {
		t.Errorf("of nothing: %s, %v", c, err)
	}
	if _, err := Open(o.box, uuid.New(), []byte("no seal")); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("of something else: %v", err)
	}
}

func TestANewKeyInFrontOpensWhatTheOldOneSealed(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, secrets := o.create(t, Settings{Name: new("crm")})
	both := o.keyed(t, "another key that nobody guesses", memrelayKey)
	if c := both.plain(t, e.ID); c.Keys[0].Secret != secrets[0].Secret {
		t.Error("another secret")
	}
	both.change(t, "crm", Settings{Headers: &map[string]string{"X-Team": "a"}})
	if got, err := o.Get(t.Context(), "crm"); err != nil || !strings.Contains(got.Locked, "MEMRELAY_KEY") {
		t.Errorf("the old key opens what the new one sealed: %+v, %v", got, err)
	}
	if c := o.keyed(t, "another key that nobody guesses").plain(t, e.ID); c.Keys[0].Secret != secrets[0].Secret || c.Headers["X-Team"] != "a" {
		t.Error("the new key alone opens it not")
	}
	other := o.keyed(t, "quite a third one of them")
	for name, in := range map[string]Settings{"headers": {Headers: &map[string]string{}}, "signing": {Signing: &[]string{"ed25519"}}} {
		if _, _, err := other.Change(t.Context(), ada, "crm", in); !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("another key changes %s: %v", name, err)
		}
	}
}

// Whoever has lost a key need not lose the endpoint with all that waits for it.
func TestWhatNoKeyOpensCanBeReplaced(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]Settings{
		"by other secrets": {Auth: &AuthSettings{Kind: "bearer", Token: "new"}, Headers: &map[string]string{"X-Team": "new"}, Signing: &[]string{"hmac"}},
		"by a secret of one's own, elsewhere": {
			Auth: &AuthSettings{Kind: "none"}, Headers: &map[string]string{}, Signing: &[]string{"hmac"},
			Secret: new("a secret of one's own, long enough"), URL: new("https://other.example/"),
		},
		"by none": {Auth: &AuthSettings{Kind: "none"}, Headers: &map[string]string{}, Signing: &[]string{}},
	} {
		o := newOffice(t, memrelayKey)
		before, _ := o.create(t, Settings{Name: new("crm"), Auth: &AuthSettings{Kind: "bearer", Token: "old"}, Headers: &map[string]string{"X-Old": "a"}})
		other := o.keyed(t, "another key that nobody guesses")
		if got, err := other.Get(t.Context(), "crm"); err != nil || got.Locked == "" {
			t.Fatalf("%s: it is not locked: %+v, %v", name, got, err)
		}
		got, made := other.change(t, "crm", in)
		if got.Locked != "" || len(made) != len(*in.Signing) || !got.UpdatedAt.After(before.UpdatedAt) {
			t.Errorf("%s: locked %q, %d secrets", name, got.Locked, len(made))
		}
		if c := other.plain(t, got.ID); c.Auth.Token != in.Auth.Token || len(c.Headers) != len(*in.Headers) || len(c.Keys) != len(*in.Signing) {
			t.Errorf("%s: %s", name, c)
		}
		told, _ := other.details(t)["before"].(map[string]any)
		if told["auth"] != "locked" || told["headers"] != "locked" || told["keys"] != "locked" {
			t.Errorf("%s: the audit tells %v", name, told)
		}
		if err := other.Delete(t.Context(), ada, "crm"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutAKeyNoSecretIsStored(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for name, in := range map[string]Settings{
		"signing": {}, "a secret": {Secret: new("a secret of one's own, long enough")},
		"auth":    {Signing: &[]string{}, Auth: &AuthSettings{Kind: "bearer", Token: "a"}},
		"headers": {Signing: &[]string{}, Headers: &map[string]string{"A": "b"}},
	} {
		in.Name, in.URL = new("crm"), new("https://example.com")
		if _, secrets, err := o.Create(t.Context(), ada, in); !errors.Is(err, ErrNoKey) || secrets != nil {
			t.Errorf("%s: %v, want ErrNoKey", name, err)
		}
	}
	if one[int](t, o, `SELECT (SELECT count(*) FROM endpoints) + (SELECT count(*) FROM audit_log)`) != 0 {
		t.Error("something was stored")
	}

	// One without a secret needs no key.
	e, secrets := o.create(t, Settings{Name: new("open"), Signing: &[]string{}})
	o.change(t, "open", Settings{URL: new("https://example.com/other"), Headers: &map[string]string{}, Auth: &AuthSettings{Kind: "none"}, Signing: &[]string{}})
	if len(secrets) != 0 || one[[]byte](t, o, `SELECT sealed FROM endpoints WHERE id = $1`, e.ID) != nil {
		t.Error("something was sealed")
	}
	for name, in := range map[string]Settings{"signing": {Signing: &[]string{"hmac"}}, "headers": {Headers: &map[string]string{"A": "b"}}} {
		if _, _, err := o.Change(t.Context(), ada, "open", in); !errors.Is(err, ErrNoKey) {
			t.Errorf("change of %s: %v, want ErrNoKey", name, err)
		}
	}

	// One that has secrets goes on, as far as they need not be read.
	o.keyed(t, memrelayKey).create(t, Settings{Name: new("crm")})
	if _, _, err := o.Rotate(t.Context(), ada, "crm", KeyHMAC, 0, ""); !errors.Is(err, ErrNoKey) {
		t.Errorf("rotate: %v, want ErrNoKey", err)
	}
	got, _ := o.change(t, "crm", Settings{MaxInFlight: new(2)})
	if got.MaxInFlight != 2 || got.Locked == "" {
		t.Errorf("it is shown as %+v", got)
	}
	if back, err := o.keyed(t, memrelayKey).Get(t.Context(), "crm"); err != nil || len(back.Keys) != 1 {
		t.Errorf("with the key it is shown as %+v, %v", back, err)
	}
}
