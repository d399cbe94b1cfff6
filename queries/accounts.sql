-- name: LockAccounts :many
-- LockAccounts locks those of the lanes that nobody else holds, in the order of their ids.
SELECT account_id, wanted, done, due_at, job_id, whole_at, whole_since, whole_cursor, now()::timestamptz AS now
FROM accounts WHERE account_id = ANY (@account_ids::text[]) ORDER BY account_id FOR UPDATE SKIP LOCKED;

-- name: InsertAccounts :many
-- InsertAccounts makes lanes that are not there yet. One that is, or that
-- another transaction has just made, is left out.
INSERT INTO accounts (account_id)
SELECT unnest(@account_ids::text[]) ORDER BY 1
ON CONFLICT DO NOTHING
RETURNING account_id, now()::timestamptz AS now;

-- name: WakeAccounts :exec
-- WakeAccounts writes what whoever brings work has decided under the lock. What is
-- taken in the same transaction is not due any more.
UPDATE accounts a
SET wanted = n.wanted, due_at = nullif(n.due_at, '0001-01-01 00:00:00+00'), job_id = n.job_id
FROM (SELECT unnest(@account_ids::text[]) AS account_id, unnest(@wanted::bigint[]) AS wanted,
             unnest(@due_at::timestamptz[]) AS due_at, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE a.account_id = n.account_id;

-- name: TakeAccounts :exec
-- TakeAccounts clears what is due: the job that took it answers for it now.
UPDATE accounts SET due_at = NULL WHERE account_id = ANY (@account_ids::text[]);

-- name: CloseAccounts :exec
-- CloseAccounts writes the end of a sync: what is done, and what is next.
UPDATE accounts a
SET wanted = n.wanted, done = n.done, due_at = nullif(n.due_at, '0001-01-01 00:00:00+00'), job_id = nullif(n.job_id, 0),
    synced_at = now(), last_error = n.last_error, whole_at = nullif(n.whole_at, '0001-01-01 00:00:00+00'),
    whole_since = nullif(n.whole_since, '0001-01-01 00:00:00+00'), whole_cursor = n.whole_cursor
FROM (SELECT unnest(@account_ids::text[]) AS account_id, unnest(@wanted::bigint[]) AS wanted, unnest(@done::bigint[]) AS done,
             unnest(@due_at::timestamptz[]) AS due_at, unnest(@job_ids::bigint[]) AS job_id,
             unnest(@last_errors::text[]) AS last_error, unnest(@whole_at::timestamptz[]) AS whole_at,
             unnest(@whole_since::timestamptz[]) AS whole_since, unnest(@whole_cursors::text[]) AS whole_cursor) AS n
WHERE a.account_id = n.account_id;

-- name: LockOrphanedAccounts :many
-- LockOrphanedAccounts finds lanes with work whose one job is not live any more.
WITH busy AS (
    SELECT account_id FROM accounts WHERE due_at IS NOT NULL OR wanted > done
    UNION
    SELECT account_id FROM accounts WHERE whole_since IS NOT NULL
    UNION
    SELECT account_id FROM events WHERE status IN ('routed', 'retrying') AND account_id IS NOT NULL
)
SELECT a.account_id, greatest(a.wanted, a.done + 1)::bigint AS wanted, a.due_at, now()::timestamptz AS now
FROM accounts a
WHERE a.account_id IN (SELECT b.account_id FROM busy b)
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = a.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY a.account_id
LIMIT @max_accounts
FOR UPDATE OF a SKIP LOCKED;

-- name: ReadsEverything :one
-- ReadsEverything reports whether a full sync is under way, which brings every
-- account whole. One that stands still for an hour puts nothing off.
SELECT EXISTS (SELECT FROM syncs WHERE kind = 'full' AND state = 'running' AND updated_at > now() - interval '1 hour');

-- name: SummarizeAccounts :many
-- SummarizeAccounts counts what belongs to accounts, each kind up to @most: an
-- account with 50,000 contacts is not walked whole for each of them.
SELECT a.account_id::text AS account_id, c.n AS contacts, d.n AS deals, d.open AS open_deals, d.amount::text AS open_amount,
       t.n AS tasks, t.open AS open_tasks, o.n AS notes, v.n AS activities
FROM (SELECT unnest(@account_ids::text[]) AS account_id) AS a
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM records r WHERE r.account_id = a.account_id AND r.module = 'Contacts' AND r.deleted_at IS NULL LIMIT @most
    ) AS r
) AS c
CROSS JOIN LATERAL (
    SELECT count(*) AS n, count(*) FILTER (WHERE r.open) AS open, coalesce(sum(r.amount) FILTER (WHERE r.open), 0) AS amount FROM (
        SELECT coalesce(r.data->>'Stage', '') NOT LIKE 'Closed%' AS open,
               CASE WHEN jsonb_typeof(r.data->'Amount') = 'number' THEN (r.data->>'Amount')::numeric END AS amount
        FROM records r WHERE r.account_id = a.account_id AND r.module = 'Deals' AND r.deleted_at IS NULL LIMIT @most
    ) AS r
) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS n, count(*) FILTER (WHERE r.open) AS open FROM (
        SELECT coalesce(r.data->>'Status', '') <> 'Completed' AS open
        FROM records r WHERE r.account_id = a.account_id AND r.module = 'Tasks' AND r.deleted_at IS NULL LIMIT @most
    ) AS r
) AS t
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM records r WHERE r.account_id = a.account_id AND r.module = 'Notes' AND r.deleted_at IS NULL LIMIT @most
    ) AS r
) AS o
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM (
        SELECT FROM records r WHERE r.account_id = a.account_id AND r.module = ANY ('{Events,Calls,Meetings,Activities}'::text[])
          AND r.deleted_at IS NULL LIMIT @most
    ) AS r
) AS v;
