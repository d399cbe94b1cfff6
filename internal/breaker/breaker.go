// Package breaker keeps an outage of somebody else from costing a call of every
// job of every node. In go how calls ended; out comes whether the next one may be
// made. What is known stands in a row of breakers that all nodes share.
package breaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// MostFailures in a row open a breaker.
const MostFailures = 5

const (
	// It is open for shortestOpen at first, twice as long after each failed probe, at
	// most longestOpen; a fifth more or less, so that whoever failed together does
	// not come back together.
	shortestOpen = 5 * time.Second
	longestOpen  = 5 * time.Minute
	// probeTime is how long the others wait for the one that probes.
	probeTime = 30 * time.Second
	// readEvery is how often a node reads the row at most: for so long it goes on
	// calling after another node has opened the breaker.
	readEvery = time.Second
	// databaseTime bounds what a call waits for the breaker's row.
	databaseTime = 2 * time.Second
)

// Judgement is what a call's end says about whoever was called.
type Judgement int

// The judgements.
const (
	Unknown  Judgement = iota // nothing: it was us
	Answered                  // it is there, whatever it said
	Failed
)

// Verdict is how a call's end is to be taken.
type Verdict struct {
	Judgement Judgement
	// What follows is of failures alone. Reason is kept for people, and told to
	// whoever is not let through.
	Reason string
	// OpenFor opens the breaker at once for so long: of failures that time alone
	// does not mend, or where somebody says for how long. 0: it only counts.
	OpenFor time.Duration
}

// Options are what a Breaker needs besides. All are required.
type Options struct {
	Name   string // of its row
	Judge  func(error) Verdict
	Now    func() time.Time
	Random func() float64 // in [0, 1)
	Log    *slog.Logger
}

// OpenError is what a call gets that is not let through.
type OpenError struct {
	Name   string
	Reason string        // of the failure that opened it
	Wait   time.Duration // when to come again
}

// Error says who is not called, and why.
func (e *OpenError) Error() string {
	return fmt.Sprintf("%s is not called for %s: %s", e.Name, e.Wait.Round(time.Second), e.Reason)
}

// Breaker is the one of a name, as one node knows it. It is safe for concurrent use.
type Breaker struct {
	pool *pgxpool.Pool
	o    Options
	turn chan struct{} // holds one while somebody uses what follows
	seen sight
}

// sight is the row as this node knows it, its times by our clock.
type sight struct {
	at         time.Time // zero: look again
	failures   int32
	reason     string
	openUntil  time.Time // zero: closed
	probeUntil time.Time
}

// New makes a Breaker.
func New(pool *pgxpool.Pool, o Options) *Breaker {
	return &Breaker{pool: pool, o: o, turn: make(chan struct{}, 1)}
}

// Allow returns nil when the call may be made, or an *OpenError. While it is open
// and its time is over, one caller is let through: the probe. A database that does
// not answer stops nobody.
func (b *Breaker) Allow(ctx context.Context) error {
	if !b.take(ctx) {
		return nil // the call will say that its context has ended
	}
	defer b.leave()
	b.look(ctx)
	if wait := b.wait(); wait > 0 {
		return b.refusal(wait)
	}
	if b.seen.openUntil.IsZero() {
		return nil
	}
	return b.probe(ctx)
}

// Look returns nil when the call may be made or would be the probe, else an
// *OpenError, and promises nothing: whoever is about to call asks Allow, too.
func (b *Breaker) Look(ctx context.Context) error {
	if !b.take(ctx) {
		return nil
	}
	defer b.leave()
	b.look(ctx)
	if wait := b.wait(); wait > 0 {
		return b.refusal(wait)
	}
	return nil
}

// wait is how long nobody calls as far as this node knows; 0: somebody may.
func (b *Breaker) wait() time.Duration {
	now := b.o.Now()
	switch {
	case b.seen.openUntil.IsZero():
		return 0
	case now.Before(b.seen.openUntil):
		return b.seen.openUntil.Sub(now)
	case now.Before(b.seen.probeUntil):
		return b.soon()
	}
	return 0
}

// Report says how a call ended that Allow let through.
func (b *Breaker) Report(ctx context.Context, err error) {
	// A call's time is often up when it has failed.
	ctx = context.WithoutCancel(ctx)
	switch v := b.o.Judge(err); v.Judgement {
	case Answered:
		b.pass(ctx)
	case Failed:
		b.fail(ctx, v)
	case Unknown:
	}
}

