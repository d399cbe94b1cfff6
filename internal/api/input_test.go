package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/api"
	"github.com/memrelay/memrelay/internal/memory"
)

// bad is a request that must change nothing.
type bad struct {
	name         string
	method, path string
	body         string
	header       http.Header
	status       int
	code, field  string
	// operation and items are what memory_error says; "": nobody is told.
	operation string
	items     int
}

const form = "application/x-www-form-urlencoded"

// nested is JSON of that many objects inside one another.
func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
}

func invalid(name, method, path, body, field, operation string) bad {
	return bad{name: name, method: method, path: path, body: body, status: 422, code: "invalid_field", field: field, operation: operation, items: 1}
}

func badMemories(one string) []bad {
	add := func(name, body, field string) bad { return invalid(name, "POST", "/v1/memories", body, field, "add") }
	patch := func(name, body, field string) bad { return invalid(name, "PATCH", one, body, field, "update") }
	return []bad{
		add("no content", `{"user_id":"ada"}`, "content"),
		add("empty content", `{"user_id":"ada","content":""}`, "content"),
		add("content of spaces", `{"user_id":"ada","content":" \n\t"}`, "content"),
		add("null for content", `{"user_id":"ada","content":null}`, "content"),
		add("too much content", `{"user_id":"ada","content":"`+strings.Repeat("x", memory.MaxContent+1)+`"}`, "content"),
		add("a NUL in the content", `{"user_id":"ada","content":"a\u0000b"}`, "content"),
		add("a number for content", `{"user_id":"ada","content":5}`, "content"),
		add("content and messages", `{"user_id":"ada","content":"x","messages":[{"role":"user","content":"y"}]}`, "content"),
		add("no messages", `{"user_id":"ada","messages":[]}`, "content"),
		add("a message without a role", `{"user_id":"ada","messages":[{"role":"user","content":"y"},{"content":"y"}]}`, "messages[1].role"),
		add("a message without content", `{"user_id":"ada","messages":[{"role":"user"}]}`, "messages[0].content"),
		add("an unknown field of a message", `{"user_id":"ada","messages":[{"role":"user","content":"y","name":"z"}]}`, "messages[0].name"),
		add("a message that is text", `{"user_id":"ada","messages":["hi"]}`, "messages[0]"),
		add("messages that are text", `{"user_id":"ada","messages":"hi"}`, "messages"),
		add("too much in all messages", `{"user_id":"ada","messages":[`+strings.Repeat(`{"role":"u","content":"`+strings.Repeat("x", 1000)+`"},`, 70)+`{"role":"u","content":"x"}]}`, "messages"),
		add("an unknown kind", `{"user_id":"ada","content":"x","kind":"poem"}`, "kind"),
		add("a field that is typed wrong", `{"user_id":"ada","content":"x","kinds":"note"}`, "kinds"),
		add("a field in another case", `{"user_id":"ada","Content":"x"}`, "Content"),
		add("a field of a long name", `{"user_id":"ada","`+strings.Repeat("x", 1000)+`":1}`, strings.Repeat("x", 64)+"…"),
		add("a field twice", `{"user_id":"ada","content":"x","content":"y"}`, "content"),
		add("metadata that is a list", `{"user_id":"ada","content":"x","metadata":[]}`, "metadata"),
		add("metadata that is too large", `{"user_id":"ada","content":"x","metadata":{"a":"`+strings.Repeat("x", memory.MaxMetadata)+`"}}`, "metadata"),
		add("metadata that is a level too deep", `{"user_id":"ada","content":"x","metadata":`+nested(memory.MaxMetadataDepth+1)+`}`, "metadata"),
		add("metadata that is a bomb", `{"user_id":"ada","content":"x","metadata":`+nested(100_000)+`}`, "metadata"),
		add("metadata that is an open bomb", `{"user_id":"ada","content":"x","metadata":`+strings.Repeat(`[`, 1_000_000), "metadata"),
		add("a number that would fill a page", `{"user_id":"ada","content":"x","metadata":{"n":1e999999}}`, "metadata"),
		add("a NUL in the metadata", `{"user_id":"ada","content":"x","metadata":{"a":["\u0000"]}}`, "metadata"),
		add("a NUL in a key", `{"user_id":"ada","content":"x","metadata":{"a\u0000":1}}`, "metadata"),
		add("a time that is over", `{"user_id":"ada","content":"x","expires_at":"2020-01-01T00:00:00Z"}`, "expires_at"),
		add("no time at all", `{"user_id":"ada","content":"x","expires_at":"0001-01-01T00:00:00Z"}`, "expires_at"),
		add("a time without a zone", `{"user_id":"ada","content":"x","expires_at":"2100-01-01T00:00:00"}`, "expires_at"),
		add("a time as a number", `{"user_id":"ada","content":"x","expires_at":4102444800}`, "expires_at"),
		add("a parameter that is none", `{"user_id":"ada","content":"x"}`, "dry_run").at("/v1/memories?dry_run=true"),
		add("no user", `{"content":"x"}`, "user_id").quiet(),
		add("a user that is a number", `{"user_id":7,"content":"x"}`, "user_id").quiet(),
		add("a user with a NUL", `{"user_id":"ada\u0000","content":"x"}`, "user_id").quiet(),
		add("a user that is too long", `{"user_id":"`+strings.Repeat("x", 256)+`","content":"x"}`, "user_id").quiet(),

		patch("nothing to change", `{}`, "content"),
		patch("nulls to change", `{"content":null,"metadata":null}`, "content"),
		patch("empty content to change", `{"content":""}`, "content"),
		patch("a NUL to change", `{"content":"\u0000"}`, "content"),
		patch("a kind to change", `{"kind":"note"}`, "kind"),
		patch("a user to change", `{"content":"x","user_id":"bob"}`, "user_id"),
		patch("a bomb to change", `{"metadata":`+nested(memory.MaxMetadataDepth+1)+`}`, "metadata"),
	}
}

