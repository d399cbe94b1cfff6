package zohotest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxPerPage  = 200
	maxFields   = 50
	maxIDs      = 100
	maxByTokens = 100_000 // records that page tokens reach
	tokenLife   = 24 * time.Hour
)

// sortNames are what a list can be sorted by.
var sortNames = map[string]order{"id": byID, "Created_Time": byCreated, "Modified_Time": byModified}

// question is what a list is asked for.
type question struct {
	fields  []string
	ids     []string
	page    int // 0: by token
	perPage int
	sortBy  string
	desc    bool
	since   int64      // seconds; only what was modified since
	all     bool       // no since was given
	bound   string     // a digest of what a page token is good for
	token   *pageToken // where to go on; nil: by page
}

// pageToken is where a list goes on. It travels with the client.
type pageToken struct {
	Bound   string   `json:"b"`
	After   position `json:"p"`
	Page    int      `json:"n"` // the page it opens
	Seen    int      `json:"s"` // records before it
	Expires int64    `json:"e"`
}

// listInfo is what a list says about itself.
type listInfo struct {
	PerPage         int     `json:"per_page"`
	Count           int     `json:"count"`
	Page            int     `json:"page"`
	SortBy          string  `json:"sort_by"`
	SortOrder       string  `json:"sort_order"`
	Call            bool    `json:"call"`
	Email           bool    `json:"email"`
	NextPageToken   *string `json:"next_page_token"`
	PrevPageToken   *string `json:"previous_page_token"` // always null here
	PageTokenExpiry *string `json:"page_token_expiry"`
	MoreRecords     bool    `json:"more_records"`
}

// list answers GET /{module}.
func (s *Server) list(r *http.Request, m *module) answer {
	q, refused := s.ask(r)
	if q == nil {
		return refused
	}
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	o := sortNames[q.sortBy]
	records := m.ordered[o]
	if q.ids != nil {
		records = s.store.some(m, q.ids, o)
	}
	return s.page(q, records, nil)
}

// one answers GET /{module}/{id}. Without fields it shows them all, and rich
// text in full.
func (s *Server) one(r *http.Request, m *module, id string) answer {
	if !isDigits(id) {
		return refuse(http.StatusBadRequest, "INVALID_DATA", "the id given seems to be invalid", details{"resource_path_index": 1})
	}
	fields, refused := fieldsOf(r.URL.Query(), true)
	if refused.status != 0 {
		return refused
	}
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	record := s.store.records[id]
	if record == nil || record.module != m || record.deleted != 0 {
		return nothing()
	}
	if fields == nil {
		fields = m.fields
	}
	body := append([]byte(`{"data":[`), s.store.appendRecord(nil, record, fields, false)...)
	return found(append(body, `]}`...))
}

// count answers GET /{module}/actions/count.
func (s *Server) count(m *module) answer {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	n := len(m.ordered[byID])
	if s.o.CountAsText {
		return found(map[string]string{"count": strconv.Itoa(n)})
	}
	return found(map[string]int{"count": n})
}

// some are the living records of m among ids, in order.
func (st *store) some(m *module, ids []string, o order) []*record {
	var records []*record
	for _, id := range ids {
		if r := st.records[id]; r != nil && r.module == m && r.deleted == 0 {
			records = append(records, r)
		}
	}
	slices.SortFunc(records, func(a, b *record) int { return a.position(o).compare(b.position(o)) })
	return slices.Compact(records)
}

