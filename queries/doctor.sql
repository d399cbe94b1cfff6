-- What `memrelay doctor` looks at. None of it changes anything, takes a lock that
-- others wait for, or needs more rights than the program itself.

-- name: ExamineServer :one
-- ExamineServer returns what the server is, and the settings of it that matter.
SELECT current_setting('server_version')::text AS version,
       current_setting('server_version_num')::int AS version_number,
       current_setting('server_encoding')::text AS encoding,
       current_user::text AS role,
       pg_is_in_recovery()::boolean AS standby,
       (current_setting('default_transaction_read_only') = 'on')::boolean AS read_only,
       has_schema_privilege('public', 'CREATE')::boolean AS may_create,
       has_schema_privilege('public', 'public', 'CREATE')::boolean AS all_may_create,
       current_setting('fsync')::text AS fsync,
       current_setting('synchronous_commit')::text AS synchronous_commit,
       current_setting('full_page_writes')::text AS full_page_writes,
       current_setting('autovacuum')::text AS autovacuum,
       current_setting('track_counts')::text AS track_counts,
       current_setting('max_locks_per_transaction')::int AS max_locks,
       current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int AS reserved_connections,
       coalesce((SELECT d.datconnlimit FROM pg_catalog.pg_database d WHERE d.datname = current_database()), -1)::int AS database_connections,
       coalesce((SELECT r.rolconnlimit FROM pg_catalog.pg_roles r WHERE r.rolname = current_user), -1)::int AS role_connections,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a
        WHERE a.backend_type = 'client backend' AND coalesce(a.application_name, '') NOT LIKE 'memrelay %')::bigint AS others;

-- name: ListRoleSettings :many
-- ListRoleSettings returns what ALTER ROLE and ALTER DATABASE set for whoever connects
-- as we do, as name=value.
SELECT unnest(s.setconfig)::text AS setting FROM pg_catalog.pg_db_role_setting s
WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()))
  AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = current_user))
ORDER BY 1;

-- name: ListUnwritableTables :many
-- ListUnwritableTables returns the tables of ours that the role may not read and change.
SELECT c.relname::text AS name FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
           AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
ORDER BY c.relname;

-- name: ServerClock :one
SELECT clock_timestamp()::timestamptz AS now;

-- name: ReadBackend :one
-- ReadBackend returns which process of the server answers.
SELECT pg_backend_pid()::int AS pid;

-- name: CommitNothing :exec
-- CommitNothing gives the transaction something to put into the log, and so to wait for
-- at its commit, without a change of anything that is stored.
SELECT pg_logical_emit_message(true, 'memrelay doctor', '');

-- name: ListInvalidIndexes :many
-- ListInvalidIndexes returns indexes that cost writes and serve no query: what is left
-- of one whose building was cut off.
SELECT c.relname::text AS name, t.relname::text AS of_table
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
WHERE NOT i.indisvalid AND c.relnamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
ORDER BY c.relname;

-- name: ListUnvacuumedTables :many
-- ListUnvacuumedTables returns tables of which more is dead than alive, or that
-- autovacuum was told to leave alone.
SELECT s.relname::text AS name, s.n_dead_tup::bigint AS dead, s.n_live_tup::bigint AS live,
       (coalesce(c.reloptions::text, '') LIKE '%autovacuum_enabled=false%' OR coalesce(c.reloptions::text, '') LIKE '%autovacuum_enabled=off%')::boolean AS forbidden
FROM pg_catalog.pg_stat_user_tables s JOIN pg_catalog.pg_class c ON c.oid = s.relid
WHERE s.schemaname = 'public'
  AND ((s.n_dead_tup > @least_dead::bigint AND s.n_dead_tup > s.n_live_tup)
       OR coalesce(c.reloptions::text, '') LIKE '%autovacuum_enabled=false%' OR coalesce(c.reloptions::text, '') LIKE '%autovacuum_enabled=off%')
