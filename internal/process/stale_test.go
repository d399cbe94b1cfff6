package process

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
)

// A job may be rescued from a worker that is not dead but slow: then two attempts
// of it run at the same time, in whatever order they wake up.
func TestStaleAttempt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		order []int // in which the attempts' sources answer
		more  bool  // an event arrives between the two attempts' claims
	}{
		{name: "wakes up when the work is done", order: []int{1, 0}},
		{name: "is the first to finish", order: []int{0, 1}},
		{name: "wakes up when the work is done and more had come", order: []int{1, 0}, more: true},
		{name: "is the first to finish and knows less", order: []int{0, 1}, more: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := newAsked()
			s := newStation(t, asked)
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
			jobID := s.lane(t, "77").job(t)
			want := []string{"added Contacts 1 zoho:77 by event 1 memory_added"}
			processed := int64(1)

			calls, done := make([]call, 2), make([]<-chan error, 2)
			row := s.begin(t, jobID)
			done[0] = s.start(t, row)
			calls[0] = asked.next(t)
			// River takes the job from the first attempt and gives it to another.
			s.exec(t, `UPDATE river_job SET state = 'retryable' WHERE id = $1`, jobID)
			if tt.more {
				s.route(t, sent{module: "Contacts", operation: "create", recordID: "2", record: contact("2", "77", "b@example.com")})
				want = append(want, "added Contacts 2 zoho:77 by event 2 memory_added")
				processed = 2
			}
			row = s.begin(t, jobID)
			done[1] = s.start(t, row)
			calls[1] = asked.next(t)
			asked.open() // for the jobs that may follow

			for _, i := range tt.order {
				calls[i].answer()
				if err := <-done[i]; err != nil {
					t.Errorf("attempt %d returned %v, want nil", i+1, err)
				}
				s.end(t, row, nil)
				s.noOrphans(t)
			}
			s.finish(t)
			if diff := cmp.Diff(want, s.told(t)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if got := s.count(t, "outbox"); got != processed {
				t.Errorf("%d webhooks, want %d", got, processed)
			}
			if diff := cmp.Diff([]int64{processed}, s.counters(t, counter.Processed)); diff != "" {
				t.Errorf("processed (-want +got):\n%s", diff)
			}
		})
	}
}

// The rescued job waits when its first attempt finishes: there is nothing left
// for the second to claim.
func TestRescuedJobWhoseWorkIsDone(t *testing.T) {
	t.Parallel()
	asked := newAsked()
	s := newStation(t, asked)
	s.route(t, sent{module: "Contacts", operation: "create", recordID: "1", record: contact("1", "77", "a@example.com")})
	jobID := s.lane(t, "77").job(t)
	done := s.start(t, s.begin(t, jobID))
	call := asked.next(t)
	s.exec(t, `UPDATE river_job SET state = 'retryable' WHERE id = $1`, jobID)
	call.answer()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	before := s.snapshot(t)
	row := s.begin(t, jobID)
	if err := s.attempt(t.Context(), row); err != nil {
		t.Errorf("the second attempt returned %v, want nil", err)
	}
	after := s.snapshot(t)
	delete(before, "river_job")
	delete(after, "river_job")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the second attempt changed (-before +after):\n%s", diff)
	}
	s.end(t, row, nil)
	s.closed(t)
}

func TestAttemptsOfOneJobInOneGroup(t *testing.T) {
	t.Parallel()
	route := func(t *testing.T) (*station, claim) {
		s := newStation(t, Payloads{})
		for _, id := range []string{"1", "2"} {
			s.route(t, sent{module: "Contacts", operation: "create", recordID: id, record: contact(id, "77", "a@example.com")})
		}
		c := claim{accountID: "77", jobID: s.lane(t, "77").job(t)}
		s.begin(t, c.jobID)
		return s, c
	}

	t.Run("each claims the events once", func(t *testing.T) {
		t.Parallel()
		s, c := route(t)
		for i, a := range inGroup(t, s.pool, s.syncer.take, []claim{c, c}) {
			if len(a.Value.events) != 2 || a.Value.upTo != 2 || !a.Value.mine {
				t.Errorf("attempt %d took %d events up to %d", i+1, len(a.Value.events), a.Value.upTo)
			}
		}
	})

	t.Run("one of them writes", func(t *testing.T) {
		t.Parallel()
		s, _ := route(t)
		u := s.observed(t, "77")
		if diff := cmp.Diff([]error{nil, nil}, errorsOf(inGroup(t, s.pool, s.syncer.write, []synced{u, u}))); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int64{2}, s.counters(t, counter.Processed)); diff != "" {
			t.Errorf("processed (-want +got):\n%s", diff)
		}
		s.closed(t)
	})

	t.Run("both store events one by one", func(t *testing.T) {
		t.Parallel()
		s, _ := route(t)
		last := s.observed(t, "77")
		one := last
		one.rest, one.observations = true, last.observations[:1]
		answers := inGroup(t, s.pool, s.syncer.write, []synced{one, one, last})
		if diff := cmp.Diff([]error{nil, nil, nil}, errorsOf(answers)); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int64{2}, s.counters(t, counter.Processed)); diff != "" {
			t.Errorf("processed (-want +got):\n%s", diff)
		}
		if got := s.count(t, "memory_history"); got != 2 {
			t.Errorf("%d changes, want 2", got)
		}
		s.closed(t)
	})
}

// What a person decided while the source was asked stands.
func TestEventThatAPersonDecidedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	for _, id := range []string{"1", "2"} {
		s.route(t, sent{module: "Contacts", operation: "create", recordID: id, record: contact(id, "77", "a@example.com")})
	}
	u := s.observed(t, "77")
	u.failures = []failure{{eventID: 2, err: errNoBody}}
	u.observations = u.observations[:1]
	s.exec(t, `UPDATE events SET status = 'discarded'`)
	if diff := cmp.Diff([]group.Answer[struct{}]{{}}, inGroup(t, s.pool, s.syncer.write, []synced{u})); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"discarded 0", "discarded 0"}, rows[string](t, s.pool, `SELECT concat_ws(' ', status, failures) FROM events`)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{0, 0, 0}, s.counters(t, counter.Processed, counter.Dead, counter.Retried)); diff != "" {
		t.Errorf("processed, dead, retried (-want +got):\n%s", diff)
	}
	s.closed(t)
}
