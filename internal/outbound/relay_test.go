package outbound

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/job"
)

const nowhere = "https://receiver.invalid/"

func named(name string, events ...string) func(*db.Endpoint) {
	return func(p *db.Endpoint) { p.Name, p.Events = name, events }
}

func TestRelayMakesOneDeliveryPerEndpointThatWantsTheEvent(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a := s.endpoint(t, nowhere, named("a", added))
	b := s.endpoint(t, nowhere, named("b", added, deleted))
	c := s.endpoint(t, nowhere, named("c", updated))
	none := s.endpoint(t, nowhere, named("none"))
	gone := s.endpoint(t, nowhere, named("gone", added, deleted, graphing))
	s.exec(t, `UPDATE endpoints SET deleted_at = now() WHERE id = $1`, gone)
	s.told(t, added, 1)
	s.told(t, deleted, 1)
	s.told(t, graphing, 1)

	s.relay(t)

	want := []string{"memory_added to a", "memory_added to b", "memory_deleted to b"}
	got := column[string](t, s, `SELECT o.event || ' to ' || p.name FROM deliveries d
		JOIN outbox o ON o.id = d.outbox_id JOIN endpoints p ON p.id = d.endpoint_id ORDER BY d.id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
	if n := one[int](t, s, `SELECT count(*) FROM outbox WHERE relayed_at IS NULL`); n != 0 {
		t.Errorf("%d webhooks are not relayed, those that nobody wants included", n)
	}
	s.wantLane(t, a, "0 of 1 done, due now, job available")
	s.wantLane(t, b, "0 of 1 done, due now, job available")
	for _, quiet := range []uuid.UUID{c, none, gone} {
		s.wantLane(t, quiet, "0 of 0 done, due never, job none")
	}
}

func TestRelayFollowsTheOrderOfSeq(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	want := []string{"10", "20", "30", "40"}
	for _, seq := range []int{30, 10, 40, 20} {
		s.exec(t, `INSERT INTO outbox (id, seq, event, user_id, payload) VALUES ($1, $2, $3, 'zoho:1', '')`, uuid.New(), seq, added)
	}
	s.relay(t)
	got := column[string](t, s, `SELECT o.seq::text FROM deliveries d JOIN outbox o ON o.id = d.outbox_id ORDER BY d.id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("seq by the order of deliveries (-want +got):\n%s", diff)
	}
}

func TestRelayHoldsWhatIsForAnEndpointThatIsNotActive(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"paused", "disabled"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			id := s.endpoint(t, nowhere, withStatus(status))
			s.told(t, added, 2)
			s.relay(t)
			s.wantOutcomes(t, id, "pending after 0 attempts, 0 failed", "pending after 0 attempts, 0 failed")
			s.wantLane(t, id, "0 of 0 done, due never, job none")
			if got := one[int](t, s, `SELECT held FROM delivery_health`); got != 2 {
				t.Errorf("%d are shown as held, want 2", got)
			}
			if n := one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'deliver_endpoint'`); n != 0 {
				t.Errorf("%d jobs, want none", n)
			}
		})
	}
}

func TestRelayThatFindsNothingIsDone(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.relay(t)
	before := s.picture(t)
	s.relay(t)
	s.wantLane(t, id, "0 of 1 done, due now, job available")
	after := slices.DeleteFunc(s.picture(t), func(row string) bool {
		return strings.HasPrefix(row, "job ") && !slices.Contains(before, row) // that of the second relay
	})
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("a relay without work changed (-before +after):\n%s", diff)
	}
}

// A lane that waits for a backoff is called by what is new; its one job is
// pulled forward and no second one made.
func TestRelayPullsAWaitingLaneForward(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	r := subscribe(t, inTurn(status(503), status(204)))
	id := s.endpoint(t, r.URL)
	s.told(t, added, 1)
	s.relay(t)
	s.work(t, id)
	s.wantLane(t, id, "1 of 2 done, due next, job available then")
	s.told(t, added, 1)
	s.relay(t)
	s.wantLane(t, id, "1 of 3 done, due now, job available then")
	s.work(t, id)
	s.wantOutcomes(t, id, "retrying after 1 attempts, 1 failed: answered 503 Service Unavailable", "delivered after 1 attempts, 0 failed")
	s.wantLane(t, id, "3 of 4 done, due next, job available then")
	if n := one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'deliver_endpoint' AND state <> 'completed'`); n != 1 {
		t.Errorf("the lane has %d jobs, want 1", n)
	}
}

