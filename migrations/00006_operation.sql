-- What operators need: figures that cost no count(*), and who did what.

-- +goose Up

-- counters are changed in the transaction of what they count. Each process has
-- rows of its own, and each of its groups in flight has a slot, so that no two
-- transactions wait for one row. When a process is gone its rows are folded
-- into those of the nil UUID.
CREATE TABLE counters (
    process uuid   NOT NULL,
    slot    integer NOT NULL,
    name    text   NOT NULL,
    value   bigint NOT NULL,
    PRIMARY KEY (process, slot, name)
) WITH (fillfactor = 50);

-- processes says who is alive: each writes its row every second.
CREATE TABLE processes (
    process  uuid        PRIMARY KEY,
    host     text        NOT NULL,
    workers  integer     NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE audit_log (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text        NOT NULL,
    action     text        NOT NULL,
    object     text        NOT NULL,
    details    jsonb       NOT NULL DEFAULT '{}',
    request_id text        NOT NULL DEFAULT ''
);

CREATE INDEX audit_log_object_idx ON audit_log (object, id DESC);

-- Every job is an insert, two updates of an indexed column and a delete, so its
-- table must be vacuumed long before the default fifth of it is dead.
ALTER TABLE river_job SET (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.02
);

-- +goose Down
ALTER TABLE river_job RESET (
    autovacuum_vacuum_scale_factor,
    autovacuum_vacuum_threshold,
    autovacuum_vacuum_cost_delay,
    autovacuum_analyze_scale_factor
);
DROP TABLE audit_log;
DROP TABLE processes;
DROP TABLE counters;
