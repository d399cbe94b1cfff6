-- Who an event belongs to, and what is known of Zoho's records.

-- +goose Up

-- accounts are the lanes of process: one account is synced by one job at a time.
-- wanted is raised by whoever brings work, done by whoever did it.
CREATE TABLE accounts (
    account_id text        PRIMARY KEY,
    wanted     bigint      NOT NULL DEFAULT 0,
    done       bigint      NOT NULL DEFAULT 0,
    -- When the lane is next to run; null: nothing waits, or its job has taken it.
    due_at     timestamptz,
    -- Its one job in river_job; any other job of this lane returns at once.
    job_id     bigint,
    synced_at  timestamptz,
    last_error text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Lanes with work, for the sweeper: few at any time.
CREATE INDEX accounts_busy_idx ON accounts (account_id) WHERE due_at IS NOT NULL OR wanted > done;

-- records is the fold of all events of a record: per field the newest value.
CREATE TABLE records (
    module        text        NOT NULL,
    record_id     text        NOT NULL,
    account_id    text        NOT NULL,
    -- Zoho's field names; null is "cleared", an absent field is "not known".
    data          jsonb       NOT NULL DEFAULT '{}',
    -- Per field, when its value was written (microseconds since 1970) and by which event.
    field_times   jsonb       NOT NULL DEFAULT '{}',
    modified_at   timestamptz,
    -- The last create, delete or restore. Life follows it alone, never an update.
    life_at       timestamptz,
    life_event_id bigint,
    deleted_at    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (module, record_id)
);

CREATE INDEX records_account_idx ON records (account_id, module, record_id);

-- +goose Down
DROP TABLE records;
DROP TABLE accounts;
