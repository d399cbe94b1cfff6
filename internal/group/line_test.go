package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// hundreds is the key of a unit in these tests: 101 and 102 are of one, 201 is of another.
func hundreds(u int) string { return fmt.Sprint(u / 100) }

// run is the units from to to.
func run(from, to int) []int {
	var units []int
	for u := from; u <= to; u++ {
		units = append(units, u)
	}
	return units
}

func TestKeysTakeTurns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		o     Options
		units []int // in the order in which they come
		great int   // from this one on a unit fills a group alone; 0: none does
		want  [][]int
	}{
		{
			"one key goes in order of arrival", Options{MaxUnits: 3}, run(101, 105), 0,
			[][]int{{101, 102, 103}, {104, 105}},
		},
		{
			"who comes behind many is in the next group", Options{MaxUnits: 4}, slices.Concat(run(101, 108), run(201, 202)), 0,
			[][]int{{101, 201, 102, 202}, run(103, 106), {107, 108}},
		},
		{
			"turns go on with the next group", Options{MaxUnits: 3}, slices.Concat(run(101, 104), run(201, 204)), 0,
			[][]int{{101, 201, 102}, {202, 103, 203}, {104, 204}},
		},
		{
			"three keys get the same", Options{MaxUnits: 6}, slices.Concat(run(101, 106), run(201, 204), run(301, 302)), 0,
			[][]int{{101, 201, 301, 102, 202, 302}, {103, 203, 104, 204, 105, 106}},
		},
		{
			"great units go alone and neither wait nor keep others waiting", Options{MaxBytes: 10}, slices.Concat(run(901, 903), run(101, 105)), 900,
			[][]int{{901}, run(101, 105), {902}, {903}},
		},
		{
			"great units of two keys alternate, and small ones come between", Options{MaxBytes: 10, MaxUnits: 2}, slices.Concat(run(901, 902), run(801, 802), run(101, 104)), 800,
			[][]int{{901}, {801}, {101, 102}, {902}, {802}, {103, 104}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &writer{}
				tc.o.InFlight = 1
				size := func(u int) int {
					if tc.great > 0 && u >= tc.great {
						return 10
					}
					return 1
				}
				c := NewFair(&ledger{}, w.write, size, hundreds, tc.o)
				for i, h := range gathered(t, c, w, tc.units...) {
					h.wantAnswer(t, tc.units[i])
				}
				wantEqual(t, "groups", tc.want, w.seen()[1:])
				if c.line.units != 0 || c.line.bytes != 0 || len(c.line.turns) != 0 {
					t.Errorf("an empty line holds %d units of %d bytes and %d keys", c.line.units, c.line.bytes, len(c.line.turns))
				}
			})
		})
	}
}

func TestTheGreatestShareOfAFullLineGivesWay(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		o       Options
		size    func(int) int
		units   []int // in the order in which they come
		refused []int
	}{
		{"a key alone has the whole line", Options{Line: 4}, nil, run(101, 105), []int{105}},
		{"the newest of a flood gives way", Options{Line: 4}, nil, slices.Concat(run(101, 104), run(201, 201)), []int{104}},
		{"until both hold the same", Options{Line: 4}, nil, slices.Concat(run(101, 104), run(201, 203)), []int{103, 104, 203}},
		{"a flood does not come back in", Options{Line: 4}, nil, []int{101, 102, 103, 104, 201, 105, 106}, []int{104, 105, 106}},
		{"whoever holds most gives way", Options{Line: 6}, nil, slices.Concat(run(101, 104), run(201, 202), run(301, 302)), []int{103, 104}},
		{"bytes are shared, too", Options{LineBytes: 10}, func(int) int { return 3 }, slices.Concat(run(101, 104), run(201, 202)), []int{103, 104, 202}},
		{"many small ones do not make a place for what is greater than their share", Options{LineBytes: 10}, func(u int) int {
			return map[bool]int{true: 6, false: 1}[u > 200]
		}, slices.Concat(run(101, 106), run(201, 201)), []int{201}},
		{"a great one makes room for some that are small", Options{LineBytes: 10}, func(u int) int {
			return map[bool]int{true: 8, false: 2}[u < 200]
		}, []int{101, 201, 202, 203}, []int{101}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &writer{}
				tc.o.InFlight, tc.o.Wait = 1, time.Hour
				c := NewFair(&ledger{}, w.write, tc.size, hundreds, tc.o)
				var refused []int
				for i, h := range gathered(t, c, w, tc.units...) {
					<-h.done
					if errors.Is(h.err, ErrFull) {
						refused = append(refused, tc.units[i])
						if h.after != 0 {
							t.Errorf("unit %d was told after %s, want at once", tc.units[i], h.after)
						}
						continue
					}
					h.wantAnswer(t, tc.units[i])
				}
				wantEqual(t, "refused", tc.refused, refused)
			})
		})
	}
}

