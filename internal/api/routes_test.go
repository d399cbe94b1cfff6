package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTheLifeOfAMemory goes through the routes as an agent would, and reads each
// answer and each webhook as a whole.
func TestTheLifeOfAMemory(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const tea = `"user_id":"ada","kind":"fact","content":"likes tea","metadata":{"n":12345678901234567890,"of":["a"]}`

	a := h.as(t, "ada", "POST", "/v1/memories", `{"user_id":"ada","content":"likes tea","metadata":{"n":12345678901234567890,"of":["a"]}}`)
	h.want(t, a, 201, `{"id":"id1",`+tea+`,"created_at":"now","updated_at":"now"}`,
		`memory_added ada {"result":{"id":"id1","content":"likes tea","metadata":{"n":12345678901234567890,"of":["a"]}}}`)
	one := "/v1/memories/" + h.named(t, "id1")

	h.want(t, h.as(t, "ada", "GET", one, ""), 200, `{"id":"id1",`+tea+`,"created_at":"now","updated_at":"now"}`)
	h.want(t, h.as(t, "ada", "PATCH", one, `{"content":"likes coffee"}`), 200,
		`{"id":"id1","user_id":"ada","kind":"fact","content":"likes coffee","metadata":{"n":12345678901234567890,"of":["a"]},"created_at":"now","updated_at":"now"}`,
		`memory_updated ada {"before":{"id":"id1","content":"likes tea","metadata":{"n":12345678901234567890,"of":["a"]}},`+
			`"after":{"id":"id1","content":"likes coffee","metadata":{"n":12345678901234567890,"of":["a"]}}}`)
	// What changes nothing is told to nobody.
	h.want(t, h.as(t, "ada", "PATCH", one, `{"content":"likes coffee"}`), 200,
		`{"id":"id1","user_id":"ada","kind":"fact","content":"likes coffee","metadata":{"n":12345678901234567890,"of":["a"]},"created_at":"now","updated_at":"now"}`)
	h.want(t, h.as(t, "ada", "PATCH", one, `{"metadata":{}}`), 200,
		`{"id":"id1","user_id":"ada","kind":"fact","content":"likes coffee","metadata":{},"created_at":"now","updated_at":"now"}`,
		`memory_updated ada {"before":{"id":"id1","content":"likes coffee","metadata":{"n":12345678901234567890,"of":["a"]}},`+
			`"after":{"id":"id1","content":"likes coffee","metadata":{}}}`)
	h.want(t, h.as(t, "ada", "DELETE", one, ""), 200,
		`{"id":"id1","deleted":true,"memory":{"id":"id1","user_id":"ada","kind":"fact","content":"likes coffee","metadata":{},"created_at":"now","updated_at":"now"}}`,
		`memory_deleted ada {"result":{"id":"id1","content":"likes coffee","metadata":{}}}`)

	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		gone := h.as(t, "ada", method, one, map[string]string{"PATCH": `{"content":"x"}`}[method])
		wantProblem(t, gone, 404, "not_found", "")
	}
	var became struct {
		ID      string
		History []struct{ Operation, Actor string }
	}
	if err := json.Unmarshal([]byte(h.as(t, "ada", "GET", one+"/history", "").body), &became); err != nil {
		t.Fatal(err)
	}
	want := []struct{ Operation, Actor string }{{"deleted", "token/ada"}, {"updated", "token/ada"}, {"updated", "token/ada"}, {"added", "token/ada"}}
	if diff := cmp.Diff(want, became.History); diff != "" || h.plain(became.ID) != "id1" {
		t.Errorf("history of %s (-want +got):\n%s", became.ID, diff)
	}
}

