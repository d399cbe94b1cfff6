package access_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/memrelay/memrelay/internal/access"
)

// This process may say who asks; whoever asks it over the network may not, whatever they send.
func TestAsIsForThisProcessAlone(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	h := g.access.Require(access.AdminWrite)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, _ := access.From(r.Context())
		w.Header().Set("X-Actor", who.Actor)
	}))
	for name, c := range map[string]struct {
		who    *access.Identity
		header http.Header
		status int
		actor  string
	}{
		"named by this process":        {&access.Identity{Actor: "command line, ada", Scopes: access.Scopes()}, nil, http.StatusOK, "command line, ada"},
		"named, and a token of more":   {&access.Identity{Actor: "ada", Scopes: []string{access.AdminRead}}, http.Header{"Authorization": {"Bearer " + adminToken}}, http.StatusForbidden, ""},
		"named, without the scope":     {&access.Identity{Actor: "ada", Scopes: []string{access.Memory}}, nil, http.StatusForbidden, ""},
		"not named":                    {nil, nil, http.StatusUnauthorized, ""},
		"not named, but says so":       {nil, http.Header{"X-Actor": {"admin"}, "Authorization": {"As command line, ada"}}, http.StatusUnauthorized, ""},
		"not named, with a good token": {nil, http.Header{"Authorization": {"Bearer " + adminToken}}, http.StatusOK, access.Admin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
			if c.header != nil {
				r.Header = c.header
			}
			if c.who != nil {
				r = r.WithContext(access.As(r.Context(), *c.who))
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status || w.Header().Get("X-Actor") != c.actor {
				t.Errorf("answered %d to %q, want %d to %q", w.Code, w.Header().Get("X-Actor"), c.status, c.actor)
			}
		})
	}
}
