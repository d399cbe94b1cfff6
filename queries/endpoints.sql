-- name: UpsertEndpoint :one
-- UpsertEndpoint makes the endpoint of this name what the settings say. One that
-- was disabled is tried again; one that a person paused stays so.
INSERT INTO endpoints (id, name, url, events, timeout, retry_schedule)
VALUES (@id, @name, @url, @events, @timeout, @retry_schedule)
ON CONFLICT (name) WHERE deleted_at IS NULL DO UPDATE
SET url = excluded.url, events = excluded.events, timeout = excluded.timeout,
    retry_schedule = excluded.retry_schedule, resume_at = NULL,
    -- Every node says so at its start: what is as it was has not changed.
    updated_at = CASE WHEN (endpoints.url, endpoints.events, endpoints.timeout, endpoints.retry_schedule) IS DISTINCT FROM
                           (excluded.url, excluded.events, excluded.timeout, excluded.retry_schedule)
                        OR endpoints.status = 'disabled'
                      THEN greatest(now(), endpoints.updated_at + interval '1 microsecond') ELSE endpoints.updated_at END,
    status = CASE WHEN endpoints.status = 'disabled' THEN 'active' ELSE endpoints.status END,
    status_reason = CASE WHEN endpoints.status = 'disabled' THEN '' ELSE endpoints.status_reason END,
    failing_since = NULL, failures = 0, warned_at = NULL, probing = false
RETURNING id;

-- name: DeleteEndpoint :many
-- DeleteEndpoint marks the endpoint of this name as gone and wakes its lane, which cancels what is open.
UPDATE endpoints SET deleted_at = now(), updated_at = greatest(now(), updated_at + interval '1 microsecond') WHERE name = @name AND deleted_at IS NULL RETURNING id;

-- name: GetEndpoint :one
SELECT * FROM endpoints WHERE id = @id;

-- name: ListWantedEvents :many
-- ListWantedEvents returns the events that somebody receives, or will once an endpoint is active again.
SELECT DISTINCT unnest(events)::text FROM endpoints WHERE deleted_at IS NULL;

-- name: BeginTelling :one
-- BeginTelling is TransactionTime and ListWantedEvents in one.
SELECT now()::timestamptz AS now, ARRAY(SELECT DISTINCT unnest(p.events) FROM endpoints p WHERE p.deleted_at IS NULL)::text[] AS wanted;

-- name: LockEndpoints :many
-- LockEndpoints locks endpoints that are not gone, in the order of their ids.
SELECT *, now()::timestamptz AS now FROM endpoints WHERE deleted_at IS NULL ORDER BY id FOR UPDATE;

-- name: LockEndpoint :one
-- LockEndpoint locks one endpoint, gone or not. now is when it was got hold of: who had
-- it before may have made it due after this transaction began.
SELECT *, clock_timestamp()::timestamptz AS now FROM endpoints WHERE id = @id FOR UPDATE;

-- name: WakeEndpoints :exec
UPDATE endpoints p
SET wanted = n.wanted, due_at = n.due_at, job_id = n.job_id
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@wanted::bigint[]) AS wanted,
             unnest(@due_at::timestamptz[]) AS due_at, unnest(@job_ids::bigint[]) AS job_id) AS n
WHERE p.id = n.id;

-- name: TakeEndpoint :one
-- TakeEndpoint clears what is due of a lane that names this job, and says how many
-- requests of earlier jobs are under way and how many deliveries wait for others;
-- pgx.ErrNoRows when the lane names another job. Nobody waits for the disk: without it
-- the lane is as it was, and so is its job.
UPDATE endpoints SET due_at = NULL
WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off' AND endpoints.id = @id AND endpoints.job_id = @job_id::bigint AND (endpoints.due_at IS NULL OR endpoints.due_at <= now())
RETURNING sqlc.embed(endpoints), now()::timestamptz AS now,
    (SELECT count(*) FROM deliveries d
     WHERE d.endpoint_id = endpoints.id AND d.status IN ('pending', 'retrying') AND d.next_attempt_at > now() AND d.leased_until > now())::bigint AS leased,
    (SELECT count(*) FROM (SELECT FROM deliveries w
     WHERE w.endpoint_id = endpoints.id AND w.order_key IS NOT NULL AND w.status = 'waiting' LIMIT 1) AS one)::bigint AS waiting;

-- name: CloseEndpoint :exec
-- CloseEndpoint writes what a lane goes on with, and ends the job that had it. One that
-- does not run any more was taken from its worker; its next attempt finds the effect.
WITH ended AS (
    UPDATE river_job SET state = 'completed', finalized_at = now() WHERE river_job.id = @ended_job AND river_job.state IS NOT DISTINCT FROM 'running'
)
UPDATE endpoints SET wanted = @wanted, done = @done, due_at = @due_at, job_id = @job_id, rate_at = @rate_at, full_until = @full_until WHERE endpoints.id = @id;

-- name: FreeEndpoint :exec
-- FreeEndpoint notes that fewer requests are under way than may be.
UPDATE endpoints SET full_until = NULL WHERE id = @id;

-- name: DisableEndpoint :exec
-- DisableEndpoint stops sending to an endpoint; its open deliveries are held.
UPDATE endpoints SET status = 'disabled', status_reason = @reason, probing = false, updated_at = greatest(now(), updated_at + interval '1 microsecond') WHERE id = @id AND (status = 'active' OR probing);

-- name: ListEndpointHealth :many
-- ListEndpointHealth returns how endpoints are, without a lock: whether what is known
-- of them has to be written is decided by it, in most groups not.
SELECT id, status, (failures > 0 OR resume_at IS NOT NULL)::boolean AS resting FROM endpoints WHERE id = ANY (@ids::uuid[]);

