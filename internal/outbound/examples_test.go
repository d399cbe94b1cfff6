package outbound_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/outbound"
)

const (
	docs   = "../../docs/"
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	other  = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	// Those of the published vectors.
	private, public           = "whsk_VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=", "whpk_ZlN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c/g="
	otherPrivate, otherPublic = "whsk_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=", "whpk_wuzPrKxPfWpJSsXgyg/MEoMGvjs5SjDO4ad6X4ZYqqg="
)

// webhook is one as it arrived.
type webhook struct {
	header http.Header
	body   []byte
}

// send has a webhook signed with secret at that time, sent by POST, and returns what arrived. Its body says that it is of source.
func send(t *testing.T, secret string, at time.Time, source string) webhook {
	t.Helper()
	return sendAs(t, endpoint.EnvCredentials("", secret), at, source)
}

// keys are those of an endpoint that signs with these secrets, the newest first: whsk_… with ed25519.
func keys(secrets ...string) (c endpoint.Credentials) {
	for i, s := range secrets {
		k := endpoint.Key{ID: strconv.Itoa(i), Kind: endpoint.KeyHMAC, Secret: s}
		if strings.HasPrefix(s, "whsk_") {
			k.Kind = endpoint.KeyEd25519
		}
		c.Keys = append(c.Keys, k)
	}
	return c
}

// sendAs is send by an endpoint that has these credentials.
func sendAs(t *testing.T, credentials endpoint.Credentials, at time.Time, source string) webhook {
	t.Helper()
	arrived := make(chan webhook, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- webhook{r.Header, body}
	}))
	defer receiver.Close()
	guard := outbound.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil)
	now := func() time.Time { return at }
	targets := outbound.NewTargets(guard.TransportWith, nil, credentials, now)
	defer targets.CloseIdleConnections()
	test := outbound.NewTester(targets, "1.2.3", outbound.Endpoint{URL: receiver.URL, Timeout: 30 * time.Second}, nil,
		memory.Sender{Source: source, BotVersion: "1.0.0"}, now).Send(t.Context())
	if !test.Outcome.Delivered {
		t.Fatalf("not delivered: %s", test.Outcome.Error)
	}
	return <-arrived
}

// signAgain signs it as we would sign a body that no webhook of ours has.
func (w webhook) signAgain(key string) {
	mac := hmac.New(sha256.New, []byte(key))
	fmt.Fprintf(mac, "%s.%s.%s", w.header.Get("webhook-id"), w.header.Get("webhook-timestamp"), w.body)
	w.header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// signAgainWith does it with an ed25519 key.
func (w webhook) signAgainWith(t *testing.T, private string) {
	t.Helper()
	key, err := endpoint.ParseEd25519(private)
	if err != nil {
		t.Fatal(err)
	}
	signed := fmt.Appendf(nil, "%s.%s.%s", w.header.Get("webhook-id"), w.header.Get("webhook-timestamp"), w.body)
	w.header.Set("webhook-signature", "v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(key, signed)))
}

// verifier is one of those in docs/verify, as a command.
type verifier struct {
	name     string
	command  []string
	oneOnly  bool // it takes no second secret
	noPublic bool // it refuses public keys
}

func verifiers(t *testing.T) []verifier {
	t.Helper()
	program := filepath.Join(t.TempDir(), "verify")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, docs+"verify").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return []verifier{
		{name: "go", command: []string{program}},
		{name: "openssl", command: []string{"sh", docs + "verify/verify.sh"}, oneOnly: true},
		{name: "python3", command: []string{"python3", "-B", docs + "verify/verify.py"}, noPublic: true},
		{name: "node", command: []string{"node", docs + "verify/verify.mjs"}},
	}
}

// need skips the test where an interpreter that not every machine has is missing.
func need(t *testing.T, program string) {
	t.Helper()
	if program != "python3" && program != "node" {
		return
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("not run, for there is no %s here", program)
	}
}

// example is a webhook and what a verifier that is asked as said has to say of it.
type example struct {
	name    string
	webhook webhook
	secrets [2]string // the receiver's: the one in use, and the one before it
	now     string    // "": the verifier looks at the clock itself
	flags   []string
	stdin   bool   // the body comes by standard input
	want    string // "": it is valid
	refused string // it is no verdict, but this is said of a secret
}

func (e example) check(t *testing.T, v verifier) {
	t.Helper()
	need(t, v.name)
	dir := t.TempDir()
	headers, body := filepath.Join(dir, "headers.txt"), filepath.Join(dir, "body")
	var text bytes.Buffer
	text.WriteString("POST /hook HTTP/1.1\r\nHost: example.com:443\r\n")
	if err := errors.Join(e.webhook.header.Write(&text), os.WriteFile(headers, text.Bytes(), 0o600), os.WriteFile(body, e.webhook.body, 0o600)); err != nil {
		t.Fatal(err)
	}
	args := append(v.command[1:len(v.command):len(v.command)], e.flags...)
	if e.now != "" {
		args = append(args, "--now", e.now)
	}
	args = append(args, headers)
	if !e.stdin {
		args = append(args, body)
	}
	cmd := exec.CommandContext(t.Context(), v.command[0], args...)
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+e.secrets[0], "WEBHOOK_OLD_SECRET="+e.secrets[1])
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(e.webhook.body), &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if v.noPublic && strings.Contains(strings.Join(e.secrets[:], ""), "whpk_") {
		e.refused = "a public key needs ed25519"
	}
	if e.refused != "" {
		if code := cmd.ProcessState.ExitCode(); code != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), e.refused) {
			t.Errorf("%s ends with %d and says\n%s%s\nwant 2, and %q", v.name, code, &stdout, &stderr, e.refused)
		}
		return
	}
	type said struct {
		Code        int
		Out, Reason string
	}
	want := said{Out: "valid\n"}
	if e.want != "" {
		want = said{Code: 1, Reason: "invalid: " + e.want + "\n"}
	}
	if diff := cmp.Diff(want, said{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}); diff != "" {
		t.Errorf("%s of\n%s%q\n(-want +got):\n%s", v.name, text.String(), e.webhook.body, diff)
	}
}

