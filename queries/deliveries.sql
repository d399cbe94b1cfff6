-- name: LeaseDeliveries :many
-- LeaseDeliveries takes due deliveries of an endpoint, oldest first. Until the
-- lease ends they are not due to anybody else; by then a living worker has
-- surely recorded the outcome. One without a webhook carries a batch. It takes none of an
-- endpoint that was changed, paused, disabled or deleted while its lane was at work.
-- Nobody waits for the disk: a lease that a crash of the database takes back is of an
-- attempt that is made again, and an outcome is written after its lease.
WITH due AS (
    SELECT d.id, d.outbox_id, (now() + @lease::interval)::timestamptz AS lease_end FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying') AND d.next_attempt_at <= now()
      AND EXISTS (SELECT FROM endpoints p WHERE p.id = @endpoint_id AND p.updated_at = @as_of AND p.deleted_at IS NULL AND (p.status = 'active' OR p.probing))
    ORDER BY d.next_attempt_at, d.id
    LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d
SET leased_until = due.lease_end, leased_by = @process::uuid, next_attempt_at = due.lease_end, attempts = d.attempts + 1
FROM due LEFT JOIN outbox o ON o.id = due.outbox_id
WHERE d.id = due.id AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
RETURNING d.id, d.outbox_id, d.batch_id, d.attempts, d.order_key, o.payload;

-- name: LeaseBatches :many
-- LeaseBatches takes due deliveries that carry a batch, as LeaseDeliveries does.
WITH due AS (
    SELECT d.id, (now() + @lease::interval)::timestamptz AS lease_end FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying') AND d.next_attempt_at <= now() AND d.outbox_id IS NULL
      AND EXISTS (SELECT FROM endpoints p WHERE p.id = @endpoint_id AND p.updated_at = @as_of AND p.deleted_at IS NULL AND (p.status = 'active' OR p.probing))
    ORDER BY d.next_attempt_at, d.id
    LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d
SET leased_until = due.lease_end, leased_by = @process::uuid, next_attempt_at = due.lease_end, attempts = d.attempts + 1
FROM due
WHERE d.id = due.id
RETURNING d.id, d.batch_id, d.attempts;

-- name: ListAbandoned :many
-- ListAbandoned returns the endpoints that requests are leased to by processes which
-- have not been seen for @gone_after. A process that was not seen itself, as after an
-- outage of the database, knows nothing of others.
SELECT DISTINCT p.id FROM endpoints p
JOIN deliveries d ON d.endpoint_id = p.id AND d.status IN ('pending', 'retrying') AND d.next_attempt_at > now() AND d.leased_until > now()
WHERE p.deleted_at IS NULL
  AND d.leased_by NOT IN (SELECT s.process FROM processes s WHERE s.seen_at > now() - @gone_after::interval)
  AND EXISTS (SELECT FROM processes me WHERE me.process = @process::uuid AND me.seen_at > now() - interval '3 seconds')
ORDER BY p.id;

-- name: EndAbandonedLeases :execrows
-- EndAbandonedLeases makes due what such processes have leased of an endpoint.
UPDATE deliveries d SET leased_until = NULL, next_attempt_at = now()
WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying') AND d.next_attempt_at > now() AND d.leased_until > now()
  AND d.leased_by NOT IN (SELECT s.process FROM processes s WHERE s.seen_at > now() - @gone_after::interval);

-- name: CountLeased :one
-- CountLeased returns how many requests to an endpoint are under way, and when the
-- first of their leases ends. What is leased is due when its lease ends.
SELECT count(*) AS leased, coalesce(min(leased_until), now())::timestamptz AS first_end FROM deliveries
WHERE endpoint_id = @endpoint_id AND status IN ('pending', 'retrying') AND next_attempt_at > now() AND leased_until > now();

-- name: LockDeliveries :many
-- LockDeliveries locks deliveries in the order of their ids.
SELECT id, status, attempts, failures, last_error FROM deliveries WHERE id = ANY (@ids::bigint[]) ORDER BY id FOR UPDATE;

-- name: UpdateDeliveries :exec
-- UpdateDeliveries writes what became of deliveries and ends their leases.
UPDATE deliveries d
SET status = n.status, failures = n.failures, last_error = n.last_error, leased_until = NULL,
    next_attempt_at = CASE WHEN n.status IN ('pending', 'retrying') THEN now() + n.delay_ms * interval '1 millisecond' ELSE d.next_attempt_at END,
    finished_at = CASE WHEN n.status NOT IN ('pending', 'retrying') THEN now() END
FROM (SELECT unnest(@ids::bigint[]) AS id, unnest(@statuses::text[]) AS status, unnest(@failures::int[]) AS failures,
             unnest(@last_errors::text[]) AS last_error, unnest(@delays_ms::bigint[]) AS delay_ms) AS n
WHERE d.id = n.id;

-- name: NextDelivery :one
-- NextDelivery returns when the next open delivery of an endpoint is due, now or
-- at the end of a lease; pgx.ErrNoRows when none is open.
SELECT next_attempt_at FROM deliveries
WHERE endpoint_id = @endpoint_id AND status IN ('pending', 'retrying')
ORDER BY next_attempt_at, id
LIMIT 1;

-- name: CancelDeliveries :execrows
-- CancelDeliveries ends open deliveries of an endpoint that is gone, a slice at a time,
-- but for those that carry what somebody held: nothing else leads to it.
UPDATE deliveries SET status = 'cancelled', finished_at = now(), leased_until = NULL
WHERE id IN (
    SELECT d.id FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying')
      AND (d.outbox_id IS NOT NULL OR NOT EXISTS (SELECT FROM deliveries m WHERE m.batch_id = d.batch_id AND m.status = 'batched'))
    ORDER BY d.id LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED);

-- name: CancelWaiting :execrows
-- CancelWaiting ends deliveries that wait for others of their user at an endpoint
-- that is gone, a slice at a time.
UPDATE deliveries SET status = 'cancelled', finished_at = now()
WHERE id IN (
    SELECT d.id FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.order_key IS NOT NULL AND d.status = 'waiting'
    ORDER BY d.id LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED);

-- name: CancelBatched :execrows
-- CancelBatched ends what open batches of an endpoint that is gone carry: before the
-- batches themselves, which lead to it.
UPDATE deliveries SET status = 'cancelled', finished_at = now()
WHERE id IN (
    SELECT m.id FROM deliveries m
    WHERE m.status = 'batched' AND m.outbox_id IS NOT NULL AND m.batch_id IN (
        SELECT c.batch_id FROM deliveries c
        WHERE c.endpoint_id = @endpoint_id AND c.outbox_id IS NULL AND c.status IN ('pending', 'retrying'))
    ORDER BY m.id LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED);

-- name: ReleaseWaiting :execrows
-- ReleaseWaiting lets deliveries go that wait for others of their user at an endpoint
-- that is not ordered any more, a slice at a time. They keep their time: what came
-- later does not go before them.
UPDATE deliveries SET status = 'pending', order_key = NULL
WHERE id IN (
    SELECT d.id FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.order_key IS NOT NULL AND d.status = 'waiting'
    ORDER BY d.id LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED);

-- name: PromoteWaiting :exec
-- PromoteWaiting makes the first of those that wait due, for each endpoint and key of
-- which nothing else is open. The endpoints are locked.
UPDATE deliveries d SET status = 'pending', next_attempt_at = now()
FROM (SELECT DISTINCT u.endpoint_id, u.order_key
      FROM (SELECT unnest(@endpoint_ids::uuid[]) AS endpoint_id, unnest(@order_keys::text[]) AS order_key) AS u) AS n
CROSS JOIN LATERAL (
    SELECT w.id FROM deliveries w
    WHERE w.endpoint_id = n.endpoint_id AND w.order_key = n.order_key AND w.status = 'waiting'
    ORDER BY w.id LIMIT 1) AS first
WHERE d.id = first.id
  AND NOT EXISTS (SELECT FROM deliveries o
                  WHERE o.endpoint_id = n.endpoint_id AND o.order_key = n.order_key AND o.status IN ('pending', 'retrying'));

-- name: PullDeliveriesForward :exec
-- PullDeliveriesForward makes due what waits for its next attempt at an endpoint that
-- has recovered: it failed because the endpoint did.
UPDATE deliveries SET next_attempt_at = now()
WHERE id IN (
    SELECT d.id FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.status = 'retrying' AND d.next_attempt_at > now() AND d.leased_until IS NULL
    ORDER BY d.next_attempt_at, d.id LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED);

-- name: NextMembers :one
-- NextMembers returns how many webhooks wait for a batch, at most as many as fill
-- one, since when the oldest does, and when the last of them is due.
SELECT count(*) AS members, coalesce(min(n.next_attempt_at), now())::timestamptz AS oldest,
       coalesce(max(n.next_attempt_at), now())::timestamptz AS last_due
FROM (SELECT d.next_attempt_at FROM deliveries d
      WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying') AND d.outbox_id IS NOT NULL
      ORDER BY d.next_attempt_at, d.id
      LIMIT @batch_size) AS n;

-- name: NextBatch :one
-- NextBatch returns when the next open batch of an endpoint is due; pgx.ErrNoRows
-- when none is open.
SELECT next_attempt_at FROM deliveries
WHERE endpoint_id = @endpoint_id AND outbox_id IS NULL AND status IN ('pending', 'retrying')
ORDER BY next_attempt_at, id
LIMIT 1;

-- name: LockMembers :many
-- LockMembers locks the oldest webhooks that wait for a batch, with the size of each
-- in bytes.
SELECT d.id, d.next_attempt_at, octet_length(o.payload)::int AS size, now()::timestamptz AS now
FROM deliveries d JOIN outbox o ON o.id = d.outbox_id
WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying') AND d.next_attempt_at <= now()
ORDER BY d.next_attempt_at, d.id
LIMIT @batch_size
FOR UPDATE OF d SKIP LOCKED;

-- name: InsertBatch :exec
-- InsertBatch makes the delivery that carries a batch, due when its oldest member was.
INSERT INTO deliveries (endpoint_id, batch_id, next_attempt_at) VALUES (@endpoint_id, @batch_id::uuid, @next_attempt_at);

-- name: JoinBatch :exec
UPDATE deliveries SET status = 'batched', batch_id = @batch_id::uuid, leased_until = NULL WHERE id = ANY (@ids::bigint[]);

-- name: ListBatchPayloads :many
-- ListBatchPayloads returns what batches carry, in their order.
SELECT d.batch_id::uuid AS batch_id, o.id AS outbox_id, o.payload FROM deliveries d JOIN outbox o ON o.id = d.outbox_id
WHERE d.batch_id = ANY (@batch_ids::uuid[])
ORDER BY d.batch_id, d.id;

-- name: FinishBatches :many
-- FinishBatches gives what batches carry the end that the batches had, and returns
-- how many that were.
WITH finished AS (
    UPDATE deliveries d
    SET status = n.status, last_error = n.last_error, finished_at = now()
    FROM (SELECT unnest(@batch_ids::uuid[]) AS batch_id, unnest(@statuses::text[]) AS status, unnest(@last_errors::text[]) AS last_error) AS n
    WHERE d.batch_id = n.batch_id AND d.outbox_id IS NOT NULL AND d.status = 'batched'
    RETURNING d.status)
SELECT status, count(*) AS members FROM finished GROUP BY status;

-- name: GetDelivery :one
SELECT * FROM deliveries WHERE id = @id;

-- name: DiscardDelivery :one
-- DiscardDelivery is a person's decision that a dead delivery needs no more; pgx.ErrNoRows when it is not dead.
UPDATE deliveries SET status = 'discarded' WHERE id = @id AND status = 'dead' RETURNING id;

-- name: LockDeliveriesOf :many
-- LockDeliveriesOf locks what an endpoint was told of these webhooks.
SELECT id, outbox_id::uuid AS outbox_id, status FROM deliveries
WHERE endpoint_id = @endpoint_id AND outbox_id = ANY (@outbox_ids::uuid[])
ORDER BY id FOR UPDATE;

-- name: ListBusyKeys :many
-- ListBusyKeys returns those order keys of an endpoint of which something is open, and
-- the latest of it that this redelivery has opened (0: nothing).
SELECT k.order_key::text AS order_key, b.latest
FROM (SELECT DISTINCT unnest(@order_keys::text[]) AS order_key) AS k
CROSS JOIN LATERAL (
    SELECT coalesce(max(d.id) FILTER (WHERE d.redelivery_id = @redelivery_id), 0)::bigint AS latest FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.order_key = k.order_key AND d.status IN ('pending', 'retrying', 'waiting')
    HAVING count(*) > 0) AS b;

-- name: OpenDeliveries :exec
-- OpenDeliveries makes final deliveries due with all their attempts, or waiting for
-- others of their key. What was attempted goes on counting, and the last error stays.
UPDATE deliveries d
SET status = n.status, failures = 0, next_attempt_at = now(), leased_until = NULL, finished_at = NULL, batch_id = NULL,
    order_key = nullif(n.order_key, ''), redelivery_id = @redelivery_id
FROM (SELECT unnest(@ids::bigint[]) AS id, unnest(@statuses::text[]) AS status, unnest(@order_keys::text[]) AS order_key) AS n
WHERE d.id = n.id;

-- name: InsertOpenDeliveries :exec
-- InsertOpenDeliveries makes deliveries of webhooks that an endpoint was never told of.
INSERT INTO deliveries (outbox_id, endpoint_id, status, order_key, redelivery_id)
SELECT n.outbox_id, @endpoint_id, n.status, nullif(n.order_key, ''), @redelivery_id
FROM (SELECT unnest(@outbox_ids::uuid[]) AS outbox_id, unnest(@statuses::text[]) AS status, unnest(@order_keys::text[]) AS order_key,
             generate_subscripts(@outbox_ids::uuid[], 1) AS position) AS n
ORDER BY n.position;

-- name: ListDeadToRecover :many
-- ListDeadToRecover returns webhooks whose delivery to an endpoint died in that time,
-- in the order of seq, but for those that this redelivery has opened or passed over.
SELECT o.id FROM deliveries d JOIN outbox o ON o.id = d.outbox_id
WHERE d.endpoint_id = @endpoint_id AND d.status = 'dead' AND d.finished_at BETWEEN @since::timestamptz AND @until::timestamptz
  AND d.redelivery_id IS DISTINCT FROM @redelivery_id
ORDER BY o.seq LIMIT @max_rows;

-- name: CountDeadToRecover :one
SELECT count(*) FROM deliveries d JOIN outbox o ON o.id = d.outbox_id
WHERE d.endpoint_id = @endpoint_id AND d.status = 'dead' AND d.finished_at BETWEEN @since::timestamptz AND @until::timestamptz AND o.payload IS NOT NULL;

-- name: PassOverDeliveries :exec
-- PassOverDeliveries notes which dead deliveries a redelivery cannot open: their
-- payload is gone.
UPDATE deliveries d SET redelivery_id = @redelivery_id
FROM outbox o
WHERE d.endpoint_id = @endpoint_id AND d.outbox_id = ANY (@outbox_ids::uuid[]) AND d.status = 'dead'
  AND o.id = d.outbox_id AND o.payload IS NULL;

-- name: CountRedelivering :one
-- CountRedelivering counts what a redelivery has opened and is still open, up to
-- @most: it is due or retried, waits for others of its user, or is in a batch.
SELECT count(*) FROM (
    SELECT 1 FROM deliveries
    WHERE redelivery_id = @redelivery_id::uuid AND status IN ('pending', 'retrying', 'waiting', 'batched')
    LIMIT @most) AS open;
