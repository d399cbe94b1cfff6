package app

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

// clientInserter inserts jobs through a client that is set once all workers are
// built, before the first of them runs.
type clientInserter struct{ client *river.Client[pgx.Tx] }

// InsertManyTx inserts jobs in tx.
func (c *clientInserter) InsertManyTx(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) ([]*rivertype.JobInsertResult, error) {
	return c.client.InsertManyTx(ctx, tx, params)
}
