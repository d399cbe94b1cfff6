package zoho

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// pageLimit is how many records can be listed by page numbers.
	pageLimit = 2000
	// listsLife is how long it is known which related lists a module has.
	listsLife = 24 * time.Hour
)

// Get reads one record with its whole texts. It is nil, with no error, when Zoho
// says that it has none.
func (c *Client) Get(ctx context.Context, module, id string) (Record, error) {
	return c.get(ctx, module, id, false)
}

// get is Get; listed says that a list has just shown the record.
func (c *Client) get(ctx context.Context, module, id string, listed bool) (Record, error) {
	op := "get " + module + " " + id
	if err := plain(op, module, id); err != nil {
		return nil, err
	}
	s, err := c.do(ctx, call{
		op: op, method: http.MethodGet, read: true, path: "/" + module + "/" + id,
		query: url.Values{"fields": {c.fieldList(module)}}, alive: listed,
	})
	if notThere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	records, err := s.byID()
	if err != nil {
		return nil, misshapen(op, err)
	}
	if len(records) == 0 {
		return nil, nil
	}
	if got := records[0].ID(); got != id {
		return nil, &Error{Kind: KindInvalid, Op: op, Status: http.StatusOK, Message: "Zoho answered with another record"}
	}
	return records[0], nil
}

func (c *Client) fieldList(module string) string { return strings.Join(c.Fields(module), ",") }

// plain refuses names and ids that would be more than one part of a path or a
// list: they come from senders.
func plain(op string, parts ...string) error {
	for _, part := range parts {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool {
			return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' && r != '-'
		}) {
			return &Error{Kind: KindInvalid, Op: bounded(op), Message: "a name or an id is empty or has characters that none has"}
		}
	}
	return nil
}

// notThere reports whether err says that a record does not exist. Zoho has no
// code for that alone, and most often answers 204 instead.
func notThere(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == KindInvalid && e.Code == "INVALID_DATA" &&
		strings.Contains(strings.ToLower(e.Message), "not exist")
}

// List reads a part of a module's records, in ListOptions.Cursor's place. Rich
// texts are cut to 500 characters, see Whole. When a page is beyond
// Options.MaxAnswer, a smaller one is read in its place: a Page may have fewer
// records than asked for although Next is set. Only when one single record is
// too large, the error is one of KindTooLarge and names its place. A list is at
// its end when Zoho says so, with a 204 or with more_records: an answer without
// records that does not is an error of KindUnavailable.
func (c *Client) List(ctx context.Context, module string, o ListOptions) (Page, error) {
	query := url.Values{"fields": {c.fieldList(module)}}
	if o.ByID {
		query.Set("sort_by", "id")
		query.Set("sort_order", "asc")
	}
	return c.recordPage(ctx, listing{
		op: "list " + module, path: []string{module}, query: query, since: o.Since, cursor: o.Cursor, perPage: o.PerPage,
	})
}

// Related reads a part of the records that hang on one record: list is the
// related list's API name, fieldsOf the module whose Fields are asked for. The
// list of a record that is not there is empty. Texts and pages are as in List.
func (c *Client) Related(ctx context.Context, module, id, list, fieldsOf string, cur Cursor) (Page, error) {
	page, err := c.recordPage(ctx, listing{
		op: "list " + list + " of " + module + " " + id, path: []string{module, id, list},
		query: url.Values{"fields": {c.fieldList(fieldsOf)}}, cursor: cur,
	})
	if notThere(err) {
		return Page{}, nil
	}
	return page, err
}

// Deleted reads a part of what was deleted since, recycled and for good; zero:
// all that Zoho still knows. A call costs two credits.
func (c *Client) Deleted(ctx context.Context, module string, since time.Time, cur Cursor) (DeletedPage, error) {
	op := "list deleted " + module
	s, next, err := c.page(ctx, listing{
		op: op, path: []string{module, "deleted"}, query: url.Values{"type": {"all"}},
		since: since, cursor: cur, onPages: true,
	})
	if err != nil || s == nil {
		return DeletedPage{}, err
	}
	type row struct {
		ID   text `json:"id"`
		Name text `json:"display_name"`
		Type text `json:"type"`
		Time text `json:"deleted_time"`
	}
	gone, err := rows[row](s)
	if err != nil {
		return DeletedPage{}, misshapen(op, err)
	}
	page := DeletedPage{Next: next}
	for _, r := range gone {
		if r.ID == "" {
			return DeletedPage{}, misshapen(op, errNoID)
		}
		at, _ := parseTime(r.Time.String()) // zero when it is none
		page.Records = append(page.Records, DeletedRecord{
			ID: r.ID.String(), Name: r.Name.String(), Type: r.Type.String(), DeletedAt: at,
		})
	}
	return page, nil
}

