-- Work on all of what is remembered of a user: its graph, and what it says twice.

-- +goose Up

-- memory_runs are worked in slices, each one transaction: what it did and where
-- the run stands then are written together, so that a run that is cut anywhere
-- goes on behind its last slice.
CREATE TABLE memory_runs (
    id         uuid        PRIMARY KEY,
    kind       text        NOT NULL CHECK (kind IN ('graph_build', 'optimize')),
    user_id    text        NOT NULL,
    -- Counts what it would do, and does nothing.
    dry_run    boolean     NOT NULL DEFAULT false,
    state      text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'completed', 'failed')),
    -- Who asked, as "token/<name>", and in which request.
    actor      text        NOT NULL,
    request_id text        NOT NULL DEFAULT '',
    -- Its job; another one of this run has nothing to do.
    job_id     bigint,
    -- What it is at, and behind which row.
    phase      text        NOT NULL DEFAULT '',
    checkpoint jsonb       NOT NULL DEFAULT '{}',
    progress   jsonb       NOT NULL DEFAULT '{}',
    -- Slices in a row that failed for reasons of their own.
    failures   integer     NOT NULL DEFAULT 0,
    last_error text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz
);

-- Who asks for what already waits gets that one.
CREATE UNIQUE INDEX memory_runs_queued_key ON memory_runs (user_id, kind, dry_run) WHERE state = 'queued';
-- Runs that have not ended, for the sweeper: few at any time.
CREATE INDEX memory_runs_open_idx ON memory_runs (id) WHERE state IN ('queued', 'running');
CREATE INDEX memory_runs_ended_idx ON memory_runs (ended_at) WHERE ended_at IS NOT NULL;

-- memory_marks are what a run that looks for duplicates has seen: memories of equal
-- mark may say the same. They are gone when the run has ended.
CREATE TABLE memory_marks (
    run_id    uuid   NOT NULL REFERENCES memory_runs (id) ON DELETE CASCADE,
    mark      bigint NOT NULL,
    memory_id uuid   NOT NULL,
    PRIMARY KEY (run_id, mark, memory_id)
);

-- +goose Down
DROP TABLE memory_marks;
DROP TABLE memory_runs;
