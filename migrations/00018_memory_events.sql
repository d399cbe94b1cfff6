-- What other memory systems tell.

-- +goose Up

-- Such an event has no account whose revision it could take.
ALTER TABLE events DROP CONSTRAINT events_routed_has_revision;
ALTER TABLE events ADD CONSTRAINT events_routed_has_revision
    CHECK (status NOT IN ('routed', 'processed') OR revision IS NOT NULL OR source = 'memory') NOT VALID;
ALTER TABLE events VALIDATE CONSTRAINT events_routed_has_revision;

-- told_memories say how far we have followed what another memory system told of one
-- memory, or of one line of its graph. A row outlives its memory: what was told
-- before the deletion and comes after it must not bring the memory back.
CREATE TABLE told_memories (
    origin    text        NOT NULL,
    origin_id text        NOT NULL,
    -- Of the newest that was followed: when it was said, then its id; null: none was.
    told_at   timestamptz,
    event_id  text        NOT NULL DEFAULT '',
    -- theirs: we keep a copy; gone: they deleted it; ours: it is a copy of one of our
    -- memories, kept on record because mirrors forgets it with the memory.
    state     text        NOT NULL DEFAULT 'theirs' CHECK (state IN ('theirs', 'gone', 'ours')),
    PRIMARY KEY (origin, origin_id)
);

-- What can be forgotten once nothing late can come any more.
CREATE INDEX told_memories_gone_idx ON told_memories (told_at) WHERE state <> 'theirs' OR told_at IS NULL;

-- Is this a copy of ours? Asked for each event of another memory system.
CREATE INDEX mirrors_remote_idx ON mirrors (remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX mirrors_adding_idx ON mirrors (memory_id) WHERE adding_since IS NOT NULL;

-- What an event changed that is about no record; agents' own changes follow from no event.
CREATE INDEX memory_history_event_idx ON memory_history (event_id) WHERE module IS NULL AND event_id IS NOT NULL;

-- The same view as before, with what events of other memory systems changed. Not
-- materialized: one event's life shall not cost a look at those of all others.
CREATE OR REPLACE VIEW event_timeline AS
WITH changed AS NOT MATERIALIZED (
    -- What the sync that processed an event changed: all of its record's changes
    -- made in that transaction, whichever of several events brought them.
    SELECT e.id AS event_id, h.created_at, h.operation, h.memory_id, h.user_id, h.outbox_id
    FROM events e
    JOIN memory_history h
      ON h.record_id = e.record_id AND h.module = e.module
     AND (h.event_id = e.id OR h.created_at = e.processed_at)
    UNION ALL
    SELECT h.event_id, h.created_at, h.operation, h.memory_id, h.user_id, h.outbox_id
    FROM memory_history h WHERE h.module IS NULL AND h.event_id IS NOT NULL
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

-- +goose Down
CREATE OR REPLACE VIEW event_timeline AS
WITH changed AS (
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
DROP INDEX memory_history_event_idx;
DROP INDEX mirrors_adding_idx;
DROP INDEX mirrors_remote_idx;
DROP TABLE told_memories;
-- Without an account the old schema knows such events only as ignored: they stay on record.
UPDATE events SET status = 'ignored' WHERE source = 'memory' AND status = 'processed';
ALTER TABLE events DROP CONSTRAINT events_routed_has_revision;
ALTER TABLE events ADD CONSTRAINT events_routed_has_revision
    CHECK (status NOT IN ('routed', 'processed') OR revision IS NOT NULL);
