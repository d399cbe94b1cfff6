package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

const (
	// streamEvery is how often a stream looks for what is new, while anybody follows. Who
	// writes events says nothing: a notification takes one lock for the whole database at
	// each commit, and the door would pay for it whether or not anybody follows.
	streamEvery = 500 * time.Millisecond
	// streamBuffer is how many changes wait for one follower; who is further behind is let go.
	streamBuffer = 4096
	// maxFollowers bounds how many follow on one node, and maxOfOne how many of them for one
	// token: who leaves connections behind shuts out nobody else.
	maxFollowers = 64
	maxOfOne     = 16
	// catchUps is how many are told at one time what they missed.
	catchUps = 2
	// missable is how many of the newest ids are looked through for what was missed.
	missable = 20_000
	// streamRows bounds what one look reads of each kind, and what a follower that comes
	// back is told of what it missed.
	streamRows = 2000
	// streamOpen is how many events that have not ended are watched.
	streamOpen = 5000
	// streamLate is how many ids may be seen before one that is smaller: they are given
	// before they are written.
	streamLate = 1000
	// overlap is how long what is seen first may be written before what is seen later.
	overlap = 5 * time.Second
)

var (
	// ErrTooManyFollowers is returned when as many follow as may.
	ErrTooManyFollowers = errors.New("too many follow already")
	// ErrStopped is returned when the program stops.
	ErrStopped = errors.New("the program stops")
)

// Change is how an event stands since a moment ago.
type Change struct {
	Position    string     `json:"-"` // where to go on from, for Last-Event-ID
	ID          int64      `json:"id"`
	Source      string     `json:"source"`
	EventID     string     `json:"event_id"`
	Module      string     `json:"module"`
	Operation   string     `json:"operation"`
	RecordID    string     `json:"record_id"`
	AccountID   *string    `json:"account_id"`
	Status      string     `json:"status"`
	Failures    int32      `json:"failures"`
	LastError   string     `json:"last_error"`
	ReceivedAt  time.Time  `json:"received_at"`
	RoutedAt    *time.Time `json:"routed_at"`
	ProcessedAt *time.Time `json:"processed_at"`
}

// Follow is one who follows.
type Follow struct {
	// Changes are told in the order they were seen. It is closed when the follower was too
	// slow, or the program stops.
	Changes <-chan Change
	// Missed says that more was missed since the position than is told: a list has it.
	Missed bool

	who     string
	changes chan Change
	wants   func(Change) bool
	gone    bool
}

// Stream tells followers what becomes of events. All of them share one look each half a
// second, and nobody looks while nobody follows. What an event passes through between two
// looks is not told; its times say when it did.
type Stream struct {
	pool      *pgxpool.Pool
	heartbeat time.Duration
	log       *slog.Logger

	mu        sync.Mutex
	followers map[*Follow]struct{}
	stop      context.CancelFunc // of the watch; nil: nobody looks
	begun     chan struct{}      // closed when the watch knows how all stood
	watching  sync.WaitGroup
	stopped   bool
	catching  chan struct{} // has room for those who are told what they missed
}

// NewStream makes a Stream. heartbeat is how often followers over HTTP hear something
// while nothing happens: proxies close what is silent.
func NewStream(pool *pgxpool.Pool, heartbeat time.Duration, log *slog.Logger) *Stream {
	return &Stream{pool: pool, heartbeat: heartbeat, log: log, followers: map[*Follow]struct{}{}, catching: make(chan struct{}, catchUps)}
}

// StreamFilter says whose changes are told; "": anybody's.
type StreamFilter struct{ Status, Module, Source string }

func (f StreamFilter) wants(c Change) bool {
	return (f.Status == "" || f.Status == c.Status) && (f.Module == "" || f.Module == c.Module) && (f.Source == "" || f.Source == c.Source)
}

