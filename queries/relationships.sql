-- name: ListRelationshipsOfRecords :many
-- ListRelationshipsOfRecords reads what the graph holds because of records; their
-- rows in records are locked by the caller, which locks these too.
SELECT r.id, r.user_id, r.source, r.relationship, r.target, r.confidence, r.module::text AS module, r.record_id::text AS record_id
FROM relationships r
JOIN (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
  ON k.module = r.module AND k.record_id = r.record_id;

-- name: DeleteRelationships :exec
DELETE FROM relationships WHERE id = ANY (@ids::uuid[]);

-- name: InsertRelationships :exec
INSERT INTO relationships (id, user_id, source, relationship, target, metadata, module, record_id)
SELECT unnest(@ids::uuid[]), unnest(@user_ids::text[]), unnest(@sources::text[]), unnest(@relationships::text[]),
       unnest(@targets::text[]), unnest(@metadata::jsonb[]), unnest(@modules::text[]), unnest(@record_ids::text[]);