// A unit that was held is before what its key has sent since, and waits for no more
// than its turn behind the others.
func TestHeldUnitsKeepTheOrderOfTheirKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rows := &held{units: map[int]bool{101: true, 102: true}}
		gate := make(chan struct{})
		l, w := &ledger{}, &writer{answer: rows.answer}
		w.during = func(_ context.Context, units []int) {
			if slices.Contains(units, 999) {
				<-gate
			}
		}
		c := NewFair(l, w.write, nil, hundreds, Options{InFlight: 1, MaxUnits: 3})
		all := map[int]*handed{101: hand(t.Context(), c, 101)}
		<-time.After(heldPause / 2)
		for _, u := range []int{102, 999, 201, 202, 103} {
			all[u] = hand(t.Context(), c, u)
		}
		<-time.After(10 * heldPause)
		rows.release()
		close(gate)
		for u, h := range all {
			h.wantAnswer(t, u)
		}
		wantEqual(t, "transactions", [][]int{{999}, {201, 101, 202}, {102, 103}}, l.all())
	})
}

// A key whose only unit leaves has no turn any more.
func TestACallerWhoLeavesGivesUpTheTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, w := &ledger{}, &writer{gate: make(chan struct{})}
		c := NewFair(l, w.write, nil, hundreds, Options{InFlight: 1, MaxUnits: 2})
		ctx, cancel := context.WithCancel(t.Context())
		first := hand(t.Context(), c, 101)
		leaving := hand(ctx, c, 201)
		stays := []*handed{hand(t.Context(), c, 102), hand(t.Context(), c, 301)}
		cancel()
		leaving.wantError(t, context.Canceled)
		close(w.gate)
		first.wantAnswer(t, 101)
		stays[0].wantAnswer(t, 102)
		stays[1].wantAnswer(t, 301)
		wantEqual(t, "transactions", [][]int{{101}, {102, 301}}, l.all())
	})
}

// Nobody gives way in vain: either there is room for the newcomer afterwards, or all
// stay that were there.
func TestNobodyGivesWayInVain(t *testing.T) {
	t.Parallel()
	size := func(u int) int {
		if u == 301 {
			return 45
		}
		return 5
	}
	c := &Committer[int, int]{
		line: line[int, int]{queues: map[string]*queue[int, int]{}}, o: Options{Line: 100, LineBytes: 100}.withDefaults(), key: hundreds, size: size,
	}
	all := slices.Concat(run(101, 110), run(201, 210))
	var held []*unit[int, int]
	for _, v := range all {
		u := &unit[int, int]{value: v, size: size(v), answer: make(chan Answer[int], 1)}
		if err := c.join(u); err != nil {
			t.Fatal(err)
		}
		held = append(held, u)
	}
	if err := c.join(&unit[int, int]{value: 301, size: size(301), answer: make(chan Answer[int], 1)}); !errors.Is(err, ErrFull) {
		t.Errorf("joined: %v", err)
	}
	for _, u := range held {
		if u.taken || len(u.answer) > 0 {
			t.Errorf("unit %d was put out", u.value)
		}
	}
	var left []int
	for _, u := range c.line.take(100, 1000) {
		left = append(left, u.value)
	}
	slices.Sort(left)
	if !slices.Equal(left, all) {
		t.Errorf("%v are in the line, want %v", left, all)
	}
}
