package exchange

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/memrelay/memrelay/internal/memory"
)

const (
	// maxWords bounds what is repeated of an answer, in bytes.
	maxWords = 500
	// longestWait bounds what a Retry-After can ask for.
	longestWait = time.Hour
)

// refused is an answer that is no success, as an error.
func (c *Client) refused(q Call, res *http.Response) error {
	status := res.StatusCode
	body, _ := io.ReadAll(io.LimitReader(res.Body, errorLimit)) // what broke off is no JSON
	said, isJSON := parse(body)
	if !isJSON {
		said.words = noJSON(res)
	}
	r := Refusal{Status: status, Code: said.code, Words: c.Words(said.words)}
	r.Usual = usual(status, q.Gone && said.names(), isJSON)
	kind := r.Usual
	if c.o.Kind != nil {
		kind = c.o.Kind(r)
	}
	return &memory.RemoteError{
		Kind: kind, Status: status, Message: r.Words, RetryAfter: retryAfter(res.Header, c.o.Now()),
		// Behind a 5xx there may be a system that did it, and a proxy that lost patience;
		// behind a 409 that refuses nothing, one that failed halfway.
		Sent: q.Effect && (status >= 500 || status == http.StatusConflict) && kind == memory.RemoteUnavailable,
	}
}

// usual is what a status means. Whoever stands in front of a system speaks no
// JSON, and says nothing about an item.
func usual(status int, gone, isJSON bool) memory.RemoteKind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return memory.RemoteUnauthorized
	case http.StatusTooManyRequests, http.StatusPaymentRequired:
		return memory.RemoteThrottled
	case http.StatusNotFound, http.StatusGone:
		if gone && isJSON {
			return memory.RemoteGone
		}
	case http.StatusRequestEntityTooLarge:
		return memory.RemoteRefused
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		if isJSON {
			return memory.RemoteRefused
		}
	}
	return memory.RemoteUnavailable
}

// phrase is what the JSON of a refusal says.
type phrase struct{ code, words string }

// names reports whether it is about something that was named. "Not Found" alone
// is what a server says of a path that it does not have, as behind a wrong URL.
func (s phrase) names() bool { return s.words != "" && s.words != "Not Found" }

// parse reads what mem0 and Cognee refuse with: {"detail"}, {"error","detail"},
// {"message"}, {"detail":[{"loc","msg"}]}, {"detail","code"}. What a validation
// repeats of the request stays out: that is somebody's memory.
func parse(body []byte) (phrase, bool) {
	var all struct{ Error, Detail, Message, Code any }
	if json.Unmarshal(body, &all) != nil {
		return phrase{}, false
	}
	var words []string
	for _, part := range []any{all.Error, all.Message, all.Detail} {
		if text := wordsOf(part); text != "" {
			words = append(words, text)
		}
	}
	code, _ := all.Code.(string)
	return phrase{code: code, words: strings.Join(words, ": ")}, true
}

func wordsOf(part any) string {
	switch part := part.(type) {
	case string:
		return part
	case map[string]any:
		return wordsOf(part["message"])
	case []any:
		var all []string
		for _, one := range part {
			if text := faultOf(one); text != "" {
				all = append(all, text)
			}
		}
		return strings.Join(all, "; ")
	}
	return ""
}

// faultOf is one of the faults that a validation found: where, and what.
func faultOf(one any) string {
	fault, _ := one.(map[string]any)
	text, _ := fault["msg"].(string)
	at, _ := fault["loc"].([]any)
	var path []string
	for _, step := range at {
		switch step := step.(type) {
		case string:
			path = append(path, step)
		case float64:
			path = append(path, strconv.Itoa(int(step)))
		}
	}
	if len(path) > 0 {
		return strings.Join(path, ".") + ": " + text
	}
	return text
}

// noJSON describes an answer that is no JSON: a proxy's page, a cut body.
func noJSON(res *http.Response) string {
	if 300 <= res.StatusCode && res.StatusCode < 400 {
		return "a redirect, which is not followed"
	}
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	return strings.TrimSpace("no JSON in the answer " + kind)
}

// Words are what a system says as an error may hold it: short, on one line and
// without the key.
func (c *Client) Words(words string) string { return bounded(c.hide(words)) }

func bounded(words string) string {
	words = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(words, "?"))
	if len(words) <= maxWords {
		return words
	}
	cut := maxWords - len("…")
	for !utf8.RuneStart(words[cut]) {
		cut--
	}
	return words[:cut] + "…"
}

// retryAfter is when to come again, as the answer says it: in seconds, or as a
// date. 0 when it does not say.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	seconds, err := strconv.ParseUint(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(longestWait/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), longestWait)
	}
	return 0
}
