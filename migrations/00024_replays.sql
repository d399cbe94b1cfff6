-- Operators look for events, and run many of them again.

-- +goose Up

-- replays run the events again that a filter finds, oldest first, a slice at a time.
CREATE TABLE replays (
    id              uuid        PRIMARY KEY,
    -- What events, as the list of events is asked for them.
    filter          jsonb       NOT NULL,
    -- The newest event there was when it was asked for: none that came later is run again.
    newest          bigint      NOT NULL,
    -- Events up to this id are done with.
    position        bigint      NOT NULL,
    -- So many a second; NULL: as many as the backlog has room for.
    per_second      integer     CHECK (per_second > 0),
    -- At per_second, when the next is due.
    paced_at        timestamptz NOT NULL DEFAULT now(),
    -- How many there were when it was asked for.
    matched         bigint      NOT NULL,
    replayed        bigint      NOT NULL DEFAULT 0,
    -- Passed over: being worked again by then, or without a body.
    refused         bigint      NOT NULL DEFAULT 0,
    state           text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'done', 'cancelled')),
    -- Its job; another one of this replay has nothing to do.
    job_id          bigint,
    actor           text        NOT NULL,
    -- Who sends the same again under the same key gets this replay.
    idempotency_key text,
    reason          text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    CONSTRAINT replays_idempotency_key UNIQUE (actor, idempotency_key)
);

CREATE INDEX replays_running_idx ON replays (id) WHERE state = 'running';

-- +goose Down
DROP TABLE replays;
