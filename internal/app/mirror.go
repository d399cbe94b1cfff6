package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/lane"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/memory/cognee"
	"github.com/memrelay/memrelay/internal/memory/mem0"
	"github.com/memrelay/memrelay/internal/mirror"
)

// ErrNoRemote is returned where another memory system is needed and none follows.
var ErrNoRemote = errors.New("MEMORY_BACKEND is postgres: the memories are kept there alone, and nothing is copied")

// What the calls of one attempt may take. Cognee answers an update once language
// models have read it.
const (
	cogneeTime = 6 * time.Minute
	mem0Time   = 2 * time.Minute
)

// Remote is the memory system that follows, as the settings name it.
type Remote struct {
	memory.Remote
	digester mirror.Digester
	callTime time.Duration
	close    func()
}

// CloseIdleConnections closes what is kept open to it and not in use.
func (r *Remote) CloseIdleConnections() { r.close() }

// NewRemote makes the client of the memory system that follows; it calls nobody yet.
// ErrNoRemote is returned when none does.
func NewRemote(cfg config.Config, version string, now func() time.Time) (*Remote, error) {
	transport := newTransport(cfg.Inbound.NumWorkers)
	agent := "memrelay/" + version
	switch cfg.Memory.Backend {
	case "cognee":
		client, err := cognee.New(cognee.Options{
			URL: cfg.Memory.CogneeURL, APIKey: cfg.Memory.CogneeAPIKey, Dataset: cfg.Memory.CogneeDataset,
			Transport: transport, UserAgent: agent, Now: now,
		})
		if err != nil {
			return nil, err
		}
		return &Remote{Remote: client, digester: graph{client}, callTime: cogneeTime, close: client.CloseIdleConnections}, nil
	case "mem0":
		form, err := mem0.ParseForm(cfg.Memory.Mem0Mode)
		if err != nil {
			return nil, fmt.Errorf("MEM0_MODE: %w", err)
		}
		client, err := mem0.New(mem0.Options{
			URL: cfg.Memory.Mem0URL, APIKey: cfg.Memory.Mem0APIKey, Form: form, Transport: transport, UserAgent: agent, Now: now,
		})
		if err != nil {
			return nil, err
		}
		return &Remote{Remote: client, callTime: mem0Time, close: client.CloseIdleConnections}, nil
	}
	return nil, ErrNoRemote
}

// NewMirror makes what carries memories to remote.
func NewMirror(cfg config.Config, pool *pgxpool.Pool, jobs lane.Inserter, remote *Remote, now func() time.Time, log *slog.Logger) *mirror.Mirror {
	return mirror.New(pool, jobs, remote, mirror.Options{
		Backend: cfg.Memory.Backend, GiveUpAfter: cfg.Inbound.GiveUpAfter, CallTime: remote.callTime, Digester: remote.digester,
		Now: now, Random: rand.Float64, Log: log,
	})
}

// graph has Cognee make its graph of what was copied.
type graph struct{ client *cognee.Client }

// Start begins a run over the dataset.
func (g graph) Start(ctx context.Context) (over bool, err error) {
	dataset, err := g.client.Dataset(ctx)
	if err != nil {
		return false, err
	}
	run, err := g.client.Cognify(ctx, dataset)
	return run.Status == cognee.RunCompleted || run.Status == cognee.RunAlreadyCompleted, err
}

// Progress says how far the dataset's last run is.
func (g graph) Progress(ctx context.Context) (mirror.Progress, error) {
	dataset, err := g.client.Dataset(ctx)
	if err != nil {
		return "", err
	}
	progress, err := g.client.Status(ctx, dataset)
	switch {
	case err != nil:
		return "", err
	case progress.Running():
		return mirror.ProgressRunning, nil
	case progress == cognee.ProgressCompleted:
		return mirror.ProgressCompleted, nil
	case progress == cognee.ProgressErrored:
		return mirror.ProgressErrored, nil
	}
	return mirror.ProgressNone, nil
}

// buildMirror builds what follows the memory; where nothing does, all of it stays nil.
func (a *App) buildMirror(jobs lane.Inserter) error {
	remote, err := NewRemote(a.cfg, a.o.Version, a.o.Now)
	if errors.Is(err, ErrNoRemote) {
		return nil
	}
	if err != nil {
		return err
	}
	a.remote, a.mirror = remote, NewMirror(a.cfg, a.pool, jobs, remote, a.o.Now, a.log)
	return nil
}

// mirrorConcerns are what of the copies degrades health: nothing where none are made.
func (a *App) mirrorConcerns(ctx context.Context) ([]string, error) {
	if a.mirror == nil {
		return nil, nil
	}
	found, err := mirror.Health(ctx, db.New(a.pool), a.cfg.Memory.Backend)
	if err != nil {
		return nil, fmt.Errorf("look at the copies: %w", err)
	}
	return found, nil
}
