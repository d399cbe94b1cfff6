-- name: GetZohoToken :one
-- GetZohoToken reads what all nodes share of a connection, with the time that its
-- times are to be held against.
SELECT name, client_id, accounts_url, api_url, scopes, refresh_token, grant_digest, access_token, access_until, leased_by,
       leased_until, asked_at, blocked_until, state, last_error, created_at, updated_at, now()::timestamptz AS now
FROM zoho_tokens WHERE name = @name;

-- name: StartZohoGrant :exec
-- StartZohoGrant makes the row that of another grant, with nothing known; of the
-- same grant it stays as it is. A stored refresh token is kept, with the client
-- and the place it is of: it is in force again when the environment holds none.
-- What was asked stays counted, and a block stays one: nodes with different
-- grants do this in turn.
INSERT INTO zoho_tokens AS t (name, client_id, accounts_url, grant_digest)
VALUES (@name, @client_id, @accounts_url, @grant_digest)
ON CONFLICT (name) DO UPDATE
SET client_id = CASE WHEN t.refresh_token IS NULL THEN excluded.client_id ELSE t.client_id END,
    accounts_url = CASE WHEN t.refresh_token IS NULL THEN excluded.accounts_url ELSE t.accounts_url END,
    grant_digest = excluded.grant_digest, api_url = '', scopes = '{}', access_token = NULL, access_until = NULL, leased_by = NULL, leased_until = NULL,
    state = 'ok', last_error = CASE WHEN t.blocked_until > now() THEN t.last_error ELSE '' END, updated_at = now()
WHERE t.grant_digest <> excluded.grant_digest;

-- name: LeaseZohoToken :execrows
-- LeaseZohoToken makes one node the one that asks Zoho, and counts its question.
-- Nobody gets the lease while another holds it, when another access token has
-- been stored than the one the node has seen, when Zoho has been asked too often
-- or wants to be left alone, and, once the grant is refused, until it is time to
-- probe whether somebody has mended it.
UPDATE zoho_tokens
SET leased_by = @leased_by, leased_until = now() + @lease::interval,
    asked_at = (SELECT coalesce(array_agg(a ORDER BY a), '{}') FROM unnest(asked_at) AS a WHERE a > now() - @span::interval) || now(),
    updated_at = now()
WHERE name = @name AND grant_digest = @grant_digest AND access_token IS NOT DISTINCT FROM sqlc.narg(seen)::bytea
  AND (leased_until IS NULL OR leased_until <= now())
  AND (blocked_until IS NULL OR blocked_until <= now())
  AND (SELECT count(*) FROM unnest(asked_at) AS a WHERE a > now() - @span::interval) < @most::bigint
  AND (state = 'ok' OR (SELECT coalesce(max(a) <= now() - @probe_every::interval, true) FROM unnest(asked_at) AS a));

-- name: StoreZohoToken :execrows
-- StoreZohoToken writes the access token that Zoho gave to the holder of the
-- lease, and ends the lease; no row: it was not the holder's any more.
UPDATE zoho_tokens
SET access_token = @access_token, access_until = now() + @life::interval,
    api_url = CASE WHEN @api_url::text <> '' THEN @api_url ELSE api_url END,
    scopes = CASE WHEN cardinality(@scopes::text[]) > 0 THEN @scopes ELSE scopes END,
    leased_by = NULL, leased_until = NULL, blocked_until = NULL, state = 'ok', last_error = '', updated_at = now()
WHERE name = @name AND leased_by = @leased_by AND grant_digest = @grant_digest;

-- name: FailZohoToken :execrows
-- FailZohoToken writes why the holder of the lease got no access token, for how
-- long nobody asks again, and ends the lease. A refused grant stays the reason
-- until Zoho takes it again. The access token stays: it may be this node's client
-- secret that is wrong, and the others go on with it until it ends.
UPDATE zoho_tokens
SET state = CASE WHEN @revoked::boolean THEN 'revoked' ELSE state END,
    last_error = CASE WHEN state = 'revoked' AND NOT @revoked THEN last_error ELSE @last_error::text END,
    blocked_until = now() + @blocked::interval,
    leased_by = NULL, leased_until = NULL, updated_at = now()
WHERE name = @name AND leased_by = @leased_by AND grant_digest = @grant_digest;

-- name: StoreZohoGrant :exec
-- StoreZohoGrant writes a new authorisation with its first access token over
-- whatever was there.
INSERT INTO zoho_tokens (name, client_id, accounts_url, api_url, scopes, refresh_token, grant_digest, access_token, access_until, asked_at)
VALUES (@name, @client_id, @accounts_url, @api_url, @scopes, @refresh_token::bytea, @grant_digest, @access_token::bytea,
        now() + @life::interval, ARRAY[now()])
ON CONFLICT (name) DO UPDATE
SET client_id = excluded.client_id, accounts_url = excluded.accounts_url, api_url = excluded.api_url, scopes = excluded.scopes,
    refresh_token = excluded.refresh_token, grant_digest = excluded.grant_digest, access_token = excluded.access_token,
    access_until = excluded.access_until, leased_by = NULL, leased_until = NULL, asked_at = excluded.asked_at, blocked_until = NULL,
    state = 'ok', last_error = '', updated_at = now();

-- name: HastenFailedChannels :exec
-- HastenFailedChannels makes channels due now that wait for their next try after
-- a failure. Whoever tries one at this moment has lost it: it is tried again.
UPDATE channels SET due_at = now()
WHERE source = 'zoho' AND failures > 0 AND due_at > now() AND state IN ('pending', 'active', 'lost');

-- name: DeleteZohoToken :execrows
-- DeleteZohoToken forgets a connection.
DELETE FROM zoho_tokens WHERE name = @name;
