package inbound

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vector is one of the published examples of Standard Webhooks.
type vector struct {
	Name   string `json:"name"`
	V      string `json:"v"`
	Secret string `json:"secret"`
	ID     string `json:"id"`
	TS     string `json:"ts"`
	Body   string `json:"body"`
	Sig    string `json:"sig"`
}

func (v vector) header() http.Header {
	return with(http.Header{}, "webhook-id", v.ID, "webhook-timestamp", v.TS, "webhook-signature", v.Sig)
}

func (v vector) at(t *testing.T) time.Time {
	t.Helper()
	seconds, err := strconv.ParseInt(v.TS, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, 0)
}

func vectors(t *testing.T) map[string]vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/standard-webhooks-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	named := map[string]vector{}
	for _, v := range all {
		named[v.Name] = v
	}
	if len(named) != 6 {
		t.Fatalf("%d vectors, want 6", len(named))
	}
	return named
}

func TestVerifyStandardAgainstThePublishedVectors(t *testing.T) {
	t.Parallel()
	for name, v := range vectors(t) {
		secret := v.Secret
		if secret == "" {
			secret = memorySecret
		}
		err := verifyStandard([]string{memorySecret, secret}, v.header(), []byte(v.Body), v.at(t))
		if v.V == "v1" && err != nil {
			t.Errorf("%s does not hold: %v", name, err)
		}
		if v.V != "v1" && err != errOtherVersion { //nolint:errorlint // it is returned as it is
			t.Errorf("%s of version %s: %v, want that it is another version", name, v.V, err)
		}
	}
}

func TestVerifyStandardRefuses(t *testing.T) {
	t.Parallel()
	a, b := vectors(t)["A"], vectors(t)["B"]
	const decoys = "v1,tFtCZ5RDCPxzWQRWXWPgrCgE2frDBe9gjpbWQxnVfsQ= v1,Mm7xgUVICxZfQ3bgf0h0Dof65L/IFx+PnZvnDWPCX6Q= v1,9DfC1c3eeOrXB6w/5dIDydLNQaEyww5KalE5jLBZucE="
	signature := strings.TrimPrefix(a.Sig, "v1,")
	for _, tt := range []struct {
		name   string
		of     vector
		change func(h http.Header)
		secret string // "": the right one
		off    time.Duration
		holds  bool
	}{
		{name: "as it is", of: a, holds: true},
		{name: "another signature", of: a, change: set("webhook-signature", "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=")},
		{name: "another signature of B", of: b, change: set("webhook-signature", "v1,R3PTzyfHASBKHH98a7yexTwaJ4yNIcGhFQc1yuN+BPU=")},
		{name: "a part of it", of: a, change: set("webhook-signature", a.Sig[:8])},
		{name: "nothing but the version", of: a, change: set("webhook-signature", "v1,")},
		{name: "no version", of: a, change: set("webhook-signature", signature)},
		{name: "another version", of: a, change: set("webhook-signature", "v2,"+signature)},
		{name: "v1a with the bytes of v1", of: a, change: set("webhook-signature", "v1a,"+signature)},
		{name: "the last character changed", of: a, change: set("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA=")},
		{name: "empty", of: a, change: set("webhook-signature", "")},
		{name: "decoys alone", of: b, change: set("webhook-signature", decoys)},
		{name: "decoys before it", of: b, change: set("webhook-signature", decoys+" "+b.Sig), holds: true},
		{name: "decoys behind it", of: b, change: set("webhook-signature", b.Sig+" "+decoys), holds: true},
		{name: "another version before it", of: a, change: set("webhook-signature", "v1a,AAAA "+a.Sig), holds: true},
		{name: "no id", of: a, change: func(h http.Header) { h.Del("webhook-id") }},
		{name: "no timestamp", of: a, change: func(h http.Header) { h.Del("webhook-timestamp") }},
		{name: "another id", of: a, change: set("webhook-id", "msg_2")},
		{name: "another timestamp", of: a, change: set("webhook-timestamp", "1614265331")},
		{name: "the id twice", of: a, change: func(h http.Header) { h.Add("webhook-id", "msg_2") }},
		{name: "the timestamp twice", of: a, change: func(h http.Header) { h.Add("webhook-timestamp", "0") }},
		{name: "a timestamp that is none", of: a, change: set("webhook-timestamp", "hello")},
		{name: "a timestamp with a fraction", of: a, change: set("webhook-timestamp", "161426533.0")},
		{name: "another secret", of: a, secret: b.Secret},
		{name: "a bare prefix", of: a, secret: "whsec_"},
		{name: "five minutes late", of: a, off: webhookTolerance, holds: true},
		{name: "five minutes early", of: a, off: -webhookTolerance, holds: true},
		{name: "a second later than that", of: a, off: webhookTolerance + time.Second},
		{name: "a second earlier than that", of: a, off: -webhookTolerance - time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := tt.of.header()
			if tt.change != nil {
				tt.change(h)
			}
			secret := tt.of.Secret
			if tt.secret != "" {
				secret = tt.secret
			}
			err := verifyStandard([]string{secret}, h, []byte(tt.of.Body), tt.of.at(t).Add(tt.off))
			if (err == nil) != tt.holds {
				t.Errorf("it says %v, want that it holds: %t", err, tt.holds)
			}
			if err := verifyStandard([]string{secret}, h, []byte(tt.of.Body+" "), tt.of.at(t).Add(tt.off)); err == nil {
				t.Error("it holds for another body, too")
			}
		})
	}
}

