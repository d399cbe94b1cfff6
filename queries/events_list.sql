-- A list looks at windows of events, the newest first, and keeps of them what its filters
-- want: so no list reads the whole table, whatever it looks for. Each window is read by an
-- index, which is why there are several.

-- name: LookAtEvents :many
-- LookAtEvents is the window before an id.
SELECT id FROM events WHERE id < @before AND id >= @since_id ORDER BY id DESC LIMIT @most;

-- name: LookAtDeadEvents :many
-- LookAtDeadEvents is the window of those that wait for a decision.
SELECT id FROM events WHERE status = 'dead' AND id < @before AND id >= @since_id ORDER BY id DESC LIMIT @most;

-- name: LookAtPassedEvents :many
-- LookAtPassedEvents is the window of those that nobody works: of modules that are not
-- asked for, and dead ones that were discarded.
SELECT id FROM events WHERE status IN ('ignored', 'discarded') AND status = @status AND id < @before AND id >= @since_id ORDER BY id DESC LIMIT @most;

-- name: LookAtFaultyEvents :many
-- LookAtFaultyEvents is the window of those that failed, whatever became of them.
SELECT id FROM events WHERE last_error <> '' AND id < @before AND id >= @since_id ORDER BY id DESC LIMIT @most;

-- name: LookAtWaitingEvents :many
-- LookAtWaitingEvents is the window of the backlog.
SELECT id FROM events WHERE revision IS NULL AND status IN ('received', 'retrying') AND id < @before AND id >= @since_id ORDER BY id DESC LIMIT @most;

-- name: ListRoutedEvents :many
-- ListRoutedEvents returns events whose account is yet to be synced, in no order: all of
-- them when they are fewer than most.
SELECT id FROM events WHERE status IN ('routed', 'retrying') AND account_id > '' LIMIT @most;

-- name: LookAtRecordEvents :many
-- LookAtRecordEvents is the window of the records of one id, in these modules.
SELECT r.id, r.received_at FROM (SELECT unnest(@modules::text[]) AS module) AS m
CROSS JOIN LATERAL (
    SELECT e.id, e.received_at FROM events e
    WHERE e.record_id = @record_id AND e.module = m.module AND e.id < @before AND e.id >= @since_id
    ORDER BY e.id DESC LIMIT @most
) AS r
ORDER BY r.id DESC LIMIT @most;

-- name: LookAtAccountEvents :many
-- LookAtAccountEvents is the window of one account.
SELECT id FROM events WHERE account_id = @account_id::text AND id < @before AND id >= @since_id ORDER BY id DESC LIMIT @most;

-- name: ListRecordModules :many
-- ListRecordModules returns the modules that events or memories of a record id are of, by
-- steps from one to the next: there may be very many of each.
WITH RECURSIVE of_events AS (
    (SELECT e.module FROM events e WHERE e.record_id = @record_id ORDER BY e.module LIMIT 1)
    UNION ALL
    SELECT (SELECT e.module FROM events e WHERE e.record_id = @record_id AND e.module > o.module ORDER BY e.module LIMIT 1)
    FROM of_events o WHERE o.module IS NOT NULL
), of_memories AS (
    (SELECT h.module FROM memory_history h WHERE h.record_id = @record_id AND h.module IS NOT NULL ORDER BY h.module LIMIT 1)
    UNION ALL
    SELECT (SELECT h.module FROM memory_history h WHERE h.record_id = @record_id AND h.module > o.module ORDER BY h.module LIMIT 1)
    FROM of_memories o WHERE o.module IS NOT NULL
)
SELECT f.module::text AS module FROM of_events f WHERE f.module IS NOT NULL
UNION
SELECT f.module::text AS module FROM of_memories f WHERE f.module IS NOT NULL
ORDER BY module;

-- name: ListEventsByKey :many
-- ListEventsByKey returns the events that were sent with that id, one for each source at
-- most: it steps from source to source.
WITH RECURSIVE sources AS (
    (SELECT source FROM events ORDER BY source LIMIT 1)
    UNION ALL
    SELECT (SELECT e.source FROM events e WHERE e.source > s.source ORDER BY e.source LIMIT 1) FROM sources s WHERE s.source IS NOT NULL
)
SELECT k.id FROM sources s
CROSS JOIN LATERAL (SELECT e.id FROM events e WHERE e.source = s.source AND e.event_id = @event_id LIMIT 1) AS k
WHERE s.source IS NOT NULL
ORDER BY k.id DESC;

