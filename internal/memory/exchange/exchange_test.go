package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory"
)

const secret = "key+with/odd=characters"

var testNow = time.Date(2026, 11, 22, 10, 30, 0, 0, time.UTC)

func serving(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

func clientOf(t *testing.T, address string, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{
		URL: address, Secret: secret, Header: http.Header{"X-Api-Key": {secret}},
		Transport: &http.Transport{}, Now: func() time.Time { return testNow },
	}
	for _, f := range change {
		f(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// saying answers with status and body, and headers in pairs.
func saying(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// errorOf is the *memory.RemoteError in err.
func errorOf(t *testing.T, err error) memory.RemoteError {
	t.Helper()
	var e *memory.RemoteError
	if !errors.As(err, &e) {
		t.Fatalf("no RemoteError: %v", err)
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "key%2Bwith") {
		t.Errorf("the key is in %q", err)
	}
	if len(e.Message) > 500 {
		t.Errorf("a message of %d bytes", len(e.Message))
	}
	return memory.RemoteError{Kind: e.Kind, Status: e.Status, Message: e.Message, RetryAfter: e.RetryAfter, Sent: e.Sent}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	const html = "<html>"
	long := strings.Repeat("é", 400)
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		want    memory.RemoteError
	}{
		{"a wrong key", saying(401, `{"detail":"Invalid API key."}`),
			memory.RemoteError{Kind: memory.RemoteUnauthorized, Status: 401, Message: "Invalid API key."}},
		{"a forbidden thing", saying(403, html), memory.RemoteError{Kind: memory.RemoteUnauthorized, Status: 403, Message: "no JSON in the answer text/html"}},
		{"the key repeated", saying(401, `{"detail":"`+secret+` or key%2Bwith%2Fodd%3Dcharacters is no key"}`),
			memory.RemoteError{Kind: memory.RemoteUnauthorized, Status: 401, Message: "… or … is no key"}},
		{"too many calls", saying(429, `{"error":"Rate limit exceeded: 5 per 1 minute"}`, "Retry-After", "17"),
			memory.RemoteError{Kind: memory.RemoteThrottled, Status: 429, Message: "Rate limit exceeded: 5 per 1 minute", RetryAfter: 17 * time.Second}},
		{"come again at a time", saying(429, html, "Retry-After", testNow.Add(90*time.Second).Format(http.TimeFormat)),
			memory.RemoteError{Kind: memory.RemoteThrottled, Status: 429, Message: "no JSON in the answer text/html", RetryAfter: 90 * time.Second}},
		{"come again next year", saying(503, `{}`, "Retry-After", "31536000"),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 503, RetryAfter: time.Hour, Sent: true}},
		{"come again after the end of time", saying(503, `{}`, "Retry-After", "99999999999999999999999"),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 503, RetryAfter: time.Hour, Sent: true}},
		{"come again yesterday", saying(503, `{}`, "Retry-After", testNow.Add(-time.Hour).Format(http.TimeFormat)),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 503, Sent: true}},
		{"come again sometime", saying(503, `{}`, "Retry-After", "-5"),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 503, Sent: true}},
		{"a spent budget", saying(402, `{"error":"Token budget exhausted","detail":"none left"}`),
			memory.RemoteError{Kind: memory.RemoteThrottled, Status: 402, Message: "Token budget exhausted: none left"}},
		{"not there", saying(404, `{"error":"Memory not found!"}`), memory.RemoteError{Kind: memory.RemoteGone, Status: 404, Message: "Memory not found!"}},
		{"no such path", saying(404, `{"detail":"Not Found"}`), memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 404, Message: "Not Found"}},
		{"no such page", saying(404, html), memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 404, Message: "no JSON in the answer text/html"}},
		{"a validation, as FastAPI says it", saying(422, `{"detail":[{"loc":["body","messages",0],"msg":"Field required","input":{"text":"a secret of somebody"}},{"msg":"and more"}]}`),
			memory.RemoteError{Kind: memory.RemoteRefused, Status: 422, Message: "body.messages.0: Field required; and more"}},
		{"a validation, as Cognee says it", saying(400, `{"detail":[{"loc":["body","name"],"msg":"Field required"}],"body":{"text":"a secret of somebody"}}`),
			memory.RemoteError{Kind: memory.RemoteRefused, Status: 400, Message: "body.name: Field required"}},
		{"a message", saying(400, `{"message":"no"}`), memory.RemoteError{Kind: memory.RemoteRefused, Status: 400, Message: "no"}},
		{"words within words", saying(409, `{"detail":{"message":"no"}}`), memory.RemoteError{Kind: memory.RemoteRefused, Status: 409, Message: "no"}},
		{"a page for a wrong request", saying(400, html), memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 400, Message: "no JSON in the answer text/html"}},
		{"too large", saying(413, html), memory.RemoteError{Kind: memory.RemoteRefused, Status: 413, Message: "no JSON in the answer text/html"}},
		{"a wrong method", saying(405, `{"detail":"Method Not Allowed"}`),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 405, Message: "Method Not Allowed"}},
		{"an odd failure", saying(420, `{"error":"x"}`), memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 420, Message: "x"}},
		{"a failure", saying(500, `{"error":"Internal server error","detail":"boom"}`),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 500, Message: "Internal server error: boom", Sent: true}},
		{"a proxy's patience", saying(504, html), memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 504, Message: "no JSON in the answer text/html", Sent: true}},
		{"elsewhere", saying(307, ``, "Location", "/stolen"),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 307, Message: "a redirect, which is not followed"}},
		{"two lines", saying(400, `{"detail":"one\ntwo"}`), memory.RemoteError{Kind: memory.RemoteRefused, Status: 400, Message: "one two"}},
		{"many words", saying(400, `{"detail":"`+long+`"}`),
			memory.RemoteError{Kind: memory.RemoteRefused, Status: 400, Message: strings.Repeat("é", 248) + "…"}},
		{"endless words", saying(400, `{"detail":"`+strings.Repeat("x", 2<<20)+`"}`),
			memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 400, Message: "no JSON in the answer text/plain"}},
		{"another meaning", saying(418, `{"detail":"teapot","code":"short_and_stout"}`),
			memory.RemoteError{Kind: memory.RemoteThrottled, Status: 418, Message: "teapot"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := clientOf(t, serving(t, tc.handler).URL, func(o *Options) {
				o.Kind = func(r Refusal) memory.RemoteKind {
					if r.Code == "short_and_stout" {
						return memory.RemoteThrottled
					}
					return r.Usual
				}
			})
			err := c.Do(t.Context(), Call{Method: http.MethodPost, Path: "/x", Effect: true, Gone: true})
			if d := cmp.Diff(tc.want, errorOf(t, err)); d != "" {
				t.Errorf("%s\n%v", d, err)
			}
		})
	}
}

