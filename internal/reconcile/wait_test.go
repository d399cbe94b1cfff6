package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/zoho"
)

// An outage of Zoho keeps a sync, for as long as it lasts, and nothing else.
func TestASyncWaitsForZoho(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault error
		waits string
		least time.Duration
		most  time.Duration // of the first wait
		later time.Duration // of the eighth
	}{
		"Zoho does not answer":      {&zoho.Error{Kind: zoho.KindUnavailable, Op: "list"}, "Zoho, which does not answer", 5 * time.Second, 5 * time.Second, 5 * time.Minute},
		"too much at a time":        {&zoho.Error{Kind: zoho.KindThrottled, Op: "list", Status: 429}, "Zoho, which asks for fewer calls", 5 * time.Second, 5 * time.Second, 5 * time.Minute},
		"Zoho says when":            {&zoho.Error{Kind: zoho.KindThrottled, Op: "list", RetryAfter: 42 * time.Second}, "Zoho, which asks for fewer calls", 42 * time.Second, 42 * time.Second, 42 * time.Second},
		"Zoho asks for too much":    {&zoho.Error{Kind: zoho.KindUnavailable, Op: "list", RetryAfter: 99 * time.Hour}, "Zoho, which does not answer", time.Hour, time.Hour, time.Hour},
		"the day's credits":         {&zoho.Error{Kind: zoho.KindCreditsSpent, Op: "list", Status: 429}, "the day's API credits", 15 * time.Minute, 15 * time.Minute, 15 * time.Minute},
		"a token that is revoked":   {&zoho.Error{Kind: zoho.KindUnauthorized, Op: "list"}, "Zoho to be connected anew", 5 * time.Second, 5 * time.Second, 5 * time.Minute},
		"a fault that nobody knows": {errors.New("a fault"), "a fault to pass", 5 * time.Second, 5 * time.Second, 5 * time.Minute},
	} {
		for _, call := range []string{"count", "list", "deleted", "get"} {
			t.Run(name+", "+call, func(t *testing.T) {
				t.Parallel()
				s := newStation(t, "Contacts")
				kind := Full
				if call == "deleted" {
					s.sync(t, Full)
					kind = Incremental
				}
				s.zoho.put(t, "Contacts", contact("7", "Doe", time.Now()))
				s.zoho.put(t, "Contacts", contact("8", strings.Repeat("x", 1<<20), time.Now()))
				id := s.start(t, kind)
				s.zoho.fail(func(asked, _ string) error {
					if asked == call {
						return c.fault
					}
					return nil
				})
				var waits []time.Duration
				for len(waits) < 8 {
					s.work(t, id)
					st := s.status(t, id)
					if st.State != Running {
						t.Fatalf("status %+v", st)
					}
					if st.WaitsFor == "" { // a page that is not kept
						continue
					}
					if st.WaitsFor != c.waits || st.LastError == "" || st.WaitsUntil == nil {
						t.Fatalf("status %+v", st)
					}
					waits = append(waits, rows[time.Duration](t, s.pool, `SELECT s.waits_until - s.updated_at FROM syncs s WHERE s.id = $1`, id)[0])
					if at := rows[bool](t, s.pool, `SELECT j.scheduled_at = s.waits_until FROM syncs s JOIN river_job j ON j.id = s.job_id WHERE s.id = $1`, id)[0]; !at {
						t.Fatal("the job is not due when the sync waits until")
					}
				}
				if name != "a fault that nobody knows" && (waits[0] != c.least || waits[7] != c.later) {
					t.Errorf("waits %v", waits)
				}
				s.zoho.fail(nil)
				st := s.finish(t, id)
				if st.State != Completed || st.WaitsFor != "" || st.LastError != "" || st.Read != 2 || st.Changed != 1 {
					t.Errorf("when Zoho is back: %+v", st)
				}
			})
		}
	}
}

