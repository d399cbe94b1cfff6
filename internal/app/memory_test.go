package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/cognee/cogneetest"
)

const adminToken = "the-token-of-the-operator"

// ask sends a request with the operator's token, and checks its status.
func (p *program) ask(t *testing.T, method, path, body string, want int) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	a := do(t, req)
	if a.status != want {
		t.Fatalf("%s %s: %d with %v, want %d", method, path, a.status, a.body, want)
	}
	return a.body
}

// TestTwelveEvents makes every event happen by a call, and follows it to a receiver.
func TestTwelveEvents(t *testing.T) {
	t.Parallel()
	receiver := newReceiver(t)
	p := start(t, setup{receiver: receiver.URL, change: func(c *config.Config) { c.AdminToken = adminToken }})

	added := p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":"Ada likes tea","metadata":{"company":"Acme"}}`, 201)
	memoryPath := "/v1/memories/" + added["id"].(string)
	found := p.ask(t, "POST", "/v1/memories/search", `{"user_id":"ada","query":"what does ada lik to drink, tee?"}`, 200)
	if results := found["results"].([]any); len(results) != 1 || results[0].(map[string]any)["id"] != added["id"] {
		t.Errorf("found %v", found)
	}
	p.ask(t, "PATCH", memoryPath, `{"content":"Ada likes coffee"}`, 200)
	p.ask(t, "POST", "/v1/preferences", `{"user_id":"ada","preference":"short answers","category":"style"}`, 201)
	p.ask(t, "POST", "/v1/corrections", `{"user_id":"ada","original":"Bern","corrected":"Basel"}`, 201)
	line := p.ask(t, "POST", "/v1/relationships", `{"user_id":"ada","source":"Ada","relationship":"WORKS_AT","target":"Acme","confidence":0.9}`, 201)
	around := p.ask(t, "GET", "/v1/graph?user_id=ada&entity=Acme&depth=2", "", 200)
	if n := len(around["relationships"].([]any)); n != 1 {
		t.Errorf("%d lines around Acme, want 1", n)
	}
	p.ask(t, "DELETE", "/v1/relationships/"+line["id"].(string), "", 200)
	p.ask(t, "POST", "/v1/memories/batch", `{"user_id":"ada","items":[{"content":"Ada lives in Basel"},{"content":"ada lives in  Basel"},{"content":"Ada has a dog"}]}`, 201)
	p.finished(t, p.ask(t, "POST", "/v1/graph/build", `{"user_id":"ada"}`, 202))
	p.finished(t, p.ask(t, "POST", "/v1/memories/optimize", `{"user_id":"ada"}`, 202))
	p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":""}`, 422)
	p.ask(t, "DELETE", memoryPath, "", 200)

	events, err := catalogue.New()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for range memory.Events() {
		w := receiver.next(t)
		if err := events.Check(w.body); err != nil {
			t.Error(err)
		}
		if want := "sha256=" + sign(outboundSecret, w.body); w.header.Get("X-Webhook-Signature") != want {
			t.Error("a webhook without its signature")
		}
		var payload struct{ Event string }
		if err := json.Unmarshal(w.body, &payload); err != nil {
			t.Fatal(err)
		}
		got[payload.Event]++
	}
	want := map[string]int{}
	for _, name := range memory.Events() {
		want[name] = 1
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	p.settled(t)
	if left := rows[string](t, p.pool, `SELECT content FROM memories ORDER BY content`); !slices.Contains(left, "Ada lives in Basel") || len(left) != 4 {
		t.Errorf("left: %q", left)
	}
}

// finished follows a run to its end.
func (p *program) finished(t *testing.T, run map[string]any) {
	t.Helper()
	p.waitFor(t, "the run has ended", `SELECT state IN ('completed', 'failed') FROM memory_runs WHERE id = $1`, run["id"])
	if run = p.ask(t, "GET", "/v1/jobs/"+run["id"].(string), "", 200); run["state"] != "completed" {
		t.Errorf("the run has ended so: %v", run)
	}
}

// An agent without code of its own uses the same memory.
func TestMCPOverHTTP(t *testing.T) {
	t.Parallel()
	p := start(t, setup{change: func(c *config.Config) { c.AdminToken = adminToken }})
	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil)
	transport := &sdk.StreamableClientTransport{Endpoint: p.base + "/mcp", DisableStandaloneSSE: true, HTTPClient: &http.Client{Transport: bearer(adminToken)}}
	session, err := client.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	call := func(tool string, arguments map[string]any) *sdk.CallToolResult {
		t.Helper()
		result, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: arguments})
		if err != nil || result.IsError {
			t.Fatalf("%s: %v, %+v", tool, err, result)
		}
		return result
	}
	call("add", map[string]any{"user_id": "ada", "content": "Ada likes tea"})
	text, err := json.Marshal(call("search", map[string]any{"user_id": "ada", "query": "tea"}).StructuredContent)
	if err != nil || !bytes.Contains(text, []byte("Ada likes tea")) {
		t.Errorf("found %s, %v", text, err)
	}
	transport.HTTPClient = &http.Client{Transport: bearer("nobody's")}
	if _, err := client.Connect(t.Context(), transport, nil); err == nil {
		t.Error("let in without a token that is good")
	}
}

