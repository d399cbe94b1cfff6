package respond_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/respond"
)

// lines is a log whose lines can be read while it grows, and waited for.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(p)
	l.more <- struct{}{}
	return n, err
}

// next waits for a line and returns all that were written since the last call.
// A line is written after the answer was sent.
func (l *lines) next(t *testing.T) map[string]any {
	t.Helper()
	select {
	case <-l.more:
	case <-time.After(30 * time.Second):
		t.Fatal("no log line")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text, err := l.text.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var line map[string]any
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatalf("the log line %q: %v", text, err)
	}
	return line
}

// service is a server with routes that behave badly.
type service struct {
	*httptest.Server
	log *lines
}

func serve(t *testing.T, routes func(r chi.Router)) *service {
	t.Helper()
	s := &service{log: &lines{more: make(chan struct{}, 100)}}
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.NewJSONHandler(s.log, nil)))
	routes(r)
	s.Server = httptest.NewServer(r)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(s.Close)
	return s
}

func handler(h func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return respond.Handler(h).ServeHTTP
}

// answer is what a client sees.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *service) do(t *testing.T, method, path string, header http.Header) (answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := s.Client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

func (s *service) get(t *testing.T, path string) answer {
	t.Helper()
	a, err := s.do(t, http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// wantProblem checks that a is a problem in every respect.
func wantProblem(t *testing.T, a answer, status int, title, code, detail string) {
	t.Helper()
	want := fmt.Sprintf(`{"type":"about:blank","title":%q,"status":%d,"detail":%q,"code":%q,"request_id":%q}`+"\n",
		title, status, detail, code, a.header.Get("X-Request-Id"))
	if diff := cmp.Diff(want, a.body); a.status != status || diff != "" {
		t.Errorf("answered %d, want %d; body (-want +got):\n%s", a.status, status, diff)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	if a.header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
}

func TestErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	inner := errors.New("the password is hunter2")
	for _, tc := range []struct {
		name                string
		err                 error
		status              int
		title, code, detail string
		wantLog             map[string]any
	}{
		{
			"what the handler says goes out",
			&respond.Error{Status: 422, Code: "too_odd", Message: "This is too odd."},
			422, "Unprocessable Entity", "too_odd", "This is too odd.",
			map[string]any{"level": "INFO", "code": "too_odd"},
		},
		{
			"the inner error goes to the log alone",
			&respond.Error{Status: 503, Code: "later", Message: "Not now.", Err: inner},
			503, "Service Unavailable", "later", "Not now.",
			map[string]any{"level": "ERROR", "code": "later", "error": "the password is hunter2"},
		},
		{
			"a wrapped one is found",
			fmt.Errorf("store: %w", &respond.Error{Status: 409, Code: "taken", Message: "Taken."}),
			409, "Conflict", "taken", "Taken.",
			map[string]any{"level": "INFO", "code": "taken"},
		},
		{
			"any other error is a bare 500",
			fmt.Errorf("open: %w", inner),
			500, "Internal Server Error", "internal", "Something went wrong here; the log has it under this request_id.",
			map[string]any{"level": "ERROR", "code": "internal", "error": "open: the password is hunter2"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(r chi.Router) {
				r.Get("/", handler(func(http.ResponseWriter, *http.Request) error { return tc.err }))
			})
			a := s.get(t, "/")
			wantProblem(t, a, tc.status, tc.title, tc.code, tc.detail)
			wantLine(t, s.log.next(t), "GET", "/", tc.status, tc.wantLog)
		})
	}
}

// wantLine checks a whole log line.
func wantLine(t *testing.T, line map[string]any, method, route string, status int, more map[string]any) {
	t.Helper()
	want := map[string]any{"msg": "request answered", "method": method, "route": route, "status": float64(status)}
	for name, value := range more {
		want[name] = value
	}
	if us, ok := line["duration_us"].(float64); !ok || us < 0 {
		t.Errorf("duration_us %v", line["duration_us"])
	}
	if remote, ok := line["remote"].(string); !ok || !strings.HasPrefix(remote, "127.0.0.1:") {
		t.Errorf("remote %v", line["remote"])
	}
	for _, name := range []string{"duration_us", "remote", "time"} {
		delete(line, name)
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("log line (-want +got):\n%s", diff)
	}
}

// A field that is wrong has its own key, so that a program need not read the detail.
func TestAProblemNamesTheFieldThatIsWrong(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ field, want string }{
		{"items[3].content", `"code":"invalid_field","field":"items[3].content","request_id":""}`},
		{"", `"code":"invalid_field","request_id":""}`},
	} {
		w := httptest.NewRecorder()
		respond.Problem(w, httptest.NewRequest(http.MethodGet, "/", nil), &respond.Error{Status: 422, Code: "invalid_field", Field: tc.field})
		if got := strings.TrimSpace(w.Body.String()); !strings.HasSuffix(got, tc.want) {
			t.Errorf("answered %s, want its end to be %s", got, tc.want)
		}
	}
}

