-- name: InsertDeliveryAttempts :exec
-- InsertDeliveryAttempts records attempts whose outcome is known. One that is there stays as it is.
INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, error_class, error, dns, connect, tls, first_byte, total, response_head)
SELECT n.delivery_id, n.number, n.started_at, nullif(n.status_code, 0), n.error_class, n.error,
       n.dns_us * interval '1 microsecond', n.connect_us * interval '1 microsecond', n.tls_us * interval '1 microsecond',
       n.first_byte_us * interval '1 microsecond', n.total_us * interval '1 microsecond', n.response_head
FROM (SELECT unnest(@delivery_ids::bigint[]) AS delivery_id, unnest(@numbers::int[]) AS number,
             unnest(@started_at::timestamptz[]) AS started_at, unnest(@status_codes::int[]) AS status_code,
             unnest(@error_classes::text[]) AS error_class, unnest(@errors::text[]) AS error,
             unnest(@dns_us::bigint[]) AS dns_us, unnest(@connect_us::bigint[]) AS connect_us, unnest(@tls_us::bigint[]) AS tls_us,
             unnest(@first_byte_us::bigint[]) AS first_byte_us, unnest(@total_us::bigint[]) AS total_us,
             unnest(@response_heads::text[]) AS response_head) AS n
ON CONFLICT DO NOTHING;

-- name: RecordDelivered :one
-- RecordDelivered records attempts that have all arrived, at endpoints that are well:
-- it locks the deliveries in the order of their ids, ends those that are open, and says
-- how many. When one of the endpoints is not well it does nothing, and says so.
WITH known AS (
    SELECT NOT EXISTS (SELECT FROM endpoints p WHERE p.id = ANY (@endpoint_ids::uuid[])
                       AND (p.status <> 'active' OR p.failures > 0 OR p.resume_at IS NOT NULL)) AS well
), locked AS (
    SELECT d.id, d.status FROM deliveries d WHERE d.id = ANY (@delivery_ids::bigint[]) AND (SELECT well FROM known) ORDER BY d.id FOR UPDATE
), arrived AS (
    UPDATE deliveries d SET status = 'delivered', last_error = '', leased_until = NULL, finished_at = now()
    FROM locked l WHERE d.id = l.id AND l.status IN ('pending', 'retrying')
    RETURNING d.id
), kept AS (
    INSERT INTO delivery_attempts (delivery_id, number, started_at, status_code, error_class, error, dns, connect, tls, first_byte, total, response_head)
    SELECT n.delivery_id, n.number, n.started_at, nullif(n.status_code, 0), n.error_class, n.error,
           n.dns_us * interval '1 microsecond', n.connect_us * interval '1 microsecond', n.tls_us * interval '1 microsecond',
           n.first_byte_us * interval '1 microsecond', n.total_us * interval '1 microsecond', n.response_head
    FROM (SELECT unnest(@delivery_ids::bigint[]) AS delivery_id, unnest(@numbers::int[]) AS number,
                 unnest(@started_at::timestamptz[]) AS started_at, unnest(@status_codes::int[]) AS status_code,
                 unnest(@error_classes::text[]) AS error_class, unnest(@errors::text[]) AS error,
                 unnest(@dns_us::bigint[]) AS dns_us, unnest(@connect_us::bigint[]) AS connect_us, unnest(@tls_us::bigint[]) AS tls_us,
                 unnest(@first_byte_us::bigint[]) AS first_byte_us, unnest(@total_us::bigint[]) AS total_us,
                 unnest(@response_heads::text[]) AS response_head) AS n
    WHERE (SELECT well FROM known) AND EXISTS (SELECT FROM deliveries e WHERE e.id = n.delivery_id)
    ON CONFLICT DO NOTHING
)
SELECT k.well::boolean AS well, (SELECT count(*) FROM arrived)::bigint AS arrived FROM known k;
