package contracttest

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/memrelay/memrelay"
)

// published is the schema of OpenAPI 3.1 documents as https://spec.openapis.org publishes it.
const published = "https://spec.openapis.org/oas/3.1/schema/2022-10-07"

func TestTheDocumentIsOpenAPI(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/oas-3.1-2022-10-07.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	official, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(published, official); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(published)
	if err != nil {
		t.Fatal(err)
	}
	root, err := read(memrelay.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(root); err != nil {
		t.Error(err)
	}
	delete(root, "info")
	if schema.Validate(root) == nil {
		t.Error("a document without info is as good")
	}
}

// Every schema is one, and every reference leads somewhere.
func TestSchemasAreSchemas(t *testing.T) {
	t.Parallel()
	d := load(t)
	for name := range object(object(d.root["components"])["schemas"]) {
		if _, err := d.schema(pointer("components", "schemas", name)); err != nil {
			t.Error(err)
		}
	}
}

func load(t *testing.T) *Document {
	t.Helper()
	d, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Every example is what its schema says, and every JSON body has one.
func TestExamplesAreAsTheirSchemas(t *testing.T) {
	t.Parallel()
	d := load(t)
	count := 0
	var walk func(at string, v any)
	walk = func(at string, v any) {
		o := object(v)
		if o["schema"] != nil && (o["examples"] != nil || o["example"] != nil) {
			count += checkExamples(t, d, at, o)
		}
		for name, inner := range o {
			if name != "schema" && name != "example" && name != "examples" && name != "schemas" {
				walk(at+pointer(name), inner)
			}
		}
		for i, inner := range list(v) {
			walk(at+pointer(strconv.Itoa(i)), inner)
		}
	}
	walk("", d.root)
	if count < 200 {
		t.Errorf("only %d examples", count)
	}
	for _, r := range d.routes {
		for _, where := range []any{r.operation["requestBody"], object(r.operation["responses"])["200"], object(r.operation["responses"])["201"]} {
			media := object(object(object(where)["content"])["application/json"])
			if media != nil && object(media["examples"]) == nil && r.path != "/openapi.json" {
				t.Errorf("%s %s has a body without an example", r.method, r.path)
			}
		}
	}
}

func checkExamples(t *testing.T, d *Document, at string, o map[string]any) int {
	t.Helper()
	values := []any{}
	if o["example"] != nil {
		values = append(values, o["example"])
	}
	for _, e := range object(o["examples"]) {
		values = append(values, object(e)["value"])
	}
	for _, value := range values {
		raw, err := json.Marshal(value)
		if err == nil {
			err = d.checkJSON(at+"/schema", raw)
		}
		if err != nil {
			t.Errorf("the example at %s: %v", at, err)
		}
	}
	return len(values)
}

func TestEveryOperationSaysWhatItIs(t *testing.T) {
	t.Parallel()
	d := load(t)
	for _, r := range d.routes {
		if text(r.operation["summary"]) == "" || r.operation["security"] == nil || object(r.operation["responses"])["500"] == nil {
			t.Errorf("%s %s has no summary, no security or no 500", r.method, r.path)
		}
		if strings.HasPrefix(r.path, "/v1/mem") && !slices.Contains(statuses(r), "401") {
			t.Errorf("%s %s does not say that it takes a token", r.method, r.path)
		}
	}
}

func statuses(r route) []string {
	var all []string
	for status := range object(r.operation["responses"]) {
		all = append(all, status)
	}
	return all
}

func TestCheckFindsWhatIsNotDescribed(t *testing.T) {
	t.Parallel()
	d := load(t)
	const good = `{"status":"ok"}`
	answer := func(status int, contentType, body string) Answer {
		return Answer{status, map[string][]string{"Content-Type": {contentType}, "X-Request-Id": {"1"}}, []byte(body)}
	}
	const problem = `{"type":"about:blank","title":"Not Found","status":404,"detail":"There is nothing.","code":"not_found","request_id":"1"}`
	for name, c := range map[string]struct {
		method, path string
		answer       Answer
		says         string
	}{
		"as described":               {"GET", "/livez", answer(200, "application/json", good), ""},
		"another status":             {"GET", "/livez", answer(204, "", ""), "status 204"},
		"another type":               {"GET", "/livez", answer(200, "text/plain", good), "content type"},
		"no JSON":                    {"GET", "/livez", answer(200, "application/json", "ok"), "not JSON"},
		"a field too few":            {"GET", "/livez", answer(200, "application/json", `{}`), "status"},
		"a field too many":           {"GET", "/livez", answer(200, "application/json", `{"status":"ok","pid":7}`), "pid"},
		"another value":              {"GET", "/livez", answer(200, "application/json", `{"status":"fine"}`), "status"},
		"no header":                  {"GET", "/livez", Answer{200, map[string][]string{"Content-Type": {"application/json"}}, []byte(good)}, "X-Request-Id"},
		"a body where there is none": {"GET", "/openapi.json", Answer{304, map[string][]string{"Etag": {"1"}, "X-Request-Id": {"1"}}, []byte("x")}, "not described"},
		"a problem":                  {"GET", "/docs/none", answer(404, "application/problem+json", problem), ""},
		"a code that is not listed":  {"GET", "/docs/none", answer(404, "application/problem+json", strings.Replace(problem, "not_found", "gone", 1)), "code"},
		"a problem as JSON":          {"GET", "/docs/none", answer(404, "application/json", problem), "content type"},
		"an unknown address":         {"GET", "/none", answer(404, "application/problem+json", problem), ""},
		"an unknown operation":       {"GET", "/none", answer(200, "application/json", good), "no such operation"},
	} {
		err := d.Check(c.method, c.path, c.answer)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if missing := d.Unanswered(); slices.Contains(missing, "GET /livez") || !slices.Contains(missing, "GET /readyz") {
		t.Errorf("unanswered: %v", missing)
	}
}
