-- Endpoints as people set them up: whom they are told of, how they are told, and
-- how they are.

-- +goose Up
ALTER TABLE endpoints
    ADD COLUMN description    text       NOT NULL DEFAULT '',
    -- Whose events it is told of; a name that ends in * stands for all that begin so.
    -- None: everybody's.
    ADD COLUMN user_ids       text[]     NOT NULL DEFAULT '{}',
    -- What the data of an event must be like for it to be told; NULL: anything.
    ADD COLUMN filter         jsonb,
    -- memrelay: the outbox's bytes; standard: {type, timestamp, data}.
    ADD COLUMN form           text       NOT NULL DEFAULT 'memrelay' CHECK (form IN ('memrelay', 'standard')),
    -- One at a time for each user_id, in the order of outbox.seq; with batches, one
    -- batch at a time.
    ADD COLUMN ordered        boolean    NOT NULL DEFAULT false,
    -- More than 1: so many at most in one request, a JSON array, sent when there are
    -- so many or when the oldest has waited for batch_wait.
    ADD COLUMN batch_size     integer    NOT NULL DEFAULT 1 CHECK (batch_size BETWEEN 1 AND 1000),
    ADD COLUMN batch_wait     interval   NOT NULL DEFAULT '0',
    -- Requests a second; NULL: as many as it takes.
    ADD COLUMN rate_limit     real       CHECK (rate_limit > 0),
    -- Requests at one time.
    ADD COLUMN max_in_flight  integer    NOT NULL DEFAULT 32 CHECK (max_in_flight BETWEEN 1 AND 256),
    -- The waits after each failed attempt; after the attempt that follows the last of
    -- them a delivery is dead.
    ADD COLUMN retry_schedule interval[] NOT NULL DEFAULT '{}',
    -- Secrets, auth and headers, sealed by MEMRELAY_KEY; NULL: there are none, or
    -- those of the environment.
    ADD COLUMN sealed         bytea,
    -- The first failure since the last success; NULL: it is well.
    ADD COLUMN failing_since  timestamptz,
    -- Failures of the endpoint itself since the last success.
    ADD COLUMN failures       integer    NOT NULL DEFAULT 0,
    -- When it was told that the endpoint fails.
    ADD COLUMN warned_at      timestamptz,
    -- Nothing is sent before: it fails, or it asked to be left alone.
    ADD COLUMN resume_at      timestamptz,
    -- As many requests are under way as may be; the first of them to end frees the lane,
    -- and this is when it is looked at if none does.
    ADD COLUMN full_until     timestamptz,
    -- When the next request is due at rate_limit; requests may be early by one second's worth.
    ADD COLUMN rate_at        timestamptz,
    -- A disabled endpoint that is tried now and then, for it may have recovered.
    ADD COLUMN probing        boolean    NOT NULL DEFAULT false;

UPDATE endpoints p SET retry_schedule = coalesce((
    SELECT array_agg(least(p.retry_delay * power(2, least(n, 20)), interval '1 hour') ORDER BY n)
    FROM generate_series(0, p.max_attempts - 2) AS n), '{}');

ALTER TABLE endpoints DROP COLUMN max_attempts, DROP COLUMN retry_delay;

ALTER TABLE deliveries
    -- NULL: it carries the batch whose id is batch_id, and no webhook of its own.
    ALTER COLUMN outbox_id DROP NOT NULL,
    -- The batch that carries it. Batches are frozen: its members are those rows with the
    -- same batch_id and a webhook, in the order of their ids, for every attempt.
    ADD COLUMN batch_id      uuid,
    -- The user_id, where the endpoint is ordered: waiting ones follow one by one.
    ADD COLUMN order_key     text,
    -- The redelivery that opened it last.
    ADD COLUMN redelivery_id uuid,
    -- The process that leased it: when that is gone, its lease ends early.
    ADD COLUMN leased_by     uuid,
    DROP CONSTRAINT deliveries_status_check,
    ADD CONSTRAINT deliveries_carrier_check CHECK (outbox_id IS NOT NULL OR batch_id IS NOT NULL) NOT VALID,
    -- waiting: an earlier one of its user is open; batched: its batch is.
    ADD CONSTRAINT deliveries_status_check CHECK (
        status IN ('pending', 'retrying', 'waiting', 'batched', 'delivered', 'dead', 'cancelled', 'discarded')) NOT VALID;
