package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/zoho"
)

// An event of ours has to be worked like one that a webhook brought: with its
// body, its job, and counted.
func TestADifferenceBecomesAnEventAsAWebhookWould(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	modified := yesterday()
	s.zoho.put(t, "Contacts", contact("1000000000000000001", "A & Söhne <x>", modified))
	before := time.Now().Add(-time.Minute)
	st := s.sync(t, Full)

	var e struct {
		EventID, Operation, ContentType, Headers, Status string
		OccurredAt                                       time.Time
		Body, Record                                     string
		DigestFits                                       bool
		Jobs                                             int
	}
	err := s.pool.QueryRow(t.Context(), `
		SELECT e.event_id, e.operation, b.content_type, b.headers::text, e.status, e.occurred_at, convert_from(b.body, 'UTF8'), convert_from(b.record, 'UTF8'),
		       sha256(b.body) = e.digest AND b.body_id = e.id, (SELECT count(*) FROM river_job j WHERE j.kind = 'process_event' AND (j.args->>'event_id')::bigint = e.id)
		FROM events e JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at WHERE e.source = 'reconcile'`).
		Scan(&e.EventID, &e.Operation, &e.ContentType, &e.Headers, &e.Status, &e.OccurredAt, &e.Body, &e.Record, &e.DigestFits, &e.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	if e.Operation != "create" || e.ContentType != "application/json" || e.Headers != "{}" || e.Status != "received" || !e.DigestFits || e.Jobs != 1 ||
		!e.OccurredAt.Equal(modified) || e.Body != e.Record {
		t.Errorf("event %+v", e)
	}
	if !strings.HasPrefix(e.EventID, "Contacts:1000000000000000001:") || len(e.EventID) != len("Contacts:1000000000000000001:")+16 {
		t.Errorf("event id %s", e.EventID)
	}
	if !strings.Contains(e.Body, "A & Söhne <x>") {
		t.Errorf("the body does not hold what Zoho wrote: %s", e.Body)
	}
	var body struct {
		ReadAt string `json:"$read_at"`
	}
	if err := json.Unmarshal([]byte(e.Body), &body); err != nil {
		t.Fatal(err)
	}
	readAt, err := time.Parse("2006-01-02T15:04:05.000000Z", body.ReadAt)
	if err != nil || readAt.Before(before) || readAt.After(time.Now().Add(time.Minute)) {
		t.Errorf("read at %q: %v", body.ReadAt, err)
	}
	if diff := cmp.Diff([]int64{1, 1, 0}, s.counters(t, counter.Queued, counter.Backlog, counter.Missed)); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	if s.counts.Backlog() != 1 {
		t.Errorf("the process itself takes the backlog for %d", s.counts.Backlog())
	}
	if st.Read != 1 || st.Changed != 1 || st.Expected != 1 || st.Percent != 100 || st.Calls != 2 {
		t.Errorf("status %+v", st)
	}
}

// A sync without differences must cost nothing but calls; otherwise each night
// would work all of the customers.
func TestWhatIsAsWeKnowItMakesNoEvent(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts", "Accounts")
	for i := range 7 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(100+i), "Doe", yesterday()))
	}
	s.zoho.put(t, "Accounts", `{"id":"1","Account_Name":"Acme","Score":1.50,"Modified_Time":"2026-01-02T10:00:00+05:30","Owner":null}`)
	s.sync(t, Full)
	s.process(t)
	if n := len(s.events(t)); n != 8 {
		t.Fatalf("%d events at first, want 8", n)
	}
	// The same content, written in another way.
	s.zoho.put(t, "Accounts", `{"Score":15e-1,"Modified_Time":"2026-01-02T04:30:00Z","Account_Name":"Acme","id":"1"}`)
	for range 2 {
		st := s.sync(t, Full)
		if n := len(s.events(t)); n != 8 || st.Changed != 0 || st.Gone != 0 || st.Read != 8 {
			t.Errorf("%d events after a sync without differences, %+v", n, st)
		}
	}
}

