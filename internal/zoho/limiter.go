package zoho

import (
	"context"
	"slices"
	"sync"
)

// growEvery is how many successes allow one call more, after a 429 allowed fewer.
const growEvery = 20

// limiter bounds the calls under way. It learns what Zoho bears: a 429 halves
// what is allowed, successes raise it again. Whoever waits is let in in order.
type limiter struct {
	most int

	mu      sync.Mutex
	allowed int
	busy    int
	good    int // successes since allowed last changed
	round   int // how often allowed was halved
	line    []*slot
}

// slot is the right to make one call.
type slot struct {
	granted chan struct{} // closed when it is
	round   int           // the limiter's when it was granted
}

// ending is what a call tells the limiter.
type ending int

const (
	endedWell ending = iota
	endedThrottled
	endedElse // says nothing about how much Zoho bears
)

func newLimiter(most int) *limiter { return &limiter{most: most, allowed: most} }

// acquire waits for a slot; its error is ctx's.
func (l *limiter) acquire(ctx context.Context) (*slot, error) {
	s := &slot{granted: make(chan struct{})}
	l.mu.Lock()
	l.line = append(l.line, s)
	l.admit()
	l.mu.Unlock()
	select {
	case <-s.granted:
		return s, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.line, s); i >= 0 {
		l.line = slices.Delete(l.line, i, i+1)
		return nil, ctx.Err()
	}
	l.busy-- // granted in the same moment: it goes to the next
	l.admit()
	return nil, ctx.Err()
}

// release gives the slot back.
func (l *limiter) release(s *slot, e ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy--
	switch {
	case e == endedThrottled && s.round == l.round:
		// Calls that were under way together are throttled together: that counts once.
		l.allowed, l.good = max(1, l.allowed/2), 0
		l.round++
	case e == endedWell && l.allowed < l.most:
		if l.good++; l.good >= growEvery {
			l.allowed, l.good = l.allowed+1, 0
		}
	}
	l.admit()
}

// admit lets in as many as there is room for. The caller holds mu.
func (l *limiter) admit() {
	for l.busy < l.allowed && len(l.line) > 0 {
		s := l.line[0]
		l.line = l.line[1:]
		l.busy++
		s.round = l.round
		close(s.granted)
	}
}
