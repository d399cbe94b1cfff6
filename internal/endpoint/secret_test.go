package endpoint

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// at is the same database, at another time.
func (o *office) at(now time.Time) *office {
	s := *o.Store
	s.now = func() time.Time { return now }
	return &office{Store: &s, pool: o.pool, jobs: o.jobs}
}

func (o *office) rotate(t *testing.T, kind string, overlap time.Duration, secret string) Secret {
	t.Helper()
	_, made, err := o.Rotate(t.Context(), ada, "crm", kind, overlap, secret)
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != 1 || made[0].Kind != kind {
		t.Fatalf("made %+v", made)
	}
	return made[0]
}

func TestRotateLetsOldKeysSignForAWhile(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	start := time.Now().UTC().Truncate(time.Microsecond)
	e, first := o.at(start).create(t, Settings{Name: new("crm"), Signing: &[]string{"hmac", "ed25519"}})
	second := o.at(start).rotate(t, KeyHMAC, 24*time.Hour, "")
	third := o.at(start.Add(time.Hour)).rotate(t, KeyHMAC, 7*24*time.Hour, "another secret of one's own")
	ed := o.at(start.Add(time.Hour)).rotate(t, KeyEd25519, 0, "")

	type key struct {
		kind, secret string
		expires      time.Duration // after the start; 0: never
	}
	shown := func(c Credentials) (keys []key) {
		for _, k := range c.Keys {
			s := key{kind: k.Kind, secret: k.Secret}
			if k.ExpiresAt != nil {
				s.expires = k.ExpiresAt.Sub(start)
			}
			keys = append(keys, s)
		}
		return keys
	}
	want := []key{
		{KeyEd25519, ed.Secret, 0}, // an overlap of 0 ends the old one at once
		{KeyHMAC, third.Secret, 0},
		{KeyHMAC, second.Secret, 7*24*time.Hour + time.Hour},
		{KeyHMAC, first[0].Secret, 24 * time.Hour}, // not later than was said before
	}
	if diff := cmp.Diff(want, shown(o.plain(t, e.ID)), cmp.AllowUnexported(key{})); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if got, err := o.at(start.Add(25*time.Hour)).Get(t.Context(), "crm"); err != nil || len(got.Keys) != 3 {
		t.Errorf("a day later %d keys are shown, %v", len(got.Keys), err)
	}
	o.at(start.Add(25*time.Hour)).rotate(t, KeyEd25519, time.Hour, "")
	if n := len(o.plain(t, e.ID).Keys); n != 4 {
		t.Errorf("%d keys are kept: those that sign no more are forgotten", n)
	}
	public, err := PublicKey(ed.Secret)
	if err != nil || ed.PublicKey != public || third.Secret != "another secret of one's own" || third.PublicKey != "" {
		t.Errorf("made %+v and %+v, %v", ed, third, err)
	}
}

func TestFiveKeysOfAKindSignAtMost(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm"), Signing: &[]string{"hmac", "ed25519"}})
	for range 4 {
		o.rotate(t, KeyHMAC, time.Hour, "")
	}
	_, _, err := o.Rotate(t.Context(), ada, "crm", KeyHMAC, time.Hour, "")
	if problems := Problems(err); len(problems) != 1 || problems[0].Field != "overlap" {
		t.Errorf("the sixth: %v", err)
	}
	o.rotate(t, KeyEd25519, time.Hour, "")
	o.rotate(t, KeyHMAC, 0, "")
	if c := o.plain(t, e.ID); c.count(KeyHMAC) != 1 || c.count(KeyEd25519) != 2 {
		t.Errorf("keys: %d and %d", c.count(KeyHMAC), c.count(KeyEd25519))
	}
	for range 4 {
		o.rotate(t, KeyHMAC, time.Hour, "")
	}
	o.at(time.Now().Add(2*time.Hour)).rotate(t, KeyHMAC, time.Hour, "") // the others have expired
}

