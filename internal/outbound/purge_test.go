package outbound

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/endpoint"
)

const retention = 90 * 24 * time.Hour

// purge forgets, slice by slice, and returns how many slices it took.
func (s *station) purge(t *testing.T, most int32) int {
	t.Helper()
	var to Purged
	slices := 0
	for n := int(most); n == int(most); slices++ {
		err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) (err error) {
			to, n, err = Purge(t.Context(), tx, retention, to, most)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return slices
}

// kept are the user_ids of the webhooks that still have their payload.
func (s *station) kept(t *testing.T) []string {
	t.Helper()
	return column[string](t, s, `SELECT user_id FROM outbox WHERE payload IS NOT NULL ORDER BY user_id COLLATE "C"`)
}

func TestPurgeForgetsWhatNobodyNeedsAnyMore(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	a, b := s.endpoint(t, nowhere, named("a")), s.endpoint(t, nowhere, named("b"))
	for name, statuses := range map[string][]string{
		"told to nobody": nil, "delivered": {"delivered"}, "cancelled": {"cancelled", "delivered"}, "discarded": {"discarded"},
		"kept: due": {"pending"}, "kept: retried": {"delivered", "retrying"}, "kept: waits": {"waiting"}, "kept: in a batch": {"batched"}, "kept: dead": {"dead", "delivered"},
		"kept: young": {"delivered"}, "kept: not relayed": nil,
	} {
		id := uuid.Must(uuid.NewV7())
		s.exec(t, `INSERT INTO outbox (id, event, user_id, payload, created_at, relayed_at) VALUES ($1, 'memory_added', $2, '{}', now() - $3::interval, now())`,
			id, name, retention+time.Minute)
		for i, status := range statuses {
			s.exec(t, `WITH d AS (INSERT INTO deliveries (outbox_id, endpoint_id, status, attempts) VALUES ($1, $2, $3, 1) RETURNING id)
				INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, total, response_head) SELECT id, 1, now(), 200, '7ms', 'HTTP/1.1 200 OK' FROM d`,
				id, []uuid.UUID{a, b}[i], status)
		}
	}
	s.exec(t, `UPDATE outbox SET relayed_at = NULL WHERE user_id = 'kept: not relayed'`)
	s.exec(t, `UPDATE outbox SET created_at = now() - $1::interval WHERE user_id = 'kept: young'`, retention-time.Minute)
	facts := func() []string {
		return column[string](t, s, `
			SELECT 'webhook ' || (to_jsonb(o) - 'payload')::text FROM outbox o UNION ALL SELECT 'delivery ' || to_jsonb(d)::text FROM deliveries d
			UNION ALL SELECT 'attempt ' || (to_jsonb(a) - 'response_head')::text FROM delivery_attempts a ORDER BY 1`)
	}
	before := facts()
	s.purge(t, 100)
	want := []string{"kept: dead", "kept: due", "kept: in a batch", "kept: not relayed", "kept: retried", "kept: waits", "kept: young"}
	if diff := cmp.Diff(want, s.kept(t)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, facts()); diff != "" {
		t.Errorf("facts that changed (-before +after):\n%s", diff)
	}
	wrong := column[string](t, s, `SELECT o.user_id FROM delivery_attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN outbox o ON o.id = d.outbox_id
		WHERE (o.payload IS NULL) <> (a.response_head = '')`)
	if len(wrong) > 0 {
		t.Errorf("the answers to these are not kept as long as what they answer: %s", wrong)
	}
}

// What answered a batch answered all that it carried.
func TestPurgeForgetsTheAnswersToBatches(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.told(t, added, 2)
	s.relay(t)
	s.exec(t, `UPDATE outbox SET created_at = now() - $1::interval`, 2*retention)
	batch := uuid.New()
	s.exec(t, `UPDATE deliveries SET status = 'delivered', batch_id = $1`, batch)
	s.exec(t, `INSERT INTO deliveries (endpoint_id, batch_id, status) VALUES ($1, $2, 'delivered')`, id, batch)
	s.exec(t, `INSERT INTO delivery_attempts (delivery_id, number, started_at, response_head) SELECT id, 1, now(), 'thanks' FROM deliveries WHERE outbox_id IS NULL`)
	s.purge(t, 100)
	if got := column[string](t, s, `SELECT response_head FROM delivery_attempts`); len(got) != 1 || got[0] != "" {
		t.Errorf("the batch's answer is %q, want none", got)
	}
}

func TestPurgeGoesInSlices(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	s.told(t, added, 25)
	s.relay(t)
	s.exec(t, `UPDATE outbox SET created_at = now() - $1::interval - seq % 3 * interval '1 hour'`, 2*retention)
	s.exec(t, `UPDATE deliveries SET status = CASE WHEN id % 5 = 0 THEN 'dead' ELSE 'delivered' END`)
	if got := s.purge(t, 10); got != 3 {
		t.Errorf("%d slices for 20 by tens, want 2 and one that finds nothing", got)
	}
	if n := len(s.kept(t)); n != 5 {
		t.Errorf("%d payloads are kept, want those of the 5 dead", n)
	}
}

// A purge and somebody who opens a delivery do not pass each other unseen.
func TestPurgeLeavesWhatIsBeingOpened(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	s.told(t, added, 1)
	s.relay(t)
	s.exec(t, `UPDATE outbox SET created_at = now() - $1::interval`, 2*retention)
	s.exec(t, `UPDATE deliveries SET status = 'delivered'`)
	id := one[int64](t, s, `SELECT id FROM deliveries`)
	opener, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opener.Rollback(context.WithoutCancel(t.Context())) }()
	if err := Resend(t.Context(), opener, s.jobs, id); err != nil {
		t.Fatal(err)
	}
	s.purge(t, 10)
	if n := len(s.kept(t)); n != 1 {
		t.Error("the payload of what is being opened is gone")
	}
	if err := opener.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.purge(t, 10)
	if n := len(s.kept(t)); n != 1 {
		t.Error("the payload of what is open is gone")
	}

	// The other way round: whoever opens waits, and is told that it is too late.
	s.exec(t, `UPDATE deliveries SET status = 'delivered'`)
	purger, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = purger.Rollback(context.WithoutCancel(t.Context())) }()
	if _, _, err := Purge(t.Context(), purger, retention, Purged{}, 10); err != nil {
		t.Fatal(err)
	}
	g := together(t)
	g.Go(func() error { return s.resend(t, id) })
	s.untilWaiting(t, 1)
	if err := purger.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(); !errors.Is(err, endpoint.ErrPayloadGone) {
		t.Errorf("got %v, want that the payload is gone", err)
	}
	s.wantOutcomes(t, one[uuid.UUID](t, s, `SELECT id FROM endpoints`), "delivered after 0 attempts, 0 failed")
}

