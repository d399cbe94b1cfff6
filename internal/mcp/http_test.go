package mcp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

// door is a house that is served over HTTP, behind tokens.
type door struct {
	*house
	url    string
	tokens *access.Tokens
}

func newDoor(t *testing.T) *door {
	t.Helper()
	h := newHouse(t)
	gate := access.New(h.pool, "", time.Now)
	t.Cleanup(gate.Wait)
	server := h.server(t, func(ctx context.Context) (memory.Caller, bool) {
		i, ok := access.From(ctx)
		return memory.Caller{Actor: i.Actor, UserIDs: i.UserIDs, All: i.All}, ok
	})
	r := chi.NewRouter()
	respond.Use(r, h.log)
	r.With(gate.Require(access.Memory)).Method(http.MethodPost, "/mcp", server.Handler())
	// What a careless mount would be.
	r.Method(http.MethodPost, "/open", server.Handler())
	described := contracttest.Wrap(t, r)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/open" { // nowhere but here
			r.ServeHTTP(w, req)
			return
		}
		described.ServeHTTP(w, req)
	}))
	t.Cleanup(s.Close)
	return &door{house: h, url: s.URL + "/mcp", tokens: access.NewTokens(h.pool, rand.Reader, time.Now)}
}

func (d *door) token(t *testing.T, name string, users ...string) string {
	t.Helper()
	secret, _, err := d.tokens.Create(t.Context(), "test", access.NewToken{Name: name, UserIDs: users})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// bearer puts a token onto every request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func (d *door) transport(token string) sdk.Transport {
	return &sdk.StreamableClientTransport{Endpoint: d.url, HTTPClient: &http.Client{Transport: bearer(token)}, MaxRetries: -1}
}

// post sends one body and returns what came back.
func (d *door) post(t *testing.T, url, body string, header http.Header) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
	req.Host = header.Get("Host")
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(answer)
}

const searchCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"query":"tea"}}}`

func TestOverHTTP(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	a := meet(t, d.transport(d.token(t, "zoho", "zoho:77")))
	b := meet(t, d.transport(d.token(t, "ada", "ada")))
	var row memory.Row
	a.use(t, "add", map[string]any{"content": "Acme buys tea"}, &row)
	var found searched
	if a.use(t, "search", map[string]any{"query": "tea"}, &found); found.Count != 1 || found.Memories[0].ID != row.ID {
		t.Errorf("found %+v", found)
	}
	a.use(t, "relate", map[string]any{"source": "Acme", "relationship": "BUYS", "target": "tea"}, nil)
	a.use(t, "account", map[string]any{"account_id": "77"}, nil)

	// One token's memories are not another's.
	if b.use(t, "search", map[string]any{"query": "tea"}, &found); found.UserID != "ada" || found.Count != 0 {
		t.Errorf("found %+v", found)
	}
	b.refused(t, "search", map[string]any{"user_id": "zoho:77", "query": "tea"})
	b.refused(t, "delete", map[string]any{"id": row.ID.String()})
	b.refused(t, "account", map[string]any{"account_id": "77"})
	a.use(t, "delete", map[string]any{"id": row.ID.String()}, nil)
	if got := a.refused(t, "add", map[string]any{"text": "tea"}); !strings.HasPrefix(got, "text: is no argument") {
		t.Errorf("said %q", got)
	}
	events := cataloguetest.Outbox(t, d.pool)
	if n := len(events); n != 6 {
		t.Errorf("told of %d calls: %v", n, events)
	}
	if actor := one[string](t, d.pool, `SELECT string_agg(DISTINCT actor, ',') FROM memory_history`); actor != "token/zoho" {
		t.Errorf("done by %s", actor)
	}
}

func TestWithoutAGoodTokenThereIsNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for name, header := range map[string]http.Header{
		"none":                                   {},
		"a wrong one":                            {"Authorization": {"Bearer mrt_" + strings.Repeat("A", 43)}},
		"one of two":                             {"Authorization": {"Bearer " + d.token(t, "one", "ada"), "Bearer x"}},
		"another's scheme":                       {"Authorization": {"Basic " + d.token(t, "two", "ada")}},
		"that of a rebound page, which has none": {"Origin": {"http://rebound.example"}, "Host": {"rebound.example"}},
	} {
		status, answered, body := d.post(t, d.url, searchCall, header)
		if status != http.StatusUnauthorized || answered.Get("WWW-Authenticate") == "" || strings.Contains(body, "jsonrpc") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if _, err := sdk.NewClient(&sdk.Implementation{Name: "agent", Version: "1"}, nil).Connect(t.Context(), d.transport("mrt_wrong"), nil); err == nil {
		t.Error("a client with a wrong token is connected")
	}
	// Nor where somebody forgot to ask for one.
	status, _, body := d.post(t, strings.TrimSuffix(d.url, "mcp")+"open", searchCall, nil)
	if status != http.StatusOK || !strings.Contains(body, `"isError":true`) || !strings.Contains(body, "Something went wrong here") {
		t.Errorf("without anybody who asks: %d %s", status, body)
	}
	if events := cataloguetest.Outbox(t, d.pool); len(events) > 0 {
		t.Errorf("told %v", events)
	}
}

// There is no session that a token could be outlived by.
func TestARevokedTokenIsGoodForNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	a := meet(t, d.transport(d.token(t, "ada", "ada")))
	a.use(t, "add", map[string]any{"content": "tea"}, nil)
	if _, _, err := d.tokens.Revoke(t.Context(), "test", "ada"); err != nil {
		t.Fatal(err)
	}
	if result, err := a.CallTool(t.Context(), &sdk.CallToolParams{Name: "search", Arguments: map[string]any{"query": "tea"}}); err == nil {
		t.Errorf("a revoked token finds %s", said(result))
	}
	status, header, _ := d.post(t, d.url, searchCall, http.Header{"Authorization": {"Bearer " + d.token(t, "bob", "bob")}})
	if status != http.StatusOK || header.Get("Mcp-Session-Id") != "" {
		t.Errorf("%d with the session %q", status, header.Get("Mcp-Session-Id"))
	}
}

// Calls that run side by side are each in the name of its own token.
func TestCallersAreNotMixedUp(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	const agents, calls = 8, 10
	tokens := make([]string, agents)
	for i := range tokens {
		tokens[i] = d.token(t, fmt.Sprint("bot-", i), fmt.Sprint("user-", i))
	}
	var wg sync.WaitGroup
	for i, token := range tokens {
		wg.Go(func() {
			for n := range calls {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"add","arguments":{"content":"user-%d says %d"}}}`, n, i, n)
				status, _, answer := d.post(t, d.url, body, http.Header{"Authorization": {"Bearer " + token}, "X-Request-Id": {fmt.Sprintf("r-%d-%d", i, n)}})
				if status != http.StatusOK || !strings.Contains(answer, fmt.Sprintf(`"user_id":"user-%d"`, i)) {
					t.Errorf("user-%d: %d %s", i, status, answer)
				}
			}
		})
	}
	wg.Wait()
	if n := one[int](t, d.pool, `SELECT count(*) FROM memories m JOIN memory_history h ON h.memory_id = m.id
		WHERE m.content LIKE m.user_id || ' says %' AND h.actor = 'token/bot-' || substr(m.user_id, 6)`); n != agents*calls {
		t.Errorf("%d of %d memories are whose they should be", n, agents*calls)
	}
	// The request's own id is told.
	if n := one[int](t, d.pool, `SELECT count(*) FROM (SELECT convert_from(payload, 'UTF8')::jsonb AS p FROM outbox) AS o
		WHERE p ->> 'request_id' = replace(replace(p #>> '{data,result,content}', 'user-', 'r-'), ' says ', '-')`); n != agents*calls {
		t.Errorf("%d of %d webhooks name their request", n, agents*calls)
	}
	cataloguetest.Outbox(t, d.pool)
}

