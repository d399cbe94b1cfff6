package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/localpg"
)

const (
	baseline  = "pgbench: events + bodies + jobs rows, one transaction per event"
	perSecond = "events/s"
	secret    = "bench"
)

// script inserts what the door inserts for one event.
const script = `BEGIN;
\set n random(1, 9000000000000000)
INSERT INTO events (id, source, event_id, digest, module, operation, record_id) VALUES (nextval('events_id_seq'), 'zoho', gen_random_uuid()::text, sha256(:n::text::bytea), 'Contacts', 'update', :n::text);
INSERT INTO event_bodies (event_id, received_at, body_id, content_type, body, record) VALUES (currval('events_id_seq'), now(), currval('events_id_seq'), 'application/json', repeat('x', 420)::bytea, repeat('x', 330)::bytea);
INSERT INTO river_job (args, kind, max_attempts, queue) VALUES (jsonb_build_object('event_id', currval('events_id_seq')), 'process_event', 3, 'process');
COMMIT;
`

// pgbench is what Postgres does with one transaction per event and no program of ours.
func (b *bench) pgbench(ctx context.Context) ([]row, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.tmp, "pgbench.sql")
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		return nil, fmt.Errorf("write the script: %w", err)
	}
	bin, err := localpg.Find(os.Getenv)
	if err != nil {
		return nil, err
	}
	text, err := exec.CommandContext(ctx, filepath.Join(bin, "pgbench"), "-n", "-M", "prepared", "-c", "32", "-j", "1",
		"-T", strconv.Itoa(b.o.seconds), "-f", file, url).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("pgbench: %w\n%s", err, text)
	}
	m := regexp.MustCompile(`tps = ([0-9.]+)`).FindSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("pgbench said no rate:\n%s", text)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	return []row{{baseline, perSecond, rate}}, err
}

// door is the door alone: events stored with their jobs, nobody works them.
func (b *bench) door(ctx context.Context) ([]row, error) {
	p, err := b.serve(ctx, "--no-workers")
	if err != nil {
		return nil, err
	}
	idle := p.rss()
	l, err := b.load(ctx, p.base)
	if err := errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("door at %d connections", b.o.connections)
	return []row{
		{name, perSecond, l.rate},
		{name + ": p50", "ms", l.p50},
		{name + ": p99", "ms", l.p99},
		{"memory, idle", "MB", idle},
		{"memory, at full load of the door", "MB", p.peak},
	}, nil
}

// whole is the door while all that comes in is worked and delivered, and the
// rate at which what is left is drained.
func (b *bench) whole(ctx context.Context) ([]row, error) {
	p, err := b.serve(ctx)
	if err != nil {
		return nil, err
	}
	l, err := b.load(ctx, p.base)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	left, took, err := p.drain(ctx)
	if err := errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	rows := []row{
		{"door while events are worked", perSecond, l.rate},
		{"door while events are worked: p50", "ms", l.p50},
		{"door while events are worked: p99", "ms", l.p99},
		{"events worked, from first to last", perSecond, float64(l.sent) / (b.duration() + took).Seconds()},
		{"memory, at full load of everything", "MB", p.peak},
	}
	if took > time.Second {
		rows = append(rows, row{"backlog drained, to memory", perSecond, float64(left) / took.Seconds()})
	}
	return rows, nil
}

// program is a memrelay in a process of its own.
type program struct {
	base, url string
	command   *exec.Cmd
	peak      float64 // greatest resident memory seen, in MB
	stopWatch func()
}

func (b *bench) serve(ctx context.Context, args ...string) (*program, error) {
	return b.serveWith(ctx, []string{"WEBHOOK_MAX_QUEUE_SIZE=100000000"}, args...)
}

// serveWith starts the program on a database of its own, with settings besides.
func (b *bench) serveWith(ctx context.Context, settings []string, args ...string) (*program, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return nil, fmt.Errorf("free the port: %w", err)
	}
	p := &program{base: "http://" + addr, url: url}
	p.command = exec.CommandContext(context.WithoutCancel(ctx), b.binary, append([]string{"serve"}, args...)...)
	p.command.Env = append(os.Environ(), "DATABASE_URL="+url, "HTTP_ADDR="+addr, "WEBHOOK_SECRET="+secret, "LOG_LEVEL=warn")
	p.command.Env = append(p.command.Env, settings...)
	p.command.Stderr = os.Stderr
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	if err := p.waitReady(ctx); err != nil {
		return nil, errors.Join(err, p.command.Process.Kill())
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
	pages, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

func (p *program) stop() error {
	p.stopWatch()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// drain waits until every event is processed, and returns how many were left
// at first and how long they took.
func (p *program) drain(ctx context.Context) (left int64, took time.Duration, err error) {
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return 0, 0, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Partial indexes hold just what is left: looking costs what it measures little.
	const open = `SELECT count(*) FROM events WHERE status IN ('routed', 'retrying') OR (revision IS NULL AND status IN ('received', 'retrying'))`
	began := time.Now()
	for first := true; ; first = false {
		var n int64
		if err := conn.QueryRow(ctx, open).Scan(&n); err != nil {
			return 0, 0, fmt.Errorf("count what is left: %w", err)
		}
		if first {
			left = n
		}
		if n == 0 {
			return left, time.Since(began), nil
		}
		select {
		case <-ctx.Done():
			return left, 0, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

type loaded struct {
	rate, p50, p99 float64
	sent           int64
}

// load posts different signed events over many connections for a while, each
// connection one at a time.
func (b *bench) load(ctx context.Context, base string) (loaded, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: b.o.connections, MaxConnsPerHost: b.o.connections}}
	defer client.CloseIdleConnections()
	var next, sent atomic.Int64
	times := make([][]time.Duration, b.o.connections)
	failed := make(chan error, b.o.connections)
	var wg sync.WaitGroup
	began := time.Now()
	for c := range b.o.connections {
		wg.Go(func() {
			// The last request of each connection is waited for: a client that hangs
			// up would measure something else.
			for time.Since(began) < b.duration() {
				start := time.Now()
				if err := post(ctx, client, base, next.Add(1)); err != nil {
					failed <- err
					return
				}
				times[c] = append(times[c], time.Since(start))
				sent.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	select {
	case err := <-failed:
		return loaded{}, err
	default:
	}
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(all) == 0 {
		return loaded{}, errors.New("nothing was answered")
	}
	ms := func(share float64) float64 { return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000 }
	return loaded{rate: float64(sent.Load()) / took.Seconds(), p50: ms(0.5), p99: ms(0.99), sent: sent.Load()}, nil
}

func post(ctx context.Context, client *http.Client, base string, n int64) error {
	body := fmt.Appendf(nil, `{"operation":"update","module":"Contacts","data":[{"id":"57257670000%d","First_Name":"Jane","Last_Name":"Doe %d","Email":"jane%d@example.com","Phone":"+49 30 5550 %d","Title":"Head of Purchasing","Mailing_City":"Berlin","Description":"Wants the offer by the end of the month and a call before that.","Account_Name":{"id":"57257670001%d","name":"Example %d"}}],"user":{"id":"5725767000000411001"}}`, n, n, n, n, n%5000, n%5000)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/webhooks/zoho", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Zoho-Event-Id", "bench-"+strconv.FormatInt(n, 10))
	req.Header.Set("X-Zoho-Signature", hex.EncodeToString(mac.Sum(nil)))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s: %s", resp.Status, text)
	}
	return nil
}

func execute(ctx context.Context, url, statement string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