// A module that the token may not read must not keep the others out.
func TestAModuleThatZohoRefusesIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{
		"forbidden": &zoho.Error{Kind: zoho.KindForbidden, Op: "list Notes", Status: 403, Code: "NO_PERMISSION"},
		"invalid":   fmt.Errorf("wrapped: %w", &zoho.Error{Kind: zoho.KindInvalid, Op: "list Notes", Code: "INVALID_MODULE"}),
		"too large": &zoho.Error{Kind: zoho.KindTooLarge, Op: "list Notes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, "Contacts", "Notes", "Accounts")
			s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
			s.zoho.put(t, "Accounts", contact("8", "Acme", yesterday()))
			s.zoho.fail(func(_, module string) error {
				if module == "Notes" {
					return fault
				}
				return nil
			})
			st := s.finish(t, s.start(t, Full))
			if st.State != Completed || st.Changed != 2 || !strings.Contains(st.LastError, "Notes: ") {
				t.Errorf("status %+v", st)
			}
			for _, p := range st.Parts {
				if want := p.Module == "Notes"; (p.Phase == phaseSkipped) != want || (p.LastError != "") != want {
					t.Errorf("part %+v", p)
				}
			}
		})
	}
	t.Run("all of them", func(t *testing.T) {
		t.Parallel()
		s := newStation(t, "Contacts", "Accounts")
		s.zoho.fail(func(_, _ string) error { return &zoho.Error{Kind: zoho.KindForbidden, Op: "list"} })
		if st := s.finish(t, s.start(t, Full)); st.State != Failed || st.FinishedAt == nil || st.Percent == 100 {
			t.Errorf("status %+v", st)
		}
	})
	t.Run("only the list of what is deleted", func(t *testing.T) {
		t.Parallel()
		s := newStation(t, "Contacts")
		s.sync(t, Full)
		s.zoho.put(t, "Contacts", contact("7", "Doe", time.Now()))
		s.zoho.fail(func(call, _ string) error {
			if call == "deleted" {
				return &zoho.Error{Kind: zoho.KindForbidden, Op: "deleted Contacts"}
			}
			return nil
		})
		if st := s.finish(t, s.start(t, Incremental)); st.State != Completed || st.Changed != 1 || st.Parts[0].Phase != phaseDone || st.Parts[0].LastError == "" {
			t.Errorf("status %+v", st)
		}
	})
}

// A page token is good for a day, and a sync may have to wait for longer.
func TestAListThatZohoHasForgottenIsReadAnew(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	for i := range 7 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(100+i), "Doe", yesterday()))
	}
	id := s.start(t, Full)
	s.work(t, id)
	s.work(t, id)
	s.zoho.fail(func(call, _ string) error {
		if call == "list" {
			return &zoho.Error{Kind: zoho.KindInvalid, Op: "list Contacts", Code: "EXPIRED_VALUE"}
		}
		return nil
	})
	// To begin anew at once might never end, where Zoho takes no token at all.
	before := s.status(t, id).Read
	for range 3 {
		s.work(t, id)
	}
	if st := s.status(t, id); st.State != Running || st.Read != before || st.WaitsFor == "" {
		t.Errorf("with a token that has just lapsed: %+v", st)
	}
	s.exec(t, `UPDATE syncs SET updated_at = now() - interval '61 minutes'`)
	s.work(t, id)
	if st := s.status(t, id); st.Read != 0 {
		t.Errorf("an hour later: %+v", st)
	}
	s.zoho.fail(nil)
	st := s.finish(t, id)
	if st.State != Completed || st.Read != 7 || st.Changed != 7 || st.Gone != 0 || len(s.events(t)) != 7 {
		t.Errorf("status %+v, %d events", st, len(s.events(t)))
	}
}

// What is nobody's fault but the program's does not go on for ever, and a day of
// standing still is counted from the fault, not from when the program was stopped.
func TestASyncThatNothingHelpsEndsAfterADay(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	id := s.start(t, Full)
	s.exec(t, `UPDATE syncs SET updated_at = now() - interval '3 days'`)
	s.zoho.fail(func(call, _ string) error {
		if call == "list" {
			panic("a fault of ours")
		}
		return nil
	})
	s.work(t, id)
	if st := s.status(t, id); st.State != Running || st.WaitsFor != "a fault to pass" || !strings.Contains(st.LastError, "a fault of ours") {
		t.Fatalf("after the first fault: %+v", st)
	}
	s.work(t, id)
	if st := s.status(t, id); st.State != Running {
		t.Fatalf("after the second: %+v", st)
	}
	s.exec(t, `UPDATE syncs SET updated_at = now() - interval '23 hours'`)
	s.work(t, id)
	if st := s.status(t, id); st.State != Running {
		t.Fatalf("after 23 hours: %+v", st)
	}
	s.exec(t, `UPDATE syncs SET updated_at = now() - interval '24 hours'`)
	s.work(t, id)
	if st := s.status(t, id); st.State != Failed || st.FinishedAt == nil || !strings.Contains(st.LastError, "a fault of ours") {
		t.Errorf("after a day: %+v", st)
	}
}

