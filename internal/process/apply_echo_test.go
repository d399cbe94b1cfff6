package process

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

// remember stores a memory of our own, as an agent does, and returns its id.
func (s *station) remember(t *testing.T, content string) uuid.UUID {
	t.Helper()
	store := memory.NewStore(s.pool, s.router.applier.writer)
	row, err := store.Add(t.Context(), memory.Caller{Actor: "token/bot", All: true}, memory.New{UserID: "u", Content: content})
	if err != nil {
		t.Fatal(err)
	}
	return row.ID
}

func TestWhatComesBackIsOnlyLogged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		back func(t *testing.T, s *station, id uuid.UUID) []tell
	}{
		{"under our own id", func(_ *testing.T, _ *station, id uuid.UUID) []tell {
			return []tell{added(id.String(), "y", 1), updated(id.String(), "y", 2), deleted(id.String(), 3)}
		}},
		{"of a memory that is gone", func(t *testing.T, s *station, id uuid.UUID) []tell {
			s.exec(t, `DELETE FROM memories`)
			return []tell{added(id.String(), "y", 1), updated("m1", "y", 2, fmt.Sprintf(`{"origin":"memrelay","origin_id":%q}`, id))}
		}},
		{"as a copy that names us", func(_ *testing.T, _ *station, id uuid.UUID) []tell {
			from := fmt.Sprintf(`{"origin":"memrelay","origin_id":%q}`, id)
			return []tell{added("m1", "y", 1, from), updated("m1", "y", 2, from), deleted("m1", 3, from)}
		}},
		{"as a copy that named us before", func(_ *testing.T, _ *station, id uuid.UUID) []tell {
			return []tell{{event: memory.Updated, data: fmt.Sprintf(
				`{"before":{"id":"m1","content":"x","metadata":{"origin":"memrelay","origin_id":%q}},"after":{"id":"m1","content":"y","metadata":{}}}`, id)}}
		}},
		{"with our id as copies carry it", func(_ *testing.T, _ *station, id uuid.UUID) []tell {
			return []tell{added("m1", "y", 1, fmt.Sprintf(`{"memrelay_id":%q}`, id))}
		}},
		{"as a preference", func(_ *testing.T, _ *station, id uuid.UUID) []tell {
			return []tell{{event: memory.PreferenceStored, data: fmt.Sprintf(`{"preference":"y","result":{"id":%q}}`, id)}}
		}},
		{"under the id of a copy", func(t *testing.T, s *station, id uuid.UUID) []tell {
			s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, remote_id, status) VALUES ('mem0', $1, 'u', 'm1', 'synced')`, id)
			return []tell{added("m1", "y", -1), updated("m1", "y", -1), deleted("m1", -1)}
		}},
		{"under the id of a copy that is gone", func(t *testing.T, s *station, id uuid.UUID) []tell {
			s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, remote_id, status) VALUES ('mem0', $1, 'u', 'm1', 'synced')`, id)
			s.follow(t, added("m1", "x", -1))
			s.exec(t, `DELETE FROM mirrors`)
			return []tell{updated("m1", "y", -1), added("m1", "y", -1)}
		}},
		{"of a copy under way", func(t *testing.T, s *station, id uuid.UUID) []tell {
			s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, adding_since) VALUES ('mem0', $1, 'u', now())`, id)
			return []tell{{event: memory.Added, user: "-", source: "mem0", data: `{"result":{"id":"m1","content":"x"}}`, at: -1}}
		}},
		{"of a copy under way of what has changed meanwhile", func(t *testing.T, s *station, id uuid.UUID) []tell {
			s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, adding_since) VALUES ('mem0', $1, 'u', now())`, id)
			s.exec(t, `UPDATE memories SET content = 'z'`)
			return []tell{{event: memory.Added, source: "mem0", data: `{"result":{"id":"m1","content":"x"}}`, at: -1}}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newApplying(t)
			id := s.remember(t, "x")
			events := tt.back(t, s, id)
			before := rows[string](t, s.pool, `SELECT to_jsonb(m)::text FROM memories m`)
			for _, e := range events {
				s.follow(t, e)
			}
			if diff := cmp.Diff(before, rows[string](t, s.pool, `SELECT to_jsonb(m)::text FROM memories m`)); diff != "" {
				t.Errorf("memories (-before +after):\n%s", diff)
			}
			s.wantNews(t, memory.Added)
			s.closed(t)
		})
	}
}

