-- name: LockAccounts :many
-- LockAccounts locks those of the lanes that nobody else holds, in the order of their ids.
SELECT account_id, wanted, done, due_at, job_id, now()::timestamptz AS now
FROM accounts WHERE account_id = ANY (@account_ids::text[]) ORDER BY account_id FOR UPDATE SKIP LOCKED;

-- name: InsertAccounts :many
-- InsertAccounts makes lanes that are not there yet. One that is, or that
-- another transaction has just made, is left out.
INSERT INTO accounts (account_id)
SELECT unnest(@account_ids::text[]) ORDER BY 1
ON CONFLICT DO NOTHING
RETURNING account_id, now()::timestamptz AS now;

-- name: WakeAccounts :exec
-- WakeAccounts writes what whoever brings work has decided under the lock.
UPDATE accounts a
SET wanted = n.wanted, due_at = n.due_at, job_id = n.job_id
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
    synced_at = now(), last_error = n.last_error
FROM (SELECT unnest(@account_ids::text[]) AS account_id, unnest(@wanted::bigint[]) AS wanted, unnest(@done::bigint[]) AS done,
             unnest(@due_at::timestamptz[]) AS due_at, unnest(@job_ids::bigint[]) AS job_id,
             unnest(@last_errors::text[]) AS last_error) AS n
WHERE a.account_id = n.account_id;

-- name: LockOrphanedAccounts :many
-- LockOrphanedAccounts finds lanes with work whose one job is not live any more.
WITH busy AS (
    SELECT account_id FROM accounts WHERE due_at IS NOT NULL OR wanted > done
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
