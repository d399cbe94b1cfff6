-- name: ClaimIdempotencyKeys :many
-- ClaimIdempotencyKeys takes the keys that were never used and returns them. A key
-- that another transaction is using is waited for.
INSERT INTO idempotency_keys (actor, key, digest)
SELECT n.actor, n.key, n.digest
FROM (SELECT unnest(@actors::text[]) AS actor, unnest(@keys::text[]) AS key, unnest(@digests::bytea[]) AS digest) AS n
ORDER BY n.actor, n.key
ON CONFLICT DO NOTHING
RETURNING actor, key;

-- name: ListIdempotencyKeys :many
SELECT k.actor, k.key, k.digest, k.answer
FROM idempotency_keys k
JOIN (SELECT unnest(@actors::text[]) AS actor, unnest(@keys::text[]) AS key) AS n ON n.actor = k.actor AND n.key = k.key;

-- name: AnswerIdempotencyKeys :exec
UPDATE idempotency_keys k SET answer = n.answer
FROM (SELECT unnest(@actors::text[]) AS actor, unnest(@keys::text[]) AS key, unnest(@answers::jsonb[]) AS answer) AS n
WHERE k.actor = n.actor AND k.key = n.key;

-- name: ReleaseIdempotencyKeys :exec
-- ReleaseIdempotencyKeys forgets keys whose question came to nothing.
DELETE FROM idempotency_keys k
USING (SELECT unnest(@actors::text[]) AS actor, unnest(@keys::text[]) AS key) AS n
WHERE k.actor = n.actor AND k.key = n.key;

-- name: DeleteOldIdempotencyKeys :execrows
DELETE FROM idempotency_keys WHERE (actor, key) IN (
    SELECT actor, key FROM idempotency_keys WHERE created_at < now() - interval '24 hours' ORDER BY created_at LIMIT @max_rows);
