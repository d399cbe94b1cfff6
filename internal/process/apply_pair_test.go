package process_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/inbound"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/outbound"
	"github.com/memrelay/memrelay/internal/process"
	"github.com/memrelay/memrelay/internal/respond"
)

// instance is a whole memrelay that follows what others tell: a door, what works
// events, a memory, and what tells of it.
type instance struct {
	pool  *pgxpool.Pool
	jobs  *river.Client[pgx.Tx]
	store *memory.Store
	door  *httptest.Server
}

const (
	pairToken  = "the-token-of-all-of-them"
	pairSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

func newInstance(t *testing.T) *instance {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	in := &instance{pool: dbtest.New(t)}
	var err error
	if in.jobs, err = river.NewClient(riverpgxv5.New(in.pool), &river.Config{Logger: log}); err != nil {
		t.Fatal(err)
	}
	counts := counter.New(in.pool, uuid.New(), "test", 0, log)
	sender := memory.Sender{Source: "memrelay", BotVersion: "1"}
	writer := memory.NewWriter(in.jobs, sender, "", time.Now)
	in.store = memory.NewStore(in.pool, writer)

	router := process.NewRouter(in.pool, in.jobs, counts, process.Retry{MaxAttempts: 3, Base: time.Second, GiveUpAfter: time.Hour}, time.Second,
		memory.NewTeller(in.jobs, sender, time.Now), log)
	router.Apply(process.NewApplier(in.pool, writer, counts, log))
	targets := outbound.NewTargets(outbound.NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil).TransportWith, nil,
		endpoint.EnvCredentials(pairToken, pairSecret), time.Now)
	workers := river.NewWorkers()
	river.AddWorker(workers, router)
	river.AddWorker(workers, outbound.NewRelayer(in.pool, in.jobs, nil, log))
	river.AddWorker(workers, outbound.NewDeliverer(in.pool, in.jobs, counts, targets, memory.NewTeller(in.jobs, sender, time.Now), outbound.Policy{}, uuid.New(), "test", time.Now, log))
	q := river.QueueConfig{MaxWorkers: 10, FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond}
	working, err := river.NewClient(riverpgxv5.New(in.pool), &river.Config{
		Logger: log, Workers: workers,
		Queues: map[string]river.QueueConfig{job.QueueProcess: q, job.QueueRelay: q, job.QueueDeliver: q},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := working.Start(t.Context()); err != nil {
		t.Fatal(err)
	}

	ingester := inbound.NewIngester(in.pool, in.jobs, counts, nil, group.Options{})
	r := chi.NewRouter()
	respond.Use(r, log)
	r.Method(http.MethodPost, "/webhooks/memory", inbound.NewMemory(ingester, counts, inbound.MemorySettings{
		Token: pairToken, Secrets: []string{pairSecret}, Apply: true, MaxBacklog: 1000, BodyTimeout: inbound.BodyTimeout, Now: time.Now,
	}))
	in.door = httptest.NewServer(r)
	t.Cleanup(func() {
		in.door.Close()
		if err := working.StopAndCancel(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		targets.CloseIdleConnections()
		ingester.Wait()
	})
	return in
}

// ring makes n instances of which each tells the next, and the last the first.
func ring(t *testing.T, n int) []*instance {
	t.Helper()
	all := make([]*instance, n)
	for i := range all {
		all[i] = newInstance(t)
	}
	for i, in := range all {
		err := outbound.SetEnv(t.Context(), in.pool, in.jobs, outbound.Endpoint{
			URL: all[(i+1)%n].door.URL + "/webhooks/memory", Events: memory.Events(), Timeout: 10 * time.Second, MaxAttempts: 3, RetryDelay: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// state is how far an instance has come.
type state struct{ open, events, told int64 }

func (in *instance) state(t *testing.T) state {
	t.Helper()
	var s state
	err := in.pool.QueryRow(t.Context(), `SELECT
		(SELECT count(*) FROM river_job WHERE state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
		+ (SELECT count(*) FROM deliveries WHERE status <> 'delivered') + (SELECT count(*) FROM events WHERE status <> 'processed')
		+ (SELECT count(*) FROM outbox WHERE relayed_at IS NULL),
		(SELECT count(*) FROM events), (SELECT count(*) FROM outbox)`).Scan(&s.open, &s.events, &s.told)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// silence waits until nobody has anything to do or to tell any more, and returns how
// many webhooks each has got. What one has told another and is still on its way is an
// open delivery, so two equal looks at all of them see everything.
func silence(t *testing.T, all []*instance) []int64 {
	t.Helper()
	look := func() (states []state, open int64) {
		for _, in := range all {
			s := in.state(t)
			states, open = append(states, s), open+s.open
		}
		return states, open
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		first, open := look()
		second, stillOpen := look()
		if open+stillOpen == 0 && cmp.Equal(first, second, cmp.AllowUnexported(state{})) {
			var got []int64
			for _, s := range second {
				got = append(got, s.events)
			}
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no silence: %+v", second)
		}
	}
}

// remembered are an instance's memories and lines, without ids.
func (in *instance) remembered(t *testing.T) []string {
	t.Helper()
	r, err := in.pool.Query(t.Context(), `
		SELECT concat_ws(' ', user_id, kind, content) FROM memories
		UNION ALL SELECT concat_ws(' ', user_id, source, relationship, target, confidence) FROM relationships ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func agent() memory.Caller { return memory.Caller{Actor: "token/bot", All: true} }

// teller is a story of one instance's agent, told step by step.
type teller struct {
	t   *testing.T
	all []*instance
	got []int64 // webhooks so far, by instance
}

// step does something and waits for the silence after it. Each instance shall have
// got so many webhooks for it, and all shall remember the same.
func (x *teller) step(what string, do func() error, want ...int64) {
	x.t.Helper()
	if err := do(); err != nil {
		x.t.Fatalf("%s: %v", what, err)
	}
	now := silence(x.t, x.all)
	var got []int64
	for i := range now {
		got = append(got, now[i]-x.got[i])
	}
	x.got = now
	if diff := cmp.Diff(want, got); diff != "" {
		x.t.Errorf("%s: webhooks that each has got (-want +got):\n%s", what, diff)
	}
	for i, in := range x.all[1:] {
		if diff := cmp.Diff(x.all[0].remembered(x.t), in.remembered(x.t)); diff != "" {
			x.t.Errorf("%s: what the first and number %d remember:\n%s", what, i+2, diff)
		}
	}
}

// Whatever one of them is told by an agent goes once around, each is told once, and
// then there is silence: with two that tell each other, and with three in a ring.
func TestMemoriesGoOnceAroundAndThenThereIsSilence(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n, " instances"), func(t *testing.T) {
			t.Parallel()
			x := &teller{t: t, all: ring(t, n), got: make([]int64, n)}
			a, b := x.all[0], x.all[1]
			once := make([]int64, n)
			for i := range once {
				once[i] = 1
			}
			ctx := t.Context()
			var m, p memory.Row
			var l memory.Link
			x.step("an addition", func() (err error) {
				m, err = a.store.Add(ctx, agent(), memory.New{UserID: "u", Content: "likes tea", Metadata: map[string]any{"from": "a talk"}})
				return err
			}, once...)
			text := "likes green tea"
			x.step("an update", func() error {
				_, err := a.store.Update(ctx, agent(), m.ID, memory.Patch{Content: &text})
				return err
			}, once...)
			x.step("a preference", func() (err error) {
				p, err = a.store.AddPreference(ctx, agent(), memory.Preference{UserID: "u", Preference: "short answers", Category: "style"})
				return err
			}, once...)
			x.step("a correction", func() error {
				_, err := a.store.AddCorrection(ctx, agent(), memory.Correction{UserID: "u", Original: "Jon", Corrected: "John", Context: "the name"})
				return err
			}, once...)
			x.step("the other way", func() error {
				_, err := b.store.Add(ctx, agent(), memory.New{UserID: "v", Content: "from number two", Kind: "fact"})
				return err
			}, once...)
			x.step("deletions", func() error {
				if _, err := a.store.Delete(ctx, agent(), p.ID); err != nil {
					return err
				}
				_, err := a.store.Delete(ctx, agent(), m.ID)
				return err
			}, twice(once)...)
			// Lines go one step, and back, and no further.
			lines := make([]int64, n)
			lines[1], lines[2%n] = 1, 1
			if n == 2 {
				x.step("a line", func() (err error) {
					l, err = a.store.Relate(ctx, agent(), memory.NewLink{UserID: "u", Source: "Jane", Relationship: "KNOWS", Target: "Joe"})
					return err
				}, lines...)
				x.step("a line less", func() error {
					_, err := a.store.Unrelate(ctx, agent(), l.ID)
					return err
				}, lines...)
			}
			want := []string{"u correction John (not: Jon)\nthe name", "v fact from number two"}
			if diff := cmp.Diff(want, x.all[n-1].remembered(t)); diff != "" {
				t.Errorf("in the end the last remembers (-want +got):\n%s", diff)
			}
		})
	}
}

func twice(of []int64) []int64 {
	doubled := make([]int64, len(of))
	for i, n := range of {
		doubled[i] = 2 * n
	}
	return doubled
}

// Much at once, from both sides: what was added, changed and deleted in a row arrives in
// any order, and what comes back meets what has changed meanwhile.
func TestTwoInstancesComeToRestUnderLoad(t *testing.T) {
	t.Parallel()
	all := ring(t, 2)
	ctx := t.Context()
	for i, in := range all {
		for n := range 10 {
			user := fmt.Sprintf("user %d", i)
			m, err := in.store.Add(ctx, agent(), memory.New{UserID: user, Content: fmt.Sprint("first ", n)})
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprint("second ", n)
			if _, err := in.store.Update(ctx, agent(), m.ID, memory.Patch{Content: &text}); err != nil {
				t.Fatal(err)
			}
			if n%2 == 0 {
				if _, err := in.store.Delete(ctx, agent(), m.ID); err != nil {
					t.Fatal(err)
				}
			}
			l, err := in.store.Relate(ctx, agent(), memory.NewLink{UserID: user, Source: "Jane", Relationship: "KNOWS", Target: fmt.Sprint(n)})
			if err != nil {
				t.Fatal(err)
			}
			if n%2 == 0 {
				if _, err := in.store.Unrelate(ctx, agent(), l.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	silence(t, all)
	if diff := cmp.Diff(all[0].remembered(t), all[1].remembered(t)); diff != "" {
		t.Errorf("what they remember differs:\n%s", diff)
	}
	if got := len(all[0].remembered(t)); got != 20 {
		t.Errorf("the first remembers %d things, want 10 memories and 10 lines", got)
	}
}

// What an agent does to a copy stays where it is done: whoever had the memory first
// is told, and keeps it on record.
func TestAnEditOfACopyStaysThere(t *testing.T) {
	t.Parallel()
	all := ring(t, 2)
	a, b := all[0], all[1]
	ctx := t.Context()
	m, err := a.store.Add(ctx, agent(), memory.New{UserID: "u", Content: "likes tea"})
	if err != nil {
		t.Fatal(err)
	}
	silence(t, all)
	var copied uuid.UUID
	if err := b.pool.QueryRow(ctx, `SELECT id FROM memories WHERE origin_id = $1`, m.ID.String()).Scan(&copied); err != nil {
		t.Fatal(err)
	}
	text := "likes coffee"
	if _, err := b.store.Update(ctx, agent(), copied, memory.Patch{Content: &text}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{2, 1}, silence(t, all)); diff != "" {
		t.Errorf("webhooks that each has got (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"u fact likes tea"}, a.remembered(t)); diff != "" {
		t.Errorf("the first remembers (-want +got):\n%s", diff)
	}
	// And the next word of the first is what both remember.
	text = "likes water"
	if _, err := a.store.Update(ctx, agent(), m.ID, memory.Patch{Content: &text}); err != nil {
		t.Fatal(err)
	}
	silence(t, all)
	if diff := cmp.Diff([]string{"u fact likes water"}, b.remembered(t)); diff != "" {
		t.Errorf("the second remembers (-want +got):\n%s", diff)
	}
}
