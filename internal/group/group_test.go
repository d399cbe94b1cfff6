package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ledger stands for a database: it keeps what was committed, by transaction. The
// tests below are about which units share one, and need no SQL for that;
// postgres_test.go has those that do.
type ledger struct {
	mu        sync.Mutex
	committed [][]int
	begin     error // of every Begin
	commit    error // of every Commit
}

func (l *ledger) Begin(context.Context) (pgx.Tx, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begin != nil {
		return nil, l.begin
	}
	return &entry{ledger: l}, nil
}

func (l *ledger) all() [][]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.committed)
}

// entry is a transaction of a ledger. Whatever else of pgx.Tx is called panics.
type entry struct {
	pgx.Tx
	ledger *ledger
	values []int
	closed bool
}

func (e *entry) Commit(context.Context) error {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	e.closed = true
	if e.ledger.commit != nil {
		return e.ledger.commit
	}
	if len(e.values) > 0 {
		e.ledger.committed = append(e.ledger.committed, e.values)
	}
	return nil
}

func (e *entry) Rollback(context.Context) error {
	if e.closed {
		return pgx.ErrTxClosed
	}
	e.closed = true
	return nil
}

// writer is a Write that notes its calls and does what it is told.
type writer struct {
	mu      sync.Mutex
	calls   [][]int
	slots   []int
	running map[int]bool // by slot
	most    int          // that ran at one time

	gate   chan struct{}                                    // each call takes one; nil: none has to
	fail   func(call int, units []int) error                // of the whole call
	answer func(unit int) error                             // of one unit
	during func(ctx context.Context, units []int)           // while the transaction is open
	reply  func(units []int, a []Answer[int]) []Answer[int] // what the answers become
}

func (w *writer) write(ctx context.Context, tx pgx.Tx, slot int, units []int) ([]Answer[int], error) {
	call := w.enter(slot, units)
	defer w.leave(slot)
	if w.gate != nil {
		<-w.gate
	}
	if w.during != nil {
		w.during(ctx, units)
	}
	if w.fail != nil {
		if err := w.fail(call, units); err != nil {
			return nil, err
		}
	}
	answers := make([]Answer[int], len(units))
	for i, u := range units {
		if w.answer != nil {
			answers[i].Err = w.answer(u)
		}
		if answers[i].Err == nil {
			answers[i].Value = -u
			e := tx.(*entry)
			e.values = append(e.values, u)
		}
	}
	if w.reply != nil {
		answers = w.reply(units, answers)
	}
	return answers, ctx.Err()
}

func (w *writer) enter(slot int, units []int) (call int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil {
		w.running = map[int]bool{}
	}
	if w.running[slot] {
		panic(fmt.Sprintf("slot %d is in use", slot))
	}
	w.running[slot] = true
	w.most = max(w.most, len(w.running))
	w.calls = append(w.calls, slices.Clone(units))
	w.slots = append(w.slots, slot)
	return len(w.calls)
}

func (w *writer) leave(slot int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, slot)
}

func (w *writer) seen() [][]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// handed is a unit on its way.
type handed struct {
	value int
	err   error
	after time.Duration
	done  chan struct{}
}

// hand gives a unit to c and returns once it stands in line or further. For a
// synctest bubble only.
func hand(ctx context.Context, c *Committer[int, int], v int) *handed {
	h := &handed{done: make(chan struct{})}
	start := time.Now()
	go func() {
		defer close(h.done)
		h.value, h.err = c.Do(ctx, v)
		h.after = time.Since(start)
	}()
	synctest.Wait()
	return h
}

func (h *handed) wantAnswer(t *testing.T, unit int) {
	t.Helper()
	<-h.done
	if h.err != nil || h.value != -unit {
		t.Errorf("unit %d was answered %d, %v, want %d", unit, h.value, h.err, -unit)
	}
}

func (h *handed) wantError(t *testing.T, want error) {
	t.Helper()
	<-h.done
	if !errors.Is(h.err, want) {
		t.Errorf("error %v, want %v", h.err, want)
	}
}

// gathered makes one group of units: it holds up a first transaction, of the
// unit 0, until all of them wait. o.InFlight must be 1.
func gathered(t *testing.T, c *Committer[int, int], w *writer, units ...int) []*handed {
	t.Helper()
	w.gate = make(chan struct{}, 1)
	first := hand(t.Context(), c, 0)
	var all []*handed
	for _, u := range units {
		all = append(all, hand(t.Context(), c, u))
	}
	close(w.gate)
	first.wantAnswer(t, 0)
	return all
}

