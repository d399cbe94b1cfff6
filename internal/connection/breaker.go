package connection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/zoho"
)

const (
	// mostFailures in a row open the breaker, for shortestOpen at first, twice as
	// long after each failed probe, at most longestOpen; a fifth more or less, so
	// that whoever failed together does not come back together.
	mostFailures = 5
	shortestOpen = 5 * time.Second
	longestOpen  = 5 * time.Minute
	// Failures that time alone does not mend open it at once, for so long unless
	// Zoho says for how long, and never for more than mostOpen: Zoho may be wrong.
	creditsOpen      = 15 * time.Minute
	unauthorizedOpen = time.Minute
	mostOpen         = time.Hour
	// probeTime is how long the others wait for the one that probes.
	probeTime = 30 * time.Second
	// readEvery is how often a node reads the row at most: for so long it goes on
	// calling after another node has opened the breaker.
	readEvery = time.Second
	// databaseTime bounds what a call waits for the breaker's row.
	databaseTime = 2 * time.Second
)

// Breaker keeps an outage of Zoho from costing a call of every job of every node.
// It is safe for concurrent use.
type Breaker struct {
	pool *pgxpool.Pool
	o    Options
	turn chan struct{} // holds one while somebody uses what follows
	seen sight
}

var _ zoho.Gate = (*Breaker)(nil)

// sight is the row as this node knows it, its times by our clock.
type sight struct {
	at         time.Time // zero: look again
	failures   int32
	reason     string
	openUntil  time.Time // zero: closed
	probeUntil time.Time
}

// NewBreaker makes a Breaker.
func NewBreaker(pool *pgxpool.Pool, o Options) *Breaker {
	return &Breaker{pool: pool, o: o, turn: make(chan struct{}, 1)}
}

// Allow returns nil when Zoho may be called, or a *zoho.Error of the kind that
// opened the breaker, with when to come again. A database that does not answer
// stops nobody.
func (b *Breaker) Allow(ctx context.Context) error {
	if !b.take(ctx) {
		return nil // the call will say that its context has ended
	}
	defer b.leave()
	b.look(ctx)
	now := b.o.Now()
	switch {
	case b.seen.openUntil.IsZero():
		return nil
	case now.Before(b.seen.openUntil):
		return b.seen.refusal(b.seen.openUntil.Sub(now))
	case now.Before(b.seen.probeUntil):
		return b.seen.refusal(b.soon())
	}
	return b.probe(ctx)
}

// Report says how a call ended that Allow let through. Refusals of a question
// (an unknown field, a missing permission) are answers: Zoho is there.
func (b *Breaker) Report(ctx context.Context, err error) {
	// A call's time is often up when it has failed.
	ctx = context.WithoutCancel(ctx)
	switch judge(err) {
	case answered:
		b.pass(ctx)
	case failed:
		b.fail(ctx, err)
	case unknown:
	}
}

// judgement is what a call's end says about Zoho.
type judgement int

const (
	unknown judgement = iota // nothing: it was us
	answered
	failed
)

func judge(err error) judgement {
	if err == nil {
		return answered
	}
	// The caller hung up, or had no time left; the end of the client's own patience
	// is another error.
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || isOurs(err) {
		return unknown
	}
	switch zoho.KindOf(err) {
	case zoho.KindForbidden, zoho.KindInvalid, zoho.KindTooLarge:
		return answered
	case zoho.KindUnavailable, zoho.KindThrottled, zoho.KindCreditsSpent, zoho.KindUnauthorized:
		return failed
	}
	return unknown
}

// isOurs reports whether a refusal concerns this node alone: one that Zoho was not
// asked for, or one of the client that is set here. Others may be set otherwise,
// and go on with the access token they have.
func isOurs(err error) bool {
	var said *zoho.Error
	if !errors.As(err, &said) {
		return false
	}
	switch said.Kind {
	case zoho.KindUnauthorized:
		return said.Status == 0 || said.Code == "invalid_client" || said.Code == "invalid_client_secret"
	case zoho.KindThrottled:
		return said.Status == 0
	}
	return false
}

// opensFor is for how long a failure opens the breaker at once; 0: it only counts.
func opensFor(err error) time.Duration {
	asked := zoho.RetryAfter(err)
	switch zoho.KindOf(err) {
	case zoho.KindThrottled:
		return min(asked, mostOpen)
	case zoho.KindCreditsSpent:
		if asked == 0 {
			return creditsOpen
		}
		return min(asked, mostOpen)
	case zoho.KindUnauthorized:
		return unauthorizedOpen
	}
	return 0
}

// next is the row after a failure, and reports whether that changes it. While
// the breaker is open, further failures are those of calls that began before:
// they count for nothing, but for those that open it for longer. spread is in [0, 1).
func next(row db.LockBreakerRow, err error, spread float64) (db.WriteBreakerParams, bool) {
	w := db.WriteBreakerParams{Name: name, Failures: row.Failures, OpenedAt: row.OpenedAt, Reason: reason(err)}
	isOpen := after(row.OpenUntil, row.Now)
	wait := opensFor(err)
	switch {
	case wait > 0:
		// It counts as the failures that it takes otherwise.
		w.Failures = max(w.Failures, mostFailures)
	case isOpen:
		return w, false
	default:
		w.Failures++
		if w.Failures < mostFailures {
			return w, true
		}
		doublings := min(w.Failures-mostFailures, 16) // far more than it takes to longestOpen
		wait = min(shortestOpen<<doublings, longestOpen)
		wait = time.Duration(float64(wait) * (0.8 + 0.4*spread))
	}
	until := row.Now.Add(wait)
	if isOpen && row.OpenUntil.After(until) {
		return w, false
	}
	w.OpenUntil = &until
	if w.OpenedAt == nil {
		w.OpenedAt = &row.Now
	}
	return w, true
}

