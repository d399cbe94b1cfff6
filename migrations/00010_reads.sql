-- What is read from Zoho itself.

-- +goose Up

-- When the read began that the record was last made of; null: it was made of payloads.
ALTER TABLE records ADD COLUMN read_at timestamptz;

-- A module's living records in the order of their ids, which are digits: what a
-- list of Zoho leaves out between two of them is gone.
CREATE INDEX records_order_idx ON records (module, length(record_id), record_id) WHERE deleted_at IS NULL;

ALTER TABLE accounts
    -- When the read of the whole account began that ended last; null: it never was read whole.
    ADD COLUMN whole_at     timestamptz,
    -- Of the read that is under way: when it began, and where it goes on.
    ADD COLUMN whole_since  timestamptz,
    ADD COLUMN whole_cursor text        NOT NULL DEFAULT '';

-- Accounts that are being read whole, for the sweeper: few at any time.
CREATE INDEX accounts_whole_idx ON accounts (account_id) WHERE whole_since IS NOT NULL;

-- relationships are the graph: who has to do with whom, and who says so.
CREATE TABLE relationships (
    id           uuid        PRIMARY KEY,
    user_id      text        NOT NULL,
    source       text        NOT NULL,
    relationship text        NOT NULL,
    target       text        NOT NULL,
    confidence   real        NOT NULL DEFAULT 1 CHECK (confidence BETWEEN 0 AND 1),
    metadata     jsonb       NOT NULL DEFAULT '{}',
    -- The record whose fields say it; null for what did not come from Zoho.
    module       text,
    record_id    text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT relationships_key UNIQUE NULLS NOT DISTINCT (user_id, source, relationship, target, module, record_id)
);

CREATE INDEX relationships_record_idx ON relationships (module, record_id);

-- +goose Down
DROP TABLE relationships;
DROP INDEX accounts_whole_idx;
ALTER TABLE accounts DROP COLUMN whole_at, DROP COLUMN whole_since, DROP COLUMN whole_cursor;
DROP INDEX records_order_idx;
ALTER TABLE records DROP COLUMN read_at;
