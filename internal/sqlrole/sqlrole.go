// Package sqlrole makes the database roles of people who ask with SQL what happened: in
// go a pool and a name, out comes a role that sees everything but secrets, changes
// nothing, and if it is said so runs events again by memrelay_replay.
//
// What a role may see is said column by column in rights.go: a column that is not
// named there is not shown to anybody.
package sqlrole

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
)

// Errors that callers branch on.
var (
	// ErrInvalid is returned for a name or a password that cannot be.
	ErrInvalid = errors.New("cannot be")
	// ErrNotOurs is returned for a role that this package has not made: its rights are somebody else's business.
	ErrNotOurs = errors.New("is there, and was not made by memrelay sql role")
	// ErrNotFound is returned for a role that is not there.
	ErrNotFound = errors.New("there is no such role")
	// ErrMayNot is returned when the pool's own role may not make roles.
	ErrMayNot = errors.New("may not make roles")
	// ErrOpen is returned when everybody may make functions in the schema public: a role
	// could put one where the program finds it first, and so get the program's rights.
	ErrOpen = errors.New("everybody may make functions in the schema public, and a role could get the rights of the program by one")
)

// mark is the comment by which a role is known to be ours.
const mark = "memrelay sql role"

// Wish is what a role is to be.
type Wish struct {
	Name     string
	Operate  bool   // may run events again and discard dead letters
	NoLogin  bool   // nobody logs in as it; logins are made members of it
	Password string // "": a new login gets a fresh one, one that is there keeps its own
}

// Made is what has become of a wish.
type Made struct {
	Name     string `json:"role"`
	Created  bool   `json:"created"` // else it was there and has its rights anew
	Operate  bool   `json:"operate"`
	Login    bool   `json:"login"`
	Password string `json:"password,omitempty"` // a fresh one: it is kept nowhere else
}

// Roles makes and drops roles, each with a line in audit_log in the same transaction.
type Roles struct {
	pool   *pgxpool.Pool
	random io.Reader
}

// New makes a Roles. random is where passwords come from.
func New(pool *pgxpool.Pool, random io.Reader) *Roles { return &Roles{pool: pool, random: random} }

// Create makes the role, or brings one of ours up to the wish. It returns an
// ErrInvalid, ErrNotOurs, ErrMayNot or ErrOpen, and then changed nothing.
func (r *Roles) Create(ctx context.Context, actor string, w Wish) (Made, error) {
	if err := w.check(); err != nil {
		return Made{}, err
	}
	made := Made{Name: w.Name, Operate: w.Operate, Login: !w.NoLogin}
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		there, err := find(ctx, tx, w.Name)
		if err != nil {
			return err
		}
		if err := lookAtSchema(ctx, tx); err != nil {
			return err
		}
		made.Created = !there
		verifier, err := r.verifier(&made, w)
		if err != nil {
			return err
		}
		var statements []string
		if !there {
			statements = append(statements, create(w.Name))
		}
		statements = append(statements, grant(w, r.pool.Config().ConnConfig.Database, verifier)...)
		if err := run(ctx, tx, statements); err != nil {
			return err
		}
		return audit(ctx, tx, actor, "sql.role", w.Name, map[string]any{"operate": w.Operate, "login": !w.NoLogin, "created": made.Created})
	})
	if err != nil {
		return Made{}, err
	}
	return made, nil
}

// verifier returns what the database is to know of the role's password; "" when that
// stays as it is. A fresh password is set in made.
func (r *Roles) verifier(made *Made, w Wish) (string, error) {
	password := w.Password
	if w.NoLogin {
		return "", nil
	}
	if password == "" && made.Created {
		key := make([]byte, 24)
		if _, err := io.ReadFull(r.random, key); err != nil {
			return "", fmt.Errorf("read randomness: %w", err)
		}
		made.Password = base64.RawURLEncoding.EncodeToString(key)
		password = made.Password
	}
	if password == "" {
		return "", nil
	}
	return scram(password, r.random)
}

