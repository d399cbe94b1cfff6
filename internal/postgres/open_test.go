package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/localpg"
	"github.com/memrelay/memrelay/internal/postgres"
)

// lines is a log that may be written from several goroutines.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func quiet(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// open opens a pool that the end of the test closes.
func open(t *testing.T, url string, o postgres.Options) *pgxpool.Pool {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet(t)
	}
	pool, err := postgres.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// with adds a parameter to a URL.
func with(t *testing.T, dsn, name, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func TestPoolsHaveTheirSettings(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	limits := map[string]string{"lock_timeout": "5s", "statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s"}
	none := map[string]string{"lock_timeout": "0", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
	planner := map[string]string{"plan_cache_mode": "auto", "enable_seqscan": "on", "enable_hashjoin": "on", "enable_mergejoin": "on"}
	keyed := map[string]string{"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}
	for _, tc := range []struct {
		name string
		o    postgres.Options
		want []map[string]string
	}{
		{"statements have limits", postgres.Options{Name: "work"}, []map[string]string{limits, planner, {"application_name": "memrelay work"}}},
		{"but not those that may rightly take long", postgres.Options{Name: "river", Unlimited: true}, []map[string]string{none, planner, {"application_name": "memrelay river"}}},
		{"a pool for look-ups finds rows by their keys", postgres.Options{Name: "x", Lookups: true}, []map[string]string{limits, keyed, {"application_name": "memrelay x"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			pool := open(t, url, tc.o)
			want, got := map[string]string{"TimeZone": "UTC"}, map[string]string{}
			for _, settings := range tc.want {
				for name, value := range settings {
					want[name] = value
				}
			}
			for name := range want {
				var value string
				if err := pool.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&value); err != nil {
					t.Fatal(err)
				}
				got[name] = value
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhoeverWritesTheURLDecidesAboutConnections(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	for _, tc := range []struct {
		name string
		url  string
		o    postgres.Options
		want int32
	}{
		{"what the program asks for", url, postgres.Options{MaxConns: 17}, 17},
		{"what the URL says", with(t, url, "pool_max_conns", "3"), postgres.Options{MaxConns: 17}, 3},
		{"not less than what would stand still", with(t, url, "pool_max_conns", "1"), postgres.Options{MaxConns: 17, LeastConns: 2}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := open(t, tc.url, tc.o).Config().MaxConns; got != tc.want {
				t.Errorf("%d connections, want %d", got, tc.want)
			}
		})
	}
}

func TestAWrongURLIsAnErrorWithoutThePassword(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, url, want string }{
		{"a port that is none", "postgres://ada:hunter2@db:port/app", "read DATABASE_URL"},
		{"an escape that is none", "postgres://ada:hunter2@db/%zz", "read DATABASE_URL"},
		{"a password with an escape that is none", "postgres://ada:hunter2%@db/app", "read DATABASE_URL"},
		{"a setting that is none", "host=db password=hunter2 sslmode=perhaps", "read DATABASE_URL"},
		{"a pool that is none", "postgres://ada:hunter2@db/app?pool_max_conns=many", "read DATABASE_URL"},
		{"nobody is there", "postgres://ada:hunter2@127.0.0.1:1/app", "connect to the database"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out lines
			pool, err := postgres.Open(t.Context(), tc.url, postgres.Options{Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
			if err == nil {
				pool.Close()
				t.Fatal("opened")
			}
			if !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("error %q, want it to begin with %q", err, tc.want)
			}
			if said := err.Error() + out.String(); strings.Contains(said, "hunter2") {
				t.Errorf("the password is in %s", said)
			}
		})
	}
}

func TestAnImpossiblePoolIsAnError(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(t.Context(), with(t, dbtest.Empty(t), "pool_max_conns", "-1"), postgres.Options{Log: quiet(t)})
	if err == nil {
		t.Error("opened")
	}
}

// What a statement was called with is customers' data, and stays out of the log.
func TestTheLogHasStatementsAndNotTheirArguments(t *testing.T) {
	t.Parallel()
	var out lines
	pool := open(t, dbtest.Empty(t), postgres.Options{Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	const statement = `SELECT 1 / length(replace($1::text, $1::text, ''))`
	if _, err := pool.Exec(t.Context(), statement, "jane@example.com"); err == nil {
		t.Fatal("no error")
	}
	said := out.String()
	if !strings.Contains(said, `level=DEBUG msg="database: `) || !strings.Contains(said, statement) || !strings.Contains(said, "22012") {
		t.Errorf("the log says %q", said)
	}
	if strings.Contains(said, "jane@example.com") {
		t.Errorf("the log has an argument: %q", said)
	}
}

func TestADatabaseThatAnswersTooEarlyIsRefused(t *testing.T) {
	t.Parallel()
	if os.Getenv("TEST_DATABASE_URL") != "" {
		t.Skip("needs the private server, whose fsync is off")
	}
	url := with(t, dbtest.Empty(t), "synchronous_commit", "on") // it is fsync alone that is wrong
	err := postgres.CheckDurable(t.Context(), open(t, url, postgres.Options{}))
	if !errors.Is(err, postgres.ErrNotDurable) || !strings.Contains(err.Error(), "fsync is off") {
		t.Errorf("error %v, want %v", err, postgres.ErrNotDurable)
	}
}

func TestADurableDatabaseIsAccepted(t *testing.T) {
	t.Parallel()
	s := durable(t)
	for _, tc := range []struct {
		commit string
		ok     bool
	}{
		{"on", true}, {"local", true}, {"remote_write", true}, {"remote_apply", true}, {"off", false},
	} {
		pool := open(t, with(t, s.URL("postgres"), "synchronous_commit", tc.commit), postgres.Options{})
		err := postgres.CheckDurable(t.Context(), pool)
		if tc.ok && err != nil {
			t.Errorf("synchronous_commit=%s: %v", tc.commit, err)
		}
		if !tc.ok && !errors.Is(err, postgres.ErrNotDurable) {
			t.Errorf("synchronous_commit=%s: error %v, want %v", tc.commit, err, postgres.ErrNotDurable)
		}
	}
}

// durable starts a server that keeps what it acknowledges, and skips where none
// can be started.
func durable(t *testing.T) *localpg.Server {
	t.Helper()
	// t.TempDir is closed to others, and as root the server runs as somebody else.
	dir, err := os.MkdirTemp(localpg.ThrowawayHome(), "durable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := localpg.Start(t.Context(), localpg.Options{Dir: dir})
	if errors.Is(err, localpg.ErrNoBinaries) || errors.Is(err, errors.ErrUnsupported) {
		t.Skip("needs initdb and postgres, which this machine does not have")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.StopImmediately(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestNobodyAnswersForDurability(t *testing.T) {
	t.Parallel()
	pool := open(t, dbtest.Empty(t), postgres.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := postgres.CheckDurable(ctx, pool); err == nil || errors.Is(err, postgres.ErrNotDurable) {
		t.Errorf("error %v, want that of the question", err)
	}
}

// ask reads one value.
func ask[T any](t *testing.T, url, sql string) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
