package app_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay"
	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/contract/contracttest"
)

// openapi.json is what the code says.
func TestTheContractIsInStep(t *testing.T) {
	t.Parallel()
	api, err := app.Contract()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := contract.Build(api, "../..", "github.com/memrelay/memrelay")
	if err != nil {
		t.Fatal(err)
	}
	want, err := contract.Encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, memrelay.OpenAPI) {
		t.Error("openapi.json is out of step with the code: run make generate")
	}
}

// Each route is described, and what is described is a route.
func TestTheContractHasEveryRoute(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	var routes []string
	err := chi.Walk(p.app.Handler().(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes = append(routes, method+" "+route)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	api, err := app.Contract()
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, s := range api.Sections {
		for _, o := range s.Operations {
			described = append(described, o.Method+" "+o.Path)
		}
	}
	slices.Sort(routes)
	slices.Sort(described)
	if diff := cmp.Diff(routes, described); diff != "" {
		t.Errorf("routes that are not described (-), and what is described and no route (+): add it to the operations.go of its package\n%s", diff)
	}
}

// Requests that are made from the document, good and broken, are answered as it says,
// and none of them breaks anything.
func TestTheContractHolds(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			c := newClient(t)
			for _, q := range c.doc.Requests(seed, c.at) {
				c.send(t, q)
			}
			missing := slices.DeleteFunc(c.doc.Unanswered(), func(operation string) bool { return slices.Contains(needZoho(), operation) })
			if len(missing) > 0 {
				t.Errorf("these were answered with problems alone:\n%s", strings.Join(missing, "\n"))
			}
		})
	}
}

// needZoho are the operations that have nothing to show where Zoho is not connected. The
// tests of package admin answer them, and hold those answers against the document, too.
func needZoho() []string {
	return []string{
		"POST /admin/channels/{id}/disable", "POST /admin/channels/{id}/pause", "POST /admin/channels/{id}/renew", "POST /admin/channels/{id}/resume",
		"POST /admin/syncs/{id}/cancel", "POST /admin/syncs/{id}/pause", "POST /admin/syncs/{id}/resume", "GET /admin/syncs/{id}",
	}
}

// client sends requests to a program of its own, which has something to find.
type client struct {
	doc      *contracttest.Document
	url      string
	tokens   map[string]string // by scope
	fixtures map[string]string // by path and parameter
}

func newClient(t *testing.T) *client {
	t.Helper()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(hook.Close)
	p := start(t, setup{noWork: true, receiver: hook.URL, change: func(cfg *config.Config) {
		cfg.Keys = []string{"a-key-of-the-tests-that-is-long-enough"}
		cfg.Inbound.Token = inboundSecret
		cfg.Inbound.Products.Billing = inboundSecret
		cfg.OutboundAllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}})
	doc, err := contracttest.Load()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(doc.Wrap(t, p.app.Handler()))
	t.Cleanup(server.Close)
	c := &client{doc: doc, url: server.URL, tokens: map[string]string{}, fixtures: map[string]string{}}
	tokens := access.NewTokens(p.pool, rand.Reader, time.Now)
	for _, scope := range access.Scopes() {
		may := []string{scope}
		if scope == access.AdminWrite { // who makes tokens gives away no more than it may itself
			may = access.Scopes()
		}
		secret, _, err := tokens.Create(t.Context(), "test", access.NewToken{Name: strings.ReplaceAll(scope, ":", "-"), Scopes: may})
		if err != nil {
			t.Fatal(err)
		}
		c.tokens[scope] = secret
	}
	c.furnish(t, p, hook.URL)
	return c
}

// furnish makes what the parameters of paths lead to.
func (c *client) furnish(t *testing.T, p *program, hook string) {
	t.Helper()
	made := func(scope, path, body string) string {
		var thing struct{ ID string }
		resp := c.do(t, contracttest.Request{Method: "POST", Path: path, URL: path, Scope: scope, Body: []byte(body)})
		if err := json.Unmarshal(resp.body, &thing); err != nil || thing.ID == "" {
			t.Fatalf("POST %s: %d %s", path, resp.status, resp.body)
		}
		return thing.ID
	}
	memory := made(access.Memory, "/v1/memories", `{"user_id":"zoho:77","content":"Drinks tea"}`)
	for _, path := range []string{"/v1/memories/{id}", "/v1/memories/{id}/history"} {
		c.fixtures[path+" id"] = memory
	}
	c.fixtures["/v1/accounts/{id} id"] = "77"
	c.fixtures["/v1/relationships/{id} id"] = made(access.Memory, "/v1/relationships", `{"user_id":"ada","source":"Ada","relationship":"LIVES_IN","target":"Graz"}`)
	c.fixtures["/v1/jobs/{id} id"] = made(access.Memory, "/v1/graph/build", `{"user_id":"ada"}`)
	crm := made(access.AdminWrite, "/admin/endpoints", fmt.Sprintf(`{"name":"crm","url":%q}`, hook))
	for _, what := range []string{"", "/pause", "/resume", "/rotate", "/test", "/recover", "/replay"} {
		c.fixtures["/admin/endpoints/{endpoint}"+what+" endpoint"] = "crm"
	}
	c.fixtures["/admin/endpoints/{endpoint} endpoint"] = crm
	redelivery := made(access.AdminWrite, "/admin/endpoints/crm/recover", `{"since":"2026-01-01T00:00:00Z"}`)
	for _, path := range []string{"/admin/redeliveries/{id}", "/admin/redeliveries/{id}/cancel"} {
		c.fixtures[path+" id"] = redelivery
	}
	c.furnishEvents(t, p, memory, made)
	delivery := rows[int64](t, p.pool, `WITH told AS (
			INSERT INTO outbox (id, event, user_id, payload, relayed_at) VALUES (gen_random_uuid(), 'memory_added', 'ada', '{}', now()) RETURNING id
		) INSERT INTO deliveries (outbox_id, endpoint_id, status) SELECT told.id, endpoints.id, 'delivered' FROM told, endpoints WHERE name = 'crm' RETURNING id`)[0]
	for _, path := range []string{"/admin/deliveries/{id}", "/admin/deliveries/{id}/resend"} {
		c.fixtures[path+" id"] = strconv.FormatInt(delivery, 10)
	}
}

