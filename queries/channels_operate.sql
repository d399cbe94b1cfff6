-- name: FindChannel :one
-- FindChannel returns a channel of ours by its id or its module; pgx.ErrNoRows when there is none.
SELECT channel_id, coalesce(module, '')::text AS module, state, expires_at, due_at FROM channels
WHERE source = 'zoho' AND module IS NOT NULL AND (channel_id = @which::text OR module = @which::text)
FOR UPDATE;

-- name: MakeChannelDue :exec
-- MakeChannelDue has the next KeepChannels job renew a channel, whoever has taken it.
UPDATE channels SET due_at = now(), updated_at = now() WHERE channel_id = @channel_id AND state IN ('pending', 'active', 'lost');
