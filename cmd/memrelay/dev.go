package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/demo"
	"github.com/memrelay/memrelay/internal/devdb"
	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/internal/telemetry"
)

type devCommand struct {
	Zoho bool `help:"With a Zoho on this machine, of twenty accounts, where somebody works; in a database of its own." xor:"what"`
	Once bool `help:"Send sample traffic through it, check what came of it, and end." xor:"what"`
}

// Run runs everything on this machine: until ctx ends, or once through the demo.
func (c devCommand) Run(ctx context.Context, s streams) (err error) {
	database, err := devdb.Open(ctx, s.getenv, slog.New(slog.NewTextHandler(s.err, nil)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, database.Close(context.WithoutCancel(ctx))) }()
	if c.Once {
		return c.once(ctx, s, database)
	}
	if c.Zoho {
		return database.WithFresh(ctx, func(url string) error {
			fresh, err := database.At(url)
			if err != nil {
				return err
			}
			return c.serve(ctx, s, fresh)
		})
	}
	return c.serve(ctx, s, database)
}

// once runs the demo in a database of its own.
func (devCommand) once(ctx context.Context, s streams, database *devdb.Database) error {
	return database.WithFresh(ctx, func(url string) error {
		return demo.Run(ctx, demo.Options{DatabaseURL: url, Version: version, Out: s.out, Log: s.quiet()})
	})
}

func (c devCommand) serve(ctx context.Context, s streams, database *devdb.Database) error {
	secret, err := devSecret(database.Home, "webhook-secret")
	if err != nil {
		return err
	}
	token, err := devSecret(database.Home, "admin-token")
	if err != nil {
		return err
	}
	environ := append([]string{"LOG_FORMAT=text", "WEBHOOK_SECRET=" + secret, "ADMIN_TOKEN=" + token}, s.environ...)
	environ = append(environ, "DATABASE_URL="+database.URL)
	cfg, unknown, err := config.FromEnv(environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	log, err := telemetry.NewLogger(s.err, cfg.LogFormat, cfg.LogLevel)
	if err != nil {
		return err
	}
	for _, name := range unknown {
		log.Warn("setting has no effect: nothing of this name is known", "name", name)
	}
	if err := postgres.Migrate(ctx, cfg.DatabaseURL, log); err != nil {
		return unlessStopped(ctx, err)
	}
	ln, err := s.listenDev(ctx, cfg.HTTPAddr)
	if err != nil {
		return err
	}
	base := "http://" + strings.Replace(ln.Addr().String(), "[::]", "localhost", 1)
	printDev(s, base, database, cfg)
	if !c.Zoho {
		return s.start(ctx, cfg, log, ln, true)
	}
	zoho, err := demo.StartZoho(ln.Addr().String())
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	zoho.Connect(&cfg)
	fmt.Fprintf(s.out, "A Zoho of twenty accounts is at %s. What is remembered of it:\n\n  psql '%s' -c 'SELECT kind, content FROM memories ORDER BY updated_at DESC LIMIT 5'\n\n", zoho.URL(), database.Described)
	working, stop := context.WithCancel(ctx)
	defer stop()
	go zoho.Work(working)
	return errors.Join(s.start(ctx, cfg, log, ln, true), zoho.Close())
}

// listenDev listens on this machine alone. When nobody said where and the usual
// port is taken, any other will do.
func (s streams) listenDev(ctx context.Context, addr string) (net.Listener, error) {
	var listen net.ListenConfig
	if s.getenv("HTTP_ADDR") != "" {
		ln, err := listen.Listen(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		return ln, nil
	}
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:8000")
	if errors.Is(err, syscall.EADDRINUSE) {
		ln, err = listen.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return ln, nil
}

// devSecret returns a secret of this machine, made at the first start: what was
// signed yesterday is still accepted today.
func devSecret(home, name string) (string, error) {
	file := filepath.Join(home, name)
	known, err := os.ReadFile(file)
	if err == nil && strings.TrimSpace(string(known)) != "" {
		return strings.TrimSpace(string(known)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the secret %s: %w", name, err)
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", fmt.Errorf("make %s: %w", home, err)
	}
	secret := newSecret()
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the secret %s: %w", name, err)
	}
	return secret, nil
}

// printDev says where everything is, with commands that can be pasted.
func printDev(s streams, base string, database *devdb.Database, cfg config.Config) {
	secret := cfg.Inbound.Secrets[0]
	body := `{"operation":"create","module":"Contacts","data":[{"id":"1","Last_Name":"Doe","Email":"jane@example.com","Account_Name":{"id":"77","name":"Example Ltd"}}]}`
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	fmt.Fprintf(s.out, `memrelay %s
  address   %s
  database  %s
  secret    WEBHOOK_SECRET=%s

Send it a webhook:

  curl -s %s/webhooks/zoho -H 'Content-Type: application/json' \
    -H 'X-Zoho-Signature: %s' \
    -d '%s'

See what became of it:

  DATABASE_URL='%s' %s events show 1

And ask the memory, as an agent does:

  curl -s %s/v1/memories/search -H 'Content-Type: application/json' \
    -H 'Authorization: Bearer %s' \
    -d '{"user_id":"zoho:77","query":"who is jane?"}'

`, version, base, database.Described, secret, base, hex.EncodeToString(mac.Sum(nil)), body, database.Described, thisCommand(),
		base, cfg.AdminToken)
}

// thisCommand is how to call this program again from the same folder: what
// "go run" built is gone when it ends.
func thisCommand() string {
	self, err := os.Executable()
	if err != nil || strings.Contains(self, "go-build") {
		return "go run ./cmd/memrelay"
	}
	return self
}