// A call that changes nothing has no effect that could have been had, and a 404
// only means what was asked for where that may be missing.
func TestRefusalsOfReads(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]memory.RemoteKind{500: memory.RemoteUnavailable, 404: memory.RemoteUnavailable} {
		c := clientOf(t, serving(t, saying(status, `{"error":"Memory not found!"}`)).URL)
		got := errorOf(t, c.Do(t.Context(), Call{Method: http.MethodGet, Path: "/x"}))
		if got.Kind != want || got.Sent {
			t.Errorf("%d is %+v", status, got)
		}
	}
}

func TestSuccessesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		message string
	}{
		{"a page", saying(200, "<html>"), "the answer has another shape than expected"},
		{"nothing", saying(204, ""), "the answer has another shape than expected"},
		{"another shape", saying(200, `[]`), "the answer has another shape than expected"},
		{"two answers", saying(200, `{"id":"1"}{"id":"2"}`), "the answer has another shape than expected"},
		{"cut JSON", saying(200, `{"id":`), "the answer has another shape than expected"},
		{"too long", saying(200, `{"id":"`+strings.Repeat("x", 1<<20)+`"}`), "the answer is too long"},
		{"too long by blanks", saying(200, `{"id":"x"}`+strings.Repeat(" ", 1<<20)), "the answer is too long"},
		{"broken off", saying(200, `{"id":"x"`, "Content-Length", "900"), ""},
		{"broken off after the JSON", saying(200, `{"id":"x"}`, "Content-Length", "900"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := clientOf(t, serving(t, tc.handler).URL)
			var answer struct{ ID string }
			err := c.Do(t.Context(), Call{Method: http.MethodPost, Path: "/x", Effect: true, Limit: 1000, Read: Into(&answer)})
			got := errorOf(t, err)
			if got.Kind != memory.RemoteUnavailable || got.Message != tc.message || !got.Sent || got.Status/100 != 2 {
				t.Errorf("%+v\n%v", got, err)
			}
		})
	}
}

