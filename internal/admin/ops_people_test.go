package admin_test

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/access"
	"github.com/memrelay/memrelay/internal/admin"
)

// What is new may no more than what it was made with.
func TestTokensMakeNoneThatMayMore(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	tokens := access.NewTokens(d.pool, rand.Reader, time.Now)
	for _, n := range []access.NewToken{
		{Name: "all", Scopes: access.Scopes()}, {Name: "of-ada", Scopes: access.Scopes(), UserIDs: []string{"ada"}},
		{Name: "for-a-day", Scopes: access.Scopes(), Lasts: 24 * time.Hour},
	} {
		secret, _, err := tokens.Create(t.Context(), "test", n)
		if err != nil {
			t.Fatal(err)
		}
		d.tokens[n.Name] = secret
	}
	d.exec(t, `DELETE FROM audit_log`)
	for name, c := range map[string]struct {
		with, body string
		status     int
		code       string
	}{
		"a scope that it has":         {"writer", `{"name":"a","scopes":["admin:read"]}`, 201, ""},
		"all that it has":             {"writer", `{"name":"b","scopes":["admin:read","admin:write"]}`, 201, ""},
		"a scope that it has not":     {"writer", `{"name":"c","scopes":["admin:read","memory"]}`, 403, "forbidden"},
		"the scope that nobody named": {"writer", `{"name":"d"}`, 403, "forbidden"},
		"everything of everybody":     {"all", `{"name":"e","scopes":["memory","admin:read","admin:write"]}`, 201, ""},
		"everybody's":                 {"of-ada", `{"name":"f"}`, 403, "forbidden"},
		"somebody else's":             {"of-ada", `{"name":"g","user_ids":["ada","bob"]}`, 403, "forbidden"},
		"its own user's":              {"of-ada", `{"name":"h","user_ids":["ada"]}`, 201, ""},
		"no name":                     {"all", `{"scopes":["memory"]}`, 422, "invalid_field"},
		"a scope that is none":        {"all", `{"name":"i","scopes":["root"]}`, 422, "invalid_field"},
		"a name that is taken":        {"all", `{"name":"bot"}`, 409, "token_exists"},
		"no end, by one that ends":    {"for-a-day", `{"name":"l"}`, 403, "forbidden"},
		"a later end":                 {"for-a-day", `{"name":"m","expires_at":"2100-01-02T03:04:05Z"}`, 403, "forbidden"},
		"an end that is past":         {"all", `{"name":"j","expires_at":"2020-01-01T00:00:00Z"}`, 422, "invalid_field"},
	} {
		a := d.as(t, c.with, "POST", "/admin/tokens", c.body)
		if a.status != c.status || (c.code != "" && decode[problem](t, a).Code != c.code) {
			t.Errorf("%s: answered %d %s", name, a.status, a.body)
		}
	}
	made := decode[admin.MadeToken](t, d.as(t, "all", "POST", "/admin/tokens", `{"name":"k","expires_at":"2100-01-02T03:04:05Z"}`))
	if made.Secret == "" || made.State != "active" || made.ExpiresAt == nil || made.ExpiresAt.Year() != 2100 {
		t.Errorf("made: %+v", made)
	}
	d.tokens["k"] = made.Secret
	wantProblem(t, d.as(t, "k", "GET", "/admin/tokens", ""), 403, "forbidden", "")
	list := d.do(t, 200, "GET", "/admin/tokens", "")
	if strings.Contains(list.body, made.Secret) || strings.Contains(list.body, "hash") {
		t.Errorf("the list has secrets: %s", list.body)
	}
	all := decode[map[string][]admin.ShownToken](t, list)["tokens"]
	if len(all) != 11 || all[0].Name != "k" {
		t.Errorf("listed: %s", list.body)
	}
	d.do(t, 200, "DELETE", "/admin/tokens/"+made.ID.String(), "")
	wantProblem(t, d.as(t, "k", "GET", "/admin/tokens", ""), 401, "unauthorized", "")
	wantProblem(t, d.as(t, "writer", "DELETE", "/admin/tokens/"+made.ID.String(), ""), 404, "not_found", "")
	got := column[string](t, d.office, `SELECT concat_ws(' ', actor, request_id, action, details ->> 'name', coalesce((details #>> '{after,revoked_at}' IS NOT NULL)::text, ''), '')
		FROM audit_log WHERE details ->> 'name' = 'k' ORDER BY id`)
	want := []string{"token/all request-7 token.create k false ", "token/writer request-7 token.revoke k true "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("audit log (-want +got):\n%s", diff)
	}
}

