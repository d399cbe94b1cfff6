-- SQL as the audit: what happened to a record, a memory or an account in one query, and
-- what mends it in another. The views show nothing that opens a door: no sealed
-- column, no hash, no URL of an endpoint, no body of a webhook that came in.

-- +goose Up

-- In a block, for sqlc cannot read LATERAL; no query of the program asks these views.
-- +goose StatementBegin
DO $views$ BEGIN
-- The steps stand in LATERAL, not in one UNION per step: whoever asks for one record, memory
-- or account then looks up its rows first, by an index, and the steps from them.
CREATE VIEW event_progress AS
SELECT e.id AS event_id, e.module, e.record_id, e.account_id, s.at, s.step, s.station, s.what, s.detail
FROM events e
CROSS JOIN LATERAL (
    SELECT e.received_at AS at, 1 AS step, 'inbound' AS station, 'received' AS what,
           format('%s from %s as %s', e.operation, e.source, e.event_id) AS detail
    UNION ALL
    SELECT a.at, 2, 'operator', a.action, format('by %s%s', a.actor, ': ' || nullif(a.details ->> 'reason', ''))
    FROM audit_log a WHERE a.object = 'event/' || e.id
    UNION ALL
    SELECT r.created_at, 3, 'inbound', 'replayed', format('replay %s', r.replay_id)
    FROM event_runs r WHERE r.event_id = e.id
    UNION ALL
    SELECT e.routed_at, 4, 'process', 'routed', format('revision %s of account %s', e.revision, e.account_id)
    WHERE e.routed_at IS NOT NULL
    UNION ALL
    SELECT coalesce(e.processed_at, e.retry_at, e.routed_at, e.received_at), 5, 'process', e.status,
           CASE WHEN e.last_error <> '' THEN format('%s failures, last: %s', e.failures, e.last_error) ELSE '' END
    WHERE e.status IN ('processed', 'ignored', 'retrying', 'dead', 'discarded')
) s;

CREATE VIEW change_timeline AS
SELECT h.id AS change_id, h.memory_id, h.user_id, h.module, h.record_id, h.event_id, h.outbox_id, s.at, s.step, s.station, s.what, s.detail
FROM memory_history h
CROSS JOIN LATERAL (
    SELECT h.created_at AS at, 6 AS step, 'memory' AS station, 'memory ' || h.operation AS what,
           format('memory %s of %s%s%s', h.memory_id, h.user_id, ' by ' || nullif(h.actor, ''), ', merged into ' || h.merged_into) AS detail
    UNION ALL
    SELECT o.created_at, 7, 'outbound', 'told', format('%s as webhook %s', o.event, o.id)
    FROM outbox o WHERE o.id = h.outbox_id
    UNION ALL
    SELECT o.relayed_at, 8, 'outbound', 'relayed',
           format('to %s endpoints', (SELECT count(*) FROM deliveries d WHERE d.outbox_id = o.id))
    FROM outbox o WHERE o.id = h.outbox_id AND o.relayed_at IS NOT NULL
    UNION ALL
    -- An attempt is the delivery's own, or that of the batch that carries it.
    SELECT a.started_at + a.total, 9, 'outbound', 'attempt ' || a.number,
           format('%s: %s in %s ms%s%s', p.name, coalesce(a.status_code::text, a.error_class),
                  round(extract(epoch FROM a.total) * 1000), CASE WHEN a.delivery_id <> d.id THEN ', in a batch' END, ': ' || nullif(a.error, ''))
    FROM deliveries d
    JOIN endpoints p ON p.id = d.endpoint_id
    CROSS JOIN LATERAL (
        SELECT d.id UNION ALL
        SELECT c.id FROM deliveries c WHERE c.batch_id = d.batch_id AND c.endpoint_id = d.endpoint_id AND c.outbox_id IS NULL
    ) AS carrier (id)
    JOIN delivery_attempts a ON a.delivery_id = carrier.id
    WHERE d.outbox_id = h.outbox_id
    UNION ALL
    SELECT a.at, 10, 'operator', a.action, format('by %s%s', a.actor, ': ' || nullif(a.details ->> 'reason', ''))
    FROM deliveries d JOIN audit_log a ON a.object = 'delivery/' || d.id WHERE d.outbox_id = h.outbox_id
    UNION ALL
    SELECT coalesce(d.finished_at, d.created_at), 11, 'outbound',
           CASE WHEN d.finished_at IS NULL AND d.status IN ('pending', 'retrying', 'waiting', 'batched') AND p.status <> 'active' THEN 'held' ELSE d.status END,
           format('delivery %s to %s%s', d.id, p.name, ', last: ' || nullif(d.last_error, ''))
    FROM deliveries d JOIN endpoints p ON p.id = d.endpoint_id WHERE d.outbox_id = h.outbox_id
) s;

