-- name: TryLockRetention :one
-- TryLockRetention reports whether this transaction is the one that deletes now.
SELECT pg_try_advisory_xact_lock(hashtextextended('memrelay retention', 0));

-- name: NextEvents :one
-- NextEvents looks at the next events behind one: how many there are, at most max_rows,
-- which is the last, how many of them arrived longer ago than they are kept, and which is
-- the last of those that did so for some time. Ids are in order of arrival, but for
-- some moments, so that no index by time is needed.
SELECT count(*) AS found,
       coalesce(max(n.id), 0)::bigint AS last,
       count(*) FILTER (WHERE n.received_at < now() - @kept::interval) AS old,
       coalesce(max(n.id) FILTER (WHERE n.received_at < now() - @settled::interval), 0)::bigint AS settled
FROM (SELECT e.id, e.received_at FROM events e WHERE e.id > @after ORDER BY e.id LIMIT @max_rows) AS n;

-- name: LockOldEvents :many
-- LockOldEvents locks, between two ids, what nobody holds of the events that ended longer
-- ago than they are kept. What waits for its work or for a person's decision is not
-- among them. Nor is one whose follower has just come: who sends that again without an id
-- is recognised by an id that is derived from this one's.
SELECT e.id, e.received_at FROM events e
WHERE e.id > @after AND e.id <= @last
  AND e.status IN ('processed', 'ignored', 'discarded')
  AND greatest(e.processed_at, e.received_at) < now() - @kept::interval
  AND coalesce((SELECT n.received_at FROM events n
                WHERE n.record_id = e.record_id AND n.module = e.module AND n.source = e.source AND n.id > e.id
                ORDER BY n.id LIMIT 1) < now() - @repeats::interval, true)
ORDER BY e.id
FOR UPDATE OF e SKIP LOCKED;

-- name: HandOverBodies :exec
-- HandOverBodies gives a body that came with several records, and is kept by one that
-- goes, to the first of those that stay. All of them arrived at one time.
UPDATE event_bodies s SET body_id = h.heir, body = CASE WHEN s.event_id = h.heir THEN b.body END
FROM (SELECT k.body_id, k.received_at, min(k.event_id) AS heir FROM event_bodies k
      WHERE k.body_id = ANY (@ids::bigint[]) AND k.event_id <> ALL (@ids::bigint[]) AND k.body IS NULL
        AND k.received_at BETWEEN @first AND @last
      GROUP BY k.body_id, k.received_at) AS h
JOIN event_bodies b ON b.event_id = h.body_id AND b.received_at = h.received_at
WHERE s.body_id = ANY (@ids::bigint[]) AND s.event_id <> ALL (@ids::bigint[]) AND s.body IS NULL
  AND s.received_at BETWEEN @first AND @last AND s.body_id = h.body_id AND s.received_at = h.received_at;

-- name: DeleteEventBodies :exec
-- DeleteEventBodies deletes the bodies of events that arrived between two times.
DELETE FROM event_bodies WHERE event_id = ANY (@ids::bigint[]) AND received_at BETWEEN @first AND @last;

-- name: DeleteEvents :execrows
-- DeleteEvents deletes events, and with each what is known of its runs.
DELETE FROM events WHERE id = ANY (@ids::bigint[]);

-- name: ListExpiredBodyMonths :many
-- ListExpiredBodyMonths returns the partitions of those months of which everything is
-- older than it is kept, for some time, oldest first.
SELECT c.relname::text AS partition,
       (to_date(right(c.relname::text, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC')::timestamptz AS first,
       ((to_date(right(c.relname::text, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC')::timestamptz AS until
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'event_bodies'::regclass AND c.relname::text ~ '^event_bodies_[0-9]{4}_[0-9]{2}$'
  AND (to_date(right(c.relname::text, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC' <= now() - @settled::interval
ORDER BY c.relname;

-- name: CountKeptBodies :one
-- CountKeptBodies says how many bodies of a time belong to events that are still there,
-- none of them behind up_to, and how large they are. It looks the bodies up by the events:
-- those are few, while the partition may be as large as the month was.
SELECT count(*) AS bodies, coalesce(sum(octet_length(b.record) + coalesce(octet_length(b.body), 0)), 0)::bigint AS bytes
FROM events e JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at
WHERE e.id <= @up_to AND e.received_at >= @first AND e.received_at < @until
  AND b.received_at >= @first AND b.received_at < @until;

-- name: WaitShortly :exec
-- WaitShortly bounds how long this transaction waits for each of its locks.
SELECT set_config('lock_timeout', @milliseconds::text, true);

-- name: DropEventBodiesMonth :one
-- DropEventBodiesMonth returns how many bodies it moved.
SELECT drop_event_bodies_month(@partition::text, @up_to::bigint)::bigint AS moved;

-- name: DeleteOldRedeliveries :execrows
-- DeleteOldRedeliveries deletes redeliveries that ended longer ago than they are kept.
DELETE FROM redeliveries WHERE id IN (
    SELECT r.id FROM redeliveries r
    WHERE r.state <> 'running' AND r.finished_at < now() - @kept::interval
    ORDER BY r.id
    LIMIT @max_rows
    FOR UPDATE SKIP LOCKED);
