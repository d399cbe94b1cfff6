package importer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/inbound"
)

// flat is an element as a queue has it.
func flat(eventID, recordID string) string {
	return fmt.Sprintf(`{"event_id":%q,"operation":"update","module":"Accounts","record_id":%q,"data":{"Phone":"1"},"received_at":"2026-01-02T03:04:05"}`, eventID, recordID)
}

// numbered are n elements, the oldest first, and the events that they become.
func numbered(n int) (elements, events []string) {
	for i := range n {
		elements = append(elements, flat(fmt.Sprintf("e%d", i), "7"))
		events = append(events, fmt.Sprintf("e%d update 7 received jobs 1", i))
	}
	return elements, events
}

func checkRows(t *testing.T, f *fixture, query string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, f.rows(t, query), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func checkKeys(t *testing.T, got Report, want ...Key) {
	t.Helper()
	if diff := cmp.Diff(want, got.Keys, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Key{})); diff != "" {
		t.Error(diff)
	}
}

func TestTakesOverInTheOrderOfTheQueue(t *testing.T) {
	t.Parallel()
	elements, events := numbered(2*pageSize + 7)
	for _, tc := range []struct {
		name string
		fill func(*testing.T, *fixture)
		o    Options
		kind string
	}{
		{"a list whose oldest element is its last", func(t *testing.T, f *fixture) { f.push(t, "queue", elements...) }, Options{}, "list"},
		{"a list whose oldest element is its first", func(t *testing.T, f *fixture) {
			for _, e := range elements {
				f.redis.RPush(t.Context(), "queue", e)
			}
		}, Options{FromLeft: true}, "list"},
		{"a sorted set with times", func(t *testing.T, f *fixture) {
			for i, e := range elements {
				f.redis.ZAdd(t.Context(), "queue", redis.Z{Score: 1767322800 + float64(i), Member: e})
			}
		}, Options{}, "zset"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			tc.fill(t, f)
			r := f.run(t, tc.o)
			checkKeys(t, r, Key{Name: "queue", Type: tc.kind, Accepted: int64(len(elements))}, Key{Name: "dead", Type: "none"})
			checkRows(t, f, eventsAndJobs, events...)
			checkRows(t, f, counted, fmt.Sprintf("backlog %d", len(elements)), fmt.Sprintf("queued %d", len(elements)))
			if n := f.redis.Exists(t.Context(), "queue").Val(); n != 0 {
				t.Error("something is left in Redis")
			}
			checkRows(t, f, `SELECT DISTINCT priority::text FROM river_job`, "2")
			checkRows(t, f, `SELECT convert_from(body, 'UTF8') FROM event_bodies ORDER BY event_id LIMIT 1`, elements[0])
		})
	}
}

func TestAnotherTypeOfKeyIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.redis.HSet(t.Context(), "queue", "e1", flat("e1", "7"))
	_, err := f.importer(t, Options{}).Run(t.Context())
	if !errors.Is(err, ErrType) || !strings.Contains(err.Error(), "hash") {
		t.Errorf("error is %v", err)
	}
}

func TestWhatCannotBeReadStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	good, events := numbered(pageSize)
	bad := []string{"\x80\x04pickle", `{"operation":"merge","module":"Accounts","record_id":"7"}`, `{"event_id":"x","operation":"update","module":"Accounts"}`}
	f.push(t, "queue", bad[0], good[0], bad[1])
	f.push(t, "queue", good[1:]...)
	f.push(t, "queue", bad[2])
	want := Key{Name: "queue", Type: "list", Accepted: int64(len(good)), Refused: 3, Left: 3, Unreadable: []Unreadable{
		{Position: -1, Reason: "is not a JSON object"},
		{Position: -2, Reason: `operation "merge" is none of create, update, delete and restore`},
		{Position: -3, Reason: "data holds no record"},
	}}
	checkKeys(t, f.run(t, Options{Queue: "queue"}), want)
	checkRows(t, f, eventsAndJobs, events...)
	if diff := cmp.Diff(bad, f.list(t, "queue")); diff != "" {
		t.Error(diff)
	}
	for _, u := range want.Unreadable {
		if got := f.redis.LIndex(t.Context(), "queue", u.Position).Val(); got != bad[-u.Position-1] {
			t.Errorf("at %d stands %s", u.Position, got)
		}
	}

	// The next run finds them again, and nothing else.
	want.Accepted = 0
	checkKeys(t, f.run(t, Options{Queue: "queue"}), want)
}

// severed is a Redis whose connection breaks when something is to be taken out.
type severed struct {
	redis.Hook
	before func() error
}