// checkAll asks every verifier about every example.
func checkAll(t *testing.T, examples []example) {
	t.Helper()
	all := verifiers(t)
	for _, e := range examples {
		for _, v := range all {
			if v.oneOnly && e.secrets[1] != "" {
				continue
			}
			t.Run(e.name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				e.check(t, v)
			})
		}
	}
}

func TestExamplesVerifyWhatIsSent(t *testing.T) {
	t.Parallel()
	const noMatch, old, future = "webhook-signature does not match", "webhook-timestamp is too old", "webhook-timestamp is in the future"
	at := time.Unix(1795323824, 0)
	now := func(seconds int64) string { return strconv.FormatInt(at.Unix()+seconds, 10) }
	is := [2]string{secret}

	// changed returns a webhook sent at that time, after change was done to it.
	changed := func(change func(*webhook)) webhook {
		w := send(t, secret, at, "memrelay")
		change(&w)
		return w
	}
	set := func(name, value string) webhook { return changed(func(w *webhook) { w.header.Set(name, value) }) }
	signedAs := func(form string) webhook {
		return changed(func(w *webhook) {
			w.header.Set("webhook-signature", strings.ReplaceAll(form, "RIGHT", strings.TrimPrefix(w.header.Get("webhook-signature"), "v1,")))
		})
	}
	const wrong = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
	sent := send(t, secret, at, "memrelay")
	empty := changed(func(w *webhook) { w.body = nil; w.signAgain("plain") })

	bodyOnly := []string{"--body-only"}
	checkAll(t, []example{
		{name: "valid", webhook: send(t, secret, time.Now(), "memrelay"), secrets: is},
		{name: "valid, at a given time", webhook: sent, secrets: is, now: now(0)},
		{name: "valid, by standard input", webhook: sent, secrets: is, now: now(0), stdin: true},
		{name: "UTF-8 body", webhook: send(t, secret, at, "Zoë's „memory“ 記憶 🧠"), secrets: is, now: now(0)},
		{name: "empty body", webhook: empty, secrets: [2]string{"plain"}, now: now(0)},
		{name: "body of any bytes", webhook: changed(func(w *webhook) { w.body = []byte("\x00\xff\r\n\n"); w.signAgain("plain") }), secrets: [2]string{"plain"}, now: now(0)},
		{name: "wrong secret", webhook: sent, secrets: [2]string{other}, now: now(0), want: noMatch},
		{name: "changed body", webhook: changed(func(w *webhook) { w.body = append(w.body, '\n') }), secrets: is, now: now(0), want: noMatch},
		{name: "body left out", webhook: changed(func(w *webhook) { w.body = nil }), secrets: is, now: now(0), want: noMatch},
		{name: "changed id", webhook: set("webhook-id", "01a201a3-89ed-769a-b1f9-2106af11e64b"), secrets: is, now: now(0), want: noMatch},
		{name: "changed time", webhook: set("webhook-timestamp", now(1)), secrets: is, now: now(0), want: noMatch},
		{name: "old", webhook: send(t, secret, time.Now().Add(-time.Hour), "memrelay"), secrets: is, want: old},
		{name: "future", webhook: send(t, secret, time.Now().Add(time.Hour), "memrelay"), secrets: is, want: future},
		{name: "5 minutes old", webhook: sent, secrets: is, now: now(300)},
		{name: "5 minutes ahead", webhook: sent, secrets: is, now: now(-300)},
		{name: "older than 5 minutes", webhook: sent, secrets: is, now: now(301), want: old},
		{name: "more than 5 minutes ahead", webhook: sent, secrets: is, now: now(-301), want: future},
		{name: "no time", webhook: set("webhook-timestamp", "hello"), secrets: is, now: now(0), want: "webhook-timestamp is not a time"},
		{name: "time with a fraction", webhook: set("webhook-timestamp", now(0)+".0"), secrets: is, now: now(0), want: "webhook-timestamp is not a time"},
		{name: "time beyond all", webhook: set("webhook-timestamp", strings.Repeat("9", 30)), secrets: is, now: now(0), want: "webhook-timestamp is not a time"},
		{name: "id missing", webhook: changed(func(w *webhook) { w.header.Del("webhook-id") }), secrets: is, now: now(0), want: "webhook-id is missing"},
		{name: "time missing", webhook: changed(func(w *webhook) { w.header.Del("webhook-timestamp") }), secrets: is, now: now(0), want: "webhook-timestamp is missing"},
		{name: "signature missing", webhook: changed(func(w *webhook) { w.header.Del("webhook-signature") }), secrets: is, now: now(0), want: "webhook-signature is missing"},
		{name: "nobody signed", webhook: send(t, "", at, "memrelay"), secrets: is, now: now(0), want: "webhook-signature is missing"},
		{name: "signature empty", webhook: signedAs(""), secrets: is, now: now(0), want: "webhook-signature is missing"},
		{name: "several, the first right", webhook: signedAs("v1,RIGHT " + wrong), secrets: is, now: now(0)},
		{name: "several, one right", webhook: signedAs(wrong + " v2,RIGHT v1,RIGHT v1a,eA=="), secrets: is, now: now(0)},
		{name: "several, none right", webhook: signedAs(wrong + " v1,eA== v1, v1"), secrets: is, now: now(0), want: noMatch},
		{name: "another version", webhook: signedAs("v2,RIGHT v1a,RIGHT"), secrets: is, now: now(0), want: noMatch},
		{name: "no version", webhook: signedAs("RIGHT"), secrets: is, now: now(0), want: noMatch},
		{name: "no ASCII", webhook: signedAs("v1,\xfc\xe9 v1,é"), secrets: is, now: now(0), want: noMatch},
		{name: "half a signature", webhook: set("webhook-signature", sent.header.Get("webhook-signature")[:20]), secrets: is, now: now(0), want: noMatch},
		{name: "rotated, still the old secret", webhook: sent, secrets: [2]string{other, secret}, now: now(0)},
		{name: "rotated, the new secret", webhook: sent, secrets: [2]string{secret, other}, now: now(0)},
		{name: "rotated, neither", webhook: sent, secrets: [2]string{other, "plain"}, now: now(0), want: noMatch},
		{name: "body only", webhook: sent, secrets: is, flags: bodyOnly},
		{name: "body only, rotated", webhook: sent, secrets: [2]string{other, secret}, flags: bodyOnly},
		{name: "body only, by standard input", webhook: sent, secrets: is, flags: bodyOnly, stdin: true},
		{name: "body only, wrong secret", webhook: sent, secrets: [2]string{other}, flags: bodyOnly, want: "x-webhook-signature does not match"},
		{name: "body only, changed body", webhook: changed(func(w *webhook) { w.body[0] = '[' }), secrets: is, flags: bodyOnly, want: "x-webhook-signature does not match"},
		{name: "body only, missing", webhook: changed(func(w *webhook) { w.header.Del("x-webhook-signature") }), secrets: is, flags: bodyOnly, want: "x-webhook-signature is missing"},
	})
}

