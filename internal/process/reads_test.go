package process

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/zoho"
)

// seen is an observation in short.
type seen struct {
	EventID  int64
	Record   string // module and id
	Fields   string // as JSON; "": none
	Believed bool   // the event, and not a read
	Fault    bool
}

func short(observations []Observation) []seen {
	var all []seen
	for _, o := range observations {
		s := seen{EventID: o.EventID, Record: o.Module + " " + o.RecordID, Believed: o.ReadAt.IsZero() && o.Err == nil, Fault: errors.Is(o.Err, errEvent)}
		if o.Fields != nil {
			text, err := json.Marshal(o.Fields)
			if err != nil {
				panic(err)
			}
			s.Fields = string(text)
		}
		all = append(all, s)
	}
	return all
}

func TestReads(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	event := func(id int64, module, recordID, record string) Event {
		return Event{ID: id, Source: "zoho", Module: module, Operation: "update", RecordID: recordID, Record: []byte(record), ReceivedAt: at, TakenAt: at}
	}
	refusing := func(kind zoho.Kind, code string, modules ...string) func(zohoCall) error {
		return func(c zohoCall) error {
			if slices.Contains(modules, c.module) {
				return zohoSays(kind, code)
			}
			return nil
		}
	}
	holding := func(kind zoho.Kind, code, id string) func(zohoCall) error {
		return func(c zohoCall) error {
			if slices.Contains(c.ids, id) {
				return zohoSays(kind, code)
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name   string
		there  map[recordKey]string
		events []Event
		fail   func(zohoCall) error
		want   []seen
		calls  []string // in any order
	}{
		{
			name:   "what Zoho has counts, and not what the event said",
			there:  map[recordKey]string{{"Contacts", "1"}: `{"id":"1","Email":"read"}`},
			events: []Event{event(1, "Contacts", "1", `{"Email":"told"}`)},
			want:   []seen{{EventID: 1, Record: "Contacts 1", Fields: `{"Email":"read","id":"1"}`}},
			calls:  []string{"read Contacts 1"},
		}, {
			name:   "what Zoho does not have is gone",
			events: []Event{event(1, "Contacts", "1", `{"Email":"told"}`)},
			want:   []seen{{EventID: 1, Record: "Contacts 1"}},
			calls:  []string{"read Contacts 1"},
		}, {
			name:  "each record is read once, each module with one call",
			there: map[recordKey]string{{"Contacts", "1"}: `{"id":"1"}`, {"Contacts", "2"}: `{"id":"2"}`, {"Deals", "1"}: `{"id":"1","Amount":1}`},
			events: []Event{
				event(1, "Contacts", "2", `{}`), event(2, "Contacts", "1", `{}`), event(3, "Deals", "1", `{}`), event(4, "Contacts", "2", `{}`),
			},
			want: []seen{
				{EventID: 1, Record: "Contacts 2", Fields: `{"id":"2"}`}, {EventID: 2, Record: "Contacts 1", Fields: `{"id":"1"}`},
				{EventID: 3, Record: "Deals 1", Fields: `{"Amount":1,"id":"1"}`}, {EventID: 4, Record: "Contacts 2", Fields: `{"id":"2"}`},
			},
			calls: []string{"read Contacts 1 2", "read Deals 1"},
		}, {
			name:   "a meeting is one of Zoho's events",
			there:  map[recordKey]string{{"Events", "1"}: `{"id":"1"}`},
			events: []Event{event(1, "Meetings", "1", `{}`)},
			want:   []seen{{EventID: 1, Record: "Events 1", Fields: `{"id":"1"}`}, {Record: "Meetings 1"}},
			calls:  []string{"read Events 1"},
		}, {
			name:   "an activity is looked for among tasks, events and calls",
			there:  map[recordKey]string{{"Tasks", "1"}: `{"id":"1"}`, {"Events", "2"}: `{"id":"2"}`, {"Calls", "3"}: `{"id":"3"}`},
			events: []Event{event(1, "Activities", "1", `{}`), event(2, "Activities", "2", `{}`), event(3, "Activities", "3", `{}`)},
			want: []seen{
				{EventID: 1, Record: "Tasks 1", Fields: `{"id":"1"}`}, {EventID: 2, Record: "Events 2", Fields: `{"id":"2"}`},
				{EventID: 3, Record: "Calls 3", Fields: `{"id":"3"}`},
				{Record: "Activities 1"}, {Record: "Activities 2"}, {Record: "Activities 3"},
			},
			calls: []string{"read Tasks 1 2 3", "read Events 2 3", "read Calls 3"},
		}, {
			name:   "one that is none of them is gone under every name",
			events: []Event{event(1, "Activities", "1", `{}`)},
			want:   []seen{{EventID: 1, Record: "Tasks 1"}, {Record: "Events 1"}, {Record: "Calls 1"}, {Record: "Activities 1"}},
			calls:  []string{"read Tasks 1", "read Events 1", "read Calls 1"},
		}, {
			name:   "a module that Zoho does not know is believed",
			there:  map[recordKey]string{{"Deals", "1"}: `{"id":"1"}`},
			events: []Event{event(1, "Vendors", "1", `{"Vendor_Name":"Bolt"}`), event(2, "Deals", "1", `{"Deal_Name":"told"}`)},
			fail:   refusing(zoho.KindInvalid, "INVALID_MODULE", "Vendors"),
			want: []seen{
				{EventID: 1, Record: "Vendors 1", Fields: `{"Vendor_Name":"Bolt"}`, Believed: true}, {EventID: 2, Record: "Deals 1", Fields: `{"id":"1"}`},
			},
			calls: []string{"read Vendors 1", "read Deals 1"},
		}, {
			name:   "so is one that we may not read",
			events: []Event{event(1, "Notes", "1", `{"Note_Title":"told"}`)},
			fail:   refusing(zoho.KindForbidden, "NO_PERMISSION", "Notes"),
			want:   []seen{{EventID: 1, Record: "Notes 1", Fields: `{"Note_Title":"told"}`, Believed: true}},
			calls:  []string{"read Notes 1"},
		}, {
			name:   "what may be of a kind that we may not read is believed unless it is found",
			there:  map[recordKey]string{{"Events", "2"}: `{"id":"2"}`},
			events: []Event{event(1, "Activities", "1", `{"Subject":"told"}`), event(2, "Activities", "2", `{"Subject":"told"}`)},
			fail:   refusing(zoho.KindForbidden, "NO_PERMISSION", "Tasks"),
			want: []seen{
				{EventID: 1, Record: "Activities 1", Fields: `{"Subject":"told"}`, Believed: true},
				{EventID: 2, Record: "Events 2", Fields: `{"id":"2"}`}, {Record: "Activities 2"},
			},
			calls: []string{"read Tasks 1 2", "read Events 1 2", "read Calls 1"},
		}, {
			name:   "an id that Zoho takes for none is believed, and keeps no other from being read",
			there:  map[recordKey]string{{"Contacts", "1"}: `{"id":"1"}`, {"Contacts", "3"}: `{"id":"3"}`},
			events: []Event{event(1, "Contacts", "1", `{}`), event(2, "Contacts", "x", `{"Email":"told"}`), event(3, "Contacts", "3", `{}`)},
			fail:   holding(zoho.KindInvalid, "INVALID_DATA", "x"),
			want: []seen{
				{EventID: 1, Record: "Contacts 1", Fields: `{"id":"1"}`}, {EventID: 2, Record: "Contacts x", Fields: `{"Email":"told"}`, Believed: true},
				{EventID: 3, Record: "Contacts 3", Fields: `{"id":"3"}`},
			},
			calls: []string{"read Contacts 1 3 x", "read Contacts 1", "read Contacts 3 x", "read Contacts 3", "read Contacts x"},
		}, {
			name:   "what is too large together is read in halves, and the one that is by itself is at fault",
			there:  map[recordKey]string{{"Contacts", "1"}: `{"id":"1"}`, {"Contacts", "3"}: `{"id":"3"}`},
			events: []Event{event(1, "Contacts", "1", `{}`), event(2, "Contacts", "2", `{}`), event(3, "Contacts", "3", `{}`)},
			fail:   holding(zoho.KindTooLarge, "", "2"),
			want:   []seen{{EventID: 1, Record: "Contacts 1", Fields: `{"id":"1"}`}, {EventID: 2, Record: "Contacts 2", Fault: true}, {EventID: 3, Record: "Contacts 3", Fields: `{"id":"3"}`}},
			calls:  []string{"read Contacts 1 2 3", "read Contacts 1", "read Contacts 2 3", "read Contacts 2", "read Contacts 3"},
		}, {
			name: "what reconciliation read is not read again",
			events: []Event{
				{ID: 1, Source: SourceReconcile, Module: "Contacts", RecordID: "1", Record: []byte(`{"id":"1","Email":"a\u0000b","$read_at":"2026-01-02T03:04:05.000006Z"}`), TakenAt: at.Add(time.Hour)},
			},
			want: []seen{{EventID: 1, Record: "Contacts 1", Fields: `{"Email":"ab","id":"1"}`}},
		}, {
			name: "what it found to be gone is looked at, and so is what is no more than a claim",
			events: []Event{
				{ID: 1, Source: SourceReconcile, Module: "Contacts", RecordID: "1", Record: []byte(`{"id":"1"}`), TakenAt: at},
				event(2, "Contacts", "2", `{"id":"2","$read_at":"2026-01-02T03:04:05.000006Z"}`),
				{ID: 3, Source: SourceReconcile, Module: "Contacts", RecordID: "3", TakenAt: at},
				{ID: 4, Source: SourceReconcile, Module: "Contacts", RecordID: "4", Record: []byte(`{"$read_at":"soon"}`), TakenAt: at},
				{ID: 5, Source: SourceReconcile, Module: "Contacts", RecordID: "5", Record: []byte(`[]`), TakenAt: at},
			},
			want: []seen{
				{EventID: 1, Record: "Contacts 1"}, {EventID: 2, Record: "Contacts 2"}, {EventID: 3, Record: "Contacts 3"},
				{EventID: 4, Record: "Contacts 4"}, {EventID: 5, Record: "Contacts 5"},
			},
			calls: []string{"read Contacts 1 2 3 4 5"},
		},
		{name: "no events"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z := newZoho()
			for k, text := range tt.there {
				z.put(t, k.module, text)
			}
			z.fail(tt.fail)
			got, err := NewReads(z, nil, quietLog(t)).Observe(t.Context(), tt.events)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, short(got)); diff != "" {
				t.Errorf("observations (-want +got):\n%s", diff)
			}
			for _, o := range got {
				if !o.ReadAt.IsZero() && !o.ReadAt.Equal(at) {
					t.Errorf("%s %s was read at %v, want %v", o.Module, o.RecordID, o.ReadAt, at)
				}
			}
			if diff := cmp.Diff(tt.calls, z.made(), sortedLines()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if err := check(tt.events, got); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// One module that cannot be read now makes all wait, also beside others.
func TestReadsWaitForTheWorld(t *testing.T) {
	t.Parallel()
	for _, kind := range []zoho.Kind{zoho.KindUnavailable, zoho.KindThrottled, zoho.KindCreditsSpent, zoho.KindUnauthorized} {
		z := newZoho()
		z.fail(func(c zohoCall) error {
			if c.module == "Deals" {
				return zohoSays(kind, "")
			}
			return nil
		})
		events := []Event{{ID: 1, Module: "Contacts", RecordID: "1", Record: []byte(`{}`)}, {ID: 2, Module: "Deals", RecordID: "2", Record: []byte(`{}`)}}
		if got, err := NewReads(z, nil, quietLog(t)).Observe(t.Context(), events); zoho.KindOf(err) != kind {
			t.Errorf("%v and %v, want an error of kind %d", got, err, kind)
		}
	}
}

func TestStorable(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	for _, tt := range []struct{ name, in, want string }{
		{"plain values stay as they are written", `{"a":1.50e1,"b":"<é>","c":null,"d":[true, {"x" : 1}]}`, `{"a":1.50e1,"b":"<é>","c":null,"d":[true, {"x" : 1}]}`},
		{"no NUL", `{"a":"x\u0000y","b":["\u0000",{"k\u0000":"\u0000v"}]}`, `{"a":"xy","b":["",{"k":"v"}]}`},
		{"no halves of characters", `{"a":"x\ud800y","b":"\udc00","c":"\ud83d\ude00"}`, `{"a":"x�y","b":"�","c":"😀"}`},
		{"no bytes that are no text", "{\"a\":\"x\xffy\"}", `{"a":"x�y"}`},
		{"escapes that are harmless", `{"a":"\u00e9\u003c"}`, `{"a":"é\u003c"}`},
		{"an escaped backslash before a u", `{"a":"\\u0000"}`, `{"a":"\\u0000"}`},
		{"numbers beside an escape stay exact", `{"a":{"id":5823704000000009007199,"n":1e400,"t":"\u0000"}}`, `{"a":{"id":5823704000000009007199,"n":1e400,"t":""}}`},
		{"a name with a NUL is none", `{"a\u0000":1,"b":2}`, `{"b":2}`},
		{"a long text", `{"a":"` + long + `\u0000"}`, `{"a":"` + long + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			read := func(text string) (r zoho.Record) {
				if err := json.Unmarshal([]byte(text), &r); err != nil {
					t.Fatal(err)
				}
				return r
			}
			text := cmp.Transformer("text", func(raw json.RawMessage) string { return string(raw) })
			if diff := cmp.Diff(Fields(read(tt.want)), storable(read(tt.in)), text); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(Fields{"b": json.RawMessage(`1`)}, storable(zoho.Record{"a": json.RawMessage(`{"half":`), "b": json.RawMessage(`1`), "c": nil})); diff != "" {
		t.Errorf("what is no JSON (-want +got):\n%s", diff)
	}
	if storable(nil) == nil {
		t.Error("a record without fields is no record")
	}
}

// lists answers as it is told which related lists there are.
type lists struct {
	*fakeZoho
	all []zoho.RelatedList
	err error
}

func (l lists) RelatedLists(context.Context, string) ([]zoho.RelatedList, error) { return l.all, l.err }

func TestLists(t *testing.T) {
	t.Parallel()
	standard := []string{"Contacts Contacts", "Deals Deals", "Notes Notes", "Tasks Tasks", "Events Events", "Calls Calls"}
	for _, tt := range []struct {
		name string
		all  []zoho.RelatedList
		err  error
		want []string // API name and module
		kind zoho.Kind
	}{
		{
			name: "as Zoho names them, by module, with what is closed",
			all: []zoho.RelatedList{
				{APIName: "Attachments"}, {APIName: "Tasks_History", Module: "Tasks"}, {APIName: "Open_Tasks", Module: "Tasks"},
				{APIName: "Potentials", Module: "Deals"}, {APIName: "Contacts", Module: "Contacts"}, {APIName: "Contacts2", Module: "Contacts"},
				{APIName: "Campaigns", Module: "Campaigns"},
			},
			want: []string{"Contacts Contacts", "Contacts2 Contacts", "Potentials Deals", "Tasks_History Tasks", "Open_Tasks Tasks"},
		},
		{name: "Zoho names none that we know", all: []zoho.RelatedList{{APIName: "Attachments"}}, want: standard},
		{name: "we may not ask", err: zohoSays(zoho.KindForbidden, "OAUTH_SCOPE_MISMATCH"), want: standard},
		{name: "Zoho does not know the question", err: zohoSays(zoho.KindInvalid, "INVALID_URL_PATTERN"), want: standard},
		{name: "Zoho is away", err: zohoSays(zoho.KindUnavailable, ""), kind: zoho.KindUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := NewReads(lists{newZoho(), tt.all, tt.err}, nil, quietLog(t)).lists(t.Context())
			var names []string
			for _, l := range got {
				names = append(names, l.APIName+" "+l.Module)
			}
			if diff := cmp.Diff(tt.want, names); diff != "" || zoho.KindOf(err) != tt.kind {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// Of a whole account: which page is next, and what it showed.
func TestWholePage(t *testing.T) {
	t.Parallel()
	failing := func(kind zoho.Kind, code, op string) func(zohoCall) error {
		return func(c zohoCall) error {
			if c.op == op {
				return zohoSays(kind, code)
			}
			return nil
		}
	}
	text := strings.Repeat("y", 700)
	for _, tt := range []struct {
		name, cursor string
		fail         func(zohoCall) error
		next         string
		records      []string
		calls        []string
		kind         zoho.Kind
	}{
		{name: "begins with the account itself", next: "list:", records: []string{"Accounts 77"}, calls: []string{"read Accounts 77"}},
		{name: "then its first list", cursor: "list:", next: "list:Contacts:o:2", records: []string{"Contacts 1", "Contacts 2"}, calls: []string{"list Contacts of 77"}},
		{name: "its next page", cursor: "list:Contacts:o:2", next: "list:Deals:", records: []string{"Contacts 3"}, calls: []string{"list Contacts of 77 from o:2"}},
		{name: "by a token", cursor: "list:Contacts:t:token:2", next: "list:Deals:", records: []string{"Contacts 3"}, calls: []string{"list Contacts of 77 from t:token:2"}},
		{name: "a list with a long text", cursor: "list:Notes:", next: "list:Tasks_History:", records: []string{"Notes 20"}, calls: []string{"list Notes of 77"}},
		{name: "an empty list", cursor: "list:Deals:", next: "list:Notes:", calls: []string{"list Deals of 77"}},
		{name: "after the last list the check", cursor: "list:Calls:", next: "check:", calls: []string{"list Calls of 77"}},
		{
			name: "a list that has another name by now is begun anew", cursor: "list:People:o:2", next: "list:Contacts:o:2",
			records: []string{"Contacts 1", "Contacts 2"}, calls: []string{"list Contacts of 77"},
		},
		{name: "a token that has expired leaves the rest to the check", cursor: "list:Contacts:t:token:2", fail: failing(zoho.KindInvalid, "EXPIRED_VALUE", "list"), next: "list:Deals:", calls: []string{"list Contacts of 77 from t:token:2"}},
		{name: "one of another user, too", cursor: "list:Contacts:t:token:2", fail: failing(zoho.KindInvalid, "TOKEN_BOUND_DATA_MISMATCH", "list"), next: "list:Deals:", calls: []string{"list Contacts of 77 from t:token:2"}},
		{name: "a list without a token cannot expire, and is left out", cursor: "list:Contacts:", fail: failing(zoho.KindInvalid, "EXPIRED_VALUE", "list"), next: "list:Deals:", calls: []string{"list Contacts of 77"}},
		{name: "a list that we may not read is left out", cursor: "list:Contacts:", fail: failing(zoho.KindForbidden, "NO_PERMISSION", "list"), next: "list:Deals:", calls: []string{"list Contacts of 77"}},
		{name: "so is one that is too large, from there on", cursor: "list:Contacts:o:2", fail: failing(zoho.KindTooLarge, "", "list"), next: "list:Deals:", calls: []string{"list Contacts of 77 from o:2"}},
		{name: "texts that cannot be had stay cut", cursor: "list:Notes:", fail: failing(zoho.KindTooLarge, "", "whole"), next: "list:Tasks_History:", records: []string{"Notes 20 cut"}, calls: []string{"list Notes of 77"}},
		{name: "Zoho is away", cursor: "list:Contacts:", fail: failing(zoho.KindUnavailable, "", "list"), calls: []string{"list Contacts of 77"}, kind: zoho.KindUnavailable},
		{name: "Zoho is away for the texts", cursor: "list:Notes:", fail: failing(zoho.KindThrottled, "", "whole"), calls: []string{"list Notes of 77"}, kind: zoho.KindThrottled},
		{name: "Zoho is away for the lists", cursor: "list:", fail: failing(zoho.KindUnavailable, "", "lists"), kind: zoho.KindUnavailable},
		{name: "Zoho is away from the beginning", fail: failing(zoho.KindUnauthorized, "", "read"), calls: []string{"read Accounts 77"}, kind: zoho.KindUnauthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			z := newZoho()
			z.page = 2
			z.put(t, "Accounts", account("77", "Acme", "Active"))
			z.put(t, "Notes", `{"id":"20","Note_Content":"`+text+`","Parent_Id":{"id":"77"}}`)
			for _, id := range []string{"1", "2", "3"} {
				z.put(t, "Contacts", contact(id, "77", "a@example.com"))
			}
			z.put(t, "Contacts", contact("4", "88", "a@example.com"))
			z.fail(tt.fail)
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			got, err := NewReads(z, nil, quietLog(t)).whole(t.Context(), at, "77", tt.cursor)
			if zoho.KindOf(err) != tt.kind {
				t.Errorf("error %v, want one of kind %d", err, tt.kind)
			}
			if err == nil && got.next != tt.next {
				t.Errorf("goes on at %q, want %q", got.next, tt.next)
			}
			var records []string
			for _, o := range got.observations {
				record := o.Module + " " + o.RecordID
				if content := scalar(o.Fields["Note_Content"]); content != "" && content != text {
					record += " cut"
				}
				records = append(records, record)
				if !o.ReadAt.Equal(at) || o.EventID != 0 || (o.Of != "77") != (o.Module == "Accounts") {
					t.Errorf("%+v, want it read at %v, of no event, and found in the account's list", o, at)
				}
			}
			if diff := cmp.Diff(tt.records, records); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.calls, z.made()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// What reconciliation only guesses to be gone is not believed where the module
// cannot be read; what Zoho itself lists as deleted is.
func TestAGuessIsNotBelievedWithoutARead(t *testing.T) {
	t.Parallel()
	z := newZoho()
	z.fail(func(zohoCall) error { return zohoSays(zoho.KindForbidden, "NO_PERMISSION") })
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	got, err := NewReads(z, nil, quietLog(t)).Observe(t.Context(), []Event{
		{ID: 1, Source: SourceReconcile, Module: "Contacts", RecordID: "1", Operation: "delete", Record: []byte(`{"id":"1"}`), ReceivedAt: at, TakenAt: at},
		{ID: 2, Source: SourceReconcile, Module: "Contacts", RecordID: "2", Operation: "delete", Record: []byte(`{"id":"2"}`), OccurredAt: at, ReceivedAt: at, TakenAt: at},
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := got[0]; o.Life != LifeUnsaid || !o.ReadAt.IsZero() || o.Fields != nil {
		t.Errorf("a guess says %+v", o)
	}
	if o := got[1]; o.Life != LifeGone {
		t.Errorf("Zoho's own word says %+v", o)
	}
}

// Of a whole account only what is of modules that are worked is read.
func TestListsOfConfiguredModules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ modules, want []string }{
		{[]string{"Accounts", "Deals", "Meetings"}, []string{"Deals", "Events"}},
		{[]string{"Activities"}, []string{"Tasks", "Events", "Calls"}},
		{[]string{"Accounts"}, nil},
	} {
		reads := NewReads(lists{newZoho(), nil, zohoSays(zoho.KindForbidden, "")}, tt.modules, quietLog(t))
		got, err := reads.lists(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, l := range got {
			names = append(names, l.Module)
		}
		if diff := cmp.Diff(tt.want, names); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.modules, diff)
		}
	}
	page, err := NewReads(lists{newZoho(), nil, nil}, []string{"Accounts"}, quietLog(t)).whole(t.Context(), time.Now(), "77", "list:")
	if err != nil || page.next != "check:" {
		t.Errorf("without lists it goes on at %q, %v", page.next, err)
	}
}
