// Package group commits many small units of work in few transactions: units go
// in one by one from many goroutines, each gets its own answer after the commit
// that holds it. Units gather while the last group is on its way to disk, so an
// idle program adds no wait and a busy one shares its commits. Where units have
// keys, those of different keys wait apart.
package group

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrFull is returned by Do when the line is too long, when a unit stood in it for
// longer than Options.Wait, or when it gave way to one of a key that holds less of a
// full line: nothing of the unit was written.
var ErrFull = errors.New("too many units wait to be committed")

// ErrHeld is the answer of a Write for a unit whose rows another transaction
// holds: the unit goes to the next group. Do returns it when that lasted longer
// than Options.Hold.
var ErrHeld = errors.New("the unit's rows are held by another transaction")

// ErrConflict is returned by a Write that found another transaction's rows
// where its plan had none: the group is rolled back and tried again as it was.
var ErrConflict = errors.New("another transaction was faster")

// ErrPanic wraps what a Write panicked with.
var ErrPanic = errors.New("panic in a group")

// conflictTries bounds how often one group is tried after conflicts. Each of them
// means that another transaction got through, so they come to an end; five were
// too few where two nodes got the same 200 events at the same time, in groups of
// 20: one group in fifty met a further one each time, and its senders a 503.
const conflictTries = 20

// Answer is what a Write has to say to one unit. Err fails this unit alone: the
// others of its group are committed, and so must be whatever the unit itself has
// already written.
type Answer[R any] struct {
	Value R
	Err   error
}

// Write puts units into one transaction and answers each, in their order. It
// takes all its locks first, skipping rows that others hold, applies the units
// in order, and writes set-based. An error means that nothing shall be written:
// the units are tried again in halves when the data is at fault, so it must not
// keep anything of a failed call. slot is 0 … Options.InFlight-1 and belongs to
// no other running Write of this Committer.
type Write[T, R any] func(ctx context.Context, tx pgx.Tx, slot int, units []T) ([]Answer[R], error)

// Options are the bounds of a Committer. Zero values take the defaults.
type Options struct {
	MaxUnits  int           // units in one transaction; 256: more gains nothing and makes locks long
	MaxBytes  int           // summed sizes in one transaction; 1 MiB; a greater unit commits alone
	InFlight  int           // transactions at one time; 2: one on its way to disk, one at work
	Line      int           // units that may wait; 4,096
	LineBytes int           // summed sizes that may wait; 64 MiB
	Wait      time.Duration // how long a unit may stand in line; 2 s
	Hold      time.Duration // how long a held unit is tried again; 5 s
	Timeout   time.Duration // of one transaction; 10 s
}

func (o Options) withDefaults() Options {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	defTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MaxUnits, 256)
	def(&o.MaxBytes, 1<<20)
	def(&o.InFlight, 2)
	def(&o.Line, 4096)
	def(&o.LineBytes, 64<<20)
	defTime(&o.Wait, 2*time.Second)
	defTime(&o.Hold, 5*time.Second)
	defTime(&o.Timeout, 10*time.Second)
	return o
}

// beginner starts a transaction: a pool does.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Committer gathers units of T and answers each with an R.
type Committer[T, R any] struct {
	pool  beginner
	write Write[T, R]
	size  func(T) int
	key   func(T) string
	o     Options

	mu     sync.Mutex
	line   line[T, R]
	joined int64 // units that ever joined
	held   int   // units on their way back to the line
	free   []int // slots of transactions not in flight
	idle   *sync.Cond
}

type unit[T, R any] struct {
	value     T
	size      int
	queue     *queue[T, R] // of its key
	number    int64        // in order of arrival
	taken     bool         // by a group, or out to give way: it is too late to leave the line
	heldSince time.Time    // zero: never held
	answer    chan Answer[R]
}

// New makes a Committer that hands groups to write. size is what a unit weighs
// in bytes; nil weighs nothing.
func New[T, R any](pool beginner, write Write[T, R], size func(T) int, o Options) *Committer[T, R] {
	return NewFair(pool, write, size, func(T) string { return "" }, o)
}

// NewFair makes a Committer that serves the keys of units in turn. Units of one key
// keep their order; between keys there is none. A key alone has the whole line. In a
// full one whoever holds most of it gives way to whoever holds less, its newest unit
// with ErrFull, until each holds the same. Keys are few: each is remembered for good.
func NewFair[T, R any](pool beginner, write Write[T, R], size func(T) int, key func(T) string, o Options) *Committer[T, R] {
	c := &Committer[T, R]{pool: pool, write: write, size: size, key: key, o: o.withDefaults()}
	if size == nil {
		c.size = func(T) int { return 0 }
	}
	c.line.queues = map[string]*queue[T, R]{}
	for slot := range c.o.InFlight {
		c.free = append(c.free, slot)
	}
	c.idle = sync.NewCond(&c.mu)
	return c
}

// Do hands v over and returns its answer once the transaction that holds it is
// committed, or the error that kept it from being so. When ctx ends first, Do
// returns its error and v may yet be committed: the transaction runs on a
// context of its own, so that one caller's leaving does not break the others.
func (c *Committer[T, R]) Do(ctx context.Context, v T) (R, error) {
	u := &unit[T, R]{value: v, size: c.size(v), answer: make(chan Answer[R], 1)}
	if err := c.join(u); err != nil {
		var none R
		return none, err
	}
	patience := time.NewTimer(c.o.Wait)
	defer patience.Stop()
	for {
		select {
		case a := <-u.answer:
			return a.Value, a.Err
		case <-ctx.Done():
			c.leave(u)
			var none R
			return none, ctx.Err()
		case <-patience.C:
			if c.leave(u) {
				var none R
				return none, ErrFull
			}
		}
	}
}

