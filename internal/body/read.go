// Package body reads the bodies of requests: in go bytes and a list of the fields
// that there may be, out come their values, or an error that names the field that is
// wrong. It is stricter than encoding/json: a field that nobody asked for is an
// error, for a name that is typed wrong must not be lost.
package body

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/memrelay/memrelay/internal/respond"
)

// timeout bounds how long a body may take to arrive.
const timeout = 30 * time.Second

// Receive reads a body of JSON in UTF-8, of at most that many bytes. What it returns
// need not be JSON. Its errors are *respond.Error.
func Receive(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	if t := r.Header.Get("Content-Type"); t != "" {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != "application/json" {
			return nil, &respond.Error{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "Send application/json."}
		}
	}
	// A recorder in a test has no deadline to set; a server's connection does.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(timeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &respond.Error{
			Status: http.StatusRequestEntityTooLarge, Code: "body_too_large", Message: fmt.Sprintf("The body is greater than %d bytes.", most),
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, &respond.Error{
			Status: http.StatusRequestTimeout, Code: "body_too_slow", Message: fmt.Sprintf("The body did not arrive within %s.", timeout),
		}
	case err != nil:
		return nil, &respond.Error{Status: http.StatusBadRequest, Code: "body_broken", Message: "The body ended before it was complete.", Err: err}
	case !utf8.Valid(body):
		return nil, notJSON("The body is not UTF-8.")
	}
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}

// Read reads a body that is to be one object. It refuses what is none, fields that
// are not asked for, fields that are there twice, and values of another type: with an
// *Invalid for what is wrong with a field, with a *respond.Error for what is no
// object at all.
func (o Object) Read(body []byte) error {
	if err := Check(body); err != nil {
		return err
	}
	return o.read("", body)
}

// Check refuses what is no JSON object, with a *respond.Error, and one that is nested
// too deeply, with an *Invalid.
func Check(body []byte) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return notJSON("The body is empty: send a JSON object.")
	}
	if name, deep := tooDeep(body); deep {
		if name == "" {
			return notJSON("The body is not a JSON object.")
		}
		return wrong(Shorten(name), "is nested too deeply")
	}
	if !json.Valid(body) {
		return notJSON("The body is not JSON.")
	}
	if !opens(body, '{') {
		return notJSON("The body is not a JSON object.")
	}
	return nil
}

func notJSON(message string) error {
	return &respond.Error{Status: http.StatusBadRequest, Code: "invalid_json", Message: message}
}

// Invalid is the error of a field that is wrong.
type Invalid struct {
	Field   string // as it is sent, "items[3].content"
	Problem string
}

// Error returns both.
func (e *Invalid) Error() string { return e.Field + ": " + e.Problem }

func wrong(field, format string, args ...any) error {
	return &Invalid{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// maxDepth is deeper than any body is that is good; encoding/json gives up at
// 10,000 levels without saying where.
const maxDepth = 32

// tooDeep reports whether body is nested deeper than maxDepth, and the outermost
// field that is. It need not be JSON.
func tooDeep(body []byte) (name string, deep bool) {
	depth, start := 0, 0
	inString, escaped := false, false
	var last []byte // the string that ended last, of the outermost object
	for i, b := range body {
		switch {
		case escaped:
			escaped = false
		case inString && b == '\\':
			escaped = true
		case b == '"':
			if inString = !inString; inString {
				start = i
			} else if depth == 1 {
				last = body[start : i+1]
			}
		case inString:
		case b == '{' || b == '[':
			if depth++; depth > maxDepth {
				_ = json.Unmarshal(last, &name) // what is no string names nothing
				return name, true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return "", false
}

// maxEcho bounds what an answer repeats of a request, in characters.
const maxEcho = 64

// Shorten is a name out of a request as an answer repeats it.
func Shorten(s string) string {
	if utf8.RuneCountInString(s) > maxEcho {
		return string([]rune(s)[:maxEcho]) + "…"
	}
	return strings.ToValidUTF8(s, "�")
}

// OrNone is a list of names for people.
func OrNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Params refuses the parameters of a URL that are not among the named ones, or there
// twice, with an *Invalid.
func Params(params url.Values, names ...string) error {
	for name, values := range params {
		if !slices.Contains(names, name) {
			return wrong(Shorten(name), "is no parameter here: there are %s", OrNone(names))
		}
		if len(values) > 1 {
			return wrong(name, "want it once")
		}
	}
	return nil
}

// Query reads the parameters of a URL. It returns a *respond.Error for what is no query.
func Query(r *http.Request) (url.Values, error) {
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &respond.Error{Status: http.StatusBadRequest, Code: "invalid_query", Message: "The query is not one of a URL.", Err: err}
	}
	return params, nil
}
