package memory_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/catalogue/cataloguetest"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/memory"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// shop is a store on a database of its own, with somebody who wants all webhooks.
type shop struct {
	*memory.Store
	writer *memory.Writer
	pool   *pgxpool.Pool
}

func newShop(t testing.TB, backend string) *shop {
	t.Helper()
	pool := dbtest.New(t)
	exec(t, pool, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
		VALUES ($1, 'all', 'https://example.com', $2, '30s', '{1s,2s}')`, uuid.New(), memory.Events())
	return shopOn(t, pool, backend)
}

// shopOn is one more node.
func shopOn(t testing.TB, pool *pgxpool.Pool, backend string) *shop {
	t.Helper()
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	writer := memory.NewWriter(jobs, memory.Sender{Source: "memrelay", BotVersion: "1.2.3"}, backend, time.Now)
	s := &shop{Store: memory.NewStore(pool, writer), writer: writer, pool: pool}
	t.Cleanup(s.Wait)
	return s
}

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func rows[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) []T {
	t.Helper()
	result, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(result, pgx.RowTo[T])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// told are the webhooks in their order: event, user, data.
func (s *shop) told(t *testing.T) []string {
	t.Helper()
	cataloguetest.Outbox(t, s.pool)
	return rows[string](t, s.pool, `SELECT event || ' ' || user_id || ' ' || (convert_from(payload, 'UTF8')::jsonb -> 'data')::text FROM outbox ORDER BY seq`)
}

// all is everything that a write could leave behind, but for webhooks of failures.
func (s *shop) counts(t *testing.T) [6]int {
	t.Helper()
	var n [6]int
	err := s.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM memories), (SELECT count(*) FROM memory_history), (SELECT count(*) FROM relationships),
		(SELECT count(*) FROM outbox), (SELECT count(*) FROM idempotency_keys), (SELECT count(*) FROM mirrors)`).Scan(&n[0], &n[1], &n[2], &n[3], &n[4], &n[5])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func ada() memory.Caller {
	return memory.Caller{Actor: "token/ada", UserIDs: []string{"ada"}, RequestID: "r-1"}
}

func (s *shop) add(t *testing.T, content string) memory.Row {
	t.Helper()
	r, err := s.Add(t.Context(), ada(), memory.New{UserID: "ada", Content: content})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheLifeOfAMemory(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	r, err := s.Add(t.Context(), ada(), memory.New{UserID: "ada", Content: "likes tea", Metadata: map[string]any{"n": json.Number("12345678901234567890"), "of": []any{"a"}}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Kind != "fact" || r.Content != "likes tea" || r.UserID != "ada" || r.CreatedAt.IsZero() {
		t.Errorf("added %+v", r)
	}
	got, err := s.Get(t.Context(), ada(), r.ID)
	if diff := cmp.Diff(r, got); err != nil || diff != "" {
		t.Errorf("what was answered and what is there, %v (-answered +there):\n%s", err, diff)
	}
	coffee := "likes coffee"
	changed, err := s.Update(t.Context(), ada(), r.ID, memory.Patch{Content: &coffee})
	if err != nil || changed.Content != coffee || changed.ID != r.ID {
		t.Errorf("updated to %+v, %v", changed, err)
	}
	if _, err := s.Update(t.Context(), ada(), r.ID, memory.Patch{Content: &coffee}); err != nil {
		t.Errorf("a change of nothing: %v", err)
	}
	gone, err := s.Delete(t.Context(), ada(), r.ID)
	if err != nil || gone.Content != coffee {
		t.Errorf("deleted %+v, %v", gone, err)
	}
	for name, err := range map[string]error{
		"get":    second(s.Get(t.Context(), ada(), r.ID)),
		"update": second(s.Update(t.Context(), ada(), r.ID, memory.Patch{Content: &coffee})),
		"delete": second(s.Delete(t.Context(), ada(), r.ID)),
	} {
		if !errors.Is(err, memory.ErrNotFound) {
			t.Errorf("%s of what is gone: %v", name, err)
		}
	}
	was := fmt.Sprintf(`{"id": "%s", "content": "likes tea", "metadata": {"n": 12345678901234567890, "of": ["a"]}}`, r.ID)
	is := fmt.Sprintf(`{"id": "%s", "content": "likes coffee", "metadata": {"n": 12345678901234567890, "of": ["a"]}}`, r.ID)
	if diff := cmp.Diff([]string{
		`memory_added ada {"result": ` + was + `}`, `memory_updated ada {"after": ` + is + `, "before": ` + was + `}`, `memory_deleted ada {"result": ` + is + `}`,
	}, s.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if ids := rows[string](t, s.pool, `SELECT DISTINCT convert_from(payload, 'UTF8')::jsonb ->> 'request_id' FROM outbox`); !cmp.Equal(ids, []string{"r-1"}) {
		t.Errorf("request ids told: %q", ids)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'relay'`)[0]; n == 0 {
		t.Error("nobody relays what was told")
	}
	history, err := s.History(t.Context(), ada(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var operations []string
	for _, v := range history {
		operations = append(operations, v.Operation+" by "+v.Actor)
		if v.WebhookID == nil {
			t.Errorf("%s: history does not name its webhook", v.Operation)
		}
	}
	if diff := cmp.Diff([]string{"deleted by token/ada", "updated by token/ada", "added by token/ada"}, operations); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

func second[T any](_ T, err error) error { return err }

// What is not the caller's is not there.
func TestOthersMemoriesAreNotThere(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	r := s.add(t, "likes tea")
	l, err := s.Relate(t.Context(), ada(), memory.NewLink{UserID: "ada", Source: "Ada", Relationship: "KNOWS", Target: "Bob"})
	if err != nil {
		t.Fatal(err)
	}
	before := s.counts(t)
	bob, tea := memory.Caller{Actor: "token/bob", UserIDs: []string{"bob"}}, "x"
	for name, err := range map[string]error{
		"add":        second(s.Add(t.Context(), bob, memory.New{UserID: "ada", Content: "x"})),
		"preference": second(s.AddPreference(t.Context(), bob, memory.Preference{UserID: "ada", Preference: "x"})),
		"correction": second(s.AddCorrection(t.Context(), bob, memory.Correction{UserID: "ada", Original: "x", Corrected: "y"})),
		"batch":      second(s.AddBatch(t.Context(), bob, "ada", []memory.New{{Content: "x"}})),
		"get":        second(s.Get(t.Context(), bob, r.ID)),
		"list":       second(s.List(t.Context(), bob, memory.List{UserID: "ada", Limit: 10})),
		"history":    second(s.History(t.Context(), bob, r.ID)),
		"update":     second(s.Update(t.Context(), bob, r.ID, memory.Patch{Content: &tea})),
		"delete":     second(s.Delete(t.Context(), bob, r.ID)),
		"delete all": second(s.DeleteAll(t.Context(), bob, "ada")),
		"relate":     second(s.Relate(t.Context(), bob, memory.NewLink{UserID: "ada", Source: "a", Relationship: "b", Target: "c"})),
		"unrelate":   second(s.Unrelate(t.Context(), bob, l.ID)),
	} {
		if !errors.Is(err, memory.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", name, err)
		}
	}
	if after := s.counts(t); after != before {
		t.Errorf("there were %v, there are %v", before, after)
	}
}

func TestBadInputStoresNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t, "mem0")
	deep := map[string]any{}
	for range memory.MaxMetadataDepth {
		deep = map[string]any{"a": deep}
	}
	long := make([]byte, memory.MaxContent+1)
	for i := range long {
		long[i] = 'x'
	}
	past, two := time.Now().Add(-time.Second), 2.0
	add := func(n memory.New) error {
		if n.UserID == "" {
			n.UserID = "ada"
		}
		return second(s.Add(t.Context(), ada(), n))
	}
	link := func(n memory.NewLink) error { return second(s.Relate(t.Context(), ada(), n)) }
	for name, c := range map[string]struct {
		err   error
		field string
	}{
		"no user":               {second(s.Add(t.Context(), ada(), memory.New{Content: "x"})), "user_id"},
		"a user with a NUL":     {add(memory.New{UserID: "a\x00", Content: "x"}), "user_id"},
		"a long user":           {add(memory.New{UserID: string(long[:256]), Content: "x"}), "user_id"},
		"no content":            {add(memory.New{}), "content"},
		"only spaces":           {add(memory.New{Content: " \n"}), "content"},
		"NUL":                   {add(memory.New{Content: "a\x00b"}), "content"},
		"no UTF-8":              {add(memory.New{Content: "a\xffb"}), "content"},
		"too long":              {add(memory.New{Content: string(long)}), "content"},
		"content and messages":  {add(memory.New{Content: "x", Messages: []memory.Message{{Role: "user", Content: "x"}}}), "content"},
		"a message of nobody":   {add(memory.New{Messages: []memory.Message{{Role: "user", Content: "x"}, {Content: "x"}}}), "messages[1].role"},
		"an empty message":      {add(memory.New{Messages: []memory.Message{{Role: "user"}}}), "messages[0].content"},
		"messages too long":     {add(memory.New{Messages: []memory.Message{{Role: "user", Content: string(long[1:])}}}), "messages"},
		"an unknown kind":       {add(memory.New{Content: "x", Kind: "gossip"}), "kind"},
		"deep metadata":         {add(memory.New{Content: "x", Metadata: deep}), "metadata"},
		"much metadata":         {add(memory.New{Content: "x", Metadata: map[string]any{"a": string(long[:memory.MaxMetadata])}}), "metadata"},
		"NUL in metadata":       {add(memory.New{Content: "x", Metadata: map[string]any{"a": []any{"\x00"}}}), "metadata"},
		"NUL in a key":          {add(memory.New{Content: "x", Metadata: map[string]any{"\x00": 1}}), "metadata"},
		"a long key":            {add(memory.New{Content: "x", Metadata: map[string]any{string(long[:300]): 1}}), "metadata"},
		"a bomb of a number":    {add(memory.New{Content: "x", Metadata: map[string]any{"n": json.Number("1e100000")}}), "metadata"},
		"expired already":       {add(memory.New{Content: "x", ExpiresAt: &past}), "expires_at"},
		"no items":              {second(s.AddBatch(t.Context(), ada(), "ada", nil)), "items"},
		"many items":            {second(s.AddBatch(t.Context(), ada(), "ada", make([]memory.New, memory.MaxBatch+1))), "items"},
		"an item":               {second(s.AddBatch(t.Context(), ada(), "ada", []memory.New{{Content: "x"}, {Content: "x", Kind: "y"}})), "items[1].kind"},
		"a batch of nobody":     {second(s.AddBatch(t.Context(), ada(), "", []memory.New{{Content: "x"}})), "user_id"},
		"no patch":              {second(s.Update(t.Context(), ada(), uuid.New(), memory.Patch{})), "content"},
		"no preference":         {second(s.AddPreference(t.Context(), ada(), memory.Preference{UserID: "ada"})), "preference"},
		"a category with a NUL": {second(s.AddPreference(t.Context(), ada(), memory.Preference{UserID: "ada", Preference: "x", Category: "\x00"})), "category"},
		"no original":           {second(s.AddCorrection(t.Context(), ada(), memory.Correction{UserID: "ada", Corrected: "x"})), "original"},
		"nothing corrected":     {second(s.AddCorrection(t.Context(), ada(), memory.Correction{UserID: "ada", Original: "x"})), "corrected"},
		"no source":             {link(memory.NewLink{UserID: "ada", Relationship: "b", Target: "c"}), "source"},
		"no relationship":       {link(memory.NewLink{UserID: "ada", Source: "a", Target: "c"}), "relationship"},
		"no target":             {link(memory.NewLink{UserID: "ada", Source: "a", Relationship: "b"}), "target"},
		"too sure":              {link(memory.NewLink{UserID: "ada", Source: "a", Relationship: "b", Target: "c", Confidence: &two}), "confidence"},
		"limit 0":               {second(s.List(t.Context(), ada(), memory.List{UserID: "ada"})), "limit"},
		"limit 10^9":            {second(s.List(t.Context(), ada(), memory.List{UserID: "ada", Limit: 1_000_000_000})), "limit"},
		"a list of what":        {second(s.List(t.Context(), ada(), memory.List{UserID: "ada", Limit: 1, Kind: "gossip"})), "kind"},
		"a cursor":              {second(s.List(t.Context(), ada(), memory.List{UserID: "ada", Limit: 1, Cursor: "AAAA"})), "cursor"},
	} {
		var wrong *memory.Invalid
		if !errors.As(c.err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s: %v, want field %s", name, c.err, c.field)
		}
	}
	if n := s.counts(t); n != [6]int{} {
		t.Errorf("there are %v", n)
	}
}

func TestPreferencesAndCorrections(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	p, err := s.AddPreference(t.Context(), ada(), memory.Preference{UserID: "ada", Preference: "tea", Category: "drinks"})
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.AddCorrection(t.Context(), ada(), memory.Correction{UserID: "ada", Original: "Bern", Corrected: "Basel", Context: "where she lives"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Kind != "preference" || p.Content != "tea" || k.Kind != "correction" || k.Content != "Basel (not: Bern)\nwhere she lives" {
		t.Errorf("stored %+v and %+v", p, k)
	}
	if diff := cmp.Diff([]string{
		fmt.Sprintf(`preference_stored ada {"result": {"id": "%s"}, "category": "drinks", "preference": "tea"}`, p.ID),
		fmt.Sprintf(`correction_stored ada {"result": {"id": "%s"}, "context": "where she lives", "original": "Bern", "corrected": "Basel"}`, k.ID),
	}, s.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// One webhook tells of a batch, and none of its items.
func TestABatchIsToldOnce(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	b, err := s.AddBatch(t.Context(), ada(), "ada", []memory.New{{Content: "a"}, {Content: "b", Kind: "note"}})
	if err != nil || len(b.IDs) != 2 {
		t.Fatalf("%v, %v", b, err)
	}
	if diff := cmp.Diff([]string{
		fmt.Sprintf(`batch_operation_completed ada {"ids": ["%s", "%s"], "operation": "add", "items_count": 2}`, b.IDs[0], b.IDs[1]),
	}, s.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if got := rows[string](t, s.pool, `SELECT kind || ' ' || content FROM memories ORDER BY content`); !cmp.Equal(got, []string{"fact a", "note b"}) {
		t.Errorf("stored %q", got)
	}
}

// The answer to a write is kept under its key: a repeat gets it, and does nothing,
// however many ask at the same time and wherever.
func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	nodes := []*shop{s, shopOn(t, s.pool, "")}
	keyed := ada()
	keyed.Key, keyed.Digest = "k", sha256.Sum256([]byte("a"))
	var wg sync.WaitGroup
	ids := make([]uuid.UUID, 40)
	for i := range ids {
		wg.Go(func() {
			r, err := nodes[i%2].Add(t.Context(), keyed, memory.New{UserID: "ada", Content: "likes tea"})
			if err != nil {
				t.Error(err)
			}
			ids[i] = r.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("answers differ: %s and %s", ids[0], id)
		}
	}
	if n := s.counts(t); n != [6]int{1, 1, 0, 1, 1, 0} {
		t.Errorf("there are %v", n)
	}
	other := keyed
	other.Digest = sha256.Sum256([]byte("b"))
	if _, err := s.Add(t.Context(), other, memory.New{UserID: "ada", Content: "likes coffee"}); !errors.Is(err, memory.ErrKeyReused) {
		t.Errorf("another question under the same key: %v", err)
	}
	someoneElse := keyed
	someoneElse.Actor = "token/other"
	if r, err := s.Add(t.Context(), someoneElse, memory.New{UserID: "ada", Content: "likes tea"}); err != nil || r.ID == ids[0] {
		t.Errorf("a key is its actor's own: %v, %v", r.ID, err)
	}
}

// What came to nothing does not use its key up.
func TestAKeyOfWhatFailedIsFree(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	r := s.add(t, "likes tea")
	keyed := ada()
	keyed.Key = "k"
	if _, err := s.Delete(t.Context(), keyed, uuid.New()); !errors.Is(err, memory.ErrNotFound) {
		t.Fatal(err)
	}
	for range 2 {
		if gone, err := s.Delete(t.Context(), keyed, r.ID); err != nil || gone.ID != r.ID {
			t.Fatalf("deleted %v, %v", gone.ID, err)
		}
	}
	if n := s.counts(t); n != [6]int{0, 2, 0, 2, 1, 0} {
		t.Errorf("there are %v", n)
	}
}

// Writes that meet in one group see each other in order.
func TestChangesOfOneMemoryAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := newShop(t, "mem0")
	nodes := []*shop{s, shopOn(t, s.pool, "mem0")}
	r := s.add(t, "0")
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			text := fmt.Sprint(i + 1)
			if _, err := nodes[i%2].Update(t.Context(), ada(), r.ID, memory.Patch{Content: &text}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// History is a chain without a gap, and ends in what is there.
	bad := rows[int64](t, s.pool, `SELECT count(*) FROM (SELECT before, lag(after) OVER (ORDER BY id) AS was FROM memory_history) h WHERE before IS DISTINCT FROM was`)
	if bad[0] != 0 {
		t.Errorf("%d changes do not begin where the one before ended", bad[0])
	}
	same := rows[bool](t, s.pool, `SELECT (SELECT after ->> 'content' FROM memory_history ORDER BY id DESC LIMIT 1) = (SELECT content FROM memories)`)
	if n := s.counts(t); !same[0] || n[1] != 61 || n[3] != 61 || n[5] != 1 {
		t.Errorf("the memory is the last of its history: %t; there are %v", same[0], n)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'sync_memory'`); n[0] != 1 {
		t.Errorf("%d jobs for one lane", n[0])
	}
}

// Whatever an agent changes is kept; that a record's time of modification alone is
// no news concerns records.
func TestAnAgentsOwnTimeIsKept(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	r := s.add(t, "likes tea")
	for _, at := range []string{"2026-01-01", "2026-02-01"} {
		after, err := s.Update(t.Context(), ada(), r.ID, memory.Patch{Metadata: map[string]any{"modified_time": at}})
		if err != nil || after.Metadata["modified_time"] != at {
			t.Errorf("asked for %s: %v, %v", at, after.Metadata, err)
		}
	}
}

// Some change while others delete: whoever comes later finds nothing.
func TestUpdatesAndADeleteAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	for range 5 {
		r := s.add(t, "0")
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if i == 10 {
					if _, err := s.Delete(t.Context(), ada(), r.ID); err != nil {
						t.Error(err)
					}
					return
				}
				text := fmt.Sprint(i + 1)
				if _, err := s.Update(t.Context(), ada(), r.ID, memory.Patch{Content: &text}); err != nil && !errors.Is(err, memory.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if last := rows[string](t, s.pool, `SELECT operation FROM memory_history WHERE memory_id = $1 ORDER BY id DESC LIMIT 1`, r.ID); last[0] != "deleted" {
			t.Errorf("the last of its history is %s", last[0])
		}
	}
	if n := s.counts(t); n[0] != 0 {
		t.Errorf("%d memories are there", n[0])
	}
}

// What follows a record is the record's.
func TestWhatFollowsTheCRMIsReadOnly(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	id := uuid.New()
	exec(t, s.pool, `INSERT INTO memories (id, user_id, account_id, module, record_id, kind, content, checksum)
		VALUES ($1, 'zoho:77', '77', 'Contacts', '1', 'contact', 'Contact Doe', sha256('x'))`, id)
	c := memory.Caller{Actor: "admin", All: true}
	own, err := s.Add(t.Context(), c, memory.New{UserID: "zoho:77", Content: "prefers calls in the morning"})
	if err != nil || own.AccountID != "77" {
		t.Fatalf("%+v, %v", own, err)
	}
	text := "x"
	if _, err := s.Update(t.Context(), c, id, memory.Patch{Content: &text}); !errors.Is(err, memory.ErrReadOnly) {
		t.Errorf("update: %v", err)
	}
	if _, err := s.Delete(t.Context(), c, id); !errors.Is(err, memory.ErrReadOnly) {
		t.Errorf("delete: %v", err)
	}
	if r, err := s.DeleteAll(t.Context(), c, "zoho:77"); err != nil || r != (memory.Removed{Deleted: 1, Kept: 1}) {
		t.Errorf("delete all: %+v, %v", r, err)
	}
}

func TestDeleteAllRemovesInBatches(t *testing.T) {
	t.Parallel()
	s := newShop(t, "mem0")
	items := make([]memory.New, memory.MaxBatch)
	for i := range items {
		items[i].Content = fmt.Sprint(i)
	}
	for range 2 {
		if _, err := s.AddBatch(t.Context(), ada(), "ada", items); err != nil {
			t.Fatal(err)
		}
	}
	s.add(t, "one more")
	other, err := s.Add(t.Context(), memory.Caller{All: true}, memory.New{UserID: "bob", Content: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.DeleteAll(t.Context(), ada(), "ada"); err != nil || r.Deleted != 2*memory.MaxBatch+1 || r.Kept != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if ids := rows[uuid.UUID](t, s.pool, `SELECT id FROM memories`); len(ids) != 1 || ids[0] != other.ID {
		t.Errorf("left: %v", ids)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM outbox WHERE event = 'memory_deleted'`); n[0] != 2*memory.MaxBatch+1 {
		t.Errorf("%d deletions told", n[0])
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM mirrors WHERE wanted = 2`); n[0] != 2*memory.MaxBatch+1 {
		t.Errorf("%d copies are to be removed", n[0])
	}
}

// Nobody is shown what has expired, and the sweep deletes it.
func TestExpiry(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	soon := time.Now().Add(time.Hour)
	r, err := s.Add(t.Context(), ada(), memory.New{UserID: "ada", Content: "away until Monday", ExpiresAt: &soon})
	if err != nil {
		t.Fatal(err)
	}
	kept := s.add(t, "likes tea")
	if n, err := s.Expire(t.Context()); n != 0 || err != nil {
		t.Errorf("expired %d, %v", n, err)
	}
	exec(t, s.pool, `UPDATE memories SET expires_at = now() WHERE expires_at IS NOT NULL`)
	text := "x"
	for name, err := range map[string]error{
		"get":    second(s.Get(t.Context(), ada(), r.ID)),
		"update": second(s.Update(t.Context(), ada(), r.ID, memory.Patch{Content: &text})),
		"delete": second(s.Delete(t.Context(), ada(), r.ID)),
	} {
		if !errors.Is(err, memory.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	page, err := s.List(t.Context(), ada(), memory.List{UserID: "ada", Limit: 10})
	if err != nil || len(page.Memories) != 1 || page.Memories[0].ID != kept.ID {
		t.Errorf("listed %+v, %v", page, err)
	}
	if n, err := s.Expire(t.Context()); n != 1 || err != nil {
		t.Errorf("expired %d, %v", n, err)
	}
	if told := s.told(t); len(told) != 3 || told[2][:len("memory_deleted")] != "memory_deleted" {
		t.Errorf("told %q", told)
	}
}

func TestListPagesBackwardsInTime(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	var want []string
	for i := range 7 {
		// Two of them at the same time.
		id := uuid.New()
		exec(t, s.pool, `INSERT INTO memories (id, user_id, kind, content, checksum, created_at)
			VALUES ($1, 'ada', $2, $3, sha256('x'), timestamptz '2026-01-01' + $4 * interval '1 second')`, id, map[bool]string{true: "note", false: "fact"}[i == 3], fmt.Sprint(i), i/2)
	}
	want = rows[string](t, s.pool, `SELECT content FROM memories ORDER BY created_at DESC, id`)
	var got []string
	cursor, pages := "", 0
	for {
		page, err := s.List(t.Context(), ada(), memory.List{UserID: "ada", Limit: 2, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Memories {
			got = append(got, m.Content)
		}
		if pages++; page.Next == "" {
			break
		}
		cursor = page.Next
	}
	if diff := cmp.Diff(want, got); diff != "" || pages != 4 {
		t.Errorf("%d pages (-want +got):\n%s", pages, diff)
	}
	notes, err := s.List(t.Context(), ada(), memory.List{UserID: "ada", Limit: 2, Kind: "note"})
	if err != nil || len(notes.Memories) != 1 || notes.Next != "" {
		t.Errorf("notes: %+v, %v", notes, err)
	}
	// A cursor belongs to one user's list.
	var wrong *memory.Invalid
	if _, err := s.List(t.Context(), memory.Caller{All: true}, memory.List{UserID: "bob", Limit: 2, Cursor: cursor}); !errors.As(err, &wrong) || wrong.Field != "cursor" {
		t.Errorf("another user's cursor: %v", err)
	}
}

func TestRelationships(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	half := 0.8
	line := memory.NewLink{UserID: "ada", Source: "Ada", Relationship: "KNOWS", Target: "Bob"}
	first, err := s.Relate(t.Context(), ada(), line)
	if err != nil || first.Confidence != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := s.Relate(t.Context(), ada(), line); err != nil || again.ID != first.ID {
		t.Errorf("the same line again: %+v, %v", again, err)
	}
	line.Confidence, line.Metadata = &half, map[string]any{"since": "2020"}
	less, err := s.Relate(t.Context(), ada(), line)
	if err != nil || less.ID != first.ID || less.Confidence != 0.8 {
		t.Errorf("the same line, less sure: %+v, %v", less, err)
	}
	if again, err := s.Relate(t.Context(), ada(), line); err != nil || again.Confidence != 0.8 {
		t.Errorf("once more: %+v, %v", again, err)
	}
	gone, err := s.Unrelate(t.Context(), ada(), first.ID)
	if err != nil || gone.Confidence != 0.8 {
		t.Errorf("removed %+v, %v", gone, err)
	}
	if _, err := s.Unrelate(t.Context(), ada(), first.ID); !errors.Is(err, memory.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	tell := func(event, confidence string) string {
		return fmt.Sprintf(`relationship_%s ada {"result": {"id": "%s", "confidence": %s}, "source": "Ada", "target": "Bob", "relationship": "KNOWS"}`, event, first.ID, confidence)
	}
	if diff := cmp.Diff([]string{tell("added", "1"), tell("added", "0.8"), tell("deleted", "0.8")}, s.told(t)); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	exec(t, s.pool, `INSERT INTO relationships (id, user_id, source, relationship, target, module, record_id) VALUES ($1, 'ada', 'a', 'b', 'c', 'Deals', '1')`, first.ID)
	if _, err := s.Unrelate(t.Context(), ada(), first.ID); !errors.Is(err, memory.ErrReadOnly) {
		t.Errorf("a line of the CRM: %v", err)
	}
}

// Lines that are drawn and removed at the same time end as the last one left them.
func TestOneLineAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	nodes := []*shop{s, shopOn(t, s.pool, "")}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			confidence := float64(i%7) / 10
			l, err := nodes[i%2].Relate(t.Context(), ada(), memory.NewLink{UserID: "ada", Source: "a", Relationship: "b", Target: "c", Confidence: &confidence})
			if err != nil {
				t.Error(err)
				return
			}
			if i%5 == 0 {
				if _, err := nodes[i%2].Unrelate(t.Context(), ada(), l.ID); err != nil && !errors.Is(err, memory.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	// A line that is there was told of as added last, with its confidence; one that is
	// not as deleted.
	last := rows[string](t, s.pool, `SELECT event || ' ' || coalesce((convert_from(payload, 'UTF8')::jsonb #>> '{data,result,confidence}'), '') FROM outbox ORDER BY seq DESC LIMIT 1`)
	is := rows[string](t, s.pool, `SELECT 'relationship_added ' || confidence::text FROM relationships`)
	if len(is) == 1 && is[0] != last[0] || len(is) == 0 && last[0][:len("relationship_deleted")] != "relationship_deleted" {
		t.Errorf("there is %q, told last was %q", is, last)
	}
}

// Where nobody listens everything is kept all the same.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	exec(t, s.pool, `UPDATE endpoints SET events = '{memory_deleted}'`)
	s.add(t, "likes tea")
	if n := s.counts(t); n != [6]int{1, 1, 0, 0, 0, 0} {
		t.Errorf("there are %v", n)
	}
}

// A write whose webhook cannot be stored has no effect at all.
func TestOneTransaction(t *testing.T) {
	t.Parallel()
	s := newShop(t, "mem0")
	exec(t, s.pool, `ALTER TABLE outbox ADD CONSTRAINT broken CHECK (false) NOT VALID`)
	keyed := ada()
	keyed.Key = "k"
	if _, err := s.Add(t.Context(), keyed, memory.New{UserID: "ada", Content: "x"}); err == nil {
		t.Error("added without its webhook")
	}
	if n := s.counts(t); n != [6]int{} {
		t.Errorf("there are %v", n)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job`); n[0] != 0 {
		t.Errorf("%d jobs", n[0])
	}
}

// What the caller hangs up on is written all the same, and whole.
func TestAHangUp(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Add(ctx, ada(), memory.New{UserID: "ada", Content: "x"})
	s.Wait()
	if n := s.counts(t); n != [6]int{1, 1, 0, 1, 0, 0} && n != [6]int{} || err == nil {
		t.Errorf("%v; there are %v", err, n)
	}
}

// What another system told of keeps its origin, whatever agents do to it. What they
// do is carried there: to the memory it told of, and not to a second one.
func TestWhatOthersTold(t *testing.T) {
	t.Parallel()
	s := newShop(t, "mem0")
	metadata := map[string]any{"origin": "mem0", "origin_id": "7", "mood": "good"}
	r := memory.Row{ID: uuid.New(), UserID: "ada", Kind: "fact", Content: "likes tea", Metadata: metadata, Origin: "mem0", OriginID: "7"}
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		return s.writer.Write(t.Context(), tx, memory.Work{Changes: []memory.Change{{After: &r, EventID: 1}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.counts(t)[5]; n != 0 {
		t.Errorf("%d copies are made of what it has itself", n)
	}
	changed, err := s.Update(t.Context(), ada(), r.ID, memory.Patch{Metadata: map[string]any{"mood": "bad", "origin_id": "8"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"origin": "mem0", "origin_id": "7", "mood": "bad"}, changed.Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	if ids := rows[string](t, s.pool, `SELECT format('%s is %s, wanted %s', memory_id, remote_id, wanted) FROM mirrors`); !cmp.Equal(ids, []string{r.ID.String() + " is 7, wanted 1"}) {
		t.Errorf("copied: %q", ids)
	}
}

// Asked for again under the same key, it removes nothing that came since.
func TestDeleteAllUnderAKey(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	s.add(t, "likes tea")
	keyed := ada()
	keyed.Key = "k"
	for range 2 {
		if r, err := s.DeleteAll(t.Context(), keyed, "ada"); err != nil || r != (memory.Removed{Deleted: 1}) {
			t.Fatalf("%+v, %v", r, err)
		}
		s.add(t, "likes coffee")
	}
	keyed.Digest = sha256.Sum256([]byte("b"))
	if _, err := s.DeleteAll(t.Context(), keyed, "ada"); !errors.Is(err, memory.ErrKeyReused) {
		t.Errorf("another question under the same key: %v", err)
	}
	if n := s.counts(t); n[0] != 2 {
		t.Errorf("%d memories are there, want 2", n[0])
	}
}

// Who relays in this process hears of webhooks once they are committed, and the job
// that would see to it otherwise waits for a while.
func TestTheRelayIsNudgedAfterTheCommit(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	seen := make(chan int, 10)
	s.writer.Nudge(func() { seen <- rows[int](t, s.pool, `SELECT count(*)::int FROM outbox`)[0] })
	if _, err := s.Add(t.Context(), ada(), memory.New{UserID: "ada", Content: "Likes tea"}); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != 1 {
		t.Errorf("nudged with %d webhooks in the outbox, want 1", got)
	}
	got := rows[string](t, s.pool, `SELECT format('%s %s', state, scheduled_at > created_at) FROM river_job WHERE kind = 'relay'`)
	if len(got) != 1 || got[0] != "available t" {
		t.Errorf("jobs %v, want one that waits", got)
	}
}

// The job and the webhook are there together or not at all, and nobody is nudged in vain.
func TestWhatIsToldWithoutItsJobIsNotTold(t *testing.T) {
	t.Parallel()
	s := newShop(t, "")
	nudged := false
	s.writer.Nudge(func() { nudged = true })
	for _, statement := range []string{
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$`,
		`CREATE TRIGGER refuse BEFORE INSERT ON river_job FOR EACH ROW WHEN (new.kind = 'relay') EXECUTE FUNCTION refuse()`,
	} {
		if _, err := s.pool.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Add(t.Context(), ada(), memory.New{UserID: "ada", Content: "Likes tea"}); err == nil {
		t.Error("it was told without its job")
	}
	if n := s.counts(t); n[0] != 0 || nudged {
		t.Errorf("%d memories are there, nudged %t", n[0], nudged)
	}
	if n := rows[int](t, s.pool, `SELECT count(*)::int FROM outbox`)[0]; n != 0 {
		t.Errorf("%d webhooks are there", n)
	}
}
