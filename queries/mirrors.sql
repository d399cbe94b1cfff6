-- name: WakeMirrors :many
-- WakeMirrors raises what is wanted of the lanes of memories, making those that
-- are not there. A memory that was dead is tried again: it is another one now.
INSERT INTO mirrors (backend, memory_id, user_id, wanted, due_at, waiting_since)
SELECT @backend::text, n.memory_id, n.user_id, 1, now(), now()
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@user_ids::text[]) AS user_id) AS n
ORDER BY n.memory_id
ON CONFLICT (memory_id, backend) DO UPDATE
SET wanted = mirrors.wanted + 1, due_at = least(mirrors.due_at, now()), failures = 0, failing_since = NULL, status = 'pending',
    waiting_since = coalesce(mirrors.waiting_since, now())
RETURNING memory_id, job_id, due_at::timestamptz AS due_at, now()::timestamptz AS now;

-- name: AdoptOrigins :exec
-- AdoptOrigins makes the memories that the other system told us of the copies of
-- ours, where nobody has done so.
INSERT INTO mirrors (backend, memory_id, user_id, remote_id)
SELECT @backend::text, n.memory_id, n.user_id, n.remote_id
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@user_ids::text[]) AS user_id, unnest(@remote_ids::text[]) AS remote_id) AS n
ORDER BY n.memory_id
ON CONFLICT DO NOTHING;

-- name: SetMirrorJobs :exec
UPDATE mirrors m SET job_id = n.job_id
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE m.backend = @backend AND m.memory_id = n.memory_id AND m.job_id IS DISTINCT FROM n.job_id;

-- name: LockMirrors :many
-- LockMirrors locks those of the lanes that nobody else holds, in the order of their ids.
SELECT memory_id, user_id, remote_id, adding_since, checksum, wanted, done, due_at, job_id, failures, waits, failing_since, tried_at,
       status, last_error, waiting_since, synced_at, now()::timestamptz AS now
FROM mirrors WHERE backend = @backend AND memory_id = ANY (@memory_ids::uuid[]) ORDER BY memory_id FOR UPDATE SKIP LOCKED;

-- name: ListMirrorIDs :many
-- ListMirrorIDs returns which of the memories have a lane, whoever holds it.
SELECT memory_id FROM mirrors WHERE backend = @backend AND memory_id = ANY (@memory_ids::uuid[]);

-- name: ListMemoriesToCopy :many
-- ListMemoriesToCopy reads memories as they are to be copied; those that are gone
-- or have expired are left out.
SELECT id, user_id, kind, content, metadata, origin, expires_at, checksum FROM memories_to_copy WHERE id = ANY (@ids::uuid[]);

-- name: TakeMirrors :exec
-- TakeMirrors clears what is due, and writes down which copies are about to be
-- made, and of which it is not known from now on what they hold: when the answer is
-- lost, this is all that is known of them.
UPDATE mirrors m
SET due_at = NULL, adding_since = CASE WHEN n.adding THEN coalesce(m.adding_since, now()) ELSE m.adding_since END,
    checksum = CASE WHEN n.changing THEN NULL ELSE m.checksum END
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@adding::boolean[]) AS adding, unnest(@changing::boolean[]) AS changing) AS n
WHERE m.backend = @backend AND m.memory_id = n.memory_id;

