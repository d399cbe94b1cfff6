package doctor

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/connection"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// newZoho is a Zoho, and an installation that is connected with it by its settings.
func newZoho(t *testing.T, o zohotest.Options, settings ...string) (*zohotest.Server, *room) {
	t.Helper()
	server := zohotest.New(o)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	r := newRoom(t, append([]string{
		"ZOHO_CLIENT_ID=" + zohotest.ClientID, "ZOHO_CLIENT_SECRET=" + zohotest.ClientSecret, "ZOHO_REFRESH_TOKEN=" + zohotest.RefreshToken,
		"ZOHO_API_URL=" + server.URL(), "ZOHO_ACCOUNTS_URL=" + server.URL(), "ZOHO_MODULES=Contacts,Deals",
	}, settings...)...)
	r.options.Missing = func(given []string) []string {
		if !strings.Contains(strings.Join(given, " "), "notifications") {
			return []string{"without the scope ZohoCRM.notifications.ALL: no channels"}
		}
		return nil
	}
	return server, r
}

func TestZoho(t *testing.T) {
	t.Parallel()
	only := []string{"ZohoCRM.modules.ALL"}
	for _, c := range []struct {
		zoho     zohotest.Options
		settings []string
		rows     []string
		status   Status
		what     string
	}{
		{zohotest.Options{}, nil, nil, OK, "Zoho gives access tokens"},
		{zohotest.Options{}, nil, nil, OK, "the API answers"},
		{zohotest.Options{}, nil, nil, OK, "all scopes were given"},
		{zohotest.Options{Scopes: only}, nil, nil, Warning, "without the scope ZohoCRM.notifications.ALL"},
		{zohotest.Options{Scopes: only, HideScope: true}, nil, nil, Note, "Zoho did not say which scopes"},
		{zohotest.Options{Scopes: []string{"ZohoCRM.org.READ"}}, nil, nil, Failure, "the API does not answer as it should"},
		{zohotest.Options{}, []string{"ZOHO_CLIENT_SECRET=another"}, nil, Failure, "an access token cannot be had"},
		{zohotest.Options{}, []string{"ZOHO_REFRESH_TOKEN=another"}, nil, Failure, "connect anew"},
		{zohotest.Options{}, []string{"ZOHO_REFRESH_TOKEN="}, nil, Failure, "nobody has authorised it"},
		{zohotest.Options{}, []string{"ZOHO_CLIENT_ID=", "ZOHO_CLIENT_SECRET=", "ZOHO_REFRESH_TOKEN="}, nil, Note, "Zoho is not connected"},
		{zohotest.Options{}, []string{"ZOHO_ACCOUNTS_URL=http://127.0.0.1:1"}, nil, Failure, "an access token cannot be had"},
		{zohotest.Options{Credits: 10}, nil, nil, OK, "the API answers"},
		{zohotest.Options{Credits: 2}, nil, nil, Warning, "only 1 of the day's API credits are left"},
		{zohotest.Options{}, nil, []string{tokenRow + `'revoked', 'invalid_code', NULL, '{}')`}, Failure, "Zoho has refused the authorisation that the nodes use: invalid_code"},
		{zohotest.Options{}, nil, []string{tokenRow + `'ok', '', now() + interval '5 minutes 10 seconds', '{}')`}, Skipped, "it wants to be left alone for 5 minutes"},
		{zohotest.Options{}, nil, []string{tokenRow + `'ok', '', NULL, array_fill(now(), ARRAY[8]))`}, Skipped, "8 tokens in the last ten minutes"},
		{zohotest.Options{}, nil, []string{`INSERT INTO breakers (name, reason, opened_at, open_until) VALUES ('zoho', 'unavailable: away', now(), now() + interval '5 minutes')`}, Warning, "the nodes do not ask Zoho at the moment: unavailable"},
		{zohotest.Options{}, nil, []string{`INSERT INTO syncs (id, kind, state, requested_by, started_at, finished_at) VALUES (gen_random_uuid(), 'full', 'completed', 'a', now() - interval '9 days', now() - interval '9 days')`}, Warning, "no sync has succeeded for 9 days"},
	} {
		_, r := newZoho(t, c.zoho, c.settings...)
		r.exec(c.rows...)
		r.finds("zoho", c.status, c.what)
	}
}

const tokenRow = `INSERT INTO zoho_tokens (name, client_id, accounts_url, grant_digest, state, last_error, blocked_until, asked_at) VALUES ('zoho', 'c', '', sha256('a'), `