func state(code string) error { return fmt.Errorf("write: %w", &pgconn.PgError{Code: code}) }

// wantEqual compares whole values.
func wantEqual(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func upTo(n int) []int {
	units := make([]int, n)
	for i := range units {
		units[i] = i + 1
	}
	return units
}

func TestIdleAddsNoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{}
		c := New(l, w.write, nil, Options{})
		start := time.Now()
		for _, u := range upTo(3) {
			if v, err := c.Do(t.Context(), u); err != nil || v != -u {
				t.Errorf("unit %d was answered %d, %v", u, v, err)
			}
		}
		wantEqual(t, "transactions", [][]int{{1}, {2}, {3}}, l.all())
		if waited := time.Since(start); waited != 0 {
			t.Errorf("three units on an idle system took %s, want no time", waited)
		}
	})
}

func TestUnitsGatherWhileGroupsAreInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{gate: make(chan struct{})}
		c := New(l, w.write, nil, Options{InFlight: 2})
		var all []*handed
		for _, u := range upTo(12) {
			all = append(all, hand(t.Context(), c, u))
		}
		wantEqual(t, "groups before the first commit", [][]int{{1}, {2}}, w.seen())

		w.gate <- struct{}{}
		synctest.Wait()
		wantEqual(t, "groups after the first commit", [][]int{{1}, {2}, {3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, w.seen())
		close(w.gate)
		for i, h := range all {
			h.wantAnswer(t, i+1)
		}
		c.Wait()
		if w.most != 2 {
			t.Errorf("%d transactions at one time, want 2", w.most)
		}
		slices.Sort(w.slots[:2])
		wantEqual(t, "slots of the first two", []int{0, 1}, w.slots[:2])
	})
}

func TestAGroupIsBounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		o     Options
		sizes []int
		want  []int // units per group
	}{
		{"at most MaxUnits are together", Options{MaxUnits: 3}, []int{1, 1, 1, 1, 1, 1, 1}, []int{3, 3, 1}},
		{"at most MaxBytes are together", Options{MaxBytes: 8}, []int{4, 4, 4, 4, 1}, []int{2, 2, 1}},
		{"a greater unit is alone", Options{MaxBytes: 8}, []int{4, 9, 4}, []int{1, 1, 1}},
		{"a unit of exactly MaxBytes is alone", Options{MaxBytes: 8}, []int{8, 1}, []int{1, 1}},
		{"a small unit does not overtake a great one", Options{MaxBytes: 8}, []int{4, 8, 4}, []int{1, 1, 1}},
		{"units without a size are bounded by their number", Options{MaxBytes: 8, MaxUnits: 256}, make([]int, 300), []int{256, 44}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &writer{}
				tc.o.InFlight = 1
				size := func(u int) int { return append([]int{0}, tc.sizes...)[u] }
				c := New(&ledger{}, w.write, size, tc.o)
				for i, h := range gathered(t, c, w, upTo(len(tc.sizes))...) {
					h.wantAnswer(t, i+1)
				}
				var got, order []int
				for _, group := range w.seen()[1:] {
					got, order = append(got, len(group)), append(order, group...)
				}
				wantEqual(t, "units per group", tc.want, got)
				wantEqual(t, "order", upTo(len(tc.sizes)), order)
			})
		})
	}
}

func TestAFullLineIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{gate: make(chan struct{})}
		c := New(l, w.write, nil, Options{InFlight: 1, Line: 2})
		all := []*handed{hand(t.Context(), c, 1), hand(t.Context(), c, 2), hand(t.Context(), c, 3)}
		refused := hand(t.Context(), c, 4)
		refused.wantError(t, ErrFull)
		if refused.after != 0 {
			t.Errorf("told after %s, want at once", refused.after)
		}
		close(w.gate)
		for i, h := range all {
			h.wantAnswer(t, i+1)
		}
		// There is room again.
		hand(t.Context(), c, 5).wantAnswer(t, 5)
		wantEqual(t, "transactions", [][]int{{1}, {2, 3}, {5}}, l.all())
	})
}

func TestTheLineIsBoundedInBytesToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writer{gate: make(chan struct{})}
		c := New(&ledger{}, w.write, func(u int) int { return u }, Options{InFlight: 1, LineBytes: 10})
		// A unit greater than the whole line is taken when nobody waits: else it never would be.
		all := []*handed{hand(t.Context(), c, 100), hand(t.Context(), c, 6)}
		hand(t.Context(), c, 5).wantError(t, ErrFull)
		all = append(all, hand(t.Context(), c, 4))
		hand(t.Context(), c, 1).wantError(t, ErrFull)
		close(w.gate)
		for _, h := range all {
			<-h.done
			if h.err != nil {
				t.Error(h.err)
			}
		}
		// What left the line weighs nothing in it any more.
		hand(t.Context(), c, 10).wantAnswer(t, 10)
	})
}

func TestAUnitDoesNotStandInLineForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{gate: make(chan struct{})}
		c := New(l, w.write, func(int) int { return 1 }, Options{InFlight: 1, Wait: 2 * time.Second, Timeout: time.Minute})
		first := hand(t.Context(), c, 1)
		late := hand(t.Context(), c, 2)
		late.wantError(t, ErrFull)
		if late.after != 2*time.Second {
			t.Errorf("gave up after %s, want 2 s", late.after)
		}
		if c.line.bytes != 0 {
			t.Errorf("%d bytes stand in an empty line", c.line.bytes)
		}
		// The first was taken in time; it is answered however long its commit takes.
		close(w.gate)
		first.wantAnswer(t, 1)
		c.Wait()
		wantEqual(t, "transactions", [][]int{{1}}, l.all())
	})
}

func TestACallerWhoLeavesTakesItsUnitAlong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{gate: make(chan struct{})}
		c := New(l, w.write, nil, Options{InFlight: 1})
		ctx, cancel := context.WithCancel(t.Context())
		first, leaving, last := hand(t.Context(), c, 1), hand(ctx, c, 2), hand(t.Context(), c, 3)
		cancel()
		leaving.wantError(t, context.Canceled)
		close(w.gate)
		first.wantAnswer(t, 1)
		last.wantAnswer(t, 3)
		wantEqual(t, "transactions", [][]int{{1}, {3}}, l.all())
	})
}

func TestACallerWhoLeavesDoesNotBreakTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{gate: make(chan struct{})}
		c := New(l, w.write, nil, Options{InFlight: 1})
		ctx, cancel := context.WithCancel(t.Context())
		first, leaving, stays := hand(t.Context(), c, 1), hand(ctx, c, 2), hand(t.Context(), c, 3)
		w.gate <- struct{}{}
		first.wantAnswer(t, 1)
		synctest.Wait() // 2 and 3 are in flight

		cancel()
		leaving.wantError(t, context.Canceled)
		close(w.gate)
		stays.wantAnswer(t, 3)
		wantEqual(t, "transactions", [][]int{{1}, {2, 3}}, l.all())
	})
}

func TestDataAtFaultIsLookedForInHalves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poison := map[int]bool{3: true}
		l, w := &ledger{}, &writer{fail: failOn(poison, state("22021"))}
		c := New(l, w.write, nil, Options{InFlight: 1})
		all := gathered(t, c, w, 1, 2, 3, 4)
		for i, h := range all {
			if poison[i+1] {
				<-h.done
				if !IsData(h.err) {
					t.Errorf("unit %d: error %v, want that of its data", i+1, h.err)
				}
				continue
			}
			h.wantAnswer(t, i+1)
		}
		wantEqual(t, "calls", [][]int{{0}, {1, 2, 3, 4}, {1, 2}, {3, 4}, {3}, {4}}, w.seen())
		wantEqual(t, "transactions", [][]int{{0}, {1, 2}, {4}}, l.all())
	})
}

func TestSeveralAtFaultAreEachFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		poison := map[int]bool{1: true, 7: true, 8: true, 20: true}
		l, w := &ledger{}, &writer{fail: failOn(poison, state("23505"))}
		c := New(l, w.write, nil, Options{InFlight: 1})
		for i, h := range gathered(t, c, w, upTo(20)...) {
			<-h.done
			if (h.err != nil) != poison[i+1] {
				t.Errorf("unit %d: error %v", i+1, h.err)
			}
		}
		want := []int{0}
		for _, u := range upTo(20) {
			if !poison[u] {
				want = append(want, u)
			}
		}
		wantEqual(t, "committed, in order", want, slices.Concat(l.all()...))
	})
}

