-- name: LockRecords :many
-- LockRecords locks and reads those of the records that nobody else holds, in the order of their key.
SELECT r.module, r.record_id, r.account_id, r.data, r.field_times, r.modified_at, r.life_at, r.life_event_id, r.deleted_at, r.read_at
FROM records r
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = r.module AND k.record_id = r.record_id
ORDER BY r.module, r.record_id
FOR UPDATE OF r SKIP LOCKED;

-- name: InsertRecords :many
-- InsertRecords makes empty records, so that there is a row to lock. One that is
-- there already, or that another transaction has just made, is left out.
INSERT INTO records (module, record_id, account_id)
SELECT n.module, n.record_id, n.account_id
FROM (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id, unnest(@account_ids::text[]) AS account_id) AS n
ORDER BY n.module, n.record_id
ON CONFLICT DO NOTHING
RETURNING module, record_id;

-- name: UpdateRecords :exec
UPDATE records r
SET account_id = n.account_id, data = n.data, field_times = n.field_times,
    modified_at = nullif(n.modified_at, '0001-01-01 00:00:00+00'),
    life_at = nullif(n.life_at, '0001-01-01 00:00:00+00'), life_event_id = nullif(n.life_event_id, 0),
    deleted_at = nullif(n.deleted_at, '0001-01-01 00:00:00+00'), read_at = nullif(n.read_at, '0001-01-01 00:00:00+00'),
    updated_at = now()
FROM (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id, unnest(@account_ids::text[]) AS account_id,
             unnest(@data::jsonb[]) AS data, unnest(@field_times::jsonb[]) AS field_times,
             unnest(@modified_at::timestamptz[]) AS modified_at, unnest(@life_at::timestamptz[]) AS life_at,
             unnest(@life_event_ids::bigint[]) AS life_event_id, unnest(@deleted_at::timestamptz[]) AS deleted_at,
             unnest(@read_at::timestamptz[]) AS read_at) AS n
WHERE r.module = n.module AND r.record_id = n.record_id;

-- name: ListRecordsNotSeen :many
-- ListRecordsNotSeen returns what we take for an account's and its whole read has
-- not shown: it moved or is gone. In the order of the key, after one of them.
SELECT module, record_id FROM records
WHERE account_id = @account_id AND deleted_at IS NULL AND (read_at IS NULL OR read_at < @since)
  AND (module, record_id) > (@after_module::text, @after_id::text)
ORDER BY module, record_id
LIMIT @max_records;
