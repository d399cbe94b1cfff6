package retention

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// Others get the database for as long as each slice had it, and a stop is heeded meanwhile.
func TestARunRestsAfterEachSlice(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	const old = `INSERT INTO events (source, event_id, digest, module, operation, record_id, status, received_at)
		SELECT 'zoho', i::text, sha256('body'), 'Contacts', 'update', i::text, 'ignored', now() - interval '100 days' FROM generate_series(1, 2500) AS i`
	if _, err := pool.Exec(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	var now time.Time
	var slept []time.Duration
	r := New(pool, Settings{Events: 90 * 24 * time.Hour, Repeats: time.Hour}, func() time.Time { now = now.Add(time.Hour); return now }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	r.rest = func(ctx context.Context, d time.Duration) error {
		slept = append(slept, d)
		cancel()
		return pause(ctx, d)
	}
	if f, err := r.Forget(ctx); !errors.Is(err, context.Canceled) || f.Events != 1000 {
		t.Errorf("%d events were deleted (%v), want 1000 before the run was ended", f.Events, err)
	}
	r.rest = func(_ context.Context, d time.Duration) error { slept = append(slept, d); return nil }
	if f, err := r.Forget(t.Context()); err != nil || f.Events != 1500 {
		t.Errorf("%d events were deleted (%v), want the other 1500", f.Events, err)
	}
	if diff := cmp.Diff([]time.Duration{time.Hour, time.Hour}, slept); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}
