package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory"
)

// Two nodes draw and remove the same lines, and the memories that lines hang on, in
// whatever order they are asked: nobody ever waits for somebody who waits for him.
func TestTwoNodesNeverDeadlock(t *testing.T) {
	t.Parallel()
	const lines, rounds = 6, 60
	url := dbtest.URL(t)
	watch := open(t, url)
	var nodes []*shop
	for range 2 {
		nodes = append(nodes, shopOn(t, open(t, url), ""))
	}
	for round := range rounds {
		order := rand.New(rand.NewPCG(uint64(round), 7)).Perm(lines)
		derived := hang(t, nodes[0], lines)
		var all sync.WaitGroup
		for n, node := range nodes {
			for i := range lines {
				if n == 1 {
					i = order[i]
				}
				all.Go(func() { node.line(t, i, round) })
				all.Go(func() {
					if i%2 == n {
						done(t, second(node.Unrelate(t.Context(), ada(), derived[i].line)))
					} else {
						done(t, second(node.Delete(t.Context(), ada(), derived[i].memory)))
					}
				})
			}
		}
		all.Wait()
	}
	for _, node := range nodes {
		node.Wait()
		node.pool.Close()
	}
	// A backend reports its deadlocks at the latest when it ends.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for others := 1; others > 0; {
		err := watch.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&others)
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := rows[int64](t, watch, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)[0]; n != 0 {
		t.Errorf("%d deadlocks", n)
	}
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// hung is a memory and a line that was derived from it.
type hung struct{ memory, line uuid.UUID }

func hang(t *testing.T, s *shop, n int) []hung {
	t.Helper()
	all := make([]hung, n)
	for i := range all {
		all[i] = hung{memory: s.add(t, fmt.Sprint("likes tea ", i)).ID, line: uuid.New()}
		exec(t, s.pool, `INSERT INTO relationships (id, user_id, source, relationship, target, confidence, memory_id) VALUES ($1, 'ada', $2, 'MENTIONS_TOPIC', 'tea', 1, $3)`,
			all[i].line, memory.MemoryEntity(all[i].memory), all[i].memory)
	}
	return all
}

// line draws a line, or says something else of it, or removes it again.
func (s *shop) line(t *testing.T, i, round int) {
	confidence := float64(round%10) / 10
	l, err := s.Relate(t.Context(), ada(), memory.NewLink{UserID: "ada", Source: "ada", Relationship: "KNOWS", Target: fmt.Sprint(i), Confidence: &confidence})
	if err != nil {
		t.Error(err)
		return
	}
	done(t, second(s.Unrelate(t.Context(), ada(), l.ID)))
}

// done takes what was done, or was done by another before.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil && !errors.Is(err, memory.ErrNotFound) {
		t.Error(err)
	}
}

// A line that somebody is more or less sure of is as old as it was.
func TestALineKeepsItsAge(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	var drawn []memory.Link
	for _, confidence := range []float64{0.5, 0.9} {
		l, err := s.Relate(t.Context(), ada(), memory.NewLink{UserID: "ada", Source: "ada", Relationship: "KNOWS", Target: "bob", Confidence: &confidence})
		if err != nil {
			t.Fatal(err)
		}
		drawn = append(drawn, l)
	}
	g, err := memory.NewGraphs(s.pool).Neighbours(t.Context(), ada(), "ada", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(drawn[1:], g.Relationships); diff != "" {
		t.Errorf("the line as it was answered, and as it is shown (-answered +shown):\n%s", diff)
	}
	if drawn[0].ID != drawn[1].ID || !drawn[0].CreatedAt.Equal(drawn[1].CreatedAt) {
		t.Errorf("%+v became %+v", drawn[0], drawn[1])
	}
}