// next is the row after a failure, and reports whether that changes it. While
// the breaker is open, further failures are those of calls that began before:
// they count for nothing, but for those that open it for longer. spread is in [0, 1).
func next(row db.LockBreakerRow, v Verdict, spread float64) (db.WriteBreakerParams, bool) {
	w := db.WriteBreakerParams{Name: row.Name, Failures: row.Failures, OpenedAt: row.OpenedAt, Reason: v.Reason}
	isOpen := row.OpenUntil != nil && row.OpenUntil.After(row.Now)
	wait := v.OpenFor
	switch {
	case wait > 0:
		// It counts as the failures that it takes otherwise.
		w.Failures = max(w.Failures, MostFailures)
	case isOpen:
		return w, false
	default:
		w.Failures++
		if w.Failures < MostFailures {
			return w, true
		}
		doublings := min(w.Failures-MostFailures, 16) // far more than it takes to longestOpen
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
func (b *Breaker) fail(ctx context.Context, v Verdict) {
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	if !b.take(ctx) {
		return
	}
	defer b.leave()
	var row db.LockBreakerRow
	var wrote db.WriteBreakerParams
	var changed bool
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) (err error) {
		q := db.New(tx)
		row, err = q.LockBreaker(ctx, b.o.Name)
		if errors.Is(err, pgx.ErrNoRows) {
			if err := q.MakeBreaker(ctx, b.o.Name); err != nil {
				return fmt.Errorf("make the breaker: %w", err)
			}
			row, err = q.LockBreaker(ctx, b.o.Name)
		}
		if err != nil {
			return fmt.Errorf("lock the breaker: %w", err)
		}
		wrote, changed = next(row, v, b.o.Random())
		if !changed {
			return nil
		}
		if err := q.WriteBreaker(ctx, wrote); err != nil {
			return fmt.Errorf("write the breaker: %w", err)
		}
		return nil
	})
	if err != nil {
		b.o.Log.WarnContext(ctx, "breaker not told of a failure", "breaker", b.o.Name, "error", err, "failure", v.Reason)
		return
	}
	if !changed {
		// Another node has opened it: this one need not find out by looking.
		b.see(row.Now, row.Failures, row.Reason, row.OpenUntil, row.ProbeUntil)
		return
	}
	b.see(row.Now, wrote.Failures, wrote.Reason, wrote.OpenUntil, nil)
	if wrote.OpenUntil != nil {
		b.o.Log.WarnContext(ctx, "breaker open", "breaker", b.o.Name, "until", *wrote.OpenUntil, "failures", wrote.Failures, "reason", wrote.Reason)
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
	n, err := db.New(b.pool).PassBreaker(ctx, b.o.Name)
	if err != nil {
		b.o.Log.WarnContext(ctx, "breaker not told of a success", "breaker", b.o.Name, "error", err)
		return
	}
	if n == 1 && !b.seen.openUntil.IsZero() {
		b.o.Log.InfoContext(ctx, "breaker closed", "breaker", b.o.Name)
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
	row, err := db.New(b.pool).GetBreaker(ctx, b.o.Name)
	if err != nil {
		if !errors.Is(err, pgx.ErrNoRows) {
			b.o.Log.WarnContext(ctx, "breaker not read, calls go on", "breaker", b.o.Name, "error", err)
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

// probe makes this call the one that finds out whether all is well again, unless
// another has become it.
func (b *Breaker) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, databaseTime)
	defer cancel()
	n, err := db.New(b.pool).ProbeBreaker(ctx, db.ProbeBreakerParams{Name: b.o.Name, Wait: probeTime})
	if err != nil {
		b.o.Log.WarnContext(ctx, "breaker not asked for a probe, the call goes on", "breaker", b.o.Name, "error", err)
		return nil
	}
	if n == 0 {
		b.seen.at = time.Time{}
		return b.refusal(b.soon())
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

func (b *Breaker) refusal(wait time.Duration) error {
	return &OpenError{Name: b.o.Name, Reason: b.seen.reason, Wait: wait}
}

// Status is how a breaker stands.
type Status struct {
	Open bool `json:"open"`
	// OpenedAt is when the outage began, OpenUntil when the next probe is due; nil
	// while it is closed.
	OpenedAt  *time.Time `json:"opened_at"`
	OpenUntil *time.Time `json:"open_until"`
	Reason    string     `json:"reason"`   // of the last failure
	Failures  int32      `json:"failures"` // in a row
}

// State reads how the breaker of a name stands. One that was never told of a
// failure is closed.
func State(ctx context.Context, q *db.Queries, name string) (Status, error) {
	row, err := q.GetBreaker(ctx, name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Status{}, nil
	case err != nil:
		return Status{}, fmt.Errorf("read the breaker: %w", err)
	}
	return Status{
		Open: row.OpenUntil != nil, OpenedAt: row.OpenedAt, OpenUntil: row.OpenUntil, Reason: row.Reason, Failures: row.Failures,
	}, nil
}
