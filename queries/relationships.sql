-- name: ListRelationshipsOfRecords :many
-- ListRelationshipsOfRecords reads what the graph holds because of records; their
-- rows in records are locked by the caller, which locks these too.
SELECT r.id, r.user_id, r.source, r.relationship, r.target, r.confidence, r.module::text AS module, r.record_id::text AS record_id
FROM relationships r
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = r.module AND k.record_id = r.record_id;

-- name: LockRelationships :many
-- LockRelationships locks those lines that nobody else holds, in the order of their ids.
SELECT id, user_id, source, relationship, target, confidence, metadata, module, record_id, memory_id, created_at
FROM relationships WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR UPDATE SKIP LOCKED;

-- name: ListRelationshipIDs :many
-- ListRelationshipIDs returns which of the ids are lines of the graph, whoever holds them.
SELECT id FROM relationships WHERE id = ANY (@ids::uuid[]);

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
INSERT INTO relationships (id, user_id, source, relationship, target, confidence, metadata, module, record_id, memory_id)
SELECT n.id, n.user_id, n.source, n.relationship, n.target, n.confidence, n.metadata, nullif(n.module, ''), nullif(n.record_id, ''),
       nullif(n.memory_id, '00000000-0000-0000-0000-000000000000')
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@user_ids::text[]) AS user_id, unnest(@sources::text[]) AS source,
             unnest(@relationships::text[]) AS relationship, unnest(@targets::text[]) AS target,
             unnest(@confidences::real[]) AS confidence, unnest(@metadata::jsonb[]) AS metadata,
             unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id,
             unnest(@memory_ids::uuid[]) AS memory_id) AS n;
