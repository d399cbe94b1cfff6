package contracttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Request is one made from the document.
type Request struct {
	Name   string // what is wrong with it, or that nothing is
	Method string
	Path   string // of the document
	URL    string // path and query
	Header http.Header
	Body   []byte // nil: none
	Scope  string // that a token must have; "": none is asked for
	Token  Token
	// Want are the statuses that it may be answered with; none: any that is described.
	Want []int
}

// Token says which token a request is to be sent with.
type Token int

// The tokens.
const (
	Good       Token = iota
	None             // no token at all
	WrongScope       // one that is good for something else
)

// Requests makes requests from the document: for each operation good ones, of the
// examples and by chance, and broken ones. The same seed makes the same. at gives the
// value of a parameter of the path or the query; "": the example's. What deletes comes last.
func (d *Document) Requests(seed uint64, at func(path, name string) string) []Request {
	m := &maker{d: d, rand: rand.New(rand.NewPCG(seed, seed)), at: at} //nolint:gosec // no secret
	var all, last []Request
	for _, r := range d.routes {
		if r.method == http.MethodDelete {
			last = append(last, m.of(r)...)
		} else {
			all = append(all, m.of(r)...)
		}
	}
	return append(all, last...)
}

type maker struct {
	d    *Document
	rand *rand.Rand
	at   func(path, name string) string
}

func (m *maker) of(r route) []Request {
	good := m.request(r)
	all := append(m.access(good), m.query(r, good)...)
	body := object(object(object(r.operation["requestBody"])["content"])["application/json"])
	if body == nil {
		return append(all, good)
	}
	all = append(all, m.bodies(r, good, body)...)
	for _, name := range slices.Sorted(maps.Keys(object(body["examples"]))) {
		all = append(all, good.with("the example "+name, encode(object(object(body["examples"])[name])["value"])))
	}
	return all
}

// request is a good one without a body.
func (m *maker) request(r route) Request {
	q := Request{Name: "a good one", Method: r.method, Path: r.path, Header: http.Header{}, Scope: scopeOf(r)}
	path, query := r.path, url.Values{}
	for _, p := range list(r.operation["parameters"]) {
		p := object(p)
		name, value := text(p["name"]), fmt.Sprint(p["example"])
		switch {
		case p["in"] == "path":
			if given := m.at(r.path, name); given != "" {
				value = given
			}
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
		case p["in"] == "query" && m.at(r.path, name) != "":
			query.Set(name, m.at(r.path, name))
		case p["in"] == "query" && p["example"] != nil:
			query.Set(name, value)
		}
	}
	q.URL = path
	if len(query) > 0 {
		q.URL += "?" + query.Encode()
	}
	return q
}

func scopeOf(r route) string {
	for _, way := range list(r.operation["security"]) {
		if scopes := list(object(way)["token"]); len(scopes) > 0 {
			return text(scopes[0])
		}
	}
	return ""
}

func (q Request) with(name string, body []byte, want ...int) Request {
	q.Name, q.Body, q.Want, q.Header = name, body, want, q.Header.Clone()
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	return q
}

// access are requests of those who may not.
func (m *maker) access(good Request) []Request {
	if good.Scope == "" {
		return nil
	}
	stranger, other := good.with("no token", nil, http.StatusUnauthorized), good.with("a token of another scope", nil, http.StatusForbidden)
	stranger.Token, other.Token = None, WrongScope
	return []Request{stranger, other}
}

