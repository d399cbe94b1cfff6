package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/breaker"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

func TestACopyFollowsItsMemory(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.add(t, "one")
	s.wantLane(t, r, "pending")
	s.work(t, r)
	s.wantLane(t, r, "synced")
	r = s.update(t, r, "two")
	s.work(t, r)
	s.wantAsked(t, "add", "update")
	s.wantCopies(t, "two")

	// What reads the same is not carried again.
	s.write(t, memory.Change{Before: r, After: saying(r, "two")})
	s.work(t, r)
	s.wantAsked(t)

	s.remove(t, r)
	s.work(t, r)
	s.wantAsked(t, "delete")
	s.wantCopies(t)
	s.wantLane(t, r, "")
}

// A memory that has expired is gone, and one that lives on after all is not.
func TestWhatHasExpiredIsRemoved(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.copied(t, "for a while")
	expired, ago := saying(r, "for a while"), time.Now().Add(-time.Second)
	expired.ExpiresAt = &ago
	s.write(t, memory.Change{Before: r, After: expired})
	s.work(t, r)
	s.wantCopies(t)
	s.wantLane(t, r, "")
	s.write(t, memory.Change{Before: expired, After: r})
	s.work(t, r)
	s.wantCopies(t, "for a while")
}

// Only the job that the lane names works it.
func TestAnotherJobDoesNothing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.add(t, "one")
	stale, err := s.jobs.Insert(t.Context(), job.SyncMemory{Backend: "cognee", MemoryID: r.ID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.m.Work(t.Context(), s.run(t, stale.Job.ID)); err != nil {
			t.Errorf("the worker returned %v", err)
		}
		s.wantAsked(t)
		s.wantLane(t, r, "pending")
		// Nor does it put the lane off.
		s.outage(t)
	}
}

// A job that was overtaken while it called writes nothing.
func TestAnOvertakenAttemptWritesNothing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.add(t, "one")
	j := s.begin(t, r)
	before := one[string](t, s, `SELECT to_jsonb(m)::text FROM mirrors m`)
	for name, out := range map[string]outcome{
		"of another job":              {claim: claim{r.ID, j.ID + 1}, upTo: 1, remoteID: "stale", made: "stale"},
		"of another job, not taken":   {claim: claim{r.ID, j.ID + 1}, postponed: time.Minute, err: errors.New("closed")},
		"of another job, which fails": {claim: claim{r.ID, j.ID + 1}, upTo: 1, err: errors.New("no luck")},
	} {
		end, err := s.m.writes.Do(t.Context(), out)
		if err != nil || !end.fenced {
			t.Errorf("%s: %+v, %v", name, end, err)
		}
	}
	if got := one[string](t, s, `SELECT to_jsonb(m)::text FROM mirrors m`); got != before {
		t.Errorf("the lane was\n%s\nand is\n%s", before, got)
	}

	// Of the same job, when what it was taken for is done.
	s.exec(t, `UPDATE mirrors SET done = 5, wanted = 6, remote_id = 'newer', checksum = sha256('newer')`)
	before = one[string](t, s, `SELECT to_jsonb(m)::text FROM mirrors m`)
	end, err := s.m.writes.Do(t.Context(), outcome{claim: claim{r.ID, j.ID}, upTo: 5, remoteID: "stale", checksum: make([]byte, 32)})
	if err != nil || end != (ending{fenced: true, remoteID: "newer"}) {
		t.Errorf("%+v, %v", end, err)
	}
	if got := one[string](t, s, `SELECT to_jsonb(m)::text FROM mirrors m`); got != before {
		t.Errorf("the lane was\n%s\nand is\n%s", before, got)
	}
}

