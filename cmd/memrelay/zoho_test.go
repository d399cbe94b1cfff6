package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/connection"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/zoho"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

const typedKey = "the key of the commands"

// zohoDesk is a Zoho and a database, and a person who types commands about them.
type zohoDesk struct {
	zoho *zohotest.Server
	base string
	url  string
}

func newZohoDesk(t *testing.T, o zohotest.Options) *zohoDesk {
	t.Helper()
	d := &zohoDesk{zoho: zohotest.New(o), url: dbtest.URL(t)}
	server := httptest.NewServer(d.zoho)
	t.Cleanup(server.Close)
	d.base = server.URL
	return d
}

// run runs a command with all settings, changed as more says; later ones win.
func (d *zohoDesk) run(t *testing.T, more []string, args ...string) typed {
	t.Helper()
	environ := append([]string{
		"DATABASE_URL=" + d.url, "MEMRELAY_KEY=" + typedKey, "ZOHO_ACCOUNTS_URL=" + d.base, "ZOHO_API_URL=" + d.base,
		"ZOHO_CLIENT_ID=" + zohotest.ClientID, "ZOHO_CLIENT_SECRET=" + zohotest.ClientSecret,
	}, more...)
	got := commandWith(t, environ, append([]string{"zoho"}, args...)...)
	for _, secret := range []string{zohotest.ClientSecret, "zohotest.refresh", "zohotest.access", typedKey} {
		if strings.Contains(got.out+got.err, secret) {
			t.Errorf("%v says %q:\n%s%s", args, secret, got.out, got.err)
		}
	}
	return got
}

func (c typed) failed(t *testing.T, code int, says ...string) {
	t.Helper()
	if c.code != code {
		t.Errorf("exit code %d, want %d", c.code, code)
	}
	for _, want := range says {
		if !strings.Contains(c.err, want) {
			t.Errorf("does not say %q", want)
		}
	}
	if t.Failed() {
		t.Logf("printed:\n%s\nsaid:\n%s", c.out, c.err)
	}
}

func TestZohoFromConnectToDisconnect(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	if got := d.run(t, nil, "status").done(t); !strings.Contains(got, "state          none") || !strings.Contains(got, "to do          run `memrelay zoho connect`") {
		t.Errorf("printed:\n%s", got)
	}
	if got := d.run(t, nil, "connect", "--code="+zohotest.GrantCode).done(t); !strings.HasPrefix(got, "connected with Zoho by "+d.base) {
		t.Errorf("printed:\n%s", got)
	}
	report := decode[zohoReport](t, d.run(t, nil, "status", "--json"))
	if report.State != connection.StateOK || !report.Stored || !report.Credentials || report.Environment || report.Remedy != "" ||
		report.AccountsURL != d.base || len(report.Scopes) == 0 || report.AccessUntil == nil || report.Breaker.Open {
		t.Errorf("status %+v", report)
	}
	if got := d.run(t, nil, "status").done(t); !strings.Contains(got, "authorisation       stored") || strings.Contains(got, "to do") {
		t.Errorf("printed:\n%s", got)
	}
	if one[bool](t, poolOn(t, d.url), `SELECT t::text LIKE '%zohotest.refresh%' OR position('zohotest'::bytea IN refresh_token) > 0 FROM zoho_tokens t`) {
		t.Error("the refresh token can be read in the database")
	}

	d.run(t, nil, "disconnect").failed(t, exitUsage, "say --yes")
	if got := d.run(t, nil, "disconnect", "--yes").done(t); got != "revoked and forgotten\n" {
		t.Errorf("printed %q", got)
	}
	if got := d.run(t, nil, "disconnect", "--yes").done(t); got != "nothing was stored\n" {
		t.Errorf("printed %q", got)
	}
	if n := one[int](t, poolOn(t, d.url), `SELECT count(*) FROM zoho_tokens`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}

// refreshes reports whether Zoho still knows the only refresh token that a code gave.
func (d *zohoDesk) refreshes(t *testing.T) bool {
	t.Helper()
	res, err := http.PostForm(d.base+"/oauth/v2/token", url.Values{
		"grant_type": {"refresh_token"}, "client_id": {zohotest.ClientID}, "client_secret": {zohotest.ClientSecret},
		"refresh_token": {"1000.zohotest.refresh.000001"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return strings.Contains(body.String(), "access_token")
}

// What is forgotten here without being revoked there can never be revoked by us.
func TestDisconnectRevokesOrSaysThatItDidNot(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	d.run(t, nil, "connect", "--code="+zohotest.GrantCode).done(t)
	if !d.refreshes(t) {
		t.Fatal("the test does not know the refresh token")
	}
	stored := func() bool { return one[int](t, poolOn(t, d.url), `SELECT count(*) FROM zoho_tokens`) == 1 }
	for name, setting := range map[string]string{
		"no key": "MEMRELAY_KEY=", "another key": "MEMRELAY_KEY=not the one it was", "no Zoho": "ZOHO_ACCOUNTS_URL=http://127.0.0.1:1",
	} {
		t.Log(name)
		d.run(t, []string{setting}, "disconnect", "--yes").failed(t, exitFailed, "--local")
		if !stored() || !d.refreshes(t) {
			t.Fatalf("%s: stored: %t, good at Zoho: %t", name, stored(), d.refreshes(t))
		}
	}
	d.run(t, nil, "disconnect", "--yes").done(t)
	if stored() || d.refreshes(t) {
		t.Errorf("stored: %t, good at Zoho: %t", stored(), d.refreshes(t))
	}

	d = newZohoDesk(t, zohotest.Options{})
	d.run(t, nil, "connect", "--code="+zohotest.GrantCode).done(t)
	if got := d.run(t, []string{"MEMRELAY_KEY="}, "disconnect", "--yes", "--local").done(t); got != "forgotten\n" {
		t.Errorf("printed %q", got)
	}
	if !d.refreshes(t) {
		t.Error("--local revoked it")
	}
}

// Only what Zoho does not know is as good as revoked: other refusals leave it good.
func TestDisconnectTellsWhatIsGoneFromWhatIsRefused(t *testing.T) {
	t.Parallel()
	for code, gone := range map[string]bool{
		"invalid_code": true, "invalid_token": true, "invalid_client": false, "invalid_request": false, "general_error": false,
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			d := newZohoDesk(t, zohotest.Options{})
			d.run(t, nil, "connect", "--code="+zohotest.GrantCode).done(t)
			refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprintf(w, `{"error":%q}`, code)
			}))
			t.Cleanup(refusing.Close)
			got := d.run(t, []string{"ZOHO_ACCOUNTS_URL=" + refusing.URL}, "disconnect", "--yes")
			if gone {
				got.done(t)
			} else {
				got.failed(t, exitFailed, code, "--local")
			}
			if stored := one[int](t, poolOn(t, d.url), `SELECT count(*) FROM zoho_tokens`) == 1; stored == gone {
				t.Errorf("stored: %t", stored)
			}
		})
	}
}

