package match

import (
	"fmt"
	"slices"
	"strings"
)

// kind is what a test is asked of where a list stands.
type kind int

const (
	ofEach  kind = iota // of its elements
	ofWhole             // of the list
)

// operators returns the names of all, as they are shown to people.
func operators() []string {
	return []string{
		"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin",
		"$startsWith", "$endsWith", "$contains", "$exists", "$or", "$and", "$not",
	}
}

// operator reads one key that begins with $.
func (p *parser) operator(at place, name string, operand any) (test, kind, error) {
	if !slices.Contains(operators(), name) {
		return nil, 0, at.wants(fmt.Sprintf("one of %s, not %s", strings.Join(operators(), " "), name))
	}
	here := at.key(name)
	switch name {
	case "$or", "$and":
		t, err := p.list(here, name, operand)
		return t, ofWhole, err
	case "$not":
		below, err := p.pattern(here, operand)
		return not(below), ofWhole, err
	}
	if at.whole {
		return nil, 0, at.wants("the name of a field, $or, $and or $not, not " + name)
	}
	switch name {
	case "$eq", "$ne", "$contains":
		return p.equality(here, name, operand)
	case "$gt", "$gte", "$lt", "$lte":
		t, err := p.order(here, name, operand)
		return t, ofEach, err
	case "$in", "$nin":
		return p.choice(here, name, operand)
	case "$startsWith", "$endsWith":
		t, err := p.affix(here, name, operand)
		return t, ofEach, err
	default: // $exists
		p.conditions++
		want, ok := operand.(bool)
		if !ok {
			return nil, 0, here.wants("true or false")
		}
		return exists(want), ofWhole, nil
	}
}

// list reads the operand of $or and $and.
func (p *parser) list(at place, name string, operand any) (test, error) {
	trees, ok := operand.([]any)
	if !ok || len(trees) == 0 {
		return nil, at.wants("a list of filters")
	}
	patterns := make([]pattern, len(trees))
	for i, tree := range trees {
		var err error
		if patterns[i], err = p.pattern(at.element(i), tree); err != nil {
			return nil, err
		}
	}
	if name == "$or" {
		return anyOf(patterns), nil
	}
	return allOf(patterns), nil
}

// equality reads the operand of $eq, $ne and $contains.
func (p *parser) equality(at place, name string, operand any) (test, kind, error) {
	want, err := p.scalar(at, operand, anyScalar)
	switch name {
	case "$eq":
		return equals(want), ofEach, err
	case "$ne":
		return not(pattern{each: []test{equals(want)}}), ofWhole, err
	default:
		return contains(want), ofWhole, err
	}
}

// order reads the operand of $gt, $gte, $lt and $lte.
func (p *parser) order(at place, name string, operand any) (test, error) {
	want, err := p.scalar(at, operand, "a number or a text")
	if err != nil {
		return nil, err
	}
	if want.kind != kindNumber && want.kind != kindText {
		return nil, at.wants("a number or a text")
	}
	holds := map[string]func(int) bool{
		"$gt":  func(order int) bool { return order > 0 },
		"$gte": func(order int) bool { return order >= 0 },
		"$lt":  func(order int) bool { return order < 0 },
		"$lte": func(order int) bool { return order <= 0 },
	}
	return compares(want, holds[name]), nil
}

// choice reads the operand of $in and $nin. However long, it is one condition: it
// takes one look.
func (p *parser) choice(at place, name string, operand any) (test, kind, error) {
	elements, ok := operand.([]any)
	if !ok || len(elements) == 0 {
		return nil, 0, at.wants("a list of texts, numbers, true, false or null")
	}
	before := p.conditions
	want := make(map[scalar]bool, len(elements))
	for i, element := range elements {
		s, err := p.scalar(at.element(i), element, anyScalar)
		if err != nil {
			return nil, 0, err
		}
		want[s] = true
	}
	p.conditions = before + 1
	if name == "$nin" {
		return not(pattern{each: []test{oneOf(want)}}), ofWhole, nil
	}
	return oneOf(want), ofEach, nil
}

// affix reads the operand of $startsWith and $endsWith.
func (p *parser) affix(at place, name string, operand any) (test, error) {
	p.conditions++
	want, ok := operand.(string)
	if !ok {
		return nil, at.wants("a text")
	}
	if name == "$startsWith" {
		return text(want, strings.HasPrefix), nil
	}
	return text(want, strings.HasSuffix), nil
}
