package connection

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/zoho"
)

func failure(kind zoho.Kind, wait time.Duration) error {
	return fmt.Errorf("read a record: %w", &zoho.Error{Kind: kind, Op: "list Contacts", Status: 503, RetryAfter: wait})
}

func (s *station) breaker(t *testing.T) *Breaker { return NewBreaker(s.pool, options(t)) }

// outage makes the breaker open by failures in a row, the last of them just now.
func (s *station) outage(t *testing.T) {
	t.Helper()
	b := s.breaker(t)
	for range mostFailures {
		if err := b.Allow(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.Report(t.Context(), failure(zoho.KindUnavailable, 0))
	}
}

// over lets the time pass for which the breaker is open.
func (s *station) over(t *testing.T) {
	t.Helper()
	s.exec(t, `UPDATE breakers SET open_until = now(), probe_until = least(probe_until, now())`)
}

func wantWait(t *testing.T, b *Breaker, kind zoho.Kind, low, high time.Duration) {
	t.Helper()
	err := b.Allow(t.Context())
	if zoho.KindOf(err) != kind {
		t.Fatalf("allowed with %v (kind %d), want kind %d", err, zoho.KindOf(err), kind)
	}
	between(t, "the wait", zoho.RetryAfter(err), low, high)
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
		"the first failure":                    {row{}, failure(zoho.KindUnavailable, 0), 0, 1},
		"the fourth":                           {row{failures: 3}, failure(zoho.KindUnavailable, 0), 0, 4},
		"the fifth":                            {row{failures: 4}, failure(zoho.KindUnavailable, 0), 5 * time.Second, 5},
		"the fifth, with a wish":               {row{failures: 4}, failure(zoho.KindUnavailable, time.Hour), 5 * time.Second, 5},
		"a failed probe":                       {row{5, at(0)}, failure(zoho.KindUnavailable, 0), 10 * time.Second, 6},
		"the second":                           {row{6, at(-time.Minute)}, failure(zoho.KindUnavailable, 0), 20 * time.Second, 7},
		"the sixth":                            {row{10, at(0)}, failure(zoho.KindUnavailable, 0), 5 * time.Minute, 11},
		"after a day":                          {row{400, at(0)}, failure(zoho.KindUnavailable, 0), 5 * time.Minute, 401},
		"one that began before":                {row{5, at(time.Second)}, failure(zoho.KindUnavailable, 0), 0, 5},
		"throttled, nobody says for how long":  {row{failures: 1}, failure(zoho.KindThrottled, 0), 0, 2},
		"throttled, and it is the fifth":       {row{failures: 4}, failure(zoho.KindThrottled, 0), 5 * time.Second, 5},
		"throttled for a time":                 {row{}, failure(zoho.KindThrottled, 7*time.Second), 7 * time.Second, 5},
		"throttled for a day":                  {row{}, failure(zoho.KindThrottled, 24*time.Hour), time.Hour, 5},
		"the day's credits":                    {row{}, failure(zoho.KindCreditsSpent, 0), 15 * time.Minute, 5},
		"the day's credits for a time":         {row{}, failure(zoho.KindCreditsSpent, 40*time.Minute), 40 * time.Minute, 5},
		"a person has to act":                  {row{failures: 2}, failure(zoho.KindUnauthorized, 0), time.Minute, 5},
		"a person has to act, soon":            {row{}, failure(zoho.KindUnauthorized, 5*time.Minute), time.Minute, 5},
		"longer than it is open":               {row{5, at(time.Second)}, failure(zoho.KindCreditsSpent, 0), 15 * time.Minute, 5},
		"shorter than it is open":              {row{5, at(time.Hour)}, failure(zoho.KindUnauthorized, 0), 0, 5},
		"a probe finds the credits spent":      {row{9, at(0)}, failure(zoho.KindCreditsSpent, 0), 15 * time.Minute, 9},
		"after the credits, Zoho is down, too": {row{5, at(0)}, failure(zoho.KindUnavailable, 0), 10 * time.Second, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := db.LockBreakerRow{Failures: tc.row.failures, OpenUntil: tc.row.openUntil, Now: now}
			got, changed := next(before, tc.err, 0.5)
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
	row := db.LockBreakerRow{Failures: mostFailures, Now: time.Now()}
	for spread, want := range map[float64]time.Duration{0: 8 * time.Second, 0.25: 9 * time.Second, 0.75: 11 * time.Second} {
		if w, _ := next(row, failure(zoho.KindUnavailable, 0), spread); w.OpenUntil.Sub(row.Now).Round(time.Millisecond) != want {
			t.Errorf("spread %v: open for %s, want %s", spread, w.OpenUntil.Sub(row.Now), want)
		}
	}
}

func TestAnOutageOpensTheBreakerForEverybodyAndASuccessClosesIt(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.breaker(t), s.breaker(t)
	for i := range mostFailures {
		wantAllowed(t, a)
		a.Report(t.Context(), failure(zoho.KindUnavailable, 0))
		if i == 2 {
			// In a row: what another node has seen counts, too.
			wantAllowed(t, b)
			b.Report(t.Context(), nil)
		}
	}
	wantAllowed(t, a)
	for range 3 {
		a.Report(t.Context(), failure(zoho.KindUnavailable, 0))
	}
	wantWait(t, a, zoho.KindUnavailable, 4*time.Second, 6*time.Second)
	b.seen.at = time.Time{} // a second has passed
	wantWait(t, b, zoho.KindUnavailable, 4*time.Second, 6*time.Second)

	// Calls that began before end now, well or not.
	a.Report(t.Context(), nil)
	b.Report(t.Context(), failure(zoho.KindUnavailable, 0))
	wantWait(t, s.breaker(t), zoho.KindUnavailable, 4*time.Second, 6*time.Second)

	s.over(t)
	c := s.breaker(t)
	wantAllowed(t, c)
	c.Report(t.Context(), failure(zoho.KindUnavailable, 0))
	wantWait(t, c, zoho.KindUnavailable, 9*time.Second, 11*time.Second)
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
			switch err := nodes[i%3].Allow(t.Context()); {
			case err == nil:
				allowed.Add(1)
			case zoho.KindOf(err) != zoho.KindUnavailable:
				return err
			case zoho.RetryAfter(err) < time.Second || zoho.RetryAfter(err) > 2*time.Second:
				return fmt.Errorf("told to wait for %s", zoho.RetryAfter(err))
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

	between(t, "the time of the probe", time.Duration(one[float64](t, s, `SELECT extract(epoch FROM probe_until - now())::float8 FROM breakers`)*1e9), 25*time.Second, 30*time.Second)

	// A node that has read long ago is not let through either: the probe has failed meanwhile.
	late := s.breaker(t)
	late.seen = sight{at: time.Now(), failures: mostFailures, openUntil: time.Now()}
	s.exec(t, `UPDATE breakers SET open_until = now() + interval '10 seconds', probe_until = NULL`)
	wantWait(t, late, zoho.KindUnavailable, time.Second, 2*time.Second)
	wantWait(t, late, zoho.KindUnavailable, 9*time.Second, 10*time.Second)
	s.exec(t, `UPDATE breakers SET open_until = now(), probe_until = now() + interval '30 seconds'`)

	// The one that probes died: another takes its place when its time is over.
	wantWait(t, s.breaker(t), zoho.KindUnavailable, time.Second, 2*time.Second)
	s.exec(t, `UPDATE breakers SET probe_until = now()`)
	wantAllowed(t, s.breaker(t))
	wantWait(t, s.breaker(t), zoho.KindUnavailable, time.Second, 2*time.Second)
}

func TestWhatOpensItIsSaid(t *testing.T) {
	t.Parallel()
	for _, kind := range []zoho.Kind{zoho.KindUnavailable, zoho.KindThrottled, zoho.KindCreditsSpent, zoho.KindUnauthorized} {
		s := newStation(t)
		b := s.breaker(t)
		for range mostFailures {
			b.Report(t.Context(), failure(kind, 0))
		}
		err := s.breaker(t).Allow(t.Context())
		var said *zoho.Error
		if !errors.As(err, &said) || said.Kind != kind || said.Message != failure(kind, 0).Error() {
			t.Errorf("kind %d is told on as %v (kind %d)", kind, err, zoho.KindOf(err))
		}
	}
}

// These say nothing against Zoho: it answered, or we hung up.
func TestWhatIsNoFailure(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	b := s.breaker(t)
	for _, err := range []error{
		nil, failure(zoho.KindInvalid, 0), failure(zoho.KindForbidden, 0), failure(zoho.KindTooLarge, 0), errors.New("a fault of ours"),
		&zoho.Error{Kind: zoho.KindUnavailable, Op: "list Contacts", Err: context.Canceled},
		&zoho.Error{Kind: zoho.KindUnavailable, Op: "list Contacts", Err: context.DeadlineExceeded},
	} {
		for range 2 * mostFailures {
			b.Report(t.Context(), err)
		}
	}
	wantAllowed(t, b)
	if n := one[int](t, s, `SELECT count(*) FROM breakers`); n != 0 {
		t.Error("something was written")
	}

	// And of these the answers end a row of failures.
	for range mostFailures - 1 {
		b.Report(t.Context(), failure(zoho.KindUnavailable, 0))
	}
	b.Report(t.Context(), &zoho.Error{Kind: zoho.KindUnavailable, Op: "list Contacts", Err: context.Canceled})
	if n := one[int](t, s, `SELECT failures FROM breakers`); n != mostFailures-1 {
		t.Errorf("%d failures, want %d", n, mostFailures-1)
	}
	b.Report(t.Context(), failure(zoho.KindForbidden, 0))
	if n := one[int](t, s, `SELECT failures FROM breakers`); n != 0 {
		t.Errorf("%d failures, want none", n)
	}
}

// What this node is refused without a question to Zoho, or because it is set
// badly, must not take the others' Zoho away.
func TestARefusalOfThisNodeDoesNotOpenTheBreaker(t *testing.T) {
	t.Parallel()
	key := box(t, memrelayKey)
	badClient := func(code string) func(http.ResponseWriter, int) {
		return func(w http.ResponseWriter, _ int) { fmt.Fprintf(w, `{"error":%q}`, code) }
	}
	for name, tc := range map[string]struct {
		refused string
		kind    zoho.Kind
		node    func(*testing.T, *station) *Tokens
	}{
		"nobody is connected": {"", zoho.KindUnauthorized, func(t *testing.T, s *station) *Tokens { return s.keyed(t, key, stored) }},
		"no key": {"", zoho.KindUnauthorized, func(t *testing.T, s *station) *Tokens {
			s.connect(t, key)
			return s.process(t, stored)
		}},
		"another key": {"", zoho.KindUnauthorized, func(t *testing.T, s *station) *Tokens {
			s.connect(t, key)
			return s.keyed(t, box(t, "quite another one of them"), stored)
		}},
		"another client": {"", zoho.KindUnauthorized, func(t *testing.T, s *station) *Tokens {
			s.connect(t, key)
			return s.keyed(t, key, stored, func(c *Settings) { c.ClientID = "1000.OTHER" })
		}},
		"refused to another": {"", zoho.KindUnauthorized, func(t *testing.T, s *station) *Tokens {
			s.accounts.answers(refuse)
			wantRefusal(t, s.process(t), "", zoho.KindUnauthorized)
			return s.process(t)
		}},
		"asked for too often": {access(1), zoho.KindThrottled, func(t *testing.T, s *station) *Tokens {
			p := s.process(t)
			wantToken(t, p, "", access(1))
			s.exec(t, `UPDATE zoho_tokens SET asked_at = array_fill(now(), ARRAY[9])`)
			return p
		}},
		"blocked": {"", zoho.KindThrottled, func(t *testing.T, s *station) *Tokens {
			s.accounts.answers(tooMany)
			wantRefusal(t, s.process(t), "", zoho.KindThrottled)
			return s.process(t)
		}},
		"Zoho does not know its client": {"", zoho.KindUnauthorized, func(t *testing.T, s *station) *Tokens {
			s.accounts.answers(badClient("invalid_client"))
			return s.process(t)
		}},
		"its client secret is wrong": {"", zoho.KindUnauthorized, func(t *testing.T, s *station) *Tokens {
			s.accounts.answers(badClient("invalid_client_secret"))
			return s.process(t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			said := refusalOf(t, tc.node(t, s), tc.refused, tc.kind)
			b := s.breaker(t)
			for range mostFailures {
				b.Report(t.Context(), fmt.Errorf("read a record: %w", said))
			}
			wantAllowed(t, s.breaker(t))
			if n := one[int](t, s, `SELECT count(*) FROM breakers`); n != 0 {
				t.Errorf("counted as a failure of Zoho: %v", said)
			}
		})
	}
}

// A call's own time is up when it has failed; that is what is to be counted.
func TestATimeoutIsCountedThoughItsContextHasEnded(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.breaker(t).Report(ctx, &zoho.Error{Kind: zoho.KindUnavailable, Op: "list Contacts", Err: errors.New("no whole answer in time")})
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
	b.Report(t.Context(), failure(zoho.KindUnavailable, 0))
	b.seen = sight{at: time.Now(), failures: 9, openUntil: time.Now()}
	wantAllowed(t, b) // the probe cannot be asked for
	b.Report(t.Context(), nil)
	s.exec(t, `ALTER TABLE elsewhere RENAME TO breakers`)
	b.seen = sight{}
	wantAllowed(t, b)
	wantWait(t, b, zoho.KindUnavailable, time.Second, 2*time.Second)
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
	b := NewBreaker(pool, o)
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