// The program died after the call and before it wrote down what came of it.
func TestACrashAfterACall(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	crash := func(r *memory.Row) {
		t.Helper()
		j := s.begin(t, r)
		work, err := s.m.claims.Do(t.Context(), claim{r.ID, j.ID})
		if err != nil || !work.mine {
			t.Fatalf("not taken: %+v, %v", work, err)
		}
		if _, err := s.m.carry(t.Context(), claim{r.ID, j.ID}, work); err != nil {
			t.Fatal(err)
		}
	}

	// A copy that nobody knows of is found.
	r := s.add(t, "one")
	crash(r)
	s.wantAsked(t, "add")
	s.wantLane(t, r, "pending, adding")
	s.work(t, r)
	s.wantAsked(t, "find", "update")
	s.wantCopies(t, "one")
	s.wantLane(t, r, "synced")

	// A copy that was changed is not taken for what it was before.
	two := s.update(t, r, "two")
	crash(two)
	s.wantCopies(t, "two")
	r = s.update(t, two, "one")
	s.work(t, r)
	s.wantCopies(t, "one")

	// A memory that went is looked for, too.
	other := s.add(t, "other")
	crash(other)
	s.remove(t, other)
	s.f.asked()
	s.work(t, other)
	s.wantAsked(t, "find", "delete")
	s.wantCopies(t, "one")
	s.wantLane(t, other, "")

	// And a removal is repeated.
	s.remove(t, r)
	crash(r)
	s.work(t, r)
	s.wantCopies(t)
	s.wantLane(t, r, "")
}

// Some systems give what is updated another id. Is the answer lost, and the memory
// then deleted, what is under the new id goes, too.
func TestACopyThatWasRenamedGoes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.f.renames = true
	r := s.copied(t, "one")
	two := s.update(t, r, "two")
	j := s.begin(t, two)
	work, err := s.m.claims.Do(t.Context(), claim{r.ID, j.ID})
	if err != nil || !work.mine {
		t.Fatalf("not taken: %+v, %v", work, err)
	}
	if out, err := s.m.carry(t.Context(), claim{r.ID, j.ID}, work); err != nil || out.made != "copy-2" {
		t.Fatalf("made %q, %v", out.made, err)
	}
	s.remove(t, two)
	s.f.asked()
	// The look fails at first: the lane goes on until it is known.
	s.f.fail = func(call string, _ memory.Item) error {
		if call == "find" {
			return &memory.RemoteError{Kind: memory.RemoteUnavailable}
		}
		return nil
	}
	s.work(t, two)
	s.wantCopies(t, "two")
	s.f.fail = nil
	s.work(t, two)
	s.wantCopies(t)
	if n := one[int64](t, s, `SELECT count(*) FROM mirrors`); n != 0 {
		t.Errorf("%d lanes are left", n)
	}
}

// Two attempts of one job, as after a network that was cut, both make a copy: one
// of them goes.
func TestTheSecondCopyIsRemoved(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.add(t, "one")
	j := s.begin(t, r)
	at, release := s.f.holdCall("add")
	first := aside(func() error { return s.m.Work(t.Context(), j) })
	arrives(t, at)
	if err := s.node(t).Work(t.Context(), s.run(t, j.ID)); err != nil {
		t.Errorf("the second attempt returned %v", err)
	}
	s.wantLane(t, r, "synced")
	release()
	if err := first(); err != nil {
		t.Errorf("the first attempt returned %v", err)
	}
	s.wantAsked(t, "add", "find", "add", "delete")
	s.wantCopies(t, "one")
	s.settle(t) // nobody knows what the other attempt did to the lane's copy
	s.wantAsked(t, "update")
	s.wantLane(t, r, "synced")
	if got := one[string](t, s, `SELECT remote_id FROM mirrors`); got != "copy-1" || s.f.copies["copy-1"].ID != r.ID {
		t.Errorf("the lane names %s", got)
	}

	// The memory went while the first attempt was making its copy.
	r = s.add(t, "two")
	j = s.begin(t, r)
	at, release = s.f.holdCall("add")
	first = aside(func() error { return s.m.Work(t.Context(), j) })
	arrives(t, at)
	s.remove(t, r)
	if err := s.node(t).Work(t.Context(), s.run(t, j.ID)); err != nil {
		t.Errorf("the second attempt returned %v", err)
	}
	s.wantLane(t, r, "")
	release()
	if err := first(); err != nil {
		t.Errorf("the first attempt returned %v", err)
	}
	s.wantCopies(t, "one")
	s.settle(t)
	s.wantLane(t, r, "")
	s.wantCopies(t, "one")
}

