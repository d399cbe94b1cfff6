package connection

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
)

func (s *station) wantState(t *testing.T, want Status) {
	t.Helper()
	got, err := State(t.Context(), db.New(s.pool))
	if err != nil {
		t.Fatal(err)
	}
	compare := cmp.Options{cmpopts.EquateApproxTime(time.Minute), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{fromEnv, fromCode, clientSecret, "1000.access"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the state says %s", secret)
		}
	}
}

func TestState(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	in := func(d time.Duration) *time.Time { at := time.Now().Add(d); return &at }
	none := Status{State: StateNone, Remedy: "run `memrelay zoho connect`, or set ZOHO_REFRESH_TOKEN"}
	s.wantState(t, none)

	key := box(t, memrelayKey)
	s.connect(t, key)
	connected := Status{
		State: StateOK, Stored: true, ClientID: clientID, AccountsURL: s.accounts.URL, APIURL: "https://api.invalid",
		Scopes: []string{"ZohoCRM.modules.ALL"}, AccessUntil: in(time.Hour),
	}
	s.wantState(t, connected)

	s.accounts.answers(tooMany)
	wantRefusal(t, s.keyed(t, key, stored), "1000.access.connect", zoho.KindThrottled)
	blocked := connected
	blocked.BlockedUntil = in(10 * time.Minute)
	blocked.LastError = one[string](t, s, `SELECT last_error FROM zoho_tokens WHERE last_error LIKE '%too many%'`)
	s.wantState(t, blocked)

	s.accounts.answers(refuse)
	s.exec(t, `UPDATE zoho_tokens SET blocked_until = now()`)
	said := refusalOf(t, s.keyed(t, key, stored), "1000.access.connect", zoho.KindUnauthorized)
	s.breaker(t).Report(t.Context(), said)
	revoked := connected
	revoked.State, revoked.Remedy, revoked.LastError = StateRevoked, "run `memrelay zoho connect`", said.Error()
	revoked.Breaker = breaker.Status{
		Open: true, OpenedAt: in(0), OpenUntil: in(time.Minute), Failures: mostFailures, Reason: "unauthorized: " + said.Error(),
	}
	s.wantState(t, revoked)

	// Connecting anew ends all that: nobody waits for the breaker.
	s.connect(t, key)
	s.wantState(t, connected)
	wantAllowed(t, s.breaker(t))

	if err := Forget(t.Context(), s.pool, "a person"); err != nil {
		t.Fatal(err)
	}
	s.wantState(t, none)

	// Who did it is on record; what is secret is not.
	trail := one[string](t, s, `SELECT string_agg(concat_ws(' ', actor, action, object, details), E'\n' ORDER BY id) FROM audit_log`)
	if strings.Count(trail, "a person zoho.connect zoho") != 2 || strings.Count(trail, "a person zoho.disconnect zoho {}") != 1 || strings.Contains(trail, fromCode) {
		t.Errorf("the audit log says:\n%s", trail)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := State(ctx, db.New(s.pool)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// Whoever has just connected does not wait for what the channels' failures put off.
func TestConnectingMakesTheChannelsDueThatFailed(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.exec(t, `INSERT INTO channels (channel_id, module, state, failures, due_at) VALUES
		('1', 'Accounts', 'pending', 3, now() + interval '1 hour'), ('2', 'Contacts', 'lost', 1, now() + interval '1 hour'),
		('3', 'Deals', 'active', 0, now() + interval '1 hour'), ('4', 'Tasks', 'paused', 1, NULL),
		('5', 'Calls', 'active', 2, now() - interval '1 hour')`)
	s.connect(t, box(t, memrelayKey))
	got := one[string](t, s, `SELECT string_agg(channel_id || ' ' || coalesce(round(extract(epoch FROM due_at - now()) / 3600)::text, 'never'), ', '
		ORDER BY channel_id) FROM channels`)
	if want := "1 0, 2 0, 3 1, 4 never, 5 -1"; strings.ReplaceAll(got, "-0", "0") != want {
		t.Errorf("due in hours: %s, want %s", got, want)
	}
}

func TestStored(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	key := box(t, memrelayKey)
	if _, err := Stored(t.Context(), db.New(s.pool), key); !errors.Is(err, ErrNotConnected) {
		t.Errorf("error %v, want ErrNotConnected", err)
	}
	if err := Store(t.Context(), s.pool, box(t), Grant{}, "a person", time.Now()); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("stored without a key: %v", err)
	}
	s.connect(t, key)
	g, err := Stored(t.Context(), db.New(s.pool), key)
	want := Grant{ClientID: clientID, AccountsURL: s.accounts.URL, Token: zoho.Token{
		Refresh: fromCode, APIDomain: "https://api.invalid", Scopes: []string{"ZohoCRM.modules.ALL"},
	}}
	if diff := cmp.Diff(want, g); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	g, err = Stored(t.Context(), db.New(s.pool), box(t, "quite another one of them"))
	if !errors.Is(err, seal.ErrWrongKey) || g.AccountsURL != s.accounts.URL {
		t.Errorf("%v, of %q; want ErrWrongKey and where it is of", err, g.AccountsURL)
	}

	// With a refresh token in the environment nothing is stored.
	if err := Forget(t.Context(), s.pool, "a person"); err != nil {
		t.Fatal(err)
	}
	wantToken(t, s.process(t), "", access(1))
	if _, err := Stored(t.Context(), db.New(s.pool), key); !errors.Is(err, ErrNotConnected) {
		t.Errorf("error %v, want ErrNotConnected", err)
	}
}
