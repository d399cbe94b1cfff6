-- name: AddCounters :exec
-- AddCounters changes the counters of one slot of one process. What begins with
-- last_ is a point in time: the latest stays.
INSERT INTO counters (process, slot, name, value)
SELECT @process, @slot, n.name, n.value
FROM (SELECT unnest(@names::text[]) AS name, unnest(@values::bigint[]) AS value) AS n
ORDER BY n.name
ON CONFLICT (process, slot, name) DO UPDATE SET value =
    CASE WHEN starts_with(excluded.name, 'last_') THEN greatest(counters.value, excluded.value) ELSE counters.value + excluded.value END;

-- name: SumCounters :many
SELECT name, (CASE WHEN starts_with(name, 'last_') THEN max(value) ELSE sum(value) END)::bigint AS value
FROM counters GROUP BY name ORDER BY name;

-- name: SumBacklog :one
-- SumBacklog splits the backlog into what one process counted and what the others did.
SELECT coalesce(sum(value) FILTER (WHERE process = @process), 0)::bigint AS own,
       coalesce(sum(value) FILTER (WHERE process <> @process), 0)::bigint AS others
FROM counters WHERE name = 'backlog';

-- name: SumCounter :one
SELECT coalesce(sum(value), 0)::bigint FROM counters WHERE name = @name;

-- name: FoldCounters :exec
-- FoldCounters adds the counters of processes that are gone to those of the nil process.
WITH gone AS (
    DELETE FROM counters c
    WHERE c.process <> '00000000-0000-0000-0000-000000000000'
      AND NOT EXISTS (SELECT FROM processes p WHERE p.process = c.process)
    RETURNING c.name, c.value
)
INSERT INTO counters (process, slot, name, value)
SELECT '00000000-0000-0000-0000-000000000000', 0, name, CASE WHEN starts_with(name, 'last_') THEN max(value) ELSE sum(value) END
FROM gone GROUP BY name ORDER BY name
ON CONFLICT (process, slot, name) DO UPDATE SET value =
    CASE WHEN starts_with(excluded.name, 'last_') THEN greatest(counters.value, excluded.value) ELSE counters.value + excluded.value END;
