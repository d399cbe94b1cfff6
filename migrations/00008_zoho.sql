-- What all nodes share of our connection with Zoho.

-- +goose Up

-- zoho_tokens is one row per connection: the authorisation, and the access token
-- that all nodes use, for Zoho gives out ten in ten minutes.
CREATE TABLE zoho_tokens (
    name          text        PRIMARY KEY,
    client_id     text        NOT NULL,
    accounts_url  text        NOT NULL,
    -- The API's base URL as Zoho said it with the last token.
    api_url       text        NOT NULL DEFAULT '',
    scopes        text[]      NOT NULL DEFAULT '{}',
    -- Sealed. Null: the refresh token stands in the environment.
    refresh_token bytea,
    -- SHA-256 over client and refresh token: with others the row starts anew.
    grant_digest  bytea       NOT NULL CHECK (length(grant_digest) = 32),
    -- Sealed.
    access_token  bytea,
    access_until  timestamptz,
    -- Who asks Zoho for the next one, and until when the others wait for that.
    leased_by     uuid,
    leased_until  timestamptz,
    -- When tokens were asked for within the last ten minutes.
    asked_at      timestamptz[] NOT NULL DEFAULT '{}',
    -- Zoho refuses further requests until then.
    blocked_until timestamptz,
    state         text        NOT NULL DEFAULT 'ok' CHECK (state IN ('ok', 'revoked')),
    last_error    text        NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- breakers keep an outage of somebody else from costing a call of every job.
CREATE TABLE breakers (
    name       text        PRIMARY KEY,
    failures   integer     NOT NULL DEFAULT 0, -- in a row
    reason     text        NOT NULL DEFAULT '',
    opened_at  timestamptz,
    -- Nobody calls before; null: closed.
    open_until timestamptz,
    -- After that one calls, the probe, and the others wait for it until then.
    probe_until timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- +goose Down
DROP TABLE breakers;
DROP TABLE zoho_tokens;