// page answers with the part of records, which are in order, that q asks for.
// keep says which of them are in the list at all; nil: all.
func (s *Server) page(q *question, records []*record, keep func(*record) bool) answer {
	rows, more := q.walk(records, keep)
	if len(rows) == 0 {
		if !q.all && s.o.NotModified {
			return answer{status: http.StatusNotModified}
		}
		return nothing()
	}
	page, seen := q.page, (q.page-1)*q.perPage
	if q.token != nil {
		page, seen = q.token.Page, q.token.Seen
	}
	info := listInfo{
		PerPage: q.perPage, Count: len(rows), Page: page, MoreRecords: more,
		SortBy: q.sortBy, SortOrder: map[bool]string{true: "desc", false: "asc"}[q.desc],
	}
	if more {
		expires := s.o.Now().Add(tokenLife).Unix()
		token := pageToken{
			Bound: q.bound, After: rows[len(rows)-1].position(sortNames[q.sortBy]),
			Page: page + 1, Seen: seen + len(rows), Expires: expires,
		}.String()
		expiry := s.store.time(expires)
		info.NextPageToken, info.PageTokenExpiry = &token, &expiry
	}
	body := append(make([]byte, 0, 256*len(rows)), `{"data":[`...)
	for i, r := range rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = s.store.appendRecord(body, r, q.fields, true)
	}
	body = append(append(body, `],"info":`...), encode(info)...)
	return found(append(body, '}'))
}

// walk picks the rows of one page and says whether there are more.
func (q *question) walk(records []*record, keep func(*record) bool) (rows []*record, more bool) {
	o := sortNames[q.sortBy]
	next, step, skip := 0, 1, (q.page-1)*q.perPage
	if q.desc {
		next, step = len(records)-1, -1
	}
	if q.token != nil {
		// Behind the last record of the page before, whether or not it is still there.
		next, skip = lowerBound(records, o, q.token.After), 0
		if q.desc {
			next--
		} else if next < len(records) && records[next].position(o) == q.token.After {
			next++
		}
	}
	for ; next >= 0 && next < len(records); next += step {
		r := records[next]
		if (!q.all && r.modified < q.since) || (keep != nil && !keep(r)) {
			continue
		}
		if skip > 0 {
			skip--
			continue
		}
		if len(rows) == q.perPage {
			return rows, true
		}
		rows = append(rows, r)
	}
	return rows, false
}

// ask reads what a list is asked for; a nil question comes with the refusal.
func (s *Server) ask(r *http.Request) (*question, answer) {
	query := r.URL.Query()
	q := &question{page: 1, perPage: maxPerPage, sortBy: "id", desc: true}
	var refused answer
	if q.fields, refused = fieldsOf(query, false); refused.status != 0 {
		return nil, refused
	}
	if query.Has("page") && query.Has("page_token") {
		return nil, ambiguous("page", "page_token")
	}
	if query.Has("cvid") && query.Has("sort_by") {
		return nil, ambiguous("cvid", "sort_by")
	}
	if refused = q.size(query); refused.status != 0 {
		return nil, refused
	}
	if refused = q.sorting(query); refused.status != 0 {
		return nil, refused
	}
	if list := query.Get("ids"); list != "" {
		q.ids = strings.Split(list, ",")
		if len(q.ids) > maxIDs {
			return nil, refuse(http.StatusBadRequest, "LIMIT_EXCEEDED", "too many ids are asked for", details{"limit": maxIDs, "param_name": "ids"})
		}
	}
	if q.since, q.all, refused = s.since(r); refused.status != 0 {
		return nil, refused
	}
	q.bound = boundTo(r)
	if query.Has("page_token") {
		if refused = q.continued(query.Get("page_token"), s.o.Now()); refused.status != 0 {
			return nil, refused
		}
		return q, answer{}
	}
	if q.page*q.perPage > s.o.PageLimit {
		return nil, refuse(http.StatusBadRequest, "DISCRETE_PAGINATION_LIMIT_EXCEEDED",
			"further records need a page_token", details{"limit": s.o.PageLimit})
	}
	return q, answer{}
}

// size reads page and per_page.
func (q *question) size(query url.Values) answer {
	for name, into := range map[string]*int{"page": &q.page, "per_page": &q.perPage} {
		if !query.Has(name) {
			continue
		}
		n, err := strconv.Atoi(query.Get(name))
		if err != nil || n < 1 || (name == "per_page" && n > maxPerPage) {
			return badParam(name)
		}
		*into = n
	}
	return answer{}
}