// A public key checks the v1a signatures, a secret those of v1, and neither the other's.
func TestExamplesVerifyByAPublicKey(t *testing.T) {
	t.Parallel()
	const noMatch, notByPublic = "webhook-signature does not match", "X-Webhook-Signature is not checked by a public key"
	at := time.Unix(1795323824, 0)
	now := func(seconds int64) string { return strconv.FormatInt(at.Unix()+seconds, 10) }
	is := [2]string{public}
	sent, both := sendAs(t, keys(private), at, "memrelay"), sendAs(t, keys(secret, private), at, "memrelay")

	changed := func(change func(*webhook)) webhook {
		w := webhook{sent.header.Clone(), bytes.Clone(sent.body)}
		change(&w)
		return w
	}
	set := func(name, value string) webhook { return changed(func(w *webhook) { w.header.Set(name, value) }) }
	right := strings.TrimPrefix(sent.header.Get("webhook-signature"), "v1a,")
	signedAs := func(form string) webhook {
		return set("webhook-signature", strings.ReplaceAll(form, "RIGHT", right))
	}
	// forged is signed by somebody who knows the public key, and takes it for a secret.
	forged := func(version, key string) webhook {
		return changed(func(w *webhook) {
			w.signAgain(key)
			w.header.Set("webhook-signature", version+strings.TrimPrefix(w.header.Get("webhook-signature"), "v1,"))
		})
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := "v1a," + base64.StdEncoding.EncodeToString(make([]byte, ed25519.SignatureSize))
	another := sendAs(t, keys(otherPrivate), at, "memrelay").header.Get("webhook-signature")

	examples := []example{
		{name: "valid", webhook: sendAs(t, keys(private), time.Now(), "memrelay"), secrets: is},
		{name: "valid, at a given time", webhook: sent, secrets: is, now: now(0)},
		{name: "valid, by standard input", webhook: sent, secrets: is, now: now(0), stdin: true},
		{name: "UTF-8 body", webhook: sendAs(t, keys(private), at, "Zoë's „memory“ 記憶 🧠"), secrets: is, now: now(0)},
		{name: "empty body", webhook: changed(func(w *webhook) { w.body = nil; w.signAgainWith(t, private) }), secrets: is, now: now(0)},
		{name: "body of any bytes", webhook: changed(func(w *webhook) { w.body = []byte("\x00\xff\r\n\n"); w.signAgainWith(t, private) }), secrets: is, now: now(0)},
		{name: "another's key", webhook: sent, secrets: [2]string{otherPublic}, now: now(0), want: noMatch},
		{name: "another's signature", webhook: signedAs(another), secrets: is, now: now(0), want: noMatch},
		{name: "changed body", webhook: changed(func(w *webhook) { w.body = append(w.body, '\n') }), secrets: is, now: now(0), want: noMatch},
		{name: "body left out", webhook: changed(func(w *webhook) { w.body = nil }), secrets: is, now: now(0), want: noMatch},
		{name: "changed id", webhook: set("webhook-id", "01a201a3-89ed-769a-b1f9-2106af11e64b"), secrets: is, now: now(0), want: noMatch},
		{name: "changed time", webhook: set("webhook-timestamp", now(1)), secrets: is, now: now(0), want: noMatch},
		{name: "older than 5 minutes", webhook: sent, secrets: is, now: now(301), want: "webhook-timestamp is too old"},
		{name: "more than 5 minutes ahead", webhook: sent, secrets: is, now: now(-301), want: "webhook-timestamp is in the future"},
		{name: "several, the first right", webhook: signedAs("v1a,RIGHT " + wrong), secrets: is, now: now(0)},
		{name: "several, one right", webhook: signedAs(wrong + " v2,RIGHT v1,RIGHT v1a,RIGHT v1a,eA=="), secrets: is, now: now(0)},
		{name: "several, none right", webhook: signedAs(wrong + " " + another + " v1a,eA== v1a, v1a * v1a,*"), secrets: is, now: now(0), want: noMatch},
		{name: "another version", webhook: signedAs("v1,RIGHT v2,RIGHT V1A,RIGHT v1ab,RIGHT"), secrets: is, now: now(0), want: noMatch},
		{name: "no version", webhook: signedAs("RIGHT ,RIGHT"), secrets: is, now: now(0), want: noMatch},
		{name: "no ASCII", webhook: signedAs("v1a,\xfc\xe9 v1a,é"), secrets: is, now: now(0), want: noMatch},
		{name: "half a signature", webhook: signedAs("v1a," + right[:44]), secrets: is, now: now(0), want: noMatch},
		{name: "a byte more", webhook: signedAs("v1a," + right[:86] + "AA"), secrets: is, now: now(0), want: noMatch},
		{name: "no padding", webhook: signedAs("v1a," + right[:86]), secrets: is, now: now(0), want: noMatch},
		{name: "v1 alone", webhook: send(t, secret, at, "memrelay"), secrets: is, now: now(0), want: noMatch},
		{name: "v1a alone, by a secret", webhook: sent, secrets: [2]string{secret}, now: now(0), want: noMatch},
		{name: "v1a alone, by the private key", webhook: sent, secrets: [2]string{private}, now: now(0), want: noMatch},
		{name: "forged by the key's text", webhook: forged("v1,", public), secrets: is, now: now(0), want: noMatch},
		{name: "forged by the key's text, as v1a", webhook: forged("v1a,", public), secrets: is, now: now(0), want: noMatch},
		{name: "forged by the key's bytes", webhook: forged("v1,", string(raw)), secrets: is, now: now(0), want: noMatch},
		{name: "forged by the key's base64", webhook: forged("v1,", strings.TrimPrefix(public, "whpk_")), secrets: is, now: now(0), want: noMatch},

		{name: "both kinds, by the public key", webhook: both, secrets: is, now: now(0)},
		{name: "both kinds, by the secret", webhook: both, secrets: [2]string{secret}, now: now(0)},
		{name: "both kinds, by either", webhook: both, secrets: [2]string{public, secret}, now: now(0)},
		{name: "both kinds, another's public key and the secret", webhook: both, secrets: [2]string{otherPublic, secret}, now: now(0)},
		{name: "both kinds, another's secret and the public key", webhook: both, secrets: [2]string{other, public}, now: now(0)},
		{name: "both kinds, by neither", webhook: both, secrets: [2]string{other, otherPublic}, now: now(0), want: noMatch},
		{name: "both kinds, the body alone", webhook: both, secrets: [2]string{secret}, flags: []string{"--body-only"}},

		{name: "no public key checks the body alone", webhook: both, secrets: is, flags: []string{"--body-only"}, refused: notByPublic},
		{name: "nor what is forged by it", webhook: send(t, public, at, "memrelay"), secrets: is, flags: []string{"--body-only"}, refused: notByPublic},
	}
	for _, key := range []string{"", "ZlN4", "not base64", strings.TrimPrefix(public, "whpk_")[:42], strings.TrimRight(strings.TrimPrefix(public, "whpk_"), "="),
		strings.TrimPrefix(public, "whpk_") + "x", "_lN4eg7dSSqi0moX9hQUk3orrOouK3QVQSlJa248c_g=", base64.StdEncoding.EncodeToString(make([]byte, 64))} {
		examples = append(examples, example{name: "no key: " + key, webhook: forged("v1,", "whpk_"+key), secrets: [2]string{"whpk_" + key}, now: now(0), refused: "a public key is whpk_ and the base64 of 32 bytes"})
	}
	checkAll(t, examples)
}

// While keys overlap, a receiver that has the old one or the new one believes what is sent.
func TestExamplesVerifyDuringARotation(t *testing.T) {
	t.Parallel()
	const noMatch, noBodyMatch = "webhook-signature does not match", "x-webhook-signature does not match"
	at := time.Unix(1795323824, 0)
	now := strconv.FormatInt(at.Unix(), 10)
	rotating := keys(other, otherPrivate, secret, private)
	end := at.Add(48 * time.Hour)
	rotating.Keys[2].ExpiresAt, rotating.Keys[3].ExpiresAt = &end, &end
	during, after := sendAs(t, rotating, at, "memrelay"), sendAs(t, rotating, end, "memrelay")
	later := strconv.FormatInt(end.Unix(), 10)

	var examples []example
	for name, with := range map[string]struct {
		secrets [2]string
		after   string
	}{
		"the old secret": {[2]string{secret}, noMatch}, "the new secret": {[2]string{other}, ""}, "both secrets": {[2]string{other, secret}, ""},
		"the old public key": {[2]string{public}, noMatch}, "the new public key": {[2]string{otherPublic}, ""}, "both public keys": {[2]string{otherPublic, public}, ""},
	} {
		examples = append(examples,
			example{name: name, webhook: during, secrets: with.secrets, now: now},
			example{name: name + ", afterwards", webhook: after, secrets: with.secrets, now: later, want: with.after})
	}
	bodyOnly := []string{"--body-only"}
	checkAll(t, append(examples,
		example{name: "the body alone, the old secret", webhook: during, secrets: [2]string{secret}, flags: bodyOnly, want: noBodyMatch},
		example{name: "the body alone, the new secret", webhook: during, secrets: [2]string{other}, flags: bodyOnly},
		example{name: "the body alone, both", webhook: during, secrets: [2]string{secret, other}, flags: bodyOnly}))
}

// An endpoint has at most MostKeys of each kind, and a receiver that has the oldest of
// them only must be able to tell. Somebody who sends more wants to keep it busy.
func TestExamplesBearAsManySignaturesAsThereAre(t *testing.T) {
	t.Parallel()
	at := time.Unix(1795323824, 0)
	now := strconv.FormatInt(at.Unix(), 10)
	var all []string
	for i := range endpoint.MostKeys - 1 {
		seed := sha256.Sum256([]byte{byte(i)})
		all = append(all, "whsec_"+base64.StdEncoding.EncodeToString(seed[:]), "whsk_"+base64.StdEncoding.EncodeToString(seed[:]))
	}
	w := sendAs(t, keys(append(all, secret, private)...), at, "memrelay")
	more := webhook{w.header.Clone(), w.body}
	more.header.Set("webhook-signature", w.header.Get("webhook-signature")+" v1,eA==")
	var examples []example
	for _, s := range []string{secret, public} {
		examples = append(examples,
			example{name: s + ", the oldest", webhook: w, secrets: [2]string{s}, now: now},
			example{name: s + ", among too many", webhook: more, secrets: [2]string{s}, now: now, want: "webhook-signature holds too many"})
	}
	checkAll(t, examples)
}

// What a secret stands for is the same for whoever signs and whoever verifies.
func TestExamplesKnowEverySecret(t *testing.T) {
	t.Parallel()
	var examples []example
	for _, s := range []string{
		secret, "plain secret, with a comma", "ключ ü", strings.Repeat("k", 100), "c2VjcmV0", "whsec_", "whsec_not base64",
		"whsec_c2VjcmV0MQ==", "whsec_c2VjcmV0MTI=", "whsec_c2VjcmV0MQ", "whsec_c2VjcmV0MR==", "whsec_c2Vj-cmV0_", "whsec_====", "WHSEC_c2VjcmV0",
	} {
		w := send(t, s, time.Now(), "memrelay")
		examples = append(examples,
			example{name: s, webhook: w, secrets: [2]string{s}},
			example{name: s + ", body only", webhook: w, secrets: [2]string{s}, flags: []string{"--body-only"}})
	}
	checkAll(t, examples)
}

func TestExamplesMatchThePublishedVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/standard-webhooks-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Name, V, Secret, Public, ID, TS, Body, Sig string }
	if err := json.Unmarshal(raw, &vectors); err != nil || len(vectors) != 6 {
		t.Fatalf("%d vectors, want 6: %v", len(vectors), err)
	}
	var examples []example
	for _, v := range vectors {
		w := func(signature string) webhook {
			h := http.Header{}
			h.Set("webhook-id", v.ID)
			h.Set("webhook-timestamp", v.TS)
			h.Set("webhook-signature", signature)
			return webhook{h, []byte(v.Body)}
		}
		const noMatch = "webhook-signature does not match"
		by, wrong := [2]string{v.Secret + v.Public}, [2]string{other} // one of the two is there
		if v.V == "v1a" {
			wrong = [2]string{otherPublic}
		}
		if by == wrong {
			wrong[0] = map[string]string{"v1": secret, "v1a": public}[v.V]
		}
		version, rest, _ := strings.Cut(v.Sig, ",")
		examples = append(examples,
			example{name: v.Name, webhook: w(v.Sig), secrets: by, now: v.TS},
			example{name: v.Name + " today", webhook: w(v.Sig), secrets: by, want: "webhook-timestamp is too old"},
			example{name: v.Name + " by another's", webhook: w(v.Sig), secrets: wrong, now: v.TS, want: noMatch},
			example{name: v.Name + " with another end", webhook: w(strings.TrimSuffix(v.Sig, "=") + "A"), secrets: by, now: v.TS, want: noMatch},
			example{name: v.Name + " with another beginning", webhook: w(version + ",AAAA" + rest[4:]), secrets: by, now: v.TS, want: noMatch},
			example{name: v.Name + " as the other version", webhook: w(map[string]string{"v1": "v1a,", "v1a": "v1,"}[v.V] + rest), secrets: by, now: v.TS, want: noMatch})
	}
	checkAll(t, examples)
}

