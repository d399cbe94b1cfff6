// Package match decides whether a JSON object is one that somebody asked for. In
// go a filter, itself JSON and no code, and then data; out comes yes or no.
//
// A filter is an object whose keys are fields of the data, and all of it must
// hold:
//
//	{"result": {"metadata": {"module": "Deals", "amount": {"$gte": 10000}}}}
//
// The value of a field is a scalar (a text, a number, true, false or null), which
// it must equal, or an object. Of the keys of an object, those that begin with $ ask
// something of the value where it stands, all others are fields of it. A key with
// dots is a field of exactly that name where there is one, else a way down:
// "result.metadata.module".
//
//	$eq $ne              the scalar; another one, or nothing
//	$gt $gte $lt $lte    a number that is so, or a text that is so, by its bytes
//	$in $nin             one of a list of scalars; none of them
//	$startsWith $endsWith  a text that does
//	$contains            a text that has this one in it, or a list with this scalar
//	$exists              true: the field is there; false: it is not
//	$or $and             any, or all, of a list of filters of the same value
//	$not                 the filter does not hold
//
// Only $or, $and and $not ask something of the whole data.
//
// What is what: a field that is null is there and equals null. One that is missing
// equals nothing, not even null, and so do the fields of what is no object. Values
// of different types are never equal, and none is greater: "5" is no 5. Numbers are
// compared as what they are, all digits of them: 1, 1.0 and 1e0 are one number,
// 5725767000000499002 and 5725767000000499003 are two. Texts are compared byte by
// byte, case and all, so that times in one form are in order. $ne, $nin and $not are
// exactly the opposite of $eq, $in and their filter: they hold for what is missing.
//
// A list is what one of its elements is: a field that is a list equals "a" when an
// element does. Fields and operators of one object are asked of the same element.
// $exists, $contains, $ne, $nin, $not, $or and $and are asked of the list as a whole:
// {"$ne": "a"} says that no element is "a". An empty list has no such element.
//
// Others wait for the answer, so it takes MaxSteps at most: for data that takes more a
// filter does not hold, whether there is a $not in it or none.
package match

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// Match is a filter that was parsed. It is safe for concurrent use.
type Match struct {
	filter  pattern
	encoded []byte
}

// JSON returns the filter as it is to be kept: without spaces, its keys sorted. What
// jsonb makes of it parses to a filter that accepts the same.
func (m *Match) JSON() []byte { return slices.Clone(m.encoded) }

// Accepts reports whether the filter holds for data, as JSON. It does not for what is
// no JSON.
func (m *Match) Accepts(data []byte) bool {
	var value any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // a float64 has no room for an id of 64 bits
	if d.Decode(&value) != nil || d.More() {
		return false
	}
	return m.AcceptsValue(value)
}

// AcceptsValue is Accepts for data as a json.Decoder with UseNumber makes it. A
// number of another type than json.Number is equal to nothing.
func (m *Match) AcceptsValue(data any) bool {
	l := &look{left: MaxSteps}
	return m.filter.holds(l, data) && l.left >= 0
}

// missing stands for the value of a field that is not there.
type missing struct{}

// test asks one thing of a value, which may be missing. What it says when the look
// has used up its steps does not matter.
type test func(l *look, value any) bool

// pattern is what is asked of one value; all of it must hold.
type pattern struct {
	whole []test // of a list as a whole
	each  []test // of one and the same element, where it is a list
}

func (p pattern) holds(l *look, value any) bool {
	for _, t := range p.whole {
		if !t(l, value) {
			return false
		}
	}
	return len(p.each) == 0 || p.anyHolds(l, value)
}

func (p pattern) anyHolds(l *look, value any) bool {
	if !l.take(1) {
		return true // it ends all lists that this one is in
	}
	if list, ok := value.([]any); ok {
		return slices.ContainsFunc(list, func(element any) bool { return p.anyHolds(l, element) })
	}
	for _, t := range p.each {
		if !t(l, value) {
			return false
		}
	}
	return true
}

// field asks the pattern of a field.
func field(name string, p pattern) test {
	below := descend(strings.Split(name, "."), p)
	return func(l *look, value any) bool {
		if object, ok := value.(map[string]any); ok {
			if v, ok := object[name]; ok {
				return p.holds(l, v)
			}
		}
		return below(l, value)
	}
}

// descend asks the pattern of what a way of field names leads to.
func descend(way []string, p pattern) test {
	if len(way) > 1 {
		p = pattern{each: []test{descend(way[1:], p)}}
	}
	return func(l *look, value any) bool {
		object, _ := value.(map[string]any)
		v, ok := object[way[0]]
		if !ok {
			v = missing{}
		}
		return p.holds(l, v)
	}
}

func equals(want scalar) test {
	return func(l *look, value any) bool {
		got, ok := l.scalar(value)
		return ok && got == want
	}
}

func oneOf(want map[scalar]bool) test {
	return func(l *look, value any) bool {
		got, ok := l.scalar(value)
		return ok && l.takeText(got.text) && want[got]
	}
}

// compares asks that a value of the same type stands to want as holds says of a
// comparison's -1, 0 or 1.
func compares(want scalar, holds func(int) bool) test {
	return func(l *look, value any) bool {
		got, ok := l.scalar(value)
		return ok && got.kind == want.kind && holds(got.compare(want))
	}
}

// text asks something of a value that is a text.
func text(want string, holds func(s, part string) bool) test {
	return func(_ *look, value any) bool {
		s, ok := value.(string)
		return ok && holds(s, want)
	}
}

func contains(want scalar) test {
	return func(l *look, value any) bool {
		switch v := value.(type) {
		case string:
			return want.kind == kindText && l.takeText(v) && strings.Contains(v, want.text)
		case []any:
			is := equals(want)
			return slices.ContainsFunc(v, func(element any) bool { return is(l, element) || l.left < 0 })
		default:
			return false
		}
	}
}

func exists(want bool) test {
	return func(_ *look, value any) bool {
		_, gone := value.(missing)
		return gone != want
	}
}

func not(p pattern) test { return func(l *look, value any) bool { return !p.holds(l, value) } }

func anyOf(patterns []pattern) test {
	return func(l *look, value any) bool {
		return slices.ContainsFunc(patterns, func(p pattern) bool { return p.holds(l, value) })
	}
}

func allOf(patterns []pattern) test {
	return func(l *look, value any) bool {
		return !slices.ContainsFunc(patterns, func(p pattern) bool { return !p.holds(l, value) })
	}
}
