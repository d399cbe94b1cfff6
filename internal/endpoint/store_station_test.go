package endpoint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/seal"
)

var ada = Actor{Name: "token/ada", RequestID: "request-7"}

const memrelayKey = "a key that nobody guesses"

var errRefused = errors.New("refused by the outbound guard: 10.0.0.1:443: neither a public address nor in the allow list")

// office is a Store on a database of its own.
type office struct {
	*Store
	pool *pgxpool.Pool
	jobs *river.Client[pgx.Tx]
}

// newOffice makes one whose box has these keys, and whose guard refuses 10.0.0.1.
func newOffice(t *testing.T, keys ...string) *office {
	t.Helper()
	pool := dbtest.New(t)
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	o := &office{pool: pool, jobs: jobs}
	return o.keyed(t, keys...)
}

// keyed is the same database, looked at by a node with other keys.
func (o *office) keyed(t *testing.T, keys ...string) *office {
	t.Helper()
	check := func(url string) error {
		if strings.Contains(url, "10.0.0.1") {
			return errRefused
		}
		return nil
	}
	return &office{Store: New(o.pool, o.jobs, newBox(t, keys...), check, rand.Reader, time.Now), pool: o.pool, jobs: o.jobs}
}

func newBox(t *testing.T, keys ...string) *seal.Box {
	t.Helper()
	box, err := seal.New(keys, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func (o *office) create(t *testing.T, in Settings) (Endpoint, []Secret) {
	t.Helper()
	if in.URL == nil {
		in.URL = new("https://example.com/hook")
	}
	e, secrets, err := o.Create(t.Context(), ada, in)
	if err != nil {
		t.Fatal(err)
	}
	return e, secrets
}

func (o *office) change(t *testing.T, which string, in Settings) (Endpoint, []Secret) {
	t.Helper()
	e, secrets, err := o.Change(t.Context(), ada, which, in)
	if err != nil {
		t.Fatal(err)
	}
	return e, secrets
}

// plain are the credentials that those who deliver get.
func (o *office) plain(t *testing.T, id uuid.UUID) Credentials {
	t.Helper()
	c, err := Open(o.box, id, one[[]byte](t, o, `SELECT sealed FROM endpoints WHERE id = $1`, id))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (o *office) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := o.pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func one[T any](t *testing.T, o *office, sql string, args ...any) T {
	t.Helper()
	var value T
	if err := o.pool.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// waiting makes a webhook and an open delivery of it to the endpoint.
func (o *office) waiting(t *testing.T, id uuid.UUID) {
	t.Helper()
	o.exec(t, `WITH o AS (INSERT INTO outbox (id, event, user_id, payload) VALUES (gen_random_uuid(), 'memory_added', 'a', '{}') RETURNING id)
		INSERT INTO deliveries (outbox_id, endpoint_id) SELECT id, $1 FROM o`, id)
}

// audits returns the audit's lines about endpoints: actor, action, object, request.
func (o *office) audits(t *testing.T) []string {
	t.Helper()
	rows, err := o.pool.Query(t.Context(), `SELECT concat_ws(' ', actor, action, object, request_id) FROM audit_log ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// details returns those of the newest line.
func (o *office) details(t *testing.T) map[string]any {
	t.Helper()
	var details map[string]any
	if err := json.Unmarshal(one[[]byte](t, o, `SELECT details FROM audit_log ORDER BY id DESC LIMIT 1`), &details); err != nil {
		t.Fatal(err)
	}
	return details
}

// woken reports how often the lane of the endpoint was woken, and whether it has a job
// that will run.
func (o *office) woken(t *testing.T, id uuid.UUID) int64 {
	t.Helper()
	return one[int64](t, o, `SELECT p.wanted FROM endpoints p WHERE p.id = $1
		AND (p.wanted = 0 OR EXISTS (SELECT FROM river_job j WHERE j.id = p.job_id AND j.kind = 'deliver_endpoint' AND j.state = 'available'))`, id)
}

// pair makes a certificate, valid until then, and its key, as PEM.
func pair(t *testing.T, until time.Time) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "memrelay", Organization: []string{"Example"}},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}
