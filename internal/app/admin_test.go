package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/memrelay/memrelay/internal/config"
)

// An operator tells somebody more, and sees what becomes of it: all of it over HTTP,
// with the program at work.
func TestAnOperatorsWay(t *testing.T) {
	t.Parallel()
	receiver := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 2 { // the first is the test
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	p := start(t, setup{change: func(c *config.Config) {
		c.AdminToken, c.Keys = adminToken, []string{"a-key-of-the-tests-that-is-long-enough"}
	}})
	made := p.ask(t, "POST", "/admin/endpoints", fmt.Sprintf(`{"name":"crm","url":%q,"events":["memory_added"],"user_ids":["ada"]}`, receiver.URL), 201)
	secret := made["secrets"].([]any)[0].(map[string]any)["secret"].(string)
	signed := func(w webhook) {
		t.Helper()
		if want := "sha256=" + sign(secret, w.body); w.header.Get("X-Webhook-Signature") != want {
			t.Errorf("signed %s, want %s", w.header.Get("X-Webhook-Signature"), want)
		}
	}

	outcome := p.ask(t, "POST", "/admin/endpoints/crm/test", `{"event":"memory_deleted"}`, 200)
	test := receiver.next(t)
	signed(test)
	if outcome["delivered"] != true || outcome["webhook_id"] != test.header.Get("webhook-id") {
		t.Errorf("tested: %v", outcome)
	}
	if said := p.ask(t, "POST", "/admin/endpoints/crm/test", `{"event":"memory_forgotten"}`, 422); said["field"] != "event" {
		t.Errorf("a test of an event that is none: %v", said)
	}

	p.ask(t, "POST", "/v1/memories", `{"user_id":"bob","content":"Bob likes tea"}`, 201)
	p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":"Ada likes tea"}`, 201)
	refused := receiver.next(t)
	signed(refused)
	p.waitFor(t, "the delivery to die", `SELECT count(*) = 1 FROM deliveries WHERE status = 'dead'`)
	dead := p.ask(t, "GET", "/admin/deliveries?status=dead&user_id=ada", "", 200)["deliveries"].([]any)
	if len(dead) != 1 {
		t.Fatalf("dead: %v", dead)
	}
	path := fmt.Sprintf("/admin/deliveries/%.0f", dead[0].(map[string]any)["id"])
	story := p.ask(t, "GET", path, "", 200)
	if attempts := story["attempts_made"].([]any); len(attempts) != 1 || attempts[0].(map[string]any)["status_code"] != 400.0 || story["payload"] != string(refused.body) {
		t.Errorf("the story: %v", story)
	}
	p.ask(t, "POST", path+"/resend", `{"reason":"they have mended it"}`, 200)
	again := receiver.next(t)
	signed(again)
	if again.header.Get("webhook-id") != refused.header.Get("webhook-id") || string(again.body) != string(refused.body) {
		t.Error("what was sent again is another webhook")
	}
	p.waitFor(t, "the delivery to arrive", `SELECT count(*) = 1 FROM deliveries WHERE status = 'delivered'`)

	// A replay brings it once more, with the id of the first time.
	replay := p.ask(t, "POST", "/admin/endpoints/crm/replay", `{"since":"2026-01-01T00:00:00Z","reason":"they lost it"}`, 202)
	replayed := receiver.next(t)
	if replayed.header.Get("webhook-id") != refused.header.Get("webhook-id") {
		t.Error("what was replayed is another webhook")
	}
	p.waitFor(t, "the replay to end", `SELECT count(*) = 1 FROM redeliveries WHERE state = 'done'`)
	if got := p.ask(t, "GET", "/admin/redeliveries/"+replay["id"].(string), "", 200); got["state"] != "done" || got["opened"] != 1.0 {
		t.Errorf("the replay: %v", got)
	}
	var payload struct {
		UserID string `json:"user_id"`
	}
	if err := json.Unmarshal(replayed.body, &payload); err != nil || payload.UserID != "ada" {
		t.Errorf("replayed for %q, %v", payload.UserID, err)
	}
}

// Whoever looks at health sees an endpoint that wants no more, until somebody decides.
func TestHealthNamesAnEndpointThatIsDisabled(t *testing.T) {
	t.Parallel()
	receiver := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	p := start(t, setup{change: func(c *config.Config) {
		c.AdminToken, c.Keys = adminToken, []string{"a-key-of-the-tests-that-is-long-enough"}
	}})
	p.ask(t, "POST", "/admin/endpoints", fmt.Sprintf(`{"name":"crm","url":%q}`, receiver.URL), 201)
	p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":"Ada likes tea"}`, 201)
	p.waitFor(t, "the endpoint to be disabled", `SELECT bool_or(status = 'disabled') FROM endpoints`)
	health := p.get(t, "/webhooks/health")
	want := "[The endpoint crm is disabled: `memrelay endpoints show crm` says why.]"
	if got := fmt.Sprint(health.body["concerns"]); health.body["status"] != "degraded" || got != want {
		t.Errorf("health: %v", health.body)
	}
	p.ask(t, "POST", "/admin/endpoints/crm/resume", "", 200)
	p.ask(t, "DELETE", "/admin/endpoints/crm", "", 200)
	if health := p.get(t, "/webhooks/health"); health.body["status"] != "healthy" {
		t.Errorf("health: %v", health.body)
	}
}