CREATE VIEW record_timeline AS
SELECT e.module, e.record_id, e.at, e.step, e.station, e.what, e.detail, e.event_id
FROM event_progress e
UNION ALL
SELECT c.module, c.record_id, c.at, c.step, c.station, c.what, c.detail, c.event_id
FROM change_timeline c WHERE c.module IS NOT NULL
UNION ALL
-- From what is known of the record, and not from records: that has no index by record_id alone.
SELECT k.module, k.record_id, r.read_at, 5, 'process', 'read last', format('from Zoho%s', ', deleted there since ' || r.deleted_at), NULL
FROM (SELECT e.module, e.record_id FROM events e UNION SELECT h.module, h.record_id FROM memory_history h WHERE h.module IS NOT NULL) k
JOIN records r ON r.module = k.module AND r.record_id = k.record_id
WHERE r.read_at IS NOT NULL
UNION ALL
SELECT k.module, k.record_id, coalesce(m.synced_at, m.tried_at, m.created_at), 12, 'mirror', m.status,
       format('copy in %s%s', m.backend, ', last: ' || nullif(m.last_error, '')), NULL
FROM (SELECT DISTINCT h.module, h.record_id, h.memory_id FROM memory_history h WHERE h.module IS NOT NULL) k
JOIN mirrors m ON m.memory_id = k.memory_id;

CREATE VIEW memory_timeline AS
SELECT c.memory_id, c.user_id, c.at, c.step, c.station, c.what, c.detail, c.event_id
FROM change_timeline c
UNION ALL
SELECT m.memory_id, m.user_id, coalesce(m.synced_at, m.tried_at, m.created_at), 12, 'mirror', m.status,
       format('copy in %s%s', m.backend, ', last: ' || nullif(m.last_error, '')), NULL
FROM mirrors m;

CREATE VIEW account_timeline AS
SELECT e.account_id, e.module, e.record_id, e.at, e.step, e.station, e.what, e.detail, e.event_id
FROM event_progress e WHERE e.account_id IS NOT NULL
UNION ALL
SELECT r.account_id, r.module, r.record_id, c.at, c.step, c.station, c.what, c.detail, c.event_id
FROM records r JOIN change_timeline c ON c.module = r.module AND c.record_id = r.record_id
UNION ALL
SELECT m.account_id, NULL, NULL, c.at, c.step, c.station, c.what, c.detail, c.event_id
FROM memories m JOIN change_timeline c ON c.memory_id = m.id WHERE m.module IS NULL
UNION ALL
SELECT a.account_id, NULL, NULL, s.at, 5, 'process', s.what, CASE WHEN a.last_error <> '' THEN 'last error: ' || a.last_error ELSE '' END, NULL
FROM accounts a
CROSS JOIN LATERAL (VALUES (a.synced_at, 'synced last'), (a.whole_at, 'read whole last')) AS s (at, what)
WHERE s.at IS NOT NULL;

CREATE VIEW failures AS
SELECT coalesce(e.processed_at, e.routed_at, e.received_at) AS at, 'event' AS kind, e.id::text AS id, e.status AS state, e.failures,
       e.last_error AS reason, format('%s %s %s', e.operation, e.module, e.record_id) AS what
