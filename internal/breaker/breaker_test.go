package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

var (
	errDown  = errors.New("down: the server said 503")
	errWrong = errors.New("the question was wrong")
)

// opening is a failure that opens at once.
type opening struct{ wait time.Duration }

func (o opening) Error() string { return "closed for " + o.wait.String() }

func judge(err error) Verdict {
	var o opening
	switch {
	case err == nil, errors.Is(err, errWrong):
		return Verdict{Judgement: Answered}
	case errors.As(err, &o):
		return Verdict{Judgement: Failed, Reason: err.Error(), OpenFor: o.wait}
	case errors.Is(err, errDown):
		return Verdict{Judgement: Failed, Reason: err.Error()}
	}
	return Verdict{}
}

func options(t *testing.T) Options {
	return Options{
		Name: "elsewhere", Judge: judge, Now: time.Now, Random: func() float64 { return 0.5 },
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// station is a database that nodes share.
type station struct{ pool *pgxpool.Pool }

func newStation(t *testing.T) *station {
	t.Helper()
	return &station{pool: dbtest.New(t)}
}

func (s *station) breaker(t *testing.T) *Breaker { return New(s.pool, options(t)) }

func (s *station) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

func one[T any](t *testing.T, s *station, query string) T {
	t.Helper()
	var v T
	if err := s.pool.QueryRow(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return v
}

// outage makes the breaker open by failures in a row, the last of them just now.
func (s *station) outage(t *testing.T) {
	t.Helper()
	b := s.breaker(t)
	for range MostFailures {
		wantAllowed(t, b)
		b.Report(t.Context(), errDown)
	}
}

// over lets the time pass for which the breaker is open.
func (s *station) over(t *testing.T) {
	t.Helper()
	s.exec(t, `UPDATE breakers SET open_until = now(), probe_until = least(probe_until, now())`)
}

// waitOf is how long a call is to wait; 0: it may be made.
func waitOf(err error) time.Duration {
	var open *OpenError
	if errors.As(err, &open) {
		return open.Wait
	}
	return 0
}

func wantWait(t *testing.T, b *Breaker, low, high time.Duration) {
	t.Helper()
	if got := waitOf(b.Allow(t.Context())); got < low || got > high {
		t.Errorf("the wait is %s, want %s to %s", got, low, high)
	}
}

func wantAllowed(t *testing.T, b *Breaker) {
	t.Helper()
	if err := b.Allow(t.Context()); err != nil {
		t.Fatalf("not allowed: %v", err)
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { a := now.Add(d); return &a }
	type row struct {
		failures  int32
		openUntil *time.Time
	}
	for name, tc := range map[string]struct {
		row   row
		err   error
		opens time.Duration // 0: it stays as it is
		count int32
	}{
		"the first failure":                        {row{}, errDown, 0, 1},
		"the fourth":                               {row{failures: 3}, errDown, 0, 4},
		"the fifth":                                {row{failures: 4}, errDown, 5 * time.Second, 5},
		"a failed probe":                           {row{5, at(0)}, errDown, 10 * time.Second, 6},
		"the second":                               {row{6, at(-time.Minute)}, errDown, 20 * time.Second, 7},
		"the sixth":                                {row{10, at(0)}, errDown, 5 * time.Minute, 11},
		"after a day":                              {row{400, at(0)}, errDown, 5 * time.Minute, 401},
		"one that began before":                    {row{5, at(time.Second)}, errDown, 0, 5},
		"one that opens at once":                   {row{}, opening{7 * time.Second}, 7 * time.Second, 5},
		"one that opens at once, after two":        {row{failures: 2}, opening{time.Minute}, time.Minute, 5},
		"longer than it is open":                   {row{5, at(time.Second)}, opening{15 * time.Minute}, 15 * time.Minute, 5},
		"shorter than it is open":                  {row{5, at(time.Hour)}, opening{time.Minute}, 0, 5},
		"a probe that opens at once":               {row{9, at(0)}, opening{time.Hour}, time.Hour, 9},
		"a failed probe after what opened at once": {row{5, at(0)}, errDown, 10 * time.Second, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := db.LockBreakerRow{Failures: tc.row.failures, OpenUntil: tc.row.openUntil, Now: now}
			got, changed := next(before, judge(tc.err), 0.5)
			switch {
			case got.Failures != tc.count:
				t.Errorf("%d failures, want %d", got.Failures, tc.count)
			case tc.opens == 0 && got.OpenUntil != nil:
				t.Errorf("opens for %s", got.OpenUntil.Sub(now))
			case tc.opens == 0:
				if changed == (tc.row.openUntil != nil) {
					t.Errorf("changed: %t", changed)
				}
			case got.OpenUntil == nil || got.OpenUntil.Sub(now) != tc.opens || !changed:
				t.Errorf("open until %v, changed: %t; want %s", got.OpenUntil, changed, tc.opens)
			}
		})
	}
}

// Whoever failed together does not come back together.
func TestTheWaitIsSpread(t *testing.T) {
	t.Parallel()
	row := db.LockBreakerRow{Failures: MostFailures, Now: time.Now()}
	for spread, want := range map[float64]time.Duration{0: 8 * time.Second, 0.25: 9 * time.Second, 0.75: 11 * time.Second} {
		if w, _ := next(row, judge(errDown), spread); w.OpenUntil.Sub(row.Now).Round(time.Millisecond) != want {
			t.Errorf("spread %v: open for %s, want %s", spread, w.OpenUntil.Sub(row.Now), want)
		}
	}
}

func TestAnOutageOpensTheBreakerForEverybodyAndASuccessClosesIt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.breaker(t), s.breaker(t)
	for i := range MostFailures {
		wantAllowed(t, a)
		a.Report(t.Context(), errDown)
		if i == 2 {
			// In a row: what another node has seen counts, too.
			wantAllowed(t, b)
			b.Report(t.Context(), nil)
		}
	}
	wantAllowed(t, a)
	for range 3 {
		a.Report(t.Context(), errDown)
	}
	wantWait(t, a, 4*time.Second, 6*time.Second)
	b.seen.at = time.Time{} // a second has passed
	wantWait(t, b, 4*time.Second, 6*time.Second)

	// Calls that began before end now, well or not.
	a.Report(t.Context(), nil)
	b.Report(t.Context(), errDown)
	wantWait(t, s.breaker(t), 4*time.Second, 6*time.Second)

	s.over(t)
	c := s.breaker(t)
	wantAllowed(t, c)
	c.Report(t.Context(), errDown)
	wantWait(t, c, 9*time.Second, 11*time.Second)
	s.over(t)
	d := s.breaker(t)
	wantAllowed(t, d)
	d.Report(t.Context(), nil)
	wantAllowed(t, d)
	wantAllowed(t, s.breaker(t))
	if one[bool](t, s, `SELECT failures > 0 OR reason <> '' OR opened_at IS NOT NULL OR open_until IS NOT NULL OR probe_until IS NOT NULL FROM breakers`) {
		t.Error("the row of a closed breaker says that something is wrong")
	}
}

// An outage costs one call and not one of every job of every node.
func TestOneOfAllProbes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.outage(t)
	s.over(t)
	nodes := []*Breaker{s.breaker(t), s.breaker(t), s.breaker(t)}
	for _, b := range nodes {
		b.look(t.Context()) // all know that the time is over, and of no probe
	}
	var allowed atomic.Int32
	var g errgroup.Group
	for i := range 20 {
		g.Go(func() error {
			err := nodes[i%3].Allow(t.Context())
			if err == nil {
				allowed.Add(1)
			} else if wait := waitOf(err); wait < time.Second || wait > 2*time.Second {
				return err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if n := allowed.Load(); n != 1 {
		t.Fatalf("%d of 20 were let through, want 1", n)
	}

	if left := one[float64](t, s, `SELECT extract(epoch FROM probe_until - now())::float8 FROM breakers`); left < 25 || left > 30 {
		t.Errorf("the probe has %f seconds", left)
	}

	// A node that has read long ago is not let through either: the probe has failed meanwhile.
	late := s.breaker(t)
	late.seen = sight{at: time.Now(), failures: MostFailures, openUntil: time.Now()}
	s.exec(t, `UPDATE breakers SET open_until = now() + interval '10 seconds', probe_until = NULL`)
	wantWait(t, late, time.Second, 2*time.Second)
	wantWait(t, late, 9*time.Second, 10*time.Second)
	s.exec(t, `UPDATE breakers SET open_until = now(), probe_until = now() + interval '30 seconds'`)

	// The one that probes died: another takes its place when its time is over.
	wantWait(t, s.breaker(t), time.Second, 2*time.Second)
	s.exec(t, `UPDATE breakers SET probe_until = now()`)
	wantAllowed(t, s.breaker(t))
	wantWait(t, s.breaker(t), time.Second, 2*time.Second)
}

// A node that has looked a moment ago learns of an outage from its own failure.
func TestAFailureTellsThatOthersHaveOpenedIt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	b := s.breaker(t)
	wantAllowed(t, b)
	s.outage(t)
	wantAllowed(t, b)
	b.Report(t.Context(), errDown)
	wantWait(t, b, 4*time.Second, 6*time.Second)
}

// Whoever only looks does not become the probe.
func TestLookIsNoProbe(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.outage(t)
	b := s.breaker(t)
	if wait := waitOf(b.Look(t.Context())); wait < 4*time.Second || wait > 6*time.Second {
		t.Errorf("told to wait for %s", wait)
	}
	s.over(t)
	b = s.breaker(t)
	for range 3 {
		if err := b.Look(t.Context()); err != nil {
			t.Errorf("not let through: %v", err)
		}
	}
	wantAllowed(t, b)
	if wait := waitOf(b.Look(t.Context())); wait < time.Second || wait > 2*time.Second {
		t.Errorf("while another probes, told to wait for %s", wait)
	}
}

// Breakers of two names have nothing to do with one another.
func TestEachNameIsItsOwn(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.outage(t)
	o := options(t)
	o.Name = "another"
	wantAllowed(t, New(s.pool, o))
	for name, want := range map[string]bool{"elsewhere": true, "another": false} {
		got, err := State(t.Context(), db.New(s.pool), name)
		if err != nil || got.Open != want || (got.OpenUntil != nil) != want || (want && got.Reason != errDown.Error()) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	var open *OpenError
	if err := s.breaker(t).Allow(t.Context()); !errors.As(err, &open) || open.Name != "elsewhere" || open.Reason != errDown.Error() {
		t.Errorf("refused with %v", err)
	}
}

// What says nothing, or that somebody is there, is no failure.
func TestWhatIsNoFailure(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	b := s.breaker(t)
	for _, err := range []error{nil, errWrong, errors.New("a fault of ours")} {
		for range 2 * MostFailures {
			b.Report(t.Context(), err)
		}
	}
	wantAllowed(t, b)
	if n := one[int](t, s, `SELECT count(*) FROM breakers`); n != 0 {
		t.Error("something was written")
	}

	// And of these the answers end a row of failures.
	for range MostFailures - 1 {
		b.Report(t.Context(), errDown)
	}
	b.Report(t.Context(), errors.New("a fault of ours"))
	if n := one[int](t, s, `SELECT failures FROM breakers`); n != MostFailures-1 {
		t.Errorf("%d failures, want %d", n, MostFailures-1)
	}
	b.Report(t.Context(), errWrong)
	if n := one[int](t, s, `SELECT failures FROM breakers`); n != 0 {
		t.Errorf("%d failures, want none", n)
	}
}

// A call's own time is up when it has failed; that is what is to be counted.
func TestATimeoutIsCountedThoughItsContextHasEnded(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.breaker(t).Report(ctx, errDown)
	if n := one[int](t, s, `SELECT failures FROM breakers`); n != 1 {
		t.Errorf("%d failures, want 1", n)
	}
}

func TestADatabaseThatDoesNotAnswerStopsNobody(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.outage(t)
	s.over(t)
	b := s.breaker(t)
	s.exec(t, `ALTER TABLE breakers RENAME TO elsewhere`)
	wantAllowed(t, b)
	b.Report(t.Context(), errDown)
	b.seen = sight{at: time.Now(), failures: 9, openUntil: time.Now()}
	wantAllowed(t, b) // the probe cannot be asked for
	b.Report(t.Context(), nil)
	s.exec(t, `ALTER TABLE elsewhere RENAME TO breakers`)
	b.seen = sight{}
	wantAllowed(t, b)
	wantWait(t, b, time.Second, 2*time.Second)
}

// queries counts what a pool sends.
type queries struct{ n atomic.Int32 }

func (q *queries) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.n.Add(1)
	return ctx
}
func (q *queries) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// While all is well the breaker costs a read each second, however many calls there are.
func TestAClosedBreakerCostsNothing(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(dbtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	sent := &queries{}
	config.ConnConfig.Tracer = sent
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	o := options(t)
	now := time.Now()
	o.Now = func() time.Time { return now }
	b := New(pool, o)
	for second := range 3 {
		for range 1000 {
			wantAllowed(t, b)
			b.Report(t.Context(), nil)
		}
		if n := sent.n.Load(); n != int32(second+1) {
			t.Fatalf("%d queries in %d seconds", n, second+1)
		}
		now = now.Add(time.Second)
	}
}
