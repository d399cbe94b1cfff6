package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// Serve talks over stdio until the client closes in or ctx ends: one message a
// line, and nothing else is written to out. What was asked before in ended is
// answered. Serve closes in.
func (s *Server) Serve(ctx context.Context, in io.ReadCloser, out io.Writer) error {
	err := s.sdk.Run(ctx, patient{&sdk.IOTransport{Reader: in, Writer: keptOpen{out}}})
	if ctx.Err() != nil {
		return nil // a stop was asked for
	}
	if err != nil {
		return fmt.Errorf("talk over stdio: %w", err)
	}
	return nil
}

// keptOpen is a writer that is not ours to close.
type keptOpen struct{ io.Writer }

// Close does nothing.
func (keptOpen) Close() error { return nil }

// patient sees the end of what it reads only when all that came before is answered.
// The SDK forgets what it has not answered by then, and a client may well say all it
// has to say and close.
type patient struct{ sdk.Transport }

// Connect connects.
func (p patient) Connect(ctx context.Context) (sdk.Connection, error) {
	c, err := p.Transport.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &patientConnection{Connection: c, changed: make(chan struct{}, 1), closed: make(chan struct{})}, nil
}

type patientConnection struct {
	sdk.Connection

	mu      sync.Mutex
	open    int           // calls that are not answered
	changed chan struct{} // has something when open may be 0
	once    sync.Once
	closed  chan struct{}
}

// Read returns the next message, and the end when there is nothing left to answer.
func (c *patientConnection) Read(ctx context.Context) (jsonrpc.Message, error) {
	m, err := c.Connection.Read(ctx)
	if errors.Is(err, io.EOF) {
		c.settle(ctx)
	}
	if r, ok := m.(*jsonrpc.Request); ok && r.IsCall() {
		c.count(1)
	}
	return m, err
}

// Write writes a message.
func (c *patientConnection) Write(ctx context.Context, m jsonrpc.Message) error {
	err := c.Connection.Write(ctx, m)
	if _, ok := m.(*jsonrpc.Response); ok {
		c.count(-1)
	}
	return err
}

// Close closes, whatever is not answered.
func (c *patientConnection) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Connection.Close()
}

func (c *patientConnection) count(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += by
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// settle waits until all is answered, for no longer than a call may take.
func (c *patientConnection) settle(ctx context.Context) {
	limit := time.NewTimer(callLimit)
	defer limit.Stop()
	for {
		c.mu.Lock()
		open := c.open
		c.mu.Unlock()
		if open <= 0 {
			return
		}
		select {
		case <-c.changed:
		case <-limit.C:
			return
		case <-c.closed: // nothing is answered any more
			return
		case <-ctx.Done():
			return
		}
	}
}
