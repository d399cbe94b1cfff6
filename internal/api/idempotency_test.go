package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writes are all that take an Idempotency-Key, with what they store or tell.
func (h *house) writes(t *testing.T) []request {
	t.Helper()
	changed, gone := h.memoryOf(t, "ada", "to change"), h.memoryOf(t, "ada", "to go")
	line := idOf(t, h.as(t, "ada", "POST", "/v1/relationships", `{"user_id":"ada","source":"old","relationship":"r","target":"t"}`))
	return []request{
		{method: "POST", path: "/v1/memories", body: `{"user_id":"ada","content":"x","metadata":{"n":12345678901234567890}}`},
		{method: "POST", path: "/v1/memories/batch", body: `{"user_id":"ada","items":[{"content":"x"},{"content":"y"}]}`},
		{method: "POST", path: "/v1/preferences", body: `{"user_id":"ada","preference":"x"}`},
		{method: "POST", path: "/v1/corrections", body: `{"user_id":"ada","original":"x","corrected":"y"}`},
		{method: "POST", path: "/v1/relationships", body: `{"user_id":"ada","source":"s","relationship":"r","target":"t"}`},
		{method: "POST", path: "/v1/graph/build", body: `{"user_id":"ada"}`},
		{method: "POST", path: "/v1/memories/optimize", body: `{"user_id":"ada"}`},
		{method: "PATCH", path: "/v1/memories/" + changed, body: `{"content":"changed"}`},
		{method: "DELETE", path: "/v1/memories/" + gone},
		{method: "DELETE", path: "/v1/relationships/" + line},
	}
}

// keyed is q with a key.
func keyed(q request, key string) request {
	q.token, q.header = "ada", http.Header{"Idempotency-Key": {key}}
	return q
}

func TestARepeatHasTheSameAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i, q := range h.writes(t) {
		q = keyed(q, fmt.Sprint("key-", i))
		first := h.do(t, q)
		if first.status/100 != 2 {
			t.Fatalf("%s %s is answered %d %s", q.method, q.path, first.status, first.body)
		}
		before := h.stored(t)
		second := h.do(t, q)
		if diff := cmp.Diff(first.body, second.body); first.status != second.status || diff != "" {
			t.Errorf("%s %s is answered %d, then %d (-first +second):\n%s", q.method, q.path, first.status, second.status, diff)
		}
		if after := h.stored(t); after != before {
			t.Errorf("%s %s: there are %s, were %s", q.method, q.path, after, before)
		}
	}
}

func TestManyAtOnceWithOneKey(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for i, q := range h.writes(t) {
		q = keyed(q, fmt.Sprint("key-", i))
		answers := make([]answer, 20)
		var clients sync.WaitGroup
		for n := range answers {
			clients.Go(func() {
				var err error
				if answers[n], err = h.try(t.Context(), q); err != nil {
					t.Error(err)
				}
			})
		}
		clients.Wait()
		told := 0
		for _, a := range answers {
			if a.status != answers[0].status || a.body != answers[0].body || a.status/100 != 2 {
				t.Errorf("%s %s is answered %d %s and %d %s", q.method, q.path, answers[0].status, answers[0].body, a.status, a.body)
			}
			told += len(h.told(t, a.header.Get("X-Request-Id")))
		}
		want := 1
		if strings.HasSuffix(q.path, "/build") || strings.HasSuffix(q.path, "/optimize") {
			want = 0 // is told when it is done
		}
		if told != want {
			t.Errorf("%s %s is told %d times, want %d", q.method, q.path, told, want)
		}
	}
	if got, want := h.stored(t), "6 memories, 9 changes, 1 lines, 2 runs, 10 keys, 11 told"; got != want {
		t.Errorf("there are %s, want %s", got, want)
	}
}

func TestAKeyIsForOneRequest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := h.memoryOf(t, "ada", "likes tea")
	q := keyed(request{method: "POST", path: "/v1/memories", body: `{"user_id":"ada","content":"x"}`}, "the-key")
	first := h.do(t, q)
	before := h.stored(t)
	for name, other := range map[string]request{
		"another body":   {method: "POST", path: "/v1/memories", body: `{"user_id":"ada","content":"y"}`},
		"another route":  {method: "POST", path: "/v1/preferences", body: `{"user_id":"ada","preference":"x"}`},
		"another method": {method: "DELETE", path: "/v1/memories/" + m},
		"a run":          {method: "POST", path: "/v1/graph/build", body: `{"user_id":"ada"}`},
	} {
		a := h.do(t, keyed(other, "the-key"))
		wantProblem(t, a, 422, "idempotency_key_reused", "Idempotency-Key")
		if told := h.told(t, a.header.Get("X-Request-Id")); len(told) != 1 || !strings.HasPrefix(told[0], "memory_error ada ") {
			t.Errorf("%s told %v", name, told)
		}
	}
	if after := h.stored(t); after != before {
		t.Errorf("there are %s, were %s", after, before)
	}
	// Two routes that take the same body are two requests.
	run := request{method: "POST", path: "/v1/graph/build", body: `{"user_id":"ada"}`}
	h.do(t, keyed(run, "a-run"))
	run.path = "/v1/memories/optimize"
	wantProblem(t, h.do(t, keyed(run, "a-run")), 422, "idempotency_key_reused", "Idempotency-Key")
	// Keys are each token's own.
	q.token = "all"
	if a := h.do(t, q); a.status != 201 || a.body == first.body {
		t.Errorf("another token is answered %d %s", a.status, a.body)
	}
	// What came to nothing has not used its key up.
	for _, body := range []string{`{"user_id":"ada","content":""}`, `{"user_id":"ada","content":"z"}`} {
		h.do(t, keyed(request{method: "POST", path: "/v1/memories", body: body}, "the-other-key"))
	}
	if n := rows[int](t, h, `SELECT count(*)::int FROM memories WHERE content = 'z'`)[0]; n != 1 {
		t.Errorf("stored %d times, want 1", n)
	}
}