// An attempt that is overtaken while it updates a copy may have left it as it was
// long ago, or under another id: the lane makes it anew.
func TestAnOvertakenUpdateIsMadeGood(t *testing.T) {
	t.Parallel()
	for _, renames := range []bool{false, true} {
		for _, removed := range []bool{false, true} {
			t.Run(fmt.Sprintf("renames %v, removed %v", renames, removed), func(t *testing.T) {
				t.Parallel()
				s := newStation(t)
				s.f.renames = renames
				r := s.copied(t, "one")
				r = s.update(t, r, "two")
				j := s.begin(t, r)
				at, release := s.f.holdCall("update")
				first := aside(func() error { return s.m.Work(t.Context(), j) })
				arrives(t, at)
				want := []string{"three"}
				if removed {
					s.remove(t, r)
					want = nil
				} else {
					s.update(t, r, "three")
				}
				if err := s.node(t).Work(t.Context(), s.run(t, j.ID)); err != nil {
					t.Errorf("the second attempt returned %v", err)
				}
				release()
				if err := first(); err != nil {
					t.Errorf("the first attempt returned %v", err)
				}
				s.settle(t)
				s.wantCopies(t, want...)
			})
		}
	}
}

// An overtaken attempt ends while another is at work, whose call went before its own:
// what that one knows of the copy is not true any more.
func TestAnOvertakenAttemptEndsDuringAnother(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.update(t, s.copied(t, "one"), "two")
	j := s.begin(t, r)
	c := claim{r.ID, j.ID}
	work, err := s.m.claims.Do(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.m.carry(t.Context(), c, work)
	if err != nil {
		t.Fatal(err)
	}
	s.f.set(func() { s.f.copies["copy-1"] = memory.Item{ID: r.ID, Content: "from long ago"} })
	overtaken := outcome{claim: claim{r.ID, j.ID + 1}, upTo: 1, userID: r.UserID, called: true, remoteID: "copy-1", changed: true}
	for _, out := range []outcome{overtaken, out} {
		if err := s.m.finish(t.Context(), out); err != nil {
			t.Fatal(err)
		}
	}
	s.settle(t)
	s.wantLane(t, r, "synced")
	s.wantCopies(t, "two")
}

// A copy that somebody removed is made anew, and looked for before.
func TestACopyThatIsGoneIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.copied(t, "one")
	s.f.set(func() { clear(s.f.copies) })
	r = s.update(t, r, "two")
	s.work(t, r)
	s.wantAsked(t, "update")
	s.wantLane(t, r, "retrying, adding")
	if wait := one[float64](t, s, `SELECT extract(epoch FROM due_at - now())::float8 FROM mirrors`); wait > 0 {
		t.Errorf("it waits for %f s", wait)
	}
	s.work(t, r)
	s.wantAsked(t, "find", "add")
	s.wantCopies(t, "two")

	// A system that names copies which it does not have is not asked without end.
	s.f.fail = func(call string, _ memory.Item) error {
		if call == "update" {
			return &memory.RemoteError{Kind: memory.RemoteGone}
		}
		return nil
	}
	r = s.update(t, r, "three")
	s.work(t, r)
	s.work(t, r)
	if wait := one[float64](t, s, `SELECT extract(epoch FROM due_at - now())::float8 FROM mirrors`); wait < 1 {
		t.Errorf("it is tried again after %f s", wait)
	}
}

// outage opens the breaker as five failures do.
func (s *station) outage(t *testing.T) {
	t.Helper()
	b := s.node(t).breaker
	for range breaker.MostFailures {
		b.Report(t.Context(), &memory.RemoteError{Kind: memory.RemoteUnavailable, Message: "down"})
	}
	s.m = s.node(t) // a second has passed
}

// over lets the time pass for which the breaker is open.
func (s *station) over(t *testing.T) {
	t.Helper()
	s.exec(t, `UPDATE breakers SET open_until = now()`)
	s.m = s.node(t)
}