func badLists() []bad {
	list := func(name, query, field string) bad {
		return invalid(name, "GET", "/v1/memories"+query, "", field, "").quiet()
	}
	graph := func(name, query, field string) bad {
		return invalid(name, "GET", "/v1/graph"+query, "", field, "graph")
	}
	return []bad{
		list("a list of nobody", "", "user_id"),
		list("a list of a NUL", "?user_id=%00", "user_id"),
		list("a list of what is not UTF-8", "?user_id=%ff", "user_id"),
		list("a list of two", "?user_id=ada&user_id=bob", "user_id"),
		list("a list of an unknown kind", "?user_id=ada&kind=poem", "kind"),
		list("a list of none", "?user_id=ada&limit=0", "limit"),
		list("a list of very many", "?user_id=ada&limit=1000000000", "limit"),
		list("a list of more than there are numbers", "?user_id=ada&limit=99999999999999999999", "limit"),
		list("a list of some", "?user_id=ada&limit=some", "limit"),
		list("a cursor that is none", "?user_id=ada&cursor=!", "cursor"),
		list("a cursor from elsewhere", "?user_id=ada&cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
		list("an unknown parameter", "?user_id=ada&page=2", "page"),
		{name: "a query that is none", method: "GET", path: "/v1/memories?user_id=%zz", status: 400, code: "invalid_query"},
		graph("a graph of nobody", "?entity=Ada", "user_id").quiet(),
		graph("a graph of no depth", "?user_id=ada&entity=Ada&depth=0", "depth"),
		graph("a graph of great depth", "?user_id=ada&entity=Ada&depth=1000000000", "depth"),
		graph("a graph of some depth", "?user_id=ada&entity=Ada&depth=some", "depth"),
		graph("a graph around a NUL", "?user_id=ada&entity=a%00", "entity"),
		graph("a graph around too much", "?user_id=ada&entity="+strings.Repeat("x", 256), "entity"),
		invalid("everything of nobody", "DELETE", "/v1/memories", "", "user_id", "").quiet(),
		invalid("everything of one kind", "DELETE", "/v1/memories?user_id=ada&kind=note", "", "kind", "delete_all"),
	}
}

func badOthers() []bad {
	post := func(operation, path, name, body, field string) bad {
		return invalid(name, "POST", path, body, field, operation)
	}
	search := func(name, body, field string) bad { return post("search", "/v1/memories/search", name, body, field) }
	batch := func(items int, name, body, field string) bad {
		b := post("batch", "/v1/memories/batch", name, body, field)
		b.items = items
		return b
	}
	line := func(name, body, field string) bad {
		return post("relationship", "/v1/relationships", name, body, field)
	}
	return []bad{
		search("a search of nobody", `{"query":"x"}`, "user_id").quiet(),
		search("a search of everybody", `{"user_id":"","query":"x"}`, "user_id").quiet(),
		search("a search for nothing", `{"user_id":"ada","query":" "}`, "query"),
		search("a search for a NUL", `{"user_id":"ada","query":"a\u0000"}`, "query"),
		search("a search for too much", `{"user_id":"ada","query":"`+strings.Repeat("x", memory.MaxQuery+1)+`"}`, "query"),
		search("a search of none", `{"user_id":"ada","query":"x","limit":0}`, "limit"),
		search("a search of very many", `{"user_id":"ada","query":"x","limit":1000000000}`, "limit"),
		search("a search of half a memory", `{"user_id":"ada","query":"x","limit":1.5}`, "limit"),
		search("a search of an unknown kind", `{"user_id":"ada","query":"x","kind":"poem"}`, "kind"),
		search("a search of deep metadata", `{"user_id":"ada","query":"x","metadata":`+nested(9)+`}`, "metadata"),
		search("a search since yesterday", `{"user_id":"ada","query":"x","since":"yesterday"}`, "since"),
		search("a search until a number", `{"user_id":"ada","query":"x","until":1}`, "until"),

		batch(1, "no batch", `{"user_id":"ada"}`, "items"),
		batch(1, "an empty batch", `{"user_id":"ada","items":[]}`, "items"),
		batch(memory.MaxBatch+1, "too many items", `{"user_id":"ada","items":[`+strings.Repeat(`{"content":"x"},`, memory.MaxBatch)+`{"content":"x"}]}`, "items"),
		batch(memory.MaxBatch+1, "too many items, which are not looked at", `{"user_id":"ada","items":[`+strings.Repeat(`{"x":1},`, memory.MaxBatch)+`{}]}`, "items"),
		batch(3, "one item that is wrong", `{"user_id":"ada","items":[{"content":"x"},{"content":"y"},{"content":""}]}`, "items[2].content"),
		batch(2, "an item of an unknown kind", `{"user_id":"ada","items":[{"content":"x"},{"content":"y","kind":"poem"}]}`, "items[1].kind"),
		batch(2, "an unknown field of an item", `{"user_id":"ada","items":[{"content":"x"},{"content":"y","user_id":"bob"}]}`, "items[1].user_id"),
		batch(1, "an item that is deep", `{"user_id":"ada","items":[{"content":"x","metadata":`+nested(9)+`}]}`, "items[0].metadata"),
		batch(1, "items that are an object", `{"user_id":"ada","items":{}}`, "items"),
		batch(1, "a batch of nobody", `{"items":[{"content":"x"}]}`, "user_id").quiet(),

		post("preference", "/v1/preferences", "no preference", `{"user_id":"ada"}`, "preference"),
		post("preference", "/v1/preferences", "a category that is too long", `{"user_id":"ada","preference":"x","category":"`+strings.Repeat("x", 256)+`"}`, "category"),
		post("preference", "/v1/preferences", "a preference of nobody", `{"preference":"x"}`, "user_id").quiet(),
		post("preference", "/v1/preferences", "a preference with content", `{"user_id":"ada","preference":"x","content":"y"}`, "content"),
		post("correction", "/v1/corrections", "nothing that was wrong", `{"user_id":"ada","corrected":"x"}`, "original"),
		post("correction", "/v1/corrections", "nothing that is right", `{"user_id":"ada","original":"x"}`, "corrected"),
		post("correction", "/v1/corrections", "a NUL around a correction", `{"user_id":"ada","original":"x","corrected":"y","context":"\u0000"}`, "context"),

		line("no source", `{"user_id":"ada","relationship":"r","target":"t"}`, "source"),
		line("no relationship", `{"user_id":"ada","source":"s","target":"t"}`, "relationship"),
		line("no target", `{"user_id":"ada","source":"s","relationship":"r"}`, "target"),
		line("a target that is too long", `{"user_id":"ada","source":"s","relationship":"r","target":"`+strings.Repeat("x", 256)+`"}`, "target"),
		line("more than sure", `{"user_id":"ada","source":"s","relationship":"r","target":"t","confidence":1.01}`, "confidence"),
		line("sure in words", `{"user_id":"ada","source":"s","relationship":"r","target":"t","confidence":"very"}`, "confidence"),
		line("surer than there are numbers", `{"user_id":"ada","source":"s","relationship":"r","target":"t","confidence":1e999}`, "confidence"),
		line("a line of deep metadata", `{"user_id":"ada","source":"s","relationship":"r","target":"t","metadata":`+nested(9)+`}`, "metadata"),

		post("graph_build", "/v1/graph/build", "a graph of nobody to build", `{}`, "user_id").quiet(),
		post("graph_build", "/v1/graph/build", "a graph to build in jest", `{"user_id":"ada","dry_run":true}`, "dry_run"),
		post("optimize", "/v1/memories/optimize", "nobody to optimize", `{}`, "user_id").quiet(),
		post("optimize", "/v1/memories/optimize", "optimize in words", `{"user_id":"ada","dry_run":"yes"}`, "dry_run"),
	}
}

// badBodies are wrong before anybody knows what they say.
func badBodies() []bad {
	fine := `{"user_id":"ada","content":"x"}`
	post := func(name, body string, status int, code string, header http.Header) bad {
		return bad{name: name, method: "POST", path: "/v1/memories", body: body, header: header, status: status, code: code}
	}
	key := func(name string, keys ...string) bad {
		b := invalid(name, "POST", "/v1/memories", fine, "Idempotency-Key", "add")
		b.header = http.Header{"Idempotency-Key": keys}
		return b
	}
	return []bad{
		post("no body", "", 400, "invalid_json", nil),
		post("a body of spaces", " \n", 400, "invalid_json", nil),
		post("half a body", `{"user_id":"ada"`, 400, "invalid_json", nil),
		post("a body and more", fine+fine, 400, "invalid_json", nil),
		post("a body and a bracket", fine+`]`, 400, "invalid_json", nil),
		post("a list for a body", `[`+fine+`]`, 400, "invalid_json", nil),
		post("null for a body", `null`, 400, "invalid_json", nil),
		post("brackets alone", strings.Repeat("[", 100_000), 400, "invalid_json", nil),
		post("a raw NUL", "{\"user_id\":\"ada\",\"content\":\"a\x00\"}", 400, "invalid_json", nil),
		post("what is not UTF-8", "{\"user_id\":\"ada\",\"content\":\"\xff\"}", 400, "invalid_json", nil),
		post("a form", "user_id=ada", 415, "unsupported_media_type", http.Header{"Content-Type": {form}}),
		post("JSON that is called a form", fine, 415, "unsupported_media_type", http.Header{"Content-Type": {form}}),
		post("a type that is none", fine, 415, "unsupported_media_type", http.Header{"Content-Type": {";"}}),
		post("more than a body may be", strings.Repeat(" ", api.MaxBody+1), 413, "body_too_large", nil),
		key("an empty key", ""),
		key("a key with a space", "a b"),
		key("a key beyond ASCII", "schlüssel"),
		key("a key that is too long", strings.Repeat("k", 256)),
		key("two keys", "a", "b"),
	}
}

// at is b at another address.
func (b bad) at(path string) bad {
	b.path = path
	return b
}

// quiet is b where there is nobody to be told.
func (b bad) quiet() bad {
	b.operation = ""
	return b
}

func TestBadInputChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	one := "/v1/memories/" + h.memoryOf(t, "ada", "likes tea")
	before := h.stored(t)
	var all []bad
	for _, some := range [][]bad{badMemories(one), badLists(), badOthers(), badBodies()} {
		all = append(all, some...)
	}
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			a := h.do(t, request{token: "ada", method: b.method, path: b.path, body: b.body, header: b.header})
			wantProblem(t, a, b.status, b.code, b.field)
			told := h.told(t, a.header.Get("X-Request-Id"))
			if b.operation == "" {
				if len(told) > 0 {
					t.Errorf("told %v, want nothing", told)
				}
				return
			}
			prefix, suffix := `memory_error ada {"operation":"`+b.operation+`","error":"`, fmt.Sprintf(`","items_count":%d}`, b.items)
			if len(told) != 1 || !strings.HasPrefix(told[0], prefix) || !strings.HasSuffix(told[0], suffix) {
				t.Errorf("told %v, want %s … %s", told, prefix, suffix)
			}
		})
	}
	if after := h.stored(t); after != before {
		t.Errorf("there are %s, were %s", after, before)
	}
}

