package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/zoho"
)

// A read that begins early may end late. What a later one found is not overwritten.
func TestOlderReadThatEndsLater(t *testing.T) {
	t.Parallel()
	newer := contact("1", "77", "new@example.com")

	t.Run("in the same lane", func(t *testing.T) {
		t.Parallel()
		s, z := newZohoStation(t)
		defer s.fullSync(t)()
		z.put(t, "Contacts", contact("1", "77", "old@example.com"))
		s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "")})
		stale := z.stopAt("read Contacts 1")
		row := s.begin(t, s.lane(t, "77").job(t))
		first := s.start(t, row)
		stale.wait(t)
		// River takes the job for dead and gives it to another worker.
		s.exec(t, `UPDATE river_job SET state = 'retryable' WHERE id = $1`, row.ID)
		z.put(t, "Contacts", newer)
		row = s.begin(t, row.ID)
		if err := s.attempt(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		stale.answer()
		if err := <-first; err != nil {
			t.Errorf("the first attempt returned %v, want nil", err)
		}
		s.end(t, row, nil)
		s.finish(t)
		s.remembersOnly(t, janeDoe("zoho:77 77", "1", "new@example.com"))
		if diff := cmp.Diff([]string{"added Contacts 1 zoho:77 by event 1 memory_added"}, s.told(t)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})

	// The contact has a lane of its own until it is known; its account's lane finds
	// it in a list while that lane's read is still under way.
	t.Run("in another lane", func(t *testing.T) {
		t.Parallel()
		s, z := newZohoStation(t)
		z.put(t, "Contacts", contact("1", "77", "old@example.com"))
		late := s.readLate(t, z)
		z.put(t, "Contacts", newer)
		s.notify(t, "Accounts", "update", "77")
		s.finishBut(t, late.row)
		s.remembersOnly(t, janeDoe("zoho:77 77", "1", "new@example.com"))
		late.end(t, s)
		s.remembersOnly(t, janeDoe("zoho:77 77", "1", "new@example.com"))
		if diff := cmp.Diff([]int64{2, 0}, s.counters(t, counter.Processed, counter.Retried)); diff != "" {
			t.Errorf("processed, retried (-want +got):\n%s", diff)
		}
	})

	t.Run("after a move", func(t *testing.T) {
		t.Parallel()
		s, z := newZohoStation(t)
		z.put(t, "Contacts", contact("1", "77", "old@example.com"))
		late := s.readLate(t, z)
		z.put(t, "Contacts", contact("1", "88", "new@example.com"))
		s.notify(t, "Accounts", "update", "88")
		s.finishBut(t, late.row)
		s.remembersOnly(t, janeDoe("zoho:88 88", "1", "new@example.com"))
		late.end(t, s)
		s.remembersOnly(t, janeDoe("zoho:88 88", "1", "new@example.com"))
		if diff := cmp.Diff([]string{"zoho:88 Accounts:88 HAS_CONTACT Contacts:1 by Contacts 1"}, s.graph(t)); diff != "" {
			t.Errorf("graph (-want +got):\n%s", diff)
		}
	})

	t.Run("and did not find what is there again", func(t *testing.T) {
		t.Parallel()
		s, z := newZohoStation(t)
		late := s.readLate(t, z)
		z.put(t, "Contacts", newer)
		s.notify(t, "Accounts", "update", "77")
		s.finishBut(t, late.row)
		late.end(t, s)
		s.remembersOnly(t, janeDoe("zoho:77 77", "1", "new@example.com"))
	})

	t.Run("and still found what is gone", func(t *testing.T) {
		t.Parallel()
		s, z := newZohoStation(t)
		z.put(t, "Contacts", contact("1", "77", "old@example.com"))
		late := s.readLate(t, z)
		z.remove("Contacts", "1")
		s.route(t, sent{module: "Contacts", operation: "delete", recordID: "1", record: contact("1", "77", "old@example.com")})
		s.finishBut(t, late.row)
		late.end(t, s)
		s.remembersOnly(t)
	})
}

// lateRead is a job that has its answer, and has not got it yet.
type lateRead struct {
	row  *rivertype.JobRow
	stop *stop
	done <-chan error
}

// readLate begins to read contact 1 in its own lane, and stops in the middle.
func (s *station) readLate(t *testing.T, z *fakeZoho) lateRead {
	t.Helper()
	s.notify(t, "Contacts", "update", "1")
	l := lateRead{stop: z.stopAt("read Contacts 1"), row: s.begin(t, s.lane(t, "record:Contacts:1").job(t))}
	l.done = s.start(t, l.row)
	l.stop.wait(t)
	return l
}

// end lets it go on, and then all the rest.
func (l lateRead) end(t *testing.T, s *station) {
	t.Helper()
	l.stop.answer()
	if err := <-l.done; err != nil {
		t.Errorf("the late read returned %v, want nil", err)
	}
	s.end(t, l.row, nil)
	s.finish(t)
}