// What cannot be stored nobody has: Zoho keeps twenty of a client.
func TestConnectRevokesWhatItCannotStore(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	if _, err := poolOn(t, d.url).Exec(t.Context(), `ALTER TABLE zoho_tokens ADD CHECK (refresh_token IS NULL)`); err != nil {
		t.Fatal(err)
	}
	got := d.run(t, nil, "connect", "--code="+zohotest.GrantCode)
	got.failed(t, exitFailed, "store the authorisation", "was revoked: get another code")
	if d.refreshes(t) {
		t.Error("it is still good at Zoho")
	}
}

// A person who gives up, or a time that is up, does not leave it there either.
func TestWhatIsDiscardedIsRevokedThoughTheContextHasEnded(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	d.run(t, nil, "connect", "--code="+zohotest.GrantCode).done(t)
	var said bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &zohoParty{transport: http.DefaultTransport}
	cfg := zoho.Config{AccountsURL: d.base, ClientID: zohotest.ClientID, ClientSecret: zohotest.ClientSecret}
	p.discard(ctx, streams{err: &said}, cfg, zoho.Token{Refresh: "1000.zohotest.refresh.000001"})
	if d.refreshes(t) || !strings.Contains(said.String(), "was revoked") {
		t.Errorf("still good at Zoho: %s", said.String())
	}
	p.discard(ctx, streams{err: &said}, cfg, zoho.Token{Refresh: "1000.zohotest.refresh.000001"})
	if !strings.Contains(said.String(), "could not be revoked") {
		t.Errorf("said:\n%s", said.String())
	}
}

// A code works once: what is wrong here must be said before it is used.
func TestConnectLooksAtItselfFirst(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	for name, tc := range map[string]struct {
		setting string
		args    []string
		code    int
		says    string
	}{
		"no key":                     {"MEMRELAY_KEY=", nil, exitFailed, "memrelay secret"},
		"no client":                  {"ZOHO_CLIENT_ID=", nil, exitFailed, "ZOHO_CLIENT_ID"},
		"no client at all":           {"ZOHO_CLIENT_ID=\nZOHO_CLIENT_SECRET=", nil, exitFailed, "https://api-console.zoho.com"},
		"no schema":                  {"DATABASE_URL=" + dbtest.Empty(t), nil, exitFailed, "memrelay migrate up"},
		"no database":                {"DATABASE_URL=postgres://127.0.0.1:1/x", nil, exitFailed, "connect to the database"},
		"a data centre that is none": {"LOG_LEVEL=info", []string{"--data-center=mars"}, exitUsage, "want one of us eu"},
	} {
		t.Run(name, func(t *testing.T) {
			got := d.run(t, strings.Split(tc.setting, "\n"), append([]string{"connect", "--code=" + zohotest.GrantCode}, tc.args...)...)
			got.failed(t, tc.code, tc.says)
		})
	}
	d.run(t, nil, "connect", "--code="+zohotest.GrantCode).done(t) // it was not used
	d.run(t, nil, "connect", "--code="+zohotest.GrantCode).failed(t, exitFailed, "invalid_code")
	if state := one[string](t, poolOn(t, d.url), `SELECT state FROM zoho_tokens`); state != connection.StateOK {
		t.Errorf("a wrong code changed what is stored: %s", state)
	}
}

