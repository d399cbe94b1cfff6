-- name: InsertOutbox :exec
-- InsertOutbox stores webhooks in the order given: seq follows it.
INSERT INTO outbox (id, event, user_id, payload)
SELECT n.id, n.event, n.user_id, n.payload
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@events::text[]) AS event, unnest(@user_ids::text[]) AS user_id,
             unnest(@payloads::bytea[]) AS payload, generate_subscripts(@ids::uuid[], 1) AS position) AS n
ORDER BY n.position;

-- name: InsertOutboxOnce :many
-- InsertOutboxOnce stores those webhooks whose ids are not there, and returns these.
-- seq follows the order given; rows go in in the order of their ids, so that two
-- transactions that bring the same wait for each other instead of deadlocking.
INSERT INTO outbox (id, seq, event, user_id, payload)
SELECT n.id, n.seq, n.event, n.user_id, n.payload
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@events::text[]) AS event, unnest(@user_ids::text[]) AS user_id,
             unnest(@payloads::bytea[]) AS payload, nextval('outbox_seq_seq') AS seq) AS n
ORDER BY n.id
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: LockRelay :exec
-- LockRelay lets one relay work at a time, so that deliveries are made in the order of seq.
SELECT pg_advisory_xact_lock(hashtextextended('memrelay relay', 0));

-- name: ListOutboxToRelay :many
-- ListOutboxToRelay returns what waits to be relayed, in the order of seq, with the size of each payload in bytes.
SELECT id, seq, event, user_id, coalesce(octet_length(payload), 0)::int AS size FROM outbox WHERE relayed_at IS NULL ORDER BY seq LIMIT @max_rows;

-- name: ListPayloads :many
SELECT id, payload FROM outbox WHERE id = ANY (@ids::uuid[]);

-- name: MarkOutboxRelayed :exec
UPDATE outbox SET relayed_at = now() WHERE id = ANY (@ids::uuid[]);

-- name: HasOrphanedOutbox :one
-- HasOrphanedOutbox reports whether webhooks wait to be relayed while no live job will do it.
SELECT (EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)
    AND NOT EXISTS (SELECT FROM river_job WHERE kind = 'relay'
                    AND state IN ('available', 'pending', 'retryable', 'running', 'scheduled')))::boolean;

-- name: LockWebhooks :many
-- LockWebhooks keeps the payloads of webhooks from being forgotten until this
-- transaction has ended, and returns which are there, in the order of seq.
SELECT id, seq, user_id, (payload IS NOT NULL)::boolean AS kept FROM outbox WHERE id = ANY (@ids::uuid[]) ORDER BY seq FOR SHARE;

-- name: GetOutboxRange :one
-- GetOutboxRange returns the least and the greatest seq of the webhooks of a time that
-- still have their payload; both 0 when there are none. (OFFSET 0 keeps the planner
-- from walking all of the outbox by seq until it meets one of that time.)
SELECT coalesce(min(o.seq), 0)::bigint AS first, coalesce(max(o.seq), 0)::bigint AS last
FROM (SELECT seq FROM outbox WHERE payload IS NOT NULL AND created_at BETWEEN @since AND @until OFFSET 0) AS o;

-- name: GetFirstUnrelayed :one
-- GetFirstUnrelayed returns the least seq of the webhooks of a time that are not relayed yet; 0 when all are.
SELECT coalesce(min(seq), 0)::bigint FROM outbox WHERE relayed_at IS NULL AND created_at BETWEEN @since AND @until;

-- name: ListOutboxToReplay :many
-- ListOutboxToReplay returns relayed webhooks of a time in the order of seq, after one
-- position and up to another, and what became of them at an endpoint ("": nothing).
SELECT o.id, o.seq, o.event, o.user_id, (o.payload IS NOT NULL)::boolean AS kept, coalesce(d.status, '')::text AS status
FROM outbox o LEFT JOIN deliveries d ON d.outbox_id = o.id AND d.endpoint_id = @endpoint_id
WHERE o.seq > @after AND o.seq <= @up_to AND o.created_at BETWEEN @since AND @until AND o.relayed_at IS NOT NULL
  AND o.event = ANY (@events::text[])
ORDER BY o.seq
LIMIT @max_rows;

-- name: LockOldPayloads :many
-- LockOldPayloads locks relayed webhooks that are older, and of which nothing is open
-- or waits for somebody's decision, oldest first. It leaves those that somebody holds.
-- (OFFSET 0 has deliveries looked up one by one, whatever the planner thinks of it.)
SELECT o.id, o.created_at, o.seq FROM outbox o
WHERE o.payload IS NOT NULL AND o.created_at < now() - @older_than::interval AND o.relayed_at IS NOT NULL
  AND (o.created_at, o.seq) > (@after_created_at::timestamptz, @after_seq::bigint)
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.outbox_id = o.id AND d.status NOT IN ('delivered', 'cancelled', 'discarded') OFFSET 0)
ORDER BY o.created_at, o.seq
LIMIT @max_rows
FOR NO KEY UPDATE OF o SKIP LOCKED;

-- name: ForgetPayloads :many
-- ForgetPayloads deletes the payloads of locked webhooks, but for those of which
-- something was opened before they were locked.
UPDATE outbox o SET payload = NULL
WHERE o.id = ANY (@ids::uuid[])
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.outbox_id = o.id AND d.status NOT IN ('delivered', 'cancelled', 'discarded') OFFSET 0)
RETURNING o.id;

-- name: ForgetAnswers :exec
-- ForgetAnswers deletes what receivers answered to webhooks, also to the batches that carried them.
UPDATE delivery_attempts a SET response_head = ''
FROM (SELECT d.id FROM deliveries d WHERE d.outbox_id = ANY (@ids::uuid[])
      UNION
      SELECT c.id FROM deliveries m JOIN deliveries c ON c.batch_id = m.batch_id AND c.outbox_id IS NULL
      WHERE m.outbox_id = ANY (@ids::uuid[]) AND c.status NOT IN ('pending', 'retrying')) AS told
WHERE a.delivery_id = told.id AND a.response_head <> '';
