package outbound

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/endpoint"
)

const (
	clientID     = "client:1"
	clientSecret = "cl1ent/s3cret+"
)

// issuer is a token server. It knows the client by Authorization, and gives token-1,
// token-2 and so on, each for lifetime seconds.
type issuer struct {
	*httptest.Server
	asked    atomic.Int64
	lifetime atomic.Int64
	mu       sync.Mutex
	last     url.Values
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	s := &issuer{}
	s.lifetime.Store(3600)
	s.Server = answering(t, func(w http.ResponseWriter, r *http.Request) {
		n := s.asked.Add(1)
		_ = r.ParseForm()
		s.mu.Lock()
		s.last = r.PostForm
		s.mu.Unlock()
		id, secret, _ := r.BasicAuth()
		if id != url.QueryEscape(clientID) || secret != url.QueryEscape(clientSecret) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		giveToken(w, fmt.Sprintf("token-%d", n), s.lifetime.Load())
	})
	return s
}

func giveToken(w http.ResponseWriter, token string, lifetime int64) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "bearer", "expires_in": lifetime})
}

// requestWithToken is one to url that needs a token of tokenURL.
func requestWithToken(t *testing.T, url, tokenURL string) request {
	t.Helper()
	r := requestTo(url)
	r.Credentials.Auth = endpoint.Auth{Kind: endpoint.AuthOAuth2, OAuth2: endpoint.OAuth2{
		TokenURL: tokenURL, ClientID: clientID, ClientSecret: clientSecret, Scopes: []string{"memory", "write"}, Audience: "https://example.com/hooks",
	}}
	r.Tokens = newTokens(r.Credentials.Auth.OAuth2, loopbackTransport(t), r.Timeout)
	return r
}

// guarded is a receiver that takes what comes with a token for which wants says true.
func guarded(t *testing.T, wants func(token string) bool) (url string, got func() []string) {
	t.Helper()
	var mu sync.Mutex
	var seen []string
	srv := answering(t, func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		mu.Lock()
		seen = append(seen, token)
		mu.Unlock()
		if !wants(token) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	return srv.URL, func() []string { mu.Lock(); defer mu.Unlock(); return seen }
}

func anyToken(string) bool { return true }

func TestAccessTokenIsFetchedOnceAndSentWithEach(t *testing.T) {
	t.Parallel()
	tokenServer := newIssuer(t)
	url, got := guarded(t, anyToken)
	r := requestWithToken(t, url, tokenServer.URL)
	r.Credentials.Headers = map[string]string{"Authorization": "own"}
	p := loopbackPoster(t)
	for range 3 {
		if o := p.post(t.Context(), r); o.Verdict != verdictDelivered {
			t.Errorf("got %+v", o)
		}
	}
	if diff := cmp.Diff([]string{"Bearer token-1", "Bearer token-1", "Bearer token-1"}, got()); diff != "" {
		t.Errorf("Authorization (-want +got):\n%s", diff)
	}
	want := map[string][]string{"grant_type": {"client_credentials"}, "scope": {"memory write"}, "audience": {"https://example.com/hooks"}}
	if diff := cmp.Diff(want, map[string][]string(tokenServer.last)); diff != "" {
		t.Errorf("the token server was asked (-want +got):\n%s", diff)
	}
}

func TestAccessTokenIsRenewedBeforeItExpires(t *testing.T) {
	t.Parallel()
	tokenServer := newIssuer(t)
	url, got := guarded(t, anyToken)
	r := requestWithToken(t, url, tokenServer.URL)
	p := loopbackPoster(t)
	for _, seconds := range []int64{5, 5, 3600, 3600} { // five seconds are too short for an attempt to begin with
		tokenServer.lifetime.Store(seconds)
		p.post(t.Context(), r)
	}
	if diff := cmp.Diff([]string{"Bearer token-1", "Bearer token-2", "Bearer token-3", "Bearer token-3"}, got()); diff != "" {
		t.Errorf("Authorization (-want +got):\n%s", diff)
	}
}

func TestClientSecretGoesIntoTheBodyWhereTheServerWantsItThere(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	tokenServer := answering(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.PostFormValue("client_id") != clientID || r.PostFormValue("client_secret") != clientSecret || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		giveToken(w, "by-body", 1)
	})
	url, got := guarded(t, anyToken)
	r := requestWithToken(t, url, tokenServer.URL)
	p := loopbackPoster(t)
	p.post(t.Context(), r)
	p.post(t.Context(), r)
	if diff := cmp.Diff([]string{"Bearer by-body", "Bearer by-body"}, got()); diff != "" || asked.Load() != 3 {
		t.Errorf("asked %d times, want 3: what was found out once is kept; Authorization (-want +got):\n%s", asked.Load(), diff)
	}
}

