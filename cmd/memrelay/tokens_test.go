package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/dbtest"
)

// auditedTokens are the lines that operators leave behind about tokens.
func auditedTokens(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var lines string
	err := pool.QueryRow(t.Context(), `SELECT coalesce(string_agg(action || ' ' || (details ->> 'name') || ' ' || (actor LIKE 'command line, %')::text, '; ' ORDER BY id), '')
		FROM audit_log WHERE object LIKE 'token/%'`).Scan(&lines)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestTheLifeOfAToken(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)

	made := command(t, url, "tokens", "create", "bot")
	if made.code != exitDone || !regexp.MustCompile(`^mrt_[A-Za-z0-9_-]{43}\n$`).MatchString(made.out) {
		t.Fatalf("exit code %d, printed %q, said %q", made.code, made.out, made.err)
	}
	if want := "Token bot may use memory for everybody, until it is revoked. It is shown this once:\n"; made.err != want {
		t.Errorf("said %q, want %q", made.err, want)
	}
	before := time.Now()
	limited := decode[admin.MadeToken](t, command(t, url, "tokens", "create", "reader", "--user=zoho:77", "--user=ada, the first", "--scope=memory",
		"--scope=admin:read", "--expires=90d", "--json"))
	want := access.Token{ID: limited.ID, Name: "reader", Scopes: []string{"admin:read", "memory"}, UserIDs: []string{"ada, the first", "zoho:77"}}
	if diff := cmp.Diff(want, limited.Token, cmpopts.IgnoreFields(access.Token{}, "CreatedAt", "ExpiresAt")); diff != "" {
		t.Errorf("made (-want +got):\n%s", diff)
	}
	if lasts := limited.ExpiresAt.Sub(before); lasts < 90*24*time.Hour-time.Minute || lasts > 90*24*time.Hour+time.Minute {
		t.Errorf("lasts %s, want 90 days", lasts)
	}

	listed := command(t, url, "tokens", "list").done(t)
	for _, want := range []string{`bot +active +memory +everybody`, `reader +active +admin:read,memory +ada, the first, zoho:77`} {
		if !regexp.MustCompile(want).MatchString(listed) {
			t.Errorf("the list does not say %s:\n%s", want, listed)
		}
	}
	if secret := strings.TrimSpace(made.out); strings.Contains(listed, secret) || strings.Contains(listed, limited.Secret) {
		t.Error("the list says a secret")
	}

	if got := command(t, url, "tokens", "revoke", "bot", "--yes").done(t); got != "Token bot revoked.\n" {
		t.Errorf("printed %q", got)
	}
	command(t, url, "tokens", "revoke", limited.ID.String(), "--yes", "--json").done(t)
	for _, a := range decode[[]access.Token](t, command(t, url, "tokens", "list", "--json")) {
		if a.RevokedAt == nil {
			t.Errorf("%s is not revoked", a.Name)
		}
	}
	wantAudit := "token.create bot true; token.create reader true; token.revoke bot true; token.revoke reader true"
	if got := auditedTokens(t, pool); got != wantAudit {
		t.Errorf("audited %s\nwant %s", got, wantAudit)
	}
}

func TestTokensThatCannotBe(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	if made := command(t, url, "tokens", "create", "bot"); made.code != exitDone {
		t.Fatal(made.err)
	}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no name":                   {[]string{"create"}, exitUsage, "<name>"},
		"a name with a space":       {[]string{"create", "my bot"}, exitUsage, "want a name"},
		"a name that is an id":      {[]string{"create", "00000000-0000-0000-0000-000000000000"}, exitUsage, "looks like an id"},
		"a name that is taken":      {[]string{"create", "bot"}, exitFailed, "There is a token of this name"},
		"a scope that is none":      {[]string{"create", "b", "--scope=all"}, exitUsage, "want scopes among memory, admin:read, admin:write"},
		"a user that is none":       {[]string{"create", "b", "--user= "}, exitUsage, "want user ids"},
		"a time that is over":       {[]string{"create", "b", "--expires=-1h"}, exitUsage, "want a time such as 90d"},
		"no time at all":            {[]string{"create", "b", "--expires=0d"}, exitUsage, "want a time such as 90d"},
		"a time beyond all":         {[]string{"create", "b", "--expires=9999999d"}, exitUsage, "want a time such as 90d"},
		"a time that is none":       {[]string{"create", "b", "--expires=soon"}, exitUsage, "want a time such as 90d"},
		"a token that is not there": {[]string{"revoke", "nobody", "--yes"}, exitFailed, "token nobody: There is no such thing."},
		"an end that nobody meant":  {[]string{"revoke", "bot"}, exitUsage, "say --yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, url, append([]string{"tokens"}, c.args...)...)
			if got.code != c.code || got.out != "" && c.code != exitUsage || !strings.Contains(got.err, c.says) {
				t.Errorf("exit code %d, printed %q, said %q; want %d and %q", got.code, got.out, got.err, c.code, c.says)
			}
		})
	}
}
