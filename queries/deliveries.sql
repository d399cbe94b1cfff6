-- name: InsertDeliveries :exec
-- InsertDeliveries makes one delivery per webhook and endpoint; one that is there stays as it is.
INSERT INTO deliveries (outbox_id, endpoint_id)
SELECT n.outbox_id, n.endpoint_id
FROM (SELECT unnest(@outbox_ids::uuid[]) AS outbox_id, unnest(@endpoint_ids::uuid[]) AS endpoint_id,
             generate_subscripts(@outbox_ids::uuid[], 1) AS position) AS n
ORDER BY n.position
ON CONFLICT ON CONSTRAINT deliveries_outbox_id_endpoint_id_key DO NOTHING;

-- name: LeaseDeliveries :many
-- LeaseDeliveries takes due deliveries of an endpoint, oldest first. Until the
-- lease ends they are not due to anybody else; by then a living worker has
-- surely recorded the outcome.
WITH due AS (
    SELECT d.id, (now() + @lease::interval)::timestamptz AS lease_end FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying') AND d.next_attempt_at <= now()
    ORDER BY d.next_attempt_at, d.id
    LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d
SET leased_until = due.lease_end, next_attempt_at = due.lease_end, attempts = d.attempts + 1
FROM due, outbox o
WHERE d.id = due.id AND o.id = d.outbox_id
RETURNING d.id, d.outbox_id, d.attempts, o.seq, o.payload;

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
-- CancelDeliveries ends open deliveries of an endpoint that is gone, a slice at a time.
UPDATE deliveries SET status = 'cancelled', finished_at = now(), leased_until = NULL
WHERE id IN (
    SELECT d.id FROM deliveries d
    WHERE d.endpoint_id = @endpoint_id AND d.status IN ('pending', 'retrying')
    ORDER BY d.id LIMIT @max_deliveries
    FOR UPDATE SKIP LOCKED);

-- name: GetDelivery :one
SELECT * FROM deliveries WHERE id = @id;

-- name: RetryDelivery :one
-- RetryDelivery opens a dead delivery again with all its attempts; pgx.ErrNoRows when it is not dead.
UPDATE deliveries SET status = 'retrying', failures = 0, next_attempt_at = now(), leased_until = NULL, finished_at = NULL
WHERE id = @id AND status = 'dead' RETURNING endpoint_id;

-- name: DiscardDelivery :one
-- DiscardDelivery is a person's decision that a dead delivery needs no more; pgx.ErrNoRows when it is not dead.
UPDATE deliveries SET status = 'discarded' WHERE id = @id AND status = 'dead' RETURNING id;
