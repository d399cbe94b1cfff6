package catalogue_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/memrelay/memrelay/internal/catalogue"
	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

func newCatalogue(t testing.TB) *catalogue.Catalogue {
	t.Helper()
	c, err := catalogue.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryEventStandsInTheCatalogue(t *testing.T) {
	t.Parallel()
	var names []string
	for _, e := range newCatalogue(t).Types() {
		names = append(names, e.Name)
		if e.Description == "" {
			t.Errorf("%s has no description", e.Name)
		}
	}
	if diff := cmp.Diff(slices.Concat(memory.Events(), memory.OperationalEvents()), names); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// The served bytes are what somebody's validator gets, so they are read back.
func TestServedExamplesAreAsTheServedSchemasSay(t *testing.T) {
	t.Parallel()
	c := newCatalogue(t)
	for _, e := range c.Types() {
		served, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var read struct {
			Schema  *jsonschema.Schema
			Example map[string]any
		}
		if err := json.Unmarshal(served, &read); err != nil {
			t.Fatal(err)
		}
		if read.Schema.Schema != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s: the schema is of draft %q", e.Name, read.Schema.Schema)
		}
		resolved, err := read.Schema.Resolve(nil)
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		if err := resolved.Validate(read.Example); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		// A receiver of today understands what a later version sends.
		read.Example["more"] = 1
		read.Example["data"].(map[string]any)["more"] = 1
		if err := resolved.Validate(read.Example); err != nil {
			t.Errorf("%s with a field more: %v", e.Name, err)
		}
		read.Example["event"] = "memory_eaten"
		if resolved.Validate(read.Example) == nil {
			t.Errorf("the schema of %s is content with another event", e.Name)
		}
		undescribed(t, e.Name, read.Schema)
	}
}

// undescribed complains of every field without a word about it.
func undescribed(t *testing.T, path string, s *jsonschema.Schema) {
	t.Helper()
	for name, field := range s.Properties {
		if field.Description == "" {
			t.Errorf("%s.%s has no description", path, name)
		}
		undescribed(t, path+"."+name, field)
	}
	if s.Items != nil {
		undescribed(t, path+"[]", s.Items)
	}
}

// each calls do with every object inside value, by its path.
func each(path string, value any, do func(path string, object map[string]any)) {
	switch v := value.(type) {
	case map[string]any:
		do(path, v)
		for key, inner := range v {
			if key != "metadata" {
				each(path+"."+key, inner, do)
			}
		}
	case []any:
		for _, inner := range v {
			each(path+"[]", inner, do)
		}
	}
}

func read(t *testing.T, text []byte) (value map[string]any) {
	t.Helper()
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// A field that is missing, null, of another kind or not in the catalogue is found
// wherever it stands.
func TestCheckFindsEveryWrongField(t *testing.T) {
	t.Parallel()
	c := newCatalogue(t)
	for _, e := range c.Types() {
		if err := c.Check(e.Example); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		value := read(t, e.Example)
		refused := func(what string) {
			t.Helper()
			payload, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if c.Check(payload) == nil {
				t.Errorf("%s is fine with %s", e.Name, what)
			}
		}
		each("payload", value, func(path string, object map[string]any) {
			object["unheard_of"] = 1
			refused(path + ".unheard_of")
			delete(object, "unheard_of")
			for key, was := range object {
				// Absent after a sync, or of an endpoint, that did not fail.
				optional := (e.Name == memory.SyncFailed && key == "error") || key == "failing_since"
				if delete(object, key); !optional {
					refused("no " + path + "." + key)
				}
				object[key] = nil
				refused(path + "." + key + " null")
				object[key] = true
				refused(path + "." + key + " true")
				object[key] = was
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	c := newCatalogue(t)
	example := func(name string) string {
		e, ok := c.Type(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		return string(e.Example)
	}
	swap := func(name, old, new string) string {
		text := example(name)
		if !strings.Contains(text, old) {
			t.Fatalf("%s is not in %s", old, text)
		}
		return strings.Replace(text, old, new, 1)
	}
	for name, tc := range map[string]struct{ payload, says string }{
		"metadata may be anything":         {swap(memory.Added, `{"channel":"chat"}`, `{"a":[1,{"b":null}],"id":57257670000004990020000000001}`), ""},
		"no metadata is an object":         {swap(memory.Added, `{"channel":"chat"}`, `{}`), ""},
		"a request's own id":               {swap(memory.Added, "01a201a3-89ed-769a-b1f9-2106af11e64b", "req-1"), ""},
		"no JSON":                          {`{"event":`, "read a payload"},
		"a list":                           {`[]`, "read a payload"},
		"null":                             {`null`, `no event ""`},
		"two payloads":                     {example(memory.Added) + example(memory.Added), "something follows"},
		"an event that nobody knows":       {swap(memory.Added, memory.Added, "memory_eaten"), `no event "memory_eaten"`},
		"another event's data":             {swap(memory.Added, memory.Added, memory.Updated), memory.Updated},
		"an id that is none":               {swap(memory.Added, "01a201a3-85e8", "01A201A3-85e8"), "data/properties/result/properties/id"},
		"no request_id":                    {swap(memory.Added, "01a201a3-89ed-769a-b1f9-2106af11e64b", ""), "request_id"},
		"a time that is not in UTC":        {swap(memory.Added, "969Z", "969+01:00"), "timestamp"},
		"a count below zero":               {swap(memory.Optimized, `"merged":5`, `"merged":-5`), "merged"},
		"a count that is not whole":        {swap(memory.Optimized, `"merged":5`, `"merged":0.5`), "merged"},
		"surer than sure":                  {swap(memory.RelationshipAdded, `"confidence":0.9`, `"confidence":1.1`), "confidence"},
		"an endpoint that did not fail":    {swap(memory.EndpointDisabled, `,"failing_since":"2026-11-22T04:01:09.118402Z"`, ""), ""},
		"a list that is null, not empty":   {swap(memory.BatchOperationCompleted, `"ids":[`, `"ids":null,"x":[`), memory.BatchOperationCompleted},
		"a search that found nothing":      {`{"event":"memory_searched","user_id":"u","data":{"query":"q","limit":5,"results_count":0,"memories":[]},"timestamp":"2026-11-22T05:03:44Z","source":"s","bot_version":"1","request_id":"r"}`, ""},
		"a search that found null":         {`{"event":"memory_searched","user_id":"u","data":{"query":"q","limit":5,"results_count":0,"memories":null},"timestamp":"2026-11-22T05:03:44Z","source":"s","bot_version":"1","request_id":"r"}`, "memories"},
		"a search with four memories told": {swap(memory.Searched, `"memories":[`, `"memories":[`+strings.Repeat(`{"id":"01a201a3-89ed-769a-b1f9-2106af11e64b","content":"c","metadata":{}},`, 3)), "memories"},
	} {
		err := c.Check([]byte(tc.payload))
		if tc.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: error %v, want one that says %s", name, err, tc.says)
		}
	}
}

// Whoever emits an event may say more than the catalogue names, and not less.
func TestCheckData(t *testing.T) {
	t.Parallel()
	c := newCatalogue(t)
	for _, e := range c.Types() {
		data, ok := read(t, e.Example)["data"].(map[string]any)
		if !ok {
			t.Fatalf("%s has no data", e.Name)
		}
		check := func() error {
			t.Helper()
			text, err := json.Marshal(data)
			if err != nil {
				t.Fatal(err)
			}
			return c.CheckData(e.Name, text)
		}
		each("data", data, func(path string, object map[string]any) {
			object["unheard_of"] = 1
			if err := check(); err != nil {
				t.Errorf("%s with %s.unheard_of: %v", e.Name, path, err)
			}
			delete(object, "unheard_of")
			for key, was := range object {
				object[key] = nil
				if check() == nil {
					t.Errorf("%s is fine with %s.%s null", e.Name, path, key)
				}
				object[key] = was
			}
		})
		for _, text := range []string{`null`, `[]`, `"x"`, `{`, ``} {
			if c.CheckData(e.Name, []byte(text)) == nil {
				t.Errorf("%s is fine with %q", e.Name, text)
			}
		}
	}
	if err := c.CheckData("memory_eaten", []byte(`{}`)); err == nil || !strings.Contains(err.Error(), "memory_eaten") {
		t.Errorf("an event that nobody knows: %v", err)
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	c := newCatalogue(t)
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.NewTextHandler(t.Output(), nil)))
	r.Method(http.MethodGet, "/v1/event-types", respond.Handler(c.List))
	r.Method(http.MethodGet, "/v1/event-types/{name}", respond.Handler(c.Show))
	server := httptest.NewServer(contracttest.Wrap(t, r))
	t.Cleanup(server.Close)
	get := func(path string) (int, []byte) {
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
	status, body := get("/v1/event-types")
	var list struct {
		EventTypes []json.RawMessage `json:"event_types"`
	}
	if err := json.Unmarshal(body, &list); err != nil || status != http.StatusOK || len(list.EventTypes) != 19 {
		t.Fatalf("%d with %d types, %v", status, len(list.EventTypes), err)
	}
	for i, e := range c.Types() {
		status, body := get("/v1/event-types/" + e.Name)
		if status != http.StatusOK || !bytes.Equal(bytes.TrimSpace(body), list.EventTypes[i]) {
			t.Errorf("%s: %d %s", e.Name, status, body)
		}
		if diff := cmp.Diff([]string{"description", "example", "name", "schema"}, keys(read(t, body))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", e.Name, diff)
		}
	}
	for _, path := range []string{"/v1/event-types/memory_eaten", "/v1/event-types/MEMORY_ADDED", "/v1/event-types/%00"} {
		if status, body := get(path); status != http.StatusNotFound || !bytes.Contains(body, []byte(`"code":"event_type_not_found"`)) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

func keys(object map[string]any) []string {
	var all []string
	for key := range object {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// What a check of every webhook would cost whoever sends them.
func BenchmarkCheck(b *testing.B) {
	c := newCatalogue(b)
	e, _ := c.Type(memory.Updated)
	for b.Loop() {
		if err := c.Check(e.Example); err != nil {
			b.Fatal(err)
		}
	}
}