func TestLimitIsExact(t *testing.T) {
	t.Parallel()
	const body = `{"id":"x"}`
	c := clientOf(t, serving(t, saying(200, body)).URL)
	for limit, wantErr := range map[int64]bool{int64(len(body)): false, int64(len(body)) - 1: true} {
		var answer struct{ ID string }
		err := c.Do(t.Context(), Call{Method: http.MethodGet, Path: "/x", Limit: limit, Read: Into(&answer)})
		if (err != nil) != wantErr {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	srv := serving(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		body, _ = io.ReadAll(r.Body)
	})
	c := clientOf(t, srv.URL+"/behind/a/proxy/")
	err := c.Do(t.Context(), Call{Method: http.MethodPut, Path: "/v1/a%2Fb/", Query: map[string][]string{"q": {"x y"}}, Body: []byte(`{}`), Effect: true})
	if err != nil {
		t.Fatal(err)
	}
	if got.RequestURI != "/behind/a/proxy/v1/a%2Fb/?q=x+y" || string(body) != "{}" {
		t.Errorf("%s %s", got.RequestURI, body)
	}
	for name, want := range map[string]string{"X-Api-Key": secret, "User-Agent": "memrelay", "Content-Type": "application/json", "Accept": "application/json"} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q", name, got.Header.Get(name))
		}
	}
}

// A redirect would take the key along, to wherever it points.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	stolen := make(chan string, 1)
	thief := serving(t, func(_ http.ResponseWriter, r *http.Request) { stolen <- r.Header.Get("X-Api-Key") })
	c := clientOf(t, serving(t, saying(302, "", "Location", thief.URL)).URL)
	got := errorOf(t, c.Do(t.Context(), Call{Method: http.MethodGet, Path: "/x"}))
	if got.Status != 302 || got.Kind != memory.RemoteUnavailable {
		t.Errorf("%+v", got)
	}
	select {
	case key := <-stolen:
		t.Errorf("the key went to somebody else: %q", key)
	default:
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	l.Close()
	got := errorOf(t, clientOf(t, address).Do(t.Context(), Call{Method: http.MethodPost, Path: "/x", Effect: true}))
	if got.Kind != memory.RemoteUnavailable || got.Sent || got.Status != 0 {
		t.Errorf("%+v", got)
	}
}