// Waiting for Zoho is nobody's fault, however long.
func TestAnOutageOfDaysFailsNoSync(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	id := s.start(t, Full)
	s.zoho.fail(func(_, _ string) error { return &zoho.Error{Kind: zoho.KindUnavailable, Op: "list"} })
	for range 3 {
		s.work(t, id)
		s.exec(t, `UPDATE syncs SET updated_at = now() - interval '2 days'`)
	}
	if st := s.status(t, id); st.State != Running {
		t.Errorf("status %+v", st)
	}
}

// A first sync finds everything new: webhooks must find room beside it.
func TestASyncWaitsWhileEventsWait(t *testing.T) {
	t.Parallel()
	s := stationOn(t, dbtest.New(t), newFakeZoho(), Options{Modules: []string{"Contacts"}, MaxBacklog: 8})
	s.slice = time.Minute
	for i := range 12 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(100+i), "Doe", yesterday()))
	}
	id := s.start(t, Full)
	s.work(t, id)
	st := s.status(t, id)
	if st.State != Running || st.Read != 6 || st.WaitsFor != "events to be routed" || st.LastError != "" {
		t.Fatalf("status %+v", st)
	}
	s.counts.Routed(4) // two are left
	s.work(t, id)
	if st := s.status(t, id); st.Read != 9 {
		t.Fatalf("status %+v", st)
	}
	s.counts.Routed(5)
	if st := s.finish(t, id); st.State != Completed || st.Read != 12 {
		t.Errorf("status %+v", st)
	}
	if n := s.counters(t, counter.Backlog)[0]; n != 12 {
		t.Errorf("counted %d", n)
	}
}

// Records that cannot be taken are left to the end, and then read singly.
func TestRecordsThatCannotBeTakenAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	large := contact("8", strings.Repeat("x", 1<<20), yesterday())
	s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
	s.zoho.put(t, "Contacts", large)                                                     // small again when it is read singly
	s.zoho.put(t, "Contacts", strings.Replace(large, `"8"`, `"9"`, 1))                   // stays too large
	s.zoho.put(t, "Contacts", strings.Replace(large, `"8"`, `"10"`, 1))                  // gone by then
	s.zoho.put(t, "Contacts", strings.Replace(large, `"8"`, `"11"`, 1))                  // forbidden
	s.zoho.put(t, "Contacts", `{"id":"12","Last_Name":"nul \u0000","Modified_Time":""}`) // is cleaned
	s.zoho.put(t, "Contacts", `{"Last_Name":"nobody"}`)
	s.know(t, "Contacts", contact("10", "Doe", yesterday()))
	s.know(t, "Contacts", contact("9", "Doe", yesterday()))
	s.zoho.fail(func(call, _ string) error {
		if call != "get" {
			return nil
		}
		s.zoho.mu.Lock()
		defer s.zoho.mu.Unlock()
		s.zoho.modules["Contacts"]["8"] = fieldsOf(t, contact("8", "Small", yesterday()))
		delete(s.zoho.modules["Contacts"], "10")
		return nil
	})
	st := s.finish(t, s.start(t, Full))
	if st.State != Completed || st.Read != 7 || st.OpenErrors != 3 || st.Changed != 3 || st.Gone != 1 {
		t.Errorf("status %+v", st)
	}
	type tried struct {
		ID       string
		Attempts int32
		Resolved bool
	}
	got := map[string]tried{}
	for _, e := range st.Errors {
		id := e.RecordID
		if strings.HasPrefix(id, "no id, ") {
			id = "none"
		}
		got[id] = tried{id, e.Attempts, e.ResolvedAt != nil}
	}
	want := map[string]tried{"8": {"8", 2, true}, "9": {"9", 3, false}, "10": {"10", 2, true}, "11": {"11", 3, false}, "none": {"none", 3, false}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"create Contacts 12", "create Contacts 7", "create Contacts 8", "delete Contacts 10"}, s.sorted(t)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if gets := countOf(s.zoho.calls, "get Contacts"); gets != 1+2+1+2 {
		t.Errorf("%d reads of single records", gets)
	}
}

