package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/api"
	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const adminToken = "an-admin-token-of-some-length"

// house is the API on a database of its own, with somebody who wants all webhooks,
// a token for everybody's memories, and one each for ada's and for bob's.
type house struct {
	url, database string
	pool          *pgxpool.Pool
	tokens        map[string]string // by name: all, ada, bob, desk

	mu    sync.Mutex
	names map[string]string // of ids, in the order in which they were met
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{database: dbtest.URL(t), tokens: map[string]string{"admin": adminToken}, names: map[string]string{}}
	var err error
	if h.pool, err = pgxpool.New(t.Context(), h.database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.pool.Close)
	h.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'all', 'https://receiver.invalid/', $2, '30s', '{1s,2s}')`, uuid.New(), memory.Events())
	tokens := access.NewTokens(h.pool, rand.Reader, time.Now)
	for _, n := range []access.NewToken{
		{Name: "all"},
		{Name: "ada", UserIDs: []string{"ada", "zoho:77"}},
		{Name: "bob", UserIDs: []string{"bob"}},
		{Name: "desk", Scopes: []string{access.AdminRead, access.AdminWrite}},
	} {
		secret, _, err := tokens.Create(t.Context(), "test", n)
		if err != nil {
			t.Fatal(err)
		}
		h.tokens[n.Name] = secret
	}
	h.serve(t)
	return h
}

func (h *house) serve(t testing.TB) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	jobs, err := river.NewClient(riverpgxv5.New(h.pool), &river.Config{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	gate := access.New(h.pool, adminToken, time.Now)
	t.Cleanup(gate.Wait)
	store := memory.NewStore(h.pool, memory.NewWriter(jobs, memory.Sender{Source: "memrelay", BotVersion: "1.2.3"}, "", time.Now))
	t.Cleanup(store.Wait)
	events, err := catalogue.New()
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	respond.Use(r, log)
	r.Route("/v1", api.New(api.Parts{
		Access: gate, Store: store, Events: events, Log: log, Runner: memory.NewRuns(h.pool, jobs), Grapher: memory.NewGraphs(h.pool),
		Searcher: memory.NewSearcher(h.pool, memory.SearchOptions{Language: "english", Now: time.Now, Log: log}),
	}).Routes)
	server := httptest.NewServer(contracttest.Wrap(t, r))
	t.Cleanup(server.Close)
	h.url = server.URL
}

func (h *house) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := h.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func rows[T any](t *testing.T, h *house, sql string, args ...any) []T {
	t.Helper()
	result, err := h.pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(result, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// answer is what a client sees.
type answer struct {
	status int
	header http.Header
	body   string
}

// request is what a client sends.
type request struct {
	token        string // its name; "": none
	method, path string
	body         string
	header       http.Header
}

func (h *house) try(ctx context.Context, q request) (answer, error) {
	var body io.Reader
	if q.body != "" {
		body = strings.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, h.url+q.path, body)
	if err != nil {
		return answer{}, err
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	if q.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.tokens[q.token])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, strings.TrimSuffix(string(text), "\n")}, err
}

func (h *house) do(t *testing.T, q request) answer {
	t.Helper()
	a, err := h.try(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// as sends a request with the token of that name.
func (h *house) as(t *testing.T, token, method, path, body string) answer {
	t.Helper()
	return h.do(t, request{token: token, method: method, path: path, body: body})
}

var idForm = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

var timeForm = regexp.MustCompile(`"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"`)

// plain is a text that can be compared: ids are named in the order in which this
// house met them, and times are left out.
func (h *house) plain(text string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	text = idForm.ReplaceAllStringFunc(text, func(id string) string {
		if h.names[id] == "" {
			h.names[id] = fmt.Sprintf("id%d", len(h.names)+1)
		}
		return h.names[id]
	})
	return timeForm.ReplaceAllString(text, `"now"`)
}

// named is the id of that name.
func (h *house) named(t *testing.T, name string) string {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, n := range h.names {
		if n == name {
			return id
		}
	}
	t.Fatalf("nothing is called %s", name)
	return ""
}

// want checks an answer and the webhooks that its request brought: event, user, data.
func (h *house) want(t *testing.T, a answer, status int, body string, told ...string) {
	t.Helper()
	if diff := cmp.Diff(body, h.plain(a.body)); a.status != status || diff != "" {
		t.Errorf("answered %d, want %d; body (-want +got):\n%s", a.status, status, diff)
	}
	if diff := cmp.Diff(append([]string{}, told...), h.told(t, a.header.Get("X-Request-Id"))); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// told are the webhooks of a request, in their order: event, user, data.
func (h *house) told(t *testing.T, requestID string) []string {
	t.Helper()
	all := []string{}
	for _, payload := range rows[string](t, h, `SELECT convert_from(payload, 'UTF8') FROM outbox ORDER BY seq`) {
		var e struct {
			Event     string          `json:"event"`
			UserID    string          `json:"user_id"`
			Data      json.RawMessage `json:"data"`
			RequestID string          `json:"request_id"`
		}
		if err := json.Unmarshal([]byte(payload), &e); err != nil {
			t.Fatal(err)
		}
		if e.RequestID == requestID {
			all = append(all, h.plain(e.Event+" "+e.UserID+" "+string(e.Data)))
		}
	}
	return all
}

// stored counts what a request could leave behind, but for what is told of failures.
func (h *house) stored(t *testing.T) string {
	t.Helper()
	return rows[string](t, h, `SELECT format('%s memories, %s changes, %s lines, %s runs, %s keys, %s told',
		(SELECT count(*) FROM memories), (SELECT count(*) FROM memory_history), (SELECT count(*) FROM relationships),
		(SELECT count(*) FROM memory_runs), (SELECT count(*) FROM idempotency_keys),
		(SELECT count(*) FROM outbox WHERE event <> 'memory_error'))`)[0]
}

// wantProblem checks that a is a problem with that code and field.
func wantProblem(t *testing.T, a answer, status int, code, field string) {
	t.Helper()
	var p struct {
		Status    int    `json:"status"`
		Code      string `json:"code"`
		Field     string `json:"field"`
		Detail    string `json:"detail"`
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in the answer %d %s", err, a.status, a.body)
	}
	if a.status != status || p.Status != status || p.Code != code || p.Field != field || p.Detail == "" {
		t.Errorf("answered %d %s of %q, want %d %s of %q\n%s", a.status, p.Code, p.Field, status, code, field, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" || p.RequestID != a.header.Get("X-Request-Id") {
		t.Errorf("answered as %q under %q, the header says %q", got, p.RequestID, a.header.Get("X-Request-Id"))
	}
}

// memoryOf stores a memory and returns its id.
func (h *house) memoryOf(t *testing.T, userID, content string) string {
	t.Helper()
	a := h.as(t, "all", "POST", "/v1/memories", fmt.Sprintf(`{"user_id":%q,"content":%q}`, userID, content))
	return idOf(t, a)
}

func idOf(t *testing.T, a answer) string {
	t.Helper()
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status/100 != 2 || made.ID == "" {
		t.Fatalf("answered %d %s, %v", a.status, a.body, err)
	}
	return made.ID
}

// fromCRM stores a memory that follows a record, and a line of the graph.
func (h *house) fromCRM(t *testing.T, module, recordID string) (memoryID, lineID string) {
	t.Helper()
	m, l := uuid.New(), uuid.New()
	h.exec(t, `INSERT INTO memories (id, user_id, account_id, module, record_id, kind, content, checksum)
		VALUES ($1, 'zoho:77', '77', $2, $3, CASE $2 WHEN 'Accounts' THEN 'account' ELSE 'contact' END, $2 || ' ' || $3, sha256('x'))`, m, module, recordID)
	h.exec(t, `INSERT INTO relationships (id, user_id, source, relationship, target, confidence, module, record_id)
		VALUES ($1, 'zoho:77', $2 || '/' || $3, 'belongs_to', 'Accounts/77', 1, $2, $3)`, l, module, recordID)
	return m.String(), l.String()
}