// What another system has of its own is no echo only because it says the same, or
// because some other memory of ours is being copied.
func TestWhatIsTheirsIsFollowed(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	id := s.remember(t, "x")
	s.follow(t, added("m1", "x", 0))
	s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, adding_since) VALUES ('mem0', $1, 'u', now())`, id)
	s.follow(t, added("m2", "y", 0, `{"origin":"Berlin"}`))
	s.follow(t, added("m3", "z", 0, fmt.Sprintf(`{"origin":"memrelay","origin_id":%q,"memrelay_id":%q}`, uuid.New(), uuid.New())))
	if got := rows[int](t, s.pool, `SELECT count(*)::int FROM memories WHERE origin IS NOT NULL`)[0]; got != 3 {
		t.Errorf("%d copies, want 3: %q", got, s.copies(t))
	}
}

// What a record of the CRM says is changed by nobody else, whatever they tell.
func TestMemoriesOfRecordsAreNotTouched(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	s.route(t, sent{module: "Accounts", operation: "create", recordID: "77", record: account("77", "Acme", "Active")})
	s.finish(t)
	before, told := s.remembered(t), s.news(t)
	id := rows[string](t, s.pool, `SELECT id::text FROM memories`)[0]
	for _, e := range []tell{updated(id, "y", 1), deleted(id, 2)} {
		e.user = "zoho:77"
		s.follow(t, e)
	}
	if diff := cmp.Diff(before, s.remembered(t)); diff != "" {
		t.Errorf("memories (-before +after):\n%s", diff)
	}
	s.wantNews(t, told...)
	// Even if a row said both, which nothing writes.
	s.exec(t, `UPDATE memories SET origin = 'other', origin_id = 'm1'`)
	e := deleted("m1", 3)
	e.user = "zoho:77"
	s.follow(t, e)
	if diff := cmp.Diff(before, s.remembered(t)); diff != "" {
		t.Errorf("memories (-before +after):\n%s", diff)
	}
}

// A memory that somebody has from somebody else is the same memory on all ways that
// it comes to us, and whoever had it first has the last word.
func TestAtSecondHand(t *testing.T) {
	t.Parallel()
	from := func(at int) string {
		return fmt.Sprintf(`{"origin":"other","origin_id":"m1","origin_at":"2026-09-21T12:00:%02dZ"}`, at)
	}
	second := func(e tell) tell {
		e.source = "third"
		return e
	}
	for _, tt := range []struct {
		name   string
		events []tell
		want   []string
	}{
		{"is the same memory", []tell{added("m1", "x", 1), second(added("c1", "x", 9, from(1)))}, []string{"other m1 | u | fact | x | {}"}},
		{"is the same memory the other way round", []tell{second(added("c1", "x", 9, from(1))), added("m1", "x", 1)}, []string{"other m1 | u | fact | x | {}"}},
		{"alone", []tell{second(added("c1", "x", 9, from(1))), second(updated("c1", "y", 10, from(2)))}, []string{"other m1 | u | fact | y | {}"}},
		{"an edit of a copy is no news", []tell{added("m1", "x", 1), second(updated("c1", "edited", 9, from(1)))}, []string{"other m1 | u | fact | x | {}"}},
		{"an edit of a copy gives way to what it was made of", []tell{second(updated("c1", "edited", 9, from(1))), added("m1", "x", 1)}, []string{"other m1 | u | fact | x | {}"}},
		{"an edit of a copy is no news where nothing else is known", []tell{second(added("c1", "x", 9, from(1))), second(updated("c1", "edited", 10, from(1)))}, []string{"other m1 | u | fact | x | {}"}},
		{"what is older there is older here", []tell{updated("m1", "y", 2), second(added("c1", "x", 9, from(1)))}, []string{"other m1 | u | fact | y | {}"}},
		{"a deletion that was followed", []tell{second(added("c1", "x", 9, from(1))), second(deleted("c1", 10, from(2)))}, nil},
		{"a deletion of a copy alone", []tell{added("m1", "x", 1), second(deleted("c1", 10, from(1)))}, []string{"other m1 | u | fact | x | {}"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newApplying(t)
			for _, e := range tt.events {
				s.follow(t, e)
			}
			s.wantCopies(t, tt.want...)
		})
	}
}

// Whoever hears of a deletion from us learns when it happened there.
func TestADeletionIsToldWithItsTime(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	s.follow(t, added("m1", "x", 1))
	s.follow(t, deleted("m1", 7))
	payload := rows[[]byte](t, s.pool, `SELECT payload FROM outbox WHERE event = 'memory_deleted'`)[0]
	var told struct{ Data memory.DeletedData }
	if err := json.Unmarshal(payload, &told); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"origin": "other", "origin_id": "m1", "origin_at": "2026-09-21T12:00:07Z"}
	if diff := cmp.Diff(want, told.Data.Result.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	history := rows[string](t, s.pool, `SELECT before #>> '{metadata,origin_at}' FROM memory_history WHERE operation = 'deleted'`)[0]
	if history != "2026-09-21T12:00:01Z" {
		t.Errorf("the history says that it was of %s", history)
	}
}