// Print returns the SQL that makes a role which is not there, for somebody who may run
// it: a superuser, or an owner of the tables who may make roles. It asks no database. program
// is the role that the program logs in as; a comment at the end says what a superuser may
// do so that no other can disturb it.
func Print(w Wish, database, program string, random io.Reader) (sql string, made Made, err error) {
	if err := w.check(); err != nil {
		return "", Made{}, err
	}
	made = Made{Name: w.Name, Created: true, Operate: w.Operate, Login: !w.NoLogin}
	verifier, err := (&Roles{random: random}).verifier(&made, w)
	if err != nil {
		return "", Made{}, err
	}
	statements := append([]string{"BEGIN", closed, create(w.Name)}, grant(w, database, verifier)...)
	statements = append(statements, fmt.Sprintf(
		`INSERT INTO audit_log (actor, action, object, details) VALUES ('sql, ' || session_user, 'sql.role', 'role/%s', '{"operate": %t, "login": %t, "created": true}')`,
		w.Name, w.Operate, !w.NoLogin), "COMMIT")
	return strings.Join(statements, ";\n") + ";\n\n" + advice(database, program), made, nil
}

// Drop takes a role of ours away, with all its rights in this database. Sessions that
// are open see nothing any more. It returns ErrInvalid, ErrNotFound, ErrNotOurs or ErrMayNot.
func (r *Roles) Drop(ctx context.Context, actor, name string) error {
	if err := (Wish{Name: name}).check(); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		there, err := find(ctx, tx, name)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("%s: %w", name, ErrNotFound)
		}
		if err := run(ctx, tx, drop(name, r.pool.Config().ConnConfig.Database)); err != nil {
			return err
		}
		return audit(ctx, tx, actor, "sql.drop", name, map[string]any{})
	})
}

// find reports whether a role is there. It returns ErrNotOurs for one that we have not
// made, and ErrMayNot when this session may not make any.
func find(ctx context.Context, tx pgx.Tx, name string) (bool, error) {
	q := db.New(tx)
	me, err := q.GetOwnRole(ctx)
	if err != nil {
		return false, fmt.Errorf("look what this session may: %w", err)
	}
	if !me.MayCreate {
		return false, fmt.Errorf("%s %w", me.Name, ErrMayNot)
	}
	comment, err := q.GetRoleComment(ctx, name)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for role %s: %w", name, err)
	}
	if comment != mark {
		return false, fmt.Errorf("role %s %w", name, ErrNotOurs)
	}
	return true, nil
}

// lookAtSchema returns ErrOpen, with what to run, where everybody may make functions.
func lookAtSchema(ctx context.Context, tx pgx.Tx) error {
	schema, err := db.New(tx).GetSchemaAccess(ctx)
	if err != nil {
		return fmt.Errorf("look who may make functions: %w", err)
	}
	if schema.IsOpen {
		return fmt.Errorf("%w: have the owner of the schema run\n  GRANT CREATE ON SCHEMA public TO %s; REVOKE CREATE ON SCHEMA public FROM PUBLIC;", ErrOpen, quote(schema.Owner))
	}
	return nil
}

func run(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			// Not the statement itself: it may hold what a password is checked against.
			verb, _, _ := strings.Cut(sql, " ")
			return fmt.Errorf("%s a right or a role: %w", strings.ToLower(verb), err)
		}
	}
	return nil
}

var nameForm = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func (w Wish) check() error {
	if !nameForm.MatchString(w.Name) || strings.HasPrefix(w.Name, "pg_") {
		return fmt.Errorf("the role %q %w: want at most 63 small letters, digits and underscores, and not pg_", w.Name, ErrInvalid)
	}
	if w.Password != "" && (len(w.Password) < 12 || !printable(w.Password)) {
		return fmt.Errorf("the password %w: want at least 12 of the characters that ASCII prints", ErrInvalid)
	}
	if w.Password != "" && w.NoLogin {
		return fmt.Errorf("the password %w: nobody logs in as this role", ErrInvalid)
	}
	return nil
}

// printable reports whether a password is the same to everybody: of others it is not
// agreed how they are normalised before they are hashed.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func audit(ctx context.Context, tx pgx.Tx, actor, action, name string, details map[string]any) error {
	encoded, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("encode audit details: %w", err)
	}
	if err := db.New(tx).InsertAudit(ctx, db.InsertAuditParams{Actor: actor, Action: action, Object: "role/" + name, Details: encoded}); err != nil {
		return fmt.Errorf("insert audit: %w", err)
	}
	return nil
}