// waitingIssuer gives tokens once it is let. It stands in for a network, which a bubble
// of synctest cannot wait for.
type waitingIssuer struct {
	asked atomic.Int64
	let   chan struct{}
}

func (w *waitingIssuer) RoundTrip(req *http.Request) (*http.Response, error) {
	n := w.asked.Add(1)
	select {
	case <-w.let:
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	answer := httptest.NewRecorder()
	giveToken(answer, fmt.Sprintf("token-%d", n), 3600)
	return answer.Result(), nil
}

func newWaiting(timeout time.Duration) (*tokens, *waitingIssuer) {
	w := &waitingIssuer{let: make(chan struct{})}
	return newTokens(endpoint.OAuth2{TokenURL: "https://example.com/token", ClientID: clientID, ClientSecret: clientSecret}, w, timeout), w
}

func TestConcurrentDeliveriesShareOneFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, server := newWaiting(time.Minute)
		got := make(chan accessToken, 32)
		for range 32 {
			go func() {
				token, err := all.get(t.Context())
				if err != nil {
					t.Error(err)
				}
				got <- token
			}()
		}
		synctest.Wait() // until all of them wait
		close(server.let)
		for range 32 {
			if token := <-got; token != (accessToken{text: "token-1", fresh: true}) {
				t.Errorf("got %+v", token)
			}
		}
		if n := server.asked.Load(); n != 1 {
			t.Errorf("the token server was asked %d times, want once", n)
		}
		if token, err := all.get(t.Context()); token != (accessToken{text: "token-1"}) || err != nil {
			t.Errorf("later, got %+v, %v, want the one that is kept", token, err)
		}
	})
}

func TestFetchOutlivesWhoeverBeganIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, server := newWaiting(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		get := func(ctx context.Context, done chan error) {
			_, err := all.get(ctx)
			done <- err
		}
		go get(ctx, first)
		synctest.Wait()
		go get(t.Context(), second)
		synctest.Wait()
		cancel()
		if err := <-first; !errors.Is(err, errAuth) || !errors.Is(err, context.Canceled) {
			t.Errorf("who began it got %v", err)
		}
		close(server.let)
		if err := <-second; err != nil || server.asked.Load() != 1 {
			t.Errorf("who waited too got %v, after %d requests", err, server.asked.Load())
		}
	})
}

func TestFetchIsBoundedByItsTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, _ := newWaiting(20 * time.Second)
		began := time.Now()
		if _, err := all.get(t.Context()); !errors.Is(err, errAuth) || time.Since(began) != 20*time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
}

func TestFetchCountsInsideTheAttemptsTimeout(t *testing.T) {
	t.Parallel()
	url, got := guarded(t, anyToken)
	r := requestWithToken(t, url, speaking(t, holdOpen))
	r.Timeout = 200 * time.Millisecond
	o := loopbackPoster(t).post(t.Context(), r)
	if o.ErrorClass != ClassAuth || o.Verdict != verdictRetry || !strings.Contains(o.Error, "deadline") || len(got()) != 0 {
		t.Errorf("got %+v", o)
	}
	if o.Total < r.Timeout || o.Total > r.Timeout+5*time.Second {
		t.Errorf("took %s", o.Total)
	}
}

func TestTokenThatIsTurnedAwayIsFetchedAgain(t *testing.T) {
	t.Parallel()
	tokenServer := newIssuer(t)
	var withdrawn atomic.Value
	withdrawn.Store("none")
	url, got := guarded(t, func(token string) bool { w := withdrawn.Load().(string); return w != "all" && token != w })
	r := requestWithToken(t, url, tokenServer.URL)
	p := loopbackPoster(t)
	for i, step := range []struct {
		withdrawn string
		token     string
		want      verdict
	}{
		{"none", "Bearer token-1", verdictDelivered},
		{"Bearer token-1", "Bearer token-1", verdictRetry},     // it may have been withdrawn before its time
		{"Bearer token-1", "Bearer token-2", verdictDelivered}, // and so it was
		{"all", "Bearer token-2", verdictRetry},
		{"all", "Bearer token-3", verdictFinal}, // fetched for this attempt: another would be no better
		{"none", "Bearer token-4", verdictDelivered},
	} {
		withdrawn.Store(step.withdrawn)
		o := p.post(t.Context(), r)
		if seen := got(); o.Verdict != step.want || seen[len(seen)-1] != step.token {
			t.Errorf("step %d: sent %s, got %+v, want %s and %s", i, seen[len(seen)-1], o, step.token, step.want)
		}
	}
}

