package zohotest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// clock is a clock that goes on when it is told to.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 3, 9, 30, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// visitor is somebody with an access token.
type visitor struct {
	t     *testing.T
	s     *zohotest.Server
	token string
}

func start(t *testing.T, o zohotest.Options) *zohotest.Server {
	t.Helper()
	s := zohotest.New(o)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// visit starts a Zoho and gets a token of it.
func visit(t *testing.T, o zohotest.Options) *visitor {
	t.Helper()
	v := &visitor{t: t, s: start(t, o)}
	v.login()
	return v
}

func (v *visitor) login() {
	v.t.Helper()
	a := v.refresh()
	v.token, _ = a.object()["access_token"].(string)
	if v.token == "" {
		v.t.Fatalf("no token: %s", a.body)
	}
}

// refresh asks for an access token.
func (v *visitor) refresh() reply {
	v.t.Helper()
	return v.form(url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {zohotest.RefreshToken},
		"client_id": {zohotest.ClientID}, "client_secret": {zohotest.ClientSecret},
	})
}

func (v *visitor) form(values url.Values) reply {
	v.t.Helper()
	return v.send(http.MethodPost, "/oauth/v2/token", values.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// reply is an answer that was read to its end.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (v *visitor) get(path string, header ...string) reply {
	v.t.Helper()
	return v.send(http.MethodGet, path, "", header...)
}

func (v *visitor) send(method, path, body string, header ...string) reply {
	v.t.Helper()
	a, err := v.try(method, path, body, header...)
	if err != nil {
		v.t.Fatal(err)
	}
	return a
}

// try sends a request; header is names and values in turn.
func (v *visitor) try(method, path, body string, header ...string) (reply, error) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.s.URL()+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	if v.token != "" {
		req.Header.Set("Authorization", "Zoho-oauthtoken "+v.token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return reply{v.t, res.StatusCode, res.Header, string(text)}, err
}

// is checks status and Zoho's code, "" for an answer without one.
func (r reply) is(status int, code string) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	if got, _ := r.object()["code"].(string); got != code {
		r.t.Fatalf("code %q, want %q: %s", got, code, r.body)
	}
	return r
}

// object is the body; without one it is empty.
func (r reply) object() map[string]any {
	r.t.Helper()
	o := map[string]any{}
	if r.body == "" {
		return o
	}
	d := json.NewDecoder(bytes.NewReader([]byte(r.body)))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		r.t.Fatalf("%v: %s", err, r.body)
	}
	return o
}

// rows are the objects of a list, by default of data.
func (r reply) rows(name string) []map[string]any {
	r.t.Helper()
	var rows []map[string]any
	list, _ := r.object()[name].([]any)
	for _, row := range list {
		rows = append(rows, row.(map[string]any))
	}
	return rows
}

func (r reply) info() map[string]any {
	r.t.Helper()
	info, _ := r.object()["info"].(map[string]any)
	return info
}

// ids are the ids of the rows of data.
func (r reply) ids() []string {
	r.t.Helper()
	var ids []string
	for _, row := range r.rows("data") {
		ids = append(ids, row["id"].(string))
	}
	return ids
}

// receiver takes notifications.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	status int // what it answers
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bodies = append(r.bodies, string(body))
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

// got waits for what is on its way and returns all that came.
func (r *receiver) got(t *testing.T, s *zohotest.Server) []zohotest.Notification {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]zohotest.Notification, len(r.bodies))
	for i, body := range r.bodies {
		if err := json.Unmarshal([]byte(body), &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// enable opens a channel; more is put into the request.
func (v *visitor) enable(to string, events string, more string) reply {
	v.t.Helper()
	return v.send(http.MethodPost, "/crm/v8/actions/watch",
		`{"watch":[{"channel_id":"1000000068001","events":[`+events+`],"notify_url":"`+to+`"`+more+`}]}`)
}
