package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/postgres"
)

// database is the name of the room's.
func (r *room) database() string {
	r.t.Helper()
	config, err := pgx.ParseConfig(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	return config.Database
}

func TestDatabaseSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		setting string
		status  Status
		what    string
	}{
		{"", OK, "Postgres 1"},
		{"default_transaction_read_only = on", Failure, "transactions are read-only"},
		{"synchronous_commit = off", Failure, "synchronous_commit is off: what is acknowledged can be lost"},
		{"synchronous_commit = remote_write", OK, "Postgres 1"},
		{"statement_timeout = '3s'", Warning, "statement_timeout=3s was set"},
		{"idle_in_transaction_session_timeout = '3s'", Warning, "idle_in_transaction_session_timeout=3s was set"},
		{"statement_timeout = 0", OK, "Postgres 1"},
	} {
		r := newRoom(t)
		if c.setting != "" {
			r.exec("ALTER DATABASE " + r.database() + " SET " + c.setting)
		}
		r.finds("database", c.status, c.what)
		if c.status == OK {
			r.doesNotFind("database", "was set for this role")
		}
	}
}

// The server's own settings are not for a test to change, for others use it.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	sound := db.ExamineServerRow{
		Version: "15.4", VersionNumber: 150004, Encoding: "UTF8", Role: "ada", MayCreate: true, Fsync: "on", SynchronousCommit: "on",
		FullPageWrites: "on", Autovacuum: "on", TrackCounts: "on", MaxLocks: 64,
	}
	for _, c := range []struct {
		change func(*db.ExamineServerRow)
		status Status // "": all is well
		what   string
	}{
		{func(*db.ExamineServerRow) {}, "", ""},
		{func(s *db.ExamineServerRow) { s.Version, s.VersionNumber = "14.9", 140009 }, Failure, "Postgres 14.9 is too old"},
		{func(s *db.ExamineServerRow) { s.Encoding = "SQL_ASCII" }, Failure, "encoding is SQL_ASCII"},
		{func(s *db.ExamineServerRow) { s.Standby = true }, Failure, "is a standby"},
		{func(s *db.ExamineServerRow) { s.Fsync = "off" }, Failure, "fsync is off"},
		{func(s *db.ExamineServerRow) { s.SynchronousCommit = "local" }, "", ""},
		{func(s *db.ExamineServerRow) { s.FullPageWrites = "off" }, Warning, "full_page_writes is off"},
		{func(s *db.ExamineServerRow) { s.Autovacuum = "off" }, Failure, "autovacuum is off"},
		{func(s *db.ExamineServerRow) { s.TrackCounts = "off" }, Failure, "track_counts is off"},
		{func(s *db.ExamineServerRow) { s.MaxLocks = 10 }, Warning, "max_locks_per_transaction is 10"},
	} {
		s := sound
		c.change(&s)
		n := &notes{}
		new(patient).tellServer(n, s)
		new(patient).tellDurability(n, s)
		if found := n.take(); (c.status == "" && worse(found)) || (c.status != "" && !has(found, c.status, c.what)) {
			t.Errorf("%+v: %s", s, lines(found))
		}
	}
}

func TestDatabaseThatIsNotThere(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	config, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	config.Path = "/nobody_made_this"
	found := newRoomAt(t, config.String()).examine("database")
	if !has(found, Failure, "cannot be reached") || !strings.Contains(found[0].Remedy, "createdb") {
		t.Error(lines(found))
	}
	for code, want := range map[string]string{"28P01": "password", "53300": "max_connections", "3D000": "createdb", "XX000": "log"} {
		if got := remedyOfOpening(&pgconn.PgError{Code: code}); !strings.Contains(got, want) {
			t.Errorf("%s: %s", code, got)
		}
	}
	if got := remedyOfOpening(&pgconn.PgError{Code: "08P01", Message: "unsupported startup parameter: lock_timeout"}); !strings.Contains(got, "pooler") {
		t.Error(got)
	}
	if got := remedyOfOpening(errors.New("refused")); !strings.Contains(got, "server runs") {
		t.Error(got)
	}
}

