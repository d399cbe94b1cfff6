-- Who may use the API, and what it asks for.

-- +goose Up

-- api_tokens are what programs prove themselves with. The token is shown once,
-- when it is made; its SHA-256 is kept.
CREATE TABLE api_tokens (
    id           uuid        PRIMARY KEY,
    -- As the audit and the history of memories name it: "token/<name>".
    name         text        NOT NULL,
    hash         bytea       NOT NULL UNIQUE CHECK (length(hash) = 32),
    -- What it may do: memory (the memory API), admin:read, admin:write.
    scopes       text[]      NOT NULL CHECK (scopes <@ ARRAY['memory', 'admin:read', 'admin:write']),
    -- Whose memories it may see and change; null: everybody's.
    user_ids     text[],
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    -- To the minute: a write for each request would cost more than it tells.
    last_used_at timestamptz
);

CREATE UNIQUE INDEX api_tokens_name_key ON api_tokens (name) WHERE revoked_at IS NULL;

-- What happened to an account lately, newest first: a part of what is told of it.
CREATE INDEX events_account_idx ON events (account_id, id DESC) WHERE account_id IS NOT NULL;

-- +goose Down
DROP INDEX events_account_idx;
DROP TABLE api_tokens;
