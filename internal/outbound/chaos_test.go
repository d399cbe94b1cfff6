package outbound

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

// chaosTime is for how long everything happens at once.
const chaosTime = 3 * time.Second

// node works relays, lanes and redeliveries with a Deliverer of its own; the returned
// function stops it.
func (s *station) node(t *testing.T, d *Deliverer) (stop func()) {
	t.Helper()
	d.slice = 150 * time.Millisecond
	s.exec(t, `INSERT INTO processes (process, host, workers, seen_at) VALUES ($1, 'node', 1, now() + interval '1 hour')`, d.process)
	workers := river.NewWorkers()
	river.AddWorker(workers, NewRelayer(s.pool, s.jobs, d, testLog(t)))
	river.AddWorker(workers, d)
	river.AddWorker(workers, NewRedeliverer(s.pool, s.jobs, testLog(t)))
	q := river.QueueConfig{MaxWorkers: 10, FetchCooldown: time.Millisecond, FetchPollInterval: 10 * time.Millisecond}
	client, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Logger: testLog(t), Workers: workers, Queues: map[string]river.QueueConfig{job.QueueRelay: q, job.QueueDeliver: q, job.QueueRedeliver: q},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := client.StopAndCancel(ctx); err != nil {
			t.Error(err)
		}
		d.Stop(ctx)
	})
	t.Cleanup(stop)
	return stop
}

// moody is a receiver that fails, hangs and hangs up at random. It notes what it took
// for the first time, by user, and what each request carried.
type moody struct {
	mu       sync.Mutex
	taken    map[string]bool
	byUser   map[string][]string
	requests map[string]string
	changed  []string // webhook-ids that came with other bytes
}

