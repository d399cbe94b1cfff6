package outbound

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type vector struct {
	Name   string `json:"name"`
	V      string `json:"v"`
	Secret string `json:"secret"`
	ID     string `json:"id"`
	TS     string `json:"ts"`
	Body   string `json:"body"`
	Sig    string `json:"sig"`
}

// vectors returns those of testdata with a symmetric key.
func vectors(t *testing.T) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/standard-webhooks-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all, v1 []vector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.V == "v1" {
			v1 = append(v1, v)
		}
	}
	if len(v1) != 3 {
		t.Fatalf("%d vectors, want A, B and C", len(v1))
	}
	return v1
}

func signed(t *testing.T, v vector) http.Header {
	t.Helper()
	ts, err := strconv.ParseInt(v.TS, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	sign(h, Credentials{Secret: v.Secret}, v.ID, time.Unix(ts, 0), []byte(v.Body))
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
	}
}

func TestReceiverCanVerify(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(v.Secret, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		h := signed(t, v)
		if !received(h, key, v.Body) {
			t.Errorf("vector %s is not verified", v.Name)
		}
		if !receivedHex(h, v.Secret, v.Body) {
			t.Errorf("vector %s: X-Webhook-Signature is not verified", v.Name)
		}
		for what, spoil := range map[string]func(http.Header){
			"another id":     func(h http.Header) { h.Set("webhook-id", v.ID+"x") },
			"another time":   func(h http.Header) { h.Set("webhook-timestamp", v.TS+"1") },
			"no id":          func(h http.Header) { h.Del("webhook-id") },
			"no time":        func(h http.Header) { h.Del("webhook-timestamp") },
			"no signature":   func(h http.Header) { h.Del("webhook-signature") },
			"half signature": func(h http.Header) { h.Set("webhook-signature", v.Sig[:8]) },
		} {
			h := signed(t, v)
			spoil(h)
			if received(h, key, v.Body) {
				t.Errorf("vector %s: %s is verified", v.Name, what)
			}
		}
		if received(h, key, v.Body+" ") || receivedHex(h, v.Secret, v.Body+" ") {
			t.Errorf("vector %s: another body is verified", v.Name)
		}
		if received(h, append(key, 'x'), v.Body) || receivedHex(h, v.Secret+"x", v.Body) {
			t.Errorf("vector %s: another key verifies", v.Name)
		}
	}
}

func TestSign(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 999)
	tests := []struct {
		name string
		c    Credentials
		key  string // of webhook-signature; empty if there is none
	}{
		{name: "nothing set: id and time only"},
		{name: "token only", c: Credentials{Token: "tok"}},
		{name: "plain secret is the key as written", c: Credentials{Secret: "plain secret"}, key: "plain secret"},
		{name: "token and secret", c: Credentials{Token: "tok", Secret: "s"}, key: "s"},
		{name: "base64 without whsec_ is the key as written", c: Credentials{Secret: "c2VjcmV0"}, key: "c2VjcmV0"},
		{name: "base64 after whsec_ is decoded", c: Credentials{Secret: "whsec_c2VjcmV0"}, key: "secret"},
		{name: "whsec_ without base64 is the key as written", c: Credentials{Secret: "whsec_not base64"}, key: "whsec_not base64"},
		{name: "bare whsec_ is no empty key", c: Credentials{Secret: "whsec_"}, key: "whsec_"},
		{name: "key longer than a block", c: Credentials{Secret: strings.Repeat("k", 100)}, key: strings.Repeat("k", 100)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := http.Header{"Webhook-Id": {"id"}, "Webhook-Timestamp": {"1700000000"}}
			if tt.c.Token != "" {
				want.Set("Authorization", "Bearer "+tt.c.Token)
			}
			if tt.key != "" {
				want.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(handHMAC([]byte(tt.key), "id.1700000000.body")))
				want.Set("X-Webhook-Signature", "sha256="+hex.EncodeToString(handHMAC([]byte(tt.c.Secret), "body")))
			}
			got := http.Header{}
			sign(got, tt.c, "id", at, []byte("body"))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCredentialsHideThemselves(t *testing.T) {
	t.Parallel()
	c := Credentials{Token: "t0ken", Secret: "s3cret"}
	holder := struct {
		C Credentials
		P *Credentials
	}{c, &c}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&out, verb, c)
		fmt.Fprintf(&out, verb, holder)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "c", c, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "c", c, "holder", holder)
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	out.WriteString(c.String())
	for _, s := range []string{"t0ken", "s3cret", "74306b656e", "116 48"} { // as text, hexadecimal and numbers
		if strings.Contains(out.String(), s) {
			t.Errorf("%q shows in:\n%s", s, &out)
		}
	}
	if got, want := (Credentials{Token: "x"}).String(), "token:true secret:false"; got != want {
		t.Errorf("got %q, want %q", got, want)
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
