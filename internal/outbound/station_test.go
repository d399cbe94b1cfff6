package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/job"
	"github.com/memrelay/memrelay/internal/memory"
)

const (
	added    = "memory_added"
	updated  = "memory_updated"
	deleted  = "memory_deleted"
	graphing = "graph_built"
)

// station is outbound on a database of its own, worked by hand: the test decides
// which job runs and when.
type station struct {
	pool      *pgxpool.Pool
	jobs      *river.Client[pgx.Tx]
	relayer   *Relayer
	deliverer *Deliverer
}

func newStation(t *testing.T) *station {
	t.Helper()
	pool := dbtest.New(t)
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	s := &station{pool: pool, jobs: jobs, relayer: NewRelayer(pool, jobs, nil, slog.New(slog.NewTextHandler(t.Output(), nil)))}
	s.deliverer = s.delivererThrough(t, loopbackTransport(t))
	return s
}

func loopbackTransport(t *testing.T) http.RoundTripper {
	rt := NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil).Transport()
	t.Cleanup((&http.Client{Transport: rt}).CloseIdleConnections)
	return rt
}

func (s *station) delivererThrough(t *testing.T, rt http.RoundTripper) *Deliverer {
	return s.delivererWith(t, rt, testPolicy())
}

func (s *station) delivererWith(t *testing.T, rt http.RoundTripper, policy Policy) *Deliverer {
	counts := counter.New(s.pool, uuid.New(), "test", 1, testLog(t))
	targets := targetsThrough(rt, endpoint.EnvCredentials("", testSecret))
	teller := memory.NewTeller(s.jobs, memory.Sender{Source: "memrelay"}, time.Now)
	d := NewDeliverer(s.pool, s.jobs, counts, targets, teller, policy, uuid.New(), "test", time.Now, testLog(t))
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cancel()
		d.Stop(ctx)
	})
	return d
}

// maxInFlight is how many requests an endpoint gets at one time unless it says otherwise.
const maxInFlight = 32

func testPolicy() Policy {
	return Policy{FailingAfter: 5 * time.Minute, DisableAfter: 120 * time.Hour, DisableFailures: 10, ProbeEvery: time.Hour}
}

// targetsThrough are reached through rt, whatever TLS settings they have; env are the credentials of the endpoint of that name.
func targetsThrough(rt http.RoundTripper, env endpoint.Credentials) *Targets {
	return NewTargets(func(*tls.Config) http.RoundTripper { return rt }, nil, env, time.Now)
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// subscriber is a receiver on loopback that keeps what it was sent.
type subscriber struct {
	*httptest.Server
	got chan sent
}

type sent struct {
	id, body string
	at       time.Time
}

// subscribe starts a receiver that answers 204, or what answer does.
func subscribe(t *testing.T, answer ...http.HandlerFunc) *subscriber {
	t.Helper()
	r := &subscriber{got: make(chan sent, 10_000)}
	r.Server = answering(t, func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the sender has hung up
		}
		r.got <- sent{id: req.Header.Get("webhook-id"), body: string(body), at: time.Now()}
		if len(answer) > 0 {
			answer[0](w, req)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return r
}

// status answers with that status, and with headers given as name and value.
func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
	}
}

// inTurn answers the first request with the first of them, and so on; those that
// come after the last with the last.
func inTurn(answers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		answer := answers[min(n, len(answers)-1)]
		n++
		mu.Unlock()
		answer(w, r)
	}
}

func (r *subscriber) next(t *testing.T) sent {
	t.Helper()
	select {
	case w := <-r.got:
		return w
	case <-time.After(time.Minute):
		t.Fatal("waited a minute in vain for a webhook")
		return sent{}
	}
}

// all takes what has arrived so far.
func (r *subscriber) all() []sent {
	var all []sent
	for {
		select {
		case w := <-r.got:
			all = append(all, w)
		default:
			return all
		}
	}
}

// endpoint makes an active endpoint that wants memory_added, three attempts, and
// an hour between the first two, or what change makes of it.
func (s *station) endpoint(t *testing.T, url string, change ...func(*db.Endpoint)) uuid.UUID {
	t.Helper()
	p := db.Endpoint{
		ID: uuid.Must(uuid.NewV7()), URL: url, Events: []string{added}, Timeout: 10 * time.Second, RetrySchedule: endpoint.Doubling(time.Hour, 3),
		Status: "active",
	}
	p.Name = p.ID.String()
	for _, c := range change {
		c(&p)
	}
	s.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule, status) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		p.ID, p.Name, p.URL, append([]string{}, p.Events...), p.Timeout, p.RetrySchedule, p.Status)
	return p.ID
}

