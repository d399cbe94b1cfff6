-- name: GetBreaker :one
-- GetBreaker reads a breaker, with the time that its times are to be held against.
SELECT name, failures, reason, opened_at, open_until, probe_until, updated_at, now()::timestamptz AS now
FROM breakers WHERE name = @name;

-- name: MakeBreaker :exec
-- MakeBreaker makes a closed breaker where there is none.
INSERT INTO breakers (name) VALUES (@name) ON CONFLICT DO NOTHING;

-- name: LockBreaker :one
-- LockBreaker reads a breaker for whoever is about to change it. The time is that
-- of the lock: another may have held it for a while.
SELECT name, failures, reason, opened_at, open_until, probe_until, updated_at, clock_timestamp()::timestamptz AS now
FROM breakers WHERE name = @name FOR UPDATE;

-- name: WriteBreaker :exec
-- WriteBreaker writes what follows from a failure.
UPDATE breakers
SET failures = @failures, reason = @reason, opened_at = sqlc.narg(opened_at), open_until = sqlc.narg(open_until), probe_until = NULL,
    updated_at = now()
WHERE name = @name;

-- name: ProbeBreaker :execrows
-- ProbeBreaker lets one caller of all nodes through a breaker whose time is over:
-- whoever changed the row.
UPDATE breakers SET probe_until = now() + @wait::interval, updated_at = now()
WHERE name = @name AND open_until <= now() AND (probe_until IS NULL OR probe_until <= now());

-- name: PassBreaker :execrows
-- PassBreaker closes a breaker after a success. While it is open, a success is
-- that of a call that began before, and closes nothing.
UPDATE breakers SET failures = 0, reason = '', opened_at = NULL, open_until = NULL, probe_until = NULL, updated_at = now()
WHERE name = @name AND (open_until IS NULL OR open_until <= now()) AND (failures > 0 OR open_until IS NOT NULL);

-- name: CloseBreaker :exec
-- CloseBreaker closes a breaker whatever it is open for.
UPDATE breakers SET failures = 0, reason = '', opened_at = NULL, open_until = NULL, probe_until = NULL, updated_at = now()
WHERE name = @name;
