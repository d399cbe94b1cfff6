-- What the agents remember.

-- +goose Up

-- memories are what is true now; what was is in memory_history.
CREATE TABLE memories (
    id         uuid        PRIMARY KEY,
    user_id    text        NOT NULL,
    account_id text,
    -- The record a memory was made from; null for what did not come from Zoho.
    module     text,
    record_id  text,
    kind       text        NOT NULL
               CHECK (kind IN ('account', 'contact', 'deal', 'task', 'note', 'activity', 'record')),
    content    text        NOT NULL,
    metadata   jsonb       NOT NULL DEFAULT '{}',
    -- SHA-256 over what a reader sees: equal means there is nothing to write.
    checksum   bytea       NOT NULL CHECK (length(checksum) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- One memory per record, so that two syncs can never remember it twice.
    CONSTRAINT memories_record_key UNIQUE (module, record_id)
);

CREATE INDEX memories_user_idx ON memories (user_id, created_at DESC, id);

CREATE TABLE memory_history (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    memory_id  uuid        NOT NULL,
    user_id    text        NOT NULL,
    account_id text,
    module     text,
    record_id  text,
    operation  text        NOT NULL CHECK (operation IN ('added', 'updated', 'deleted')),
    -- {"content", "metadata"} before and after; null where there was none.
    before     jsonb,
    after      jsonb,
    -- The newest event that had a part in the change.
    event_id   bigint,
    -- The webhook that told of it; null when nobody was there to be told.
    outbox_id  uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX memory_history_memory_idx ON memory_history (memory_id, id);
CREATE INDEX memory_history_record_idx ON memory_history (record_id, module, created_at);

-- +goose Down
DROP TABLE memory_history;
DROP TABLE memories;
