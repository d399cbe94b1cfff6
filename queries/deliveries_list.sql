-- A list looks at a window of 1,000 deliveries at a time, the newest first, and keeps
-- of it what its filters want: so no list reads the whole table, whatever it looks
-- for. Each window is read by an index, which is why there are several.

-- name: LookAtDeliveries :many
-- LookAtDeliveries is the window before an id.
SELECT id FROM deliveries WHERE id < @before AND id >= @since_id ORDER BY id DESC LIMIT 1000;

-- name: LookAtEndpointDeliveries :many
-- LookAtEndpointDeliveries is the window of one endpoint.
SELECT id FROM deliveries WHERE endpoint_id = @endpoint_id AND id < @before AND id >= @since_id ORDER BY id DESC LIMIT 1000;

-- name: LookAtDeadDeliveries :many
-- LookAtDeadDeliveries is the window of those that wait for a decision.
SELECT id FROM deliveries WHERE status = 'dead' AND id < @before AND id >= @since_id ORDER BY id DESC LIMIT 1000;

-- name: LookAtWebhookDeliveries :many
-- LookAtWebhookDeliveries is the window of one webhook.
SELECT id FROM deliveries WHERE outbox_id = @webhook_id::uuid AND id < @before ORDER BY id DESC LIMIT 1000;

-- name: LookAtUserDeliveries :many
-- LookAtUserDeliveries is the window of what one user's webhooks became: in the order
-- of the webhooks, and of one webhook in that of its deliveries.
SELECT d.id, o.seq FROM outbox o JOIN deliveries d ON d.outbox_id = o.id
WHERE o.user_id = @user_id AND o.seq <= @before_seq AND (o.seq < @before_seq OR d.id < @before)
ORDER BY o.seq DESC, d.id DESC LIMIT 1000;

-- name: FindDeliveryAt :one
-- FindDeliveryAt returns the id that the first delivery made at or after that time has,
-- or would have. Ids are given in the order of time, but for a few seconds; it halves
-- what is left, so that a list of last month's need not pass by this month's.
WITH RECURSIVE halves (low, high) AS (
    SELECT 0::bigint, coalesce(max(id), 0) + 1 FROM deliveries
    UNION ALL
    SELECT coalesce(n.earlier, n.low), CASE WHEN n.earlier IS NULL THEN n.middle ELSE n.high END
    FROM (SELECT h.low, h.high, (h.low + h.high) / 2 AS middle,
                 (SELECT CASE WHEN d.created_at < @at THEN d.id END FROM deliveries d
                  WHERE d.id >= (h.low + h.high) / 2 AND d.id < h.high ORDER BY d.id LIMIT 1) AS earlier
          FROM halves h WHERE h.high - h.low > 1) AS n
)
SELECT min(high)::bigint FROM halves;

-- name: ListDeliveries :many
-- ListDeliveries returns those of a window that the filters want, in its order: that of
-- the webhooks where it is a user's, which are found in that order. A delivery that
-- carries a batch has neither webhook, event nor user_id.
SELECT d.id, d.outbox_id AS webhook_id, d.endpoint_id, p.name AS endpoint, o.event, o.user_id, d.status, d.attempts, d.failures,
       d.next_attempt_at, d.last_error, d.batch_id, d.redelivery_id, d.created_at, d.finished_at
FROM deliveries d
JOIN endpoints p ON p.id = d.endpoint_id
LEFT JOIN outbox o ON o.id = d.outbox_id
WHERE d.id = ANY (@ids::bigint[])
  AND (sqlc.narg(endpoint_id)::uuid IS NULL OR d.endpoint_id = sqlc.narg(endpoint_id))
  AND (sqlc.narg(status)::text IS NULL OR d.status = sqlc.narg(status))
  AND (sqlc.narg(event)::text IS NULL OR o.event = sqlc.narg(event))
  AND (sqlc.narg(user_id)::text IS NULL OR o.user_id = sqlc.narg(user_id))
  AND (sqlc.narg(webhook_id)::uuid IS NULL OR d.outbox_id = sqlc.narg(webhook_id))
  AND (sqlc.narg(since)::timestamptz IS NULL OR d.created_at >= sqlc.narg(since))
  AND (sqlc.narg(until)::timestamptz IS NULL OR d.created_at < sqlc.narg(until))
ORDER BY CASE WHEN sqlc.narg(user_id)::text IS NULL THEN 0 ELSE o.seq END DESC, d.id DESC
LIMIT @max_deliveries;

-- name: FindEndpointID :one
-- FindEndpointID returns the id of the living endpoint of that name, or of any whose
-- id that is, gone or not; pgx.ErrNoRows when there is none.
SELECT id FROM endpoints WHERE (name = @which AND deleted_at IS NULL) OR id::text = @which ORDER BY deleted_at DESC NULLS FIRST LIMIT 1;

-- name: ShowDelivery :one
-- ShowDelivery returns a delivery with what it tells; the payload is NULL where there
-- is none any more, and where it carries a batch.
SELECT d.id, d.outbox_id AS webhook_id, d.endpoint_id, p.name AS endpoint, o.event, o.user_id, d.status, d.attempts, d.failures,
       d.next_attempt_at, d.last_error, d.batch_id, d.redelivery_id, d.created_at, d.finished_at, o.payload
FROM deliveries d
JOIN endpoints p ON p.id = d.endpoint_id
LEFT JOIN outbox o ON o.id = d.outbox_id
WHERE d.id = @id;

-- name: ListDeliveryAttempts :many
-- ListDeliveryAttempts returns the attempts whose outcome is known.
SELECT * FROM delivery_attempts WHERE delivery_id = @delivery_id ORDER BY number;

-- name: ListBatch :many
-- ListBatch returns a batch: the delivery that carries it has no webhook, its members have.
SELECT d.id, d.outbox_id AS webhook_id, o.event, o.user_id, d.status
FROM deliveries d LEFT JOIN outbox o ON o.id = d.outbox_id
WHERE d.batch_id = @batch_id::uuid
ORDER BY d.id;
