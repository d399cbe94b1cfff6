-- name: GetOverview :one
-- GetOverview reads the memory of an account's own record; pgx.ErrNoRows when there is none.
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at
FROM memories
WHERE module = 'Accounts' AND record_id = @account_id::text AND (expires_at IS NULL OR expires_at > now());

-- name: CountRelationshipsOfUser :one
SELECT count(*) FROM relationships WHERE user_id = @user_id;

-- name: ListEventsOfAccount :many
-- ListEventsOfAccount reads what was told of an account, newest first.
SELECT id, event_id, module, operation, record_id, status, received_at
FROM events WHERE account_id = @account_id::text ORDER BY id DESC LIMIT @max_rows;

-- name: GetRelationshipUser :one
-- GetRelationshipUser returns whose a line of the graph is.
SELECT user_id FROM relationships WHERE id = @id;
