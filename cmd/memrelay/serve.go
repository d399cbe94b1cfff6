package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"

	"log/slog"
)

type serveCommand struct {
	NoWorkers bool `help:"Take webhooks only: work no job, sweep and lead nothing."`
}

// Run serves until ctx ends.
func (c serveCommand) Run(ctx context.Context, s streams) error {
	cfg, log, err := s.settings()
	if err != nil {
		return err
	}
	if err := cfg.CheckServe(); err != nil {
		return err
	}
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", cfg.HTTPAddr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return s.start(ctx, cfg, log, ln, !c.NoWorkers)
}

type workCommand struct{}

// Run works until ctx ends.
func (workCommand) Run(ctx context.Context, s streams) error {
	cfg, log, err := s.settings()
	if err != nil {
		return err
	}
	return s.start(ctx, cfg, log, nil, true)
}

// start runs the program on a database that keeps what it acknowledges.
func (s streams) start(ctx context.Context, cfg config.Config, log *slog.Logger, ln net.Listener, work bool) error {
	if ln != nil {
		defer ln.Close()
	}
	a, err := app.New(ctx, cfg, app.Options{Log: log, Version: version, Work: work, Environ: s.environ})
	if err != nil {
		return unlessStopped(ctx, err)
	}
	defer a.Close()
	if err := a.CheckDurable(ctx); err != nil {
		return unlessStopped(ctx, err)
	}
	if ln != nil {
		log.InfoContext(ctx, "listening", "address", ln.Addr().String(), "version", version, "works", work)
	}
	if err := a.Run(ctx, ln); err != nil {
		return err
	}
	log.InfoContext(context.WithoutCancel(ctx), "stopped")
	return nil
}

// unlessStopped forgets an error that only says that a stop was asked for while
// the program was starting.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
