package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// lookEvery is how often a command that follows something looks.
	lookEvery = time.Second
	// lineEvery is how often it prints a line where it cannot overwrite the last one.
	lineEvery = 10 * time.Second
	// barWidth is how long a bar is that is full.
	barWidth = 20
)

// progress prints how something goes: on a terminal in one line with a bar, elsewhere in
// a line from time to time, for machines not at all.
type progress struct {
	out      io.Writer
	terminal bool
	width    int // of the line that stands there
	printed  time.Time
}

func (s streams) progress() *progress {
	p := &progress{out: s.out}
	if s.asJSON {
		p.out = io.Discard
		return p
	}
	_, p.terminal = s.out.(tty)
	return p
}

// bar is how much of something is done, before a line on a terminal; elsewhere "".
func (p *progress) bar(done, of int64) string {
	if !p.terminal {
		return ""
	}
	full := barWidth
	if of > 0 {
		full = int(max(0, min(barWidth*done/of, barWidth)))
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] "
}

// errSeenEnough says that the user stopped looking.
var errSeenEnough = errors.New("the user has seen enough")

// until looks each second until there is nothing more to come.
func (p *progress) until(ctx context.Context, look func() (line string, ended bool, err error)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		line, ended, err := look()
		if ctx.Err() != nil {
			p.stop()
			return errSeenEnough
		}
		if err != nil {
			p.stop()
			return err
		}
		p.print(line, ended)
		if ended {
			return nil
		}
		select {
		case <-ctx.Done():
			p.stop()
			return errSeenEnough
		case <-tick.C:
		}
	}
}

func (p *progress) print(line string, last bool) {
	if p.terminal {
		fmt.Fprintf(p.out, "\r%s%s", line, strings.Repeat(" ", max(0, p.width-len(line))))
		p.width = len(line)
		if last {
			p.stop()
		}
		return
	}
	if now := time.Now(); last || now.Sub(p.printed) >= lineEvery {
		fmt.Fprintln(p.out, line)
		p.printed = now
	}
}

// stop leaves the line that stands there.
func (p *progress) stop() {
	if p.terminal && p.width > 0 {
		fmt.Fprintln(p.out)
		p.width = 0
	}
}
