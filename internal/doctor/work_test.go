package doctor

import (
	"testing"

	"github.com/memrelay/memrelay/internal/dbtest"
)

// node is a process that is alive, and leads.
const (
	nodeID = "0190a0a0-0000-7000-8000-000000000001"
	node   = `INSERT INTO processes (process, host, workers) VALUES ('` + nodeID + `', 'here', 10)`
	leader = `INSERT INTO river_leader (elected_at, expires_at, leader_id, name) VALUES (now(), now() + interval '1 hour', '` + nodeID + `', 'default')`
	event  = `INSERT INTO events (source, event_id, digest, module, operation, record_id, status, received_at) VALUES ('zoho', 'a', sha256('a'), 'Contacts', 'update', '1', `
	job    = `INSERT INTO river_job (kind, queue, args, max_attempts, state, attempted_by, attempted_at, finalized_at, scheduled_at) VALUES `
	told   = `INSERT INTO outbox (id, event, user_id, payload, created_at, relayed_at) VALUES (gen_random_uuid(), 'memory_added', 'u', '{}', `
)

func TestRiver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rows   []string
		status Status
		what   string
	}{
		{[]string{node, leader}, OK, "one of the nodes that work leads"},
		{[]string{node, leader}, OK, "the queues move"},
		{nil, Note, "nobody works the jobs"},
		{[]string{node}, Warning, "nobody leads"},
		{[]string{node, `INSERT INTO river_leader (elected_at, expires_at, leader_id, name) VALUES (now(), now() - interval '1 s', '` + nodeID + `', 'default')`}, Warning, "nobody leads"},
		{[]string{node, `INSERT INTO river_leader (elected_at, expires_at, leader_id, name) VALUES (now(), now() + interval '1 hour', 'another', 'default')`}, Warning, "not one of the nodes"},
		{[]string{`INSERT INTO river_queue (name, paused_at, updated_at) VALUES ('deliver', now() - interval '3 hours', now()), ('sync', NULL, now())`}, Warning, "the queue deliver has been paused for 3 hours"},
		{[]string{node, job + `('x', 'sync', '{}', 3, 'running', ARRAY['gone'], now() - interval '2 minutes', NULL, now())`}, Warning, "in processes that are gone: 1 job"},
		{[]string{node, leader, job + `('x', 'sync', '{}', 3, 'running', ARRAY['` + nodeID + `'], now() - interval '2 minutes', NULL, now())`}, OK, "the queues move"},
		{[]string{node, leader, job + `('x', 'sync', '{}', 3, 'running', ARRAY['gone'], now(), NULL, now())`}, OK, "the queues move"},
		{[]string{job + `('x', 'sync', '{}', 3, 'available', NULL, NULL, NULL, now() - interval '10 minutes')`}, Warning, "due in the queue sync: 1 job, the oldest for 10 minutes"},
		{[]string{job + `('x', 'sync', '{}', 3, 'available', NULL, NULL, NULL, now() + interval '10 minutes')`}, OK, "the queues move"},
		{[]string{job + `('x', 'sync', '{}', 3, 'discarded', NULL, NULL, now() - interval '5 hours', now())`}, Note, "discarded: 1 job of kind x, the last one 5 hours ago"},
		{[]string{`INSERT INTO river_job (kind, args, max_attempts, state, finalized_at) SELECT 'x', '{}', 3, 'discarded', now() FROM generate_series(1, 101)`}, Warning, "discarded: 101 jobs of kind x"},
	} {
		r := newRoom(t)
		r.exec(c.rows...)
		r.finds("river", c.status, c.what)
	}
}

