package contract

import (
	"fmt"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/respond"
)

const asProblem = "application/problem+json"

// Problem is the one shape of every error: RFC 9457, with a code for programs.
type Problem struct {
	// Type is always about:blank: the code says more.
	Type   string `json:"type"`
	Title  string `json:"title"`  // of the status
	Status int    `json:"status"` // of the answer, again
	Detail string `json:"detail"` // for people
	Code   string `json:"code"`   // for programs: snake case, never changes
	// Field is the one that is wrong, as it is sent; of several the first.
	Field  string          `json:"field,omitempty"`
	Errors []respond.Field `json:"errors,omitempty"` // all that are wrong, where several can be
	// RequestID stands in the log, too.
	RequestID string `json:"request_id"`
}

func exampleOf(e *respond.Error) Problem {
	return Problem{
		Type: "about:blank", Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Message, Code: e.Code,
		Field: e.Field, Errors: e.Fields, RequestID: "01a201a3-89ed-769a-b1f9-2106af11e64b",
	}
}

// internalProblem can come of every operation.
func internalProblem() *respond.Error {
	return &respond.Error{Status: http.StatusInternalServerError, Code: "internal", Message: "Something went wrong here; the log has it under this request_id."}
}

// tokenProblems are those of an operation that takes a token.
func tokenProblems(scope string) []*respond.Error {
	return []*respond.Error{
		{Status: http.StatusUnauthorized, Code: "unauthorized", Message: "Send a token that is good: Authorization: Bearer mrt_…"},
		{Status: http.StatusForbidden, Code: "forbidden", Message: "This takes a token with the scope " + scope + "."},
		{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 5 * time.Second, Message: "This could not be done now. Send it again later."},
	}
}

// BodyProblems are those of an operation that reads a JSON body of at most that many bytes.
func BodyProblems(most int) []*respond.Error {
	return []*respond.Error{
		{Status: http.StatusBadRequest, Code: "invalid_json", Message: "The body is not a JSON object."},
		{Status: http.StatusBadRequest, Code: "body_broken", Message: "The body ended before it was complete."},
		{Status: http.StatusRequestTimeout, Code: "body_too_slow", Message: "The body did not arrive within 30s."},
		{Status: http.StatusRequestEntityTooLarge, Code: "body_too_large", Message: fmt.Sprintf("The body is greater than %d bytes.", most)},
		{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "Send application/json."},
	}
}

// QueryProblem is that of an operation that reads the query.
func QueryProblem() *respond.Error {
	return &respond.Error{Status: http.StatusBadRequest, Code: "invalid_query", Message: "The query is not one of a URL."}
}