// finishBut works all that is left to do but a job that runs.
func (s *station) finishBut(t *testing.T, running *rivertype.JobRow) {
	t.Helper()
	for range 200 {
		s.later(t)
		ids := slices.DeleteFunc(s.waiting(t), func(id int64) bool { return id == running.ID })
		if len(ids) == 0 {
			return
		}
		s.together(t, ids)
	}
	t.Fatal("there is no end of work")
}

// remembersOnly compares all memories but overviews.
func (s *station) remembersOnly(t *testing.T, want ...string) {
	t.Helper()
	got := slices.DeleteFunc(s.remembered(t), func(m string) bool { return strings.Contains(m, " Accounts ") })
	if diff := cmp.Diff(want, got, cmpEmpty()); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
}

// The transaction that takes a lane's work may have begun long before it finds the
// event: then the fence must not stand before the event.
func TestReadIsFencedByATimeAfterItsEventWasRouted(t *testing.T) {
	t.Parallel()
	s, _ := newZohoStation(t)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `SELECT now()`); err != nil {
		t.Fatal(err)
	}
	id := s.notify(t, "Accounts", "create", "77")
	answers, err := s.syncer.take(t.Context(), tx, 0, []claim{{"77", s.lane(t, "77").job(t)}})
	if err != nil {
		t.Fatal(err)
	}
	// It is not due by this transaction's clock: as it is for one that began to wait for a lock.
	if answers[0].Value.notYet.IsZero() {
		t.Fatal("the lane is due before it was woken")
	}
	if _, err := tx.Exec(t.Context(), `UPDATE accounts SET due_at = now()`); err != nil {
		t.Fatal(err)
	}
	if answers, err = s.syncer.take(t.Context(), tx, 0, []claim{{"77", s.lane(t, "77").job(t)}}); err != nil {
		t.Fatal(err)
	}
	routed := rows[time.Time](t, s.pool, `SELECT routed_at FROM events WHERE id = $1`, id)[0]
	if got := answers[0].Value.events[0].TakenAt; got.Before(routed) {
		t.Errorf("the read is fenced by %v, its event was routed at %v", got, routed)
	}
}

func TestContactThatMoves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		tell func(*testing.T, *station) // how we learn of it
	}{
		{"in the lane that it left", func(t *testing.T, s *station) { s.notify(t, "Contacts", "update", "1") }},
		{"in the lane that it came to", func(t *testing.T, s *station) {
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "88", "")})
		}},
		{"in a third one's lane", func(t *testing.T, s *station) {
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: contact("1", "66", "")})
		}},
		{"by reconciliation", func(t *testing.T, s *station) {
			read := strings.Replace(contact("1", "88", "a@example.com"), "{", fmt.Sprintf(`{"$read_at":%q,`, time.Now().UTC().Format(time.RFC3339Nano)), 1)
			s.route(t, sent{source: SourceReconcile, module: "Contacts", operation: "update", recordID: "1", record: read})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			for _, id := range []string{"66", "77", "88"} {
				z.put(t, "Accounts", account(id, "No. "+id, "Active"))
			}
			z.put(t, "Contacts", contact("1", "77", "a@example.com"))
			z.put(t, "Contacts", contact("2", "77", "b@example.com"))
			for _, id := range []string{"66", "77", "88"} {
				s.notify(t, "Accounts", "create", id)
			}
			s.finish(t)
			oldID := rows[string](t, s.pool, `SELECT id::text FROM memories WHERE record_id = '1'`)[0]
			history, links := len(s.told(t)), len(s.linksTold(t))

			z.put(t, "Contacts", contact("1", "88", "a@example.com"))
			tt.tell(t, s)
			s.finish(t)
			s.remembersOnly(t, janeDoe("zoho:88 88", "1", "a@example.com"), janeDoe("zoho:77 77", "2", "b@example.com"))
			if newID := rows[string](t, s.pool, `SELECT id::text FROM memories WHERE record_id = '1'`)[0]; newID == oldID {
				t.Error("the memory has kept its id although it is another user's")
			}
			for id, want := range map[string]string{"66": "", "77": "\nContacts: 1", "88": "\nContacts: 1"} {
				if got := s.overview(t, id); got != "Account No. "+id+"\nAccount Name: No. "+id+"\nAccount Status: Active"+want {
					t.Errorf("overview of %s: %q", id, got)
				}
			}
			wantGraph := []string{"zoho:88 Accounts:88 HAS_CONTACT Contacts:1 by Contacts 1", "zoho:77 Accounts:77 HAS_CONTACT Contacts:2 by Contacts 2"}
			if diff := cmp.Diff(wantGraph, s.graph(t)); diff != "" {
				t.Errorf("graph (-want +got):\n%s", diff)
			}
			wantLinks := []string{
				"relationship_deleted zoho:77 Accounts:77 HAS_CONTACT Contacts:1 1", "relationship_added zoho:88 Accounts:88 HAS_CONTACT Contacts:1 1",
			}
			if diff := cmp.Diff(wantLinks, s.linksTold(t)[links:]); diff != "" {
				t.Errorf("told of the graph (-want +got):\n%s", diff)
			}
			var contacts, accounts []string
			for _, line := range s.told(t)[history:] {
				if strings.Contains(line, " Contacts ") {
					contacts = append(contacts, line)
				} else {
					accounts = append(accounts, line)
				}
			}
			want := []string{"deleted Contacts 1 zoho:77 by event 4 memory_deleted", "added Contacts 1 zoho:88 by event 4 memory_added"}
			if diff := cmp.Diff(want, contacts); diff != "" {
				t.Errorf("told of the contact (-want +got):\n%s", diff)
			}
			if len(accounts) != 2 {
				t.Errorf("told of accounts: %q, want one webhook for each of the two", accounts)
			}
		})
	}
}