func (s severed) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (s severed) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (s severed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := s.before(); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

func TestACrashBetweenCommitAndRemoval(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	elements, events := numbered(pageSize + 10)
	// Without an id of the sender's, and two bodies of one record: what comes before an
	// event must not decide whether it is known.
	elements = append(elements, `{"module":"Accounts","data":{"id":"9","Phone":"1"}}`, `{"module":"Accounts","data":{"id":"9","Phone":"2"}}`)
	f.push(t, "queue", elements...)
	broken := errors.New("the power is gone")
	cut := true
	f.redis.AddHook(severed{before: func() error {
		if cut {
			return broken
		}
		return nil
	}})
	for range 2 {
		if _, err := f.importer(t, Options{}).Run(t.Context()); !errors.Is(err, broken) {
			t.Fatalf("error is %v", err)
		}
		checkRows(t, f, eventsAndJobs, events[:pageSize]...)
		if diff := cmp.Diff(elements, f.list(t, "queue")); diff != "" {
			t.Fatal(diff)
		}
	}
	cut = false
	r := f.run(t, Options{Queue: "queue"})
	checkKeys(t, r, Key{Name: "queue", Type: "list", Accepted: 12, Duplicate: pageSize})
	if got := f.rows(t, eventsAndJobs); len(got) != len(elements) {
		t.Errorf("%d events of %d elements", len(got), len(elements))
	}

	// All of it once more: nothing of it is new.
	f.push(t, "queue", elements...)
	checkKeys(t, f.run(t, Options{Queue: "queue"}), Key{Name: "queue", Type: "list", Duplicate: int64(len(elements))})
}

// refusing is a queue of jobs that refuses them.
type refusing struct{ inbound.Inserter }

func (refusing) InsertManyFastTx(context.Context, pgx.Tx, []river.InsertManyParams) (int, error) {
	return 0, errors.New("no room")
}

func TestWhatIsNotCommittedStays(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	elements, _ := numbered(3)
	f.push(t, "queue", elements...)
	f.jobs = refusing{}
	if _, err := f.importer(t, Options{}).Run(t.Context()); err == nil {
		t.Error("no error")
	}
	checkRows(t, f, eventsAndJobs)
	if diff := cmp.Diff(elements, f.list(t, "queue")); diff != "" {
		t.Error(diff)
	}
}

func TestWhatSomebodyElseTakesIsNoticed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	elements, _ := numbered(3)
	f.push(t, "queue", elements...)
	consumer := newClientLike(t, f.redis)
	f.redis.AddHook(severed{before: func() error { return consumer.RPop(context.Background(), "queue").Err() }})
	checkKeys(t, f.run(t, Options{Queue: "queue"}), Key{Name: "queue", Type: "list", Accepted: 3, Vanished: 1})
}

// newClientLike makes a second client of the same Redis, without hooks.
func newClientLike(t *testing.T, c *redis.Client) *redis.Client {
	t.Helper()
	o := *c.Options()
	second := redis.NewClient(&o)
	t.Cleanup(func() { second.Close() })
	return second
}