// Formula fields change without Modified_Time, and may go there and back: the
// second time is a difference of its own, though the record reads as it did once.
func TestAFormulaThatGoesThereAndBackIsFoundEachTime(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	at := yesterday().Format(time.RFC3339)
	for i, score := range []string{"1", "2", "1", "2"} {
		s.zoho.put(t, "Contacts", fmt.Sprintf(`{"id":"7","Score":%s,"Modified_Time":%q}`, score, at))
		s.sync(t, Full)
		if got := rows[string](t, s.pool, `SELECT convert_from(record, 'UTF8')::jsonb->>'Score' FROM event_bodies ORDER BY event_id DESC LIMIT 1`)[0]; got != score {
			t.Errorf("%d: the newest event has the score %s, want %s", i, got, score)
		}
		s.process(t)
	}
	if diff := cmp.Diff([]string{"{}", "{Score}", "{Score}", "{Score}"}, rows[string](t, s.pool, `SELECT modified_fields::text FROM events ORDER BY id`)); diff != "" {
		t.Errorf("modified fields (-want +got):\n%s", diff)
	}
}

// What waits to be worked, or for a person, is not found again.
func TestAFindingThatIsOnItsWayIsNotStoredTwice(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"received", "retrying", "dead", "discarded"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, "Contacts")
			s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
			s.sync(t, Full)
			s.exec(t, `UPDATE events SET status = $1`, status)
			if st := s.sync(t, Full); st.Changed != 0 {
				t.Errorf("%d changes", st.Changed)
			}
			if diff := cmp.Diff([]string{"create Contacts 7"}, s.events(t)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// A page that broke in the middle must leave nothing: neither an event without
// its job nor a cursor behind records that were not stored.
func TestAPageIsStoredWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	for i := range 5 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(100+i), "Doe", yesterday()))
	}
	id := s.start(t, Full)
	s.work(t, id) // the first page
	before := s.tables(t, "events", "event_bodies", "sync_parts", "sync_errors", "counters")

	j := s.begin(t, id)
	s.Reconciler.jobs = &breaking{Inserter: s.jobs, kind: "process_event"}
	s.end(t, j.JobRow, s.Work(t.Context(), j))
	if diff := cmp.Diff(before, s.tables(t, "events", "event_bodies", "sync_parts", "sync_errors", "counters")); diff != "" {
		t.Errorf("a broken page left something (-before +after):\n%s", diff)
	}
	if st := s.status(t, id); st.State != Running || st.WaitsFor != "a fault to pass" || !strings.Contains(st.LastError, "broken on purpose") {
		t.Errorf("status %+v", st)
	}

	s.Reconciler.jobs = s.jobs
	st := s.finish(t, id)
	if st.Read != 5 || st.Changed != 5 || st.LastError != "" || len(s.events(t)) != 5 {
		t.Errorf("after the break: %+v, %d events", st, len(s.events(t)))
	}
	if jobs := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'process_event'`)[0]; jobs != 5 {
		t.Errorf("%d jobs for 5 events", jobs)
	}
}

// breaking is an inserter that fails for one kind of job.
type breaking struct {
	Inserter interface {
		InsertManyTx(context.Context, pgx.Tx, []river.InsertManyParams) ([]*rivertype.JobInsertResult, error)
	}
	kind string
}

func (b *breaking) InsertManyTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error) {
	if params[0].Args.Kind() == b.kind {
		return nil, errors.New("broken on purpose")
	}
	return b.Inserter.InsertManyTx(ctx, tx, params)
}

// tables is what stands in some tables.
func (s *station) tables(t *testing.T, names ...string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, name := range names {
		all[name] = rows[string](t, s.pool, `SELECT to_jsonb(x)::text FROM `+pgx.Identifier{name}.Sanitize()+` x ORDER BY 1`)
	}
	return all
}

// A crash may come at any page, before its commit or after it: each record is
// found once all the same.
func TestASyncGoesOnAfterTheLastStoredPage(t *testing.T) {
	t.Parallel()
	const records = 10 // four pages of each module
	for _, after := range []bool{false, true} {
		for cut := range 4 {
			t.Run(fmt.Sprintf("page %d, after its commit %v", cut, after), func(t *testing.T) {
				t.Parallel()
				s := newStation(t, "Contacts", "Deals", "Accounts")
				for i := range records {
					for _, module := range []string{"Contacts", "Deals", "Accounts"} {
						s.zoho.put(t, module, contact(fmt.Sprint(95+i), module, yesterday()))
					}
				}
				id := s.start(t, Full)
				for range cut {
					s.work(t, id)
				}
				// The job that is cut: killed before its pages are stored, or before it hands over.
				j := s.begin(t, id)
				ctx, kill := context.WithCancel(t.Context())
				if after {
					s.Reconciler.jobs = &breaking{Inserter: s.jobs, kind: "reconcile"}
				} else {
					s.zoho.fail(func(call, _ string) error {
						if call == "list" {
							kill()
						}
						return nil
					})
				}
				_ = s.Work(ctx, j)
				kill()
				s.zoho.fail(nil)
				s.Reconciler.jobs = s.jobs
				// The rescued job is the same one.
				st := s.finish(t, id)
				if st.State != Completed || st.Read != 3*records || st.Changed != 3*records || st.Gone != 0 {
					t.Errorf("status %+v", st)
				}
				events := s.events(t)
				if len(events) != 3*records {
					t.Errorf("%d events of %d records:\n%s", len(events), 3*records, strings.Join(s.sorted(t), "\n"))
				}
				if n := s.counters(t, counter.Queued)[0]; n != 3*records {
					t.Errorf("counted %d", n)
				}
			})
		}
	}
}

// After a rescue two attempts may work at the same sync, and a page of one of
// them may come late: each page counts once.
func TestSeveralWorkersAtOneSyncFindEachDifferenceOnce(t *testing.T) {
	t.Parallel()
	const records, workers = 20, 4
	modules := []string{"Contacts", "Deals", "Tasks", "Accounts"}
	pool, z := dbtest.New(t), newFakeZoho()
	for i := range records {
		for _, module := range modules {
			z.put(t, module, contact(fmt.Sprint(90+i), module, yesterday()))
		}
	}
	nodes := make([]*station, workers)
	for i := range nodes {
		nodes[i] = stationOn(t, pool, z, Options{Modules: modules})
		nodes[i].slice = time.Minute
		nodes[i].perPage = 1 // twenty pages of each module
	}
	first := nodes[0]
	id := first.start(t, Full)
	for !first.status(t, id).Ended() {
		var wg sync.WaitGroup
		for _, node := range nodes {
			j := first.begin(t, id)
			wg.Go(func() { _ = node.Work(t.Context(), j) })
		}
		wg.Wait()
	}
	st := first.status(t, id)
	if st.State != Completed || st.Read != records*int64(len(modules)) || st.Changed != records*int64(len(modules)) || st.Gone != 0 {
		t.Errorf("status %+v", st)
	}
	if n := len(first.events(t)); n != records*len(modules) {
		t.Errorf("%d events of %d records", n, records*len(modules))
	}
	if n := first.counters(t, counter.Queued)[0]; n != int64(records*len(modules)) {
		t.Errorf("counted %d", n)
	}
}

// Two kinds may find the same at the same time.
func TestAFullAndAnIncrementalSyncFindADifferenceOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.sync(t, Full)
	for i := range 20 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(90+i), "Doe", time.Now()))
	}
	s.slice = time.Minute
	full, incremental := s.start(t, Full), s.start(t, Incremental)
	var wg sync.WaitGroup
	for _, id := range []uuid.UUID{full, incremental} {
		j := s.begin(t, id)
		wg.Go(func() { _ = s.Work(t.Context(), j) })
	}
	wg.Wait()
	a, b := s.status(t, full), s.status(t, incremental)
	if n := len(s.events(t)); n != 20 || a.State != Completed || b.State != Completed || a.Changed+b.Changed != 20 {
		t.Errorf("%d events, %+v, %+v", n, a, b)
	}
}

// Ids are digits beyond what a float holds, and of different lengths: "99" comes
// before "100". What Zoho leaves out between two ids is gone, and nothing else is.
func TestAFullSyncFindsWhatIsGone(t *testing.T) {
	t.Parallel()
	at := yesterday()
	known := []string{
		"5", "9", "10", "99", "100", "101", "998", "999", "1000", "1001",
		"9007199254740992", "9007199254740993", "9007199254740994", "9007199254740995",
		"5725767000000524157", "5725767000000524158", "57257670000005241570",
	}
	for name, c := range map[string]struct{ gone, unknown []string }{
		"nothing":                         {},
		"the first":                       {gone: []string{"5", "9"}},
		"the last":                        {gone: []string{"5725767000000524158", "57257670000005241570"}},
		"one next to its like in a float": {gone: []string{"9007199254740993"}},
		"at the end of a length":          {gone: []string{"9", "99", "999"}},
		"at the beginning of a length":    {gone: []string{"10", "100", "1000"}},
		"all":                             {gone: known},
		"some, while others are new":      {gone: []string{"101", "998"}, unknown: []string{"7", "102", "57257670000005241571"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, "Contacts")
			gone := map[string]bool{}
			for _, id := range c.gone {
				gone[id] = true
			}
			var want []string
			for _, id := range known {
				s.know(t, "Contacts", contact(id, "Doe", at))
				if gone[id] {
					want = append(want, "delete Contacts "+id)
				} else {
					s.zoho.put(t, "Contacts", contact(id, "Doe", at))
				}
			}
			for _, id := range c.unknown {
				s.zoho.put(t, "Contacts", contact(id, "Doe", at))
				want = append(want, "create Contacts "+id)
			}
			// Of other modules nothing is said, and what is deleted cannot go once more.
			s.know(t, "Deals", contact("6", "Doe", at))
			s.know(t, "Contacts", contact("6", "Doe", at))
			s.exec(t, `UPDATE records SET deleted_at = now() WHERE module = 'Contacts' AND record_id = '6'`)

			st := s.sync(t, Full)
			if st.Gone != int64(len(c.gone)) || st.Changed != int64(len(c.unknown)) {
				t.Errorf("status %+v", st)
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(want)), s.sorted(t)); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			s.process(t)
			if st := s.sync(t, Full); st.Gone != 0 || st.Changed != 0 {
				t.Errorf("a second sync found %d gone and %d changed", st.Gone, st.Changed)
			}
		})
	}
}

// A deletion carries no more than which record to look at: process reads it.
func TestADeletionCarriesTheIDAlone(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.know(t, "Contacts", contact("7", "Doe", yesterday()))
	st := s.sync(t, Full)
	want := []string{`Contacts:7:gone:` + st.ID.String() + ` {"id":"7"}`}
	got := rows[string](t, s.pool, `SELECT e.event_id || ' ' || convert_from(b.record, 'UTF8') FROM events e JOIN event_bodies b ON b.event_id = e.id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