func TestRetryAfterIsWholeSecondsAndNeverTooEarly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""},
		{-time.Second, ""},
		{time.Nanosecond, "1"},
		{999 * time.Millisecond, "1"},
		{time.Second, "1"},
		{1001 * time.Millisecond, "2"},
		{5 * time.Second, "5"},
		{90 * time.Second, "90"},
	} {
		t.Run(tc.after.String(), func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			respond.Problem(w, httptest.NewRequest(http.MethodGet, "/", nil), &respond.Error{Status: 503, RetryAfter: tc.after})
			if got := w.Header().Get("Retry-After"); got != tc.want {
				t.Errorf("Retry-After %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAnErrorSaysInTheLogWhatHappened(t *testing.T) {
	t.Parallel()
	inner := errors.New("connection refused")
	e := &respond.Error{Status: 503, Code: "later", Message: "Not now.", Err: inner}
	if got := e.Error(); got != "later: connection refused" || !errors.Is(e, inner) {
		t.Errorf("the error is %q", got)
	}
	if got := (&respond.Error{Code: "later", Message: "Not now."}).Error(); got != "later: Not now." {
		t.Errorf("the error is %q", got)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	s := serve(t, func(r chi.Router) {
		r.Get("/thing/{id}", handler(func(w http.ResponseWriter, r *http.Request) error {
			respond.Annotate(r.Context(), slog.String("thing", chi.URLParam(r, "id")), slog.Int("size", 3))
			respond.Annotate(r.Context(), slog.Bool("new", true))
			return respond.JSON(w, http.StatusCreated, map[string]string{"a": "<b>"})
		}))
	})
	a := s.get(t, "/thing/7?token=hunter2")
	if a.status != http.StatusCreated || a.body != `{"a":"\u003cb\u003e"}`+"\n" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("answered %d %q as %q", a.status, a.body, a.header.Get("Content-Type"))
	}
	if want := fmt.Sprint(len(a.body)); a.header.Get("Content-Length") != want {
		t.Errorf("Content-Length %q, want %s", a.header.Get("Content-Length"), want)
	}
	// The route is the pattern; neither the path nor the query is repeated.
	wantLine(t, s.log.next(t), "GET", "/thing/{id}", 201, map[string]any{"level": "INFO", "thing": "7", "size": 3.0, "new": true})
}

func TestAnAnswerThatSaysNothingIsLoggedAs200(t *testing.T) {
	t.Parallel()
	s := serve(t, func(r chi.Router) {
		r.Get("/", handler(func(http.ResponseWriter, *http.Request) error { return nil }))
	})
	if a := s.get(t, "/"); a.status != http.StatusOK || a.body != "" {
		t.Errorf("answered %d %q", a.status, a.body)
	}
	wantLine(t, s.log.next(t), "GET", "/", 200, map[string]any{"level": "INFO"})
}

func TestUnknownRoutesAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	s := serve(t, func(r chi.Router) {
		ok := handler(func(w http.ResponseWriter, _ *http.Request) error { return respond.JSON(w, 200, "ok") })
		r.Get("/thing", ok)
		r.Delete("/thing", ok)
		r.Route("/admin", func(r chi.Router) { r.Post("/events/{id}", ok) })
	})
	wantProblem(t, s.get(t, "/nothing/secret-path"), 404, "Not Found", "not_found", "There is nothing at this address.")
	wantLine(t, s.log.next(t), "GET", "none", 404, map[string]any{"level": "INFO", "code": "not_found"})

	for _, tc := range []struct {
		path  string
		allow []string
	}{
		{"/thing", []string{"GET", "DELETE"}},
		{"/admin/events/7", []string{"POST"}},
	} {
		a, err := s.do(t, http.MethodPut, tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, a, 405, "Method Not Allowed", "method_not_allowed", "This address does not take PUT.")
		// RFC 9110, section 15.5.6: a 405 names what is allowed.
		slices.Sort(tc.allow)
		got := slices.Sorted(slices.Values(a.header.Values("Allow")))
		if diff := cmp.Diff(tc.allow, got); diff != "" {
			t.Errorf("%s: Allow (-want +got):\n%s", tc.path, diff)
		}
		if line := s.log.next(t); line["status"] != 405.0 || line["code"] != "method_not_allowed" {
			t.Errorf("log line %v", line)
		}
	}
}

func TestAPanicIsAProblemWithoutTheStack(t *testing.T) {
	t.Parallel()
	s := serve(t, func(r chi.Router) {
		r.Get("/", func(http.ResponseWriter, *http.Request) { panic("index out of hunter2") })
		r.Get("/unencodable", handler(func(w http.ResponseWriter, _ *http.Request) error {
			return respond.JSON(w, 200, func() {})
		}))
	})
	for _, path := range []string{"/", "/unencodable"} {
		a := s.get(t, path)
		wantProblem(t, a, 500, "Internal Server Error", "internal", "Something went wrong here; the log has it under this request_id.")
		line := s.log.next(t)
		text, _ := line["error"].(string)
		if line["level"] != "ERROR" || line["status"] != 500.0 || !strings.Contains(text, "panic: ") || !strings.Contains(text, "respond_test.go") {
			t.Errorf("log line %v", line)
		}
	}
}

// An answer that has begun cannot become a problem: the client must see that it
// is broken, and never take half of it, with a problem at its end, for the whole.
func TestAPanicInTheMiddleOfAnAnswerBreaksIt(t *testing.T) {
	t.Parallel()
	s := serve(t, func(r chi.Router) {
		r.Get("/", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "the first half")
			_ = http.NewResponseController(w).Flush()
			panic("out of ideas")
		})
	})
	a, err := s.do(t, http.MethodGet, "/", nil)
	if err == nil || strings.Contains(a.body, "about:blank") {
		t.Errorf("the client read %q, %v, want an error", a.body, err)
	}
	line := s.log.next(t)
	if text, _ := line["error"].(string); line["level"] != "ERROR" || line["code"] != "internal" || !strings.Contains(text, "out of ideas") {
		t.Errorf("log line %v", line)
	}
}

