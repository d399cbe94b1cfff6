package match

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzMatch holds that no filter and no data panics, that what was parsed parses
// again to the same, and that $not is the opposite.
func FuzzMatch(f *testing.F) {
	f.Add([]byte(`{"a":{"$gt":1,"$lt":5},"$or":[{"b.c":"x"},{"d":{"$in":[1,null,true]}}]}`), []byte(`{"a":[0,3,9],"b":{"c":"x"}}`))
	f.Add([]byte(`{"a":{"$not":{"$contains":"x"}},"b":{"$exists":false}}`), []byte(`[[{"a":["x"]}],null]`))
	f.Add([]byte(`{"a":-0.0}`), []byte(`{"a":1e999999999999999999999}`))
	f.Add([]byte(`{"a":{"$gte":"b"},"":{"$nin":["c"]}}`), []byte(`{"a":"\ud800","":-1E-2}`))
	f.Add([]byte(`{"$and":[{"a":{"$startsWith":"b","$endsWith":"c","$ne":null}}]}`), []byte(`{"a":"bc"}`))
	f.Fuzz(func(t *testing.T, filter, data []byte) {
		m, err := Parse(filter)
		if err != nil {
			return
		}
		accepts := m.Accepts(data)
		again, err := Parse(m.JSON())
		if err != nil {
			t.Fatalf("%s was taken for %s, which is refused: %v", filter, m.JSON(), err)
		}
		if !bytes.Equal(again.JSON(), m.JSON()) || again.Accepts(data) != accepts {
			t.Errorf("%s is another filter than %s", again.JSON(), m.JSON())
		}
		opposite, err := Parse([]byte(`{"$not":` + string(filter) + `}`))
		if err != nil {
			return // at the bounds of what a filter may be
		}
		if json.Valid(data) && accepts == opposite.Accepts(data) {
			t.Errorf("of %s and its opposite not exactly one holds for %s", filter, data)
		}
	})
}
