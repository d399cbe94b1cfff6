// Package postgres opens and migrates the database. In goes a DATABASE_URL, out
// come pools with the time limits and the log handler every query shall have.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/tracelog"
)

// Options say what a pool is for.
type Options struct {
	Log      *slog.Logger
	MaxConns int32 // 0: pgx's default, the greater of 4 and the number of CPUs
	// LeastConns are allowed whatever the URL says: with fewer the pool's user would
	// wait for itself.
	LeastConns int32
	// Unlimited leaves out the time limits: for migrations and River's own
	// maintenance, which may rightly take long.
	Unlimited bool
	// Lookups is for a pool whose every statement finds its rows by keys.
	Lookups bool
	// Searches is for a pool whose statements are planned for their values: what finds
	// a hundred rows is not what finds a hundred thousand.
	Searches bool
	// Language is the text search configuration that what is written is indexed by;
	// "": the server's own.
	Language string
	// Name is what pg_stat_activity shows, after "memrelay".
	Name string
}

// Open opens a pool and makes one connection, so that a wrong URL or a missing
// server is an error here and not later.
func Open(ctx context.Context, url string, o Options) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// pgx masks the password in this error.
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	// Whoever writes pool_max_conns into the URL knows what the server bears.
	if o.MaxConns > 0 && !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = o.MaxConns
	}
	config.MaxConns = max(config.MaxConns, o.LeastConns)
	params := config.ConnConfig.RuntimeParams
	params["application_name"] = "memrelay " + o.Name
	params["timezone"] = "UTC"
	if !o.Unlimited {
		// A statement that waits longer than this is waiting for something broken;
		// giving up returns its work to the queue, where it is tried again.
		params["lock_timeout"] = "5s"
		params["statement_timeout"] = "10s"
		params["idle_in_transaction_session_timeout"] = "10s"
	}
	if o.Searches {
		params["plan_cache_mode"] = "force_custom_plan"
		params["jit"] = "off" // it takes longer than any search
	}
	if o.Language != "" {
		params["default_text_search_config"] = o.Language
	}
	if o.Lookups {
		for name, value := range lookups() {
			params[name] = value
		}
	}
	config.ConnConfig.Tracer = &tracelog.TraceLog{Logger: tracelog.LoggerFunc(logger(o.Log)), LogLevel: tracelog.LogLevelWarn}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}

// lookups tell the planner what it cannot know of a table that was empty when it
// planned, and that plan is kept until autovacuum has looked: rows are few and
// found by key, whatever the size of the table. Measured in the first minute of a
// new database: 15 ms to find 30 events by walking all of them, 5 ms to route 30 by
// hashing all records, instead of 0.1 ms each.
func lookups() map[string]string {
	return map[string]string{
		// The statements are few and the same; planning each anew cost a third of a
		// worker's throughput.
		"plan_cache_mode":  "force_generic_plan",
		"enable_seqscan":   "off",
		"enable_hashjoin":  "off",
		"enable_mergejoin": "off",
		// Where there is no index after all, the price put on a scan would have the
		// statement compiled each time.
		"jit": "off",
	}
}

// ErrNotDurable is returned by CheckDurable.
var ErrNotDurable = errors.New("the database does not keep what it acknowledges")

// CheckDurable refuses a database that answers before its log is on disk:
// an acknowledged event must survive a power cut.
func CheckDurable(ctx context.Context, pool *pgxpool.Pool) error {
	var fsync, commit string
	err := pool.QueryRow(ctx, `SELECT current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&fsync, &commit)
	if err != nil {
		return fmt.Errorf("read the database's settings: %w", err)
	}
	if fsync != "on" || commit == "off" {
		return fmt.Errorf("%w: fsync is %s and synchronous_commit is %s, both must be on", ErrNotDurable, fsync, commit)
	}
	return nil
}

// logger passes pgx's reports to the program's one log handler, at debug level:
// whoever made the call returns its error, wrapped with what was attempted, and
// that is logged once. The arguments of a query are left out: they are
// customers' data.
func logger(log *slog.Logger) func(context.Context, tracelog.LogLevel, string, map[string]any) {
	return func(ctx context.Context, _ tracelog.LogLevel, msg string, data map[string]any) {
		log.LogAttrs(ctx, slog.LevelDebug, "database: "+msg, slog.Any("error", data["err"]), slog.Any("sql", data["sql"]))
	}
}

func isUndefinedTable(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42P01"
}