// Follow begins to tell changes: from now on, or from behind a position that a Change bore.
// who is the actor that follows. It returns ErrTooManyFollowers, ErrStopped, or a
// *body.Invalid for what is no position. Leave must be called.
func (s *Stream) Follow(ctx context.Context, who string, f StreamFilter, position string) (*Follow, error) {
	follow := &Follow{who: who, changes: make(chan Change, streamBuffer), wants: f.wants}
	follow.Changes = follow.changes
	var from watch
	if position != "" {
		var err error
		if from, err = readPosition(position); err != nil {
			return nil, err
		}
	}
	// Who follows from now on gets what comes while it reads what it missed, too: twice is
	// better than never.
	begun, err := s.add(follow)
	if err != nil {
		return nil, err
	}
	select {
	case <-begun:
	case <-ctx.Done():
		s.Leave(follow)
		return nil, ctx.Err()
	}
	if position == "" {
		return follow, nil
	}
	missed, all, err := s.catchUp(ctx, from)
	if err != nil {
		s.Leave(follow)
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	follow.Missed = !all
	for _, c := range missed {
		s.tell(follow, c)
	}
	return follow, nil
}

// catchUp waits until few enough look for what they missed, and looks.
func (s *Stream) catchUp(ctx context.Context, from watch) ([]Change, bool, error) {
	select {
	case s.catching <- struct{}{}:
		defer func() { <-s.catching }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	return catchUp(ctx, db.New(s.pool), from)
}

// ofOne is how many follow for an actor. mu is held.
func (s *Stream) ofOne(who string) (n int) {
	for f := range s.followers {
		if f.who == who {
			n++
		}
	}
	return n
}

// add takes a follower, begins the watch if nobody looks, and returns what is closed when
// the watch knows how all stood.
func (s *Stream) add(f *Follow) (<-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return nil, ErrStopped
	case len(s.followers) >= maxFollowers, s.ofOne(f.who) >= maxOfOne:
		return nil, ErrTooManyFollowers
	}
	s.followers[f] = struct{}{}
	if s.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		begun := make(chan struct{})
		s.stop, s.begun = stop, begun
		s.watching.Go(func() { s.watch(ctx, begun) })
	}
	return s.begun, nil
}

// Leave ends a Follow; the last to leave ends the look.
func (s *Stream) Leave(f *Follow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(f)
	if len(s.followers) == 0 && s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Stop lets all followers go and takes no more. It returns when nobody looks any more.
func (s *Stream) Stop() {
	s.mu.Lock()
	s.stopped = true
	for f := range s.followers {
		s.drop(f)
	}
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	s.mu.Unlock()
	s.watching.Wait()
}

// drop lets a follower go. mu is held.
func (s *Stream) drop(f *Follow) {
	delete(s.followers, f)
	if !f.gone {
		f.gone = true
		close(f.changes)
	}
}

// tell gives a change to a follower that wants it, unless it is too far behind: then it is
// let go, and may come back with its position. mu is held.
func (s *Stream) tell(f *Follow, c Change) {
	if f.gone || !f.wants(c) {
		return
	}
	select {
	case f.changes <- c:
	default:
		s.drop(f)
	}
}

// watch looks until ctx ends. It closes begun after the first look that went well, and also
// when it ends before.
func (s *Stream) watch(ctx context.Context, begun chan struct{}) {
	w := watch{}
	know := sync.OnceFunc(func() { close(begun) })
	defer know()
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for {
		changes, err := w.look(ctx, db.New(s.pool))
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "who follows events is told later", "error", err)
		}
		if w.begun {
			know()
		}
		s.mu.Lock()
		for _, c := range changes {
			for f := range s.followers {
				s.tell(f, c)
			}
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// position is where a stream stands: all events up to an id are seen, as they were then.
func (w *watch) position() string {
	return fmt.Sprintf("%d-%d", w.newest, w.at.UnixMicro())
}

// readPosition reads what position wrote.
func readPosition(text string) (watch, error) {
	id, micros, _ := strings.Cut(text, "-")
	newest, err := strconv.ParseInt(id, 10, 64)
	at, err2 := strconv.ParseInt(micros, 10, 64)
	if err != nil || err2 != nil || newest < 0 || at < 0 || at > time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() {
		return watch{}, noPosition()
	}
	return watch{newest: newest, at: time.UnixMicro(at)}, nil
}

func noPosition() error {
	return wrong("Last-Event-ID", "want the id of the last event that was told")
}