func TestTwoAtOnceStoreNothingTwice(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	elements, _ := numbered(3 * pageSize)
	f.push(t, "queue", elements...)
	var both sync.WaitGroup
	for range 2 {
		im := f.importer(t, Options{})
		both.Go(func() {
			if _, err := im.Run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	checkRows(t, f, `SELECT format('%s %s', count(*), count(DISTINCT event_id)) FROM events`, fmt.Sprintf("%d %[1]d", len(elements)))
	checkRows(t, f, `SELECT count(*)::text FROM river_job`, fmt.Sprint(len(elements)))
	if left := f.list(t, "queue"); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
}

func TestADryRunWritesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.push(t, "queue", flat("known", "7"))
	f.run(t, Options{})
	elements := []string{"junk", flat("known", "7"), flat("new", "7"), `{"event_id":"l","module":"Leads","record_id":"1"}`, "{}"}
	f.push(t, "queue", elements...)
	f.push(t, "dead", flat("d", "8"))
	f.redis.Expire(t.Context(), "dead", 3600e9)
	before := f.rows(t, eventsAndJobs)
	counters := f.rows(t, counted)
	r := f.run(t, Options{DryRun: true, KeepDead: true, Room: 1})
	checkKeys(t, r, Key{
		Name: "queue", Type: "list", Accepted: 1, Duplicate: 1, Ignored: 1, Refused: 2, Left: 5, Unreadable: []Unreadable{
			{Position: -1, Reason: "is not a JSON object"},
			{Position: -5, Reason: "the body has none of data, record_id, record_data, event_type, ids and operation"},
		},
	}, Key{Name: "dead", Type: "list", Dead: 1, Left: 1, ExpiresIn: r.Keys[1].ExpiresIn})
	if r.Keys[1].ExpiresIn < 3000 {
		t.Errorf("expires in %d s", r.Keys[1].ExpiresIn)
	}
	checkRows(t, f, eventsAndJobs, before...)
	checkRows(t, f, counted, counters...)
	if diff := cmp.Diff(elements, f.list(t, "queue")); diff != "" {
		t.Error(diff)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	letters := []string{
		`{"event":` + flat("d1", "1") + `,"last_error":"Cognee said 500","attempts":5,"failed_at":"2026-01-02T03:05:00Z"}`,
		`{"event_id":"d2","module":"Leads","operation":"create","data":{"id":"2"}}`,
	}
	t.Run("are tried again", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.push(t, "dead", letters...)
		checkKeys(t, f.run(t, Options{Dead: "dead"}), Key{Name: "dead", Type: "list", Accepted: 1, Ignored: 1})
		checkRows(t, f, eventsAndJobs, "d1 update 1 received jobs 1", "d2 create 2 ignored jobs 0")
	})
	t.Run("or wait for a decision", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		f.push(t, "dead", letters...)
		checkKeys(t, f.run(t, Options{Dead: "dead", KeepDead: true}), Key{Name: "dead", Type: "list", Dead: 2})
		checkRows(t, f, eventsAndJobs, "d1 update 1 dead jobs 0", "d2 create 2 dead jobs 0")
		checkRows(t, f, `SELECT format('%s %s %s', failures, reason, what) FROM dead_letters ORDER BY id`,
			"5 Cognee said 500 update Accounts 1", "0 dead in dead, which did not say why create Leads 2")
		checkRows(t, f, counted, "dead 2")

		client := f.jobs.(*river.Client[pgx.Tx])
		a := admin.New(f.pool, client, nil)
		if err := a.RetryDead(t.Context(), admin.Actor{Name: "ada"}, admin.Letter{Kind: "event", ID: 1}); err != nil {
			t.Fatal(err)
		}
		if err := a.DiscardDead(t.Context(), admin.Actor{Name: "ada"}, admin.Letter{Kind: "event", ID: 2}, "old"); err != nil {
			t.Fatal(err)
		}
		checkRows(t, f, counted, "backlog 1")

		// The same letters again are none.
		f.push(t, "dead", letters...)
		checkKeys(t, f.run(t, Options{Dead: "dead", KeepDead: true}), Key{Name: "dead", Type: "list", Duplicate: 2})
		checkRows(t, f, counted, "backlog 1", "duplicated 2")
	})
}

func TestStopsBetweenBatchesAndWhenThereIsNoRoom(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	elements, events := numbered(30)
	f.push(t, "queue", elements...)
	f.push(t, "dead", flat("d", "8"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := f.importer(t, Options{Queue: "queue", Dead: "dead", Room: 10, Progress: func(r Report) {
		if r.Waits {
			stop()
		}
	}}).Run(ctx)
	if err != nil || !r.Stopped {
		t.Fatalf("stopped: %t, error: %v", r.Stopped, err)
	}
	checkKeys(t, r, Key{Name: "queue", Type: "list", Accepted: 10, Left: 20}, Key{Name: "dead", Type: "list", Left: 1})
	checkRows(t, f, eventsAndJobs, events[:10]...)
	if diff := cmp.Diff(elements[10:], f.list(t, "queue")); diff != "" {
		t.Error(diff)
	}
}

func TestFollowsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	elements, events := numbered(3)
	f.push(t, "queue", "junk", elements[0])
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	im := f.importer(t, Options{Queue: "queue", Follow: true})
	ended := make(chan Report, 1)
	go func() {
		r, err := im.Run(ctx)
		if err != nil {
			t.Error(err)
		}
		ended <- r
	}()
	stored := func(n int) func() bool { return func() bool { return len(f.rows(t, eventsAndJobs)) == n } }
	waitFor(t, "the first is stored", stored(1))
	f.push(t, "queue", elements[1:]...)
	waitFor(t, "what came later is stored", stored(3))
	waitFor(t, "only what is unreadable is left", func() bool { return f.redis.LLen(t.Context(), "queue").Val() == 1 })
	stop()
	r := <-ended
	checkKeys(t, r, Key{Name: "queue", Type: "list", Accepted: 3, Refused: 1, Left: 1, Unreadable: []Unreadable{{Position: -1, Reason: "is not a JSON object"}}})
	checkRows(t, f, eventsAndJobs, events...)
}
