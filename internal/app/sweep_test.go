package app_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/memrelay/memrelay/internal/config"
)

// exec changes the database behind the program's back.
func (p *program) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := p.pool.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
}

// sweep sweeps once and checks how many rows that mended.
func (p *program) sweep(t *testing.T, want int) {
	t.Helper()
	got, err := p.app.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("mended %d rows, want %d", got, want)
	}
}

// live are the states of a job that will still run, or runs.
const live = `('available', 'pending', 'retryable', 'running', 'scheduled')`

// fates are what can have become of a job, and whether the sweeper has to mend that.
func fates() map[string]struct {
	change string // of the job named $1
	orphan bool
} {
	type fate = struct {
		change string
		orphan bool
	}
	ended := func(state string) fate {
		return fate{`UPDATE river_job SET state = '` + state + `', finalized_at = now() WHERE id = $1`, true}
	}
	waits := func(state string) fate {
		return fate{`UPDATE river_job SET state = '` + state + `', scheduled_at = now() + interval '1 hour' WHERE id = $1`, false}
	}
	return map[string]fate{
		"deleted":              {`DELETE FROM river_job WHERE id = $1`, true},
		"discarded":            ended("discarded"),
		"cancelled":            ended("cancelled"),
		"completed":            ended("completed"),
		"available in an hour": waits("available"),
		"retryable":            waits("retryable"),
		"scheduled":            waits("scheduled"),
		"pending":              waits("pending"),
		"running":              {`UPDATE river_job SET state = 'running', attempted_at = now() - interval '1 hour' WHERE id = $1`, false},
	}
}

// Jobs can end without our code running. Being late is no reason to mend.
func TestSweepGivesEachOrphanedEventOneJob(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	orphans, n := 0, 0
	for name, fate := range fates() {
		n++
		p.send(t, contact(fmt.Sprint(n), "77", "jane@example.com"), name)
		p.exec(t, fate.change, rows[int64](t, p.pool, `SELECT max(id) FROM river_job`)[0])
		if fate.orphan {
			orphans++
		}
	}
	// A fault is waited for without a job, too; what has ended needs none.
	p.send(t, contact("20", "77", "jane@example.com"), "retrying")
	p.send(t, contact("21", "77", "jane@example.com"), "dead")
	p.exec(t, `UPDATE events SET status = event_id WHERE event_id IN ('retrying', 'dead')`)
	p.exec(t, `DELETE FROM river_job WHERE (args ->> 'event_id')::bigint IN (SELECT id FROM events WHERE status IN ('retrying', 'dead'))`)
	orphans++

	p.sweep(t, orphans)
	p.sweep(t, 0)
	const jobs = `SELECT format('%s: %s', e.event_id, count(j.id)) FROM events e
		LEFT JOIN river_job j ON (j.args ->> 'event_id')::bigint = e.id AND j.state IN ` + live + ` GROUP BY e.event_id ORDER BY e.event_id COLLATE "C"`
	want := []string{
		"available in an hour: 1", "cancelled: 1", "completed: 1", "dead: 0", "deleted: 1", "discarded: 1",
		"pending: 1", "retryable: 1", "retrying: 1", "running: 1", "scheduled: 1",
	}
	if diff := cmp.Diff(want, rows[string](t, p.pool, jobs)); diff != "" {
		t.Errorf("live jobs per event (-want +got):\n%s", diff)
	}

	// Those that have a new one are worked, the others whenever theirs comes.
	start(t, setup{url: p.url})
	p.waitFor(t, "the orphans are processed", `SELECT count(*) = $1 FROM events WHERE status = 'processed'`, orphans)
	late := rows[string](t, p.pool, `SELECT event_id FROM events WHERE status = 'received' ORDER BY event_id COLLATE "C"`)
	if diff := cmp.Diff([]string{"available in an hour", "pending", "retryable", "running", "scheduled"}, late); diff != "" {
		t.Errorf("events that still wait (-want +got):\n%s", diff)
	}
}

func TestSweepMendsMoreThanOneTransactionDoes(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	p.exec(t, `INSERT INTO events (source, event_id, digest, module, operation, record_id)
		SELECT 'zoho', n::text, sha256('body'), 'Contacts', 'update', '1' FROM generate_series(1, 2500) AS n`)
	p.sweep(t, 2500)
	p.sweep(t, 0)
	if n := rows[int](t, p.pool, `SELECT count(DISTINCT args ->> 'event_id') FROM river_job`)[0]; n != 2500 {
		t.Errorf("jobs for %d events, want 2500", n)
	}
}