func TestRecordThatIsGone(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	z.put(t, "Contacts", contact("1", "77", "a@example.com"))
	s.notify(t, "Accounts", "create", "77")
	s.finish(t)
	there, gone := janeDoe("zoho:77 77", "1", "a@example.com"), "none"
	for _, step := range []struct {
		name, operation string
		there           bool // at Zoho
		want            string
		told            []string
	}{
		{"a delete that Zoho knows nothing of", "delete", true, there, nil},
		{"an update of what is not there", "update", false, gone, []string{"deleted Contacts 1 zoho:77 by event 3 memory_deleted"}},
		{"a delete of what is gone already", "delete", false, gone, nil},
		{"an update of what is there again", "update", true, there, []string{"added Contacts 1 zoho:77 by event 5 memory_added"}},
		{"a create that comes when it is gone", "create", false, gone, []string{"deleted Contacts 1 zoho:77 by event 6 memory_deleted"}},
		{"a restore", "restore", true, there, []string{"added Contacts 1 zoho:77 by event 7 memory_added"}},
		{"a delete", "delete", false, gone, []string{"deleted Contacts 1 zoho:77 by event 8 memory_deleted"}},
	} {
		z.remove("Contacts", "1")
		if step.there {
			z.put(t, "Contacts", contact("1", "77", "a@example.com"))
		}
		before := s.told(t)
		s.notify(t, "Contacts", step.operation, "1")
		s.finish(t)
		var want, links []string
		count := ""
		if step.want != gone {
			want, links, count = []string{there}, []string{"zoho:77 Accounts:77 HAS_CONTACT Contacts:1 by Contacts 1"}, "\nContacts: 1"
		}
		if diff := cmp.Diff(want, slices.DeleteFunc(s.remembered(t), func(m string) bool { return strings.Contains(m, " Accounts ") }), cmpEmpty()); diff != "" {
			t.Errorf("%s: remembered (-want +got):\n%s", step.name, diff)
		}
		if diff := cmp.Diff(links, s.graph(t)); diff != "" {
			t.Errorf("%s: graph (-want +got):\n%s", step.name, diff)
		}
		if got := s.overview(t, "77"); got != "Account Acme\nAccount Name: Acme\nAccount Status: Active"+count {
			t.Errorf("%s: overview %q", step.name, got)
		}
		news := slices.DeleteFunc(s.told(t)[len(before):], func(line string) bool { return strings.Contains(line, " Accounts ") })
		if diff := cmp.Diff(step.told, news, cmpEmpty()); diff != "" {
			t.Errorf("%s: told (-want +got):\n%s", step.name, diff)
		}
	}
}

// Zoho's troubles are nobody's fault here: all wait, and nothing counts.
func TestZohoThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		err       zoho.Error
		low, high time.Duration
	}{
		{"away", zoho.Error{Kind: zoho.KindUnavailable}, time.Second, 3 * time.Second},
		{"away for a while", zoho.Error{Kind: zoho.KindUnavailable, RetryAfter: 10 * time.Second}, 10 * time.Second, 13500 * time.Millisecond},
		{"too much at a time", zoho.Error{Kind: zoho.KindThrottled, RetryAfter: 2 * time.Second}, 2 * time.Second, 3500 * time.Millisecond},
		{"the day's credits are spent", zoho.Error{Kind: zoho.KindCreditsSpent, RetryAfter: 7 * time.Hour}, time.Minute, 76 * time.Second},
		{"nobody is authorised", zoho.Error{Kind: zoho.KindUnauthorized, RetryAfter: time.Minute}, time.Minute, 76 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			z.put(t, "Accounts", account("77", "Acme", "Active"))
			z.put(t, "Contacts", contact("1", "77", "a@example.com"))
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "")})
			s.notify(t, "Accounts", "create", "77")
			before := s.snapshot(t)
			z.fail(func(zohoCall) error { return fmt.Errorf("asked: %w", &tt.err) })
			for range 2 * testRetry().MaxAttempts {
				var snooze *river.JobSnoozeError
				if err := s.sync(t, "77"); !errors.As(err, &snooze) || snooze.Duration < tt.low || snooze.Duration > tt.high {
					t.Fatalf("the job returned %v, want a snooze of %v to %v", err, tt.low, tt.high)
				}
				s.noOrphans(t)
			}
			after := s.snapshot(t)
			for _, table := range []string{"accounts", "river_job"} {
				delete(before, table)
				delete(after, table)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
			if got := rows[int16](t, s.pool, `SELECT attempt FROM river_job WHERE kind = 'sync_account'`)[0]; got != 0 {
				t.Errorf("the job has used %d attempts, want none", got)
			}
			z.fail(nil)
			s.finish(t)
			if diff := cmp.Diff([]int64{2, 0, 0}, s.counters(t, counter.Processed, counter.Retried, counter.Dead)); diff != "" {
				t.Errorf("processed, retried, dead (-want +got):\n%s", diff)
			}
		})
	}
}

