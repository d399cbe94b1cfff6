-- name: GetChannel :one
-- GetChannel returns the hashes of the tokens that a channel's notifications may carry.
SELECT c.source,
       coalesce((SELECT array_agg(t.token_hash) FROM channel_tokens t
                 WHERE t.channel_id = c.channel_id AND (t.until IS NULL OR t.until > now())), '{}')::bytea[] AS token_hashes
FROM channels c WHERE c.channel_id = @channel_id;

-- name: InsertMissingChannels :many
-- InsertMissingChannels makes the rows of modules that have none, due at once. A
-- module whose channel a person removed has one.
INSERT INTO channels (channel_id, module, events, notify_url, state, due_at)
SELECT n.channel_id, n.module, ARRAY[n.module || '.all'], @notify_url, 'pending', now()
FROM (SELECT unnest(@channel_ids::text[]) AS channel_id, unnest(@modules::text[]) AS module) AS n
WHERE NOT EXISTS (SELECT FROM channels c WHERE c.source = 'zoho' AND c.module = n.module)
ORDER BY n.module
ON CONFLICT DO NOTHING
RETURNING coalesce(module, '')::text AS module;

-- name: MarkExpiredChannels :many
-- MarkExpiredChannels marks those whose end has passed without a renewal.
UPDATE channels SET state = 'lost', updated_at = now()
WHERE source = 'zoho' AND module IS NOT NULL AND state = 'active' AND expires_at <= now()
RETURNING coalesce(module, '')::text AS module, channel_id, last_error;

