package app_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/memrelay/memrelay/internal/config"
)

func operated(t *testing.T, more ...func(*config.Config)) *program {
	t.Helper()
	return start(t, setup{change: func(c *config.Config) {
		c.AdminToken, c.Keys = adminToken, []string{"a-key-of-the-tests-that-is-long-enough"}
		for _, change := range more {
			change(c)
		}
	}})
}

// Who was turned away is seen within a second or two, by where they came from, and
// without what they sent.
func TestOperatorsSeeWhoWasTurnedAway(t *testing.T) {
	t.Parallel()
	p := operated(t, func(c *config.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	refused := p.post(t, `{"module":"hunter2"}`, http.Header{
		"Content-Type": {"application/json"}, "X-Zoho-Signature": {"hunter2"}, "X-Forwarded-For": {"192.0.2.1, 203.0.113.7"}, "User-Agent": {"zoho/1"}, "X-Request-Id": {"request-8"},
	})
	if refused.status != http.StatusUnauthorized {
		t.Fatalf("answered %d", refused.status)
	}
	for _, asked := range []string{ // the first two are looked at by anybody, and prove nothing
		"POST /webhooks/health", "POST /webhooks/metrics", "GET /v1/memories/search?token=hunter2", "GET /admin/stats", "GET /admin/nothing/hunter2", "GET /nothing",
	} {
		method, path, _ := strings.Cut(asked, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer hunter2")
		do(t, req)
	}
	p.waitFor(t, "the refusals to be written", `SELECT count(*) = 4 FROM rejected_requests`)
	list := p.ask(t, "GET", "/admin/rejected", "", 200)["rejected"].([]any)
	first := list[len(list)-1].(map[string]any)
	for field, want := range map[string]any{
		"method": "POST", "route": "/webhooks/zoho", "status": 401.0, "address": "203.0.113.7", "user_agent": "zoho/1", "content_length": 20.0, "request_id": "request-8",
	} {
		if first[field] != want {
			t.Errorf("%s is %v, want %v", field, first[field], want)
		}
	}
	if first["code"] == "" || first["reason"] == "" {
		t.Errorf("the first: %v", first)
	}
	if text := strings.Join(rows[string](t, p.pool, `SELECT to_jsonb(r)::text FROM rejected_requests r`), "\n"); strings.Contains(text, "hunter2") {
		t.Errorf("what was sent is kept:\n%s", text)
	}
}

// A queue that is paused is not worked, and neither is what goes past it; when it is
// resumed all of it is.
func TestAPausedQueueWaits(t *testing.T) {
	t.Parallel()
	// How many jobs of a queue wait when three events more have come to it.
	for queue, waiting := range map[string]float64{"process": 3, "sync": 3, "relay": 3, "deliver": 1} {
		t.Run(queue, func(t *testing.T) {
			t.Parallel()
			receiver := newReceiver(t)
			p := start(t, setup{receiver: receiver.URL, change: func(c *config.Config) { c.AdminToken = adminToken }})
			p.waitFor(t, "the queue to be worked", `SELECT count(*) = 1 FROM river_queue WHERE name = $1`, queue)
			if q := p.ask(t, "POST", "/admin/queues/"+queue+"/pause", `{"reason":"a look"}`, 200); q["paused_at"] == nil {
				t.Errorf("paused: %v", q)
			}
			// Nodes hear of it within a second. What comes to them meanwhile is worked.
			n := 0
			for held := false; !held; {
				n++
				id := fmt.Sprint(n)
				p.send(t, contact("9"+id, "8"+id, "a@example.com"), "evt-"+id)
				p.waitFor(t, "the event to be stored", `SELECT count(*) >= $1 FROM events`, n)
				for _, q := range p.ask(t, "GET", "/admin/queues", "", 200)["queues"].([]any) {
					if q := q.(map[string]any); q["name"] == queue {
						held = q["available"].(float64) >= waiting
					}
				}
			}
			p.ask(t, "POST", "/admin/queues/"+queue+"/resume", "", 200)
			p.waitFor(t, "all to be told", `SELECT bool_and(status = 'processed') AND (SELECT count(*) = $1 FROM deliveries WHERE status = 'delivered') FROM events`, n)
		})
	}
}

// A lane whose job was cancelled gets a fresh one.
func TestALaneOutlivesItsCancelledJob(t *testing.T) {
	t.Parallel()
	p := operated(t)
	p.waitFor(t, "the queues to be worked", `SELECT count(*) = 3 FROM river_queue WHERE name IN ('process', 'sync', 'deliver')`)
	p.exec(t, `INSERT INTO river_job (kind, args, queue, max_attempts, state, scheduled_at) VALUES ('sync_account', '{"account_id":"77"}', 'sync', 10000, 'available', now() + interval '1 hour')`)
	p.exec(t, `INSERT INTO accounts (account_id, wanted, due_at, job_id) SELECT '77', 1, now() + interval '1 hour', max(id) FROM river_job`)
	jobs := p.ask(t, "GET", "/admin/jobs?kind=sync_account", "", 200)["jobs"].([]any)
	if len(jobs) != 1 {
		t.Fatalf("jobs: %v", jobs)
	}
	id := rows[string](t, p.pool, `SELECT job_id::text FROM accounts`)[0]
	if j := p.ask(t, "POST", "/admin/jobs/"+id+"/cancel", `{"reason":"stuck"}`, 200); j["state"] != "cancelled" {
		t.Errorf("cancelled: %v", j)
	}
	if _, err := p.app.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.waitFor(t, "a fresh job", `SELECT count(*) = 1 FROM accounts a JOIN river_job j ON j.id = a.job_id WHERE j.state IN ('available', 'running', 'completed') AND a.job_id <> $1::text::bigint`, id)
}

func TestOperatorsSeeSettingsAndStartSyncs(t *testing.T) {
	t.Parallel()
	p := operated(t)
	settings := map[string]map[string]any{}
	for _, s := range p.ask(t, "GET", "/admin/settings", "", 200)["settings"].([]any) {
		s := s.(map[string]any)
		settings[s["name"].(string)] = s
	}
	if s := settings["ADMIN_TOKEN"]; s["secret"] != true || s["set"] != true || s["value"] != "" || len(s["fingerprint"].(string)) != 8 {
		t.Errorf("ADMIN_TOKEN: %v", s)
	}
	if s := settings["WEBHOOK_RETRY_DELAY_BASE"]; s["value"] != "50ms" {
		t.Errorf("WEBHOOK_RETRY_DELAY_BASE: %v", s)
	}
	// Nobody is connected to Zoho here: what it takes is refused, the rest waits for who is.
	sync := p.ask(t, "POST", "/admin/syncs", `{"kind":"incremental"}`, 202)
	if sync["kind"] != "full" || sync["state"] != "running" { // for none has completed yet
		t.Errorf("started: %v", sync)
	}
	id := sync["id"].(string)
	if again := p.ask(t, "POST", "/admin/syncs", `{"kind":"full"}`, 200); again["id"] != id {
		t.Errorf("started twice: %v", again)
	}
	for _, step := range []struct {
		action string
		status int
		want   string
	}{
		{"resume", 409, "sync_not_paused"}, {"pause", 200, "paused"}, {"pause", 409, "sync_paused"}, {"resume", 200, "running"}, {"cancel", 200, "cancelled"}, {"cancel", 409, "sync_ended"},
	} {
		a := p.ask(t, "POST", "/admin/syncs/"+id+"/"+step.action, "", step.status)
		if got := a["state"]; got != step.want && a["code"] != step.want {
			t.Errorf("%s: %v, want %s", step.action, a, step.want)
		}
	}
	if list := p.ask(t, "GET", "/admin/syncs", "", 200)["syncs"].([]any); len(list) != 1 || list[0].(map[string]any)["id"] != id {
		t.Errorf("syncs: %v", list)
	}
	p.ask(t, "GET", "/admin/syncs/"+id, "", 200)
	p.ask(t, "GET", "/admin/syncs/nothing", "", 404)
	if a := p.ask(t, "POST", "/admin/syncs", `{"kind":"account","account_id":"x"}`, 422); a["field"] != "account_id" {
		t.Errorf("an account that is none: %v", a)
	}
	p.ask(t, "POST", "/admin/syncs", `{"kind":"account","account_id":"77"}`, 202)
	p.exec(t, `INSERT INTO channels (channel_id, module, events, notify_url, state, due_at) VALUES ('123', 'Contacts', '{}', '', 'active', now())`)
	if a := p.ask(t, "POST", "/admin/channels/Contacts/pause", "", 409); a["code"] != "zoho_not_connected" {
		t.Errorf("paused without Zoho: %v", a)
	}
	got := rows[string](t, p.pool, `SELECT actor || ' ' || action || ' ' || (request_id <> '')::text FROM audit_log WHERE action LIKE 'sync.%' ORDER BY id`)
	want := "admin sync.start true, admin sync.pause true, admin sync.resume true, admin sync.cancel true, admin sync.account true"
	if strings.Join(got, ", ") != want {
		t.Errorf("audit log: %v", got)
	}
}
