-- What happened to an event or a record, step by step. A story is read in two steps: which
-- rows it is of, by an index, and what became of those, by their ids.

-- name: LookAtRecordChanges :many
-- LookAtRecordChanges is the window of what became of the memory of the records of one id.
SELECT r.id, r.created_at FROM (SELECT unnest(@modules::text[]) AS module) AS m
CROSS JOIN LATERAL (
    SELECT h.id, h.created_at FROM memory_history h
    WHERE h.record_id = @record_id AND h.module = m.module
      AND h.created_at <= @before_at AND (h.created_at < @before_at OR h.id < @before)
    ORDER BY h.created_at DESC, h.id DESC LIMIT @most
) AS r
ORDER BY r.created_at DESC, r.id DESC LIMIT @most;

-- name: ListEventChanges :many
-- ListEventChanges returns the changes of memory that an event led to: those of its record
-- that the sync made which processed it, whichever of several events brought them, and
-- those of what another memory system told.
SELECT h.id FROM events e
JOIN memory_history h ON h.record_id = e.record_id AND h.module = e.module AND (h.event_id = e.id OR h.created_at = e.processed_at)
WHERE e.id = @event_id
UNION
SELECT h.id FROM memory_history h WHERE h.module IS NULL AND h.event_id = @event_id::bigint
ORDER BY 1 LIMIT 1000;

-- name: ListEventSteps :many
-- ListEventSteps tells what became of events until memory was in step.
SELECT s.at::timestamptz AS at, s.step::integer AS step, s.station, s.what, s.detail, s.event_id
FROM (
    SELECT e.received_at AS at, 1 AS step, 'inbound' AS station, 'received' AS what,
           format('%s %s %s from %s as %s', e.operation, e.module, e.record_id, e.source, e.event_id) AS detail, e.id AS event_id
    FROM events e WHERE e.id = ANY (@ids::bigint[])
    UNION ALL
    SELECT a.at, 2, 'operator', a.action, format('by %s%s', a.actor, ': ' || nullif(a.details ->> 'reason', '')), k.id
    FROM (SELECT unnest(@ids::bigint[]) AS id) AS k JOIN audit_log a ON a.object = 'event/' || k.id
    UNION ALL
    SELECT r.created_at, 3, 'inbound', 'replayed', format('replay %s', r.replay_id), r.event_id
    FROM event_runs r WHERE r.event_id = ANY (@ids)
    UNION ALL
    SELECT e.routed_at, 4, 'process', 'routed', format('revision %s of account %s', e.revision, e.account_id), e.id
    FROM events e WHERE e.id = ANY (@ids) AND e.routed_at IS NOT NULL
    UNION ALL
    SELECT coalesce(e.processed_at, e.retry_at, e.routed_at, e.received_at), 5, 'process', e.status,
           CASE WHEN e.last_error <> '' THEN format('%s failures, last: %s', e.failures, e.last_error) ELSE '' END, e.id
    FROM events e WHERE e.id = ANY (@ids) AND e.status IN ('processed', 'ignored', 'retrying', 'dead', 'discarded')
) AS s
ORDER BY s.at, s.step, s.event_id;

