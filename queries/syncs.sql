-- name: InsertSync :one
-- InsertSync begins a run; pgx.ErrNoRows when one of its kind is under way.
INSERT INTO syncs (id, kind, requested_by, since, counts_missed)
VALUES (@id, @kind, @requested_by, nullif(@since::timestamptz, '0001-01-01 00:00:00+00'), @counts_missed)
ON CONFLICT (kind) WHERE state IN ('running', 'paused') DO NOTHING
RETURNING id;

-- name: InsertSyncParts :exec
-- InsertSyncParts makes a run's parts, in the order given.
INSERT INTO sync_parts (sync_id, module, position)
SELECT @sync_id, n.module, n.position
FROM (SELECT unnest(@modules::text[]) AS module, generate_subscripts(@modules::text[], 1) AS position) AS n;

-- name: SetSyncJob :exec
UPDATE syncs SET job_id = @job_id::bigint WHERE id = @id;

-- name: GetSync :one
SELECT * FROM syncs WHERE id = @id;

-- name: LockSync :one
-- LockSync locks a run: its pages are stored one after another.
SELECT *, now()::timestamptz AS now FROM syncs WHERE id = @id FOR UPDATE;

-- name: GetActiveSync :one
-- GetActiveSync returns the run of a kind that has not ended; pgx.ErrNoRows when there is none.
SELECT * FROM syncs WHERE kind = @kind AND state IN ('running', 'paused');

-- name: NewestCompletedSync :one
-- NewestCompletedSync returns the completed run, of any kind, that started last;
-- pgx.ErrNoRows when none has completed.
SELECT * FROM syncs WHERE state = 'completed' ORDER BY started_at DESC LIMIT 1;

-- name: ModuleReadBefore :one
-- ModuleReadBefore returns when the newest run began, of those before a time, that
-- read a module to its end; pgx.ErrNoRows when none has.
SELECT s.started_at FROM syncs s
JOIN sync_parts p ON p.sync_id = s.id AND p.module = @module AND p.phase = 'done' AND p.last_error = ''
WHERE s.state = 'completed' AND s.started_at < @before
ORDER BY s.started_at DESC LIMIT 1;

-- name: OldestSync :one
-- OldestSync returns when the first run started; pgx.ErrNoRows when there was none.
SELECT started_at FROM syncs ORDER BY started_at LIMIT 1;

-- name: ListSyncs :many
-- ListSyncs returns runs, newest first.
SELECT * FROM syncs ORDER BY started_at DESC, id DESC LIMIT @max_syncs;

-- name: ListSyncParts :many
SELECT * FROM sync_parts WHERE sync_id = ANY (@sync_ids::uuid[]) ORDER BY sync_id, position;

-- name: GetSyncPart :one
SELECT * FROM sync_parts WHERE sync_id = @sync_id AND module = @module;

-- name: CountSyncErrors :many
-- CountSyncErrors counts, by run, the records that could not be taken and still cannot.
SELECT sync_id, count(*) AS open FROM sync_errors
WHERE sync_id = ANY (@sync_ids::uuid[]) AND resolved_at IS NULL
GROUP BY sync_id;

-- name: ListSyncErrors :many
SELECT * FROM sync_errors WHERE sync_id = @sync_id ORDER BY created_at, module, record_id LIMIT @max_errors;

-- name: ListScheduledSyncs :many
-- ListScheduledSyncs returns for each kind when its newest run started, and
-- whether one is under way; a kind of which there was none started in the year 1.
SELECT k.kind::text AS kind, n.started_at,
       EXISTS (SELECT FROM syncs s WHERE s.kind = k.kind AND s.state IN ('running', 'paused')) AS active
FROM (SELECT unnest(ARRAY['incremental', 'full']) AS kind) AS k
CROSS JOIN LATERAL (
    SELECT coalesce(max(s.started_at), '0001-01-01 00:00:00+00')::timestamptz AS started_at FROM syncs s WHERE s.kind = k.kind
) AS n;

-- name: ReadClock :one
-- ReadClock is the database's time now, inside of a transaction too.
SELECT clock_timestamp()::timestamptz;

-- name: ListKnownRecords :many
-- ListKnownRecords returns what is known of records, deleted ones included.
SELECT record_id, data, modified_at, read_at, deleted_at, updated_at
FROM records WHERE module = @module AND record_id = ANY (@record_ids::text[]);

