-- name: ListMemoriesOfRecords :many
-- ListMemoriesOfRecords reads what is remembered of records; their rows in
-- records are locked by the caller, which locks these too.
SELECT m.id, m.user_id, m.account_id, m.module::text AS module, m.record_id::text AS record_id, m.kind, m.content, m.metadata, m.checksum
FROM memories m
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = m.module AND k.record_id = m.record_id;

-- name: DeleteMemories :exec
DELETE FROM memories WHERE id = ANY (@ids::uuid[]);

-- name: InsertMemories :exec
INSERT INTO memories (id, user_id, account_id, module, record_id, kind, content, metadata, checksum)
SELECT unnest(@ids::uuid[]), unnest(@user_ids::text[]), unnest(@account_ids::text[]), unnest(@modules::text[]),
       unnest(@record_ids::text[]), unnest(@kinds::text[]), unnest(@contents::text[]), unnest(@metadata::jsonb[]),
       unnest(@checksums::bytea[]);

-- name: UpdateMemories :exec
UPDATE memories m
SET kind = n.kind, content = n.content, metadata = n.metadata, checksum = n.checksum, updated_at = now()
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@kinds::text[]) AS kind, unnest(@contents::text[]) AS content,
             unnest(@metadata::jsonb[]) AS metadata, unnest(@checksums::bytea[]) AS checksum) AS n
WHERE m.id = n.id;