// A Zoho that never answers is not waited for longer than a job has.
func TestReadHasItsTime(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	if got := s.syncer.Timeout(nil); got <= readTimeout {
		t.Errorf("a job has %v, want more than the %v of a read", got, readTimeout)
	}
	if got := newStation(t, Payloads{}).syncer.Timeout(nil); got != 0 {
		t.Errorf("a job that calls nobody has %v, want River's own", got)
	}
	s.notify(t, "Contacts", "update", "1")
	z.stopAt("read Contacts 1")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	row := s.begin(t, s.lane(t, "record:Contacts:1").job(t))
	err := s.attempt(ctx, row)
	if !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	s.end(t, row, err)
	s.finish(t)
}

// A module that Zoho does not let us read is folded from payloads, and the others
// are read all the same; so it is told from a module that can be read again.
func TestModuleThatZohoDoesNotLetUsRead(t *testing.T) {
	t.Parallel()
	const theDeal = "zoho:77 77 Deals 10 Deal Rails of Acme\nAccount Name: Acme\nAmount: 1000\nDeal Name: Rails\nStage: Proposal"
	for _, kind := range []zoho.Kind{zoho.KindInvalid, zoho.KindForbidden} {
		t.Run(fmt.Sprint("kind ", kind), func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			z.put(t, "Accounts", account("77", "Acme", "Active"))
			z.put(t, "Contacts", contact("1", "77", "read@example.com"))
			z.put(t, "Deals", deal("10", "77", "1000", "Proposal"))
			z.fail(func(c zohoCall) error {
				if c.module == "Contacts" {
					return zohoSays(kind, "NO_PERMISSION")
				}
				return nil
			})
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "told@example.com")})
			s.route(t, sent{module: "Deals", operation: "create", recordID: "10", record: deal("10", "77", "1", "Proposal")})
			s.finish(t)
			s.remembersOnly(t, janeDoe("zoho:77 77", "1", "told@example.com"), theDeal)
			if s.whole(t, "77").At == nil {
				t.Error("the account was not read whole")
			}
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: `{"id":"1","Email":"later@example.com"}`})
			s.finish(t)
			s.remembersOnly(t, janeDoe("zoho:77 77", "1", "later@example.com"), theDeal)

			z.fail(nil)
			s.notify(t, "Contacts", "update", "1")
			s.finish(t)
			s.remembersOnly(t, janeDoe("zoho:77 77", "1", "read@example.com"), theDeal)

			// And closed once more: what is told afterwards counts, what was told before does not.
			z.fail(func(zohoCall) error { return zohoSays(kind, "NO_PERMISSION") })
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: `{"id":"1","Email":"before@example.com","Modified_Time":"2024-01-01T00:00:00Z"}`})
			s.finish(t)
			s.remembersOnly(t, janeDoe("zoho:77 77", "1", "read@example.com"), theDeal)
			s.route(t, sent{module: "Contacts", operation: "update", recordID: "1", record: `{"id":"1","Email":"after@example.com"}`})
			s.finish(t)
			s.remembersOnly(t, janeDoe("zoho:77 77", "1", "after@example.com"), theDeal)
			if diff := cmp.Diff([]int64{6, 0}, s.counters(t, counter.Processed, counter.Dead)); diff != "" {
				t.Errorf("processed, dead (-want +got):\n%s", diff)
			}
		})
	}
}

