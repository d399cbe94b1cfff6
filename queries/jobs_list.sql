-- Queues and jobs as operators see them. River's own lists order by what no index of
-- ours has; these look at bounded numbers of rows, by its primary key and by
-- river_job_prioritized_fetching_index, whose order they ask for: else the planner of a
-- statement that is prepared takes to reading the whole table. For the same reason
-- limits stand here as numbers.

-- name: ListQueues :many
-- ListQueues returns the queues that nodes have worked lately.
SELECT name, paused_at, updated_at FROM river_queue ORDER BY name;

-- name: LockQueue :one
-- LockQueue returns when a queue was paused, and keeps others from changing that;
-- pgx.ErrNoRows when no node has worked it lately.
SELECT paused_at FROM river_queue WHERE name = @name FOR UPDATE;

-- name: CountQueueJobs :many
-- CountQueueJobs counts the jobs of each queue in each state, but no more than 10,000 of
-- one; available are those whose time has come, waiting those whose time has not, oldest_seconds how
-- long the first of the available ones waits.
SELECT n.queue::text AS queue,
       (SELECT count(*) FROM (SELECT FROM river_job j WHERE j.state = 'available' AND j.queue = n.queue AND j.scheduled_at <= now() ORDER BY j.priority, j.scheduled_at, j.id LIMIT 10000) AS w)::bigint AS available,
       (SELECT count(*) FROM (SELECT FROM river_job j WHERE j.state = 'available' AND j.queue = n.queue AND j.scheduled_at > now() ORDER BY j.priority, j.scheduled_at, j.id LIMIT 10000) AS w)::bigint AS waiting,
       (SELECT count(*) FROM (SELECT FROM river_job j WHERE j.state = 'running' AND j.queue = n.queue ORDER BY j.priority, j.scheduled_at, j.id LIMIT 10000) AS w)::bigint AS running,
       (SELECT count(*) FROM (SELECT FROM river_job j WHERE j.state = 'scheduled' AND j.queue = n.queue ORDER BY j.priority, j.scheduled_at, j.id LIMIT 10000) AS w)::bigint AS scheduled,
       (SELECT count(*) FROM (SELECT FROM river_job j WHERE j.state = 'retryable' AND j.queue = n.queue ORDER BY j.priority, j.scheduled_at, j.id LIMIT 10000) AS w)::bigint AS retryable,
       (SELECT count(*) FROM (SELECT FROM river_job j WHERE j.state = 'cancelled' AND j.queue = n.queue ORDER BY j.priority, j.scheduled_at, j.id LIMIT 10000) AS w)::bigint AS cancelled,
       (SELECT count(*) FROM (SELECT FROM river_job j WHERE j.state = 'discarded' AND j.queue = n.queue ORDER BY j.priority, j.scheduled_at, j.id LIMIT 10000) AS w)::bigint AS discarded,
       coalesce((SELECT extract(epoch FROM now() - min(w.scheduled_at)) FROM (SELECT j.scheduled_at FROM river_job j WHERE j.state = 'available' AND j.queue = n.queue AND j.scheduled_at <= now()
                 ORDER BY j.priority, j.scheduled_at, j.id LIMIT 1) AS w), 0)::float8 AS oldest_seconds
FROM (SELECT unnest(@queues::text[]) AS queue) AS n;

-- name: CountCompletedJobs :many
-- CountCompletedJobs counts what was completed in the last minute, or the newest 20,000
-- of it; span is how many seconds those took.
SELECT c.queue, count(*) AS completed,
       (CASE WHEN sum(count(*)) OVER () < 20000 THEN 60
             ELSE greatest(extract(epoch FROM now() - min(min(c.finalized_at)) OVER ()), 0.001) END)::float8 AS span
FROM (SELECT queue, finalized_at FROM river_job WHERE state = 'completed' AND finalized_at > now() - interval '1 minute'
      ORDER BY finalized_at DESC LIMIT 20000) AS c
GROUP BY c.queue;

-- name: LookAtJobs :many
-- LookAtJobs is the window of jobs before an id, the newest first.
SELECT id FROM river_job WHERE id < @before ORDER BY id DESC LIMIT 1000;

-- name: LookAtJobsIn :many
-- LookAtJobsIn returns up to 20,000 ids of a state, in the order of the index: when it returns fewer,
-- these are all.
SELECT id FROM river_job WHERE state = @state::river_job_state AND (sqlc.narg(queue)::text IS NULL OR queue = sqlc.narg(queue))
ORDER BY queue, priority, scheduled_at, id LIMIT 20000;

-- name: ListJobs :many
-- ListJobs returns those of a window that the filters want, the newest first.
SELECT j.id, j.kind, j.queue, j.state, j.args, j.attempt, j.max_attempts, j.created_at, j.scheduled_at, j.attempted_at, j.finalized_at,
       coalesce(array_length(j.errors, 1), 0)::integer AS failures,
       coalesce(j.errors[array_upper(j.errors, 1)] ->> 'error', '')::text AS last_error,
       coalesce(j.attempted_by[array_upper(j.attempted_by, 1)], '')::text AS process, coalesce(p.host, '')::text AS host
FROM river_job j
LEFT JOIN processes p ON p.process::text = j.attempted_by[array_upper(j.attempted_by, 1)]
WHERE j.id = ANY (@ids::bigint[])
  AND (sqlc.narg(kind)::text IS NULL OR j.kind = sqlc.narg(kind))
  AND (sqlc.narg(queue)::text IS NULL OR j.queue = sqlc.narg(queue))
  AND (sqlc.narg(state)::text IS NULL OR j.state::text = sqlc.narg(state))
ORDER BY j.id DESC LIMIT @max_jobs;

-- name: ListJobErrors :one
-- ListJobErrors returns what went wrong with a job, the last twenty times.
SELECT coalesce(to_jsonb(errors[greatest(array_upper(errors, 1) - 19, 1):]), '[]')::jsonb AS errors FROM river_job WHERE id = @id;
