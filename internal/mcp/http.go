package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/memrelay/memrelay/internal/respond"
)

const (
	// maxBody is the longest content, each character of it escaped, the metadata and
	// what the protocol puts around them.
	maxBody = 1 << 20
	// bodyLimit is how long a body may take to arrive.
	bodyLimit = 10 * time.Second
)

// Handler serves streamable HTTP, for POST alone. Whoever mounts it puts before it
// what asks for a token, and whose caller Options.Caller finds in the context.
//
// There are no sessions: any node answers any request, each request shows its
// token, and a token that is revoked is good for nothing from then on. Each answer
// is one JSON document.
func (s *Server) Handler() http.Handler {
	inner := sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s.sdk }, &sdk.StreamableHTTPOptions{
		Stateless:    true,
		JSONResponse: true,
		// The body is in memory already, and was measured there.
		MaxRequestBodyBytes: -1,
		// A search for a client that has hung up is for nobody. A write goes on.
		PropagateRequestCancellation: true,
		// It would refuse every request that a reverse proxy on the same machine passes
		// on under its public name. What it keeps out, a page that makes a browser talk
		// to localhost under another name, has no token.
		DisableLocalhostProtection: true,
	})
	crossOrigin := http.NewCrossOriginProtection()
	return respond.Handler(func(w http.ResponseWriter, r *http.Request) error {
		if err := crossOrigin.Check(r); err != nil {
			return &respond.Error{
				Status: http.StatusForbidden, Code: "cross_origin", Message: "A page of another origin may not use this.", Err: err,
			}
		}
		body, err := readBody(w, r)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f := &firstFault{ResponseWriter: w}
		inner.ServeHTTP(f, r)
		return f.problem()
	})
}

// firstFault holds back what the SDK says in plain text of a request that is not the
// protocol's: errors have one shape here. Errors that are JSON-RPC pass.
type firstFault struct {
	http.ResponseWriter
	status int // 0: nothing is held back
	says   bytes.Buffer
}

// WriteHeader passes a status on, unless it begins an error in plain text.
func (f *firstFault) WriteHeader(status int) {
	if status >= http.StatusBadRequest && !strings.HasPrefix(f.Header().Get("Content-Type"), "application/json") {
		f.status = status
		return
	}
	f.ResponseWriter.WriteHeader(status)
}

// Write passes a part of a body on, unless it is held back.
func (f *firstFault) Write(part []byte) (int, error) {
	if f.status != 0 {
		return f.says.Write(part)
	}
	return f.ResponseWriter.Write(part)
}

// Unwrap is for http.ResponseController.
func (f *firstFault) Unwrap() http.ResponseWriter { return f.ResponseWriter }

// problem is what was held back; nil when nothing was.
func (f *firstFault) problem() error {
	if f.status == 0 {
		return nil
	}
	code := "invalid_request"
	if f.status == http.StatusUnsupportedMediaType {
		code = "unsupported_media_type"
	}
	return &respond.Error{Status: f.status, Code: code, Message: strings.TrimSpace(f.says.String())}
}

// readBody reads a body that is short enough and arrives soon enough.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	// A recorder in a test has no deadline to set; a server's connection does.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyLimit))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, &respond.Error{
			Status: http.StatusRequestEntityTooLarge, Code: "body_too_large", Message: fmt.Sprintf("The body is greater than %d bytes.", maxBody),
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, &respond.Error{
			Status: http.StatusRequestTimeout, Code: "body_too_slow", Message: fmt.Sprintf("The body did not arrive within %s.", bodyLimit),
		}
	case err != nil:
		return nil, &respond.Error{Status: http.StatusBadRequest, Code: "body_broken", Message: "The body ended before it was complete.", Err: err}
	}
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}
