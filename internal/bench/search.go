package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/postgres"
)

// What is searched: its size, and how unevenly it is shared. The heavy user is
// one more besides the many.
const (
	searchMemories = 1_000_000
	searchUsers    = 10_000
	searchHeavy    = 50_000
	searchSpan     = 2 * 365 * 24 * time.Hour // over which they were made
)

// owners says whose each memory is, in the order in which they are made: number 0
// is the heavy user, the others have 30 to 2,500 each.
func owners(random *rand.Rand, memories, users, heavy int) []int {
	all := make([]int, 0, memories)
	for range heavy {
		all = append(all, 0)
	}
	share := func(user int) float64 { return math.Pow(float64(user+20), -0.7) }
	var sum float64
	for user := 1; user < users; user++ {
		sum += share(user)
	}
	for user := 1; user < users; user++ {
		for range int(share(user) / sum * float64(memories-heavy)) {
			all = append(all, user)
		}
	}
	for len(all) < memories {
		all = append(all, 1+random.IntN(users-1))
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func userName(user int) string { return fmt.Sprintf("zoho:57257670%08d", user) }

// seed fills memories; the oldest comes first, as in life.
func seed(ctx context.Context, pool *pgxpool.Pool, c *corpus, of []int) error {
	began := time.Now().Add(-searchSpan)
	step := searchSpan / time.Duration(len(of)+1)
	i := 0
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"memories"},
		[]string{"id", "user_id", "kind", "content", "metadata", "checksum", "created_at", "updated_at"},
		pgx.CopyFromFunc(func() ([]any, error) {
			if i == len(of) {
				return nil, nil
			}
			kind, content := c.memory()
			at := began.Add(time.Duration(i) * step)
			id := uuid.UUID{6: 0x70, 8: 0x80}
			binary.BigEndian.PutUint32(id[:], uint32(i)) //nolint:gosec // a million
			row := []any{id, userName(of[i]), kind, content, []byte(`{"source":"bench"}`), make([]byte, 32), at, at}
			i++
			return row, nil
		}))
	if err != nil {
		return fmt.Errorf("seed memories: %w", err)
	}
	return nil
}

