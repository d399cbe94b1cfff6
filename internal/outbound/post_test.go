package outbound

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/memrelay/memrelay/internal/endpoint"
)

const (
	testToken  = "tok/en+with=signs"
	testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

// loopbackPoster returns a poster whose guard opens loopback.
func loopbackPoster(t *testing.T) *posterTo {
	t.Helper()
	return posterThrough(t, NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil).Transport())
}

// posterTo sends through rt what has nothing else to go through.
type posterTo struct {
	*poster
	rt http.RoundTripper
}

func posterThrough(t *testing.T, rt http.RoundTripper) *posterTo {
	t.Helper()
	t.Cleanup((&http.Client{Transport: rt}).CloseIdleConnections)
	return &posterTo{newPoster("1.2.3", time.Now), rt}
}

func (p *posterTo) post(ctx context.Context, r request) outcome {
	if r.Through == nil {
		r.Through = p.rt
	}
	return p.poster.post(ctx, r)
}

func requestTo(url string) request {
	return request{
		URL:         url,
		ID:          "msg_1",
		Body:        []byte(`{"event":"memory_added"}`),
		Timeout:     10 * time.Second,
		Credentials: endpoint.EnvCredentials(testToken, testSecret),
	}
}

func answering(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// speaking starts a receiver that is no HTTP server: talk has the bare connection, after the request was read.
func speaking(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	return listening(t, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		talk(c)
	})
}

func listening(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				talk(c)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// holdOpen waits until the other side has hung up.
func holdOpen(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func TestPostSendsWhatTheReceiverNeeds(t *testing.T) {
	t.Parallel()
	type seen struct {
		Method, URI, Body string
		Header            http.Header
		Length            int64
	}
	got := make(chan seen, 1)
	srv := answering(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, r.RequestURI, string(body), r.Header, r.ContentLength}
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "thank you")
	})
	r := requestTo(srv.URL + "/hook?x=1")
	at := time.Unix(1700000000, 0)
	p := loopbackPoster(t)
	p.now = func() time.Time { return at }

	o := p.post(t.Context(), r)

	want := seen{Method: "POST", URI: "/hook?x=1", Body: string(r.Body), Length: int64(len(r.Body)), Header: http.Header{
		"Content-Type":   {"application/json"},
		"Content-Length": {fmt.Sprint(len(r.Body))},
		"User-Agent":     {"memrelay/1.2.3"},
	}}
	mustSign(t, want.Header, r.Credentials, "msg_1", at, r.Body)
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(o.ResponseHead, "HTTP/1.1 202 Accepted\n") || !strings.HasSuffix(o.ResponseHead, "\n\nthank you") {
		t.Errorf("head %q", o.ResponseHead)
	}
	o.ResponseHead = ""
	if diff := cmp.Diff(outcome{StartedAt: at, StatusCode: 202, Verdict: verdictDelivered}, o); diff != "" {
		t.Errorf("outcome (-want +got):\n%s", diff)
	}
}

func TestPostTakesTheTimes(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	g := guardFor("127.0.0.0/8")
	g.resolver = fakeResolver("127.0.0.1")
	p := posterThrough(t, trusting(g, srv))
	// Each look at the clock is a millisecond later, so that no time measured can be 0.
	var ticks atomic.Int64
	start := time.Unix(1700000000, 0)
	p.now = func() time.Time { return start.Add(time.Duration(ticks.Add(1)) * time.Millisecond) }
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())

	first := p.post(t.Context(), requestTo("https://example.com:"+port))
	second := p.post(t.Context(), requestTo("https://example.com:"+port))

	if first.Verdict != verdictDelivered || second.Verdict != verdictDelivered {
		t.Fatalf("got %+v and %+v", first, second)
	}
	for name, d := range map[string]time.Duration{"DNS": first.DNS, "Connect": first.Connect, "TLS": first.TLS} {
		if d <= 0 || d >= first.FirstByte {
			t.Errorf("%s %s, want more than 0 and less than to the first byte, %s", name, d, first.FirstByte)
		}
	}
	if first.FirstByte >= first.Total || first.Total > time.Duration(ticks.Load())*time.Millisecond {
		t.Errorf("first byte %s, total %s", first.FirstByte, first.Total)
	}
	if second.DNS != 0 || second.Connect != 0 || second.TLS != 0 || second.FirstByte <= 0 || second.FirstByte >= second.Total {
		t.Errorf("on a kept connection: %+v", second)
	}
}

