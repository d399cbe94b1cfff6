package dbtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/postgres"
	"github.com/memrelay/memrelay/migrations"
)

const (
	testPrefix     = "memrelay_test_"
	templatePrefix = "memrelay_template_"

	// templateLock is the advisory lock under which templates are built.
	templateLock = 0x6d656d72656c6179
)

// server is where the databases are made. Each step has a connection of its own
// (2 ms over a socket): an open pool would be a goroutine that tests which look
// for leaked ones would find.
type server struct {
	from  string // for people
	url   string
	leave func(context.Context) error

	schema func() (template string, err error) // the migrated template, built at the first call
}

func newServer(from, url string, leave func(context.Context) error) *server {
	s := &server{from: from, url: url, leave: leave}
	s.schema = sync.OnceValues(func() (string, error) {
		// Not a test's context: the other tests of this binary want it, too.
		ctx, cancel := context.WithTimeout(context.Background(), openLimit)
		defer cancel()
		hash, err := migrations.Hash()
		if err != nil {
			return "", err
		}
		return templatePrefix + hash, s.build(ctx, templatePrefix+hash, func(ctx context.Context, url string) error {
			return postgres.Migrate(ctx, url, slog.New(slog.DiscardHandler))
		})
	})
	return s
}

// urlOf returns the DSN of another database on this server.
func (s *server) urlOf(database string) string {
	u, err := url.Parse(s.url)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return s.url + " dbname=" + database // "key=value …": the last one counts
	}
	u.Path = "/" + database
	return u.String()
}

// build makes a template database unless it is there. It grows under another
// name, so that an unfinished one is never cloned; whoever else wants it waits.
func (s *server) build(ctx context.Context, template string, migrate func(ctx context.Context, url string) error) error {
	return s.with(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(templateLock)); err != nil {
			return fmt.Errorf("lock templates: %w", err)
		}
		var exists bool
		if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, template).Scan(&exists); err != nil {
			return fmt.Errorf("look for template: %w", err)
		}
		if exists {
			return nil
		}
		growing := template + "_growing"
		if err := run(ctx, conn,
			`DROP DATABASE IF EXISTS `+growing+` WITH (FORCE)`,
			`CREATE DATABASE `+growing+` TEMPLATE template0`,
		); err != nil {
			return err
		}
		if err := migrate(ctx, s.urlOf(growing)); err != nil {
			return err
		}
		return run(ctx, conn,
			// A session on a template makes every clone of it fail.
			`ALTER DATABASE `+growing+` ALLOW_CONNECTIONS false`,
			`ALTER DATABASE `+growing+` RENAME TO `+template,
		)
	})
}

// create clones a template under a new name.
func (s *server) create(ctx context.Context, template string) (name string, err error) {
	name = testPrefix + strings.ToLower(rand.Text()[:16])
	return name, s.with(ctx, func(conn *pgx.Conn) error {
		return run(ctx, conn, `CREATE DATABASE `+name+` TEMPLATE `+template+strategy(conn))
	})
}

// strategy says how to clone. Since Postgres 15 the default writes every page to
// the log; with fsync off plain copying is faster, though it brings two
// checkpoints: 11 against 28 ms in memory, four at once 25 against 70 ms, on a
// slow disk 350 against 380 ms.
func strategy(conn *pgx.Conn) string {
	v := conn.PgConn().ParameterStatus("server_version")
	var major int
	if _, err := fmt.Sscanf(v, "%d", &major); err != nil || major < 15 {
		return ""
	}
	return " STRATEGY FILE_COPY"
}

func (s *server) drop(ctx context.Context, name string) error {
	return s.with(ctx, func(conn *pgx.Conn) error {
		return run(ctx, conn, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
	})
}

// tidy drops what killed runs left behind and the templates of older schemas.
// Nobody else may be using the server.
func (s *server) tidy(ctx context.Context) error {
	hash, err := migrations.Hash()
	if err != nil {
		return err
	}
	return s.with(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT datname FROM pg_database WHERE (starts_with(datname, $1) OR starts_with(datname, $2)) AND datname <> $3`,
			testPrefix, templatePrefix, templatePrefix+hash)
		if err != nil {
			return fmt.Errorf("list databases: %w", err)
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return fmt.Errorf("list databases: %w", err)
		}
		for _, name := range names {
			if err := run(ctx, conn, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
				return err
			}
		}
		return nil
	})
}

// with connects to the database postgres, which every server has: advisory
// locks are seen only within one database.
func (s *server) with(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.urlOf("postgres"))
	if err != nil {
		return fmt.Errorf("connect to the test server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

func run(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
