package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

const (
	// leastVersion is the oldest Postgres whose SQL the migrations are written in:
	// UNIQUE NULLS NOT DISTINCT is of 15.
	leastVersion = 150000
	usualLocks   = 64
	// measurements are how often a time is taken, of which the middle one counts.
	measurements = 9
	// slowTrip and slowCommit are from where on throughput is lost to waiting: an
	// account is brought up to date in some ten trips and one commit.
	slowTrip   = 5 * time.Millisecond
	slowCommit = 20 * time.Millisecond
)

func lookAtDatabase(ctx context.Context, p *patient, n *notes) {
	switch {
	case p.cfg.DatabaseURL == "":
		n.fail("set DATABASE_URL, as postgres://user:password@host:5432/database", "DATABASE_URL is not set")
		return
	case p.pool == nil:
		n.fail(remedyOfOpening(p.poolErr), "the database cannot be reached: %v", p.poolErr)
		return
	}
	s, err := p.q.ExamineServer(ctx)
	if err != nil {
		n.unseen("the server", err)
		return
	}
	p.tellServer(n, s)
	p.tellDurability(n, s)
	p.tellRole(ctx, n, s)
	p.tellPooler(ctx, n)
	p.measure(ctx, n, s.Standby)
}

// remedyOfOpening says what to do when a connection could not be had.
func remedyOfOpening(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return "look whether the server runs and whether host and port of DATABASE_URL are right; a firewall may be between"
	}
	switch {
	case pg.Code == "3D000":
		return "create the database with `createdb`, then run `memrelay migrate up`"
	case strings.HasPrefix(pg.Code, "28"):
		return "check user and password of DATABASE_URL, and pg_hba.conf"
	case pg.Code == "53300":
		return "raise max_connections, or set pool_max_conns in DATABASE_URL: a node opens up to 42 connections"
	case strings.Contains(pg.Message, "unsupported startup parameter"):
		return "let DATABASE_URL name Postgres itself: a pooler that knows no session settings is between"
	}
	return "the server's own log says more"
}

func (p *patient) tellServer(n *notes, s db.ExamineServerRow) {
	if s.VersionNumber < leastVersion {
		n.fail("use Postgres 15 or newer", "Postgres %s is too old: the schema needs 15", s.Version)
	} else {
		n.ok("Postgres %s answers", s.Version)
	}
	if s.Encoding != "UTF8" {
		n.fail("make a database with `createdb --encoding UTF8 --template template0`, and move there", "the database's encoding is %s: most names cannot be stored", s.Encoding)
	}
	if s.Standby {
		n.fail("let DATABASE_URL name the primary", "this server is a standby: nothing can be written")
	} else if s.ReadOnly {
		n.fail("ALTER ROLE "+s.Role+" RESET default_transaction_read_only, and of the database, too", "transactions are read-only by default: nothing can be written")
	}
}

func (p *patient) tellDurability(n *notes, s db.ExamineServerRow) {
	const lost = "%s is %s: what is acknowledged can be lost in a power cut"
	sound := true
	wrong := func(name, value string, tell func(string, string, ...any)) {
		sound = false
		tell("ALTER SYSTEM SET "+name+" = on, and reload; look for ALTER ROLE and ALTER DATABASE, too", lost, name, value)
	}
	if s.Fsync != "on" {
		wrong("fsync", s.Fsync, n.fail)
	}
	if s.SynchronousCommit == "off" {
		wrong("synchronous_commit", s.SynchronousCommit, n.fail)
	}
	if s.FullPageWrites != "on" {
		sound = false
		n.warn("ALTER SYSTEM SET full_page_writes = on, unless the file system never tears a page, as ZFS", "full_page_writes is %s: a power cut can tear a page", s.FullPageWrites)
	}
	if sound {
		n.ok("what is committed is on disk: fsync is on, synchronous_commit is %s", s.SynchronousCommit)
	}
	for _, on := range []struct{ name, value string }{{"autovacuum", s.Autovacuum}, {"track_counts", s.TrackCounts}} {
		if on.value != "on" {
			n.fail("ALTER SYSTEM SET "+on.name+" = on, and reload", "%s is %s: tables grow and get slow, above all that of the jobs", on.name, on.value)
		}
	}
	if s.MaxLocks < usualLocks {
		n.warn(fmt.Sprintf("ALTER SYSTEM SET max_locks_per_transaction = %d, and restart", usualLocks), "max_locks_per_transaction is %d, less than usual: event_bodies has a partition for each month", s.MaxLocks)
	}
}

