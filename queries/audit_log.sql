-- name: InsertAudit :exec
INSERT INTO audit_log (actor, action, object, details, request_id) VALUES (@actor, @action, @object, @details, @request_id);