ALTER TABLE deliveries VALIDATE CONSTRAINT deliveries_carrier_check;
ALTER TABLE deliveries VALIDATE CONSTRAINT deliveries_status_check;

CREATE INDEX deliveries_ordered_idx ON deliveries (endpoint_id, order_key, id)
    WHERE order_key IS NOT NULL AND status IN ('pending', 'retrying', 'waiting');
CREATE INDEX deliveries_batch_idx ON deliveries (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX deliveries_redelivery_idx ON deliveries (redelivery_id)
    WHERE redelivery_id IS NOT NULL AND status IN ('pending', 'retrying', 'waiting', 'batched');
CREATE INDEX deliveries_carrier_idx ON deliveries (endpoint_id, next_attempt_at, id)
    WHERE outbox_id IS NULL AND status IN ('pending', 'retrying');

-- redeliveries bring to an endpoint again what it missed, or all there was, a slice at a time.
CREATE TABLE redeliveries (
    id          uuid        PRIMARY KEY,
    endpoint_id uuid        NOT NULL REFERENCES endpoints (id),
    -- recover: what died since; replay: every webhook of that time, delivered or not.
    kind        text        NOT NULL CHECK (kind IN ('recover', 'replay')),
    since       timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    -- Which events; none: all that the endpoint wants.
    events      text[]      NOT NULL DEFAULT '{}',
    -- So many a second are opened; NULL: as many as the endpoint takes.
    per_second  integer     CHECK (per_second > 0),
    -- How many there were when it was asked for.
    found       bigint      NOT NULL,
    opened      bigint      NOT NULL DEFAULT 0,
    -- Passed over: still open, or without a payload by then.
    skipped     bigint      NOT NULL DEFAULT 0,
    -- Of replay: outbox rows up to this seq are done with; recover marks its rows.
    position    bigint      NOT NULL DEFAULT 0,
    state       text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'cancelled')),
    job_id      bigint,
    actor       text        NOT NULL,
    reason      text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);

CREATE INDEX redeliveries_running_idx ON redeliveries (id) WHERE state = 'running';
CREATE INDEX redeliveries_endpoint_idx ON redeliveries (endpoint_id, id DESC);

-- A payload is forgotten after a while; what was told when, to whom and how that went is not.
ALTER TABLE outbox ALTER COLUMN payload DROP NOT NULL;
CREATE INDEX outbox_payload_idx ON outbox (created_at, seq) WHERE payload IS NOT NULL;

ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN (
    'memory_added', 'memory_searched', 'memory_deleted', 'memory_updated',
    'preference_stored', 'correction_stored', 'relationship_added', 'relationship_deleted',
    'graph_built', 'memory_optimized', 'batch_operation_completed', 'memory_error',
    'sync.completed', 'sync.failed',
    'endpoint.failing', 'endpoint.recovered', 'endpoint.disabled', 'event.dead', 'channel.lost')) NOT VALID;
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_event_check;

ALTER TABLE delivery_attempts DROP CONSTRAINT delivery_attempts_error_class_check;
ALTER TABLE delivery_attempts ADD CONSTRAINT delivery_attempts_error_class_check CHECK (error_class IN (
    '', 'refused', 'dns', 'connect', 'tls', 'timeout', 'reset', 'auth', 'http', 'request', 'other')) NOT VALID;
ALTER TABLE delivery_attempts VALIDATE CONSTRAINT delivery_attempts_error_class_check;

DROP VIEW delivery_health;
-- delivery_health: what each endpoint has open, whether it is held, and how it is.
CREATE VIEW delivery_health AS
SELECT p.id AS endpoint_id, p.name, p.status, p.status_reason, p.failing_since, p.failures, p.resume_at,
       count(d.id) AS open,
       count(d.id) FILTER (WHERE p.status <> 'active') AS held,
       count(d.id) FILTER (WHERE d.status = 'retrying') AS retrying,
       count(d.id) FILTER (WHERE d.status = 'waiting') AS waiting,
       min(d.created_at) AS oldest_open_at