func TestConnectLooksAtTheScopes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		o    zohotest.Options
		code int
		says []string
	}{
		"one is missing": {
			zohotest.Options{Scopes: strings.Split(strings.Replace(scopeLine(), "ZohoCRM.notifications.ALL,", "", 1), ",")},
			exitDone, []string{"warning: without the scope ZohoCRM.notifications.ALL: Zoho's notification channels"},
		},
		"others that are as good": {
			zohotest.Options{Scopes: []string{
				"ZohoCRM.modules.all", "ZohoCRM.notifications.ALL", "ZohoCRM.settings.ALL", "ZohoCRM.coql.READ", "ZohoCRM.users.ALL", "ZohoCRM.org.READ",
			}}, exitDone, nil,
		},
		"Zoho does not say which": {zohotest.Options{HideScope: true}, exitDone, nil},
		"no record can be read": {
			zohotest.Options{Scopes: []string{"ZohoCRM.org.READ"}},
			exitFailed, []string{"without the scope ZohoCRM.modules.ALL: no record can be read", scopeLine()},
		},
		"no record can be read, and Zoho does not say so": {
			zohotest.Options{Scopes: []string{"ZohoCRM.org.READ"}, HideScope: true},
			exitFailed, []string{"the authorisation does not open the accounts"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newZohoDesk(t, tc.o)
			got := d.run(t, nil, "connect", "--code="+zohotest.GrantCode)
			got.failed(t, tc.code, tc.says...)
			if len(tc.says) == 0 && got.err != "" {
				t.Errorf("warns:\n%s", got.err)
			}
			connected := one[int](t, poolOn(t, d.url), `SELECT count(*) FROM zoho_tokens`) == 1
			if connected != (tc.code == exitDone) {
				t.Errorf("stored: %t", connected)
			}
			// An authorisation that nobody has is one of the twenty less.
			if d.refreshes(t) != connected {
				t.Errorf("stored: %t, good at Zoho: %t", connected, !connected)
			}
		})
	}
}

func TestConnectStoresWhatCannotBeTriedNow(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	got := d.run(t, []string{"ZOHO_API_URL=http://127.0.0.1:1"}, "connect", "--code="+zohotest.GrantCode, "--json")
	got.failed(t, exitDone, "stored, but not tried")
	type printed struct {
		Status   string
		Warnings []string
	}
	if p := decode[printed](t, got); p.Status != "connected" || len(p.Warnings) != 1 {
		t.Errorf("printed %+v", p)
	}
}

func TestARefreshTokenInTheEnvironmentIsToldOf(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	set := []string{"ZOHO_REFRESH_TOKEN=" + zohotest.RefreshToken}
	report := decode[zohoReport](t, d.run(t, set, "status", "--json"))
	if !report.Environment || report.Remedy != "" {
		t.Errorf("status %+v", report)
	}
	d.run(t, set, "connect", "--code="+zohotest.GrantCode).failed(t, exitDone, "ZOHO_REFRESH_TOKEN is set and wins")
	d.run(t, set, "disconnect", "--yes").failed(t, exitDone, "ZOHO_REFRESH_TOKEN is set and still in force")
}

