package doctor

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/postgres"
)

// need is what has to be well before something can be looked at.
type need int

const (
	readableSettings need = iota
	database
	schema
)

const (
	// openTime bounds how long is waited for the database.
	openTime = 8 * time.Second
	// maxConns are for the checks that run side by side; a server that is nearly full
	// should bear them all the same.
	maxConns = 4
	redacted = "[redacted]"
)

// patient is the installation that is looked at.
type patient struct {
	o           Options
	cfg         config.Config
	unknown     []string // settings that mean nothing
	settingsErr error
	pool        *pgxpool.Pool // nil: poolErr says why
	q           *db.Queries
	poolErr     error
	schemaErr   error

	mu      sync.Mutex
	secrets []string
}

func newPatient(o Options) *patient {
	p := &patient{o: o}
	p.cfg, p.unknown, p.settingsErr = config.FromEnv(o.Environ)
	if p.cfg.DatabaseURL == "" {
		p.settingsErr = withoutDatabase(p.settingsErr)
	}
	p.hide(secretsOf(p.cfg)...)
	return p
}

// withoutDatabase takes out of what is wrong with the settings that there is no
// database: the rest can be looked at all the same, and the check of it says so.
func withoutDatabase(err error) error {
	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) {
		return err
	}
	return errors.Join(slices.DeleteFunc(slices.Clone(all.Unwrap()), func(e error) bool { return strings.HasPrefix(e.Error(), "DATABASE_URL ") })...)
}

// open opens the database and looks whether the schema fits.
func (p *patient) open(ctx context.Context) {
	if p.cfg.DatabaseURL == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	if p.pool, p.poolErr = postgres.Open(ctx, p.cfg.DatabaseURL, postgres.Options{Log: discard(), MaxConns: maxConns, Name: "doctor"}); p.poolErr != nil {
		return
	}
	p.q = db.New(p.pool)
	p.schemaErr = postgres.CheckSchema(ctx, p.pool)
}

func (p *patient) close() {
	if p.pool != nil {
		// Not waited for: a check that does not end still holds a connection.
		go p.pool.Close()
	}
}

// lacks says why something cannot be looked at; "" when it can.
func (p *patient) lacks(n need) string {
	switch {
	case n == readableSettings:
		if p.settingsErr != nil {
			return "not looked at: the settings are wrong, see settings"
		}
	case p.pool == nil:
		return "not looked at: the database cannot be reached, see database"
	case n == schema && p.schemaErr != nil:
		return "not looked at: the schema is not the one of this program, see migrations"
	}
	return ""
}

// sees reports whether the tables can be read.
func (p *patient) sees() bool { return p.lacks(schema) == "" }

// hide keeps secrets out of the findings, as they stand and as a URL spells them.
func (p *patient) hide(secrets ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range secrets {
		// What is so short stands in many a word, and protects nothing.
		if len(s) >= 4 {
			p.secrets = append(p.secrets, s, url.QueryEscape(s), url.PathEscape(s))
		}
	}
	// A secret may be a part of another one.
	slices.SortFunc(p.secrets, func(a, b string) int { return len(b) - len(a) })
}

// withoutSecrets takes out of the findings whatever is a secret of the settings. No
// check writes one; what others say in their errors is not known.
func (p *patient) withoutSecrets(found []Finding) []Finding {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range found {
		for _, secret := range p.secrets {
			found[i].Found = strings.ReplaceAll(found[i].Found, secret, redacted)
			found[i].Remedy = strings.ReplaceAll(found[i].Remedy, secret, redacted)
		}
	}
	return found
}

// secretsOf are the values of the settings that must never be printed.
func secretsOf(c config.Config) []string {
	secrets := slices.Concat(c.Inbound.Secrets, c.Keys, []string{
		c.Inbound.Token, c.Inbound.Products.Payments, c.Inbound.Products.Billing, c.Inbound.Products.Sign, c.Inbound.Products.Mail,
		c.Outbound.Token, c.Outbound.Secret, c.Zoho.ClientSecret, c.Zoho.RefreshToken, c.AdminToken,
		c.Memory.CogneeAPIKey, c.Memory.Mem0APIKey, c.Memory.EmbedderAPIKey,
	})
	if parsed, err := pgconn.ParseConfig(c.DatabaseURL); err == nil {
		secrets = append(secrets, parsed.Password)
	}
	for _, text := range []string{c.Outbound.URL, c.Memory.CogneeURL, c.Memory.Mem0URL, c.Memory.EmbedderURL, c.Inbound.BaseURL} {
		if u, err := url.Parse(text); err == nil {
			password, _ := u.User.Password()
			secrets = append(secrets, password, u.RawQuery)
		}
	}
	return secrets
}
