package memorytest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

func eachChange(t *testing.T, d *desk) {
	d.start(t)
	rows := d.add(t, "as it was", 4)
	d.settle(t)
	d.holds(t, rows...)
	d.alike(t)

	changed := saying(rows[1], "as it is")
	d.write(t, updated(rows[1], changed), deleted(rows[2]))
	d.settle(t)
	d.holds(t, rows[0], changed, rows[3])
	d.alike(t)

	// One that expires is copied, too, and a time that is another is a change.
	soon := time.Now().Add(48 * time.Hour).Truncate(time.Microsecond)
	brief := saying(rows[3], "not for long")
	brief.ExpiresAt = &soon
	d.write(t, updated(rows[3], brief))
	d.settle(t)
	longer := *brief
	later := soon.Add(72 * time.Hour)
	longer.ExpiresAt = &later
	before := d.changes()
	d.write(t, updated(brief, &longer))
	d.settle(t)
	if d.s.Server != nil && d.changes() == before {
		t.Error("that it lives longer was told to nobody")
	}
	d.alike(t)
}

func (d *desk) changes() int {
	if d.s.Server == nil {
		return 0
	}
	return d.s.Server.Changes()
}

// anyOrder draws what happens to some memories by lot while two nodes work.
func anyOrder(t *testing.T, d *desk) {
	d.start(t)
	d.start(t)
	var mu sync.Mutex
	all := map[uuid.UUID]*memory.Row{}
	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() {
			mine, err := d.wander(t.Context(), writer, 40)
			if err != nil {
				t.Errorf("write to the memory: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			for id, r := range mine {
				all[id] = r
			}
		})
	}
	wg.Wait()
	d.settle(t)
	d.holds(t, values(all)...)
	d.alike(t)
}

// wander makes steps, each an addition, an update, an update back, or a deletion of
// one of at most five memories. It returns those that are left.
func (d *desk) wander(ctx context.Context, writer, steps int) (map[uuid.UUID]*memory.Row, error) {
	mine := map[uuid.UUID]*memory.Row{}
	var was *memory.Row // as one of them was before its last update
	for step := range steps {
		text := fmt.Sprintf("writer %d, step %d", writer, step)
		picked := pick(mine)
		var change memory.Change
		switch lot := rand.IntN(10); {
		case picked == nil || (lot < 3 && len(mine) < 5):
			change = added(row(text))
		case lot < 7:
			was = picked
			change = updated(picked, saying(picked, text))
		case lot < 8 && was != nil && mine[was.ID] != nil && mine[was.ID] != was:
			// Back to what it was: a copy that holds this may be there, or not.
			change = updated(mine[was.ID], saying(was, was.Content))
		default:
			change = deleted(picked)
		}
		if err := d.tryWrite(ctx, change); err != nil {
			return mine, err
		}
		if change.After != nil {
			mine[change.After.ID] = change.After
		} else {
			delete(mine, change.Before.ID)
		}
	}
	return mine, nil
}

func pick(rows map[uuid.UUID]*memory.Row) *memory.Row {
	for _, r := range rows { // in no order
		return r
	}
	return nil
}

// manyChanges writes 600 memories, changes 400 and deletes 200 of them, while two
// nodes work and others come and go.
func manyChanges(t *testing.T, d *desk) {
	d.start(t)
	leaves := d.start(t)
	left := map[uuid.UUID]*memory.Row{}
	for n := range 12 {
		rows := d.add(t, fmt.Sprint("of the first hour, ", n), 50)
		for i, r := range rows {
			left[r.ID] = r
			if i%3 < 2 {
				changed := saying(r, fmt.Sprintf("of the second hour, %d %d", n, i))
				d.write(t, updated(r, changed))
				left[r.ID] = changed
			}
			if i%3 == 0 {
				d.write(t, deleted(left[r.ID]))
				delete(left, r.ID)
			}
		}
		if n == 6 {
			leaves()
			d.start(t)
		}
	}
	d.settle(t)
	d.holds(t, values(left)...)
	d.alike(t)
}

func neverCopied(t *testing.T, d *desk) {
	rows := d.add(t, "gone before anybody looked", 3)
	for _, r := range rows {
		d.write(t, deleted(r))
	}
	d.start(t)
	d.settle(t)
	d.holds(t)
	if n := d.changes(); n != 0 {
		t.Errorf("%d calls for what never was copied", n)
	}
	d.until(t, "the lanes are gone", `SELECT NOT EXISTS (SELECT FROM mirrors)`)
	d.alike(t)
}