func TestRotateRefuses(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	o.create(t, Settings{Name: new("crm"), Secret: new("a secret of one's own, long enough")})
	before := len(o.audits(t))
	for _, tt := range []struct {
		name, kind, secret, field string
		overlap                   time.Duration
	}{
		{"a kind that is none", "rsa", "", "kind", 0},
		{"a kind that it does not sign by", KeyEd25519, "", "kind", 0},
		{"a negative overlap", KeyHMAC, "", "overlap", -1},
		{"a long overlap", KeyHMAC, "", "overlap", 7*24*time.Hour + 1},
		{"a short secret", KeyHMAC, "short", "secret", 0},
		{"a secret of another kind", KeyEd25519, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "secret", 0},
		{"the secret that it has", KeyHMAC, "a secret of one's own, long enough", "secret", 0},
	} {
		_, made, err := o.Rotate(t.Context(), ada, "crm", tt.kind, tt.overlap, tt.secret)
		if problems := Problems(err); len(problems) != 1 || problems[0].Field != tt.field || made != nil {
			t.Errorf("%s: %v, want a problem of %s", tt.name, err, tt.field)
		}
	}
	if len(o.audits(t)) != before {
		t.Error("the audit tells of what was not done")
	}
}

// Nodes know an endpoint by its id and updated_at.
func TestRotateTellsTheNodes(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm")})
	got, _, err := o.Rotate(t.Context(), ada, "crm", KeyHMAC, 0, "")
	if err != nil || !got.UpdatedAt.After(e.UpdatedAt) || len(got.Keys) != 1 || got.Keys[0].ID == e.Keys[0].ID {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSigningMakesAndForgetsKeys(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, first := o.create(t, Settings{Name: new("crm"), Signing: &[]string{}})
	if len(first) != 0 || len(e.Keys) != 0 {
		t.Errorf("made %v", first)
	}
	_, made := o.change(t, "crm", Settings{Signing: &[]string{"ed25519", "hmac"}, Secret: new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")})
	if len(made) != 2 || made[0].Kind != KeyEd25519 || made[1].Secret != "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" {
		t.Errorf("made %+v", made)
	}
	got, made := o.change(t, "crm", Settings{Signing: &[]string{"hmac", "ed25519"}})
	if len(made) != 0 || len(got.Keys) != 2 {
		t.Errorf("what is as it was asked for made %+v", made)
	}
	got, made = o.change(t, "crm", Settings{Signing: &[]string{"ed25519"}})
	if len(made) != 0 || len(got.Keys) != 1 || got.Keys[0].Kind != KeyEd25519 {
		t.Errorf("made %+v, keys %+v", made, got.Keys)
	}
	_, made = o.change(t, "crm", Settings{Signing: &[]string{"ed25519", "hmac"}})
	if len(made) != 1 || made[0].Secret == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" {
		t.Errorf("a key that was forgotten is back: %+v", made)
	}
	if c := o.plain(t, e.ID); c.Keys[0].Secret != made[0].Secret {
		t.Error("another key is kept than was shown")
	}
}

// Randomness that fails makes no key of zeros.
func TestNoKeyWithoutRandomness(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	o.random = bytes.NewReader(make([]byte, 20))
	if _, _, err := o.Create(t.Context(), ada, Settings{Name: new("crm"), URL: new("https://example.com")}); err == nil || errors.Is(err, ErrInvalid) {
		t.Errorf("error %v", err)
	}
}

func TestKeysThatAreMadeAreOnesOfTheirKind(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	_, made := o.create(t, Settings{Name: new("crm"), Signing: &[]string{"hmac", "ed25519"}})
	for _, s := range made {
		if problem := secretProblem(s.Kind, s.Secret); problem != "" {
			t.Errorf("%s: %s", s.Kind, problem)
		}
	}
	if len(made) != 2 || !strings.HasPrefix(made[1].PublicKey, "whpk_") || made[0].KeyID == made[1].KeyID {
		t.Errorf("made %+v", made)
	}
}
