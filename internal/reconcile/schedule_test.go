package reconcile

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/dbtest"
)

func TestDue(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	never := latest{}
	for name, c := range map[string]struct {
		every             time.Duration
		fullAt            string
		incremental, full latest
		want              []string
	}{
		"a new database":                            {every: time.Hour, fullAt: "02:00", want: []string{Full}},
		"a new database, full syncs off":            {every: time.Hour, fullAt: "off", want: []string{Incremental}}, // which becomes a full one
		"everything off":                            {fullAt: "off"},
		"everything off by default":                 {},
		"nothing to do":                             {every: time.Hour, fullAt: "02:00", incremental: latest{started: ago(59 * time.Minute)}, full: latest{started: ago(10 * time.Hour)}},
		"an hour is over":                           {every: time.Hour, fullAt: "02:00", incremental: latest{started: ago(time.Hour)}, full: latest{started: ago(10 * time.Hour)}, want: []string{Incremental}},
		"one runs":                                  {every: time.Hour, fullAt: "02:00", incremental: latest{started: ago(3 * time.Hour), active: true}, full: latest{started: ago(10 * time.Hour)}},
		"a full one has looked at what changed":     {every: time.Hour, fullAt: "11:30", incremental: latest{started: ago(2 * time.Hour)}, full: latest{started: ago(30 * time.Minute)}},
		"beside a full one that takes long":         {every: time.Hour, fullAt: "02:00", incremental: latest{started: ago(11 * time.Hour)}, full: latest{started: ago(10 * time.Hour), active: true}, want: []string{Incremental}},
		"the time of the full one has come":         {every: time.Hour, fullAt: "12:00", incremental: latest{started: ago(time.Minute)}, full: latest{started: ago(24 * time.Hour)}, want: []string{Full}},
		"both have":                                 {every: time.Hour, fullAt: "12:00", incremental: latest{started: ago(2 * time.Hour)}, full: latest{started: ago(24 * time.Hour)}, want: []string{Full}},
		"a minute before it":                        {fullAt: "12:01", full: latest{started: ago(23 * time.Hour)}},
		"it was missed, for the program was away":   {fullAt: "02:00", full: latest{started: ago(70 * time.Hour)}, want: []string{Full}},
		"yesterday's still runs":                    {fullAt: "02:00", full: latest{started: ago(34 * time.Hour), active: true}},
		"today's has begun, and was cancelled":      {fullAt: "02:00", full: latest{started: ago(10 * time.Hour)}},
		"a person's of this morning counts for it":  {fullAt: "11:00", full: latest{started: ago(30 * time.Minute)}},
		"a person's before the time does not":       {fullAt: "11:00", full: latest{started: ago(90 * time.Minute)}, want: []string{Full}},
		"only incremental ones, and one never was":  {every: time.Hour, fullAt: "off", full: latest{started: ago(2 * time.Hour)}, incremental: never, want: []string{Incremental}},
		"one that is said to have begun in a while": {every: time.Hour, fullAt: "off", incremental: latest{started: now.Add(time.Hour)}},
	} {
		r := New(nil, nil, nil, nil, Options{Modules: []string{"Contacts"}, IncrementalEvery: c.every, FullAt: c.fullAt})
		if diff := cmp.Diff(c.want, r.due(now, c.incremental, c.full)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Each day has one full sync, also the days on which the clock is changed.
func TestFullSyncsOverAYear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zone, at string
		start    time.Time
		days     int
	}{
		{"Europe/Berlin", "02:30", time.Date(2026, 3, 27, 0, 0, 0, 0, time.UTC), 4},   // 02:30 is not on the 29th
		{"Europe/Berlin", "02:30", time.Date(2026, 10, 23, 0, 0, 0, 0, time.UTC), 4},  // is twice on the 25th
		{"America/New_York", "02:30", time.Date(2026, 3, 6, 6, 0, 0, 0, time.UTC), 4}, // is not on the 8th
		{"Asia/Kolkata", "02:00", time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), 4},
		{"Pacific/Auckland", "00:00", time.Date(2026, 4, 2, 0, 0, 0, 0, time.UTC), 6},
		{"America/Sao_Paulo", "23:59", time.Date(2026, 12, 30, 0, 0, 0, 0, time.UTC), 4},
		{"", "02:00", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 365},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		r := New(nil, nil, nil, nil, Options{Modules: []string{"Contacts"}, FullAt: c.at, Timezone: zone})
		full := latest{started: c.start}
		byDay := map[string]int{}
		for now := c.start; now.Before(c.start.Add(time.Duration(c.days) * 24 * time.Hour)); now = now.Add(time.Minute) {
			if len(r.due(now, latest{}, full)) > 0 {
				full.started = now
				local := now.In(zone)
				byDay[local.Format(time.DateOnly)]++
				at, _ := time.Parse("15:04", c.at)
				hour, minute := local.Hour(), local.Minute()
				// An hour off only where the clock jumps over it.
				if off := (hour*60 + minute) - (at.Hour()*60 + at.Minute()); off != 0 && off != 60 && off != -60 {
					t.Errorf("%s %s: started at %s", c.zone, c.at, local)
				}
			}
		}
		if len(byDay) != c.days {
			t.Errorf("%s %s: on %d days of %d: %v", c.zone, c.at, len(byDay), c.days, byDay)
		}
		for day, n := range byDay {
			if n != 1 {
				t.Errorf("%s %s: %d times on %s", c.zone, c.at, n, day)
			}
		}
	}
}

