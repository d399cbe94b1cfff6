package match

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func parse(t testing.TB, filter string) *Match {
	t.Helper()
	m, err := Parse([]byte(filter))
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return m
}

func TestAccepts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		filter string
		yes    []string
		no     []string
	}{
		{"a text", `{"a":"x"}`, []string{`{"a":"x"}`, `{"a":"\u0078","b":1}`}, []string{`{"a":"X"}`, `{"a":"xx"}`, `{}`, `{"a":null}`, `{"a":{}}`, `{"b":"x"}`}},
		{"a boolean", `{"a":true}`, []string{`{"a":true}`}, []string{`{"a":false}`, `{"a":"true"}`, `{"a":1}`, `{}`}},
		{"null is there", `{"a":null}`, []string{`{"a":null}`, `{"a":[null]}`}, []string{`{}`, `{"a":0}`, `{"a":""}`, `{"a":false}`, `{"a":[]}`, `{"a":{}}`, `[]`, `null`}},
		{"a number however it is written", `{"a":1500}`,
			[]string{`{"a":1500}`, `{"a":1500.00}`, `{"a":1.5e3}`, `{"a":15E+2}`, `{"a":150000e-2}`},
			[]string{`{"a":"1500"}`, `{"a":1500.000000000000000000000000001}`, `{"a":-1500}`, `{"a":15}`, `{"a":1.5e4}`}},
		{"zero has no sign", `{"a":0}`, []string{`{"a":0}`, `{"a":-0}`, `{"a":0.000}`, `{"a":0e5}`, `{"a":-0.0e-7}`}, []string{`{"a":1e-999999999999}`, `{"a":false}`}},
		{"ids beyond 2^53", `{"a":9007199254740993}`, []string{`{"a":9007199254740993}`}, []string{`{"a":9007199254740992}`, `{"a":9007199254740994}`}},
		{"ids beyond 2^64", `{"a":-184467440737095516170}`, []string{`{"a":-184467440737095516170}`}, []string{`{"a":-184467440737095516171}`, `{"a":184467440737095516170}`}},

		{"$eq", `{"a":{"$eq":"x"}}`, []string{`{"a":"x"}`, `{"a":["y","x"]}`}, []string{`{"a":"y"}`, `{}`, `{"a":[]}`}},
		{"$ne is its opposite", `{"a":{"$ne":"x"}}`, []string{`{"a":"y"}`, `{}`, `{"a":[]}`, `{"a":null}`, `{"a":{"x":"x"}}`, `null`}, []string{`{"a":"x"}`, `{"a":["y","x"]}`}},
		{"$in", `{"a":{"$in":["x",2,null,true]}}`, []string{`{"a":"x"}`, `{"a":2.0}`, `{"a":null}`, `{"a":true}`, `{"a":[7,2]}`}, []string{`{"a":"2"}`, `{}`, `{"a":false}`, `{"a":[]}`}},
		{"$nin is its opposite", `{"a":{"$nin":["x",2]}}`, []string{`{"a":"2"}`, `{}`, `{"a":[]}`, `{"a":null}`}, []string{`{"a":"x"}`, `{"a":2.0}`, `{"a":[7,2]}`}},

		{"$gt", `{"a":{"$gt":10}}`, []string{`{"a":10.0000000000000000001}`, `{"a":9007199254740993}`, `{"a":1e999999999}`, `{"a":[1,11]}`}, []string{`{"a":10}`, `{"a":9}`, `{"a":-11}`, `{"a":"11"}`, `{"a":null}`, `{}`, `{"a":true}`, `{"a":1e-999999999}`}},
		{"$gt of a negative", `{"a":{"$gt":-10}}`, []string{`{"a":-9.99}`, `{"a":0}`, `{"a":1}`, `{"a":-1e-9}`}, []string{`{"a":-10}`, `{"a":-10.01}`, `{"a":-1e2}`}},
		{"$gte", `{"a":{"$gte":10}}`, []string{`{"a":10}`, `{"a":1e1}`, `{"a":11}`}, []string{`{"a":9.999}`, `{}`}},
		{"$lt", `{"a":{"$lt":0}}`, []string{`{"a":-1}`, `{"a":-0.1}`}, []string{`{"a":0}`, `{"a":-0.0}`, `{"a":0.1}`, `{}`, `{"a":null}`}},
		{"$lte", `{"a":{"$lte":9007199254740993}}`, []string{`{"a":9007199254740993}`, `{"a":9007199254740992}`}, []string{`{"a":9007199254740994}`, `{"a":"1"}`}},
		{"texts are in the order of their bytes", `{"a":{"$gte":"b","$lt":"c"}}`, []string{`{"a":"b"}`, `{"a":"bzz"}`}, []string{`{"a":"a"}`, `{"a":"c"}`, `{"a":"B"}`, `{"a":"ä"}`, `{"a":5}`, `{}`}},
		{"between, of one element", `{"a":{"$gt":1,"$lt":5}}`, []string{`{"a":3}`, `{"a":[0,3,9]}`}, []string{`{"a":[0,9]}`, `{"a":5}`}},

		{"$startsWith", `{"a":{"$startsWith":"zoho:"}}`, []string{`{"a":"zoho:1"}`, `{"a":"zoho:"}`, `{"a":["b","zoho:1"]}`}, []string{`{"a":"Zoho:1"}`, `{"a":"x zoho:"}`, `{"a":5}`, `{}`, `{"a":null}`}},
		{"$endsWith", `{"a":{"$endsWith":".com"}}`, []string{`{"a":"x.com"}`}, []string{`{"a":"x.com."}`, `{}`, `{"a":{"b":"x.com"}}`}},
		{"$contains of a text", `{"a":{"$contains":"lo w"}}`, []string{`{"a":"hello world"}`}, []string{`{"a":"hello"}`, `{}`, `{"a":5}`}},
		{"$contains of a list", `{"a":{"$contains":"x"}}`, []string{`{"a":["y","x"]}`, `{"a":"axb"}`}, []string{`{"a":["axb"]}`, `{"a":[["x"]]}`, `{"a":[]}`, `{"a":{"x":1}}`}},
		{"$contains of a number", `{"a":{"$contains":5}}`, []string{`{"a":[1,5.0]}`}, []string{`{"a":"5"}`, `{"a":5}`, `{"a":["5"]}`}},
		{"$exists", `{"a":{"$exists":true}}`, []string{`{"a":1}`, `{"a":null}`, `{"a":[]}`, `{"a":{}}`}, []string{`{}`, `{"b":1}`, `[]`, `5`, `null`}},
		{"$exists false", `{"a":{"$exists":false}}`, []string{`{}`, `{"b":1}`, `5`, `null`}, []string{`{"a":1}`, `{"a":null}`, `{"a":[]}`}},

		{"all fields must hold", `{"a":1,"b":2}`, []string{`{"a":1,"b":2,"c":3}`}, []string{`{"a":1}`, `{"a":1,"b":3}`}},
		{"$or", `{"$or":[{"a":1},{"b":2}]}`, []string{`{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`}, []string{`{}`, `{"a":2,"b":1}`}},
		{"$or beside fields", `{"c":3,"$or":[{"a":1},{"b":2}]}`, []string{`{"a":1,"c":3}`}, []string{`{"a":1}`, `{"c":3}`}},
		{"$or of a field", `{"a":{"$or":["x",{"$startsWith":"y"},{"b":1}]}}`, []string{`{"a":"x"}`, `{"a":"yy"}`, `{"a":{"b":1}}`, `{"a":["q","x"]}`}, []string{`{"a":"z"}`, `{}`, `{"a":{"b":2}}`}},
		{"$and", `{"$and":[{"a":1},{"$or":[{"b":2},{"c":3}]}]}`, []string{`{"a":1,"c":3}`}, []string{`{"a":1}`, `{"c":3}`}},
		{"$and of a list may be of two elements", `{"a":{"$and":[{"$gt":5},{"$lt":1}]}}`, []string{`{"a":[0,9]}`}, []string{`{"a":[2,3]}`, `{"a":9}`}},
		{"$not", `{"$not":{"a":1,"b":2}}`, []string{`{}`, `{"a":1}`, `null`}, []string{`{"a":1,"b":2}`}},
		{"$not of a field", `{"a":{"$not":{"$startsWith":"x"}}}`, []string{`{"a":"y"}`, `{}`, `{"a":5}`, `{"a":[]}`}, []string{`{"a":"xy"}`, `{"a":["y","x"]}`}},
		{"$not of a scalar", `{"a":{"$not":"x"}}`, []string{`{"a":"y"}`, `{}`}, []string{`{"a":"x"}`}},
		{"twice $not", `{"$not":{"$not":{"a":1}}}`, []string{`{"a":1}`}, []string{`{}`}},

		{"a way down", `{"a":{"b":{"c":1}}}`, []string{`{"a":{"b":{"c":1}}}`}, []string{`{"a":{"b":1}}`, `{"a":{"c":1}}`, `{"c":1}`, `{"a.b.c":1}`}},
		{"a way down with dots", `{"a.b.c":1}`, []string{`{"a":{"b":{"c":1}}}`, `{"a.b.c":1}`}, []string{`{"a":{"b":1}}`, `{"a.b":{"c":1}}`, `{"a":{"b.c":1}}`}},
		{"the field of that name is meant", `{"a.b":1}`, []string{`{"a.b":1,"a":{"b":2}}`}, []string{`{"a.b":2,"a":{"b":1}}`, `{"a.b":null,"a":{"b":1}}`}},
		{"a name without letters", `{"":1,"a":{"":2}}`, []string{`{"":1,"a":{"":2}}`}, []string{`{"":1}`}},
		{"fields of a scalar are missing", `{"a":{"b":{"$exists":false}}}`, []string{`{"a":5}`, `{"a":null}`, `{}`, `{"a":{}}`, `{"a":[{"b":1},{}]}`}, []string{`{"a":{"b":null}}`, `{"a":[{"b":1}]}`, `{"a":[]}`}},

		{"fields of one element", `{"a":{"b":1,"c":2}}`, []string{`{"a":[{"b":1},{"b":1,"c":2}]}`}, []string{`{"a":[{"b":1},{"c":2}]}`}},
		{"keys with dots may be of two elements", `{"a.b":1,"a.c":2}`, []string{`{"a":[{"b":1},{"c":2}]}`}, []string{`{"a":[{"b":1}]}`}},
		{"lists in lists", `{"a":{"b":1}}`, []string{`{"a":[[{"b":2}],[{"b":[0,1]}]]}`}, []string{`{"a":[[{"b":2}],[]]}`}},
		{"no element has such a field", `{"$not":{"a":{"b":1}}}`, []string{`{"a":[{"b":2}]}`, `{"a":[]}`}, []string{`{"a":[{"b":2},{"b":1}]}`}},
		{"an element has another field", `{"a":{"b":{"$ne":1}}}`, []string{`{"a":[{"b":2},{"b":1}]}`}, []string{`{"a":[{"b":1}]}`, `{"a":[]}`}},
		{"of the list and of an element at once", `{"a":{"$ne":"x","$startsWith":"y"}}`, []string{`{"a":["z","yy"]}`}, []string{`{"a":["x","yy"]}`, `{"a":["z"]}`}},
		{"data that is a list", `{"a":1}`, []string{`[{"a":2},{"a":1}]`}, []string{`[]`, `[1]`}},

		{"what is no JSON is not accepted", `{"$not":{"a":1}}`, []string{`{}`}, []string{``, `{`, `{"a":2} {}`, `nul`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := parse(t, tt.filter)
			for _, data := range tt.yes {
				if !m.Accepts([]byte(data)) {
					t.Errorf("%s does not hold for %s", tt.filter, data)
				}
			}
			for _, data := range tt.no {
				if m.Accepts([]byte(data)) {
					t.Errorf("%s holds for %s", tt.filter, data)
				}
			}
		})
	}
}