// failOn fails each call that holds one of units.
func failOn(units map[int]bool, err error) func(int, []int) error {
	return func(_ int, got []int) error {
		if slices.ContainsFunc(got, func(u int) bool { return units[u] }) {
			return err
		}
		return nil
	}
}

func TestDataCanBeAtFaultAtTheCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{}
		c := New(l, w.write, nil, Options{InFlight: 1})
		w.during = func(_ context.Context, units []int) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.commit = nil
			if slices.Contains(units, 2) {
				l.commit = state("23503") // a deferred constraint
			}
		}
		all := gathered(t, c, w, 1, 2, 3, 4)
		for _, i := range []int{0, 2, 3} {
			all[i].wantAnswer(t, i+1)
		}
		<-all[1].done
		if !IsData(all[1].err) {
			t.Errorf("error %v, want that of the data", all[1].err)
		}
		wantEqual(t, "transactions", [][]int{{0}, {1}, {3, 4}}, l.all())
	})
}

func TestAConflictIsTriedAgainAsAWhole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		err       error
		conflicts int
		fails     bool
	}{
		{"a row was there before us", ErrConflict, 1, false},
		{"a serialization failure", state("40001"), 1, false},
		{"a deadlock", state("40P01"), 1, false},
		{"as many as are borne", fmt.Errorf("store: %w", ErrConflict), conflictTries - 1, false},
		{"one more is the end", state("40001"), conflictTries, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, w := &ledger{}, &writer{}
				w.fail = func(call int, _ []int) error {
					if call > 1 && call <= 1+tc.conflicts {
						return tc.err
					}
					return nil
				}
				c := New(l, w.write, nil, Options{InFlight: 1})
				all := gathered(t, c, w, 1, 2, 3)
				wantCalls := [][]int{{0}}
				for range min(tc.conflicts+1, conflictTries) {
					wantCalls = append(wantCalls, []int{1, 2, 3})
				}
				for i, h := range all {
					if tc.fails {
						h.wantError(t, tc.err)
						continue
					}
					h.wantAnswer(t, i+1)
				}
				wantEqual(t, "calls", wantCalls, w.seen())
			})
		})
	}
}

// A half of a group whose data was at fault may meet a conflict of its own.
func TestAConflictWithinAHalfIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{}
		conflicts := 1
		w.fail = func(_ int, units []int) error {
			switch {
			case slices.Contains(units, 1):
				return state("22003")
			case slices.Contains(units, 3) && conflicts > 0:
				conflicts--
				return state("40P01")
			}
			return nil
		}
		c := New(l, w.write, nil, Options{InFlight: 1})
		all := gathered(t, c, w, 1, 2, 3, 4)
		for i, h := range all[1:] {
			h.wantAnswer(t, i+2)
		}
		wantEqual(t, "calls", [][]int{{0}, {1, 2, 3, 4}, {1, 2}, {1}, {2}, {3, 4}, {3, 4}}, w.seen())
	})
}

func TestAnyOtherErrorFailsAllAtOnce(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection reset by peer")
	for _, tc := range []struct {
		name string
		err  error
	}{
		{"a lock that was not had in time", state("55P03")},
		{"a statement that took too long", state("57014")},
		{"no room for a connection", state("53300")},
		{"no space on the disk", state("53100")},
		{"a statement that is wrong", state("42601")},
		{"a refusal of our own", state("P0001")},
		{"a connection that broke", broken},
		{"an error with half a code", state("22")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, w := &ledger{}, &writer{fail: failOn(map[int]bool{2: true}, tc.err)}
				c := New(l, w.write, nil, Options{InFlight: 1})
				for _, h := range gathered(t, c, w, 1, 2, 3) {
					h.wantError(t, tc.err)
				}
				wantEqual(t, "calls", [][]int{{0}, {1, 2, 3}}, w.seen())
				wantEqual(t, "transactions", [][]int{{0}}, l.all())
			})
		})
	}
	t.Run("a commit without an answer", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := &writer{}
			c := New(&ledger{commit: broken}, w.write, nil, Options{InFlight: 1})
			hand(t.Context(), c, 1).wantError(t, broken)
			wantEqual(t, "calls", [][]int{{1}}, w.seen())
		})
	})
	t.Run("a transaction that cannot begin", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := &writer{}
			c := New(&ledger{begin: broken}, w.write, nil, Options{InFlight: 1})
			hand(t.Context(), c, 1).wantError(t, broken)
			wantEqual(t, "calls", [][]int(nil), w.seen())
		})
	})
}

func TestATransactionIsGivenUpAfterTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &writer{during: func(ctx context.Context, _ []int) { <-ctx.Done() }}
		c := New(&ledger{}, w.write, nil, Options{Timeout: 10 * time.Second})
		h := hand(t.Context(), c, 1)
		h.wantError(t, context.DeadlineExceeded)
		if h.after != 10*time.Second {
			t.Errorf("given up after %s, want 10 s", h.after)
		}
	})
}

func TestAPanicStaysWithItsUnit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{}
		w.during = func(_ context.Context, units []int) {
			if slices.Contains(units, 2) {
				panic("index out of range")
			}
		}
		c := New(l, w.write, nil, Options{InFlight: 1})
		all := gathered(t, c, w, 1, 2, 3)
		all[0].wantAnswer(t, 1)
		all[2].wantAnswer(t, 3)
		all[1].wantError(t, ErrPanic)
		if text := all[1].err.Error(); !strings.Contains(text, "index out of range") || !strings.Contains(text, "group_test.go") {
			t.Errorf("the error does not say what happened where: %s", text)
		}
		// Whoever comes next is served.
		hand(t.Context(), c, 4).wantAnswer(t, 4)
		wantEqual(t, "committed", []int{0, 1, 3, 4}, slices.Concat(l.all()...))
	})
}

func TestAWrongNumberOfAnswersIsAFaultOfTheWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		w := &writer{reply: func(units []int, a []Answer[int]) []Answer[int] {
			if slices.Contains(units, 2) {
				return a[1:]
			}
			return a
		}}
		c := New(l, w.write, nil, Options{InFlight: 1})
		all := gathered(t, c, w, 1, 2, 3)
		all[1].wantError(t, ErrPanic)
		all[0].wantAnswer(t, 1)
		all[2].wantAnswer(t, 3)
		wantEqual(t, "committed", []int{0, 1, 3}, slices.Concat(l.all()...))
	})
}

func TestAUnitCanFailAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("its row is gone")
		l := &ledger{}
		w := &writer{answer: func(u int) error {
			if u == 2 {
				return gone
			}
			return nil
		}}
		c := New(l, w.write, nil, Options{InFlight: 1})
		all := gathered(t, c, w, 1, 2, 3)
		all[0].wantAnswer(t, 1)
		all[1].wantError(t, gone)
		all[2].wantAnswer(t, 3)
		wantEqual(t, "transactions", [][]int{{0}, {1, 3}}, l.all())
	})
}

// held answers ErrHeld for units until it is opened.
type held struct {
	mu    sync.Mutex
	units map[int]bool
}

func (h *held) answer(u int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.units[u] {
		return ErrHeld
	}
	return nil
}

func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.units = nil
}

func TestAHeldUnitGoesToTheNextGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &held{units: map[int]bool{2: true}}
		l, w := &ledger{}, &writer{answer: rows.answer}
		c := New(l, w.write, nil, Options{InFlight: 1})
		all := gathered(t, c, w, 1, 2, 3)
		all[0].wantAnswer(t, 1)
		all[2].wantAnswer(t, 3)
		select {
		case <-all[1].done:
			t.Fatalf("the held unit was answered %d, %v", all[1].value, all[1].err)
		default:
		}
		rows.release()
		all[1].wantAnswer(t, 2)
		wantEqual(t, "transactions", [][]int{{0}, {1, 3}, {2}}, l.all())
	})
}

func TestAHeldUnitFailsAloneInTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &held{units: map[int]bool{2: true}}
		l, w := &ledger{}, &writer{answer: rows.answer}
		c := New(l, w.write, nil, Options{InFlight: 1, Hold: 5 * time.Second})
		all := gathered(t, c, w, 1, 2)
		all[0].wantAnswer(t, 1)
		all[1].wantError(t, ErrHeld)
		if got := all[1].after; got < 5*time.Second || got > 5*time.Second+2*heldPause {
			t.Errorf("failed after %s, want 5 s", got)
		}
		c.Wait()
		wantEqual(t, "transactions", [][]int{{0}, {1}}, l.all())
	})
}

