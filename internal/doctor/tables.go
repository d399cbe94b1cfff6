package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/postgres"
)

const (
	// manyDead are rows from which on it matters that more are dead than alive.
	manyDead = 100_000
	// warnAge and failAge are transactions since the oldest row was frozen. Postgres
	// stops taking writes at some two billion; autovacuum begins at 200 million.
	warnAge = 1_000_000_000
	failAge = 1_800_000_000
	// longOpen is a transaction that keeps what died since from being cleaned up.
	longOpen = 15 * time.Minute
)

func lookAtMigrations(ctx context.Context, p *patient, n *notes) {
	list, err := postgres.MigrationStatus(ctx, p.cfg.DatabaseURL, discard())
	if err != nil {
		n.unseen("the schema", err)
		return
	}
	var missing []string
	for _, m := range list {
		if !m.Applied {
			missing = append(missing, fmt.Sprint(m.Version))
		}
	}
	if len(missing) > 0 {
		n.fail("run `memrelay migrate up`", "the schema is older than this program: migrations %s are missing", strings.Join(missing, ", "))
		return
	}
	switch {
	case errors.Is(p.schemaErr, postgres.ErrSchema):
		n.fail("run `memrelay migrate up`; if that changes nothing, somebody changed River's tables by hand", "%v", p.schemaErr)
	case p.schemaErr != nil:
		n.unseen("River's schema", p.schemaErr)
	default:
		n.ok("the schema fits: all %d migrations are applied, River's among them", len(list))
	}
}

func lookAtTables(ctx context.Context, p *patient, n *notes) {
	invalid, err := p.q.ListInvalidIndexes(ctx)
	if err != nil {
		n.unseen("the indexes", err)
	}
	for _, i := range invalid {
		n.warn("REINDEX INDEX CONCURRENTLY "+i.Name+"; one whose name ends in _ccnew: DROP INDEX CONCURRENTLY "+i.Name,
			"the index %s of %s is invalid: it costs writes and serves no query", i.Name, i.OfTable)
	}
	dead, err := p.q.ListUnvacuumedTables(ctx, manyDead)
	if err != nil {
		n.unseen("the dead rows", err)
	}
	for _, t := range dead {
		if t.Forbidden {
			n.warn("ALTER TABLE "+t.Name+" RESET (autovacuum_enabled)", "autovacuum was told to leave %s alone", t.Name)
		}
		if t.Dead <= manyDead || t.Dead <= t.Live {
			continue
		}
		n.warn("VACUUM (ANALYZE) "+t.Name+"; look what keeps autovacuum from it", "%s holds %d dead rows and %d live ones", t.Name, t.Dead, t.Live)
	}
	p.lookAtVacuum(ctx, n)
	if len(n.take()) == 0 {
		n.ok("indexes are valid, and what is dead is cleaned up")
	}
}

func (p *patient) lookAtVacuum(ctx context.Context, n *notes) {
	v, err := p.q.ExamineVacuum(ctx)
	if err != nil {
		n.unseen("vacuum", err)
		return
	}
	tellVacuum(n, v)
}

func tellVacuum(n *notes, v db.ExamineVacuumRow) {
	const freeze = "run VACUUM (FREEZE) in this database, and look what keeps autovacuum from it"
	switch {
	case v.Age > failAge:
		n.fail(freeze, "the oldest row is %d million transactions old: at 2,000 Postgres takes no more writes", v.Age/1_000_000)
	case v.Age > warnAge:
		n.warn(freeze, "the oldest row is %d million transactions old: at 2,000 Postgres takes no more writes", v.Age/1_000_000)
	}
	if open := seconds(v.OpenSeconds); open > longOpen {
		n.warn("find it in pg_stat_activity by xact_start, and end it: pg_terminate_backend(pid)", "a transaction has been open for %s: nothing that died since is cleaned up", span(open))
	}
	if v.Prepared > 0 {
		n.warn("COMMIT PREPARED or ROLLBACK PREPARED what pg_prepared_xacts lists", "%d transactions are prepared, and hold locks: memrelay prepares none", v.Prepared)
	}
	if v.IdleSlots > 0 {
		n.warn("start who reads them, or SELECT pg_drop_replication_slot(slot_name) of those that pg_replication_slots lists", "%d replication slots are read by nobody: the disk fills with what is kept for them", v.IdleSlots)
	}
}

const (
	largest = 3
	// warnFree and failFree are the shares of a disk from which on it matters.
	warnFree = 0.15
	failFree = 0.05
)

func lookAtDisk(ctx context.Context, p *patient, n *notes) {
	size, err := p.q.DatabaseSize(ctx)
	if err != nil {
		n.unseen("the size of the database", err)
		return
	}
	tables, err := p.q.ListLargestTables(ctx, largest)
	if err != nil {
		n.unseen("the sizes of the tables", err)
		return
	}
	var names []string
	for _, t := range tables {
		names = append(names, t.Name+" "+sizeOf(t.Bytes))
	}
	n.ok("the database holds %s; the largest tables: %s", sizeOf(size), strings.Join(names, ", "))
	p.lookAtFreeSpace(ctx, n, size)
}

// lookAtFreeSpace looks at the disk, if it is one of this machine.
func (p *patient) lookAtFreeSpace(ctx context.Context, n *notes, size int64) {
	const unseen = "watch the disk of the database's machine; docs/operating.md says which tables grow"
	if !p.isLocal() || p.o.FreeSpace == nil {
		n.note(unseen, "how much of the disk is free cannot be seen from here: the database is on another machine")
		return
	}
	path, err := p.q.DataDirectory(ctx)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == "42501":
		n.note("GRANT pg_read_all_settings TO the role of DATABASE_URL, or watch the disk", "how much of the disk is free cannot be seen: the role may not know where the data is")
		return
	case err != nil:
		n.unseen("where the data is", err)
		return
	}
	free, all, err := p.o.FreeSpace(path)
	if err != nil || all == 0 {
		// It may run in a container of this machine.
		n.note(unseen, "how much of the disk is free cannot be seen from here")
		return
	}
	tellFree(n, free, all, size)
}

func tellFree(n *notes, free, all uint64, size int64) {
	const grow = "make the disk larger, or keep less: docs/operating.md says what is kept for how long"
	share := float64(free) / float64(all)
	found := fmt.Sprintf("%s of %s are free on the database's disk", sizeOf(int64(free)), sizeOf(int64(all))) //nolint:gosec // no disk holds that much
	switch {
	case share < failFree:
		n.fail(grow, "%s: when it is full nothing is taken any more", found)
	case share < warnFree, float64(free) < 0.2*float64(size):
		n.warn(grow, "%s", found)
	default:
		n.ok("%s", found)
	}
}

// isLocal reports whether the database seems to be on this machine.
func (p *patient) isLocal() bool {
	host := p.pool.Config().ConnConfig.Host
	return strings.HasPrefix(host, "/") || isLoopback(host)
}

// sizeOf is a size as people read it.
func sizeOf(n int64) string {
	const kilo = 1024
	size, unit := float64(n), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < kilo {
			break
		}
		size, unit = size/kilo, larger
	}
	if unit == "B" || size >= 100 {
		return fmt.Sprintf("%.0f %s", size, unit)
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}