// The page that people read says what the code does.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(page), "For this data:")
	_, data, _ := strings.Cut(examples, "```json\n")
	data, table, _ := strings.Cut(data, "```")
	if !json.Valid([]byte(data)) {
		t.Fatalf("the data is no JSON: %s", data)
	}
	n := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		filter, ok := strings.CutPrefix(cells[0], "| `")
		if !ok {
			continue
		}
		n++
		filter = strings.TrimSuffix(filter, "`")
		if got := parse(t, filter).Accepts([]byte(data)); got != (cells[1] == "yes") {
			t.Errorf("%s holds: %t; the page says %s", filter, got, cells[1])
		}
	}
	if n < 25 {
		t.Errorf("found %d examples", n)
	}
	for _, name := range operators() {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("the page does not name %s", name)
		}
	}
	if !strings.Contains(string(page), "`result.metadata.module.$startsWith: want a text`") {
		t.Error("the page shows no refusal")
	}
	if _, err := Parse([]byte(`{"result":{"metadata.module":{"$startsWith":1}}}`)); err == nil || err.Error() != "result.metadata.module.$startsWith: want a text" {
		t.Errorf("the refusal is %v", err)
	}
}

// BenchmarkAccepts is what a webhook costs an endpoint with a filter.
func BenchmarkAccepts(b *testing.B) {
	data := []byte(`{"result":{"id":"01a201a3-85e8-7166-bd98-bdae5e578952","content":"` + strings.Repeat("Contact Jane Doe of Other Ltd\\n", 20) +
		`","metadata":{"account_id":"5725767000000499002","modified_time":"2026-11-22T05:03:43.583691Z","module":"Contacts","record_id":"5725767000000524200","source":"zoho","amount":12500.00}}}`)
	m := parse(b, `{"result.metadata":{"module":{"$in":["Contacts","Deals"]},"amount":{"$gte":10000}},"$or":[{"result.metadata.source":"zoho"},{"result.content":{"$contains":"VIP"}}]}`)
	var value any
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		b.Fatal(err)
	}
	b.Run("JSON", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !m.Accepts(data) {
				b.Fatal("not accepted")
			}
		}
	})
	b.Run("decoded", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !m.AcceptsValue(value) {
				b.Fatal("not accepted")
			}
		}
	})
}