-- name: FindEventAt :one
-- FindEventAt returns the id that the first event received at or after that time has, or
-- would have. Ids are given in the order of time, but for a few seconds; it halves what is
-- left, so that a list of last month's need not pass by this month's.
WITH RECURSIVE halves (low, high) AS (
    SELECT 0::bigint, coalesce(max(id), 0) + 1 FROM events
    UNION ALL
    SELECT coalesce(n.earlier, n.low), CASE WHEN n.earlier IS NULL THEN n.middle ELSE n.high END
    FROM (SELECT h.low, h.high, (h.low + h.high) / 2 AS middle,
                 (SELECT CASE WHEN e.received_at < @at THEN e.id END FROM events e
                  WHERE e.id >= (h.low + h.high) / 2 AND e.id < h.high ORDER BY e.id LIMIT 1) AS earlier
          FROM halves h WHERE h.high - h.low > 1) AS n
)
SELECT min(high)::bigint FROM halves;

-- name: FilterEvents :many
-- FilterEvents returns those of a window that the filters want, newest first.
SELECT id, source, event_id, module, operation, record_id, account_id, revision, user_id, modified_fields, occurred_at, received_at,
       routed_at, status, failures, last_error, retry_at, processed_at
FROM events
WHERE id = ANY (@ids::bigint[])
  AND (sqlc.narg(status)::text IS NULL OR status = sqlc.narg(status))
  AND (sqlc.narg(source)::text IS NULL OR source = sqlc.narg(source))
  AND (sqlc.narg(module)::text IS NULL OR module = sqlc.narg(module))
  AND (sqlc.narg(operation)::text IS NULL OR operation = sqlc.narg(operation))
  AND (sqlc.narg(record_id)::text IS NULL OR record_id = sqlc.narg(record_id))
  AND (sqlc.narg(account_id)::text IS NULL OR account_id = sqlc.narg(account_id))
  AND (sqlc.narg(user_id)::text IS NULL OR user_id = sqlc.narg(user_id))
  AND (sqlc.narg(event_id)::text IS NULL OR event_id = sqlc.narg(event_id))
  AND (sqlc.narg(error)::text IS NULL OR strpos(lower(last_error), lower(sqlc.narg(error))) > 0)
  AND (sqlc.narg(since)::timestamptz IS NULL OR received_at >= sqlc.narg(since))
  AND (sqlc.narg(until)::timestamptz IS NULL OR received_at < sqlc.narg(until))
ORDER BY id DESC
LIMIT @max_events;

-- name: FilterEventsBetween :many
-- FilterEventsBetween is FilterEvents for a window without gaps: to walk along the rows
-- costs a fifth of looking each of them up.
SELECT id, source, event_id, module, operation, record_id, account_id, revision, user_id, modified_fields, occurred_at, received_at,
       routed_at, status, failures, last_error, retry_at, processed_at
FROM events
WHERE id BETWEEN @first AND @last
  AND (sqlc.narg(status)::text IS NULL OR status = sqlc.narg(status))
  AND (sqlc.narg(source)::text IS NULL OR source = sqlc.narg(source))
  AND (sqlc.narg(module)::text IS NULL OR module = sqlc.narg(module))
  AND (sqlc.narg(operation)::text IS NULL OR operation = sqlc.narg(operation))
  AND (sqlc.narg(record_id)::text IS NULL OR record_id = sqlc.narg(record_id))
  AND (sqlc.narg(account_id)::text IS NULL OR account_id = sqlc.narg(account_id))
  AND (sqlc.narg(user_id)::text IS NULL OR user_id = sqlc.narg(user_id))
  AND (sqlc.narg(event_id)::text IS NULL OR event_id = sqlc.narg(event_id))
  AND (sqlc.narg(error)::text IS NULL OR strpos(lower(last_error), lower(sqlc.narg(error))) > 0)
  AND (sqlc.narg(since)::timestamptz IS NULL OR received_at >= sqlc.narg(since))
  AND (sqlc.narg(until)::timestamptz IS NULL OR received_at < sqlc.narg(until))
ORDER BY id DESC
LIMIT @max_events;

-- name: ListEventRuns :many
-- ListEventRuns returns how often an event was run again, and by which replays.
SELECT replay_id, created_at FROM event_runs WHERE event_id = @event_id ORDER BY created_at, replay_id LIMIT 1000;

