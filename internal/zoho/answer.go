package zoho

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	// errTimeout is the end of our own patience, as opposed to the caller's.
	errTimeout = errors.New("no whole answer in time")
	// errTooLong is a body beyond its bound.
	errTooLong = errors.New("the answer is too long")
	// errNotShown is an answer that leaves open whether there is more.
	errNotShown = errors.New("it says neither what there is nor that there is nothing")
	// errNoID is a record that could be any.
	errNoID = errors.New("a record has no id")
)

// text is a JSON string or number as text: ids are sent as either, and a float64
// would change those beyond 2^53. Any other value reads as "".
type text string

// UnmarshalJSON never fails: what is neither string nor number says nothing.
func (t *text) UnmarshalJSON(raw []byte) error {
	*t = ""
	var s string
	var n json.Number
	switch {
	case json.Unmarshal(raw, &s) == nil:
		*t = text(s)
	case json.Unmarshal(raw, &n) == nil:
		*t = text(n.String())
	}
	return nil
}

func (t text) String() string { return string(t) }

func (t text) number() (int64, error) { return strconv.ParseInt(string(t), 10, 64) }

// said is what an answer of the API holds, in the parts that the calls read.
type said struct {
	problem
	Data         json.RawMessage `json:"data"`
	Watch        json.RawMessage `json:"watch"`
	RelatedLists json.RawMessage `json:"related_lists"`
	Count        text            `json:"count"`
	Info         info            `json:"info"`
}

// info says where a list stands.
type info struct {
	MoreSaid  *bool `json:"more_records"` // nil: not said
	NextToken text  `json:"next_page_token"`
	Count     text  `json:"count"`
}

func (i info) more() bool { return i.MoreSaid != nil && *i.MoreSaid }

// isEnd reports whether a page that shows nothing is the end of its list: Zoho
// answers 204 there, so that it has to say it in so many words.
func (i info) isEnd() bool {
	return i.MoreSaid != nil && !*i.MoreSaid && (i.Count == "" || i.Count == "0")
}

// problem is Zoho's envelope of a result, which for an error says what is wrong.
type problem struct {
	Code    text            `json:"code"`
	Message text            `json:"message"`
	Status  text            `json:"status"`
	Details json.RawMessage `json:"details"`
}

// param is the request's parameter that the problem is about, "" when it does not say.
func (p problem) param() string {
	var details struct {
		Name text `json:"param_name"`
	}
	if json.Unmarshal(p.Details, &details) != nil {
		return ""
	}
	return details.Name.String()
}

// paramError names the parameter of the request that Zoho's words are about.
type paramError string

func (p paramError) Error() string { return "parameter " + string(p) }

// about is the cause of an error about a parameter; nil when Zoho named none.
func about(param string) error {
	if param == "" {
		return nil
	}
	return paramError(bounded(param))
}

// parse reads an answer's body.
func parse(body []byte) (*said, error) {
	if !isObject(body) {
		return nil, errors.New("not a JSON object")
	}
	s := &said{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, err
	}
	return s, nil
}

// isFailure reports whether p says itself that it is one, be it without a code.
func (p problem) isFailure() bool {
	return strings.EqualFold(p.Status.String(), "error") || strings.EqualFold(p.Status.String(), "failure")
}

// failure is the problem that the answer tells of. It stands at the top, or is
// the first entry of data, or any entry of watch; with a status that is none of
// success (failed) anything that has a code counts.
func (s *said) failure(failed bool) (problem, bool) {
	all := append([]problem{s.problem}, s.watched()...)
	if first, ok := s.first(); ok {
		all = append(all, first)
	}
	for _, p := range all {
		if p.isFailure() {
			return p, true
		}
	}
	for _, p := range all {
		if failed && p.Code != "" {
			return p, true
		}
	}
	return s.problem, failed
}

func (s *said) watched() []problem {
	var all []problem
	if json.Unmarshal(s.Watch, &all) != nil {
		return nil
	}
	return all
}

// first is the first entry of data, when that is no record: the rest of a page
// of records is not looked at.
func (s *said) first() (problem, bool) {
	d := json.NewDecoder(bytes.NewReader(s.Data))
	if open, err := d.Token(); err != nil || open != json.Delim('[') || !d.More() {
		return problem{}, false
	}
	var entry struct {
		problem
		ID text `json:"id"`
	}
	if d.Decode(&entry) != nil || entry.ID != "" {
		return problem{}, false
	}
	return entry.problem, true
}

// rows are the entries of data. There are none only when Zoho answered that
// there is nothing, which makes s nil, or when a list says that it ends with an
// empty page. Everything else without entries is an error: what reads it as
// nothing takes all for gone during an outage.
func rows[T any](s *said) ([]T, error) {
	if s == nil {
		return nil, nil
	}
	if len(s.Data) == 0 {
		return nil, errNotShown
	}
	var all []T
	if err := json.Unmarshal(s.Data, &all); err != nil {
		return nil, err
	}
	if all == nil || (len(all) == 0 && !s.Info.isEnd()) {
		return nil, errNotShown
	}
	return all, nil
}

// records are the records of a part of a list; each has an id.
func (s *said) records() ([]Record, error) {
	records, err := rows[Record](s)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.ID() == "" {
			return nil, errNoID
		}
	}
	return records, nil
}

// byID are the records that a question by ids was answered with. Zoho answers 204
// for none of them, so that an empty page says nothing of whether they are there.
func (s *said) byID() ([]Record, error) {
	records, err := s.records()
	if err == nil && s != nil && len(records) == 0 {
		return nil, errNotShown
	}
	return records, err
}

