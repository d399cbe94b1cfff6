package inbound

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/group"
)

// clock is one that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestWhatIsBeyondAShare(t *testing.T) {
	t.Parallel()
	errGone := errors.New("the database is gone")
	type step struct {
		after  time.Duration
		source string // "" is zoho
		n      int
		stored int64 // the newest event that stood behind, once this is stored; 0: none
		routed int64 // all events up to this one are routed before this
		err    error // of a look at the database
		want   int   // of n, stand behind
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"a second's worth may come at once", []step{{n: 60}, {n: 40}, {n: 1, want: 1}}},
		{"of one body the last stand behind", []step{{n: 130, want: 30}}},
		{"time gives back what was taken", []step{{n: 100}, {after: time.Second / 2, n: 50}, {after: time.Second / 10, n: 10}}},
		{"and no more than a second's worth", []step{{n: 100}, {after: time.Hour, n: 101, want: 1}}},
		{"a clock that goes back gives nothing", []step{{n: 100}, {after: -time.Hour, n: 1, want: 1}}},
		{"each source has its own", []step{{n: 500, want: 400}, {source: "second", n: 100}, {source: "second", n: 1, want: 1}}},
		{"who was beyond stays behind while that waits", []step{{n: 101, stored: 101, want: 1}, {after: time.Hour, n: 1, want: 1}}},
		{"until it is routed", []step{{n: 101, stored: 101, want: 1}, {after: time.Second, n: 1, routed: 101}}},
		{"the newest of it", []step{
			{n: 101, stored: 101, want: 1},
			{after: time.Second, n: 1, stored: 102, want: 1},
			{after: time.Second, n: 1, routed: 101, stored: 103, want: 1},
			{after: time.Second, n: 1, routed: 103},
		}},
		{"what goes on beyond gives nothing back", []step{
			{n: 200, stored: 200, want: 100},
			{after: time.Second, n: 200, stored: 400, want: 200},
			{after: time.Second / 2, n: 100, routed: 400, stored: 500, want: 50},
		}},
		{"nothing of it was new", []step{{n: 101, want: 1}, {after: time.Second, n: 1}}},
		{"it is looked ten times a second", []step{{n: 100}, {n: 1, stored: 101, want: 1}, {n: 1, want: 1}, {after: 99 * time.Millisecond, routed: 101, n: 1, want: 1}, {after: time.Millisecond, n: 1}}},
		{"while nobody knows it stays behind", []step{{n: 101, stored: 101, want: 1}, {after: time.Second, routed: 101, err: errGone, n: 1, want: 1}, {after: time.Second, n: 1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			var now step
			routed := int64(0)
			s := newShares(100, c.now, func(_ context.Context, id int64) (bool, error) { return id > routed, now.err })
			for i, st := range tc.steps {
				c.forward(st.after)
				now, routed = st, max(routed, st.routed)
				if st.source == "" {
					st.source = SourceZoho
				}
				if got := s.take(t.Context(), st.source, st.n); got != st.want {
					t.Errorf("step %d: %d of %d stand behind, want %d", i+1, got, st.n, st.want)
				}
				if st.stored > 0 {
					s.stored(st.source, st.stored)
				}
			}
		})
	}
}

// What is stored to stand behind while it is looked for what came before counts.
func TestALookIsNoLongerTrue(t *testing.T) {
	t.Parallel()
	c := newClock()
	var s *shares
	s = newShares(1, c.now, func(_ context.Context, id int64) (bool, error) {
		if id == 2 {
			s.stored(SourceZoho, 3) // another request's
		}
		return false, nil
	})
	s.take(t.Context(), SourceZoho, 2)
	s.stored(SourceZoho, 2)
	c.forward(time.Second)
	if got := s.take(t.Context(), SourceZoho, 1); got != 1 {
		t.Errorf("%d stand behind while event 3 does, want 1", got)
	}
	c.forward(time.Second)
	if got := s.take(t.Context(), SourceZoho, 1); got != 0 {
		t.Errorf("%d stand behind when event 3 is routed, want 0", got)
	}
}

// A request that is stored after a look found nothing of it stands behind all the same.
func TestALookCameTooEarly(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newShares(10, c.now, func(context.Context, int64) (bool, error) { return true, nil })
	s.take(t.Context(), SourceZoho, 11)
	c.forward(time.Second)
	if got := s.take(t.Context(), SourceZoho, 1); got != 0 {
		t.Errorf("%d stand behind while nothing is stored, want 0", got)
	}
	s.stored(SourceZoho, 11)
	if got := s.take(t.Context(), SourceZoho, 1); got != 1 {
		t.Errorf("%d stand behind while event 11 does, want 1", got)
	}
}

// second posts an event of a second organisation.
func (d *door) second(t *testing.T, eventID string) answered {
	t.Helper()
	return d.post(t, notification("c2", channelToken), http.Header{"Content-Type": {typeJSON}, "X-Zoho-Event-Id": {eventID}})
}

// worked lists the events with a job in the order in which River hands them out, with
// the job's priority.
func (d *door) worked(t *testing.T) []string {
	t.Helper()
	return query[string](t, d.pool, `SELECT j.priority || ' ' || e.event_id FROM river_job j JOIN events e ON e.id = (j.args ->> 'event_id')::bigint
		WHERE e.revision IS NULL ORDER BY j.priority, j.scheduled_at, j.id`)
}

func (d *door) routeAll(t *testing.T) {
	t.Helper()
	exec(t, d.pool, `UPDATE events SET status = 'routed', account_id = '1', revision = id WHERE revision IS NULL`)
}

