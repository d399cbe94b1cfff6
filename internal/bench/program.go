package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// program is a memrelay in a process of its own.
type program struct {
	addr, base, url string
	command         *exec.Cmd
	peak            float64 // greatest resident memory seen, in MB
	stopWatch       func()
}

// endless lets a backlog grow as long as it may: what is measured is the pace.
func endless() []string { return []string{"WEBHOOK_MAX_QUEUE_SIZE=100000000"} }

// toMyself lets webhooks go to this machine.
func toMyself() []string { return append(endless(), "OUTBOUND_ALLOW_PRIVATE=127.0.0.0/8") }

// serveWith starts the program on a database of its own, with settings besides.
func (b *bench) serveWith(ctx context.Context, settings []string, args ...string) (*program, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	return b.serveOn(ctx, url, settings, args...)
}

// serveOn starts the program on a database that is there.
func (b *bench) serveOn(ctx context.Context, url string, settings []string, args ...string) (*program, error) {
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return nil, fmt.Errorf("free the port: %w", err)
	}
	p := &program{addr: addr, base: "http://" + addr, url: url}
	p.command = exec.CommandContext(context.WithoutCancel(ctx), b.binary, append([]string{"serve"}, args...)...)
	p.command.Env = append(os.Environ(), "DATABASE_URL="+url, "HTTP_ADDR="+addr, "WEBHOOK_SECRET="+secret, "LOG_LEVEL=warn")
	p.command.Env = append(p.command.Env, settings...)
	p.command.Stderr = os.Stderr
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	if err := p.waitReady(ctx); err != nil {
		err = errors.Join(err, p.command.Process.Kill())
		_ = p.command.Wait() // it says no more than that it was killed
		return nil, err
	}
	p.watch()
	return p, nil
}

func (p *program) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the program: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// watch keeps the greatest resident memory.
func (p *program) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			p.peak = max(p.peak, p.rss())
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	p.stopWatch = func() { cancel(); <-done }
}

// rss reads the resident memory in MB, 0 where the system does not say.
func (p *program) rss() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.command.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// stop ends the program. Ctrl-C in a terminal may have told it before.
func (p *program) stop() error {
	p.stopWatch()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop: %w", err)
	}
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
