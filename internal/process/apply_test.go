package process

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

// newApplying is a station that follows what other memory systems tell. What it
// remembers is copied to backend, if there is one.
func newApplying(t *testing.T, backend ...string) *station {
	t.Helper()
	s := newStation(t, Payloads{})
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	counts := counter.New(s.pool, uuid.New(), "test", 0, log)
	writer := memory.NewWriter(s.jobs, memory.Sender{Source: "memrelay", BotVersion: "1.2.3"}, strings.Join(backend, ""), time.Now)
	s.router.Apply(NewApplier(s.pool, writer, counts, log))
	return s
}

// tell is an event of another memory system as inbound stores it.
type tell struct {
	event   string
	user    string // "": u; "-": not said
	source  string // "": other
	data    string
	at      int    // seconds after noon; -1: not said
	eventID string // "": a fresh one
	noBody  bool
}

var noon = time.Date(2026, 9, 21, 12, 0, 0, 0, time.UTC)

func (s *station) hear(t *testing.T, e tell) (eventID, jobID int64) {
	t.Helper()
	if e.user == "" {
		e.user = "u"
	}
	e.user = strings.TrimPrefix(e.user, "-")
	if e.source == "" {
		e.source = "other"
	}
	stored := sent{source: "memory", module: e.event, operation: "update", recordID: "m", received: noon.Add(time.Hour)}
	if e.at >= 0 {
		stored.occurred = noon.Add(time.Duration(e.at) * time.Second)
	}
	if !e.noBody {
		stored.record = fmt.Sprintf(`{"event":%q,"user_id":%q,"source":%q,"data":%s}`, e.event, e.user, e.source, e.data)
	}
	eventID, jobID = s.receive(t, stored)
	if e.eventID == "" {
		e.eventID = fmt.Sprintf("w-%09d", eventID)
	}
	s.exec(t, `UPDATE events SET user_id = $2, event_id = $3 WHERE id = $1`, eventID, e.user, e.eventID)
	return eventID, jobID
}

// follow hears and works an event.
func (s *station) follow(t *testing.T, e tell) int64 {
	t.Helper()
	eventID, jobID := s.hear(t, e)
	if err := s.work(t, jobID); err != nil {
		t.Fatalf("follow event %d: %v", eventID, err)
	}
	return eventID
}

func added(id, content string, at int, metadata ...string) tell {
	return tell{event: memory.Added, data: `{"result":` + snapshotOf(id, content, metadata...) + `}`, at: at}
}

func updated(id, content string, at int, metadata ...string) tell {
	return tell{event: memory.Updated, data: `{"before":{},"after":` + snapshotOf(id, content, metadata...) + `}`, at: at}
}

func deleted(id string, at int, metadata ...string) tell {
	return tell{event: memory.Deleted, data: `{"result":` + snapshotOf(id, "what it was", metadata...) + `}`, at: at}
}

func snapshotOf(id, content string, metadata ...string) string {
	if len(metadata) == 0 {
		return fmt.Sprintf(`{"id":%q,"content":%q}`, id, content)
	}
	return fmt.Sprintf(`{"id":%q,"content":%q,"metadata":%s}`, id, content, metadata[0])
}

// copies are the memories that others told of.
func (s *station) copies(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' | ', origin || ' ' || origin_id, user_id, kind, content, metadata - 'origin' - 'origin_id' - 'origin_at')
		FROM memories WHERE origin IS NOT NULL ORDER BY origin, origin_id`)
}

func (s *station) wantCopies(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.copies(t)); diff != "" {
		t.Errorf("copies (-want +got):\n%s", diff)
	}
}

// news are the webhooks that tell of changes, in their order.
func (s *station) news(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT event FROM outbox ORDER BY seq`)
}