// Without a secret anybody could sign: that is no verdict but a mistake of whoever asks.
func TestExamplesRefuseToWorkWithoutASecret(t *testing.T) {
	t.Parallel()
	for _, v := range verifiers(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			need(t, v.name)
			cmd := exec.CommandContext(t.Context(), v.command[0], append(v.command[1:len(v.command):len(v.command)],
				docs+"verify/example/headers.txt", docs+"verify/example/body.json")...)
			cmd.Env = append(os.Environ(), "WEBHOOK_SECRET=", "WEBHOOK_OLD_SECRET=")
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(out), "WEBHOOK_SECRET") {
				t.Errorf("exit code %d, want 2:\n%s", code, out)
			}
		})
	}
}

// fences returns the blocks of docs/receiving.md that are fenced as of that language.
func fences(t *testing.T, language string) []string {
	t.Helper()
	page, err := os.ReadFile(docs + "receiving.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split(string(page), "\n```") {
		if block, found := strings.CutPrefix(part, language+"\n"); found && i%2 == 1 {
			blocks = append(blocks, block+"\n")
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("docs/receiving.md has no block of %s", language)
	}
	return blocks
}

// What the page shows being typed says what the page shows.
func TestCommandsOfThePageSayWhatItShows(t *testing.T) {
	t.Parallel()
	before := "set -e; cd " + docs + "..\n"
	for shown := range strings.SplitSeq(strings.TrimPrefix(fences(t, "console")[0], "$ "), "\n$ ") {
		line, want, answers := strings.Cut(strings.TrimSuffix(shown, "\n"), "\n")
		if !answers {
			before += line + "\n"
			continue
		}
		script := before + line
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			need(t, strings.Fields(line)[0])
			cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			out, _ := cmd.CombinedOutput()
			if diff := cmp.Diff(want+"\n", string(out)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReceiversOfThePage(t *testing.T) {
	t.Parallel()
	// right, again, forged, of another, again
	const noAnswer = 0
	believes := []int{204, 204, 401, 401, 204}
	python, js, golang := receiver{"python", "python3", "receiver.py", "verify.py", "exec python3 receiver.py"},
		receiver{"js", "node", "receiver.mjs", "verify.mjs", "exec node receiver.mjs"},
		receiver{"go", "go", "receiver.go", "verify.go", "go mod init receiver && go build -o receiver . && exec ./receiver"}
	for _, c := range []struct {
		receiver
		name, key     string
		signs, others string // the sender's
		want          []int
	}{
		{python, "secret", secret, secret, other, believes},
		{js, "secret", secret, secret, other, believes},
		{golang, "secret", secret, secret, other, believes},
		{js, "public key", public, private, otherPrivate, believes},
		{golang, "public key", public, private, otherPrivate, believes},
		// A mistake of the receiver's own: what comes is to come again.
		{python, "public key", public, private, otherPrivate, slices.Repeat([]int{noAnswer}, 5)},
		{js, "broken key", "whpk_x", private, "whpk_x", slices.Repeat([]int{500}, 5)},
		{golang, "broken key", "whpk_x", private, "whpk_x", slices.Repeat([]int{500}, 5)},
	} {
		t.Run(c.program+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			need(t, c.program)
			addr := freeAddr(t)
			stop, out := c.start(t, addr, c.key)
			w := sendAs(t, keys(c.signs), time.Now(), "memrelay")
			forged := webhook{w.header, append(bytes.Clone(w.body), ' ')}
			got := []int{post(t, addr, w), post(t, addr, w), post(t, addr, forged), post(t, addr, sendAs(t, keys(c.others), time.Now(), "memrelay")), post(t, addr, w)}
			stop()
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("answers (-want +got):\n%s\n%s", diff, out)
			}
			want := 0
			if slices.Contains(c.want, 204) {
				want = 1
			}
			if n := strings.Count(out.String(), "kept "+w.header.Get("webhook-id")+"\n"); n != want || strings.Count(out.String(), "kept ") != want {
				t.Errorf("it kept what came %d times, want %d and nothing else:\n%s", n, want, out)
			}
		})
	}
}

// receiver is one of the page.
type receiver struct{ language, program, file, verifier, command string }

// start starts it at addr, with one secret. out may be read after stop.
func (r receiver) start(t *testing.T, addr, secret string) (stop func(), out *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	_, port, _ := net.SplitHostPort(addr)
	verify, err := os.ReadFile(docs + "verify/" + r.verifier)
	code := strings.Replace(fences(t, r.language)[0], "9000", port, 1)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, r.verifier), verify, 0o600), os.WriteFile(filepath.Join(dir, r.file), []byte(code), 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", r.command)
	out = new(bytes.Buffer)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), "WEBHOOK_SECRET="+secret), out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	waitFor(t, addr, ended, out)
	return func() { _ = cmd.Process.Kill(); <-ended }, out
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitFor returns when somebody listens there.
func waitFor(t *testing.T, addr string, ended <-chan struct{}, out *bytes.Buffer) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case <-ended:
			t.Fatalf("the receiver has ended:\n%s", out)
		case <-deadline:
			t.Fatal("nobody listens after two minutes")
		case <-tick.C:
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				return
			}
		}
	}
}

// post sends it as it arrived, and returns what is answered; 0: the connection was closed without an answer.
func post(t *testing.T, addr string, w webhook) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/hook", bytes.NewReader(w.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header, r.Close = w.header, true
	resp, err := http.DefaultTransport.RoundTrip(r)
	if errors.Is(err, io.EOF) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func TestQueriesOfThePageBearRepeatsAndAnyOrder(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	inbox, copies := fences(t, "sql")[0], fences(t, "sql")[1]
	run := func(query string) error { _, err := pool.Exec(t.Context(), query); return err }
	insert := func(block string) string { return block[strings.Index(block, "INSERT"):] }
	type row struct {
		Content string
		Gone    bool
	}
	const jane, at = "Contact Jane Doe", "05:03:44.621429969Z"
	var rows int
	for _, query := range []string{inbox, insert(inbox)} {
		if err := errors.Join(run(query), pool.QueryRow(t.Context(), "SELECT count(*) FROM inbox").Scan(&rows)); err != nil || rows != 1 {
			t.Fatalf("%d rows of one webhook: %v", rows, err)
		}
	}
	for _, step := range []struct {
		name, query string
		want        row
	}{
		{"known", copies, row{jane, false}},
		{"an older one", strings.NewReplacer(jane, "older", at, "05:03:44Z").Replace(insert(copies)), row{jane, false}},
		{"a newer one", strings.NewReplacer(jane, "newer", at, "05:03:45Z").Replace(insert(copies)), row{"newer", false}},
		{"a deletion that is older", strings.NewReplacer(jane, "was", at, "05:03:43Z", "false)", "true)").Replace(insert(copies)), row{"was", true}},
		{"a newer one of what is gone", strings.NewReplacer(jane, "newest", at, "05:03:46Z").Replace(insert(copies)), row{"was", true}},
	} {
		var got row
		err := errors.Join(run(step.query), pool.QueryRow(t.Context(), "SELECT content, gone FROM copies").Scan(&got.Content, &got.Gone))
		if diff := cmp.Diff(step.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", step.name, err, diff)
		}
	}
}
