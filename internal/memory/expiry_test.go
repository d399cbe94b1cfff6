package memory_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory"
)

// Whoever holds an expired memory may give it more time, as who merges another into
// it or follows its origin: then it is not removed any more.
func TestExpiryLooksAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	kept, gone := s.add(t, "likes tea"), s.add(t, "likes rum")
	exec(t, s.pool, `UPDATE memories SET expires_at = now() - interval '1 second'`)
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE memories SET expires_at = NULL WHERE id = $1`, kept.ID); err != nil {
		t.Fatal(err)
	}
	expired := make(chan error, 1) // Expire has listed both, and meets the one that is held
	go func() {
		n, err := s.Expire(t.Context())
		if err == nil && n != 1 {
			err = fmt.Errorf("%d memories were removed, want 1", n)
		}
		expired <- err
	}()
	waitFor(t, s.pool, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '-- name: ListMemoryIDs%')`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-expired; err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), ada(), kept.ID); err != nil {
		t.Errorf("a memory that has time left: %v", err)
	}
	if _, err := s.Get(t.Context(), ada(), gone.ID); !errors.Is(err, memory.ErrNotFound) {
		t.Errorf("a memory whose time is up: %v", err)
	}
}

func waitFor(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !rows[bool](t, pool, sql)[0]; {
		if time.Now().After(limit) {
			t.Fatalf("in vain: %s", sql)
		}
	}
}

// What nobody could be shown is not stored: a time that is in the year 10000 in UTC
// has no form in JSON.
func TestAnExpiryThatNobodyCanWrite(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	west := time.FixedZone("", -12*60*60)
	for _, tc := range []struct {
		at   time.Time
		good bool
	}{
		{time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), true},
		{time.Date(9999, 12, 31, 11, 59, 59, 0, west), true},
		{time.Date(9999, 12, 31, 23, 0, 0, 0, west), false},
	} {
		_, err := s.Add(t.Context(), ada(), memory.New{UserID: "ada", Content: "likes tea", ExpiresAt: &tc.at})
		var wrong *memory.Invalid
		if bad := errors.As(err, &wrong) && wrong.Field == "expires_at"; bad == tc.good || (tc.good && err != nil) {
			t.Errorf("%s: %v", tc.at, err)
		}
	}
	if p, err := s.List(t.Context(), ada(), memory.List{UserID: "ada", Limit: 10}); err != nil || len(p.Memories) != 2 {
		t.Errorf("%d memories, %v", len(p.Memories), err)
	}
}

// A page deep in a long list costs what the first one does.
func TestADeepPageIsFoundByItsKey(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(dbtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 1 // so that its statistics are those of the page
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	const all, limit = 3000, 20
	exec(t, pool, `INSERT INTO memories (id, user_id, kind, content, checksum, created_at)
		SELECT gen_random_uuid(), 'ada', 'fact', 'x', decode(repeat('00', 32), 'hex'), now() - i * interval '1 second' FROM generate_series(1, $1) AS i`, all)
	exec(t, pool, `ANALYZE memories`)
	s := shopOn(t, pool, "")
	read := func() int64 {
		exec(t, pool, `SELECT pg_stat_force_next_flush()`)
		return rows[int64](t, pool, `SELECT sum(idx_tup_read)::bigint + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'memories')
			FROM pg_stat_user_indexes WHERE relname = 'memories'`)[0]
	}
	l := memory.List{UserID: "ada", Limit: limit}
	var most int64
	for pages, before := 0, read(); pages < 2*all/limit && (pages == 0 || l.Cursor != ""); pages++ {
		p, err := s.List(t.Context(), ada(), l)
		if err != nil {
			t.Fatal(err)
		}
		l.Cursor = p.Next
		after := read()
		most, before = max(most, after-before), after
	}
	if most == 0 || most > all/10 {
		t.Errorf("a page of %d took up to %d rows of %d", limit, most, all)
	}
}
