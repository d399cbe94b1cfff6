package match

import "encoding/json"

// MaxSteps bounds how much of the data a filter looks at. A step is a value that a
// condition looks at, or 32 bytes of one that it reads all of: a hundred conditions
// for each of several hundred elements of a list, and some milliseconds' work.
const MaxSteps = 1 << 16

// stepBytes is how much of a text is a step.
const stepBytes = 32

// look is one look at data.
type look struct {
	left int // steps; less than 0: it took too many
}

// take uses up steps, and reports whether there were as many.
func (l *look) take(steps int) bool {
	l.left -= steps
	return l.left >= 0
}

// takeText is take for reading all of a text.
func (l *look) takeText(text string) bool { return l.take(len(text) / stepBytes) }

// scalar is scalarOf.
func (l *look) scalar(value any) (scalar, bool) {
	n, _ := value.(json.Number) // it is read digit by digit
	if !l.take(1) || !l.takeText(string(n)) {
		return scalar{}, false
	}
	return scalarOf(value)
}