-- name: ListUnlistedRecords :many
-- ListUnlistedRecords returns what is alive as far as we know between two ids, the
-- first of them left out, in the order of ids, and is not among those listed. What
-- was written since the list was read is left out: the list could not know of it.
SELECT record_id, updated_at FROM records
WHERE module = @module AND deleted_at IS NULL
  AND (length(record_id), record_id) > (@after_length::int, @after_id::text)
  AND (length(record_id), record_id) <= (@last_length::int, @last_id::text)
  AND record_id <> ALL (@listed::text[])
  AND updated_at < @read_at
ORDER BY length(record_id), record_id
LIMIT @max_records;

-- name: ListToldChanges :many
-- ListToldChanges returns the positions, from 1, of those changes that somebody
-- told of: an event of another source came at that time or later. Of a deletion
-- only a delete tells.
SELECT k.position::bigint AS position
FROM (SELECT unnest(@record_ids::text[]) AS record_id, unnest(@since::timestamptz[]) AS since,
             unnest(@deletions::boolean[]) AS deletion, generate_subscripts(@record_ids::text[], 1) AS position) AS k
WHERE EXISTS (
    SELECT FROM events e
    WHERE e.record_id = k.record_id AND e.source <> 'reconcile' AND e.received_at >= k.since
      AND (NOT k.deletion OR e.operation = 'delete'));

-- name: ListReconcileEvents :many
-- ListReconcileEvents returns, for events that are to be stored, the newest one of
-- that id or one that begins with it: the same finding, made before.
-- "IS NOT DISTINCT FROM" is "=" that no index serves: each is looked up among its
-- record's events. By the key of source and id Postgres would walk all that was
-- ever found, where it takes them for few.
SELECT k.position::bigint AS position, n.status, n.processed_at
FROM (SELECT unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id,
             unnest(@event_ids::text[]) AS event_id, generate_subscripts(@event_ids::text[], 1) AS position) AS k
CROSS JOIN LATERAL (
    SELECT e.status, e.processed_at FROM events e
    WHERE e.record_id = k.record_id AND e.module = k.module AND e.source IS NOT DISTINCT FROM 'reconcile'
      AND starts_with(e.event_id, k.event_id)
    ORDER BY e.id DESC LIMIT 1
) AS n;

-- name: InsertReconcileEvents :many
-- InsertReconcileEvents stores events in the order of their key, as InsertEvents
-- does, and returns the ids of those that were not there yet.
INSERT INTO events (id, source, event_id, digest, module, operation, record_id, modified_fields, occurred_at)
SELECT n.id, 'reconcile', n.event_id, n.digest, n.module, n.operation, n.record_id,
       coalesce(string_to_array(nullif(n.modified_fields, ''), chr(31)), '{}'), nullif(n.occurred_at, '0001-01-01 00:00:00+00')
FROM (SELECT unnest(@ids::bigint[]) AS id, unnest(@event_ids::text[]) AS event_id, unnest(@digests::bytea[]) AS digest,
             unnest(@modules::text[]) AS module, unnest(@operations::text[]) AS operation,
             unnest(@record_ids::text[]) AS record_id, unnest(@modified_fields::text[]) AS modified_fields,
             unnest(@occurred_at::timestamptz[]) AS occurred_at) AS n
ORDER BY n.event_id
ON CONFLICT ON CONSTRAINT events_source_event_id_key DO NOTHING
RETURNING id;

-- name: AdvanceSyncPart :exec
-- AdvanceSyncPart writes how far a part is, and adds what its last page held.
UPDATE sync_parts
SET phase = @phase, cursor = @cursor, after_id = @after_id, last_error = @last_error,
    read = CASE WHEN @anew::boolean THEN 0 ELSE read + @read END, changed = changed + @changed, gone = gone + @gone, missed = missed + @missed
WHERE sync_id = @sync_id AND module = @module;

-- name: SetSyncExpected :exec
UPDATE sync_parts p SET expected = n.expected
FROM (SELECT unnest(@modules::text[]) AS module, unnest(@expected::bigint[]) AS expected) AS n
WHERE p.sync_id = @sync_id AND p.module = n.module;

-- name: ProgressSync :exec
-- ProgressSync says that a run goes on: whatever kept it is over.
UPDATE syncs SET updated_at = now(), waits_for = '', waits_until = NULL, failures = 0, last_error = '', calls = calls + @calls
WHERE id = @id;

-- name: HandOverSync :exec
-- HandOverSync ends a job of a run that is not at its end: what it waits for, and its next job.
UPDATE syncs
SET job_id = @job_id::bigint, waits_for = @waits_for, waits_until = nullif(@waits_until::timestamptz, '0001-01-01 00:00:00+00'),
    failures = @failures, last_error = @last_error, calls = calls + @calls,
    updated_at = CASE WHEN @keeps_time::boolean THEN updated_at ELSE now() END
