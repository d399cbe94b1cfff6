-- name: LockToldEvents :many
-- LockToldEvents locks those of the events that nobody else holds, in the order of
-- their ids, and reads what they say.
SELECT e.id, e.event_id, e.status, e.user_id, e.occurred_at, e.received_at, b.record, now()::timestamptz AS now
FROM events e
LEFT JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at
WHERE e.id = ANY (@ids::bigint[]) AND e.source = 'memory'
ORDER BY e.id
FOR UPDATE OF e SKIP LOCKED;

-- name: ListEventIDs :many
-- ListEventIDs returns which of the ids are events, whoever holds them.
SELECT id FROM events WHERE id = ANY (@ids::bigint[]);

-- name: MarkEventsFollowed :exec
-- MarkEventsFollowed ends events that other memory systems sent.
UPDATE events SET status = 'processed', processed_at = now(), retry_at = NULL
WHERE id = ANY (@ids::bigint[]) AND source = 'memory' AND status IN ('received', 'retrying');

-- name: ListOwnIDs :many
-- ListOwnIDs returns which of the ids are, or once were, ids of memories of ours.
SELECT k.id::uuid AS id
FROM (SELECT unnest(@ids::uuid[]) AS id) AS k
WHERE EXISTS (SELECT FROM memories m WHERE m.id = k.id) OR EXISTS (SELECT FROM memory_history h WHERE h.memory_id = k.id);

-- name: ListRemoteIDs :many
-- ListRemoteIDs returns which of the ids another memory system gave to copies of ours.
SELECT k.id::text AS id
FROM (SELECT unnest(@ids::text[]) AS id) AS k
WHERE EXISTS (SELECT FROM mirrors r WHERE r.remote_id = k.id);

-- name: ListCopiesUnderWay :many
-- ListCopiesUnderWay returns the positions of those texts that a copy holds which we
-- have begun to make and do not know the id of: the other system may tell of it
-- before it answers. What the memory said earlier counts, too. Where it is not known
-- whose a text is, the user is '', and it may be anybody's.
SELECT n.position::bigint AS position
FROM (SELECT unnest(@positions::bigint[]) AS position, unnest(@user_ids::text[]) AS user_id, unnest(@contents::text[]) AS content) AS n
WHERE EXISTS (
    SELECT FROM mirrors r
    WHERE r.adding_since IS NOT NULL AND (n.user_id = '' OR n.user_id = r.user_id)
      AND (EXISTS (SELECT FROM memories m WHERE m.id = r.memory_id AND m.content = n.content)
           OR EXISTS (SELECT FROM memory_history h WHERE h.memory_id = r.memory_id
                      AND (h.before ->> 'content' = n.content OR h.after ->> 'content' = n.content))));

-- name: LockToldMemories :many
-- LockToldMemories locks what is known of how far others were followed, in the order
-- of the key, and makes the rows that are not there: two events of one memory
-- wait for each other also before there is a memory.
INSERT INTO told_memories AS t (origin, origin_id)
SELECT n.origin, n.origin_id
FROM (SELECT unnest(@origins::text[]) AS origin, unnest(@origin_ids::text[]) AS origin_id) AS n
ORDER BY n.origin, n.origin_id
ON CONFLICT (origin, origin_id) DO UPDATE SET origin = excluded.origin
RETURNING t.origin, t.origin_id, t.told_at, t.event_id, t.state;

-- name: LockMemoriesTold :many
-- LockMemoriesTold locks, of what other memory systems told of, what nobody else
-- holds, in the order of the ids.
SELECT m.id, m.user_id, m.account_id, m.module, m.record_id, m.kind, m.content, m.metadata, m.origin, m.origin_id, m.expires_at, m.created_at, m.updated_at
FROM memories m
JOIN (SELECT unnest(@origins::text[]) AS origin, unnest(@origin_ids::text[]) AS origin_id) AS k
  ON k.origin = m.origin AND k.origin_id = m.origin_id
ORDER BY m.id FOR UPDATE OF m SKIP LOCKED;

-- name: ListMemoriesTold :many
-- ListMemoriesTold returns what of it there is, whoever holds it.
SELECT m.origin::text AS origin, m.origin_id::text AS origin_id
FROM memories m
JOIN (SELECT unnest(@origins::text[]) AS origin, unnest(@origin_ids::text[]) AS origin_id) AS k
  ON k.origin = m.origin AND k.origin_id = m.origin_id;

-- name: UpdateToldMemories :exec
UPDATE told_memories t SET told_at = n.told_at, event_id = n.event_id, state = n.state
FROM (SELECT unnest(@origins::text[]) AS origin, unnest(@origin_ids::text[]) AS origin_id, unnest(@told_at::timestamptz[]) AS told_at,
             unnest(@event_ids::text[]) AS event_id, unnest(@states::text[]) AS state) AS n
WHERE t.origin = n.origin AND t.origin_id = n.origin_id;

-- name: DeleteOldToldMemories :execrows
-- DeleteOldToldMemories forgets what others deleted, or what was a copy of ours, so long
-- ago that nothing late comes any more, and what nobody followed.
DELETE FROM told_memories
WHERE (state <> 'theirs' OR told_at IS NULL) AND (told_at IS NULL OR told_at < now() - @older_than::interval);
