package reconcile

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/memory"
)

// A sync fails when Zoho lets us read nothing of it, and when a fault that nobody knows
// has lasted for a day. That is told, too, and not before.
func TestASyncThatGivesUpIsTold(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'ops', 'https://example.com', '{sync.failed}', '30s', '{1s,2s}')`, uuid.New())
	s.zoho.fail(func(_, _ string) error { return errors.New("a fault") })
	id := s.start(t, Full)
	s.work(t, id)
	if told := cataloguetest.Outbox(t, s.pool); told != nil {
		t.Fatalf("a sync that waits told %v", told)
	}
	s.exec(t, `UPDATE syncs SET updated_at = now() - interval '25 hours'`)
	s.work(t, id)
	if st := s.status(t, id); st.State != Failed || !strings.Contains(st.LastError, "a fault") {
		t.Fatalf("status %+v", st)
	}
	if diff := cmp.Diff([]string{memory.SyncFailed}, cataloguetest.Outbox(t, s.pool)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n != 1 {
		t.Errorf("%d relay jobs, want 1", n)
	}
}
