package zohotest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// prefix is the API version that is served; others are no URL of ours.
const prefix = "/crm/v8/"

// call is what a request to the API turns out to be.
type call struct {
	area  string // what a scope has to cover, as "modules.contacts"; "a|b": one of both
	op    string // what for, as READ
	cost  int64  // in credits
	serve func(*http.Request) answer
}

// api answers a request to the API. over says that too many are under way.
func (s *Server) api(r *http.Request, over bool) answer {
	if over {
		return refuseStatus(http.StatusTooManyRequests)
	}
	if !wait(r, s.o.Latency(r)) {
		return refuseStatus(http.StatusServiceUnavailable) // nobody is there to read it
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme != "Zoho-oauthtoken" || token == "" {
		return refuse(http.StatusUnauthorized, "AUTHENTICATION_FAILURE", "Authentication failed", nil)
	}
	if !s.tokens.good(token) {
		return refuseStatus(http.StatusUnauthorized)
	}
	c, refused := s.resolve(r)
	if c == nil {
		return refused
	}
	if !covered(s.o.Scopes, c.area, c.op) {
		return refuse(http.StatusUnauthorized, "OAUTH_SCOPE_MISMATCH", "invalid oauth scope to access this URL", nil)
	}
	remaining, ok := s.meter.spend(c.cost)
	a := refuseStatus(http.StatusTooManyRequests)
	if ok {
		a = c.serve(r)
	}
	if remaining <= s.o.Credits/2 {
		if a.header == nil {
			a.header = http.Header{}
		}
		a.header.Set("X-API-CREDITS-REMAINING", strconv.FormatInt(remaining, 10))
	}
	return a
}

// wait waits for d and reports whether the client did, too.
func wait(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return r.Context().Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// resolve says what call r is; a nil call comes with the refusal.
func (s *Server) resolve(r *http.Request) (*call, answer) {
	rest, ok := strings.CutPrefix(r.URL.Path, prefix)
	if !ok {
		return nil, refuseStatus(http.StatusNotFound)
	}
	path := strings.Split(rest, "/")
	c, methods := s.fixedCall(r, path)
	if c == nil {
		m := s.store.modules[path[0]]
		if m == nil {
			return nil, refuse(http.StatusBadRequest, "INVALID_MODULE", "the module name given seems to be invalid", details{"resource_path_index": 0})
		}
		c, methods = s.moduleCall(r, m, path[1:]), []string{http.MethodGet}
	}
	switch {
	case c == nil:
		return nil, refuseStatus(http.StatusNotFound)
	case !slices.Contains(methods, r.Method):
		return nil, refuse(http.StatusBadRequest, "INVALID_REQUEST_METHOD", "The http request method type is not a valid one", nil)
	default:
		return c, answer{}
	}
}

// fixedCall is a call to a path that names no module; nil when it is none.
func (s *Server) fixedCall(r *http.Request, path []string) (*call, []string) {
	get := []string{http.MethodGet}
	switch strings.Join(path, "/") {
	case "coql":
		q := readQuery(r)
		return &call{"coql|modules", "READ", q.cost(), func(*http.Request) answer { return s.coql(q) }}, []string{http.MethodPost}
	case "org":
		return &call{"org", "READ", 1, s.org}, get
	case "users":
		return &call{"users", "READ", 1, s.users}, get
	case "settings/related_lists":
		return &call{"settings.related_lists", "READ", 1, s.relatedLists}, get
	case "actions/watch":
		switch r.Method {
		case http.MethodPost:
			return &call{"notifications", "CREATE", 1, s.enable}, []string{r.Method}
		case http.MethodPut:
			return &call{"notifications", "WRITE|UPDATE", 1, s.replace}, []string{r.Method}
		case http.MethodPatch:
			return &call{"notifications", "WRITE|UPDATE", 1, s.patch}, []string{r.Method}
		case http.MethodDelete:
			return &call{"notifications", "DELETE", 1, s.disable}, []string{r.Method}
		default:
			return &call{"notifications", "READ", 1, s.listChannels}, get
		}
	}
	return nil, nil
}

// moduleCall is a call to a path below a module's; nil when there is none.
func (s *Server) moduleCall(r *http.Request, m *module, path []string) *call {
	c := &call{area: "modules." + strings.ToLower(m.Name), op: "READ", cost: 1}
	switch {
	case len(path) == 0:
		if r.URL.Query().Has("cvid") {
			c.cost = 3
		}
		c.serve = func(r *http.Request) answer { return s.list(r, m) }
	case len(path) == 1 && path[0] == "deleted":
		c.cost = 2
		c.serve = func(r *http.Request) answer { return s.deleted(r, m) }
	case len(path) == 1:
		c.serve = func(r *http.Request) answer { return s.one(r, m, path[0]) }
	case len(path) == 2 && path[0] == "actions" && path[1] == "count":
		c.serve = func(*http.Request) answer { return s.count(m) }
	case len(path) == 2 && path[0] != "actions":
		c.serve = func(r *http.Request) answer { return s.related(r, m, path[0], path[1]) }
	default:
		return nil
	}
	return c
}

// covered reports whether one of the scopes is for area and op; both may name
// several of which one will do. ZohoCRM.modules.ALL covers modules.contacts,
// ZohoCRM.modules.contacts.READ only reading those. Case does not matter.
func covered(scopes []string, area, op string) bool {
	for _, scope := range scopes {
		words := strings.Split(strings.ToLower(scope), ".")
		if len(words) < 3 || words[0] != "zohocrm" {
			continue
		}
		last := words[len(words)-1]
		if last != "all" && !slices.Contains(strings.Split(strings.ToLower(op), "|"), last) {
			continue
		}
		of := strings.Join(words[1:len(words)-1], ".")
		for a := range strings.SplitSeq(area, "|") {
			if a == of || strings.HasPrefix(a, of+".") {
				return true
			}
		}
	}
	return false
}

func (s *Server) org(*http.Request) answer {
	return found(map[string]any{"org": []any{map[string]any{
		"id": orgID, "company_name": "Zohotest Ltd.", "primary_email": s.o.Users[0].Email,
		"time_zone": s.o.Zone.String(), "iso_code": "EUR", "type": "production",
	}}})
}

func (s *Server) users(*http.Request) answer {
	rows := make([]any, len(s.o.Users))
	for i, u := range s.o.Users {
		rows[i] = map[string]any{"id": u.ID, "full_name": u.Name, "email": u.Email, "status": "active"}
	}
	return found(map[string]any{"users": rows, "info": map[string]any{
		"per_page": maxPerPage, "count": len(rows), "page": 1, "more_records": false,
	}})
}