func newMoody() *moody {
	return &moody{taken: map[string]bool{}, byUser: map[string][]string{}, requests: map[string]string{}}
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m.note(r.Header.Get("webhook-id"), string(body))
	mood := mathrand.Float64()
	switch {
	case mood < 0.03:
		time.Sleep(300 * time.Millisecond) // it outlives its turn
	case mood < 0.04:
		panic(http.ErrAbortHandler)
	case mood < 0.12:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	m.take(body)
}

func (m *moody) note(id, body string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if before, again := m.requests[id]; again && before != body {
		m.changed = append(m.changed, id)
	}
	m.requests[id] = body
}

func (m *moody) take(body []byte) {
	type webhook struct {
		UserID    string `json:"user_id"`
		RequestID string `json:"request_id"`
	}
	var all []webhook
	if json.Unmarshal(body, &all) != nil {
		all = make([]webhook, 1)
		if json.Unmarshal(body, &all[0]) != nil || all[0].RequestID == "" {
			return // tells of an endpoint
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range all {
		if !m.taken[one.RequestID] {
			m.taken[one.RequestID] = true
			m.byUser[one.UserID] = append(m.byUser[one.UserID], one.RequestID)
		}
	}
}

// All that is done to lanes is done at the same time, by two nodes, to receivers that
// fail: everybody gets everything, in order where that was asked for, nothing stays
// behind, and nobody waits for anybody in a circle. No sweeper mends anything.
func TestEverythingAtOnceLosesNothing(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	kinds := []struct {
		name, settings string
		ordered        bool // and left alone by redeliveries, which send again
	}{
		{"plain", "max_in_flight = 4", false},
		{"one by one", "max_in_flight = 1", false},
		{"ordered", "ordered = true", true},
		{"gathering", "batch_size = 5, batch_wait = '30 ms', max_in_flight = 3", false},
		{"gathering in order", "batch_size = 7, batch_wait = '20 ms', ordered = true", true},
		{"at a rate", "rate_limit = 150", false},
	}
	receivers := make([]*moody, len(kinds))
	ids := make([]uuid.UUID, len(kinds))
	for i, k := range kinds {
		receivers[i] = newMoody()
		ids[i] = s.endpoint(t, answering(t, receivers[i].ServeHTTP).URL)
		s.set(t, ids[i], k.settings+", retry_schedule = array_fill('5ms'::interval, ARRAY[50]), events = ARRAY['*', '"+memory.EndpointFailing+"', '"+memory.EndpointRecovered+"']")
	}
	policy := testPolicy()
	policy.FailingAfter = 0 // so that it is told of often
	first, second := s.delivererWith(t, loopbackTransport(t), policy), s.delivererWith(t, loopbackTransport(t), policy)
	stops := []func(){s.node(t, first), s.node(t, second)}
	store := endpoint.New(s.pool, s.jobs, nil, func(string) error { return nil }, rand.Reader, time.Now)
	redeliveries := endpoint.NewRedeliveries(s.pool, s.jobs)
	who := endpoint.Actor{Name: "token/ada"}

	ctx := t.Context()
	g := together(t)
	ends := time.Now().Add(chaosTime)
	often := func(pause time.Duration, do func() error) {
		g.Go(func() error {
			for time.Now().Before(ends) {
				if err := do(); err != nil {
					return err
				}
				time.Sleep(time.Duration(mathrand.Int64N(int64(pause))))
			}
			return nil
		})
	}
	some := func() uuid.UUID { return ids[mathrand.N(len(ids))] }
	var mu sync.Mutex
	told := map[string][]string{}
	often(30*time.Millisecond, func() error {
		mu.Lock()
		defer mu.Unlock()
		users := make([]string, 1+mathrand.N(10))
		for i := range users {
			users[i] = fmt.Sprint("user-", mathrand.N(5))
		}
		for i, id := range s.tell(t, added, users...) {
			told[users[i]] = append(told[users[i]], id.String())
		}
		return nil
	})
	often(100*time.Millisecond, func() error { // people change their minds
		id := some().String()
		if _, err := store.Pause(ctx, who, id, ""); err != nil {
			return err
		}
		time.Sleep(time.Duration(mathrand.N(50)) * time.Millisecond)
		_, err := store.Resume(ctx, who, id, "")
		return err
	})
	often(100*time.Millisecond, func() error {
		_, _, err := store.Change(ctx, who, some().String(), endpoint.Settings{MaxInFlight: new(1 + mathrand.N(8))})
		return err
	})
	often(300*time.Millisecond, func() error {
		i := mathrand.N(len(kinds))
		if kinds[i].ordered {
			return nil
		}
		_, err := redeliveries.Start(ctx, who, ids[i].String(), endpoint.RedeliverySettings{Kind: endpoint.Replay, Since: time.Now().Add(-time.Second)})
		return err
	})
	often(50*time.Millisecond, func() error { // one is resent
		var id int64
		err := s.pool.QueryRow(ctx, `SELECT id FROM deliveries WHERE status = 'delivered' AND outbox_id IS NOT NULL AND endpoint_id <> ALL ($1) ORDER BY random() LIMIT 1`,
			[]uuid.UUID{ids[2], ids[4]}).Scan(&id)
		if err != nil {
			return nil //nolint:nilerr // nothing was delivered yet
		}
		err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return Resend(ctx, tx, s.jobs, id) })
		if err != nil && !strings.Contains(err.Error(), endpoint.ErrOpen.Error()) && !strings.Contains(err.Error(), endpoint.ErrPayloadGone.Error()) {
			return err
		}
		return nil
	})
	often(400*time.Millisecond, func() error { // a node seems to be gone
		if _, err := s.pool.Exec(ctx, `UPDATE processes SET seen_at = now() - interval '1 minute' WHERE process = $1`, second.process); err != nil {
			return err
		}
		_, err := first.Rescue(ctx, 10*time.Second)
		return err
	})
	often(100*time.Millisecond, func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			_, _, err := Purge(ctx, tx, time.Second, Purged{}, 20)
			return err
		})
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}

	s.until(t, "nothing is left", `SELECT NOT EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)
		AND NOT EXISTS (SELECT FROM redeliveries WHERE state = 'running')
		AND NOT EXISTS (SELECT FROM deliveries WHERE status IN ('pending', 'retrying', 'waiting', 'batched'))`)
	if died := one[int](t, s, `SELECT count(*) FROM deliveries WHERE status <> 'delivered'`); died > 0 {
		t.Errorf("%d deliveries were not delivered", died)
	}
	for i, k := range kinds {
		m := receivers[i]
		m.mu.Lock()
		for user, want := range told {
			if k.ordered {
				if diff := cmp.Diff(want, m.byUser[user]); diff != "" {
					t.Errorf("%s: %s got (-want +got):\n%s", k.name, user, diff)
				}
				continue
			}
			for _, id := range want {
				if !m.taken[id] {
					t.Errorf("%s never got %s", k.name, id)
				}
			}
		}
		if len(m.changed) > 0 {
			t.Errorf("%s got other bytes under the same webhook-id: %v", k.name, m.changed)
		}
		m.mu.Unlock()
	}
	for _, stop := range stops {
		stop()
	}
	s.pool.Reset() // sessions tell what they met when they end
	s.until(t, "the sessions have ended", `SELECT count(*) <= 1 FROM pg_stat_activity WHERE datname = current_database()`)
	if n := one[int](t, s, `SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()`); n > 0 {
		t.Errorf("%d deadlocks", n)
	}
	t.Logf("%d webhooks, %d deliveries, %d attempts, %d jobs of lanes", one[int](t, s, `SELECT count(*) FROM outbox`),
		one[int](t, s, `SELECT count(*) FROM deliveries`), one[int](t, s, `SELECT count(*) FROM delivery_attempts`), s.deliveryJobs(t))
}