// What the answer says is what is told: nothing of the inside goes out.
func TestTheErrorThatIsToldIsTheAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.as(t, "ada", "POST", "/v1/memories", `{"user_id":"ada","content":"x","kind":"poem"}`)
	want := `kind: want one of ` + strings.Join(memory.Kinds(), " ") + `.`
	if !strings.Contains(a.body, `"detail":"`+want+`"`) {
		t.Errorf("answered %s", a.body)
	}
	if diff := cmp.Diff([]string{`memory_error ada {"operation":"add","error":"` + want + `","items_count":1}`}, h.told(t, a.header.Get("X-Request-Id"))); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	// A fault of the database itself is told without its words.
	h.exec(t, `ALTER TABLE memories ADD CONSTRAINT no_secrets CHECK (content <> 'hunter2')`)
	a = h.as(t, "ada", "POST", "/v1/memories", `{"user_id":"ada","content":"hunter2"}`)
	wantProblem(t, a, 500, "internal", "")
	told := h.told(t, a.header.Get("X-Request-Id"))
	if len(told) != 1 || strings.Contains(told[0]+a.body, "hunter2") || strings.Contains(told[0]+a.body, "no_secrets") {
		t.Errorf("told %v, answered %s", told, a.body)
	}
	if got := h.stored(t); !strings.HasPrefix(got, "0 memories, 0 changes") {
		t.Errorf("there are %s", got)
	}
}

// Whoever is to be told cannot hold up the answer, or change it.
func TestAFailureThatCannotBeToldIsAnsweredAllTheSame(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.exec(t, `ALTER TABLE outbox ADD CHECK (event <> 'memory_error')`)
	wantProblem(t, h.as(t, "ada", "POST", "/v1/memories", `{"user_id":"ada","content":""}`), 422, "invalid_field", "content")
}

func TestContentTypesThatAreJSON(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, contentType := range []string{"application/json", "application/json; charset=utf-8", "Application/JSON"} {
		a := h.do(t, request{
			token: "ada", method: "POST", path: "/v1/memories", body: `{"user_id":"ada","content":"x"}`,
			header: http.Header{"Content-Type": {contentType}},
		})
		if a.status != 201 {
			t.Errorf("%s is answered %d %s", contentType, a.status, a.body)
		}
	}
}
