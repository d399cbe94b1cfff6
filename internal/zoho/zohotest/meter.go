package zohotest

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// heavyLimit is how many of the costly calls may be under way at one time, in
// every edition.
const heavyLimit = 10

// creditSpan is how long a spent credit stays spent.
const creditSpan = 24 * time.Hour

// meter counts calls and credits.
type meter struct {
	now     func() time.Time
	credits int64
	limit   int

	mu       sync.Mutex
	calls    int64
	routes   map[string]int64
	underWay int
	heavy    int
	most     int
	spent    int64
	spendAt  []spending // oldest first, one for a minute; their sum is spent
}

// spending is what was spent in one minute.
type spending struct {
	minute  int64
	credits int64
}

func newMeter(o Options) *meter {
	return &meter{now: o.Now, credits: o.Credits, limit: o.Concurrency, routes: map[string]int64{}}
}

// routeOf is the request's method and path, with {id} for every number.
func routeOf(r *http.Request) string {
	words := strings.Split(r.URL.Path, "/")
	for i, word := range words {
		if isDigits(word) {
			words[i] = "{id}"
		}
	}
	return r.Method + " " + strings.Join(words, "/")
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// isHeavy reports whether a call counts against the smaller limit.
func isHeavy(r *http.Request) bool {
	query := r.URL.Query()
	return query.Has("sort_by") || query.Has("cvid") || r.URL.Path == prefix+"coql"
}

func (m *meter) count(route string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.routes[route]++
}

// enter counts a call to the API and reports whether it is one too many.
func (m *meter) enter(r *http.Request) (over bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	m.routes[routeOf(r)]++
	m.underWay++
	m.most = max(m.most, m.underWay)
	if isHeavy(r) {
		m.heavy++
		over = m.heavy > heavyLimit
	}
	return over || m.underWay > m.limit
}

func (m *meter) leave(r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.underWay--
	if isHeavy(r) {
		m.heavy--
	}
}

// spend takes credits, and reports what remains and whether there were enough.
func (m *meter) spend(n int64) (remaining int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	if m.spent+n > m.credits {
		return m.credits - m.spent, false
	}
	minute := m.now().Unix() / 60
	if last := len(m.spendAt) - 1; last >= 0 && m.spendAt[last].minute == minute {
		m.spendAt[last].credits += n
	} else {
		m.spendAt = append(m.spendAt, spending{minute, n})
	}
	m.spent += n
	return m.credits - m.spent, true
}

// forget gives back what was spent more than a day ago.
func (m *meter) forget() {
	oldest := m.now().Add(-creditSpan).Unix() / 60
	for len(m.spendAt) > 0 && m.spendAt[0].minute <= oldest {
		m.spent -= m.spendAt[0].credits
		m.spendAt = m.spendAt[1:]
	}
}

// Calls is how many requests to the API came, refused ones included; requests
// for tokens are none.
func (s *Server) Calls() int64 {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	return s.meter.calls
}

// CallsTo is how many requests came to a route: method and path, with {id} for
// numbers, as in "GET /crm/v8/Accounts/{id}/Deals" or "POST /oauth/v2/token".
func (s *Server) CallsTo(route string) int64 {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	return s.meter.routes[route]
}

// MaxConcurrent is the most calls to the API that were under way at one time,
// refused ones included.
func (s *Server) MaxConcurrent() int {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	return s.meter.most
}

// Credits is what was spent in the last 24 hours.
func (s *Server) Credits() int64 {
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	s.meter.forget()
	return s.meter.spent
}

// SpendCredits spends what is left: every call is refused until the clock has
// gone 24 hours on.
func (s *Server) SpendCredits() {
	s.meter.spend(s.o.Credits - s.Credits())
}
