-- Views for people: SQL is the audit.

-- +goose Up

-- event_timeline tells one event's whole life in order:
--   SELECT * FROM event_timeline WHERE event_id = 42 ORDER BY at, step;
CREATE VIEW event_timeline AS
WITH changed AS (
    -- What the sync that processed an event changed: all of its record's changes
    -- made in that transaction, whichever of several events brought them.
    SELECT e.id AS event_id, h.created_at, h.operation, h.memory_id, h.user_id, h.outbox_id
    FROM events e
    JOIN memory_history h
      ON h.record_id = e.record_id AND h.module = e.module
     AND (h.event_id = e.id OR h.created_at = e.processed_at)
)
SELECT e.id AS event_id, e.received_at AS at, 1 AS step, 'inbound' AS station, 'received' AS what,
       format('%s %s %s from %s as %s', e.operation, e.module, e.record_id, e.source, e.event_id) AS detail
FROM events e
UNION ALL
SELECT r.event_id, r.created_at, 2, 'inbound', 'replayed', format('replay %s', r.replay_id)
FROM event_runs r
UNION ALL
SELECT e.id, e.routed_at, 3, 'process', 'routed', format('revision %s of account %s', e.revision, e.account_id)
FROM events e WHERE e.routed_at IS NOT NULL
UNION ALL
SELECT e.id, coalesce(e.processed_at, e.retry_at, e.routed_at, e.received_at), 4, 'process', e.status,
       CASE WHEN e.last_error <> '' THEN format('%s failures, last: %s', e.failures, e.last_error) ELSE '' END
FROM events e WHERE e.status IN ('processed', 'ignored', 'retrying', 'dead', 'discarded')
UNION ALL
SELECT c.event_id, c.created_at, 5, 'memory', 'memory ' || c.operation, format('memory %s of %s', c.memory_id, c.user_id)
FROM changed c
UNION ALL
SELECT c.event_id, o.created_at, 6, 'outbound', 'told', format('%s as webhook %s', o.event, o.id)
FROM changed c JOIN outbox o ON o.id = c.outbox_id
UNION ALL
SELECT c.event_id, o.relayed_at, 7, 'outbound', 'relayed',
       format('to %s endpoints', (SELECT count(*) FROM deliveries d WHERE d.outbox_id = o.id))
FROM changed c JOIN outbox o ON o.id = c.outbox_id WHERE o.relayed_at IS NOT NULL
UNION ALL
SELECT c.event_id, a.started_at + a.total, 8, 'outbound', 'attempt ' || a.number,
       format('%s: %s in %s ms%s', p.name, coalesce(a.status_code::text, a.error_class),
              round(extract(epoch FROM a.total) * 1000),
              CASE WHEN a.error <> '' THEN ': ' || a.error ELSE '' END)
FROM changed c
JOIN deliveries d ON d.outbox_id = c.outbox_id
JOIN delivery_attempts a ON a.delivery_id = d.id
JOIN endpoints p ON p.id = d.endpoint_id
UNION ALL
SELECT c.event_id, coalesce(d.finished_at, d.created_at), 9, 'outbound',
       CASE WHEN d.status IN ('pending', 'retrying') AND p.status <> 'active' THEN 'held' ELSE d.status END,
       format('to %s%s', p.name, CASE WHEN d.last_error <> '' THEN ', last: ' || d.last_error ELSE '' END)
FROM changed c
JOIN deliveries d ON d.outbox_id = c.outbox_id
JOIN endpoints p ON p.id = d.endpoint_id;

-- dead_letters are what waits for a person's decision.
CREATE VIEW dead_letters AS
SELECT ('event/' || e.id)::text AS id, 'event' AS kind, coalesce(e.processed_at, e.received_at) AS died_at,
       e.failures, e.last_error AS reason, format('%s %s %s', e.operation, e.module, e.record_id) AS what
FROM events e WHERE e.status = 'dead'
UNION ALL
SELECT ('delivery/' || d.id)::text, 'delivery', coalesce(d.finished_at, d.created_at),
       d.failures, d.last_error, format('%s %s to %s', o.event, o.id, p.name)
FROM deliveries d
JOIN outbox o ON o.id = d.outbox_id
JOIN endpoints p ON p.id = d.endpoint_id
WHERE d.status = 'dead';

-- delivery_health: what each endpoint has open, and whether it is held.
CREATE VIEW delivery_health AS
SELECT p.id AS endpoint_id, p.name, p.status, p.status_reason,
       count(d.id) AS open,
       count(d.id) FILTER (WHERE p.status <> 'active') AS held,
       count(d.id) FILTER (WHERE d.status = 'retrying') AS retrying,
       min(d.created_at) AS oldest_open_at
FROM endpoints p
LEFT JOIN deliveries d ON d.endpoint_id = p.id AND d.status IN ('pending', 'retrying')
WHERE p.deleted_at IS NULL
GROUP BY p.id;

-- sync_lag: which accounts are behind, the longest waiting first.
CREATE VIEW sync_lag AS
SELECT a.account_id, a.wanted - a.done AS behind, a.due_at, a.synced_at, a.last_error,
       min(e.received_at) AS oldest_event_at, count(e.id) AS events_waiting
FROM accounts a
JOIN events e ON e.account_id = a.account_id AND e.status IN ('routed', 'retrying')
GROUP BY a.account_id
ORDER BY oldest_event_at;

-- +goose Down
DROP VIEW sync_lag;
DROP VIEW delivery_health;
DROP VIEW dead_letters;
DROP VIEW event_timeline;