func TestZohoIsAskedForOneTokenThatNobodyElseGets(t *testing.T) {
	t.Parallel()
	server, r := newZoho(t, zohotest.Options{})
	r.examine()
	if n := server.TokensIssued(); n != 1 {
		t.Errorf("%d tokens", n)
	}
	if n := count1(t, r.url, `SELECT (SELECT count(*) FROM zoho_tokens) + (SELECT count(*) FROM breakers)`); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

// store stores an authorisation, sealed with a key.
func store(t *testing.T, url, key, client, accountsURL string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	box, err := seal.New([]string{key}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	grant := connection.Grant{ClientID: client, AccountsURL: accountsURL, Token: zoho.Token{Refresh: zohotest.RefreshToken, Access: "access", Expires: time.Now().Add(time.Hour)}}
	if err := connection.Store(t.Context(), pool, box, grant, "test", time.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestStoredAuthorisation(t *testing.T) {
	t.Parallel()
	const other = "another-key-that-nobody-guesses"
	for _, c := range []struct {
		key, client string
		status      Status
		what        string
	}{
		{good, zohotest.ClientID, OK, "the API answers"},
		{other, zohotest.ClientID, Failure, "the stored authorisation cannot be opened"},
		{good, "1000.ANOTHER", Failure, "of another client than ZOHO_CLIENT_ID"},
	} {
		server, r := newZoho(t, zohotest.Options{}, "ZOHO_REFRESH_TOKEN=")
		store(t, r.url, c.key, c.client, server.URL())
		r.finds("zoho", c.status, c.what)
	}
}

func TestZohosClock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		off    time.Duration
		status Status
		what   string
	}{
		{0, OK, "this machine's clock agrees with Zoho's"},
		{10 * time.Second, Warning, "behind Zoho's"},
		{-time.Hour, Failure, "ahead of Zoho's"},
	} {
		var asked string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.Method + " " + r.URL.Path
			w.Header().Set("Date", time.Now().Add(c.off).UTC().Format(http.TimeFormat))
		}))
		t.Cleanup(server.Close)
		r := newRoomAt(t, "", "ZOHO_CLIENT_ID=1000.A", "ZOHO_CLIENT_SECRET="+good, "ZOHO_ACCOUNTS_URL="+server.URL)
		r.finds("clock", c.status, c.what)
		if asked != "HEAD /" {
			t.Errorf("asked %q: no token is to be shown for this", asked)
		}
	}
}

// A Date is cut to the second: what it leaves out is not held against this machine.
func TestADateIsASecondLong(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", at.Format(http.TimeFormat)) }))
	t.Cleanup(server.Close)
	for ahead, want := range map[time.Duration]Status{2900 * time.Millisecond: OK, 3100 * time.Millisecond: Warning} {
		r := newRoomAt(t, "", "ZOHO_CLIENT_ID=1000.A", "ZOHO_CLIENT_SECRET="+good, "ZOHO_ACCOUNTS_URL="+server.URL)
		r.options.Now = func() time.Time { return at.Add(ahead) }
		r.finds("clock", want, "Zoho's")
	}
}

func TestChannels(t *testing.T) {
	t.Parallel()
	const base = "WEBHOOK_BASE_URL=https://relay.example.com"
	row := func(module, rest string) string {
		return `INSERT INTO channels (channel_id, module, events, notify_url, state, expires_at, confirmed_at, failures, last_error) VALUES ('` + module + `', '` + module + `', '{}', 'https://relay.example.com/webhooks/zoho', ` + rest + `)`
	}
	well := `'active', now() + interval '5 days', now(), 0, ''`
	for _, c := range []struct {
		settings []string
		rows     []string
		status   Status
		what     string
	}{
		{[]string{base}, []string{row("Contacts", well), row("Deals", well)}, OK, "registered, and well: 2 channels"},
		{nil, nil, Note, "Zoho tells of no changes of Contacts, Deals"},
		{[]string{base}, []string{row("Contacts", well)}, Warning, "Zoho tells of no changes of Deals"},
		{[]string{base}, []string{row("Contacts", `'lost', NULL, now(), 3, 'forbidden'`)}, Failure, "the channel of Contacts is lost: forbidden"},
		{[]string{base}, []string{row("Contacts", `'active', now() - interval '1 s', now(), 0, ''`)}, Failure, "the channel of Contacts is lost: it expired"},
		{[]string{base}, []string{row("Contacts", `'active', now() + interval '3 hours 1 minute', now(), 0, ''`)}, Warning, "ends in 3 hours"},
		{[]string{base}, []string{row("Contacts", `'active', now() + interval '3 days', now(), 2, 'away'`)}, Warning, "could not be renewed, 2 times: away"},
		{[]string{base}, []string{row("Contacts", `'pending', NULL, NULL, 0, ''`)}, Warning, "not confirmed"},
		{[]string{base}, []string{row("Contacts", `'paused', NULL, NULL, 0, ''`)}, Note, "is paused"},
		{[]string{base}, []string{row("Contacts", `'removed', NULL, NULL, 0, ''`)}, Warning, "Zoho tells of no changes of Contacts, Deals"},
		{[]string{base + "/other"}, []string{row("Contacts", well)}, Warning, "calls another URL"},
		{[]string{"ZOHO_CLIENT_ID=", "ZOHO_CLIENT_SECRET=", "ZOHO_REFRESH_TOKEN="}, nil, Skipped, "Zoho is not connected"},
	} {
		_, r := newZoho(t, zohotest.Options{}, c.settings...)
		r.exec(c.rows...)
		r.finds("channels", c.status, c.what)
	}
}

