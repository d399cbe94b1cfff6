package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/endpoint"
)

// desktop is a terminal on a database of its own, where secrets can be sealed and a
// receiver on this machine is let through.
type desktop struct {
	environ []string
	pool    *pgxpool.Pool
}

func newDesktop(t *testing.T) *desktop {
	t.Helper()
	url := dbtest.URL(t)
	return &desktop{pool: poolOn(t, url), environ: []string{
		"DATABASE_URL=" + url, "WEBHOOK_SECRET=" + typedSecret, "MEMRELAY_KEY=a-key-of-the-tests-that-is-long-enough", "OUTBOUND_ALLOW_PRIVATE=127.0.0.1/32",
	}}
}

// types runs a command as if it were typed.
func (d *desktop) types(t *testing.T, args ...string) typed {
	t.Helper()
	return commandWith(t, d.environ, args...)
}

func (d *desktop) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := d.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// show is an endpoint as a machine reads it.
func (d *desktop) show(t *testing.T, name string) endpoint.Endpoint {
	t.Helper()
	return decode[endpoint.Endpoint](t, d.types(t, "endpoints", "show", name, "--json"))
}

// file writes a file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheLifeOfAnEndpoint(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	made := d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/hook", "--event=memory_added", "--event=memory_deleted", "--user=zoho:*",
		`--filter={"kind":"note"}`, "--timeout=5s", "--retry=1s,2m", "--rate=2.5", "--max-in-flight=4", "--description=Sales, north", "--ordered",
		"--header=X-Team=@"+file(t, "a-header-that-is-secret\n"), "--bearer=@"+file(t, "a-token-that-is-secret\n"))
	if made.code != exitDone || !regexp.MustCompile(`^whsec_[A-Za-z0-9+/=]{44}\n$`).MatchString(made.out) {
		t.Fatalf("exit code %d, printed %q, said %q", made.code, made.out, made.err)
	}
	if want := "Endpoint crm created. What it signs with is shown this once:\n"; made.err != want {
		t.Errorf("said %q, want %q", made.err, want)
	}
	e := d.show(t, "crm")
	got := fmt.Sprint(e.URL, e.Events, e.UserIDs, string(e.Filter), e.Timeout, e.RetrySchedule, e.RateLimit, e.MaxInFlight, e.Description, e.Ordered, e.HeaderNames, e.Auth.Kind)
	want := `https://receiver.invalid/hook[memory_added memory_deleted] [zoho:*] {"kind": "note"} 5s [1s 2m0s] 2.5 4 Sales, north true [X-Team] bearer`
	if plain := func(text string) string { return strings.Join(strings.Fields(text), "") }; plain(got) != plain(want) {
		t.Errorf("made %s\nwant %s", got, want)
	}

	d.types(t, "endpoints", "update", "crm", "--filter=null", "--all-users", "--no-headers", "--no-ordered", "--rate=0", "--rename=sales").done(t)
	e = d.show(t, "sales")
	if string(e.Filter) != "null" && e.Filter != nil || len(e.UserIDs) != 0 || len(e.HeaderNames) != 0 || e.Ordered || e.RateLimit != 0 ||
		e.Auth.Kind != "bearer" || e.Timeout != endpoint.Duration(5*time.Second) {
		t.Errorf("changed: %+v", e)
	}
	if got := d.types(t, "endpoints", "pause", "sales", "--reason=they move").done(t); got != "Endpoint sales paused.\n" {
		t.Errorf("printed %q", got)
	}
	listed := d.types(t, "endpoints", "list").done(t)
	if !regexp.MustCompile(`sales +paused +0 .*memory_added,memory_deleted +https://receiver.invalid/hook +they move`).MatchString(listed) {
		t.Errorf("listed:\n%s", listed)
	}
	d.types(t, "endpoints", "resume", "sales").done(t)
	rotated := d.types(t, "endpoints", "rotate", "sales", "--overlap=1h", "--secret=@"+file(t, "one-of-my-own-that-is-long-enough"))
	if rotated.code != exitDone || !strings.Contains(rotated.err, "the old one signs beside it for 1h0m0s") {
		t.Errorf("rotated: %+v", rotated)
	}
	d.types(t, "endpoints", "update", "sales", "--signing=hmac,ed25519", "--no-auth", "--json").done(t)
	shown := d.types(t, "endpoints", "show", "sales").done(t)
	for _, want := range []string{"name +sales", "status +active", "timeout +5s", "whpk_"} {
		if !regexp.MustCompile(want).MatchString(shown) {
			t.Errorf("what is shown does not say %s:\n%s", want, shown)
		}
	}
	for _, secret := range []string{strings.TrimSpace(made.out), "a-header-that-is-secret", "a-token-that-is-secret", "one-of-my-own-that-is-long-enough", "whsk_"} {
		if strings.Contains(listed+shown, secret) {
			t.Errorf("a list says %s", secret)
		}
	}

	if got := d.types(t, "endpoints", "delete", "sales"); got.code != exitUsage || !strings.Contains(got.err, "say --yes") {
		t.Errorf("a deletion that nobody confirmed: %+v", got)
	}
	if got := d.types(t, "endpoints", "delete", "sales", "--yes").done(t); got != "Endpoint sales deleted.\n" {
		t.Errorf("printed %q", got)
	}
	if all := decode[[]endpoint.Endpoint](t, d.types(t, "endpoints", "list", "--json")); len(all) != 0 {
		t.Errorf("left: %+v", all)
	}
	actions := one[string](t, d.pool, `SELECT string_agg(action || ' ' || (actor LIKE 'command line, %')::text, '; ' ORDER BY id) FROM audit_log`)
	wantActions := "endpoint.create true; endpoint.change true; endpoint.pause true; endpoint.resume true; endpoint.rotate true; endpoint.change true; endpoint.delete true"
	if diff := cmp.Diff(wantActions, actions); diff != "" {
		t.Errorf("audited (-want +got):\n%s", diff)
	}
}

