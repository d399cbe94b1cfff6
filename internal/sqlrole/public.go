package sqlrole

import (
	"fmt"
	"strings"
)

// closed makes sure that nobody but the owner of the tables makes anything in the schema public.
// Databases that were made before Postgres 15 let everybody: a function of the name of
// one that the program calls, with arguments that fit better, would run with the program's rights.
const closed = `DO $closed$ BEGIN
IF has_schema_privilege('public', 'public', 'CREATE') THEN
    EXECUTE format('GRANT CREATE ON SCHEMA public TO %I', (SELECT tableowner FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename = 'events'));
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    IF has_schema_privilege('public', 'public', 'CREATE') THEN
        RAISE EXCEPTION 'everybody may make functions in the schema public: have its owner run REVOKE CREATE ON SCHEMA public FROM PUBLIC';
    END IF;
END IF;
END $closed$`

// largeObjects are the functions by which every login may store bytes that nobody misses.
var largeObjects = []string{"lo_creat(integer)", "lo_create(oid)", "lo_from_bytea(oid, bytea)"}

// signals are the functions by which every login may say something to the program, or
// keep it waiting.
func signals() []string {
	all := []string{"pg_notify(text, text)"}
	for _, try := range []string{"", "try_"} {
		for _, lock := range []string{"lock", "lock_shared", "xact_lock", "xact_lock_shared"} {
			name := "pg_" + try + "advisory_" + lock
			all = append(all, name+"(bigint)", name+"(integer, integer)")
		}
	}
	return all
}

// everyLogin are the statements by which a superuser takes from every login what Postgres
// gives to all of them and the program's own role alone needs. They hold for one database.
func everyLogin(database, program string) []string {
	of := func(functions []string) string {
		return "FUNCTION pg_catalog." + strings.Join(functions, ", pg_catalog.")
	}
	return []string{
		fmt.Sprintf("REVOKE TEMPORARY ON DATABASE %s FROM PUBLIC", quote(database)),
		fmt.Sprintf("REVOKE EXECUTE ON %s FROM PUBLIC", of(largeObjects)),
		fmt.Sprintf("GRANT EXECUTE ON %s TO %s", of(signals()), quote(program)),
		fmt.Sprintf("REVOKE EXECUTE ON %s FROM PUBLIC", of(signals())),
	}
}

// advice is everyLogin as a comment: whoever runs it has to know who else uses the database.
func advice(database, program string) string {
	var text strings.Builder
	text.WriteString(`-- Every login of Postgres may make temporary tables and large objects, notify, and take
-- advisory locks, and so may this role. The following takes that from all logins of this database but
-- one. A superuser may run it, once, after a look at who else uses this database: nodes and
-- migrations that log in as somebody else need the GRANT, too.
`)
	for _, statement := range everyLogin(database, program) {
		text.WriteString("-- " + statement + ";\n")
	}
	return text.String()
}
