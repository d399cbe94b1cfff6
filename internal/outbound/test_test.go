package outbound

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/seal"
)

// testerOf sends to url through a guard that opens loopback, unless rt says otherwise.
func testerOf(t *testing.T, e Endpoint, rt ...http.RoundTripper) *Tester {
	t.Helper()
	through := loopbackTransport(t)
	if len(rt) > 0 {
		through = rt[0]
	}
	events, err := catalogue.New()
	if err != nil {
		t.Fatal(err)
	}
	targets := targetsThrough(through, endpoint.EnvCredentials(testToken, testSecret))
	return NewTester(targets, "1.2.3", e, events, memory.Sender{Source: "memrelay", BotVersion: "9"}, time.Now)
}

// ask sends a request to the routes of a Tester, and reads the answer into to.
func ask(t *testing.T, tester *Tester, method, path, body string, to any) string {
	t.Helper()
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.DiscardHandler))
	r.Method(http.MethodGet, "/webhooks/memory/status", respond.Handler(tester.ServeStatus))
	r.Method(http.MethodPost, "/webhooks/memory/test", respond.Handler(tester.ServeTest))
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	if w.Code != http.StatusOK {
		t.Errorf("answered %d: %s", w.Code, w.Body)
	}
	text := w.Body.String()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		t.Fatalf("answered %q: %v", text, err)
	}
	for _, secret := range []string{testToken, testSecret, "key-in-the-query", "key-before-the-host"} {
		if strings.Contains(text, secret) {
			t.Errorf("the answer holds %s: %s", secret, text)
		}
	}
	return text
}

func TestStatusSaysHowTheEndpointIsSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		endpoint Endpoint
		token    bool
		want     string
	}{
		{
			"all of it", Endpoint{
				URL: "https://u:key-before-the-host@example.com/in?key=key-in-the-query", Events: []string{"memory_added"},
				Timeout: 30 * time.Second, MaxAttempts: 3, RetryDelay: 1500 * time.Millisecond,
			}, true,
			`{"status":"ok","webhook_config":{"enabled":true,"webhook_url":"https://example.com/in?[redacted]","timeout":30,"retry_count":3,` +
				`"retry_delay":1.5,"enabled_events":["memory_added"],"has_token":true,"has_secret":true}}` + "\n",
		},
		{
			"no events", Endpoint{URL: "https://example.com", Timeout: time.Second, MaxAttempts: 1}, true,
			`{"status":"ok","webhook_config":{"enabled":false,"webhook_url":"https://example.com","timeout":1,"retry_count":1,` +
				`"retry_delay":0,"enabled_events":[],"has_token":true,"has_secret":true}}` + "\n",
		},
		{
			"nothing", Endpoint{}, false,
			`{"status":"ok","webhook_config":{"enabled":false,"webhook_url":"","timeout":0,"retry_count":0,"retry_delay":0,"enabled_events":[],` +
				`"has_token":false,"has_secret":false}}` + "\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tester := testerOf(t, tt.endpoint)
			if !tt.token {
				tester.targets.env = endpoint.Credentials{}
			}
			var status Status
			if diff := cmp.Diff(tt.want, ask(t, tester, http.MethodGet, "/webhooks/memory/status", "", &status)); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTestIsARealDelivery(t *testing.T) {
	t.Parallel()
	type received struct {
		header http.Header
		body   []byte
	}
	got := make(chan received, 1)
	receiver := answering(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- received{r.Header, body}
		w.WriteHeader(http.StatusAccepted)
	})
	tester := testerOf(t, Endpoint{URL: receiver.URL + "/in?key=key-in-the-query", Timeout: 10 * time.Second})
	for _, body := range []string{"", `{"anything":1}`, "no JSON"} {
		var test Test
		ask(t, tester, http.MethodPost, "/webhooks/memory/test", body, &test)
		r := <-got
		want := Test{
			Status: "ok", TestSent: true, WebhookEnabled: true, WebhookURL: receiver.URL + "/in?[redacted]",
			Outcome: &TestOutcome{Delivered: true, StatusCode: http.StatusAccepted, WebhookID: r.header.Get("webhook-id")},
		}
		if diff := cmp.Diff(want, test, cmpopts.IgnoreFields(TestOutcome{}, "DurationMs")); diff != "" {
			t.Errorf("the answer to %q (-want +got):\n%s", body, diff)
		}
		signedAgain := http.Header{}
		stamp := r.header.Get("webhook-timestamp")
		mustSign(t, signedAgain, endpoint.EnvCredentials(testToken, testSecret), r.header.Get("webhook-id"), unixOf(t, stamp), r.body)
		for _, name := range []string{"Authorization", "X-Webhook-Signature", "webhook-signature"} {
			if w := signedAgain.Get(name); w == "" || w != r.header.Get(name) {
				t.Errorf("%s is %q, want %q", name, r.header.Get(name), w)
			}
		}
		var payload struct {
			Event     string         `json:"event"`
			UserID    string         `json:"user_id"`
			Data      map[string]any `json:"data"`
			Source    string         `json:"source"`
			Version   string         `json:"bot_version"`
			RequestID string         `json:"request_id"`
		}
		if err := json.Unmarshal(r.body, &payload); err != nil {
			t.Fatal(err)
		}
		if payload.Event != added || payload.UserID != "test" || payload.Data["test"] != true || payload.Source != "memrelay" || payload.Version != "9" ||
			payload.RequestID != r.header.Get("webhook-id") {
			t.Errorf("the payload is %s", r.body)
		}
	}
}

func unixOf(t *testing.T, stamp string) time.Time {
	t.Helper()
	var seconds int64
	if err := json.Unmarshal([]byte(stamp), &seconds); err != nil {
		t.Fatal(err)
	}
	return time.Unix(seconds, 0)
}

func TestTestSaysWhyNothingArrived(t *testing.T) {
	t.Parallel()
	broken := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	slow := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // whoever does not read it does not notice that the sender hangs up
		<-r.Context().Done()
	})
	for _, tt := range []struct {
		name string
		url  string
		rt   http.RoundTripper
		want Test
		says string
	}{
		{"no URL", "", nil, Test{Status: "ok"}, ""},
		{
			"an answer that is not 2xx", broken.URL, nil,
			Test{Status: "ok", TestSent: true, WebhookEnabled: true, WebhookURL: broken.URL, Outcome: &TestOutcome{StatusCode: 500}}, "answered 500",
		},
		{
			"no answer in time", slow.URL, nil,
			Test{Status: "ok", TestSent: true, WebhookEnabled: true, WebhookURL: slow.URL, Outcome: &TestOutcome{}}, "deadline",
		},
		{
			"what the guard refuses", "http://127.0.0.1:1/in", NewGuard(nil, nil).Transport(),
			Test{Status: "ok", TestSent: true, WebhookEnabled: true, WebhookURL: "http://127.0.0.1:1/in", Outcome: &TestOutcome{}}, "refused by the outbound guard",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := Endpoint{URL: tt.url, Timeout: 10 * time.Second}
			if tt.url == slow.URL {
				e.Timeout = 50 * time.Millisecond
			}
			tester := testerOf(t, e)
			if tt.rt != nil {
				tester = testerOf(t, e, tt.rt)
			}
			var test Test
			ask(t, tester, http.MethodPost, "/webhooks/memory/test", "", &test)
			said := ""
			if test.Outcome != nil {
				said = test.Outcome.Error
			}
			if !strings.Contains(said, tt.says) || (said == "") != (tt.says == "") {
				t.Errorf("it says %q, want %q in it", said, tt.says)
			}
			if diff := cmp.Diff(tt.want, test, cmpopts.IgnoreFields(TestOutcome{}, "DurationMs", "Error", "WebhookID")); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
		})
	}
}

// takenTest sends a test to an endpoint, and returns what arrived and what came of it.
func takenTest(t *testing.T, e db.Endpoint, box *seal.Box, event string) (http.Header, []byte, TestOutcome) {
	t.Helper()
	var header http.Header
	var body []byte
	receiver := answering(t, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	})
	tester := testerOf(t, Endpoint{URL: "https://example.com/env"})
	tester.targets.box = box
	e.URL, e.Timeout = receiver.URL, 10*time.Second
	outcome, err := tester.SendTo(t.Context(), e, event)
	if err != nil {
		t.Fatal(err)
	}
	return header, body, outcome
}