// sorting reads sort_by and sort_order.
func (q *question) sorting(query url.Values) answer {
	if query.Has("sort_by") {
		q.sortBy = query.Get("sort_by")
		if _, ok := sortNames[q.sortBy]; !ok {
			return badParam("sort_by")
		}
	}
	if query.Has("sort_order") {
		switch query.Get("sort_order") {
		case "asc":
			q.desc = false
		case "desc":
			q.desc = true
		default:
			return badParam("sort_order")
		}
	}
	return answer{}
}

// continued reads a page token, which is good for the same question only.
func (q *question) continued(text string, now time.Time) answer {
	token, ok := readPageToken(text)
	switch {
	case !ok || token.Bound != q.bound:
		return refuse(http.StatusBadRequest, "TOKEN_BOUND_DATA_MISMATCH",
			"page_token is not one for this question", details{"param_name": "page_token"})
	case now.Unix() >= token.Expires:
		return refuse(http.StatusBadRequest, "EXPIRED_VALUE", "page_token has expired", details{"param_name": "page_token"})
	case token.Seen >= maxByTokens:
		return refuse(http.StatusBadRequest, "PAGINATION_LIMIT_EXCEEDED", "no page_token reaches further", details{"limit": maxByTokens})
	}
	q.page, q.token = 0, token
	return answer{}
}

// since reads If-Modified-Since, in seconds.
func (s *Server) since(r *http.Request) (since int64, all bool, refused answer) {
	text := r.Header.Get("If-Modified-Since")
	if text == "" {
		return 0, true, answer{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, false, refuse(http.StatusBadRequest, "PATTERN_NOT_MATCHED", "If-Modified-Since is no ISO 8601 time with an offset",
			details{"header_name": "If-Modified-Since"})
	}
	since = at.Unix()
	if s.o.StrictSince || at.Nanosecond() > 0 {
		since++
	}
	return since, false, answer{}
}

// fieldsOf reads the fields asked for; without fields it is nil where they are optional.
func fieldsOf(query url.Values, optional bool) ([]string, answer) {
	list := query.Get("fields")
	if list == "" {
		if optional {
			return nil, answer{}
		}
		return nil, refuse(http.StatusBadRequest, "REQUIRED_PARAM_MISSING", "required param is missing", details{"param_name": "fields"})
	}
	var fields []string
	for field := range strings.SplitSeq(list, ",") {
		if field = strings.TrimSpace(field); field != "" && !slices.Contains(fields, field) {
			fields = append(fields, field)
		}
	}
	if len(fields) > maxFields {
		return nil, refuse(http.StatusBadRequest, "LIMIT_EXCEEDED", "too many fields are asked for", details{"limit": maxFields})
	}
	return fields, answer{}
}

func badParam(name string) answer {
	return refuse(http.StatusBadRequest, "INVALID_DATA", "the value of a parameter is not valid", details{"param_name": name})
}

func ambiguous(a, b string) answer {
	return refuse(http.StatusBadRequest, "AMBIGUITY_DURING_PROCESSING", "two parameters contradict each other", details{
		"ambiguity_due_to": []details{{"param_name": a}, {"param_name": b}},
	})
}

// boundTo is a digest of everything that has to stay the same for a page token
// to be taken. That If-Modified-Since belongs to it is an assumption.
func boundTo(r *http.Request) string {
	query := r.URL.Query()
	query.Del("page")
	query.Del("page_token")
	sum := sha256.Sum256([]byte(r.URL.Path + "?" + query.Encode() + "\n" + r.Header.Get("If-Modified-Since")))
	return hex.EncodeToString(sum[:8])
}

func (t pageToken) String() string { return base64.RawURLEncoding.EncodeToString(encode(t)) }

func readPageToken(text string) (*pageToken, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	var t pageToken
	if json.Unmarshal(raw, &t) != nil {
		return nil, false
	}
	return &t, true
}