// One record is beyond what an answer may be. Its event is at fault, those read
// with it are not.
func TestRecordThatIsTooLargeToBeRead(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	defer s.fullSync(t)()
	for i := range 9 {
		z.put(t, "Contacts", contact(fmt.Sprint(i), "77", "a@example.com"))
		s.route(t, sent{module: "Contacts", operation: "create", recordID: fmt.Sprint(i), record: contact(fmt.Sprint(i), "77", "")})
	}
	z.fail(func(c zohoCall) error {
		if slices.Contains(c.ids, "5") {
			return zohoSays(zoho.KindTooLarge, "")
		}
		return nil
	})
	if err := s.sync(t, "77"); err != nil {
		t.Fatal(err)
	}
	reason := "event cannot be worked: zoho: read: said by the test"
	if diff := cmp.Diff([]string{"retrying 1 " + reason}, s.fates(t, `status <> 'processed'`)); diff != "" {
		t.Errorf("what was not processed (-want +got):\n%s", diff)
	}
	if got := s.count(t, "memories"); got != 8 {
		t.Errorf("%d memories, want those of the 8 others", got)
	}
	s.noOrphans(t)
	s.finish(t)
	if diff := cmp.Diff([]string{"dead 3 " + reason}, s.fates(t, `status <> 'processed'`)); diff != "" {
		t.Errorf("what was not processed in the end (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{8, 2, 1}, s.counters(t, counter.Processed, counter.Retried, counter.Dead)); diff != "" {
		t.Errorf("processed, retried, dead (-want +got):\n%s", diff)
	}
}

// Whatever Zoho's users typed is stored, and read by agents within bounds.
func TestAnswersThatAreOdd(t *testing.T) {
	t.Parallel()
	const long = 2 << 20
	for _, tt := range []struct{ name, record, want string }{
		{"a NUL in a text", `{"id":"1","Last_Name":"Do\u0000e","Account_Name":{"id":"77\u0000","name":"Ac\u0000me"}}`, "Contact Doe of Acme\nAccount Name: Acme\nLast Name: Doe"},
		{"half a character", `{"id":"1","Last_Name":"Do\ud800e","Account_Name":{"id":"77"}}`, "Contact Do\uFFFDe\nAccount Name: {\"id\":\"77\"}\nLast Name: Do\uFFFDe"},
		{"ids beyond what a float holds", `{"id":"1","Last_Name":"Doe","Account_Name":{"id":77},"Ref":5823704000000009007199}`, "Contact Doe\nAccount Name: {\"id\":77}\nLast Name: Doe\nRef: 5823704000000009007199"},
		{"a number beyond what a float holds", `{"id":"1","Last_Name":"Doe","Account_Name":{"id":"77"},"Worth":1e400}`, "Contact Doe\nAccount Name: {\"id\":\"77\"}\nLast Name: Doe\nWorth: 1" + strings.Repeat("0", 400)},
		{
			"two megabytes", `{"id":"1","Last_Name":"` + strings.Repeat("é", long/2) + `","Account_Name":{"id":"77","name":"` + strings.Repeat("b", long/32) + `"}}`,
			"Contact " + strings.Repeat("é", 8<<10) + "… of " + strings.Repeat("b", 16<<10) + "…\nAccount Name: " + strings.Repeat("b", 16<<10) + "…\nLast Name: " + strings.Repeat("é", 8<<10) + "…",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			defer s.fullSync(t)()
			z.put(t, "Contacts", tt.record)
			s.notify(t, "Contacts", "create", "1")
			s.finish(t)
			s.remembersOnly(t, "zoho:77 77 Contacts 1 "+tt.want)
			if diff := cmp.Diff([]int64{1, 0}, s.counters(t, counter.Processed, counter.Retried)); diff != "" {
				t.Errorf("processed, retried (-want +got):\n%s", diff)
			}
			// What came back from the database reads as it went in.
			s.notify(t, "Contacts", "update", "1")
			s.finish(t)
			if got := s.count(t, "memory_history"); got != 1 {
				t.Errorf("%d changes, want the first alone", got)
			}
			if n := rows[int](t, s.pool, `SELECT max(octet_length(payload)) FROM outbox`)[0]; n > 100<<10 {
				t.Errorf("a webhook of %d bytes", n)
			}
			if n := rows[int](t, s.pool, `SELECT coalesce(max(octet_length(metadata::text)), 0) FROM relationships`)[0]; n > 40<<10 {
				t.Errorf("names of %d bytes in the graph", n)
			}
		})
	}
}

