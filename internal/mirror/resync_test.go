package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

func (s *station) resync(t *testing.T, o ResyncOptions) Report {
	t.Helper()
	report, err := s.m.Resync(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// wantReport runs dry, which changes nothing, and then in earnest; what is woken is
// carried, and then nothing differs.
func (s *station) wantReport(t *testing.T, o ResyncOptions, want Report) {
	t.Helper()
	const picture = `SELECT to_jsonb(m)::text FROM mirrors m UNION ALL SELECT to_jsonb(j)::text FROM river_job j UNION ALL SELECT to_jsonb(a)::text FROM audit_log a ORDER BY 1`
	before, changes := column[string](t, s, picture), s.f.Changes()
	dry := o
	dry.DryRun = true
	if diff := cmp.Diff(want, s.resync(t, dry)); diff != "" {
		t.Errorf("a dry run (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, column[string](t, s, picture)); diff != "" || s.f.Changes() != changes {
		t.Errorf("a dry run changed something there, or here (-before +after):\n%s", diff)
	}
	got := s.resync(t, o)
	if diff := cmp.Diff(want.Drift() > 0, got.Drift() > 0); diff != "" {
		t.Errorf("in earnest: %+v, dry: %+v", got, want)
	}
	s.settle(t)
	if again := s.resync(t, dry); again.Drift() != 0 || again.Pending != 0 {
		t.Errorf("afterwards there is still: %+v", again)
	}
}

// give puts a copy into the remote behind our back.
func (s *station) give(id uuid.UUID, text, checksum string) (remoteID string) {
	s.f.set(func() {
		s.f.last++
		remoteID = fmt.Sprint("copy-", s.f.last)
		s.f.copies[remoteID] = memory.Item{ID: id, UserID: "user-1", Content: text, Checksum: checksum}
	})
	return remoteID
}

func (s *station) remoteID(t *testing.T, r *memory.Row) string {
	t.Helper()
	return one[string](t, s, `SELECT remote_id FROM mirrors WHERE memory_id = $1`, r.ID)
}

func TestResync(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		disturb func(t *testing.T, s *station, r *memory.Row)
		want    Report
		copies  []string
	}{
		"nothing differs": {
			func(*testing.T, *station, *memory.Row) {},
			Report{Memories: 2, Copies: 2}, []string{"one", "two"},
		},
		"a memory that was never copied": {
			func(t *testing.T, s *station, _ *memory.Row) {
				s.add(t, "three")
				s.exec(t, `DELETE FROM mirrors WHERE remote_id IS NULL`)
			},
			Report{Memories: 3, Copies: 2, Missing: 1}, []string{"one", "two", "three"},
		},
		"a memory that changed unseen": {
			func(t *testing.T, s *station, r *memory.Row) {
				s.exec(t, `UPDATE memories SET content = 'three', checksum = sha256('three') WHERE id = $1`, r.ID)
			},
			Report{Memories: 2, Copies: 2, Stale: 1}, []string{"three", "two"},
		},
		"a memory that went unseen": {
			func(t *testing.T, s *station, r *memory.Row) { s.exec(t, `DELETE FROM memories WHERE id = $1`, r.ID) },
			Report{Memories: 1, Copies: 2, Forsaken: 1}, []string{"two"},
		},
		"one that was given up": {
			func(t *testing.T, s *station, r *memory.Row) {
				s.update(t, r, "three")
				s.exec(t, `UPDATE mirrors SET status = 'dead', due_at = NULL, job_id = NULL WHERE memory_id = $1`, r.ID)
			},
			Report{Memories: 2, Copies: 2, Dead: 1}, []string{"three", "two"},
		},
		"one that is on its way": {
			func(t *testing.T, s *station, r *memory.Row) { s.update(t, r, "three") },
			Report{Memories: 2, Copies: 2, Pending: 1}, []string{"three", "two"},
		},
		"a copy that others changed": {
			func(t *testing.T, s *station, r *memory.Row) {
				id := s.remoteID(t, r)
				s.f.set(func() { s.f.copies[id] = memory.Item{ID: r.ID, UserID: "user-1", Content: "not ours", Checksum: sum} })
			},
			Report{Memories: 2, Copies: 2, Altered: 1}, []string{"one", "two"},
		},
		"a copy that others removed": {
			func(t *testing.T, s *station, r *memory.Row) {
				id := s.remoteID(t, r)
				s.f.set(func() { delete(s.f.copies, id) })
			},
			Report{Memories: 2, Copies: 1, Lost: 1}, []string{"one", "two"},
		},
		"a copy of what is gone": {
			func(_ *testing.T, s *station, _ *memory.Row) { s.give(uuid.New(), "orphan", sum) },
			Report{Memories: 2, Copies: 3, Orphaned: 1}, []string{"one", "two"},
		},
		"a second copy": {
			func(_ *testing.T, s *station, r *memory.Row) { s.give(r.ID, "one, once more", sum) },
			Report{Memories: 2, Copies: 3, Duplicates: 1}, []string{"one", "two"},
		},
		"an id map that was lost": {
			func(t *testing.T, s *station, _ *memory.Row) { s.exec(t, `DELETE FROM mirrors`) },
			Report{Memories: 2, Copies: 2, Adopted: 2}, []string{"one", "two"},
		},
		"an id map that was lost, and two copies of one": {
			func(t *testing.T, s *station, r *memory.Row) {
				s.give(r.ID, "one, once more", sum)
				s.exec(t, `DELETE FROM mirrors`)
			},
			Report{Memories: 2, Copies: 3, Adopted: 2, Duplicates: 1}, []string{"one", "two"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			s.f.pages = 1
			r := s.copied(t, "one")
			s.copied(t, "two")
			tc.disturb(t, s, r)
			s.wantReport(t, ResyncOptions{Actor: "a person"}, tc.want)
			s.wantCopies(t, tc.copies...)
			if got := one[string](t, s, `SELECT concat_ws(' ', actor, action, object) FROM audit_log`); got != "a person memory.resync memory/cognee" {
				t.Errorf("the audit log says %q", got)
			}
		})
	}
}

// One user's copies and memories alone are compared, and nobody else's touched.
func TestResyncOfOneUser(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := s.copied(t, "one")
	other := fact("of another")
	other.UserID = "user-2"
	s.write(t, memory.Change{After: other})
	s.work(t, other)
	s.exec(t, `UPDATE mirrors SET checksum = NULL`)
	got := s.resync(t, ResyncOptions{UserID: "user-1", DryRun: true})
	if diff := cmp.Diff(Report{Memories: 1, Copies: 1, Altered: 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.resync(t, ResyncOptions{UserID: "user-1"})
	s.wantLane(t, r, "pending")
	s.wantLane(t, other, "synced")
}

// A system that lists user by user is asked so; one that does not list a user's
// copies at all loses nothing, and no copy is made twice.
func TestResyncUserByUser(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.f.perUser = true
	s.copied(t, "one")
	other := fact("of another")
	other.UserID = "user-2"
	s.write(t, memory.Change{After: other})
	s.work(t, other)
	s.give(uuid.New(), "orphan", "")
	s.wantReport(t, ResyncOptions{}, Report{Memories: 2, Copies: 3, Orphaned: 1})
	s.wantCopies(t, "one", "of another")

	// It lists nobody's: what no lane knows is looked for before it is copied.
	s.exec(t, `DELETE FROM mirrors`)
	s.f.fail = func(call string, _ memory.Item) error {
		if call == "list" {
			return &memory.RemoteError{Kind: memory.RemoteRefused, Message: "too many"}
		}
		return nil
	}
	got := s.resync(t, ResyncOptions{})
	if diff := cmp.Diff(Report{Memories: 2, Missing: 2, Unlisted: []string{"user-1", "user-2"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.settle(t)
	s.wantCopies(t, "one", "of another")
}

// An outage ends a resync; what it has done stays done.
func TestResyncDuringAnOutage(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.copied(t, "one")
	tries := 0
	s.f.fail = func(call string, _ memory.Item) error {
		if tries++; call == "list" && tries < listTries {
			return &memory.RemoteError{Kind: memory.RemoteUnavailable, Message: "for a moment"}
		}
		return nil
	}
	if got := s.resync(t, ResyncOptions{DryRun: true}); got.Drift() != 0 || got.Copies != 1 {
		t.Errorf("after a moment: %+v", got)
	}
	s.f.fail = func(string, memory.Item) error {
		return &memory.RemoteError{Kind: memory.RemoteUnauthorized, Message: "the key is wrong"}
	}
	_, err := s.m.Resync(t.Context(), ResyncOptions{Actor: "a person"})
	var e *memory.RemoteError
	if !errors.As(err, &e) || e.Kind != memory.RemoteUnauthorized {
		t.Errorf("error %v", err)
	}
	if n := one[int](t, s, `SELECT count(*) FROM mirrors WHERE status <> 'synced'`); n != 0 {
		t.Errorf("%d lanes were woken", n)
	}
	if n := one[int](t, s, `SELECT count(*) FROM audit_log`); n != 1 {
		t.Errorf("%d lines in the audit log, want 1", n)
	}
}

// Resyncs run beside workers and beside who writes, and make nothing twice.
func TestResyncBesideWorkers(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.f.pages = 7
	startNode(t, s.pool, s.f, s.m.o)
	startNode(t, s.pool, s.f, s.m.o)
	ended := aside(func() error {
		for range 20 {
			if _, err := s.node(t).Resync(t.Context(), ResyncOptions{}); err != nil {
				return err
			}
		}
		return nil
	})
	want := []string{}
	for n := range 60 {
		r := s.add(t, fmt.Sprint("as it was, ", n))
		if n%3 == 0 {
			s.remove(t, r)
			continue
		}
		text := fmt.Sprint("as it is, ", n)
		s.update(t, r, text)
		want = append(want, text)
	}
	if err := ended(); err != nil {
		t.Errorf("a resync: %v", err)
	}
	deadline := time.Now().Add(time.Minute)
	for one[bool](t, s, `SELECT EXISTS (SELECT FROM mirrors WHERE status <> 'synced')`) {
		if time.Now().After(deadline) {
			t.Fatal("waited a minute in vain for the lanes to come to rest")
		}
		s.hasten(t)
	}
	if got := s.resync(t, ResyncOptions{DryRun: true}); got.Drift() != 0 {
		t.Errorf("there is drift: %+v", got)
	}
	s.wantCopies(t, want...)
}

// A copy that gets another id while the list is read stands there twice. The lane
// whose copy it is has not come to rest: nothing of it is removed.
func TestResyncLeavesWhatIsBeingRenamed(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.f.renames = true
	r := s.copied(t, "one")
	r = s.update(t, r, "two")
	c := claim{r.ID, s.begin(t, r).ID}
	work, err := s.m.claims.Do(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var out outcome
	m := New(s.pool, s.jobs, twoPages{s.f, func() { out, err = s.m.carry(t.Context(), c, work) }}, s.m.o)
	if _, err := m.Resync(t.Context(), ResyncOptions{}); err != nil {
		t.Error(err)
	}
	if err != nil || out.err != nil {
		t.Fatal(err, out.err)
	}
	if err := s.m.finish(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	s.wantLane(t, r, "synced")
	s.wantCopies(t, "two")
}

// twoPages lists everything twice, and does something in between.
type twoPages struct {
	*fake
	between func()
}

func (p twoPages) List(ctx context.Context, user, cursor string) ([]memory.Copy, string, error) {
	copies, _, err := p.fake.List(ctx, user, "")
	if cursor != "" {
		return copies, "", err
	}
	p.between()
	return copies, "2", err
}

// A list that does not end ends the resync.
func TestResyncOfAListWithoutEnd(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.copied(t, "one")
	m := New(s.pool, s.jobs, endless{s.f}, s.m.o)
	if _, err := m.Resync(t.Context(), ResyncOptions{DryRun: true}); !errors.Is(err, errRepeats) {
		t.Errorf("got %v", err)
	}
}

// endless lists its first page for ever.
type endless struct{ *fake }

func (e endless) List(ctx context.Context, user, _ string) ([]memory.Copy, string, error) {
	copies, _, err := e.fake.List(ctx, user, "")
	return copies, "more", err
}
