-- name: GetOwnRole :one
-- GetOwnRole says who this session is, and whether it may make roles.
SELECT rolname::text AS name, (rolsuper OR rolcreaterole)::boolean AS may_create FROM pg_catalog.pg_roles WHERE rolname = current_user;

-- name: GetSchemaAccess :one
-- GetSchemaAccess says whether everybody may make functions and tables beside ours, and who owns ours.
SELECT has_schema_privilege('public', 'public', 'CREATE')::boolean AS is_open, t.tableowner::text AS owner
FROM pg_catalog.pg_tables t WHERE t.schemaname = 'public' AND t.tablename = 'events';

-- name: GetRoleComment :one
-- GetRoleComment returns what is said of a role, "" when nothing is; pgx.ErrNoRows when it is not there.
SELECT coalesce(shobj_description(r.oid, 'pg_authid'), '')::text AS comment FROM pg_catalog.pg_roles r WHERE r.rolname = @name::text;