// What reconciliation read is stored as it was read then.
func TestEventsOfReconciliation(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Contacts", contact("1", "77", "read@example.com"))
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "")})
	s.finish(t)
	readAt := rows[time.Time](t, s.pool, `SELECT read_at FROM records WHERE module = 'Contacts'`)[0]
	z.made()
	found := func(email string, at time.Time) sent {
		record := strings.Replace(contact("1", "77", email), "{", fmt.Sprintf(`{"$read_at":%q,`, at.UTC().Format("2006-01-02T15:04:05.000000Z07:00")), 1)
		return sent{source: SourceReconcile, module: "Contacts", operation: "update", recordID: "1", record: record}
	}
	for _, step := range []struct {
		name  string
		event sent
		want  string // email; "": gone
		calls []string
	}{
		{"read before what we have", found("older@example.com", readAt.Add(-time.Microsecond)), "read@example.com", nil},
		{"read at the same time", found("same@example.com", readAt), "read@example.com", nil},
		{"read after it", found("newer@example.com", readAt.Add(time.Microsecond)), "newer@example.com", nil},
		{"a deletion, which Zoho does not bear out", sent{source: SourceReconcile, module: "Contacts", operation: "delete", recordID: "1", record: `{"id":"1"}`}, "read@example.com", []string{"read Contacts 1"}},
	} {
		s.route(t, step.event)
		s.finish(t)
		s.remembersOnly(t, janeDoe("zoho:77 77", "1", step.want))
		if diff := cmp.Diff(step.calls, z.made()); diff != "" {
			t.Errorf("%s: calls (-want +got):\n%s", step.name, diff)
		}
		if n := rows[int64](t, s.pool, `SELECT count(*) FROM records WHERE data ? '$read_at'`)[0]; n != 0 {
			t.Errorf("%s: %d records have a field %s, which is none of Zoho's", step.name, n, readAtField)
		}
	}
	z.remove("Contacts", "1")
	s.route(t, sent{source: SourceReconcile, module: "Contacts", operation: "delete", recordID: "1", record: `{"id":"1"}`})
	s.finish(t)
	s.remembersOnly(t)
	if diff := cmp.Diff([]string{"read Contacts 1"}, z.made()); diff != "" {
		t.Errorf("a deletion: calls (-want +got):\n%s", diff)
	}
}

func TestMeetingsAndActivities(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	defer s.fullSync(t)()
	of77 := func(id, subject string) string {
		return fmt.Sprintf(`{"id":%q,"Subject":%q,"What_Id":{"id":"77","name":"Acme"},"$se_module":"Accounts"}`, id, subject)
	}
	// From before Zoho was connected: known under the names that webhooks used.
	s.syncer.source, s.syncer.reads = Payloads{}, nil
	s.route(t, sent{module: "Meetings", operation: "create", recordID: "1", record: of77("1", "Fair")})
	s.route(t, sent{module: "Activities", operation: "create", recordID: "2", record: of77("2", "Call back")})
	s.route(t, sent{module: "Activities", operation: "create", recordID: "5", record: of77("5", "Gone")})
	s.finish(t)
	s.syncer.reads = NewReads(z, nil, quietLog(t))
	s.syncer.source = s.syncer.reads

	z.put(t, "Events", of77("1", "Fair"))
	z.put(t, "Tasks", of77("2", "Call back"))
	z.put(t, "Events", of77("3", "Visit"))
	z.put(t, "Calls", of77("4", "Hello"))
	s.notify(t, "Meetings", "update", "1")
	for _, id := range []string{"2", "3", "4", "5"} {
		s.notify(t, "Activities", "update", id)
	}
	s.finish(t)
	reads := func(kind, module, id, subject string) string {
		return "zoho:77 77 " + module + " " + id + " " + kind + " " + subject + " of Acme\nSubject: " + subject + "\nWhat Id: Acme"
	}
	s.remembersOnly(t, reads("Activity", "Calls", "4", "Hello"), reads("Activity", "Events", "1", "Fair"),
		reads("Activity", "Events", "3", "Visit"), reads("Task", "Tasks", "2", "Call back"))

	z.remove("Events", "1", "3")
	z.remove("Tasks", "2")
	z.remove("Calls", "4")
	s.notify(t, "Meetings", "delete", "1")
	for _, id := range []string{"2", "3", "4"} {
		s.notify(t, "Activities", "delete", id)
	}
	s.finish(t)
	s.remembersOnly(t)
	if got := s.graph(t); got != nil {
		t.Errorf("graph %q, want none", got)
	}
	if diff := cmp.Diff([]int64{12, 0}, s.counters(t, counter.Processed, counter.Retried)); diff != "" {
		t.Errorf("processed, retried (-want +got):\n%s", diff)
	}
}

// A task's parent is an id. That it is an account is known by whose list showed
// the task, and stays known when the task is read by itself.
func TestTaskWithoutTheKindOfItsParent(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	task := func(parent, status string) string {
		return fmt.Sprintf(`{"id":"30","Subject":"Call","Status":%q,"What_Id":{"id":%q,"name":"Acme"}}`, status, parent)
	}
	reads := func(user, account, status string) string {
		return user + " " + account + " Tasks 30 Task Call of Acme\nStatus: " + status + "\nSubject: Call\nWhat Id: Acme"
	}
	z.put(t, "Tasks", task("77", "Open"))
	s.notify(t, "Tasks", "create", "30")
	s.finish(t)
	s.remembersOnly(t, reads("zoho:record:Tasks:30", "record:Tasks:30", "Open"))

	s.notify(t, "Accounts", "create", "77")
	s.finish(t)
	s.remembersOnly(t, reads("zoho:77", "77", "Open"))
	if got := s.overview(t, "77"); !strings.HasSuffix(got, "\nTasks: 1, 1 of them open") {
		t.Errorf("overview %q", got)
	}
	if diff := cmp.Diff([]string{"zoho:77 Accounts:77 HAS_TASK Tasks:30 by Tasks 30"}, s.graph(t)); diff != "" {
		t.Errorf("graph (-want +got):\n%s", diff)
	}

	z.put(t, "Tasks", task("77", "Completed"))
	s.notify(t, "Tasks", "update", "30")
	s.finish(t)
	s.remembersOnly(t, reads("zoho:77", "77", "Completed"))

	// Of another parent nothing is known.
	z.put(t, "Tasks", task("99", "Completed"))
	s.notify(t, "Tasks", "update", "30")
	s.finish(t)
	s.remembersOnly(t, reads("zoho:record:Tasks:30", "record:Tasks:30", "Completed"))
	if got := s.overview(t, "77"); strings.Contains(got, "Tasks") {
		t.Errorf("overview %q", got)
	}
}