func (s *station) wantNews(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.news(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestFollowWhatIsTold(t *testing.T) {
	t.Parallel()
	withID := func(e, data string) tell { return tell{event: e, data: data} }
	for _, tt := range []struct {
		name   string
		events []tell
		copies []string
		told   []string
	}{
		{"an addition", []tell{added("m1", " likes tea\n", 0, `{"a":9007199254740993}`)}, []string{"other m1 | u | fact |  likes tea\n | {\"a\": 9007199254740993}"}, []string{memory.Added}},
		{"an addition of a kind", []tell{added("m1", "x", 0, `{"kind":"note"}`)}, []string{`other m1 | u | note | x | {"kind": "note"}`}, []string{memory.Added}},
		{"an addition of no kind of ours", []tell{added("m1", "x", 0, `{"kind":"secret"}`)}, []string{`other m1 | u | fact | x | {"kind": "secret"}`}, []string{memory.Added}},
		{
			"an update", []tell{added("m1", "x", 0, `{"a":1}`), updated("m1", "y", 1, `{"b":2}`)},
			[]string{`other m1 | u | fact | y | {"b": 2}`}, []string{memory.Added, memory.Updated},
		},
		{
			"an update that says nothing of the rest", []tell{added("m1", "x", 0, `{"a":1,"kind":"note"}`), updated("m1", "y", 1)},
			[]string{`other m1 | u | note | y | {"a": 1, "kind": "note"}`}, []string{memory.Added, memory.Updated},
		},
		{"an update of what is not known", []tell{updated("m1", "y", 1)}, []string{`other m1 | u | fact | y | {}`}, []string{memory.Added}},
		{"an update of nothing", []tell{added("m1", "x", 0, `{"a":1}`), updated("m1", "x", 1, `{"a":1}`)}, []string{`other m1 | u | fact | x | {"a": 1}`}, []string{memory.Added}},
		{"a deletion", []tell{added("m1", "x", 0), deleted("m1", 1)}, nil, []string{memory.Added, memory.Deleted}},
		{"a deletion of what is not known", []tell{deleted("m1", 1)}, nil, nil},
		{
			"a preference", []tell{withID(memory.PreferenceStored, `{"preference":"tea","category":"drinks","result":{"id":"p1"}}`)},
			[]string{`other p1 | u | preference | tea | {"kind": "preference", "category": "drinks"}`}, []string{memory.Added},
		},
		{
			"a correction", []tell{withID(memory.CorrectionStored, `{"original":"coffee","corrected":"tea","context":"mornings","result":{"id":"c1"}}`)},
			[]string{"other c1 | u | correction | tea (not: coffee)\nmornings | " + `{"kind": "correction", "context": "mornings", "original": "coffee", "corrected": "tea"}`}, []string{memory.Added},
		},
		{
			"a preference without an id", []tell{{event: memory.PreferenceStored, data: `{"preference":"tea"}`, eventID: "w-1"}},
			[]string{`other w-1 | u | preference | tea | {"kind": "preference"}`}, []string{memory.Added},
		},
		{
			"the same id with two systems", []tell{added("m1", "x", 0), {event: memory.Added, source: "third", data: `{"result":{"id":"m1","content":"y"}}`}},
			[]string{"other m1 | u | fact | x | {}", "third m1 | u | fact | y | {}"}, []string{memory.Added, memory.Added},
		},
		{
			"a user it does not say", []tell{{event: memory.Added, user: "-", source: "mem0", data: `{"result":{"id":"m1","content":"x"}}`, at: -1}}, nil, nil,
		},
		{
			"a user it does not say of a memory we know", []tell{
				{event: memory.Added, source: "mem0", data: `{"result":{"id":"m1","content":"x"}}`, at: -1},
				{event: memory.Updated, user: "-", source: "mem0", data: `{"after":{"id":"m1","content":"y"}}`, at: -1},
			}, []string{"mem0 m1 | u | fact | y | {}"}, []string{memory.Added, memory.Updated},
		},
		{"an account's user", []tell{{event: memory.Added, user: "zoho:77", data: `{"result":{"id":"m1","content":"x"}}`}}, []string{"other m1 | zoho:77 | fact | x | {}"}, []string{memory.Added}},
		{"a test", []tell{{event: memory.Added, data: `{"test":true,"result":{"id":"m1","content":"x"}}`}}, nil, nil},
		{"what is only logged", []tell{
			{event: memory.Searched, data: `{}`}, {event: memory.GraphBuilt, data: `{}`}, {event: memory.Optimized, data: `{}`},
			{event: memory.BatchOperationCompleted, data: `{"ids":["m1"]}`}, {event: memory.Failed, data: `{}`}, {event: "memory_categorized", data: `{"result":{"id":"m1"}}`},
		}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newApplying(t)
			for _, e := range tt.events {
				s.follow(t, e)
			}
			s.wantCopies(t, tt.copies...)
			s.wantNews(t, tt.told...)
			n := int64(len(tt.events))
			if got := s.counters(t, counter.Processed, counter.Backlog); !slices.Equal(got, []int64{n, 0}) {
				t.Errorf("counted %v, want %d processed and no backlog", got, n)
			}
			s.closed(t)
		})
	}
}

// What a copy says of where it comes from, its history, and the life of the event.
func TestACopyIsOnRecord(t *testing.T) {
	t.Parallel()
	s := newApplying(t, "mem0")
	eventID := s.follow(t, added("m1", "x", 1))
	want := `{"origin": "other", "origin_at": "2026-09-21T12:00:01Z", "origin_id": "m1"}`
	if got := rows[string](t, s.pool, `SELECT metadata::text FROM memories`)[0]; got != want {
		t.Errorf("metadata %s, want %s", got, want)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("added u by event %d memory_added", eventID)}, s.told(t)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	life := rows[string](t, s.pool, `SELECT station || ' ' || what FROM event_timeline WHERE event_id = $1 ORDER BY at, step`, eventID)
	if diff := cmp.Diff([]string{"inbound received", "process processed", "memory memory added", "outbound told"}, sortedSteps(life)); diff != "" {
		t.Errorf("the event's life (-want +got):\n%s", diff)
	}
	payload := rows[string](t, s.pool, `SELECT convert_from(payload, 'UTF8') FROM outbox`)[0]
	if !strings.Contains(payload, `"origin":"other"`) || !strings.Contains(payload, `"origin_id":"m1"`) {
		t.Errorf("what is told does not say where it comes from: %s", payload)
	}
	// The copy is copied in turn, like every memory.
	if n := s.count(t, "mirrors"); n != 1 {
		t.Errorf("%d lanes of copies, want 1", n)
	}
}

// sortedSteps are the steps of a life in their order: those of one moment have none.
func sortedSteps(life []string) []string {
	order := []string{"inbound", "process", "memory", "outbound"}
	slices.SortStableFunc(life, func(a, b string) int {
		return slices.Index(order, strings.Fields(a)[0]) - slices.Index(order, strings.Fields(b)[0])
	})
	return life
}

func TestNewerWins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		events []tell
		want   []string
	}{
		{"an addition after its update", []tell{updated("m1", "new", 2), added("m1", "old", 1)}, []string{"other m1 | u | fact | new | {}"}},
		{"updates the wrong way round", []tell{added("m1", "a", 1), updated("m1", "c", 3), updated("m1", "b", 2)}, []string{"other m1 | u | fact | c | {}"}},
		{"an update after the deletion that it was before", []tell{added("m1", "a", 1), deleted("m1", 3), updated("m1", "b", 2)}, nil},
		{"an update after a deletion", []tell{added("m1", "a", 1), deleted("m1", 2), updated("m1", "b", 3)}, nil},
		{"an addition after the deletion that it was before", []tell{deleted("m1", 2), added("m1", "a", 1)}, nil},
		{"a newer addition", []tell{added("m1", "a", 1), deleted("m1", 2), added("m1", "b", 3)}, []string{"other m1 | u | fact | b | {}"}},
		{"a newer addition and an update", []tell{added("m1", "a", 1), deleted("m1", 2), updated("m1", "c", 4), added("m1", "b", 3), updated("m1", "d", 5)}, []string{"other m1 | u | fact | d | {}"}},
		{"a deletion that is older", []tell{added("m1", "b", 3), deleted("m1", 2)}, []string{"other m1 | u | fact | b | {}"}},
		{
			"of one moment, by the ids", []tell{
				{event: memory.Updated, data: `{"after":{"id":"m1","content":"second"}}`, eventID: "b"},
				{event: memory.Added, data: `{"result":{"id":"m1","content":"first"}}`, eventID: "a"},
			}, []string{"other m1 | u | fact | second | {}"},
		},
		{"a clock that is far ahead does not overrule for ever", []tell{added("m1", "a", 24*3600), updated("m1", "b", 2*3600)}, []string{"other m1 | u | fact | b | {}"}},
		{"without a time, as they come", []tell{added("m1", "a", -1), updated("m1", "b", -1), updated("m1", "c", -1)}, []string{"other m1 | u | fact | c | {}"}},
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

// However the events of a memory arrive, alone or together, it ends the same.
func TestFollowingConverges(t *testing.T) {
	t.Parallel()
	events := []tell{added("m1", "a", 1), updated("m1", "b", 2), updated("m1", "c", 3), updated("m1", "d", 4)}
	dies := append(slices.Clone(events), deleted("m1", 5))
	draw := rand.New(rand.NewPCG(1, 2))
	s := newApplying(t)
	for round := range 30 {
		story, want := events, 1
		if round%2 == 1 {
			story, want = dies, 0
		}
		var units []arrival
		for _, i := range draw.Perm(len(story)) {
			e := story[i]
			e.data = strings.ReplaceAll(e.data, `"m1"`, fmt.Sprintf(`"m%d"`, round))
			eventID, jobID := s.hear(t, e)
			units = append(units, arrival{eventID: eventID, jobID: jobID})
		}
		if round%3 == 0 {
			var ids []int64
			for _, u := range units {
				ids = append(ids, u.jobID)
			}
			s.together(t, ids)
		} else {
			for _, u := range units {
				s.begin(t, u.jobID)
			}
			inGroup(t, s.pool, s.router.applier.write, units)
		}
		got := rows[string](t, s.pool, `SELECT content FROM memories WHERE origin_id = $1`, fmt.Sprintf("m%d", round))
		if len(got) != want || (want == 1 && got[0] != "d") {
			t.Errorf("round %d ended with %q", round, got)
		}
	}
	s.finish(t)
}

func TestAMemoryDeletedHereStaysSo(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	first := s.follow(t, added("m1", "x", 1))
	s.exec(t, `DELETE FROM memories`)
	s.follow(t, updated("m1", "y", 2))
	s.wantCopies(t)
	s.runAgain(t, first)
	s.wantCopies(t)
	s.follow(t, added("m1", "z", 3))
	s.wantCopies(t, "other m1 | u | fact | z | {}")
}

// runAgain runs an event again, as an operator does.
func (s *station) runAgain(t *testing.T, eventID int64) {
	t.Helper()
	operator := admin.New(s.pool, s.jobs, nil)
	if _, err := operator.Replay(t.Context(), admin.Actor{Name: "test"}, eventID, "to see"); err != nil {
		t.Fatal(err)
	}
	s.finish(t)
}

func TestReplayComesToTheSame(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	ids := []int64{s.follow(t, added("m1", "a", 1)), s.follow(t, updated("m1", "b", 2)), s.follow(t, added("m2", "x", 1)), s.follow(t, deleted("m2", 2))}
	before, told := s.copies(t), s.news(t)
	for _, id := range append(ids, ids...) {
		s.runAgain(t, id)
	}
	s.wantCopies(t, before...)
	s.wantNews(t, told...)
	if got := s.counters(t, counter.Backlog); got[0] != 0 {
		t.Errorf("backlog %d, want 0", got[0])
	}
}

// With MEMORY_INGEST=log nothing is followed; replayed once it is apply, it is.
func TestLoggedAndAppliedLater(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	applying := newApplying(t).router // of another database: only its kind is wanted
	eventID := s.follow(t, added("m1", "a", 1))
	s.wantCopies(t)
	if n := s.count(t, "told_memories"); n != 0 {
		t.Errorf("%d rows say how far others were followed", n)
	}
	if got := rows[string](t, s.pool, `SELECT status FROM events`)[0]; got != "processed" {
		t.Errorf("the event is %s, want processed", got)
	}
	s.runAgain(t, eventID)
	s.wantCopies(t)
	s.router.Apply(NewApplier(s.pool, applying.applier.writer, s.router.counts, s.router.log))
	s.runAgain(t, eventID)
	s.wantCopies(t, "other m1 | u | fact | a | {}")
}

// randomText is text of n characters that does not get shorter by compression.
func randomText(n int) string {
	draw := rand.New(rand.NewPCG(3, 4))
	text := make([]byte, n)
	for i := range text {
		text[i] = byte('a' + draw.IntN(26))
	}
	return string(text)
}

func TestPoisonOfOtherSystemsEndsDead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", memory.MaxContent+1)
	for _, tt := range []struct {
		name   string
		event  tell
		reason string
	}{
		{"no body", tell{event: memory.Added, noBody: true}, "no longer stored"},
		{"no memory", tell{event: memory.Added, data: `{}`}, "data.result"},
		{"no content", tell{event: memory.Added, data: `{"result":{"id":"m1"}}`}, "content is missing"},
		{"no preference", tell{event: memory.PreferenceStored, data: `{}`}, "content is missing"},
		{"no correction", tell{event: memory.CorrectionStored, data: `{"original":"x"}`}, "content is missing"},
		{"a deletion of nothing", tell{event: memory.Deleted, data: `{"result":{}}`}, "data.result.id"},
		{"too long", added("m1", long, 0), "longer than"},
		{"too much metadata", added("m1", "x", 0, `{"a":"`+long+`"}`), "metadata"},
		{"a number no metadata holds", added("m1", "x", 0, `{"a":1e500}`), "metadata"},
		{"an id that no key holds", added(randomText(9000), "x", 0), "id is longer than"},
		{"a line without a target", tell{event: memory.RelationshipAdded, data: `{"source":"a","relationship":"KNOWS"}`}, "data.target"},
		{"a line of too much confidence", tell{event: memory.RelationshipAdded, data: `{"source":"a","relationship":"KNOWS","target":"b","result":{"confidence":2}}`}, "confidence"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newApplying(t)
			s.follow(t, added("good", "before", 0))
			eventID, jobID := s.hear(t, tt.event)
			_, good := s.hear(t, added("better", "beside", 0))
			s.together(t, []int64{jobID, good})
			s.finish(t)
			var status, reason string
			if err := s.pool.QueryRow(t.Context(), `SELECT status, last_error FROM events WHERE id = $1`, eventID).Scan(&status, &reason); err != nil {
				t.Fatal(err)
			}
			if status != "dead" || !strings.Contains(reason, tt.reason) {
				t.Errorf("the event is %s for %q, want dead for %q", status, reason, tt.reason)
			}
			s.wantCopies(t, "other better | u | fact | beside | {}", "other good | u | fact | before | {}")
			if got := s.counters(t, counter.Backlog, counter.Dead, counter.Processed); !slices.Equal(got, []int64{0, 1, 2}) {
				t.Errorf("counted %v", got)
			}
		})
	}
}

