-- name: TransactionTime :one
-- TransactionTime returns when the transaction began: what its rows are created at.
SELECT now()::timestamptz;

-- name: ListMemoriesOfRecords :many
-- ListMemoriesOfRecords reads what is remembered of records; their rows in
-- records are locked by the caller, which locks these too.
SELECT m.id, m.user_id, m.account_id, m.module::text AS module, m.record_id::text AS record_id, m.kind, m.content, m.metadata,
       m.created_at, m.updated_at
FROM memories m
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = m.module AND k.record_id = m.record_id;

-- name: LockMemories :many
-- LockMemories locks those memories that nobody else holds, in the order of their ids.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at
FROM memories WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED;

-- name: ListMemoryIDs :many
-- ListMemoryIDs returns which of the ids are memories, whoever holds them.
SELECT id FROM memories WHERE id = ANY (@ids::uuid[]);

-- name: GetMemory :one
-- GetMemory reads a memory that has not expired.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at
FROM memories WHERE id = @id AND (expires_at IS NULL OR expires_at > now());

-- name: ListMemories :many
-- ListMemories reads a page of a user's memories, newest first, from behind the
-- one that a cursor names; the first page is behind a time to come.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at
FROM memories
WHERE user_id = @user_id AND (@kind::text = '' OR kind = @kind::text)
  AND (expires_at IS NULL OR expires_at > now())
  AND created_at <= @created_at::timestamptz AND (created_at < @created_at::timestamptz OR id > @id::uuid)
ORDER BY created_at DESC, id
LIMIT @max_rows;

-- name: ListMemoriesOfAccount :many
-- ListMemoriesOfAccount reads what is remembered about an account, what changed last first.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at
FROM memories
WHERE account_id = @account_id::text AND (expires_at IS NULL OR expires_at > now())
ORDER BY updated_at DESC, id
LIMIT @max_rows;

-- name: ListOwnMemoryIDs :many
-- ListOwnMemoryIDs returns some of the memories of a user that no record stands behind.
SELECT id FROM memories WHERE user_id = @user_id AND module IS NULL ORDER BY created_at DESC, id LIMIT @max_rows;

-- name: CountMemoriesOfRecords :one
-- CountMemoriesOfRecords counts the memories of a user that a record stands behind.
SELECT count(*) FROM memories WHERE user_id = @user_id AND module IS NOT NULL;

-- name: ListExpiredMemoryIDs :many
SELECT id FROM memories WHERE expires_at <= now() ORDER BY expires_at LIMIT @max_rows;

-- name: DeleteMemories :exec
DELETE FROM memories WHERE id = ANY (@ids::uuid[]);

-- name: InsertMemories :exec
INSERT INTO memories (id, user_id, account_id, module, record_id, kind, content, metadata, checksum, origin, origin_id, expires_at)
SELECT n.id, n.user_id, nullif(n.account_id, ''), nullif(n.module, ''), nullif(n.record_id, ''), n.kind, n.content, n.metadata,
       n.checksum, nullif(n.origin, ''), nullif(n.origin_id, ''), nullif(n.expires_at, '0001-01-01 00:00:00+00')
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@user_ids::text[]) AS user_id, unnest(@account_ids::text[]) AS account_id,
             unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id, unnest(@kinds::text[]) AS kind,
             unnest(@contents::text[]) AS content, unnest(@metadata::jsonb[]) AS metadata, unnest(@checksums::bytea[]) AS checksum,
             unnest(@origins::text[]) AS origin, unnest(@origin_ids::text[]) AS origin_id,
             unnest(@expires_at::timestamptz[]) AS expires_at) AS n;

-- name: UpdateMemories :exec
UPDATE memories m
SET kind = n.kind, content = n.content, metadata = n.metadata, checksum = n.checksum,
    expires_at = nullif(n.expires_at, '0001-01-01 00:00:00+00'), updated_at = now()
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@kinds::text[]) AS kind, unnest(@contents::text[]) AS content,
             unnest(@metadata::jsonb[]) AS metadata, unnest(@checksums::bytea[]) AS checksum,
             unnest(@expires_at::timestamptz[]) AS expires_at) AS n
WHERE m.id = n.id;
