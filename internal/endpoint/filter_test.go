package endpoint

import (
	"encoding/json"
	"testing"

	"github.com/memrelay/memrelay/internal/match"
)

// What jsonb makes of a filter accepts what the filter did.
func TestAFilterMeansTheSameInTheDatabase(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	data := []string{
		`{}`, `{"a":1}`, `{"a":1.0,"b":"é"}`, `{"id":5725767000000499002}`, `{"id":5725767000000499003}`, `{"id":184467440737095516150000000000000000001}`,
		`{"a":0.10,"z":null}`, `{"s":"\u0001\ud83d\ude00/\"\\"}`, `{"s":"\ufffd"}`, `{"a":{"b":1,"B":2},"a.b":3}`,
	}
	for name, filter := range map[string]string{
		"ids":         `{"id":5725767000000499002}`,
		"long-ids":    `{"id":{"$in":[184467440737095516150000000000000000001, 1]}}`,
		"numbers":     `{"a":{"$gte":1.000,"$lte":1.0000000000000000000000000000000001}}`,
		"zero":        `{"a":{"$ne":-0.0}}`,
		"fractions":   `{"a":0.1000}`,
		"texts":       `{"s":"\u0001\ud83d\ude00\/\"\\"}`,
		"no-texts":    `{"s":"\ud83d"}`,
		"other-texts": `{"b":"\u00e9"}`,
		"keys":        `{"z":null, "a.b":3 ,"a":{"b":1,"B":2}}`,
		"order":       `{"$or":[{"b":"é"},{"a":1}],"a":{"$exists":true}}`,
		"not":         `{"$not":{"a":{"$exists":true}}}`,
	} {
		e, _ := o.create(t, Settings{Name: &name, Signing: &[]string{}, Filter: new(json.RawMessage(filter))})
		before, err := match.Parse([]byte(filter))
		if err != nil {
			t.Fatal(err)
		}
		stored := one[[]byte](t, o, `SELECT filter::text FROM endpoints WHERE id = $1`, e.ID)
		after, err := match.Parse(stored)
		if err != nil {
			t.Errorf("%s: what is stored is no filter: %v", stored, err)
			continue
		}
		for _, d := range data {
			if before.Accepts([]byte(d)) != after.Accepts([]byte(d)) {
				t.Errorf("%s, stored as %s, differs for %s", filter, stored, d)
			}
		}
		if name == "zero" {
			continue // jsonb takes its sign away
		}
		if got, _ := o.change(t, name, Settings{Filter: new(json.RawMessage(filter))}); !got.UpdatedAt.Equal(e.UpdatedAt) {
			t.Errorf("%s, stored as %s, is a change", filter, stored)
		}
	}
}