func TestTestOfAnyEventIsRealistic(t *testing.T) {
	t.Parallel()
	events, err := catalogue.New()
	if err != nil {
		t.Fatal(err)
	}
	box := newBox(t, boxKey)
	own := endpoint.EnvCredentials("own-token", "own-secret")
	for _, event := range append(memory.Events(), memory.OperationalEvents()...) {
		before := time.Now().Add(-time.Second)
		header, body, outcome := takenTest(t, sealed(t, box, own), box, event)
		id := header.Get("webhook-id")
		want := TestOutcome{Delivered: true, StatusCode: http.StatusAccepted, WebhookID: id}
		if diff := cmp.Diff(want, outcome, cmpopts.IgnoreFields(TestOutcome{}, "DurationMs")); diff != "" {
			t.Errorf("%s: outcome (-want +got):\n%s", event, diff)
		}
		var got memory.Envelope
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%s: %v in %s", event, err, body)
		}
		if got.Event != event || got.UserID == "" || got.RequestID != id || got.BotVersion != "9" || got.Timestamp.Before(before) || got.Timestamp.After(time.Now()) {
			t.Errorf("%s: the payload is %s", event, body)
		}
		data := got.Data.(map[string]any)
		if data["test"] != true {
			t.Errorf("%s: nothing says that it is a test: %s", event, body)
		}
		delete(data, "test") // beside it, it is as the catalogue says
		got.Timestamp = got.Timestamp.UTC()
		payload, err := got.Render()
		if err != nil {
			t.Fatal(err)
		}
		if err := events.Check(payload); err != nil {
			t.Error(err)
		}
		expected := http.Header{}
		mustSign(t, expected, own, id, unixOf(t, header.Get("webhook-timestamp")), body)
		for _, name := range []string{"Authorization", "X-Webhook-Signature", "webhook-signature"} {
			if header.Get(name) != expected.Get(name) {
				t.Errorf("%s: %s is %q, want %q", event, name, header.Get(name), expected.Get(name))
			}
		}
	}
}

func TestTestIsInTheEndpointsForm(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		form string
		size int32
		keys string
	}{
		{endpoint.FormMemrelay, 1, "bot_version data event request_id source timestamp user_id"},
		{endpoint.FormStandard, 1, "data timestamp type"},
		{endpoint.FormMemrelay, 10, "[bot_version data event request_id source timestamp user_id webhook_id]"},
		{endpoint.FormStandard, 10, "[data timestamp type webhook_id]"},
	} {
		_, body, outcome := takenTest(t, db.Endpoint{Name: "bare", Form: tt.form, BatchSize: tt.size}, nil, memory.Updated)
		var one map[string]any
		var all []map[string]any
		keys := ""
		if json.Unmarshal(body, &all) == nil && len(all) == 1 {
			keys = "[" + strings.Join(slices.Sorted(maps.Keys(all[0])), " ") + "]"
		} else if json.Unmarshal(body, &one) == nil {
			keys = strings.Join(slices.Sorted(maps.Keys(one)), " ")
		}
		if keys != tt.keys || !outcome.Delivered {
			t.Errorf("%s, %d at most: got %s: %s", tt.form, tt.size, keys, body)
		}
	}
}

func TestTestsDiffer(t *testing.T) {
	t.Parallel()
	_, _, one := takenTest(t, db.Endpoint{Name: "bare"}, nil, memory.Added)
	_, _, two := takenTest(t, db.Endpoint{Name: "bare"}, nil, memory.Added)
	if one.WebhookID == "" || one.WebhookID == two.WebhookID {
		t.Errorf("two tests are %s and %s", one.WebhookID, two.WebhookID)
	}
}

func TestTestThatCannotBeSent(t *testing.T) {
	t.Parallel()
	tester := testerOf(t, Endpoint{})
	if _, err := tester.SendTo(t.Context(), db.Endpoint{URL: "http://127.0.0.1:1/"}, "memory_forgotten"); !errors.Is(err, ErrNoSuchEvent) {
		t.Errorf("another event: got %v, want %v", err, ErrNoSuchEvent)
	}
	tester.targets.box = newBox(t)
	if _, err := tester.SendTo(t.Context(), sealed(t, newBox(t, boxKey), endpoint.Credentials{}), memory.Added); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the key: got %v, want %v", err, seal.ErrNoKey)
	}
	o, err := tester.SendTo(t.Context(), db.Endpoint{ID: uuid.New(), URL: "http://127.0.0.1:" + closedPort(t), Timeout: time.Minute}, memory.Added)
	if err != nil || o.Delivered || o.StatusCode != 0 || !strings.Contains(o.Error, "refused") {
		t.Errorf("nobody listens: got %+v, %v", o, err)
	}
}