// An outage costs no call of each lane. They come back within seconds, those first
// that it is not known whether they can be carried.
func TestLanesWaitForAnOutageToEnd(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	failed, fresh := s.add(t, "failed before"), s.add(t, "fresh")
	s.f.Outage(true)
	s.work(t, failed)
	s.wantAsked(t, "add")
	s.wantLane(t, failed, "retrying, adding")
	s.outage(t)
	s.hasten(t)
	for _, r := range []*memory.Row{failed, fresh} {
		j := s.begin(t, r)
		if err := s.m.Work(t.Context(), j); err != nil {
			t.Errorf("the worker returned %v", err)
		}
	}
	s.wantAsked(t)
	s.wantLane(t, fresh, "pending") // nothing was begun, so nothing need be looked for
	// Open for 5 seconds (random is a half), then 2.5 of 5, or 5 more.
	waits := column[float64](t, s, `SELECT round(extract(epoch FROM m.due_at - b.open_until)::numeric, 0)::float8 FROM mirrors m, breakers b ORDER BY m.waits`)
	if len(waits) != 2 || waits[0] < 2 || waits[0] > 3 || waits[1] < 7 || waits[1] > 8 {
		t.Errorf("lanes come back %v s after the breaker's time, want about 2.5 and 7.5", waits)
	}
	if said := one[string](t, s, `SELECT last_error FROM mirrors WHERE memory_id = $1`, fresh.ID); !strings.Contains(said, "unavailable: down") {
		t.Errorf("the lane says %q", said)
	}

	// One probes, the other waits for it.
	s.over(t)
	at, release := s.f.holdCall("add")
	s.hasten(t)
	probe := s.begin(t, fresh)
	probed := aside(func() error { return s.m.Work(t.Context(), probe) })
	arrives(t, at)
	s.f.asked()
	s.m = s.node(t)
	s.work(t, failed)
	s.wantAsked(t)
	s.f.Outage(false)
	release()
	if err := probed(); err != nil {
		t.Errorf("the probe's worker returned %v", err)
	}
	s.wantLane(t, fresh, "synced")
	s.m = s.node(t)
	s.work(t, failed)
	s.wantAsked(t, "find", "add")
	if n := one[int](t, s, `SELECT sum(failures + waits) FROM mirrors`); n != 0 {
		t.Error("the outage is still counted")
	}
}

// What was taken and then not called is as if it had not been taken.
func TestATakenLaneThatMeetsTheBreakerBeginsNothing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.copied(t, "one")
	r = s.update(t, r, "two")
	added := s.add(t, "fresh")
	for _, one := range []*memory.Row{r, added} {
		j := s.begin(t, one)
		c := claim{one.ID, j.ID}
		work, err := s.m.claims.Do(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		s.outage(t)
		out, err := s.m.carry(t.Context(), c, work)
		if err != nil || out.postponed == 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		if err := s.m.finish(t.Context(), out); err != nil {
			t.Fatal(err)
		}
		s.exec(t, `DELETE FROM breakers`)
		s.m = s.node(t)
	}
	s.wantLane(t, added, "pending")
	if n := one[int](t, s, `SELECT count(*) FROM mirrors WHERE checksum IS NOT NULL`); n != 1 {
		t.Errorf("what %d copies hold is known, want 1", n)
	}
	s.settle(t)
	s.wantCopies(t, "two", "fresh")
	s.wantAsked(t, "update", "add")
}

