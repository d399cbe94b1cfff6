-- What operators look at: who was turned away, and what the figures were a while ago.

-- +goose Up

-- rejected_requests are the newest thousand refusals of all nodes. Each node writes at
-- most fifty a second, the rest is counted alone: a flood of them must not fill the disk.
CREATE TABLE rejected_requests (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    method         text        NOT NULL,
    -- The pattern that matched, never the path: that may hold what somebody sent by mistake.
    route          text        NOT NULL,
    status         integer     NOT NULL,
    code           text        NOT NULL,
    reason         text        NOT NULL,
    -- The peer's, or what a proxy of TRUSTED_PROXIES says.
    address        text        NOT NULL,
    user_agent     text        NOT NULL,
    -- Of the body as the sender says; -1: it does not.
    content_length bigint      NOT NULL,
    request_id     text        NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.5, autovacuum_vacuum_threshold = 1000);

-- counter_samples are the sums of counters at some moments of the last day: two of them
-- are a rate, without a look at the rows that were counted.
CREATE TABLE counter_samples (
    -- The quarter of a minute that it stands for, so that one node is enough.
    bin  timestamptz PRIMARY KEY,
    at   timestamptz NOT NULL DEFAULT now(),
    sums jsonb       NOT NULL
);

-- +goose Down
DROP TABLE counter_samples;
DROP TABLE rejected_requests;
