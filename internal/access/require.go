package access

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/respond"
)

type contextKey struct{}

// vouchedKey is where As leaves an identity; nothing else writes there.
type vouchedKey struct{}

// As returns a context by whose requests Require takes who for their sender, whatever
// their headers say. It is for requests that this process makes of itself. A context is
// nothing that a request brings along: nobody on the network can say so.
func As(ctx context.Context, who Identity) context.Context {
	return context.WithValue(ctx, vouchedKey{}, who)
}

// whoSent returns who sent a request: whom As names, else whom its token names.
func (a *Access) whoSent(r *http.Request) (Identity, error) {
	if who, ok := r.Context().Value(vouchedKey{}).(Identity); ok {
		return who, nil
	}
	return a.Authenticate(r.Context(), r.Header)
}

// Still returns ErrUnauthorized when who sent a request that Require let through may no
// longer send it: the token has expired or was revoked, or has lost the scope. It is for
// answers that take long. What the database said otherwise says nothing about the token.
func (a *Access) Still(r *http.Request, scope string) error {
	who, err := a.whoSent(r)
	if err == nil && !who.May(scope) {
		return ErrUnauthorized
	}
	return err
}

// From returns who the request that ctx belongs to comes from; false where no
// Require stands before.
func From(ctx context.Context) (Identity, bool) {
	i, ok := ctx.Value(contextKey{}).(Identity)
	return i, ok
}

// Require lets through who has a token with that scope; From tells who it is. It
// answers 401 without a good token, 403 without the scope, and 503 when the
// database does not say which: then nobody is told that a good token is none.
func (a *Access) Require(scope string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			identity, err := a.whoSent(r)
			if err == nil {
				respond.Annotate(r.Context(), slog.String("actor", identity.Actor))
			}
			switch {
			case errors.Is(err, ErrUnauthorized):
				w.Header().Set("WWW-Authenticate", "Bearer")
				respond.Problem(w, r, &respond.Error{
					Status: http.StatusUnauthorized, Code: "unauthorized",
					Message: "Send a token that is good: Authorization: Bearer mrt_…",
				})
			case err != nil:
				respond.Problem(w, r, &respond.Error{
					Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 5 * time.Second, Err: err,
					Message: "Whether this token is good could not be looked up. Nothing was done; send this again later.",
				})
			case !identity.May(scope):
				w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+scope+`"`)
				respond.Problem(w, r, &respond.Error{
					Status: http.StatusForbidden, Code: "forbidden", Message: "This takes a token with the scope " + scope + ".",
				})
			default:
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, identity)))
			}
		})
	}
}
