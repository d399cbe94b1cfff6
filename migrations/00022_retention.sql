-- Events and their bodies are kept for a while, and then deleted.

-- +goose Up

-- Whose body another event's row holds: only of bodies with several records.
CREATE INDEX event_bodies_shared_idx ON event_bodies (body_id) WHERE body IS NULL;

-- drop_event_bodies_month gives back the disk of a month's partition. The bodies of
-- events that are still there, none of them behind up_to, move to event_bodies_other in
-- the same transaction, for nobody may miss one; it returns how many. A partition of rows
-- that may lie in event_bodies_other cannot be detached concurrently, so who calls this
-- waits shortly for its locks, or everybody waits behind it.
-- +goose StatementBegin
CREATE FUNCTION drop_event_bodies_month(partition text, up_to bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    moved bigint;
BEGIN
    EXECUTE format('ALTER TABLE event_bodies DETACH PARTITION %I', partition);
    EXECUTE format('INSERT INTO event_bodies (event_id, received_at, body_id, content_type, headers, body, record)
        SELECT b.event_id, b.received_at, b.body_id, b.content_type, b.headers, b.body, b.record
        FROM events e JOIN %I b ON b.event_id = e.id AND b.received_at = e.received_at
        WHERE e.id <= $1', partition) USING up_to;
    GET DIAGNOSTICS moved = ROW_COUNT;
    EXECUTE format('DROP TABLE %I', partition);
    RETURN moved;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION drop_event_bodies_month(text, bigint);
DROP INDEX event_bodies_shared_idx;