ORDER BY s.n_dead_tup DESC, s.relname;

-- name: ExamineVacuum :one
-- ExamineVacuum returns how old the oldest row is in transactions, of two billion at
-- most, and what keeps vacuum from its work: transactions that are open for long,
-- prepared ones, and replication slots that nobody reads.
SELECT (SELECT age(d.datfrozenxid) FROM pg_catalog.pg_database d WHERE d.datname = current_database())::bigint AS age,
       coalesce((SELECT extract(epoch FROM now() - min(a.xact_start)) FROM pg_catalog.pg_stat_activity a
                 WHERE a.datname = current_database() AND a.backend_type = 'client backend'), 0)::float8 AS open_seconds,
       (SELECT count(*) FROM pg_catalog.pg_prepared_xacts p WHERE p.database = current_database())::bigint AS prepared,
       (SELECT count(*) FROM pg_catalog.pg_replication_slots r WHERE NOT r.active)::bigint AS idle_slots;

-- name: DatabaseSize :one
SELECT pg_database_size(current_database())::bigint AS bytes;

-- name: ListLargestTables :many
-- ListLargestTables returns the largest tables with their indexes; partitions count as
-- the table they are of.
SELECT r.relname::text AS name, sum(pg_total_relation_size(c.oid))::bigint AS bytes
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_class r ON r.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid)
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
GROUP BY r.relname
ORDER BY 2 DESC, 1
LIMIT @max_tables;

-- name: DataDirectory :one
-- DataDirectory returns where the server keeps its data; only a role that may read all
-- settings is told.
SELECT current_setting('data_directory')::text AS path;

-- name: ExamineLeader :one
-- ExamineLeader returns who leads River, and for how long that is still known; both
-- empty when nobody does.
SELECT coalesce(max(l.leader_id), '')::text AS leader, coalesce(max(extract(epoch FROM l.expires_at - now())), 0)::float8 AS seconds
FROM river_leader l;

-- name: ListPausedQueues :many
SELECT q.name, q.paused_at::timestamptz AS paused_at, now()::timestamptz AS now FROM river_queue q WHERE q.paused_at IS NOT NULL ORDER BY q.name;

-- name: CountStuckJobs :one
-- CountStuckJobs counts jobs that run in processes which are not seen any more, and
-- have had the time to be rescued.
SELECT count(*) FROM river_job j
WHERE j.state = 'running' AND j.attempted_at < now() - interval '1 minute'
  AND j.attempted_by[array_upper(j.attempted_by, 1)] NOT IN (
      SELECT p.process::text FROM processes p WHERE p.seen_at > now() - interval '10 seconds');

-- name: ListLateQueues :many
-- ListLateQueues returns the queues that hold jobs which are due, how many of them (at
-- most 10,000), and for how long the oldest is.
SELECT k.queue::text AS queue, count(*)::bigint AS jobs, extract(epoch FROM now() - min(k.scheduled_at))::float8 AS seconds
FROM (SELECT j.queue, j.scheduled_at FROM river_job j WHERE j.state = 'available' AND j.scheduled_at <= now() LIMIT 10000) AS k
GROUP BY k.queue ORDER BY k.queue;

-- name: ListDiscardedJobs :many
SELECT j.kind::text AS kind, count(*)::bigint AS jobs, max(j.finalized_at)::timestamptz AS last_at
FROM river_job j WHERE j.state = 'discarded' GROUP BY j.kind ORDER BY j.kind;

-- name: ListProcesses :many
-- ListProcesses returns the processes that were seen lately.
SELECT p.process, p.host, p.workers, p.started_at FROM processes p WHERE p.seen_at > now() - interval '10 seconds' ORDER BY p.host, p.process;

-- name: CountDead :one
-- CountDead counts, to 10,000 at most, what waits for a person's decision.
SELECT (SELECT count(*) FROM (SELECT FROM events e WHERE e.status = 'dead' LIMIT 10000) AS e)::bigint AS events,
       (SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.status = 'dead' LIMIT 10000) AS d)::bigint AS deliveries;