func TestOtherRefusalsAreFinalAndLeaveTheTokenAlone(t *testing.T) {
	t.Parallel()
	tokenServer := newIssuer(t)
	forbidding := answering(t, status(http.StatusForbidden))
	r := requestWithToken(t, forbidding.URL, tokenServer.URL)
	p := loopbackPoster(t)
	for range 2 {
		if o := p.post(t.Context(), r); o.Verdict != verdictFinal || o.ErrorClass != ClassHTTP {
			t.Errorf("403: got %+v", o)
		}
	}
	if n := tokenServer.asked.Load(); n != 1 {
		t.Errorf("%d tokens were fetched, want 1", n)
	}
	unauthorized := answering(t, status(http.StatusUnauthorized))
	if o := p.post(t.Context(), requestTo(unauthorized.URL)); o.Verdict != verdictFinal {
		t.Errorf("401 to a bearer token: got %+v", o)
	}
}

func TestDropForgetsOnlyTheTokenThatWasTurnedAway(t *testing.T) {
	t.Parallel()
	all := newTokens(endpoint.OAuth2{TokenURL: newIssuer(t).URL, ClientID: clientID, ClientSecret: clientSecret}, loopbackTransport(t), time.Minute)
	first, err := all.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all.drop(first)
	second, _ := all.get(t.Context())
	all.drop(first) // by somebody who was slower
	if kept, _ := all.get(t.Context()); second.text == first.text || kept.text != second.text {
		t.Errorf("got %q, %q and then %q", first.text, second.text, kept.text)
	}
}

func TestFailureOfTheTokenServer(t *testing.T) {
	t.Parallel()
	const ownSecret = "the-t0ken-itself"
	elsewhere := newIssuer(t)
	saying := func(code int, kind, body string) string {
		return answering(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}).URL
	}
	redirecting := func(location string) string {
		return answering(t, status(http.StatusTemporaryRedirect, "Location", location)).URL
	}
	const asJSON = "application/json"
	for _, tt := range []struct {
		name, url, says string
	}{
		{"the client is not known", saying(401, asJSON, `{"error":"invalid_client","error_description":"`+clientSecret+`"}`), "answered 401 invalid_client"},
		{"an error with 200", saying(200, asJSON, `{"error":"invalid_scope"}`), "answered 200 invalid_scope"},
		{"an error that quotes", saying(400, asJSON, `{"error":"`+clientSecret+` is wrong"}`), "answered 400 Bad Request"},
		{"a page that quotes", saying(403, "text/html", "<p>"+clientSecret+" "+ownSecret), "answered 403 Forbidden"},
		{"down", saying(503, "text/plain", ""), "answered 503 Service Unavailable"},
		{"no token", saying(200, asJSON, `{"token":"`+ownSecret+`"}`), "there is none in the token server's answer"},
		{"no JSON", saying(200, asJSON, ownSecret), "there is none in the token server's answer"},
		{"a token that is a number", saying(200, asJSON, `{"access_token":7777777777}`), "there is none in the token server's answer"},
		{"a token that cannot be sent", saying(200, asJSON, `{"access_token":"`+ownSecret+`\r\nX-More: 1"}`), "control character"},
		{"a redirect", redirecting(elsewhere.URL), "answered 307 Temporary Redirect"},
		{"a redirect to nowhere", redirecting("http://[" + clientSecret), "answered 307 Temporary Redirect"},
		{"refused", "http://169.254.169.254/token", "refused by the outbound guard"},
		{"nobody listens", "http://127.0.0.1:" + closedPort(t) + "/" + ownSecret + "?k=" + ownSecret, "connection refused"},
		{"no URL", "http://[" + ownSecret, "missing ']'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url, got := guarded(t, anyToken)
			o := loopbackPoster(t).post(t.Context(), requestWithToken(t, url, tt.url))
			if o.ErrorClass != ClassAuth || o.Verdict != verdictRetry || o.StatusCode != 0 || !strings.Contains(o.Error, tt.says) {
				t.Errorf("got %+v, want %q in it", o, tt.says)
			}
			for _, secret := range []string{clientSecret, ownSecret, "7777777777"} {
				if strings.Contains(o.Error, secret) {
					t.Errorf("%q holds %q", o.Error, secret)
				}
			}
			if len(got()) != 0 {
				t.Error("the receiver was asked without a token")
			}
		})
	}
	t.Cleanup(func() { // after the subtests, which are parallel
		if n := elsewhere.asked.Load(); n != 0 {
			t.Errorf("a redirect was followed %d times", n)
		}
	})
}

