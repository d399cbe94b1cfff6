package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/memrelay/memrelay/migrations"
)

// ErrSchema is returned by CheckSchema when the database is not at the version
// this program is written for.
var ErrSchema = errors.New("the database's schema does not fit this program: run `memrelay migrate up`")

// Migration is one step of the schema's history.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

// Migrate brings the database behind url to the newest schema. It is safe to
// run from several processes at once: one migrates, the others wait and find
// nothing to do.
func Migrate(ctx context.Context, url string, log *slog.Logger) error {
	return withProvider(ctx, url, log, func(p *goose.Provider, db *sql.DB) error {
		return alone(ctx, db, func() error {
			if _, err := p.Up(ctx); err != nil {
				return fmt.Errorf("migrate up: %w", err)
			}
			return nil
		})
	})
}

// MigrateDown takes back the newest applied migration, or all of them. It
// destroys what lies in the tables it drops.
func MigrateDown(ctx context.Context, url string, all bool, log *slog.Logger) error {
	return withProvider(ctx, url, log, func(p *goose.Provider, db *sql.DB) error {
		return alone(ctx, db, func() error {
			var err error
			if all {
				_, err = p.DownTo(ctx, 0)
			} else {
				_, err = p.Down(ctx)
			}
			if err != nil && !errors.Is(err, goose.ErrNoNextVersion) {
				return fmt.Errorf("migrate down: %w", err)
			}
			return nil
		})
	})
}

// MigrationStatus lists all migrations, oldest first, and which are applied. It
// waits for nobody and writes nothing, also where nothing was ever migrated.
func MigrationStatus(ctx context.Context, url string, log *slog.Logger) ([]Migration, error) {
	var list []Migration
	err := withProvider(ctx, url, log, func(p *goose.Provider, db *sql.DB) error {
		// goose would make its table first, in the way of whoever migrates just now.
		var known bool
		if err := db.QueryRowContext(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&known); err != nil {
			return fmt.Errorf("look for the schema's version: %w", err)
		}
		if !known {
			for _, s := range p.ListSources() {
				list = append(list, Migration{Version: s.Version, Name: sourceName(s)})
			}
			return nil
		}
		statuses, err := p.Status(ctx)
		if err != nil {
			return fmt.Errorf("read migration status: %w", err)
		}
		for _, s := range statuses {
			list = append(list, Migration{
				Version: s.Source.Version, Name: sourceName(s.Source), Applied: s.State == goose.StateApplied,
			})
		}
		return nil
	})
	return list, err
}

func sourceName(s *goose.Source) string {
	if s.Type == goose.TypeGo {
		return "river"
	}
	return s.Path
}

// CheckSchema returns nil when every migration of this program is applied, ours
// and River's; ErrSchema when one is missing. A newer schema fits: it is what a
// rolling deploy looks like from an older node.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) error {
	newest, err := newestVersion()
	if err != nil {
		return err
	}
	var applied int64
	err = pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&applied)
	if isUndefinedTable(err) {
		return ErrSchema
	}
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if applied < newest {
		return fmt.Errorf("%w (it is at %d, the program needs %d)", ErrSchema, applied, newest)
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("prepare River's migrations: %w", err)
	}
	result, err := migrator.Validate(ctx, &rivermigrate.ValidateOpts{TargetVersion: migrations.RiverVersion})
	if err != nil {
		return fmt.Errorf("read River's schema version: %w", err)
	}
	if !result.OK {
		return fmt.Errorf("%w (River: %v)", ErrSchema, result.Messages)
	}
	return nil
}

func newestVersion() (int64, error) {
	entries, err := migrations.Files.ReadDir(".")
	if err != nil {
		return 0, fmt.Errorf("list migrations: %w", err)
	}
	var newest int64
	for _, e := range entries {
		v, err := goose.NumericComponent(e.Name())
		if err != nil {
			return 0, fmt.Errorf("migration %s: %w", e.Name(), err)
		}
		newest = max(newest, v)
	}
	return newest, nil
}

// withProvider opens a pool of its own without the working pools' time limits:
// building an index may take longer than any of them allows.
func withProvider(ctx context.Context, url string, log *slog.Logger, do func(*goose.Provider, *sql.DB) error) error {
	// One connection holds the lock, goose has its own, River's migrations another.
	pool, err := Open(ctx, url, Options{Log: log, MaxConns: 4, LeastConns: 3, Unlimited: true})
	if err != nil {
		return err
	}
	defer pool.Close()
	river, err := migrations.River(pool, log)
	if err != nil {
		return err
	}
	sqldb := stdlib.OpenDBFromPool(pool)
	defer sqldb.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, sqldb, migrations.Files,
		goose.WithGoMigrations(river),
		goose.WithSlog(log),
		goose.WithDisableGlobalRegistry(true),
	)
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	return do(provider, sqldb)
}

// alone runs do while no other process does. goose's own use of its lock begins
// after it has made its version table, which two processes must not do at once
// either: now and then one is left with a sequence of another name.
func alone(ctx context.Context, db *sql.DB, do func() error) (err error) {
	// Asked for each second, five minutes long: goose's own 5 s would be how long a
	// node that starts beside another one stands still.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return fmt.Errorf("prepare the migration lock: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect for the migration lock: %w", err)
	}
	// The lock is the session's: one that cannot be given back ends with it.
	defer func() { _ = conn.Close() }()
	if err := locker.SessionLock(ctx, conn); err != nil {
		return fmt.Errorf("wait for the migration lock: %w", err)
	}
	defer func() {
		if e := locker.SessionUnlock(context.WithoutCancel(ctx), conn); e != nil {
			err = errors.Join(err, fmt.Errorf("give back the migration lock: %w", e))
		}
	}()
	return do()
}
