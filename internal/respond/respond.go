// Package respond turns what handlers return into HTTP: they return errors, one
// place makes them answers (problem+json, RFC 9457), log lines and statuses.
package respond

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
)

// Error is an error with two faces: Code and Message go out, Err goes to the log.
type Error struct {
	Status     int           // of the answer
	Code       string        // for programs: snake case, never changes
	Message    string        // for people; no secret, nothing of the inside
	Field      string        // of the request that is wrong, as it is sent; "": none alone
	Fields     []Field       // all that are wrong, where more than one can be
	RetryAfter time.Duration // > 0: the sender is told when to come again
	Err        error         // for the log only
}

// Field is one that is wrong, and what about it.
type Field struct {
	Name   string `json:"field"`
	Detail string `json:"detail"`
}

// Error returns what goes to the log.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Code + ": " + e.Err.Error()
	}
	return e.Code + ": " + e.Message
}

// Unwrap returns the inner error.
func (e *Error) Unwrap() error { return e.Err }

// problem is the one shape of every error answer: RFC 9457 with code, field where
// one is wrong, errors where several can be, and request_id.
type problem struct {
	Type      string  `json:"type"`
	Title     string  `json:"title"`
	Status    int     `json:"status"`
	Detail    string  `json:"detail"`
	Code      string  `json:"code"`
	Field     string  `json:"field,omitempty"`
	Errors    []Field `json:"errors,omitempty"`
	RequestID string  `json:"request_id"`
}

// Handler answers with JSON, or returns an error and has written nothing.
type Handler func(w http.ResponseWriter, r *http.Request) error

// ServeHTTP calls h and answers its error: an *Error as it says, any other with
// a bare 500.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		Problem(w, r, err)
	}
}

// Problem answers r with err.
func Problem(w http.ResponseWriter, r *http.Request, err error) {
	e := faceOf(err)
	note(r.Context(), e)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, e.Status, problem{
		Type: "about:blank", Title: http.StatusText(e.Status), Status: e.Status,
		Detail: e.Message, Code: e.Code, Field: e.Field, Errors: e.Fields, RequestID: RequestID(r.Context()),
	})
}

// faceOf is err as it is shown: a bare 500 unless it says otherwise.
func faceOf(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{
		Status: http.StatusInternalServerError, Code: "internal", Err: err,
		Message: "Something went wrong here; the log has it under this request_id.",
	}
}

// JSON answers with v. It returns nil, so that a handler can return its call.
func JSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	write(w, status, v)
	return nil
}

func write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// Only a type of ours that cannot be JSON gets here: a fault of the program.
		panic(fmt.Errorf("encode an answer: %w", err))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	// A client that is gone is no fault of ours, and nobody is left to be told.
	_, _ = w.Write(append(body, '\n'))
}

type contextKey int

const (
	requestIDKey contextKey = iota
	lineKey
)

// RequestID returns the id of the request that ctx belongs to, "" outside of one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey).(string)
	return id
}

// line is what a request's one log line says besides the usual.
type line struct {
	failure *Error
	attrs   []slog.Attr
}

// note keeps the error for the request's one log line.
func note(ctx context.Context, e *Error) {
	if l, ok := ctx.Value(lineKey).(*line); ok {
		l.failure = e
	}
}

// Annotate adds to the request's one log line. Outside of a request it does nothing.
func Annotate(ctx context.Context, attrs ...slog.Attr) {
	if l, ok := ctx.Value(lineKey).(*line); ok {
		l.attrs = append(l.attrs, attrs...)
	}
}

// Use puts onto r what every route needs: a request id on the answer and in the
// context, one log line per request, panics as problems, and problems for
// unknown routes and methods.
func Use(r chi.Router, log *slog.Logger, with ...Option) {
	var o options
	for _, set := range with {
		set(&o)
	}
	r.Use(identify, logged(log, o), recovered)
	r.NotFound(Handler(func(http.ResponseWriter, *http.Request) error {
		return &Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is nothing at this address."}
	}).ServeHTTP)
	r.MethodNotAllowed(Handler(func(w http.ResponseWriter, req *http.Request) error {
		allow(w.Header(), r, req.URL.Path)
		return &Error{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Message: "This address does not take " + req.Method + "."}
	}).ServeHTTP)
}

// allow names the methods that path takes, as RFC 9110 wants it with a 405. chi
// tells them only to its own handler.
func allow(h http.Header, routes chi.Routes, path string) {
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
	} {
		if routes.Match(chi.NewRouteContext(), method, path) {
			h.Add("Allow", method)
		}
	}
}

// identify takes the sender's X-Request-Id when it is one that may stand in a
// log line, else makes one.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !plain(id) {
			id = uuid.Must(uuid.NewV7()).String()
		}
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey, id)))
	})
}

func plain(id string) bool {
	return id != "" && len(id) <= 128 && strings.IndexFunc(id, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) < 0
}

func logged(log *slog.Logger, o options) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			said := &line{}
			r = r.WithContext(context.WithValue(r.Context(), lineKey, said))
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			// Also when the handler breaks the answer off with a panic.
			defer func() {
				log.LogAttrs(r.Context(), said.level(r, ww.Status()), "request answered", said.about(r, ww.Status(), start, o.remote(r))...)
				o.refuse(r, said, ww.Status())
			}()
			next.ServeHTTP(ww, r)
			if ww.Status() == 0 {
				// net/http would say so now, and the line would not.
				ww.WriteHeader(http.StatusOK)
			}
		})
	}
}

func (l *line) level(r *http.Request, status int) slog.Level {
	ours := status >= http.StatusInternalServerError || (l.failure != nil && l.failure.Status >= http.StatusInternalServerError)
	// Whoever hung up does not read the answer: that is no fault of ours.
	if ours && r.Context().Err() == nil {
		return slog.LevelError
	}
	return slog.LevelInfo
}

func (l *line) about(r *http.Request, status int, start time.Time, remote string) []slog.Attr {
	attrs := append([]slog.Attr{
		slog.String("method", r.Method), slog.String("route", route(r)), slog.Int("status", status),
		slog.Int64("duration_us", time.Since(start).Microseconds()), slog.String("remote", remote),
	}, l.attrs...)
	if l.failure != nil {
		attrs = append(attrs, slog.String("code", l.failure.Code))
		if l.failure.Err != nil {
			attrs = append(attrs, slog.Any("error", l.failure.Err))
		}
	}
	return attrs
}

// route is the pattern that matched, so that lines can be counted by it; an
// unmatched path is not repeated into the log.
func route(r *http.Request) string {
	if pattern := chi.RouteContext(r.Context()).RoutePattern(); pattern != "" {
		return pattern
	}
	return "none"
}

func recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // the standard library compares it so, too
				panic(p)
			}
			err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			if ww, ok := w.(middleware.WrapResponseWriter); ok && ww.Status() != 0 {
				// The answer has begun. A problem at its end would be read as a part of
				// it; a connection that breaks is understood.
				note(r.Context(), faceOf(err))
				panic(http.ErrAbortHandler)
			}
			Problem(w, r, err)
		}()
		next.ServeHTTP(w, r)
	})
}
