// Package memorytest holds the contract of a memory backend: whatever is written to
// the memory is, after a while, what the backend has, each memory once, also when
// answers are lost, when the backend is away, and when changes come faster than they
// are carried. In goes a System, out come failed tests.
package memorytest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/memory"
)

// System is one backend with all that makes it follow. Everything in it is the
// test's own.
type System struct {
	Pool   *pgxpool.Pool
	Writer *memory.Writer
	// Server is the other system; nil for a backend that is the database itself.
	Server Server
	// Start starts a node that works what is due, until stop is called or the test ends.
	Start func(t *testing.T) (stop func())
	// Drift is what a resync that changes nothing finds.
	Drift func(t *testing.T) int
}

// Copy is a memory as the other system has it.
type Copy struct {
	ID   uuid.UUID // ours
	Text string
}

// Server is another memory system, looked at from the outside, that fails when told to.
type Server interface {
	// Copies are all copies that are there.
	Copies() []Copy
	// Outage takes the system down, or brings it back.
	Outage(on bool)
	// Lose lets the answers to the next n additions be lost; they have their effect.
	Lose(n int)
	// Refuse has whatever holds text refused, until relent is called.
	Refuse(text string) (relent func())
	// Hold lets the next call that changes something stand still: arrived is closed once
	// it is there, and it goes on when release is called.
	Hold() (arrived <-chan struct{}, release func())
	// Changes is how many calls came that would have changed something, done or not.
	Changes() int
}

// Run runs the contract for the backend that make makes, anew for each test.
func Run(t *testing.T, make func(t *testing.T) System) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *desk){
		"each change is carried":                             eachChange,
		"changes in any order end in the present state":      anyOrder,
		"twelve hundred changes on two nodes":                manyChanges,
		"what was deleted before it was copied calls nobody": neverCopied,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newDesk(make(t)))
		})
	}
	for name, test := range map[string]func(*testing.T, *desk){
		"a lost answer makes no second copy":           lostAnswer,
		"an outage only delays":                        outage,
		"a refused memory stays alone":                 refused,
		"what changes while it is carried ends up new": changedMeanwhile,
		"what goes while it is carried ends up gone":   deletedMeanwhile,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(make(t))
			if d.s.Server == nil {
				t.Skip("the backend is the database: nothing comes between")
			}
			test(t, d)
		})
	}
}

// desk is who writes to the memory.
type desk struct{ s System }

func newDesk(s System) *desk { return &desk{s: s} }

// user is whose memories they are.
const user = "user-1"

// row is a fact that says text.
func row(text string) *memory.Row {
	return &memory.Row{
		ID: uuid.Must(uuid.NewV7()), UserID: user, Kind: "fact", Content: text, Metadata: map[string]any{"said": text},
	}
}

// saying is r as it says something else.
func saying(r *memory.Row, text string) *memory.Row {
	changed := *r
	changed.Content, changed.Metadata = text, map[string]any{"said": text}
	return &changed
}

func added(r *memory.Row) memory.Change { return memory.Change{After: r} }

func updated(before, after *memory.Row) memory.Change {
	return memory.Change{Before: before, After: after}
}
func deleted(r *memory.Row) memory.Change { return memory.Change{Before: r} }

// write writes changes in one transaction.
func (d *desk) write(t *testing.T, changes ...memory.Change) {
	t.Helper()
	if err := d.tryWrite(t.Context(), changes...); err != nil {
		t.Fatalf("write to the memory: %v", err)
	}
}

func (d *desk) tryWrite(ctx context.Context, changes ...memory.Change) error {
	return pgx.BeginFunc(ctx, d.s.Pool, func(tx pgx.Tx) error {
		return d.s.Writer.Write(ctx, tx, memory.Work{Changes: changes})
	})
}

// add writes n memories that say text and their number.
func (d *desk) add(t *testing.T, text string, n int) []*memory.Row {
	t.Helper()
	rows := make([]*memory.Row, n)
	changes := make([]memory.Change, n)
	for i := range rows {
		rows[i] = row(fmt.Sprintf("%s %d", text, i))
		changes[i] = added(rows[i])
	}
	d.write(t, changes...)
	return rows
}

