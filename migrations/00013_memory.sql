-- What agents store and find.

-- +goose Up

-- Trigrams, for words that are typed wrong; GIN over a plain column, so that one
-- index finds the words of one user. Both come with Postgres (contrib) and are
-- trusted: the owner of the database may create them.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;

ALTER TABLE memories
    DROP CONSTRAINT memories_kind_check,
    ADD CONSTRAINT memories_kind_check CHECK (kind IN (
        'account', 'contact', 'deal', 'task', 'note', 'activity', 'record',
        'fact', 'preference', 'correction', 'conversation', 'summary', 'instruction')),
    -- Where a memory came from that another memory system told of, and its id there.
    ADD COLUMN origin     text,
    ADD COLUMN origin_id  text,
    -- From then on nobody is shown it; the sweep deletes it.
    ADD COLUMN expires_at timestamptz,
    -- Whose words it is made of. The program's connections set
    -- default_text_search_config from MEMORY_LANGUAGE.
    ADD COLUMN language   regconfig NOT NULL DEFAULT get_current_ts_config(),
    -- The first part alone: Postgres refuses to index more than a megabyte of words.
    ADD COLUMN search     tsvector  NOT NULL GENERATED ALWAYS AS (to_tsvector(language, left(content, 100000))) STORED,
    ADD CONSTRAINT memories_origin_key UNIQUE (origin, origin_id);

CREATE INDEX memories_search_idx ON memories USING gin (user_id, search);
CREATE INDEX memories_account_idx ON memories (account_id, updated_at DESC, id);
CREATE INDEX memories_expiry_idx ON memories (expires_at) WHERE expires_at IS NOT NULL;

-- Who changed it, as "token/<name>" or "zoho"; and into which other memory one was merged.
ALTER TABLE memory_history
    ADD COLUMN actor       text NOT NULL DEFAULT '',
    ADD COLUMN merged_into uuid;

-- The memory that a line of the graph was derived from; it goes with it.
ALTER TABLE relationships
    ADD COLUMN memory_id uuid REFERENCES memories (id) ON DELETE CASCADE,
    DROP CONSTRAINT relationships_key,
    ADD CONSTRAINT relationships_key UNIQUE NULLS NOT DISTINCT (user_id, source, relationship, target, module, record_id, memory_id);

CREATE INDEX relationships_source_idx ON relationships (user_id, source);
CREATE INDEX relationships_target_idx ON relationships (user_id, target);
CREATE INDEX relationships_memory_idx ON relationships (memory_id) WHERE memory_id IS NOT NULL;

-- idempotency_keys are the answers to writes that carried an Idempotency-Key: whoever
-- repeats one gets the same answer, and nothing is done. Kept for a day.
CREATE TABLE idempotency_keys (
    actor      text        NOT NULL,
    key        text        NOT NULL,
    -- SHA-256 of what was asked: another question under the same key is a mistake.
    digest     bytea       NOT NULL CHECK (length(digest) = 32),
    answer     jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, key)
);

CREATE INDEX idempotency_keys_age_idx ON idempotency_keys (created_at);

-- +goose Down
DROP TABLE idempotency_keys;
DELETE FROM relationships WHERE memory_id IS NOT NULL;
DROP INDEX relationships_source_idx, relationships_target_idx;
ALTER TABLE relationships
    DROP COLUMN memory_id,
    ADD CONSTRAINT relationships_key UNIQUE NULLS NOT DISTINCT (user_id, source, relationship, target, module, record_id);
ALTER TABLE memory_history DROP COLUMN actor, DROP COLUMN merged_into;
DROP INDEX memories_search_idx, memories_account_idx, memories_expiry_idx;
DELETE FROM memories WHERE kind NOT IN ('account', 'contact', 'deal', 'task', 'note', 'activity', 'record');
ALTER TABLE memories
    DROP CONSTRAINT memories_kind_check,
    DROP COLUMN origin, DROP COLUMN origin_id, DROP COLUMN expires_at, DROP COLUMN search, DROP COLUMN language,
    ADD CONSTRAINT memories_kind_check CHECK (kind IN ('account', 'contact', 'deal', 'task', 'note', 'activity', 'record'));
-- The extensions stay: others may have come to use them.
