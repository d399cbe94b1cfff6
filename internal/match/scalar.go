package match

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
)

// The kinds of a scalar. Values of different kinds are never equal.
const (
	kindNull = iota
	kindTrue
	kindFalse
	kindText
	kindNumber
)

// scalar is a value that is neither object nor list. Equal ones are ==.
type scalar struct {
	kind int
	text string // of a number: its digits, without zeros at either end; "": zero
	// Of a number: it is 0.digits times ten to this power.
	exponent int64
	negative bool
}

// scalarOf returns the scalar that a decoded value is, and whether it is one.
func scalarOf(value any) (scalar, bool) {
	switch v := value.(type) {
	case nil:
		return scalar{kind: kindNull}, true
	case bool:
		if v {
			return scalar{kind: kindTrue}, true
		}
		return scalar{kind: kindFalse}, true
	case string:
		return scalar{kind: kindText, text: v}, true
	case json.Number:
		return number(string(v)), true
	default:
		return scalar{}, false
	}
}

// exponentLimit bounds exponents; whatever lies beyond is as large, or as small.
const exponentLimit = 1 << 40

// number reads what JSON takes for one. It is never expanded: 1e999999999 costs as
// much as it is long.
func number(s string) scalar {
	n := scalar{kind: kindNumber}
	s, n.negative = strings.CutPrefix(s, "-")
	if at := strings.IndexAny(s, "eE"); at >= 0 {
		e, _ := strconv.ParseInt(s[at+1:], 10, 64) // beyond an int64 it is the nearest one
		n.exponent = max(min(e, exponentLimit), -exponentLimit)
		s = s[:at]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	n.exponent += int64(len(whole))
	n.text = whole
	if fraction != "" {
		n.text = whole + fraction
	}
	leading := len(n.text)
	n.text = strings.TrimLeft(n.text, "0")
	n.exponent -= int64(leading - len(n.text))
	n.text = strings.TrimRight(n.text, "0")
	if n.text == "" {
		return scalar{kind: kindNumber} // zero is one, whatever its sign
	}
	return n
}

// compare orders two scalars of the same kind: texts by their bytes, numbers as
// numbers.
func (s scalar) compare(other scalar) int {
	if s.kind != kindNumber {
		return strings.Compare(s.text, other.text)
	}
	if order := cmp.Compare(s.sign(), other.sign()); order != 0 {
		return order
	}
	order := cmp.Compare(s.exponent, other.exponent)
	if order == 0 {
		order = strings.Compare(s.text, other.text)
	}
	return order * s.sign()
}

// sign returns that of a number: -1, 0 or 1.
func (s scalar) sign() int {
	switch {
	case s.text == "":
		return 0
	case s.negative:
		return -1
	default:
		return 1
	}
}
