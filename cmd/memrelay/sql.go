package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/sqlrole"
)

type sqlCommand struct {
	Role sqlRole `cmd:"" help:"Make a database role that sees all but secrets, and changes nothing."`
	Drop sqlDrop `cmd:"" help:"Take such a role away."`
}

type sqlRole struct {
	Name          string `arg:"" help:"Of the role, as oncall. One that this command has made gets its rights anew, and keeps its password."`
	Operate       bool   `help:"It may also run events again and discard dead letters, by functions."`
	NoLogin       bool   `name:"nologin" help:"Nobody logs in as it; logins are made members of it. Its limits of time and its read-only do not hold for them: ALTER ROLE each."`
	PasswordStdin bool   `help:"Read its password from stdin instead of making one."`
	Print         bool   `help:"Print the SQL for somebody who may run it, and do nothing."`
}

// Run makes the role. A fresh password stands alone on its stream, so that it can be
// piped to where it is kept.
func (c sqlRole) Run(ctx context.Context, s streams) error {
	wish := sqlrole.Wish{Name: c.Name, Operate: c.Operate, NoLogin: c.NoLogin}
	if c.PasswordStdin {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return fmt.Errorf("read stdin: %w", err)
		}
		if wish.Password = strings.TrimRight(string(text), "\r\n"); wish.Password == "" {
			return usage(errors.New("there is no password on stdin"))
		}
	}
	if c.Print {
		return c.print(s, wish)
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		made, err := sqlrole.New(pool, rand.Reader).Create(ctx, "command line, "+account(), wish)
		switch {
		case errors.Is(err, sqlrole.ErrInvalid):
			return usage(err)
		case errors.Is(err, sqlrole.ErrMayNot):
			return fmt.Errorf("%w: have somebody who may run what --print prints", err)
		case err != nil:
			return err
		case s.asJSON:
			return s.json(made)
		case made.Password != "":
			fmt.Fprintf(s.err, "Role %s %s. Its password is shown this once:\n", made.Name, whatMay(made))
			_, err = fmt.Fprintln(s.out, made.Password)
			return err
		}
		_, err = fmt.Fprintf(s.out, "Role %s %s.\n", made.Name, whatMay(made))
		return err
	})
}

// print prints the SQL alone on its stream, and the password on the other.
func (c sqlRole) print(s streams, wish sqlrole.Wish) error {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return fmt.Errorf("settings:\n%w", err)
	}
	db, err := pgxpool.ParseConfig(cfg.DatabaseURL)
	if err != nil {
		return errors.New("DATABASE_URL is not a URL of a database") // the error may quote its password
	}
	text, made, err := sqlrole.Print(wish, db.ConnConfig.Database, db.ConnConfig.User, rand.Reader)
	if errors.Is(err, sqlrole.ErrInvalid) {
		return usage(err)
	}
	if err != nil {
		return err
	}
	if s.asJSON {
		return s.json(map[string]any{"sql": text, "role": made.Name, "password": made.Password})
	}
	if made.Password != "" {
		fmt.Fprintf(s.err, "The password of %s will be %s\n", made.Name, made.Password)
	}
	_, err = fmt.Fprint(s.out, text)
	return err
}

func whatMay(made sqlrole.Made) string {
	if made.Operate {
		return "sees all but secrets, runs events again and discards dead letters"
	}
	return "sees all but secrets and changes nothing"
}

type sqlDrop struct {
	Name string `arg:"" help:"Of a role that memrelay sql role has made."`
}

// Run drops the role.
func (c sqlDrop) Run(ctx context.Context, s streams) error {
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		err := sqlrole.New(pool, rand.Reader).Drop(ctx, "command line, "+account(), c.Name)
		if errors.Is(err, sqlrole.ErrInvalid) {
			return usage(err)
		}
		if err != nil {
			return err
		}
		return s.say(map[string]any{"dropped": c.Name}, fmt.Sprintf("Role %s dropped.", c.Name))
	})
}