func TestAnEndpointFromAFile(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	settings := file(t, `{"name":"crm","url":"https://receiver.invalid/","events":["memory_added"],"signing":["hmac","ed25519"],
		"auth":{"kind":"oauth2","oauth2":{"token_url":"https://receiver.invalid/token","client_id":"me","client_secret":"a-client-that-is-secret"}}}`)
	made := decode[admin.WithSecrets](t, d.types(t, "endpoints", "create", "--from="+settings, "--event=memory_deleted", "--json"))
	if made.Name != "crm" || len(made.Secrets) != 2 || made.Auth.ClientID != "me" || len(made.Events) != 1 || made.Events[0] != "memory_deleted" {
		t.Errorf("made: %+v", made)
	}
	d.types(t, "endpoints", "update", "crm", "--from="+file(t, `{"description":"x"}`)).done(t)
	if e := d.show(t, "crm"); e.Description != "x" || e.Auth.Kind != "oauth2" {
		t.Errorf("changed: %+v", e)
	}
}

func TestSecretsNeedNotStandOnTheCommandLine(t *testing.T) {
	t.Parallel()
	stdin := func() io.Reader { return strings.NewReader("from-stdin\n") }
	path := file(t, "from-a-file\r\n")
	in, err := endpointFlags{
		Secret: "@" + path, Headers: []string{"X-A=@" + path, "X-B=a=b"}, authFlags: authFlags{Username: "ada", Password: "-"},
	}.settings("", stdin())
	if err != nil {
		t.Fatal(err)
	}
	want := endpoint.AuthSettings{Kind: "basic", Username: "ada", Password: "from-stdin"}
	if diff := cmp.Diff(want, *in.Auth); diff != "" || *in.Secret != "from-a-file" {
		t.Errorf("secret %q, auth (-want +got):\n%s", *in.Secret, diff)
	}
	if diff := cmp.Diff(map[string]string{"X-A": "from-a-file", "X-B": "a=b"}, *in.Headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	in, err = endpointFlags{authFlags: authFlags{Certificate: "@" + path, PrivateKey: "@" + path}}.settings("", stdin())
	if err != nil || in.Auth.Kind != "none" || in.Auth.Certificate != "from-a-file" || in.Secret != nil || in.Headers != nil || in.URL != nil {
		t.Errorf("mutual TLS alone: %+v, %v", in, err)
	}
}

func TestEndpointsThatCannotBe(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no URL":                           {[]string{"create", "a"}, exitUsage, "url: is missing"},
		"all that is wrong":                {[]string{"create", "No Name", "--url=ftp://a.invalid/"}, exitUsage, "name: want 1 to 63"},
		"a name that is taken":             {[]string{"create", "crm", "--url=https://a.invalid/"}, exitFailed, "There is an endpoint of this name"},
		"an address that is refused":       {[]string{"create", "a", "--url=https://10.0.0.1/"}, exitUsage, "url: "},
		"a filter that is no JSON":         {[]string{"create", "a", "--url=https://a.invalid/", "--filter={"}, exitUsage, "--filter: want JSON"},
		"a filter that is none":            {[]string{"create", "a", "--url=https://a.invalid/", `--filter={"$code":1}`}, exitUsage, "filter"},
		"two kinds of auth":                {[]string{"create", "a", "--bearer=x", "--username=y"}, exitUsage, "want one of --bearer"},
		"a header without a value":         {[]string{"create", "a", "--header=X-A"}, exitUsage, "want NAME=VALUE"},
		"a file that is not there":         {[]string{"create", "--from=nothing.json"}, exitUsage, "nothing.json"},
		"a secret that is not there":       {[]string{"create", "a", "--secret=@nothing"}, exitUsage, "nothing"},
		"a file that is no JSON":           {[]string{"create", "--from=" + file(t, "{")}, exitUsage, "not JSON"},
		"a file with a field that is none": {[]string{"create", "--from=" + file(t, `{"uri":"x"}`)}, exitUsage, "uri: is no setting"},
		"an endpoint that is not there":    {[]string{"show", "nobody"}, exitFailed, "endpoint nobody: There is no such thing."},
		"to delete what is not there":      {[]string{"delete", "nobody", "--yes"}, exitFailed, "endpoint nobody: There is no such thing."},
		"a kind of key that is none":       {[]string{"rotate", "crm", "--kind=rsa"}, exitUsage, "--kind must be one of"},
		"an overlap that is too long":      {[]string{"rotate", "crm", "--overlap=1000h"}, exitUsage, "overlap"},
		"an event to test that is none":    {[]string{"test", "crm", "--event=memory_forgotten"}, exitUsage, "event: there is no such event"},
		"to recover since never":           {[]string{"recover", "crm"}, exitUsage, "--since"},
		"to recover since no time":         {[]string{"recover", "crm", "--since=then"}, exitUsage, "want a time as"},
		"to replay events that are none":   {[]string{"replay", "crm", "--since=1h", "--event=x"}, exitUsage, "events"},
		"redeliveries of nobody":           {[]string{"redeliveries", "nobody"}, exitFailed, "endpoint nobody: There is no such thing."},
		"to cancel what is not there":      {[]string{"cancel", uuid.NewString()}, exitFailed, "redelivery"},
		"to cancel what is none":           {[]string{"cancel", "7"}, exitUsage, "<id>: invalid UUID"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := d.types(t, append([]string{"endpoints"}, c.args...)...)
			if got.code != c.code || got.out != "" && c.code != exitUsage || !strings.Contains(got.err, c.says) {
				t.Errorf("exit code %d, printed %q, said %q; want %d and %q", got.code, got.out, got.err, c.code, c.says)
			}
		})
	}
}

