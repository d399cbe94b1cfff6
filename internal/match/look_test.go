package match

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// list is one of that many elements.
func list(element string, n int) string {
	return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
}

// any100 asks any of a hundred conditions, of which none holds.
func any100(condition string) string {
	conditions := make([]string, MaxConditions)
	for i := range conditions {
		conditions[i] = fmt.Sprintf(condition, i+1000)
	}
	return `{"$or":[` + strings.Join(conditions, ",") + `]}`
}

func TestAFilterIsAskedForABoundedTime(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, filter, data string }{
		{"numbers of a list", any100(`{"a":%d}`), `{"a":` + list("1", 100_000) + `}`},
		{"a list of lists", any100(`{"a":%d}`), `{"a":` + list("[[1],[1]]", 50_000) + `}`},
		{"objects of a list", any100(`{"a":{"b":%d}}`), `{"a":` + list(`{"b":1}`, 50_000) + `}`},
		{"order", any100(`{"a":{"$gt":%d}}`), `{"a":` + list("1", 100_000) + `}`},
		{"a choice", any100(`{"a":{"$in":["%d"]}}`), `{"a":"` + strings.Repeat("x", 1<<20) + `"}`},
		{"a text's parts", any100(`{"a":{"$contains":"%d"}}`), `{"a":"` + strings.Repeat("x", 1<<20) + `"}`},
		{"a list's elements", any100(`{"a":{"$contains":%d}}`), `{"a":` + list("1", 100_000) + `}`},
		{"beginnings", any100(`{"a":{"$startsWith":"%d"}}`), `{"a":` + list(`"x"`, 100_000) + `}`},
		{"a long number", any100(`{"a":%d}`), `{"a":` + strings.Repeat("1", 1<<20) + `}`},
		{"the whole list", any100(`{"a":{"$not":{"$not":{"b":%d}}}}`), `{"a":` + list(`{"b":1}`, 50_000) + `}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := parse(t, tt.filter)
			var data any
			d := json.NewDecoder(strings.NewReader(tt.data))
			d.UseNumber()
			if err := d.Decode(&data); err != nil {
				t.Fatal(err)
			}
			l := &look{left: MaxSteps}
			m.filter.holds(l, data)
			// What is looked at last may be a large text, but it is only one.
			if l.left >= 0 || l.left < -(1<<20)/stepBytes-1 {
				t.Errorf("%d steps are left of %d", l.left, MaxSteps)
			}
		})
	}
}

func TestAFilterDoesNotHoldForWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	much, less := []byte(`{"a":`+list("1", MaxSteps)+`}`), []byte(`{"a":`+list("1", MaxSteps/4)+`}`)
	for _, tt := range []struct {
		filter string
		data   []byte
		want   bool
	}{
		{`{"a":2}`, less, false},
		{`{"$not":{"a":2}}`, less, true},
		{`{"a":2}`, much, false},
		{`{"$not":{"a":2}}`, much, false},
		{`{"$not":{"$not":{"a":2}}}`, much, false},
		{`{"$or":[{"a":2},{"b":{"$exists":false}}]}`, much, false},
		{`{"a":1}`, much, true}, // the first one is
	} {
		if got := parse(t, tt.filter).Accepts(tt.data); got != tt.want {
			t.Errorf("%s of %d bytes: %t, want %t", tt.filter, len(tt.data), got, tt.want)
		}
	}
}