// tellRole tells what the role may not do, and what was set for it.
func (p *patient) tellRole(ctx context.Context, n *notes, s db.ExamineServerRow) {
	if !s.MayCreate {
		n.note("run `memrelay migrate up` as a role that may, or GRANT CREATE ON SCHEMA public TO "+s.Role, "the role %s may not make tables: it cannot migrate, nor make next month's partition", s.Role)
	}
	if s.AllMayCreate {
		n.warn("GRANT CREATE ON SCHEMA public TO "+s.Role+"; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
			"everybody who logs in may make functions in the schema public, and so get the rights of this program: databases made before Postgres 15 let them")
	}
	names, err := p.q.ListUnwritableTables(ctx)
	if err != nil {
		n.unseen("the rights of the role", err)
	} else if len(names) > 0 {
		const some = 5
		tell := n.note // of somebody else
		if slices.ContainsFunc(names, func(name string) bool {
			return slices.Contains([]string{"events", "outbox", "memories", "river_job"}, name)
		}) {
			tell = n.fail
		}
		tell("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+s.Role, "the role %s may not read and change %d tables: %s", s.Role, len(names), strings.Join(names[:min(some, len(names))], ", "))
	}
	settings, err := p.q.ListRoleSettings(ctx)
	if err != nil {
		n.unseen("the settings of the role", err)
		return
	}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		switch name {
		case "statement_timeout", "transaction_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout":
			if value != "0" {
				n.warn("ALTER ROLE "+s.Role+" RESET "+name+", and of the database, too; nodes set limits of their own where they want them",
					"%s was set for this role or database: it cuts off migrations and the upkeep of the jobs", setting)
			}
		}
	}
}

// tellPooler tells of a pooler between us and the server. Jobs are told of by LISTEN, which a
// session has to itself; one connection for many sessions loses that.
func (p *patient) tellPooler(ctx context.Context, n *notes) {
	a, err := p.backend(ctx)
	if err != nil {
		n.unseen("whether there is a pooler", err)
		return
	}
	defer a.conn.Release()
	b, err := p.backend(ctx)
	if err != nil {
		n.unseen("whether there is a pooler", err)
		return
	}
	defer b.conn.Release()
	switch pooling(a.told, a.answered, b.answered) {
	case poolsTransactions:
		n.fail("let DATABASE_URL name Postgres itself, or set pool_mode = session", "a pooler gives each transaction another connection: sessions, LISTEN and advisory locks do not work")
	case poolsSessions:
		n.note("if it gives each transaction another connection, let DATABASE_URL name Postgres itself", "a pooler or proxy is between this machine and Postgres")
	}
}

// backend is a session: which process of the server it was told it has, and which one answers.
type backend struct {
	conn           *pgxpool.Conn
	told, answered uint32
}

func (p *patient) backend(ctx context.Context) (backend, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return backend{}, err
	}
	pid, err := db.New(conn).ReadBackend(ctx)
	if err != nil {
		conn.Release()
		return backend{}, err
	}
	return backend{conn, conn.Conn().PgConn().PID(), uint32(pid)}, nil //nolint:gosec // a process id is positive
}

type pool int

const (
	poolsNothing pool = iota
	poolsSessions
	poolsTransactions
)

// pooling says what is between us and the server, of two sessions that are open at one time.
func pooling(told, answered, otherAnswered uint32) pool {
	switch {
	case answered == otherAnswered:
		return poolsTransactions
	case told != answered:
		return poolsSessions
	}
	return poolsNothing
}

// measure takes the time of a round trip, and of a commit that is on disk.
func (p *patient) measure(ctx context.Context, n *notes, standby bool) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		n.unseen("how fast the database is", err)
		return
	}
	defer conn.Release()
	q := db.New(conn)
	trip, err := p.median(func() error { _, err := q.ReadBackend(ctx); return err })
	if err != nil {
		n.unseen("how long a round trip takes", err)
		return
	}
	if trip > slowTrip {
		n.warn("run nodes beside the database: in the same zone, without a tunnel", "a round trip to the database takes %s, more than %s", took(trip), slowTrip)
	} else {
		n.ok("a round trip to the database takes %s", took(trip))
	}
	if standby {
		return
	}
	commit, err := p.median(func() error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return db.New(tx).CommitNothing(ctx) })
	})
	if err != nil {
		n.unseen("how long a commit takes", err)
		return
	}
	commit -= 2 * trip // BEGIN and the statement
	if commit > slowCommit {
		n.warn("give the database's log a faster disk; a synchronous standby may be far away", "a commit takes %s, more than %s", took(commit), slowCommit)
	} else {
		n.ok("a commit takes %s", took(max(commit, 0)))
	}
}

// median is the middle of the times that do took; the first, which may prepare, is left out.
func (p *patient) median(do func() error) (time.Duration, error) {
	var times []time.Duration
	for i := range measurements + 1 {
		begun := p.o.Now()
		if err := do(); err != nil {
			return 0, err
		}
		if i > 0 {
			times = append(times, p.o.Now().Sub(begun))
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// took is a time as people read it.
func took(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// span is a time of which seconds do not matter.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return count(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return count(int(d.Hours()), "hour")
	}
	return count(int(d.Hours()/24), "day")
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