func TestPostSpeaksHTTP2(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)

	o := posterThrough(t, trusting(guardFor("127.0.0.0/8"), srv)).post(t.Context(), requestTo(srv.URL))

	if o.Verdict != verdictDelivered || !strings.HasPrefix(o.ResponseHead, "HTTP/2.0 200 OK\n") || !strings.HasSuffix(o.ResponseHead, "HTTP/2.0") {
		t.Errorf("got %+v", o)
	}
}

// trusting returns the guard's transport with the server's certificate trusted.
func trusting(g *Guard, srv *httptest.Server) http.RoundTripper {
	rt := g.Transport().(*guardedTransport)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	rt.https.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return rt
}

func TestPostJudgesTheAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		status     int
		retryAfter string
		want       outcome
	}{
		{name: "200", status: 200, want: outcome{Verdict: verdictDelivered}},
		{name: "200 with Retry-After", status: 200, retryAfter: "5", want: outcome{Verdict: verdictDelivered}},
		{name: "400", status: 400, want: outcome{Verdict: verdictFinal, ErrorClass: ClassHTTP, Error: "answered 400 Bad Request"}},
		{name: "400 with Retry-After", status: 400, retryAfter: "5", want: outcome{Verdict: verdictFinal, ErrorClass: ClassHTTP, Error: "answered 400 Bad Request"}},
		{name: "410", status: 410, want: outcome{Verdict: verdictGone, ErrorClass: ClassHTTP, Error: "answered 410 Gone"}},
		{name: "429 in seconds", status: 429, retryAfter: "120", want: outcome{
			Verdict: verdictRetry, ErrorClass: ClassHTTP, Error: "answered 429 Too Many Requests",
			RetryAfter: 2 * time.Minute, HasRetryAfter: true,
		}},
		{name: "503 until a date", status: 503, retryAfter: "Tue, 14 Nov 2023 22:14:20 GMT", want: outcome{
			Verdict: verdictRetry, ErrorClass: ClassHTTP, Error: "answered 503 Service Unavailable",
			RetryAfter: time.Minute, HasRetryAfter: true,
		}},
		{name: "500", status: 500, want: outcome{Verdict: verdictRetry, ErrorClass: ClassHTTP, Error: "answered 500 Internal Server Error"}},
		{name: "status without a name", status: 599, want: outcome{Verdict: verdictRetry, ErrorClass: ClassHTTP, Error: "answered 599"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
			})
			p := loopbackPoster(t)
			p.now = func() time.Time { return time.Date(2023, 11, 14, 22, 13, 20, 0, time.UTC) }
			o := p.post(t.Context(), requestTo(srv.URL))
			tt.want.StartedAt, tt.want.StatusCode = p.now(), tt.status
			if diff := cmp.Diff(tt.want, o, cmpopts.IgnoreFields(outcome{}, "ResponseHead")); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPostNeverFollowsARedirect(t *testing.T) {
	t.Parallel()
	open, forbidden := serveOn(t, "127.0.0.1"), serveOn(t, "127.0.0.9")
	p := posterThrough(t, guardFor("127.0.0.1/32").Transport())
	for _, location := range []string{
		"http://127.0.0.1:" + open.port,
		"http://127.0.0.9:" + forbidden.port,
		"http://169.254.169.254/latest/meta-data/",
		"/other",
		"http://[not a url", // an http.Client would turn this into an error
		"",
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			var asked atomic.Int64
			srv := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Location", location)
				w.WriteHeader(status)
			})
			o := p.post(t.Context(), requestTo(srv.URL))
			if o.StatusCode != status || o.Verdict != verdictRetry || o.ErrorClass != ClassHTTP || asked.Load() != 1 {
				t.Errorf("%d to %q: asked %d times, got %+v", status, location, asked.Load(), o)
			}
			if !strings.Contains(o.ResponseHead, "Location: "+location) {
				t.Errorf("%d to %q: head %q", status, location, o.ResponseHead)
			}
		}
	}
	if open.hits.Load()+forbidden.hits.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestPostFailures(t *testing.T) {
	t.Parallel()
	untouched := serveOn(t, "127.0.0.1")
	selfSigned := httptest.NewUnstartedServer(http.NotFoundHandler())
	selfSigned.Config.ErrorLog = log.New(io.Discard, "", 0)
	selfSigned.StartTLS()
	t.Cleanup(selfSigned.Close)
	plain := answering(t, func(http.ResponseWriter, *http.Request) {})

	tests := []struct {
		name     string
		url      string
		resolver *net.Resolver
		closed   bool // the guard opens nothing
		timeout  time.Duration
		class    string
		text     string // part of Error
		verdict  verdict
	}{
		{name: "refused address", url: "http://127.0.0.1:" + untouched.port, closed: true, class: ClassRefused, text: "127.0.0.1:" + untouched.port, verdict: verdictFinal},
		{name: "name of a refused address", url: "http://one.test:" + untouched.port, resolver: fakeResolver("127.0.0.1"), closed: true, class: ClassRefused, text: "127.0.0.1:" + untouched.port, verdict: verdictFinal},
		{name: "refused scheme", url: "ftp://127.0.0.1/", class: ClassRefused, text: "neither http nor https", verdict: verdictFinal},
		{name: "password in the URL", url: "http://u:p@127.0.0.1:" + untouched.port, class: ClassRefused, text: "user or password", verdict: verdictFinal},
		{name: "name that does not exist", url: "http://none.test/", resolver: fakeResolver(), class: ClassDNS, text: "no such host", verdict: verdictRetry},
		{name: "name server that is away", url: "http://one.test/", resolver: brokenResolver(), class: ClassDNS, text: "name server is away", verdict: verdictRetry},
		{name: "nobody listens", url: "http://127.0.0.1:" + closedPort(t), class: ClassConnect, text: "refused", verdict: verdictRetry},
		{name: "unknown certificate authority", url: selfSigned.URL, class: ClassTLS, text: "unknown authority", verdict: verdictRetry},
		{name: "plain HTTP where TLS is expected", url: "https" + strings.TrimPrefix(plain.URL, "http"), class: ClassTLS, text: "does not look like a TLS handshake", verdict: verdictRetry},
		{name: "hanging up while shaking hands", url: "https" + strings.TrimPrefix(listening(t, func(net.Conn) {}), "http"), class: ClassTLS, verdict: verdictRetry},
		{name: "silence while shaking hands", url: "https" + strings.TrimPrefix(listening(t, holdOpen), "http"), timeout: 200 * time.Millisecond, class: ClassTimeout, text: "deadline", verdict: verdictRetry},
		{name: "silence after the request", url: speaking(t, holdOpen), timeout: 200 * time.Millisecond, class: ClassTimeout, text: "deadline", verdict: verdictRetry},
		{name: "connection reset", url: speaking(t, reset), class: ClassReset, text: "reset by peer", verdict: verdictRetry},
		{name: "connection closed without an answer", url: speaking(t, func(net.Conn) {}), class: ClassReset, text: "EOF", verdict: verdictRetry},
		{name: "connection closed in the headers", url: speaking(t, saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")), class: ClassReset, text: "EOF", verdict: verdictRetry},
		{name: "connection reset in the headers", url: speaking(t, func(c net.Conn) { saying("HTTP/1.1 200 OK\r\n")(c); reset(c) }), class: ClassReset, verdict: verdictRetry},
		{name: "no HTTP", url: speaking(t, saying("SSH-2.0-OpenSSH_9.9\r\n\r\n")), class: ClassOther, text: "malformed HTTP", verdict: verdictRetry},
		{name: "headers without end", url: speaking(t, endlessHeaders), class: ClassOther, text: "headers exceeded 65536 bytes", verdict: verdictRetry},
		{name: "not a URL", url: "http://[::1", class: ClassRequest, text: "missing ']'", verdict: verdictFinal},
		{name: "no host", url: "http:///hook", class: ClassRequest, text: "no host", verdict: verdictFinal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := guardFor("127.0.0.0/8")
			if tt.closed {
				g = guardFor()
			}
			g.resolver = tt.resolver
			r := requestTo(tt.url + "?key=hunter2secret")
			if tt.timeout != 0 {
				r.Timeout = tt.timeout
			}
			o := posterThrough(t, g.Transport()).post(t.Context(), r)
			want := outcome{ErrorClass: tt.class, Verdict: tt.verdict}
			if diff := cmp.Diff(want, o, cmpopts.IgnoreFields(outcome{}, "StartedAt", "Error", "DNS", "Connect", "TLS", "FirstByte", "Total")); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if o.Error == "" || !strings.Contains(o.Error, tt.text) {
				t.Errorf("error %q does not say %q", o.Error, tt.text)
			}
			for _, secret := range []string{"hunter2", testToken, testSecret} {
				if strings.Contains(o.Error, secret) {
					t.Errorf("error %q holds %q", o.Error, secret)
				}
			}
			if o.Total < tt.timeout || o.Total > r.Timeout+5*time.Second {
				t.Errorf("took %s", o.Total)
			}
		})
	}
	t.Cleanup(func() { // after the subtests, which are parallel
		if n := untouched.hits.Load(); n != 0 {
			t.Errorf("a refused address was reached %d times", n)
		}
	})
}

func saying(s string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, s) }
}

