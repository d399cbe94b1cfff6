package connection

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/zoho"
)

const mostFailures = breaker.MostFailures

func failure(kind zoho.Kind, wait time.Duration) error {
	return fmt.Errorf("read a record: %w", &zoho.Error{Kind: kind, Op: "list Contacts", Status: 503, RetryAfter: wait})
}

func (s *station) breaker(t *testing.T) *Breaker { return NewBreaker(s.pool, options(t)) }

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

// What only counts and what opens at once; breaker knows what follows.
func TestOpensFor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		want time.Duration
	}{
		"down":                                {failure(zoho.KindUnavailable, 0), 0},
		"down, with a wish":                   {failure(zoho.KindUnavailable, time.Hour), 0},
		"throttled, nobody says for how long": {failure(zoho.KindThrottled, 0), 0},
		"throttled for a time":                {failure(zoho.KindThrottled, 7*time.Second), 7 * time.Second},
		"throttled for a day":                 {failure(zoho.KindThrottled, 24*time.Hour), time.Hour},
		"the day's credits":                   {failure(zoho.KindCreditsSpent, 0), 15 * time.Minute},
		"the day's credits for a time":        {failure(zoho.KindCreditsSpent, 40*time.Minute), 40 * time.Minute},
		"a person has to act":                 {failure(zoho.KindUnauthorized, 0), time.Minute},
		"a person has to act, soon":           {failure(zoho.KindUnauthorized, 5*time.Minute), time.Minute},
	} {
		if got := judge(tc.err); got.Judgement != breaker.Failed || got.OpenFor != tc.want {
			t.Errorf("%s: %+v, want a failure that opens for %s", name, got, tc.want)
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
	wantWait(t, s.breaker(t), zoho.KindUnavailable, 4*time.Second, 6*time.Second)

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