func countOf(all []string, one string) int {
	n := 0
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}

// A stop gives the job back as it was, and stores nothing half.
func TestAStopLeavesTheSyncToTheNext(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
	id := s.start(t, Full)
	j := s.begin(t, id)
	ctx, stop := context.WithCancel(t.Context())
	s.zoho.fail(func(_, _ string) error { stop(); return nil })
	if err := s.Work(ctx, j); !errors.Is(err, context.Canceled) {
		t.Errorf("returned %v", err)
	}
	if st := s.status(t, id); st.State != Running || st.LastError != "" {
		t.Errorf("status %+v", st)
	}
	s.zoho.fail(nil)
	s.end(t, j.JobRow, context.Canceled)
	if st := s.finish(t, id); st.State != Completed || st.Changed != 1 {
		t.Errorf("status %+v", st)
	}
}

// Zoho answers, but fails on one module: the others are read, and after two hours
// that one is left out.
func TestAModuleThatZohoFailsOnIsLeftOut(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"list", "count"} {
		s := newStation(t, "Contacts", "Notes", "Accounts")
		s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
		s.zoho.put(t, "Accounts", contact("8", "Acme", yesterday()))
		s.zoho.fail(func(asked, module string) error {
			if module == "Notes" && asked == call {
				return &zoho.Error{Kind: zoho.KindUnavailable, Op: call + " Notes", Status: 500, Code: "INTERNAL_ERROR"}
			}
			return nil
		})
		id := s.start(t, Full)
		if call == "count" {
			if st := s.finish(t, id); st.State != Completed || st.LastError != "" {
				t.Errorf("a count that fails: %+v", st)
			}
			continue
		}
		for range 4 {
			s.work(t, id)
		}
		if st := s.status(t, id); st.State != Running || st.WaitsFor != "Zoho, which does not answer" {
			t.Errorf("at first: %+v", st)
		}
		s.exec(t, `UPDATE syncs SET updated_at = now() - interval '121 minutes'`)
		if st := s.finish(t, id); st.State != Completed || st.Changed != 2 || !strings.Contains(st.LastError, "Notes: ") {
			t.Errorf("after two hours: %+v", st)
		}
	}
}

// A list that shows nothing where Zoho counts records is a fault, and not the end
// of all of them.
func TestAnEmptyListIsNotBelieved(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	for i := range 3 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(100+i), "Doe", yesterday()))
	}
	s.sync(t, Full)
	id := s.start(t, Full)
	s.zoho.hide("Contacts")
	for range 3 {
		s.work(t, id)
	}
	if st := s.status(t, id); st.State != Running || st.Gone != 0 || !strings.Contains(st.LastError, errEmpty.Error()) {
		t.Errorf("status %+v", st)
	}
}

// What was left out is looked at from when it was last read, not from when the
// sync before began.
func TestAModuleLeftOutLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts", "Accounts")
	s.sync(t, Full)
	// The change lies before the next sync's overlap, and the sync is the one that may not see it.
	s.exec(t, `UPDATE syncs SET started_at = started_at - interval '3 hours'`)
	s.zoho.put(t, "Contacts", contact("7", "Doe", time.Now().Add(-2*time.Hour)))
	s.zoho.fail(func(_, module string) error {
		if module == "Contacts" {
			return &zoho.Error{Kind: zoho.KindForbidden, Op: "list Contacts"}
		}
		return nil
	})
	if st := s.finish(t, s.start(t, Incremental)); st.State != Completed || st.Changed != 0 {
		t.Fatalf("status %+v", st)
	}
	s.zoho.fail(nil)
	if st := s.finish(t, s.start(t, Incremental)); st.State != Completed || st.Changed != 1 {
		t.Errorf("when it may be read again: %+v", st)
	}
}