func reset(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) } // closing then resets

func endlessHeaders(c net.Conn) {
	_, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n")
	for err == nil {
		_, err = io.WriteString(c, "X-More: "+strings.Repeat("x", 1000)+"\r\n")
	}
}

func brokenResolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("name server is away")
	}}
}

func TestPostSeesATLSAlertAfterTheHandshake(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	o := posterThrough(t, trusting(guardFor("127.0.0.0/8"), srv)).post(t.Context(), requestTo(srv.URL))
	if o.ErrorClass != ClassTLS || o.Verdict != verdictRetry || !strings.Contains(o.Error, "certificate required") {
		t.Errorf("got %+v", o)
	}
}

func TestPostSeesALostHTTP2Stream(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	o := posterThrough(t, trusting(guardFor("127.0.0.0/8"), srv)).post(t.Context(), requestTo(srv.URL))
	if o.ErrorClass != ClassReset || o.Verdict != verdictRetry {
		t.Errorf("got %+v", o)
	}
}

func TestPostIsBoundedByItsTimeout(t *testing.T) {
	t.Parallel()
	const drip = 10 * time.Millisecond
	tests := []struct {
		name    string
		talk    func(net.Conn)
		timeout time.Duration // longer where headers must come through in time on a busy machine
		want    outcome
	}{
		{
			name:    "a status line that drips",
			talk:    dripping("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Long: "+strings.Repeat("x", 1000), drip),
			timeout: 200 * time.Millisecond,
			want:    outcome{ErrorClass: ClassTimeout, Verdict: verdictRetry},
		},
		{
			name: "a body that drips after 200 is delivered",
			talk: func(c net.Conn) {
				saying("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")(c)
				dripping(strings.Repeat("x", 1000), drip)(c)
			},
			timeout: time.Second,
			want:    outcome{StatusCode: 200, Verdict: verdictDelivered},
		},
		{
			name: "a body that drips after 500",
			talk: func(c net.Conn) {
				saying("HTTP/1.1 500 No\r\n\r\n")(c)
				dripping(strings.Repeat("x", 1000), drip)(c)
			},
			timeout: time.Second,
			want:    outcome{StatusCode: 500, ErrorClass: ClassHTTP, Verdict: verdictRetry},
		},
		{
			name:    "early answers without end",
			talk:    dripping(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100), drip/10),
			timeout: 200 * time.Millisecond,
			want:    outcome{ErrorClass: ClassTimeout, Verdict: verdictRetry},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hungUp := make(chan struct{})
			r := requestTo(speaking(t, func(c net.Conn) {
				tt.talk(c)
				holdOpen(c)
				close(hungUp)
			}))
			r.Timeout = tt.timeout
			o := loopbackPoster(t).post(t.Context(), r)
			if diff := cmp.Diff(tt.want, o, cmpopts.IgnoreFields(outcome{}, "StartedAt", "Error", "ResponseHead", "DNS", "Connect", "TLS", "FirstByte", "Total")); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if o.Total < tt.timeout || o.Total > tt.timeout+5*time.Second {
				t.Errorf("took %s", o.Total)
			}
			<-hungUp // the connection is not kept
		})
	}
}

