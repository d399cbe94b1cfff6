-- name: InsertEventBodies :copyfrom
INSERT INTO event_bodies (event_id, body_id, content_type, headers, body, record) VALUES (@event_id, @body_id, @content_type, @headers, @body, @record);

-- name: GetEventBody :one
-- GetEventBody returns the body that an event came in, as it came.
SELECT b.body, b.content_type, b.headers
FROM events e
JOIN event_bodies own ON own.event_id = e.id AND own.received_at = e.received_at
JOIN event_bodies b ON b.event_id = own.body_id AND b.received_at = own.received_at
WHERE e.id = @event_id;

-- name: HasEventBody :one
SELECT EXISTS (
    SELECT FROM events e JOIN event_bodies b ON b.event_id = e.id AND b.received_at = e.received_at WHERE e.id = @event_id);

-- name: EnsureEventBodiesMonth :exec
-- EnsureEventBodiesMonth makes next month's partition before the first body of it arrives.
SELECT ensure_event_bodies_month(now() + interval '1 month');
