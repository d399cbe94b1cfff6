package group

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The ways in which a unit of the stress test behaves.
const (
	stressFine   = iota
	stressPoison // its data is at fault
	stressPanic  // the write panics over it
	stressAlone  // it alone fails
	stressHeld   // its rows are held a few times
	stressLeaves // its caller leaves at some time
	stressGreat  // it is greater than a group
	stressBehaviours
)

var errAlone = errors.New("this unit alone")

var errOutage = errors.New("the database is gone")

// storm is a Write over units whose behaviours are drawn by lot, with conflicts
// and outages of whole groups among them.
type storm struct {
	behaviour []int

	mu   sync.Mutex
	held map[int]int // how often a unit is still to be held
}

func (s *storm) write(_ context.Context, tx pgx.Tx, _ int, units []int) ([]Answer[int], error) {
	switch rand.IntN(40) {
	case 0:
		return nil, ErrConflict
	case 1:
		return nil, state("40P01")
	case 2:
		return nil, errOutage
	}
	e := tx.(*entry)
	answers := make([]Answer[int], len(units))
	for i, u := range units {
		switch s.behaviour[u] {
		case stressPoison:
			return nil, state("22P05")
		case stressPanic:
			panic(u)
		case stressAlone:
			answers[i].Err = errAlone
			continue
		case stressHeld:
			if s.stillHeld(u) {
				answers[i].Err = ErrHeld
				continue
			}
		}
		answers[i].Value = -u
		e.values = append(e.values, u)
	}
	return answers, nil
}

func (s *storm) stillHeld(u int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[u]--
	return s.held[u] >= 0
}

// size makes great units greater than a group may be.
func (s *storm) size(u int) int {
	if s.behaviour[u] == stressGreat {
		return 5000
	}
	return u % 100
}

// Every unit of thousands gets its own answer, and the answer is true: what was
// answered as done is committed once, what was answered as failed is not.
func TestEveryUnitGetsItsOwnAnswer(t *testing.T) {
	t.Parallel()
	const units, callers = 8000, 200
	s := &storm{behaviour: make([]int, units), held: map[int]int{}}
	for u := range s.behaviour {
		// More than half of them are fine.
		if rand.IntN(2) == 0 {
			s.behaviour[u] = rand.IntN(stressBehaviours)
		}
		if s.behaviour[u] == stressHeld {
			s.held[u] = rand.IntN(4)
		}
	}
	l := &ledger{}
	key := func(u int) string { return []string{"a", "b", "b", "b"}[u%4] }
	c := NewFair(l, s.write, s.size, key, Options{MaxUnits: 32, MaxBytes: 1000, InFlight: 3, Line: 60, Wait: 30 * time.Second})

	type outcome struct {
		value int
		err   error
	}
	outcomes := make([]outcome, units)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for u := caller; u < units; u += callers {
				ctx, cancel := context.WithCancel(context.Background())
				if s.behaviour[u] == stressLeaves {
					time.AfterFunc(time.Duration(rand.IntN(500))*time.Microsecond, cancel)
				}
				v, err := c.Do(ctx, u)
				outcomes[u] = outcome{v, err}
				cancel()
			}
		})
	}
	wg.Wait()
	c.Wait()

	times := make([]int, units)
	for _, u := range slices.Concat(l.all()...) {
		times[u]++
	}
	tally := map[string]int{}
	for u, o := range outcomes {
		switch {
		case o.err == nil:
			tally["done"]++
			if o.value != -u || times[u] != 1 {
				t.Errorf("unit %d was answered %d and committed %d times", u, o.value, times[u])
			}
			if b := s.behaviour[u]; b == stressPoison || b == stressPanic || b == stressAlone {
				t.Errorf("unit %d was answered as done, behaviour %d", u, b)
			}
			continue
		case errors.Is(o.err, context.Canceled):
			tally["left"]++
			if s.behaviour[u] != stressLeaves || times[u] > 1 {
				t.Errorf("unit %d: %v, behaviour %d, committed %d times", u, o.err, s.behaviour[u], times[u])
			}
			continue
		case times[u] != 0:
			t.Errorf("unit %d failed with %v and was committed %d times", u, o.err, times[u])
		}
		var want int
		switch {
		case errors.Is(o.err, ErrFull):
			tally["full"]++
			continue
		case errors.Is(o.err, errOutage), isConflict(o.err):
			tally["outage or conflict"]++
			continue
		case errors.Is(o.err, ErrPanic):
			want = stressPanic
		case errors.Is(o.err, errAlone):
			want = stressAlone
		case IsData(o.err):
			want = stressPoison
		}
		tally["own failure"]++
		if s.behaviour[u] != want || want == stressFine {
			t.Errorf("unit %d failed with %v, behaviour %d", u, o.err, s.behaviour[u])
		}
	}
	t.Logf("%d transactions: %v", len(l.all()), tally)
	for _, what := range []string{"done", "left", "full", "outage or conflict", "own failure"} {
		if tally[what] == 0 {
			t.Errorf("no unit came out as %q: the test does not test that", what)
		}
	}
}