func TestInbound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer string
		code   int
		status Status
		what   string
	}{
		{`{"status":"ok"}`, 200, OK, "reaches memrelay"},
		{`hello`, 200, Note, "that is not memrelay"},
		{`{"status":"ok"}`, 404, Note, "answers 404"},
	} {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/base/livez" {
				t.Errorf("asked for %s", r.URL.Path)
			}
			w.WriteHeader(c.code)
			_, _ = w.Write([]byte(c.answer))
		}))
		t.Cleanup(server.Close)
		r := newRoomAt(t, "", "WEBHOOK_BASE_URL="+server.URL+"/base/")
		r.options.Transport = server.Client().Transport
		r.finds("inbound", c.status, c.what)
	}
	newRoomAt(t, "", "WEBHOOK_BASE_URL=https://127.0.0.1:1").finds("inbound", Note, "cannot be reached from here")
	newRoomAt(t, "", "WEBHOOK_ENABLED=false").finds("inbound", Note, "WEBHOOK_ENABLED is off")
}

func TestMemory(t *testing.T) {
	t.Parallel()
	answer := func(code int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		t.Cleanup(server.Close)
		return server.URL
	}
	mem0 := func(url string) []string {
		return []string{"MEMORY_BACKEND=mem0", "MEM0_MODE=server", "MEM0_API_KEY=k", "MEM0_URL=" + url}
	}
	for _, c := range []struct {
		settings []string
		status   Status
		what     string
	}{
		{nil, OK, "Postgres alone"},
		{mem0("http://127.0.0.1:1"), Failure, "mem0 does not let us in"},
		{mem0(answer(401)), Failure, "mem0 does not let us in"},
		{mem0("http://127.0.0.1:1"), Skipped, "the copies are not looked at"},
		{[]string{"MEMORY_BACKEND=cognee", "COGNEE_URL=http://127.0.0.1:1"}, Failure, "cognee does not let us in"},
		{[]string{"MEMORY_EMBEDDER_URL=" + answer(404)}, OK, "is there"},
		{[]string{"MEMORY_EMBEDDER_URL=" + answer(503)}, Warning, "answers 503"},
		{[]string{"MEMORY_EMBEDDER_URL=http://127.0.0.1:1"}, Warning, "cannot be reached"},
	} {
		newRoomAt(t, "", c.settings...).finds("memory", c.status, c.what)
	}
	url := mem0(answer(401))
	found := newRoomAt(t, "", url...).examine("memory")
	if !strings.Contains(found[0].Remedy, "MEM0_API_KEY") {
		t.Error(lines(found))
	}
	r := newRoom(t, url...)
	r.exec(`INSERT INTO breakers (name, reason, opened_at, open_until) VALUES ('memory/mem0', 'throttled: slow down', now(), now() + interval '5 minutes')`)
	r.finds("memory", Warning, "Copies for mem0 wait")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	const other = "another-key-that-nobody-guesses"
	for _, c := range []struct {
		sealed   string // with which key; "": nothing is
		settings []string
		status   Status
		what     string
	}{
		{"", nil, OK, "nothing is sealed"},
		{good, nil, OK, "opens the secrets of Zoho's authorisation, endpoint shop"},
		{other, nil, Failure, "does not open the secrets of Zoho's authorisation, endpoint shop"},
		{good, []string{"MEMRELAY_KEY="}, Failure, "does not open the secrets of Zoho's authorisation, endpoint shop"},
		{good, []string{"MEMRELAY_KEY=" + other + "," + good}, Note, "2 of 2 are still sealed with an older key"},
		{good, []string{"MEMRELAY_KEY=" + good + "," + other}, Note, "the others are not needed"},
	} {
		r := newRoom(t, c.settings...)
		if c.sealed != "" {
			store(t, r.url, c.sealed, "1000.A", "")
			addEndpoint(t, r.url, c.sealed, shop("https://127.0.0.1:1/", nil))
		}
		r.finds("keys", c.status, c.what)
	}
}