func TestWhoSendsMoreIsWorkedAfterTheOthers(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	c := newClock()
	d.ingester.Share(2, c.now)
	addChannel(t, d.pool, "c2", "zoho-eu", oldChannelToken, time.Hour)

	three := `{"operation":"update","data":[{"id":"1"},{"id":"2"},{"id":"3"}]}`
	d.send(t, "a", three).want(t, 200, "")
	d.send(t, "b", untimed("1", "b")).want(t, 200, "")
	d.second(t, "x").want(t, 200, "")
	d.second(t, "y").want(t, 200, "")
	want := []string{"1 a:1", "1 a:2", "1 x", "1 y", "2 a:3", "2 b"}
	if diff := cmp.Diff(want, d.worked(t)); diff != "" {
		t.Errorf("worked (-want +got):\n%s", diff)
	}
	if !strings.Contains(d.log.String(), `"behind":1`) {
		t.Error("the log does not say that something stands behind")
	}

	// It has a share again, and does not overtake what it sent before.
	c.forward(time.Minute)
	d.send(t, "c", untimed("1", "c")).want(t, 200, "")
	want = append(want, "2 c")
	if diff := cmp.Diff(want, d.worked(t)); diff != "" {
		t.Errorf("worked, a minute later (-want +got):\n%s", diff)
	}

	d.routeAll(t)
	c.forward(time.Minute)
	d.send(t, "d", untimed("1", "d")).want(t, 200, "")
	if diff := cmp.Diff([]string{"1 d"}, d.worked(t)); diff != "" {
		t.Errorf("worked, once all before is (-want +got):\n%s", diff)
	}
}

// A flood fills nine tenths of the backlog; then there is still room for others.
func TestAFloodDoesNotCloseTheDoorForOthers(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{MaxBacklog: 20}})
	c := newClock()
	d.ingester.Share(5, c.now)
	addChannel(t, d.pool, "c2", "zoho-eu", oldChannelToken, time.Hour)

	for i := range 18 {
		d.send(t, fmt.Sprint("flood", i), untimed("1", fmt.Sprint(i))).want(t, 200, "")
	}
	d.send(t, "more", untimed("1", "more")).want(t, 503, "backlog_full")
	d.second(t, "x").want(t, 200, "")
	d.second(t, "y").want(t, 200, "")
	// The limit itself is everybody's.
	a := d.second(t, "z")
	a.want(t, 503, "backlog_full")
	if got := a.header.Get("Retry-After"); got != "5" {
		t.Errorf("Retry-After %q, want 5", got)
	}
	if got := d.counts.Backlog(); got != 20 {
		t.Errorf("a backlog of %d, want 20", got)
	}

	// With room again, and its excess worked, the flood is a source like any other.
	d.routeAll(t)
	d.counts.Routed(1)
	c.forward(time.Second)
	d.send(t, "more", untimed("1", "more")).want(t, 200, "")
}

// Without shares all are worked in the order in which they come.
func TestWithoutShares(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{MaxBacklog: 10}})
	var want []string
	for i := range 10 {
		id := fmt.Sprint("e", i)
		d.send(t, id, untimed("1", id)).want(t, 200, "")
		want = append(want, "1 "+id)
	}
	if diff := cmp.Diff(want, d.worked(t)); diff != "" {
		t.Errorf("worked (-want +got):\n%s", diff)
	}
}

// gate is an Inserter that lets a transaction go on when it is told to.
type gate struct {
	Inserter
	reached, open chan struct{}
}

func (g gate) InsertManyFastTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) (int, error) {
	select {
	case g.reached <- struct{}{}:
	default: // not the first
	}
	<-g.open
	return g.Inserter.InsertManyFastTx(ctx, tx, params)
}

// While a flood fills the line, another source is let in: the flood's newest gives way.
func TestAFullLineIsTheFloods(t *testing.T) {
	t.Parallel()
	g := gate{reached: make(chan struct{}, 1), open: make(chan struct{})}
	n := newNode(t, dbtest.New(t), setup{
		group: group.Options{InFlight: 1, Line: 2, Wait: time.Minute},
		jobs:  func(in Inserter) Inserter { g.Inserter = in; return g },
	})
	type outcome struct {
		source string
		err    error
	}
	outcomes := make(chan outcome, 5)
	send := func(source, eventID string) {
		d := delivered(t, eventID, untimed("1", eventID))
		d.Source = source
		go func() {
			_, err := n.Ingest(t.Context(), d)
			outcomes <- outcome{source, err}
		}()
	}
	send(SourceZoho, "first")
	<-g.reached
	for i := range 3 {
		send(SourceZoho, fmt.Sprint("flood", i))
	}
	if o := <-outcomes; !errors.Is(o.err, group.ErrFull) {
		t.Fatalf("the third of the flood's line: %v, want %v", o.err, group.ErrFull)
	}
	send("zoho-eu", "other")
	if o := <-outcomes; o.source != SourceZoho || !errors.Is(o.err, group.ErrFull) {
		t.Errorf("told first when another comes: %s %v, want %s %v", o.source, o.err, SourceZoho, group.ErrFull)
	}
	close(g.open)
	for range 3 {
		if o := <-outcomes; o.err != nil {
			t.Errorf("%s: %v", o.source, o.err)
		}
	}
	if got := query[string](t, n.pool, `SELECT source FROM events ORDER BY source`); !slices.Equal(got, []string{"zoho", "zoho", "zoho-eu"}) {
		t.Errorf("stored: %v, want two of the flood and the other's", got)
	}
}