// dripping sends s a byte at a time, which no limit on silence would catch.
func dripping(s string, every time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := range len(s) {
			<-tick.C
			if _, err := io.WriteString(c, s[i:i+1]); err != nil {
				return
			}
		}
	}
}

func TestPostDoesNotReadAConnectionThatWasSwitched(t *testing.T) {
	t.Parallel()
	hungUp := make(chan struct{})
	r := requestTo(speaking(t, func(c net.Conn) {
		saying("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")(c)
		holdOpen(c)
		close(hungUp)
	}))
	o := loopbackPoster(t).post(t.Context(), r)
	if o.StatusCode != 101 || o.Verdict != verdictRetry || o.Total >= r.Timeout {
		t.Errorf("got %+v", o)
	}
	<-hungUp
}

func TestPostReadsAtMost64KiBOfAnAnswer(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2 %t", http2), func(t *testing.T) {
			t.Parallel()
			wrote := make(chan int, 1)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				chunk, n := bytes.Repeat([]byte("x"), 4<<10), 0
				for {
					m, err := w.Write(chunk)
					if n += m; err != nil {
						wrote <- n
						return
					}
				}
			}))
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			t.Cleanup(srv.Close)
			counted := &countingTransport{rt: trusting(guardFor("127.0.0.0/8"), srv)}

			o := posterThrough(t, counted).post(t.Context(), requestTo(srv.URL))

			if o.StatusCode != 200 || o.Verdict != verdictDelivered || o.Total > 5*time.Second {
				t.Errorf("got %+v", o)
			}
			if n := counted.body.Load(); n != 64<<10 {
				t.Errorf("%d bytes of the body were read, want 64 KiB", n)
			}
			// What lay in the sockets of this machine comes on top with HTTP/1; HTTP/2 lets the reader say how much
			// may be on its way.
			most := 16 << 20
			if http2 {
				most = 256 << 10
			}
			if n := <-wrote; n > most {
				t.Errorf("the receiver could write %d bytes, want at most %d", n, most)
			}
		})
	}
}

