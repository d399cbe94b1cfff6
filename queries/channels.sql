-- name: GetChannel :one
-- GetChannel returns the hashes of the tokens that a channel's notifications may carry.
SELECT source, token_hash, CASE WHEN previous_until > now() THEN previous_token_hash END::bytea AS previous_token_hash
FROM channels WHERE channel_id = @channel_id;
