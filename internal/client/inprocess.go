package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// errHandler is returned when a handler ends before it has answered.
var errHandler = errors.New("the handler broke off")

// inProcess is a transport to a handler of this process. Answers come as they are
// written, so that what never ends can be read, too.
type inProcess struct{ handler http.Handler }

// RoundTrip has the handler answer. Whoever closes the body, or ends the request's
// context, is gone as a client on the network would be.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	in := r.Clone(ctx)
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	reader, writer := io.Pipe()
	stop := context.AfterFunc(ctx, func() { writer.CloseWithError(ctx.Err()) })
	a := &answering{header: http.Header{}, body: writer, begun: make(chan struct{})}
	go func() {
		defer cancel()
		defer func() {
			stop()
			var err error // nil: the end
			status := http.StatusOK
			if p := recover(); p != nil {
				status, err = http.StatusInternalServerError, fmt.Errorf("%w: %v", errHandler, p)
			}
			a.WriteHeader(status)
			writer.CloseWithError(err)
			in.Body.Close()
		}()
		t.handler.ServeHTTP(a, in)
	}()
	select {
	case <-a.begun:
	case <-ctx.Done():
		select {
		case <-a.begun: // it has ended, and said so first
		default:
			cancel()
			return nil, ctx.Err()
		}
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)), StatusCode: a.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: a.sent, ContentLength: -1, Request: r,
		Body: &leaving{Reader: reader, close: func() error { cancel(); return reader.Close() }},
	}, nil
}

// answering is where a handler writes its answer.
type answering struct {
	header http.Header
	body   *io.PipeWriter
	once   sync.Once
	begun  chan struct{}

	// Set before begun is closed.
	status int
	sent   http.Header
}

func (a *answering) Header() http.Header { return a.header }

func (a *answering) WriteHeader(status int) {
	a.once.Do(func() {
		a.status, a.sent = status, a.header.Clone()
		close(a.begun)
	})
}

func (a *answering) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// Flush has nothing to do: what is written is read.
func (a *answering) Flush() { a.WriteHeader(http.StatusOK) }

// leaving is a body whose reader may leave.
type leaving struct {
	io.Reader
	close func() error
}

func (l *leaving) Close() error { return l.close() }
