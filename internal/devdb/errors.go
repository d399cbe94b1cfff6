package devdb

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// isDuplicateDatabase reports that the database is there already (42P04).
func isDuplicateDatabase(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P04"
}
