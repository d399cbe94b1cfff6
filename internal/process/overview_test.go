package process

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/db"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		row  db.SummarizeAccountsRow
		want []string
	}{
		{"nothing", db.SummarizeAccountsRow{OpenAmount: "0"}, nil},
		{
			"some of everything",
			db.SummarizeAccountsRow{Contacts: 3, Deals: 4, OpenDeals: 2, OpenAmount: "1500.50", Tasks: 5, OpenTasks: 1, Notes: 6, Activities: 7},
			[]string{"Contacts: 3", "Deals: 4, 2 of them open, worth 1500.50", "Tasks: 5, 1 of them open", "Notes: 6", "Activities: 7"},
		},
		{
			"nothing open", db.SummarizeAccountsRow{Deals: 1, OpenAmount: "0", Tasks: 2},
			[]string{"Deals: 1, none of them open", "Tasks: 2, none of them open"},
		},
		{"open and worth nothing", db.SummarizeAccountsRow{Deals: 1, OpenDeals: 1, OpenAmount: "0"}, []string{"Deals: 1, 1 of them open"}},
		{"open and worth nothing, with decimals", db.SummarizeAccountsRow{Deals: 1, OpenDeals: 1, OpenAmount: "0.00"}, []string{"Deals: 1, 1 of them open"}},
		{"worth less than nothing", db.SummarizeAccountsRow{Deals: 1, OpenDeals: 1, OpenAmount: "-10"}, []string{"Deals: 1, 1 of them open, worth -10"}},
		{
			"as many as are counted", db.SummarizeAccountsRow{Contacts: 1000, Deals: 1000, OpenDeals: 1000, OpenAmount: "7", Tasks: 1000, OpenTasks: 1000},
			[]string{"Contacts: 1000", "Deals: 1000, 1000 of them open, worth 7", "Tasks: 1000, 1000 of them open"},
		},
		{
			// Which of them were looked at is chance: what is said of them would change without them.
			"more than are counted",
			db.SummarizeAccountsRow{Contacts: 1001, Deals: 1001, OpenDeals: 7, OpenAmount: "7", Tasks: 1001, OpenTasks: 0, Notes: 1001, Activities: 1001},
			[]string{"Contacts: more than 1000", "Deals: more than 1000", "Tasks: more than 1000", "Notes: more than 1000", "Activities: more than 1000"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, summary(tt.row)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCounted(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 1: "1", 1000: "1000", 1001: "more than 1000", 50_000: "more than 1000"} {
		if got := counted(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

// Each step is one event; an account's overview follows what belongs to it, and
// says nothing when nothing has changed.
func TestOverviewFollowsWhatBelongsToTheAccount(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	end := s.fullSync(t)
	defer end()
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	task := func(id, status string) string {
		return fmt.Sprintf(`{"id":%q,"Subject":"Call","Status":%q,"What_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`, id, status)
	}
	activity := `{"id":"40","Subject":"Fair","What_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`
	note := `{"id":"20","Note_Title":"Visit","Parent_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`
	told := 0
	for _, step := range []struct {
		name, module, id string
		record           string // "": gone
		want             string
		webhooks         int // of the account
	}{
		{"the account", "Accounts", "77", account("77", "Acme", "Active"), "", 1},
		{"a contact", "Contacts", "1", contact("1", "77", "a@example.com"), "Contacts: 1", 1},
		{"the contact changes", "Contacts", "1", contact("1", "77", "b@example.com"), "Contacts: 1", 0},
		{"the same once more", "Contacts", "1", contact("1", "77", "b@example.com"), "Contacts: 1", 0},
		{"a deal", "Deals", "10", deal("10", "77", "1000.50", "Qualification"), "Contacts: 1|Deals: 1, 1 of them open, worth 1000.50", 1},
		{"another deal", "Deals", "11", deal("11", "77", "2e3", "Proposal"), "Contacts: 1|Deals: 2, 2 of them open, worth 3000.50", 1},
		{"one whose amount is no number", "Deals", "12", deal("12", "77", `"a lot"`, "Proposal"), "Contacts: 1|Deals: 3, 3 of them open, worth 3000.50", 1},
		{"a deal is won", "Deals", "11", deal("11", "77", "2000", "Closed Won"), "Contacts: 1|Deals: 3, 2 of them open, worth 1000.50", 1},
		{"a task", "Tasks", "30", task("30", "Not Started"), "Contacts: 1|Deals: 3, 2 of them open, worth 1000.50|Tasks: 1, 1 of them open", 1},
		{"it is done", "Tasks", "30", task("30", "Completed"), "Contacts: 1|Deals: 3, 2 of them open, worth 1000.50|Tasks: 1, none of them open", 1},
		{"an event", "Events", "40", activity, "Contacts: 1|Deals: 3, 2 of them open, worth 1000.50|Tasks: 1, none of them open|Activities: 1", 1},
		{"a call", "Calls", "40", activity, "Contacts: 1|Deals: 3, 2 of them open, worth 1000.50|Tasks: 1, none of them open|Activities: 2", 1},
		{"a note", "Notes", "20", note, "Contacts: 1|Deals: 3, 2 of them open, worth 1000.50|Tasks: 1, none of them open|Notes: 1|Activities: 2", 1},
		{"the deals are gone", "Deals", "10", "", "Contacts: 1|Deals: 2, 1 of them open|Tasks: 1, none of them open|Notes: 1|Activities: 2", 1},
		{"and another", "Deals", "12", "", "Contacts: 1|Deals: 1, none of them open|Tasks: 1, none of them open|Notes: 1|Activities: 2", 1},
		{"and the last", "Deals", "11", "", "Contacts: 1|Tasks: 1, none of them open|Notes: 1|Activities: 2", 1},
		{"a contact of no account", "Contacts", "2", `{"id":"2","Last_Name":"Roe","Account_Name":null}`, "Contacts: 1|Tasks: 1, none of them open|Notes: 1|Activities: 2", 0},
		{"it comes to the account", "Contacts", "2", contact("2", "77", "c@example.com"), "Contacts: 2|Tasks: 1, none of them open|Notes: 1|Activities: 2", 1},
	} {
		if step.record == "" {
			z.remove(step.module, step.id)
		} else {
			z.put(t, step.module, step.record)
		}
		s.notify(t, step.module, "update", step.id)
		s.finish(t)
		want := "Account Acme\nAccount Name: Acme\nAccount Status: Active"
		if step.want != "" {
			want += "\n" + strings.ReplaceAll(step.want, "|", "\n")
		}
		if diff := cmp.Diff(want, s.overview(t, "77")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		n := len(rows[int64](t, s.pool, `SELECT h.id FROM memory_history h JOIN outbox o ON o.id = h.outbox_id WHERE h.module = 'Accounts'`))
		if n-told != step.webhooks {
			t.Errorf("%s: %d webhooks of the account, want %d", step.name, n-told, step.webhooks)
		}
		told = n
	}
}

// A lane that only looks again writes nothing and tells nobody.
func TestOverviewWithoutNewsWritesNothing(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	z.put(t, "Contacts", contact("1", "77", "a@example.com"))
	s.notify(t, "Contacts", "create", "1")
	s.finish(t)
	before := s.snapshot(t)
	for range 2 {
		s.wake(t, "77")
	}
	s.notify(t, "Contacts", "update", "1")
	s.finish(t)
	after := s.snapshot(t)
	for _, table := range []string{"memories", "memory_history", "outbox", "relationships"} {
		if diff := cmp.Diff(before[table], after[table]); diff != "" {
			t.Errorf("%s changed (-before +after):\n%s", table, diff)
		}
	}
}

// An account that Zoho does not have, or that we may not read, has no overview,
// whatever belongs to it.
func TestNoOverviewOfAnUnknownAccount(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Contacts", contact("1", "77", "a@example.com"))
	s.notify(t, "Contacts", "create", "1")
	s.finish(t)
	if diff := cmp.Diff([]string{janeDoe("zoho:77 77", "1", "a@example.com")}, s.remembered(t)); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
}

// Without Zoho an account's memory is its own fields.
func TestNoOverviewWithoutZoho(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.route(t, sent{module: "Accounts", operation: "create", recordID: "77", record: account("77", "Acme", "Active")})
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	s.finish(t)
	if got, want := s.overview(t, "77"), "Account Acme\nAccount Name: Acme\nAccount Status: Active"; got != want {
		t.Errorf("overview %q, want %q", got, want)
	}
	if got := s.graph(t); got != nil {
		t.Errorf("graph %q, want none", got)
	}
}
