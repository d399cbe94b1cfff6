-- name: ListDeadLetters :many
SELECT id, kind, died_at, failures, reason, what FROM dead_letters ORDER BY died_at DESC LIMIT @max_letters;