func TestWhatHTTPRefuses(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	auth := http.Header{"Authorization": {"Bearer " + d.token(t, "ada", "ada")}}
	with := func(name, value string) http.Header {
		h := auth.Clone()
		h.Set(name, value)
		return h
	}
	longest := func(n int) string {
		return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"content":"` + strings.Repeat(`\u0061`, n) + `"}}}`
	}
	for _, tc := range []struct {
		name, body string
		header     http.Header
		status     int
		says       string
	}{
		{"a page of another origin", searchCall, with("Origin", "https://evil.example"), 403, "cross_origin"},
		{"a browser that says so itself", searchCall, with("Sec-Fetch-Site", "cross-site"), 403, "cross_origin"},
		{"a page of our own", searchCall, with("Sec-Fetch-Site", "same-origin"), 200, `"count":0`},
		{"the public name of a proxy on this machine", searchCall, with("Host", "memory.example.com"), 200, `"count":0`},
		{"what is no JSON-RPC", `{"query":"tea"}`, auth, 400, ""},
		{"what is no JSON", `tea`, auth, 400, ""},
		{"another content type", searchCall, with("Content-Type", "text/plain"), 415, ""},
		{"a client that wants no JSON", searchCall, with("Accept", "text/html"), 400, ""},
		{"the longest content, escaped", longest(memory.MaxContent), auth, 200, "Remembered of ada"},
		{"a body that is too long", longest(memory.MaxContent * 3), auth, 413, "body_too_large"},
		{"a version that nobody speaks", searchCall, with("Mcp-Protocol-Version", "1999-01-01"), 400, "Unsupported protocol version"},
		{"a subscription, which would not end", `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}`, auth, 200, "method not found"},
		{"what is no UTF-8", strings.Replace(searchCall, "tea", "te\xff", 1), auth, 200, "want UTF-8"},
		{"a method that is not there", `{"jsonrpc":"2.0","id":1,"method":"prompts/eat","params":{}}`, auth, 400, "unsupported"},
	} {
		status, _, body := d.post(t, d.url, tc.body, tc.header)
		if status != tc.status || !strings.Contains(body, tc.says) {
			t.Errorf("%s: %d %.300s", tc.name, status, body)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		req, err := http.NewRequestWithContext(t.Context(), method, d.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = auth
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
}

// The protocol's code runs our calls on goroutines of its own, where a panic would
// end the program.
func TestHostileBodiesBreakNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	auth := http.Header{"Authorization": {"Bearer " + d.token(t, "ada", "ada")}}
	odd := []string{
		`null`, `0`, `""`, `[]`, `{}`, `[null]`, `[[]]`, `[{}]`, "", "\x00", "\xff\xfe", strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 50_000),
	}
	for _, id := range []string{`1`, `"a"`, `null`, `1.5`, `{}`, `[]`, `9223372036854775808`} {
		for _, method := range []string{"tools/call", "tools/list", "initialize", "server/discover", "ping", "subscriptions/listen", "notifications/cancelled", "notifications/initialized", "logging/setLevel", "completion/complete", "resources/read", "prompts/get", "", "tools/call\x00"} {
			for _, params := range []string{
				``, `,"params":null`, `,"params":[]`, `,"params":{}`, `,"params":{"name":null}`, `,"params":{"name":"search"}`, `,"params":{"name":"search","arguments":null}`,
				`,"params":{"name":"search","arguments":[]}`, `,"params":{"name":"search","arguments":{"query":{}}}`, `,"params":{"name":"delete","arguments":{"id":""}}`,
				`,"params":{"_meta":null,"name":"search"}`, `,"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"name":"search","arguments":{}}`,
				`,"params":{"_meta":{"io.modelcontextprotocol/protocolVersion":7,"progressToken":{}}}`, `,"params":{"requestId":null}`,
			} {
				odd = append(odd, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q%s}`, id, method, params))
			}
		}
	}
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, body := range odd {
		header := auth.Clone()
		if i%2 == 1 {
			header.Set("Mcp-Protocol-Version", "2026-07-28")
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if status, _, answer := d.post(t, d.url, body, header); status >= 500 {
				t.Errorf("%.200s: %d %s", body, status, answer)
			}
		})
	}
	wg.Wait()
	if status, _, body := d.post(t, d.url, searchCall, auth); status != http.StatusOK || !strings.Contains(body, `"count":0`) {
		t.Errorf("after all of that: %d %s", status, body)
	}
	cataloguetest.Outbox(t, d.pool)
}

// A client that drips its body holds a connection, not for long.
func TestABrokenBodyIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	handler := h.server(t, always(ada())).Handler()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/mcp", io.MultiReader(bytes.NewReader([]byte(`{"jsonrpc"`)), broken{})))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "body_broken") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