func TestAMemoryKeepsItsUser(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	s.follow(t, added("m1", "x", 0))
	other := updated("m1", "y", 1)
	other.user = "somebody else"
	_, jobID := s.hear(t, other)
	if err := s.work(t, jobID); !errors.Is(err, errEvent) {
		t.Errorf("the job returned %v, want a fault of the event", err)
	}
	s.wantCopies(t, "other m1 | u | fact | x | {}")
}

// Row, memory, history, webhook, job: all of it or nothing, whichever statement fails.
func TestFollowLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, at := range []refusal{
		{table: "events", on: "UPDATE"}, {table: "told_memories", on: "INSERT"}, {table: "told_memories", on: "UPDATE"},
		{table: "memories", on: "INSERT"}, {table: "memory_history", on: "INSERT"}, {table: "outbox", on: "INSERT"}, {table: "mirrors", on: "INSERT"},
		{table: "river_job", on: "INSERT"}, {table: "counters", on: "INSERT", when: "new.name = 'processed'"},
		{table: "events", on: "UPDATE", atCommit: true}, {table: "memories", on: "INSERT", atCommit: true},
	} {
		t.Run(fmt.Sprintf("%s of %s, at commit %t", at.on, at.table, at.atCommit), func(t *testing.T) {
			t.Parallel()
			s := newApplying(t, "mem0")
			_, jobID := s.hear(t, added("m1", "x", 0))
			s.leavesNothingBehind(t, jobID, at)
			s.wantCopies(t, "other m1 | u | fact | x | {}")
			s.wantNews(t, memory.Added)
		})
	}
}