func TestRoleWithoutRights(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	role := "doctor_" + r.database()
	r.exec(`CREATE ROLE `+role+` LOGIN`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`,
		`GRANT SELECT ON ALL TABLES IN SCHEMA public TO `+role, `GRANT INSERT, UPDATE, DELETE ON outbox TO `+role)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.WithoutCancel(t.Context()), r.url)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, s := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			if _, err := conn.Exec(context.WithoutCancel(t.Context()), s); err != nil {
				t.Error(err)
			}
		}
	})
	u, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	as := newRoomAt(t, u.String())
	as.finds("database", Note, "may not make tables")
	as.finds("database", Failure, "may not read and change")
	as.finds("disk", Note, "cannot be seen")
	as.doesNotFind("database", "how long a commit takes could not")
	r.exec(`REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text) FROM PUBLIC`)
	as.finds("database", Warning, "how long a commit takes could not be looked at")
	r.doesNotFind("database", "may not")
}

func TestASchemaThatIsOpen(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.doesNotFind("database", "make functions in the schema")
	r.exec(`GRANT CREATE ON SCHEMA public TO PUBLIC`)
	r.finds("database", Warning, "everybody who logs in may make functions in the schema public")
}

func TestMeasuredTimes(t *testing.T) {
	t.Parallel()
	// A clock that goes on by a millisecond more each time it is read: what is looked at
	// later takes longer.
	clock := func(step func(calls int) time.Duration) func() time.Time {
		calls, at := 0, time.Now()
		return func() time.Time { calls++; at = at.Add(step(calls)); return at }
	}
	for _, c := range []struct {
		step   func(int) time.Duration
		status Status
		what   string
	}{
		{func(int) time.Duration { return time.Microsecond }, OK, "a round trip to the database takes 0s"},
		{func(int) time.Duration { return time.Millisecond }, OK, "a round trip to the database takes 1ms"},
		{func(int) time.Duration { return 6 * time.Millisecond }, Warning, "a round trip to the database takes 6ms, more than 5ms"},
		{func(n int) time.Duration { return time.Duration(n*n*n) * time.Microsecond }, Warning, "a commit takes"},
		{func(int) time.Duration { return time.Millisecond }, OK, "a commit takes 0s"}, // its trips do not count
	} {
		r := newRoom(t)
		r.options.Now = clock(c.step)
		r.finds("database", c.status, c.what)
	}
}

func TestCommitsAreMeasuredWithoutAChange(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	const changes = `SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables`
	before := count1(t, r.url, changes)
	r.examine()
	if after := count1(t, r.url, changes); after != before {
		t.Errorf("%d rows were changed", after-before)
	}
}

func count1(t *testing.T, url, query string) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPooling(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		told, answered, other uint32
		want                  pool
	}{
		{7, 7, 8, poolsNothing}, {1, 7, 8, poolsSessions}, {1, 7, 7, poolsTransactions},
	} {
		if got := pooling(c.told, c.answered, c.other); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// A pooler hands out process ids of its own.
func TestPoolerIsNoticed(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.doesNotFind("database", "pooler")
	config, err := pgx.ParseConfig(r.url)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				client.Close()
				return
			}
			go func() { defer server.Close(); _, _ = io.Copy(server, client) }()
			go func() { defer client.Close(); renumber(client, server) }()
		}
	}()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: l.Addr().String(), Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	newRoomAt(t, u.String()).finds("database", Note, "a pooler or proxy is between")
}

// renumber copies what a server says, with another process id.
func renumber(client io.Writer, server io.Reader) {
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		if head[0] == 'K' {
			binary.BigEndian.PutUint32(body, binary.BigEndian.Uint32(body)+1_000_000)
		}
		if _, err := client.Write(append(append([]byte{}, head...), body...)); err != nil {
			return
		}
	}
}

func TestMigrations(t *testing.T) {
	t.Parallel()
	behind := newRoom(t)
	behind.finds("migrations", OK, "the schema fits")
	if err := postgres.MigrateDown(t.Context(), behind.url, false, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	behind.finds("migrations", Failure, "the schema is older than this program")
	behind.finds("work", Skipped, "see migrations")

	river := newRoom(t)
	river.exec(`DELETE FROM river_migration WHERE version = (SELECT max(version) FROM river_migration)`)
	river.finds("migrations", Failure, "River")
	newRoomAt(t, dbtest.Empty(t)).finds("migrations", Failure, "migrations 1, 2")
}

func TestTables(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.doesNotFind("tables", "invalid")
	r.exec(`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'events_record_idx'::regclass`,
		`ALTER TABLE outbox SET (autovacuum_enabled = false)`,
		`CREATE TABLE heap (n int) WITH (autovacuum_enabled = false)`, `INSERT INTO heap SELECT generate_series(1, 100002)`, `DELETE FROM heap`, `SELECT pg_stat_force_next_flush()`)
	r.finds("tables", Warning, "the index events_record_idx of events is invalid")
	r.finds("tables", Warning, "autovacuum was told to leave outbox alone")
	r.finds("tables", Warning, "heap holds 100002 dead rows and 0 live ones")
}

func TestVacuum(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		row    db.ExamineVacuumRow
		status Status // "": nothing
		what   string
	}{
		{db.ExamineVacuumRow{Age: 300_000_000, OpenSeconds: 60}, "", ""},
		{db.ExamineVacuumRow{Age: 1_200_000_000}, Warning, "1200 million transactions old"},
		{db.ExamineVacuumRow{Age: 1_900_000_000}, Failure, "1900 million transactions old"},
		{db.ExamineVacuumRow{OpenSeconds: 3600}, Warning, "open for 1 hour"},
		{db.ExamineVacuumRow{Prepared: 2}, Warning, "2 transactions are prepared"},
		{db.ExamineVacuumRow{IdleSlots: 1}, Warning, "1 replication slots"},
	} {
		n := &notes{}
		tellVacuum(n, c.row)
		if found := n.take(); (c.status == "" && len(found) > 0) || (c.status != "" && !has(found, c.status, c.what)) {
			t.Errorf("%+v: %s", c.row, lines(found))
		}
	}
}

func TestDisk(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.finds("disk", OK, "the database holds")
	r.finds("disk", Note, "cannot be seen from here")
	for _, c := range []struct {
		free, all uint64
		err       error
		status    Status
		what      string
	}{
		{50 << 30, 100 << 30, nil, OK, "50.0 GiB of 100 GiB are free"},
		{10 << 30, 100 << 30, nil, Warning, "10.0 GiB of 100 GiB"},
		{1 << 30, 100 << 30, nil, Failure, "when it is full"},
		{0, 0, errors.New("closed"), Note, "cannot be seen from here"},
	} {
		asked := ""
		r.options.FreeSpace = func(path string) (uint64, uint64, error) { asked = path; return c.free, c.all, c.err }
		r.finds("disk", c.status, c.what)
		if asked == "" {
			t.Error("nobody looked at the disk")
		}
	}
	if free, all, err := FreeSpace(t.TempDir()); err != nil || free == 0 || free > all {
		t.Errorf("%d of %d are free here: %v", free, all, err)
	}
}
