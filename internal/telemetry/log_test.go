package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/telemetry"
)

func logger(t *testing.T, out *bytes.Buffer, format string, level slog.Level) *slog.Logger {
	t.Helper()
	log, err := telemetry.NewLogger(out, format, level)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// serve answers one request, whose id is "req-1", with a handler that logs.
func serve(log *slog.Logger, handle func(log *slog.Logger, r *http.Request)) {
	router := chi.NewRouter()
	respond.Use(router, log)
	router.Get("/", func(_ http.ResponseWriter, r *http.Request) { handle(log, r) })
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Header.Set("X-Request-Id", "req-1")
	router.ServeHTTP(httptest.NewRecorder(), req)
}

func TestEachLineOfARequestHasItsID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	serve(logger(t, &out, "json", slog.LevelInfo), func(log *slog.Logger, r *http.Request) {
		log.InfoContext(r.Context(), "plain")
		log.With("station", "inbound").InfoContext(r.Context(), "with attributes")
		log.WithGroup("g").InfoContext(r.Context(), "in a group", "n", 1)
		log.With("a", 1).WithGroup("g").With("b", 2).InfoContext(r.Context(), "both", "n", 1)
		log.WithGroup("").InfoContext(r.Context(), "in no group", "n", 1)
		log.Info("without the context")
	})
	var got []map[string]any
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		for _, name := range []string{"time", "duration_us", "remote"} {
			delete(m, name)
		}
		got = append(got, m)
	}
	want := []map[string]any{
		{"level": "INFO", "msg": "plain", "request_id": "req-1"},
		{"level": "INFO", "msg": "with attributes", "request_id": "req-1", "station": "inbound"},
		// A logger with a group puts into it whatever the line says.
		{"level": "INFO", "msg": "in a group", "g": map[string]any{"n": 1.0, "request_id": "req-1"}},
		{"level": "INFO", "msg": "both", "a": 1.0, "g": map[string]any{"b": 2.0, "n": 1.0, "request_id": "req-1"}},
		{"level": "INFO", "msg": "in no group", "request_id": "req-1", "n": 1.0},
		{"level": "INFO", "msg": "without the context"},
		{"level": "INFO", "msg": "request answered", "request_id": "req-1", "method": "GET", "route": "/", "status": 200.0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ format, want string }{
		{"json", `^\{"time":"[^"]+","level":"WARN","msg":"it is late","hours":3,"request_id":"req-1"\}\n$`},
		{"text", `^time=\S+ level=WARN msg="it is late" hours=3 request_id=req-1\n$`},
	} {
		t.Run(tc.format, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log := logger(t, &out, tc.format, slog.LevelWarn)
			serve(log, func(log *slog.Logger, r *http.Request) {
				log.InfoContext(r.Context(), "left out")
				log.WarnContext(r.Context(), "it is late", "hours", 3)
			})
			if !regexp.MustCompile(tc.want).Match(out.Bytes()) {
				t.Errorf("wrote %q, want %s", out.String(), tc.want)
			}
		})
	}
}

func TestAnotherFormatIsRefused(t *testing.T) {
	t.Parallel()
	log, err := telemetry.NewLogger(&bytes.Buffer{}, "xml", slog.LevelInfo)
	if log != nil || err == nil || err.Error() != `log format "xml": want json or text` {
		t.Errorf("got %v, %v", log, err)
	}
}
