-- What an embedder made of memories, so that none is sent to it twice.

-- +goose Up
CREATE TABLE memory_embeddings (
    memory_id uuid   PRIMARY KEY REFERENCES memories (id) ON DELETE CASCADE,
    model     text   NOT NULL,
    -- SHA-256 of the text that was embedded: a memory that says something else now
    -- is embedded anew.
    checksum  bytea  NOT NULL CHECK (length(checksum) = 32),
    embedding real[] NOT NULL
);

-- Numbers like these do not get smaller by compression.
ALTER TABLE memory_embeddings ALTER COLUMN embedding SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE memory_embeddings;