-- name: ClaimDueChannel :one
-- ClaimDueChannel takes a channel that upkeep has something to do for, so that
-- nobody else does for two minutes. One whose URL is not the given one any more
-- has something to do, too, but not for a quarter of an hour after Zoho's last yes:
-- nodes that do not agree on the URL must not move it to and fro. "" moves none.
UPDATE channels c SET due_at = now() + interval '2 minutes'
WHERE c.channel_id = (
    SELECT d.channel_id FROM channels d
    WHERE d.source = 'zoho' AND d.module IS NOT NULL AND d.state IN ('pending', 'active', 'lost')
      AND (d.due_at <= now()
           OR (@notify_url::text <> '' AND d.notify_url <> @notify_url AND d.failures = 0 AND d.due_at > now() + interval '2 minutes'
               AND d.confirmed_at < now() - interval '15 minutes'))
    ORDER BY d.due_at, d.channel_id LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING c.channel_id, coalesce(c.module, '')::text AS module, c.events, c.notify_url, c.state, c.expires_at, c.failures,
          (now() + interval '2 minutes')::timestamptz AS claimed_until, now()::timestamptz AS now;

-- name: ClaimChannel :one
-- ClaimChannel takes a module's channel for what a person wants, whoever else has
-- taken it: what they find out is not written any more.
UPDATE channels c SET due_at = now() + interval '2 minutes'
WHERE c.source = 'zoho' AND c.module = @module::text AND c.state IN ('pending', 'active', 'lost')
RETURNING c.channel_id, coalesce(c.module, '')::text AS module, c.events, c.notify_url, c.state, c.expires_at, c.failures,
          (now() + interval '2 minutes')::timestamptz AS claimed_until, now()::timestamptz AS now;

-- name: InsertChannelToken :execrows
-- InsertChannelToken stores the token that Zoho is about to be given, unless the
-- channel was taken from whoever gives it.
INSERT INTO channel_tokens (channel_id, token_hash)
SELECT c.channel_id, @token_hash FROM channels c
WHERE c.channel_id = @channel_id AND c.due_at = @claimed_until::timestamptz AND c.state IN ('pending', 'active', 'lost')
FOR UPDATE;

-- name: DeleteStaleChannelTokens :exec
-- DeleteStaleChannelTokens deletes tokens that no notification can carry: those
-- that were followed by another, and those of calls that never had an answer, for
-- no channel lives longer than a week.
DELETE FROM channel_tokens
WHERE channel_id = @channel_id AND (until <= now() OR created_at < now() - interval '8 days');

-- name: DeleteChannelToken :exec
-- DeleteChannelToken deletes a token that Zoho has surely not taken.
DELETE FROM channel_tokens WHERE channel_id = @channel_id AND token_hash = @token_hash;

-- name: DeleteChannelTokens :exec
DELETE FROM channel_tokens WHERE channel_id = @channel_id;

-- name: ConfirmChannel :one
-- ConfirmChannel writes Zoho's yes, unless the channel was taken from whoever
-- asked. It is not settled if RetellChannel came since the failures were read: the
-- other call may have come to Zoho last, so the channel is due again at once. It was
-- live if nobody had found it lost before.
WITH before AS (
    SELECT b.channel_id, b.state FROM channels b
    WHERE b.channel_id = @channel_id AND b.due_at = @claimed_until::timestamptz AND b.state IN ('pending', 'active', 'lost')
    FOR UPDATE)
UPDATE channels c
SET state = 'active', events = @events, notify_url = @notify_url, expires_at = @expires_at::timestamptz,
    due_at = CASE WHEN c.failures = @failures::integer THEN @due_at::timestamptz ELSE now() END,
    failures = CASE WHEN c.failures = @failures THEN 0 ELSE c.failures END,
    last_error = CASE WHEN c.failures = @failures THEN '' ELSE c.last_error END,
    confirmed_at = now(), updated_at = now()
FROM before
WHERE c.channel_id = before.channel_id
RETURNING (c.failures = 0)::boolean AS settled, (before.state = 'active')::boolean AS was_live;

-- name: RetellChannel :execrows
-- RetellChannel makes a channel due because a call of somebody who had lost it may
-- have come to Zoho last. That counts as a failure: so Zoho is told everything,
-- and whoever has taken the channel notices. It is not taken from them.
UPDATE channels
SET failures = failures + 1, last_error = @last_error, updated_at = now(),
    due_at = CASE WHEN due_at > now() + interval '2 minutes' THEN now() ELSE due_at END
WHERE channel_id = @channel_id AND state IN ('pending', 'active', 'lost');

-- name: ReviveChannelToken :exec
-- ReviveChannelToken makes a token good without an end again: Zoho may have it.
UPDATE channel_tokens SET until = NULL WHERE channel_id = @channel_id AND token_hash = @token_hash;

-- name: EndChannelTokens :exec
-- EndChannelTokens ends the tokens that were given before the one that Zoho has now.
UPDATE channel_tokens SET until = @until::timestamptz
WHERE channel_id = @channel_id AND token_hash <> @token_hash AND (until IS NULL OR until > @until);

-- name: FailChannel :one
-- FailChannel writes that a call failed; pgx.ErrNoRows when the channel was taken
-- from whoever called. It was live if nobody had found it lost before.
WITH before AS (
    SELECT b.channel_id, b.state FROM channels b
    WHERE b.channel_id = @channel_id AND b.due_at = @claimed_until::timestamptz AND b.state IN ('pending', 'active', 'lost')
    FOR UPDATE)
UPDATE channels c
SET state = CASE WHEN @lost::boolean THEN 'lost' ELSE c.state END, failures = c.failures + 1, last_error = @last_error,
    due_at = @due_at::timestamptz, updated_at = now()
FROM before
WHERE c.channel_id = before.channel_id
RETURNING (before.state = 'active')::boolean AS was_live;

-- name: GetChannelState :one
SELECT state FROM channels WHERE channel_id = @channel_id;

-- name: GetModuleState :one
-- GetModuleState returns the state of a module's channel.
SELECT state FROM channels WHERE source = 'zoho' AND module = @module::text;

-- name: ListChannelModules :many
-- ListChannelModules returns the modules whose channels upkeep looks after.
SELECT coalesce(module, '')::text AS module FROM channels
WHERE source = 'zoho' AND module IS NOT NULL AND state IN ('pending', 'active', 'lost') ORDER BY module;

-- name: ReopenChannel :execrows
-- ReopenChannel makes a channel that a person stopped one that Zoho does not know
-- yet. Its id stays: one channel for a module.
UPDATE channels
SET state = 'pending', expires_at = NULL, due_at = now(), failures = 0, last_error = '', updated_at = now(),
    notify_url = CASE WHEN @notify_url::text <> '' THEN @notify_url ELSE notify_url END
WHERE source = 'zoho' AND module = @module::text AND state = ANY (@states::text[]);

-- name: PauseChannel :execrows
-- PauseChannel writes that Zoho sends nothing any more, unless the channel was
-- taken from whoever asked for that, or RetellChannel came since the failures were
-- read.
UPDATE channels SET state = 'paused', due_at = NULL, failures = 0, last_error = '', updated_at = now()
WHERE channel_id = @channel_id AND due_at = @claimed_until::timestamptz AND state IN ('pending', 'active', 'lost')
  AND failures = @failures::integer;

-- name: GetTakenFailures :one
-- GetTakenFailures returns the failures of a channel that is still taken.
SELECT failures FROM channels
WHERE channel_id = @channel_id AND due_at = @claimed_until::timestamptz AND state IN ('pending', 'active', 'lost');

-- name: RemoveChannel :one
-- RemoveChannel takes a channel out of upkeep.
UPDATE channels SET state = 'removed', due_at = NULL, failures = 0, last_error = '', updated_at = now()
WHERE source = 'zoho' AND module = @module::text
RETURNING channel_id;

-- name: SetRemovedChannelError :exec
-- SetRemovedChannelError writes why Zoho may still have a channel that was removed.
UPDATE channels SET last_error = @last_error, updated_at = now() WHERE channel_id = @channel_id AND state = 'removed';

-- name: WantsChannelListing :one
-- WantsChannelListing reports whether Zoho has said nothing for a day of a channel
-- that should be there, and what time it is.
SELECT EXISTS (SELECT FROM channels WHERE source = 'zoho' AND module IS NOT NULL AND state = 'active'
               AND confirmed_at < now() - interval '1 day')::boolean AS wanted,
       now()::timestamptz AS now;

-- name: ListKnownChannels :many
-- ListKnownChannels returns every channel and the hashes of the tokens it may carry.
SELECT c.channel_id, coalesce(c.module, '')::text AS module, c.state, c.notify_url, c.expires_at,
       coalesce((SELECT array_agg(t.token_hash) FROM channel_tokens t
                 WHERE t.channel_id = c.channel_id AND (t.until IS NULL OR t.until > now())), '{}')::bytea[] AS token_hashes
FROM channels c ORDER BY c.channel_id;

-- name: ConfirmListedChannel :exec
-- ConfirmListedChannel writes that Zoho listed a channel, and until when it lives.
UPDATE channels SET confirmed_at = now(), expires_at = @expires_at::timestamptz, due_at = least(due_at, @due_at::timestamptz)
WHERE channel_id = @channel_id AND state = 'active' AND confirmed_at < @before::timestamptz;

-- name: LoseChannel :execrows
-- LoseChannel marks a channel to be made anew at once, unless Zoho has confirmed
-- it since before.
UPDATE channels SET state = 'lost', due_at = now(), last_error = @last_error, updated_at = now()
WHERE channel_id = @channel_id AND state = 'active' AND confirmed_at < @before::timestamptz;

-- name: WantsKeepChannels :one
-- WantsKeepChannels reports whether upkeep has something to do while no live job
-- will do it.
SELECT ((EXISTS (SELECT FROM channels
                 WHERE source = 'zoho' AND module IS NOT NULL AND state IN ('pending', 'active', 'lost')
                   AND (due_at <= now()
                        OR (state = 'active' AND (expires_at <= now() OR confirmed_at < now() - interval '1 day'))
                        OR (@notify_url::text <> '' AND notify_url <> @notify_url AND failures = 0
                            AND due_at > now() + interval '2 minutes' AND confirmed_at < now() - interval '15 minutes')))
         OR EXISTS (SELECT FROM unnest(@modules::text[]) AS m (module)
                    WHERE NOT EXISTS (SELECT FROM channels c WHERE c.source = 'zoho' AND c.module = m.module)))
    AND NOT EXISTS (SELECT FROM river_job WHERE kind = 'keep_channels'
                    AND state IN ('available', 'pending', 'retryable', 'running', 'scheduled')))::boolean;

-- name: ListChannels :many
-- ListChannels returns every channel, and what came of its module among the newest
-- 10,000 events. One that has expired is lost, whether upkeep has seen it or not.
SELECT c.channel_id, c.source, coalesce(c.module, '')::text AS module, c.events, c.notify_url,
       (CASE WHEN c.state = 'active' AND c.expires_at <= now() THEN 'lost' ELSE c.state END)::text AS state,
       c.expires_at, c.due_at, c.failures, c.last_error, c.confirmed_at, coalesce(r.events, 0)::bigint AS received, n.received_at
FROM channels c
LEFT JOIN (SELECT e.source, e.module, count(*) AS events, max(e.id) AS newest
           FROM (SELECT id, source, module FROM events ORDER BY id DESC LIMIT 10000) AS e
           GROUP BY e.source, e.module) AS r ON r.source = c.source AND r.module = c.module
LEFT JOIN events n ON n.id = r.newest
ORDER BY c.module NULLS LAST, c.channel_id;

-- name: ListLostChannels :many
-- ListLostChannels returns the modules whose changes nobody tells of, or soon will
-- not: lost, or failing for more than ten minutes, which is five attempts.
SELECT coalesce(module, '')::text AS module FROM channels
WHERE source = 'zoho' AND module IS NOT NULL
  AND (state = 'lost' OR (state = 'active' AND expires_at <= now())
       OR (state IN ('pending', 'active')
           AND (failures >= 5 OR (failures > 0 AND updated_at < now() - interval '10 minutes'))))
ORDER BY module;
