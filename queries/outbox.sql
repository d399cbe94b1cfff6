-- name: InsertOutbox :exec
-- InsertOutbox stores webhooks in the order given: seq follows it.
INSERT INTO outbox (id, event, user_id, payload)
SELECT n.id, n.event, n.user_id, n.payload
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@events::text[]) AS event, unnest(@user_ids::text[]) AS user_id,
             unnest(@payloads::bytea[]) AS payload, generate_subscripts(@ids::uuid[], 1) AS position) AS n
ORDER BY n.position;

-- name: InsertOutboxAndRelay :exec
-- InsertOutboxAndRelay is InsertOutbox together with the job that relays what waits, if
-- nobody has done it by then. It waits as available, as in DelayJobs: what is scheduled
-- the queue's leader locks, together with other jobs and in another order than a relay.
WITH job AS (
    INSERT INTO river_job (args, kind, max_attempts, queue, scheduled_at)
    VALUES ('{}', @kind, @max_attempts, @queue, now() + @after::interval)
)
INSERT INTO outbox (id, event, user_id, payload)
SELECT n.id, n.event, n.user_id, n.payload
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@events::text[]) AS event, unnest(@user_ids::text[]) AS user_id,
             unnest(@payloads::bytea[]) AS payload, generate_subscripts(@ids::uuid[], 1) AS position) AS n
ORDER BY n.position;

-- name: InsertRelayJob :exec
-- InsertRelayJob is the job of InsertOutboxAndRelay alone.
INSERT INTO river_job (args, kind, max_attempts, queue, scheduled_at) VALUES ('{}', @kind, @max_attempts, @queue, now() + @after::interval);

-- name: InsertOutboxOnce :many
-- InsertOutboxOnce stores those webhooks whose ids are not there, and returns these.
-- seq follows the order given; rows go in in the order of their ids, so that two
-- transactions that bring the same wait for each other instead of deadlocking.
INSERT INTO outbox (id, seq, event, user_id, payload)
SELECT n.id, n.seq, n.event, n.user_id, n.payload
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@events::text[]) AS event, unnest(@user_ids::text[]) AS user_id,
             unnest(@payloads::bytea[]) AS payload, nextval('outbox_seq_seq') AS seq) AS n
ORDER BY n.id
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: BeginRelay :one
-- BeginRelay lets one relay work at a time, so that deliveries are made in the order of
-- seq, and locks what waits: it returns the webhooks in that order, each with the size of
-- its payload in bytes, and the jobs of relays that wait, a thousand at most, for many may
-- have gathered while the queue was paused. What it sees is from before it
-- had to wait for another relay: a row that is relayed by then is left out as it is
-- locked, and what came meanwhile has a job that is not among these.
WITH held AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended('memrelay relay', 0)) IS NOT NULL AS alone)
SELECT coalesce(array_agg(w.id ORDER BY w.seq), '{}')::uuid[] AS ids,
       coalesce(array_agg(w.event ORDER BY w.seq), '{}')::text[] AS events,
       coalesce(array_agg(w.user_id ORDER BY w.seq), '{}')::text[] AS user_ids,
       coalesce(array_agg(w.size ORDER BY w.seq), '{}')::int[] AS sizes,
       ARRAY(SELECT j.id FROM river_job j WHERE j.kind = 'relay' AND j.queue = 'relay' AND j.state = 'available'
             ORDER BY j.priority, j.scheduled_at, j.id LIMIT 1000 FOR UPDATE SKIP LOCKED)::bigint[] AS jobs
FROM (SELECT o.id, o.seq, o.event, o.user_id, coalesce(octet_length(o.payload), 0)::int AS size FROM outbox o
      WHERE o.relayed_at IS NULL AND (SELECT alone FROM held)
      ORDER BY o.seq LIMIT @max_rows
      FOR NO KEY UPDATE) AS w;

-- name: RelayOutbox :many
-- RelayOutbox makes one delivery per webhook and endpoint; one that is there stays as
-- it is. With an order key it waits for the open ones of that key. It returns the
-- endpoints that got some which wait for none. They are due from this statement on and
-- not from the transaction's begin: relays may begin in another order than they relay.
-- The webhooks are marked as relayed, and the jobs have ended whose work this was.
WITH made AS (
INSERT INTO deliveries (outbox_id, endpoint_id, order_key, next_attempt_at, status)
SELECT n.outbox_id, n.endpoint_id, n.order_key, statement_timestamp(),
       CASE WHEN n.order_key IS NOT NULL
             AND (row_number() OVER (PARTITION BY n.endpoint_id, n.order_key ORDER BY n.position) > 1
                  OR EXISTS (SELECT FROM deliveries o
                             WHERE o.endpoint_id = n.endpoint_id AND o.order_key = n.order_key AND o.status IN ('pending', 'retrying', 'waiting')))
            THEN 'waiting' ELSE 'pending' END
FROM (SELECT u.outbox_id, u.endpoint_id, nullif(u.order_key, '') AS order_key, u.position
      FROM (SELECT unnest(@outbox_ids::uuid[]) AS outbox_id, unnest(@endpoint_ids::uuid[]) AS endpoint_id,
                   unnest(@order_keys::text[]) AS order_key, generate_subscripts(@outbox_ids::uuid[], 1) AS position) AS u) AS n
ORDER BY n.position
ON CONFLICT ON CONSTRAINT deliveries_outbox_id_endpoint_id_key DO NOTHING
RETURNING endpoint_id, status),
relayed AS (UPDATE outbox SET relayed_at = now() WHERE outbox.id = ANY (@relayed::uuid[])),
ended AS (UPDATE river_job SET state = 'completed', finalized_at = now() WHERE river_job.id = ANY (@jobs::bigint[]) AND finalized_at IS NULL)
SELECT DISTINCT endpoint_id FROM made WHERE status = 'pending';

