-- What River's own API cannot do set-based or in our transaction. Pinned to
-- River's schema version by migrations.RiverVersion and its test.
--
-- "IS NOT DISTINCT FROM" is "=" that no index serves: each job is looked up by its
-- id. An index on state would have Postgres walk all that ran and are not yet
-- vacuumed (measured: 6.5 ms for 20 jobs in the middle of a drain).

-- name: ListJobStates :many
SELECT id, state FROM river_job WHERE id = ANY (@ids::bigint[]);

-- name: PullJobsForward :exec
-- PullJobsForward lets waiting jobs run at the earlier time, and before those of lower
-- priority when one of their own asks for that. One that runs already is left: it looks
-- at its row again before it ends.
UPDATE river_job j
SET state = 'available', scheduled_at = least(j.scheduled_at, n.due_at), priority = least(j.priority, n.priority)
FROM (SELECT unnest(@ids::bigint[]) AS id, unnest(@due_at::timestamptz[]) AS due_at, unnest(@priorities::smallint[]) AS priority) AS n
WHERE j.id = n.id AND j.state IN ('available', 'scheduled', 'retryable')
  AND (j.scheduled_at > n.due_at OR j.priority > n.priority OR j.state <> 'available');

-- name: DelayJobs :exec
-- DelayJobs makes jobs of this transaction wait until their time. Waiting as
-- available is precise to the poll interval; waiting as scheduled would be to
-- the leader's tick of 5 seconds.
UPDATE river_job j
SET scheduled_at = n.due_at
FROM (SELECT unnest(@ids::bigint[]) AS id, unnest(@due_at::timestamptz[]) AS due_at) AS n
WHERE j.id = n.id AND j.state IS NOT DISTINCT FROM 'available';

-- name: InsertRunningJobs :many
-- InsertRunningJobs makes jobs that a process works without being handed them, and
-- returns their ids in the same order. When it is gone they are rescued like all others.
WITH new AS MATERIALIZED (
    SELECT nextval('river_job_id_seq') AS id, u.*
    FROM (SELECT unnest(@kinds::text[]) AS kind, unnest(@args::jsonb[]) AS args, unnest(@queues::text[]) AS queue,
                 unnest(@max_attempts::smallint[]) AS max_attempts, unnest(@priorities::smallint[]) AS priority, generate_subscripts(@kinds::text[], 1) AS position) AS u
), made AS (
    INSERT INTO river_job (id, kind, args, queue, max_attempts, priority, state, attempt, attempted_at, attempted_by)
    SELECT id, kind, args, queue, max_attempts, priority, 'running', 1, now(), ARRAY[@process::text] FROM new
)
SELECT id::bigint AS id FROM new ORDER BY position;

-- name: ReturnJob :exec
-- ReturnJob gives a claimed job to the queue, where it is worked a second later. One
-- that was rescued meanwhile is another's.
UPDATE river_job SET state = 'available', scheduled_at = now() + interval '1 second', attempt = 0
WHERE id = @id AND state IS NOT DISTINCT FROM 'running' AND attempted_by = ARRAY[@process::text];

-- name: CompleteJobs :exec
-- CompleteJobs ends jobs in the transaction of their effect. A job that does not
-- run any more was taken from its worker; its next attempt finds the effect.
UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = ANY (@ids::bigint[]) AND state IS NOT DISTINCT FROM 'running';

-- name: RescueJobs :execrows
-- RescueJobs gives back the jobs of processes that have not been seen for
-- @gone_after: they crashed. River would find out by each job's time limit, which
-- takes up to a minute longer. The attempt does not count, for nobody failed. One
-- that was not seen itself, as after an outage of the database, knows nothing of others.
UPDATE river_job
SET state = 'available', scheduled_at = now(), attempt = greatest(attempt - 1, 0)
WHERE state = 'running'
  AND attempted_by[array_upper(attempted_by, 1)] NOT IN (
      SELECT p.process::text FROM processes p WHERE p.seen_at > now() - @gone_after::interval)
  AND EXISTS (SELECT FROM processes me WHERE me.process = @process AND me.seen_at > now() - interval '3 seconds');

-- name: TryLockSweep :one
-- TryLockSweep reports whether this transaction is the one that sweeps now.
SELECT pg_try_advisory_xact_lock(hashtextextended('memrelay sweep', 0));

-- name: AllowHashJoins :exec
-- AllowHashJoins lets this transaction compare whole sets, on a pool whose planner is told not to.
SELECT set_config('enable_hashjoin', 'on', true);
