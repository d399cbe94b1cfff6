package memory

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func fields(t *testing.T, text string) map[string]json.RawMessage {
	t.Helper()
	var f map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFromRecord(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, module, fields string
		kind, content        string // "": nothing worth remembering
	}{
		{
			"an account", "Accounts", `{"id":"1","Account_Name":"Acme","Industry":"Steel"}`,
			"account", "Account Acme\nAccount Name: Acme\nIndustry: Steel",
		}, {
			"a contact by its full name", "Contacts", `{"Full_Name":"Jane Doe","First_Name":"J."}`,
			"contact", "Contact Jane Doe\nFirst Name: J.\nFull Name: Jane Doe",
		}, {
			"a contact by its two names, of its account", "Contacts", `{"First_Name":"Jane","Last_Name":"Doe","Account_Name":{"id":"77","name":"Acme"}}`,
			"contact", "Contact Jane Doe of Acme\nAccount Name: Acme\nFirst Name: Jane\nLast Name: Doe",
		}, {
			"a contact by its last name", "Contacts", `{"Last_Name":"Doe"}`,
			"contact", "Contact Doe\nLast Name: Doe",
		}, {
			"a contact without a name", "Contacts", `{"Email":"a@example.com"}`,
			"contact", "Contact\nEmail: a@example.com",
		}, {
			"a deal", "Deals", `{"Deal_Name":"Rails","Amount":12.50,"Account_Name":{"name":" Acme "}}`,
			"deal", "Deal Rails of Acme\nAccount Name: Acme\nAmount: 12.50\nDeal Name: Rails",
		}, {
			"a task", "Tasks", `{"Subject":"Call","What_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`,
			"task", "Task Call of Acme\nSubject: Call\nWhat Id: Acme",
		}, {
			"a note", "Notes", `{"Note_Title":"Visit","Note_Content":"Two lines\nof text","Parent_Id":{"name":"Acme"}}`,
			"note", "Note Visit of Acme\nNote Content: Two lines\nof text\nNote Title: Visit\nParent Id: Acme",
		},
		{"an event", "Events", `{"Event_Title":"Fair"}`, "activity", "Activity Fair\nEvent Title: Fair"},
		{"a call", "Calls", `{"Subject":"Hello"}`, "activity", "Activity Hello\nSubject: Hello"},
		{"a meeting", "Meetings", `{"Subject":"Hello"}`, "activity", "Activity Hello\nSubject: Hello"},
		{"an activity", "Activities", `{"Subject":"Hello"}`, "activity", "Activity Hello\nSubject: Hello"},
		{"a record of a module that nobody knows", "Vendors", `{"Vendor_Name":"Bolt"}`, "record", "Record\nVendor Name: Bolt"},
		{
			"values of all kinds", "Accounts",
			`{"A_text":" x ","B_true":true,"C_false":false,"D_number":-1.50,"E_list":["a",{"name":"b"},null,"",["c"]],"F_lookup":{"id":"5","name":"Bo"},
			  "G_object":{"street":"Long <Road> & Co","a":{"y":[1e2,"é"],"x":null}},"H_null":null,"I_empty":"  ","J_nothing":{},"K_none":[]}`,
			"account", "Account\nA text: x\nB true: true\nC false: false\nD number: -1.50\nE list: a, b, c\nF lookup: Bo\n" +
				`G object: {"a":{"x":null,"y":[100,"é"]},"street":"Long <Road> & Co"}`,
		},
		{
			"what is about the record and not about the customer is left out", "Accounts",
			`{"id":"1","Modified_Time":"x","Created_Time":"x","Modified_By":{"name":"x"},"Created_By":"x","Last_Activity_Time":"x","Record_Status__s":"x","$approved":true,"Phone":"5"}`,
			"account", "Account\nPhone: 5",
		},
		{"ids alone", "Contacts", `{"id":"1","Modified_Time":"x","$state":"save"}`, "", ""},
		{"nothing but what was cleared", "Contacts", `{"Email":null,"Phone":""}`, "", ""},
		{"no fields", "Contacts", `{}`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := Record{Module: tt.module, ID: "1", AccountID: "77", Fields: fields(t, tt.fields), ModifiedTime: "2024-05-06T07:08:09Z"}
			want := Memory{
				UserID: "zoho:77", Kind: tt.kind, Content: tt.content,
				Metadata: map[string]any{
					"source": "zoho", "module": tt.module, "record_id": "1", "account_id": "77", "modified_time": "2024-05-06T07:08:09Z",
				},
			}
			if tt.kind == "" {
				want = Memory{}
			}
			got, ok := FromRecord(r)
			if diff := cmp.Diff(want, got); ok != (tt.kind != "") || diff != "" {
				t.Errorf("remembered: %t (-want +got):\n%s", ok, diff)
			}
		})
	}
}

func TestFromRecordSaysNoTimeThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	got, ok := FromRecord(Record{Module: "Accounts", ID: "1", AccountID: "1", Fields: fields(t, `{"Phone":"5"}`)})
	want := map[string]any{"source": "zoho", "module": "Accounts", "record_id": "1", "account_id": "1"}
	if diff := cmp.Diff(want, got.Metadata); !ok || diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}

// A database that keeps jsonb gives values back in its own form.
func TestTextDependsOnTheValueAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, came, stored, want string }{
		{"keys in another order", `{"zip":"1", "a":{"d":1,"c":2}}`, `{"a": {"c": 2, "d": 1}, "zip": "1"}`, `{"a":{"c":2,"d":1},"zip":"1"}`},
		{"a key twice", `{"a":1,"a":2}`, `{"a": 2}`, `{"a":2}`},
		{"letters as escapes", `{"a":"\u00e9\/"}`, `{"a": "é/"}`, `{"a":"é/"}`},
		{"an exponent", `1.0E7`, `10000000`, `10000000`},
		{"a small one", `1.50e1`, `15.0`, `15.0`},
		{"a signed one", `-1.5E+2`, `-150`, `-150`},
		{"one below zero", `1.23e-5`, `0.0000123`, `0.0000123`},
		{"one that moves the point into the digits", `123e-2`, `1.23`, `1.23`},
		{"zeros at the end", `100e-2`, `1.00`, `1.00`},
		{"a nought with an exponent", `0e5`, `0`, `0`},
		{"a nought with decimals", `0.00e3`, `0`, `0`},
		{"a nought that moves", `0e-3`, `0.000`, `0.000`},
		{"a nought below zero", `-0.0`, `0.0`, `0.0`},
		{"numbers inside", `[{"a":[1E2,-0]}]`, `[{"a": [100, 0]}]`, `{"a":[100,0]}`},
		{"an id beyond what a float holds", `{"id":5823704000000009007199}`, `{"id": 5823704000000009007199}`, `{"id":5823704000000009007199}`},
		{"a number that would fill the memory", `1e999999999`, `1e999999999`, `1e999999999`},
		{"one with an exponent that is no number of ours", `1e99999999999999999999`, `1e99999999999999999999`, `1e99999999999999999999`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff([]string{tt.want, tt.want}, []string{text(json.RawMessage(tt.came)), text(json.RawMessage(tt.stored))}); diff != "" {
				t.Errorf("as it came, and as it was stored (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever may send may send this, and others wait for the answer.
func TestTextOfADeepListIsReadInOneGo(t *testing.T) {
	t.Parallel()
	const depth = 9000
	long := strings.Repeat("x", 1<<20)
	if got := text(json.RawMessage(strings.Repeat("[", depth) + `"` + long + `"` + strings.Repeat("]", depth))); got != long {
		t.Errorf("reads as %d letters, want %d", len(got), len(long))
	}
}

func TestTextOfWhatIsNoJSONIsNothing(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{``, `  `, `"half`, `{"half":`, `["half"`} {
		if got := text(json.RawMessage(raw)); got != "" {
			t.Errorf("%q reads as %q, want nothing", raw, got)
		}
	}
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	base := Memory{UserID: "zoho:77", Kind: "contact", Content: "Contact\nEmail: a", Metadata: map[string]any{"source": "zoho", "record_id": "1"}}
	for _, tt := range []struct {
		name   string
		change func(*Memory)
		same   bool
	}{
		{"nothing", func(*Memory) {}, true},
		{"the time of modification alone", func(m *Memory) { m.Metadata["modified_time"] = "2024-05-06T07:08:09Z" }, true},
		{"the user", func(m *Memory) { m.UserID = "zoho:88" }, false},
		{"the kind", func(m *Memory) { m.Kind = "deal" }, false},
		{"the content", func(m *Memory) { m.Content += "b" }, false},
		{"a space", func(m *Memory) { m.Content += " " }, false},
		{"a value of the metadata", func(m *Memory) { m.Metadata["record_id"] = "2" }, false},
		{"a key of the metadata", func(m *Memory) { delete(m.Metadata, "source") }, false},
		{"one more", func(m *Memory) { m.Metadata["tag"] = "" }, false},
		{"a value that goes to another key", func(m *Memory) { m.Metadata["source"], m.Metadata["record_id"] = "1", "zoho" }, false},
		{"a border between two parts", func(m *Memory) { m.Kind, m.Content = m.Kind+m.Content[:1], m.Content[1:] }, false},
		{"no metadata", func(m *Memory) { m.Metadata = nil }, false},
		{"a time that an agent calls so", func(m *Memory) { m.Metadata = map[string]any{"record_id": "1", "modified_time": "2024"} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := base
			m.Metadata = maps.Clone(base.Metadata)
			tt.change(&m)
			metadata := maps.Clone(m.Metadata)
			if same := m.Checksum() == base.Checksum(); same != tt.same {
				t.Errorf("the same: %t, want %t", same, tt.same)
			}
			if diff := cmp.Diff(metadata, m.Metadata); diff != "" {
				t.Errorf("the memory has changed (-before +after):\n%s", diff)
			}
		})
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	was := Snapshot{ID: id, Content: "a", Metadata: map[string]any{"module": "Deals", "account_id": "77"}}
	is := Snapshot{ID: id, Content: "b"}
	const snapshot = `{"id":"01890a5d-ac96-774b-bcce-b302099a8057","content":"a","metadata":{"account_id":"77","module":"Deals"}}`
	for _, tt := range []struct {
		name string
		data any
		want string
	}{
		{Added, AddedData{was}, `{"result":` + snapshot + `}`},
		{Deleted, DeletedData{was}, `{"result":` + snapshot + `}`},
		{Updated, UpdatedData{was, is}, `{"before":` + snapshot + `,"after":{"id":"01890a5d-ac96-774b-bcce-b302099a8057","content":"b","metadata":null}}`},
		{Optimized, nil, `null`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Envelope{
				Event: tt.name, UserID: "zoho:77", Data: tt.data,
				Timestamp: time.Date(2024, 5, 6, 9, 8, 9, 500_000_000, time.FixedZone("", 7200)),
				Source:    "memrelay", BotVersion: "1.0.0", RequestID: "r",
			}.Render()
			if err != nil {
				t.Fatal(err)
			}
			want := `{"event":"` + tt.name + `","user_id":"zoho:77","data":` + tt.want +
				`,"timestamp":"2024-05-06T07:08:09.5Z","source":"memrelay","bot_version":"1.0.0","request_id":"r"}`
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := (Envelope{Event: Added, Data: func() {}}).Render(); err == nil {
		t.Error("data that is no JSON was rendered")
	}
}

func TestThereAreTwelveEvents(t *testing.T) {
	t.Parallel()
	want := []string{
		"memory_added", "memory_searched", "memory_deleted", "memory_updated", "preference_stored", "correction_stored",
		"relationship_added", "relationship_deleted", "graph_built", "memory_optimized", "batch_operation_completed", "memory_error",
	}
	if diff := cmp.Diff(want, Events()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