// Held units come back in the order they came in, before those that came later.
func TestHeldUnitsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &held{units: map[int]bool{1: true, 2: true}}
		gate := make(chan struct{})
		l, w := &ledger{}, &writer{answer: rows.answer}
		w.during = func(_ context.Context, units []int) {
			if slices.Contains(units, 3) {
				<-gate
			}
		}
		c := New(l, w.write, nil, Options{InFlight: 1})
		// One after the other is held, so that they come back one after the other,
		// while 3 is under way.
		first := hand(t.Context(), c, 1)
		<-time.After(heldPause / 2)
		second := hand(t.Context(), c, 2)
		third := hand(t.Context(), c, 3)
		<-time.After(10 * heldPause)
		last := hand(t.Context(), c, 4)
		rows.release()
		close(gate)
		for u, h := range []*handed{first, second, third, last} {
			h.wantAnswer(t, u+1)
		}
		wantEqual(t, "transactions", [][]int{{3}, {1, 2, 4}}, l.all())
	})
}

func TestTheCallerOfAHeldUnitMayLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &held{units: map[int]bool{1: true}}
		l, w := &ledger{}, &writer{answer: rows.answer}
		c := New(l, w.write, nil, Options{InFlight: 1})
		ctx, cancel := context.WithCancel(t.Context())
		h := hand(ctx, c, 1)
		cancel()
		h.wantError(t, context.Canceled)
		rows.release()
		c.Wait()
		wantEqual(t, "transactions", [][]int{{1}}, l.all())
	})
}

func TestWaitReturnsWhenNothingIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &held{units: map[int]bool{3: true}}
		w := &writer{gate: make(chan struct{}), answer: rows.answer}
		c := New(&ledger{}, w.write, nil, Options{InFlight: 1})
		c.Wait() // nothing was handed over yet

		ended := make(chan struct{})
		hand(t.Context(), c, 1)
		hand(t.Context(), c, 2)
		h := hand(t.Context(), c, 3)
		go func() { defer close(ended); c.Wait() }()
		for _, when := range []string{"one is in flight and two wait", "the second group is in flight"} {
			synctest.Wait()
			select {
			case <-ended:
				t.Fatalf("Wait returned while %s", when)
			default:
			}
			w.gate <- struct{}{}
		}
		// Group {2, 3} is committed but for 3, which is held: neither in the line nor in flight.
		synctest.Wait()
		select {
		case <-ended:
			t.Fatal("Wait returned while a held unit was on its way back to the line")
		default:
		}
		rows.release()
		close(w.gate)
		<-ended
		h.wantAnswer(t, 3)
	})
}

func TestIsData(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  error
		want bool
	}{
		{"cardinality", state("21000"), true},
		{"an invalid byte", state("22021"), true},
		{"a value out of range", state("22003"), true},
		{"not unique", state("23505"), true},
		{"a check", state("23514"), true},
		{"an index entry too long", state("54000"), true},
		{"a panic", fmt.Errorf("write: %w", ErrPanic), true},
		{"a deadlock", state("40P01"), false},
		{"out of memory", state("53200"), false},
		{"a missing table", state("42P01"), false},
		{"a conflict", ErrConflict, false},
		{"another error", errors.New("22021"), false},
		{"none", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := IsData(tc.err); got != tc.want {
				t.Errorf("IsData(%v) = %v, want %v", tc.err, got, tc.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	want := Options{
		MaxUnits: 256, MaxBytes: 1 << 20, InFlight: 2, Line: 4096, LineBytes: 64 << 20,
		Wait: 2 * time.Second, Hold: 5 * time.Second, Timeout: 10 * time.Second,
	}
	wantEqual(t, "zero values", want, Options{}.withDefaults())
	wantEqual(t, "set values", Options{MaxUnits: 1, MaxBytes: 2, InFlight: 3, Line: 4, LineBytes: 5, Wait: 6, Hold: 7, Timeout: 8},
		Options{MaxUnits: 1, MaxBytes: 2, InFlight: 3, Line: 4, LineBytes: 5, Wait: 6, Hold: 7, Timeout: 8}.withDefaults())
}
