package process

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/memory"
)

// watchDeaths lets an endpoint ask to be told of events that die.
func (s *station) watchDeaths(t *testing.T) {
	t.Helper()
	s.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'ops', 'https://example.com', '{event.dead}', '30s', '{1s,2s}')`, uuid.New())
}

// deaths are what is told of events that died.
func (s *station) deaths(t *testing.T) []memory.EventDeadData {
	t.Helper()
	cataloguetest.Outbox(t, s.pool)
	var all []memory.EventDeadData
	for _, payload := range rows[[]byte](t, s.pool, `SELECT payload FROM outbox WHERE event = 'event.dead' ORDER BY seq`) {
		var told struct{ Data memory.EventDeadData }
		if err := json.Unmarshal(payload, &told); err != nil {
			t.Fatal(err)
		}
		all = append(all, told.Data)
	}
	return all
}

// dyingWay is a way in which an event dies.
type dyingWay struct {
	name    string
	station func(t *testing.T) *station
	// receive brings the event that will die, as far as its last step that succeeds.
	receive func(t *testing.T, s *station) int64
	want    memory.EventDeadData // Error: a part of it
}

// spoilt are payloads of which those of record 3 are spoilt.
func spoilt(spoil func(*Observation)) Source {
	return sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
		observations, err := Payloads{}.Observe(ctx, events)
		for i := range observations {
			if observations[i].RecordID == "3" {
				spoil(&observations[i])
			}
		}
		return observations, err
	})
}

func routeThird(t *testing.T, s *station) int64 {
	t.Helper()
	return s.route(t, sent{module: "Contacts", operation: "create", recordID: "3", record: contact("3", "77", "a@example.com")})
}

func dyingWays() []dyingWay {
	return []dyingWay{
		{
			name:    "it cannot be routed",
			station: func(t *testing.T) *station { return newStation(t, Payloads{}) },
			receive: func(t *testing.T, s *station) int64 {
				id, _ := s.receive(t, sent{module: "Contacts", operation: "update", recordID: "3", record: `[3]`})
				return id
			},
			want: memory.EventDeadData{Source: "zoho", Module: "Contacts", Operation: "update", RecordID: "3", Error: "not a JSON object"},
		}, {
			name: "the source finds fault with it",
			station: func(t *testing.T) *station {
				return newStation(t, spoilt(func(o *Observation) { o.Err = fmt.Errorf("%w: half of it is missing", errEvent) }))
			},
			receive: routeThird,
			want:    memory.EventDeadData{Source: "zoho", Module: "Contacts", Operation: "create", RecordID: "3", Error: "half of it is missing"},
		}, {
			name: "Postgres refuses what it says",
			station: func(t *testing.T) *station {
				return newStation(t, spoilt(func(o *Observation) {
					o.Fields = maps.Clone(o.Fields)
					o.Fields["Description"] = json.RawMessage(`"\u0000"`)
				}))
			},
			receive: routeThird,
			want:    memory.EventDeadData{Source: "zoho", Module: "Contacts", Operation: "create", RecordID: "3", Error: "SQLSTATE 22P05"},
		}, {
			name:    "another memory system says nothing that can be followed",
			station: func(t *testing.T) *station { return newApplying(t) },
			receive: func(t *testing.T, s *station) int64 {
				id, _ := s.hear(t, tell{event: memory.Added, data: `{}`})
				return id
			},
			want: memory.EventDeadData{Source: "memory", Module: memory.Added, Operation: "update", RecordID: "m", Error: "data.result"},
		},
	}
}

// Operators are told of each death once: not of attempts before it, not by attempts
// that come late, and again of one that dies again.
func TestAnEventThatDiesIsToldOnce(t *testing.T) {
	t.Parallel()
	for _, way := range dyingWays() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := way.station(t)
			s.watchDeaths(t)
			eventID := way.receive(t, s)
			// A lane with more to do than the event that dies.
			s.route(t, sent{module: "Contacts", operation: "create", recordID: "4", record: contact("4", "77", "a@example.com")})
			for attempt := 1; attempt < testRetry().MaxAttempts; attempt++ {
				s.later(t)
				s.together(t, s.waiting(t))
				if told := s.deaths(t); told != nil {
					t.Fatalf("told of after %d attempts: %+v", attempt, told)
				}
			}
			s.finish(t)
			want := way.want
			want.EventID, want.Failures = eventID, int64(testRetry().MaxAttempts)
			wantDeaths := func(n int) {
				t.Helper()
				told := s.deaths(t)
				if len(told) != n {
					t.Fatalf("told of %d times, want %d: %+v", len(told), n, told)
				}
				for _, death := range told {
					if !strings.Contains(death.Error, want.Error) {
						t.Errorf("it is told to have died of %q, want %q", death.Error, want.Error)
					}
					death.Error = want.Error
					if diff := cmp.Diff(want, death); diff != "" {
						t.Errorf("told (-want +got):\n%s", diff)
					}
				}
			}
			wantDeaths(1)
			if got := rows[string](t, s.pool, `SELECT DISTINCT user_id FROM outbox WHERE event = 'event.dead'`); !cmp.Equal(got, []string{memory.SystemUser}) {
				t.Errorf("told of %v, want the system", got)
			}
			// A relay job for the memory that was stored, one for the death.
			if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n != 2 {
				t.Errorf("%d relay jobs, want 2", n)
			}
			// Other workers that come late find it dead.
			if _, err := s.router.mark(t.Context(), eventID, errEvent); err != nil {
				t.Error(err)
			}
			wantDeaths(1)
			s.runAgain(t, eventID)
			wantDeaths(2)
		})
	}
}

// What nobody asks for costs nothing: "all" does not mean what is told of the
// program itself.
func TestADeathThatNobodyAsksForIsNotTold(t *testing.T) {
	t.Parallel()
	for _, way := range dyingWays() {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := way.station(t)
			s.exec(t, `UPDATE endpoints SET events = '{*}'`)
			way.receive(t, s)
			s.finish(t)
			if got := rows[string](t, s.pool, `SELECT status FROM events`); !cmp.Equal(got, []string{"dead"}) {
				t.Errorf("the event is %v, want it dead", got)
			}
			if n := s.count(t, "outbox"); n != 0 {
				t.Errorf("%d webhooks, want none", n)
			}
			if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n != 0 {
				t.Errorf("%d relay jobs, want none", n)
			}
		})
	}
}

// The death and what tells of it are true together, whichever statement fails.
func TestADeathAndItsWebhookOrNeither(t *testing.T) {
	t.Parallel()
	for _, at := range []refusal{
		{table: "endpoints", hide: true},
		{table: "events", on: "UPDATE", when: `NEW.status = 'dead'`},
		{table: "outbox", on: "INSERT"},
		{table: "river_job", on: "INSERT", when: `NEW.kind = 'relay'`},
		{table: "counters", on: "INSERT"},
		{table: "outbox", on: "INSERT", atCommit: true},
	} {
		for _, way := range dyingWays() {
			t.Run(way.name+", "+at.on+" of "+at.table, func(t *testing.T) {
				t.Parallel()
				s := way.station(t)
				s.watchDeaths(t)
				eventID := way.receive(t, s)
				s.exec(t, `UPDATE events SET failures = $2 WHERE id = $1`, eventID, testRetry().MaxAttempts-1)
				s.later(t)
				row := s.begin(t, s.waiting(t)[0])
				mend := s.refuse(t, broken(at))
				err := s.attempt(t.Context(), row)
				mend()
				if !isSnooze(err) {
					t.Errorf("the job returned %v, want a snooze", err)
				}
				if got := rows[string](t, s.pool, `SELECT status FROM events`); cmp.Equal(got, []string{"dead"}) || s.count(t, "outbox") != 0 {
					t.Errorf("the event is %v and %d webhooks are left behind", got, s.count(t, "outbox"))
				}
				if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n != 0 {
					t.Errorf("%d relay jobs are left behind", n)
				}
				s.end(t, row, err)
				s.finish(t)
				if told := s.deaths(t); len(told) != 1 {
					t.Errorf("once all was well it was told %d times, want once", len(told))
				}
			})
		}
	}
}

// What dies in one transaction is told with what else it changed, by one job.
func TestDeathsOfOneTransactionHaveOneRelayJob(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	s.watchDeaths(t)
	for _, id := range []string{"1", "2", "3"} {
		s.route(t, sent{module: "Contacts", operation: "create", recordID: id, record: contact(id, "77", "a@example.com")})
	}
	s.exec(t, `DELETE FROM event_bodies USING events WHERE id = event_bodies.event_id AND record_id <> '2'`)
	s.exec(t, `UPDATE events SET failures = $1`, testRetry().MaxAttempts-1)
	unit := s.observed(t, "77")
	unit.failures = append(unit.failures, unit.failures...) // two attempts of one job
	if _, err := s.syncer.writes.Do(t.Context(), unit); err != nil {
		t.Fatal(err)
	}
	var died []string
	for _, d := range s.deaths(t) {
		died = append(died, d.RecordID)
	}
	if diff := cmp.Diff([]string{"1", "3"}, died, sortedLines()); diff != "" {
		t.Errorf("told to be dead (-want +got):\n%s", diff)
	}
	got := rows[string](t, s.pool, `SELECT event FROM outbox ORDER BY seq`)
	if diff := cmp.Diff([]string{memory.Added, memory.EventDead, memory.EventDead}, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n != 1 {
		t.Errorf("%d relay jobs, want 1", n)
	}
}
