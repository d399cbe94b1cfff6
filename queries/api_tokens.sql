-- name: InsertToken :one
-- InsertToken keeps the hash of a token; no user_ids and everybody: it may see everybody's memories.
INSERT INTO api_tokens (id, name, hash, scopes, user_ids, expires_at)
VALUES (@id, @name, @hash, @scopes::text[], CASE WHEN @everybody::boolean THEN NULL ELSE @user_ids::text[] END, sqlc.narg(expires_at))
RETURNING created_at;

-- name: FindToken :one
-- FindToken returns the token with this hash that is good at that time; pgx.ErrNoRows when there is none.
SELECT id, name, scopes, coalesce(user_ids, '{}')::text[] AS user_ids, (user_ids IS NULL)::boolean AS everybody, expires_at, last_used_at
FROM api_tokens
WHERE hash = @hash AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > @now::timestamptz);

-- name: TouchToken :exec
-- TouchToken keeps when a token was last used, unless a use after before is on record.
UPDATE api_tokens SET last_used_at = @now WHERE id = @id AND (last_used_at IS NULL OR last_used_at <= @before::timestamptz);

-- name: ListTokens :many
-- ListTokens returns all tokens, revoked ones too, newest first; never their hashes.
SELECT id, name, scopes, coalesce(user_ids, '{}')::text[] AS user_ids, (user_ids IS NULL)::boolean AS everybody,
       created_at, expires_at, revoked_at, last_used_at
FROM api_tokens ORDER BY created_at DESC, id;

-- name: RevokeToken :one
-- RevokeToken ends the token of this name or id; pgx.ErrNoRows when none is there that was not revoked before.
UPDATE api_tokens SET revoked_at = @now
WHERE revoked_at IS NULL AND (name = @which::text OR id::text = @which::text)
RETURNING id, name;