func TestConnectionBreaks(t *testing.T) {
	t.Parallel()
	srv := serving(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, _ := http.NewResponseController(w).Hijack()
		_, _ = buf.WriteString("HTTP/1.1 " + secret)
		_ = buf.Flush()
		conn.Close()
	})
	got := errorOf(t, clientOf(t, srv.URL).Do(t.Context(), Call{Method: http.MethodPost, Path: "/x", Effect: true}))
	if got.Kind != memory.RemoteUnavailable || !got.Sent || got.Status != 0 {
		t.Errorf("%+v", got)
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	started := make(chan struct{}, 8)
	srv := serving(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, `{"id":`)
			_ = http.NewResponseController(w).Flush()
		}
		started <- struct{}{}
		<-r.Context().Done()
	})
	for _, path := range []string{"/none", "/half"} {
		t.Run("the call's, "+path, func(t *testing.T) {
			c := clientOf(t, srv.URL, func(o *Options) { o.Timeout = 300 * time.Millisecond })
			err := c.Do(t.Context(), Call{Method: http.MethodPost, Path: path, Effect: true, Read: Into(new(any))})
			<-started
			if got := errorOf(t, err); got.Kind != memory.RemoteUnavailable || !got.Sent {
				t.Errorf("%+v", got)
			}
			if errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errTimeout) {
				t.Errorf("it looks as if the caller's context had ended: %v", err)
			}
		})
		t.Run("the caller's, "+path, func(t *testing.T) {
			c := clientOf(t, srv.URL)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-started; cancel() }()
			err := c.Do(ctx, Call{Method: http.MethodPost, Path: path, Effect: true, Read: Into(new(any))})
			if got := errorOf(t, err); !errors.Is(err, context.Canceled) || !got.Sent {
				t.Errorf("%+v %v", got, err)
			}
		})
	}
	t.Run("was over before", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), -1)
		defer cancel()
		err := clientOf(t, srv.URL).Do(ctx, Call{Method: http.MethodPost, Path: "/x", Effect: true})
		if got := errorOf(t, err); !errors.Is(err, context.DeadlineExceeded) || got.Sent {
			t.Errorf("%+v %v", got, err)
		}
	})
}

// opaque is a transport that says nothing of how far a request came.
type opaque struct{}

func (opaque) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("something with %s in it", secret)
}

func TestTransportThatDoesNotSay(t *testing.T) {
	t.Parallel()
	c := clientOf(t, "http://mem0.example", func(o *Options) { o.Transport = opaque{} })
	got := errorOf(t, c.Do(t.Context(), Call{Method: http.MethodPost, Path: "/x", Effect: true}))
	if !got.Sent {
		t.Error("it may have been sent")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{
		{URL: "://" + secret}, {URL: "mem0.example"}, {URL: "ftp://mem0.example"}, {URL: "https://"},
		{URL: "https://user:" + secret[:3] + "@mem0.example"}, {URL: "https://mem0.example/?x"}, {URL: "https://mem0.example/#x"},
		{URL: "https://mem0.example", Header: http.Header{"X-Api-Key": {"two\nlines"}}},
	} {
		_, err := New(o)
		if err == nil {
			t.Errorf("%q is taken", o.URL)
		} else if strings.Contains(err.Error(), secret[:3]) || strings.Contains(err.Error(), "lines") {
			t.Errorf("%q says too much", err)
		}
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	type row struct{ N int }
	for text, want := range map[string]struct {
		sum    int
		beside string
		ok     bool
	}{
		`[]`:                {0, "", true},
		`[{"n":1},{"n":2}]`: {3, "", true},
		` {"a":{"b":[1]},"rows":[{"n":4}],"z":null} `: {4, `a={"b":[1]} z=null `, true},
		`{"rows":[]}`:       {0, "", true},
		`{}`:                {0, "", false},
		`{"rows":null}`:     {0, "", false},
		`{"rows":{"n":1}}`:  {0, "", false},
		`null`:              {0, "", false},
		`7`:                 {0, "", false},
		``:                  {0, "", false},
		`[{"n":1}`:          {1, "", false},
		`[{"n":1},{"n":`:    {1, "", false},
		`[{"n":"x"}]`:       {0, "", false},
		`{"rows":[{"n":1}]`: {1, "", false},
		`{"rows":[{"n":1}`:  {1, "", false},
		`[]]`:               {0, "", false},
	} {
		sum, beside := 0, ""
		err := Rows("rows", func(r row) { sum += r.N }, func(key string, value json.RawMessage) { beside += key + "=" + string(value) + " " })(strings.NewReader(text))
		if sum != want.sum || beside != want.beside || (err == nil) != want.ok {
			t.Errorf("%s: %d %q %v", text, sum, beside, err)
		}
	}
}

func TestJSONOfWhatIsNone(t *testing.T) {
	t.Parallel()
	if _, err := JSON(map[string]any{"x": func() {}}); memory.RemoteKindOf(err) != memory.RemoteRefused {
		t.Error(err)
	}
}
