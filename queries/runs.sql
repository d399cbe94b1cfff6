-- name: InsertMemoryRun :one
-- InsertMemoryRun makes a run; pgx.ErrNoRows when one like it waits already.
INSERT INTO memory_runs (id, kind, user_id, dry_run, actor, request_id)
VALUES (@id, @kind, @user_id, @dry_run, @actor, @request_id)
ON CONFLICT (user_id, kind, dry_run) WHERE state = 'queued' DO NOTHING
RETURNING *;

-- name: GetQueuedMemoryRun :one
-- GetQueuedMemoryRun reads the run that waits, and keeps it waiting until this
-- transaction has ended: whoever is answered with it has asked before it begins.
SELECT * FROM memory_runs WHERE user_id = @user_id AND kind = @kind AND dry_run = @dry_run AND state = 'queued' FOR SHARE;

-- name: GetMemoryRun :one
SELECT * FROM memory_runs WHERE id = @id;

-- name: LockMemoryRun :one
SELECT * FROM memory_runs WHERE id = @id FOR UPDATE;

-- name: SetMemoryRunJobs :exec
UPDATE memory_runs r SET job_id = n.job_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE r.id = n.id;

-- name: AdvanceMemoryRun :exec
-- AdvanceMemoryRun writes where a run stands after a slice.
UPDATE memory_runs
SET state = 'running', phase = @phase, checkpoint = @checkpoint, progress = @progress, failures = 0, last_error = '', updated_at = now()
WHERE id = @id;

-- name: FailMemoryRunSlice :exec
-- FailMemoryRunSlice writes what kept a run from going on, and its next job;
-- updated_at stays when it last did.
UPDATE memory_runs SET failures = @failures, last_error = @last_error, job_id = @job_id::bigint WHERE id = @id;

-- name: EndMemoryRun :exec
UPDATE memory_runs
SET state = @state, phase = @phase, checkpoint = '{}', progress = @progress, last_error = @last_error, job_id = NULL,
    updated_at = now(), ended_at = now()
WHERE id = @id;

-- name: LockOrphanedMemoryRuns :many
-- LockOrphanedMemoryRuns finds runs whose one job is not live any more.
SELECT r.id, now()::timestamptz AS now FROM memory_runs r
WHERE r.state IN ('queued', 'running')
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = r.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY r.id
LIMIT @max_rows
FOR UPDATE OF r SKIP LOCKED;

-- name: DeleteOldMemoryRuns :execrows
DELETE FROM memory_runs WHERE id IN (
    SELECT o.id FROM memory_runs o WHERE o.ended_at < now() - @older_than::interval ORDER BY o.ended_at LIMIT @max_rows);

-- name: CountMemoriesToOptimize :one
-- CountMemoriesToOptimize counts what is remembered of a user, and those of it
-- that are looked at: what follows neither a record nor another memory system.
SELECT count(*) AS memories,
       count(*) FILTER (WHERE module IS NULL AND origin IS NULL AND (expires_at IS NULL OR expires_at > now())) AS comparable,
       count(*) FILTER (WHERE module IS NULL AND expires_at <= now()) AS expired
FROM memories WHERE user_id = @user_id;

-- name: LockExpiredMemories :many
-- LockExpiredMemories locks memories of a user whose time is up, in the order of their ids.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at
FROM memories WHERE id IN (
    SELECT e.id FROM memories e WHERE e.user_id = @user_id AND e.module IS NULL AND e.expires_at <= now() LIMIT @max_rows)
  AND expires_at <= now()
ORDER BY id
FOR UPDATE;

-- name: ListMemoriesToOptimize :many
-- ListMemoriesToOptimize reads a page of what may say the same as another, oldest
-- first, from behind a memory.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at, language::text AS language
FROM memories
WHERE user_id = @user_id AND module IS NULL AND origin IS NULL AND (expires_at IS NULL OR expires_at > now())
  AND created_at >= @after_at::timestamptz AND (created_at > @after_at::timestamptz OR id > @after_id::uuid)
ORDER BY created_at, id
LIMIT @max_rows;

-- name: ListMemoriesToCompare :many
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at, language::text AS language
FROM memories WHERE id = ANY (@ids::uuid[]) AND (expires_at IS NULL OR expires_at > now());

-- name: LockMemoriesToMerge :many
-- LockMemoriesToMerge locks memories in the order of their ids and reads them as
-- they are then; whoever holds one is waited for.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at, language::text AS language
FROM memories WHERE id = ANY (@ids::uuid[]) AND (expires_at IS NULL OR expires_at > now())
ORDER BY id
FOR UPDATE;

-- name: ListMarkedMemories :many
-- ListMarkedMemories returns the oldest of the memories that a run has seen under
-- each of the marks.
SELECT n.mark::bigint AS mark, s.memory_id
FROM (SELECT DISTINCT unnest(@marks::bigint[]) AS mark) AS n
CROSS JOIN LATERAL (
    SELECT m.memory_id FROM memory_marks m WHERE m.run_id = @run_id AND m.mark = n.mark ORDER BY m.memory_id LIMIT @most_each
) AS s;

-- name: InsertMemoryMarks :exec
INSERT INTO memory_marks (run_id, mark, memory_id)
SELECT @run_id, n.mark, n.memory_id
FROM (SELECT unnest(@marks::bigint[]) AS mark, unnest(@memory_ids::uuid[]) AS memory_id) AS n
ORDER BY n.mark, n.memory_id
ON CONFLICT DO NOTHING;

-- name: DeleteMemoryMarks :execrows
DELETE FROM memory_marks WHERE (run_id, mark, memory_id) IN (
    SELECT m.run_id, m.mark, m.memory_id FROM memory_marks m WHERE m.run_id = @run_id LIMIT @max_rows);
