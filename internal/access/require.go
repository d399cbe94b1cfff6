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
			identity, err := a.Authenticate(r.Context(), r.Header)
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