// schedule does what the sweep does, without its lock.
func (s *station) schedule(t *testing.T) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return s.Schedule(t.Context(), tx, time.Now()) })
	if err != nil {
		t.Errorf("schedule: %v", err)
	}
}

func scheduled(t *testing.T) *station {
	t.Helper()
	return stationOn(t, dbtest.New(t), newFakeZoho(), Options{Modules: []string{"Contacts", "Accounts"}, IncrementalEvery: time.Hour, FullAt: "00:00"})
}

func (s *station) kinds(t *testing.T) []string {
	t.Helper()
	return rows[string](t, s.pool, `SELECT kind || ' ' || state || ' by ' || requested_by FROM syncs ORDER BY started_at, id`)
}

// Every node asks each minute, and may do so at the same moment.
func TestScheduledSyncsStartOnceOverAllNodes(t *testing.T) {
	t.Parallel()
	s := scheduled(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { s.schedule(t) })
	}
	wg.Wait()
	if diff := cmp.Diff([]string{"full running by schedule"}, s.kinds(t)); diff != "" {
		t.Fatalf("syncs (-want +got):\n%s", diff)
	}
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job WHERE kind = 'reconcile'`)[0]; n != 1 {
		t.Errorf("%d jobs", n)
	}
	id, already, err := s.Start(t.Context(), Full, nobody)
	if err != nil || !already {
		t.Errorf("start beside it: %v, %v", already, err)
	}
	s.finish(t, id)
	s.schedule(t)
	if n := len(s.kinds(t)); n != 1 {
		t.Errorf("%d syncs right after it", n)
	}
	s.exec(t, `UPDATE syncs SET started_at = started_at - interval '61 minutes'`)
	for range 3 {
		wg.Go(func() { s.schedule(t) })
	}
	wg.Wait()
	// Shortly after midnight that hour was yesterday's.
	if got := s.kinds(t); len(got) != 2 || got[0] != "full completed by schedule" {
		t.Errorf("syncs an hour later: %v", got)
	}
}

// Jobs can end without our code running.
func TestASyncThatLostItsJobGetsANewOne(t *testing.T) {
	t.Parallel()
	for _, end := range []string{
		`DELETE FROM river_job`,
		`UPDATE river_job SET state = 'discarded', finalized_at = now()`,
		`UPDATE river_job SET state = 'completed', finalized_at = now()`,
		`UPDATE syncs SET job_id = NULL`,
	} {
		s := scheduled(t)
		s.schedule(t)
		id := rows[string](t, s.pool, `SELECT id::text FROM syncs`)[0]
		s.exec(t, end)
		s.schedule(t)
		st, err := s.Status(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if st := s.finish(t, st.ID); st.State != Completed {
			t.Errorf("%s: %+v", end, st)
		}
	}
	// A job that waits is as good as one that runs, and a paused sync needs none.
	s := scheduled(t)
	s.schedule(t)
	s.schedule(t)
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job`)[0]; n != 1 {
		t.Errorf("%d jobs", n)
	}
	if _, err := s.Pause(t.Context(), Full, nobody); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `DELETE FROM river_job`)
	s.schedule(t)
	if n := rows[int64](t, s.pool, `SELECT count(*) FROM river_job`)[0]; n != 0 {
		t.Errorf("%d jobs of a paused sync", n)
	}
}