// alike fails the test unless the backend has what the memory holds, each once.
func (d *desk) alike(t *testing.T) {
	t.Helper()
	want := map[uuid.UUID][]string{}
	rows, err := d.s.Pool.Query(t.Context(), `SELECT id, content FROM memories`)
	if err != nil {
		t.Fatal(err)
	}
	var id uuid.UUID
	var text string
	if _, err := pgx.ForEachRow(rows, []any{&id, &text}, func() error { want[id] = append(want[id], text); return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, d.copies()); diff != "" && d.s.Server != nil {
		t.Errorf("memories and copies (-memories +copies):\n%s", diff)
	}
	if d.s.Drift == nil {
		return
	}
	if n := d.s.Drift(t); n != 0 {
		t.Errorf("a resync finds %d differences", n)
	}
}

func (d *desk) copies() map[uuid.UUID][]string {
	if d.s.Server == nil {
		return nil
	}
	copies := map[uuid.UUID][]string{}
	for _, c := range d.s.Server.Copies() {
		copies[c.ID] = append(copies[c.ID], c.Text)
	}
	return copies
}

// holds waits until the memory holds what rows say, which for a backend that is the
// database is at once.
func (d *desk) holds(t *testing.T, rows ...*memory.Row) {
	t.Helper()
	want := map[uuid.UUID]string{}
	for _, r := range rows {
		want[r.ID] = r.Content
	}
	got := map[uuid.UUID]string{}
	found, err := d.s.Pool.Query(t.Context(), `SELECT id, content FROM memories`)
	if err != nil {
		t.Fatal(err)
	}
	var id uuid.UUID
	var text string
	if _, err := pgx.ForEachRow(found, []any{&id, &text}, func() error { got[id] = text; return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the memory (-want +got):\n%s", diff)
	}
}

// patience is how long a test waits for what must come.
const patience = 90 * time.Second

// until waits until the query says true, and lets no lane wait for its time.
func (d *desk) until(t *testing.T, what, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		if err := d.s.Pool.QueryRow(ctx, query, args...).Scan(&ok); err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		if ok {
			return
		}
		d.hasten(ctx, t)
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s; lanes:\n%s", what, d.lanes(t))
		}
	}
}

// hasten lets the time pass that lanes and breakers wait for.
func (d *desk) hasten(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, query := range []string{
		`UPDATE breakers SET open_until = now(), probe_until = least(probe_until, now()) WHERE open_until > now()`,
		`UPDATE mirrors SET due_at = now() WHERE due_at > now()`,
		`UPDATE river_job SET scheduled_at = now(), state = 'available'
			WHERE kind = 'sync_memory' AND state IN ('available', 'scheduled', 'retryable') AND scheduled_at > now()`,
	} {
		if _, err := d.s.Pool.Exec(ctx, query); err != nil && ctx.Err() == nil {
			t.Fatalf("let the time pass: %v", err)
		}
	}
}

// settle waits until all lanes have come to rest, and leaves those alone that were
// given up.
func (d *desk) settle(t *testing.T) {
	t.Helper()
	d.until(t, "all is carried", `SELECT NOT EXISTS (SELECT FROM mirrors WHERE status NOT IN ('synced', 'dead'))`)
}

func (d *desk) lanes(t *testing.T) string {
	t.Helper()
	rows, err := d.s.Pool.Query(context.WithoutCancel(t.Context()), `
		SELECT format('%s %s %s/%s due %s: %s', memory_id, status, done, wanted, due_at, last_error) FROM mirrors WHERE status <> 'synced' LIMIT 20`)
	if err != nil {
		return err.Error()
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err.Error()
	}
	return strings.Join(lines, "\n")
}

// start starts a node.
func (d *desk) start(t *testing.T) (stop func()) {
	t.Helper()
	if d.s.Start == nil {
		return func() {}
	}
	return d.s.Start(t)
}

// values are the rows of a map in the order of their ids.
func values(rows map[uuid.UUID]*memory.Row) []*memory.Row {
	return slices.SortedFunc(maps.Values(rows), func(a, b *memory.Row) int { return strings.Compare(a.ID.String(), b.ID.String()) })
}
