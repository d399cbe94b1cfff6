package outbound

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/memrelay/memrelay/db"
)

// While a turn is at work here it is told of what comes: its lane is not woken, nor
// closed and opened again.
func TestATurnAtWorkHereGoesOnWithWhatComes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	h := newHolding()
	let := sync.OnceFunc(func() { close(h.let) })
	t.Cleanup(let)
	r := subscribe(t, inTurn(h.answer, status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	r.next(t)
	for range 5 {
		s.told(t, added, 3)
		s.relay(t)
		for range 3 {
			r.next(t)
		}
	}
	s.wantLane(t, id, "0 of 1 done, due never, job running")
	let()
	s.until(t, "the lane is closed", `SELECT job_id IS NULL FROM endpoints`)
	s.wantLane(t, id, "1 of 1 done, due never, job none")
	s.wantOutcomes(t, id, repeat("delivered after 1 attempts, 0 failed", 16)...)
	if n := s.deliveryJobs(t); n != 1 {
		t.Errorf("%d jobs, want one", n)
	}
}

// A turn knows its endpoint as it was when it began. What comes after a change goes by
// another one, which does not wait for what hangs.
func TestATurnAtWorkHereLeavesAChangedEndpointToAnother(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	h := newHolding()
	let := sync.OnceFunc(func() { close(h.let) })
	t.Cleanup(let)
	before, after := subscribe(t, h.answer), subscribe(t)
	id := s.endpoint(t, before.URL)
	s.told(t, added, 1)
	s.relay(t)
	before.next(t)
	s.set(t, id, "url = '"+after.URL+"'")
	s.told(t, added, 2)
	s.relay(t)
	after.next(t)
	after.next(t)
	let()
	s.until(t, "all is delivered", `SELECT bool_and(status = 'delivered' AND attempts = 1) FROM deliveries`)
	if n := len(before.all()); n != 0 {
		t.Errorf("%d went the old way", n)
	}
}

// The lane of a turn that has not been taken yet, gathers, or has another job is woken
// as usual.
func TestOnlyATurnThatHasTheLaneSeesWhatComes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.relay(t) // without turns of its own
	s.here(t)
	read := func() db.LockEndpointsRow {
		p, err := db.New(s.pool).LockEndpoint(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return db.LockEndpointsRow(p)
	}
	p, leave := s.deliverer.enter(*read().JobID)
	if s.deliverer.meet(read().JobID) != p {
		t.Fatal("the turn is not met")
	}
	if p.sees(read()) {
		t.Error("it sees what comes before it has taken the lane")
	}
	p.asOf = read().UpdatedAt
	p.taken.Store(true)
	if !p.sees(read()) {
		t.Error("it does not see what comes")
	}
	s.told(t, added, 1)
	s.relay(t)
	if len(p.nudged) != 1 {
		t.Error("it is not told of what comes")
	}
	s.wantLane(t, id, "0 of 1 done, due now, job available")
	gathering := read()
	gathering.BatchSize = 2
	if p.sees(gathering) {
		t.Error("what is gathered needs its time")
	}
	p.nudge(p.asOf)
	if p.stale.Load() {
		t.Error("an endpoint that is the same is taken for another")
	}
	p.nudge(p.asOf.Add(time.Microsecond))
	if !p.stale.Load() {
		t.Error("a changed endpoint is taken for the same")
	}
	leave()
	if s.deliverer.meet(read().JobID) != nil || s.deliverer.meet(nil) != nil {
		t.Error("a turn is met that is over")
	}
}

// A turn that waits for what comes next keeps neither those that need its room nor the end.
func TestATurnThatLingersMakesRoom(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for n := range maxTurns {
		if roomy := n <= maxTurns/2; s.deliverer.roomy() != roomy {
			t.Errorf("roomy with %d turns: %t", n, !roomy)
		}
		s.deliverer.reserve()
	}
	for range maxTurns {
		s.deliverer.release()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.deliverer.Stop(ctx)
	if s.deliverer.roomy() {
		t.Error("a turn lingers although all is being stopped")
	}
}

// A change is noticed also when nobody here tells of it: what hangs keeps nothing from
// the next turn.
func TestATurnThatHangsNoticesAChange(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	let := sync.OnceFunc(func() { close(h.let) })
	t.Cleanup(let)
	before, after := subscribe(t, h.answer), subscribe(t)
	id := s.endpoint(t, before.URL)
	s.deliverer.slice = time.Hour // it would keep the lane for so long
	s.told(t, added, 1)
	s.relay(t)
	g := together(t)
	g.Go(func() error { return s.deliverer.Work(t.Context(), s.start(t, id)) })
	before.next(t)
	s.set(t, id, "url = '"+after.URL+"'")
	s.told(t, added, 1)
	s.relay(t) // by another node: nobody here is told
	s.until(t, "the lane has another job", `SELECT done = 1 FROM endpoints`)
	s.work(t, id)
	after.next(t)
	let()
	s.until(t, "all is delivered", `SELECT bool_and(status = 'delivered' AND attempts = 1) FROM deliveries`)
}

// Once all is being stopped no turn begins a request.
func TestATurnBeginsNothingWhileAllIsBeingStopped(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.here(t)
	h := newHolding()
	let := sync.OnceFunc(func() { close(h.let) })
	t.Cleanup(let)
	r := subscribe(t, h.answer)
	s.set(t, s.endpoint(t, r.URL), "max_in_flight = 1")
	s.told(t, added, 3)
	s.relay(t)
	r.next(t)
	s.deliverer.Hush()
	let()
	s.deliverer.Stop(t.Context())
	if n := len(r.all()); n != 0 {
		t.Errorf("%d requests were begun", n)
	}
	s.until(t, "the rest waits for others", `SELECT count(*) = 2 AND (SELECT count(*) = 1 FROM deliveries WHERE status = 'delivered') FROM deliveries WHERE status = 'pending' AND leased_until IS NULL`)
	s.until(t, "its lane has a job", `SELECT j.state = 'available' FROM endpoints p JOIN river_job j ON j.id = p.job_id`)
}