// listing is a list, and a place in it.
type listing struct {
	op      string
	path    []string // its parts below /crm/v8
	query   url.Values
	since   time.Time
	cursor  Cursor
	perPage int
	onPages bool // page numbers go on when there is no page token
}

func (c *Client) recordPage(ctx context.Context, l listing) (Page, error) {
	s, next, err := c.page(ctx, l)
	if err != nil {
		return Page{}, err
	}
	records, err := s.records()
	if err != nil {
		return Page{}, misshapen(l.op, err)
	}
	return Page{Records: records, Next: next}, nil
}

// page reads what is at the cursor, in smaller and smaller pages while they are
// too large.
func (c *Client) page(ctx context.Context, l listing) (*said, Cursor, error) {
	if err := plain(l.op, l.path...); err != nil {
		return nil, "", err
	}
	want := min(cmp.Or(max(l.perPage, 0), MaxPage), MaxPage)
	at, err := parseCursor(l.cursor, want)
	if err != nil {
		return nil, "", &Error{Kind: KindInvalid, Op: l.op, Message: err.Error()}
	}
	tooLarge := error(nil)
	for {
		s, err := c.do(ctx, call{
			op: l.op, method: http.MethodGet, read: true, path: "/" + strings.Join(l.path, "/"),
			query: at.query(l.query), since: l.since,
		})
		switch {
		case KindOf(err) == KindTooLarge && at.perPage > 1:
			tooLarge = at.explain(err)
			at.perPage = at.fit(at.perPage/2, want)
		case KindOf(err) == KindTooLarge:
			return nil, "", at.explain(err)
		case tooLarge != nil && at.token != "" && KindOf(err) == KindInvalid:
			// A token may be bound to the size of the page that it was given for.
			return nil, "", tooLarge
		case err != nil:
			return nil, "", err
		case s == nil || !s.Info.more():
			return s, "", nil
		default:
			next, err := at.next(s.Info.NextToken.String(), want, l)
			return s, next, err
		}
	}
}

// place is where a list stands: after offset records, or where token says.
type place struct {
	offset  int
	token   string
	perPage int
}

// A Cursor is "o<offset>.<per page>" or "t<per page>.<token>". The size of the
// page stands in it so that pages that had to be small grow only step by step.
func (p place) cursor() Cursor {
	if p.token != "" {
		return Cursor(fmt.Sprintf("t%d.%s", p.perPage, p.token))
	}
	return Cursor(fmt.Sprintf("o%d.%d", p.offset, p.perPage))
}

func parseCursor(c Cursor, want int) (place, error) {
	if c == "" {
		return place{perPage: want}, nil
	}
	bad := errors.New("the cursor is none of ours")
	head, tail, found := strings.Cut(string(c)[1:], ".")
	n, err := strconv.Atoi(head)
	if err != nil || !found || n < 0 || tail == "" {
		return place{}, bad
	}
	switch c[0] {
	case 't':
		return place{token: tail, perPage: min(max(n, 1), want)}, nil
	case 'o':
		per, err := strconv.Atoi(tail)
		if err != nil || per < 1 {
			return place{}, bad
		}
		p := place{offset: n}
		p.perPage = p.fit(min(per, want), want)
		return p, nil
	default:
		return place{}, bad
	}
}

// fit is the size of the page at p: a part of want, at most most and at least 1.
// A page begins at a multiple of its size, so that p must be one.
func (p place) fit(most, want int) int {
	for per := most; per > 1; per-- {
		if want%per == 0 && p.offset%per == 0 {
			return per
		}
	}
	return 1
}

// query is base with the place.
func (p place) query(base url.Values) url.Values {
	q := maps.Clone(base)
	q.Set("per_page", strconv.Itoa(p.perPage))
	if p.token != "" {
		q.Set("page_token", p.token)
	} else {
		q.Set("page", strconv.Itoa(p.offset/p.perPage+1))
	}
	return q
}

// next is the place after this page, whose answer came with token.
func (p place) next(token string, want int, l listing) (Cursor, error) {
	after := place{offset: p.offset + p.perPage}
	after.perPage = after.fit(min(p.perPage*2, want), want)
	past := p.token != "" || after.offset+after.perPage > pageLimit
	switch {
	case past && token != "":
		return place{token: token, perPage: min(p.perPage*2, want)}.cursor(), nil
	case past && (p.token != "" || !l.onPages):
		return "", &Error{
			Kind: KindUnavailable, Op: l.op, Status: http.StatusOK,
			Message: "Zoho says that there is more, but not where",
		}
	default:
		return after.cursor(), nil
	}
}

