package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/memrelay/memrelay/internal/access"
)

// agents is how long a memory takes from an agent's call to a receiver, and whether who
// calls waits for those who are told.
func (b *bench) agents(ctx context.Context) ([]row, error) {
	rows, err := b.told200(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range []struct {
		what      string
		endpoints int
	}{{apiAlone, 0}, {apiFollowed, 3}} {
		p50, err := b.answered(ctx, o.endpoints)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{o.what, "ms", p50})
	}
	return rows, nil
}

func (b *bench) told200(ctx context.Context) (rows []row, err error) {
	r, p, err := b.told(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer r.close()
	defer func() { err = errors.Join(err, p.stop()) }()
	token, err := b.token(ctx, p.url, "bench")
	if err != nil {
		return nil, err
	}
	const warming, rate = 200, 200
	if _, err := open(ctx, p.addr, b.thoughts(warming, token), rate, 64); err != nil {
		return nil, err
	}
	all := b.thoughts(rate*b.plan.seconds, token)
	l, err := open(ctx, p.addr, all, rate, 64)
	if err == nil {
		err = r.wait(ctx, warming+all.len())
	}
	if err != nil {
		return nil, err
	}
	ms, err := r.since(l, all.first)
	return []row{
		{apiToReceiver + ": p50", "ms", percentile(ms, 0.5)},
		{apiToReceiver + ": p95", "ms", percentile(ms, 0.95)},
		{apiToReceiver + ": p99", "ms", percentile(ms, 0.99)},
	}, err
}

// answered is how long a call takes until its answer, half of the time.
func (b *bench) answered(ctx context.Context, endpoints int) (p50 float64, err error) {
	r, p, err := b.told(ctx, endpoints)
	if err != nil {
		return 0, err
	}
	defer r.close()
	defer func() { err = errors.Join(err, p.stop()) }()
	token, err := b.token(ctx, p.url, "bench")
	if err != nil {
		return 0, err
	}
	const rate = 50
	if _, err := open(ctx, p.addr, b.thoughts(rate, token), rate, 8); err != nil {
		return 0, err
	}
	l, err := open(ctx, p.addr, b.thoughts(rate*b.plan.seconds, token), rate, 8)
	return percentile(l.ms, 0.5), err
}

// token makes one that may see and change everybody's memories.
func (b *bench) token(ctx context.Context, url, name string) (string, error) {
	command := exec.CommandContext(ctx, b.binary, "tokens", "create", name, "--scope", access.Memory)
	command.Env = append(os.Environ(), "DATABASE_URL="+url)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	text, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("make a token: %w\n%s", err, complaints.Bytes())
	}
	return strings.TrimSpace(string(text)), nil
}
