package process

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/job"
)

// wake inserts a job that wakes an account's lane, and works it.
func (s *station) wake(t *testing.T, accountID string) {
	t.Helper()
	if err := s.work(t, s.wakeJob(t, accountID)); err != nil {
		t.Fatalf("wake %s: %v", accountID, err)
	}
}

func (s *station) wakeJob(t *testing.T, accountID string) int64 {
	t.Helper()
	inserted, err := s.jobs.Insert(t.Context(), job.WakeAccount{AccountID: accountID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return inserted.Job.ID
}

func TestWake(t *testing.T) {
	t.Parallel()
	accountUpdate := sent{module: "Accounts", operation: "update", recordID: "77", record: account("77", "Acme", "Active")}

	t.Run("makes a lane that is not there", func(t *testing.T) {
		t.Parallel()
		s := newStation(t, Payloads{})
		jobID := s.wakeJob(t, "77")
		row := s.begin(t, jobID)
		if err := s.attempt(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		// Its own job was ended in the same transaction, before Work returned.
		if got := s.jobState(t, jobID).State; got != "completed" {
			t.Errorf("the job is %s, want completed", got)
		}
		lane := s.lane(t, "77")
		if lane.Wanted != 1 || lane.Done != 0 || lane.Due == nil || s.jobState(t, lane.job(t)).State != "available" {
			t.Errorf("the lane is %+v, want it due with a job", lane)
		}
		s.finish(t)
	})

	t.Run("pulls forward what is debounced", func(t *testing.T) {
		t.Parallel()
		s := newStation(t, Payloads{})
		s.route(t, accountUpdate)
		before := s.lane(t, "77")
		s.wake(t, "77")
		after := s.lane(t, "77")
		if after.job(t) != before.job(t) || after.Wanted != 2 || !after.Due.Before(*before.Due) {
			t.Errorf("the lane was %+v and is %+v, want the same job earlier", before, after)
		}
		if state := s.jobState(t, after.job(t)); state.ScheduledAt.After(*after.Due) {
			t.Errorf("its job waits until %v, the lane is due at %v", state.ScheduledAt, after.Due)
		}
		s.finish(t)
	})

	t.Run("leaves what is due earlier", func(t *testing.T) {
		t.Parallel()
		s := newStation(t, Payloads{})
		s.route(t, accountUpdate)
		s.exec(t, `UPDATE accounts SET due_at = now() - interval '1 minute'`)
		before := s.lane(t, "77")
		s.wake(t, "77")
		if after := s.lane(t, "77"); !after.Due.Equal(*before.Due) {
			t.Errorf("the lane was due at %v and is at %v", before.Due, after.Due)
		}
		s.finish(t)
	})

	t.Run("leaves a job that runs, which makes the next", func(t *testing.T) {
		t.Parallel()
		asked := newAsked()
		s := newStation(t, asked)
		s.route(t, accountUpdate)
		s.later(t)
		first := s.lane(t, "77").job(t)
		row := s.begin(t, first)
		done := s.start(t, row)
		call := asked.next(t)
		s.wake(t, "77")
		if got := s.lane(t, "77"); got.job(t) != first || got.Due == nil {
			t.Errorf("the lane is %+v, want job %d still, and due", got, first)
		}
		call.answer()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		s.end(t, row, nil)
		if got := s.lane(t, "77"); got.job(t) == first {
			t.Errorf("the lane is %+v, want another job", got)
		}
		asked.open()
		s.finish(t)
	})

	t.Run("waits for a lane that is held", func(t *testing.T) {
		t.Parallel()
		s := newStation(t, Payloads{})
		s.route(t, accountUpdate)
		release := s.hold(t, `SELECT FROM accounts FOR UPDATE`)
		jobID := s.wakeJob(t, "77")
		if err := s.work(t, jobID); !isSnooze(err) {
			t.Errorf("the job returned %v, want a snooze", err)
		}
		release()
		if err := s.work(t, jobID); err != nil {
			t.Errorf("the job returned %v once the lane was free", err)
		}
		if got := s.lane(t, "77").Wanted; got != 2 {
			t.Errorf("wanted is %d, want 2", got)
		}
		s.finish(t)
	})

	t.Run("goes when it has to", func(t *testing.T) {
		t.Parallel()
		s := newStation(t, Payloads{})
		row := s.begin(t, s.wakeJob(t, "77"))
		if err := s.attempt(stopped(t), row); !errors.Is(err, context.Canceled) {
			t.Errorf("the job returned %v, want %v", err, context.Canceled)
		}
		if err := s.attempt(expired(t), row); !isSnooze(err) {
			t.Errorf("the job returned %v, want a snooze", err)
		}
		s.end(t, row, context.Canceled)
		s.finish(t)
	})
}

func TestWakeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		at   refusal
	}{
		{"locking the lane", refusal{table: "accounts", hide: true}},
		{"making the lane", refusal{table: "accounts", on: "INSERT"}},
		{"inserting the lane's job", refusal{table: "river_job", on: "INSERT"}},
		{"waking the lane", refusal{table: "accounts", on: "UPDATE"}},
		{"completing its own job", refusal{table: "river_job", on: "UPDATE", when: `NEW.state = 'completed'`}},
		{"the commit", refusal{table: "accounts", on: "UPDATE", atCommit: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, Payloads{})
			s.leavesNothingBehind(t, s.wakeJob(t, "77"), tt.at)
			s.finish(t)
		})
	}
}