// explain names the place in an error about a page that is too large.
func (p place) explain(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	where := fmt.Sprintf("page %d of %d records each", p.offset/p.perPage+1, p.perPage)
	if p.token != "" {
		where = fmt.Sprintf("a page of %d records after the first %d", p.perPage, pageLimit)
	}
	named := *e
	named.Message = where
	return &named
}

// parseTime reads a time as Zoho writes it.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05-0700", s)
	}
	return t, err
}

// knownLists are a module's related lists, as known for a while.
type knownLists struct {
	lists []RelatedList
	until time.Time
}

// RelatedLists are the lists that hang on the module's records. The client knows
// them for a day.
func (c *Client) RelatedLists(ctx context.Context, module string) ([]RelatedList, error) {
	c.mu.Lock()
	known, ok := c.lists[module]
	c.mu.Unlock()
	if ok && c.now().Before(known.until) {
		return slices.Clone(known.lists), nil
	}
	op := "list related lists of " + module
	if err := plain(op, module); err != nil {
		return nil, err
	}
	s, err := c.do(ctx, call{
		op: op, method: http.MethodGet, read: true, path: "/settings/related_lists", query: url.Values{"module": {module}},
	})
	if err != nil {
		return nil, err
	}
	var lists []RelatedList
	if s != nil {
		if lists, err = readRelatedLists(s.RelatedLists); err != nil {
			return nil, misshapen(op, err)
		}
	}
	c.mu.Lock()
	c.lists[module] = knownLists{lists: lists, until: c.now().Add(listsLife)}
	c.mu.Unlock()
	return slices.Clone(lists), nil
}

func readRelatedLists(raw json.RawMessage) ([]RelatedList, error) {
	var rows []struct {
		APIName text            `json:"api_name"`
		Module  json.RawMessage `json:"module"`
	}
	if err := json.Unmarshal(raw, &rows); err != nil {
		return nil, err
	}
	if rows == nil {
		return nil, errNotShown
	}
	var lists []RelatedList
	for _, r := range rows {
		// An object in newer versions, a name in older ones, null where it is no module.
		var object struct {
			APIName text `json:"api_name"`
		}
		if json.Unmarshal(r.Module, &object) != nil {
			_ = json.Unmarshal(r.Module, &object.APIName)
		}
		lists = append(lists, RelatedList{APIName: r.APIName.String(), Module: object.APIName.String()})
	}
	return lists, nil
}

// Count is how many records the module has.
func (c *Client) Count(ctx context.Context, module string) (int64, error) {
	op := "count " + module
	if err := plain(op, module); err != nil {
		return 0, err
	}
	s, err := c.do(ctx, call{op: op, method: http.MethodGet, read: true, path: "/" + module + "/actions/count"})
	if err != nil || s == nil {
		return 0, err
	}
	n, err := s.Count.number()
	if err != nil {
		return 0, misshapen(op, err)
	}
	return n, nil
}

// Query asks in COQL, which begins with select; more says that the LIMIT cut the
// answer. A call costs one to three credits, by its records.
func (c *Client) Query(ctx context.Context, query string) (records []Record, more bool, err error) {
	const op = "query"
	s, err := c.do(ctx, call{
		op: op, method: http.MethodPost, read: true, path: "/coql", body: map[string]string{"select_query": query},
	})
	if err != nil {
		return nil, false, err
	}
	if records, err = rows[Record](s); err != nil { // an aggregate has no id
		return nil, false, misshapen(op, err)
	}
	return records, s != nil && s.Info.more(), nil
}

// Whole is records with the texts that a list may have cut read anew, in their
// order: each record that has a text of exactly 500 characters is read singly,
// which costs a call. No more than 24 are at one time, over all readers: those
// beyond keep their texts as they are. A record that went away meanwhile is left
// out. An error of KindInvalid may be about one of the records alone.
func (c *Client) Whole(ctx context.Context, module string, records []Record) ([]Record, error) {
	whole := slices.Clone(records)
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(c.o.Concurrency)
	cut := 0
	for _, r := range records {
		if mayBeCut(r) {
			cut++
		}
	}
	left := c.reserveTexts(cut)
	defer c.texts.Add(-int64(left))
	for i, r := range records {
		if !mayBeCut(r) || left == 0 {
			continue
		}
		left--
		g.Go(func() (err error) {
			whole[i], err = c.get(within, module, r.ID(), true)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(whole, func(r Record) bool { return r == nil }), nil
}
