package retention_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/outbound"
)

// month makes the partition of the month that lay so long ago, and returns its name.
func (s *store) month(t *testing.T, ago time.Duration) string {
	t.Helper()
	s.exec(t, `SELECT ensure_event_bodies_month(now() - $1::interval)`, ago)
	return column[string](t, s, `SELECT 'event_bodies_' || to_char((now() - $1::interval) AT TIME ZONE 'UTC', 'YYYY_MM')`, ago)[0]
}

// partition says where the body of an event lies, "" when it has none.
func (s *store) partition(t *testing.T, name string) string {
	t.Helper()
	all := column[string](t, s, `SELECT b.tableoid::regclass::text FROM event_bodies b JOIN events e ON e.id = b.event_id WHERE e.event_id = $1`, name)
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

func (s *store) exists(t *testing.T, table string) bool {
	t.Helper()
	return column[bool](t, s, `SELECT to_regclass($1) IS NOT NULL`, table)[0]
}

const yearAgo = 365 * day

func TestAMonthGoesWhenAllOfItWasKeptLongEnough(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old, young := s.month(t, yearAgo), s.month(t, kept-day)
	waits := []string{"dead", "received", "retrying", "routed"}
	for _, status := range waits {
		s.store(t, event{status, status, yearAgo, 0})
	}
	s.store(t, event{"replayed lately", "processed", yearAgo, day}, event{"old", "processed", yearAgo, yearAgo}, event{"young", "processed", kept - day, kept - day})
	// Nobody's: by hand somebody has deleted the event.
	s.exec(t, `INSERT INTO event_bodies (event_id, received_at, body_id, record) VALUES (1000000, now() - $1::interval, 1, '{}')`, yearAgo)
	before := column[string](t, s, `SELECT to_jsonb(b)::text FROM event_bodies b JOIN events e ON e.id = b.event_id WHERE e.event_id <> 'old' ORDER BY b.event_id`)

	f := forget(t, s.retention(t))
	if diff := cmp.Diff([]string{old}, f.Months); diff != "" {
		t.Errorf("months that are gone (-want +got):\n%s", diff)
	}
	if s.exists(t, old) {
		t.Error("the old month is there")
	}
	for _, name := range append(waits, "replayed lately") {
		if got := s.partition(t, name); got != "event_bodies_other" {
			t.Errorf("the body of %s lies in %q", name, got)
		}
	}
	if got := s.partition(t, "young"); got != young {
		t.Errorf("the body of young lies in %q, want %s", got, young)
	}
	s.same(t, "bodies", before, `SELECT to_jsonb(b)::text FROM event_bodies b ORDER BY b.event_id`)

	// Whoever has decided may run it again; then it is kept as any other, and goes at last.
	jobs, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	dead := column[int64](t, s, `SELECT id FROM events WHERE event_id = 'dead'`)[0]
	if err := admin.New(s.pool, jobs, outbound.Retry).RetryDead(t.Context(), admin.Actor{Name: "ada"}, admin.Letter{Kind: "event", ID: dead}); err != nil {
		t.Errorf("run the dead event again: %v", err)
	}
	s.exec(t, `UPDATE events SET status = 'discarded', processed_at = received_at WHERE event_id <> 'young'`)
	forget(t, s.retention(t))
	s.same(t, "events at last", []string{"young"}, names)
	s.same(t, "bodies at last", []string{"young"}, bodies)
}

func TestAMonthThatIsInUseGoesLater(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := s.month(t, yearAgo)
	s.store(t, event{"dead", "dead", yearAgo, yearAgo})
	hold(t, s, `SELECT count(*) FROM `+old, func() {
		if f := forget(t, s.retention(t)); len(f.Months) > 0 || !s.exists(t, old) {
			t.Errorf("%s are gone while somebody reads", f.Months)
		}
		// Nobody waits behind it.
		s.store(t, event{"new", "received", 0, 0})
	})
	s.same(t, "bodies", []string{"dead", "new"}, bodies)
	if got := s.partition(t, "dead"); got != old {
		t.Errorf("the body lies in %q, want %s", got, old)
	}
	if f := forget(t, s.retention(t)); len(f.Months) != 1 {
		t.Error("the month is there after all have left it")
	}
}

func TestAMonthOfWhichTooMuchStaysStays(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(*testing.T, *store){
		"many": func(t *testing.T, s *store) { s.many(t, 1001, "dead", yearAgo) },
		"large": func(t *testing.T, s *store) {
			s.store(t, event{"large", "dead", yearAgo, yearAgo})
			s.exec(t, `UPDATE event_bodies SET body = repeat('x', 9 << 20)::bytea`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			old := s.month(t, yearAgo)
			fill(t, s)
			before := column[string](t, s, bodies)
			if f := forget(t, s.retention(t)); len(f.Months) > 0 || !s.exists(t, old) {
				t.Errorf("%s are gone", f.Months)
			}
			s.same(t, "bodies", before, bodies)
		})
	}
}

// A body with several records lies with the first of them.
func TestABodyOfSeveralRecordsIsKeptForEachOfThem(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	old := s.month(t, yearAgo)
	s.store(t, event{"1", "processed", yearAgo, yearAgo}, event{"2", "dead", yearAgo, yearAgo}, event{"3", "processed", yearAgo, yearAgo},
		event{"4", "dead", yearAgo, yearAgo}, event{"another", "dead", yearAgo, yearAgo})
	s.exec(t, `UPDATE events SET received_at = (SELECT received_at FROM events WHERE event_id = '1') WHERE event_id <> 'another'`)
	s.exec(t, `UPDATE event_bodies b SET received_at = e.received_at FROM events e WHERE e.id = b.event_id`)
	s.exec(t, `UPDATE event_bodies b SET body_id = (SELECT id FROM events WHERE event_id = '1'), body = NULL
		FROM events e WHERE e.id = b.event_id AND e.event_id IN ('2', '3', '4')`)
	for round := range 2 {
		forget(t, s.retention(t))
		s.same(t, "events", [][]string{{"2", "4", "another"}, {"4", "another"}}[round], names)
		for _, name := range column[string](t, s, names) {
			id := column[int64](t, s, `SELECT id FROM events WHERE event_id = $1`, name)[0]
			want := "1"
			if name == "another" {
				want = name
			}
			if b, err := db.New(s.pool).GetEventBody(t.Context(), id); err != nil || string(b.Body) != want {
				t.Errorf("round %d: the body of %s is %q (%v), want %q", round, name, b.Body, err, want)
			}
		}
		if n := column[int](t, s, `SELECT count(*) FROM event_bodies WHERE convert_from(body, 'UTF8') = '1'`)[0]; n != 1 {
			t.Errorf("round %d: the body is stored %d times", round, n)
		}
		s.exec(t, `UPDATE events SET status = 'discarded' WHERE event_id = '2'`)
	}
	if s.exists(t, old) {
		t.Error("the month is there")
	}
}
