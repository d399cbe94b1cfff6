package mirror

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

func (s *station) mend(t *testing.T, m *Mirror) (n int) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) (err error) {
		n, err = m.Mend(t.Context(), tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Having no live job is the only reason to mend.
func TestMend(t *testing.T) {
	t.Parallel()
	s := newStation(t, func(o *Options) { o.Digester = &fakeDigester{} })
	s.copied(t, "at rest") // and its digest waits
	dead := s.add(t, "dead")
	s.exec(t, `UPDATE mirrors SET status = 'dead', due_at = NULL, job_id = NULL WHERE memory_id = $1`, dead.ID)
	late := s.add(t, "late")
	s.exec(t, `UPDATE mirrors SET due_at = now() - interval '1 day' WHERE memory_id = $1`, late.ID)
	running := s.add(t, "running")
	s.begin(t, running)
	if n := s.mend(t, s.m); n != 0 {
		t.Errorf("%d lanes mended, want none", n)
	}

	var orphans []uuid.UUID
	for _, fate := range []string{
		`DELETE FROM river_job WHERE id = $1`,
		`UPDATE river_job SET state = 'discarded', finalized_at = now() WHERE id = $1`,
		`UPDATE river_job SET state = 'cancelled', finalized_at = now() WHERE id = $1`,
		`UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1`,
	} {
		r := s.add(t, fate)
		orphans = append(orphans, r.ID)
		s.exec(t, fate, one[int64](t, s, `SELECT job_id FROM mirrors WHERE memory_id = $1`, r.ID))
	}
	taken := s.add(t, "taken, then lost")
	orphans = append(orphans, taken.ID)
	j := s.begin(t, taken)
	if _, err := s.m.claims.Do(t.Context(), claim{taken.ID, j.ID}); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `DELETE FROM river_job WHERE id = $1 OR kind = 'cognify'`, j.ID)

	if n := s.mend(t, s.node(t)); n != len(orphans)+1 {
		t.Errorf("%d lanes mended, want %d and the digest", n, len(orphans))
	}
	if n := s.mend(t, s.m); n != 0 {
		t.Errorf("%d lanes mended twice", n)
	}
	if n := one[int](t, s, `SELECT count(*) FROM digests d JOIN river_job j ON j.id = d.job_id AND j.state = 'available'`); n != 1 {
		t.Error("the digest has no job")
	}
	s.settle(t)
	if n := one[int](t, s, `SELECT count(*) FROM mirrors WHERE status = 'synced'`); n != len(orphans)+3 {
		t.Errorf("%d lanes came to rest, want %d", n, len(orphans)+3)
	}
}

func TestStatusAndHealth(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	q := db.New(s.pool)
	health := func(want ...string) {
		t.Helper()
		got, err := Health(t.Context(), q, "cognee")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("health, %v (-want +got):\n%s", err, diff)
		}
	}
	status, err := State(t.Context(), q, "cognee")
	if diff := cmp.Diff(Status{Backend: "cognee", DeadLanes: []DeadLane{}}, status); err != nil || diff != "" {
		t.Errorf("of nothing, %v (-want +got):\n%s", err, diff)
	}
	health()

	s.copied(t, "synced")
	s.add(t, "pending")
	retrying, dead := s.add(t, "unspeakable"), s.add(t, "unspeakable, too")
	s.f.Refuse("unspeakable")
	s.work(t, retrying)
	for range mostRefusals {
		s.work(t, dead)
	}
	s.outage(t)
	s.exec(t, `UPDATE breakers SET reason = 'unavailable: of secrets'`)
	s.exec(t, `INSERT INTO digests (backend, wanted, done, state, failures, last_error) VALUES ('cognee', 9, 5, 'retrying', 3, 'the run ended with an error')`)
	status, err = State(t.Context(), q, "cognee")
	if err != nil {
		t.Fatal(err)
	}
	if status.WaitingSince == nil || !status.Breaker.Open || len(status.DeadLanes) != 1 || status.DeadLanes[0].MemoryID != dead.ID.String() ||
		status.DeadLanes[0].LastError != "add: refused: unspeakable" {
		t.Errorf("status %+v", status)
	}
	if got := [4]int64{status.Synced, status.Pending, status.Retrying, status.Dead}; got != [4]int64{1, 1, 1, 1} {
		t.Errorf("synced, pending, retrying, dead: %v, want one of each", got)
	}
	want := &DigestStatus{State: "retrying", Waiting: 4, Failures: 3, LastError: "the run ended with an error"}
	if diff := cmp.Diff(want, status.Cognify); diff != "" {
		t.Errorf("cognify (-want +got):\n%s", diff)
	}
	health(
		"Copies for cognee wait, it is unavailable: `memrelay memory status` says more.",
		"1 memories could not be copied to cognee: `memrelay memory status` says why, `memrelay memory resync` tries again.",
		"cognee does not work up what was copied: `memrelay memory status` says why.",
	)
	if other, err := Health(t.Context(), q, "mem0"); err != nil || other != nil {
		t.Errorf("health of another backend: %v, %v", other, err)
	}
}
