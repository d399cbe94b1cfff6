-- What those who follow events are shown. Nothing tells of a change: whoever follows looks,
-- and what it looks at is bounded.

-- name: EventStreamNow :one
-- EventStreamNow returns where a stream stands that begins now.
SELECT now()::timestamptz AS now, coalesce((SELECT max(id) FROM events), 0)::bigint AS newest_event,
       coalesce((SELECT max(id) FROM audit_log), 0)::bigint AS newest_audit;

-- name: ListNewerEvents :many
-- ListNewerEvents returns events from behind an id, oldest first.
SELECT id FROM events WHERE id > @after ORDER BY id LIMIT @max_events;

-- name: ListOpenEvents :many
-- ListOpenEvents returns events that have not ended, in no order: all of them when they
-- are fewer than most.
(SELECT id FROM events WHERE revision IS NULL AND status IN ('received', 'retrying') ORDER BY id DESC LIMIT @most)
UNION ALL
(SELECT id FROM events WHERE status IN ('routed', 'retrying') AND account_id > '' LIMIT @most);

-- name: ListEventsRunSince :many
-- ListEventsRunSince returns events that were run again since then.
SELECT event_id FROM event_runs WHERE created_at >= @since ORDER BY created_at LIMIT @most;

-- name: ListEventsDecidedSince :many
-- ListEventsDecidedSince returns the audited acts on events from behind an id.
SELECT id, object FROM audit_log WHERE id > @after AND object LIKE 'event/%' ORDER BY id LIMIT @most;

-- name: ListEventStates :many
-- ListEventStates returns how events stand, oldest first.
SELECT id, source, event_id, module, operation, record_id, account_id, status, failures, last_error, received_at, routed_at, processed_at
FROM events WHERE id = ANY (@ids::bigint[]) ORDER BY id;

-- name: ListEventsChangedSince :many
-- ListEventsChangedSince returns those between two ids that something became of since then,
-- newest first.
SELECT id FROM events
WHERE id > @after AND id <= @up_to AND greatest(processed_at, routed_at, received_at) >= @since::timestamptz
ORDER BY id DESC LIMIT @most;