// The accounts that a record left and came to look again, each once; the one whose
// own lane brought it about has just looked.
func TestWhoIsWoken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		lane   string // the account to which the events are routed
		before map[string]string
		after  map[string]string // "": gone
		want   []string
	}{
		{"nobody when nothing moved", "77", map[string]string{"1": "77"}, map[string]string{"1": "77"}, nil},
		{"nobody but the lane itself when one came", "77", nil, map[string]string{"1": "77"}, nil},
		{"nobody but the lane itself when one is gone", "77", map[string]string{"1": "77"}, map[string]string{"1": ""}, nil},
		{"the other account", "77", map[string]string{"1": "77"}, map[string]string{"1": "88"}, []string{"88"}},
		{"both, from a third one's lane", "66", map[string]string{"1": "77"}, map[string]string{"1": "88"}, []string{"77", "88"}},
		{"whom one left that is gone, from another's lane", "66", map[string]string{"1": "77"}, map[string]string{"1": ""}, []string{"77"}},
		{"each once", "66", map[string]string{"1": "77", "2": "77"}, map[string]string{"1": "88", "2": "88"}, []string{"77", "88"}},
		{"no lane of a record", "record:Contacts:1", nil, map[string]string{"1": "record"}, nil},
		{"the account that a record found", "record:Contacts:1", nil, map[string]string{"1": "77"}, []string{"77"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			defer s.fullSync(t)()
			put := func(id, accountID string) {
				switch accountID {
				case "":
					z.remove("Contacts", id)
				case "record":
					z.put(t, "Contacts", `{"id":"`+id+`","Last_Name":"Doe","Account_Name":null}`)
				default:
					z.put(t, "Contacts", contact(id, accountID, "a@example.com"))
				}
			}
			for id, accountID := range tt.before {
				put(id, accountID)
				s.notify(t, "Contacts", "create", id)
			}
			s.finish(t)
			for id, accountID := range tt.after {
				put(id, accountID)
				// As the sender saw it: which lane it goes to is a guess.
				record := contact(id, tt.lane, "a@example.com")
				if !isAccount(tt.lane) {
					record = `{"id":"` + id + `"}`
				}
				s.route(t, sent{module: "Contacts", operation: "update", recordID: id, record: record})
			}
			if err := s.sync(t, tt.lane); err != nil {
				t.Fatal(err)
			}
			got := rows[string](t, s.pool, `SELECT args ->> 'account_id' FROM river_job WHERE kind = 'wake_account' AND state = 'available' ORDER BY id`)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
			s.finish(t)
		})
	}
}

// A record that is read in another lane than that of its account, and stays where
// it is, may change what the account's overview says all the same.
func TestWhoIsWokenForAChangeElsewhere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		amount string // at Zoho now
		want   []string
	}{
		"it is worth more": {"5000", []string{"77"}},
		"nothing is new":   {"1000", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, z := newZohoStation(t)
			defer s.fullSync(t)()
			z.put(t, "Deals", deal("1", "77", "1000", "Qualification"))
			s.notify(t, "Deals", "create", "1")
			s.finish(t)
			z.put(t, "Deals", deal("1", "77", tt.amount, "Qualification"))
			s.route(t, sent{module: "Deals", operation: "update", recordID: "1", record: deal("1", "88", tt.amount, "Qualification")})
			if err := s.sync(t, "88"); err != nil {
				t.Fatal(err)
			}
			got := rows[string](t, s.pool, `SELECT args ->> 'account_id' FROM river_job WHERE kind = 'wake_account' AND state = 'available' ORDER BY id`)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
			s.finish(t)
		})
	}
}
