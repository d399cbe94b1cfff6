package outbound

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

// testerOf sends to url through a guard that opens loopback, unless rt says otherwise.
func testerOf(t *testing.T, e Endpoint, rt ...http.RoundTripper) *Tester {
	t.Helper()
	through := loopbackTransport(t)
	if len(rt) > 0 {
		through = rt[0]
	}
	return NewTester(through, "1.2.3", e, Credentials{Token: testToken, Secret: testSecret},
		memory.Sender{Source: "memrelay", BotVersion: "9"}, time.Now)
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
				tester.credentials = Credentials{}
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
		sign(signedAgain, Credentials{Token: testToken, Secret: testSecret}, r.header.Get("webhook-id"), unixOf(t, stamp), r.body)
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
