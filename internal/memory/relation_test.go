package memory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRelationsOf(t *testing.T) {
	t.Parallel()
	line := func(source, sourceName, relationship, target, targetName string) Relation {
		return Relation{UserID: "zoho:77", Source: source, SourceName: sourceName, Relationship: relationship, Target: target, TargetName: targetName}
	}
	for _, tt := range []struct {
		name, module, fields string
		want                 []Relation
	}{
		{
			"an account's own name is no lookup", "Accounts", `{"Account_Name":"Acme","Owner":{"id":"5","name":"Bo","email":"bo@example.com"},"Parent_Account":{"id":"66","name":"Group"}}`,
			[]Relation{line("Accounts:1", "Acme", "CHILD_OF", "Accounts:66", "Group"), line("Accounts:1", "Acme", "OWNED_BY", "Users:5", "Bo")},
		}, {
			"a contact", "Contacts", `{"First_Name":"Jane","Last_Name":"Doe","Account_Name":{"id":"77","name":"Acme"},"Owner":{"id":5}}`,
			[]Relation{line("Accounts:77", "Acme", "HAS_CONTACT", "Contacts:1", "Jane Doe"), line("Contacts:1", "Jane Doe", "OWNED_BY", "Users:5", "")},
		}, {
			"a deal with a contact", "Deals", `{"Deal_Name":"Rails","Account_Name":{"id":"77","name":"Acme"},"Contact_Name":{"id":"2","name":"Doe"}}`,
			[]Relation{line("Accounts:77", "Acme", "HAS_DEAL", "Deals:1", "Rails"), line("Deals:1", "Rails", "HAS_CONTACT", "Contacts:2", "Doe")},
		}, {
			"a task of a deal and about a contact", "Tasks", `{"Subject":"Call","What_Id":{"id":"8","name":"Rails"},"Who_Id":{"id":"2","name":"Doe"},"$se_module":"Deals"}`,
			[]Relation{line("Deals:8", "Rails", "HAS_TASK", "Tasks:1", "Call"), line("Tasks:1", "Call", "CONCERNS", "Contacts:2", "Doe")},
		}, {
			"a task of its account, of which it does not say what it is", "Tasks", `{"Subject":"Call","What_Id":{"id":"77","name":"Acme"}}`,
			[]Relation{line("Accounts:77", "Acme", "HAS_TASK", "Tasks:1", "Call")},
		}, {
			"a task of something that it does not say the kind of", "Tasks", `{"Subject":"Call","What_Id":{"id":"8","name":"Rails"}}`, nil,
		}, {
			"an event whose parent says its module by name", "Events", `{"Event_Title":"Fair","What_Id":{"id":"8","module":"Deals"}}`,
			[]Relation{line("Deals:8", "", "HAS_ACTIVITY", "Events:1", "Fair")},
		}, {
			"a note whose parent says its module as an object", "Notes", `{"Note_Title":"Visit","Parent_Id":{"id":"2","name":"Doe","module":{"id":"9","api_name":"Contacts"}}}`,
			[]Relation{line("Contacts:2", "Doe", "HAS_NOTE", "Notes:1", "Visit")},
		},
		{"a call", "Calls", `{"Subject":"Hello","What_Id":{"id":"77"}}`, []Relation{line("Accounts:77", "", "HAS_ACTIVITY", "Calls:1", "Hello")}},
		{"a meeting", "Meetings", `{"What_Id":{"id":"77"}}`, []Relation{line("Accounts:77", "", "HAS_ACTIVITY", "Meetings:1", "")}},
		{"an activity", "Activities", `{"What_Id":{"id":"77"}}`, []Relation{line("Accounts:77", "", "HAS_ACTIVITY", "Activities:1", "")}},
		{"a record of a module that nobody knows", "Vendors", `{"Account_Name":{"id":"77"},"Owner":{"id":"5"}}`, []Relation{line("Vendors:1", "", "OWNED_BY", "Users:5", "")}},
		{
			"ids greater than a float can hold", "Contacts", `{"Account_Name":{"id":5823704000000009007}}`,
			[]Relation{line("Accounts:5823704000000009007", "", "HAS_CONTACT", "Contacts:1", "")},
		}, {
			"bare ids, and what may be a name", "Contacts", `{"Account_Name":"77","Owner":"Bo"}`,
			[]Relation{line("Accounts:77", "", "HAS_CONTACT", "Contacts:1", "")},
		},
		{"lookups that are empty", "Contacts", `{"Account_Name":null,"Owner":{},"Who_Id":{"name":"Doe"},"Contact_Name":{"id":""},"Parent_Account":[{"id":"1"}]}`, nil},
		{"ids of another kind", "Contacts", `{"Account_Name":{"id":{"x":1}},"Owner":{"id":true}}`, nil},
		{"no fields", "Contacts", `{}`, nil},
		{
			"the first parent that there is", "Tasks", `{"Account_Name":null,"What_Id":{"id":"77","name":"Acme"},"Parent_Id":{"id":"8"}}`,
			[]Relation{line("Accounts:77", "Acme", "HAS_TASK", "Tasks:1", "")},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := RelationsOf(Record{Module: tt.module, ID: "1", AccountID: "77", Fields: fields(t, tt.fields)})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Names go into the graph for people; nobody reads two megabytes of them.
func TestNamesOfRelationsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2<<20)
	all := RelationsOf(Record{Module: "Deals", ID: "1", AccountID: "77", Fields: fields(t, `{"Deal_Name":"`+long+`","Account_Name":{"id":"77","name":"`+long+`"}}`)})
	if len(all) != 1 || len(all[0].SourceName) > maxValue+len("…") || len(all[0].TargetName) > maxValue+len("…") {
		t.Errorf("%d relations, or names that are too long", len(all))
	}
}

func TestFromRecordSaysWhatBelongsToAnAccount(t *testing.T) {
	t.Parallel()
	r := Record{Module: "Accounts", ID: "77", AccountID: "77", Fields: fields(t, `{"Account_Name":"Acme"}`), Summary: []string{"Contacts: 3", "Notes: 1"}}
	got, ok := FromRecord(r)
	if want := "Account Acme\nAccount Name: Acme\nContacts: 3\nNotes: 1"; !ok || got.Content != want {
		t.Errorf("%q (%t), want %q", got.Content, ok, want)
	}
	before := got.Checksum()
	r.Summary = []string{"Contacts: 4", "Notes: 1"}
	if got, _ := FromRecord(r); got.Checksum() == before {
		t.Error("another summary is no change")
	}
	// What belongs to an account of which nothing is known is nothing to remember.
	r.Fields = nil
	if got, ok := FromRecord(r); ok {
		t.Errorf("remembered %q of an account without fields", got.Content)
	}
}

func TestLongTextsAreShortened(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, value, want string }{
		{"as long as may be", strings.Repeat("x", maxValue), strings.Repeat("x", maxValue)},
		{"longer", strings.Repeat("x", maxValue+1), strings.Repeat("x", maxValue) + "…"},
		{"not cut within a letter", strings.Repeat("x", maxValue-1) + "éé", strings.Repeat("x", maxValue-1) + "…"},
		{"two megabytes", strings.Repeat("é", 1<<20), strings.Repeat("é", maxValue/2) + "…"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, ok := FromRecord(Record{Module: "Tasks", ID: "1", AccountID: "77", Fields: fields(t, `{"Subject":"`+tt.value+`","What_Id":{"name":"`+tt.value+`"}}`)})
			if want := "Task " + tt.want + " of " + tt.want + "\nSubject: " + tt.want + "\nWhat Id: " + tt.want; !ok || got.Content != want {
				t.Errorf("content of %d bytes, want %d", len(got.Content), len(want))
			}
		})
	}
}