func TestStatusSaysWhatToDo(t *testing.T) {
	t.Parallel()
	d := newZohoDesk(t, zohotest.Options{})
	d.run(t, nil, "connect", "--code="+zohotest.GrantCode).done(t)
	pool := poolOn(t, d.url)
	if _, err := pool.Exec(t.Context(), `UPDATE zoho_tokens SET state = 'revoked', last_error = 'invalid_code'`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO breakers (name, open_until, reason) VALUES ('zoho', '2026-03-01 11:00Z', 'unauthorized: invalid_code')`); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ setting, want string }{
		"stored":             {"LOG_LEVEL=info", "to do          run `memrelay zoho connect`\n"},
		"in the environment": {"ZOHO_REFRESH_TOKEN=x", "to do          replace ZOHO_REFRESH_TOKEN, or take it out"},
		"no credentials":     {"ZOHO_CLIENT_ID=\nZOHO_CLIENT_SECRET=", "to do          set ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET"},
	} {
		got := d.run(t, strings.Split(tc.setting, "\n"), "status").done(t)
		for _, want := range []string{"revoked\n", "open until 2026-03-01 11:00:00: unauthorized: invalid_code\n", tc.want} {
			if !strings.Contains(strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(want), " ")) {
				t.Errorf("%s: does not say %q:\n%s", name, want, got)
			}
		}
	}
}

// Without a code a person is told how to get one; a script is not left waiting.
func TestConnectWithoutACode(t *testing.T) {
	t.Parallel()
	piped, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer piped.Close()
	defer w.Close()
	nothing, err := os.Open(os.DevNull) // a device, as a terminal is, where nobody types
	if err != nil {
		t.Fatal(err)
	}
	defer nothing.Close()
	for _, in := range []*os.File{piped, nothing} {
		for _, asJSON := range []bool{false, true} {
			var out, errOut bytes.Buffer
			_, err := streams{out: &out, err: &errOut, asJSON: asJSON}.askCode(t.Context(), in)
			if err == nil || !strings.Contains(err.Error(), "say --code") || !strings.HasPrefix(err.Error(), errUsage.Error()) {
				t.Errorf("error %v", err)
			}
			said := out.String()
			if asJSON {
				said = errOut.String()
			}
			for _, want := range []string{
				"https://api-console.zoho.com",
				"\n    ZohoCRM.modules.ALL,ZohoCRM.notifications.ALL,ZohoCRM.settings.related_lists.READ,ZohoCRM.settings.modules.READ," +
					"ZohoCRM.settings.fields.READ,ZohoCRM.coql.READ,ZohoCRM.users.READ,ZohoCRM.org.READ\n",
			} {
				if !strings.Contains(said, want) {
					t.Errorf("does not say %q:\n%s", want, said)
				}
			}
		}
	}
}

// world is Zoho's data centres, each on loopback: by host name.
type world map[string]string

// RoundTrip asks the one that has that name.
func (w world) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if at, ok := w[r.URL.Host]; ok {
		r.URL.Scheme, r.URL.Host = "http", at
	} else {
		r.URL.Scheme, r.URL.Host = "http", "127.0.0.1:1"
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestTheDataCentreIsFound(t *testing.T) {
	t.Parallel()
	home, elsewhere := newZohoDesk(t, zohotest.Options{}), newZohoDesk(t, zohotest.Options{ClientID: "1000.ANOTHER"})
	w := world{}
	for _, host := range []string{
		"accounts.zoho.com", "accounts.zoho.eu", "accounts.zoho.com.au", "accounts.zoho.jp", "accounts.zoho.com.cn", "accounts.zohocloud.ca", "accounts.zoho.sa",
	} {
		w[host] = strings.TrimPrefix(elsewhere.base, "http://")
	}
	for _, host := range []string{"accounts.zoho.in", "www.zohoapis.in"} {
		w[host] = strings.TrimPrefix(home.base, "http://")
	}
	connect := func(explicit bool, change func(world)) (string, string, error) {
		s := streams{environ: []string{
			"DATABASE_URL=" + home.url, "MEMRELAY_KEY=" + typedKey, "ZOHO_CLIENT_ID=" + zohotest.ClientID, "ZOHO_CLIENT_SECRET=" + zohotest.ClientSecret,
		}}
		var out, errOut bytes.Buffer
		s.out, s.err = &out, &errOut
		p, err := s.zohoParty()
		if err != nil {
			t.Fatal(err)
		}
		there := world{}
		for host, at := range w {
			there[host] = at
		}
		change(there)
		p.transport, p.explicit = there, explicit
		err = p.connect(t.Context(), s, poolOn(t, home.url), zohotest.GrantCode, "")
		return out.String(), errOut.String(), err
	}
	same := func(world) {}
	if _, _, err := connect(true, same); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("another than the one that was named was asked: %v", err)
	}
	// One that cannot be asked may be the one: the search ends there.
	if _, _, err := connect(false, func(w world) { delete(w, "accounts.zoho.eu") }); err == nil || strings.Contains(err.Error(), "no data centre") {
		t.Errorf("error %v", err)
	}
	if _, _, err := connect(false, func(w world) { w["accounts.zoho.in"] = w["accounts.zoho.eu"] }); err == nil || !strings.Contains(err.Error(), "no data centre knows") {
		t.Errorf("error %v", err)
	}
	out, said, err := connect(false, same)
	if err != nil || !strings.Contains(out, "https://accounts.zoho.in") || !strings.Contains(said, "ZOHO_DATA_CENTER=in") {
		t.Errorf("error %v\n%s%s", err, out, said)
	}
	got := one[string](t, poolOn(t, home.url), `SELECT accounts_url FROM zoho_tokens`)
	if diff := cmp.Diff("https://accounts.zoho.in", got); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
}