func TestWhoeverHungUpIsNoFaultOfOurs(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	s := serve(t, func(r chi.Router) {
		r.Get("/", handler(func(_ http.ResponseWriter, r *http.Request) error {
			close(began)
			<-r.Context().Done()
			return &respond.Error{Status: 503, Code: "later", Message: "Not now."}
		}))
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.Client().Do(req)
	if err == nil {
		resp.Body.Close()
		t.Error("answered")
	}
	wantLine(t, s.log.next(t), "GET", "/", 503, map[string]any{"level": "INFO", "code": "later"})
}

// http.ErrAbortHandler is how a handler says that it wants no answer at all.
func TestAnAbortedAnswerIsNone(t *testing.T) {
	t.Parallel()
	s := serve(t, func(r chi.Router) {
		r.Get("/", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	})
	if a, err := s.do(t, http.MethodGet, "/", nil); err == nil {
		t.Errorf("answered %d %q", a.status, a.body)
	}
	wantLine(t, s.log.next(t), "GET", "/", 0, map[string]any{"level": "INFO"})
}

func TestTheSendersRequestIDIsKeptWhenItIsPlain(t *testing.T) {
	t.Parallel()
	s := serve(t, func(r chi.Router) {
		r.Get("/", handler(func(w http.ResponseWriter, r *http.Request) error {
			return respond.JSON(w, 200, respond.RequestID(r.Context()))
		}))
	})
	for _, tc := range []struct {
		name, id string
		kept     bool
	}{
		{"an id", "req-1_a.b:c/d", true},
		{"128 characters", strings.Repeat("x", 128), true},
		{"129 characters", strings.Repeat("x", 129), false},
		{"a space", "a b", false},
		{"a tab", "a\tb", false},
		{"a quote", `a"b`, false},
		{"a character beyond ASCII", "ä", false},
		{"what is not UTF-8", "a\xff", false},
		{"nothing", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := s.do(t, http.MethodGet, "/", http.Header{"X-Request-Id": {tc.id}})
			if err != nil {
				t.Fatal(err)
			}
			got := a.header.Get("X-Request-Id")
			if want := fmt.Sprintf("%q\n", got); a.body != want {
				t.Errorf("the handler saw %s, the answer says %s", a.body, want)
			}
			if tc.kept {
				if got != tc.id {
					t.Errorf("answered as %q, want %q", got, tc.id)
				}
				return
			}
			if id, err := uuid.Parse(got); err != nil || id.Version() != 7 {
				t.Errorf("answered as %q, want a new id", got)
			}
		})
	}
}

func TestOutsideOfARequestThereIsNothingToSay(t *testing.T) {
	t.Parallel()
	respond.Annotate(context.Background(), slog.String("a", "b"))
	if id := respond.RequestID(context.Background()); id != "" {
		t.Errorf("request id %q", id)
	}
}