func TestNoSecretIsStoredWithoutAKey(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.environ = append(d.environ, "MEMRELAY_KEY=")
	if got := d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/"); got.code != exitFailed || !strings.Contains(got.err, "MEMRELAY_KEY") {
		t.Errorf("exit code %d, said %q", got.code, got.err)
	}
	d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/", "--no-signing").done(t)
}

func TestATestOfAnEndpoint(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	got := make(chan map[string]any, 2)
	status := http.StatusNoContent
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var payload map[string]any
		if err := json.NewDecoder(r.Body).Decode(&payload); err != nil || r.Header.Get("webhook-signature") == "" {
			t.Errorf("got %v, %v", r.Header, err)
		}
		got <- payload
		w.WriteHeader(status)
	}))
	t.Cleanup(receiver.Close)
	d.types(t, "endpoints", "create", "crm", "--url="+receiver.URL)
	said := d.types(t, "endpoints", "test", "crm", "--event=sync.failed").done(t)
	if payload := <-got; payload["event"] != "sync.failed" || !regexp.MustCompile(`^sync.failed arrived as [0-9a-f-]{36}: answered 204 in \d+ ms.\n$`).MatchString(said) {
		t.Errorf("arrived as %v, said %q", payload, said)
	}
	status = http.StatusTeapot
	failed := d.types(t, "endpoints", "test", "crm", "--json")
	<-got
	if o := decode[admin.TestOutcome](t, failed); failed.code != exitFailed || o.Delivered || o.StatusCode != http.StatusTeapot || !strings.Contains(failed.err, "did not arrive") {
		t.Errorf("exit code %d, %+v, said %q", failed.code, o, failed.err)
	}
}

