package inbound

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse holds what the database relies on: whatever is accepted can be stored.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*"))
	if err != nil {
		f.Fatal(err)
	}
	contentTypes := map[string]string{".json": typeJSON, ".form": typeForm, ".multipart": typeMultipart}
	for _, file := range files {
		contentType, known := contentTypes[filepath.Ext(file)]
		if !known {
			continue
		}
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(contentType, body)
	}
	for _, body := range []string{
		`{"data":[{"id":"\ud83d\ude00"},{"id":7}],"modified_fields":"a,b"}`,
		`{"data":{"id":"7","a":"\ud800"}}`,
		`{"data":{"id":"7","a":"\\u0000\u0000"}}`,
		`{"data":{"id":"7","a":[1e400,-0.5E-3]}}`,
		"\ufeff" + ` { "ids" : [ "7" , 7 ] , "affected_fields" : [ { } ] , "server_time" : 1.7e12 } `,
	} {
		f.Add(typeJSON, []byte(body))
	}
	f.Add(typeForm, []byte(`data={"a":1}&id=7&b=%F0%9F%98%80`))

	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		before := string(body)
		n, err := parse(contentType, body, 20)
		if string(body) != before {
			t.Fatal("the body was changed")
		}
		if err != nil {
			checkRefused(t, n, err)
			return
		}
		checkAccepted(t, n)
	})
}

func checkRefused(t *testing.T, n Notification, err error) {
	t.Helper()
	r := asRefusal(t, err)
	if r.Status < 400 || r.Status > 499 || r.Code == "" || len(r.Message) > 1000 || !utf8.ValidString(r.Message) {
		t.Fatalf("refused with %#v", r)
	}
	if len(n.Events) > 0 {
		t.Fatalf("refused with %d events", len(n.Events))
	}
}

func checkAccepted(t *testing.T, n Notification) {
	t.Helper()
	if len(n.Events) < 1 || len(n.Events) > 20 {
		t.Fatalf("%d events", len(n.Events))
	}
	if len(n.ChannelID) > maxName || !storable(n.ChannelID, string(n.Token)) {
		t.Fatalf("channel %q", n.ChannelID)
	}
	for _, p := range n.Events {
		switch p.Operation {
		case opCreate, opUpdate, opDelete, opRestore:
		default:
			t.Fatalf("operation %q", p.Operation)
		}
		for _, name := range []string{p.Module, p.RecordID} {
			if name == "" || len(name) > maxName {
				t.Fatalf("a name of %d bytes", len(name))
			}
		}
		if !storable(p.Module, p.RecordID, p.UserID) || !storable(p.ModifiedFields...) || len(p.UserID) > maxName {
			t.Fatalf("not to be stored as text: %#v", p)
		}
		if !p.OccurredAt.IsZero() && (p.OccurredAt.Year() < 2000 || p.OccurredAt.Year() > 2099) {
			t.Fatalf("time %v", p.OccurredAt)
		}
		var fields map[string]any
		if err := json.Unmarshal(p.Record, &fields); err != nil || fields == nil {
			t.Fatalf("the record is no object: %v\n%s", err, p.Record)
		}
		checkStorable(t, fields, mayReplace(p.Record))
	}
}

// mayReplace reports whether JSON holds U+FFFD itself. Where it does not, U+FFFD in
// what encoding/json made of it stands for something that was no character.
func mayReplace(text []byte) bool {
	return strings.Contains(string(text), "\ufffd") || strings.Contains(strings.ToLower(string(text)), `\ufffd`)
}

// checkStorable walks a decoded value for text that Postgres refuses. It knows nothing
// of how parse looks for it.
func checkStorable(t *testing.T, value any, replaced bool) {
	t.Helper()
	text := func(s string) {
		if strings.Contains(s, "\x00") || !utf8.ValidString(s) || !replaced && strings.Contains(s, "\ufffd") {
			t.Fatalf("not to be stored: %q", s)
		}
	}
	switch v := value.(type) {
	case string:
		text(v)
	case []any:
		for _, element := range v {
			checkStorable(t, element, replaced)
		}
	case map[string]any:
		for name, element := range v {
			text(name)
			checkStorable(t, element, replaced)
		}
	}
}

// FuzzScan compares the walk through JSON with encoding/json.
func FuzzScan(f *testing.F) {
	for _, text := range []string{
		`{}`, `[]`, `{"a":1}`, ` { "a" : [ 1 , { } ] , "b" : "\"]}" , "a" : null } `,
		`[1,"x",[],{"y":[]},true,-0.5e-3]`, `{"\u0061\\":"\\"}`, `[[[[]]],"\ud83d\ude00"]`, `"x"`, ` 7 `,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if checkJSON("it", text) != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatal("not JSON, but accepted")
		}
		switch text = text[skipSpace(text, 0):]; text[0] {
		case '{':
			var want map[string]json.RawMessage
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			got := map[string]json.RawMessage{}
			for name, value := range members(text) {
				got[string(name)] = value
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		case '[':
			want, got := []json.RawMessage{}, []json.RawMessage{}
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatal(err)
			}
			for element := range elements(text) {
				got = append(got, element)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func TestMembersAndElementsCanBeLeftEarly(t *testing.T) {
	t.Parallel()
	for name := range members([]byte(`{"a":1,"b":2}`)) {
		if string(name) != "a" {
			t.Errorf("went on to %s", name)
		}
		break
	}
	for element := range elements([]byte(`[1,2]`)) {
		if string(element) != "1" {
			t.Errorf("went on to %s", element)
		}
		break
	}
}
