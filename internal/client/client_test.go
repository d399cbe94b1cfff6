package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/client"
	"github.com/memrelay/memrelay/internal/respond"
)

// both runs a test over the network and in this process.
func both(t *testing.T, h http.HandlerFunc, test func(t *testing.T, c *client.Client)) {
	t.Helper()
	t.Run("network", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		test(t, open(t, client.Options{URL: server.URL}))
	})
	t.Run("process", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, client.Options{Handler: h}))
	})
}

func open(t *testing.T, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestARequestAndItsAnswer(t *testing.T) {
	t.Parallel()
	both(t, func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_ = respond.JSON(w, http.StatusAccepted, map[string]string{
			"method": r.Method, "path": r.URL.EscapedPath(), "query": r.URL.RawQuery, "body": string(text),
			"type": r.Header.Get("Content-Type"), "key": r.Header.Get("Idempotency-Key"),
		})
	}, func(t *testing.T, c *client.Client) {
		a, err := c.Do(t.Context(), client.Request{
			Method: http.MethodPost, Path: client.Path("admin", "endpoints", "a/b c?"), Query: map[string][]string{"n": {"1&2"}},
			Body: map[string]int{"x": 1}, Key: "once",
		})
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := a.Read(&got); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"method": "POST", "path": "/admin/endpoints/a%2Fb%20c%3F", "query": "n=1%262", "body": `{"x":1}`, "type": "application/json", "key": "once",
		}
		if diff := cmp.Diff(want, got); diff != "" || a.Status != http.StatusAccepted {
			t.Errorf("status %d, sent (-want +got):\n%s", a.Status, diff)
		}
	})
}

func TestWhatTheServerRefuses(t *testing.T) {
	t.Parallel()
	fields := []respond.Field{{Name: "url", Detail: "is missing"}, {Name: "name", Detail: "is too long"}}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		status int
		says   []string
	}{
		"a problem": {func(w http.ResponseWriter, r *http.Request) {
			respond.Problem(w, r, &respond.Error{Status: http.StatusConflict, Code: "taken", Message: "There is one."})
		}, http.StatusConflict, []string{"There is one."}},
		"fields": {func(w http.ResponseWriter, r *http.Request) {
			respond.Problem(w, r, &respond.Error{Status: http.StatusUnprocessableEntity, Code: "invalid_field", Message: "url: is missing.", Fields: fields})
		}, http.StatusUnprocessableEntity, []string{"url: is missing.", "name: is too long."}},
		"an id": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"status":500,"detail":"Oh.","code":"internal","request_id":"abc"}`)
		}, http.StatusInternalServerError, []string{"Oh. (request_id abc)"}},
		"a proxy's words": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<h1>no</h1>")
		}, http.StatusBadGateway, []string{"answered 502 Bad Gateway"}},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.invalid/", http.StatusFound)
		}, http.StatusFound, []string{"answered 302 Found"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, c.answer, func(t *testing.T, cl *client.Client) {
				_, err := cl.Do(t.Context(), client.Request{Method: http.MethodPost, Path: "/x"})
				var p *client.Problem
				if !errors.As(err, &p) || p.Status != c.status {
					t.Fatalf("got %v", err)
				}
				for _, says := range c.says {
					if !strings.Contains(err.Error(), says) || strings.Count(err.Error(), "is missing") > 1 {
						t.Errorf("says %q, want %q", err, says)
					}
				}
			})
		})
	}
}

func TestWhatIsNoMemrelay(t *testing.T) {
	t.Parallel()
	both(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<h1>Welcome</h1>")
	}, func(t *testing.T, c *client.Client) {
		if _, err := c.Do(t.Context(), client.Request{Path: "/"}); err == nil || !strings.Contains(err.Error(), "text/html and not JSON") {
			t.Errorf("got %v", err)
		}
	})
}

// A token is for one server, and for nobody who listens.
func TestWhereTheTokenGoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url      string
		insecure bool
		says     string
	}{
		{"https://relay.example.com", false, ""},
		{"https://relay.example.com/prefix/", false, ""},
		{"http://127.0.0.1:8000", false, ""},
		{"http://[::1]:8000", false, ""},
		{"http://localhost:8000", false, ""},
		{"http://relay.example.com", true, ""},
		{"http://relay.example.com", false, "want https"},
		{"http://10.0.0.1", false, "want https"},
		{"http://localhost.example.com", false, "want https"},
		{"https://ada:hush@relay.example.com", false, "without a user"},
		{"https://relay.example.com/?token=hush", false, "without a user"},
		{"relay.example.com", false, "want a URL"},
		{"ftp://relay.example.com", false, "want a URL"},
		{"", false, "want a URL"},
	} {
		_, err := client.New(client.Options{URL: c.url, Token: "mrt_x", InsecureHTTP: c.insecure})
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%s: %v, want %q", c.url, err, c.says)
		}
	}
	if _, err := client.New(client.Options{URL: "https://relay.example.com", Token: "a\nb"}); err == nil {
		t.Error("a token of two lines is sent")
	}

	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.URL.Path+" "+r.Header.Get("Authorization")+" "+r.Header.Get("User-Agent"))
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	t.Cleanup(server.Close)
	c := open(t, client.Options{URL: server.URL + "/prefix/", Token: "mrt_x", Agent: "memrelay/test"})
	if _, err := c.Do(t.Context(), client.Request{Path: "/admin"}); err == nil {
		t.Error("a redirect is taken for an answer")
	}
	if diff := cmp.Diff([]string{"/prefix/admin Bearer mrt_x memrelay/test"}, got); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestABusyServerIsAskedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, after string
		busy          int // answers before the good one
		asked         int
		good          bool
		waited        time.Duration
	}{
		"one that is free soon":    {http.MethodGet, "2", 2, 3, true, 4 * time.Second},
		"one that stays busy":      {http.MethodGet, "1", 9, 4, false, 3 * time.Second},
		"one that is busy long":    {http.MethodGet, "3600", 9, 1, false, 0},
		"one that says no time":    {http.MethodGet, "", 9, 1, false, 0},
		"what changes something":   {http.MethodPost, "1", 9, 1, false, 0},
		"what deletes something":   {http.MethodDelete, "1", 9, 1, false, 0},
		"a time that is no number": {http.MethodGet, "soon", 9, 1, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, waited := 0, time.Duration(0)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked++; asked <= c.busy {
					w.Header().Set("Retry-After", c.after)
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				_ = respond.JSON(w, http.StatusOK, map[string]bool{"ok": true})
			}))
			t.Cleanup(server.Close)
			cl := open(t, client.Options{URL: server.URL, Wait: func(_ context.Context, d time.Duration) error { waited += d; return nil }})
			_, err := cl.Do(t.Context(), client.Request{Method: c.method, Path: "/"})
			if asked != c.asked || (err == nil) != c.good || waited != c.waited {
				t.Errorf("asked %d times, waited %s, %v; want %d and %s", asked, waited, err, c.asked, c.waited)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	c := open(t, client.Options{URL: "http://" + ln.Addr().String()})
	err = c.Get(t.Context(), "/admin/secret-path", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "secret-path") {
		t.Errorf("got %v", err)
	}
}

// A handler that breaks off has not answered.
func TestABrokenHandler(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"before": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"in between": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"a":1}`)
			panic("broken")
		},
	} {
		if _, err := open(t, client.Options{Handler: h}).Do(t.Context(), client.Request{Path: "/"}); err == nil {
			t.Errorf("%s: taken for an answer", name)
		}
	}
}

