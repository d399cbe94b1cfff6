-- name: InsertRejectedRequests :exec
INSERT INTO rejected_requests (at, method, route, status, code, reason, address, user_agent, content_length, request_id)
SELECT n.at, n.method, n.route, n.status, n.code, n.reason, n.address, n.user_agent, n.content_length, n.request_id
FROM (SELECT unnest(@ats::timestamptz[]) AS at, unnest(@methods::text[]) AS method, unnest(@routes::text[]) AS route,
             unnest(@statuses::integer[]) AS status, unnest(@codes::text[]) AS code, unnest(@reasons::text[]) AS reason,
             unnest(@addresses::text[]) AS address, unnest(@user_agents::text[]) AS user_agent,
             unnest(@content_lengths::bigint[]) AS content_length, unnest(@request_ids::text[]) AS request_id) AS n;

-- name: TrimRejectedRequests :exec
-- TrimRejectedRequests keeps the newest of them, and of each sender the newest few: one that is
-- turned away all the time must not hide the others. A sender is an address, or the /64 of one
-- of IPv6, which whoever has one has all of. What another node is just deleting is left to it.
DELETE FROM rejected_requests
WHERE id IN (SELECT id FROM rejected_requests
             WHERE at < now() - @lasts::interval
                OR id IN (SELECT ranked.id
                          FROM (SELECT id, row_number() OVER (ORDER BY id DESC) AS place,
                                       row_number() OVER (PARTITION BY CASE WHEN address ~ '^[0-9a-f]*:[0-9a-f:]*$'
                                                                            THEN network(set_masklen(address::inet, 64))::text
                                                                            ELSE address END ORDER BY id DESC) AS place_of_sender
                                FROM rejected_requests) AS ranked
                          WHERE ranked.place > @kept::integer OR ranked.place_of_sender > @kept_of_sender::integer)
             ORDER BY id FOR UPDATE SKIP LOCKED);

-- name: ListRejectedRequests :many
-- ListRejectedRequests returns refusals before an id, the newest first; there are few
-- enough to look at all of them.
SELECT * FROM rejected_requests
WHERE id < @before
  AND (sqlc.narg(status)::integer IS NULL OR status = sqlc.narg(status))
  AND (sqlc.narg(code)::text IS NULL OR code = sqlc.narg(code))
  AND (sqlc.narg(route)::text IS NULL OR route = sqlc.narg(route))
  AND (sqlc.narg(address)::text IS NULL OR address = sqlc.narg(address))
ORDER BY id DESC LIMIT @max_requests;
