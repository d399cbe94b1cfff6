package endpoint

import (
	"errors"

	"github.com/memrelay/memrelay/internal/seal"
)

// Errors that callers branch on.
var (
	// ErrNotFound is returned for an endpoint that is not there, or is gone.
	ErrNotFound = errors.New("there is no such endpoint")
	// ErrInvalid is what each FieldError is. Nothing was stored.
	ErrInvalid = errors.New("cannot be so")
	// ErrExists is returned for the name of an endpoint that is there.
	ErrExists = errors.New("there is an endpoint of this name")
	// ErrEnv is returned for what cannot be done to the endpoint named env.
	ErrEnv = errors.New("the endpoint env is what the settings say: it can only be paused and resumed here")
	// ErrNoKey is returned where secrets would be stored, or have to be read, and
	// there is no key to do it with.
	ErrNoKey = seal.ErrNoKey
)

// FieldError says which field of what was asked for is wrong, and how. It is
// ErrInvalid, and quotes no secret.
type FieldError struct {
	Field   string // as it is sent: "auth.oauth2.token_url"
	Problem string
}

// Error returns both.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Unwrap returns ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// Problems returns all that is wrong with what was asked for, as an error of this
// package tells it; none when the error is another one.
func Problems(err error) []*FieldError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*FieldError
		for _, e := range joined.Unwrap() {
			all = append(all, Problems(e)...)
		}
		return all
	}
	var one *FieldError
	if errors.As(err, &one) {
		return []*FieldError{one}
	}
	return nil
}
