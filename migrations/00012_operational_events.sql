-- What is told of the program itself goes out like what is told of memory.

-- +goose Up
ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN (
    'memory_added', 'memory_searched', 'memory_deleted', 'memory_updated',
    'preference_stored', 'correction_stored', 'relationship_added', 'relationship_deleted',
    'graph_built', 'memory_optimized', 'batch_operation_completed', 'memory_error',
    'sync.completed', 'sync.failed')) NOT VALID;
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_event_check;

-- +goose Down
DELETE FROM delivery_attempts WHERE delivery_id IN (
    SELECT d.id FROM deliveries d JOIN outbox o ON o.id = d.outbox_id WHERE o.event LIKE '%.%');
DELETE FROM deliveries WHERE outbox_id IN (SELECT id FROM outbox WHERE event LIKE '%.%');
DELETE FROM outbox WHERE event LIKE '%.%';
ALTER TABLE outbox DROP CONSTRAINT outbox_event_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_event_check CHECK (event IN (
    'memory_added', 'memory_searched', 'memory_deleted', 'memory_updated',
    'preference_stored', 'correction_stored', 'relationship_added', 'relationship_deleted',
    'graph_built', 'memory_optimized', 'batch_operation_completed', 'memory_error'));
