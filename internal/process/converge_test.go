package process

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

// The same events, routed and synced in any order, in any company, and some of
// them twice, come to the same records and memories: those of the plain fold.
func TestEventsConvergeInAnyOrder(t *testing.T) {
	t.Parallel()
	keys := storyKeys(2, 4, 3)
	events := story(rand.New(rand.NewPCG(7, 7)), keys, 3, 70)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("order ", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 2))
			s := newStation(t, Payloads{})
			if seed%2 == 1 {
				s.handOver(t, 2) // some of the lanes find room, the others go through the queue
			}
			unrouted := s.receiveAll(t, events)
			r.Shuffle(len(unrouted), func(i, j int) { unrouted[i], unrouted[j] = unrouted[j], unrouted[i] })
			for len(unrouted) > 0 {
				n := min(1+r.IntN(12), len(unrouted))
				s.together(t, unrouted[:n])
				unrouted = unrouted[n:]
				// Some lanes run now, others when more has come.
				s.later(t)
				waiting := slices.DeleteFunc(s.waiting(t), func(id int64) bool { return r.IntN(3) > 0 || slices.Contains(unrouted, id) })
				s.together(t, waiting)
			}
			s.finish(t)
			s.replay(t, r, len(events)/4)
			s.finish(t)
			s.converged(t, foldAll(events))
		})
	}
}

// storyKeys are records for a story; accounts have the ids that it links to.
func storyKeys(accounts, contacts, tasks int) []recordKey {
	var keys []recordKey
	for i := range accounts {
		keys = append(keys, recordKey{"Accounts", fmt.Sprint(700 + i)})
	}
	for i := range contacts {
		keys = append(keys, recordKey{"Contacts", fmt.Sprint(i)})
	}
	for i := range tasks {
		keys = append(keys, recordKey{"Tasks", fmt.Sprint(i)})
	}
	return keys
}

// receiveAll stores events in one transaction and returns their jobs.
func (s *station) receiveAll(t *testing.T, events []Event) []int64 {
	t.Helper()
	var jobs []int64
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		params := make([]river.InsertManyParams, len(events))
		for i, e := range events {
			batch.Queue(`INSERT INTO events (id, source, event_id, digest, module, operation, record_id, occurred_at, received_at)
				VALUES ($1, 'zoho', $2, $3, $4, $5, $6, nullif($7::timestamptz, '0001-01-01 00:00:00+00'), $8)`,
				e.ID, uuid.NewString(), make([]byte, 32), e.Module, e.Operation, e.RecordID, e.OccurredAt, e.ReceivedAt)
			batch.Queue(`INSERT INTO event_bodies (event_id, received_at, body_id, record) VALUES ($1, $2, $1, $3)`, e.ID, e.ReceivedAt, e.Record)
			params[i].Args = job.ProcessEvent{EventID: e.ID}
		}
		if err := tx.SendBatch(t.Context(), batch).Close(); err != nil {
			return err
		}
		inserted, err := s.jobs.InsertManyTx(t.Context(), tx, params)
		for _, r := range inserted {
			jobs = append(jobs, r.Job.ID)
		}
		if err != nil {
			return err
		}
		return counter.AddOnce(t.Context(), tx, counter.Changes{counter.Backlog: int64(len(events))})
	})
	if err != nil {
		t.Fatalf("store %d events: %v", len(events), err)
	}
	return jobs
}

// replay runs n processed events once more.
func (s *station) replay(t *testing.T, r *rand.Rand, n int) {
	t.Helper()
	ids := rows[int64](t, s.pool, `SELECT id FROM events WHERE status = 'processed' ORDER BY id`)
	for _, i := range r.Perm(len(ids))[:n] {
		if _, err := db.New(s.pool).ResetEvent(t.Context(), db.ResetEventParams{ID: ids[i]}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.jobs.Insert(t.Context(), job.ProcessEvent{EventID: ids[i]}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// converged compares what is stored with what the events come to.
func (s *station) converged(t *testing.T, want map[recordKey]*record) {
	t.Helper()
	keys := sortedRecordKeys(want)
	modules, ids := splitKeys(keys)
	q := db.New(s.pool)
	stored, err := q.LockRecords(t.Context(), db.LockRecordsParams{Modules: modules, RecordIds: ids})
	if err != nil {
		t.Fatal(err)
	}
	got := map[recordKey]*record{}
	for _, row := range stored {
		r, err := readRecord(row)
		if err != nil {
			t.Fatal(err)
		}
		got[recordKey{r.module, r.id}] = r
	}
	if diff := cmp.Diff(want, got, sameRecord()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if n := s.count(t, "records"); n != int64(len(want)) {
		t.Errorf("%d records, want %d", n, len(want))
	}

	memories, err := q.ListMemoriesOfRecords(t.Context(), db.ListMemoriesOfRecordsParams{Modules: modules, RecordIds: ids})
	if err != nil {
		t.Fatal(err)
	}
	remembers := map[recordKey]*memory.Row{}
	for _, row := range memories {
		m, err := readMemory(row)
		if err != nil {
			t.Fatal(err)
		}
		m.ID, m.CreatedAt, m.UpdatedAt = uuid.Nil, time.Time{}, time.Time{}
		delete(m.Metadata, "modified_time") // when it was last written is no part of it
		remembers[recordKey{row.Module, row.RecordID}] = m
	}
	expects := map[recordKey]*memory.Row{}
	for k, r := range want {
		if m, ok := memoryOf(r, nil); ok {
			delete(m.Metadata, "modified_time")
			expects[k] = m
		}
	}
	if diff := cmp.Diff(expects, remembers); diff != "" {
		t.Errorf("memories (-want +got):\n%s", diff)
	}
	if n := s.count(t, "memories"); n != int64(len(expects)) {
		t.Errorf("%d memories, want %d", n, len(expects))
	}

	// Added and deleted take turns in the history of each record, and what was
	// added last is what is there.
	bad := rows[string](t, s.pool, `
		SELECT format('%s %s: %s added, %s deleted, %s memories', h.module, h.record_id, h.added, h.deleted, h.memories) FROM (
			SELECT module, record_id, count(*) FILTER (WHERE operation = 'added') AS added, count(*) FILTER (WHERE operation = 'deleted') AS deleted,
			       (SELECT count(*) FROM memories m WHERE m.module = x.module AND m.record_id = x.record_id) AS memories
			FROM memory_history x GROUP BY module, record_id) AS h
		WHERE h.added - h.deleted <> h.memories`)
	if diff := cmp.Diff([]string(nil), bad); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}