// query are requests whose query is wrong, where the operation looks at it.
func (m *maker) query(r route, good Request) []Request {
	if object(r.operation["responses"])["422"] == nil || good.Scope == "" {
		return nil
	}
	change := func(name string, do func(url.Values)) Request {
		q := good.with(name, m.exampleBody(r), http.StatusUnprocessableEntity)
		path, raw, _ := strings.Cut(good.URL, "?")
		values, _ := url.ParseQuery(raw) // it was made by Encode
		do(values)
		q.URL = path + "?" + values.Encode()
		return q
	}
	all := []Request{change("a parameter that is none", func(v url.Values) { v.Set("no_such_parameter", "1") })}
	for _, p := range list(r.operation["parameters"]) {
		p := object(p)
		name, schema := text(p["name"]), object(p["schema"])
		if p["in"] != "query" {
			continue
		}
		if required, _ := p["required"].(bool); required {
			all = append(all, change("without the parameter "+name, func(v url.Values) { v.Del(name) }))
		}
		for what, value := range wrongTexts(schema) {
			all = append(all, change(name+" "+what, func(v url.Values) { v.Set(name, value) }))
		}
	}
	slices.SortStableFunc(all, func(a, b Request) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// wrongTexts are values that a parameter cannot have, by what is wrong with them.
func wrongTexts(schema map[string]any) map[string]string {
	wrong := map[string]string{}
	if schema["type"] == "integer" {
		wrong["is no number"] = "many"
	}
	if schema["format"] == "date-time" {
		wrong["is no time"] = "yesterday"
	}
	if schema["format"] == "uuid" {
		wrong["is no id"] = "first"
	}
	if schema["enum"] != nil {
		wrong["is none of the values"] = "no-such-value"
	}
	if most, ok := number(schema["maximum"]); ok {
		wrong["is too great"] = strconv.Itoa(int(most) + 1)
	}
	if least, ok := number(schema["minimum"]); ok {
		wrong["is too small"] = strconv.Itoa(int(least) - 1)
	}
	if most, ok := number(schema["maxLength"]); ok {
		wrong["is too long"] = strings.Repeat("x", int(most)+1)
	}
	return wrong
}

func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

// exampleBody is one that is good; nil where there is none.
func (m *maker) exampleBody(r route) []byte {
	examples := object(object(object(object(r.operation["requestBody"])["content"])["application/json"])["examples"])
	for _, name := range slices.Sorted(maps.Keys(examples)) {
		return encode(object(examples[name])["value"])
	}
	return nil
}

// bodies are requests with bodies by chance, and with broken ones.
func (m *maker) bodies(r route, good Request, media map[string]any) []Request {
	schema := m.follow(object(media["schema"]))
	closed := schema["additionalProperties"] == false
	var all []Request
	for i := range 3 {
		all = append(all, good.with(fmt.Sprintf("by chance, %d", i+1), encode(m.value(schema, 0))))
	}
	if !closed {
		// What stands in these is for their own tests; none may break anything.
		for _, body := range []string{``, `{`, `[]`, `null`, `{"a":` + strings.Repeat("[", 100), "\xff"} {
			all = append(all, good.with("no body that it could be: "+strconv.Quote(body), []byte(body)))
		}
		return all
	}
	bad := func(name, body string, want ...int) { all = append(all, good.with(name, []byte(body), want...)) }
	bad("no JSON", `{"`, http.StatusBadRequest)
	bad("no object", `[]`, http.StatusBadRequest)
	bad("no UTF-8", "{\"a\":\"\xff\"}", http.StatusBadRequest)
	other := good.with("another content type", []byte(`{}`), http.StatusUnsupportedMediaType)
	other.Header.Set("Content-Type", "text/plain")
	all = append(all, other)
	example, err := read(m.exampleBody(r))
	if err != nil {
		return all
	}
	change := func(name string, do func(o map[string]any)) {
		o := maps.Clone(example)
		do(o)
		all = append(all, good.with(name, encode(o), http.StatusUnprocessableEntity))
	}
	change("a field that is none", func(o map[string]any) { o["no_such_field"] = 1 })
	for _, name := range list(schema["required"]) {
		change("without "+text(name), func(o map[string]any) { delete(o, text(name)) })
	}
	properties := object(schema["properties"])
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		field := m.follow(object(properties[name]))
		for _, w := range wrongValues(field) {
			change(name+" "+w.what, func(o map[string]any) { o[name] = w.value })
		}
	}
	return all
}

// wrongValue is one that a field cannot have.
type wrongValue struct {
	what  string
	value any
}

func wrongValues(schema map[string]any) []wrongValue {
	var all []wrongValue
	add := func(what string, value any) { all = append(all, wrongValue{what, value}) }
	switch schema["type"] {
	case "string", "boolean", "array":
		add("of another type", 7)
	case "integer", "number", "object":
		add("of another type", "seven")
	}
	if schema["format"] == "date-time" {
		add("that is no time", "yesterday")
	}
	if schema["enum"] != nil {
		add("that is none of the values", "no-such-value")
	}
	if items := object(schema["items"]); items["enum"] != nil {
		add("with one that is none of the values", []any{"no-such-value"})
	}
	if most, ok := number(schema["maxLength"]); ok && schema["enum"] == nil {
		add("that is too long", strings.Repeat("x", int(most)+1))
	}
	if least, ok := number(schema["minLength"]); ok && least > 0 {
		add("that is empty", "")
	}
	if schema["pattern"] != nil {
		add("of another form", "Not A Name!")
	}
	if most, ok := number(schema["maximum"]); ok {
		add("that is too great", most+1)
	}
	if least, ok := number(schema["minimum"]); ok {
		add("that is too small", least-1)
	}
	if most, ok := number(schema["maxItems"]); ok {
		add("with too many", slices.Repeat([]any{map[string]any{}}, int(most)+1))
	}
	return all
}

func (m *maker) follow(schema map[string]any) map[string]any {
	if name, ok := strings.CutPrefix(text(schema["$ref"]), "#/components/schemas/"); ok {
		return object(object(object(m.d.root["components"])["schemas"])[name])
	}
	return schema
}

func encode(v any) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil { // it came from JSON
		return nil
	}
	return bytes.TrimSpace(out.Bytes())
}
