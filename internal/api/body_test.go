package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/respond"
)

// everything has a field of each kind.
type everything struct {
	Text     string           `json:"text"`
	Optional *string          `json:"optional"`
	Whole    int              `json:"whole"`
	Number   *float64         `json:"number"`
	Flag     bool             `json:"flag"`
	Moment   *time.Time       `json:"moment"`
	Metadata map[string]any   `json:"metadata"`
	List     []memory.Message `json:"list"`
}

func (e *everything) object() object {
	return object{
		"text": text(&e.Text), "optional": optionalText(&e.Optional), "whole": integer(&e.Whole), "number": number(&e.Number),
		"flag": flag(&e.Flag), "moment": moment(&e.Moment), "metadata": metadata(&e.Metadata),
		"list": list(&e.List, memory.MaxMessages, func(m *memory.Message) object { return object{"role": text(&m.Role), "content": text(&m.Content)} }),
	}
}

func TestReadABody(t *testing.T) {
	t.Parallel()
	word, half, at := "b", 0.5, time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	var got everything
	c := &call{body: []byte(` {"text":"a","optional":"b","whole":7,"number":0.5,"flag":true,"moment":"2030-01-02T03:04:05Z",` +
		`"metadata":{"id":4876876000000333001,"f":1.50,"deep":[{"x":null}]},"list":[{"role":"r","content":"c"},{}]} ` + "\n")}
	if err := c.read(got.object()); err != nil {
		t.Fatal(err)
	}
	want := everything{
		Text: "a", Optional: &word, Whole: 7, Number: &half, Flag: true, Moment: &at,
		Metadata: map[string]any{"id": json.Number("4876876000000333001"), "f": json.Number("1.50"), "deep": []any{map[string]any{"x": nil}}},
		List:     []memory.Message{{Role: "r", Content: "c"}, {}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestNullIsAsIfItWereNotThere(t *testing.T) {
	t.Parallel()
	got := everything{Whole: 10}
	c := &call{body: []byte(`{"text":null,"optional":null,"whole":null,"number":null,"flag":null,"moment":null,"metadata":null,"list":null}`)}
	if err := c.read(got.object()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everything{Whole: 10}, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

// FuzzRead holds what is read against encoding/json, which is less strict: whatever
// is accepted here is there, too, and means the same.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"text":"a","optional":"b","whole":7,"number":0.5,"flag":true,"moment":"2030-01-02T03:04:05+02:00","metadata":{"a":[1,{}]},"list":[{"role":"r"}]}`,
		`{"text":"a","text":"b"}`, `{"Text":"a"}`, `{"nothing":1}`, `{"whole":1e3}`, `{"text":"\ud800"}`, `{"list":[null]}`, `[]`, `null`, ``, `{`, `{}{}`,
		`{"metadata":` + strings.Repeat(`{"a":`, 20), "{\"text\":\"\x00\"}", "\xef\xbb\xbf{}", `{"metadata":{"a":1,"a":2}}`, `{"number":1e999}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !utf8.Valid(body) {
			return // is refused before
		}
		var got everything
		c := &call{body: body}
		err := c.read(got.object())
		c.about() // of whatever it is
		if err != nil {
			var invalid *memory.Invalid
			var face *respond.Error
			if !errors.As(err, &invalid) && (!errors.As(err, &face) || face.Status != 400) {
				t.Fatalf("%q is refused with %v", body, err)
			}
			if invalid != nil && (invalid.Field == "" && !bytes.Contains(body, []byte(`""`)) || !utf8.ValidString(invalid.Error())) {
				t.Fatalf("%q is refused with field %q: %v", body, invalid.Field, err)
			}
			return
		}
		var want everything
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		d.UseNumber()
		if err := d.Decode(&want); err != nil || d.More() {
			t.Fatalf("%q is accepted, encoding/json says %v", body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-encoding/json +read):\n%s", body, diff)
		}
	})
}
