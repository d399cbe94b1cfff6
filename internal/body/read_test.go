package body

import (
	"strings"
	"testing"
)

func TestTooDeepNamesTheField(t *testing.T) {
	t.Parallel()
	open := strings.Repeat("[", maxDepth)
	for _, tc := range []struct {
		body, name string
		deep       bool
	}{
		{`{"a":` + open, "a", true},
		{`{"a":` + open[1:], "", false},
		{`{"b":"[[[[","a":1,"c\"\u0064":` + open, `c"d`, true},
		{`{"a":"` + open + `"}`, "", false},
		{`{"a":"\"` + open + `"}`, "", false},
		{`{"a":"\\","b":` + open, "b", true},
		{open + "[", "", true},
		{strings.Repeat("]", 10) + open, "", false},
		{``, "", false},
	} {
		if name, deep := tooDeep([]byte(tc.body)); name != tc.name || deep != tc.deep {
			t.Errorf("%s: %q, %t; want %q, %t", tc.body, name, deep, tc.name, tc.deep)
		}
	}
}
