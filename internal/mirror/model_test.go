package mirror

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

// TestAnythingSettles takes a lane through a random life, as the test's number draws
// it: changes of the memory, attempts on two nodes that are cut at any call, answers
// that are lost, failures of every kind. Once all is quiet there is one copy of each
// memory that is there, and it says what the memory says. MIRROR_ROUNDS asks for more
// lives than the usual few.
func TestAnythingSettles(t *testing.T) {
	t.Parallel()
	rounds, err := strconv.Atoi(os.Getenv("MIRROR_ROUNDS"))
	if err != nil {
		rounds = 60
	}
	for name, overlap := range map[string]bool{"one attempt at a time": false, "attempts that overlap": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, overlap)
			for seed := range rounds {
				w.live(t, uint64(seed))
				if t.Failed() {
					t.Fatalf("life %d:\n%s", seed, strings.Join(w.log, "\n"))
				}
			}
		})
	}
}

// world is a station whose calls go step by step.
type world struct {
	*station
	overlap bool // an attempt may be rescued although it is alive
	nodes   []*Mirror
	offset  time.Duration // of the nodes' clocks, so that they read the breaker anew
	random  *rand.Rand
	alive   []*attempt
	log     []string
	texts   int
}

// attempt is a job at work. It stands still before and after each effect.
type attempt struct {
	name   string
	jobID  int64
	cancel context.CancelFunc
	at     chan string // where it stands; closed when it has ended
	say    chan string // how it goes on
	err    error       // of Work, once at is closed
	where  string      // where it stands
	met    bool        // another was at work at the same time
	memory uuid.UUID   // of its lane
}

// stepwise is a remote whose calls are steps of the attempts that make them. Calls
// of nobody's go through.
type stepwise struct{ *fake }

type attemptKey struct{}

func newWorld(t *testing.T, overlap bool) *world {
	w := &world{station: newStation(t), overlap: overlap}
	o := w.m.o
	o.Now = func() time.Time { return time.Now().Add(w.offset) }
	for range 2 {
		w.nodes = append(w.nodes, New(w.pool, w.jobs, stepwise{w.f}, o))
	}
	return w
}

func (w *world) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

// live is one life from the memory's first day until all is quiet.
func (w *world) live(t *testing.T, seed uint64) {
	t.Helper()
	w.random, w.log, w.texts = rand.New(rand.NewPCG(seed, 1)), nil, 0
	w.exec(t, `DELETE FROM river_job`)
	w.f.set(func() { w.f.renames, w.f.calls = w.random.IntN(2) == 0, nil })
	w.note("renames: %v", w.f.renames)
	r := w.add(t, "text 0")
	for range 4 + w.random.IntN(16) {
		switch n := w.random.IntN(10); {
		case n < 2 && r != nil:
			r = w.change(t, r)
		case n < 5 || len(w.alive) == 0:
			w.start(t)
		default:
			w.step(t, w.alive[w.random.IntN(len(w.alive))], w.random.IntN(12))
		}
	}
	for len(w.alive) > 0 {
		w.step(t, w.alive[w.random.IntN(len(w.alive))], 0)
	}
	w.quiet(t)
	if r == nil {
		w.wantCopies(t)
		if n := one[int](t, w.station, `SELECT count(*) FROM mirrors`); n != 0 {
			t.Errorf("%d lanes are left", n)
		}
		return
	}
	w.wantCopies(t, r.Content)
	w.wantLane(t, r, "synced")
	w.remove(t, r)
	w.quiet(t)
	w.wantCopies(t)
}

// change changes the memory to something new, or back, or removes it.
func (w *world) change(t *testing.T, r *memory.Row) *memory.Row {
	t.Helper()
	if w.random.IntN(4) == 0 {
		w.note("the memory is removed")
		w.remove(t, r)
		return nil
	}
	text := fmt.Sprint("text ", w.random.IntN(3))
	if text == r.Content {
		text += "'"
	}
	w.note("the memory says %q", text)
	return w.update(t, r, text)
}

// start hands the lane's job to a worker of either node: one that runs only when its
// attempt was cut, or may overlap.
func (w *world) start(t *testing.T) {
	t.Helper()
	w.calm(t)
	w.hasten(t)
	for _, id := range column[uuid.UUID](t, w.station, `SELECT memory_id FROM mirrors WHERE status IN ('pending', 'retrying')`) {
		jobID := one[int64](t, w.station, `SELECT coalesce(job_id, 0) FROM mirrors WHERE memory_id = $1`, id)
		busy := slices.ContainsFunc(w.alive, func(a *attempt) bool { return a.jobID == jobID })
		if (busy && !w.overlap) || len(w.alive) > 1 {
			continue
		}
		node := w.random.IntN(len(w.nodes))
		ctx, cancel := context.WithCancel(t.Context())
		a := &attempt{name: fmt.Sprintf("job %d on node %d", jobID, node), jobID: jobID, cancel: cancel, memory: id, at: make(chan string), say: make(chan string)}
		j := w.run(t, jobID)
		go func() {
			defer close(a.at)
			a.err = w.nodes[node].Work(context.WithValue(ctx, attemptKey{}, a), j)
		}()
		w.note("%s begins", a.name)
		w.alive = append(w.alive, a)
		for _, other := range w.alive {
			other.met = other.met || len(w.alive) > 1
		}
		w.follow(t, a)
	}
}

