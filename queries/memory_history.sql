-- name: InsertMemoryHistory :exec
-- InsertMemoryHistory keeps what a memory was before a change and after it.
INSERT INTO memory_history (memory_id, user_id, account_id, module, record_id, operation, before, after, event_id, outbox_id, actor, merged_into)
SELECT n.memory_id, n.user_id, nullif(n.account_id, ''), nullif(n.module, ''), nullif(n.record_id, ''), n.operation,
       nullif(n.before, 'null'), nullif(n.after, 'null'), nullif(n.event_id, 0),
       nullif(n.outbox_id, '00000000-0000-0000-0000-000000000000'), n.actor,
       nullif(n.merged_into, '00000000-0000-0000-0000-000000000000')
FROM (SELECT unnest(@memory_ids::uuid[]) AS memory_id, unnest(@user_ids::text[]) AS user_id, unnest(@account_ids::text[]) AS account_id,
             unnest(@modules::text[]) AS module, unnest(@record_ids::text[]) AS record_id, unnest(@operations::text[]) AS operation,
             unnest(@before::jsonb[]) AS before, unnest(@after::jsonb[]) AS after,
             unnest(@event_ids::bigint[]) AS event_id, unnest(@outbox_ids::uuid[]) AS outbox_id,
             unnest(@actors::text[]) AS actor, unnest(@merged_into::uuid[]) AS merged_into) AS n;

-- name: ListMemoryHistory :many
-- ListMemoryHistory reads a page of what became of a memory, newest first.
SELECT id, user_id, operation, before, after, event_id, outbox_id, actor, merged_into, created_at
FROM memory_history
WHERE memory_id = @memory_id AND (@before_id::bigint = 0 OR id < @before_id::bigint)
ORDER BY id DESC
LIMIT @max_rows;