FROM events e WHERE e.status = 'dead'
UNION ALL
SELECT coalesce(e.routed_at, e.received_at), 'event', e.id::text, e.status, e.failures, e.last_error, format('%s %s %s', e.operation, e.module, e.record_id)
FROM events e WHERE e.status IN ('routed', 'retrying') AND e.status = 'retrying'
UNION ALL
SELECT coalesce(d.finished_at, d.created_at), 'delivery', d.id::text, d.status, d.failures, d.last_error, format('%s %s to %s', o.event, o.id, p.name)
FROM deliveries d JOIN outbox o ON o.id = d.outbox_id JOIN endpoints p ON p.id = d.endpoint_id WHERE d.status = 'dead'
UNION ALL
SELECT d.created_at, 'delivery', d.id::text, d.status, d.failures, d.last_error, format('%s %s to %s', o.event, o.id, p.name)
FROM deliveries d JOIN outbox o ON o.id = d.outbox_id JOIN endpoints p ON p.id = d.endpoint_id
WHERE d.status IN ('pending', 'retrying') AND d.status = 'retrying'
UNION ALL
SELECT coalesce(p.failing_since, p.updated_at), 'endpoint', p.id::text, p.status, p.failures, p.status_reason, p.name
FROM endpoints p WHERE p.deleted_at IS NULL AND (p.failing_since IS NOT NULL OR p.status = 'disabled')
UNION ALL
SELECT coalesce(a.synced_at, a.created_at), 'account', a.account_id, 'waiting', NULL, a.last_error, 'sync of an account'
FROM accounts a WHERE (a.due_at IS NOT NULL OR a.wanted > a.done) AND a.last_error <> ''
UNION ALL
SELECT coalesce(m.tried_at, m.created_at), 'mirror', m.memory_id::text, m.status, m.failures, m.last_error, 'copy in ' || m.backend
FROM mirrors m WHERE m.status <> 'synced' AND m.last_error <> ''
UNION ALL
SELECT coalesce(g.completed_at, g.started_at, g.changed_at, now()), 'digest', g.backend, g.state, g.failures, g.last_error, 'run of ' || g.backend
FROM digests g WHERE g.failures > 0
UNION ALL
SELECT coalesce(s.finished_at, s.updated_at), 'sync', s.id::text, s.state, s.failures, s.last_error, s.kind || ' sync'
FROM syncs s WHERE s.state = 'failed' OR s.failures > 0
UNION ALL
SELECT x.created_at, 'sync record', x.sync_id::text, 'unread', x.attempts, x.error, format('%s %s', x.module, x.record_id)
FROM sync_errors x WHERE x.resolved_at IS NULL
UNION ALL
SELECT c.updated_at, 'channel', c.channel_id, c.state, c.failures, c.last_error, coalesce(c.module, 'of somebody else')
FROM channels c WHERE c.state = 'lost' OR c.failures > 0
UNION ALL
SELECT z.updated_at, 'connection', z.name, z.state, NULL, z.last_error, 'Zoho''s authorisation'
FROM zoho_tokens z WHERE z.state <> 'ok' OR z.last_error <> ''
UNION ALL
SELECT b.opened_at, 'breaker', b.name, 'open', b.failures, b.reason, 'calls to ' || b.name
FROM breakers b WHERE b.opened_at IS NOT NULL
UNION ALL
SELECT r.ended_at, 'memory run', r.id::text, r.state, r.failures, r.last_error, format('%s of %s', r.kind, r.user_id)
FROM memory_runs r WHERE r.ended_at IS NOT NULL AND r.state = 'failed'
UNION ALL
SELECT j.finalized_at, 'job', j.id::text, j.state::text, j.attempt, coalesce(j.errors[array_upper(j.errors, 1)] ->> 'error', ''), j.kind
FROM river_job j WHERE j.state = 'discarded';

-- One part for each index that finds them: those of an endpoint are few beside all its deliveries.
CREATE VIEW missed_webhooks AS
SELECT p.name AS endpoint, d.created_at AS told_at, o.event, o.user_id, o.id AS webhook_id, d.delivery_id,
       CASE WHEN d.open AND p.status <> 'active' THEN 'held' ELSE d.status END AS state,
       d.attempts, d.next_attempt_at, d.last_error AS reason, o.payload IS NOT NULL AS can_be_sent
