package outbound

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/endpoint"
)

type vector struct {
	Name    string `json:"name"`
	V       string `json:"v"`
	Secret  string `json:"secret"`   // of v1
	Private string `json:"private"`  // of v1a: whsk_ and the base64 of its seed
	SeedHex string `json:"seed_hex"` // of v1a, where there is no private
	Public  string `json:"public"`   // of v1a
	ID      string `json:"id"`
	TS      string `json:"ts"`
	Body    string `json:"body"`
	Sig     string `json:"sig"`
}

// key is the vector's as an endpoint has it.
func (v vector) key(t *testing.T) endpoint.Key {
	t.Helper()
	switch {
	case v.V == "v1" && v.Secret != "":
		return endpoint.Key{ID: v.Name, Kind: endpoint.KeyHMAC, Secret: v.Secret}
	case v.V == "v1a" && v.Private != "":
		return endpoint.Key{ID: v.Name, Kind: endpoint.KeyEd25519, Secret: v.Private}
	case v.V == "v1a" && v.SeedHex != "":
		seed, err := hex.DecodeString(v.SeedHex)
		if err != nil {
			t.Fatal(err)
		}
		return endpoint.Key{ID: v.Name, Kind: endpoint.KeyEd25519, Secret: "whsk_" + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed))}
	}
	t.Fatalf("vector %s is of the unknown kind %q", v.Name, v.V)
	return endpoint.Key{}
}

// vectors returns those of testdata, and those of Svix's own tests (server/svix-server/src/worker.rs,
// test_generate_msg_headers_with_signing_key and test_asymmetric_key_signing).
func vectors(t *testing.T) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/standard-webhooks-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&all); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, v := range all {
		kinds[v.V]++
	}
	if diff := cmp.Diff(map[string]int{"v1": 3, "v1a": 3}, kinds); diff != "" {
		t.Fatalf("vectors of each kind (-want +got):\n%s", diff)
	}
	svix := vector{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", TS: "1614265330", Body: `{"test": 2432232314}`}
	one, two := svix, svix
	one.Name, one.V, one.Secret = "Svix v1", "v1", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	one.Sig = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	two.Name, two.V, two.Private = "Svix v1a", "v1a", "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	two.Sig = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
	two.Public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	return append(all, one, two)
}

func mustSign(t *testing.T, h http.Header, c endpoint.Credentials, id string, at time.Time, body []byte) {
	t.Helper()
	if err := sign(h, c, id, at, body); err != nil {
		t.Fatal(err)
	}
}

func signed(t *testing.T, v vector) http.Header {
	t.Helper()
	ts, err := strconv.ParseInt(v.TS, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	mustSign(t, h, endpoint.Credentials{Keys: []endpoint.Key{v.key(t)}}, v.ID, time.Unix(ts, 0), []byte(v.Body))
	return h
}

func TestSignMatchesThePublishedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		h := signed(t, v)
		got := []string{h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature")}
		if diff := cmp.Diff([]string{v.ID, v.TS, v.Sig}, got); diff != "" {
			t.Errorf("vector %s (-want +got):\n%s", v.Name, diff)
		}
		if v.V != "v1a" {
			continue
		}
		if public, err := endpoint.PublicKey(v.key(t).Secret); public != v.Public || err != nil {
			t.Errorf("vector %s: the public key is %s, %v, want %s", v.Name, public, err, v.Public)
		}
	}
}

// receiver is somebody who has read the specification and none of our code: with
// each of its keys it verifies what h and body are.
type receiver []string // whsec_… or whpk_…

func (r receiver) verifies(t *testing.T, h http.Header, body string) bool {
	t.Helper()
	for _, secret := range r {
		prefix, coded, _ := strings.Cut(secret, "_")
		key, err := base64.StdEncoding.DecodeString(coded)
		if err != nil {
			t.Fatal(err)
		}
		if (prefix == "whsec" && received(h, key, body)) || (prefix == "whpk" && receivedPublic(h, key, body)) {
			return true
		}
	}
	return false
}

// own is what a receiver of the vector has to verify it by.
func (v vector) own() receiver {
	if v.V == "v1a" {
		return receiver{v.Public}
	}
	return receiver{v.Secret}
}

