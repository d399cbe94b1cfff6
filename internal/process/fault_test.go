package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"

	"github.com/memrelay/memrelay/internal/group"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	state := func(code string) error { return fmt.Errorf("write: %w", &pgconn.PgError{Code: code}) }
	for _, tt := range []struct {
		name string
		err  error
		want blame
	}{
		{"a value of the wrong kind", state("22P05"), ofEvent},
		{"a constraint", state("23505"), ofEvent},
		{"one row twice", state("21000"), ofEvent},
		{"too long for an index", state("54000"), ofEvent},
		{"a panic over it", fmt.Errorf("write: %w", group.ErrPanic), ofEvent},
		{"found by ourselves", fmt.Errorf("%w: no body", errEvent), ofEvent},

		{"too many wait", fmt.Errorf("write: %w", group.ErrFull), ofWorld},
		{"its rows are held", group.ErrHeld, ofWorld},
		{"somebody was faster, again and again", group.ErrConflict, ofWorld},
		{"the time is up", fmt.Errorf("write: %w", context.DeadlineExceeded), ofWorld},
		{"we stop", context.Canceled, ofWorld},
		{"the network", &net.OpError{Op: "read", Err: errors.New("reset")}, ofWorld},
		{"no connection", fmt.Errorf("begin: %w", &pgconn.ConnectError{}), ofWorld},
		{"connection lost, says Postgres", state("08006"), ofWorld},
		{"read only after a failover", state("25006"), ofWorld},
		{"a deadlock", state("40P01"), ofWorld},
		{"no memory left", state("53200"), ofWorld},
		{"no lock to be had", state("55P03"), ofWorld},
		{"shut down", state("57P01"), ofWorld},
		{"disk trouble", state("58030"), ofWorld},

		{"a table is not there", state("42P01"), ofUnknown},
		{"an internal error", state("XX000"), ofUnknown},
		{"a state that is none", state(""), ofUnknown},
		{"a connection that broke in the middle", io.ErrUnexpectedEOF, ofUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := classify(tt.err); got != tt.want {
				t.Errorf("%v is %d, want %d", tt.err, got, tt.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		base     time.Duration
		failures int
		want     time.Duration // and a fifth more or less
	}{
		{2 * time.Second, 1, 2 * time.Second},
		{2 * time.Second, 2, 4 * time.Second},
		{2 * time.Second, 4, 16 * time.Second},
		{2 * time.Second, 5, 30 * time.Second},
		{2 * time.Second, 1_000_000, 30 * time.Second},
		{time.Hour, 1, 30 * time.Second},
		{50 * time.Millisecond, 3, 200 * time.Millisecond},
		{2 * time.Second, 0, 2 * time.Second},
		{0, 3, 0},
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			got := Retry{Base: tt.base}.after(tt.failures)
			if low, high := tt.want*8/10, tt.want*12/10; got < low || got > high {
				t.Errorf("after %d failures with a base of %v: %v, want %v to %v", tt.failures, tt.base, got, low, high)
			}
			seen[got] = true
		}
		if len(seen) < 2 && tt.base > 0 {
			t.Errorf("after %d failures with a base of %v: always the same", tt.failures, tt.base)
		}
	}
}

func TestPauseIsShortEnoughToBePrecise(t *testing.T) {
	t.Parallel()
	for range 100 {
		var snooze *river.JobSnoozeError
		if err := pause(); !errors.As(err, &snooze) || snooze.Duration < time.Second || snooze.Duration >= 3*time.Second {
			t.Fatalf("%v, want a snooze of one to three seconds", err)
		}
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, err, want string }{
		{"is the error", "insert: refused", "insert: refused"},
		{"is text that Postgres takes", "a\x00b\xffc", "ab\uFFFDc"},
		{"is short", strings.Repeat("x", 600), strings.Repeat("x", maxReason)},
		{"is not cut within a letter", strings.Repeat("x", maxReason-1) + "é", strings.Repeat("x", maxReason-1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := reason(errors.New(tt.err)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Neither the job nor any row says why it waits: only the log does.
func TestAJobThatWaitsForTheWorldSaysWhy(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	err := wait(t.Context(), slog.New(slog.NewTextHandler(&said, nil)), errors.New("no connection"), "event_id", 7)
	if !isSnooze(err) {
		t.Errorf("the job returned %v, want a snooze", err)
	}
	if line := said.String(); !strings.Contains(line, `level=WARN`) || !strings.Contains(line, `event_id=7 error="no connection"`) {
		t.Errorf("the log says %q", line)
	}
}