// Whoever has gone is waited for by nobody.
func TestWhoeverLeavesIsGone(t *testing.T) {
	t.Parallel()
	left := make(chan struct{}, 2)
	both(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		left <- struct{}{}
	}, func(t *testing.T, c *client.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := c.Do(ctx, client.Request{Path: "/"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		<-left
	})
}

// feed answers with the events that come after the id that it is asked for.
func feed(asked chan<- string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		last := r.URL.Query().Get("last_event_id")
		asked <- last + " " + r.URL.Query().Get("status")
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "retry: 1\n: hello\n\n")
		next := map[string]string{"": "1", "1": "2", "2": "3"}[last]
		_, _ = io.WriteString(w, "id: "+next+"\nevent: event\ndata: {\"n\":\ndata: "+next+"}\n\n: still here\n\nid: 9\ndata: cut")
		_ = http.NewResponseController(w).Flush()
	}
}

var errEnough = errors.New("enough")

func TestAStreamGoesOnWhereItBroke(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 6)
	both(t, feed(asked), func(t *testing.T, c *client.Client) {
		var got []string
		err := c.Stream(t.Context(), "/s", map[string][]string{"status": {"dead"}}, func(e client.Event) error {
			var data struct{ N int }
			if err := json.Unmarshal([]byte(e.Data), &data); err != nil {
				return err
			}
			if got = append(got, e.ID+e.Name); data.N == 3 {
				return errEnough
			}
			return nil
		})
		if diff := cmp.Diff([]string{"1event", "2event", "3event"}, got); diff != "" || !errors.Is(err, errEnough) {
			t.Errorf("%v, heard (-want +got):\n%s", err, diff)
		}
	})
	t.Cleanup(func() {
		counts := map[string]int{}
		for range 6 {
			counts[<-asked]++
		}
		if diff := cmp.Diff(map[string]int{" dead": 2, "1 dead": 2, "2 dead": 2}, counts); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	})
}

// What is told is told at once, not when it is over.
func TestAStreamIsHeardWhileItLasts(t *testing.T) {
	t.Parallel()
	both(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: x\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, c *client.Client) {
		ctx, stop := context.WithCancel(t.Context())
		err := c.Stream(ctx, "/s", nil, func(client.Event) error { stop(); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAStreamThatIsRefused(t *testing.T) {
	t.Parallel()
	both(t, func(w http.ResponseWriter, r *http.Request) {
		respond.Problem(w, r, &respond.Error{Status: http.StatusForbidden, Code: "forbidden", Message: "Not you."})
	}, func(t *testing.T, c *client.Client) {
		err := c.Stream(t.Context(), "/s", nil, func(client.Event) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "Not you.") {
			t.Errorf("got %v", err)
		}
	})
}
