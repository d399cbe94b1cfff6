-- name: FindEndpointToRedeliver :one
-- FindEndpointToRedeliver reads an endpoint by its id or name; pgx.ErrNoRows when
-- there is none, or it is gone.
SELECT sqlc.embed(p), now()::timestamptz AS now FROM endpoints p
WHERE p.deleted_at IS NULL AND (p.id::text = @which::text OR p.name = @which::text)
ORDER BY p.id::text = @which::text DESC LIMIT 1;

-- name: InsertRedelivery :one
INSERT INTO redeliveries (id, endpoint_id, kind, since, until, events, per_second, found, position, actor, reason)
VALUES (@id, @endpoint_id, @kind, @since, @until, @events, @per_second, @found, @position, @actor, @reason)
RETURNING *;

-- name: GetRedelivery :one
SELECT * FROM redeliveries WHERE id = @id;

-- name: ListRedeliveries :many
-- ListRedeliveries returns the newest of an endpoint first.
SELECT * FROM redeliveries WHERE endpoint_id = @endpoint_id ORDER BY id DESC LIMIT @max_rows;

-- name: LockRedelivery :one
SELECT *, now()::timestamptz AS now FROM redeliveries WHERE id = @id FOR UPDATE;

-- name: AdvanceRedelivery :exec
-- AdvanceRedelivery writes how far a redelivery is after a slice.
UPDATE redeliveries SET position = @position, opened = opened + @opened, skipped = skipped + @skipped WHERE id = @id;

-- name: EndRedelivery :one
UPDATE redeliveries SET state = @state, finished_at = now(), job_id = NULL WHERE id = @id RETURNING *;

-- name: SetRedeliveryJobs :exec
UPDATE redeliveries r SET job_id = n.job_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE r.id = n.id;

-- name: LockOrphanedRedeliveries :many
-- LockOrphanedRedeliveries finds redeliveries that run and whose one job is not live any more.
SELECT r.id, now()::timestamptz AS now FROM redeliveries r
WHERE r.state = 'running'
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = r.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY r.id
LIMIT @max_rows
FOR UPDATE OF r SKIP LOCKED;