func TestAnEventIsFollowedOnce(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	eventID, first := s.hear(t, added("m1", "x", 0))
	s.begin(t, first)
	inserted, err := s.jobs.Insert(t.Context(), job.ProcessEvent{EventID: eventID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	second := inserted.Job.ID
	s.begin(t, second)
	answers := inGroup(t, s.pool, s.router.applier.write, []arrival{{eventID: eventID, jobID: first}, {eventID: eventID, jobID: second}, {eventID: eventID + 1, jobID: first}})
	if diff := cmp.Diff([]group.Answer[outcome]{{Value: outcomeApplied}, {}, {}}, answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	answers = inGroup(t, s.pool, s.router.applier.write, []arrival{{eventID: eventID, jobID: second}})
	if diff := cmp.Diff([]group.Answer[outcome]{{}}, answers); diff != "" {
		t.Errorf("answer once it has ended (-want +got):\n%s", diff)
	}
	s.wantNews(t, memory.Added)
	if got := s.counters(t, counter.Processed, counter.Backlog); !slices.Equal(got, []int64{1, 0}) {
		t.Errorf("counted %v", got)
	}
}

// An event that somebody else holds waits for the next group, and fails nobody.
func TestAnEventThatIsHeldWaits(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	eventID, jobID := s.hear(t, added("m1", "x", 0))
	release := s.hold(t, fmt.Sprintf(`SELECT FROM events WHERE id = %d FOR UPDATE`, eventID))
	answers := inGroup(t, s.pool, s.router.applier.write, []arrival{{eventID: eventID, jobID: jobID}})
	if len(answers) != 1 || !errors.Is(answers[0].Err, group.ErrHeld) {
		t.Errorf("answered %v, want that it is held", answers)
	}
	release()
	if err := s.work(t, jobID); err != nil {
		t.Error(err)
	}
	s.wantCopies(t, "other m1 | u | fact | x | {}")
}

// So does one whose memory somebody else holds; those beside it do not.
func TestAnEventOfAMemoryThatIsHeldWaits(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	s.follow(t, added("m1", "x", 0))
	var units []arrival
	for _, e := range []tell{updated("m1", "y", 1), added("m2", "z", 1)} {
		eventID, jobID := s.hear(t, e)
		s.begin(t, jobID)
		units = append(units, arrival{eventID: eventID, jobID: jobID})
	}
	release := s.hold(t, `SELECT FROM memories FOR UPDATE`)
	// Whoever waits for it would do so for ever.
	late := time.AfterFunc(10*time.Second, release)
	answers := inGroup(t, s.pool, s.router.applier.write, units)
	if !late.Stop() {
		t.Fatal("the group waited for the memory")
	}
	if diff := cmp.Diff([]group.Answer[outcome]{{Err: group.ErrHeld}, {Value: outcomeApplied}}, answers, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	s.wantCopies(t, "other m1 | u | fact | x | {}", "other m2 | u | fact | z | {}")
	release()
	inGroup(t, s.pool, s.router.applier.write, units[:1])
	s.wantCopies(t, "other m1 | u | fact | y | {}", "other m2 | u | fact | z | {}")
}

// Many events of few memories by two nodes at the same time: no deadlock, no unique
// violation that makes an event dead, one memory each.
func TestTwoNodesFollowTheSame(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	other := NewApplier(s.pool, s.router.applier.writer, s.router.counts, s.router.log)
	nodes := []*Router{s.router, {pool: s.pool, jobs: s.jobs, counts: s.router.counts, retry: testRetry(), log: s.router.log, applier: other}}
	nodes[1].commits = group.New(s.pool, nodes[1].route, nil, group.Options{})
	errs := make(chan error, 200)
	for i := range 100 {
		e := added(fmt.Sprintf("m%d", i%5), fmt.Sprint(i), i)
		if i%7 == 6 {
			e = tell{event: memory.RelationshipAdded, data: fmt.Sprintf(`{"source":"a","relationship":"KNOWS","target":"b","result":{"id":"l","confidence":0.%d}}`, i%9), at: i}
		}
		eventID, jobID := s.hear(t, e)
		row := s.begin(t, jobID)
		for _, n := range nodes {
			go func() {
				errs <- n.Work(t.Context(), &river.Job[job.ProcessEvent]{JobRow: row, Args: job.ProcessEvent{EventID: eventID}})
			}()
		}
	}
	for range 200 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s.wantCopies(t, "other m0 | u | fact | 95 | {}", "other m1 | u | fact | 96 | {}", "other m2 | u | fact | 92 | {}", "other m3 | u | fact | 98 | {}", "other m4 | u | fact | 99 | {}")
	if got := s.counters(t, counter.Processed, counter.Backlog, counter.Died, counter.Retried); !slices.Equal(got, []int64{100, 0, 0, 0}) {
		t.Errorf("counted %v", got)
	}
	if n := rows[int64](t, s.pool, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)[0]; n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	s.follow(t, added("stays", "x", 0))
	s.follow(t, deleted("gone", 0))
	s.follow(t, deleted("gone lately", 3600))
	s.exec(t, `UPDATE told_memories SET told_at = now() WHERE origin_id = 'gone lately'`)
	s.exec(t, `UPDATE told_memories SET told_at = now() - interval '91 days' WHERE origin_id <> 'gone lately'`)
	n, err := s.router.applier.Forget(t.Context(), 90*24*time.Hour)
	if err != nil || n != 1 {
		t.Errorf("forgot %d, %v, want 1", n, err)
	}
	if diff := cmp.Diff([]string{"gone lately", "stays"}, rows[string](t, s.pool, `SELECT origin_id FROM told_memories ORDER BY 1`)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}

// The sweeper finds an event that lost its job.
func TestAToldEventIsSweptLikeAllOthers(t *testing.T) {
	t.Parallel()
	s := newApplying(t)
	eventID, _ := s.hear(t, added("m1", "x", 0))
	s.exec(t, `DELETE FROM river_job`)
	orphans, err := db.New(s.pool).ListOrphanedEvents(t.Context(), 10)
	if err != nil || !slices.Equal(orphans, []int64{eventID}) {
		t.Errorf("without a job are %v (%v), want event %d", orphans, err, eventID)
	}
}

// Agents change and delete the very memories that others tell of: each change is made
// on what the one before has left, nobody waits in a circle, and no event fails.
func TestAgentsAndOthersChangeTheSame(t *testing.T) {
	t.Parallel()
	s := newApplying(t, "mem0")
	store := memory.NewStore(s.pool, s.router.applier.writer)
	agent := memory.Caller{Actor: "token/bot", All: true}
	const memories, rounds = 4, 40
	var told, done sync.WaitGroup
	errs := make(chan error, 4*memories*rounds)
	for i := range rounds {
		for m := range memories {
			e := updated(fmt.Sprintf("m%d", m), fmt.Sprintf("told %d", i), 2*i)
			if i%5 == 0 {
				e = added(fmt.Sprintf("m%d", m), fmt.Sprintf("told %d", i), 2*i)
			}
			eventID, jobID := s.hear(t, e)
			row := s.begin(t, jobID)
			told.Go(func() {
				errs <- s.router.Work(t.Context(), &river.Job[job.ProcessEvent]{JobRow: row, Args: job.ProcessEvent{EventID: eventID}})
			})
		}
	}
	stop := make(chan struct{})
	for n := range 4 {
		done.Go(func() {
			for i := n; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, id := range rows[uuid.UUID](t, s.pool, `SELECT id FROM memories ORDER BY id DESC`) {
					content := fmt.Sprintf("agent %d", i)
					_, err := store.Update(t.Context(), agent, id, memory.Patch{Content: &content})
					if i%7 == 0 {
						_, err = store.Delete(t.Context(), agent, id)
					}
					if err != nil && !errors.Is(err, memory.ErrNotFound) {
						t.Error(err)
					}
				}
			}
		})
	}
	told.Wait()
	close(stop)
	done.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if n := rows[int64](t, s.pool, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)[0]; n != 0 {
		t.Errorf("%d deadlocks", n)
	}
	// What a change says was before is what the one before it has left.
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM (SELECT before, lag(after) OVER (PARTITION BY memory_id ORDER BY id) AS left_behind FROM memory_history) AS h
		WHERE before IS DISTINCT FROM left_behind`)[0]; n != 0 {
		t.Errorf("%d changes overlook the one before", n)
	}
}