// A record that a webhook brought while the list was on its way is not in it.
func TestWhatCameSinceTheListWasReadIsNotGone(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.know(t, "Contacts", contact("6", "Old", yesterday()))
	s.zoho.fail(func(call, _ string) error {
		if call == "list" {
			_, err := s.pool.Exec(t.Context(), `INSERT INTO records (module, record_id, account_id) VALUES ('Contacts', '7', 'a')`)
			return err
		}
		return nil
	})
	if st := s.sync(t, Full); st.Gone != 1 {
		t.Errorf("%d are gone, want 1", st.Gone)
	}
	if diff := cmp.Diff([]string{"delete Contacts 6"}, s.events(t)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A module that Zoho lists as empty has all its records gone: more than one
// transaction stores.
func TestManyAreGoneAtOnce(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.exec(t, `INSERT INTO records (module, record_id, account_id, updated_at)
		SELECT 'Contacts', n::text, 'a', now() - interval '1 day' FROM generate_series(1, $1) AS n`, 2*maxGone+maxGone/2)
	for _, id := range []string{"3", "2400", "2600"} {
		s.zoho.put(t, "Contacts", contact(id, "Doe", yesterday()))
	}
	st := s.sync(t, Full)
	if st.Gone != 2*maxGone+maxGone/2-2 || st.Changed != 3 || st.Read != 3 {
		t.Errorf("status %+v", st)
	}
	if n := rows[int64](t, s.pool, `SELECT count(DISTINCT record_id) FROM events WHERE operation = 'delete'`)[0]; n != st.Gone {
		t.Errorf("%d records are told of as gone", n)
	}
}

// Were a list out of order taken at its word, what stands further behind would be gone.
func TestAPageOutOfOrderTakesNobodyAway(t *testing.T) {
	t.Parallel()
	s, at := newStation(t, "Contacts"), yesterday()
	for i := range 3 {
		s.know(t, "Contacts", contact(fmt.Sprint(101+i), "Doe", at))
	}
	s.zoho.put(t, "Contacts", contact("100", "Doe", at))
	s.zoho.put(t, "Contacts", contact("102", "Doe", at))
	s.zoho.put(t, "Contacts", contact("103", "Doe", at))
	swap := map[string]string{"100": "103", "103": "100"}
	s.zoho.listedAs = func(r zoho.Record) zoho.Record {
		if other, ok := swap[r.ID()]; ok {
			return s.zoho.modules["Contacts"][other]
		}
		return r
	}
	if st := s.sync(t, Full); st.Gone != 0 || st.Changed != 1 {
		t.Errorf("status %+v", st)
	}
}

// The first sync of a database is a full one, and the next looks back behind its start.
func TestAnIncrementalSyncLooksAtWhatChangedSince(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	for i := range 4 {
		s.zoho.put(t, "Contacts", contact(fmt.Sprint(100+i), "Doe", yesterday()))
	}
	first := s.sync(t, Incremental)
	if first.Kind != Full || first.Since != nil || first.Changed != 4 {
		t.Errorf("the first sync is %+v", first)
	}
	s.process(t)

	s.zoho.put(t, "Contacts", contact("101", "Roe", time.Now()))                           // changed
	s.zoho.put(t, "Contacts", contact("104", "New", first.StartedAt.Add(-9*time.Minute)))  // unknown, and within the overlap
	s.zoho.put(t, "Contacts", contact("105", "New", first.StartedAt.Add(-11*time.Minute))) // before it
	s.zoho.drop("Contacts", "102", time.Now())
	s.zoho.drop("Contacts", "103", first.StartedAt.Add(-11*time.Minute)) // too long ago: the full sync's
	s.zoho.drop("Contacts", "199", time.Now())                           // never known
	st := s.sync(t, Incremental)
	if st.Kind != Incremental || st.Since == nil || !st.Since.Equal(first.StartedAt.Add(-10*time.Minute)) || st.Read != 2 || st.Changed != 2 || st.Gone != 1 {
		t.Errorf("status %+v", st)
	}
	if diff := cmp.Diff([]string{"update Contacts 101", "create Contacts 104", "delete Contacts 102"}, s.events(t)[4:]); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	s.process(t)
	if st := s.sync(t, Incremental); st.Changed != 0 || st.Gone != 0 {
		t.Errorf("the overlap is found again: %+v", st)
	}
	if st := s.sync(t, Full); st.Changed != 1 || st.Gone != 1 {
		t.Errorf("the full sync finds %+v", st)
	}
}

// A restored record lists again as it was; we take it for deleted.
func TestARestoredRecordIsFound(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Contacts")
	s.zoho.put(t, "Contacts", contact("7", "Doe", yesterday()))
	s.sync(t, Full)
	s.process(t)
	s.exec(t, `UPDATE records SET deleted_at = now()`)
	if st := s.sync(t, Full); st.Changed != 1 {
		t.Errorf("status %+v", st)
	}
	if diff := cmp.Diff([]string{"create Contacts 7", "restore Contacts 7"}, s.events(t)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// The figure that says whether webhooks can be trusted.
func TestWhatNoWebhookToldOfIsMissed(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	hourAgo, dayAgo := now.Add(-time.Hour), now.Add(-24*time.Hour)
	for name, c := range map[string]struct {
		change  func(t *testing.T, s *station)
		kind    string
		first   bool // no sync had ended before
		changed int64
		missed  int64
	}{
		"changed, and nobody told": {
			change:  func(t *testing.T, s *station) { s.zoho.put(t, "Contacts", contact("7", "Roe", hourAgo)) },
			changed: 1, missed: 1,
		},
		"before any sync had ended nobody was to tell": {
			change: func(t *testing.T, s *station) { s.zoho.put(t, "Contacts", contact("7", "Roe", hourAgo)) },
			first:  true, changed: 1, missed: 0,
		},
		"a webhook told": {
			change: func(t *testing.T, s *station) {
				s.zoho.put(t, "Contacts", contact("7", "Roe", hourAgo))
				s.webhook(t, "Contacts", "update", "7", hourAgo.Add(time.Second))
			},
			changed: 1, missed: 0,
		},
		"a webhook told, under another name of the module": {
			change: func(t *testing.T, s *station) {
				s.zoho.put(t, "Contacts", contact("7", "Roe", hourAgo))
				s.webhook(t, "Activities", "update", "7", hourAgo.Add(time.Second))
			},
			changed: 1, missed: 0,
		},
		"Zoho's clock is four minutes ahead": {
			change: func(t *testing.T, s *station) {
				s.zoho.put(t, "Contacts", contact("7", "Roe", hourAgo))
				s.webhook(t, "Contacts", "update", "7", hourAgo.Add(-4*time.Minute))
			},
			changed: 1, missed: 0,
		},
		"a webhook told of the change before": {
			change: func(t *testing.T, s *station) {
				s.zoho.put(t, "Contacts", contact("7", "Roe", hourAgo))
				s.webhook(t, "Contacts", "update", "7", hourAgo.Add(-6*time.Minute))
			},
			changed: 1, missed: 1,
		},
		"a webhook told of another record": {
			change: func(t *testing.T, s *station) {
				s.zoho.put(t, "Contacts", contact("7", "Roe", hourAgo))
				s.webhook(t, "Contacts", "update", "77", now)
			},
			changed: 1, missed: 1,
		},
		"its webhook may be on its way": {
			change:  func(t *testing.T, s *station) { s.zoho.put(t, "Contacts", contact("7", "Roe", now)) },
			changed: 1, missed: 0,
		},
		"a formula changed, of which no webhook tells": {
			kind:    Full,
			change:  func(t *testing.T, s *station) { s.zoho.put(t, "Contacts", contact("7", "Roe", dayAgo)) },
			changed: 1, missed: 0,
		},
		"new, and nobody told": {
			change:  func(t *testing.T, s *station) { s.zoho.put(t, "Contacts", contact("8", "Roe", hourAgo)) },
			changed: 1, missed: 1,
		},
		"gone, and nobody told": {
			change: func(_ *testing.T, s *station) { s.zoho.drop("Contacts", "7", hourAgo) },
			missed: 1,
		},
		"gone, and only an update was told": {
			change: func(t *testing.T, s *station) {
				s.zoho.drop("Contacts", "7", hourAgo)
				s.webhook(t, "Contacts", "update", "7", now)
			},
			missed: 1,
		},
		"gone, and a webhook told": {
			change: func(t *testing.T, s *station) {
				s.zoho.drop("Contacts", "7", hourAgo)
				s.webhook(t, "Contacts", "delete", "7", now)
			},
		},
		"left out of a full list, and nobody told": {
			kind:   Full,
			change: func(_ *testing.T, s *station) { s.zoho.drop("Contacts", "7", hourAgo) },
			missed: 1,
		},
		"left out of a full list, and the webhook is not worked yet": {
			kind: Full,
			change: func(t *testing.T, s *station) {
				s.zoho.drop("Contacts", "7", hourAgo)
				s.webhook(t, "Contacts", "delete", "7", now)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, "Contacts")
			s.zoho.put(t, "Contacts", contact("7", "Doe", dayAgo))
			kind := Full
			if !c.first {
				s.sync(t, Full)
				s.process(t)
				s.exec(t, `UPDATE syncs SET started_at = started_at - interval '2 hours'`)
				s.exec(t, `UPDATE records SET updated_at = updated_at - interval '2 hours', read_at = read_at - interval '2 hours'`)
				s.exec(t, `DELETE FROM events`)
				s.exec(t, `DELETE FROM counters`)
				kind = Incremental
				if c.kind != "" {
					kind = c.kind
				}
			}
			c.change(t, s)
			st := s.sync(t, kind)
			if st.Changed != c.changed || st.Missed != c.missed {
				t.Errorf("changed %d, missed %d; want %d, %d", st.Changed, st.Missed, c.changed, c.missed)
			}
			if n := s.counters(t, counter.Missed)[0]; n != c.missed {
				t.Errorf("counted %d as missed, want %d", n, c.missed)
			}
		})
	}
}

// A list cuts long texts: an event that said it carries the whole record would
// have the rest of the text forgotten.
func TestACutTextIsNotTakenForTheWhole(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Notes")
	whole, cut := strings.Repeat("é", 700), strings.Repeat("é", 500)
	note := func(id, text, owner string) string {
		return fmt.Sprintf(`{"id":%q,"Note_Content":%q,"Owner":%q,"Modified_Time":"2026-01-02T10:00:00Z"}`, id, text, owner)
	}
	s.know(t, "Notes", note("7", whole, "Ada"))
	s.know(t, "Notes", note("8", whole, "Ada"))
	s.zoho.put(t, "Notes", note("7", cut, "Ada"))
	s.zoho.put(t, "Notes", note("8", cut, "Eve"))
	s.sync(t, Full)
	got := rows[string](t, s.pool, `SELECT e.record_id || ' ' || e.modified_fields::text || ' ' || (convert_from(b.record, 'UTF8')::jsonb ? '$read_at')
		FROM events e JOIN event_bodies b ON b.event_id = e.id`)
	if diff := cmp.Diff([]string{"8 {Owner} false"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// An account that is new to us finds what hangs on it in place.
func TestAccountsComeLast(t *testing.T) {
	t.Parallel()
	s := newStation(t, "Accounts", "Contacts", "Deals")
	for i := range 7 {
		for _, module := range []string{"Accounts", "Contacts", "Deals"} {
			s.zoho.put(t, module, contact(fmt.Sprint(100+i), module, yesterday()))
		}
	}
	s.slice = time.Minute
	s.sync(t, Full)
	lists := slices.DeleteFunc(s.zoho.calls, func(call string) bool { return !strings.HasPrefix(call, "list ") })
	if first := slices.Index(lists, "list Accounts"); first != 6 || len(lists) != 9 {
		t.Errorf("asked for %v", lists)
	}
}