// bearer sends each request with a token.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// Cognee is down for a while, memories change meanwhile; afterwards it holds what
// is true, each memory once.
func TestCogneeIsDownForAWhile(t *testing.T) {
	t.Parallel()
	remote := cogneetest.New(cogneetest.Options{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(remote.Start())
	t.Cleanup(func() { _ = remote.Stop() })
	p := start(t, setup{change: func(c *config.Config) {
		c.AdminToken = adminToken
		c.Memory.Backend, c.Memory.CogneeURL, c.Memory.CogneeAPIKey = "cognee", remote.URL(), cogneetest.Key
	}})
	id := p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":"Ada likes tea"}`, 201)["id"].(string)
	gone := p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":"Ada has a cat"}`, 201)["id"].(string)
	p.send(t, contact("1", "77", "jane@example.com"), "evt-1")
	p.waitFor(t, "three copies", `SELECT count(*) = 3 AND bool_and(status = 'synced' AND wanted = done) FROM mirrors`)

	must(remote.Stop())
	p.ask(t, "PATCH", "/v1/memories/"+id, `{"content":"Ada likes coffee"}`, 200)
	p.ask(t, "DELETE", "/v1/memories/"+gone, "", 200)
	p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":"Ada has a dog"}`, 201)
	p.send(t, contact("1", "77", "doe@example.com"), "evt-2")
	p.waitFor(t, "all of them wait", `SELECT count(*) = 4 FROM mirrors WHERE wanted > done AND last_error <> ''`)
	if n := rows[int](t, p.pool, `SELECT sum(failures)::int FROM mirrors`)[0]; n != 0 {
		t.Errorf("the outage is counted %d times against memories", n)
	}
	must(remote.Start())
	// The lane of what was deleted ends with its copy.
	p.waitFor(t, "the copies are made", `SELECT count(*) = 3 AND bool_and(status = 'synced' AND wanted = done) FROM mirrors`)
	var copies []string
	for _, d := range remote.Documents() {
		copies = append(copies, d.Text)
	}
	want := rows[string](t, p.pool, `SELECT content FROM memories`)
	if len(copies) != len(want) {
		t.Errorf("%d copies of %d memories: %q", len(copies), len(want), copies)
	}
	for _, content := range want {
		if !slices.ContainsFunc(copies, func(c string) bool { return bytes.Contains([]byte(c), []byte(content)) }) {
			t.Errorf("no copy says %q", content)
		}
	}
}

// Every setting of the memory is one that a program starts with.
func TestSettingsOfTheMemory(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Memory){
		"german":   func(m *config.Memory) { m.Language = "german" },
		"embedder": func(m *config.Memory) { m.EmbedderURL, m.EmbedderAPIKey = "http://127.0.0.1:1/v1", "key" },
		"mem0":     func(m *config.Memory) { m.Backend, m.Mem0URL, m.Mem0Mode = "mem0", "http://127.0.0.1:1", "server" },
		"apply":    func(m *config.Memory) { m.Ingest = "apply" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, setup{change: func(c *config.Config) { c.AdminToken = adminToken; change(&c.Memory) }})
			p.ask(t, "POST", "/v1/memories", `{"user_id":"ada","content":"Ada trinkt gerne Tees"}`, 201)
			found := p.ask(t, "POST", "/v1/memories/search", `{"user_id":"ada","query":"Tee"}`, 200)
			if n := len(found["results"].([]any)); n != 1 {
				t.Errorf("found %d, want 1", n)
			}
			if language := rows[string](t, p.pool, `SELECT language::text FROM memories`)[0]; name == "german" && language != "german" {
				t.Errorf("stored as %s", language)
			}
		})
	}
}