// laneTable is one of the two tables of lanes.
type laneTable struct {
	name, insert, key, kind string
	self                    string // what its jobs' args name
}

func laneTables() []laneTable {
	return []laneTable{
		{
			name: "accounts", key: "account_id", kind: "sync_account", self: "args ->> 'account_id' = account_id",
			insert: `INSERT INTO accounts (account_id, wanted, done, due_at, job_id) VALUES ($1, $2, $3, $4, $5)`,
		},
		{
			name: "endpoints", key: "name", kind: "deliver_endpoint", self: "(args ->> 'endpoint_id')::uuid = l.id",
			insert: `INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule, wanted, done, due_at, job_id)
				VALUES (gen_random_uuid(), $1, 'https://receiver.invalid/', '{}', '10s', '{1s,2s}', $2, $3, $4, $5)`,
		},
	}
}

// states describes each lane in one line.
func (l laneTable) states(t *testing.T, p *program) map[string]string {
	t.Helper()
	states := map[string]string{}
	for _, line := range rows[string](t, p.pool, fmt.Sprintf(`
		SELECT format('%%s: %%s of %%s done, due %%s, %%s', %[2]s, done, wanted,
		       CASE WHEN due_at IS NULL THEN 'never' WHEN due_at < now() - interval '30 minutes' THEN 'long ago' WHEN due_at <= now() THEN 'now' ELSE 'later' END,
		       CASE WHEN job_id IS NULL THEN 'no job' WHEN j.id IS NULL THEN 'job missing' WHEN kind = 'of_the_test' THEN 'job ' || state
		            WHEN kind <> '%[3]s' OR NOT %[4]s OR state <> 'available' THEN 'wrong job'
		            WHEN scheduled_at <= now() THEN 'new job at once' WHEN scheduled_at = due_at THEN 'new job then' ELSE 'new job at another time' END)
		FROM %[1]s l LEFT JOIN river_job j ON j.id = l.job_id`, l.name, l.key, l.kind, l.self)) {
		name, state, _ := strings.Cut(line, ": ")
		states[name] = state
	}
	return states
}

func TestSweepGivesEachOrphanedLaneOneJob(t *testing.T) {
	t.Parallel()
	for _, l := range laneTables() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, setup{noWork: true})
			// job is one that has nothing to do with the lane but its id.
			job := func(change string) *int64 {
				id := rows[int64](t, p.pool, `INSERT INTO river_job (args, kind, max_attempts, queue, state) VALUES ('{}', 'of_the_test', 25, 'none', 'available') RETURNING id`)[0]
				p.exec(t, change, id)
				return &id
			}
			lane := func(name string, wanted, done int, due *time.Time, jobID *int64) {
				p.exec(t, l.insert, name, wanted, done, due, jobID)
			}
			past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
			mended := map[string]string{}
			for name, fate := range fates() {
				lane("due, job "+name, 3, 2, &past, job(fate.change))
				lane("taken, job "+name, 3, 2, nil, job(fate.change))
				if fate.orphan {
					mended["due, job "+name] = "2 of 3 done, due long ago, new job at once"
					mended["taken, job "+name] = "2 of 3 done, due now, new job at once"
				}
			}
			lane("due later, job deleted", 3, 2, &future, job(`DELETE FROM river_job WHERE id = $1`))
			mended["due later, job deleted"] = "2 of 3 done, due later, new job then"
			lane("due, never had a job", 1, 0, &past, nil)
			mended["due, never had a job"] = "0 of 1 done, due long ago, new job at once"
			lane("done, job completed", 3, 3, nil, job(fates()["completed"].change))
			lane("done", 3, 3, nil, nil)
			lane("fresh", 0, 0, nil, nil)

			want := l.states(t, p)
			maps.Copy(want, mended)
			p.sweep(t, len(mended))
			p.sweep(t, 0)
			if diff := cmp.Diff(want, l.states(t, p)); diff != "" {
				t.Errorf("lanes (-want +got):\n%s", diff)
			}
			if n := rows[int](t, p.pool, `SELECT count(*) FROM river_job WHERE kind = $1`, l.kind)[0]; n != len(mended) {
				t.Errorf("%d new jobs, want %d", n, len(mended))
			}

			// Their jobs find what there is to do, and close them.
			start(t, setup{url: p.url})
			delete(mended, "due later, job deleted")
			p.waitFor(t, "the mended lanes are closed", `SELECT count(*) = $1 FROM `+l.name+`
				WHERE job_id IS NULL AND due_at IS NULL AND done = wanted AND `+l.key+` = ANY ($2)`, len(mended), slices.Collect(maps.Keys(mended)))
		})
	}
}

