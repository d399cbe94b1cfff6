-- Reconciliation: what Zoho says as a whole, held against what we know.

-- +goose Up

-- syncs are the runs; one of a kind at a time.
CREATE TABLE syncs (
    id           uuid        PRIMARY KEY,
    kind         text        NOT NULL CHECK (kind IN ('full', 'incremental')),
    state        text        NOT NULL DEFAULT 'running'
                 CHECK (state IN ('running', 'paused', 'completed', 'failed', 'cancelled')),
    -- "schedule", or who asked.
    requested_by text        NOT NULL,
    -- Changes since then are looked at; null: everything is.
    since        timestamptz,
    -- Its job; another one of this sync has nothing to do.
    job_id       bigint,
    -- Why it stands still, and until when: Zoho is away, or the day's credits are spent.
    waits_for    text        NOT NULL DEFAULT '',
    waits_until  timestamptz,
    failures     integer     NOT NULL DEFAULT 0,
    last_error   text        NOT NULL DEFAULT '',
    calls        bigint      NOT NULL DEFAULT 0, -- API requests
    -- Whether an earlier sync had ended, so that webhooks were to bring what this one finds.
    counts_missed boolean    NOT NULL DEFAULT false,
    started_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);

CREATE UNIQUE INDEX syncs_active_key ON syncs (kind) WHERE state IN ('running', 'paused');
CREATE INDEX syncs_started_idx ON syncs (kind, started_at DESC);

-- sync_parts are a run's modules, each with its own cursor: a page is a
-- transaction, and a run that was cut goes on after its last one.
CREATE TABLE sync_parts (
    sync_id   uuid    NOT NULL REFERENCES syncs (id) ON DELETE CASCADE,
    module    text    NOT NULL,
    position  integer NOT NULL, -- the order in which modules are worked
    -- records: pages of the list; deleted: what Zoho says is gone; done; skipped: Zoho does not have the module.
    phase     text    NOT NULL DEFAULT 'records' CHECK (phase IN ('records', 'deleted', 'done', 'skipped')),
    cursor    text    NOT NULL DEFAULT '',
    -- The last id of the page before: what we know between it and the next and Zoho leaves out is gone.
    after_id  text    NOT NULL DEFAULT '',
    expected  bigint  NOT NULL DEFAULT 0, -- records, as Zoho counts them; 0: not known
    read      bigint  NOT NULL DEFAULT 0, -- records looked at
    changed   bigint  NOT NULL DEFAULT 0, -- of them: not as we knew them
    gone      bigint  NOT NULL DEFAULT 0, -- known to us and gone at Zoho's
    missed    bigint  NOT NULL DEFAULT 0, -- changed or gone, and no webhook had told
    last_error text   NOT NULL DEFAULT '',
    PRIMARY KEY (sync_id, module)
);

-- sync_errors are records that a run could not read; tried again singly at its end.
CREATE TABLE sync_errors (
    sync_id     uuid        NOT NULL REFERENCES syncs (id) ON DELETE CASCADE,
    module      text        NOT NULL,
    record_id   text        NOT NULL,
    error       text        NOT NULL,
    attempts    integer     NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    PRIMARY KEY (sync_id, module, record_id)
);

-- sync_health says of each kind how it went last, for people and monitors.
CREATE VIEW sync_health AS
SELECT k.kind,
       s.state, s.started_at, s.finished_at, s.waits_for, s.last_error,
       l.finished_at AS last_success_at,
       now() - l.started_at AS age
FROM (SELECT unnest(ARRAY['incremental', 'full']) AS kind) AS k
LEFT JOIN LATERAL (SELECT * FROM syncs WHERE syncs.kind = k.kind ORDER BY started_at DESC LIMIT 1) AS s ON true
LEFT JOIN LATERAL (SELECT * FROM syncs WHERE syncs.kind = k.kind AND syncs.state = 'completed' ORDER BY started_at DESC LIMIT 1) AS l ON true;

-- +goose Down
DROP VIEW sync_health;
DROP TABLE sync_errors;
DROP TABLE sync_parts;
DROP TABLE syncs;