FROM endpoints p
CROSS JOIN LATERAL (
    SELECT m.id AS delivery_id, m.created_at, m.outbox_id, m.status, m.attempts, NULL::timestamptz AS next_attempt_at, m.last_error, false AS open
    FROM deliveries m WHERE m.endpoint_id = p.id AND m.status IN ('dead', 'cancelled', 'discarded')
    UNION ALL
    SELECT m.id, m.created_at, m.outbox_id, m.status, m.attempts, m.next_attempt_at, m.last_error, true
    FROM deliveries m WHERE m.endpoint_id = p.id AND m.status IN ('pending', 'retrying')
    UNION ALL
    SELECT m.id, m.created_at, m.outbox_id, m.status, m.attempts, NULL, m.last_error, true
    FROM deliveries m
    WHERE m.endpoint_id = p.id AND m.order_key IS NOT NULL AND m.status IN ('pending', 'retrying', 'waiting') AND m.status = 'waiting'
    UNION ALL
    SELECT m.id, m.created_at, m.outbox_id, m.status, c.attempts, c.next_attempt_at, c.last_error, true
    FROM deliveries c JOIN deliveries m ON m.batch_id = c.batch_id AND m.endpoint_id = c.endpoint_id AND m.status = 'batched'
    WHERE c.endpoint_id = p.id AND c.outbox_id IS NULL AND c.status IN ('pending', 'retrying')
) d
JOIN outbox o ON o.id = d.outbox_id;

CREATE VIEW endpoint_attempts AS
SELECT p.name AS endpoint, a.started_at, a.delivery_id, a.number, a.status_code, a.error_class, a.error,
       coalesce(a.status_code BETWEEN 200 AND 299, false) AS arrived,
       extract(epoch FROM a.total)::float8 * 1000 AS total_ms,
       extract(epoch FROM a.first_byte)::float8 * 1000 AS first_byte_ms,
       extract(epoch FROM a.dns + a.connect + a.tls)::float8 * 1000 AS connect_ms
FROM delivery_attempts a
JOIN deliveries d ON d.id = a.delivery_id
JOIN endpoints p ON p.id = d.endpoint_id;

-- An event that was run again has its first receipt and its last end: it says nothing of how long things take.
CREATE VIEW event_latency AS
SELECT e.id AS event_id, e.source, e.received_at, e.processed_at - e.received_at AS to_memory,
       d.finished_at - e.received_at AS to_delivered
FROM events e
LEFT JOIN LATERAL (
    SELECT max(d.finished_at) AS finished_at
    FROM memory_history h JOIN deliveries d ON d.outbox_id = h.outbox_id
    WHERE h.record_id = e.record_id AND h.module = e.module AND h.event_id = e.id AND d.status = 'delivered'
) d ON true
WHERE e.status = 'processed' AND e.processed_at IS NOT NULL AND NOT EXISTS (SELECT FROM event_runs r WHERE r.event_id = e.id);

CREATE VIEW backlog AS
SELECT 'to be routed' AS stage, e.received_at AS since, e.id::text AS id
FROM events e WHERE e.revision IS NULL AND e.status IN ('received', 'retrying')
UNION ALL
SELECT 'to be synced', e.received_at, e.id::text
FROM events e WHERE e.account_id IS NOT NULL AND e.status IN ('routed', 'retrying')
UNION ALL
SELECT 'to be relayed', o.created_at, o.id::text FROM outbox o WHERE o.relayed_at IS NULL
UNION ALL
SELECT 'to be delivered', d.created_at, d.id::text FROM deliveries d WHERE d.status IN ('pending', 'retrying') AND d.outbox_id IS NOT NULL
UNION ALL
SELECT 'to be copied', coalesce(m.waiting_since, m.created_at), m.memory_id::text FROM mirrors m WHERE m.status <> 'synced' AND m.status <> 'dead';

