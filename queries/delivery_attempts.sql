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
