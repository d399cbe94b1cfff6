package process

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/counter"
)

// One event carries what the database refuses. Nobody else may notice: not the
// other events of its account, and not those that share its transaction.
func TestPoisonStaysAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		value  string
		reason string
	}{
		{
			"a value that Postgres refuses", `"\u0000"`,
			"update records: ERROR: unsupported Unicode escape sequence (SQLSTATE 22P05)",
		}, {
			"a value that is no JSON", `{"half":`,
			"event cannot be worked: the value of Description is not JSON",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const poison, accounts, contacts = "3", 7, 3
			var seen atomic.Int64
			barrier := newBarrier(accounts)
			s := newStation(t, sourceFunc(func(ctx context.Context, events []Event) ([]Observation, error) {
				observations, err := Payloads{}.Observe(ctx, events)
				for i, o := range observations {
					if o.RecordID == poison {
						seen.Add(1)
						observations[i].Fields = maps.Clone(o.Fields)
						observations[i].Fields["Description"] = json.RawMessage(tt.value)
					}
				}
				// All come to write at the same time, so that they share transactions.
				barrier.wait()
				return observations, err
			}))
			var arrivals []int64
			for i := range accounts * contacts {
				id := fmt.Sprint(i)
				_, jobID := s.receive(t, sent{module: "Contacts", operation: "create", recordID: id, record: contact(id, fmt.Sprint("7", i%accounts), "a@example.com")})
				arrivals = append(arrivals, jobID)
			}
			s.together(t, arrivals)
			s.together(t, s.waiting(t))

			if diff := cmp.Diff([]string{"retrying 1 " + tt.reason}, s.fates(t, `record_id = '3'`)); diff != "" {
				t.Errorf("the poison after one attempt (-want +got):\n%s", diff)
			}
			s.healthy(t, poison, accounts*contacts-1)
			lane := s.lane(t, "73")
			if lane.Due == nil || lane.LastError != tt.reason {
				t.Errorf("its lane is %+v, want it due for the next attempt", lane)
			}
			s.noOrphans(t)

			s.finish(t)
			if diff := cmp.Diff([]string{"dead 3 " + tt.reason}, s.fates(t, `record_id = '3'`)); diff != "" {
				t.Errorf("the poison in the end (-want +got):\n%s", diff)
			}
			if got := seen.Load(); got != int64(testRetry().MaxAttempts) {
				t.Errorf("the poison was tried %d times, want %d", got, testRetry().MaxAttempts)
			}
			s.healthy(t, poison, accounts*contacts-1)
			if diff := cmp.Diff([]int64{20, 2, 1, 1}, s.counters(t, counter.Processed, counter.Retried, counter.Died, counter.Dead)); diff != "" {
				t.Errorf("processed, retried, died, dead (-want +got):\n%s", diff)
			}
			if n := rows[int64](t, s.pool, `SELECT count(*) FROM records WHERE record_id = $1`, poison)[0]; n != 0 {
				t.Errorf("the poison left %d records behind", n)
			}
		})
	}
}

// An event that cannot be routed leaves the others of its group alone too.
func TestPoisonAtTheRouter(t *testing.T) {
	t.Parallel()
	s := newStation(t, Payloads{})
	var jobs []int64
	for i := range 20 {
		accountID := "77"
		if i == 7 {
			accountID = `\u0000` // JSON takes it, text does not
		}
		id := fmt.Sprint(i)
		record := fmt.Sprintf(`{"Last_Name":"Doe","Account_Name":{"id":"%s"}}`, accountID)
		_, jobID := s.receive(t, sent{module: "Contacts", operation: "create", recordID: id, record: record})
		jobs = append(jobs, jobID)
	}
	s.together(t, jobs)
	s.finish(t)
	got := s.fates(t, `status <> 'processed'`)
	if diff := cmp.Diff([]string{`dead 3 lock accounts: ERROR: invalid byte sequence for encoding "UTF8": 0x00 (SQLSTATE 22021)`}, got); diff != "" {
		t.Errorf("what was not processed (-want +got):\n%s", diff)
	}
	s.healthy(t, "7", 19)
	if diff := cmp.Diff([]int64{0, 19, 1}, s.counters(t, counter.Backlog, counter.Processed, counter.Dead)); diff != "" {
		t.Errorf("backlog, processed, dead (-want +got):\n%s", diff)
	}
}

// fates are what became of events.
func (s *station) fates(t *testing.T, where string) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT concat_ws(' ', status, failures, last_error) FROM events WHERE `+where+` ORDER BY id`)
}

// healthy checks that all records but one were processed and told once.
func (s *station) healthy(t *testing.T, poison string, want int) {
	t.Helper()
	got := rows[int64](t, s.pool, `SELECT count(*) FROM events WHERE record_id <> $1 AND status = 'processed' AND failures = 0
		UNION ALL SELECT count(*) FROM memories WHERE record_id <> $1
		UNION ALL SELECT count(*) FROM memory_history WHERE record_id <> $1
		UNION ALL SELECT count(*) FROM outbox`, poison)
	n := int64(want)
	if diff := cmp.Diff([]int64{n, n, n, n}, got); diff != "" {
		t.Errorf("healthy events, their memories, changes and webhooks (-want +got):\n%s", diff)
	}
}
