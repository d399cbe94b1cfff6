-- name: ParseWords :many
-- ParseWords returns what each word asks for, an empty query for those that nobody
-- looks for, such as "the", and with each what the whole text asks for when its
-- words stand beside each other.
SELECT w.word::text AS word, plainto_tsquery(w.config::regconfig, w.word)::text AS query,
       phraseto_tsquery(w.config::regconfig, w.whole)::text AS phrase
FROM (SELECT @language::text AS config, @text::text AS whole, unnest(@words::text[]) AS word) AS w;

-- name: FindMemories :many
-- FindMemories returns the newest memories that match a query, and how: which of
-- the terms they contain, how often those are said in how much text, how near
-- they stand. No user_id means everybody's.
SELECT f.id, f.updated_at,
       ts_rank(f.search, CAST(@query::text AS tsquery), 1)::float8 AS weight,
       ts_rank_cd(f.search, CAST(@all_words::text AS tsquery))::float8 AS nearness,
       (f.search @@ CAST(@phrase::text AS tsquery))::boolean AS phrase,
       ARRAY(SELECT f.search @@ t.term FROM unnest(CAST(@terms::text[] AS tsquery[])) AS t (term))::boolean[] AS has
FROM (
    SELECT m.id, m.updated_at, m.search
    FROM memories m
    WHERE m.search @@ CAST(@query::text AS tsquery)
      AND (@user_id::text = '' OR m.user_id = @user_id::text)
      AND (@kind::text = '' OR m.kind = @kind::text)
      AND (@metadata::jsonb = '{}' OR m.metadata @> @metadata::jsonb)
      AND (sqlc.narg(since)::timestamptz IS NULL OR m.created_at >= sqlc.narg(since)::timestamptz)
      AND (sqlc.narg(until)::timestamptz IS NULL OR m.created_at < sqlc.narg(until)::timestamptz)
      AND (m.expires_at IS NULL OR m.expires_at > @now::timestamptz)
    ORDER BY m.created_at DESC, m.id
    LIMIT @max_rows
) AS f;

-- name: ListNearWords :many
-- ListNearWords returns those words of a user's newest memories that contain one
-- of the given ones, or look like its stem. A word without a stem is looked for as
-- it is.
SELECT w.word::text AS word, v.lexeme::text AS lexeme, (CASE WHEN w.stem = '' THEN 0 ELSE similarity(v.lexeme, w.stem) END)::float8 AS similarity
FROM (
    SELECT DISTINCT unnest(tsvector_to_array(m.search)) AS lexeme
    FROM (SELECT search FROM memories WHERE user_id = @user_id ORDER BY created_at DESC, id LIMIT @max_rows) AS m
) AS v
JOIN (SELECT unnest(@words::text[]) AS word, unnest(@stems::text[]) AS stem) AS w
  ON strpos(v.lexeme, w.word) > 0
  OR (w.stem <> '' AND abs(length(v.lexeme) - length(w.stem)) <= 2 AND similarity(v.lexeme, w.stem) >= 0.2)
ORDER BY 3 DESC, 1, 2
LIMIT 500;

-- name: ListNearCommonWords :many
-- ListNearCommonWords is ListNearWords over the words that are used most by all
-- users, as ANALYZE has found them.
SELECT w.word::text AS word, v.lexeme::text AS lexeme, (CASE WHEN w.stem = '' THEN 0 ELSE similarity(v.lexeme, w.stem) END)::float8 AS similarity
FROM (
    SELECT unnest(CAST(CAST(s.most_common_elems AS text) AS text[])) AS lexeme
    FROM pg_catalog.pg_stats s
    WHERE s.schemaname = current_schema() AND s.tablename = 'memories' AND s.attname = 'search'
) AS v
JOIN (SELECT unnest(@words::text[]) AS word, unnest(@stems::text[]) AS stem) AS w
  ON strpos(v.lexeme, w.word) > 0
  OR (w.stem <> '' AND abs(length(v.lexeme) - length(w.stem)) <= 2 AND similarity(v.lexeme, w.stem) >= 0.2)
ORDER BY 3 DESC, 1, 2
LIMIT 500;

-- name: ScanMemories :many
-- ScanMemories reads a user's newest memories for a text as it stands, or for one
-- that looks like it, from a likeness of least on: what no word finds.
SELECT f.id, f.updated_at, f.likeness::float8 AS likeness
FROM (
    SELECT n.id, n.updated_at,
           CASE WHEN strpos(lower(n.content), @text::text) > 0 THEN 1 ELSE word_similarity(@text::text, left(n.content, 4000)) END AS likeness
    FROM (
        SELECT m.id, m.updated_at, m.content
        FROM memories m
        WHERE m.user_id = @user_id::text
          AND (@kind::text = '' OR m.kind = @kind::text)
          AND (@metadata::jsonb = '{}' OR m.metadata @> @metadata::jsonb)
          AND (sqlc.narg(since)::timestamptz IS NULL OR m.created_at >= sqlc.narg(since)::timestamptz)
          AND (sqlc.narg(until)::timestamptz IS NULL OR m.created_at < sqlc.narg(until)::timestamptz)
          AND (m.expires_at IS NULL OR m.expires_at > @now::timestamptz)
        ORDER BY m.created_at DESC, m.id
        LIMIT @max_rows
    ) AS n
) AS f
WHERE f.likeness >= @least::float8
ORDER BY f.likeness DESC, f.updated_at DESC, f.id
LIMIT 100;

-- name: ListFound :many
SELECT id, user_id, account_id, module, record_id, kind, content, metadata, origin, origin_id, expires_at, created_at, updated_at
FROM memories WHERE id = ANY (@ids::uuid[]);

-- name: ListEmbeddings :many
SELECT memory_id, checksum, embedding FROM memory_embeddings WHERE memory_id = ANY (@ids::uuid[]) AND model = @model;

-- name: SaveEmbeddings :exec
-- SaveEmbeddings keeps vectors of one length, which stand behind each other; in
-- the order of the ids, which the caller sorts. A memory that is gone, or that
-- somebody holds, is left out: waiting for it could be a deadlock.
INSERT INTO memory_embeddings (memory_id, model, checksum, embedding)
SELECT n.id, @model::text, n.checksum, (@numbers::real[])[n.first:n.last]
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@checksums::bytea[]) AS checksum,
             unnest(@firsts::int[]) AS first, unnest(@lasts::int[]) AS last) AS n
WHERE n.id IN (SELECT m.id FROM memories m WHERE m.id = ANY (@ids::uuid[]) FOR KEY SHARE SKIP LOCKED)
ORDER BY n.id
ON CONFLICT (memory_id) DO UPDATE SET model = excluded.model, checksum = excluded.checksum, embedding = excluded.embedding;

-- name: DeleteEmbeddings :exec
DELETE FROM memory_embeddings WHERE memory_id = ANY (@ids::uuid[]);
