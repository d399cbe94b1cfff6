-- name: ReserveEventIDs :many
-- ReserveEventIDs hands out the next n ids, lowest first: the order of arrival. now is
-- the transaction's time, received_at of what it stores.
SELECT nextval('events_id_seq')::bigint AS id, now()::timestamptz AS now FROM generate_series(1, @n::int);

-- name: LockEventRecords :exec
-- LockEventRecords makes groups that derive event ids of the same record wait
-- for each other, in the order of the keys.
SELECT pg_advisory_xact_lock(key) FROM (SELECT DISTINCT unnest(@keys::bigint[]) AS key ORDER BY key) AS k;

-- name: ListNewestEvents :many
-- ListNewestEvents returns for each record its newest stored event, and the
-- newest one that came with a different body than that.
SELECT k.module::text AS module, k.record_id::text AS record_id, n.event_id, n.digest,
       coalesce(o.event_id, '')::text AS other_event_id
FROM (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id) AS k
CROSS JOIN LATERAL (
    SELECT e.event_id, e.digest FROM events e
    WHERE e.record_id = k.record_id AND e.module = k.module AND e.source = @source
    ORDER BY e.id DESC LIMIT 1
) AS n
LEFT JOIN LATERAL (
    SELECT e.event_id FROM events e
    WHERE e.record_id = k.record_id AND e.module = k.module AND e.source = @source AND e.digest <> n.digest
    ORDER BY e.id DESC LIMIT 1
) AS o ON true;

-- name: ListEventDigests :many
-- ListEventDigests returns those of the ids that are stored, and the bodies' digests.
-- One look-up per id: with "= ANY" a plan made while the table was small may walk
-- all events of the source instead (measured: 15 ms for 30 ids among 60,000 events).
SELECT k.event_id::text AS event_id, e.digest
FROM (SELECT unnest(@event_ids::text[]) AS event_id) AS k
CROSS JOIN LATERAL (
    SELECT s.digest FROM events s WHERE s.source = @source AND s.event_id = k.event_id LIMIT 1
) AS e;

-- name: InsertEvents :copyfrom
-- InsertEvents stores events. They are to come in the order of their key, so that two
-- groups with the same ids wait for each other instead of deadlocking. One whose key
-- is there already fails the statement, by events_source_event_id_key.
INSERT INTO events (id, source, event_id, digest, module, operation, record_id, user_id, modified_fields, occurred_at, status, processed_at)
VALUES (@id, @source, @event_id, @digest, @module, @operation, @record_id, @user_id, @modified_fields, @occurred_at, @status, @processed_at);

-- name: ListEventsToRoute :many
-- ListEventsToRoute reads events with their record's fields and the account
-- that the record is known to belong to, "" when it is not known. What another
-- memory system sent is about no record: its fields are not read.
SELECT e.id, e.source, e.module, e.operation, e.record_id, e.modified_fields, e.occurred_at, e.received_at, b.record, coalesce(r.account_id, '')::text AS known_account
FROM events e
LEFT JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at AND e.source <> 'memory'
LEFT JOIN records r ON r.module = e.module AND r.record_id = e.record_id
WHERE e.id = ANY (@ids::bigint[])
ORDER BY e.id;

-- name: LockEvents :many
-- LockEvents locks those of the events that nobody else holds, in the order of their ids.
SELECT id, status, revision, received_at FROM events WHERE id = ANY (@ids::bigint[]) ORDER BY id FOR UPDATE SKIP LOCKED;

-- name: MarkEventsRouted :exec
-- MarkEventsRouted gives each event its account and its revision of it.
UPDATE events e
SET account_id = n.account_id, revision = n.revision, routed_at = now(),
    status = 'routed', failures = 0, last_error = '', retry_at = NULL
FROM (SELECT unnest(@ids::bigint[]) AS id, unnest(@account_ids::text[]) AS account_id, unnest(@revisions::bigint[]) AS revision) AS n
WHERE e.id = n.id;

-- name: ListLaneEvents :many
-- ListLaneEvents reads what each lane has to do now, oldest revision first: at
-- most @max_events of a lane, and no more records than fit into @max_bytes.
SELECT l.id, l.source, l.account_id::text AS account_id, l.revision::bigint AS revision, l.module, l.operation, l.record_id,
       l.occurred_at, l.received_at, l.routed_at, l.failures, l.record, l.cut
FROM (SELECT unnest(@account_ids::text[]) AS account_id) AS a
CROSS JOIN LATERAL (
    SELECT w.*, coalesce(w.position = @max_events::bigint OR w.bytes >= @max_bytes::bigint, false)::boolean AS cut
    FROM (
        SELECT e.id, e.source, e.account_id, e.revision, e.module, e.operation, e.record_id, e.occurred_at, e.received_at, e.routed_at, e.failures, b.record,
               row_number() OVER (ORDER BY e.revision) AS position,
               sum(coalesce(octet_length(b.record), 0)) OVER (ORDER BY e.revision) AS bytes
        FROM events e
        LEFT JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at
        WHERE e.account_id = a.account_id AND e.status IN ('routed', 'retrying')
          AND (e.retry_at IS NULL OR e.retry_at <= now())
        ORDER BY e.revision
        LIMIT @max_events
    ) AS w
    WHERE w.bytes - coalesce(octet_length(w.record), 0) < @max_bytes
) AS l
ORDER BY l.account_id, l.revision;

