-- +goose NO TRANSACTION
-- Indexes of tables that are large where the program has run for a while. They are
-- built while everybody goes on writing. One whose building was broken off is left behind
-- invalid, so each is dropped first: this file can be run again from its beginning.

-- +goose Up

-- Events and attempts are stored in the order of time, so that a few bytes for each 32
-- pages tell where an hour lies. A B-tree would cost each insert more than it gives.
DROP INDEX CONCURRENTLY IF EXISTS events_received_idx;
CREATE INDEX CONCURRENTLY events_received_idx ON events USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);

DROP INDEX CONCURRENTLY IF EXISTS delivery_attempts_started_idx;
CREATE INDEX CONCURRENTLY delivery_attempts_started_idx ON delivery_attempts USING brin (started_at) WITH (pages_per_range = 32, autosummarize = on);

-- What will not arrive by itself: few, and no delivery that goes well comes here.
DROP INDEX CONCURRENTLY IF EXISTS deliveries_missed_idx;
CREATE INDEX CONCURRENTLY deliveries_missed_idx ON deliveries (endpoint_id, created_at) WHERE status IN ('dead', 'cancelled', 'discarded');

-- What a list of events is asked for most, and what is rare among them. None of
-- these holds an event that goes well: what the door writes costs as much as before.
DROP INDEX CONCURRENTLY IF EXISTS events_faults_idx;
CREATE INDEX CONCURRENTLY events_faults_idx ON events (id) WHERE last_error <> '';

DROP INDEX CONCURRENTLY IF EXISTS events_passed_idx;
CREATE INDEX CONCURRENTLY events_passed_idx ON events (status, id) WHERE status IN ('ignored', 'discarded');

-- Whoever follows events sees those that are run again.
DROP INDEX CONCURRENTLY IF EXISTS event_runs_created_idx;
CREATE INDEX CONCURRENTLY event_runs_created_idx ON event_runs (created_at);

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS event_runs_created_idx;
DROP INDEX CONCURRENTLY IF EXISTS events_passed_idx;
DROP INDEX CONCURRENTLY IF EXISTS events_faults_idx;
DROP INDEX CONCURRENTLY IF EXISTS deliveries_missed_idx;
DROP INDEX CONCURRENTLY IF EXISTS delivery_attempts_started_idx;
DROP INDEX CONCURRENTLY IF EXISTS events_received_idx;