func TestReceiverCanVerify(t *testing.T) {
	t.Parallel()
	all := vectors(t)
	for i, v := range all {
		other := all[(i+1)%len(all)] // its key and its signature are others
		h := signed(t, v)
		if !v.own().verifies(t, h, v.Body) {
			t.Errorf("vector %s is not verified", v.Name)
		}
		if v.V == "v1" && !receivedHex(h, v.Secret, v.Body) {
			t.Errorf("vector %s: X-Webhook-Signature is not verified", v.Name)
		}
		if v.V == "v1a" && h.Get("X-Webhook-Signature") != "" {
			t.Errorf("vector %s: X-Webhook-Signature has no key", v.Name)
		}
		version, mac, _ := strings.Cut(v.Sig, ",")
		for what, spoil := range map[string]func(http.Header){
			"another id":       func(h http.Header) { h.Set("webhook-id", v.ID+"x") },
			"another time":     func(h http.Header) { h.Set("webhook-timestamp", v.TS+"1") },
			"no id":            func(h http.Header) { h.Del("webhook-id") },
			"no time":          func(h http.Header) { h.Del("webhook-timestamp") },
			"no signature":     func(h http.Header) { h.Del("webhook-signature") },
			"half a signature": func(h http.Header) { h.Set("webhook-signature", v.Sig[:8]) },
			"no version":       func(h http.Header) { h.Set("webhook-signature", mac) },
			"another version":  func(h http.Header) { h.Set("webhook-signature", version+"x,"+mac) },
			"only the version": func(h http.Header) { h.Set("webhook-signature", version+",") },
			"another's":        func(h http.Header) { h.Set("webhook-signature", other.Sig) },
			"the other version": func(h http.Header) {
				h.Set("webhook-signature", map[string]string{"v1": "v1a,", "v1a": "v1,"}[version]+mac)
			},
		} {
			h := signed(t, v)
			spoil(h)
			if v.own().verifies(t, h, v.Body) {
				t.Errorf("vector %s: %s is verified", v.Name, what)
			}
		}
		if v.own().verifies(t, h, v.Body+" ") || receivedHex(h, v.Secret, v.Body+" ") {
			t.Errorf("vector %s: another body is verified", v.Name)
		}
		if other.own().verifies(t, h, v.Body) {
			t.Errorf("vector %s: another key verifies", v.Name)
		}
		h.Set("webhook-signature", "v1,bm9ib2R5J3M= v2,x "+v.Sig)
		if !v.own().verifies(t, h, v.Body) {
			t.Errorf("vector %s: not verified among others", v.Name)
		}
	}
}

func TestBothKeysSignWhileTheyOverlap(t *testing.T) {
	t.Parallel()
	const body = `{"event":"memory_added"}`
	start := time.Unix(1700000000, 0)
	until := start.Add(24 * time.Hour)
	const (
		oldSecret, newSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
		oldPrivate           = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk="
		newPrivate           = "whsk_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU="
		oldPublic, newPublic = "whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g=", "whpk_wuzPrKxPfWpJSsXgyg/MEoMGvjs5SjDO4ad6X4ZYqqg="
	)
	c := endpoint.Credentials{Keys: []endpoint.Key{
		{ID: "new", Kind: endpoint.KeyHMAC, Secret: newSecret, CreatedAt: start},
		{ID: "new public", Kind: endpoint.KeyEd25519, Secret: newPrivate, CreatedAt: start},
		{ID: "old", Kind: endpoint.KeyHMAC, Secret: oldSecret, ExpiresAt: &until},
		{ID: "old public", Kind: endpoint.KeyEd25519, Secret: oldPrivate, ExpiresAt: &until},
	}}
	for _, tt := range []struct {
		name     string
		at       time.Time
		versions string
		old      bool // verifies
	}{
		{"at the beginning", start, "v1 v1a v1 v1a", true},
		{"just before the end", until.Add(-time.Nanosecond), "v1 v1a v1 v1a", true},
		{"at the end", until, "v1 v1a", false},
		{"long after", until.Add(time.Hour), "v1 v1a", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			mustSign(t, h, c, "msg_1", tt.at, []byte(body))
			for _, r := range []struct {
				receiver
				want bool
			}{
				{receiver{oldSecret}, tt.old}, {receiver{newSecret}, true}, {receiver{newSecret, oldSecret}, true},
				{receiver{oldPublic}, tt.old}, {receiver{newPublic}, true}, {receiver{oldPublic, newPublic}, true},
			} {
				if got := r.verifies(t, h, body); got != r.want {
					t.Errorf("a receiver with %q verifies: %t, want %t", r.receiver, got, r.want)
				}
			}
			if !receivedHex(h, newSecret, body) {
				t.Error("X-Webhook-Signature is not by the newest key alone")
			}
			var versions []string
			for one := range strings.FieldsSeq(h.Get("webhook-signature")) {
				version, _, _ := strings.Cut(one, ",")
				versions = append(versions, version)
			}
			if got := strings.Join(versions, " "); got != tt.versions || len(h.Values("webhook-signature")) != 1 {
				t.Errorf("signatures are %s, want %s", got, tt.versions)
			}
			if first := strings.Fields(h.Get("webhook-signature"))[0]; first != "v1,"+base64.StdEncoding.EncodeToString(
				handHMAC(keyOf(t, newSecret), fmt.Sprintf("msg_1.%d.%s", tt.at.Unix(), body))) {
				t.Error("the newest key's signature does not come first")
			}
		})
	}
}

