package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/zoho"
)

// A notification names a contact that nobody knows. It is remembered for its
// account at once, and the account, seen for the first time, is read whole: a page
// with each job. Every run is cut in the middle once and its job is rescued.
func TestFirstSightReadsTheWholeAccount(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.page = 2
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	for _, id := range []string{"8", "9"} {
		z.put(t, "Contacts", contact(id, "77", id+"@example.com"))
		end := s.fullSync(t)
		s.notify(t, "Contacts", "create", id)
		s.finish(t)
		end()
	}
	// What no webhook tells of: one moves away, one is gone, and there is much more.
	z.put(t, "Contacts", contact("8", "88", "8@example.com"))
	z.remove("Contacts", "9")
	for _, id := range []string{"1", "2", "3"} {
		z.put(t, "Contacts", contact(id, "77", id+"@example.com"))
	}
	z.put(t, "Deals", deal("10", "77", "1000", "Qualification"))
	z.put(t, "Notes", `{"id":"20","Note_Title":"Visit","Parent_Id":{"id":"77","name":"Acme","module":{"api_name":"Accounts"}}}`)
	z.put(t, "Tasks", `{"id":"30","Subject":"Call","What_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`)
	z.put(t, "Events", `{"id":"40","Event_Title":"Fair","What_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`)
	z.put(t, "Calls", `{"id":"50","Subject":"Hello","What_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`)
	z.made()

	s.notify(t, "Contacts", "create", "1")
	if err := s.sync(t, "record:Contacts:1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"read Contacts 1"}, z.made()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if got := s.remembered(t); !slices.Contains(got, janeDoe("zoho:77 77", "1", "1@example.com")) {
		t.Errorf("the contact is not remembered for its account: %q", got)
	}
	s.closedBut(t, "wake_account 77")
	s.together(t, s.waiting(t))

	var calls [][]string
	for range 20 {
		lane := s.lane(t, "77")
		if lane.JobID == nil {
			break
		}
		before := s.whole(t, "77")
		// The process is killed when the job has taken its work, and the job rescued.
		row := s.begin(t, *lane.JobID)
		inGroup(t, s.pool, s.syncer.take, []claim{{"77", row.ID}})
		s.exec(t, `UPDATE river_job SET state = 'retryable' WHERE id = $1`, row.ID)
		// Then the program stops while it reads.
		ctx, cancel := context.WithCancel(t.Context())
		z.fail(func(zohoCall) error { cancel(); return errWorld })
		row = s.begin(t, row.ID)
		if err := s.attempt(ctx, row); !errors.Is(err, context.Canceled) {
			t.Fatalf("the job that was stopped returned %v", err)
		}
		s.end(t, row, context.Canceled)
		z.fail(nil)
		z.made()
		if diff := cmp.Diff(before, s.whole(t, "77")); diff != "" {
			t.Errorf("the read that was cut has gone on (-before +after):\n%s", diff)
		}
		s.noOrphans(t)
		s.later(t)

		if err := s.sync(t, "77"); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, z.made())
	}
	want := [][]string{
		{"read Accounts 77"},
		{"list Contacts of 77"}, {"list Contacts of 77 from o:2"},
		{"list Deals of 77"}, {"list Notes of 77"}, {"list Tasks_History of 77"}, {"list Tasks of 77"},
		{"list Events_History of 77"}, {"list Events of 77"}, {"list Calls of 77"},
		{"read Contacts 8 9"},
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("calls by job (-want +got):\n%s", diff)
	}
	w := s.whole(t, "77")
	if w.At == nil || w.Since != nil || w.Cursor != "" {
		t.Errorf("the account was read whole: %+v", w)
	}
	s.finish(t) // the other account, which a contact came to
	wantMemories := []string{
		"zoho:77 77 Accounts 77 Account Acme\nAccount Name: Acme\nAccount Status: Active\n" +
			"Contacts: 3\nDeals: 1, 1 of them open, worth 1000\nTasks: 1, 1 of them open\nNotes: 1\nActivities: 2",
		"zoho:77 77 Calls 50 Activity Hello of Acme\nSubject: Hello\nWhat Id: Acme",
		janeDoe("zoho:77 77", "1", "1@example.com"), janeDoe("zoho:77 77", "2", "2@example.com"), janeDoe("zoho:77 77", "3", "3@example.com"),
		janeDoe("zoho:88 88", "8", "8@example.com"),
		"zoho:77 77 Deals 10 Deal Rails of Acme\nAccount Name: Acme\nAmount: 1000\nDeal Name: Rails\nStage: Qualification",
		"zoho:77 77 Events 40 Activity Fair of Acme\nEvent Title: Fair\nWhat Id: Acme",
		"zoho:77 77 Notes 20 Note Visit of Acme\nNote Title: Visit\nParent Id: Acme",
		"zoho:77 77 Tasks 30 Task Call of Acme\nSubject: Call\nWhat Id: Acme",
	}
	if diff := cmp.Diff(wantMemories, s.remembered(t)); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"8 deleted zoho:77", "8 added zoho:88", "9 deleted zoho:77"}, rows[string](t, s.pool, `
		SELECT concat_ws(' ', record_id, operation, user_id) FROM memory_history WHERE record_id IN ('8', '9') AND id > 4 ORDER BY record_id, id`)); diff != "" {
		t.Errorf("what moved and what is gone (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{3, 0, 0}, s.counters(t, counter.Processed, counter.Retried, counter.Dead)); diff != "" {
		t.Errorf("processed, retried, dead (-want +got):\n%s", diff)
	}
}

