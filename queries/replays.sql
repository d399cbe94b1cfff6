-- name: NewestEvent :one
-- NewestEvent returns the greatest id of an event; 0 when there is none.
SELECT coalesce(max(id), 0)::bigint AS id, now()::timestamptz AS now FROM events;

-- name: ListEventsToReplay :many
-- ListEventsToReplay returns events between two ids that have ended and that the filter
-- wants, oldest first.
SELECT id FROM events
WHERE id > @after AND id <= @up_to AND status IN ('processed', 'ignored', 'dead', 'discarded')
  AND (sqlc.narg(status)::text IS NULL OR status = sqlc.narg(status))
  AND (sqlc.narg(source)::text IS NULL OR source = sqlc.narg(source))
  AND (sqlc.narg(module)::text IS NULL OR module = sqlc.narg(module))
  AND (sqlc.narg(operation)::text IS NULL OR operation = sqlc.narg(operation))
  AND (sqlc.narg(record_id)::text IS NULL OR record_id = sqlc.narg(record_id))
  AND (sqlc.narg(account_id)::text IS NULL OR account_id = sqlc.narg(account_id))
  AND (sqlc.narg(user_id)::text IS NULL OR user_id = sqlc.narg(user_id))
  AND (sqlc.narg(event_id)::text IS NULL OR event_id = sqlc.narg(event_id))
  AND (sqlc.narg(error)::text IS NULL OR strpos(lower(last_error), lower(sqlc.narg(error))) > 0)
  AND (sqlc.narg(since)::timestamptz IS NULL OR received_at >= sqlc.narg(since))
  AND (sqlc.narg(until)::timestamptz IS NULL OR received_at < sqlc.narg(until))
ORDER BY id
LIMIT @max_events;

-- name: CountEventsToReplay :one
-- CountEventsToReplay counts what ListEventsToReplay would return if it returned all.
SELECT count(*) FROM events
WHERE id > @after AND id <= @up_to AND status IN ('processed', 'ignored', 'dead', 'discarded')
  AND (sqlc.narg(status)::text IS NULL OR status = sqlc.narg(status))
  AND (sqlc.narg(source)::text IS NULL OR source = sqlc.narg(source))
  AND (sqlc.narg(module)::text IS NULL OR module = sqlc.narg(module))
  AND (sqlc.narg(operation)::text IS NULL OR operation = sqlc.narg(operation))
  AND (sqlc.narg(record_id)::text IS NULL OR record_id = sqlc.narg(record_id))
  AND (sqlc.narg(account_id)::text IS NULL OR account_id = sqlc.narg(account_id))
  AND (sqlc.narg(user_id)::text IS NULL OR user_id = sqlc.narg(user_id))
  AND (sqlc.narg(event_id)::text IS NULL OR event_id = sqlc.narg(event_id))
  AND (sqlc.narg(error)::text IS NULL OR strpos(lower(last_error), lower(sqlc.narg(error))) > 0)
  AND (sqlc.narg(since)::timestamptz IS NULL OR received_at >= sqlc.narg(since))
  AND (sqlc.narg(until)::timestamptz IS NULL OR received_at < sqlc.narg(until));

-- name: InsertReplay :one
-- InsertReplay makes a replay; pgx.ErrNoRows when its actor has one under that key.
INSERT INTO replays (id, filter, newest, position, per_second, matched, actor, idempotency_key, reason)
VALUES (@id, @filter, @newest, @position, @per_second, @matched, @actor, @idempotency_key, @reason)
ON CONFLICT (actor, idempotency_key) DO NOTHING
RETURNING *;

-- name: GetReplay :one
SELECT * FROM replays WHERE id = @id;

-- name: GetReplayByKey :one
SELECT * FROM replays WHERE actor = @actor AND idempotency_key = @idempotency_key::text;

-- name: ListReplays :many
-- ListReplays returns the newest first.
SELECT * FROM replays WHERE id < @before AND (sqlc.narg(state)::text IS NULL OR state = sqlc.narg(state)) ORDER BY id DESC LIMIT @max_rows;

-- name: LockReplay :one
SELECT *, now()::timestamptz AS now FROM replays WHERE id = @id FOR UPDATE;

-- name: AdvanceReplay :exec
-- AdvanceReplay writes how far a replay is after a slice, and when its next is due.
UPDATE replays SET position = @position, replayed = replayed + @replayed, refused = refused + @refused, paced_at = @paced_at WHERE id = @id;

-- name: SetReplayState :one
-- SetReplayState pauses a replay or lets it go on; its job, if any, is told apart by job_id.
UPDATE replays SET state = @state, job_id = NULL WHERE id = @id RETURNING *;

-- name: EndReplay :one
UPDATE replays SET state = @state, finished_at = now(), job_id = NULL WHERE id = @id RETURNING *;

-- name: SetReplayJobs :exec
UPDATE replays r SET job_id = n.job_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE r.id = n.id;

-- name: LockOrphanedReplays :many
-- LockOrphanedReplays finds replays that run and whose one job is not live any more.
SELECT r.id, now()::timestamptz AS now FROM replays r
WHERE r.state = 'running'
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = r.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY r.id
LIMIT @max_rows
FOR UPDATE OF r SKIP LOCKED;

-- name: LockEventsToReplay :many
-- LockEventsToReplay locks events in the order of their ids, and says which of them can be
-- run again: those that have ended, have a body, and that this replay has not run yet.
SELECT e.id, e.status,
       (e.status IN ('processed', 'ignored', 'dead', 'discarded')
        AND EXISTS (SELECT FROM event_bodies b WHERE b.event_id = e.id AND b.received_at = e.received_at)
        AND NOT EXISTS (SELECT FROM event_runs r WHERE r.event_id = e.id AND r.replay_id = @replay_id))::boolean AS can
FROM events e
WHERE e.id = ANY (@ids::bigint[])
ORDER BY e.id
FOR UPDATE OF e;

-- name: ResetEvents :exec
-- ResetEvents makes events as they were when they arrived.
UPDATE events
SET status = 'received', account_id = NULL, revision = NULL, routed_at = NULL, failures = 0, last_error = '', retry_at = NULL, processed_at = NULL
WHERE id = ANY (@ids::bigint[]);

-- name: InsertEventRuns :exec
INSERT INTO event_runs (event_id, replay_id)
SELECT n.id, @replay_id FROM (SELECT unnest(@ids::bigint[]) AS id) AS n ORDER BY n.id;
