// Package migrations is the schema's history: goose files in the order they are
// applied, River's own tables as the first step. In goes a pool, out come the
// migrations for goose.
package migrations

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Files are the SQL migrations, named NNNNN_what.sql.
//
//go:embed *.sql
var Files embed.FS

// RiverVersion is the version of River's schema that the code is written for:
// queries/river.sql touches river_job and is tested against this one.
// An upgrade of River that brings a new version adds a migration, never a change here alone.
const RiverVersion = 8

// River returns River's migrations as goose's version 1. They cannot run in one
// transaction (a new enum value must be committed before it is used), so this
// one runs without; applied twice it does nothing.
func River(pool *pgxpool.Pool, log *slog.Logger) (*goose.Migration, error) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("prepare River's migrations: %w", err)
	}
	up := func(ctx context.Context, _ *sql.DB) error {
		_, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{TargetVersion: RiverVersion})
		return err
	}
	down := func(ctx context.Context, _ *sql.DB) error {
		_, err := migrator.Migrate(ctx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: -1})
		return err
	}
	return goose.NewGoMigration(1, &goose.GoFunc{RunDB: up}, &goose.GoFunc{RunDB: down}), nil
}

// Hash names the whole schema: it changes when any migration does. Test
// databases are cloned from a template of this name.
func Hash() (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "river %d\n", RiverVersion)
	err := fs.WalkDir(Files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := Files.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n%s\n", path, len(text), text)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read migrations: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}