// countingTransport counts the bytes of bodies that are read.
type countingTransport struct {
	rt   http.RoundTripper
	body atomic.Int64
}

func (c *countingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.rt.RoundTrip(req)
	if err == nil {
		resp.Body = &countingBody{resp.Body, &c.body}
	}
	return resp, err
}

type countingBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

func TestPostGivesUpTheRestOfAnAnswerBeforeClosingIt(t *testing.T) {
	t.Parallel()
	body := &closedAfter{Reader: strings.NewReader("x")}
	p := posterThrough(t, roundTrip(func(req *http.Request) (*http.Response, error) {
		body.ctx = req.Context()
		return &http.Response{StatusCode: 200, Body: body}, nil
	}))
	p.post(t.Context(), requestTo("http://127.0.0.1/"))
	if !errors.Is(body.err, context.Canceled) {
		t.Errorf("closed with a context that says %v, want canceled", body.err)
	}
}

// closedAfter keeps what its request's context said when it was closed.
type closedAfter struct {
	io.Reader
	ctx context.Context
	err error
}

func (c *closedAfter) Close() error { c.err = c.ctx.Err(); return nil }

func TestPostKeepsConnections(t *testing.T) {
	t.Parallel()
	var conns sync.Map
	srv := answering(t, func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, true)
		_, _ = io.WriteString(w, strings.Repeat("x", 60<<10))
	})
	p := loopbackPoster(t)
	for range 5 {
		if o := p.post(t.Context(), requestTo(srv.URL)); o.Verdict != verdictDelivered {
			t.Fatalf("got %+v", o)
		}
	}
	n := 0
	conns.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d connections for five deliveries one after the other", n)
	}
}

func TestPostSurvivesAKeptConnectionThatDied(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	p, url := loopbackPoster(t), listening(t, func(c net.Conn) {
		first := conns.Add(1) == 1
		for in := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if req.Header.Get("X-Second") != "" && first {
				return
			}
			saying("HTTP/1.1 204 No Content\r\n\r\n")(c)
		}
	})
	// The mark that tells the receiver to hang up rather than answer is put on below the poster.
	marked := false
	rt := p.rt
	p.rt = roundTrip(func(req *http.Request) (*http.Response, error) {
		if marked {
			req.Header.Set("X-Second", "1")
		}
		return rt.RoundTrip(req)
	})
	one := p.post(t.Context(), requestTo(url))
	marked = true
	two := p.post(t.Context(), requestTo(url))
	if one.Verdict != verdictDelivered || two.Verdict != verdictDelivered || conns.Load() != 2 {
		t.Errorf("%d connections, got %+v and %+v", conns.Load(), one, two)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestPostSideBySide(t *testing.T) {
	t.Parallel()
	// A fast receiver and one that times out, so that hooks of the trace still run when their attempt is over.
	fast := answering(t, func(http.ResponseWriter, *http.Request) {})
	slow := speaking(t, holdOpen)
	p := loopbackPoster(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			r, want := requestTo(fast.URL), verdictDelivered
			if i%2 == 1 {
				r, want = requestTo(slow), verdictRetry
				r.Timeout = time.Duration(i%5) * time.Millisecond
			}
			if o := p.post(t.Context(), r); o.Verdict != want {
				t.Errorf("got %+v, want %s", o, want)
			}
		})
	}
	wg.Wait()
}

func TestPostEndsWithItsContext(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	o := loopbackPoster(t).post(ctx, requestTo(speaking(t, func(c net.Conn) { close(asked); holdOpen(c) })))
	if o.ErrorClass != ClassOther || o.Verdict != verdictRetry || !strings.Contains(o.Error, "canceled") {
		t.Errorf("got %+v", o)
	}
}

func TestPostRefusesAHeaderThatCannotBeSent(t *testing.T) {
	t.Parallel()
	srv := serveOn(t, "127.0.0.1")
	for _, token := range []string{"line\nbreak", "carriage\rreturn", "nul\x00", "del\x7f"} {
		r := requestTo("http://127.0.0.1:" + srv.port)
		r.Credentials.Auth.Token = token
		o := loopbackPoster(t).post(t.Context(), r)
		if o.ErrorClass != ClassRequest || o.Verdict != verdictFinal || !strings.Contains(o.Error, "Authorization") || strings.Contains(o.Error, token) {
			t.Errorf("token %q: got %+v", token, o)
		}
	}
	if srv.hits.Load() != 0 {
		t.Error("a request was sent")
	}
}

