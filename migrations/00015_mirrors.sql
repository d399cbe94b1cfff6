-- Other memory systems that follow ours.

-- +goose Up

-- memories_to_copy are the memories as they are copied: those that have not
-- expired. Two of equal checksum read the same and expire at the same time.
CREATE VIEW memories_to_copy AS
SELECT id, user_id, kind, content, metadata, origin, expires_at,
       (CASE WHEN expires_at IS NULL THEN checksum
             ELSE sha256(checksum || convert_to(extract(epoch FROM expires_at)::text, 'UTF8')) END)::bytea AS checksum
FROM memories
WHERE expires_at IS NULL OR expires_at > now();

-- mirrors are the lanes of the memories that are copied to another system: a
-- memory's present state is carried there, so an update can never overtake a
-- delete. A row outlives its memory until the copy is gone, too.
CREATE TABLE mirrors (
    backend       text        NOT NULL CHECK (backend IN ('cognee', 'mem0')),
    memory_id     uuid        NOT NULL,
    user_id       text        NOT NULL,
    -- The copy's id there; null: none is known.
    remote_id     text,
    -- An Add was begun then whose answer is not known: who repeats it looks first.
    adding_since  timestamptz,
    -- Of what the copy holds; null: nothing is known of it.
    checksum      bytea       CHECK (length(checksum) = 32),
    -- What is wanted and not done is still to be carried, also when the lane is dead.
    wanted        bigint      NOT NULL DEFAULT 0,
    done          bigint      NOT NULL DEFAULT 0,
    -- When the lane is next to run; null: nothing waits, or its job has taken it.
    due_at        timestamptz,
    job_id        bigint,
    -- Answers that were about this memory and no good; outages do not count.
    failures      integer     NOT NULL DEFAULT 0,
    -- Calls in a row that came to nothing for reasons of the world's, and since when.
    waits         integer     NOT NULL DEFAULT 0,
    failing_since timestamptz,
    tried_at      timestamptz,
    status        text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'synced', 'retrying', 'dead')),
    last_error    text        NOT NULL DEFAULT '',
    -- Since when the copy is behind; null: it is not.
    waiting_since timestamptz,
    synced_at     timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- The id first: a backend has very many rows, a memory one or two.
    PRIMARY KEY (memory_id, backend)
);

-- Lanes that are not done, for the sweeper and for the status: few while all is well.
CREATE INDEX mirrors_open_idx ON mirrors (backend, memory_id) WHERE status <> 'synced';

-- digests are the lanes of systems that work up what was copied: Cognee makes its
-- graph of it in runs, one at a time, begun a while after the last change.
CREATE TABLE digests (
    backend      text        PRIMARY KEY CHECK (backend IN ('cognee')),
    wanted       bigint      NOT NULL DEFAULT 0,
    done         bigint      NOT NULL DEFAULT 0,
    -- What was wanted when the present run began.
    taken        bigint      NOT NULL DEFAULT 0,
    due_at       timestamptz,
    job_id       bigint,
    -- The first change that no run has begun with.
    changed_at   timestamptz,
    -- starting: a run was asked for and the answer is not known.
    state        text        NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'waiting', 'starting', 'running', 'retrying')),
    failures     integer     NOT NULL DEFAULT 0, -- in a row
    last_error   text        NOT NULL DEFAULT '',
    started_at   timestamptz,
    completed_at timestamptz
);

-- +goose Down
DROP TABLE digests;
DROP TABLE mirrors;
DROP VIEW memories_to_copy;