// furnishEvents makes what came in: an event that is dead, its record, and what is about them.
func (c *client) furnishEvents(t *testing.T, p *program, memory string, made func(scope, path, body string) string) {
	t.Helper()
	for _, id := range []string{"evt-1", "evt-2", "evt-3"} {
		if a := p.send(t, contact("5725767000000499002", "77", id+"@example.com"), id); a.status != http.StatusOK {
			t.Fatalf("an event: %d", a.status)
		}
	}
	rows[int64](t, p.pool, `UPDATE events SET status = 'dead', processed_at = now(), last_error = 'no' RETURNING id`)
	for _, what := range []string{"", "/body", "/replay"} {
		c.fixtures["/admin/events/{id}"+what+" id"] = "1"
	}
	c.fixtures["/admin/dead/{kind}/{id}/retry id"], c.fixtures["/admin/dead/{kind}/{id}/discard id"] = "2", "3"
	c.fixtures["/admin/records/{module}/{record_id} module"], c.fixtures["/admin/records/{module}/{record_id} record_id"] = "Contacts", "5725767000000499002"
	c.fixtures["/admin/records record_id"] = "5725767000000499002"
	c.fixtures["/admin/memories/{id}/history id"] = memory
	replay := made(access.AdminWrite, "/admin/replays", `{"since":"2026-01-01T00:00:00Z"}`)
	for _, what := range []string{"", "/pause", "/resume"} {
		c.fixtures["/admin/replays/{id}"+what+" id"] = replay
	}
	c.fixtures["/admin/replays/{id}/cancel id"] = made(access.AdminWrite, "/admin/replays", `{"since":"2026-01-02T00:00:00Z"}`)
	if _, err := p.pool.Exec(t.Context(), `INSERT INTO river_queue (name, updated_at) VALUES ('sync', now())`); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"/pause", "/resume"} {
		c.fixtures["/admin/queues/{name}"+what+" name"] = "sync"
	}
	job := rows[int64](t, p.pool, `SELECT min(id) FROM river_job`)[0]
	for _, what := range []string{"", "/cancel", "/retry"} {
		c.fixtures["/admin/jobs/{id}"+what+" id"] = strconv.FormatInt(job, 10)
	}
	made(access.AdminWrite, "/admin/tokens", `{"name":"nobody","scopes":["admin:read"]}`)
	c.fixtures["/admin/tokens/{id} id"] = "nobody"
}

// at is a parameter of a path that leads to something.
func (c *client) at(path, name string) string { return c.fixtures[path+" "+name] }

func (c *client) send(t *testing.T, q contracttest.Request) {
	t.Helper()
	a := c.do(t, q)
	if a.status >= 500 || len(q.Want) > 0 && !slices.Contains(q.Want, a.status) {
		t.Errorf("%s %s, %s: answered %d, want %v\nsent %.300s\ngot  %.300s", q.Method, q.URL, q.Name, a.status, q.Want, q.Body, a.body)
	}
}

// said is what a client sees.
type said struct {
	status int
	body   []byte
}

func (c *client) do(t *testing.T, q contracttest.Request) said {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.Method, c.url+q.URL, bytes.NewReader(q.Body))
	if err != nil {
		t.Fatalf("%s %s, %s: %v", q.Method, q.Path, q.Name, err)
	}
	for name, values := range q.Header {
		req.Header[name] = values
	}
	if token := c.token(q); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	switch q.Path {
	case "/mcp":
		req.Header.Set("Accept", "application/json, text/event-stream")
	case "/webhooks/zoho/{product}":
		req.Header.Set("X-Zoho-Webhook-Signature", sign(inboundSecret, q.Body))
	case "/webhooks/memory":
		req.Header.Set("X-Webhook-Signature", sign(outboundSecret, q.Body))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s, %s: %v", q.Method, q.Path, q.Name, err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" && resp.StatusCode == http.StatusOK && q.Method == http.MethodGet {
		return said{resp.StatusCode, nil} // it goes on until its client leaves
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return said{resp.StatusCode, body}
}

func (c *client) token(q contracttest.Request) string {
	switch {
	case q.Token == contracttest.None:
		return ""
	case q.Scope == "":
		return inboundSecret // of the doors, which ask for another token
	case q.Token == contracttest.WrongScope && q.Scope == access.Memory:
		return c.tokens[access.AdminRead]
	case q.Token == contracttest.WrongScope:
		return c.tokens[access.Memory]
	}
	return c.tokens[q.Scope]
}