// An account's lane that lost its job in the middle of a debounce.
func TestSweepLetsAnOrphanedLaneGoOn(t *testing.T) {
	t.Parallel()
	p := start(t, setup{change: func(c *config.Config) { c.Inbound.Debounce = time.Hour }})
	p.send(t, `{"operation":"update","module":"Accounts","data":[{"id":"77","Account_Name":"Acme"}]}`, "evt-1")
	p.waitFor(t, "the event is routed", `SELECT EXISTS (SELECT FROM events WHERE status = 'routed')`)
	p.exec(t, `DELETE FROM river_job WHERE kind = 'sync_account'`)
	p.exec(t, `UPDATE accounts SET due_at = now()`)
	// While the program's own sweep is at work, at its start, another leaves it to that.
	for mended := false; !mended; {
		if _, err := p.app.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		mended = rows[bool](t, p.pool, `SELECT EXISTS (SELECT FROM river_job WHERE kind = 'sync_account')`)[0]
	}
	p.settled(t)
	if n := rows[int](t, p.pool, `SELECT count(*) FROM memories WHERE record_id = '77'`)[0]; n != 1 {
		t.Errorf("%d memories of the account, want 1", n)
	}
}

func TestSweepSeesToARelayOfTheOutbox(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	const relays = `SELECT count(*) FROM river_job WHERE kind = 'relay' AND state IN ` + live
	p.sweep(t, 0) // nothing to be relayed
	for range 3 {
		p.exec(t, `INSERT INTO outbox (id, event, user_id, payload) VALUES ($1, 'memory_added', 'zoho:77', '{}')`, uuid.New())
	}
	for name, fate := range fates() {
		p.sweep(t, 1)
		p.sweep(t, 0)
		p.exec(t, fate.change, rows[int64](t, p.pool, `SELECT max(id) FROM river_job WHERE kind = 'relay'`)[0])
		if n := rows[int](t, p.pool, relays)[0]; (n == 0) != fate.orphan {
			t.Fatalf("%s: %d live relay jobs", name, n)
		}
		if !fate.orphan {
			p.sweep(t, 0) // it may take its time
			p.exec(t, `DELETE FROM river_job`)
		}
	}
	p.sweep(t, 1)
	start(t, setup{url: p.url})
	p.waitFor(t, "the outbox is relayed", `SELECT NOT EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)`)
}