-- \d+ explains itself.
COMMENT ON VIEW event_timeline IS 'The life of one event, with what its record''s sync changed. Ask with event_id, ORDER BY at, step.';
COMMENT ON VIEW dead_letters IS 'What used up its attempts and waits for a decision: memrelay dead, memrelay_discard.';
COMMENT ON VIEW delivery_health IS 'What each endpoint has open, whether it is held, and how it is.';
COMMENT ON VIEW sync_lag IS 'Which accounts are behind, the longest waiting first.';
COMMENT ON VIEW sync_health IS 'How each kind of sync went last.';
COMMENT ON VIEW event_progress IS 'Each step of an event on its way into memory. Ask with event_id, or record_id, or account_id.';
COMMENT ON COLUMN event_progress.event_id IS 'events.id.';
COMMENT ON COLUMN event_progress.module IS 'Zoho''s name of the module, as Contacts.';
COMMENT ON COLUMN event_progress.record_id IS 'Zoho''s id of the record, as text.';
COMMENT ON COLUMN event_progress.account_id IS 'The account it was routed to; NULL until then.';
COMMENT ON COLUMN event_progress.at IS 'When it happened; of something that is still going on, when it began.';
COMMENT ON COLUMN event_progress.step IS 'Orders what happened at the same moment: ORDER BY at, step.';
COMMENT ON COLUMN event_progress.station IS 'Where: inbound, process, memory, outbound, mirror or operator.';
COMMENT ON COLUMN event_progress.what IS 'What happened, in a word or two.';
COMMENT ON COLUMN event_progress.detail IS 'The rest of it, for people.';
COMMENT ON VIEW change_timeline IS 'What followed from each change of memory: who was told, each attempt, how it ended. Ask with memory_id, or record_id.';
COMMENT ON COLUMN change_timeline.change_id IS 'memory_history.id.';
COMMENT ON COLUMN change_timeline.memory_id IS 'The memory that changed; it may be gone.';
COMMENT ON COLUMN change_timeline.user_id IS 'Whose memory it is.';
COMMENT ON COLUMN change_timeline.module IS 'Zoho''s name of the module, as Contacts.';
COMMENT ON COLUMN change_timeline.record_id IS 'Zoho''s id of the record, as text.';
COMMENT ON COLUMN change_timeline.outbox_id IS 'The webhook that told of it: webhook-id. NULL: nobody was to be told.';
COMMENT ON COLUMN change_timeline.at IS 'When it happened; of something that is still going on, when it began.';
COMMENT ON COLUMN change_timeline.step IS 'Orders what happened at the same moment: ORDER BY at, step.';
COMMENT ON COLUMN change_timeline.station IS 'Where: inbound, process, memory, outbound, mirror or operator.';
COMMENT ON COLUMN change_timeline.what IS 'What happened, in a word or two.';
COMMENT ON COLUMN change_timeline.detail IS 'The rest of it, for people.';
COMMENT ON COLUMN change_timeline.event_id IS 'The event it follows from: events.id. NULL: from none, or from more than one.';
COMMENT ON VIEW record_timeline IS 'The life of a record: every event of it, what became of its memory, who was told, each attempt. Ask with record_id, ORDER BY at, step.';
COMMENT ON COLUMN record_timeline.module IS 'Zoho''s name of the module, as Contacts.';
COMMENT ON COLUMN record_timeline.record_id IS 'Zoho''s id of the record, as text.';
COMMENT ON COLUMN record_timeline.at IS 'When it happened; of something that is still going on, when it began.';
COMMENT ON COLUMN record_timeline.step IS 'Orders what happened at the same moment: ORDER BY at, step.';
COMMENT ON COLUMN record_timeline.station IS 'Where: inbound, process, memory, outbound, mirror or operator.';
COMMENT ON COLUMN record_timeline.what IS 'What happened, in a word or two.';
COMMENT ON COLUMN record_timeline.detail IS 'The rest of it, for people.';
COMMENT ON COLUMN record_timeline.event_id IS 'The event it follows from: events.id. NULL: from none, or from more than one.';
COMMENT ON VIEW memory_timeline IS 'The life of a memory, also one that is gone. Ask with memory_id, ORDER BY at, step.';
COMMENT ON COLUMN memory_timeline.memory_id IS 'As in memory_history.';
COMMENT ON COLUMN memory_timeline.user_id IS 'Whose memory it is.';
COMMENT ON COLUMN memory_timeline.at IS 'When it happened; of something that is still going on, when it began.';
COMMENT ON COLUMN memory_timeline.step IS 'Orders what happened at the same moment: ORDER BY at, step.';
COMMENT ON COLUMN memory_timeline.station IS 'Where: inbound, process, memory, outbound, mirror or operator.';
COMMENT ON COLUMN memory_timeline.what IS 'What happened, in a word or two.';
COMMENT ON COLUMN memory_timeline.detail IS 'The rest of it, for people.';
COMMENT ON COLUMN memory_timeline.event_id IS 'The event it follows from: events.id. NULL: from none, or from more than one.';
COMMENT ON VIEW account_timeline IS 'The life of an account: the events routed to it, and what became of its records and of what agents stored for it. Ask with account_id, ORDER BY at, step.';
COMMENT ON COLUMN account_timeline.account_id IS 'Zoho''s id of the account, as text.';
COMMENT ON COLUMN account_timeline.module IS 'Zoho''s name of the module, as Contacts.';
COMMENT ON COLUMN account_timeline.record_id IS 'Zoho''s id of the record, as text.';
COMMENT ON COLUMN account_timeline.at IS 'When it happened; of something that is still going on, when it began.';
COMMENT ON COLUMN account_timeline.step IS 'Orders what happened at the same moment: ORDER BY at, step.';
COMMENT ON COLUMN account_timeline.station IS 'Where: inbound, process, memory, outbound, mirror or operator.';
COMMENT ON COLUMN account_timeline.what IS 'What happened, in a word or two.';
COMMENT ON COLUMN account_timeline.detail IS 'The rest of it, for people.';
COMMENT ON COLUMN account_timeline.event_id IS 'The event it follows from: events.id. NULL: from none, or from more than one.';
COMMENT ON VIEW failures IS 'What failed and is not mended: dead and retrying events and deliveries, and everything around them. Ask with at.';
COMMENT ON COLUMN failures.at IS 'When it failed last, as near as it is kept.';
COMMENT ON COLUMN failures.kind IS 'event, delivery, endpoint, account, mirror, digest, sync, sync record, channel, connection, breaker, memory run or job.';
COMMENT ON COLUMN failures.id IS 'The id in the table of its kind.';
COMMENT ON COLUMN failures.state IS 'How it stands.';
COMMENT ON COLUMN failures.failures IS 'How often it failed; NULL: not counted.';
COMMENT ON COLUMN failures.reason IS 'The last error.';
COMMENT ON COLUMN failures.what IS 'What it was about.';
COMMENT ON VIEW missed_webhooks IS 'What endpoints were to be told and were not, or not yet. Ask with endpoint and told_at.';
COMMENT ON COLUMN missed_webhooks.endpoint IS 'The endpoint''s name; also of one that was deleted.';
COMMENT ON COLUMN missed_webhooks.told_at IS 'When it was to be told: when the webhook was relayed to it.';
COMMENT ON COLUMN missed_webhooks.event IS 'What it tells, as memory_added.';
COMMENT ON COLUMN missed_webhooks.user_id IS 'Whose memory it is about.';
COMMENT ON COLUMN missed_webhooks.webhook_id IS 'The webhook-id that the receiver would see.';
COMMENT ON COLUMN missed_webhooks.delivery_id IS 'deliveries.id, for memrelay deliveries resend.';
COMMENT ON COLUMN missed_webhooks.state IS 'dead, cancelled, discarded: will not arrive by itself. held: the endpoint is not active. pending, retrying, waiting, batched: under way.';
COMMENT ON COLUMN missed_webhooks.attempts IS 'Attempts begun.';
COMMENT ON COLUMN missed_webhooks.next_attempt_at IS 'When it is tried next; NULL: not by itself, or after another one.';
COMMENT ON COLUMN missed_webhooks.reason IS 'The last error.';
COMMENT ON COLUMN missed_webhooks.can_be_sent IS 'false: what it said is forgotten.';
COMMENT ON VIEW endpoint_attempts IS 'Each attempt to deliver whose outcome was learned. Ask with started_at: a short window is fast.';
COMMENT ON COLUMN endpoint_attempts.endpoint IS 'The endpoint''s name.';
COMMENT ON COLUMN endpoint_attempts.started_at IS 'When it was begun.';
COMMENT ON COLUMN endpoint_attempts.delivery_id IS 'deliveries.id; of a batch, that of its carrier.';
COMMENT ON COLUMN endpoint_attempts.number IS '1 for the first.';
COMMENT ON COLUMN endpoint_attempts.status_code IS 'What was answered; NULL: nothing was.';
COMMENT ON COLUMN endpoint_attempts.error_class IS 'Why not, in a word; empty: it was answered.';
COMMENT ON COLUMN endpoint_attempts.error IS 'Why not, in full.';
COMMENT ON COLUMN endpoint_attempts.arrived IS 'Answered with 2xx.';
COMMENT ON COLUMN endpoint_attempts.total_ms IS 'All of it, in milliseconds.';
COMMENT ON COLUMN endpoint_attempts.first_byte_ms IS 'Until the first byte of the answer, in milliseconds.';
COMMENT ON COLUMN endpoint_attempts.connect_ms IS 'Name, connection and TLS, in milliseconds; 0 for a connection that was open.';
COMMENT ON VIEW event_latency IS 'How long events took; those that were run again are left out. Ask with received_at.';
COMMENT ON COLUMN event_latency.event_id IS 'events.id.';
COMMENT ON COLUMN event_latency.source IS 'Who sent it.';
COMMENT ON COLUMN event_latency.received_at IS 'When it was stored.';
COMMENT ON COLUMN event_latency.to_memory IS 'From then until the memory was in step.';
COMMENT ON COLUMN event_latency.to_delivered IS 'From then until the last endpoint had it; NULL: nobody was told, or nobody has it.';
COMMENT ON VIEW backlog IS 'What waits, and since when.';
COMMENT ON COLUMN backlog.stage IS 'What for.';
COMMENT ON COLUMN backlog.since IS 'Since when.';
COMMENT ON COLUMN backlog.id IS 'The id in the table of its stage: events, outbox, deliveries, or the memory of mirrors.';
END $views$;
-- +goose StatementEnd

