package match

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// What bounds a filter, and with it the time that it takes.
const (
	// MaxBytes is how long a filter may be, without the spaces between its parts.
	MaxBytes = 16 << 10
	// MaxDepth is how deep objects and lists may be nested, and how many names a key
	// with dots may have.
	MaxDepth = 10
	// MaxConditions is how many things a filter may ask: scalars to equal, and
	// operators other than $or, $and and $not.
	MaxConditions = 100
)

// Parse reads a filter. The error is for whoever wrote it: where the first mistake
// is, and what was expected there.
func Parse(filter []byte) (*Match, error) {
	if !utf8.Valid(filter) || !json.Valid(filter) {
		return nil, errors.New("it is no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(filter))
	d.UseNumber()
	tree, err := decode(d, 0)
	if err != nil {
		return nil, err
	}
	m := &Match{}
	if m.encoded, err = encode(tree); err != nil {
		return nil, err
	}
	if len(m.encoded) > MaxBytes {
		return nil, fmt.Errorf("it is %d bytes long, want at most %d", len(m.encoded), MaxBytes)
	}
	p := parser{}
	if m.filter, err = p.pattern(place{whole: true}, tree); err != nil {
		return nil, err
	}
	if p.conditions > MaxConditions {
		return nil, fmt.Errorf("it has %d conditions, want at most %d", p.conditions, MaxConditions)
	}
	return m, nil
}

// decode reads the next value of valid JSON. A key that comes twice is refused: one
// of the two would be forgotten. So is the character 0, for which jsonb has no room.
func decode(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	switch t := token.(type) {
	case json.Delim:
		if depth == MaxDepth {
			return nil, fmt.Errorf("it is nested more than %d deep", MaxDepth)
		}
		var value any
		if t == '{' {
			value, err = decodeObject(d, depth)
		} else {
			value, err = decodeList(d, depth)
		}
		if err != nil {
			return nil, err
		}
		if _, err := d.Token(); err != nil { // the bracket that closes it
			return nil, fmt.Errorf("read JSON: %w", err)
		}
		return value, nil
	case string:
		if strings.ContainsRune(t, 0) {
			return nil, errors.New(`it has a text with the character \u0000, which no data has`)
		}
	}
	return token, nil
}

func decodeObject(d *json.Decoder, depth int) (any, error) {
	object := map[string]any{}
	for d.More() {
		token, err := decode(d, depth)
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		if _, twice := object[key]; twice {
			return nil, fmt.Errorf("%q stands twice in one object", key)
		}
		if object[key], err = decode(d, depth+1); err != nil {
			return nil, err
		}
	}
	return object, nil
}

func decodeList(d *json.Decoder, depth int) (any, error) {
	list := []any{}
	for d.More() {
		element, err := decode(d, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}

// encode writes the one text of a filter.
func encode(tree any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// place is where in a filter something stands.
type place struct {
	path  string // the keys that lead there, with dots; "": nowhere yet
	whole bool   // it is about the whole data, not about a field of it
}

func (at place) key(key string) place {
	if at.path != "" {
		key = at.path + "." + key
	}
	return place{path: key, whole: at.whole}
}

func (at place) element(i int) place {
	return place{path: fmt.Sprintf("%s[%d]", at.path, i), whole: at.whole}
}

// wants says what was expected there.
func (at place) wants(what string) error {
	if at.path == "" {
		return errors.New("want " + what)
	}
	return fmt.Errorf("%s: want %s", at.path, what)
}

// parser makes patterns and counts what they ask.
type parser struct{ conditions int }

const anyScalar = "a text, a number, true, false or null"

// pattern reads what is asked of the value at a place.
func (p *parser) pattern(at place, tree any) (pattern, error) {
	object, ok := tree.(map[string]any)
	if !ok {
		if at.whole {
			return pattern{}, at.wants("an object: fields, and what they must be")
		}
		want, err := p.scalar(at, tree, anyScalar+`, or an object, as {"$in": [1, 2]}`)
		return pattern{each: []test{equals(want)}}, err
	}
	if len(object) == 0 {
		return pattern{}, at.wants("at least one condition")
	}
	var result pattern
	for _, key := range slices.Sorted(maps.Keys(object)) {
		t, kind, err := p.key(at, key, object[key])
		if err != nil {
			return pattern{}, err
		}
		if kind == ofWhole {
			result.whole = append(result.whole, t)
		} else {
			result.each = append(result.each, t)
		}
	}
	return result, nil
}

// key reads one key of an object.
func (p *parser) key(at place, key string, operand any) (test, kind, error) {
	if strings.HasPrefix(key, "$") {
		return p.operator(at, key, operand)
	}
	if names := strings.Count(key, ".") + 1; names > MaxDepth {
		return nil, 0, at.wants(fmt.Sprintf("a key of at most %d names, not of %d", MaxDepth, names))
	}
	at = at.key(key)
	at.whole = false
	below, err := p.pattern(at, operand)
	return field(key, below), ofEach, err
}

// scalar reads one that something is compared to; expected is what else might have
// stood there.
func (p *parser) scalar(at place, operand any, expected string) (scalar, error) {
	p.conditions++
	if n, ok := operand.(json.Number); ok && strings.ContainsAny(string(n), "eE") {
		// jsonb would write out all its zeros.
		return scalar{}, at.wants("a number without an exponent")
	}
	s, ok := scalarOf(operand)
	if !ok {
		return scalar{}, at.wants(expected)
	}
	return s, nil
}
