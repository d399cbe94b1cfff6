-- name: InsertOutbox :exec
-- InsertOutbox stores webhooks in the order given: seq follows it.
INSERT INTO outbox (id, event, user_id, payload)
SELECT n.id, n.event, n.user_id, n.payload
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@events::text[]) AS event, unnest(@user_ids::text[]) AS user_id,
             unnest(@payloads::bytea[]) AS payload, generate_subscripts(@ids::uuid[], 1) AS position) AS n
ORDER BY n.position;

-- name: LockRelay :exec
-- LockRelay lets one relay work at a time, so that deliveries are made in the order of seq.
SELECT pg_advisory_xact_lock(hashtextextended('memrelay relay', 0));

-- name: ListOutboxToRelay :many
SELECT id, seq, event FROM outbox WHERE relayed_at IS NULL ORDER BY seq LIMIT @max_rows;

-- name: MarkOutboxRelayed :exec
UPDATE outbox SET relayed_at = now() WHERE id = ANY (@ids::uuid[]);

-- name: HasOrphanedOutbox :one
-- HasOrphanedOutbox reports whether webhooks wait to be relayed while no live job will do it.
SELECT (EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)
    AND NOT EXISTS (SELECT FROM river_job WHERE kind = 'relay'
                    AND state IN ('available', 'pending', 'retryable', 'running', 'scheduled')))::boolean;
