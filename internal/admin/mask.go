package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

const (
	hidden = "[hidden]"
	// unreadable stands for a body that may hold a token nobody knows where.
	unreadable = "[hidden: this body cannot be read, and holds the word token]"
	bom        = "\ufeff" // the door takes a body that begins with one
	// maskDepth is how often JSON may lie in a string of JSON: a body that goes on so is
	// no webhook, and reading it takes longer with each step.
	maskDepth = 8
)

// Masked is a body without the tokens that senders put into it: whoever sees one could
// send in their name. What the body is, is decided as the door decides it: what begins
// like JSON is JSON, else the content type says. A field named token, in any case, is
// hidden wherever it lies, also in JSON that is the text of a field. All other bytes stay
// as they are; only multipart forms are written anew. In place of a body that cannot be
// read and speaks of a token a sentence says so.
func Masked(contentType string, body []byte) []byte {
	rest := bytes.TrimPrefix(body, []byte(bom))
	mark := body[:len(body)-len(rest)]
	shown, ok := masked(contentType, rest)
	switch {
	case ok:
		return append(append([]byte{}, mark...), shown...)
	case speaksOfToken(rest):
		return []byte(unreadable)
	}
	return body
}

// masked returns false for a body that is not what it should be.
func masked(contentType string, body []byte) ([]byte, bool) {
	if start := bytes.TrimLeft(body, " \t\r\n"); len(start) == 0 || start[0] != '{' && start[0] != '[' {
		media, params, _ := mime.ParseMediaType(contentType)
		switch media {
		case "application/x-www-form-urlencoded":
			if _, err := url.ParseQuery(strings.TrimSpace(string(body))); err != nil {
				return nil, false
			}
			return []byte(maskPairs(string(body), 0)), true
		case "multipart/form-data":
			return maskParts(body, params["boundary"])
		}
	}
	return maskJSON(body, 0)
}

// maskJSON hides tokens in JSON; false: it is none. depth is in how many strings it lies.
func maskJSON(text []byte, depth int) ([]byte, bool) {
	if !json.Valid(text) {
		return nil, false
	}
	m := jsonMask{in: text, depth: depth}
	m.run()
	return append(m.out, text[m.kept:]...), true
}

// jsonMask goes through valid JSON once: a decoder would read what lies deep once for each
// level it lies in.
type jsonMask struct {
	in    []byte
	out   []byte
	kept  int // what of in is in out already
	depth int
}

func (m *jsonMask) run() {
	for i := 0; i < len(m.in); {
		if m.in[i] != '"' {
			i++
			continue
		}
		end := stringEnd(m.in, i)
		text, colon := stringOf(m.in[i:end]), skipBlanks(m.in, end)
		if colon == len(m.in) || m.in[colon] != ':' {
			if shown, changed := maskText(text, m.depth+1); changed {
				m.replace(i, end, quoted(shown))
			}
			i = end
			continue
		}
		i = skipBlanks(m.in, colon+1)
		// Go's JSON, which reads these bodies, does not look at the case of names.
		if strings.EqualFold(text, "token") {
			end = valueEnd(m.in, i)
			if string(m.in[i:end]) != "null" {
				m.replace(i, end, `"`+hidden+`"`)
			}
			i = end
		}
	}
}

func (m *jsonMask) replace(from, to int, with string) {
	m.out = append(append(m.out, m.in[m.kept:from]...), with...)
	m.kept = to
}

// maskText hides tokens in the text of a field, which may be JSON or a form itself.
func maskText(text string, depth int) (shown string, changed bool) {
	if start := strings.TrimLeft(strings.TrimPrefix(text, bom), " \t\r\n"); start != "" && strings.ContainsRune(`{["`, rune(start[0])) {
		if depth > maskDepth {
			return hidden, true
		}
		inner, ok := maskJSON([]byte(start), depth)
		switch {
		case ok && string(inner) != start:
			return string(inner), true
		case ok:
			return text, false
		case speaksOfToken([]byte(start)):
			return hidden, true
		}
	}
	shown = maskPairs(text, depth)
	return shown, shown != text
}

// maskPairs hides tokens among the pairs of a form; what is no pair stays.
func maskPairs(text string, depth int) string {
	if !strings.Contains(text, "=") {
		return text
	}
	pairs := strings.Split(text, "&")
	for i, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if plain, err := url.QueryUnescape(name); err == nil && namesToken(plain) || err != nil && namesToken(name) {
			pairs[i] = name + "=" + hidden
			continue
		}
		if plain, err := url.QueryUnescape(value); err == nil && depth < maskDepth {
			if shown, changed := maskText(plain, depth+1); changed {
				pairs[i] = name + "=" + url.QueryEscape(shown)
			}
		}
	}
	return strings.Join(pairs, "&")
}

// namesToken reports whether the name of a field is one of a token, also as in event[token].
func namesToken(name string) bool {
	parts := strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-' })
	for _, part := range parts {
		if strings.EqualFold(part, "token") {
			return true
		}
	}
	return false
}

// maskParts writes a form of several parts anew, without tokens.
func maskParts(body []byte, boundary string) ([]byte, bool) {
	if boundary == "" {
		return nil, false
	}
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	if w.SetBoundary(boundary) != nil {
		return nil, false
	}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			err := w.Close()
			return out.Bytes(), err == nil
		}
		if err != nil {
			return nil, false
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, false
		}
		shown, _ := maskText(string(value), 1)
		if namesToken(part.FormName()) || namesToken(part.FileName()) {
			shown = hidden
		}
		to, err := w.CreatePart(part.Header)
		if err != nil {
			return nil, false
		}
		if _, err := io.WriteString(to, shown); err != nil {
			return nil, false
		}
	}
}

// escapes are the ways of JSON and of forms to write a letter.
var escapes = regexp.MustCompile(`(?i)(?:\\u00|%)([0-7][0-9a-f])`)

// speaksOfToken reports whether the word is in a body, however it is written.
func speaksOfToken(body []byte) bool {
	plain := escapes.ReplaceAllFunc(bytes.ReplaceAll(body, []byte{0}, nil), func(e []byte) []byte {
		n, _ := strconv.ParseUint(string(e[len(e)-2:]), 16, 8) // two digits
		return []byte{byte(n)}
	})
	return bytes.Contains(bytes.ToLower(plain), []byte("token"))
}

// stringEnd is behind the string of valid JSON that begins there.
func stringEnd(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// valueEnd is behind the value of valid JSON that begins there.
func valueEnd(text []byte, i int) int {
	for depth := 0; i < len(text); {
		switch text[i] {
		case '"':
			i = stringEnd(text, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		default:
			for i++; i < len(text) && !bytes.ContainsRune([]byte("\"{}[],: \t\r\n"), rune(text[i])); {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return len(text)
}

func skipBlanks(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n') {
		i++
	}
	return i
}

// stringOf is what a string of valid JSON says.
func stringOf(raw []byte) (text string) {
	_ = json.Unmarshal(raw, &text) // cannot fail: it is valid
	return text
}

func quoted(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // cannot fail: it is a string
	return strings.TrimSuffix(b.String(), "\n")
}
