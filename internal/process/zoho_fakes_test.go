package process

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/zoho"
)

// fakeZoho is a Zoho in memory. It answers as its API does: by ids what there is
// of them, related lists by pages, whose texts are whole only when asked for.
type fakeZoho struct {
	now     func() time.Time     // when calls begin and end
	latency func() time.Duration // from an answer's being made to its being given; nil: none

	mu      sync.Mutex
	page    int // records on a page of a list
	records map[recordKey]zoho.Record
	fault   func(zohoCall) error // nil: none
	stops   []*stop
	calls   []zohoCall
}

// zohoCall is one that was made.
type zohoCall struct {
	op     string // read, list, lists or whole
	module string // of the records
	ids    []string
	of     string // a related list's account
	list   string
	cursor zoho.Cursor
	listed int // records on the page
	began  time.Time
	ended  time.Time // zero: it is under way
}

// String is the call without its times, as "read Contacts 1 2" or "list Contacts of 77 from 200".
func (c zohoCall) String() string {
	switch c.op {
	case "read":
		return "read " + c.module + " " + strings.Join(c.ids, " ")
	case "list":
		text := "list " + c.list + " of " + c.of
		if c.cursor != "" {
			text += " from " + string(c.cursor)
		}
		return text
	default:
		return c.op
	}
}

// newZoho has a page of 200 records, as Zoho does.
func newZoho() *fakeZoho {
	return &fakeZoho{now: time.Now, page: zoho.MaxPage, records: map[recordKey]zoho.Record{}}
}

// put writes a record; its id is the one in it.
func (z *fakeZoho) put(t *testing.T, module, text string) {
	t.Helper()
	var r zoho.Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records[recordKey{module, r.ID()}] = r
}

// remove deletes records.
func (z *fakeZoho) remove(module string, ids ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, id := range ids {
		delete(z.records, recordKey{module, id})
	}
}

// fail lets calls fail as f says; nil: none does.
func (z *fakeZoho) fail(f func(zohoCall) error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.fault = f
}

// made are the calls since it was last asked, but those that ask which lists there are.
func (z *fakeZoho) made() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	var made []string
	for _, c := range z.calls {
		if c.op == "read" || c.op == "list" {
			made = append(made, c.String())
		}
	}
	z.calls = nil
	return made
}

// stop keeps a call in the middle: its answer stands already, and has not been
// given yet.
type stop struct {
	call    string
	reached chan struct{}
	goOn    chan struct{}
}

// stopAt stops the next call that reads so.
func (z *fakeZoho) stopAt(call string) *stop {
	s := &stop{call: call, reached: make(chan struct{}), goOn: make(chan struct{})}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.stops = append(z.stops, s)
	return s
}

// wait waits until the call is made.
func (s *stop) wait(t *testing.T) {
	t.Helper()
	select {
	case <-s.reached:
	case <-time.After(30 * time.Second):
		t.Fatalf("nobody called %q for half a minute", s.call)
	}
}

// answer lets the call go on.
func (s *stop) answer() { close(s.goOn) }

// call records a call, lets answer make its answer, and waits where it is stopped.
func (z *fakeZoho) call(ctx context.Context, c zohoCall, answer func(*zohoCall)) error {
	c.began = z.now()
	z.mu.Lock()
	var err error
	if z.fault != nil {
		err = z.fault(c)
	}
	if err == nil {
		answer(&c)
	}
	at := len(z.calls)
	z.calls = append(z.calls, c)
	var stopped *stop
	if i := slices.IndexFunc(z.stops, func(s *stop) bool { return s.call == c.String() }); i >= 0 {
		stopped = z.stops[i]
		z.stops = slices.Delete(z.stops, i, i+1)
	}
	z.mu.Unlock()
	if stopped != nil {
		close(stopped.reached)
		select {
		case <-stopped.goOn:
		case <-ctx.Done():
			return &zoho.Error{Kind: zoho.KindUnavailable, Op: c.String(), Err: ctx.Err()}
		}
	}
	if z.latency != nil {
		<-time.After(z.latency())
	}
	ended := z.now()
	z.mu.Lock()
	defer z.mu.Unlock()
	if at < len(z.calls) {
		z.calls[at].ended = ended
	}
	return err
}