func TestAtMost64KiBOfATokenServersAnswerAreRead(t *testing.T) {
	t.Parallel()
	endless := speaking(t, func(c net.Conn) {
		_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n\"")
		for err == nil {
			_, err = io.WriteString(c, strings.Repeat("x", 4<<10))
		}
	})
	counted := &countingTransport{rt: loopbackTransport(t)}
	_, err := newTokens(endpoint.OAuth2{TokenURL: endless}, counted, 10*time.Second).get(t.Context())
	// One byte more tells an answer of just 64 KiB from a longer one. It is asked twice, for the way to tell the secret.
	if n := counted.body.Load(); err == nil || n > 2*(64<<10+1) {
		t.Errorf("%d bytes were read, got %v", n, err)
	}
}

// A panic in a goroutine that nobody catches would end the program.
func TestPanicOfAFetchIsItsFailure(t *testing.T) {
	t.Parallel()
	panicking := roundTrip(func(*http.Request) (*http.Response, error) { panic("poisoned") })
	all := newTokens(endpoint.OAuth2{TokenURL: "https://example.com/"}, panicking, time.Minute)
	if _, err := all.get(t.Context()); !errors.Is(err, errAuth) || strings.Contains(err.Error(), "poisoned") {
		t.Errorf("got %v", err)
	}
}

// certificate makes one signed by parent, or by itself, as PEM.
func certificate(t *testing.T, name string, parent *tls.Certificate) (pair tls.Certificate, certificatePEM, keyPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: parent == nil, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signer, signerKey := template, any(key)
	if parent != nil {
		signer, signerKey = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificatePEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	if pair, err = tls.X509KeyPair([]byte(certificatePEM), []byte(keyPEM)); err != nil {
		t.Fatal(err)
	}
	return pair, certificatePEM, keyPEM
}

// mutual starts a receiver that wants a certificate of ca, and says whose it got and how it was spoken to.
func mutual(t *testing.T, ca tls.Certificate) (srv *httptest.Server, authorities string) {
	t.Helper()
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s by %s", r.TLS.PeerCertificates[0].Subject.CommonName, r.Proto)
	}))
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	// TLS 1.3 would refuse a certificate after the handshake, where the refusal races with the request.
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: tls.VersionTLS12}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	ca, _, _ := certificate(t, "authority", nil)
	_, mine, key := certificate(t, "memrelay", &ca)
	_, foreign, foreignKey := certificate(t, "memrelay", nil)
	srv, authorities := mutual(t, ca)
	for _, tt := range []struct {
		name  string
		auth  endpoint.Auth
		guard *Guard
		class string
		says  string // in the head or the error
	}{
		{"ours is known", endpoint.Auth{Certificate: mine, PrivateKey: key, Authorities: authorities}, guardFor("127.0.0.0/8"), "", "memrelay by HTTP/2.0"},
		{"none", endpoint.Auth{Authorities: authorities}, guardFor("127.0.0.0/8"), ClassTLS, "remote error"},
		{"one that is not known", endpoint.Auth{Certificate: foreign, PrivateKey: foreignKey, Authorities: authorities}, guardFor("127.0.0.0/8"), ClassTLS, "remote error"},
		{"theirs is not known", endpoint.Auth{Certificate: mine, PrivateKey: key}, guardFor("127.0.0.0/8"), ClassTLS, "unknown authority"},
		{"the guard goes first", endpoint.Auth{Certificate: mine, PrivateKey: key, Authorities: authorities}, guardFor("127.0.0.9/32"), ClassRefused, "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			settings, err := tlsConfig(tt.auth)
			if err != nil {
				t.Fatal(err)
			}
			r := requestTo(srv.URL)
			r.Credentials.Auth = tt.auth
			o := posterThrough(t, tt.guard.TransportWith(settings)).post(t.Context(), r)
			if o.ErrorClass != tt.class || !strings.Contains(o.ResponseHead+o.Error, tt.says) {
				t.Errorf("got %+v, want class %q and %q in it", o, tt.class, tt.says)
			}
		})
	}
}

func TestTLSSettingsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	_, mine, key := certificate(t, "memrelay", nil)
	_, _, another := certificate(t, "memrelay", nil)
	for name, a := range map[string]endpoint.Auth{
		"no key":                 {Certificate: mine},
		"another's key":          {Certificate: mine, PrivateKey: another},
		"key for certificate":    {Certificate: key, PrivateKey: key},
		"authorities of nothing": {Authorities: "nobody"},
	} {
		settings, err := tlsConfig(a)
		if err == nil || settings != nil {
			t.Errorf("%s: got %v, %v", name, settings, err)
		}
		if err != nil && (strings.Contains(err.Error(), keyLines(key)[0]) || strings.Contains(err.Error(), keyLines(another)[0])) {
			t.Errorf("%s: the error holds the key: %v", name, err)
		}
	}
	if settings, err := tlsConfig(endpoint.Auth{Kind: endpoint.AuthBearer, Token: "x"}); settings != nil || err != nil {
		t.Errorf("without any: got %v, %v, want nil", settings, err)
	}
}