func TestErrorTextHoldsNoURL(t *testing.T) {
	t.Parallel()
	o := loopbackPoster(t).post(t.Context(), requestTo("http://[::1/path?k=s3"))
	if o.ErrorClass != ClassRequest || strings.Contains(o.Error, "path") || strings.Contains(o.Error, "k=s3") {
		t.Errorf("got %+v", o)
	}
}

func TestErrorTextIsBoundedAndHoldsNoSecret(t *testing.T) {
	t.Parallel()
	const query = "key=hunter2secret&x=1"
	p := posterThrough(t, roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%s \x00\x1b[31m \xff %s %s ?%s %s", testToken, testSecret, strings.TrimPrefix(testSecret, "whsec_"), query, strings.Repeat("é", 1000))
	}))
	o := p.post(t.Context(), requestTo("http://127.0.0.1/?"+query))
	want := "[redacted] \uFFFD\uFFFD[31m \uFFFD [redacted] [redacted] ?[redacted] é"
	if !strings.HasPrefix(o.Error, want) || !strings.HasSuffix(o.Error, "é…") || len(o.Error) > 500 || len(o.Error) < 498 {
		t.Errorf("%d bytes: %q", len(o.Error), o.Error)
	}
}

func TestResponseHead(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		header http.Header
		body   string
		want   string
	}{
		{name: "no headers and no body", want: "HTTP/1.1 200 OK\n"},
		{
			name:   "headers by name, every value",
			header: http.Header{"X-B": {"2", "3"}, "Content-Type": {"text/plain"}},
			body:   "body",
			want:   "HTTP/1.1 200 OK\nContent-Type: text/plain\nX-B: 2\nX-B: 3\n\nbody",
		},
		{
			name: "the receiver's own credentials",
			header: http.Header{
				"Set-Cookie": {"sid=1; Path=/"}, "Www-Authenticate": {"Digest nonce=1"}, "Authorization": {"Basic eA=="},
				"Proxy-Authorization": {"x"}, "X-Api-Key": {"x"}, "X-Auth-Token": {"x"}, "X-Csrf-Token": {"x"}, "X-Session-Id": {"x"},
			},
			want: "HTTP/1.1 200 OK\nAuthorization: [redacted]\nProxy-Authorization: [redacted]\nSet-Cookie: [redacted]\n" +
				"Www-Authenticate: [redacted]\nX-Api-Key: [redacted]\nX-Auth-Token: [redacted]\nX-Csrf-Token: [redacted]\nX-Session-Id: [redacted]\n",
		},
		{
			name:   "our token echoed in a header",
			header: http.Header{"X-Echo": {"Bearer " + testToken}},
			want:   "HTTP/1.1 200 OK\nX-Echo: Bearer [redacted]\n",
		},
		{
			name: "our token echoed in JSON, in PHP's JSON and in a URL",
			body: `{"a":"tok/en+with=signs","b":"tok\/en+with=signs","c":"tok%2Fen%2Bwith%3Dsigns"}`,
			want: "HTTP/1.1 200 OK\n\n" + `{"a":"[redacted]","b":"[redacted]","c":"[redacted]"}`,
		},
		{
			name: "our secret, with its prefix and without",
			body: testSecret + " " + strings.TrimPrefix(testSecret, "whsec_"),
			want: "HTTP/1.1 200 OK\n\n[redacted] [redacted]",
		},
		{
			name:   "our query in a redirect",
			header: http.Header{"Location": {"/login?key=hunter2secret"}},
			want:   "HTTP/1.1 200 OK\nLocation: /login?[redacted]\n",
		},
		{
			name: "token across the cut",
			body: strings.Repeat("x", 1020) + testToken + "tail",
			want: "HTTP/1.1 200 OK\n\n" + strings.Repeat("x", 1020) + "[…",
		},
		{
			name: "token just before the cut",
			body: strings.Repeat("x", 1000) + testToken + "tail",
			want: "HTTP/1.1 200 OK\n\n" + strings.Repeat("x", 1000) + "[redacted]tail",
		},
		{
			name: "no UTF-8, NUL and terminal controls",
			body: "a\xff\xfeb\x00c\x1b[2J\u009bd\te\r\nf",
			want: "HTTP/1.1 200 OK\n\na\uFFFDb\uFFFDc\uFFFD[2J\uFFFDd\te\r\nf",
		},
		{
			name: "body of exactly a KiB",
			body: strings.Repeat("x", 1024),
			want: "HTTP/1.1 200 OK\n\n" + strings.Repeat("x", 1024),
		},
		{
			name: "longer body",
			body: strings.Repeat("x", 1025),
			want: "HTTP/1.1 200 OK\n\n" + strings.Repeat("x", 1021) + "…",
		},
		{
			name:   "long headers leave room for the body",
			header: http.Header{"X-Long": {strings.Repeat("é", 5000)}},
			body:   "body",
			want:   "HTTP/1.1 200 OK\nX-Long: " + strings.Repeat("é", (3071-3-24)/2) + "…\nbody",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp := &http.Response{Proto: "HTTP/1.1", Status: "200 OK", Header: tt.header}
			got := responseHead(resp, []byte(tt.body), secretsOf(requestTo("https://example.com/?key=hunter2secret")))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("head (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSecretIsFoundAsJSONSpellsIt(t *testing.T) {
	t.Parallel()
	r := requestTo("https://example.com/")
	r.Credentials.Auth.Token = `to"k&en`
	if got := redact(`{"a":"to\"k\u0026en"}`, 100, secretsOf(r)); got != `{"a":"[redacted]"}` {
		t.Errorf("got %q", got)
	}
}

func TestLongerSecretIsReplacedAsAWhole(t *testing.T) {
	t.Parallel()
	r := requestTo("https://example.com/")
	r.Credentials = endpoint.EnvCredentials("abc", "abcdef")
	if got := redact("abc abcdef", 10, secretsOf(r)); got != "[redacted] [redacted]" {
		t.Errorf("got %q", got)
	}
}

func FuzzResponseHead(f *testing.F) {
	f.Add("200 OK", "X-Echo", "tok/en+with=signs", []byte("body tok/en+with=signs"))
	f.Add("", "", "\xff\x00", bytes.Repeat([]byte("a\xff"), 2000))
	f.Add(strings.Repeat("é", 4000), "Set-Cookie", "x", bytes.Repeat([]byte("\U0001F600"), 300))
	hide := secretsOf(requestTo("https://example.com/?key=hunter2secret"))
	f.Fuzz(func(t *testing.T, status, name, value string, body []byte) {
		head := responseHead(&http.Response{Proto: "HTTP/1.1", Status: status, Header: http.Header{name: {value}}}, body, hide)
		if len(head) > 4<<10 || !utf8.ValidString(head) || strings.ContainsAny(head, "\x00\x1b\x7f") {
			t.Errorf("%d bytes: %q", len(head), head)
		}
		for _, secret := range hide {
			if strings.Contains(head, secret) {
				t.Errorf("head %q holds %q", head, secret)
			}
		}
	})
}

func TestClassOfADeadlineOfTheResolver(t *testing.T) {
	t.Parallel()
	watch := &stopwatch{now: time.Now}
	if got := classify(&net.DNSError{Err: "i/o timeout", IsTimeout: true}, watch); got != ClassDNS {
		t.Errorf("a name server that does not answer is %s, want dns", got)
	}
	if got := classify(&net.OpError{Op: "dial", Err: timeoutError{}}, watch); got != ClassTimeout {
		t.Errorf("an address that does not answer is %s, want timeout", got)
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestStopwatchMeasuresToTheFirstConnection(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	w := &stopwatch{now: func() time.Time { now = now.Add(time.Second); return now }, startedAt: now}
	tr := w.trace()
	tr.DNSStart(httptrace.DNSStartInfo{})
	tr.DNSDone(httptrace.DNSDoneInfo{})
	tr.ConnectStart("tcp", "a")
	tr.ConnectStart("tcp", "b")
	tr.ConnectDone("tcp", "a", errors.New("no"))
	tr.ConnectDone("tcp", "b", nil)
	tr.ConnectDone("tcp", "c", nil) // too late
	tr.TLSHandshakeStart()
	tr.TLSHandshakeDone(tls.ConnectionState{}, nil)
	tr.GotFirstResponseByte()
	var o outcome
	w.read(&o)
	want := outcome{DNS: time.Second, Connect: 3 * time.Second, TLS: time.Second, FirstByte: 10 * time.Second}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("times (-want +got):\n%s", diff)
	}
}

// everySecret are credentials of every kind at once, and what of them must not be written down.
func everySecret(t *testing.T) (c endpoint.Credentials, secrets []string) {
	t.Helper()
	_, certificatePEM, keyPEM := certificate(t, "memrelay", nil)
	const (
		private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
		another = "a secret as it is written"
	)
	c = endpoint.Credentials{
		Keys: []endpoint.Key{
			{ID: "one", Kind: endpoint.KeyHMAC, Secret: testSecret}, {ID: "two", Kind: endpoint.KeyEd25519, Secret: private},
			{ID: "three", Kind: endpoint.KeyHMAC, Secret: another, ExpiresAt: new(time.Time)}, // it may be in somebody's hands still
		},
		Auth: endpoint.Auth{
			Kind: endpoint.AuthBasic, Username: "us3rname", Password: "p4ssword/+", Token: testToken, Certificate: certificatePEM, PrivateKey: keyPEM,
			OAuth2: endpoint.OAuth2{ClientID: clientID, ClientSecret: clientSecret},
		},
		Headers: map[string]string{"X-Api-Key": "h3ader-value", "X-Short": "1234567", "Content-Type": "text/plain"},
	}
	secrets = []string{
		testSecret, strings.TrimPrefix(testSecret, "whsec_"), private, strings.TrimPrefix(private, "whsk_"), another,
		"p4ssword/+", basic("us3rname", "p4ssword/+"), testToken, clientSecret,
		basic(url.QueryEscape(clientID), url.QueryEscape(clientSecret)), "h3ader-value", "key=hunter2secret", "hunter2secret", "s3cond/value",
	}
	return c, append(secrets, keyLines(keyPEM)...)
}

func TestNoSecretIsWrittenDown(t *testing.T) {
	t.Parallel()
	c, secrets := everySecret(t)
	if len(secrets) < 14 {
		t.Fatalf("%d secrets: the PEM has no lines", len(secrets))
	}
	var said strings.Builder
	for _, secret := range append(secrets, "fetched-t0ken", c.Auth.PrivateKey) {
		quoted, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&said, "%s %s %s %s\n", secret, quoted, url.QueryEscape(secret), strings.ReplaceAll(secret, "/", `\/`))
	}
	r := requestTo("https://example.com/?key=hunter2secret&other=s3cond%2Fvalue&a=b")
	r.Credentials = c
	for line := range strings.Lines(said.String()) { // one by one: only the beginning of an answer is kept
		// The token is one that only the token server knows, and that we learn on the way.
		r.Tokens = newTokens(endpoint.OAuth2{TokenURL: "https://example.com/"}, roundTrip(func(*http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			giveToken(w, "fetched-t0ken", 3600)
			return w.Result(), nil
		}), time.Minute)
		echoing := posterThrough(t, roundTrip(func(req *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("X-Echo", strings.TrimSpace(line))
			w.Header().Set("X-Echo-Sent", req.Header.Get("Authorization")+" "+req.Header.Get("X-Api-Key"))
			_, _ = io.WriteString(w, line)
			return w.Result(), nil
		})).post(t.Context(), r)
		failing := posterThrough(t, roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New(line) })).post(t.Context(), r)
		if echoing.Verdict != verdictDelivered || failing.ErrorClass != ClassOther {
			t.Fatalf("got %+v and %+v", echoing, failing)
		}
		for _, secret := range append(secrets, "fetched-t0ken") {
			for _, as := range spelled(secret) {
				if strings.Contains(echoing.ResponseHead, as) || strings.Contains(failing.Error, as) {
					t.Errorf("%q is in the head %q or the error %q", as, echoing.ResponseHead, failing.Error)
				}
			}
		}
	}
}