// delivery makes a webhook and its delivery to crm, and returns the delivery's id.
func (d *desktop) delivery(t *testing.T, event, userID, status string) int64 {
	t.Helper()
	webhook := uuid.Must(uuid.NewV7())
	d.exec(t, `INSERT INTO outbox (id, event, user_id, payload, relayed_at) VALUES ($1, $2, $3, '{"hello":"world"}', now())`, webhook, event, userID)
	return one[int64](t, d.pool, `INSERT INTO deliveries (outbox_id, endpoint_id, status, attempts, last_error, finished_at)
		SELECT $1, id, $2, 1, 'answered 400', now() FROM endpoints WHERE name = 'crm' RETURNING id`, webhook, status)
}

func TestDeliveriesAreListedShownAndSentAgain(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/")
	arrived, dead, open := d.delivery(t, "memory_added", "ada", "delivered"), d.delivery(t, "memory_deleted", "bob", "dead"), d.delivery(t, "memory_added", "bob", "retrying")
	d.exec(t, `INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, error_class, error, total, response_head)
		VALUES ($1, 1, now(), 400, 'http', 'answered 400', '12 ms', 'HTTP/1.1 400 Bad Request')`, dead)

	for args, want := range map[string][]int64{
		"":                              {open, dead, arrived},
		"--limit=2":                     {open, dead},
		"--status=dead":                 {dead},
		"--event=memory_added":          {open, arrived},
		"--user=bob":                    {open, dead},
		"--endpoint=crm":                {open, dead, arrived},
		"--since=1h":                    {open, dead, arrived},
		"--until=1h":                    {},
		"--since=2100-01-01T00:00:00Z":  {},
		"--webhook=" + uuid.NewString(): {},
	} {
		ids := []int64{}
		for _, r := range decode[[]admin.Delivery](t, d.types(t, append([]string{"deliveries", "list", "--json"}, strings.Fields(args)...)...)) {
			ids = append(ids, r.ID)
		}
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
	listed := d.types(t, "deliveries", "list").done(t)
	if !regexp.MustCompile(fmt.Sprintf(`(?m)^%d +20.* +crm +dead +1 +memory_deleted +bob +[0-9a-f-]{36} +answered 400$`, dead)).MatchString(listed) {
		t.Errorf("listed:\n%s", listed)
	}
	shown := d.types(t, "deliveries", "show", fmt.Sprint(dead)).done(t)
	for _, want := range []string{"memory_deleted of bob to crm, dead", "webhook-id [0-9a-f-]{36}", `1 +20.* +400 +12.0 .*http +answered 400`, "HTTP/1.1 400 Bad Request", `{"hello":"world"}`} {
		if !regexp.MustCompile(want).MatchString(shown) {
			t.Errorf("what is shown does not say %s:\n%s", want, shown)
		}
	}
	if story := decode[admin.DeliveryStory](t, d.types(t, "deliveries", "show", fmt.Sprint(dead), "--json")); len(story.AttemptsMade) != 1 || story.Payload == nil {
		t.Errorf("shown: %+v", story)
	}

	sent := d.types(t, "deliveries", "resend", fmt.Sprint(dead), fmt.Sprint(open), fmt.Sprint(arrived), "--reason=they lost it", "--json")
	if sent.code != exitFailed || !strings.Contains(sent.err, fmt.Sprintf("delivery %d", open)) {
		t.Errorf("exit code %d, said %q", sent.code, sent.err)
	}
	if diff := cmp.Diff(map[string][]int64{"resent": {dead, arrived}}, decode[map[string][]int64](t, sent)); diff != "" {
		t.Errorf("resent (-want +got):\n%s", diff)
	}
	if n := one[int](t, d.pool, `SELECT count(*) FROM deliveries WHERE status = 'pending'`); n != 2 {
		t.Errorf("%d deliveries are open again, want 2", n)
	}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"show", "4711"}, exitFailed}, {[]string{"show", "first"}, exitUsage}, {[]string{"resend", "4711"}, exitFailed}, {[]string{"resend"}, exitUsage},
		{[]string{"list", "--status=fine"}, exitUsage}, {[]string{"list", "--limit=0"}, exitUsage}, {[]string{"list", "--endpoint=nobody"}, exitUsage},
	} {
		if got := d.types(t, append([]string{"deliveries"}, c.args...)...); got.code != c.code {
			t.Errorf("%v: exit code %d, want %d: %s", c.args, got.code, c.code, got.err)
		}
	}
}