func TestWork(t *testing.T) {
	t.Parallel()
	month := `(now() AT TIME ZONE 'UTC')`
	for _, c := range []struct {
		rows     []string
		settings []string
		status   Status
		what     string
	}{
		{nil, nil, OK, "what comes in is worked"},
		{[]string{event + `'received', now() - interval '10 minutes')`}, nil, Warning, "waiting to be routed: 1 event, the oldest for 10 minutes"},
		{[]string{event + `'received', now())`}, []string{"WEBHOOK_MAX_QUEUE_SIZE=1"}, Warning, "1 event of 1 after which senders are turned away"},
		{[]string{event + `'received', now())`}, nil, Warning, "with work and no job: 1 row of events"},
		{[]string{event + `'received', now())`, job + `('process_event', 'process', jsonb_build_object('event_id', (SELECT id FROM events)), 3, 'available', NULL, NULL, NULL, now())`}, nil, OK, "what comes in is worked"},
		{[]string{event + `'dead', now())`}, nil, Warning, "dead, and waiting for a decision: 1 event, 0 deliveries"},
		{[]string{told + `now() - interval '3 minutes', NULL)`}, nil, Warning, "waiting to be handed to endpoints: 1 webhook, the first for 3 minutes"},
		{[]string{told + `now() - interval '3 minutes', NULL)`}, nil, Warning, "with work and no job: 1 row of outbox"},
		{[]string{told + `now() - interval '100 days', now())`}, nil, Note, "there are payloads 100 days old"},
		{[]string{told + `now() - interval '100 days', now())`}, []string{"OUTBOUND_PAYLOAD_RETENTION=off"}, OK, "what comes in is worked"},
		{[]string{`INSERT INTO accounts (account_id, wanted) VALUES ('1', 2)`}, nil, Warning, "with work and no job: 1 row of accounts"},
		{[]string{`INSERT INTO endpoints (id, name, url, events, timeout, wanted) VALUES (gen_random_uuid(), 'a', 'https://a.example', '{}', '1 s', 3)`}, nil, Warning, "with work and no job: 1 row of endpoints"},
		{[]string{`INSERT INTO memory_runs (id, kind, user_id, dry_run, state, actor) VALUES (gen_random_uuid(), 'optimize', 'u', false, 'queued', 'a')`}, nil, Warning, "with work and no job: 1 row of memory_runs"},
		{[]string{`DO $$ BEGIN EXECUTE 'DROP TABLE event_bodies_' || to_char(` + month + `, 'YYYY_MM'); END $$`}, nil, Warning, "no partition for this month"},
		{[]string{`DO $$ BEGIN EXECUTE 'DROP TABLE IF EXISTS event_bodies_' || to_char((now() + interval '1 month') AT TIME ZONE 'UTC', 'YYYY_MM'); END $$`}, nil, Warning, "no partition for the next month"},
		{[]string{`INSERT INTO event_bodies (event_id, received_at, body_id, record) VALUES (1, '2001-01-01', 1, '{}')`}, nil, Warning, "lie in event_bodies_other"},
		{[]string{`INSERT INTO breakers (name, reason, opened_at, open_until) VALUES ('zoho', 'unavailable: it is away', now(), now() + interval '5 minutes')`}, nil, Warning, "zoho is not called for"},
		{[]string{`INSERT INTO breakers (name, reason, opened_at, open_until) VALUES ('zoho', 'unavailable', now(), now() - interval '5 minutes')`}, nil, OK, "what comes in is worked"},
	} {
		r := newRoom(t, c.settings...)
		// A template may be of last month.
		r.exec(`SELECT ensure_event_bodies_month(now()), ensure_event_bodies_month(now() + interval '1 month')`)
		r.exec(c.rows...)
		r.finds("work", c.status, c.what)
	}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	const many = `INSERT INTO processes (process, host, workers) SELECT gen_random_uuid(), 'there', 10 FROM generate_series(1, 1000)`
	for _, c := range []struct {
		rows   []string
		url    string // what DATABASE_URL says besides
		status Status
		what   string
	}{
		{nil, "", Note, "no node runs"},
		{[]string{node}, "", OK, "1 node on here, working: 1"},
		{[]string{`INSERT INTO processes (process, host, workers) VALUES (gen_random_uuid(), 'door', 0)`}, "", Warning, "none of them works"},
		{[]string{node, `UPDATE processes SET seen_at = now() - interval '1 minute'`}, "", Note, "no node runs"},
		{[]string{many}, "", Warning, "1000 nodes may open 42006 connections"},
		{[]string{many}, "&pool_max_conns=2", Warning, "1000 nodes may open 6006 connections"},
	} {
		r := newRoomAt(t, dbtest.URL(t)+c.url)
		r.url = r.url[:len(r.url)-len(c.url)]
		r.exec(c.rows...)
		r.finds("nodes", c.status, c.what)
	}
}
