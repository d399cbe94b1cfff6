-- name: GetChannel :one
-- GetChannel returns the hashes of the tokens that a channel's notifications may carry.
SELECT c.source,
       coalesce((SELECT array_agg(t.token_hash) FROM channel_tokens t
                 WHERE t.channel_id = c.channel_id AND (t.until IS NULL OR t.until > now())), '{}')::bytea[] AS token_hashes
FROM channels c WHERE c.channel_id = @channel_id;
