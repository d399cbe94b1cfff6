-- name: BringDigest :one
-- BringDigest says that something was copied which is to be worked up: @quiet after
-- the last change, at most @longest after the first. A run that is under way ends
-- first.
INSERT INTO digests (backend, wanted, changed_at, due_at, state)
VALUES (@backend, 1, now(), now() + @quiet::interval, 'waiting')
ON CONFLICT (backend) DO UPDATE
SET wanted = digests.wanted + 1, changed_at = coalesce(digests.changed_at, now()),
    due_at = CASE WHEN digests.state IN ('idle', 'waiting') THEN least(coalesce(digests.changed_at, now()) + @longest::interval, now() + @quiet::interval)
                  ELSE digests.due_at END,
    state = CASE WHEN digests.state = 'idle' THEN 'waiting' ELSE digests.state END
RETURNING state, job_id, due_at, now()::timestamptz AS now;

-- name: SetDigestJob :exec
UPDATE digests SET job_id = @job_id::bigint WHERE backend = @backend;

-- name: LockDigest :one
SELECT *, clock_timestamp()::timestamptz AS now FROM digests WHERE backend = @backend FOR UPDATE;

-- name: GetDigest :one
SELECT * FROM digests WHERE backend = @backend;

-- name: BeginDigest :exec
-- BeginDigest begins a run with all that is wanted now.
UPDATE digests SET state = 'starting', taken = wanted, changed_at = NULL, due_at = NULL, started_at = clock_timestamp() WHERE backend = @backend;

-- name: CloseDigest :exec
-- CloseDigest writes what became of a step of a run.
UPDATE digests
SET state = @state, done = @done, due_at = sqlc.narg(due_at), job_id = sqlc.narg(job_id), failures = @failures, last_error = @last_error,
    completed_at = sqlc.narg(completed_at)
WHERE backend = @backend;

-- name: LockOrphanedDigest :many
-- LockOrphanedDigest finds the lane when it has work and its job is not live any more.
SELECT d.backend, d.due_at, now()::timestamptz AS now
FROM digests d
WHERE d.backend = @backend AND d.state <> 'idle'
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = d.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
FOR UPDATE OF d SKIP LOCKED;

-- name: MendDigest :exec
UPDATE digests SET due_at = @due_at::timestamptz, job_id = @job_id::bigint WHERE backend = @backend;
