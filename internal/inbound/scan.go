package inbound

import (
	"bytes"
	"encoding/json"
	"iter"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// The bodies are taken apart here and not by unmarshalling into structs, for
// three reasons. encoding/json replaces lone surrogates and invalid UTF-8
// silently, while Postgres refuses them; it matches names without regard to
// case, so that a field "ID" would pass for "id"; and it would read a record
// five times over, where most of its fields are only to be kept as they came.
// The grammar stays with json.Valid: what follows may trust it.

const (
	// maxDepth bounds the nesting of JSON. Zoho's bodies have about six
	// levels; whoever reads a record recursively later is safe.
	maxDepth = 100
	// maxNumber and maxExponent bound a number, in characters. jsonb keeps
	// numbers as numeric, refuses 1e131072 and 1e-16384, and writes 1e9999 out
	// as ten thousand digits; Go's float64 ends at 1.8e308. No field of Zoho's
	// comes near any of these.
	maxNumber   = 300
	maxExponent = 3
)

// checkJSON returns a refusal unless text is one JSON value that Postgres can
// keep, strings as text and the whole as jsonb. The message begins with what,
// which names the text.
func checkJSON(what string, text []byte) error {
	if !utf8.Valid(text) {
		return refuse(400, "invalid_json", "%s is not UTF-8", what)
	}
	if !json.Valid(text) {
		// Slower than Valid, but knows why.
		var ignored json.RawMessage
		return refuse(400, "invalid_json", "%s is not JSON: %v", what, json.Unmarshal(text, &ignored))
	}
	if at, problem := unstorable(text); problem != "" {
		return refuse(400, "invalid_json", "%s %s at byte %d", what, problem, at)
	}
	return nil
}

// unstorable returns where in text, a JSON value, the first thing stands that
// is not to be stored, and what it is; "" when there is none.
func unstorable(text []byte) (at int, problem string) {
	depth := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			end, bad := badEscape(text, i)
			if bad >= 0 {
				return bad, `has an escape that is no character (\u0000 or half a surrogate pair)`
			}
			i = end
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return i, "is nested deeper than " + strconv.Itoa(maxDepth)
			}
			i++
		case c == '}' || c == ']':
			depth--
			i++
		case c == '-' || '0' <= c && c <= '9':
			end := scalarEnd(text, i)
			if hugeNumber(text[i:end]) {
				return i, "has a number out of range"
			}
			i = end
		default:
			i++
		}
	}
	return 0, ""
}

// badEscape walks the string that begins at text[i]. It returns the index
// behind it, or in bad that of the first escape that stands for no character;
// bad is -1 when there is none.
func badEscape(text []byte, i int) (end, bad int) {
	for i++; text[i] != '"'; {
		switch {
		case text[i] != '\\':
			i++
		case text[i+1] != 'u':
			i += 2
		default:
			r := hexRune(text[i+2:])
			switch {
			case r == 0:
				return 0, i
			case !utf16.IsSurrogate(r):
				i += len(`\u0000`)
			case text[i+6] == '\\' && text[i+7] == 'u' && utf16.DecodeRune(r, hexRune(text[i+8:])) != unicode.ReplacementChar:
				i += len(`\ud83d\ude00`)
			default:
				return 0, i
			}
		}
	}
	return i + 1, -1
}

// hexRune returns the number that the first four characters, hex digits, stand for.
func hexRune(digits []byte) rune {
	var r rune
	for _, c := range digits[:4] {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}

// hugeNumber reports whether a JSON number is beyond what is kept.
func hugeNumber(number []byte) bool {
	if len(number) > maxNumber {
		return true
	}
	e := bytes.IndexAny(number, "eE")
	if e < 0 {
		return false
	}
	if len(bytes.TrimLeft(number[e+1:], "+-")) > maxExponent {
		return true
	}
	_, err := strconv.ParseFloat(string(number), 64)
	return err != nil
}

// The functions below take JSON that checkJSON has accepted, and nothing else:
// they look for no more than they need to find their way.

// members yields the names and values of a JSON object in their order, names
// without quotes and escapes, values as they came. A name that stands twice is
// yielded twice; the last is the one to keep.
func members(object []byte) iter.Seq2[[]byte, json.RawMessage] {
	return func(yield func([]byte, json.RawMessage) bool) {
		for i := skipSpace(object, 1); object[i] != '}'; {
			nameEnd := stringEnd(object, i)
			begin := skipSpace(object, skipSpace(object, nameEnd)+1)
			end := valueEnd(object, begin)
			if !yield(unquote(object[i:nameEnd]), object[begin:end:end]) {
				return
			}
			i = next(object, end)
		}
	}
}

// elements yields the values of a JSON array in their order, as they came.
func elements(array []byte) iter.Seq[json.RawMessage] {
	return func(yield func(json.RawMessage) bool) {
		for i := skipSpace(array, 1); array[i] != ']'; {
			end := valueEnd(array, i)
			if !yield(array[i:end:end]) {
				return
			}
			i = next(array, end)
		}
	}
}

// next returns where, after a member or element that ends at i, the next one
// begins or the closing bracket stands.
func next(text []byte, i int) int {
	i = skipSpace(text, i)
	if text[i] == ',' {
		i = skipSpace(text, i+1)
	}
	return i
}

// valueEnd returns the index behind the value that begins at text[i].
func valueEnd(text []byte, i int) int {
	switch text[i] {
	case '"':
		return stringEnd(text, i)
	case '{', '[':
	default:
		return scalarEnd(text, i)
	}
	for depth := 0; ; {
		switch text[i] {
		case '"':
			i = stringEnd(text, i)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
}

// stringEnd returns the index behind the string that begins at text[i].
func stringEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// scalarEnd returns the index behind the number, true, false or null that
// begins at text[i].
func scalarEnd(text []byte, i int) int {
	for ; i < len(text); i++ {
		switch text[i] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			return i
		}
	}
	return i
}

func skipSpace(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r' {
		i++
	}
	return i
}

// unquote returns what a JSON string says.
func unquote(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // cannot fail: it is a JSON string
	return []byte(s)
}
