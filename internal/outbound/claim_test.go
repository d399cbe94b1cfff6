package outbound

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/lane"
)

// here makes the station one whose relay begins turns in its own process. No queue is
// worked: whatever arrives has come without it.
func (s *station) here(t *testing.T) {
	t.Helper()
	s.relayer = NewRelayer(s.pool, s.jobs, s.deliverer, testLog(t))
}

func TestARelayBeginsTurnsInItsOwnProcess(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	for range 3 {
		s.told(t, added, 40)
		s.relay(t)
		s.until(t, "all is delivered", `SELECT bool_and(status = 'delivered' AND attempts = 1) FROM deliveries`)
		s.until(t, "the lane is closed", `SELECT job_id IS NULL AND done = wanted FROM endpoints`)
	}
	s.until(t, "its jobs have ended", `SELECT bool_and(state = 'completed') FROM river_job`)
	if n := s.deliveryJobs(t); n != 3 {
		t.Errorf("%d jobs, want one for each time", n)
	}
	s.wantLane(t, id, "3 of 3 done, due never, job none")
}

// The process that dies in the moment of the commit has a job that others rescue.
func TestAClaimedJobIsOneOfAProcess(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	h := newHolding()
	t.Cleanup(sync.OnceFunc(func() { close(h.let) }))
	r := subscribe(t, h.answer)
	s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	r.next(t)
	got := one[string](t, s, `SELECT format('%s %s %s', state, attempt, attempted_by[1]) FROM river_job WHERE kind = 'deliver_endpoint'`)
	if want := "running 1 " + s.deliverer.process.String(); got != want {
		t.Errorf("the job is %s, want %s", got, want)
	}
}

func TestAFailedRelayBeginsNothing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	r := subscribe(t)
	s.endpoint(t, r.URL)
	s.told(t, added, 1)
	relent := s.refuse(t, "endpoints", "BEFORE UPDATE", "new.wanted > old.wanted")
	for range maxTurns + 1 { // were the room not given back, there would be none in the end
		if _, err := s.relayer.relay(t.Context(), s.running(t, job.Relay{})); err == nil {
			t.Fatal("the relay's last statement did not fail")
		}
	}
	if n := one[int](t, s, `SELECT count(*) FROM deliveries`); n != 0 || len(r.all()) != 0 {
		t.Errorf("%d deliveries of a relay that failed", n)
	}
	relent()
	s.relay(t)
	s.until(t, "it is delivered", `SELECT bool_and(status = 'delivered') FROM deliveries`)
}

// Without room, and when all is being stopped, turns go the way of the queue.
func TestWithoutRoomATurnIsLeftToTheQueue(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	for range maxTurns {
		if !s.deliverer.reserve() {
			t.Fatal("there is room for fewer turns than said")
		}
	}
	s.told(t, added, 1)
	s.relay(t)
	s.wantLane(t, id, "0 of 1 done, due now, job available")
	s.work(t, id)
	for range maxTurns {
		s.deliverer.release()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.deliverer.Stop(ctx)
	s.told(t, added, 1)
	s.relay(t)
	s.wantLane(t, id, "1 of 2 done, due now, job available")
}

// A turn that cannot be ended here is gone on with by the queue.
func TestATurnThatFailsIsGivenToTheQueue(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	relent := s.refuse(t, "endpoints", "BEFORE UPDATE", "new.done > old.done")
	s.told(t, added, 1)
	s.relay(t)
	r.next(t)
	s.until(t, "the job waits again", `SELECT bool_or(state = 'available' AND kind = 'deliver_endpoint') FROM river_job`)
	relent()
	s.exec(t, `UPDATE river_job SET scheduled_at = now() WHERE state = 'available'`)
	s.work(t, id)
	s.wantLane(t, id, "1 of 1 done, due never, job none")
	s.wantOutcomes(t, id, "delivered after 1 attempts, 0 failed")
}

// Who is nudged relays at once, and ends the jobs that were to see to it.
func TestANudgedRelayEndsTheJobsThatWait(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t)
	s.endpoint(t, r.URL)
	s.here(t)
	ctx, cancel := context.WithCancel(t.Context())
	g := together(t)
	t.Cleanup(cancel)
	g.Go(func() error { s.relayer.Run(ctx); return nil })
	s.tell(t, added, "u", "v")
	s.tell(t, added, "w")
	s.exec(t, `UPDATE river_job SET scheduled_at = now() + $1 WHERE kind = 'relay'`, time.Hour)
	s.relayer.Nudge()
	for range 3 {
		r.next(t)
	}
	s.until(t, "the jobs have ended", `SELECT count(*) = 2 AND bool_and(state = 'completed') FROM river_job WHERE kind = 'relay'`)
}

// panicking inserts no job: it is what nobody thought of.
type panicking struct{ lane.Inserter }

func (panicking) InsertManyTx(context.Context, pgx.Tx, []river.InsertManyParams) ([]*rivertype.JobInsertResult, error) {
	panic("nobody thought of this")
}

// The queue catches what panics in its jobs; what is begun here must not end the
// program either, nor keep its room.
func TestWhatPanicsHereEndsNothingElse(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	resting := s.endpoint(t, r.URL) // its job is the queue's, and inserted after the other was claimed
	s.set(t, resting, "resume_at = now() + interval '1 hour'")
	sound := s.relayer.jobs
	s.told(t, added, 1)
	s.relayer.jobs = panicking{sound}
	for range maxTurns + 1 {
		if _, err := s.relayer.nudge(t.Context()); err == nil {
			t.Fatal("the relay did not panic")
		}
	}
	s.relayer.jobs = sound
	s.set(t, resting, "deleted_at = now()")
	s.deliverer.jobs = panicking{sound} // asked when a turn that has work left ends
	s.set(t, id, "max_in_flight = 1, retry_schedule = '{1h}'")
	r.Config.Handler = status(503)
	s.relay(t)
	s.until(t, "the job was given back", `SELECT bool_or(kind = 'deliver_endpoint' AND state = 'available') FROM river_job`)
	s.deliverer.mu.Lock()
	defer s.deliverer.mu.Unlock()
	if s.deliverer.turns > 1 { // the last one may be about to go
		t.Errorf("%d turns keep their room", s.deliverer.turns)
	}
}

// While the queue is paused no turn is begun past it.
func TestARelayBeginsNoTurnWhileTheQueueIsPaused(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	paused := true
	s.deliverer.Hold(func() bool { return paused })
	r := subscribe(t)
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	s.wantLane(t, id, "0 of 1 done, due now, job available")
	if s.deliverer.roomy() {
		t.Error("a turn at work would stay for what comes")
	}
	paused = false
	s.work(t, id)
	r.next(t)
}
