package reconcile

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/zoho"
)

func fieldsOf(t *testing.T, text string) zoho.Record {
	t.Helper()
	var r zoho.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestJudge(t *testing.T) {
	t.Parallel()
	readAt := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { t := readAt.Add(d); return &t }
	type row = db.ListKnownRecordsRow
	for name, c := range map[string]struct {
		known  *row
		data   string
		listed string
		want   string
		fields []string
	}{
		"unknown":                             {listed: `{"id":"7"}`, want: "create"},
		"as we know it":                       {known: &row{ReadAt: at(-time.Hour)}, data: `{"id":"7","A":1}`, listed: `{"id":"7","A":1}`},
		"made of payloads, and equal":         {known: &row{}, data: `{"id":"7","A":1}`, listed: `{"id":"7","A":1}`},
		"made of payloads, and more is known": {known: &row{}, data: `{"id":"7"}`, listed: `{"id":"7","A":1}`, want: "update", fields: []string{"A"}},
		"another value":                       {known: &row{ReadAt: at(-time.Hour)}, data: `{"id":"7","A":1,"B":"x"}`, listed: `{"id":"7","A":2,"B":"y"}`, want: "update", fields: []string{"A", "B"}},
		"what is not listed does not count":   {known: &row{}, data: `{"id":"7","A":1,"B":2}`, listed: `{"id":"7","A":1}`},
		"null is as good as absent":           {known: &row{}, data: `{"id":"7"}`, listed: `{"id":"7","A":null}`},
		"cleared":                             {known: &row{}, data: `{"id":"7","A":"x"}`, listed: `{"id":"7","A":null}`, want: "update", fields: []string{"A"}},
		"empty text is no null":               {known: &row{}, data: `{"id":"7"}`, listed: `{"id":"7","A":""}`, want: "update", fields: []string{"A"}},
		"a number in other words":             {known: &row{}, data: `{"id":"7","A":100}`, listed: `{"id":"7","A":1.0E2}`},
		"a number beyond a float":             {known: &row{}, data: `{"id":"7","A":9007199254740992}`, listed: `{"id":"7","A":9007199254740993}`, want: "update", fields: []string{"A"}},
		"a number is no text":                 {known: &row{}, data: `{"id":"7","A":"1"}`, listed: `{"id":"7","A":1}`, want: "update", fields: []string{"A"}},
		"the order of keys":                   {known: &row{}, data: `{"id":"7","A":{"id":"1","name":"x"}}`, listed: `{"id":"7","A":{"name":"x","id":"1"}}`},
		"another lookup":                      {known: &row{}, data: `{"id":"7","A":{"id":"1","name":"x"}}`, listed: `{"id":"7","A":{"name":"x","id":"2"}}`, want: "update", fields: []string{"A"}},
		"a key more":                          {known: &row{}, data: `{"id":"7","A":{"id":"1"}}`, listed: `{"id":"7","A":{"id":"1","x":0}}`, want: "update", fields: []string{"A"}},
		"a key less":                          {known: &row{}, data: `{"id":"7","A":{"id":"1","x":0}}`, listed: `{"id":"7","A":{"id":"1"}}`, want: "update", fields: []string{"A"}},
		"the order of a list":                 {known: &row{}, data: `{"id":"7","A":[1,2]}`, listed: `{"id":"7","A":[2,1]}`, want: "update", fields: []string{"A"}},
		"an equal list":                       {known: &row{}, data: `{"id":"7","A":[1,{"x":null}]}`, listed: `{"id":"7","A":[1.0,{}]}`},
		"false is no null":                    {known: &row{}, data: `{"id":"7"}`, listed: `{"id":"7","A":false}`, want: "update", fields: []string{"A"}},
		"a time on another clock":             {known: &row{}, data: `{"id":"7","A":"2026-01-02T10:00:00+05:30"}`, listed: `{"id":"7","A":"2026-01-02T04:30:00+00:00"}`},
		"another time":                        {known: &row{}, data: `{"id":"7","A":"2026-01-02T10:00:00+05:30"}`, listed: `{"id":"7","A":"2026-01-02T10:00:00+00:00"}`, want: "update", fields: []string{"A"}},
		"the beginning of a text, as a list cuts it": {
			known: &row{}, data: `{"id":"7","A":"` + strings.Repeat("é", 600) + `"}`, listed: `{"id":"7","A":"` + strings.Repeat("é", 500) + `"}`,
		},
		"the beginning of a text that is not cut": {
			known: &row{}, data: `{"id":"7","A":"` + strings.Repeat("é", 600) + `"}`, listed: `{"id":"7","A":"` + strings.Repeat("é", 499) + `"}`,
			want: "update", fields: []string{"A"},
		},
		"what may be no more than the beginning": {
			known: &row{ReadAt: at(-time.Hour)}, data: `{"id":"7","A":"` + strings.Repeat("é", 500) + `"}`, listed: `{"id":"7","A":"` + strings.Repeat("é", 500) + `"}`,
			want: "update", fields: []string{"A"},
		},
		"the beginning of another text": {
			known: &row{}, data: `{"id":"7","A":"x` + strings.Repeat("é", 600) + `"}`, listed: `{"id":"7","A":"` + strings.Repeat("é", 500) + `"}`,
			want: "update", fields: []string{"A"},
		},
		"a newer one is known": {
			known: &row{ReadAt: at(-time.Hour)}, data: `{"id":"7","A":2,"Modified_Time":"2026-11-01T10:00:01Z"}`, listed: `{"id":"7","A":1,"Modified_Time":"2026-11-01T10:00:00Z"}`,
		},
		"a payload says that it is newer": {
			known: &row{}, data: `{"id":"7","A":2,"Modified_Time":"2099-11-01T10:00:01Z"}`, listed: `{"id":"7","A":1,"Modified_Time":"2026-11-01T10:00:00Z"}`,
			want: "update", fields: []string{"A", "Modified_Time"},
		},
		"a newer one is known, on another clock": {
			known: &row{ReadAt: at(-time.Hour)}, data: `{"id":"7","A":2,"Modified_Time":"2026-11-01T10:00:01Z"}`, listed: `{"id":"7","A":1,"Modified_Time":"2026-11-01T15:30:00+05:30"}`,
		},
		"a formula changed": {
			known: &row{ReadAt: at(-time.Hour)}, data: `{"id":"7","A":2,"Modified_Time":"2026-11-01T10:00:00Z"}`, listed: `{"id":"7","A":1,"Modified_Time":"2026-11-01T10:00:00Z"}`,
			want: "update", fields: []string{"A"},
		},
		"when it was received says nothing": {
			known: &row{ModifiedAt: at(-time.Minute)}, data: `{"id":"7","A":2}`, listed: `{"id":"7","A":1,"Modified_Time":"2026-11-01T10:00:00Z"}`,
			want: "update", fields: []string{"A", "Modified_Time"},
		},
		"when it was modified does": {
			known: &row{ReadAt: at(-time.Hour), ModifiedAt: at(-2 * time.Hour)}, data: `{"id":"7","A":2}`, listed: `{"id":"7","A":1,"Modified_Time":"2026-11-01T10:00:00Z"}`,
		},
		"a newer read is in":       {known: &row{ReadAt: at(0)}, data: `{"id":"7","A":2}`, listed: `{"id":"7","A":1}`},
		"deleted, and there again": {known: &row{DeletedAt: at(-time.Minute), ReadAt: at(-time.Minute)}, data: `{"id":"7"}`, listed: `{"id":"7"}`, want: "restore"},
		"deleted since":            {known: &row{DeletedAt: at(time.Second)}, data: `{"id":"7"}`, listed: `{"id":"7"}`},
		"read as deleted since":    {known: &row{DeletedAt: at(time.Second), ReadAt: at(time.Second)}, data: `{"id":"7"}`, listed: `{"id":"7"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := take(fieldsOf(t, c.listed))
			if err != nil {
				t.Fatal(err)
			}
			if c.known != nil {
				c.known.Data = []byte(c.data)
			}
			operation, fields := judge(c.known, l, readAt)
			if operation != c.want {
				t.Errorf("%q, want %q", operation, c.want)
			}
			if diff := cmp.Diff(c.fields, fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

// Equal numbers are written in many ways, and none may be read for ever.
func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, equal := range [][]string{
		{"0", "-0", "0.000", "0e99999999999999999999"[:3], "0E-5"},
		{"1", "1.0", "10e-1", "0.1E+1", "1000e-3"},
		{"-12.5", "-125e-1", "-0.125e2", "-12.500"},
		{"1e999999999", "10e999999998"},
		{"9007199254740993", "9007199254740993.0"},
	} {
		for _, n := range equal {
			if got := canonical(n); got != canonical(equal[0]) {
				t.Errorf("%s is %s, but %s is %s", n, got, equal[0], canonical(equal[0]))
			}
		}
	}
	for _, unequal := range [][2]string{{"1", "-1"}, {"1", "10"}, {"1.01", "1.1"}, {"9007199254740992", "9007199254740993"}, {"1e99999999999999999999", "1"}} {
		if canonical(unequal[0]) == canonical(unequal[1]) {
			t.Errorf("%s and %s are both %s", unequal[0], unequal[1], canonical(unequal[0]))
		}
	}
}

// What Postgres refuses in one record would keep all others of the page out.
func TestTake(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		record zoho.Record
		id     string
		json   string
		fails  bool
	}{
		"as it is":                   {record: fieldsOf(t, `{"id":"7","B":"<é>","A":{"z":1,"a":2}}`), id: "7", json: `{"A":{"z":1,"a":2},"B":"<é>","id":"7"}`},
		"an id as a number":          {record: fieldsOf(t, `{"id":9007199254740993}`), id: "9007199254740993", json: `{"id":9007199254740993}`},
		"a NUL":                      {record: fieldsOf(t, `{"id":"7","A":"x\u0000y"}`), id: "7", json: `{"A":"xy","id":"7"}`},
		"a NUL in a list":            {record: fieldsOf(t, `{"id":"7","A":[{"b\u0000":["\u0000"]}]}`), id: "7", json: `{"A":[{"b":[""]}],"id":"7"}`},
		"a NUL in a name":            {record: zoho.Record{"id": json.RawMessage(`"7"`), "A\x00": json.RawMessage(`1`)}, id: "7", json: `{"A":1,"id":"7"}`},
		"an escaped backslash":       {record: fieldsOf(t, `{"id":"7","A":"\\u0000"}`), id: "7", json: `{"A":"\\u0000","id":"7"}`},
		"half a character":           {record: fieldsOf(t, `{"id":"7","A":"x\ud83dy"}`), id: "7", json: "{\"A\":\"x\uFFFDy\",\"id\":\"7\"}"},
		"a whole one":                {record: fieldsOf(t, `{"id":"7","A":"\ud83d\ude00"}`), id: "7", json: `{"A":"😀","id":"7"}`},
		"bytes that are no text":     {record: zoho.Record{"id": json.RawMessage(`"7"`), "A": json.RawMessage("\"x\xff\"")}, id: "7", json: "{\"A\":\"x\uFFFD\",\"id\":\"7\"}"},
		"no record":                  {fails: true},
		"no id":                      {record: fieldsOf(t, `{"A":1}`), fails: true},
		"an empty id":                {record: fieldsOf(t, `{"id":"  "}`), fails: true},
		"an id of NULs":              {record: fieldsOf(t, `{"id":"\u0000"}`), fails: true},
		"an id that is an object":    {record: fieldsOf(t, `{"id":{}}`), fails: true},
		"an id that is far too long": {record: fieldsOf(t, `{"id":"`+strings.Repeat("7", 256)+`"}`), fails: true},
		"too large":                  {record: fieldsOf(t, `{"id":"7","A":"`+strings.Repeat("x", 1<<20)+`"}`), id: "7", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := take(c.record)
			if (err != nil) != c.fails || l.id != c.id {
				t.Fatalf("id %q, %v", l.id, err)
			}
			if !c.fails && string(l.json) != c.json {
				t.Errorf("JSON %s, want %s", l.json, c.json)
			}
		})
	}
}

func TestListedModules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ configured, want []string }{
		"the default": {
			[]string{"Accounts", "Contacts", "Deals", "Tasks", "Notes", "Activities", "Events", "Calls", "Meetings"},
			[]string{"Contacts", "Deals", "Tasks", "Events", "Calls", "Notes", "Accounts"},
		},
		"accounts come last": {[]string{"Accounts", "Leads", "Deals", "Custom"}, []string{"Deals", "Leads", "Custom", "Accounts"}},
		"meetings":           {[]string{"Meetings"}, []string{"Events"}},
		"activities":         {[]string{"Activities"}, []string{"Tasks", "Events", "Calls"}},
		"none":               {nil, nil},
	} {
		if diff := cmp.Diff(c.want, listed(c.configured)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
