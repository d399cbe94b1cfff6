-- name: ListEventTwins :many
-- ListEventTwins returns those of the ids that are stored, with what they say: whether
-- an event of another system is the same is not told by its bytes. One look-up per id,
-- as in ListEventDigests.
SELECT k.event_id::text AS event_id, e.digest, e.module, e.operation, e.record_id, e.occurred_at, b.record
FROM (SELECT unnest(@event_ids::text[]) AS event_id) AS k
CROSS JOIN LATERAL (
    SELECT s.id, s.received_at, s.digest, s.module, s.operation, s.record_id, s.occurred_at
    FROM events s WHERE s.source = @source AND s.event_id = k.event_id LIMIT 1
) AS e
LEFT JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at;

-- name: MarkEventsImportedDead :execrows
-- MarkEventsImportedDead makes dead letters of events that were stored in this
-- transaction without a job: elsewhere they had used up their attempts.
UPDATE events e
SET status = 'dead', failures = n.failures, last_error = n.error, processed_at = now()
FROM (SELECT unnest(@event_ids::text[]) AS event_id, unnest(@failures::integer[]) AS failures,
             unnest(@errors::text[]) AS error) AS n
WHERE e.source = @source AND e.event_id = n.event_id AND e.status = 'ignored';