func line(event, id string, confidence float64, at int, metadata ...string) tell {
	more := ""
	if len(metadata) > 0 {
		more = `,"metadata":` + metadata[0]
	}
	return tell{event: event, at: at, data: fmt.Sprintf(
		`{"source":"Jane","relationship":"KNOWS","target":"Joe","result":{"id":%q,"confidence":%g}%s}`, id, confidence, more)}
}

// drawn are the lines, without their ids.
func (s *station) drawn(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' ', user_id, source, relationship, target, confidence, metadata) FROM relationships ORDER BY id`)
}

func TestFollowLines(t *testing.T) {
	t.Parallel()
	const theirs = `{"origin": "other", "origin_id": "l1"}`
	own := func(t *testing.T, s *station) {
		t.Helper()
		store := memory.NewStore(s.pool, s.router.applier.writer)
		if _, err := store.Relate(t.Context(), memory.Caller{Actor: "token/bot", All: true},
			memory.NewLink{UserID: "u", Source: "Jane", Relationship: "KNOWS", Target: "Joe"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		own    bool
		events []tell
		graph  []string
		told   []string
	}{
		{"drawn", false, []tell{line(memory.RelationshipAdded, "l1", 0.8, 0)}, []string{"u Jane KNOWS Joe 0.8 " + theirs}, []string{memory.RelationshipAdded}},
		{
			"drawn again", false, []tell{line(memory.RelationshipAdded, "l1", 0.8, 0), line(memory.RelationshipAdded, "l1", 0.8, 1)},
			[]string{"u Jane KNOWS Joe 0.8 " + theirs}, []string{memory.RelationshipAdded},
		},
		{
			"more sure", false, []tell{line(memory.RelationshipAdded, "l1", 0.8, 0), line(memory.RelationshipAdded, "l1", 0.9, 1)},
			[]string{"u Jane KNOWS Joe 0.9 " + theirs}, []string{memory.RelationshipAdded, memory.RelationshipAdded},
		},
		{
			"gone", false, []tell{line(memory.RelationshipAdded, "l1", 0.8, 0), line(memory.RelationshipDeleted, "l1", 0.8, 1)},
			nil, []string{memory.RelationshipAdded, memory.RelationshipDeleted},
		},
		{"gone before it was drawn", false, []tell{line(memory.RelationshipDeleted, "l1", 0.8, 1), line(memory.RelationshipAdded, "l1", 0.8, 0)}, nil, nil},
		{
			"drawn anew", false, []tell{line(memory.RelationshipDeleted, "l1", 0.8, 1), line(memory.RelationshipAdded, "l1", 0.8, 2)},
			[]string{"u Jane KNOWS Joe 0.8 " + theirs}, []string{memory.RelationshipAdded},
		},
		{"at second hand", false, []tell{line(memory.RelationshipAdded, "l1", 0.8, 0, `{"origin":"memrelay"}`)}, nil, nil},
		{
			"ours stays as it is", true, []tell{line(memory.RelationshipAdded, "l1", 0.5, 0), line(memory.RelationshipDeleted, "l1", 0.5, 1)},
			[]string{"u Jane KNOWS Joe 1 {}"}, []string{memory.RelationshipAdded},
		},
		{
			"a third's stays as it is", false, []tell{
				line(memory.RelationshipAdded, "l1", 0.8, 0),
				{event: memory.RelationshipDeleted, source: "third", data: line("", "l9", 1, 0).data, at: 5},
			}, []string{"u Jane KNOWS Joe 0.8 " + theirs}, []string{memory.RelationshipAdded},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newApplying(t)
			if tt.own {
				own(t, s)
			}
			var ids []int64
			for _, e := range tt.events {
				ids = append(ids, s.follow(t, e))
			}
			for range 2 {
				if diff := cmp.Diff(tt.graph, s.drawn(t)); diff != "" {
					t.Errorf("lines (-want +got):\n%s", diff)
				}
				s.wantNews(t, tt.told...)
				for _, id := range slices.Backward(ids) { // run again in any order, they come to the same
					s.runAgain(t, id)
				}
			}
		})
	}
}

// An agent draws the same line in the same moment. That is no fault of the event.
func TestALineThatIsDrawnMeanwhile(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	eventID, jobID := s.hear(t, line(memory.RelationshipAdded, "l1", 0.8, 0))
	row := s.begin(t, jobID)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `INSERT INTO relationships (id, user_id, source, relationship, target)
		VALUES ($1, 'u', 'Jane', 'KNOWS', 'Joe')`, uuid.New()); err != nil {
		t.Fatal(err)
	}
	worked := make(chan error, 1)
	go func() { worked <- s.attempt(t.Context(), row) }()
	for rows[int64](t, s.pool, `SELECT count(*) FROM pg_locks WHERE NOT granted`)[0] == 0 {
		select {
		case err := <-worked:
			t.Fatalf("the job did not wait for the other's line: %v", err)
		default:
		}
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-worked; err != nil {
		t.Errorf("the job returned %v", err)
	}
	if diff := cmp.Diff([]string{"u Jane KNOWS Joe 1 {}"}, s.drawn(t)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if got := rows[string](t, s.pool, `SELECT status FROM events WHERE id = $1`, eventID)[0]; got != "processed" {
		t.Errorf("the event is %s", got)
	}
}

// A copy that another system keeps of what we have from a third says so. That it is
// told of says nothing about the third's memory, which is still theirs to change.
func TestACopyOfACopyLeavesTheFirstTheirs(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	s.follow(t, added("m1", "x", 1))
	s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, remote_id, status) SELECT 'mem0', id, 'u', 'c1', 'synced' FROM memories`)
	back := added("c1", "x", -1, `{"origin":"other","origin_id":"m1","origin_at":"2026-09-21T12:00:01Z"}`)
	back.source = "mem0"
	s.follow(t, back)
	s.follow(t, updated("m1", "y", 2))
	s.wantCopies(t, "other m1 | u | fact | y | {}")
	// Once the copy is gone, too.
	s.exec(t, `DELETE FROM mirrors`)
	s.follow(t, back)
	s.wantCopies(t, "other m1 | u | fact | y | {}")
	s.follow(t, deleted("m1", 3))
	s.wantCopies(t)
}

// A copy of ours that a third system was told of comes back from there under another
// id: it says of which copy it was made, and that is one of ours.
func TestACopyThatComesBackFromAThird(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	id := s.remember(t, "x")
	s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, remote_id, status) VALUES ('mem0', $1, 'u', 'c1', 'synced')`, id)
	from := `{"origin":"mem0","origin_id":"c1","origin_at":"2026-09-21T12:00:01Z"}`
	s.follow(t, added("t1", "x", 5, from))
	s.wantCopies(t)
	s.exec(t, `DELETE FROM mirrors`)
	s.follow(t, updated("t1", "x", 6, from))
	s.wantCopies(t)
	s.wantNews(t, memory.Added)
}

// What one user says is no copy under way of what another said in the same words.
func TestTheSameWordsOfAnotherUserAreNoEcho(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	id := s.remember(t, "x")
	s.exec(t, `INSERT INTO mirrors (backend, memory_id, user_id, adding_since) VALUES ('mem0', $1, 'u', now())`, id)
	e := added("m1", "x", 1)
	e.user = "v"
	s.follow(t, e)
	s.wantCopies(t, "other m1 | v | fact | x | {}")
}