// Wait returns when no unit waits, held ones included, and no transaction is in
// flight.
func (c *Committer[T, R]) Wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.line.units > 0 || c.held > 0 || len(c.free) < c.o.InFlight {
		c.idle.Wait()
	}
}

func (c *Committer[T, R]) join(u *unit[T, R]) error {
	key := c.key(u.value)
	c.mu.Lock()
	defer c.mu.Unlock()
	u.queue = c.line.queue(key)
	var out []*unit[T, R]
	for c.line.full(u, c.o) {
		one := c.line.giveWay(u, c.o)
		if one == nil {
			for _, o := range out { // in vain
				c.line.add(o)
			}
			return ErrFull
		}
		out = append(out, one)
	}
	for _, o := range out {
		o.taken = true
		o.answer <- Answer[R]{Err: ErrFull}
	}
	c.joined++
	u.number = c.joined
	c.line.add(u)
	c.start()
	return nil
}

// leave takes u out of the line, and reports whether it was still there.
func (c *Committer[T, R]) leave(u *unit[T, R]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.taken {
		return false
	}
	if c.line.remove(u) {
		c.idle.Broadcast()
		return true
	}
	// A held unit that waits to rejoin the line is in neither place; its answer comes.
	return false
}

// start sets a transaction to work when there is a free slot; c.mu is held.
func (c *Committer[T, R]) start() {
	if len(c.free) == 0 || c.line.units == 0 {
		return
	}
	slot := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	go c.work(slot)
}

// work commits groups until the line is empty.
func (c *Committer[T, R]) work(slot int) {
	for {
		group := c.take(slot)
		if group == nil {
			return
		}
		c.commit(slot, group)
	}
}

// take takes the next group off the line; nil, and the slot is free again, when
// nobody waits.
func (c *Committer[T, R]) take(slot int) []*unit[T, R] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line.units == 0 {
		c.free = append(c.free, slot)
		c.idle.Broadcast()
		return nil
	}
	group := c.line.take(c.o.MaxUnits, c.o.MaxBytes)
	for _, u := range group {
		u.taken = true
	}
	return group
}

// commit answers every unit of the group. Data at fault is looked for in
// halves, in order, down to the unit that carries it.
func (c *Committer[T, R]) commit(slot int, group []*unit[T, R]) {
	answers, err := c.transact(slot, group)
	for try := 1; isConflict(err) && try < conflictTries; try++ {
		answers, err = c.transact(slot, group)
	}
	switch {
	case err == nil:
		for i, u := range group {
			c.answer(u, answers[i])
		}
	case IsData(err) && len(group) > 1:
		half := len(group) / 2
		c.commit(slot, group[:half])
		c.commit(slot, group[half:])
	default:
		for _, u := range group {
			u.answer <- Answer[R]{Err: err}
		}
	}
}

func (c *Committer[T, R]) answer(u *unit[T, R], a Answer[R]) {
	if !errors.Is(a.Err, ErrHeld) {
		u.answer <- a
		return
	}
	now := time.Now()
	if u.heldSince.IsZero() {
		u.heldSince = now
	}
	if now.Sub(u.heldSince) > c.o.Hold {
		u.answer <- a
		return
	}
	c.mu.Lock()
	c.held++
	c.mu.Unlock()
	// Whoever holds the rows is about to commit; asking again at once would only
	// take the processor from it.
	time.AfterFunc(heldPause, func() { c.rejoin(u) })
}

// heldPause is about as long as a commit takes.
const heldPause = 2 * time.Millisecond

// rejoin puts a held unit back into the line, before all of its key that came after it.
func (c *Committer[T, R]) rejoin(u *unit[T, R]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.line.add(u)
	c.held--
	c.start()
}

func (c *Committer[T, R]) transact(slot int, group []*unit[T, R]) (answers []Answer[R], err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Timeout)
	defer cancel()
	values := make([]T, len(group))
	for i, u := range group {
		values[i] = u.value
	}
	var after committed
	err = pgx.BeginFunc(ctx, c.pool, func(tx pgx.Tx) error {
		answers, err = c.callWrite(context.WithValue(ctx, committedKey{}, &after), tx, slot, values)
		return err
	})
	if err == nil {
		for _, do := range after {
			do()
		}
	}
	return answers, err
}

// committed is what a Write wants done once its transaction is committed.
type committed []func()

type committedKey struct{}

// OnCommit has do called as soon as the transaction of the Write that got ctx is
// committed, before its units are answered: it must not block. When the transaction
// fails do is forgotten. It reports false, and does nothing, outside of a group.
func OnCommit(ctx context.Context, do func()) bool {
	after, ok := ctx.Value(committedKey{}).(*committed)
	if ok {
		*after = append(*after, do)
	}
	return ok
}

func (c *Committer[T, R]) callWrite(ctx context.Context, tx pgx.Tx, slot int, values []T) (answers []Answer[R], err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, p, debug.Stack())
		}
	}()
	answers, err = c.write(ctx, tx, slot, values)
	if err == nil && len(answers) != len(values) {
		err = fmt.Errorf("%w: %d answers for %d units", ErrPanic, len(answers), len(values))
	}
	return answers, err
}

// IsData reports whether the data itself was refused: by Postgres (SQLSTATE
// classes 21, 22, 23 and 54), or by a panic of our own over it. Trying the same
// unit again can never succeed.
func IsData(err error) bool {
	if errors.Is(err, ErrPanic) {
		return true
	}
	state := sqlState(err)
	if len(state) != 5 {
		return false
	}
	switch state[:2] {
	case "21", "22", "23", "54":
		return true
	}
	return false
}

func isConflict(err error) bool {
	state := sqlState(err)
	return errors.Is(err, ErrConflict) || state == "40001" || state == "40P01"
}

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
