-- name: InsertEventRun :exec
INSERT INTO event_runs (event_id, replay_id) VALUES (@event_id, @replay_id);