// closedBut checks that nothing waits but these jobs.
func (s *station) closedBut(t *testing.T, want ...string) {
	t.Helper()
	got := rows[string](t, s.pool, `SELECT concat_ws(' ', kind, args ->> 'account_id') FROM river_job WHERE kind <> 'relay' AND state IN `+live+` ORDER BY id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("jobs that wait (-want +got):\n%s", diff)
	}
}

func deal(id, accountID, amount, stage string) string {
	return fmt.Sprintf(`{"id":%q,"Deal_Name":"Rails","Amount":%s,"Stage":%q,"Account_Name":{"id":%q,"name":"Acme"}}`, id, amount, stage, accountID)
}

// An account of 2,500 contacts is read by pages, and what webhooks tell meanwhile
// is worked between them.
func TestWholeReadOfAGreatAccount(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	const contacts = 2500
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	for i := range contacts {
		z.put(t, "Contacts", contact(fmt.Sprint(1000+i), "77", "a@example.com"))
	}
	s.notify(t, "Accounts", "create", "77")
	runs := 0
	for ; runs < 30; runs++ {
		lane := s.lane(t, "77")
		if lane.JobID == nil {
			break
		}
		// One that was read on an earlier page, one that will be on the last, one anew.
		if runs == 5 {
			for _, id := range []string{"1000", "3499", "5000"} {
				z.put(t, "Contacts", contact(id, "77", "b@example.com"))
			}
			s.notify(t, "Contacts", "update", "1000")
			s.notify(t, "Contacts", "update", "3499")
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "5000", record: contact("5000", "77", "never read")})
		}
		z.made()
		if err := s.work(t, s.lane(t, "77").job(t)); err != nil {
			t.Fatal(err)
		}
		z.mu.Lock()
		listed := 0
		for _, c := range z.calls {
			listed += c.listed
		}
		z.mu.Unlock()
		if listed > 200 {
			t.Errorf("run %d held %d records of a list", runs, listed)
		}
		if runs == 5 {
			got := rows[string](t, s.pool, `SELECT record_id || ' ' || status FROM events WHERE account_id = '77' AND module = 'Contacts' ORDER BY id`)
			if diff := cmp.Diff([]string{"1000 processed", "5000 processed"}, got); diff != "" {
				t.Errorf("events that arrived meanwhile (-want +got):\n%s", diff)
			}
		}
		s.noOrphans(t)
	}
	// The head; 12 full pages of contacts, and one more with a half and who is new; seven other lists; the check.
	if runs != 1+13+7+1 {
		t.Errorf("it took %d runs", runs)
	}
	s.finish(t)
	w := s.whole(t, "77")
	if w.At == nil || w.Since != nil || w.Cursor != "" {
		t.Errorf("the account was read whole: %+v", w)
	}
	if got, want := s.overview(t, "77"), "Account Acme\nAccount Name: Acme\nAccount Status: Active\nContacts: more than 1000"; got != want {
		t.Errorf("overview %q, want %q", got, want)
	}
	got := rows[string](t, s.pool, `SELECT format('%s contacts, %s memories, %s of them changed later', count(DISTINCT record_id),
			count(*) FILTER (WHERE operation = 'added'), count(*) FILTER (WHERE operation = 'updated'))
		FROM memory_history WHERE module = 'Contacts'`)
	if diff := cmp.Diff([]string{"2501 contacts, 2501 memories, 1 of them changed later"}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{4}, s.counters(t, counter.Processed)); diff != "" {
		t.Errorf("processed (-want +got):\n%s", diff)
	}
}

func TestFirstSight(t *testing.T) {
	t.Parallel()
	const read = `{"id":"77","Account_Name":"Acme","$read_at":"2026-01-02T03:04:05.000006Z"}`
	for _, tt := range []struct {
		name     string
		sync     string // a row of syncs: its kind and state
		source   string
		record   string
		before   string // a statement
		wasWhole bool
		want     bool
	}{
		{name: "a webhook", record: `{"id":"77"}`, want: true},
		{name: "what a webhook brought of an account that was read whole", record: `{"id":"77"}`, before: `UPDATE accounts SET whole_at = now()`, wasWhole: true},
		{name: "what reconciliation read", source: SourceReconcile, record: read},
		{name: "what reconciliation found to be gone", source: SourceReconcile, record: `{"id":"77"}`},
		{name: "a webhook while a full sync runs", sync: `'full', 'running'`, record: `{"id":"77"}`},
		{name: "a webhook while a full sync stands still", sync: `'full', 'running'`, record: `{"id":"77"}`, before: `UPDATE syncs SET updated_at = now() - interval '61 minutes'`, want: true},
		{name: "a webhook while a full sync rests", sync: `'full', 'paused'`, record: `{"id":"77"}`, want: true},
		{name: "a webhook after a full sync", sync: `'full', 'completed'`, record: `{"id":"77"}`, want: true},
		{name: "a webhook while an incremental sync runs", sync: `'incremental', 'running'`, record: `{"id":"77"}`, want: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			z.put(t, "Accounts", account("77", "Acme", "Active"))
			if tt.sync != "" {
				s.exec(t, `INSERT INTO syncs (id, kind, state, requested_by) VALUES (gen_random_uuid(), `+tt.sync+`, 'test')`)
			}
			s.route(t, sent{source: tt.source, module: "Accounts", operation: "create", recordID: "77", record: tt.record})
			if tt.before != "" {
				s.exec(t, tt.before)
			}
			s.finish(t)
			listed := slices.ContainsFunc(z.made(), func(call string) bool { return call == "list Contacts of 77" })
			if whole := s.whole(t, "77").At != nil && !tt.wasWhole; listed != tt.want || whole != tt.want {
				t.Errorf("its lists were read: %t, the account is whole: %t, want %t", listed, whole, tt.want)
			}
		})
	}
}

// Whoever comes with the reconciliation does not hide a webhook beside.
func TestFirstSightAmongEventsOfReconciliation(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	z.put(t, "Contacts", contact("1", "77", "a@example.com"))
	s.route(t, sent{source: SourceReconcile, module: "Accounts", operation: "create", recordID: "77", record: `{"id":"77","Account_Name":"Acme","$read_at":"2026-01-02T03:04:05Z"}`})
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	s.finish(t)
	if s.whole(t, "77").At == nil {
		t.Error("the account was not read whole")
	}
}

// Zoho fails at one page, again and again. What webhooks tell goes on, and the
// read does as soon as it can.
func TestPageThatCannotBeReadKeepsNoEvent(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	z.put(t, "Contacts", contact("1", "77", "a@example.com"))
	s.notify(t, "Accounts", "create", "77")
	z.fail(func(c zohoCall) error {
		if c.op == "list" {
			return zohoSays(zoho.KindUnavailable, "INTERNAL_ERROR")
		}
		return nil
	})
	if err := s.sync(t, "77"); err != nil {
		t.Fatal(err)
	}
	if err := s.sync(t, "77"); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "")})
	s.later(t)
	if err := s.sync(t, "77"); err != nil {
		t.Errorf("the job returned %v, want nil", err)
	}
	if diff := cmp.Diff([]string{"processed", "processed"}, rows[string](t, s.pool, `SELECT status FROM events`)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if w := s.whole(t, "77"); w.At != nil || w.Since == nil || w.Cursor != "list:" {
		t.Errorf("the whole read stands at %+v", w)
	}
	s.noOrphans(t)
	z.fail(nil)
	s.finish(t)
	if s.whole(t, "77").At == nil {
		t.Error("the account was not read whole")
	}
}

func TestWholeStateAfterAPage(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 5, 1, 12, minute, 0, 0, time.UTC) }
	for name, tt := range map[string]struct {
		before wholeState
		read   *wholeRead
		want   wholeState
	}{
		"nothing was read":                {wholeState{at: at(1)}, nil, wholeState{at: at(1)}},
		"the first page":                  {wholeState{}, &wholeRead{since: at(2), cursor: "list:"}, wholeState{since: at(2), cursor: "list:"}},
		"a further page":                  {wholeState{since: at(2), cursor: "list:"}, &wholeRead{since: at(2), cursor: "check:"}, wholeState{since: at(2), cursor: "check:"}},
		"the last page":                   {wholeState{since: at(2), cursor: "check:"}, &wholeRead{since: at(2), done: true}, wholeState{at: at(2)}},
		"another read was asked for":      {wholeState{since: at(3)}, &wholeRead{since: at(2), cursor: "check:"}, wholeState{since: at(3)}},
		"and the old one came to its end": {wholeState{since: at(3)}, &wholeRead{since: at(2), done: true}, wholeState{since: at(3)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.before.after(tt.read); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// Once Zoho is not connected any more nobody goes on with a read that was under way.
func TestAWholeReadEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	s.exec(t, `UPDATE accounts SET whole_since = now(), whole_cursor = 'list:Deals:'`)
	s.finish(t)
	if n := s.exec(t, `UPDATE accounts SET whole_since = NULL WHERE whole_since IS NOT NULL OR whole_cursor <> ''`); n != 0 {
		t.Error("the account is still being read")
	}
}