// misshapen is JSON that is not what was asked for.
func misshapen(op string, err error) *Error {
	return &Error{Kind: KindUnavailable, Op: op, Status: http.StatusOK, Message: "the answer has another shape", Err: err}
}

// kindFor says what to do about an answer that is a failure.
func kindFor(status int, p problem, header http.Header) Kind {
	isDone := 200 <= status && status < 300
	switch {
	case status == http.StatusTooManyRequests, p.Code == "TOO_MANY_REQUESTS", p.Code == "RATE_LIMIT_EXCEEDED":
		if left, ok := creditsLeft(header); (ok && left <= 0) || isOfTheDay(p) {
			return KindCreditsSpent
		}
		return KindThrottled
	case status >= 500, isRedirect(status), status == http.StatusRequestTimeout, p.Code == "INTERNAL_ERROR":
		return KindUnavailable
	case isDone && p.Code == "":
		return KindUnavailable // "maintenance", say: nothing is wrong with the question
	case p.Code == "INVALID_TOKEN", status == http.StatusUnauthorized && p.Code == "":
		return KindUnauthorized
	case p.Code == "OAUTH_SCOPE_MISMATCH", p.Code == "NO_PERMISSION", p.Code == "AUTHENTICATION_FAILURE",
		status == http.StatusForbidden, status == http.StatusUnauthorized:
		// Zoho knows the token, and does not let its user do this: another token
		// would be the same user's.
		return KindForbidden
	default:
		return KindInvalid
	}
}

// errInternal is the cause of an error about a record that Zoho fails on.
var errInternal = errors.New("INTERNAL_ERROR")

// isInternal reports whether Zoho failed by itself, which it does in an outage,
// and also on a single record.
func isInternal(err error) bool {
	var e *Error
	return errors.As(err, &e) &&
		((e.Status == http.StatusInternalServerError && e.Code == errInternal.Error()) || errors.Is(e.Err, errInternal))
}

// onRecord is e when Zoho is known to answer for others. It has no code: Zoho has
// said nothing of the module, or of how it was asked.
func onRecord(e *Error) *Error {
	return &Error{Kind: KindInvalid, Op: e.Op, Status: e.Status, Message: "Zoho fails on this record alone", Err: errInternal}
}

// isOfTheDay reports whether a 429 is about the day's credits. Zoho documents no
// code for it, so that all of its words are looked at.
func isOfTheDay(p problem) bool {
	words := strings.ToLower(p.Code.String() + " " + p.Message.String())
	for _, w := range []string{"credit", "daily", "per day", "24 hour", "24-hour"} {
		if strings.Contains(words, w) {
			return true
		}
	}
	return false
}

func isRedirect(status int) bool {
	return 300 <= status && status < 400 && status != http.StatusNotModified
}

// creditsLeft is what Zoho says is left of the day's credits, which it does only
// once half of them are used.
func creditsLeft(header http.Header) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(header.Get("X-API-CREDITS-REMAINING")), 10, 64)
	return n, err == nil
}

// retryAfter is when to come again as the answer says it: Retry-After in seconds
// or as a date, else X-RATELIMIT-RESET, which is a number of seconds or an epoch
// in seconds or milliseconds. 0 when it says nothing; never more than a day.
func retryAfter(header http.Header, now time.Time) time.Duration {
	wait := time.Duration(0)
	said := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseInt(said, 10, 64); err == nil {
		wait = inSeconds(seconds)
	} else if at, err := http.ParseTime(said); err == nil {
		wait = at.Sub(now)
	} else if reset, err := strconv.ParseInt(strings.TrimSpace(header.Get("X-RATELIMIT-RESET")), 10, 64); err == nil {
		switch {
		case reset > 1e11:
			wait = time.UnixMilli(reset).Sub(now)
		case reset > 1e8:
			wait = time.Unix(reset, 0).Sub(now)
		default:
			wait = inSeconds(reset)
		}
	}
	return min(max(wait, 0), 24*time.Hour)
}

// inSeconds does not overflow.
func inSeconds(n int64) time.Duration { return time.Duration(min(max(n, 0), 24*3600)) * time.Second }

// readBody reads at most limit bytes and returns errTooLong when there are more.
func readBody(res *http.Response, limit int64) ([]byte, error) {
	if res.ContentLength > limit {
		return nil, errTooLong
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, errTooLong
	}
	return body, err
}

// unanswered is a request that no whole answer came to. The URL is left out of
// it: it may hold a token, and the operation says enough.
func unanswered(ctx context.Context, op string, err error) *Error {
	e := &Error{Kind: KindUnavailable, Op: op, Err: bare(err)}
	if errors.Is(context.Cause(ctx), errTimeout) {
		e.Err = errTimeout
	} else if ctx.Err() != nil {
		e.Err = ctx.Err()
	} else if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		e.Err = errTimeout
	}
	return e
}

func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// noAnswer describes an answer that is not JSON: a proxy's page, a cut body.
func noAnswer(res *http.Response) string {
	if isRedirect(res.StatusCode) {
		return "a redirect, which is not followed"
	}
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	return bounded(fmt.Sprintf("no whole JSON in the answer (%s)", kind))
}

// bounded keeps Zoho's words short and on one line.
func bounded(words string) string {
	const most = 300
	words = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(words, "?"))
	if len(words) <= most {
		return words
	}
	cut := most
	for !utf8.RuneStart(words[cut]) {
		cut--
	}
	return words[:cut] + "…"
}

// hide takes a secret out of Zoho's words, also as it stands in a query.
func hide(words text, secret string) text {
	if secret == "" {
		return words
	}
	return text(strings.NewReplacer(secret, "…", url.QueryEscape(secret), "…").Replace(words.String()))
}