func (z *fakeZoho) Read(ctx context.Context, module string, ids []string) (map[string]zoho.Record, error) {
	found := map[string]zoho.Record{}
	err := z.call(ctx, zohoCall{op: "read", module: module, ids: slices.Sorted(slices.Values(ids))}, func(*zohoCall) {
		for _, id := range ids {
			if r, ok := z.records[recordKey{module, id}]; ok {
				found[id] = maps.Clone(r)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Related pages by number up to the 2,000th record and by token after it.
func (z *fakeZoho) Related(ctx context.Context, module, id, list, fieldsOf string, cursor zoho.Cursor) (zoho.Page, error) {
	var page zoho.Page
	offset := 0
	if cursor != "" {
		var err error
		if offset, err = strconv.Atoi(string(cursor[strings.LastIndex(string(cursor), ":")+1:])); err != nil {
			return zoho.Page{}, &zoho.Error{Kind: zoho.KindInvalid, Op: "list", Code: "INVALID_DATA", Err: err}
		}
	}
	err := z.call(ctx, zohoCall{op: "list", module: fieldsOf, of: id, list: list, cursor: cursor}, func(c *zohoCall) {
		all := z.related(fieldsOf, id)
		to := min(offset+z.page, len(all))
		for _, r := range all[min(offset, to):to] {
			page.Records = append(page.Records, cutTexts(r))
		}
		switch {
		case to == len(all):
		case to < 2000:
			page.Next = zoho.Cursor(fmt.Sprint("o:", to))
		default:
			page.Next = zoho.Cursor(fmt.Sprint("t:token:", to))
		}
		c.listed = len(page.Records)
	})
	if err != nil {
		return zoho.Page{}, err
	}
	return page, nil
}

// related are a module's records that hang on an account, in the order of their ids.
func (z *fakeZoho) related(module, accountID string) []zoho.Record {
	var all []zoho.Record
	for k, r := range z.records {
		for _, field := range []string{"Account_Name", "What_Id", "Parent_Id"} {
			if k.module == module && lookup(r[field]).id == accountID {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b zoho.Record) int {
		return cmp.Or(cmp.Compare(len(a.ID()), len(b.ID())), cmp.Compare(a.ID(), b.ID()))
	})
	return all
}

// cutTexts is a record as a list has it.
func cutTexts(r zoho.Record) zoho.Record {
	cut := maps.Clone(r)
	for name, raw := range cut {
		var text string
		if json.Unmarshal(raw, &text) == nil && len(text) > 500 {
			cut[name] = json.RawMessage(strconv.Quote(text[:500]))
		}
	}
	return cut
}

func isCut(r zoho.Record) bool {
	for _, raw := range r {
		if len(raw) == 500+len(`""`) {
			return true
		}
	}
	return false
}

func (z *fakeZoho) RelatedLists(ctx context.Context, module string) ([]zoho.RelatedList, error) {
	err := z.call(ctx, zohoCall{op: "lists", module: module}, func(*zohoCall) {})
	if err != nil {
		return nil, err
	}
	return []zoho.RelatedList{
		{APIName: "Attachments"}, {APIName: "Tasks_History", Module: "Tasks"}, {APIName: "Tasks", Module: "Tasks"},
		{APIName: "Events_History", Module: "Events"}, {APIName: "Events", Module: "Events"}, {APIName: "Calls", Module: "Calls"},
		{APIName: "Contacts", Module: "Contacts"}, {APIName: "Deals", Module: "Deals"}, {APIName: "Notes", Module: "Notes"},
	}, nil
}

func (z *fakeZoho) Whole(ctx context.Context, module string, records []zoho.Record) ([]zoho.Record, error) {
	whole := slices.Clone(records)
	err := z.call(ctx, zohoCall{op: "whole", module: module}, func(*zohoCall) {
		for i, r := range records {
			if full, ok := z.records[recordKey{module, r.ID()}]; ok && isCut(r) {
				whole[i] = maps.Clone(full)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return whole, nil
}

func quietLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// newZohoStation is a station that is connected to a Zoho.
func newZohoStation(t *testing.T) (*station, *fakeZoho) {
	t.Helper()
	z := newZoho()
	return newStation(t, NewReads(z, nil, quietLog(t))), z
}

// notify stores and routes a notification as Zoho sends it: an id alone.
func (s *station) notify(t *testing.T, module, operation, id string) int64 {
	t.Helper()
	return s.route(t, sent{module: module, operation: operation, recordID: id, record: fmt.Sprintf(`{"id":%q}`, id)})
}

// fullSync lets a full sync run until the returned function is called: while it
// does, no account is read whole at first sight.
func (s *station) fullSync(t *testing.T) (end func()) {
	t.Helper()
	s.exec(t, `INSERT INTO syncs (id, kind, requested_by) VALUES (gen_random_uuid(), 'full', 'test')`)
	return func() { t.Helper(); s.exec(t, `DELETE FROM syncs`) }
}

// overview is what is remembered of an account, "" for nothing.
func (s *station) overview(t *testing.T, accountID string) string {
	t.Helper()
	all := rows[string](t, s.pool, `SELECT content FROM memories WHERE module = 'Accounts' AND record_id = $1`, accountID)
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// graph are all lines of it.
func (s *station) graph(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' ', user_id, source, relationship, target, 'by', module, record_id) FROM relationships
		ORDER BY module, record_id, source, relationship, target`)
}

// wholeRow is what an account's row says of its being read whole.
type wholeRow struct {
	At, Since *time.Time
	Cursor    string
}

func (s *station) whole(t *testing.T, accountID string) wholeRow {
	t.Helper()
	var w wholeRow
	err := s.pool.QueryRow(t.Context(), `SELECT whole_at, whole_since, whole_cursor FROM accounts WHERE account_id = $1`, accountID).Scan(&w.At, &w.Since, &w.Cursor)
	if err != nil {
		t.Fatalf("read how far account %s is read: %v", accountID, err)
	}
	return w
}

// zohoSays is an error of a kind.
func zohoSays(kind zoho.Kind, code string) error {
	return &zoho.Error{Kind: kind, Op: "read", Code: code, Message: "said by the test"}
}
