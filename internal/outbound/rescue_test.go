package outbound

import (
	"sync"
	"testing"
	"time"
)

// A node that crashed leaves its endpoint full: others need not wait for its leases.
func TestLeasesOfAProcessThatIsGoneEndEarly(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	h := newHolding()
	t.Cleanup(sync.OnceFunc(func() { close(h.let) }))
	r := subscribe(t, inTurn(h.answer, h.answer, status(204)))
	id := s.endpoint(t, r.URL)
	s.set(t, id, "max_in_flight = 2")
	s.told(t, added, 4)
	s.relay(t)
	s.deliverer.slice = time.Millisecond
	s.work(t, id)
	r.next(t)
	r.next(t)
	s.exec(t, `INSERT INTO processes (process, host, workers) VALUES ($1, 'crashed', 1)`, s.deliverer.process)
	crashed := s.deliverer
	s.deliverer = s.delivererThrough(t, loopbackTransport(t))
	rescue := func() int {
		t.Helper()
		n, err := s.deliverer.Rescue(t.Context(), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	s.exec(t, `INSERT INTO processes (process, host, workers) VALUES ($1, 'here', 1)`, s.deliverer.process)
	if n := rescue(); n != 0 {
		t.Fatalf("%d leases of a process that lives were ended", n)
	}
	s.exec(t, `UPDATE processes SET seen_at = now() - interval '11 seconds' WHERE process = $1`, crashed.process)
	s.exec(t, `UPDATE processes SET seen_at = now() - interval '4 seconds' WHERE process = $1`, s.deliverer.process)
	if n := rescue(); n != 0 {
		t.Fatalf("%d leases were ended by a process that was not seen itself", n)
	}
	s.exec(t, `UPDATE processes SET seen_at = now() WHERE process = $1`, s.deliverer.process)
	if n := rescue(); n != 2 {
		t.Fatalf("%d leases were ended, want 2", n)
	}
	s.exec(t, `UPDATE river_job SET scheduled_at = now() WHERE state = 'available'`)
	s.work(t, id)
	s.until(t, "all is delivered", `SELECT count(*) = 4 AND bool_and(status = 'delivered') FROM deliveries`)
}