func lostAnswer(t *testing.T, d *desk) {
	d.start(t)
	d.s.Server.Lose(3)
	rows := d.add(t, "answered in vain", 5)
	d.settle(t)
	d.holds(t, rows...)
	d.alike(t)

	// One that changes before anybody knows whether it was copied.
	d.s.Server.Lose(1)
	r := d.add(t, "answered in vain, and changed", 1)[0]
	d.until(t, "it was tried", `SELECT EXISTS (SELECT FROM mirrors WHERE memory_id = $1 AND (tried_at IS NOT NULL OR status = 'synced'))`, r.ID)
	changed := saying(r, "changed")
	d.write(t, updated(r, changed))
	d.settle(t)
	d.alike(t)

	// And one that goes.
	d.s.Server.Lose(1)
	r = d.add(t, "answered in vain, and gone", 1)[0]
	d.until(t, "it was tried", `SELECT EXISTS (SELECT FROM mirrors WHERE memory_id = $1 AND (tried_at IS NOT NULL OR status = 'synced'))`, r.ID)
	d.write(t, deleted(r))
	d.settle(t)
	d.holds(t, append(rows, changed)...)
	d.alike(t)
}

func outage(t *testing.T, d *desk) {
	d.start(t)
	d.start(t)
	kept := d.add(t, "before the outage", 20)
	d.settle(t)

	d.s.Server.Outage(true)
	before := d.s.Server.Changes()
	changed := saying(kept[0], "changed in the outage")
	d.write(t, updated(kept[0], changed), deleted(kept[1]))
	during := d.add(t, "in the outage", 60)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d.untilOpen(ctx, t)
	// Nobody's time passes here: lanes wait for the next probe.
	d.quietly(t, "every lane has met the outage", `SELECT NOT EXISTS (SELECT FROM mirrors WHERE status <> 'synced' AND last_error = '')`)
	// Five failures open the breaker; each worker may have had a call under way.
	if n := d.s.Server.Changes() - before; n > 40 {
		t.Errorf("%d calls to a system that is away, of 62 changes", n)
	}
	var dead int
	if err := d.s.Pool.QueryRow(ctx, `SELECT count(*) FROM mirrors WHERE status = 'dead' OR failures > 0`).Scan(&dead); err != nil || dead != 0 {
		t.Errorf("%d lanes were blamed for the outage (%v)", dead, err)
	}

	d.s.Server.Outage(false)
	d.settle(t)
	d.holds(t, append(append(kept[2:], changed), during...)...)
	d.alike(t)
}

// untilOpen waits until the breaker is open.
func (d *desk) untilOpen(ctx context.Context, t *testing.T) {
	t.Helper()
	d.poll(ctx, t, "the breaker is open", `SELECT EXISTS (SELECT FROM breakers WHERE open_until IS NOT NULL)`)
}

// quietly waits until the query says true and lets no time pass.
func (d *desk) quietly(t *testing.T, what, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d.poll(ctx, t, what, query)
}

func (d *desk) poll(ctx context.Context, t *testing.T, what, query string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		if err := d.s.Pool.QueryRow(ctx, query).Scan(&ok); err != nil {
			t.Fatalf("waiting until %s: %v; lanes:\n%s", what, err, d.lanes(t))
		}
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s; lanes:\n%s", what, d.lanes(t))
		}
	}
}

func refused(t *testing.T, d *desk) {
	d.start(t)
	relent := d.s.Server.Refuse("unspeakable")
	bad := row("something unspeakable")
	d.write(t, added(bad))
	good := d.add(t, "something fine", 10)
	d.until(t, "it is given up", `SELECT EXISTS (SELECT FROM mirrors WHERE memory_id = $1 AND status = 'dead' AND last_error <> '')`, bad.ID)
	d.settle(t)
	copies := d.copies()
	if len(copies) != len(good) || copies[bad.ID] != nil {
		t.Errorf("%d memories are copied, want the other %d", len(copies), len(good))
	}

	// It is tried again when it changes.
	d.write(t, updated(bad, saying(bad, "something else")))
	d.until(t, "it is copied", `SELECT EXISTS (SELECT FROM mirrors WHERE memory_id = $1 AND status = 'synced')`, bad.ID)
	relent()
	d.settle(t)
	d.alike(t)
}

func changedMeanwhile(t *testing.T, d *desk) {
	d.start(t)
	for _, first := range []string{"added", "updated"} {
		var at <-chan struct{}
		var release func()
		r := row("as it was when it was " + first)
		if first == "updated" {
			d.write(t, added(r))
			d.settle(t)
			before := r
			r = saying(r, "as it became")
			at, release = d.s.Server.Hold()
			d.write(t, updated(before, r))
		} else {
			at, release = d.s.Server.Hold()
			d.write(t, added(r))
		}
		arrives(t, at)
		d.write(t, updated(r, saying(r, "as it is since its call was under way")))
		release()
		d.settle(t)
		d.alike(t)
	}
}

func deletedMeanwhile(t *testing.T, d *desk) {
	d.start(t)
	at, release := d.s.Server.Hold()
	r := d.add(t, "gone since its call was under way", 1)[0]
	arrives(t, at)
	d.write(t, deleted(r))
	release()
	d.settle(t)
	d.holds(t)
	d.alike(t)
}

// arrives waits for a call.
func arrives(t *testing.T, at <-chan struct{}) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case <-at:
	case <-deadline.C:
		t.Fatal("waited in vain for a call")
	}
}