func TestRelayOf1200WebhooksIsOneJob(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.endpoint(t, nowhere), s.endpoint(t, nowhere)
	s.told(t, added, 1200)
	s.relay(t)
	for _, id := range []uuid.UUID{a, b} {
		if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE endpoint_id = $1`, id); n != 1200 {
			t.Errorf("%d deliveries, want 1200", n)
		}
		s.wantLane(t, id, "0 of 3 done, due now, job available then")
	}
	if n := one[int](t, s, `SELECT count(*) FROM outbox WHERE relayed_at IS NULL`); n != 0 {
		t.Errorf("%d webhooks are not relayed", n)
	}
}

// Two nodes relay while others still write; a deadlock would make one of them snooze.
func TestTwoRelaysAtOnceMakeNoDouble(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.endpoint(t, nowhere), s.endpoint(t, nowhere)
	other, err := pgxpool.New(t.Context(), s.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	g := together(t)
	relays := make(chan int64, 40)
	noMore := sync.OnceFunc(func() { close(relays) })
	t.Cleanup(noMore)
	for _, relayer := range []*Relayer{s.relayer, NewRelayer(other, s.jobs, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))} {
		g.Go(func() error {
			for id := range relays {
				if err := relayer.Work(t.Context(), relayJob(id)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 40 {
		s.told(t, added, 15)
		relays <- s.running(t, job.Relay{})
	}
	noMore()
	if err := g.Wait(); err != nil {
		t.Fatalf("a relay returned: %v", err)
	}
	for _, id := range []uuid.UUID{a, b} {
		if n := one[int](t, s, `SELECT count(*) FROM deliveries WHERE endpoint_id = $1`, id); n != 600 {
			t.Errorf("%d deliveries, want 600", n)
		}
	}
	if n := one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'deliver_endpoint'`); n != 2 {
		t.Errorf("%d jobs for two lanes", n)
	}
	if n := one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'relay' AND state <> 'completed'`); n != 0 {
		t.Errorf("%d relay jobs are not completed", n)
	}
}

// The second must not even look before the first is done: it would tell the
// lanes of work that is none.
func TestSecondRelayWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.told(t, added, 3)
	jobs := []int64{s.running(t, job.Relay{}), s.running(t, job.Relay{})}
	holder, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := holder.Exec(t.Context(), `SELECT FROM endpoints FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	g := together(t)
	for i, relay := range jobs {
		g.Go(func() error { return s.relayer.Work(t.Context(), relayJob(relay)) })
		s.untilWaiting(t, i+1)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	s.wantLane(t, id, "0 of 1 done, due now, job available")
	if n := len(s.outcomes(t, id)); n != 3 {
		t.Errorf("%d deliveries, want 3", n)
	}
}

func TestRelayLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for what, refused := range map[string][3]string{
		"the deliveries":     {"deliveries", "BEFORE INSERT", "true"},
		"the webhooks' mark": {"outbox", "BEFORE UPDATE", "new.relayed_at IS NOT NULL"},
		"the relay's job":    {"river_job", "BEFORE UPDATE", "new.state = 'completed'"},
		"the lane's job":     {"river_job", "BEFORE INSERT", "new.kind = 'deliver_endpoint'"},
		"the lane":           {"endpoints", "BEFORE UPDATE", "new.wanted > old.wanted"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			id := s.endpoint(t, nowhere)
			s.told(t, added, 3)
			relay := s.running(t, job.Relay{})
			relent := s.refuse(t, refused[0], refused[1], refused[2])
			before := s.picture(t)

			if d := snoozed(t, s.relayer.Work(t.Context(), relayJob(relay))); d != time.Second {
				t.Errorf("snoozes for %v, want a second", d)
			}
			if diff := cmp.Diff(before, s.picture(t)); diff != "" {
				t.Errorf("a relay that failed left (-before +after):\n%s", diff)
			}

			relent()
			if err := s.relayer.Work(t.Context(), relayJob(relay)); err != nil {
				t.Fatal(err)
			}
			if n := len(s.outcomes(t, id)); n != 3 {
				t.Errorf("%d deliveries after the second try, want 3", n)
			}
		})
	}
}