func set(name, value string) func(http.Header) { return func(h http.Header) { h.Set(name, value) } }

// standardSignature signs as Standard Webhooks wants it, with a secret that is no base64.
func standardSignature(secret, id, stamp, body string) string {
	return "v1," + base64Of(secret, id+"."+stamp+"."+body)
}

func TestMemoryProofs(t *testing.T) {
	t.Parallel()
	body := ours("memory_added", "u", added1)
	stamp, late := strconv.Itoa(memoryNow), strconv.Itoa(memoryNow-301)
	token := []string{"Authorization", "Bearer " + memoryToken}
	plain := []string{"X-Webhook-Signature", "sha256=" + hexOf(memorySecret, body)}
	standard := []string{"webhook-id", "w-1", "webhook-timestamp", stamp, "webhook-signature", standardSignature(memorySecret, "w-1", stamp, body)}
	wrong := []string{"X-Webhook-Signature", "sha256=" + hexOf("another", body)}
	join := func(lists ...[]string) (all []string) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	both := func(s *MemorySettings) { s.Secrets = []string{"", "a-newer-secret", memorySecret} }
	secretOnly := func(s *MemorySettings) { s.Token, s.Secrets = "", []string{memorySecret} }
	tokenOnly := func(*MemorySettings) {}
	closed := func(s *MemorySettings) { s.Token, s.Secrets = "", []string{""} }
	for _, tt := range []struct {
		name    string
		set     func(*MemorySettings)
		headers []string
		lets    bool
	}{
		{"token alone is set: the token", tokenOnly, token, true},
		{"token alone is set: in the header for those who cannot set the other", tokenOnly, []string{"X-Webhook-Token", memoryToken}, true},
		{"token alone is set: nothing", tokenOnly, nil, false},
		{"token alone is set: another", tokenOnly, []string{"Authorization", "Bearer another"}, false},
		{"token alone is set: not as Bearer", tokenOnly, []string{"Authorization", "Basic " + memoryToken}, false},
		{"token alone is set: a signature is no token", tokenOnly, plain, false},
		{"token alone is set: signatures are not looked at", tokenOnly, join(token, wrong), true},
		{"secret alone is set: a plain signature", secretOnly, plain, true},
		{"secret alone is set: a standard one", secretOnly, standard, true},
		{"secret alone is set: both", secretOnly, join(plain, standard), true},
		{"secret alone is set: nothing", secretOnly, nil, false},
		{"secret alone is set: a token is no signature", secretOnly, token, false},
		{"secret alone is set: a wrong one beside a right one", secretOnly, join(standard, wrong), false},
		{"secret alone is set: a late one beside a right one", secretOnly, join(
			[]string{"webhook-id", "w-1", "webhook-timestamp", late, "webhook-signature", standardSignature(memorySecret, "w-1", late, body)}, plain), false},
		{"secret alone is set: a version we do not know beside a right one", secretOnly, join(
			[]string{"webhook-id", "w-1", "webhook-timestamp", stamp, "webhook-signature", "v1a,AAAA"}, plain), true},
		{"secret alone is set: a version we do not know alone", secretOnly,
			[]string{"webhook-id", "w-1", "webhook-timestamp", stamp, "webhook-signature", "v1a,AAAA"}, false},
		{"both are set: both", both, join(token, standard), true},
		{"both are set: both, the plain signature", both, join(token, plain), true},
		{"both are set: the token alone", both, token, false},
		{"both are set: the signature alone", both, standard, false},
		{"both are set: the signature of an older secret's neighbour", both, join(token, wrong), false},
		{"nothing is set: nothing", closed, nil, false},
		{"nothing is set: an empty token", closed, []string{"Authorization", "Bearer "}, false},
		{"nothing is set: signed with nothing", closed, []string{"X-Webhook-Signature", hexOf("", body)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := newMemoryDoor(t, setup{}, tt.set)
			a := m.hand(t, strings.NewReader(body), tt.headers...)
			if tt.lets {
				a.wantMemory(t, saysLogged)
				return
			}
			a.want(t, http.StatusUnauthorized, "unauthorized")
			// What is wrong inside is not for strangers, and the door says one thing to all of them.
			if other := m.hand(t, strings.NewReader("{"), tt.headers...); other.Detail != a.Detail || other.status != a.status {
				t.Errorf("it says %q to another body, %q to this one", other.Detail, a.Detail)
			}
			wantTables(t, m.pool, map[string]int64{})
		})
	}
}

func TestStandardKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ secret, key string }{
		{"", ""},
		{"whsec_", ""},
		{"plain", "plain"},
		{"whsec_" + base64.StdEncoding.EncodeToString([]byte("the key")), "the key"},
		{"whsec_no base64", "whsec_no base64"},
	} {
		if got := string(standardKey(tt.secret)); got != tt.key {
			t.Errorf("the key of %q is %q, want %q", tt.secret, got, tt.key)
		}
	}
}
