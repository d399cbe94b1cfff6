package admin_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/body"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/lane"
)

// archive is a database with deliveries.
type archive struct {
	*office
	deliveries *admin.Deliveries
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	o := newOffice(t)
	return &archive{office: o, deliveries: admin.NewDeliveries(o.pool, o.jobs, nil)}
}

// endpointNamed makes an endpoint and returns its id.
func (o *office) endpointNamed(t *testing.T, name string) uuid.UUID {
	t.Helper()
	id := uuid.New()
	o.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout) VALUES ($1, $2, 'https://receiver.invalid/', '{*}', '10s')`, id, name)
	return id
}

// webhook makes a webhook and returns its id.
func (o *office) webhook(t *testing.T, event, userID string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	o.exec(t, `INSERT INTO outbox (id, event, user_id, payload, relayed_at) VALUES ($1, $2, $3, convert_to(format('{"n": "%s"}', $2::text), 'UTF8'), now())`, id, event, userID)
	return id
}

// told makes a delivery of that age and returns its id.
func (o *office) told(t *testing.T, webhook, endpoint uuid.UUID, status string, age time.Duration) int64 {
	t.Helper()
	return one[int64](t, o, `INSERT INTO deliveries (outbox_id, endpoint_id, status, created_at) VALUES ($1, $2, $3, now() - $4::interval) RETURNING id`,
		webhook, endpoint, status, age)
}

// idsOf lists all pages, and checks that no page has more than was asked for.
func (a *archive) idsOf(t *testing.T, f admin.DeliveryFilter) []int64 {
	t.Helper()
	ids := []int64{}
	for {
		page, err := a.deliveries.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if f.Limit > 0 && len(page.Deliveries) > f.Limit {
			t.Fatalf("a page of %d, asked for %d", len(page.Deliveries), f.Limit)
		}
		for _, d := range page.Deliveries {
			ids = append(ids, d.ID)
		}
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			return ids
		}
	}
}

func TestEveryFilterOfDeliveries(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	crm, bot := a.endpointNamed(t, "crm"), a.endpointNamed(t, "bot")
	gone := a.endpointNamed(t, "gone")
	a.exec(t, `UPDATE endpoints SET deleted_at = now() WHERE id = $1`, gone)
	first, second := a.webhook(t, "memory_added", "ada"), a.webhook(t, "memory_deleted", "bob")
	old := a.told(t, first, crm, "delivered", 48*time.Hour)
	dead := a.told(t, first, bot, "dead", 47*time.Hour)
	open := a.told(t, second, crm, "retrying", time.Hour)
	past := a.told(t, second, gone, "cancelled", 30*time.Minute)
	batch := uuid.New()
	carrier := one[int64](t, a.office, `INSERT INTO deliveries (endpoint_id, batch_id) VALUES ($1, $2) RETURNING id`, bot, batch)
	now := time.Now()
	for name, c := range map[string]struct {
		f    admin.DeliveryFilter
		want []int64
	}{
		"none":                             {admin.DeliveryFilter{}, []int64{carrier, past, open, dead, old}},
		"an endpoint by its name":          {admin.DeliveryFilter{Endpoint: "crm"}, []int64{open, old}},
		"an endpoint by its id":            {admin.DeliveryFilter{Endpoint: bot.String()}, []int64{carrier, dead}},
		"an endpoint that is deleted":      {admin.DeliveryFilter{Endpoint: gone.String()}, []int64{past}},
		"the dead":                         {admin.DeliveryFilter{Status: "dead"}, []int64{dead}},
		"the dead of an endpoint":          {admin.DeliveryFilter{Status: "dead", Endpoint: "crm"}, []int64{}},
		"another status":                   {admin.DeliveryFilter{Status: "retrying"}, []int64{open}},
		"a status of an endpoint":          {admin.DeliveryFilter{Status: "delivered", Endpoint: "crm"}, []int64{old}},
		"an event":                         {admin.DeliveryFilter{Event: "memory_added"}, []int64{dead, old}},
		"a user":                           {admin.DeliveryFilter{UserID: "bob"}, []int64{past, open}},
		"a user that is nobody":            {admin.DeliveryFilter{UserID: "eve"}, []int64{}},
		"a user's of an endpoint":          {admin.DeliveryFilter{UserID: "ada", Endpoint: "bot"}, []int64{dead}},
		"a user's event":                   {admin.DeliveryFilter{UserID: "ada", Event: "memory_deleted"}, []int64{}},
		"a user's status":                  {admin.DeliveryFilter{UserID: "ada", Status: "dead"}, []int64{dead}},
		"a user's since":                   {admin.DeliveryFilter{UserID: "bob", Since: now.Add(-40 * time.Minute)}, []int64{past}},
		"a user's until":                   {admin.DeliveryFilter{UserID: "bob", Until: now.Add(-40 * time.Minute)}, []int64{open}},
		"a webhook":                        {admin.DeliveryFilter{WebhookID: first}, []int64{dead, old}},
		"a webhook that is none":           {admin.DeliveryFilter{WebhookID: uuid.New()}, []int64{}},
		"a webhook to an endpoint":         {admin.DeliveryFilter{WebhookID: first, Endpoint: "crm"}, []int64{old}},
		"a webhook of another user":        {admin.DeliveryFilter{WebhookID: first, UserID: "bob"}, []int64{}},
		"a webhook since":                  {admin.DeliveryFilter{WebhookID: first, Since: now.Add(-47*time.Hour - time.Minute)}, []int64{dead}},
		"since":                            {admin.DeliveryFilter{Since: now.Add(-2 * time.Hour)}, []int64{carrier, past, open}},
		"until":                            {admin.DeliveryFilter{Until: now.Add(-2 * time.Hour)}, []int64{dead, old}},
		"between":                          {admin.DeliveryFilter{Since: now.Add(-47*time.Hour - time.Minute), Until: now.Add(-31 * time.Minute)}, []int64{open, dead}},
		"a time in which nothing happened": {admin.DeliveryFilter{Since: now.Add(-46 * time.Hour), Until: now.Add(-2 * time.Hour)}, []int64{}},
		"after all":                        {admin.DeliveryFilter{Since: now.Add(time.Hour)}, []int64{}},
		"before all":                       {admin.DeliveryFilter{Until: now.Add(-100 * time.Hour)}, []int64{}},
		"since, of the dead":               {admin.DeliveryFilter{Since: now.Add(-2 * time.Hour), Status: "dead"}, []int64{}},
		"until, of an endpoint":            {admin.DeliveryFilter{Until: now.Add(-2 * time.Hour), Endpoint: "crm"}, []int64{old}},
		"all of them": {admin.DeliveryFilter{
			Endpoint: "crm", Status: "retrying", Event: "memory_deleted", UserID: "bob", WebhookID: second, Since: now.Add(-2 * time.Hour), Until: now,
		}, []int64{open}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, limit := range []int{0, 1, 2} {
				f := c.f
				f.Limit = limit
				if diff := cmp.Diff(c.want, a.idsOf(t, f)); diff != "" {
					t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
				}
			}
		})
	}
}

func TestFiltersOfDeliveriesThatAreNone(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	crm := a.endpointNamed(t, "crm")
	for range 2 {
		a.told(t, a.webhook(t, "memory_added", "ada"), crm, "delivered", 0)
	}
	page, err := a.deliveries.List(t.Context(), admin.DeliveryFilter{Limit: 1})
	if err != nil || page.NextCursor == "" {
		t.Fatalf("%+v, %v; want a page that leads on", page, err)
	}
	for field, filters := range map[string][]admin.DeliveryFilter{
		"limit":    {{Limit: -1}, {Limit: admin.MaxPage + 1}},
		"status":   {{Status: "fine"}},
		"event":    {{Event: "memory_forgotten"}},
		"endpoint": {{Endpoint: "nobody"}, {Endpoint: uuid.NewString()}},
		"cursor":   {{Cursor: "x"}, {Cursor: page.NextCursor[:20]}, {Cursor: page.NextCursor, Status: "dead"}},
	} {
		for _, f := range filters {
			_, err := a.deliveries.List(t.Context(), f)
			var invalid *body.Invalid
			if !errors.As(err, &invalid) || invalid.Field != field {
				t.Errorf("%+v: %v, want an error of %s", f, err, field)
			}
		}
	}
}

// Rows that are added while somebody pages are on none of the later pages, and put
// nothing onto two of them or past all of them.
func TestPagesHaveNeitherGapsNorRepeats(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]admin.DeliveryFilter{
		"of all": {}, "of an endpoint": {Endpoint: "crm"}, "of a user": {UserID: "ada"}, "of the dead": {Status: "dead"}, "of an event": {Event: "memory_added"},
		"of a time": {Since: time.Now().Add(-time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArchive(t)
			crm := a.endpointNamed(t, "crm")
			var want []int64
			add := func() int64 { return a.told(t, a.webhook(t, "memory_added", "ada"), crm, "dead", 0) }
			for range 25 {
				want = append(want, add())
			}
			slices.Reverse(want)
			f.Limit = 4
			var got []int64
			for {
				page, err := a.deliveries.List(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range page.Deliveries {
					got = append(got, d.ID)
				}
				if f.Cursor = page.NextCursor; f.Cursor == "" {
					break
				}
				add()
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("pages (-want +got):\n%s", diff)
			}
		})
	}
}

// A webhook that is told to an endpoint later stands where the webhook does.
func TestAUsersDeliveriesAreInTheOrderOfTheWebhooks(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	crm, bot := a.endpointNamed(t, "crm"), a.endpointNamed(t, "bot")
	first, second := a.webhook(t, "memory_added", "ada"), a.webhook(t, "memory_updated", "ada")
	d1, d2 := a.told(t, first, crm, "delivered", 0), a.told(t, second, crm, "delivered", 0)
	replayed := a.told(t, first, bot, "delivered", 0)
	for _, limit := range []int{0, 1, 2} {
		if diff := cmp.Diff([]int64{d2, replayed, d1}, a.idsOf(t, admin.DeliveryFilter{UserID: "ada", Limit: limit})); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
		}
	}
}

// fill makes 100,000 deliveries, one a second up to now: of 97 users, to two endpoints,
// one of a thousand of them dead.
func (a *archive) fill(t *testing.T) {
	t.Helper()
	a.endpointNamed(t, "crm")
	a.endpointNamed(t, "bot")
	// Nothing is wrong with these rows: their references need not be looked up.
	err := pgx.BeginFunc(t.Context(), a.pool, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`SET LOCAL session_replication_role = replica`,
			`INSERT INTO outbox (id, seq, event, user_id, payload, created_at, relayed_at)
			 SELECT md5('webhook ' || n)::uuid, n, CASE WHEN n = 7 THEN 'memory_deleted' ELSE 'memory_added' END, 'user-' || n % 97, '{}',
			        now() - (100000 - n) * interval '1 second', now()
			 FROM generate_series(1, 100000) AS n`,
			`INSERT INTO deliveries (id, outbox_id, endpoint_id, status, created_at)
			 SELECT n, md5('webhook ' || n)::uuid, (SELECT id FROM endpoints WHERE name = CASE WHEN n % 2 = 0 THEN 'crm' ELSE 'bot' END),
			        CASE WHEN n % 1000 = 0 THEN 'dead' WHEN n = 8 THEN 'discarded' ELSE 'delivered' END, now() - (100000 - n) * interval '1 second'
			 FROM generate_series(1, 100000) AS n`,
		} {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	a.exec(t, `ANALYZE outbox, deliveries, endpoints`)
}

// reads are what statements have read of the tables that grow, so far.
type reads struct{ statements, scanned, fetched int64 }

// TraceQueryStart counts a statement.
func (r *reads) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.statements++
	return ctx
}

// TraceQueryEnd does nothing.
func (r *reads) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// of reads what do reads, by the server's own account.
func (r *reads) of(t *testing.T, pool *pgxpool.Pool, do func()) reads {
	t.Helper()
	look := func() (now reads) {
		err := pool.QueryRow(t.Context(), `SELECT sum(seq_tup_read), sum(idx_tup_fetch) FROM pg_stat_user_tables
			WHERE relname IN ('deliveries', 'outbox') AND pg_stat_force_next_flush() IS NOT NULL`).Scan(&now.scanned, &now.fetched)
		if err != nil {
			t.Fatal(err)
		}
		now.statements = r.statements
		return now
	}
	look() // what was read before is accounted for with the statement after it
	before := look()
	do()
	look()
	after := look()
	return reads{after.statements - before.statements - 2, after.scanned - before.scanned, after.fetched - before.fetched}
}

// Whatever is looked for, no statement reads the table: each reads a few thousand rows
// by an index, planned as on the pools of the program.
func TestNoListReadsTheWholeTable(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	a.fill(t)
	config := a.pool.Config()
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	config.MaxConns = 1
	watch := &reads{}
	config.ConnConfig.Tracer = watch
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	a.deliveries = admin.NewDeliveries(pool, a.jobs, nil)
	now := time.Now()
	for name, c := range map[string]struct {
		f    admin.DeliveryFilter
		want []int64
	}{
		"the first page":            {admin.DeliveryFilter{Limit: 2}, []int64{100_000, 99_999}},
		"of an endpoint":            {admin.DeliveryFilter{Limit: 2, Endpoint: "bot"}, []int64{99_999, 99_997}},
		"of the dead":               {admin.DeliveryFilter{Limit: 2, Status: "dead"}, []int64{100_000, 99_000}},
		"of the dead of one":        {admin.DeliveryFilter{Limit: 2, Status: "dead", Endpoint: "bot"}, []int64{}},
		"of a user":                 {admin.DeliveryFilter{Limit: 2, UserID: "user-7"}, []int64{99_917, 99_820}},
		"of a webhook":              {admin.DeliveryFilter{WebhookID: uuid.MustParse(one[string](t, a.office, `SELECT md5('webhook 500')::uuid::text`))}, []int64{500}},
		"of long ago":               {admin.DeliveryFilter{Limit: 2, Until: now.Add(-90_000 * time.Second)}, nil},
		"of a time":                 {admin.DeliveryFilter{Limit: 2, Since: now.Add(-90_060 * time.Second), Until: now.Add(-90_000 * time.Second)}, nil},
		"of a status that is rare":  {admin.DeliveryFilter{Limit: 2, Status: "discarded"}, []int64{}},
		"of an event that is rare":  {admin.DeliveryFilter{Limit: 2, Event: "memory_deleted"}, []int64{}},
		"of an event of one of two": {admin.DeliveryFilter{Limit: 2, Event: "memory_deleted", Endpoint: "bot"}, []int64{}},
	} {
		var page admin.DeliveryPage
		var err error
		began := time.Now()
		read := watch.of(t, pool, func() { page, err = a.deliveries.List(t.Context(), c.f) })
		if err != nil {
			t.Fatal(err)
		}
		got := []int64{}
		for _, d := range page.Deliveries {
			got = append(got, d.ID)
		}
		if c.want == nil {
			// The table was filled a while ago: where that time is in it, nobody knows.
			if len(got) != 2 || got[0] < 9_000 || got[0] > 10_900 {
				t.Errorf("%s: %v, want two of about 10,000", name, got)
			}
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		// Of a thousand deliveries: once to find them, once more and their webhooks to show them.
		if read.scanned > 0 || read.fetched > read.statements*3000 {
			t.Errorf("%s: %+v, want none scanned and at most 3,000 fetched by a statement", name, read)
		}
		t.Logf("%s: %d statements took %s", name, read.statements, time.Since(began).Round(time.Millisecond))
	}
	// What is rare is found all the same, a few pages on.
	if diff := cmp.Diff([]int64{8}, a.idsOf(t, admin.DeliveryFilter{Status: "discarded"})); diff != "" {
		t.Errorf("rare (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{7}, a.idsOf(t, admin.DeliveryFilter{Event: "memory_deleted"})); diff != "" {
		t.Errorf("rare (-want +got):\n%s", diff)
	}
}

// The windows of the queries and the one that Go counts with are the same: here one
// ends exactly where the table does.
func TestAListEndsWhereTheTableDoes(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	crm := a.endpointNamed(t, "crm")
	a.exec(t, `INSERT INTO outbox (id, event, user_id, payload) SELECT gen_random_uuid(), 'memory_added', 'ada', '{}' FROM generate_series(1, 2001)`)
	a.exec(t, `INSERT INTO deliveries (outbox_id, endpoint_id, status) SELECT id, $1, 'delivered' FROM outbox`, crm)
	for name, f := range map[string]admin.DeliveryFilter{
		"of all": {Limit: admin.MaxPage}, "of an endpoint": {Limit: admin.MaxPage, Endpoint: "crm"}, "of a user": {Limit: admin.MaxPage, UserID: "ada"},
	} {
		if got := len(a.idsOf(t, f)); got != 2001 {
			t.Errorf("%s: %d deliveries, want 2,001", name, got)
		}
	}
}

func TestTheStoryOfADelivery(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	crm := a.endpointNamed(t, "crm")
	webhook := a.webhook(t, "memory_added", "ada")
	id := a.told(t, webhook, crm, "retrying", time.Hour)
	a.exec(t, `UPDATE deliveries SET attempts = 3, failures = 2, last_error = 'answered 503' WHERE id = $1`, id)
	// The second attempt was cut off by a crash.
	a.exec(t, `INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, error_class, error, dns, connect, tls, first_byte, total, response_head)
		VALUES ($1, 1, now(), NULL, 'timeout', 'no answer within 10s', '1500 microseconds', '2 ms', '3 ms', '0', '10 s', ''),
		       ($1, 3, now(), 503, 'http', 'answered 503', '0', '0', '0', '4 ms', '5 ms', 'HTTP/1.1 503')`, id)
	got, err := a.deliveries.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	text, event, user, status := `{"n": "memory_added"}`, "memory_added", "ada", int32(503)
	want := admin.DeliveryStory{
		Delivery: admin.Delivery{
			ID: id, WebhookID: &webhook, EndpointID: crm, Endpoint: "crm", Event: &event, UserID: &user, Status: "retrying", Attempts: 3, Failures: 2,
			LastError: "answered 503",
		},
		Payload: &text,
		AttemptsMade: []admin.Attempt{
			{Number: 1, ErrorClass: "timeout", Error: "no answer within 10s", DNS: 1.5, Connect: 2, TLS: 3, Total: 10_000},
			{Number: 3, StatusCode: &status, ErrorClass: "http", Error: "answered 503", FirstByte: 4, Total: 5, ResponseHead: "HTTP/1.1 503"},
		},
		Batch: []admin.BatchMember{},
	}
	times := cmpopts.IgnoreFields(admin.Attempt{}, "StartedAt")
	if diff := cmp.Diff(want, got, times, cmpopts.IgnoreFields(admin.Delivery{}, "CreatedAt", "NextAttemptAt")); diff != "" {
		t.Errorf("story (-want +got):\n%s", diff)
	}
	if got.NextAttemptAt == nil {
		t.Error("it does not say when the next attempt is")
	}

	a.exec(t, `UPDATE outbox SET payload = NULL`)
	a.exec(t, `UPDATE deliveries SET status = 'delivered', finished_at = now()`)
	if got, err = a.deliveries.Get(t.Context(), id); err != nil || got.Payload != nil || len(got.AttemptsMade) != 2 || got.NextAttemptAt != nil || got.FinishedAt == nil {
		t.Errorf("once the payload is forgotten: %+v, %v", got, err)
	}
	if _, err := a.deliveries.Get(t.Context(), id+1); !errors.Is(err, admin.ErrNotFound) {
		t.Errorf("a delivery that is not there: %v", err)
	}
}

func TestTheStoryOfABatch(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	crm := a.endpointNamed(t, "crm")
	batch := uuid.New()
	var members []int64
	for range 3 {
		id := a.told(t, a.webhook(t, "memory_added", "ada"), crm, "batched", 0)
		a.exec(t, `UPDATE deliveries SET batch_id = $1 WHERE id = $2`, batch, id)
		members = append(members, id)
	}
	carrier := one[int64](t, a.office, `INSERT INTO deliveries (endpoint_id, batch_id) VALUES ($1, $2) RETURNING id`, crm, batch)
	got, err := a.deliveries.Get(t.Context(), carrier)
	if err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, m := range got.Batch {
		ids = append(ids, m.ID)
	}
	if diff := cmp.Diff(members, ids); diff != "" || got.CarriedBy != nil || got.Payload != nil || got.WebhookID != nil {
		t.Errorf("the carrier is %+v, members (-want +got):\n%s", got, diff)
	}
	got, err = a.deliveries.Get(t.Context(), members[1])
	if err != nil || got.CarriedBy == nil || *got.CarriedBy != carrier || len(got.Batch) != 0 || got.Payload == nil {
		t.Errorf("a member is %+v, %v; want it carried by %d", got, err, carrier)
	}
}

func TestResendIsAuditedOrChangesNothing(t *testing.T) {
	t.Parallel()
	a := newArchive(t)
	id := a.told(t, a.webhook(t, "memory_added", "ada"), a.endpointNamed(t, "crm"), "delivered", 0)
	asked := admin.NewDeliveries(a.pool, a.jobs, func(ctx context.Context, tx pgx.Tx, _ lane.Inserter, id int64) error {
		_, err := tx.Exec(ctx, `UPDATE deliveries SET status = 'pending' WHERE id = $1`, id)
		return err
	})
	got, err := asked.Resend(t.Context(), ada, id, "they lost it")
	if err != nil || got.Status != "pending" {
		t.Errorf("resent: %+v, %v", got, err)
	}
	a.wantAudit(t, fmt.Sprintf(`ada request-7 delivery.resend delivery/%d {"after": {"status": "pending"}, "before": {"status": "delivered"}, "reason": "they lost it"}`, id))
	before := a.picture(t)
	refused := admin.NewDeliveries(a.pool, a.jobs, func(ctx context.Context, tx pgx.Tx, _ lane.Inserter, id int64) error {
		if _, err := tx.Exec(ctx, `UPDATE deliveries SET status = 'dead' WHERE id = $1`, id); err != nil {
			return err
		}
		return endpoint.ErrOpen
	})
	if _, err := refused.Resend(t.Context(), ada, id, ""); !errors.Is(err, endpoint.ErrOpen) || !strings.Contains(err.Error(), strconv.FormatInt(id, 10)) {
		t.Errorf("refused: %v", err)
	}
	a.wantSame(t, before)
}