-- name: ListPayloads :many
SELECT id, payload FROM outbox WHERE id = ANY (@ids::uuid[]);

-- name: HasOrphanedOutbox :one
-- HasOrphanedOutbox reports whether webhooks wait to be relayed while no live job will do it.
SELECT (EXISTS (SELECT FROM outbox WHERE relayed_at IS NULL)
    AND NOT EXISTS (SELECT FROM river_job WHERE kind = 'relay'
                    AND state IN ('available', 'pending', 'retryable', 'running', 'scheduled')))::boolean;

-- name: LockWebhooks :many
-- LockWebhooks keeps the payloads of webhooks from being forgotten until this
-- transaction has ended, and returns which are there, in the order of seq.
SELECT id, seq, user_id, (payload IS NOT NULL)::boolean AS kept FROM outbox WHERE id = ANY (@ids::uuid[]) ORDER BY seq FOR SHARE;

-- name: GetOutboxRange :one
-- GetOutboxRange returns the least and the greatest seq of the webhooks of a time that
-- still have their payload; both 0 when there are none. (OFFSET 0 keeps the planner
-- from walking all of the outbox by seq until it meets one of that time.)
SELECT coalesce(min(o.seq), 0)::bigint AS first, coalesce(max(o.seq), 0)::bigint AS last
FROM (SELECT seq FROM outbox WHERE payload IS NOT NULL AND created_at BETWEEN @since AND @until OFFSET 0) AS o;

-- name: GetFirstUnrelayed :one
-- GetFirstUnrelayed returns the least seq of the webhooks of a time that are not relayed yet; 0 when all are.
SELECT coalesce(min(seq), 0)::bigint FROM outbox WHERE relayed_at IS NULL AND created_at BETWEEN @since AND @until;

-- name: ListOutboxToReplay :many
-- ListOutboxToReplay returns relayed webhooks of a time in the order of seq, after one
-- position and up to another, and what became of them at an endpoint ("": nothing).
SELECT o.id, o.seq, o.event, o.user_id, (o.payload IS NOT NULL)::boolean AS kept, coalesce(d.status, '')::text AS status
FROM outbox o LEFT JOIN deliveries d ON d.outbox_id = o.id AND d.endpoint_id = @endpoint_id
WHERE o.seq > @after AND o.seq <= @up_to AND o.created_at BETWEEN @since AND @until AND o.relayed_at IS NOT NULL
  AND o.event = ANY (@events::text[])
ORDER BY o.seq
LIMIT @max_rows;

-- name: LockOldPayloads :many
-- LockOldPayloads locks relayed webhooks that are older, and of which nothing is open
-- or waits for somebody's decision, oldest first. It leaves those that somebody holds.
-- (OFFSET 0 has deliveries looked up one by one, whatever the planner thinks of it.)
SELECT o.id, o.created_at, o.seq FROM outbox o
WHERE o.payload IS NOT NULL AND o.created_at < now() - @older_than::interval AND o.relayed_at IS NOT NULL
  AND (o.created_at, o.seq) > (@after_created_at::timestamptz, @after_seq::bigint)
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.outbox_id = o.id AND d.status NOT IN ('delivered', 'cancelled', 'discarded') OFFSET 0)
ORDER BY o.created_at, o.seq
LIMIT @max_rows
FOR NO KEY UPDATE OF o SKIP LOCKED;

-- name: ForgetPayloads :many
-- ForgetPayloads deletes the payloads of locked webhooks, but for those of which
-- something was opened before they were locked.
UPDATE outbox o SET payload = NULL
WHERE o.id = ANY (@ids::uuid[])
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.outbox_id = o.id AND d.status NOT IN ('delivered', 'cancelled', 'discarded') OFFSET 0)
RETURNING o.id;

-- name: ForgetAnswers :exec
-- ForgetAnswers deletes what receivers answered to webhooks, also to the batches that carried them.
UPDATE delivery_attempts a SET response_head = ''
FROM (SELECT d.id FROM deliveries d WHERE d.outbox_id = ANY (@ids::uuid[])
      UNION
      SELECT c.id FROM deliveries m JOIN deliveries c ON c.batch_id = m.batch_id AND c.outbox_id IS NULL
      WHERE m.outbox_id = ANY (@ids::uuid[]) AND c.status NOT IN ('pending', 'retrying')) AS told
WHERE a.delivery_id = told.id AND a.response_head <> '';