// The world's failures do not count, however many they are; a RetryAfter is obeyed.
func TestTheWorldsFailuresDoNotCount(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err       memory.RemoteError
		low, high float64 // of the wait of the second failure, in seconds
	}{
		"unavailable":          {memory.RemoteError{Kind: memory.RemoteUnavailable}, 3, 5},
		"unavailable, it says": {memory.RemoteError{Kind: memory.RemoteUnavailable, RetryAfter: time.Minute}, 59, 61},
		"throttled":            {memory.RemoteError{Kind: memory.RemoteThrottled}, 3, 5},
		// These open the breaker at once: the lane comes 7.5 s after that.
		"throttled, it says":  {memory.RemoteError{Kind: memory.RemoteThrottled, RetryAfter: 2 * time.Minute}, 126, 129},
		"throttled for a day": {memory.RemoteError{Kind: memory.RemoteThrottled, RetryAfter: 24 * time.Hour}, 306, 309},
		"unauthorized":        {memory.RemoteError{Kind: memory.RemoteUnauthorized, Status: 401}, 66, 69},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			s.f.fail = func(string, memory.Item) error { return &tc.err }
			r := s.add(t, "one")
			for range 2 {
				s.work(t, r)

			}
			if n := one[int](t, s, `SELECT failures FROM mirrors`); n != 0 {
				t.Errorf("%d failures", n)
			}
			if got := one[float64](t, s, `SELECT extract(epoch FROM due_at - now())::float8 FROM mirrors`); got < tc.low || got > tc.high {
				t.Errorf("it waits for %f s, want %f to %f", got, tc.low, tc.high)
			}
			status := one[string](t, s, `SELECT status FROM mirrors`)
			if status != "retrying" {
				t.Errorf("the lane is %s", status)
			}
		})
	}
}

func TestARefusedMemoryIsDeadAfterFive(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	relent := s.f.Refuse("unspeakable")
	r := s.add(t, "unspeakable")
	for range mostRefusals - 1 {
		s.work(t, r)
		s.wantLane(t, r, "retrying")
	}
	s.work(t, r)
	s.wantLane(t, r, "dead")
	if n := one[int](t, s, `SELECT count(*) FROM breakers`); n != 0 {
		t.Error("a refusal was taken for an outage")
	}
	s.f.asked()

	// It may change into what is refused as well, and has all its tries again.
	r = s.update(t, r, "still unspeakable")
	s.work(t, r)
	s.wantLane(t, r, "retrying")
	if n := one[int](t, s, `SELECT failures FROM mirrors`); n != 1 {
		t.Errorf("%d failures, want 1", n)
	}
	relent()
	s.work(t, r)
	s.wantLane(t, r, "synced")

	// What was refused while the memory changed is not counted.
	s.f.Refuse("unspeakable")
	at, release := s.f.Hold()
	r = s.update(t, r, "unspeakable again")
	j := s.begin(t, r)
	worked := aside(func() error { return s.m.Work(t.Context(), j) })
	arrives(t, at)
	r = s.update(t, r, "fine")
	release()
	if err := worked(); err != nil {
		t.Fatal(err)
	}
	s.wantLane(t, r, "pending")
	s.work(t, r)
	s.wantCopies(t, "fine")
}

// A fault that nobody can classify is the world's for a day, and for as long as
// nobody else gets through.
func TestAFaultThatNobodyCanClassify(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	bad := s.add(t, "bad")
	s.f.fail = func(_ string, item memory.Item) error {
		switch item.Content {
		case "bad":
			return errors.New("a riddle")
		case "worse":
			panic("of the test")
		}
		return nil
	}
	worse := s.add(t, "worse")
	for _, r := range []*memory.Row{bad, worse} {
		s.work(t, r)
		s.wantLane(t, r, "retrying, adding")
	}
	const longAgo = `UPDATE mirrors SET failing_since = failing_since - interval '25 hours', tried_at = now() - interval '1 minute' WHERE status = 'retrying'`
	s.exec(t, longAgo)
	s.work(t, bad) // nobody else got through meanwhile: it may be an outage
	s.wantLane(t, bad, "retrying, adding")
	s.copied(t, "fine")
	s.exec(t, `UPDATE mirrors SET tried_at = now() - interval '1 minute' WHERE status = 'retrying'`)
	for _, r := range []*memory.Row{bad, worse} {
		s.work(t, r)
		s.wantLane(t, r, "dead, adding")
	}

	// A key that was withdrawn is nobody's fault here.
	s.f.fail = func(string, memory.Item) error {
		return &memory.RemoteError{Kind: memory.RemoteUnauthorized, Status: 401}
	}
	r := s.add(t, "unauthorized")
	s.work(t, r)
	s.exec(t, longAgo)
	s.exec(t, `UPDATE breakers SET open_until = now()`)
	s.m = s.node(t)
	s.work(t, r)
	s.wantLane(t, r, "retrying")
}