// A delivery that was opened after a purge had looked, and before it locked, is seen
// by its second look.
func TestPurgeLooksAgain(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.endpoint(t, nowhere)
	ids := s.told(t, added, 2)
	s.relay(t)
	s.exec(t, `UPDATE deliveries SET status = CASE WHEN outbox_id = $1 THEN 'delivered' ELSE 'dead' END`, ids[0])
	forgotten, err := db.New(s.pool).ForgetPayloads(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ids[:1], forgotten); diff != "" {
		t.Errorf("forgotten (-want +got):\n%s", diff)
	}
}

// spy keeps the last statement.
type spy struct {
	db.DBTX
	last string
}

func (s *spy) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	s.last = query
	return s.DBTX.QueryRow(ctx, query, args...)
}

func (s *spy) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	s.last = query
	return s.DBTX.Query(ctx, query, args...)
}

// plan returns how the server runs a statement on a large table, planned without its
// values as the working pool does. ask runs it once; execute names it with values.
func (s *station) plan(t *testing.T, ask func(*db.Queries) error, values string) string {
	t.Helper()
	tx, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	asked := &spy{DBTX: tx}
	if err := ask(db.New(asked)); err != nil {
		t.Fatal(err)
	}
	_, statement, _ := strings.Cut(asked.last, "\n") // after the line of the name
	for _, do := range []string{`SET LOCAL plan_cache_mode = force_generic_plan`, `PREPARE asked AS ` + statement} {
		if _, err := tx.Exec(t.Context(), do); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := tx.Query(t.Context(), `EXPLAIN EXECUTE asked (`+values+`)`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `DEALLOCATE asked`); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// Neither a purge nor a redelivery walks the whole outbox, or all deliveries.
func TestWhatIsOldOrSentAgainIsFoundByIndexes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	id := s.endpoint(t, nowhere)
	s.exec(t, `INSERT INTO outbox (id, event, user_id, payload, relayed_at, created_at)
		SELECT gen_random_uuid(), 'memory_added', 'ann', '{}', now(), now() - (20000 - n) * interval '1 minute' FROM generate_series(1, 20000) AS n`)
	s.exec(t, `INSERT INTO deliveries (outbox_id, endpoint_id, status, order_key, finished_at)
		SELECT id, $1, CASE WHEN seq % 1000 = 0 THEN 'dead' WHEN seq % 1000 = 1 THEN 'waiting' ELSE 'delivered' END, 'ann', now() FROM outbox`, id)
	s.exec(t, `ANALYZE outbox`)
	s.exec(t, `ANALYZE deliveries`)
	const endpointID, redeliveryID, since = `'00000000-0000-0000-0000-000000000001'`, `'00000000-0000-0000-0000-000000000002'`, `now() - interval '1 hour'`
	for name, c := range map[string]struct {
		ask     func(*db.Queries) error
		values  string
		indexes []string
	}{
		"what is old": {
			func(q *db.Queries) error {
				_, err := q.LockOldPayloads(t.Context(), db.LockOldPayloadsParams{OlderThan: retention, MaxRows: 500})
				return err
			},
			`'90 days', '0001-01-01', 0, 500`,
			[]string{"outbox_payload_idx", "deliveries_outbox_id_endpoint_id_key"},
		},
		"the range of a replay": {
			func(q *db.Queries) error {
				_, err := q.GetOutboxRange(t.Context(), db.GetOutboxRangeParams{Since: time.Now(), Until: time.Now()})
				return err
			},
			since + `, now()`,
			[]string{"outbox_payload_idx"},
		},
		"a page of a replay": {
			func(q *db.Queries) error {
				_, err := q.ListOutboxToReplay(t.Context(), db.ListOutboxToReplayParams{EndpointID: id, Events: []string{added}, MaxRows: 500})
				return err
			},
			endpointID + `, 0, 500, ` + since + `, now(), '{memory_added}', 500`,
			[]string{"outbox_seq_key", "deliveries_outbox_id_endpoint_id_key"},
		},
		"what died": {
			func(q *db.Queries) error {
				_, err := q.ListDeadToRecover(t.Context(), db.ListDeadToRecoverParams{EndpointID: id, MaxRows: 500})
				return err
			},
			endpointID + `, ` + since + `, now(), ` + redeliveryID + `, 500`,
			[]string{"deliveries_dead_idx", "outbox_pkey"},
		},
		"what is open of a redelivery": {
			func(q *db.Queries) error {
				_, err := q.CountRedelivering(t.Context(), db.CountRedeliveringParams{Most: 1000})
				return err
			},
			redeliveryID + `, 1000`,
			[]string{"deliveries_redelivery_idx"},
		},
	} {
		plan := s.plan(t, c.ask, c.values)
		for _, index := range c.indexes {
			if !strings.Contains(plan, index) {
				t.Errorf("%s is not found by %s:\n%s", name, index, plan)
			}
		}
		if strings.Contains(plan, "Seq Scan") {
			t.Errorf("%s is found by a walk over a whole table:\n%s", name, plan)
		}
	}
}