func TestWhatDiedIsSentAgain(t *testing.T) {
	t.Parallel()
	d := newDesktop(t)
	d.types(t, "endpoints", "create", "crm", "--url=https://receiver.invalid/")
	for range 3 {
		d.delivery(t, "memory_added", "ada", "dead")
	}
	d.delivery(t, "memory_added", "ada", "delivered")
	if got := d.types(t, "endpoints", "recover", "crm", "--since=1h", "--dry-run").done(t); got != "3 would be sent again.\n" {
		t.Errorf("printed %q", got)
	}
	if got := d.types(t, "endpoints", "replay", "crm", "--since=1h", "--dry-run", "--json").done(t); !strings.Contains(got, `"found": 4`) {
		t.Errorf("printed %q", got)
	}
	started := d.types(t, "endpoints", "recover", "crm", "--since=1h", "--per-second=5", "--reason=the outage").done(t)
	id := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(started)
	if started != fmt.Sprintf("Redelivery %s of 3 started.\n", id) {
		t.Errorf("printed %q", started)
	}
	listed := d.types(t, "endpoints", "redeliveries", "crm").done(t)
	if !regexp.MustCompile(id + ` +20.* +recover +running +3 +0 +0 .*the outage`).MatchString(listed) {
		t.Errorf("listed:\n%s", listed)
	}
	if got := d.types(t, "endpoints", "cancel", id).done(t); got != fmt.Sprintf("Redelivery %s is cancelled: 0 of 3 were given to the queue.\n", id) {
		t.Errorf("printed %q", got)
	}

	// One that is followed is shown to its end.
	onceThere(t, d.pool, `UPDATE redeliveries SET state = 'done', opened = 4, finished_at = now() WHERE kind = 'replay'`)
	followed := d.types(t, "endpoints", "replay", "crm", "--since=1h", "--wait").done(t)
	if !strings.Contains(followed, "4 of 4 given to the queue, 0 skipped, done") {
		t.Errorf("printed %q", followed)
	}
	onceThere(t, d.pool, `UPDATE redeliveries SET state = 'cancelled', finished_at = now() WHERE kind = 'replay' AND state = 'running'`)
	if got := d.types(t, "endpoints", "replay", "crm", "--since=1h", "--wait", "--json"); got.code != exitFailed || !strings.Contains(got.err, "was cancelled") {
		t.Errorf("exit code %d, said %q", got.code, got.err)
	}
}