func TestTheAuditLogIsFiltered(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.exec(t, `INSERT INTO audit_log (at, actor, action, object, details, request_id)
		SELECT '2026-01-01'::timestamptz + n * interval '1 hour', CASE n % 2 WHEN 0 THEN 'ada' ELSE 'bob' END, CASE n % 3 WHEN 0 THEN 'job.retry' ELSE 'job.cancel' END,
		       'job/' || n % 5, '{"before":{"state":"x"}}', 'r' || n FROM generate_series(1, 30) n`)
	for path, want := range map[string]string{
		"": "30 29 28 27 26 25 24 23 22 21 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1", "?actor=ada&action=job.retry": "30 24 18 12 6",
		"?object=job/1": "26 21 16 11 6 1", "?object=job/1&actor=ada": "26 16 6", "?object=job/9": "",
		"?since=2026-01-02T05:00:00Z": "30 29", "?until=2026-01-01T03:00:00Z": "2 1", "?since=2026-01-01T02:00:00Z&until=2026-01-01T04:00:00Z": "3 2", "?actor=carl": "",
	} {
		for _, limit := range []string{"limit=200", "limit=2"} {
			var got []string
			for cursor := ""; ; {
				join := "?"
				if path != "" {
					join = path + "&"
				}
				page := decode[admin.AuditPage](t, d.do(t, 200, "GET", "/admin/audit"+join+limit+cursor, ""))
				for _, l := range page.Audit {
					got = append(got, strings.TrimPrefix(l.RequestID, "r"))
				}
				if page.NextCursor == "" {
					break
				}
				cursor = "&cursor=" + page.NextCursor
			}
			if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", path, limit, diff)
			}
		}
	}
	line := decode[admin.AuditPage](t, d.do(t, 200, "GET", "/admin/audit?limit=1", "")).Audit[0]
	if line.Actor != "ada" || line.Object != "job/0" || !json.Valid(line.Details) || !strings.Contains(string(line.Details), "before") {
		t.Errorf("a line: %+v", line)
	}
	for path, field := range map[string]string{"?since=x": "since", "?until=x": "until", "?cursor=x": "cursor", "?limit=x": "limit", "?who=ada": "who"} {
		wantProblem(t, d.as(t, "reader", "GET", "/admin/audit"+path, ""), 422, "invalid_field", field)
	}
}

func TestWhoWasTurnedAway(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.exec(t, `INSERT INTO rejected_requests (at, method, route, status, code, reason, address, user_agent, content_length, request_id)
		SELECT now(), 'POST', '/webhooks/zoho', 401 + n % 2, 'code_' || n % 3, 'why', '203.0.113.' || n % 4, 'curl', n - 2, 'r' || n FROM generate_series(1, 12) n`)
	d.exec(t, `INSERT INTO counters (process, slot, name, value) VALUES (gen_random_uuid(), 0, 'rejected_unlisted', 5), (gen_random_uuid(), 0, 'rejected_unlisted', 2)`)
	for path, want := range map[string]string{
		"?limit=3": "r12 r11 r10", "?status=402&code=code_0": "r9 r3", "?address=203.0.113.1": "r9 r5 r1", "?route=/v1/memories": "",
	} {
		page := decode[admin.RejectedPage](t, d.do(t, 200, "GET", "/admin/rejected"+path, ""))
		var got []string
		for _, r := range page.Rejected {
			got = append(got, r.RequestID)
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" || page.Unlisted != 7 || (page.NextCursor != "") != (path == "?limit=3") {
			t.Errorf("%s: %+v\n%s", path, page, diff)
		}
	}
	page := decode[admin.RejectedPage](t, d.do(t, 200, "GET", "/admin/rejected?limit=11", ""))
	rest := decode[admin.RejectedPage](t, d.do(t, 200, "GET", "/admin/rejected?cursor="+page.NextCursor, ""))
	if len(rest.Rejected) != 1 || rest.Rejected[0].ContentLength != nil || *page.Rejected[0].ContentLength != 10 {
		t.Errorf("the rest: %+v", rest)
	}
	for path, field := range map[string]string{"?status=200": "status", "?cursor=x": "cursor", "?limit=0": "limit", "?ip=x": "ip"} {
		wantProblem(t, d.as(t, "reader", "GET", "/admin/rejected"+path, ""), 422, "invalid_field", field)
	}
}
