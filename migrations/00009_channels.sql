-- Zoho's notification channels: kept registered and alive.

-- +goose Up

ALTER TABLE channels
    -- Whose changes the channel tells; null for one that somebody else registered.
    ADD COLUMN module       text,
    ADD COLUMN events       text[]      NOT NULL DEFAULT '{}',
    ADD COLUMN notify_url   text        NOT NULL DEFAULT '',
    -- pending: not yet confirmed by Zoho; active; paused and removed by a person;
    -- lost: expired or forgotten, and not yet made anew.
    ADD COLUMN state        text        NOT NULL DEFAULT 'active'
        CHECK (state IN ('pending', 'active', 'paused', 'lost', 'removed')),
    -- As Zoho said it; null: not known.
    ADD COLUMN expires_at   timestamptz,
    -- When upkeep has something to do: renewal, or the next try.
    ADD COLUMN due_at       timestamptz,
    ADD COLUMN failures     integer     NOT NULL DEFAULT 0,
    ADD COLUMN last_error   text        NOT NULL DEFAULT '',
    ADD COLUMN confirmed_at timestamptz,
    ADD COLUMN updated_at   timestamptz NOT NULL DEFAULT now();

-- One channel for a module, whatever crashed in between.
CREATE UNIQUE INDEX channels_module_key ON channels (source, module) WHERE module IS NOT NULL AND state <> 'removed';

-- channel_tokens are the tokens that a channel's notifications may carry. Which
-- of two Zoho has is not known while a call is on its way, so there may be several.
CREATE TABLE channel_tokens (
    channel_id text        NOT NULL REFERENCES channels (channel_id) ON DELETE CASCADE,
    -- SHA-256 of the token; the token itself is not kept.
    token_hash bytea       NOT NULL CHECK (length(token_hash) = 32),
    -- Null: until Zoho is known to have another.
    until      timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel_id, token_hash)
);

INSERT INTO channel_tokens (channel_id, token_hash) SELECT channel_id, token_hash FROM channels;
INSERT INTO channel_tokens (channel_id, token_hash, until)
SELECT channel_id, previous_token_hash, previous_until FROM channels
WHERE previous_token_hash IS NOT NULL AND previous_until > now()
ON CONFLICT DO NOTHING;

ALTER TABLE channels DROP COLUMN token_hash, DROP COLUMN previous_token_hash, DROP COLUMN previous_until;

-- +goose Down

ALTER TABLE channels
    ADD COLUMN token_hash          bytea CHECK (length(token_hash) = 32),
    ADD COLUMN previous_token_hash bytea CHECK (length(previous_token_hash) = 32),
    ADD COLUMN previous_until      timestamptz;
UPDATE channels c SET token_hash = (
    SELECT t.token_hash FROM channel_tokens t WHERE t.channel_id = c.channel_id AND (t.until IS NULL OR t.until > now())
    ORDER BY t.created_at DESC LIMIT 1);
DELETE FROM channels WHERE token_hash IS NULL;
ALTER TABLE channels ALTER COLUMN token_hash SET NOT NULL;
DROP TABLE channel_tokens;
DROP INDEX channels_module_key;
ALTER TABLE channels
    DROP COLUMN module, DROP COLUMN events, DROP COLUMN notify_url, DROP COLUMN state, DROP COLUMN expires_at,
    DROP COLUMN due_at, DROP COLUMN failures, DROP COLUMN last_error, DROP COLUMN confirmed_at, DROP COLUMN updated_at;
