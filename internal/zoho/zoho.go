// Package zoho is Zoho CRM's API as Go. In go credentials, a transport and
// questions; out come records, channels and errors that say whose fault they
// are. It knows nothing of memrelay.
//
// Sources: https://www.zoho.com/crm/developer/docs/api/v8/ (records, related
// lists, COQL, notifications, limits, status codes) and
// https://www.zoho.com/accounts/protocol/oauth/ (tokens and their limits).
package zoho

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Version is the API version that every path is built with.
const Version = "v8"

const (
	// MaxIDs is how many records one call by ids returns.
	MaxIDs = 100
	// MaxPage is the greatest page of a list, and the default.
	MaxPage = 200
	// MaxFields is how many fields a list may ask for.
	MaxFields = 50
	// MaxToken is the length of a channel's token, in bytes.
	MaxToken = 50
	// MaxChannelLife is the longest that a channel lives; what is asked for beyond
	// it becomes an hour.
	MaxChannelLife = 7 * 24 * time.Hour
)

// Config says which Zoho, and who we are to it.
type Config struct {
	DataCenter   string // us, eu, in, au, jp, cn, ca, sa; "": us
	Edition      string // production, sandbox or developer; "": production
	AccountsURL  string // where tokens come from; "": the data centre's
	APIURL       string // where the API is; "": what the token's answer says, else the data centre's
	ClientID     string
	ClientSecret string
}

// Token is an access token and what came with it.
type Token struct {
	Access    string
	APIDomain string    // the API's base URL as Zoho says it, "" when it did not
	Expires   time.Time // by our clock
	Scopes    []string  // empty when Zoho did not say
	Refresh   string    // only when a grant code was exchanged
}

// Tokens gives access tokens. refused is "", or an access token that Zoho did
// not take: it is not returned again. It is called for every request, so it
// keeps what it has; an error is an *Error.
type Tokens interface {
	Token(ctx context.Context, refused string) (Token, error)
}

// Gate is asked before every request to the API and told how it ended, so that
// an outage costs one probe and not a request of everybody.
type Gate interface {
	// Allow returns nil, or an *Error of the kind that keeps Zoho closed, which says
	// when to come again.
	Allow(ctx context.Context) error
	// Report is called once for every Allow that returned nil, with nil or an *Error.
	Report(ctx context.Context, err error)
}

// Options are what a Client is built of besides its Config.
type Options struct {
	Tokens    Tokens
	Gate      Gate              // nil: always open
	Transport http.RoundTripper // nil: http.DefaultTransport
	// Concurrency bounds the calls under way at one time; 0: 3.
	Concurrency int
	// Timeout bounds one request with its answer; 0: 20 s.
	Timeout time.Duration
	// MaxAnswer bounds an answer's body in bytes; 0: 32 MiB.
	MaxAnswer int64
	// GatherLeast is how many single records are worth a call by ids while other
	// such calls are under way; GatherWait is how long the first of them waits for
	// that. When none is under way nobody waits. 0: 10 and 5 s.
	GatherLeast int
	GatherWait  time.Duration
	// Fields are what is asked for, by module; a module that is not in it gets
	// DefaultFields.
	Fields map[string][]string
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: none
}

// Record is a record's fields by their API names, values as JSON.
type Record map[string]json.RawMessage

// ID is the record's id as text, whether Zoho wrote a string or a number; "" when it has none.
func (r Record) ID() string {
	raw := r["id"]
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}

// Cursor says where a list goes on: "" is its beginning. It is a page number up
// to the 2,000th record and a page token after it; a token is good for 24 hours.
type Cursor string

// Page is a part of a list.
type Page struct {
	Records []Record
	Next    Cursor // "" when this was the last
}

// DeletedRecord is what Zoho still says of a record that is gone.
type DeletedRecord struct {
	ID        string
	Name      string
	Type      string // recycle or permanent
	DeletedAt time.Time
}

// DeletedPage is a part of the list of what is gone.
type DeletedPage struct {
	Records []DeletedRecord
	Next    Cursor
}

// RelatedList is one of the lists that hang on a module's records.
type RelatedList struct {
	APIName string // as in a path
	Module  string // whose records it holds, "" when Zoho does not say
}

// Listed are the modules under which the API lists what a notification or a person
// calls module: a meeting is one of its Events, an activity a task, an event or a
// call. Of all others it is the module itself.
func Listed(module string) []string {
	switch module {
	case "Meetings":
		return []string{"Events"}
	case "Activities":
		return []string{"Tasks", "Events", "Calls"}
	default:
		return []string{module}
	}
}

// MayBeCut reports whether a text has the length at which lists cut texts, so that
// it may be no more than a beginning.
func MayBeCut(text string) bool {
	// Zoho counts as Java does, or as people do: which, it does not say.
	return len(text) >= cutAt && (utf8.RuneCountInString(text) == cutAt || len(utf16.Encode([]rune(text))) == cutAt)
}

// ListOptions narrow a list.
type ListOptions struct {
	Since   time.Time // only what was modified since; zero: everything
	Cursor  Cursor
	PerPage int  // 0: MaxPage
	ByID    bool // in the order of ids, lowest first; otherwise as Zoho likes
}

// Channel is a notification channel.
type Channel struct {
	ID        string    // a positive int64 in decimal, chosen by us
	Events    []string  // Module.create, .edit, .delete or .all
	NotifyURL string    // at most 255 characters
	Token     string    // echoed in every notification; at most MaxToken bytes
	Expires   time.Time // as asked for; in an answer: as Zoho set it
	Module    string    // only in answers
}

// Kind says what to do about an Error.
type Kind int

const (
	// KindUnavailable is a Zoho that does not answer, or answers what is none:
	// network errors, timeouts, 5xx, HTML, truncated JSON.
	KindUnavailable Kind = iota + 1
	// KindThrottled is too much at a time: a 429, or too many tokens asked for.
	KindThrottled
	// KindCreditsSpent is a 429 because the day's credits are used up.
	KindCreditsSpent
	// KindUnauthorized is a refresh token or a client that Zoho does not know: a
	// person has to connect anew.
	KindUnauthorized
	// KindForbidden is a scope or a permission that is missing.
	KindForbidden
	// KindInvalid is a question that Zoho refuses: an unknown module or field.
	KindInvalid
	// KindTooLarge is an answer beyond Options.MaxAnswer.
	KindTooLarge
)

// Error is how a call failed.
type Error struct {
	Kind    Kind
	Op      string // what was attempted, as "list Contacts"
	Status  int    // the HTTP status, 0 without an answer
	Code    string // Zoho's code, as INVALID_MODULE; "" without one
	Message string // Zoho's words, bounded; no secret stands in it
	// RetryAfter is when to come again, as Zoho or the gate says; 0: nobody said.
	RetryAfter time.Duration
	Err        error // the cause below, may be nil
}

// NotSubscribed is Zoho's code for a channel that it has forgotten.
const NotSubscribed = "NOT_SUBSCRIBED"

// KindOf returns the kind of the *Error in err's chain; 0 when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return 0
}

// RetryAfter returns how long err asks to wait; 0 when it does not say.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// Error says what was attempted and what Zoho said.
func (e *Error) Error() string {
	text := "zoho: " + e.Op
	if e.Status != 0 {
		text += fmt.Sprintf(": status %d", e.Status)
	}
	for _, part := range []string{e.Code, e.Message} {
		if part != "" {
			text += ": " + part
		}
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause below.
func (e *Error) Unwrap() error { return e.Err }