-- name: ListChangeSteps :many
-- ListChangeSteps tells what followed from changes of memory: who was told, each attempt,
-- how it ended. An attempt is the delivery's own, or that of the batch that carries it.
SELECT s.at::timestamptz AS at, s.step::integer AS step, s.station::text AS station, s.what::text AS what, s.detail, s.memory_id, s.event_id, s.webhook_id, s.delivery_id
FROM (
    SELECT h.created_at AS at, 6 AS step, 'memory' AS station, 'memory ' || h.operation AS what,
           format('memory %s of %s%s%s', h.memory_id, h.user_id, ' by ' || nullif(h.actor, ''), ', merged into ' || h.merged_into) AS detail,
           h.memory_id, h.event_id, h.outbox_id AS webhook_id, NULL::bigint AS delivery_id
    FROM memory_history h WHERE h.id = ANY (@ids::bigint[])
    UNION ALL
    SELECT o.created_at, 7, 'outbound', 'told', format('%s as webhook %s', o.event, o.id), h.memory_id, h.event_id, o.id, NULL
    FROM memory_history h JOIN outbox o ON o.id = h.outbox_id WHERE h.id = ANY (@ids)
    UNION ALL
    SELECT o.relayed_at, 8, 'outbound', 'relayed', format('to %s endpoints', (SELECT count(*) FROM deliveries d WHERE d.outbox_id = o.id)),
           h.memory_id, h.event_id, o.id, NULL
    FROM memory_history h JOIN outbox o ON o.id = h.outbox_id WHERE h.id = ANY (@ids) AND o.relayed_at IS NOT NULL
    UNION ALL
    SELECT a.started_at + a.total, 9, 'outbound', 'attempt ' || a.number,
           format('%s: %s in %s ms%s%s', p.name, coalesce(a.status_code::text, a.error_class), round(extract(epoch FROM a.total) * 1000),
                  CASE WHEN a.delivery_id <> d.id THEN ', in a batch' END, ': ' || nullif(a.error, '')),
           h.memory_id, h.event_id, d.outbox_id, a.delivery_id
    FROM memory_history h
    JOIN deliveries d ON d.outbox_id = h.outbox_id
    JOIN endpoints p ON p.id = d.endpoint_id
    CROSS JOIN LATERAL (
        SELECT d.id UNION ALL
        SELECT c.id FROM deliveries c WHERE c.batch_id = d.batch_id AND c.endpoint_id = d.endpoint_id AND c.outbox_id IS NULL
    ) AS carrier
    JOIN delivery_attempts a ON a.delivery_id = carrier.id
    WHERE h.id = ANY (@ids)
    UNION ALL
    SELECT a.at, 10, 'operator', a.action, format('by %s%s', a.actor, ': ' || nullif(a.details ->> 'reason', '')), h.memory_id, h.event_id, d.outbox_id, d.id
    FROM memory_history h JOIN deliveries d ON d.outbox_id = h.outbox_id JOIN audit_log a ON a.object = 'delivery/' || d.id
    WHERE h.id = ANY (@ids)
    UNION ALL
    SELECT coalesce(d.finished_at, d.created_at), 11, 'outbound',
           CASE WHEN d.finished_at IS NULL AND p.status <> 'active' THEN 'held' ELSE d.status END,
           format('to %s%s', p.name, ', last: ' || nullif(d.last_error, '')), h.memory_id, h.event_id, d.outbox_id, d.id
    FROM memory_history h JOIN deliveries d ON d.outbox_id = h.outbox_id JOIN endpoints p ON p.id = d.endpoint_id
    WHERE h.id = ANY (@ids)
    UNION ALL
    SELECT coalesce(m.synced_at, m.tried_at, m.created_at), 12, 'mirror', m.status, format('copy in %s%s', m.backend, ', last: ' || nullif(m.last_error, '')),
           m.memory_id, NULL, NULL, NULL
    FROM (SELECT DISTINCT h.memory_id FROM memory_history h WHERE h.id = ANY (@ids)) AS k JOIN mirrors m ON m.memory_id = k.memory_id
) AS s
ORDER BY s.at, s.step, s.delivery_id;

-- name: ListRecordsKnown :many
-- ListRecordsKnown returns what is known now of the records of one id, in these modules,
-- and how the account stands that each belongs to.
SELECT m.module::text AS module, r.account_id, r.modified_at, r.read_at, r.deleted_at, k.id AS memory_id,
       a.synced_at, coalesce(a.due_at IS NOT NULL OR a.wanted > a.done, false)::boolean AS account_waits, coalesce(a.last_error, '')::text AS account_error
FROM (SELECT unnest(@modules::text[]) AS module) AS m
LEFT JOIN records r ON r.module = m.module AND r.record_id = @record_id
LEFT JOIN memories k ON k.module = m.module AND k.record_id = @record_id
LEFT JOIN accounts a ON a.account_id = r.account_id
ORDER BY m.module;