func keyOf(t *testing.T, secret string) []byte {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSign(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 999)
	hmacKey := func(secret string) endpoint.Credentials { return endpoint.EnvCredentials("", secret) }
	tests := []struct {
		name          string
		c             endpoint.Credentials
		authorization string
		key           string // of webhook-signature; empty if there is none
	}{
		{name: "nothing set: id and time only"},
		{name: "token only", c: endpoint.EnvCredentials("tok", ""), authorization: "Bearer tok"},
		{name: "plain secret is the key as written", c: hmacKey("plain secret"), key: "plain secret"},
		{name: "token and secret", c: endpoint.EnvCredentials("tok", "s"), authorization: "Bearer tok", key: "s"},
		{name: "base64 without whsec_ is the key as written", c: hmacKey("c2VjcmV0"), key: "c2VjcmV0"},
		{name: "base64 after whsec_ is decoded", c: hmacKey("whsec_c2VjcmV0"), key: "secret"},
		{name: "whsec_ without base64 is the key as written", c: hmacKey("whsec_not base64"), key: "whsec_not base64"},
		{name: "bare whsec_ is no empty key", c: hmacKey("whsec_"), key: "whsec_"},
		{name: "key longer than a block", c: hmacKey(strings.Repeat("k", 100)), key: strings.Repeat("k", 100)},
		{
			name:          "password",
			c:             endpoint.Credentials{Auth: endpoint.Auth{Kind: endpoint.AuthBasic, Username: "Aladdin", Password: "open sesame"}},
			authorization: "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", // RFC 7617, section 2
		},
		{name: "OAuth2: the token is fetched elsewhere", c: endpoint.Credentials{Auth: endpoint.Auth{Kind: endpoint.AuthOAuth2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := http.Header{"Webhook-Id": {"id"}, "Webhook-Timestamp": {"1700000000"}}
			if tt.authorization != "" {
				want.Set("Authorization", tt.authorization)
			}
			if tt.key != "" {
				want.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(handHMAC([]byte(tt.key), "id.1700000000.body")))
				want.Set("X-Webhook-Signature", "sha256="+hex.EncodeToString(handHMAC([]byte(tt.c.Keys[0].Secret), "body")))
			}
			got := http.Header{}
			mustSign(t, got, tt.c, "id", at, []byte("body"))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOwnHeadersReplaceNothingOfOurs(t *testing.T) {
	t.Parallel()
	c := endpoint.EnvCredentials("tok", "s")
	c.Headers = map[string]string{
		"X-Tenant": "acme", "x-lower": "case", "User-Agent": "mine", "Authorization": "stolen",
		"webhook-id": "stolen", "Webhook-Timestamp": "stolen", "WEBHOOK-SIGNATURE": "stolen", "webhook-anything": "stolen",
		"x-webhook-signature": "stolen", "content-type": "stolen", "Content-Length": "stolen", "Host": "stolen", "Transfer-Encoding": "stolen",
		"Connection": "stolen", "Keep-Alive": "stolen", "Proxy-Authorization": "stolen", "Proxy-Authenticate": "stolen", "Proxy-Connection": "stolen",
		"TE": "stolen", "Trailer": "stolen", "Upgrade": "stolen", "Expect": "stolen",
	}
	for name, c := range map[string]endpoint.Credentials{"signed": c, "not signed": {Auth: c.Auth, Headers: c.Headers}} {
		h := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"memrelay/1"}}
		mustSign(t, h, c, "id", time.Unix(1, 0), nil)
		var names []string
		for name, values := range h {
			names = append(names, name)
			if len(values) != 1 || values[0] == "stolen" {
				t.Errorf("%s: %s is %q", name, name, values)
			}
		}
		want := []string{"Authorization", "Content-Type", "User-Agent", "Webhook-Id", "Webhook-Timestamp", "X-Lower", "X-Tenant"}
		if name == "signed" {
			want = append(want, "Webhook-Signature", "X-Webhook-Signature")
		}
		slices.Sort(names)
		slices.Sort(want)
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s: headers (-want +got):\n%s", name, diff)
		}
		if h.Get("X-Tenant") != "acme" || h.Get("User-Agent") != "mine" || h.Get("Authorization") != "Bearer tok" {
			t.Errorf("%s: got %v", name, h)
		}
	}
	open := http.Header{}
	mustSign(t, open, endpoint.Credentials{Headers: map[string]string{"authorization": "Digest own"}}, "id", time.Unix(1, 0), nil)
	if got := open.Get("Authorization"); got != "Digest own" {
		t.Errorf("without an Auth, Authorization is %q, want the endpoint's own", got)
	}
}

func TestKeyThatCannotSign(t *testing.T) {
	t.Parallel()
	for _, k := range []endpoint.Key{
		{Kind: endpoint.KeyHMAC},
		{Kind: endpoint.KeyEd25519, Secret: "whsk_c2VjcmV0"},
		{Kind: endpoint.KeyEd25519},
		{Kind: "rsa", Secret: "s3cret-of-it"},
	} {
		h := http.Header{}
		if err := sign(h, endpoint.Credentials{Keys: []endpoint.Key{k}}, "id", time.Unix(1, 0), nil); !errors.Is(err, errKey) ||
			(k.Secret != "" && strings.Contains(err.Error(), k.Secret)) || h.Get("webhook-signature") != "" {
			t.Errorf("%s: got %v and %v", k.Kind, err, h)
		}
	}
}

// received checks a delivery as a receiver would who has read the specification and none of our code.
func received(h http.Header, key []byte, body string) bool {
	id, ts := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	if id == "" || ts == "" {
		return false
	}
	for part := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		version, coded, _ := strings.Cut(part, ",")
		mac, err := base64.StdEncoding.DecodeString(coded)
		if version == "v1" && err == nil && bytes.Equal(mac, handHMAC(key, id+"."+ts+"."+body)) {
			return true
		}
	}
	return false
}

// receivedPublic is received with a public key.
func receivedPublic(h http.Header, key []byte, body string) bool {
	id, ts := h.Get("Webhook-Id"), h.Get("Webhook-Timestamp")
	if id == "" || ts == "" {
		return false
	}
	for part := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		version, coded, _ := strings.Cut(part, ",")
		sig, err := base64.StdEncoding.DecodeString(coded)
		if version == "v1a" && err == nil && ed25519.Verify(key, []byte(id+"."+ts+"."+body), sig) {
			return true
		}
	}
	return false
}

func receivedHex(h http.Header, secret, body string) bool {
	return h.Get("X-Webhook-Signature") == fmt.Sprintf("sha256=%x", handHMAC([]byte(secret), body))
}

// handHMAC is HMAC-SHA256 written out from RFC 2104, so that nothing here rests on the calls under test.
func handHMAC(key []byte, message string) []byte {
	if len(key) > sha256.BlockSize {
		short := sha256.Sum256(key)
		key = short[:]
	}
	var inner, outer [sha256.BlockSize]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	first := sha256.Sum256(append(inner[:], message...))
	second := sha256.Sum256(append(outer[:], first[:]...))
	return second[:]
}
