package outbound

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/seal"
)

func newBox(t *testing.T, keys ...string) *seal.Box {
	t.Helper()
	box, err := seal.New(keys, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

const boxKey = "a key that nobody can guess"

// sealed is a row whose credentials are c.
func sealed(t *testing.T, box *seal.Box, c endpoint.Credentials) db.Endpoint {
	t.Helper()
	e := db.Endpoint{ID: uuid.Must(uuid.NewV7()), Name: "crm-bot", URL: "https://example.com/", Timeout: 30 * time.Second, UpdatedAt: time.Unix(1, 0)}
	plain, err := json.Marshal(map[string]any{"keys": c.Keys, "auth": c.Auth, "headers": c.Headers})
	if err != nil {
		t.Fatal(err)
	}
	if e.Sealed, err = box.Seal(plain, "endpoints/"+e.ID.String()+"/credentials"); err != nil {
		t.Fatal(err)
	}
	return e
}

// idleTransport counts how often its idle connections were closed.
type idleTransport struct {
	settings *tls.Config
	closed   int
}

func (*idleTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("unused")
}
func (i *idleTransport) CloseIdleConnections() { i.closed++ }

// countedTargets keeps the transports it makes, in their order.
func countedTargets(box *seal.Box, env endpoint.Credentials, now func() time.Time) (*Targets, *[]*idleTransport) {
	var made []*idleTransport
	return NewTargets(func(settings *tls.Config) http.RoundTripper {
		made = append(made, &idleTransport{settings: settings})
		return made[len(made)-1]
	}, box, env, now), &made
}

func mustGet(t *testing.T, targets *Targets, e db.Endpoint) *target {
	t.Helper()
	to, err := targets.get(e)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// shown returns c as text that shows everything.
func shown(t *testing.T, c endpoint.Credentials) string {
	t.Helper()
	text, err := json.Marshal([]any{c.Keys, c.Auth, c.Headers})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTargetHasTheCredentialsOfItsEndpoint(t *testing.T) {
	t.Parallel()
	box := newBox(t, boxKey)
	env := endpoint.EnvCredentials("env-token", "env-secret")
	own := endpoint.EnvCredentials("own-token", "own-secret")
	own.Headers = map[string]string{"X-Tenant": "acme"}
	targets, made := countedTargets(box, env, time.Now)

	named := sealed(t, box, own)
	envRow := sealed(t, box, own)
	envRow.Name = endpoint.EnvName
	bare := db.Endpoint{ID: uuid.Must(uuid.NewV7()), Name: "bare", URL: "https://example.com/bare", Timeout: time.Second}
	for _, tt := range []struct {
		row  db.Endpoint
		want endpoint.Credentials
	}{{named, own}, {envRow, env}, {bare, endpoint.Credentials{}}} {
		r := mustGet(t, targets, tt.row).request("msg_1", []byte("body"))
		if diff := cmp.Diff(shown(t, tt.want), shown(t, r.Credentials)); diff != "" {
			t.Errorf("%s: credentials (-want +got):\n%s", tt.row.Name, diff)
		}
		if r.URL != tt.row.URL || r.Timeout != tt.row.Timeout || r.ID != "msg_1" || string(r.Body) != "body" || r.Through != (*made)[0] || r.Tokens != nil {
			t.Errorf("%s: the request is %+v", tt.row.Name, r)
		}
	}
	if len(*made) != 1 || (*made)[0].settings != nil {
		t.Errorf("%d transports were made, want one for all", len(*made))
	}
}

func TestSecretsThatCannotBeUsedAreAnError(t *testing.T) {
	t.Parallel()
	box := newBox(t, boxKey)
	row := sealed(t, box, endpoint.EnvCredentials("t0ken", "s3cret"))
	moved := row
	moved.ID = uuid.Must(uuid.NewV7())
	for name, tt := range map[string]struct {
		row  db.Endpoint
		box  *seal.Box
		want error
	}{
		"no key":                    {row, newBox(t), seal.ErrNoKey},
		"another key":               {row, newBox(t, "another key of good length"), seal.ErrWrongKey},
		"sealed for another":        {moved, box, seal.ErrWrongKey},
		"a key that cannot sign":    {sealed(t, box, endpoint.Credentials{Keys: []endpoint.Key{{Kind: endpoint.KeyEd25519, Secret: "whsk_x"}}}), box, errKey},
		"a certificate without key": {sealed(t, box, endpoint.Credentials{Auth: endpoint.Auth{Certificate: "none"}}), box, nil},
	} {
		targets, _ := countedTargets(tt.box, endpoint.Credentials{}, time.Now)
		for range 2 { // nothing is kept of it
			to, err := targets.get(tt.row)
			if to != nil || err == nil || (tt.want != nil && !errors.Is(err, tt.want)) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: got %+v, %v, want %v", name, to, err, tt.want)
			}
		}
	}
}

func TestTargetIsKeptForAsLongAsItsRowStays(t *testing.T) {
	t.Parallel()
	box := newBox(t, boxKey)
	_, mine, key := certificate(t, "memrelay", nil)
	now := time.Unix(1_700_000_000, 0)
	targets, made := countedTargets(box, endpoint.Credentials{}, func() time.Time { return now })
	row := sealed(t, box, endpoint.Credentials{Auth: endpoint.Auth{
		Kind: endpoint.AuthOAuth2, OAuth2: endpoint.OAuth2{TokenURL: "https://example.com/token"}, Certificate: mine, PrivateKey: key,
	}})

	first := mustGet(t, targets, row)
	again := row
	again.Failures, again.UpdatedAt = 7, row.UpdatedAt.UTC() // a lane's own columns, and the same time written otherwise
	if got := mustGet(t, targets, again); got != first {
		t.Error("an unchanged row makes another target")
	}
	if first.through == targets.shared || first.tokens == nil || len(first.credentials.Auth.Certificate) == 0 {
		t.Errorf("got %+v, want connections and tokens of its own", first)
	}

	changed := row
	changed.UpdatedAt, changed.URL = row.UpdatedAt.Add(time.Microsecond), "https://example.com/elsewhere"
	second := mustGet(t, targets, changed)
	if second == first || second.url != changed.URL || second.tokens == first.tokens || second.through == first.through {
		t.Errorf("a changed row still is %+v", second)
	}
	if got := closedOf(*made); got != "0 1 0" {
		t.Errorf("connections were closed %s times, want those of the old version: 0 1 0", got)
	}

	// Another endpoint comes along: whoever was not used for an hour is forgotten, not before.
	for range 3 {
		now = now.Add(forgetAfter * 2 / 3)
		mustGet(t, targets, sealed(t, box, endpoint.Credentials{}))
		if mustGet(t, targets, changed) != second {
			t.Error("it is forgotten although it was used within the hour")
		}
	}
	now = now.Add(forgetAfter + time.Nanosecond)
	mustGet(t, targets, sealed(t, box, endpoint.Credentials{}))
	if got := closedOf(*made); got != "0 1 1" || len(targets.known) != 1 {
		t.Errorf("connections were closed %s times, %d are known; want 0 1 1 and the new one", got, len(targets.known))
	}
}

func closedOf(made []*idleTransport) string {
	var b bytes.Buffer
	for i, m := range made {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteByte(byte('0' + m.closed))
	}
	return b.String()
}

func TestCloseIdleConnectionsClosesAll(t *testing.T) {
	t.Parallel()
	box := newBox(t, boxKey)
	_, mine, key := certificate(t, "memrelay", nil)
	targets, made := countedTargets(box, endpoint.Credentials{}, time.Now)
	mustGet(t, targets, sealed(t, box, endpoint.Credentials{}))
	mustGet(t, targets, sealed(t, box, endpoint.Credentials{Auth: endpoint.Auth{Certificate: mine, PrivateKey: key}}))
	mustGet(t, targets, sealed(t, box, endpoint.Credentials{Auth: endpoint.Auth{Authorities: mine}}))
	targets.CloseIdleConnections()
	if got := closedOf(*made); got != "1 1 1" {
		t.Errorf("closed %s times, want each once", got)
	}
	if s := (*made)[2].settings; s.RootCAs == nil || s.Certificates != nil {
		t.Errorf("authorities alone give %+v", s)
	}
}
