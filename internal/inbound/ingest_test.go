package inbound

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/group"
)

// delivered makes of a body what the door hands to the Ingester.
func delivered(t *testing.T, eventID, body string) Delivery {
	t.Helper()
	n, err := parse(typeJSON, []byte(body), MaxRecords)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	ids, err := headerIDs(eventID, n.Events)
	if err != nil {
		t.Fatal(err)
	}
	return Delivery{
		Notification: n, Source: SourceZoho, HeaderIDs: ids, Digest: digest([]byte(body)),
		ContentType: typeJSON, Headers: kept(http.Header{}), Body: []byte(body),
	}
}

// node is an Ingester on a database.
type node struct {
	*Ingester
	pool   *pgxpool.Pool
	counts *counter.Set
}

func newNode(t *testing.T, pool *pgxpool.Pool, s setup) node {
	t.Helper()
	in, counts := newIngester(t, pool, s, slog.New(slog.NewTextHandler(t.Output(), nil)))
	return node{in, pool, counts}
}

// one stores deliveries one after the other, each in a transaction of its own.
func (n node) one(t *testing.T, deliveries ...Delivery) [][]EventStatus {
	t.Helper()
	var all [][]EventStatus
	for _, d := range deliveries {
		events, err := n.Ingest(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, events)
	}
	return all
}

