// Package demo shows the program at work and checks it: sample traffic goes
// through HTTP into the running program and out to a local receiver. In goes the
// URL of an empty database; out come the walk of one event as it happens, a
// table of what was sent, stored, remembered and delivered, and an error when
// anything in it is not what it should be.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/postgres"
)

// patience is how long the demo waits for what should take milliseconds.
const patience = 30 * time.Second

// ErrDiffers is returned when what came out is not what went in.
var ErrDiffers = errors.New("something differs from what it should be")

// Options are what a run needs.
type Options struct {
	DatabaseURL string // of an empty database
	Version     string
	Out         io.Writer // the walk and the table
	Log         *slog.Logger
}

// Run runs the demo once. It takes a few seconds.
func Run(ctx context.Context, o Options) (err error) {
	receiver, err := startReceiver(receiverSecret, failFirst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, receiver.close()) }()
	return run(ctx, o, receiver)
}

// run runs the demo with a receiver, which a test may give another secret.
func run(ctx context.Context, o Options, receiver *receiver) error {
	if err := postgres.Migrate(ctx, o.DatabaseURL, o.Log); err != nil {
		return err
	}
	pool, err := pgxpool.New(ctx, o.DatabaseURL)
	if err != nil {
		return fmt.Errorf("open the demo's database: %w", err)
	}
	defer pool.Close()

	program, err := startProgram(ctx, o, receiver.url)
	if err != nil {
		return err
	}
	s := &script{base: program.base, pool: pool, out: o.Out}
	played := s.play(ctx)
	var checked error
	if played == nil {
		checked = s.check(ctx, receiver)
	}
	return errors.Join(played, checked, program.stop())
}

// The secrets of a demo open nothing but itself.
const (
	senderSecret   = "demo-secret-of-the-sender"
	receiverSecret = "whsec_ZGVtby1zZWNyZXQtb2YtdGhlLXJlY2VpdmVyISE="
	channelID      = "1000000068001"
	channelToken   = "demo-token-of-the-channel"
)

// failFirst is how many requests the receiver answers with 503 before it is well.
const failFirst = 2

type running struct {
	base string
	stop func() error
}

// startProgram runs the whole program, as serve does, with a short debounce and
// short retries so that nobody has to wait for the demo.
func startProgram(ctx context.Context, o Options, receiverURL string) (running, error) {
	cfg, _, err := config.FromEnv([]string{
		"DATABASE_URL=" + o.DatabaseURL, "WEBHOOK_SECRET=" + senderSecret, "WEBHOOK_DEBOUNCE=0.3",
		"MEM0_WEBHOOK_URL=" + receiverURL, "MEM0_WEBHOOK_SECRET=" + receiverSecret, "MEM0_WEBHOOK_RETRY_DELAY=0.2",
	})
	if err != nil {
		return running{}, err
	}
	// The receiver listens here, which no webhook may reach unless it is said.
	cfg.OutboundAllowPrivate = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	cfg.Outbound.Events = memory.Events()
	a, err := app.New(ctx, cfg, app.Options{Log: o.Log, Version: o.Version, Work: true})
	if err != nil {
		return running{}, err
	}
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		a.Close()
		return running{}, fmt.Errorf("listen: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, ln) }()
	stop := func() error {
		cancel()
		err := <-ended
		a.Close()
		return err
	}
	return running{base: "http://" + ln.Addr().String(), stop: stop}, nil
}