FROM endpoints p
LEFT JOIN deliveries d ON d.endpoint_id = p.id AND d.outbox_id IS NOT NULL AND d.status IN ('pending', 'retrying', 'waiting', 'batched')
WHERE p.deleted_at IS NULL
GROUP BY p.id;

-- +goose Down
DROP VIEW delivery_health;
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

UPDATE delivery_attempts SET error_class = 'other' WHERE error_class = 'auth';
ALTER TABLE delivery_attempts DROP CONSTRAINT delivery_attempts_error_class_check;
ALTER TABLE delivery_attempts ADD CONSTRAINT delivery_attempts_error_class_check CHECK (error_class IN (
    '', 'refused', 'dns', 'connect', 'tls', 'timeout', 'reset', 'http', 'request', 'other'));

-- Batches go, what they carried is sent one by one again; what has no payload any more cannot be.
DELETE FROM deliveries WHERE outbox_id IS NULL;
DELETE FROM deliveries d USING outbox o WHERE o.id = d.outbox_id
    AND (o.payload IS NULL OR o.event IN ('endpoint.failing', 'endpoint.recovered', 'endpoint.disabled', 'event.dead', 'channel.lost'));
DELETE FROM outbox WHERE payload IS NULL
    OR event IN ('endpoint.failing', 'endpoint.recovered', 'endpoint.disabled', 'event.dead', 'channel.lost');
UPDATE deliveries SET status = 'pending', next_attempt_at = now() WHERE status IN ('waiting', 'batched');
ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN (
    'memory_added', 'memory_searched', 'memory_deleted', 'memory_updated',
    'preference_stored', 'correction_stored', 'relationship_added', 'relationship_deleted',
    'graph_built', 'memory_optimized', 'batch_operation_completed', 'memory_error',
    'sync.completed', 'sync.failed'));
DROP INDEX outbox_payload_idx;
ALTER TABLE outbox ALTER COLUMN payload SET NOT NULL;

DROP TABLE redeliveries;
DROP INDEX deliveries_carrier_idx;
DROP INDEX deliveries_redelivery_idx;
DROP INDEX deliveries_batch_idx;
DROP INDEX deliveries_ordered_idx;
ALTER TABLE deliveries
    DROP CONSTRAINT deliveries_status_check,
    DROP CONSTRAINT deliveries_carrier_check,
    ADD CONSTRAINT deliveries_status_check CHECK (
        status IN ('pending', 'retrying', 'delivered', 'dead', 'cancelled', 'discarded')),
    DROP COLUMN leased_by,
    DROP COLUMN redelivery_id,
    DROP COLUMN order_key,
    DROP COLUMN batch_id,
    ALTER COLUMN outbox_id SET NOT NULL;

ALTER TABLE endpoints
    ADD COLUMN max_attempts integer NOT NULL DEFAULT 3 CHECK (max_attempts > 0),
    ADD COLUMN retry_delay interval NOT NULL DEFAULT '1 second';
UPDATE endpoints SET max_attempts = coalesce(array_length(retry_schedule, 1), 0) + 1,
                     retry_delay = coalesce(retry_schedule[1], interval '1 second');
ALTER TABLE endpoints
    ALTER COLUMN max_attempts DROP DEFAULT, ALTER COLUMN retry_delay DROP DEFAULT,
    DROP COLUMN probing, DROP COLUMN rate_at, DROP COLUMN full_until, DROP COLUMN resume_at, DROP COLUMN warned_at, DROP COLUMN failures,
    DROP COLUMN failing_since, DROP COLUMN sealed, DROP COLUMN retry_schedule, DROP COLUMN max_in_flight,
    DROP COLUMN rate_limit, DROP COLUMN batch_wait, DROP COLUMN batch_size, DROP COLUMN ordered, DROP COLUMN form,
    DROP COLUMN filter, DROP COLUMN user_ids, DROP COLUMN description;