// together stores deliveries as one group, in one transaction.
func (n node) together(t *testing.T, deliveries ...Delivery) [][]EventStatus {
	t.Helper()
	var all [][]EventStatus
	err := pgx.BeginFunc(t.Context(), n.pool, func(tx pgx.Tx) error {
		answers, err := n.store(t.Context(), tx, 0, deliveries)
		for _, a := range answers {
			if a.Err != nil {
				return a.Err
			}
			all = append(all, a.Value)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func statusesOf(all [][]EventStatus) []string {
	var statuses []string
	for _, events := range all {
		for _, e := range events {
			statuses = append(statuses, e.Status)
		}
	}
	return statuses
}

// What becomes of deliveries that come one after the other, each in a group of
// its own or all in one: the answers are the same.
func TestRepeatsAreToldFromChanges(t *testing.T) {
	t.Parallel()
	const at, later = 1718117126473, 1718117126474
	type step struct{ eventID, body, want string } // want: n(ew), d(uplicate) or i(gnored) for each event
	a, b, c := untimed("7", "a"), untimed("7", "b"), untimed("7", "c")
	other := untimed("8", "a")
	both := `{"operation":"update","data":[{"id":"7"},{"id":"8"}]}`
	twice := `{"operation":"update","data":[{"id":"7"},{"id":"8"},{"id":"7"}]}`
	twiceAt := fmt.Sprintf(`{"operation":"update","server_time":%d,"data":[{"id":"7"},{"id":"7"}]}`, int64(at))
	leads := `{"module":"Leads","data":[{"id":"7"}]}`
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"an id is stored once", []step{{"evt", a, "n"}, {"evt", a, "d"}, {"evt", a, "d"}}},
		{"an id with another body is stored beside it", []step{{"evt", a, "n"}, {"evt", b, "n"}, {"evt", b, "d"}, {"evt", a, "d"}, {"evt", c, "n"}, {"evt", c, "d"}}},
		{"the same body with another id is another event", []step{{"evt", a, "n"}, {"evt2", a, "n"}, {"evt", a, "d"}, {"evt2", a, "d"}}},
		{"a time tells a change from a repeat", []step{{"", timed("7", "a", at), "n"}, {"", timed("7", "a", at), "d"}, {"", timed("7", "a", later), "n"}, {"", timed("7", "a", at), "d"}}},
		{"two changes of one time are both kept", []step{{"", timed("7", "a", at), "n"}, {"", timed("7", "b", at), "n"}, {"", timed("7", "b", at), "d"}}},
		{"A, B and A again are three changes", []step{{"", a, "n"}, {"", a, "d"}, {"", b, "n"}, {"", b, "d"}, {"", a, "n"}, {"", a, "d"}}},
		{"so it goes on", []step{{"", a, "n"}, {"", b, "n"}, {"", a, "n"}, {"", b, "n"}, {"", c, "n"}, {"", b, "n"}, {"", b, "d"}, {"", a, "n"}}},
		{"each record has its own past", []step{{"", a, "n"}, {"", other, "n"}, {"", a, "d"}, {"", b, "n"}, {"", other, "d"}, {"", a, "n"}}},
		{"what has an id is part of the past, too", []step{{"", a, "n"}, {"evt", b, "n"}, {"", a, "n"}, {"evt", b, "d"}, {"", a, "d"}}},
		{"what has a time is, too", []step{{"", a, "n"}, {"", timed("7", "b", at), "n"}, {"", a, "n"}, {"", a, "d"}}},
		{"a repeat is no part of the past", []step{{"evt", a, "n"}, {"", b, "n"}, {"", c, "n"}, {"evt", a, "d"}, {"", c, "d"}}},
		{"every record of a body is an event", []step{{"evt", both, "nn"}, {"evt", both, "dd"}, {"", both, "nn"}, {"", both, "dd"}}},
		{"a record that comes twice in a body is two", []step{{"evt", twice, "nnn"}, {"evt", twice, "ddd"}, {"", twice, "nnn"}, {"", twice, "ddd"}, {"", twiceAt, "nn"}, {"", twiceAt, "dd"}}},
		{"a change between two bodies about two records", []step{{"", both, "nn"}, {"", a, "n"}, {"", both, "nd"}, {"", both, "dd"}}},
		{"what is ignored is stored once as well", []step{{"", leads, "i"}, {"", leads, "d"}, {"evt", leads, "i"}, {"evt", leads, "d"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var deliveries []Delivery
			want := ""
			for _, s := range tc.steps {
				deliveries = append(deliveries, delivered(t, s.eventID, s.body))
				want += s.want
			}
			letters := func(all [][]EventStatus) (text string) {
				for _, s := range statusesOf(all) {
					text += map[string]string{StatusAccepted: "n", StatusDuplicate: "d", StatusIgnored: "i"}[s]
				}
				return text
			}
			n := newNode(t, dbtest.New(t), setup{})
			first := n.one(t, deliveries...)
			if got := letters(first); got != want {
				t.Errorf("one by one: %s, want %s", got, want)
			}
			wantWhole(t, n.pool)

			other := newNode(t, dbtest.New(t), setup{})
			second := other.together(t, deliveries...)
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("in one group (-one by one +together):\n%s", diff)
			}
			wantWhole(t, other.pool)
			if got, err := counter.Read(t.Context(), db.New(other.pool)); err != nil || got[counter.Duplicated] != int64(strings.Count(want, "d")) {
				t.Errorf("%d duplicates are counted, %v, want %d", got[counter.Duplicated], err, strings.Count(want, "d"))
			}
		})
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	n := newNode(t, dbtest.New(t), setup{})
	a, b := untimed("7", "a"), untimed("7", "b")
	suffix := fmt.Sprintf("#%x", sha256.Sum256([]byte(b)))[:17]
	twice := `{"operation":"update","server_time":1718117126473,"data":[{"id":"9"},{"id":"8"},{"id":"9"}]}`
	got := n.one(t,
		delivered(t, "evt", a), delivered(t, "evt", b), delivered(t, "evt", b),
		delivered(t, "many", twice), delivered(t, "", twice),
	)
	derived := func(record string) string {
		d := delivered(t, "", twice)
		p := d.Events[0]
		p.RecordID = record
		return derivedID(d.Notification, p, d.Digest, "", 1)
	}
	want := [][]EventStatus{
		{{"evt", StatusAccepted}},
		{{"evt" + suffix, StatusAccepted}},
		{{"evt" + suffix, StatusDuplicate}},
		{{"many:9", StatusAccepted}, {"many:8", StatusAccepted}, {"many:9:2", StatusAccepted}},
		{{derived("9"), StatusAccepted}, {derived("8"), StatusAccepted}, {derived("9") + ":2", StatusAccepted}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	// The rows stand in the order of arrival.
	var ids []string
	for _, events := range [][]EventStatus{want[0], want[1], want[3], want[4]} {
		for _, e := range events {
			ids = append(ids, e.EventID)
		}
	}
	if diff := cmp.Diff(ids, query[string](t, n.pool, `SELECT event_id FROM events ORDER BY id`)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	// A repeat under a taken id is not counted as one more taken id.
	wantCounters(t, n.pool, counter.Changes{counter.Queued: 8, counter.Backlog: 8, counter.Duplicated: 1, counter.IDReused: 1})
	wantWhole(t, n.pool)
}

// Deliveries drawn by lot, cut into groups by lot: what becomes of each does not
// depend on the cuts.
func TestGroupsDoNotChangeWhatIsARepeat(t *testing.T) {
	t.Parallel()
	const rounds, length = 15, 14
	one, cut, all := newNode(t, dbtest.New(t), setup{}), newNode(t, dbtest.New(t), setup{}), newNode(t, dbtest.New(t), setup{})
	for round := range rounds {
		var deliveries []Delivery
		var told []string
		for range length {
			eventID, body := drawn(round)
			deliveries = append(deliveries, delivered(t, eventID, body))
			told = append(told, eventID+" "+body)
		}
		want := one.one(t, deliveries...)
		var got [][]EventStatus
		for rest := deliveries; len(rest) > 0; {
			n := 1 + rand.IntN(len(rest))
			got = append(got, cut.together(t, rest[:n]...)...)
			rest = rest[n:]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("cut into groups (-one by one +cut):\n%s\n%s", diff, strings.Join(told, "\n"))
		}
		if diff := cmp.Diff(want, all.together(t, deliveries...)); diff != "" {
			t.Fatalf("in one group (-one by one +together):\n%s\n%s", diff, strings.Join(told, "\n"))
		}
		// All of them once more, in one group: whatever had an id or a time is a repeat.
		again := one.together(t, deliveries...)
		for i, d := range deliveries {
			if d.HeaderIDs == nil && d.Events[0].OccurredAt.IsZero() {
				continue
			}
			for _, e := range again[i] {
				if e.Status != StatusDuplicate {
					t.Errorf("%s came again and was %s", told[i], e.Status)
				}
			}
		}
	}
	for _, n := range []node{one, cut, all} {
		wantWhole(t, n.pool)
	}
	rows := `SELECT concat_ws(' ', row_number() OVER (ORDER BY id), event_id, record_id, status, encode(digest, 'hex')) FROM events WHERE id <= 100 ORDER BY id`
	if diff := cmp.Diff(query[string](t, cut.pool, rows), query[string](t, all.pool, rows)); diff != "" {
		t.Errorf("rows (-cut +together):\n%s", diff)
	}
}

// drawn is a delivery about few records, with few ids, times and bodies, so that
// it often is like one before.
func drawn(round int) (eventID, body string) {
	ids := []string{fmt.Sprint(round, "-1"), fmt.Sprint(round, "-2"), fmt.Sprint(round, "-3")}
	var data []string
	for range 1 + rand.IntN(5)/3 {
		data = append(data, fmt.Sprintf(`{"id":%q}`, ids[rand.IntN(len(ids))]))
	}
	time := ""
	switch rand.IntN(6) {
	case 0:
		eventID = fmt.Sprint("evt", round, "-", rand.IntN(3))
	case 1:
		time = fmt.Sprintf(`"server_time":%d,`, 1718117126473+rand.IntN(2))
	}
	return eventID, fmt.Sprintf(`{"operation":"update",%s"note":%d,"data":[%s]}`, time, rand.IntN(3), strings.Join(data, ","))
}

// The group finds out only by and by what is stored: that evt came before makes
// B the last other body before C, and only then C turns out to be a repeat.
func TestARepeatThatFollowsFromARepeat(t *testing.T) {
	t.Parallel()
	n := newNode(t, dbtest.New(t), setup{})
	a, b, c := delivered(t, "evt", untimed("7", "a")), delivered(t, "", untimed("7", "b")), delivered(t, "", untimed("7", "c"))
	first := n.one(t, a, b, c)
	want := [][]EventStatus{{{"evt", StatusDuplicate}}, {{first[2][0].EventID, StatusDuplicate}}}
	if diff := cmp.Diff(want, n.together(t, a, c)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	wantTables(t, n.pool, map[string]int64{"events": 3, "event_bodies": 3, "river_job": 3, "counters": 3})
}

// Two nodes get different bodies about one record at the same time: one waits for
// the other, and so knows what came before its own. Else its redelivery would be
// taken for a change.
func TestIDsOfARecordAreDerivedOneAtATime(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	n, other := newNode(t, pool, setup{}), newNode(t, pool, setup{})
	a, b := delivered(t, "", untimed("7", "a")), delivered(t, "", untimed("7", "b"))
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := n.store(t.Context(), tx, 0, []Delivery{a}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := statusesOf(other.one(t, b)); got[0] != StatusAccepted {
			t.Errorf("the other body is %s", got[0])
		}
	})
	await(t, pool, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'advisory'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := statusesOf(n.one(t, b)); got[0] != StatusDuplicate {
		t.Errorf("its redelivery is %s, want a duplicate", got[0])
	}
}

// Many bodies about the same records, named in different orders, on two nodes:
// nobody waits in a circle.
func TestRecordsAreLockedInOneOrder(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	s := setup{group: group.Options{MaxUnits: 2, Wait: time.Minute}}
	nodes := []node{newNode(t, pool, s), newNode(t, pool, s)}
	var wg sync.WaitGroup
	for i := range 120 {
		var data []string
		for _, r := range rand.Perm(12)[:6] {
			data = append(data, fmt.Sprintf(`{"id":"%d"}`, r))
		}
		d := delivered(t, "", fmt.Sprintf(`{"operation":"update","n":%d,"data":[%s]}`, i, strings.Join(data, ",")))
		for _, n := range nodes {
			wg.Go(func() {
				if _, err := n.Ingest(t.Context(), d); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	wantWhole(t, pool)
	wantNoDeadlock(t, pool)
}

// Two senders have ids and records of their own, also within one group.
func TestSourcesAreApart(t *testing.T) {
	t.Parallel()
	n := newNode(t, dbtest.New(t), setup{})
	zoho, eu := delivered(t, "evt", untimed("7", "a")), delivered(t, "evt", untimed("7", "a"))
	eu.Source = "zoho-eu"
	timeless, timelessEU := delivered(t, "", untimed("7", "b")), delivered(t, "", untimed("7", "b"))
	timelessEU.Source = "zoho-eu"
	got := statusesOf(n.together(t, eu, zoho, timelessEU, eu, timeless, timeless))
	want := []string{StatusAccepted, StatusAccepted, StatusAccepted, StatusDuplicate, StatusAccepted, StatusDuplicate}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	wantCounters(t, n.pool, counter.Changes{counter.Queued: 4, counter.Backlog: 4, counter.Duplicated: 2})
	wantWhole(t, n.pool)
}

func TestFiftyCopiesAtOnceAreStoredOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, eventID, body string }{
		{"with an id", "evt", untimed("7", "a")},
		{"with a time", "", timed("7", "a", 1718117126473)},
		{"with neither", "", untimed("7", "a")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, setup{})
			statuses := make([]string, 50)
			var wg sync.WaitGroup
			for i := range statuses {
				wg.Go(func() { statuses[i] = d.send(t, tc.eventID, tc.body).Answer.Status })
			}
			wg.Wait()
			if diff := cmp.Diff(map[string]int{StatusAccepted: 1, StatusDuplicate: 49}, tally(statuses)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			wantTables(t, d.pool, map[string]int64{"events": 1, "event_bodies": 1, "river_job": 1, "counters": 3})
			wantCounters(t, d.pool, counter.Changes{counter.Queued: 1, counter.Backlog: 1, counter.Duplicated: 49})
			wantWhole(t, d.pool)
			if got := d.counts.Backlog(); got != 1 {
				t.Errorf("backlog %d, want 1", got)
			}
		})
	}
}

// Two nodes get the same deliveries at the same time, each in an order of its own.
func TestTwoNodesStoreTheSameOnce(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		make func(i int) (eventID, body string)
	}{
		{"with ids", func(i int) (string, string) { return fmt.Sprint("evt-", i), untimed("7", fmt.Sprint(i)) }},
		{"with times", func(i int) (string, string) { return "", timed("7", "a", int64(1718117126473+i)) }},
		{"with neither, each of a record of its own", func(i int) (string, string) { return "", untimed(fmt.Sprint(i), "a") }},
		{"some with, some without, of several records", func(i int) (string, string) {
			if i%2 == 0 {
				return fmt.Sprint("evt-", i), fmt.Sprintf(`{"operation":"update","data":[{"id":"%d"},{"id":"%d"}],"n":%d}`, i, (i*7)%200, i)
			}
			return "", untimed(fmt.Sprint("r", i), "a")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const ids = 200
			pool := dbtest.New(t)
			// Small groups, so that many of them meet.
			o := setup{group: group.Options{MaxUnits: 20}}
			nodes := []node{newNode(t, pool, o), newNode(t, pool, o)}
			answers := make([][][]EventStatus, len(nodes))
			var wg sync.WaitGroup
			events := 0
			for n := range nodes {
				answers[n] = make([][]EventStatus, ids)
				for _, i := range rand.Perm(ids) {
					d := delivered(t, first(tc.make(i)), second(tc.make(i)))
					if n == 0 {
						events += len(d.Events)
					}
					wg.Go(func() {
						got, err := nodes[n].Ingest(t.Context(), d)
						if err != nil {
							t.Errorf("node %d, delivery %d: %v", n, i, err)
						}
						answers[n][i] = got
					})
				}
			}
			wg.Wait()
			for i := range ids {
				both := slices.Sorted(slices.Values(statusesOf([][]EventStatus{answers[0][i], answers[1][i]})))
				half := len(both) / 2
				want := append(slices.Repeat([]string{StatusAccepted}, half), slices.Repeat([]string{StatusDuplicate}, half)...)
				if diff := cmp.Diff(want, both); diff != "" {
					t.Errorf("delivery %d (-want +got):\n%s", i, diff)
				}
			}
			if got := query[int](t, pool, `SELECT count(*) FROM events`)[0]; got != events {
				t.Errorf("%d events are stored, want %d", got, events)
			}
			wantCounters(t, pool, counter.Changes{counter.Queued: int64(events), counter.Backlog: int64(events), counter.Duplicated: int64(events)})
			wantWhole(t, pool)
			wantNoDeadlock(t, pool)
		})
	}
}

func first(a, _ string) string  { return a }
func second(_, b string) string { return b }

// wantNoDeadlock looks at what the server counted. Its processes report within
// a second, or when they end: so they are ended first.
func wantNoDeadlock(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	admin := adminPool(t, pool.Config().ConnString())
	name := query[string](t, pool, `SELECT current_database()`)[0]
	pool.Close()
	await(t, admin, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1)`, name)
	if n := query[int](t, admin, `SELECT deadlocks FROM pg_stat_database WHERE datname = $1`, name)[0]; n != 0 {
		t.Errorf("%d deadlocks, want none", n)
	}
}

// Whichever statement fails, nothing is left behind.
func TestIngestLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, table, timing, level string }{
		{"the events", "events", "AFTER INSERT", ""},
		{"their bodies", "event_bodies", "AFTER INSERT", ""},
		{"their jobs", "river_job", "AFTER INSERT", ""},
		{"the counters, which come last", "counters", "AFTER INSERT", ""},
		{"the commit", "counters", "AFTER INSERT", "DEFERRABLE INITIALLY DEFERRED"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, setup{})
			exec(t, d.pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$`)
			kind := "TRIGGER"
			if tc.level != "" {
				kind = "CONSTRAINT TRIGGER"
			}
			exec(t, d.pool, fmt.Sprintf(`CREATE %s refuse %s ON %s %s FOR EACH ROW EXECUTE FUNCTION refuse()`, kind, tc.timing, tc.table, tc.level))
			several := `{"operation":"update","data":[{"id":"1"},{"id":"2"},{"id":"3"}]}`
			d.send(t, "evt", several).want(t, 503, "unavailable")
			wantTables(t, d.pool, map[string]int64{})
			if got := d.counts.Backlog(); got != 0 {
				t.Errorf("backlog %d, want 0", got)
			}
			// Nothing was stored, so the same is no repeat.
			exec(t, d.pool, `DROP TRIGGER refuse ON `+tc.table)
			if a := d.send(t, "evt", several); a.Answer.Status != StatusAccepted || a.Message != "3 of 3 events stored." {
				t.Errorf("answered %s", a.text)
			}
			wantWhole(t, d.pool)
		})
	}
}

// Postgres refuses one delivery in the middle of a group: the others are stored,
// each once and with its job, and nothing of that one.
func TestOnePoisonedDeliveryStaysAlone(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	n := newNode(t, pool, setup{group: group.Options{InFlight: 1}})
	release := blocked(t, pool)
	var wg sync.WaitGroup
	wg.Go(func() { n.one(t, delivered(t, "first", untimed("0", "a"))) })
	storing(t, pool, 1)
	errs := make([]error, 20)
	for i := range errs {
		d := delivered(t, fmt.Sprint("evt-", i), untimed(fmt.Sprint(i), "a"))
		if i == 11 {
			d.Events[0].RecordID = "1\x001" // parse would have refused it
		}
		wg.Go(func() { _, errs[i] = n.Ingest(t.Context(), d) })
	}
	release()
	wg.Wait()
	for i, err := range errs {
		if (err != nil) != (i == 11) {
			t.Errorf("delivery %d: %v", i, err)
		}
	}
	var refused *pgconn.PgError
	if !errors.As(errs[11], &refused) || refused.Code != "22021" || !group.IsData(errs[11]) {
		t.Errorf("the poisoned one: %v, want 22021", errs[11])
	}
	wantTables(t, pool, map[string]int64{"events": 20, "event_bodies": 20, "river_job": 20, "counters": 2})
	wantCounters(t, pool, counter.Changes{counter.Queued: 20, counter.Backlog: 20})
	wantWhole(t, pool)
}

// moody inserts jobs, and fails now and then: before, after, and in ways that
// are tried again.
type moody struct {
	Inserter
	failures func() error
}

func (m moody) InsertManyFastTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) (int, error) {
	if err := m.failures(); err != nil {
		return 0, err
	}
	n, err := m.Inserter.InsertManyFastTx(ctx, tx, params)
	if err != nil {
		return 0, err
	}
	return n, m.failures()
}

// Row and job are there together or not at all, whatever fails under load; and
// what was answered is what is true.
func TestRowAndJobUnderLoadAndFailures(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	broken := errors.New("broken")
	s := setup{
		group: group.Options{MaxUnits: 8},
		jobs: func(real Inserter) Inserter {
			return moody{real, func() error {
				switch rand.IntN(30) {
				case 0:
					return broken
				case 1:
					return &pgconn.PgError{Code: "22000"}
				case 2:
					return group.ErrConflict
				case 3:
					panic("moody")
				}
				return nil
			}}
		},
	}
	exec(t, pool, `CREATE FUNCTION sometimes() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF random() < 0.03 THEN RAISE 'not today'; END IF; RETURN NULL; END $$`)
	exec(t, pool, `CREATE CONSTRAINT TRIGGER sometimes AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sometimes()`)
	nodes := []node{newNode(t, pool, s), newNode(t, pool, s)}
	var mu sync.Mutex
	failed := 0
	accepted := map[string]int{}
	var wg sync.WaitGroup
	for i := range 120 {
		for n := range nodes {
			wg.Go(func() {
				d := delivered(t, fmt.Sprint("evt-", i), untimed(fmt.Sprint(i%10), fmt.Sprint(i)))
				for { // whoever is told so sends again
					events, err := nodes[n].Ingest(t.Context(), d)
					mu.Lock()
					if err != nil {
						failed++
						mu.Unlock()
						continue
					}
					if events[0].Status == StatusAccepted {
						accepted[events[0].EventID]++
					}
					mu.Unlock()
					return
				}
			})
		}
	}
	wg.Wait()
	if failed == 0 {
		t.Error("nothing failed: the test does not test that")
	}
	if len(accepted) != 120 {
		t.Errorf("%d events were answered as accepted, want 120", len(accepted))
	}
	for id, times := range accepted {
		if times != 1 {
			t.Errorf("%s was answered as accepted %d times", id, times)
		}
	}
	wantTables(t, pool, map[string]int64{"events": 120, "event_bodies": 120, "river_job": 120, "counters": 3})
	wantCounters(t, pool, counter.Changes{counter.Queued: 120, counter.Backlog: 120, counter.Duplicated: 120})
	wantWhole(t, pool)
	t.Logf("%d deliveries failed and were sent again", failed)
}

// Bytes are kept as they came.
func TestBodiesAreKeptAsTheyCame(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	for i, tc := range []struct{ name, body, record string }{
		{"space of all kinds", "\r\n\t {\"operation\" :\t\"update\",\n\n\"data\":[ {\"id\" : \"7\" , \"a\":\t1.0e0 } ] }\n ", "{\"id\" : \"7\" , \"a\":\t1.0e0 }"},
		{"escapes", `{"operation":"update","data":[{"id":"7","a":"\u00e4\/\ud83d\ude00ä","b":1.50,"c":12345678901234567890}]}`, `{"id":"7","a":"\u00e4\/\ud83d\ude00ä","b":1.50,"c":12345678901234567890}`},
		{"a byte order mark", "\ufeff" + `{"operation":"update","data":{"id":"7"}}`, `{"id":"7"}`},
		{"names that stand twice", `{"data":[{"id":"7","a":1,"a":2}],"operation":"update"}`, `{"id":"7","a":1,"a":2}`},
		{"values of Zoho's own", notification("c1", "x"), `{"Email":"` + private + `"}`},
		{"a record of nothing", `{"operation":"delete","ids":["7"],"module":"Accounts"}`, `{}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := fmt.Sprint("evt-", i)
			d.send(t, id, tc.body).wantEvents(t, StatusAccepted, EventStatus{id, StatusAccepted})
			kept := query[[]byte](t, d.pool, `SELECT b.body FROM event_bodies b JOIN events e ON e.id = b.event_id WHERE e.event_id = $1
				UNION ALL SELECT b.record FROM event_bodies b JOIN events e ON e.id = b.event_id WHERE e.event_id = $1`, id)
			if diff := cmp.Diff([]string{tc.body, tc.record}, []string{string(kept[0]), string(kept[1])}); diff != "" {
				t.Errorf("body and record (-want +got):\n%s", diff)
			}
			sum := sha256.Sum256([]byte(tc.body))
			if got := query[[]byte](t, d.pool, `SELECT digest FROM events WHERE event_id = $1`, id)[0]; string(got) != string(sum[:]) {
				t.Errorf("digest %x, want %x", got, sum)
			}
		})
	}
	t.Run("a form", func(t *testing.T) {
		body := "operation=update&module=Accounts&id=7&Email=" + strings.ReplaceAll(private, "@", "%40")
		d.post(t, body, signed(body, "Content-Type", typeForm, "X-Zoho-Event-Id", "form")).wantEvents(t, StatusAccepted, EventStatus{"form", StatusAccepted})
		kept := query[string](t, d.pool, `SELECT convert_from(b.body, 'UTF8') || ' ' || b.content_type || ' ' || convert_from(b.record, 'UTF8')
			FROM event_bodies b JOIN events e ON e.id = b.event_id WHERE e.event_id = 'form'`)
		if diff := cmp.Diff([]string{body + " " + typeForm + ` {"Email":"` + private + `","id":"7"}`}, kept); diff != "" {
			t.Errorf("kept (-want +got):\n%s", diff)
		}
	})
	wantWhole(t, d.pool)
}

// A body with many records is kept once, with the first of its events; each
// event has its own record.
func TestABodyOfManyRecordsIsKeptOnce(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	body := `{"operation":"update","data":[{"id":"1","a":1},{"id":"2","b":2},{"id":"3"}]}`
	d.send(t, "evt", body)
	got := query[string](t, d.pool, `SELECT concat_ws(' ', e.event_id, (SELECT m.event_id FROM events m WHERE m.id = b.body_id),
		convert_from(b.record, 'UTF8'), coalesce(convert_from(b.body, 'UTF8'), 'none'), b.headers)
		FROM events e JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at ORDER BY e.id`)
	want := []string{
		`evt:1 evt:1 {"id":"1","a":1} ` + body + ` {"User-Agent": "Go-http-client/1.1", "X-Zoho-Event-Id": "evt"}`,
		`evt:2 evt:1 {"id":"2","b":2} none {}`,
		`evt:3 evt:1 {"id":"3"} none {}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("bodies (-want +got):\n%s", diff)
	}
}

func TestHeadersThatAreKept(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{settings: Settings{Token: fixedToken}})
	body := untimed("7", "a")
	d.post(t, body, signed(body,
		"User-Agent", "zoho \xffü", "X-Zoho-Event-Id", "evt", "X-Request-Id", "req-1", "Authorization", "Bearer "+fixedToken,
		"X-Webhook-Token", fixedToken, "Cookie", "a=b", "X-Forwarded-For", "203.0.113.7", "Accept", "*/*",
	)).wantEvents(t, StatusAccepted, EventStatus{"evt", StatusAccepted})
	want := []string{`{"User-Agent": "zoho ` + "\uFFFD" + `ü", "X-Request-Id": "req-1", "X-Zoho-Event-Id": "evt"}`}
	if diff := cmp.Diff(want, query[string](t, d.pool, `SELECT headers::text FROM event_bodies`)); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got := query[string](t, d.pool, `SELECT content_type FROM event_bodies`); got[0] != typeJSON {
		t.Errorf("content type %q", got[0])
	}
}

// Everything that a body says stands in the event's row.
func TestTheRowOfAnEvent(t *testing.T) {
	t.Parallel()
	d := newDoor(t, setup{})
	d.send(t, "evt", `{"operation":"edit","module":"contacts","server_time":1718117126473,"data":[{"id":7}],"modified_fields":["Email","Last,Name",`+
		`"a\u001fb"],"user":{"id":"u1"}}`)
	d.send(t, "bare", `{"module":"Leads","data":[{"id":"8"}]}`)
	got := query[string](t, d.pool, `SELECT concat_ws('|', source, event_id, module, operation, record_id, user_id, array_to_string(modified_fields, ';'),
		coalesce((occurred_at AT TIME ZONE 'UTC')::text, 'no time'), received_at = (SELECT received_at FROM event_bodies b WHERE b.event_id = e.id),
		coalesce(account_id, 'no account'), coalesce(revision, -1), status, failures, last_error, coalesce(processed_at::text, 'not processed')) FROM events e ORDER BY id`)
	want := []string{
		"zoho|evt|Contacts|update|7|u1|Email;Last,Name;a\x1fb|2024-06-11 14:45:26.473|t|no account|-1|received|0||not processed",
		`zoho|bare|Leads|update|8|||no time|t|no account|-1|ignored|0||not processed`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	jobs := query[string](t, d.pool, `SELECT concat_ws(' ', kind, queue, state, args) FROM river_job`)
	if diff := cmp.Diff([]string{`process_event process available {"event_id": ` + fmt.Sprint(query[int64](t, d.pool, `SELECT min(id) FROM events`)[0]) + `}`}, jobs); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
}