-- name: LockEndpointHealth :many
-- LockEndpointHealth locks endpoints, gone or not, in the order of their ids.
SELECT *, now()::timestamptz AS now FROM endpoints WHERE id = ANY (@ids::uuid[]) ORDER BY id FOR UPDATE;

-- name: ListFailingEndpoints :many
-- ListFailingEndpoints returns endpoints that nothing is sent to because they failed
-- or want no more, and those that it was told of that they fail.
SELECT name, status FROM endpoints
WHERE deleted_at IS NULL AND (status = 'disabled' OR (status = 'active' AND warned_at IS NOT NULL))
ORDER BY name;

-- name: UpdateEndpointHealth :exec
UPDATE endpoints SET status = @status, status_reason = @status_reason, failing_since = @failing_since, failures = @failures,
    warned_at = @warned_at, resume_at = @resume_at, probing = @probing WHERE id = @id;

-- name: LockOrphanedEndpoints :many
-- LockOrphanedEndpoints finds lanes with work whose one job is not live any more.
SELECT p.id, greatest(p.wanted, p.done + 1)::bigint AS wanted, p.due_at, now()::timestamptz AS now FROM endpoints p
WHERE (p.due_at IS NOT NULL OR p.wanted > p.done
       OR ((p.status = 'active' OR p.probing) AND EXISTS (SELECT FROM deliveries d WHERE d.endpoint_id = p.id AND d.status IN ('pending', 'retrying'))))
  AND NOT EXISTS (SELECT FROM river_job j WHERE j.id = p.job_id
                  AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled'))
ORDER BY p.id
FOR UPDATE OF p SKIP LOCKED;

-- name: FindEndpoint :one
-- FindEndpoint returns the endpoint of this id or name that is not gone.
SELECT * FROM endpoints WHERE deleted_at IS NULL AND (id = sqlc.narg('id')::uuid OR name = @name);

-- name: LockEndpointToChange :one
-- LockEndpointToChange locks the endpoint of this id or name that is not gone.
SELECT * FROM endpoints WHERE deleted_at IS NULL AND (id = sqlc.narg('id')::uuid OR name = @name) FOR UPDATE;

-- name: ListEndpoints :many
SELECT * FROM endpoints WHERE deleted_at IS NULL ORDER BY name;

-- name: CountOpenDeliveries :many
-- CountOpenDeliveries counts, for each endpoint, the webhooks that have not arrived
-- and may: at most 100,000 each of those that are due, that wait for an earlier one
-- and that are in a batch, so that a look at an endpoint costs no more than that.
SELECT p.id,
       ((SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.endpoint_id = p.id AND d.outbox_id IS NOT NULL
                                 AND d.status IN ('pending', 'retrying') LIMIT 100000) AS due)
      + (SELECT count(*) FROM (SELECT FROM deliveries d WHERE d.endpoint_id = p.id AND d.order_key IS NOT NULL
                                 AND d.status = 'waiting' LIMIT 100000) AS waiting)
      + (SELECT count(*) FROM (SELECT FROM deliveries c JOIN deliveries d ON d.batch_id = c.batch_id AND d.status = 'batched'
                               WHERE c.endpoint_id = p.id AND c.outbox_id IS NULL
                                 AND c.status IN ('pending', 'retrying') LIMIT 100000) AS batched))::bigint AS open
FROM endpoints p WHERE p.id = ANY (@ids::uuid[]);

-- name: InsertEndpoint :one
INSERT INTO endpoints (id, name, url, description, events, user_ids, filter, form, ordered, batch_size, batch_wait,
                       rate_limit, max_in_flight, timeout, retry_schedule, sealed)
VALUES (@id, @name, @url, @description, @events, @user_ids, @filter, @form, @ordered, @batch_size, @batch_wait,
        @rate_limit, @max_in_flight, @timeout, @retry_schedule, @sealed)
RETURNING *;

-- name: UpdateEndpoint :one
-- UpdateEndpoint makes a locked endpoint what it was changed to. A new limit begins to
-- count now, and anew is tried at once: other credentials, or another URL. updated_at
-- always grows: with the id it names what was read of the row.
UPDATE endpoints
SET name = @name, url = @url, description = @description, events = @events, user_ids = @user_ids, filter = @filter,
    form = @form, ordered = @ordered, batch_size = @batch_size, batch_wait = @batch_wait,
    rate_at = CASE WHEN rate_limit IS DISTINCT FROM @rate_limit THEN NULL ELSE rate_at END, rate_limit = @rate_limit,
    full_until = CASE WHEN max_in_flight <> @max_in_flight OR @anew::boolean THEN NULL ELSE full_until END, max_in_flight = @max_in_flight,
    timeout = @timeout, retry_schedule = @retry_schedule, sealed = @sealed,
    resume_at = CASE WHEN @anew::boolean THEN NULL ELSE resume_at END,
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE id = @id
RETURNING *;

-- name: PauseEndpoint :one
-- PauseEndpoint holds what is open of a locked endpoint.
UPDATE endpoints SET status = 'paused', status_reason = @reason, probing = false,
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE id = @id
RETURNING *;

-- name: ResumeEndpoint :one
-- ResumeEndpoint makes a locked endpoint one that nothing is known against.
UPDATE endpoints SET status = 'active', status_reason = '', probing = false,
    failing_since = NULL, failures = 0, warned_at = NULL, resume_at = NULL, full_until = NULL,
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE id = @id
RETURNING *;

-- name: RemoveEndpoint :exec
-- RemoveEndpoint marks a locked endpoint as gone and forgets its secrets.
UPDATE endpoints SET deleted_at = now(), sealed = NULL,
    updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
WHERE id = @id;