// searches measures how long one search after the other takes, and what the
// index of the words costs whoever writes.
func (b *bench) searches(ctx context.Context) ([]row, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	pool, err := postgres.Open(ctx, url+"&plan_cache_mode=force_custom_plan&default_text_search_config=english", postgres.Options{
		Log: slog.New(slog.DiscardHandler), Name: "bench", Unlimited: true,
	})
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	var rows []row
	figure := func(what, unit string, value float64) { rows = append(rows, row{what, unit, value}) }
	began := time.Now()
	step := func(what string, do func() error) error {
		err := do()
		fmt.Fprintf(os.Stderr, "%s: %.1f s\n", what, time.Since(began).Seconds())
		began = time.Now()
		return err
	}
	c := newCorpus(b.seed())
	statement := func(sql string) func() error {
		return func() error { _, err := pool.Exec(ctx, sql); return err }
	}
	for _, s := range []struct {
		what string
		do   func() error
	}{
		{"index dropped", statement(`DROP INDEX memories_search_idx`)},
		{"a million memories stored", func() error {
			return seed(ctx, pool, c, owners(c.random, searchMemories, searchUsers, searchHeavy))
		}},
		{"index built", statement(searchIndex)},
		{"analysed", statement(`VACUUM ANALYZE memories`)},
	} {
		if err := step(s.what, s.do); err != nil {
			return nil, fmt.Errorf("%s: %w", s.what, err)
		}
	}
	sizes := `SELECT pg_relation_size('memories_search_idx')::float8 / 1e6, pg_total_relation_size('memories')::float8 / 1e6`
	var index, all float64
	if err := pool.QueryRow(ctx, sizes).Scan(&index, &all); err != nil {
		return nil, fmt.Errorf("measure sizes: %w", err)
	}
	figure("1,000,000 memories of 10,000 users, all indexes included", "MB", all)
	figure("of that the index of the words", "MB", index)
	s := memory.NewSearcher(pool, memory.SearchOptions{Language: "english", Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	for _, m := range []struct {
		what, where string
		n           int
		everybody   bool
	}{
		{"within one user (30 to 2,500 memories)", `user_id <> $1`, 3000, false},
		{"within the user of 50,000", `user_id = $1`, 600, false},
		{"over all users", `user_id <> $1`, 200, true},
	} {
		asked, err := questions(ctx, pool, c, m.where, m.n+m.n/10, m.everybody)
		if err != nil {
			return nil, err
		}
		var t timing
		if err := step(m.what, func() error { return t.run(ctx, s, asked, m.n/10) }); err != nil {
			return nil, err
		}
		for _, typo := range []bool{false, true} {
			name := "search " + m.what
			if typo {
				name += ", a word mistyped"
			}
			figure(name+": p50", "ms", t.share(typo, 0.5))
			figure(name+": p99", "ms", t.share(typo, 0.99))
			figure(name+": memory meant is among the first five", "%", 100*t.hits(typo))
		}
	}
	with, without, err := insertCost(ctx, pool)
	if err != nil {
		return nil, err
	}
	figure("10,000 memories inserted, with the index of the words", "memories/s", with)
	figure("10,000 memories inserted, without", "memories/s", without)
	return rows, nil
}

// searchIndex is as the migrations make it.
const searchIndex = `CREATE INDEX memories_search_idx ON memories USING gin (user_id, search)`

// seed differs from round to round.
func (b *bench) seed() uint64 { return uint64(b.made) } //nolint:gosec // a few

// question is a search, and the memory that whoever asks has in mind.
type question struct {
	memory.Query
	meant uuid.UUID
	typo  bool
}

// questions are about memories anywhere in the table: a user with many is asked
// more often.
func questions(ctx context.Context, pool *pgxpool.Pool, c *corpus, where string, n int, everybody bool) ([]question, error) {
	rows, err := pool.Query(ctx, `SELECT id, user_id, content FROM memories WHERE `+where+` ORDER BY md5(id::text) LIMIT $2`, userName(0), n)
	if err != nil {
		return nil, fmt.Errorf("choose memories: %w", err)
	}
	var asked []question
	var id uuid.UUID
	var user, content string
	_, err = pgx.ForEachRow(rows, []any{&id, &user, &content}, func() error {
		text, typo := c.query(content)
		if everybody {
			user = ""
		}
		asked = append(asked, question{Query: memory.Query{UserID: user, Text: text, Limit: 10}, meant: id, typo: typo})
		return nil
	})
	return asked, err
}

// timing is how long searches took, and whether they found what was meant; those
// with a mistyped word apart.
type timing struct {
	took [2][]float64 // ms
	hit  [2]int
}

func kindOf(typo bool) int {
	if typo {
		return 1
	}
	return 0
}

// run asks one question after the other; the first are not counted.
func (t *timing) run(ctx context.Context, s *memory.Searcher, asked []question, warm int) error {
	for i, q := range asked {
		began := time.Now()
		found, err := s.Search(ctx, q.Query)
		took := time.Since(began)
		if err != nil {
			return fmt.Errorf("search %q: %w", q.Text, err)
		}
		if i < warm {
			continue
		}
		k := kindOf(q.typo)
		t.took[k] = append(t.took[k], float64(took.Microseconds())/1000)
		if slices.ContainsFunc(found[:min(5, len(found))], func(f memory.Found) bool { return f.ID == q.meant }) {
			t.hit[k]++
		}
	}
	for k := range t.took {
		slices.Sort(t.took[k])
	}
	return nil
}

func (t *timing) share(typo bool, share float64) float64 {
	took := t.took[kindOf(typo)]
	return took[int(share*float64(len(took)-1))]
}

func (t *timing) hits(typo bool) float64 {
	return float64(t.hit[kindOf(typo)]) / float64(len(t.took[kindOf(typo)]))
}

// insertCost inserts copies of memories in one statement and takes them back,
// with the index of the words and without it; per second, the best of three.
func insertCost(ctx context.Context, pool *pgxpool.Pool) (with, without float64, err error) {
	const n = 10_000
	insert := func(prepare string) (best float64, err error) {
		for range 3 {
			err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, prepare); err != nil {
					return err
				}
				if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE copies ON COMMIT DROP AS SELECT user_id, kind, content, metadata, checksum
					FROM memories ORDER BY md5(id::text) LIMIT 10000`); err != nil {
					return err
				}
				began := time.Now()
				if _, err := tx.Exec(ctx, `INSERT INTO memories (id, user_id, kind, content, metadata, checksum)
					SELECT gen_random_uuid(), user_id, kind, content, metadata, checksum FROM copies`); err != nil {
					return err
				}
				best = max(best, n/time.Since(began).Seconds())
				return errTakenBack
			})
			if !errors.Is(err, errTakenBack) {
				return 0, fmt.Errorf("insert memories: %w", err)
			}
		}
		return best, nil
	}
	if with, err = insert(`SELECT`); err != nil {
		return 0, 0, err
	}
	without, err = insert(`DROP INDEX memories_search_idx`)
	return with, without, err
}

// errTakenBack rolls a transaction back that did what it should.
var errTakenBack = errors.New("taken back")
