-- name: InsertAudit :exec
INSERT INTO audit_log (actor, action, object, details, request_id) VALUES (@actor, @action, @object, @details, @request_id);

-- name: ListAudit :many
-- ListAudit returns what was done, the newest first, of the ids from @floor on.
SELECT * FROM audit_log
WHERE id < @before AND id >= @floor
  AND (sqlc.narg(actor)::text IS NULL OR actor = sqlc.narg(actor))
  AND (sqlc.narg(action)::text IS NULL OR action = sqlc.narg(action))
  AND (sqlc.narg(since)::timestamptz IS NULL OR at >= sqlc.narg(since))
  AND (sqlc.narg(until)::timestamptz IS NULL OR at < sqlc.narg(until))
ORDER BY id DESC LIMIT @max_rows;

-- name: ListAuditOf :many
-- ListAuditOf returns what was done to one object, by audit_log_object_idx.
SELECT * FROM audit_log
WHERE object = @object AND id < @before
  AND (sqlc.narg(actor)::text IS NULL OR actor = sqlc.narg(actor))
  AND (sqlc.narg(action)::text IS NULL OR action = sqlc.narg(action))
  AND (sqlc.narg(since)::timestamptz IS NULL OR at >= sqlc.narg(since))
  AND (sqlc.narg(until)::timestamptz IS NULL OR at < sqlc.narg(until))
ORDER BY id DESC LIMIT @max_rows;

-- name: LastAuditID :one
SELECT coalesce(max(id), 0)::bigint FROM audit_log;

-- name: GetDeliveryStatus :one
-- GetDeliveryStatus is for what a line says of before and after.
SELECT status FROM deliveries WHERE id = @id;