func TestWhatElseIsRemembered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	h.want(t, h.as(t, "ada", "POST", "/v1/memories", `{"user_id":"zoho:77","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}],"expires_at":"`+until+`"}`), 201,
		`{"id":"id1","user_id":"zoho:77","kind":"conversation","content":"user: hi\nassistant: hello","metadata":{},"account_id":"77","expires_at":"now","created_at":"now","updated_at":"now"}`,
		`memory_added zoho:77 {"result":{"id":"id1","content":"user: hi\nassistant: hello","metadata":{}}}`)
	h.want(t, h.as(t, "ada", "POST", "/v1/preferences", `{"user_id":"ada","preference":"short answers","category":"style"}`), 201,
		`{"id":"id2","user_id":"ada","kind":"preference","content":"short answers","metadata":{"category":"style"},"created_at":"now","updated_at":"now"}`,
		`preference_stored ada {"preference":"short answers","category":"style","result":{"id":"id2"}}`)
	h.want(t, h.as(t, "ada", "POST", "/v1/corrections", `{"user_id":"ada","original":"Bonn","corrected":"Berlin","context":"where she lives"}`), 201,
		`{"id":"id3","user_id":"ada","kind":"correction","content":"Berlin (not: Bonn)\nwhere she lives","metadata":{"context":"where she lives","corrected":"Berlin","original":"Bonn"},"created_at":"now","updated_at":"now"}`,
		`correction_stored ada {"original":"Bonn","corrected":"Berlin","context":"where she lives","result":{"id":"id3"}}`)
	h.want(t, h.as(t, "ada", "POST", "/v1/memories/batch", `{"user_id":"ada","items":[{"content":"a"},{"content":"b","kind":"note","metadata":{"k":"v"}}]}`), 201,
		`{"ids":["id4","id5"]}`,
		`batch_operation_completed ada {"operation":"add","items_count":2,"ids":["id4","id5"]}`)
	h.want(t, h.as(t, "ada", "DELETE", "/v1/memories?user_id=ada", ""), 200, `{"user_id":"ada","deleted":4,"kept":0}`,
		`memory_deleted ada {"result":{"id":"id4","content":"a","metadata":{}}}`,
		`memory_deleted ada {"result":{"id":"id5","content":"b","metadata":{"k":"v"}}}`,
		`memory_deleted ada {"result":{"id":"id3","content":"Berlin (not: Bonn)\nwhere she lives","metadata":{"context":"where she lives","corrected":"Berlin","original":"Bonn"}}}`,
		`memory_deleted ada {"result":{"id":"id2","content":"short answers","metadata":{"category":"style"}}}`)
	h.want(t, h.as(t, "ada", "DELETE", "/v1/memories?user_id=ada", ""), 200, `{"user_id":"ada","deleted":0,"kept":0}`)
}

func TestTheGraph(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.want(t, h.as(t, "ada", "POST", "/v1/relationships", `{"user_id":"ada","source":"Ada","relationship":"works_at","target":"Acme","confidence":0.8,"metadata":{"since":2020}}`), 201,
		`{"id":"id1","user_id":"ada","source":"Ada","relationship":"works_at","target":"Acme","confidence":0.8,"metadata":{"since":2020},"created_at":"now"}`,
		`relationship_added ada {"source":"Ada","relationship":"works_at","target":"Acme","result":{"id":"id1","confidence":0.8}}`)
	// The same again is no news.
	h.want(t, h.as(t, "ada", "POST", "/v1/relationships", `{"user_id":"ada","source":"Ada","relationship":"works_at","target":"Acme","confidence":0.8,"metadata":{"since":2020}}`), 201,
		`{"id":"id1","user_id":"ada","source":"Ada","relationship":"works_at","target":"Acme","confidence":0.8,"metadata":{"since":2020},"created_at":"now"}`)
	around := h.as(t, "ada", "GET", "/v1/graph?user_id=ada&entity=Ada&depth=2", "")
	if around.status != 200 || !strings.Contains(h.plain(around.body), `"id":"id1"`) || !strings.Contains(around.body, `"target":"Acme"`) {
		t.Errorf("answered %d %s", around.status, around.body)
	}
	h.want(t, h.as(t, "ada", "DELETE", "/v1/relationships/"+h.named(t, "id1"), ""), 200,
		`{"id":"id1","deleted":true,"relationship":{"id":"id1","user_id":"ada","source":"Ada","relationship":"works_at","target":"Acme","confidence":0.8,"metadata":{"since":2020},"created_at":"now"}}`,
		`relationship_deleted ada {"source":"Ada","relationship":"works_at","target":"Acme","result":{"id":"id1","confidence":0.8}}`)
	wantProblem(t, h.as(t, "ada", "DELETE", "/v1/relationships/"+h.named(t, "id1"), ""), 404, "not_found", "")
}