func withStatus(status string) func(*db.Endpoint) {
	return func(p *db.Endpoint) { p.Status = status }
}

// payload is one whose bytes jsonb, or anything that understands them, would change.
func payload(event string, n int) string {
	return fmt.Sprintf(`{"event":"%s",  "n": %d, "b":1,"a":"\u00e9"}`, event, n)
}

// told writes n webhooks of an event into the outbox and returns their ids in the order of seq.
func (s *station) told(t *testing.T, event string, n int) []uuid.UUID {
	t.Helper()
	ids := make([]uuid.UUID, n)
	payloads := make([][]byte, n)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7())
		payloads[i] = []byte(payload(event, i))
	}
	s.exec(t, `INSERT INTO outbox (id, event, user_id, payload)
		SELECT id, $1, 'zoho:1', payload FROM unnest($2::uuid[], $3::bytea[]) WITH ORDINALITY AS n (id, payload, place) ORDER BY place`,
		event, ids, payloads)
	return ids
}

// running inserts a job as one that River has just handed to a worker.
func (s *station) running(t *testing.T, args river.JobArgs) int64 {
	t.Helper()
	var id int64
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error {
		inserted, err := s.jobs.InsertTx(t.Context(), tx, args, nil)
		if err != nil {
			return err
		}
		id = inserted.Job.ID
		_, err = tx.Exec(t.Context(), `UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now() WHERE id = $1`, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func relayJob(id int64) *river.Job[job.Relay] {
	return &river.Job[job.Relay]{JobRow: &rivertype.JobRow{ID: id, Attempt: 1}}
}

func laneJob(id int64, endpointID uuid.UUID) *river.Job[job.DeliverEndpoint] {
	return &river.Job[job.DeliverEndpoint]{JobRow: &rivertype.JobRow{ID: id, Attempt: 1}, Args: job.DeliverEndpoint{EndpointID: endpointID}}
}

// relay works a Relay job of its own.
func (s *station) relay(t *testing.T) {
	t.Helper()
	id := s.running(t, job.Relay{})
	if err := s.relayer.Work(t.Context(), relayJob(id)); err != nil {
		t.Fatalf("relay: %v", err)
	}
	if got := one[string](t, s, `SELECT state::text FROM river_job WHERE id = $1`, id); got != "completed" {
		t.Errorf("the relay's job is %s, want completed", got)
	}
}

// start hands the lane's one job to a worker, as River does once it is due.
func (s *station) start(t *testing.T, endpointID uuid.UUID) *river.Job[job.DeliverEndpoint] {
	t.Helper()
	ids := column[int64](t, s, `
		UPDATE river_job j SET state = 'running', attempt = attempt + 1, attempted_at = now() FROM endpoints p
		WHERE p.id = $1 AND j.id = p.job_id AND j.state = 'available' AND j.scheduled_at <= now() RETURNING j.id`, endpointID)
	if len(ids) != 1 {
		t.Fatalf("the lane has %d jobs to run now, want 1: %s", len(ids), s.lane(t, endpointID))
	}
	return laneJob(ids[0], endpointID)
}

// work works the lane's one job.
func (s *station) work(t *testing.T, endpointID uuid.UUID) {
	t.Helper()
	if err := s.deliverer.Work(t.Context(), s.start(t, endpointID)); err != nil {
		t.Fatalf("deliver: %v", err)
	}
}

// hasten lets the time pass that everything waits for: backoffs and leases.
func (s *station) hasten(t *testing.T) {
	t.Helper()
	s.exec(t, `UPDATE deliveries SET next_attempt_at = now(), leased_until = least(leased_until, now()) WHERE status IN ('pending', 'retrying')`)
	s.exec(t, `UPDATE endpoints SET due_at = now() WHERE due_at IS NOT NULL`)
	s.exec(t, `UPDATE river_job SET scheduled_at = now() WHERE state = 'available'`)
}

// lane says in one line how a lane stands. Times are told by the deliveries'
// rows: "next" is when the first open one is due.
func (s *station) lane(t *testing.T, endpointID uuid.UUID) string {
	t.Helper()
	return one[string](t, s, `
		SELECT format('%s of %s done, due %s, job %s', p.done, p.wanted,
		       CASE WHEN p.due_at IS NULL THEN 'never' WHEN p.due_at <= now() THEN 'now'
		            WHEN p.due_at = (SELECT min(next_attempt_at) FROM deliveries WHERE endpoint_id = p.id AND status IN ('pending', 'retrying')) THEN 'next'
		            ELSE 'later' END,
		       CASE WHEN p.job_id IS NULL THEN 'none' ELSE coalesce((SELECT state::text || CASE WHEN scheduled_at = p.due_at THEN ' then' ELSE '' END
		            FROM river_job WHERE id = p.job_id), 'missing') END)
		FROM endpoints p WHERE p.id = $1`, endpointID)
}

func (s *station) wantLane(t *testing.T, endpointID uuid.UUID, want string) {
	t.Helper()
	if got := s.lane(t, endpointID); got != want {
		t.Errorf("the lane is: %s; want: %s", got, want)
	}
}

// outcomes lists the deliveries of an endpoint in the order they were made, each
// in one line.
func (s *station) outcomes(t *testing.T, endpointID uuid.UUID) []string {
	t.Helper()
	return column[string](t, s, `
		SELECT format('%s after %s attempts, %s failed', status, attempts, failures) || CASE WHEN last_error <> '' THEN ': ' || last_error ELSE '' END
		       || CASE WHEN leased_until > now() THEN ' (leased)' ELSE '' END
		FROM deliveries WHERE endpoint_id = $1 ORDER BY id`, endpointID)
}

func (s *station) wantOutcomes(t *testing.T, endpointID uuid.UUID, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.outcomes(t, endpointID), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
}

// attempts lists what is on record of the attempts at an endpoint's deliveries.
func (s *station) attempts(t *testing.T, endpointID uuid.UUID) []string {
	t.Helper()
	return column[string](t, s, `
		SELECT format('%s: %s', a.number, coalesce(a.status_code::text, a.error_class))
		FROM delivery_attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.endpoint_id = $1 ORDER BY d.id, a.number`, endpointID)
}

func (s *station) wantAttempts(t *testing.T, endpointID uuid.UUID, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, s.attempts(t, endpointID), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

// wantCounted compares the counters of outbound.
func (s *station) wantCounted(t *testing.T, want counter.Changes) {
	t.Helper()
	got, err := counter.Read(t.Context(), db.New(s.pool))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
}

// refuse makes statements on a table fail: those that trigger and when describe,
// such as "BEFORE UPDATE" and "new.state = 'completed'". The returned function
// lets them through again.
func (s *station) refuse(t *testing.T, table, trigger, when string) (relent func()) {
	t.Helper()
	s.exec(t, `CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$`)
	s.exec(t, fmt.Sprintf(`CREATE TRIGGER refuse %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION refuse()`, trigger, table, when))
	return func() { s.exec(t, `DROP TRIGGER refuse ON `+table) }
}

// picture is everything outbound has written, to be compared with a later one.
func (s *station) picture(t *testing.T) []string {
	t.Helper()
	return column[string](t, s, `
		SELECT 'outbox ' || to_jsonb(o)::text FROM outbox o
		UNION ALL SELECT 'endpoint ' || to_jsonb(p)::text FROM endpoints p
		UNION ALL SELECT 'delivery ' || to_jsonb(d)::text FROM deliveries d
		UNION ALL SELECT 'attempt ' || to_jsonb(a)::text FROM delivery_attempts a
		UNION ALL SELECT 'job ' || to_jsonb(j)::text FROM river_job j
		UNION ALL SELECT 'counter ' || to_jsonb(c)::text FROM counters c
		ORDER BY 1`)
}

// together is for what runs beside the test: the test waits for it also when it
// fails, and by then its context has ended.
func together(t *testing.T) *errgroup.Group {
	t.Helper()
	g := &errgroup.Group{}
	t.Cleanup(func() { _ = g.Wait() }) // whoever wants the error has asked before
	return g
}

// until waits until the query says true: the truth is in the database, and
// nothing in the program needs to tell a test.
func (s *station) until(t *testing.T, what, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if one[bool](t, s, query, args...) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}

// untilWaiting waits until so many sessions of this database wait for a lock.
func (s *station) untilWaiting(t *testing.T, sessions int) {
	t.Helper()
	s.until(t, "a session waits for a lock", `
		SELECT count(DISTINCT l.pid) = $1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE NOT l.granted AND a.datname = current_database()`, sessions)
}

func (s *station) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

func column[T any](t *testing.T, s *station, query string, args ...any) []T {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	return all
}

func one[T any](t *testing.T, s *station, query string, args ...any) T {
	t.Helper()
	all := column[T](t, s, query, args...)
	if len(all) != 1 {
		t.Fatalf("%d rows, want 1\n%s", len(all), query)
	}
	return all[0]
}

// snoozed returns for how long a worker's error puts its job off; it fails the
// test when the error is another.
func snoozed(t *testing.T, err error) time.Duration {
	t.Helper()
	var snooze *rivertype.JobSnoozeError
	if !errors.As(err, &snooze) {
		t.Fatalf("the worker returned %v, want a snooze", err)
	}
	return snooze.Duration
}
