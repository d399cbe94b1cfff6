-- Figures of a window of time. None of these statements reads more than some thousand
-- rows, however many there are: rates come of sums that were kept, all else of a sample
-- of ids that the caller spreads over the window.

-- name: KeepCounterSample :exec
-- KeepCounterSample keeps the sums of this quarter of a minute, unless somebody has.
INSERT INTO counter_samples (bin, sums)
SELECT date_bin('15 seconds', now(), 'epoch'), jsonb_object_agg(s.name, s.value)
FROM (SELECT c.name, (CASE WHEN starts_with(c.name, 'last_') THEN max(c.value) ELSE sum(c.value) END)::bigint AS value
      FROM counters c GROUP BY c.name) AS s
WHERE NOT EXISTS (SELECT FROM counter_samples k WHERE k.bin = date_bin('15 seconds', now(), 'epoch'))
HAVING count(*) > 0
ON CONFLICT DO NOTHING;

-- name: DropCounterSamples :exec
DELETE FROM counter_samples WHERE bin < now() - interval '25 hours';

-- name: GetCounterSample :one
-- GetCounterSample returns the first sums that were kept since a time, and how long ago
-- that was by the database's clock; pgx.ErrNoRows when there are none.
SELECT at, (now() - at)::interval AS age, sums FROM counter_samples WHERE at >= @since ORDER BY bin LIMIT 1;

-- name: FindEventWindow :one
-- FindEventWindow returns the id that the first event received at or after that time has,
-- or would have, and the greatest id there is. It halves what is left, as FindDeliveryAt.
WITH RECURSIVE halves (low, high) AS (
    SELECT 0::bigint, coalesce(max(id), 0) + 1 FROM events
    UNION ALL
    SELECT coalesce(n.earlier, n.low), CASE WHEN n.earlier IS NULL THEN n.middle ELSE n.high END
    FROM (SELECT h.low, h.high, (h.low + h.high) / 2 AS middle,
                 (SELECT CASE WHEN e.received_at < @at THEN e.id END FROM events e
                  WHERE e.id >= (h.low + h.high) / 2 AND e.id < h.high ORDER BY e.id LIMIT 1) AS earlier
          FROM halves h WHERE h.high - h.low > 1) AS n
)
SELECT min(high)::bigint AS first, (max(high) - 1)::bigint AS last FROM halves;

-- name: LastDeliveryID :one
SELECT coalesce(max(id), 0)::bigint FROM deliveries;

-- name: SampleEvents :many
-- SampleEvents says of the events among these ids how many there are of each source and
-- how long they took, in milliseconds: half of them, 95 and 99 of a hundred took no
-- longer. The line without a source is all of them. What was run again is counted and
-- not timed: its receipt was long before.
SELECT coalesce(e.source, '')::text AS source, count(*) AS events,
       count(*) FILTER (WHERE e.status = 'dead') AS dead,
       count(*) FILTER (WHERE e.status = 'retrying') AS retrying,
       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM e.routed_at - e.received_at)::float8 * 1000)
                FILTER (WHERE r.event_id IS NULL), '{}')::float8[] AS to_routed,
       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM e.processed_at - e.received_at)::float8 * 1000)
                FILTER (WHERE e.status = 'processed' AND r.event_id IS NULL), '{}')::float8[] AS to_processed
FROM events e
LEFT JOIN (SELECT DISTINCT event_id FROM event_runs WHERE event_runs.event_id = ANY (@ids::bigint[])) AS r ON r.event_id = e.id
WHERE e.id = ANY (@ids::bigint[])
GROUP BY GROUPING SETS ((e.source), ());

-- name: SampleDelivered :one
-- SampleDelivered says how long the events among these ids took until the last endpoint
-- had what followed from them, in milliseconds.
SELECT count(*) AS events,
       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY t.took), '{}')::float8[] AS to_delivered
FROM (SELECT extract(epoch FROM max(d.finished_at) - e.received_at)::float8 * 1000 AS took
      FROM events e
      JOIN memory_history h ON h.record_id = e.record_id AND h.module = e.module AND h.event_id = e.id AND h.created_at >= e.received_at
      JOIN deliveries d ON d.outbox_id = h.outbox_id AND d.status = 'delivered'
      WHERE e.id = ANY (@ids::bigint[]) AND NOT EXISTS (SELECT FROM event_runs r WHERE r.event_id = e.id)
      GROUP BY e.id, e.received_at) AS t;

-- name: SampleDeliveries :many
-- SampleDeliveries says of the deliveries among these ids how many there are for each
-- endpoint and what became of them. The line without an endpoint is all of them.
SELECT coalesce(d.endpoint_id, '00000000-0000-0000-0000-000000000000')::uuid AS endpoint_id, coalesce(max(p.name), '')::text AS endpoint, count(*) AS deliveries,
       count(*) FILTER (WHERE d.status = 'delivered') AS delivered,
       count(*) FILTER (WHERE d.status = 'dead') AS dead,
       count(*) FILTER (WHERE d.status IN ('pending', 'retrying', 'waiting', 'batched')) AS open
FROM deliveries d JOIN endpoints p ON p.id = d.endpoint_id
WHERE d.id = ANY (@ids::bigint[]) AND d.outbox_id IS NOT NULL
GROUP BY GROUPING SETS ((d.endpoint_id), ());

-- name: SampleAttempts :many
-- SampleAttempts says of the attempts of deliveries among these ids how many failed and
-- how long they took, in milliseconds. The line without an endpoint is all of them.
SELECT coalesce(d.endpoint_id, '00000000-0000-0000-0000-000000000000')::uuid AS endpoint_id, count(*) AS attempts,
       count(*) FILTER (WHERE a.error_class <> '' OR a.status_code NOT BETWEEN 200 AND 299) AS failed,
       coalesce(percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM a.total)::float8 * 1000), '{}')::float8[] AS took
FROM deliveries d JOIN delivery_attempts a ON a.delivery_id = d.id
WHERE d.id = ANY (@ids::bigint[])
GROUP BY GROUPING SETS ((d.endpoint_id), ());

-- name: LookAtBacklogs :many
-- LookAtBacklogs says what waits at each stage and for how many seconds, as far as it has looked:
-- no further than 10,000 rows of one.
SELECT 'to be routed'::text AS stage, count(*) AS waiting, coalesce(extract(epoch FROM now() - min(w.at)), 0)::float8 AS oldest_seconds
FROM (SELECT received_at AS at FROM events WHERE revision IS NULL AND status IN ('received', 'retrying') ORDER BY id LIMIT 10000) AS w
UNION ALL
SELECT 'to be synced', count(*), coalesce(extract(epoch FROM now() - min(w.at)), 0)::float8
FROM (SELECT received_at AS at FROM events WHERE account_id IS NOT NULL AND status IN ('routed', 'retrying') ORDER BY account_id, revision LIMIT 10000) AS w
UNION ALL
SELECT 'to be relayed', count(*), coalesce(extract(epoch FROM now() - min(w.at)), 0)::float8
FROM (SELECT created_at AS at FROM outbox WHERE relayed_at IS NULL ORDER BY seq LIMIT 10000) AS w
UNION ALL
SELECT 'to be delivered', count(*), coalesce(extract(epoch FROM now() - min(w.at)), 0)::float8
FROM (SELECT created_at AS at FROM deliveries WHERE status IN ('pending', 'retrying') ORDER BY endpoint_id, next_attempt_at, id LIMIT 10000) AS w;
