package admin_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/outbound"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/seal"
)

// house is where operators are served: a database of its own and a token of each kind.
type house struct {
	*office
	url    string
	tokens map[string]string // by name: reader, writer, bot
}

const sealKey = "a-key-of-the-tests-that-is-long-enough"

// newHouse serves operators; keys are MEMRELAY_KEY.
func newHouse(t *testing.T, keys ...string) *house {
	t.Helper()
	h := &house{office: newOffice(t), tokens: map[string]string{"nobody": "mrt_" + strings.Repeat("x", 43)}}
	tokens := access.NewTokens(h.pool, rand.Reader, time.Now)
	for _, n := range []access.NewToken{
		{Name: "reader", Scopes: []string{access.AdminRead}}, {Name: "writer", Scopes: []string{access.AdminRead, access.AdminWrite}}, {Name: "bot"},
	} {
		secret, _, err := tokens.Create(t.Context(), "test", n)
		if err != nil {
			t.Fatal(err)
		}
		h.tokens[n.Name] = secret
	}
	h.exec(t, `DELETE FROM audit_log`)
	box, err := seal.New(keys, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	check := func(url string) error {
		if strings.Contains(url, "10.0.0.1") {
			return errors.New("is a private address")
		}
		return nil
	}
	endpoints := endpoint.New(h.pool, h.jobs, box, check, rand.Reader, time.Now)
	gate := access.New(h.pool, "", time.Now)
	t.Cleanup(gate.Wait)
	desk := admin.NewHTTP(admin.Parts{
		Access: gate, Endpoints: endpoints, Redeliveries: endpoint.NewRedeliveries(h.pool, h.jobs),
		Deliveries: admin.NewDeliveries(h.pool, h.jobs, outbound.Resend), Now: time.Now,
		Admin: h.admin, Events: admin.NewEvents(h.pool), Replays: admin.NewReplays(h.pool, h.pool, h.jobs), Stream: h.stream(t),
		Test: func(ctx context.Context, which, event string) (admin.TestOutcome, error) {
			e, err := endpoints.Get(ctx, which)
			if err != nil {
				return admin.TestOutcome{}, err
			}
			if event != "memory_added" && event != "sync.failed" {
				return admin.TestOutcome{}, &endpoint.FieldError{Field: "event", Problem: "there is no such event"}
			}
			return admin.TestOutcome{Delivered: true, StatusCode: 204, WebhookID: e.Name + " " + event, DurationMs: 7}, nil
		},
	})
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	r.Route("/admin", desk.Routes)
	server := httptest.NewServer(contracttest.Wrap(t, r))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// answer is what a client sees.
type answer struct {
	status int
	header http.Header
	body   string
}

// as sends a request with the token of that name; "": none.
func (h *house) as(t *testing.T, token, method, path, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Request-Id", "request-7")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+h.tokens[token])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, strings.TrimSuffix(string(text), "\n")}
}

// do sends a request with the token that may everything, and wants that status.
func (h *house) do(t *testing.T, want int, method, path, body string) answer {
	t.Helper()
	a := h.as(t, "writer", method, path, body)
	if a.status != want {
		t.Fatalf("%s %s answered %d, want %d: %s", method, path, a.status, want, a.body)
	}
	return a
}

func decode[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// problem is an error as clients see it.
type problem struct {
	Status    int             `json:"status"`
	Code      string          `json:"code"`
	Field     string          `json:"field"`
	Detail    string          `json:"detail"`
	Errors    []respond.Field `json:"errors"`
	RequestID string          `json:"request_id"`
}

func wantProblem(t *testing.T, a answer, status int, code, field string) problem {
	t.Helper()
	p := decode[problem](t, a)
	if a.status != status || p.Status != status || p.Code != code || p.Field != field || p.Detail == "" || p.RequestID != "request-7" {
		t.Errorf("answered %d %s of %q, want %d %s of %q\n%s", a.status, p.Code, p.Field, status, code, field, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("answered as %s", got)
	}
	return p
}

// routes are all of them, with a body that is good.
func routes(endpoint string, delivery int64) map[string][3]string {
	since := `{"since":"2026-01-01T00:00:00Z"}`
	nothing := uuid.NewString()
	return map[string][3]string{
		"list endpoints":      {"GET", "/admin/endpoints", ""},
		"create an endpoint":  {"POST", "/admin/endpoints", `{"name":"other","url":"https://receiver.invalid/"}`},
		"get an endpoint":     {"GET", "/admin/endpoints/" + endpoint, ""},
		"change an endpoint":  {"PATCH", "/admin/endpoints/" + endpoint, `{"description":"x"}`},
		"delete an endpoint":  {"DELETE", "/admin/endpoints/" + endpoint, ""},
		"pause an endpoint":   {"POST", "/admin/endpoints/" + endpoint + "/pause", ""},
		"resume an endpoint":  {"POST", "/admin/endpoints/" + endpoint + "/resume", ""},
		"rotate a secret":     {"POST", "/admin/endpoints/" + endpoint + "/rotate", ""},
		"test an endpoint":    {"POST", "/admin/endpoints/" + endpoint + "/test", ""},
		"recover":             {"POST", "/admin/endpoints/" + endpoint + "/recover", since},
		"replay":              {"POST", "/admin/endpoints/" + endpoint + "/replay", since},
		"list redeliveries":   {"GET", "/admin/redeliveries?endpoint=" + endpoint, ""},
		"get a redelivery":    {"GET", "/admin/redeliveries/" + nothing, ""},
		"cancel a redelivery": {"POST", "/admin/redeliveries/" + nothing + "/cancel", ""},
		"list deliveries":     {"GET", "/admin/deliveries", ""},
		"get a delivery":      {"GET", fmt.Sprintf("/admin/deliveries/%d", delivery), ""},
		"resend a delivery":   {"POST", fmt.Sprintf("/admin/deliveries/%d/resend", delivery), ""},
		"list events":         {"GET", "/admin/events", ""},
		"get an event":        {"GET", "/admin/events/1", ""},
		"get a body":          {"GET", "/admin/events/1/body", ""},
		"replay an event":     {"POST", "/admin/events/1/replay", ""},
		"find a record":       {"GET", "/admin/records?record_id=1", ""},
		"get a record":        {"GET", "/admin/records/Contacts/1", ""},
		"get a memory's past": {"GET", "/admin/memories/" + nothing + "/history", ""},
		"list replays":        {"GET", "/admin/replays", ""},
		"start a replay":      {"POST", "/admin/replays", since},
		"get a replay":        {"GET", "/admin/replays/" + nothing, ""},
		"cancel a replay":     {"POST", "/admin/replays/" + nothing + "/cancel", ""},
		"pause a replay":      {"POST", "/admin/replays/" + nothing + "/pause", ""},
		"resume a replay":     {"POST", "/admin/replays/" + nothing + "/resume", ""},
		"list dead letters":   {"GET", "/admin/dead", ""},
		"retry all":           {"POST", "/admin/dead/retry", ""},
		"retry a letter":      {"POST", "/admin/dead/event/1/retry", ""},
		"discard a letter":    {"POST", "/admin/dead/event/1/discard", `{"reason":"x"}`},
	}
}

// A token of the memory's, or one that may only look, does none of it and changes nothing.
func TestWhoMayWhat(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealKey)
	crm := h.endpointNamed(t, "crm")
	id := h.told(t, h.webhook(t, "memory_added", "ada"), crm, "delivered", 0)
	h.event(t, "dead")
	before := h.picture(t)
	for name, route := range routes("crm", id) {
		method, path, body := route[0], route[1], route[2]
		wantProblem(t, h.as(t, "", method, path, body), 401, "unauthorized", "")
		wantProblem(t, h.as(t, "nobody", method, path, body), 401, "unauthorized", "")
		wantProblem(t, h.as(t, "bot", method, path, body), 403, "forbidden", "")
		a := h.as(t, "reader", method, path, body)
		if method == "GET" {
			if a.status != 200 && !slices.Contains([]string{"get a redelivery", "get a replay", "get a memory's past"}, name) {
				t.Errorf("%s: a reader is answered %d: %s", name, a.status, a.body)
			}
			continue
		}
		wantProblem(t, a, 403, "forbidden", "")
		if want := `Bearer error="insufficient_scope", scope="admin:write"`; a.header.Get("WWW-Authenticate") != want {
			t.Errorf("%s: WWW-Authenticate %q, want %q", name, a.header.Get("WWW-Authenticate"), want)
		}
	}
	h.wantSame(t, before)
}

// Its secrets are said by the answers that make them, and by no other.
func TestTheLifeOfAnEndpoint(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealKey)
	made := h.do(t, 201, "POST", "/admin/endpoints", `{"name":"crm","url":"https://receiver.invalid/hook","events":["memory_added"],"user_ids":["zoho:*"],
		"filter":{"result":{"metadata":{"stage":"Won"}}},"headers":{"X-Team":"a-header-that-is-secret"},"auth":{"kind":"bearer","token":"a-token-that-is-secret"},
		"signing":["hmac","ed25519"],"timeout":5,"retry_schedule":["1s","2m"],"rate_limit":2.5}`)
	e := decode[admin.WithSecrets](t, made)
	if made.header.Get("Location") != "/admin/endpoints/"+e.ID.String() {
		t.Errorf("Location %q", made.header.Get("Location"))
	}
	if len(e.Secrets) != 2 || !strings.HasPrefix(e.Secrets[0].Secret+e.Secrets[1].Secret, "whs") {
		t.Fatalf("%d secrets: %s", len(e.Secrets), made.body)
	}
	secrets := []string{"a-header-that-is-secret", "a-token-that-is-secret"}
	for _, s := range e.Secrets {
		secrets = append(secrets, s.Secret)
	}
	got := decode[endpoint.Endpoint](t, h.do(t, 200, "GET", "/admin/endpoints/crm", ""))
	if diff := cmp.Diff(e.Endpoint, got); diff != "" {
		t.Errorf("by name (-made +got):\n%s", diff)
	}

	changed := decode[admin.WithSecrets](t, h.do(t, 200, "PATCH", "/admin/endpoints/"+e.ID.String(), `{"description":"Sales","filter":null,"url":null}`))
	if changed.Description != "Sales" || len(changed.Filter) != 0 && string(changed.Filter) != "null" || changed.URL != e.URL || len(changed.Secrets) != 0 {
		t.Errorf("changed: %+v", changed)
	}
	paused := decode[endpoint.Endpoint](t, h.do(t, 200, "POST", "/admin/endpoints/crm/pause", `{"reason":"they move"}`))
	if paused.Status != endpoint.Paused || paused.StatusReason != "they move" {
		t.Errorf("paused: %+v", paused)
	}
	if resumed := decode[endpoint.Endpoint](t, h.do(t, 200, "POST", "/admin/endpoints/crm/resume", "")); resumed.Status != endpoint.Active {
		t.Errorf("resumed: %+v", resumed)
	}
	for _, body := range []string{"", `{"kind":"ed25519","overlap":"1h"}`, `{"secret":"one-of-my-own-that-is-long-enough"}`} {
		rotated := decode[admin.WithSecrets](t, h.do(t, 200, "POST", "/admin/endpoints/crm/rotate", body))
		if len(rotated.Secrets) != 1 {
			t.Fatalf("rotate %s: %+v", body, rotated)
		}
		secrets = append(secrets, rotated.Secrets[0].Secret)
	}
	rotated := decode[endpoint.Endpoint](t, h.do(t, 200, "GET", "/admin/endpoints/crm", ""))
	if len(rotated.Keys) != 5 {
		t.Fatalf("%d keys, want 5", len(rotated.Keys))
	}
	for _, k := range rotated.Keys {
		if k.ExpiresAt == nil {
			continue
		}
		want := admin.Overlap
		if k.Kind == endpoint.KeyEd25519 {
			want = time.Hour
		}
		if left := time.Until(*k.ExpiresAt); left > want || left < want-5*time.Minute {
			t.Errorf("a key of %s signs for %s, want %s", k.Kind, left, want)
		}
	}

	outcome := admin.TestOutcome{Delivered: true, StatusCode: 204, WebhookID: "crm memory_added", DurationMs: 7}
	if diff := cmp.Diff(outcome, decode[admin.TestOutcome](t, h.do(t, 200, "POST", "/admin/endpoints/crm/test", ""))); diff != "" {
		t.Errorf("tested (-want +got):\n%s", diff)
	}
	outcome.WebhookID = "crm sync.failed"
	if diff := cmp.Diff(outcome, decode[admin.TestOutcome](t, h.do(t, 200, "POST", "/admin/endpoints/crm/test", `{"event":"sync.failed"}`))); diff != "" {
		t.Errorf("tested (-want +got):\n%s", diff)
	}

	h.told(t, h.webhook(t, "memory_added", "ada"), e.ID, "dead", 0)
	for _, route := range routes("crm", 1) {
		if route[0] != "GET" {
			continue
		}
		a := h.as(t, "reader", "GET", route[1], "")
		for _, secret := range secrets {
			if strings.Contains(a.body, secret) || strings.Contains(a.body, strings.TrimPrefix(secret, "whsec_")) {
				t.Errorf("GET %s says a secret: %s", route[1], a.body)
			}
		}
	}

	listed := decode[map[string][]endpoint.Endpoint](t, h.do(t, 200, "GET", "/admin/endpoints", ""))
	if len(listed["endpoints"]) != 1 || listed["endpoints"][0].ID != e.ID {
		t.Errorf("listed: %+v", listed)
	}
	h.do(t, 200, "DELETE", "/admin/endpoints/crm", "")
	wantProblem(t, h.as(t, "writer", "GET", "/admin/endpoints/crm", ""), 404, "not_found", "")
	if a := h.do(t, 200, "GET", "/admin/endpoints", ""); a.body != `{"endpoints":[]}` {
		t.Errorf("listed: %s", a.body)
	}
	want := []string{"create", "change", "pause", "resume", "rotate", "rotate", "rotate", "delete"}
	for i, action := range want {
		want[i] = fmt.Sprintf("token/writer request-7 endpoint.%s endpoint/%s", action, e.ID)
	}
	got8 := column[string](t, h.office, `SELECT concat_ws(' ', actor, request_id, action, object) FROM audit_log ORDER BY id`)
	if diff := cmp.Diff(want, got8); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestRequestsThatAreWrong(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealKey)
	crm := h.endpointNamed(t, "crm")
	id := h.told(t, h.webhook(t, "memory_added", "ada"), crm, "delivered", 0)
	before := h.picture(t)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code, field        string
	}{
		"no body":                          {"POST", "/admin/endpoints", "", 400, "invalid_json", ""},
		"no JSON":                          {"POST", "/admin/endpoints", "{", 400, "invalid_json", ""},
		"no object":                        {"POST", "/admin/endpoints", "[]", 400, "invalid_json", ""},
		"a body that is huge":              {"POST", "/admin/endpoints", strings.Repeat(" ", 256<<10+1), 413, "body_too_large", ""},
		"a field that is none":             {"POST", "/admin/endpoints", `{"name":"a","url":"https://a.invalid/","uri":"x"}`, 422, "invalid_field", "uri"},
		"a field of auth that is none":     {"POST", "/admin/endpoints", `{"name":"a","url":"https://a.invalid/","auth":{"kind":"bearer","tokn":"x"}}`, 422, "invalid_field", "auth"},
		"a field twice":                    {"POST", "/admin/endpoints", `{"name":"a","name":"b"}`, 422, "invalid_field", "name"},
		"a field that is too deep":         {"POST", "/admin/endpoints", `{"filter":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 41), 422, "invalid_field", "filter"},
		"a field of another type":          {"PATCH", "/admin/endpoints/crm", `{"batch_size":"many"}`, 422, "invalid_field", "batch_size"},
		"a value that cannot be":           {"PATCH", "/admin/endpoints/crm", `{"batch_size":0}`, 422, "invalid_field", "batch_size"},
		"a filter that is none":            {"PATCH", "/admin/endpoints/crm", `{"filter":{"$code":"x"}}`, 422, "invalid_field", "filter"},
		"a URL that the guard refuses":     {"PATCH", "/admin/endpoints/crm", `{"url":"http://10.0.0.1/"}`, 422, "invalid_field", "url"},
		"a name that is taken":             {"POST", "/admin/endpoints", `{"name":"crm","url":"https://a.invalid/"}`, 409, "endpoint_exists", ""},
		"a query where there is none":      {"POST", "/admin/endpoints?dry_run=1", `{}`, 422, "invalid_field", "dry_run"},
		"a query that is none":             {"GET", "/admin/endpoints?%zz", "", 400, "invalid_query", ""},
		"a parameter that is none":         {"GET", "/admin/deliveries?states=dead", "", 422, "invalid_field", "states"},
		"a parameter twice":                {"GET", "/admin/deliveries?status=dead&status=dead", "", 422, "invalid_field", "status"},
		"a status that is none":            {"GET", "/admin/deliveries?status=fine", "", 422, "invalid_field", "status"},
		"a time that is none":              {"GET", "/admin/deliveries?since=yesterday", "", 422, "invalid_field", "since"},
		"an end that is none":              {"GET", "/admin/deliveries?until=tomorrow", "", 422, "invalid_field", "until"},
		"a webhook that is no id":          {"GET", "/admin/deliveries?webhook_id=7", "", 422, "invalid_field", "webhook_id"},
		"a limit of nothing":               {"GET", "/admin/deliveries?limit=0", "", 422, "invalid_field", "limit"},
		"a limit that is no number":        {"GET", "/admin/deliveries?limit=all", "", 422, "invalid_field", "limit"},
		"a cursor that is none":            {"GET", "/admin/deliveries?cursor=x", "", 422, "invalid_field", "cursor"},
		"an endpoint to look for":          {"GET", "/admin/deliveries?endpoint=nobody", "", 422, "invalid_field", "endpoint"},
		"an endpoint that is not there":    {"GET", "/admin/endpoints/nobody", "", 404, "not_found", ""},
		"to change what is not there":      {"PATCH", "/admin/endpoints/nobody", "{}", 404, "not_found", ""},
		"to delete what is not there":      {"DELETE", "/admin/endpoints/nobody", "", 404, "not_found", ""},
		"to pause what is not there":       {"POST", "/admin/endpoints/nobody/pause", "", 404, "not_found", ""},
		"to resume what is not there":      {"POST", "/admin/endpoints/nobody/resume", "", 404, "not_found", ""},
		"to rotate what is not there":      {"POST", "/admin/endpoints/nobody/rotate", "", 404, "not_found", ""},
		"to test what is not there":        {"POST", "/admin/endpoints/nobody/test", "", 404, "not_found", ""},
		"to recover what is not there":     {"POST", "/admin/endpoints/nobody/recover", `{"since":"2026-01-01T00:00:00Z"}`, 404, "not_found", ""},
		"a delivery that is not there":     {"GET", "/admin/deliveries/4711", "", 404, "not_found", ""},
		"a delivery that is none":          {"GET", "/admin/deliveries/first", "", 404, "not_found", ""},
		"to resend what is not there":      {"POST", "/admin/deliveries/4711/resend", "", 404, "not_found", ""},
		"to resend what is none":           {"POST", "/admin/deliveries/first/resend", "", 404, "not_found", ""},
		"a redelivery that is not there":   {"GET", "/admin/redeliveries/" + uuid.NewString(), "", 404, "not_found", ""},
		"a redelivery that is none":        {"GET", "/admin/redeliveries/7", "", 404, "not_found", ""},
		"to cancel what is not there":      {"POST", "/admin/redeliveries/" + uuid.NewString() + "/cancel", "", 404, "not_found", ""},
		"to cancel what is none":           {"POST", "/admin/redeliveries/7/cancel", "", 404, "not_found", ""},
		"redeliveries of nobody":           {"GET", "/admin/redeliveries?endpoint=nobody", "", 404, "not_found", ""},
		"redeliveries of somebody":         {"GET", "/admin/redeliveries", "", 422, "invalid_field", "endpoint"},
		"a field of a pause":               {"POST", "/admin/endpoints/crm/pause", `{"why":"x"}`, 422, "invalid_field", "why"},
		"a field of a resume":              {"POST", "/admin/endpoints/crm/resume", `{"why":"x"}`, 422, "invalid_field", "why"},
		"a kind of key that is none":       {"POST", "/admin/endpoints/crm/rotate", `{"kind":"rsa"}`, 422, "invalid_field", "kind"},
		"an overlap that is too long":      {"POST", "/admin/endpoints/crm/rotate", `{"overlap":"1000h"}`, 422, "invalid_field", "overlap"},
		"an overlap that is none":          {"POST", "/admin/endpoints/crm/rotate", `{"overlap":"long"}`, 422, "invalid_field", "overlap"},
		"a secret that is short":           {"POST", "/admin/endpoints/crm/rotate", `{"secret":"short"}`, 422, "invalid_field", "secret"},
		"an event that is none":            {"POST", "/admin/endpoints/crm/test", `{"event":"memory_forgotten"}`, 422, "invalid_field", "event"},
		"a recovery since never":           {"POST", "/admin/endpoints/crm/recover", `{}`, 422, "invalid_field", "since"},
		"a recovery since no time":         {"POST", "/admin/endpoints/crm/recover", `{"since":"then"}`, 422, "invalid_field", "since"},
		"a recovery of events":             {"POST", "/admin/endpoints/crm/recover", `{"since":"2026-01-01T00:00:00Z","events":["memory_added"]}`, 422, "invalid_field", "events"},
		"a replay of events that are none": {"POST", "/admin/endpoints/crm/replay", `{"since":"2026-01-01T00:00:00Z","events":["x"]}`, 422, "invalid_field", "events"},
		"a replay that ends before":        {"POST", "/admin/endpoints/crm/replay", `{"since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}`, 422, "invalid_field", "since"},
		"a rate of less than nothing":      {"POST", "/admin/endpoints/crm/recover", `{"since":"2026-01-01T00:00:00Z","per_second":-1}`, 422, "invalid_field", "per_second"},
		"a field of a resend":              {"POST", fmt.Sprintf("/admin/deliveries/%d/resend", id), `{"why":"x"}`, 422, "invalid_field", "why"},
		"a method that is none":            {"PUT", "/admin/endpoints", "{}", 405, "method_not_allowed", ""},
	} {
		t.Run(name, func(t *testing.T) {
			wantProblem(t, h.as(t, "writer", c.method, c.path, c.body), c.status, c.code, c.field)
		})
	}
	h.wantSame(t, before)
}

func TestAllThatIsWrongIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealKey)
	p := wantProblem(t, h.as(t, "writer", "POST", "/admin/endpoints", `{"name":"Not A Name","url":"ftp://a.invalid/","events":["x"],"timeout":"9h"}`),
		422, "invalid_field", "name")
	fields := map[string]bool{}
	for _, f := range p.Errors {
		fields[f.Name] = f.Detail != ""
		if !strings.Contains(p.Detail, f.Name+": "+f.Detail) {
			t.Errorf("the detail does not say %+v: %s", f, p.Detail)
		}
	}
	if diff := cmp.Diff(map[string]bool{"name": true, "url": true, "events": true, "timeout": true}, fields); diff != "" {
		t.Errorf("wrong (-want +got):\n%s", diff)
	}
}

func TestWhatStandsInTheWay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	crm, gone := h.endpointNamed(t, "crm"), h.endpointNamed(t, "gone")
	h.endpointNamed(t, "env")
	open := h.told(t, h.webhook(t, "memory_added", "ada"), crm, "retrying", 0)
	forgotten := h.webhook(t, "memory_added", "ada")
	h.exec(t, `UPDATE outbox SET payload = NULL WHERE id = $1`, forgotten)
	purged := h.told(t, forgotten, crm, "delivered", 0)
	lost := h.told(t, h.webhook(t, "memory_added", "ada"), gone, "cancelled", 0)
	h.exec(t, `UPDATE endpoints SET deleted_at = now() WHERE id = $1`, gone)
	before := h.picture(t)
	for name, c := range map[string]struct {
		method, path, body, code string
	}{
		"no key to seal a secret":        {"POST", "/admin/endpoints", `{"name":"a","url":"https://a.invalid/"}`, "no_key"},
		"no key to sign with one":        {"PATCH", "/admin/endpoints/crm", `{"signing":["hmac"]}`, "no_key"},
		"the environment says":           {"PATCH", "/admin/endpoints/env", `{"description":"x"}`, "set_by_environment"},
		"the environment is not deleted": {"DELETE", "/admin/endpoints/env", "", "set_by_environment"},
		"a delivery on its way":          {"POST", fmt.Sprintf("/admin/deliveries/%d/resend", open), "", "delivery_open"},
		"a payload that is forgotten":    {"POST", fmt.Sprintf("/admin/deliveries/%d/resend", purged), "", "payload_gone"},
		"an endpoint that is deleted":    {"POST", fmt.Sprintf("/admin/deliveries/%d/resend", lost), "", "endpoint_gone"},
	} {
		wantProblem(t, h.as(t, "writer", c.method, c.path, c.body), 409, c.code, "")
		if t.Failed() {
			t.Fatal(name)
		}
	}
	h.wantSame(t, before)
	// What needs no key is done without one.
	h.do(t, 201, "POST", "/admin/endpoints", `{"name":"plain","url":"https://a.invalid/","signing":[]}`)
}

func TestResendOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealKey)
	id := h.told(t, h.webhook(t, "memory_added", "ada"), h.endpointNamed(t, "crm"), "delivered", 0)
	a := decode[admin.Delivery](t, h.do(t, 200, "POST", fmt.Sprintf("/admin/deliveries/%d/resend", id), `{"reason":"they lost it"}`))
	if a.ID != id || a.Status != "pending" {
		t.Errorf("resent: %+v", a)
	}
	h.wantAudit(t, fmt.Sprintf(`token/writer request-7 delivery.resend delivery/%d {"after": {"status": "pending"}, "before": {"status": "delivered"}, "reason": "they lost it"}`, id))
	h.wantJobs(t, "deliver_endpoint of an endpoint available")
	story := decode[map[string]any](t, h.do(t, 200, "GET", fmt.Sprintf("/admin/deliveries/%d", id), ""))
	if story["payload"] != `{"n": "memory_added"}` || story["endpoint"] != "crm" || story["status"] != "pending" {
		t.Errorf("the story: %v", story)
	}
}

func TestDeliveriesOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealKey)
	crm := h.endpointNamed(t, "crm")
	webhook := h.webhook(t, "memory_added", "ada & co")
	var want []int64
	for range 3 {
		want = append([]int64{h.told(t, h.webhook(t, "memory_added", "ada & co"), crm, "dead", time.Hour)}, want...)
	}
	h.told(t, webhook, crm, "delivered", 48*time.Hour)
	now := time.Now().UTC()
	path := "/admin/deliveries?endpoint=crm&status=dead&event=memory_added&user_id=ada+%26+co&limit=2&since=" +
		now.Add(-2*time.Hour).Format(time.RFC3339) + "&until=" + now.Format(time.RFC3339)
	page := decode[admin.DeliveryPage](t, h.do(t, 200, "GET", path, ""))
	if len(page.Deliveries) != 2 || page.NextCursor == "" {
		t.Fatalf("first page: %+v", page)
	}
	last := decode[admin.DeliveryPage](t, h.do(t, 200, "GET", path+"&cursor="+page.NextCursor, ""))
	var got []int64
	for _, d := range append(page.Deliveries, last.Deliveries...) {
		got = append(got, d.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" || last.NextCursor != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
	if a := h.do(t, 200, "GET", "/admin/deliveries?webhook_id="+uuid.NewString(), ""); a.body != `{"deliveries":[]}` {
		t.Errorf("nothing is %s", a.body)
	}
	if one := decode[admin.DeliveryPage](t, h.do(t, 200, "GET", "/admin/deliveries?webhook_id="+webhook.String(), "")); len(one.Deliveries) != 1 {
		t.Errorf("a webhook's: %+v", one)
	}
}

func TestRedeliveriesOverHTTP(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sealKey)
	crm := h.endpointNamed(t, "crm")
	for _, status := range []string{"dead", "dead", "delivered"} {
		id := h.told(t, h.webhook(t, "memory_added", "ada"), crm, status, time.Hour)
		h.exec(t, `UPDATE deliveries SET finished_at = now() - interval '1 minute' WHERE id = $1`, id)
	}
	since := time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339)
	before := h.picture(t)
	for kind, found := range map[string]int{"recover": 2, "replay": 3} {
		a := h.do(t, 200, "POST", "/admin/endpoints/crm/"+kind, fmt.Sprintf(`{"since":%q,"dry_run":true}`, since))
		if want := fmt.Sprintf(`{"dry_run":true,"found":%d}`, found); a.body != want {
			t.Errorf("%s: %s, want %s", kind, a.body, want)
		}
	}
	h.wantSame(t, before)

	a := h.do(t, 202, "POST", "/admin/endpoints/crm/recover", fmt.Sprintf(`{"since":%q,"per_second":10,"reason":"the outage"}`, since))
	r := decode[endpoint.Redelivery](t, a)
	if r.Kind != "recover" || r.Found != 2 || r.State != "running" || r.PerSecond != 10 || r.Actor != "token/writer" || r.Reason != "the outage" {
		t.Errorf("recover: %s", a.body)
	}
	if got := decode[endpoint.Redelivery](t, h.do(t, 200, "GET", a.header.Get("Location"), "")); got.ID != r.ID {
		t.Errorf("at %s there is %+v", a.header.Get("Location"), got)
	}
	replay := decode[endpoint.Redelivery](t, h.do(t, 202, "POST", "/admin/endpoints/crm/replay", fmt.Sprintf(`{"since":%q,"events":["memory_added"]}`, since)))
	listed := decode[map[string][]endpoint.Redelivery](t, h.do(t, 200, "GET", "/admin/redeliveries?endpoint=crm", ""))
	if all := listed["redeliveries"]; len(all) != 2 || all[0].ID != replay.ID || all[1].ID != r.ID {
		t.Errorf("listed: %+v", listed)
	}
	if got := decode[endpoint.Redelivery](t, h.do(t, 200, "POST", "/admin/redeliveries/"+r.ID.String()+"/cancel", "")); got.State != "cancelled" {
		t.Errorf("cancelled: %+v", got)
	}
	actions := column[string](t, h.office, `SELECT concat_ws(' ', actor, request_id, action) FROM audit_log ORDER BY id`)
	want := []string{"token/writer request-7 redelivery.start", "token/writer request-7 redelivery.start", "token/writer request-7 redelivery.cancel"}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}
