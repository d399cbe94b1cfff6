package postgres

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// Away reports whether err says that the database did not answer, or not in time, and
// nothing about what it was asked.
func Away(err error) bool {
	var network net.Error
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.As(err, &network), errors.As(err, &connect), pgconn.SafeToRetry(err), errors.Is(err, pgconn.ErrConnClosed):
		return true
	case errors.As(err, &pg):
		// Connection, transaction lost, resources, locks and time limits, operator's
		// intervention, the system, read-only after a failover.
		switch pg.Code[:min(2, len(pg.Code))] {
		case "08", "25", "40", "53", "55", "57", "58":
			return true
		}
	}
	return false
}