-- name: CloseMirrors :exec
-- CloseMirrors writes the end of attempts: what the copies are, and what is next.
UPDATE mirrors m
SET remote_id = nullif(n.remote_id, ''), adding_since = nullif(n.adding_since, '0001-01-01 00:00:00+00'), checksum = nullif(n.checksum, ''),
    done = n.done, due_at = nullif(n.due_at, '0001-01-01 00:00:00+00'), job_id = nullif(n.job_id, 0), failures = n.failures, waits = n.waits,
    failing_since = nullif(n.failing_since, '0001-01-01 00:00:00+00'), tried_at = nullif(n.tried_at, '0001-01-01 00:00:00+00'),
    status = n.status, last_error = n.last_error, waiting_since = nullif(n.waiting_since, '0001-01-01 00:00:00+00'),
    synced_at = nullif(n.synced_at, '0001-01-01 00:00:00+00')
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@remote_ids::text[]) AS remote_id,
             unnest(@adding_since::timestamptz[]) AS adding_since, unnest(@checksums::bytea[]) AS checksum,
             unnest(@done::bigint[]) AS done, unnest(@due_at::timestamptz[]) AS due_at, unnest(@job_ids::bigint[]) AS job_id,
             unnest(@failures::integer[]) AS failures, unnest(@waits::integer[]) AS waits,
             unnest(@failing_since::timestamptz[]) AS failing_since, unnest(@tried_at::timestamptz[]) AS tried_at,
             unnest(@statuses::text[]) AS status, unnest(@last_errors::text[]) AS last_error,
             unnest(@waiting_since::timestamptz[]) AS waiting_since, unnest(@synced_at::timestamptz[]) AS synced_at) AS n
WHERE m.backend = @backend AND m.memory_id = n.memory_id;

-- name: DoubtMirror :exec
-- DoubtMirror forgets what a copy holds, and has whoever makes one look first.
UPDATE mirrors SET checksum = NULL, adding_since = CASE WHEN remote_id IS NULL THEN now() END
WHERE backend = @backend AND memory_id = @memory_id;

-- name: DeleteMirrors :exec
-- DeleteMirrors ends lanes whose memory and copy are both gone.
DELETE FROM mirrors WHERE backend = @backend AND memory_id = ANY (@memory_ids::uuid[]);

-- name: HasSyncedSince :one
-- HasSyncedSince reports whether the other system took anything since then.
SELECT EXISTS (SELECT FROM mirrors WHERE backend = @backend AND synced_at > @since::timestamptz);

-- name: LockOrphanedMirrors :many
-- LockOrphanedMirrors finds lanes with work whose one job is not live any more.
SELECT m.memory_id, m.due_at, now()::timestamptz AS now
FROM mirrors m
WHERE m.backend = @backend AND m.status <> 'synced' AND m.status <> 'dead'
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = m.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY m.memory_id
LIMIT @max_rows
FOR UPDATE OF m SKIP LOCKED;

-- name: MendMirrors :exec
UPDATE mirrors m SET due_at = n.due_at, job_id = n.job_id
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@due_at::timestamptz[]) AS due_at, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE m.backend = @backend AND m.memory_id = n.memory_id;

-- name: CountMirrors :many
SELECT status, count(*) AS lanes, coalesce(min(waiting_since) FILTER (WHERE status <> 'dead'), '0001-01-01 00:00:00+00')::timestamptz AS waiting_since
FROM mirrors WHERE backend = @backend GROUP BY status;

-- name: ListDeadMirrors :many
-- ListDeadMirrors reads some of the lanes that were given up.
SELECT memory_id, user_id, failures, last_error, tried_at FROM mirrors
WHERE backend = @backend AND status <> 'synced' AND status = 'dead' ORDER BY memory_id LIMIT @max_rows;

-- name: CountOpenMirrors :one
-- CountOpenMirrors is for a look each few seconds: it reads only what is not done.
SELECT count(*) FILTER (WHERE status = 'dead') AS dead, count(*) FILTER (WHERE status <> 'dead') AS waiting
FROM mirrors WHERE backend = @backend AND status <> 'synced';

-- name: CompareMirrors :many
-- CompareMirrors holds memories against what is known of their copies, a page at a
-- time in the order of their ids.
SELECT m.id, m.user_id,
       (CASE WHEN r.memory_id IS NULL THEN 'missing' WHEN r.status = 'dead' THEN 'dead' WHEN r.status <> 'synced' THEN 'open'
             WHEN r.checksum IS DISTINCT FROM m.checksum THEN 'stale' ELSE 'same' END)::text AS state
FROM memories_to_copy m
LEFT JOIN mirrors r ON r.backend = @backend AND r.memory_id = m.id
WHERE m.id > @after::uuid AND (@user_id::text = '' OR m.user_id = @user_id::text)
  AND m.origin IS DISTINCT FROM @backend -- it has what it told us of
ORDER BY m.id
LIMIT @max_rows;

