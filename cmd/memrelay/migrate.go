package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/postgres"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Apply every migration that is not applied."`
	Down   migrateDown   `cmd:"" help:"Take back the newest migration. Destroys what its tables hold."`
	Status migrateStatus `cmd:"" help:"List migrations."`
}

type migrateUp struct{}

// Run applies what is missing.
func (migrateUp) Run(ctx context.Context, s streams) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	if err := postgres.Migrate(ctx, cfg.DatabaseURL, s.quiet()); err != nil {
		return err
	}
	return s.say(map[string]any{"status": "ok"}, "the schema is at the newest version")
}

type migrateDown struct {
	All bool `help:"Take back all of them."`
	asking
}

// Run takes migrations back, once it is said that this is meant.
func (c migrateDown) Run(ctx context.Context, s streams) error {
	which := "the newest migration"
	if c.All {
		which = "all migrations"
	}
	if err := c.ask(ctx, s, "Take back %s, and destroy what they made?", which); err != nil {
		return err
	}
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	if err := postgres.MigrateDown(ctx, cfg.DatabaseURL, c.All, s.quiet()); err != nil {
		return err
	}
	return s.say(map[string]any{"status": "ok"}, "taken back")
}

type migrateStatus struct {
}

// Run lists migrations.
func (migrateStatus) Run(ctx context.Context, s streams) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	list, err := postgres.MigrationStatus(ctx, cfg.DatabaseURL, s.quiet())
	if err != nil {
		return err
	}
	if s.asJSON {
		return s.json(list)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tAPPLIED\tNAME")
	for _, m := range list {
		fmt.Fprintf(w, "%d\t%t\t%s\n", m.Version, m.Applied, m.Name)
	}
	return w.Flush()
}
