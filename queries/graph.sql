-- name: ListNeighbours :many
-- ListNeighbours reads the lines that begin or end at entities, the surest first,
-- at most so many of each end of each. Those of memories that have expired are left out.
SELECT DISTINCT l.id, l.user_id, l.source, l.relationship, l.target, l.confidence, l.metadata, l.module, l.record_id, l.memory_id, l.created_at
FROM (SELECT unnest(@entities::text[]) AS entity) AS e
CROSS JOIN LATERAL (
    (SELECT s.* FROM relationships s WHERE s.user_id = @user_id AND s.source = e.entity
        AND NOT EXISTS (SELECT FROM memories m WHERE m.id = s.memory_id AND m.expires_at <= now())
     ORDER BY s.confidence DESC, s.id LIMIT @most_each)
    UNION ALL
    (SELECT t.* FROM relationships t WHERE t.user_id = @user_id AND t.target = e.entity
        AND NOT EXISTS (SELECT FROM memories m WHERE m.id = t.memory_id AND m.expires_at <= now())
     ORDER BY t.confidence DESC, t.id LIMIT @most_each)
) AS l
ORDER BY l.confidence DESC, l.id
LIMIT @most_each;

-- name: ListGraph :many
-- ListGraph reads the lines of a user, without those of memories that have expired.
SELECT l.id, l.user_id, l.source, l.relationship, l.target, l.confidence, l.metadata, l.module, l.record_id, l.memory_id, l.created_at
FROM relationships l
WHERE l.user_id = @user_id AND NOT EXISTS (SELECT FROM memories m WHERE m.id = l.memory_id AND m.expires_at <= now())
ORDER BY l.source, l.id
LIMIT @max_rows;

-- name: CountGraph :one
-- CountGraph counts a user's lines, and what stands at their ends.
SELECT (SELECT count(*) FROM relationships l WHERE l.user_id = @user_id) AS relationships,
       (SELECT count(*) FROM (SELECT s.source FROM relationships s WHERE s.user_id = @user_id
                              UNION SELECT t.target FROM relationships t WHERE t.user_id = @user_id) AS ends) AS entities;

-- name: CountGraphSources :one
-- CountGraphSources counts what the graph of a user is derived from.
SELECT ((SELECT count(*) FROM records r WHERE r.account_id = @account_id)
    + (SELECT count(*) FROM memories m WHERE m.user_id = @user_id AND m.module IS NULL))::bigint AS sources;

-- name: ListRecordsForGraph :many
-- ListRecordsForGraph reads a page of an account's records, those that are gone too,
-- from behind one.
SELECT module, record_id, account_id, data, deleted_at FROM records
WHERE account_id = @account_id AND (module, record_id) > (@after_module::text, @after_record_id::text)
ORDER BY module, record_id
LIMIT @max_rows;

-- name: LockRecordsForGraph :many
-- LockRecordsForGraph locks records in the order of their key and reads them as they
-- are then; whoever holds one is waited for.
SELECT r.module, r.record_id, r.account_id, r.data, r.deleted_at
FROM records r
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = r.module AND k.record_id = r.record_id
ORDER BY r.module, r.record_id
FOR UPDATE OF r;

-- name: ListLinesOfRecords :many
-- ListLinesOfRecords reads what a user's graph holds because of records.
SELECT l.id, l.user_id, l.source, l.relationship, l.target, l.confidence, l.metadata, l.module, l.record_id, l.memory_id, l.created_at
FROM relationships l
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = l.module AND k.record_id = l.record_id
WHERE l.user_id = @user_id
ORDER BY l.id;

-- name: ListStrayLines :many
-- ListStrayLines reads lines of a user that records drew which are not the account's
-- any more.
SELECT l.id, l.user_id, l.source, l.relationship, l.target, l.confidence, l.metadata, l.module, l.record_id, l.memory_id, l.created_at
FROM relationships l
WHERE l.user_id = @user_id AND l.module IS NOT NULL
  AND NOT EXISTS (SELECT FROM records r WHERE r.module = l.module AND r.record_id = l.record_id AND r.account_id = @account_id)
ORDER BY l.id
LIMIT @max_rows;

-- name: ListMemoriesForGraph :many
-- ListMemoriesForGraph reads a page of a user's memories that follow no record,
-- oldest first, from behind one.
SELECT id, user_id, metadata, created_at, (expires_at IS NULL OR expires_at > now())::boolean AS alive
FROM memories
WHERE user_id = @user_id AND module IS NULL
  AND created_at >= @after_at::timestamptz AND (created_at > @after_at::timestamptz OR id > @after_id::uuid)
ORDER BY created_at, id
LIMIT @max_rows;

-- name: LockMemoriesForGraph :many
-- LockMemoriesForGraph locks memories in the order of their ids and reads them as
-- they are then; whoever holds one is waited for.
SELECT id, user_id, metadata, created_at, (expires_at IS NULL OR expires_at > now())::boolean AS alive
FROM memories WHERE id = ANY (@ids::uuid[])
ORDER BY id
FOR UPDATE;

-- name: ListLinesOfMemories :many
-- ListLinesOfMemories reads what was derived from memories.
SELECT l.id, l.user_id, l.source, l.relationship, l.target, l.confidence, l.metadata, l.module, l.record_id, l.memory_id, l.created_at
FROM relationships l WHERE l.memory_id = ANY (@memory_ids::uuid[]) ORDER BY l.id;

-- name: SetLines :exec
-- SetLines writes how sure lines are and what their ends are called.
UPDATE relationships l SET confidence = n.confidence, metadata = n.metadata
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@confidences::real[]) AS confidence, unnest(@metadata::jsonb[]) AS metadata) AS n
WHERE l.id = n.id;