// calm has the breaker closed or, at times, just as it is.
func (w *world) calm(t *testing.T) {
	t.Helper()
	if w.random.IntN(8) > 0 {
		w.exec(t, `DELETE FROM breakers`)
	}
	w.offset += time.Hour
}

// step lets an attempt go on from where it stands: what comes of it is drawn.
func (w *world) step(t *testing.T, a *attempt, draw int) {
	t.Helper()
	how, before := "goes on", strings.HasPrefix(a.where, "before")
	// Of two that met each learns what it did: what a dead one did after another had
	// found the lane in order, nobody can know.
	alone := !a.met
	switch {
	case !alone && a.where == "before delete": // it may be about to make good, and has one try
	case (draw == 1 || draw == 2) && alone:
		how = "is cut"
	case draw == 3 && (before || alone):
		how = "fails"
	case draw == 4 && before:
		how = "is refused"
	case draw == 5 && before:
		how = "does not leave"
	}
	w.note("%s %s %s", a.name, how, a.where)
	a.say <- how
	w.follow(t, a)
}

// follow waits until an attempt stands still again, or has ended.
func (w *world) follow(t *testing.T, a *attempt) {
	t.Helper()
	var more bool
	if a.where, more = <-a.at; more {
		return
	}
	w.alive = slices.DeleteFunc(w.alive, func(other *attempt) bool { return other == a })
	a.cancel()
	// A job that was cut stays as it was, until it is rescued.
	if a.where = "ended"; a.err == nil || !strings.Contains(a.err.Error(), "canceled") {
		w.end(t, a.jobID, a.err)
	}
	w.note("%s ends: %v; the remote has %v, the lane %v", a.name, a.err, w.remote(),
		column[string](t, w.station, `SELECT concat_ws(' ', status, 'remote', remote_id, 'adding', adding_since IS NOT NULL, 'known', checksum IS NOT NULL, 'wanted', wanted, 'done', done, 'due', due_at IS NOT NULL, 'job', job_id) FROM mirrors`))
}

// remote is what the remote has.
func (w *world) remote() []string {
	var all []string
	w.f.set(func() {
		for _, id := range slices.Sorted(maps.Keys(w.f.copies)) {
			all = append(all, id+": "+w.f.copies[id].Content)
		}
	})
	return all
}

// quiet works all that is left without any trouble.
func (w *world) quiet(t *testing.T) {
	t.Helper()
	for range 30 {
		w.exec(t, `DELETE FROM breakers`)
		w.offset += time.Hour
		w.exec(t, `UPDATE river_job SET state = 'available' WHERE state = 'running'`)
		w.mend(t, w.nodes[0])
		w.hasten(t)
		open := column[int64](t, w.station, `SELECT job_id FROM mirrors WHERE status IN ('pending', 'retrying')`)
		if len(open) == 0 {
			return
		}
		for _, id := range open {
			w.note("job %d in quiet", id)
			w.end(t, id, w.nodes[0].Work(t.Context(), w.run(t, id)))
		}
	}
	t.Errorf("there is no end of work")
}

// call is one call of an attempt's.
func (s stepwise) call(ctx context.Context, name string, effect func() error) error {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return effect()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.at <- "before " + name
	switch <-a.say {
	case "is cut":
		a.cancel()
		return context.Canceled
	case "fails":
		return &memory.RemoteError{Kind: memory.RemoteUnavailable, Status: 503, Sent: true}
	case "is refused":
		return &memory.RemoteError{Kind: memory.RemoteRefused, Status: 422}
	case "does not leave":
		return &memory.RemoteError{Kind: memory.RemoteUnavailable}
	}
	err := effect()
	a.at <- "after " + name
	switch <-a.say {
	case "is cut":
		a.cancel()
		return context.Canceled
	case "fails":
		return &memory.RemoteError{Kind: memory.RemoteUnavailable, Sent: true, Message: "the answer is lost"}
	}
	return err
}

func (s stepwise) Add(ctx context.Context, item memory.Item) (id string, err error) {
	called := s.call(ctx, "add", func() error {
		id, err = s.fake.Add(context.WithoutCancel(ctx), item)
		return err
	})
	if called != nil {
		return "", called
	}
	return id, nil
}

func (s stepwise) Find(ctx context.Context, user string, of uuid.UUID) (id string, err error) {
	called := s.call(ctx, "find", func() error {
		id, err = s.fake.Find(context.WithoutCancel(ctx), user, of)
		return err
	})
	if called != nil {
		return "", called
	}
	return id, nil
}

func (s stepwise) Update(ctx context.Context, from string, item memory.Item) (id string, err error) {
	called := s.call(ctx, "update", func() error {
		id, err = s.fake.Update(context.WithoutCancel(ctx), from, item)
		return err
	})
	if called != nil {
		return "", called
	}
	return id, nil
}

func (s stepwise) Delete(ctx context.Context, id string) error {
	return s.call(ctx, "delete", func() error { return s.fake.Delete(context.WithoutCancel(ctx), id) })
}