WHERE id = @id;

-- name: FinishSync :exec
UPDATE syncs
SET state = @state, job_id = NULL, waits_for = '', waits_until = NULL, last_error = @last_error, calls = calls + @calls,
    updated_at = now(), finished_at = now()
WHERE id = @id;

-- name: PauseSync :one
-- PauseSync stops a run for the time being; pgx.ErrNoRows when it does not run.
UPDATE syncs SET state = 'paused', job_id = NULL, waits_for = '', waits_until = NULL, updated_at = now()
WHERE id = @id AND state = 'running' RETURNING id;

-- name: ResumeSync :one
-- ResumeSync lets a paused run go on; pgx.ErrNoRows when it is not paused.
UPDATE syncs SET state = 'running', failures = 0, updated_at = now() WHERE id = @id AND state = 'paused' RETURNING id;

-- name: CancelSync :one
-- CancelSync ends a run for good; pgx.ErrNoRows when it has ended.
UPDATE syncs SET state = 'cancelled', job_id = NULL, waits_for = '', waits_until = NULL, updated_at = now(), finished_at = now()
WHERE id = @id AND state IN ('running', 'paused') RETURNING id;

-- name: LockOrphanedSyncs :many
-- LockOrphanedSyncs finds runs whose one job is not live any more.
SELECT s.id, s.kind, s.waits_until, now()::timestamptz AS now FROM syncs s
WHERE s.state = 'running'
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = s.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY s.id
FOR UPDATE OF s SKIP LOCKED;

-- name: InsertSyncErrors :exec
-- InsertSyncErrors records what could not be taken; what is there already stays as it is.
INSERT INTO sync_errors (sync_id, module, record_id, error, attempts)
SELECT @sync_id, @module, n.record_id, n.error, n.attempts
FROM (SELECT unnest(@record_ids::text[]) AS record_id, unnest(@errors::text[]) AS error, unnest(@attempts::int[]) AS attempts) AS n
ON CONFLICT DO NOTHING;

-- name: NextSyncError :one
-- NextSyncError returns a record that is to be tried once more; pgx.ErrNoRows when none is.
SELECT module, record_id, attempts FROM sync_errors
WHERE sync_id = @sync_id AND resolved_at IS NULL AND attempts < @max_attempts
ORDER BY attempts, created_at, module, record_id
LIMIT 1;

-- name: MarkSyncError :execrows
-- MarkSyncError records one more try of a record, unless another attempt did.
UPDATE sync_errors
SET attempts = attempts + 1, error = CASE WHEN @resolved::boolean THEN error ELSE @error END,
    resolved_at = CASE WHEN @resolved::boolean THEN now() END
WHERE sync_id = @sync_id AND module = @module AND record_id = @record_id AND attempts = @attempts;

-- name: MarkAccountsWhole :many
-- MarkAccountsWhole says of the next accounts that a full sync has read all of
-- them; it returns their ids, in no order. Lanes of single records are no accounts.
-- Those that somebody else holds are left out: whoever routes an event holds some
-- and may wait for others that are being written.
WITH next AS (
    SELECT n.account_id FROM accounts n
    WHERE n.account_id > @after_id AND n.account_id NOT LIKE 'record:%' AND (n.whole_at IS NULL OR n.whole_at < @whole_at::timestamptz)
    ORDER BY n.account_id LIMIT @max_accounts
    FOR UPDATE SKIP LOCKED
)
UPDATE accounts a SET whole_at = @whole_at::timestamptz FROM next WHERE a.account_id = next.account_id
RETURNING a.account_id;

-- name: HasAccountsNotWhole :one
SELECT EXISTS (
    SELECT FROM accounts WHERE account_id NOT LIKE 'record:%' AND (whole_at IS NULL OR whole_at < @whole_at::timestamptz)
);

-- name: AskAccountWhole :exec
-- AskAccountWhole begins the read of a whole account anew.
UPDATE accounts SET whole_at = NULL, whole_since = now(), whole_cursor = '' WHERE account_id = @account_id;

-- name: ListAccountReads :many
-- ListAccountReads says of accounts how far the read of each is.
SELECT account_id, whole_at, whole_since, whole_cursor, last_error FROM accounts
WHERE account_id = ANY (@account_ids::text[]) ORDER BY account_id;

-- name: CountWorkingProcesses :one
-- CountWorkingProcesses counts the processes that work jobs and were seen of late.
SELECT count(*) FROM processes WHERE workers > 0 AND seen_at > now() - @within::interval;