-- memrelay_replay runs an event that has ended again: it does what internal/admin's
-- Replay does, and the test beside sqlrole compares what both leave behind.
-- Everything is named in full: a function with its owner's rights must not find
-- somebody else's table first. The actor is not the role's bare name: one could be called
-- admin, which is what ADMIN_TOKEN is.
-- +goose StatementBegin
CREATE FUNCTION memrelay_replay(event_id bigint, reason text DEFAULT '', attempts integer DEFAULT 3) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    event  public.events;
    -- A UUIDv7: 48 bits of time, then chance.
    replay uuid := (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
                    || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid;
BEGIN
    IF attempts IS NULL OR attempts NOT BETWEEN 1 AND 32767 THEN
        RAISE EXCEPTION 'attempts is %: want 1 to 32767, as WEBHOOK_MAX_RETRIES says', attempts USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF reason ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        RAISE EXCEPTION 'the reason has control characters: want one line of text' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF length(reason) > 2000 THEN
        RAISE EXCEPTION 'the reason has % characters: want at most 2000', length(reason) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT e.* INTO event FROM public.events e WHERE e.id = memrelay_replay.event_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'event % not found', memrelay_replay.event_id USING ERRCODE = 'no_data_found';
    END IF;
    IF event.status NOT IN ('processed', 'ignored', 'dead', 'discarded') THEN
        RAISE EXCEPTION 'event % is still being worked: only what has ended can be run again', event.id USING ERRCODE = 'object_in_use';
    END IF;
    IF NOT EXISTS (SELECT FROM public.event_bodies b WHERE b.event_id = event.id AND b.received_at = event.received_at) THEN
        RAISE EXCEPTION 'event % cannot be run again: its body is no longer stored', event.id USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE public.events e
    SET status = 'received', account_id = NULL, revision = NULL, routed_at = NULL, failures = 0, last_error = '', retry_at = NULL, processed_at = NULL
    WHERE e.id = event.id;
    INSERT INTO public.event_runs (event_id, replay_id) VALUES (event.id, replay);
    -- As River's client inserts job.ProcessEvent; nodes find it when they next look.
    INSERT INTO public.river_job (args, kind, max_attempts, metadata, priority, queue, state, tags)
    VALUES (jsonb_build_object('event_id', event.id), 'process_event', attempts, '{}', 1, 'process', 'available', '{}');
    -- A row of this transaction alone, so that it waits for nobody; the sweeper folds it.
    INSERT INTO public.counters AS c (process, slot, name, value)
    SELECT md5('memrelay_replay ' || pg_current_xact_id()::text)::uuid, -1, n.name, n.value
    FROM (VALUES ('backlog', 1), ('dead', -1)) AS n (name, value)
    WHERE n.name = 'backlog' OR event.status = 'dead'
    ON CONFLICT (process, slot, name) DO UPDATE SET value = c.value + excluded.value;
    INSERT INTO public.audit_log (actor, action, object, details)
    VALUES ('sql, ' || session_user, 'event.replay', 'event/' || event.id, jsonb_build_object('replay_id', replay, 'reason', coalesce(reason, '')));
    RETURN replay;
END
$$;
-- +goose StatementEnd

-- Of another name, for a driver's untyped parameter would fit both.
-- +goose StatementBegin
CREATE FUNCTION memrelay_replay_many(event_ids bigint[], reason text DEFAULT '', attempts integer DEFAULT 3)
RETURNS TABLE (event_id bigint, replay_id uuid, refused text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
BEGIN
    -- In the order of the ids, as everybody locks them.
    FOR event_id IN SELECT DISTINCT unnest(event_ids) ORDER BY 1 LOOP
        BEGIN
            replay_id := public.memrelay_replay(event_id, reason, attempts);
            refused := NULL;
        EXCEPTION WHEN no_data_found OR object_in_use OR object_not_in_prerequisite_state THEN
            replay_id := NULL;
            refused := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- memrelay_discard decides that a dead letter needs no more, as internal/admin's DiscardDead does.
-- +goose StatementBegin
CREATE FUNCTION memrelay_discard(letter text, reason text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    number bigint;
BEGIN
    IF letter IS NULL OR letter !~ '^(event|delivery)/[0-9]{1,18}$' THEN
        RAISE EXCEPTION '"%": want event/ID or delivery/ID', letter USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION 'want a reason, for the audit log' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF reason ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        RAISE EXCEPTION 'the reason has control characters: want one line of text' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF length(reason) > 2000 THEN
        RAISE EXCEPTION 'the reason has % characters: want at most 2000', length(reason) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    number := split_part(letter, '/', 2)::bigint;
    IF starts_with(letter, 'event/') THEN
        UPDATE public.events e SET status = 'discarded' WHERE e.id = number AND e.status = 'dead';
    ELSE
        UPDATE public.deliveries d SET status = 'discarded' WHERE d.id = number AND d.status = 'dead';
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is not dead', letter USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF starts_with(letter, 'event/') THEN
        INSERT INTO public.counters AS c (process, slot, name, value)
        VALUES (md5('memrelay_discard ' || pg_current_xact_id()::text)::uuid, -1, 'dead', -1)
        ON CONFLICT (process, slot, name) DO UPDATE SET value = c.value + excluded.value;
    END IF;
    INSERT INTO public.audit_log (actor, action, object, details)
    VALUES ('sql, ' || session_user, 'dead.discard', letter, jsonb_build_object('reason', reason));
    RETURN letter;
END
$$;
-- +goose StatementEnd

-- Nobody may but whom `memrelay sql role --operate` lets.
REVOKE ALL ON FUNCTION memrelay_replay(bigint, text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION memrelay_replay_many(bigint[], text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION memrelay_discard(text, text) FROM PUBLIC;
COMMENT ON FUNCTION memrelay_replay(bigint, text, integer) IS 'Runs an event again that has ended, and returns the id of the replay. attempts is what WEBHOOK_MAX_RETRIES says.';
COMMENT ON FUNCTION memrelay_replay_many(bigint[], text, integer) IS 'Runs events again; those that cannot be come back with the reason in refused, and the others go on.';
COMMENT ON FUNCTION memrelay_discard(text, text) IS 'Decides that a dead letter needs no more: event/ID or delivery/ID, as dead_letters names it, and why.';

-- +goose Down
DROP FUNCTION memrelay_discard(text, text);
DROP FUNCTION memrelay_replay_many(bigint[], text, integer);
DROP FUNCTION memrelay_replay(bigint, text, integer);
-- +goose StatementBegin
DO $views$ BEGIN
DROP VIEW backlog;
DROP VIEW event_latency;
DROP VIEW endpoint_attempts;
DROP VIEW missed_webhooks;
DROP VIEW failures;
DROP VIEW account_timeline;
DROP VIEW memory_timeline;
DROP VIEW record_timeline;
DROP VIEW change_timeline;
DROP VIEW event_progress;
END $views$;
-- +goose StatementEnd
COMMENT ON VIEW event_timeline IS NULL;
COMMENT ON VIEW dead_letters IS NULL;
COMMENT ON VIEW delivery_health IS NULL;
COMMENT ON VIEW sync_lag IS NULL;
COMMENT ON VIEW sync_health IS NULL;