// Some services take a key as the user's name, and no password.
func TestANameWithoutAPasswordIsASecret(t *testing.T) {
	t.Parallel()
	r := requestTo("https://example.com/")
	r.Credentials = endpoint.Credentials{Auth: endpoint.Auth{Kind: endpoint.AuthBasic, Username: "sk_live_12345678"}}
	said := "sk_live_12345678 " + basic("sk_live_12345678", "")
	if got := redact(said, len(said), secretsOf(r)); got != "[redacted] [redacted]" {
		t.Errorf("got %q", got)
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	t.Parallel()
	c, _ := everySecret(t)
	r := requestTo("https://example.com/?k=1")
	r.Credentials = c
	const text = "text/plain 1234567 us3rname k=1 client:1 PRIVATE KEY"
	if got := redact(text, len(text), secretsOf(r)); got != text {
		t.Errorf("got %q", got)
	}
}

func TestPostRefusesAKeyThatCannotSign(t *testing.T) {
	t.Parallel()
	r := requestTo("http://127.0.0.1:1/")
	r.Credentials.Keys = []endpoint.Key{{ID: "k1", Kind: endpoint.KeyEd25519, Secret: "whsk_n0key"}}
	o := loopbackPoster(t).post(t.Context(), r)
	if o.ErrorClass != ClassRequest || o.Verdict != verdictFinal || !strings.Contains(o.Error, "k1") || strings.Contains(o.Error, "n0key") {
		t.Errorf("got %+v", o)
	}
}