-- name: MarkEventsProcessed :exec
-- MarkEventsProcessed ends events whose account was synced. An event with no
-- more failures than it had keeps the last of them on record.
UPDATE events SET status = 'processed', processed_at = now(), retry_at = NULL
WHERE id = ANY (@ids::bigint[]) AND status IN ('routed', 'retrying');

-- name: MarkEventsFailed :many
-- MarkEventsFailed records a fault of the event itself: it is tried again after
-- its delay, or is dead with the reason when it has used up its attempts.
UPDATE events e
SET failures = e.failures + 1,
    last_error = n.error,
    status = CASE WHEN e.failures + 1 >= @max_failures::int THEN 'dead' ELSE 'retrying' END,
    retry_at = CASE WHEN e.failures + 1 >= @max_failures::int THEN NULL
                    ELSE now() + n.delay_ms * interval '1 millisecond' END,
    processed_at = CASE WHEN e.failures + 1 >= @max_failures::int THEN now() END
FROM (SELECT unnest(@ids::bigint[]) AS id, unnest(@errors::text[]) AS error,
             unnest(@delays_ms::bigint[]) AS delay_ms) AS n
WHERE e.id = n.id AND e.status IN ('received', 'routed', 'retrying')
RETURNING e.id, e.status, e.source, e.module, e.operation, e.record_id, e.failures, e.last_error;

-- name: ListNextRetries :many
-- ListNextRetries returns, by account, when the next of its events that failed is
-- to be tried again.
SELECT account_id::text AS account_id, min(retry_at)::timestamptz AS retry_at
FROM events
WHERE account_id = ANY (@account_ids::text[]) AND status = 'retrying'
GROUP BY account_id;

-- name: GetEvent :one
SELECT * FROM events WHERE id = @id;

-- name: ResetEvent :one
-- ResetEvent makes a final event as it was when it arrived; pgx.ErrNoRows when
-- it is not there or not final. was_dead tells what the counters must forget.
WITH before AS (SELECT b.id, b.status FROM events b WHERE b.id = @id FOR UPDATE)
UPDATE events e
SET status = 'received', account_id = NULL, revision = NULL, routed_at = NULL, failures = 0, last_error = '', retry_at = NULL, processed_at = NULL
FROM before
WHERE e.id = before.id AND before.status IN ('processed', 'ignored', 'dead', 'discarded')
  AND (@only_dead::boolean = false OR before.status = 'dead')
RETURNING e.id, (before.status = 'dead')::boolean AS was_dead;

-- name: DiscardEvent :one
-- DiscardEvent is a person's decision that a dead event needs no more; pgx.ErrNoRows when it is not dead.
UPDATE events SET status = 'discarded' WHERE id = @id AND status = 'dead' RETURNING id;

-- name: ListEvents :many
-- ListEvents pages backwards in time.
SELECT id, source, event_id, module, operation, record_id, account_id, status, failures, last_error, received_at, processed_at
FROM events
WHERE (@before::bigint = 0 OR id < @before) AND (@status::text = '' OR status = @status)
ORDER BY id DESC
LIMIT @max_events;

-- name: ListEventTimeline :many
SELECT at, station, what, detail FROM event_timeline WHERE event_id = @event_id ORDER BY at, step;

-- name: OldestWaitingEvent :one
-- OldestWaitingEvent returns when the oldest event of the backlog was received; pgx.ErrNoRows when nothing waits.
SELECT received_at FROM events WHERE revision IS NULL AND status IN ('received', 'retrying') ORDER BY id LIMIT 1;

-- name: IsEventWaiting :one
-- IsEventWaiting reports whether an event is stored and was never worked.
SELECT EXISTS (SELECT FROM events WHERE id = @id AND revision IS NULL AND status = 'received');

-- name: CountBacklog :one
-- CountBacklog counts what the counters only add up; for the sweeper alone.
SELECT count(*) FROM events WHERE revision IS NULL AND status IN ('received', 'retrying');

-- name: ListOrphanedEvents :many
-- ListOrphanedEvents finds events to be routed that no live job will route.
-- Being late is no reason: only having no job is. It compares two sets, whatever the
-- planner believes of them: a join planned while there were few took 10 s for 20,000.
SELECT o.id::bigint AS id
FROM (SELECT e.id FROM events e WHERE e.revision IS NULL AND e.status IN ('received', 'retrying')
      EXCEPT
      SELECT (j.args ->> 'event_id')::bigint FROM river_job j
      WHERE j.kind = 'process_event' AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled')) AS o
ORDER BY o.id
LIMIT @max_events;
