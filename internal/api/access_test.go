package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// routes are all of them, about a user, a memory, a line and a run.
func routes(userID, memoryID, lineID, runID string) []request {
	user := `{"user_id":"` + userID + `"`
	return []request{
		{method: "POST", path: "/v1/memories", body: user + `,"content":"x"}`},
		{method: "POST", path: "/v1/memories/batch", body: user + `,"items":[{"content":"x"}]}`},
		{method: "POST", path: "/v1/memories/search", body: user + `,"query":"tea"}`},
		{method: "POST", path: "/v1/preferences", body: user + `,"preference":"x"}`},
		{method: "POST", path: "/v1/corrections", body: user + `,"original":"x","corrected":"y"}`},
		{method: "POST", path: "/v1/relationships", body: user + `,"source":"s","relationship":"r","target":"t"}`},
		{method: "POST", path: "/v1/graph/build", body: user + `}`},
		{method: "POST", path: "/v1/memories/optimize", body: user + `}`},
		{method: "GET", path: "/v1/memories?user_id=" + userID},
		{method: "GET", path: "/v1/graph?user_id=" + userID + "&entity=s"},
		{method: "GET", path: "/v1/accounts/" + strings.TrimPrefix(userID, "zoho:")},
		{method: "GET", path: "/v1/memories/" + memoryID},
		{method: "GET", path: "/v1/memories/" + memoryID + "/history"},
		{method: "GET", path: "/v1/jobs/" + runID},
		{method: "PATCH", path: "/v1/memories/" + memoryID, body: `{"content":"y"}`},
		{method: "DELETE", path: "/v1/memories/" + memoryID},
		{method: "DELETE", path: "/v1/relationships/" + lineID},
		{method: "DELETE", path: "/v1/memories?user_id=" + userID},
	}
}

// TestATokenSeesItsUsersAlone: what is others' is answered as what is not there, and
// nobody is told.
func TestATokenSeesItsUsersAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.memoryOf(t, "zoho:77", "likes tea")
	l := idOf(t, h.as(t, "all", "POST", "/v1/relationships", `{"user_id":"zoho:77","source":"s","relationship":"r","target":"t"}`))
	j := idOf(t, h.as(t, "all", "POST", "/v1/memories/optimize", `{"user_id":"zoho:77","dry_run":true}`))
	before := h.stored(t)
	nothing := routes("zoho:78", uuid.NewString(), uuid.NewString(), uuid.NewString())
	for i, q := range routes("zoho:77", m, l, j) {
		q.token, nothing[i].token = "bob", "bob"
		theirs, none := h.do(t, q), h.do(t, nothing[i])
		wantProblem(t, theirs, 404, "not_found", "")
		without := func(a answer) string { return strings.ReplaceAll(a.body, a.header.Get("X-Request-Id"), "") }
		if diff := cmp.Diff(without(none), without(theirs)); diff != "" {
			t.Errorf("%s %s tells what is there (-none +theirs):\n%s", q.method, q.path, diff)
		}
		if told := h.told(t, theirs.header.Get("X-Request-Id")); len(told) > 0 {
			t.Errorf("%s %s told %v", q.method, q.path, told)
		}
	}
	// Nor by what is wrong with a request: another's 409 or 422 would be told of.
	for _, q := range []request{
		{method: "POST", path: "/v1/memories", body: `{"user_id":"zoho:77","content":""}`},
		{method: "PATCH", path: "/v1/memories/" + m, body: `{"content":""}`},
	} {
		q.token = "bob"
		if told := h.told(t, h.do(t, q).header.Get("X-Request-Id")); len(told) > 0 {
			t.Errorf("%s %s told %v", q.method, q.path, told)
		}
	}
	if after := h.stored(t); after != before {
		t.Errorf("there are %s, were %s", after, before)
	}
	// The same with a token that may, and with ADMIN_TOKEN.
	for i, q := range routes("zoho:77", m, l, j) {
		q.token = []string{"ada", "all", "admin"}[i%3]
		if a := h.do(t, q); a.status/100 != 2 {
			t.Errorf("%s %s is answered %d %s", q.method, q.path, a.status, a.body)
		}
	}
}

// Whoever is not let in hears nothing of what is wrong with the body, and what he
// sends is not read.
func TestWhoMayEnter(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.tokens["nobody"] = "mrt_" + strings.Repeat("A", 43)
	for name, sql := range map[string]string{
		"revoked": `UPDATE api_tokens SET revoked_at = now() WHERE name = 'ada'`,
		"expired": `UPDATE api_tokens SET expires_at = now() WHERE name = 'bob'`,
	} {
		h.exec(t, sql)
		h.tokens[name] = h.tokens[map[string]string{"revoked": "ada", "expired": "bob"}[name]]
	}
	before := h.stored(t)
	id := uuid.NewString()
	for _, q := range append(routes("ada", id, id, id), request{method: "POST", path: "/v1/memories", body: `not JSON`}) {
		for _, tc := range []struct {
			token  string
			status int
			code   string
		}{
			{"", 401, "unauthorized"},
			{"nobody", 401, "unauthorized"},
			{"revoked", 401, "unauthorized"},
			{"expired", 401, "unauthorized"},
			{"desk", 403, "forbidden"},
		} {
			q.token = tc.token
			a := h.do(t, q)
			wantProblem(t, a, tc.status, tc.code, "")
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s %s asks for %q", q.method, q.path, a.header.Get("WWW-Authenticate"))
			}
		}
	}
	if after := h.stored(t); after != before {
		t.Errorf("there are %s, were %s", after, before)
	}
}

func TestIDsThatAreNone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.memoryOf(t, "ada", "likes tea")
	for _, id := range []string{"1", "x", "urn:uuid:" + m, "%7B" + m + "%7D", strings.ReplaceAll(m, "-", ""), m + "0"} {
		for _, q := range []request{
			{method: "GET", path: "/v1/memories/" + id},
			{method: "GET", path: "/v1/memories/" + id + "/history"},
			{method: "PATCH", path: "/v1/memories/" + id, body: `{"content":"x"}`},
			{method: "DELETE", path: "/v1/memories/" + id},
			{method: "DELETE", path: "/v1/relationships/" + id},
			{method: "GET", path: "/v1/jobs/" + id},
		} {
			q.token = "ada"
			wantProblem(t, h.do(t, q), 404, "not_found", "")
		}
	}
}