-- name: ListOrphans :many
-- ListOrphans counts, by table, rows that have work and no live job: what the sweeper
-- looks for each minute.
WITH live AS (SELECT j.id, j.kind, j.args FROM river_job j WHERE j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled')),
found AS (
    SELECT 'events' AS name, count(*) AS orphans
    FROM (SELECT e.id FROM events e WHERE e.revision IS NULL AND e.status IN ('received', 'retrying')
          EXCEPT SELECT (l.args ->> 'event_id')::bigint FROM live l WHERE l.kind = 'process_event') AS o
    UNION ALL
    SELECT 'accounts', count(*) FROM accounts a
    WHERE (a.due_at IS NOT NULL OR a.wanted > a.done OR a.whole_since IS NOT NULL) AND NOT EXISTS (SELECT FROM live l WHERE l.id = a.job_id)
    UNION ALL
    SELECT 'outbox', count(*) FROM outbox o WHERE o.relayed_at IS NULL AND NOT EXISTS (SELECT FROM live l WHERE l.kind = 'relay')
    UNION ALL
    SELECT 'endpoints', count(*) FROM endpoints p
    WHERE (p.due_at IS NOT NULL OR p.wanted > p.done) AND NOT EXISTS (SELECT FROM live l WHERE l.id = p.job_id)
    UNION ALL
    SELECT 'mirrors', count(*) FROM mirrors m
    WHERE m.backend = @backend::text AND m.status <> 'synced' AND m.status <> 'dead' AND NOT EXISTS (SELECT FROM live l WHERE l.id = m.job_id)
    UNION ALL
    SELECT 'memory_runs', count(*) FROM memory_runs r
    WHERE r.state IN ('queued', 'running') AND NOT EXISTS (SELECT FROM live l WHERE l.id = r.job_id)
    UNION ALL
    SELECT 'redeliveries', count(*) FROM redeliveries r WHERE r.state = 'running' AND NOT EXISTS (SELECT FROM live l WHERE l.id = r.job_id)
)
SELECT f.name::text AS name, f.orphans::bigint AS orphans FROM found f WHERE f.orphans > 0 ORDER BY f.name;

-- name: ExamineOutbox :one
-- ExamineOutbox counts, to 10,000 at most, the webhooks that are not handed to their
-- endpoints yet, and says for how many seconds the first has waited.
SELECT count(*)::bigint AS waiting, coalesce(extract(epoch FROM now() - min(o.created_at)), 0)::float8 AS seconds
FROM (SELECT w.created_at FROM outbox w WHERE w.relayed_at IS NULL ORDER BY w.seq LIMIT 10000) AS o;

-- name: ExaminePayloads :one
-- ExaminePayloads returns the age of the oldest payload that is still kept, in seconds; 0 when there is none.
SELECT coalesce(extract(epoch FROM now() - (SELECT o.created_at FROM outbox o WHERE o.payload IS NOT NULL ORDER BY o.created_at, o.seq LIMIT 1)), 0)::float8 AS seconds;

-- name: ExaminePartitions :one
-- ExaminePartitions reports whether the bodies of this and of the next month have a
-- partition, and whether some came into the one for all others.
SELECT (to_regclass('event_bodies_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')) IS NOT NULL)::boolean AS this_month,
       (to_regclass('event_bodies_' || to_char((now() + interval '1 month') AT TIME ZONE 'UTC', 'YYYY_MM')) IS NOT NULL)::boolean AS next_month,
       EXISTS (SELECT FROM event_bodies_other)::boolean AS others;

-- name: ListOpenBreakers :many
-- ListOpenBreakers returns whom nobody calls at the moment, and why.
SELECT b.name, b.reason, b.opened_at, b.open_until::timestamptz AS open_until FROM breakers b WHERE b.open_until > now() ORDER BY b.name;