// Operators see how the endpoint is set, and send it a webhook.
func TestTheMemoryDoor(t *testing.T) {
	t.Parallel()
	receiver := newReceiver(t)
	p := start(t, setup{receiver: receiver.URL, change: func(c *config.Config) {
		c.AdminToken, c.Memory.Ingest = adminToken, "apply"
		c.Outbound.Token = "the-token-of-both"
	}})
	status := p.ask(t, "GET", "/webhooks/memory/status", "", 200)["webhook_config"].(map[string]any)
	if status["enabled"] != true || status["has_token"] != true || status["has_secret"] != true {
		t.Errorf("status %v", status)
	}
	test := p.ask(t, "POST", "/webhooks/memory/test", "", 200)
	if test["test_sent"] != true || test["outcome"].(map[string]any)["delivered"] != true {
		t.Errorf("test %v", test)
	}
	receiver.next(t)

	body := fmt.Sprintf(`{"event":"memory_added","user_id":"ada","data":{"result":{"id":"their-1","content":"Ada likes tea","metadata":{}}},"timestamp":%q,"source":"elsewhere","request_id":"r-1"}`,
		time.Now().UTC().Format(time.RFC3339))
	header := http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer the-token-of-both"},
		"X-Webhook-Signature": {"sha256=" + sign(outboundSecret, []byte(body))},
	}
	for _, want := range []string{"processed", "duplicate"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+"/webhooks/memory", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = maps.Clone(header)
		if a := do(t, req); a.status != 200 || a.body["status"] != want {
			t.Fatalf("answered %d with %v, want %s", a.status, a.body, want)
		}
	}
	p.waitFor(t, "it is remembered", `SELECT EXISTS (SELECT FROM memories WHERE content = 'Ada likes tea')`)
	receiver.next(t)
	p.settled(t)
}

// A stop waits for what agents have written.
func TestStopAfterWrites(t *testing.T) {
	t.Parallel()
	p := start(t, setup{change: func(c *config.Config) { c.AdminToken = adminToken }})
	stored := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		n := 0
		defer func() { stored <- n }()
		for ctx.Err() == nil {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/v1/memories", bytes.NewReader([]byte(`{"user_id":"ada","content":"Ada likes tea"}`)))
			if err != nil {
				return
			}
			req.Header.Set("Authorization", "Bearer "+adminToken)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusCreated {
				n++
			}
		}
	}()
	p.waitFor(t, "some are written", `SELECT count(*) > 20 FROM memories`)
	p.stop()
	if n, there := <-stored, rows[int](t, p.pool, `SELECT count(*) FROM memories`)[0]; there < n {
		t.Errorf("%d were acknowledged, %d are there", n, there)
	}
}