// A record that the database refuses is in a list, where no event answers for it.
// It is left out, and everything else is kept.
func TestPoisonInsideAPage(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.page = 4
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	for i := range 10 {
		z.put(t, "Contacts", contact(fmt.Sprint(i), "77", "a@example.com"))
	}
	// Two that we know of and that no list shows: one cannot be read any more.
	z.put(t, "Deals", deal("20", "77", "1", "Proposal"))
	z.put(t, "Deals", deal("21", "77", "1", "Proposal"))
	z.put(t, "Deals", deal("22", "77", "1", "Proposal"))
	end := s.fullSync(t)
	for _, id := range []string{"20", "21", "22"} {
		s.route(t, sent{module: "Deals", operation: "create", recordID: id, record: deal(id, "77", "1", "Proposal")})
	}
	s.finish(t)
	end()
	poison := `"Fax":1e200000,` // JSON, and no number of Postgres's
	z.put(t, "Contacts", strings.Replace(contact("5", "77", "a@example.com"), "{", "{"+poison, 1))
	z.put(t, "Deals", strings.Replace(deal("21", "77", "2", "Proposal"), "{", "{"+poison, 1))
	z.put(t, "Deals", deal("22", "77", "3", "Proposal"))
	z.fail(func(c zohoCall) error {
		switch {
		case c.op == "list" && c.module == "Deals":
			return zohoSays(zoho.KindForbidden, "NO_PERMISSION")
		case slices.Contains(c.ids, "20"):
			return zohoSays(zoho.KindTooLarge, "")
		}
		return nil
	})
	s.notify(t, "Accounts", "update", "77")
	s.finish(t)
	if s.whole(t, "77").At == nil {
		t.Error("the account was not read whole")
	}
	if diff := cmp.Diff([]string{"0", "1", "2", "3", "4", "6", "7", "8", "9"}, rows[string](t, s.pool, `SELECT record_id FROM memories WHERE module = 'Contacts' ORDER BY 1`)); diff != "" {
		t.Errorf("contacts (-want +got):\n%s", diff)
	}
	// What could not be read or kept is as it was.
	if diff := cmp.Diff([]string{"20 1", "21 1", "22 3"}, rows[string](t, s.pool, `SELECT record_id || ' ' || (data ->> 'Amount') FROM records WHERE module = 'Deals' AND deleted_at IS NULL ORDER BY 1`)); diff != "" {
		t.Errorf("deals (-want +got):\n%s", diff)
	}
	if got := s.overview(t, "77"); got != "Account Acme\nAccount Name: Acme\nAccount Status: Active\nContacts: 9\nDeals: 3, 3 of them open, worth 5" {
		t.Errorf("overview %q", got)
	}
	if diff := cmp.Diff([]int64{4, 0, 0}, s.counters(t, counter.Processed, counter.Retried, counter.Dead)); diff != "" {
		t.Errorf("processed, retried, dead (-want +got):\n%s", diff)
	}
	if got := s.lane(t, "77").LastError; got != "" {
		t.Errorf("the lane's last error is %q", got)
	}
}

// A poisoned event beside the account's own: what that changed is told by its event.
func TestOverviewBesideAPoisonedEvent(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	defer s.fullSync(t)()
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	z.put(t, "Contacts", `{"id":"1","Fax":1e200000,"Account_Name":{"id":"77"}}`)
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "")})
	s.notify(t, "Accounts", "create", "77")
	s.finish(t)
	if diff := cmp.Diff([]string{"added Accounts 77 zoho:77 by event 2 memory_added"}, s.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"dead 3", "processed 0"}, rows[string](t, s.pool, `SELECT status || ' ' || failures FROM events ORDER BY id`)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// What nobody can classify is not waited for for ever either where no event