// The program stops in the middle of a call: nothing is known, and nothing lost.
func TestAStopInTheMiddleOfACall(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.add(t, "one")
	j := s.begin(t, r)
	at, release := s.f.Hold()
	defer release()
	ctx, stop := context.WithCancel(t.Context())
	worked := aside(func() error { return s.m.Work(ctx, j) })
	arrives(t, at)
	stop()
	if err := worked(); !errors.Is(err, context.Canceled) {
		t.Errorf("the worker returned %v", err)
	}
	if n := one[int](t, s, `SELECT count(*) FROM breakers`); n != 0 {
		t.Error("our own stop was taken for an outage")
	}
	s.end(t, j.ID, context.Canceled)
	s.f.asked()
	s.work(t, r)
	s.wantAsked(t, "find", "add")
	s.wantCopies(t, "one")
}

// Lanes of another backend stay as they are until it is configured again.
func TestLanesOfAnotherBackendAreLeftAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.add(t, "one")
	o := s.m.o
	o.Backend = "mem0"
	other := New(s.pool, s.jobs, s.f, o)
	j := s.begin(t, r)
	if err := other.Work(t.Context(), j); err != nil {
		t.Errorf("the worker returned %v", err)
	}
	s.end(t, j.ID, nil)
	s.wantAsked(t)
	if n := s.mend(t, other); n != 0 {
		t.Errorf("%d lanes of another backend mended", n)
	}
	if n := s.mend(t, s.m); n != 1 {
		t.Errorf("%d lanes mended, want 1", n)
	}
	s.work(t, r)
	s.wantCopies(t, "one")
}

// A write that fails writes nothing at all, and the job comes again.
func TestTheWriteLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"the lane":      `CREATE TRIGGER t BEFORE UPDATE ON mirrors FOR EACH ROW WHEN (new.done > old.done) EXECUTE FUNCTION refuse()`,
		"its next job":  `CREATE TRIGGER t BEFORE INSERT ON river_job FOR EACH ROW EXECUTE FUNCTION refuse()`,
		"the digest":    `CREATE TRIGGER t BEFORE INSERT ON digests FOR EACH ROW EXECUTE FUNCTION refuse()`,
		"the job's end": `CREATE TRIGGER t BEFORE UPDATE ON river_job FOR EACH ROW WHEN (new.state = 'completed') EXECUTE FUNCTION refuse()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, func(o *Options) { o.Digester = &fakeDigester{} })
			r := s.add(t, "one")
			j := s.begin(t, r)
			at, release := s.f.Hold()
			worked := aside(func() error { return s.m.Work(t.Context(), j) })
			arrives(t, at)
			r = s.update(t, r, "two")
			s.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused on purpose'; END $$`)
			s.exec(t, fault)
			const picture = `SELECT to_jsonb(m)::text FROM mirrors m UNION ALL SELECT to_jsonb(d)::text FROM digests d UNION ALL SELECT to_jsonb(j)::text FROM river_job j ORDER BY 1`
			before := strings.Join(column[string](t, s, picture), "\n")
			release()
			err := worked()
			var snooze *river.JobSnoozeError
			if !errors.As(err, &snooze) {
				t.Errorf("the worker returned %v", err)
			}
			if after := strings.Join(column[string](t, s, picture), "\n"); after != before {
				t.Errorf("before\n%s\nand after\n%s", before, after)
			}
			for _, table := range []string{"mirrors", "river_job", "digests"} {
				s.exec(t, `DROP TRIGGER IF EXISTS t ON `+table)
			}
			s.end(t, j.ID, err)
			s.settle(t)
			s.wantCopies(t, "two")
			s.wantLane(t, r, "synced")
		})
	}
}
