package inbound

import (
	"context"
	"sync"
	"time"

	"github.com/memrelay/memrelay/db"
)

const (
	// behindOthers is the priority of jobs that stand behind: River works those of a
	// lower number first.
	behindOthers = 2
	// reserved is the part of the backlog, one in so many, that is for sources within
	// their share.
	reserved = 10
	// lookEvery is how often at most it is looked whether a source's excess is worked.
	lookEvery = 100 * time.Millisecond
)

// shares keep the sources apart at the door. Each has an allowance of so many events a
// second, a second's worth of which it may send at once. What is beyond is stored like
// the rest; its jobs only stand behind those of sources within theirs. So they do not
// starve: all that goes before them is the others' allowances.
//
// A source that was over its share stands behind as a whole, until what it sent beyond
// is routed: else its newer events would overtake its older ones.
//
// Every node counts by itself: on n nodes a source has up to n shares.
type shares struct {
	perSecond float64
	now       func() time.Time
	waits     func(ctx context.Context, eventID int64) (bool, error) // whether an event is still to be routed

	mu      sync.Mutex
	sources map[string]*allowance
}

// allowance is what is left of one source's share.
type allowance struct {
	left   float64 // events, when it was last taken from
	taken  time.Time
	behind bool
	newest int64 // the newest event that stands behind; 0: none is stored
	looked time.Time
}

// Share gives each source so many events a second, before the first delivery. What a
// source sends beyond is worked after what others send within theirs, and refused when
// nine tenths of the backlog are taken. now is the clock. Without it all are worked in
// the order in which they come.
func (in *Ingester) Share(perSecond int, now func() time.Time) {
	in.shares = newShares(perSecond, now, db.New(in.pool).IsEventWaiting)
}

func newShares(perSecond int, now func() time.Time, waits func(ctx context.Context, eventID int64) (bool, error)) *shares {
	return &shares{perSecond: float64(perSecond), now: now, waits: waits, sources: map[string]*allowance{}}
}

// take takes n events off the source's share, and returns how many of them, the last
// ones, stand behind the others'. Without shares none does.
func (s *shares) take(ctx context.Context, source string, n int) (behind int) {
	if s == nil {
		return 0
	}
	s.look(ctx, source)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of(source)
	now := s.now()
	a.left = min(s.perSecond, a.left+s.perSecond*max(0, now.Sub(a.taken).Seconds()))
	a.taken = now
	within := min(n, int(a.left))
	if a.behind {
		within = 0
	}
	a.left = max(0, a.left-float64(n))
	a.behind = within < n
	return n - within
}

// stored notes the newest event of the source that was stored to stand behind. Between
// take and this it may have been let go before others again.
func (s *shares) stored(source string, eventID int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of(source)
	a.newest, a.behind = max(a.newest, eventID), true
}

// look lets a source be within its share again once its newest event that stood behind
// is routed, and with it, since jobs are worked in order, all before. While the database
// does not say so it stays behind.
func (s *shares) look(ctx context.Context, source string) {
	newest, due := s.due(source)
	if !due {
		return
	}
	waits := false
	if newest > 0 {
		var err error
		if waits, err = s.waits(ctx, newest); err != nil {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.of(source); a.newest == newest {
		a.behind = waits
	}
}

// due returns which event is to be looked for, and reports whether it is time to.
func (s *shares) due(source string) (newest int64, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.of(source)
	now := s.now()
	if !a.behind || now.Sub(a.looked) < lookEvery {
		return 0, false
	}
	a.looked = now
	return a.newest, true
}

// of returns the source's allowance, a whole one when nothing has come of it; s.mu is held.
func (s *shares) of(source string) *allowance {
	a := s.sources[source]
	if a == nil {
		a = &allowance{left: s.perSecond, taken: s.now()}
		s.sources[source] = a
	}
	return a
}
