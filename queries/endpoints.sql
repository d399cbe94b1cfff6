-- name: UpsertEndpoint :one
-- UpsertEndpoint makes the endpoint of this name what the settings say. One that
-- was disabled for its failures is tried again; one that a person paused stays so.
INSERT INTO endpoints (id, name, url, events, timeout, max_attempts, retry_delay)
VALUES (@id, @name, @url, @events, @timeout, @max_attempts, @retry_delay)
ON CONFLICT (name) WHERE deleted_at IS NULL DO UPDATE
SET url = excluded.url, events = excluded.events, timeout = excluded.timeout,
    max_attempts = excluded.max_attempts, retry_delay = excluded.retry_delay, updated_at = now(),
    status = CASE WHEN endpoints.status = 'disabled' THEN 'active' ELSE endpoints.status END,
    status_reason = CASE WHEN endpoints.status = 'disabled' THEN '' ELSE endpoints.status_reason END
RETURNING id;

-- name: DeleteEndpoint :many
-- DeleteEndpoint marks the endpoint of this name as gone and wakes its lane, which cancels what is open.
UPDATE endpoints SET deleted_at = now(), updated_at = now() WHERE name = @name AND deleted_at IS NULL RETURNING id;

-- name: GetEndpoint :one
SELECT * FROM endpoints WHERE id = @id;

-- name: ListWantedEvents :many
-- ListWantedEvents returns the events that somebody receives, or will once an endpoint is active again.
SELECT DISTINCT unnest(events)::text FROM endpoints WHERE deleted_at IS NULL;

-- name: LockEndpoints :many
-- LockEndpoints locks endpoints that are not gone, in the order of their ids.
SELECT id, events, status, wanted, job_id, now()::timestamptz AS now FROM endpoints
WHERE deleted_at IS NULL ORDER BY id FOR UPDATE;

-- name: LockEndpoint :one
-- LockEndpoint locks one endpoint, gone or not.
SELECT *, now()::timestamptz AS now FROM endpoints WHERE id = @id FOR UPDATE;

-- name: WakeEndpoints :exec
UPDATE endpoints p
SET wanted = n.wanted, due_at = n.due_at, job_id = n.job_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@wanted::bigint[]) AS wanted,
             unnest(@due_at::timestamptz[]) AS due_at, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE p.id = n.id;

-- name: TakeEndpoint :one
-- TakeEndpoint clears what is due of a lane that names this job; pgx.ErrNoRows when it names another.
UPDATE endpoints SET due_at = NULL WHERE id = @id AND job_id = @job_id::bigint AND (due_at IS NULL OR due_at <= now())
RETURNING *;

-- name: CloseEndpoint :exec
UPDATE endpoints SET wanted = @wanted, done = @done, due_at = @due_at, job_id = @job_id WHERE id = @id;

-- name: DisableEndpoint :exec
-- DisableEndpoint stops sending to an endpoint that is gone by its own word; its open deliveries are held.
UPDATE endpoints SET status = 'disabled', status_reason = @reason, updated_at = now() WHERE id = @id AND status = 'active';

-- name: LockOrphanedEndpoints :many
-- LockOrphanedEndpoints finds lanes with work whose one job is not live any more.
SELECT p.id, greatest(p.wanted, p.done + 1)::bigint AS wanted, p.due_at, now()::timestamptz AS now FROM endpoints p
WHERE (p.due_at IS NOT NULL OR p.wanted > p.done
       OR (p.status = 'active' AND EXISTS (SELECT FROM deliveries d WHERE d.endpoint_id = p.id AND d.status IN ('pending', 'retrying'))))
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = p.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY p.id
FOR UPDATE OF p SKIP LOCKED;