func TestRunsAreFollowed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, tc := range []struct{ path, body, kind string }{
		{"/v1/graph/build", `{"user_id":"ada"}`, "graph_build"},
		{"/v1/memories/optimize", `{"user_id":"ada"}`, "optimize"},
		{"/v1/memories/optimize", `{"user_id":"ada","dry_run":true}`, "optimize"},
	} {
		a := h.as(t, "ada", "POST", tc.path, tc.body)
		id := idOf(t, a)
		if a.status != 202 || a.header.Get("Location") != "/v1/jobs/"+id || !strings.Contains(a.body, `"kind":"`+tc.kind+`"`) {
			t.Errorf("%s answered %d at %q: %s", tc.path, a.status, a.header.Get("Location"), a.body)
		}
		if again := h.as(t, "ada", "GET", a.header.Get("Location"), ""); again.status != 200 || again.body != a.body {
			t.Errorf("the job is %d %s, was %s", again.status, again.body, a.body)
		}
		wantProblem(t, h.as(t, "bob", "GET", a.header.Get("Location"), ""), 404, "not_found", "")
	}
}

func TestSearch(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i := range 5 {
		h.memoryOf(t, "ada", fmt.Sprintf("tea number %d", i))
	}
	h.memoryOf(t, "bob", "tea of another")
	a := h.as(t, "ada", "POST", "/v1/memories/search", `{"user_id":"ada","query":"tea","limit":4,"kind":"fact","metadata":{},"since":"2020-01-01T00:00:00Z","until":"2100-01-01T00:00:00+02:00"}`)
	var found struct {
		Results []struct {
			ID, Content string
			UserID      string `json:"user_id"`
			Score       float64
		}
		Count int
	}
	if err := json.Unmarshal([]byte(a.body), &found); err != nil || a.status != 200 || found.Count != 4 || len(found.Results) != 4 {
		t.Fatalf("answered %d %s, %v", a.status, a.body, err)
	}
	first := found.Results[:3]
	want := `memory_searched ada {"query":"tea","limit":4,"results_count":4,"memories":[`
	for i, r := range first {
		if r.UserID != "ada" || r.Score <= 0 {
			t.Errorf("found %+v", r)
		}
		want += fmt.Sprintf(`{"id":"%s","content":%q,"metadata":{}}`, h.plain(r.ID), r.Content) + []string{",", ",", "]}"}[i]
	}
	if diff := cmp.Diff([]string{want}, h.told(t, a.header.Get("X-Request-Id"))); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	h.want(t, h.as(t, "ada", "POST", "/v1/memories/search", `{"user_id":"ada","query":"zebra"}`), 200, `{"results":[],"count":0}`,
		`memory_searched ada {"query":"zebra","limit":10,"results_count":0,"memories":[]}`)
	// What cannot be told of is not answered either.
	h.exec(t, `ALTER TABLE outbox ADD CHECK (event <> 'memory_searched') NOT VALID`)
	wantProblem(t, h.as(t, "ada", "POST", "/v1/memories/search", `{"user_id":"ada","query":"tea"}`), 500, "internal", "")
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var made []string
	for i := range 5 {
		made = append([]string{h.memoryOf(t, "ada", fmt.Sprint(i))}, made...) // newest first
	}
	type page struct {
		Memories []struct{ ID string }
		Next     string `json:"next_cursor"`
	}
	var got []string
	path, pages := "/v1/memories?user_id=ada&kind=fact&limit=2", 0
	for cursor := ""; ; pages++ {
		a := h.as(t, "ada", "GET", path+cursor, "")
		var p page
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 200 {
			t.Fatalf("answered %d %s, %v", a.status, a.body, err)
		}
		for _, m := range p.Memories {
			got = append(got, m.ID)
		}
		if p.Next == "" {
			break
		}
		cursor = "&cursor=" + p.Next
	}
	if diff := cmp.Diff(made, got); diff != "" || pages != 2 {
		t.Errorf("%d pages before the last; listed (-want +got):\n%s", pages, diff)
	}
	h.want(t, h.as(t, "ada", "GET", "/v1/memories?user_id=ada&kind=note", ""), 200, `{"memories":[]}`)
}

func TestWhatFollowsTheCRMIsReadOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m, l := h.fromCRM(t, "Contacts", "5")
	before := h.stored(t)
	for _, tc := range []struct{ method, path, body, operation string }{
		{"PATCH", "/v1/memories/" + m, `{"content":"x"}`, "update"},
		{"DELETE", "/v1/memories/" + m, "", "delete"},
		{"DELETE", "/v1/relationships/" + l, "", "relationship_delete"},
	} {
		a := h.as(t, "ada", tc.method, tc.path, tc.body)
		wantProblem(t, a, 409, "read_only", "")
		want := []string{`memory_error zoho:77 {"operation":"` + tc.operation + `","error":"This follows a record of the CRM: change it there.","items_count":1}`}
		if diff := cmp.Diff(want, h.told(t, a.header.Get("X-Request-Id"))); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	}
	h.want(t, h.as(t, "ada", "DELETE", "/v1/memories?user_id=zoho:77", ""), 200, `{"user_id":"zoho:77","deleted":0,"kept":1}`)
	if after := h.stored(t); after != before {
		t.Errorf("there are %s, were %s", after, before)
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	wantProblem(t, h.as(t, "ada", "GET", "/v1/accounts/77", ""), 404, "not_found", "")
	h.fromCRM(t, "Accounts", "77")
	a := h.as(t, "ada", "GET", "/v1/accounts/77", "")
	h.want(t, a, 200, `{"id":"77","user_id":"zoho:77","overview":{"id":"id1","user_id":"zoho:77","kind":"account","content":"Accounts 77","metadata":{},`+
		`"account_id":"77","module":"Accounts","record_id":"77","created_at":"now","updated_at":"now"},"memories":[],"more":false,"relationships_count":1,"events":[]}`)
	for _, id := range []string{"78", "7%37x", "%00", "%ff", strings.Repeat("7", 300), "50%25", "a%2Fb"} {
		wantProblem(t, h.as(t, "all", "GET", "/v1/accounts/"+id, ""), 404, "not_found", "")
	}
	// A path may be escaped, whatever for.
	if got := h.as(t, "ada", "GET", "/v1/accounts/7%37", ""); got.body != a.body {
		t.Errorf("answered %d %s", got.status, got.body)
	}
	// Without its own user there is no account.
	wantProblem(t, h.as(t, "bob", "GET", "/v1/accounts/77", ""), 404, "not_found", "")
}

// The sender's own id is what webhooks and problems name, so that both sides can
// be put together.
func TestTheRequestIsNamedInWhatIsTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for id, body := range map[string]string{"ours-1": `{"user_id":"ada","content":"x"}`, "ours-2": `{"user_id":"ada","content":""}`} {
		a := h.do(t, request{token: "ada", method: "POST", path: "/v1/memories", body: body, header: http.Header{"X-Request-Id": {id}}})
		if told := h.told(t, id); len(told) != 1 || a.header.Get("X-Request-Id") != id {
			t.Errorf("%s: told %v, answered under %s", id, told, a.header.Get("X-Request-Id"))
		}
	}
}

func TestUnknownAddresses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	wantProblem(t, h.as(t, "ada", "GET", "/v1/nothing", ""), 404, "not_found", "")
	wantProblem(t, h.as(t, "ada", "PUT", "/v1/memories", `{}`), 405, "method_not_allowed", "")
}