// answers for it.
func TestPageThatNobodyCanClassify(t *testing.T) {
	t.Parallel()
	s, z := newZohoStation(t)
	z.put(t, "Accounts", account("77", "Acme", "Active"))
	z.put(t, "Contacts", contact("1", "77", "a@example.com"))
	z.put(t, "Contacts", contact("2", "77", "a@example.com"))
	s.notify(t, "Accounts", "create", "77")
	if err := s.sync(t, "77"); err != nil {
		t.Fatal(err)
	}
	mend := s.refuse(t, refusal{table: "records", on: "UPDATE", state: "XX000", when: `NEW.record_id = '1'`})
	defer mend()
	if err := s.sync(t, "77"); !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	s.exec(t, `UPDATE accounts SET whole_since = now() - interval '25 hours'`)
	if err := s.sync(t, "77"); err != nil {
		t.Errorf("the job returned %v, want nil", err)
	}
	s.remembersOnly(t, janeDoe("zoho:77 77", "2", "a@example.com"))
}

// One transaction that moves, deletes, adds and counts is broken at each of the
// statements that come with Zoho.
func TestReadLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"reading the graph", refusal{table: "relationships", hide: true}},
		{"writing records", refusal{table: "records", on: "UPDATE"}},
		{"waking the other account", refusal{table: "river_job", on: "INSERT", when: `NEW.kind = 'wake_account'`}},
		{"updating the overview", refusal{table: "memories", on: "UPDATE"}},
		{"adding memories", refusal{table: "memories", on: "INSERT"}},
		{"deleting lines of the graph", refusal{table: "relationships", on: "DELETE"}},
		{"adding lines of the graph", refusal{table: "relationships", on: "INSERT"}},
		{"writing webhooks", refusal{table: "outbox", on: "INSERT", when: `NEW.event = 'relationship_added'`}},
		{"inserting the next page's job", refusal{table: "river_job", on: "INSERT", when: `NEW.kind = 'sync_account'`}},
		{"closing the lane", refusal{table: "accounts", on: "UPDATE", when: `NEW.whole_cursor <> OLD.whole_cursor`}},
		{"the commit", refusal{table: "counters", on: "INSERT OR UPDATE", atCommit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			end := s.fullSync(t)
			z.put(t, "Accounts", account("77", "Acme", "Active"))
			for _, id := range []string{"1", "2", "3"} {
				z.put(t, "Contacts", contact(id, "77", "a@example.com"))
				s.route(t, sent{module: "Contacts", operation: "create", recordID: id, record: contact(id, "77", "")})
			}
			s.notify(t, "Accounts", "create", "77")
			s.finish(t)
			end()
			z.put(t, "Contacts", contact("1", "88", "a@example.com"))
			z.remove("Contacts", "2")
			z.put(t, "Contacts", contact("4", "77", "a@example.com"))
			z.put(t, "Deals", deal("10", "77", "1", "Proposal"))
			s.notify(t, "Contacts", "update", "1")
			s.notify(t, "Contacts", "update", "2")
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "4", record: contact("4", "77", "")})
			told, links := len(s.told(t)), len(s.linksTold(t))

			c := claim{accountID: "77", jobID: s.lane(t, "77").job(t)}
			s.begin(t, c.jobID)
			work := inGroup(t, s.pool, s.syncer.take, []claim{c})[0].Value
			work.whole.cursor = "list:Deals:" // the page beside shows one
			observations, err := s.syncer.read(t.Context(), c.accountID, work)
			if err != nil {
				t.Fatal(err)
			}
			unit := synced{claim: c, upTo: work.upTo, cut: true, observations: observations, whole: work.whole}.keep(work.events)
			before := s.snapshot(t)
			mend := s.refuse(t, broken(tt.at))
			if _, err := s.syncer.writes.Do(t.Context(), unit); err == nil {
				t.Error("the write succeeded, want it to fail")
			}
			mend()
			s.unchanged(t, before)

			if _, err := s.syncer.writes.Do(t.Context(), unit); err != nil {
				t.Errorf("the write failed once all was well: %v", err)
			}
			want := []string{
				"deleted Contacts 1 zoho:77 by event 5 memory_deleted", "added Contacts 1 zoho:88 by event 5 memory_added",
				"deleted Contacts 2 zoho:77 by event 6 memory_deleted", "added Contacts 4 zoho:77 by event 7 memory_added",
				"added Deals 10 zoho:77 memory_added", "updated Accounts 77 zoho:77 memory_updated",
			}
			got := s.told(t)[told:]
			for i := range got {
				got[i] = strings.Replace(got[i], " by event memory", " memory", 1)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if n := len(s.linksTold(t)) - links; n != 5 {
				t.Errorf("told of %d lines of the graph, want 2 gone and 3 new", n)
			}
			s.closedBut(t, "wake_account 88", "sync_account 77")
			if got := s.whole(t, "77"); got.Since == nil || got.Cursor != "list:Notes:" {
				t.Errorf("the whole read stands at %+v", got)
			}
			s.finish(t)
		})
	}
}
