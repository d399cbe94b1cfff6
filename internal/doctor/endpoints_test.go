package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/endpoint"
)

// shop is an endpoint as a person asks for it.
func shop(url string, auth *endpoint.AuthSettings) endpoint.Settings {
	name := "shop"
	return endpoint.Settings{Name: &name, URL: &url, Auth: auth}
}

func addEndpoint(t *testing.T, url, key string, s endpoint.Settings) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	store, err := app.NewEndpoints(config.Config{Keys: []string{key}, OutboundAllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, pool, nil, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Create(t.Context(), endpoint.Actor{Name: "test"}, s); err != nil {
		t.Fatal(err)
	}
}

// authority signs certificates that nobody else trusts.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	made := a.make(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	})
	var err error
	if a.cert, err = x509.ParseCertificate(made.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	a.key, a.pem = made.PrivateKey.(*ecdsa.PrivateKey), pemOf("CERTIFICATE", made.Certificate[0])
	return a
}

// make makes a certificate, signed by itself as long as there is no authority.
func (a *authority) make(c *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	by, with := a.cert, a.key
	if by == nil {
		by, with = c, key
	}
	made, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, with)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key}
}

// until makes a certificate of 127.0.0.1 that ends then.
func (a *authority) until(end time.Time) tls.Certificate {
	a.t.Helper()
	return a.make(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "receiver"}, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// receiver listens with TLS, and fails the test when it is sent anything.
func receiver(t *testing.T, settings *tls.Config) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was sent", r.Method) }))
	server.TLS, server.Config.ErrorLog = settings, slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL + "/hook?key=hush-hush"
}

func TestCertificatesOfEndpoints(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	in := func(d time.Duration) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{a.until(time.Now().Add(d))}}
	}
	asks := in(100 * 24 * time.Hour)
	asks.ClientAuth, asks.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	asks.ClientCAs.AddCert(a.cert)
	own := func(d time.Duration, by *authority) *endpoint.AuthSettings {
		c := by.until(time.Now().Add(d))
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		return &endpoint.AuthSettings{Kind: "none", Authorities: a.pem, Certificate: pemOf("CERTIFICATE", c.Certificate[0]), PrivateKey: pemOf("PRIVATE KEY", key)}
	}
	trusts := &endpoint.AuthSettings{Kind: "none", Authorities: a.pem}
	for _, c := range []struct {
		name         string
		server       *tls.Config
		auth         *endpoint.AuthSettings
		status       Status
		what, remedy string
	}{
		{"well", in(30*24*time.Hour + time.Minute), trusts, OK, "its certificate is good for 30 days", ""},
		{"ends in ten days", in(10*24*time.Hour + time.Minute), trusts, Warning, "the receiver's certificate ends in 10 days", "renew"},
		{"ends in two days", in(36*time.Hour + time.Minute), trusts, Failure, "the receiver's certificate ends in 36 hours", "renew"},
		{"has expired", in(-time.Hour), trusts, Failure, "expired", "renew"},
		{"signed by nobody we know", in(1000 * time.Hour), nil, Failure, "unknown authority", "authorities"},
		{"wants a certificate", asks, trusts, Failure, "does not take our certificate", "TLS"},
		{"knows us", asks, own(100*24*time.Hour, a), OK, "can be reached", ""},
		{"knows us for a week", asks, own(7*24*time.Hour+time.Minute, a), Warning, "our own certificate ends in 7 days", "new certificate"},
		{"knows others", asks, own(100*24*time.Hour, newAuthority(t)), Failure, "does not take our certificate", "TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRoom(t, "OUTBOUND_ALLOW_PRIVATE=127.0.0.0/8")
			addEndpoint(t, r.url, good, shop(receiver(t, c.server), c.auth))
			found := r.examine("endpoints")
			if !has(found, c.status, c.what) || strings.Contains(lines(found), "hush-hush") {
				t.Fatalf("want %s: %q, but %s", c.status, c.what, lines(found))
			}
			if !strings.Contains(lines(found), c.remedy) {
				t.Errorf("want %q to be done: %s", c.remedy, lines(found))
			}
		})
	}
}

func TestWaysToEndpoints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url            string
		settings, rows []string
		status         Status
		what           string
	}{
		{"https://127.0.0.1:1/", []string{"OUTBOUND_ALLOW_PRIVATE=127.0.0.0/8"}, nil, Failure, "connection refused"},
		{"https://127.0.0.1:1/", nil, nil, Failure, "refused by the outbound guard"},
		{"http://nowhere.invalid/", nil, nil, Failure, "nowhere.invalid"},
		{"https://127.0.0.1:1/", nil, []string{`UPDATE endpoints SET status = 'paused'`}, Note, "endpoint shop is paused"},
		{"https://127.0.0.1:1/", nil, []string{`UPDATE endpoints SET status = 'disabled', status_reason = 'answered 410 Gone'`}, Warning, "endpoint shop is disabled: answered 410 Gone"},
		{"https://127.0.0.1:1/", nil, []string{`UPDATE endpoints SET failing_since = now() - interval '2 hours 1 minute', failures = 9`}, Warning, "has been failing for 2 hours, 9 times in a row"},
		{"https://127.0.0.1:1/", []string{"MEMRELAY_KEY=another-key-that-nobody-guesses"}, nil, Failure, "no key of MEMRELAY_KEY opens"},
	} {
		r := newRoom(t, c.settings...)
		addEndpoint(t, r.url, good, shop(c.url, nil))
		r.exec(c.rows...)
		r.finds("endpoints", c.status, c.what)
	}
	newRoom(t).finds("endpoints", Note, "there is no endpoint")
}

func TestEndpointOfTheSettings(t *testing.T) {
	t.Parallel()
	var sent atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	t.Cleanup(server.Close)
	settings := []string{"MEM0_WEBHOOK_URL=" + server.URL, "OUTBOUND_ALLOW_PRIVATE=127.0.0.0/8"}
	r := newRoom(t, settings...)
	r.finds("endpoints", Note, "the endpoint env is not as MEM0_WEBHOOK_URL says here")
	r.exec(`INSERT INTO endpoints (id, name, url, events, timeout) VALUES (gen_random_uuid(), 'env', '` + server.URL + `', '{}', '1 s')`)
	r.finds("endpoints", OK, "endpoint env can be reached, without TLS")
	r.doesNotFind("endpoints", "the endpoint env is not")

	away := newRoomAt(t, "", settings...)
	away.finds("endpoints", Skipped, "only MEM0_WEBHOOK_URL is looked at")
	away.finds("endpoints", OK, "endpoint env can be reached")
	newRoomAt(t, "", "MEM0_WEBHOOK_URL=https://ada:hush@127.0.0.1:1/", settings[1]).finds("endpoints", Failure, "holds a user or password")
	newRoomAt(t, "").finds("endpoints", Skipped, "they are in the database")
	if sent.Load() != 0 {
		t.Error("something was sent")
	}
}