// fail counts a failure, and opens the breaker when it is time to.
func (b *Breaker) fail(ctx context.Context, cause error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	if !b.take(ctx) {
		return
	}
	defer b.leave()
	var wrote db.WriteBreakerParams
	var changed bool
	var now time.Time
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.LockBreaker(ctx, name)
		if errors.Is(err, pgx.ErrNoRows) {
			if err := q.MakeBreaker(ctx, name); err != nil {
				return fmt.Errorf("make the breaker: %w", err)
			}
			row, err = q.LockBreaker(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("lock the breaker: %w", err)
		}
		now = row.Now
		wrote, changed = next(row, cause, b.o.Random())
		if !changed {
			return nil
		}
		if err := q.WriteBreaker(ctx, wrote); err != nil {
			return fmt.Errorf("write the breaker: %w", err)
		}
		return nil
	})
	if err != nil {
		b.o.Log.WarnContext(ctx, "zoho: breaker not told of a failure", "error", err, "failure", cause)
		return
	}
	if changed {
		b.see(now, wrote.Failures, wrote.Reason, wrote.OpenUntil, nil)
	}
	if changed && wrote.OpenUntil != nil {
		b.o.Log.WarnContext(ctx, "zoho: breaker open", "until", *wrote.OpenUntil, "failures", wrote.Failures, "reason", wrote.Reason)
	}
}

// pass closes the breaker after a success. Where there is nothing to close it
// costs no query.
func (b *Breaker) pass(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	if !b.take(ctx) {
		return
	}
	defer b.leave()
	if b.seen.failures == 0 && b.seen.openUntil.IsZero() {
		return
	}
	n, err := db.New(b.pool).PassBreaker(ctx, name)
	if err != nil {
		b.o.Log.WarnContext(ctx, "zoho: breaker not told of a success", "error", err)
		return
	}
	if n == 1 && !b.seen.openUntil.IsZero() {
		b.o.Log.InfoContext(ctx, "zoho: breaker closed")
	}
	b.seen = sight{} // also when it was not ours to close: the next call looks
}

// look reads the row unless it was read within readEvery.
func (b *Breaker) look(ctx context.Context) {
	if b.o.Now().Sub(b.seen.at) < readEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	row, err := db.New(b.pool).GetBreaker(ctx, name)
	if err != nil {
		if !errors.Is(err, pgx.ErrNoRows) {
			b.o.Log.WarnContext(ctx, "zoho: breaker not read, calls go on", "error", err)
		}
		b.seen = sight{at: b.o.Now()}
		return
	}
	b.see(row.Now, row.Failures, row.Reason, row.OpenUntil, row.ProbeUntil)
}

// see keeps what the row says; now is the database's time.
func (b *Breaker) see(now time.Time, failures int32, reason string, openUntil, probeUntil *time.Time) {
	ours := b.o.Now()
	here := func(at *time.Time) time.Time {
		if at == nil {
			return time.Time{}
		}
		return ours.Add(at.Sub(now))
	}
	b.seen = sight{at: ours, failures: failures, reason: reason, openUntil: here(openUntil), probeUntil: here(probeUntil)}
}

// probe makes this call the one that finds out whether Zoho is back, unless
// another has become it.
func (b *Breaker) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	n, err := db.New(b.pool).ProbeBreaker(ctx, db.ProbeBreakerParams{Name: name, Wait: probeTime})
	if err != nil {
		b.o.Log.WarnContext(ctx, "zoho: breaker not asked for a probe, the call goes on", "error", err)
		return nil
	}
	if n == 0 {
		b.seen.at = time.Time{}
		return b.seen.refusal(b.soon())
	}
	b.seen.probeUntil = b.o.Now().Add(probeTime)
	return nil
}

// soon is when to come again while another probes.
func (b *Breaker) soon() time.Duration {
	return time.Second + time.Duration(b.o.Random()*float64(time.Second))
}

// take waits for the turn, and reports whether it came before ctx ended.
func (b *Breaker) take(ctx context.Context) bool {
	select {
	case b.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *Breaker) leave() { <-b.turn }

// kinds are how the column reason begins, for what opens a breaker.
func kinds() map[string]zoho.Kind {
	return map[string]zoho.Kind{
		"unavailable": zoho.KindUnavailable, "throttled": zoho.KindThrottled,
		"credits spent": zoho.KindCreditsSpent, "unauthorized": zoho.KindUnauthorized,
	}
}

// reason is a failure as the row keeps it: its kind, and its words.
func reason(err error) string {
	for word, kind := range kinds() {
		if kind == zoho.KindOf(err) {
			return word + ": " + bound(err.Error())
		}
	}
	return bound(err.Error())
}

// refusal is what a call gets that is not let through.
func (s sight) refusal(wait time.Duration) error {
	word, said, _ := strings.Cut(s.reason, ": ")
	kind, ok := kinds()[word]
	if !ok {
		kind, said = zoho.KindUnavailable, s.reason
	}
	return &zoho.Error{Kind: kind, Op: "wait for Zoho to be back", Message: said, RetryAfter: wait}
}
