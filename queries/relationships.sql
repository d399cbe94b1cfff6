-- name: ListRelationshipsOfRecords :many
-- ListRelationshipsOfRecords reads what the graph holds because of records; their
-- rows in records are locked by the caller, which locks these too.
SELECT r.id, r.user_id, r.source, r.relationship, r.target, r.confidence, r.module::text AS module, r.record_id::text AS record_id
FROM relationships r
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = r.module AND k.record_id = r.record_id;

-- name: TryLockLines :many
-- TryLockLines takes the right to draw and remove what agents draw between ends, and
-- returns which of the lines it got it of. A line that is not there has no row to lock.
SELECT n.line::text AS line
FROM (SELECT unnest(@lines::text[]) AS line) AS n
WHERE pg_try_advisory_xact_lock(hashtextextended('memrelay line ' || n.line, 0));

-- name: LockRelationships :many
-- LockRelationships locks, of the lines that FindRelationships finds, those that
-- nobody else holds.
SELECT id, user_id, source, relationship, target, confidence, metadata, module, record_id, memory_id, created_at
FROM relationships WHERE id IN (
    SELECT unnest(@ids::uuid[])
    UNION
    SELECT d.id FROM relationships d WHERE d.memory_id = ANY (@memory_ids::uuid[])
    UNION
    SELECT o.id FROM relationships o
    JOIN (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@sources::text[]) AS source, unnest(@relationships::text[]) AS relationship,
                 unnest(@targets::text[]) AS target) AS k
      ON k.user_id = o.user_id AND k.source = o.source AND k.relationship = o.relationship AND k.target = o.target
    WHERE o.module IS NULL AND o.memory_id IS NULL)
ORDER BY id FOR UPDATE SKIP LOCKED;

-- name: FindRelationships :many
-- FindRelationships finds lines whoever holds them: those with the ids, those that
-- were derived from memories, and those that agents have drawn between the ends.
SELECT id, user_id, source, relationship, target, memory_id
FROM relationships WHERE id IN (
    SELECT unnest(@ids::uuid[])
    UNION
    SELECT d.id FROM relationships d WHERE d.memory_id = ANY (@memory_ids::uuid[])
    UNION
    SELECT o.id FROM relationships o
    JOIN (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@sources::text[]) AS source, unnest(@relationships::text[]) AS relationship,
                 unnest(@targets::text[]) AS target) AS k
      ON k.user_id = o.user_id AND k.source = o.source AND k.relationship = o.relationship AND k.target = o.target
    WHERE o.module IS NULL AND o.memory_id IS NULL);

-- name: ListOwnRelationships :many
-- ListOwnRelationships reads those of the lines that an agent has drawn before.
SELECT r.id, r.user_id, r.source, r.relationship, r.target, r.confidence, r.metadata, r.module, r.record_id, r.memory_id, r.created_at
FROM relationships r
JOIN (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@sources::text[]) AS source, unnest(@relationships::text[]) AS relationship,
             unnest(@targets::text[]) AS target) AS k
  ON k.user_id = r.user_id AND k.source = r.source AND k.relationship = r.relationship AND k.target = r.target
WHERE r.module IS NULL AND r.memory_id IS NULL
ORDER BY r.id FOR UPDATE OF r;

-- name: DeleteRelationships :exec
DELETE FROM relationships WHERE id = ANY (@ids::uuid[]);

-- name: InsertRelationships :exec
INSERT INTO relationships (id, user_id, source, relationship, target, confidence, metadata, module, record_id, memory_id, created_at)
SELECT n.id, n.user_id, n.source, n.relationship, n.target, n.confidence, n.metadata, nullif(n.module, ''), nullif(n.record_id, ''),
       nullif(n.memory_id, '00000000-0000-0000-0000-000000000000'), coalesce(nullif(n.created_at, '0001-01-01 00:00:00+00'), now())
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@user_ids::text[]) AS user_id, unnest(@sources::text[]) AS source,
             unnest(@relationships::text[]) AS relationship, unnest(@targets::text[]) AS target,
             unnest(@confidences::real[]) AS confidence, unnest(@metadata::jsonb[]) AS metadata,
             unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id,
             unnest(@memory_ids::uuid[]) AS memory_id, unnest(@created_at::timestamptz[]) AS created_at) AS n;
