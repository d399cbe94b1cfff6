package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os/user"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/telemetry"
	"github.com/memrelay/memrelay/internal/zoho"
)

// settings reads the environment and makes the log of it.
func (s streams) settings() (config.Config, *slog.Logger, error) {
	cfg, unknown, err := config.FromEnv(s.environ)
	if err != nil {
		return cfg, nil, fmt.Errorf("settings:\n%w", err)
	}
	log, err := telemetry.NewLogger(s.err, cfg.LogFormat, cfg.LogLevel)
	if err != nil {
		return cfg, nil, err
	}
	for _, name := range unknown {
		log.Warn("setting has no effect: nothing of this name is known", "name", name)
	}
	return cfg, log, nil
}

// quiet is the log of commands that people type: only what went wrong.
func (s streams) quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// withPool opens the database for a command and closes it again.
func (s streams) withPool(ctx context.Context, do func(*pgxpool.Pool) error) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	pool, err := postgres.Open(ctx, cfg.DatabaseURL, postgres.Options{Log: s.quiet(), MaxConns: 4, Name: "command"})
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := postgres.CheckSchema(ctx, pool); err != nil {
		return err
	}
	return do(pool)
}

// withZoho opens the database and Zoho for a command. It fails when the settings
// name no client of Zoho.
func (s streams) withZoho(ctx context.Context, do func(*pgxpool.Pool, *zoho.Client, config.Config) error) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		client, err := app.NewZoho(cfg, pool, time.Now, s.quiet())
		if err != nil {
			return err
		}
		return do(pool, client, cfg)
	})
}

func account() string {
	u, err := user.Current()
	if err != nil {
		return "unknown user"
	}
	return u.Username
}

// say prints what there is to say, for machines or for people.
func (s streams) say(machine map[string]any, people string) error {
	if s.asJSON {
		return s.json(machine)
	}
	_, err := fmt.Fprintln(s.out, people)
	return err
}

func (s streams) json(v any) error {
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// getenv looks one variable up, as os.Getenv does.
func (s streams) getenv(name string) string {
	for i := len(s.environ) - 1; i >= 0; i-- {
		if key, value, ok := strings.Cut(s.environ[i], "="); ok && key == name {
			return value
		}
	}
	return ""
}
