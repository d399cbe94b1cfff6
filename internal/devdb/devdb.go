// Package devdb finds a database for `memrelay dev`. In goes the environment,
// out comes the URL of one: the DATABASE_URL that is set, else a Postgres of this
// machine's own binaries, else a container, else one message with the ways out.
package devdb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/internal/localpg"
)

// name is the database of `memrelay dev`, and of its container.
const name = "memrelay"

// closeTimeout bounds how long a stop waits for the server.
const closeTimeout = 15 * time.Second

// Database is where dev keeps its data.
type Database struct {
	URL       string // of the database
	Described string // the same without a password
	Home      string // the folder of everything else that stays between runs
	server    string // URL of the server's own database, to make others
	leave     func(context.Context) error
}

// Open finds or starts a server and makes the database that dev uses. Its data
// stays between runs, outside of any checkout.
func Open(ctx context.Context, getenv func(string) string, log *slog.Logger) (*Database, error) {
	home, err := localpg.DefaultHome(getenv, os.Getuid())
	if err != nil {
		return nil, err
	}
	d := &Database{Home: home, leave: func(context.Context) error { return nil }}
	if given := getenv("DATABASE_URL"); given != "" {
		d.URL, d.server = given, given
		return d, d.describe()
	}
	if err := d.start(ctx, getenv, log); err != nil {
		return nil, err
	}
	if d.URL, err = d.create(ctx, name); err != nil {
		return nil, errors.Join(err, d.Close(ctx))
	}
	return d, d.describe()
}

func (d *Database) start(ctx context.Context, getenv func(string) string, log *slog.Logger) error {
	server, leave, err := localpg.Join(ctx, localpg.Options{
		Dir: filepath.Join(d.Home, "postgres"), OwnGroup: true, Log: log, Getenv: getenv,
	}, nil)
	if err == nil {
		d.server, d.leave = server.URL("postgres"), leave
		return nil
	}
	if !errors.Is(err, localpg.ErrNoBinaries) {
		return fmt.Errorf("start Postgres: %w", err)
	}
	url, stop, containerErr := localpg.StartContainer(ctx, name, false, log)
	if containerErr != nil {
		log.DebugContext(ctx, "no container either", "error", containerErr)
		return errors.New(localpg.Remedy(runtime.GOOS))
	}
	d.server, d.leave = url, stop
	return nil
}

// WithFresh calls do with the URL of an empty database, and drops it afterwards.
func (d *Database) WithFresh(ctx context.Context, do func(url string) error) error {
	suffix := make([]byte, 6)
	_, _ = rand.Read(suffix) // never fails: the program ends where the system has no randomness
	fresh := name + "_once_" + hex.EncodeToString(suffix)
	url, err := d.create(ctx, fresh)
	if err != nil {
		return err
	}
	err = do(url)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return errors.Join(err, d.exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{fresh}.Sanitize()+" WITH (FORCE)"))
}

// Close leaves the server; the last one out stops it.
func (d *Database) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	return d.leave(ctx)
}

// create makes a database unless it is there, and returns its URL.
func (d *Database) create(ctx context.Context, database string) (string, error) {
	u, err := parse(d.server)
	if err != nil {
		return "", err
	}
	err = d.exec(ctx, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize())
	if err != nil && !isDuplicateDatabase(err) {
		return "", err
	}
	u.Path = "/" + database
	return u.String(), nil
}

func (d *Database) exec(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, d.server)
	if err != nil {
		return fmt.Errorf("connect to the database server: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// At is d with another of the server's databases.
func (d *Database) At(url string) (*Database, error) {
	other := *d
	other.URL = url
	return &other, other.describe()
}

func (d *Database) describe() error {
	u, err := parse(d.URL)
	if err != nil {
		return err
	}
	// pgx takes passwords from the query, too.
	if q := u.Query(); q.Has("password") || q.Has("sslpassword") {
		q.Del("password")
		q.Del("sslpassword")
		u.RawQuery = q.Encode()
	}
	d.Described = u.Redacted()
	return nil
}

// parse refuses what pgx would take but is no URL, such as "host=db user=ada
// password=…": another database cannot be put into it, nor its password hidden.
// Nor does the error quote it.
func parse(given string) (*url.URL, error) {
	u, err := url.Parse(given)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Opaque != "" {
		return nil, errors.New("DATABASE_URL is not a URL: want postgres://user:password@host:5432/database")
	}
	return u, nil
}