// What is told after a relay has looked keeps the job that it came with: the relay that
// waited for another one sees neither, and the job is there for both.
func TestARelayThatWaitedEndsNoJobOfWhatItHasNotSeen(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	holder, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := db.New(holder).BeginRelay(t.Context(), 1); err != nil { // which finds nothing
		t.Fatal(err)
	}
	first := s.tell(t, added, "u")
	g := together(t)
	g.Go(func() error { _, err := s.relayer.relay(t.Context(), 0); return err })
	s.untilWaiting(t, 1)
	second := s.tell(t, added, "u")
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	relayed := column[uuid.UUID](t, s, `SELECT o.id FROM outbox o WHERE relayed_at IS NOT NULL`)
	left := one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'relay' AND state = 'available'`)
	if len(relayed) != 1 || relayed[0] != first[0] || left != 1 {
		t.Errorf("relayed %v of %v and %v, and %d jobs are left, want the first and one", relayed, first, second, left)
	}
	s.relay(t)
	if n := len(s.outcomes(t, id)); n != 2 {
		t.Errorf("%d deliveries, want 2", n)
	}
}

func TestRelayThatIsStoppedSaysSo(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	s.told(t, added, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.relayer.Work(ctx, relayJob(s.running(t, job.Relay{}))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if n := one[int](t, s, `SELECT count(*) FROM deliveries`); n != 0 {
		t.Errorf("%d deliveries, want none", n)
	}
}

// What filters read meanwhile keeps the rows of all endpoints locked.
func TestRelayReadsOnlySoMuchInOneTransaction(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	sizes := []int{relayBytes / 2, relayBytes / 2, 3, relayBytes * 2, 5, 6}
	for _, size := range sizes {
		s.exec(t, `INSERT INTO outbox (id, event, user_id, payload)
			VALUES ($1, $2, 'zoho:1', convert_to(rpad('{"data":{"a":"x"}}', $3), 'UTF8'))`, uuid.New(), added, size)
	}
	s.relay(t)
	got := column[int](t, s, `SELECT count(*) FROM outbox GROUP BY relayed_at ORDER BY relayed_at`)
	if diff := cmp.Diff([]int{2, 1, 1, 2}, got); diff != "" {
		t.Errorf("webhooks of each transaction (-want +got):\n%s", diff)
	}
	if n := one[int](t, s, `SELECT count(*) FROM river_job WHERE kind = 'relay' AND state <> 'completed'`); n != 0 {
		t.Errorf("%d relay jobs are left", n)
	}
}

// The queue's leader locks all jobs that it lets go, in another order than a relay: it
// must meet none of a relay's.
func TestARelayAndTheQueuesLeaderDoNotMeet(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.relay(t)
	s.exec(t, `UPDATE river_job SET state = 'retryable', scheduled_at = now() - interval '1 minute' WHERE kind = 'deliver_endpoint'`)
	s.told(t, added, 1)
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		o := job.Relay{}.InsertOpts()
		return db.New(tx).InsertRelayJob(t.Context(), db.InsertRelayJobParams{
			Kind: job.Relay{}.Kind(), MaxAttempts: int16(o.MaxAttempts), Queue: o.Queue, After: -time.Second,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	hold, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Exec(t.Context(), `SELECT FROM endpoints WHERE id = $1 FOR UPDATE`, id); err != nil {
		t.Fatal(err)
	}
	relayed, scheduled := make(chan error, 1), make(chan error, 1)
	go func() { _, err := s.relayer.relay(t.Context(), 0); relayed <- err }()
	s.untilWaiting(t, 1)
	go func() {
		_, err := s.pool.Exec(t.Context(), `SELECT FROM river_job WHERE state IN ('retryable', 'scheduled') AND scheduled_at <= now()
			ORDER BY priority, scheduled_at, id LIMIT 1000 FOR UPDATE`)
		scheduled <- err
	}()
	if err := <-scheduled; err != nil {
		t.Errorf("the queue's leader: %v", err)
	}
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-relayed; err != nil {
		t.Errorf("the relay: %v", err)
	}
}

// Jobs that have gathered are ended a thousand at a time.
func TestARelayEndsWhatHasGathered(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.exec(t, `INSERT INTO river_job (kind, args, queue, max_attempts) SELECT 'relay', '{}', 'relay', 10000 FROM generate_series(1, 2500)`)
	for round := 1; ; round++ {
		more, err := s.relayer.relay(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			if round != 3 {
				t.Errorf("%d relays, want 3", round)
			}
			break
		}
	}
	var left int
	if err := s.pool.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE kind = 'relay' AND state <> 'completed'`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d jobs are left (%v)", left, err)
	}
}