func TestSweepsOfTwoNodesMendOnce(t *testing.T) {
	t.Parallel()
	const events, accounts = 300, 40
	p := start(t, setup{noWork: true})
	nodes := []*program{p, start(t, setup{noWork: true, url: p.url})}
	for n := range events / 100 {
		var records []string
		for i := range 100 {
			records = append(records, fmt.Sprintf(`{"id":"%d","Last_Name":"Doe","Account_Name":{"id":"77"}}`, 100*n+i))
		}
		p.send(t, `{"operation":"create","module":"Contacts","data":[`+strings.Join(records, ",")+`]}`, fmt.Sprint("evt-", n))
	}
	p.exec(t, `DELETE FROM river_job`)
	p.exec(t, `INSERT INTO accounts (account_id, wanted, due_at) SELECT n::text, 1, now() FROM generate_series(1, $1) AS n`, accounts)
	p.exec(t, `INSERT INTO outbox (id, event, user_id, payload) VALUES ($1, 'memory_added', 'zoho:77', '{}')`, uuid.New())
	p.exec(t, laneTables()[1].insert, "endpoint", 1, 0, time.Now(), nil)

	mended := make([]int, 8)
	var g errgroup.Group
	for i := range mended {
		g.Go(func() (err error) {
			mended[i], err = nodes[i%2].app.Sweep(t.Context())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, n := range mended {
		sum += n
	}
	// One that found another at work did not wait for it: what is left is mended next time.
	rest, err := p.app.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := events + accounts + 2; sum+rest != want {
		t.Errorf("mended %v and %d, want %d in all", mended, rest, want)
	}
	got := rows[string](t, p.pool, `SELECT format('%s: %s', kind, count(*)) FROM river_job GROUP BY kind ORDER BY kind`)
	if diff := cmp.Diff([]string{"deliver_endpoint: 1", "process_event: 300", "relay: 1", "sync_account: 40"}, got); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
}

func TestSweepFoldsTheCountersOfWhoIsGone(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	silent, alive := uuid.New(), uuid.New()
	p.exec(t, `INSERT INTO processes (process, host, workers, seen_at) VALUES ($1, 'silent', 1, now() - interval '61 seconds'), ($2, 'alive', 1, now() - interval '50 seconds')`, silent, alive)
	gone := []uuid.UUID{uuid.New(), uuid.New(), silent}
	for i, process := range append(gone, alive) {
		p.exec(t, `INSERT INTO counters (process, slot, name, value) VALUES ($1, 0, 'processed', $2), ($1, 1, 'processed', 10), ($1, 0, 'last_processed', $2)`, process, 100+i)
	}
	p.exec(t, `INSERT INTO counters (process, slot, name, value) VALUES ($1, 0, 'processed', 5), ($1, 0, 'last_processed', 50)`, uuid.Nil)
	const sums = `SELECT format('%s %s', name, CASE WHEN starts_with(name, 'last_') THEN max(value) ELSE sum(value) END) FROM counters GROUP BY name ORDER BY name`
	before := rows[string](t, p.pool, sums)

	p.sweep(t, 0)
	if diff := cmp.Diff(before, rows[string](t, p.pool, sums)); diff != "" {
		t.Errorf("sums (-before +after):\n%s", diff)
	}
	const kept = `SELECT format('%s %s %s %s', CASE process WHEN $1 THEN 'alive' WHEN '00000000-0000-0000-0000-000000000000' THEN 'folded' ELSE 'gone' END, slot, name, value)
		FROM counters ORDER BY process = $1 DESC, slot, name`
	want := []string{
		"alive 0 last_processed 103", "alive 0 processed 103", "alive 1 processed 10",
		"folded 0 last_processed 102", "folded 0 processed 338",
	}
	if diff := cmp.Diff(want, rows[string](t, p.pool, kept, alive)); diff != "" {
		t.Errorf("counters (-want +got):\n%s", diff)
	}
	if n := rows[int](t, p.pool, `SELECT count(*) FROM processes WHERE process = $1`, silent)[0]; n != 0 {
		t.Error("who was not seen for a minute is still on the list")
	}
	p.sweep(t, 0)
	if diff := cmp.Diff(want, rows[string](t, p.pool, kept, alive)); diff != "" {
		t.Errorf("counters after a second sweep (-want +got):\n%s", diff)
	}
}

func TestSweepCorrectsTheBacklog(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	for i := range 3 {
		p.send(t, contact(fmt.Sprint(i), "77", "jane@example.com"), fmt.Sprint("evt-", i))
	}
	const backlog = `SELECT sum(value)::bigint FROM counters WHERE name = 'backlog'`
	if got := rows[int64](t, p.pool, backlog)[0]; got != 3 {
		t.Fatalf("the backlog is %d, want 3", got)
	}
	for _, drift := range []int{40, -7} { // deleted by hand, say, or restored
		p.exec(t, `INSERT INTO counters (process, slot, name, value) VALUES ($1, 0, 'backlog', $2)`, uuid.New(), drift)
		p.sweep(t, 0)
		if got := rows[int64](t, p.pool, backlog)[0]; got != 3 {
			t.Errorf("off by %d: the backlog is %d after the sweep, want 3", drift, got)
		}
	}
}

func TestSweepMakesNextMonthsPartition(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	next := rows[string](t, p.pool, `SELECT 'event_bodies_' || to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', 'YYYY_MM')`)[0]
	p.exec(t, `DROP TABLE `+next)
	p.sweep(t, 0)
	p.exec(t, `INSERT INTO event_bodies (event_id, received_at, body_id, record) VALUES (1, date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '1 month 1 day', 1, '{}')`)
	if got := rows[string](t, p.pool, `SELECT tableoid::regclass::text FROM event_bodies`)[0]; got != next {
		t.Errorf("a body of next month lies in %s, want %s", got, next)
	}
	p.sweep(t, 0)
}

// The last statement of each mending fails: no job may be left that no row names.
func TestSweepLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, l := range laneTables() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, setup{noWork: true})
			p.exec(t, l.insert, "lane", 1, 0, time.Now(), nil)
			p.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$`)
			p.exec(t, `CREATE TRIGGER refuse BEFORE UPDATE ON `+l.name+` FOR EACH ROW EXECUTE FUNCTION refuse()`)
			if n, err := p.app.Sweep(t.Context()); err == nil || n != 0 {
				t.Errorf("mended %d, %v; want the error of the last statement", n, err)
			}
			if n := rows[int](t, p.pool, `SELECT count(*) FROM river_job`)[0]; n != 0 {
				t.Errorf("%d jobs of a sweep whose last statement failed", n)
			}
			p.exec(t, `DROP TRIGGER refuse ON `+l.name)
			p.sweep(t, 1)
		})
	}
}

// A crash leaves jobs that nobody works. They go on within seconds, and it was
// nobody's failure.
func TestRescueGivesBackTheJobsOfTheGone(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	for name, tc := range map[string]struct {
		seen    string // when the job's process was last seen, before now; "": never
		state   string
		attempt int
		want    string
	}{
		"of a process that crashed":   {"11 seconds", "running", 2, "available 1"},
		"of one that nobody knows":    {"", "running", 1, "available 0"},
		"of one that lives":           {"8 seconds", "running", 1, "running 1"},
		"that wait for another time":  {"11 seconds", "retryable", 1, "retryable 1"},
		"that ended before the crash": {"11 seconds", "completed", 1, "completed 1"},
	} {
		p.send(t, contact(fmt.Sprint(len(name)), "77", "jane@example.com"), name)
		id := rows[int64](t, p.pool, `SELECT max(id) FROM river_job`)[0]
		process := uuid.New()
		if tc.seen != "" {
			p.exec(t, `INSERT INTO processes (process, host, workers, seen_at) VALUES ($1, 'elsewhere', 1, now() - $2::text::interval)`, process, tc.seen)
		}
		p.exec(t, `UPDATE river_job SET state = $2::text::river_job_state, attempt = $3, attempted_at = now(), attempted_by = ARRAY['somebody before', $4],
			finalized_at = CASE WHEN $2 = 'completed' THEN now() END WHERE id = $1`, id, tc.state, tc.attempt, process.String())
		if _, err := p.app.Rescue(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := rows[string](t, p.pool, `SELECT state || ' ' || attempt FROM river_job WHERE id = $1`, id)[0]; got != tc.want {
			t.Errorf("a job %s: %s, want %s", name, got, tc.want)
		}
	}
}

// The read of a whole account goes on, whatever became of the job that was to do it.
func TestSweepMendsAReadOfAWholeAccount(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	p.exec(t, `INSERT INTO accounts (account_id, wanted, done, whole_since) VALUES ('77', 3, 3, now()), ('88', 3, 3, NULL)`)
	p.sweep(t, 1)
	p.sweep(t, 0)
	if got := rows[string](t, p.pool, `SELECT account_id FROM accounts a JOIN river_job j ON j.id = a.job_id WHERE a.wanted = 4 AND a.due_at <= now()`); len(got) != 1 || got[0] != "77" {
		t.Errorf("woken: %v", got)
	}
}

// Memories go when their time is up, and keys when nobody repeats a request any more.
func TestSweepForgets(t *testing.T) {
	t.Parallel()
	p := start(t, setup{noWork: true})
	p.exec(t, `INSERT INTO memories (id, user_id, kind, content, checksum, expires_at)
		SELECT gen_random_uuid(), 'ada', 'fact', 'x', sha256('x'), now() + (n - 600) * interval '1 hour' FROM generate_series(1, 601) n`)
	p.exec(t, `INSERT INTO idempotency_keys (actor, key, digest, created_at)
		SELECT 'token/ada', n::text, sha256('x'), now() - interval '24 hours' + (n - 1200) * interval '1 minute' FROM generate_series(1, 1201) n`)
	p.sweep(t, 0)
	left := rows[string](t, p.pool, `SELECT format('%s memories, %s deletions on record, %s keys', (SELECT count(*) FROM memories),
		(SELECT count(*) FROM memory_history WHERE operation = 'deleted' AND actor = 'expiry'), (SELECT count(*) FROM idempotency_keys))`)
	if diff := cmp.Diff([]string{"1 memories, 600 deletions on record, 1 keys"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}