-- name: ListForsakenMirrors :many
-- ListForsakenMirrors finds lanes that have come to rest although their memory is gone.
SELECT r.memory_id, r.user_id FROM mirrors r
WHERE r.backend = @backend AND r.memory_id > @after::uuid AND (@user_id::text = '' OR r.user_id = @user_id::text)
  AND r.status IN ('synced', 'dead') AND NOT EXISTS (SELECT FROM memories_to_copy m WHERE m.id = r.memory_id)
ORDER BY r.memory_id
LIMIT @max_rows;

-- name: LookUpCopies :many
-- LookUpCopies says of ids that copies carry what we know of each: whether there is
-- such a memory, and its lane.
SELECT n.id::uuid AS id, (m.id IS NOT NULL)::boolean AS there, coalesce(m.user_id, r.user_id, '')::text AS user_id,
       m.checksum AS wanted_checksum, (r.memory_id IS NOT NULL)::boolean AS has_lane, r.remote_id, r.checksum,
       coalesce(r.status, '')::text AS status, (r.adding_since IS NOT NULL)::boolean AS adding
FROM (SELECT unnest(@ids::uuid[]) AS id) AS n
LEFT JOIN memories_to_copy m ON m.id = n.id
LEFT JOIN mirrors r ON r.backend = @backend AND r.memory_id = n.id;

-- name: AdoptCopies :execrows
-- AdoptCopies makes copies those of their memories that no lane knows. A lane that
-- has begun to make one is left alone: it looks for itself.
INSERT INTO mirrors (backend, memory_id, user_id, remote_id, checksum, status, synced_at)
SELECT @backend::text, n.memory_id, n.user_id, n.remote_id, nullif(n.checksum, ''), 'synced', now()
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@user_ids::text[]) AS user_id, unnest(@remote_ids::text[]) AS remote_id,
             unnest(@checksums::bytea[]) AS checksum) AS n
ORDER BY n.memory_id
ON CONFLICT (memory_id, backend) DO UPDATE SET remote_id = excluded.remote_id, checksum = excluded.checksum
WHERE mirrors.remote_id IS NULL AND mirrors.adding_since IS NULL;

-- name: DoubtCopies :exec
-- DoubtCopies forgets what copies hold that were changed by others.
UPDATE mirrors m SET checksum = NULL
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@remote_ids::text[]) AS remote_id) AS n
WHERE m.backend = @backend AND m.memory_id = n.memory_id AND m.remote_id = n.remote_id AND m.status = 'synced';

-- name: ForgetCopies :exec
-- ForgetCopies forgets copies that were removed by others. Whoever makes the next
-- one looks first.
UPDATE mirrors m SET remote_id = NULL, checksum = NULL, adding_since = now()
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@remote_ids::text[]) AS remote_id) AS n
WHERE m.backend = @backend AND m.memory_id = n.memory_id AND m.remote_id = n.remote_id AND m.status = 'synced';

-- name: ListRestingMirrors :many
-- ListRestingMirrors reads lanes at rest that had come to it before a time, and
-- know of a copy.
SELECT memory_id, user_id, remote_id::text AS remote_id FROM mirrors
WHERE backend = @backend AND memory_id > @after::uuid AND (@user_id::text = '' OR user_id = @user_id::text)
  AND status = 'synced' AND remote_id IS NOT NULL AND synced_at < @before::timestamptz
ORDER BY memory_id
LIMIT @max_rows;

-- name: ListMirroredUsers :many
-- ListMirroredUsers reads the users who have memories or copies, a page at a time.
SELECT user_id FROM (SELECT m.user_id FROM memories m UNION SELECT r.user_id FROM mirrors r WHERE r.backend = @backend) AS u
WHERE user_id > @after::text ORDER BY user_id LIMIT @max_rows;

-- name: DatabaseTime :one
SELECT clock_timestamp()::timestamptz;

-- name: LookFirst :exec
-- LookFirst has whoever makes these copies look for one first.
UPDATE mirrors SET adding_since = now()
WHERE backend = @backend AND memory_id = ANY (@memory_ids::uuid[]) AND remote_id IS NULL AND adding_since IS NULL;
