package endpoint

import (
	"crypto/tls"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/db"
)

// Endpoint is an endpoint as it is shown: all of it but the secrets.
type Endpoint struct {
	ID          uuid.UUID       `json:"id"`
	Name        string          `json:"name"`
	URL         string          `json:"url"`
	Description string          `json:"description"`
	Events      []string        `json:"events"`
	UserIDs     []string        `json:"user_ids"` // none: everybody's
	Filter      json.RawMessage `json:"filter"`   // null: none
	Form        string          `json:"form"`
	Ordered     bool            `json:"ordered"`

	BatchSize     int        `json:"batch_size"`
	BatchWait     Duration   `json:"batch_wait"`
	RateLimit     float64    `json:"rate_limit"` // 0: none
	MaxInFlight   int        `json:"max_in_flight"`
	Timeout       Duration   `json:"timeout"`
	RetrySchedule []Duration `json:"retry_schedule"`

	Keys        []KeyInfo `json:"keys"` // newest first
	Auth        AuthInfo  `json:"auth"`
	HeaderNames []string  `json:"header_names"`
	// Locked says why keys, auth and header names cannot be shown, and nothing be
	// sent: no key of MEMRELAY_KEY opens them. "": they can, or there are none.
	Locked string `json:"locked,omitempty"`

	Status       string     `json:"status"` // Active, Paused or Disabled
	StatusReason string     `json:"status_reason"`
	FailingSince *time.Time `json:"failing_since"` // the first failure since the last success
	Failures     int        `json:"failures"`      // of the endpoint itself since then
	ResumeAt     *time.Time `json:"resume_at"`     // nothing is sent before
	Probing      bool       `json:"probing"`       // it is disabled and tried now and then
	// Open is how many webhooks have not arrived and may; above 100,000 that many.
	Open      int64     `json:"open"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// KeyInfo is a Key without its secret.
type KeyInfo struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind"`
	PublicKey string     `json:"public_key,omitempty"` // of KeyEd25519
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"` // null: it signs until it is replaced
}

// AuthInfo is an Auth without its secrets.
type AuthInfo struct {
	Kind        string           `json:"kind"` // "none", AuthBearer, AuthBasic or AuthOAuth2
	Username    string           `json:"username,omitempty"`
	TokenURL    string           `json:"token_url,omitempty"`
	ClientID    string           `json:"client_id,omitempty"`
	Scopes      []string         `json:"scopes,omitempty"`
	Audience    string           `json:"audience,omitempty"`
	Certificate *CertificateInfo `json:"certificate,omitempty"` // of mutual TLS
	// OwnAuthorities: those of the endpoint are trusted instead of the system's.
	OwnAuthorities bool `json:"own_authorities,omitempty"`
}

// CertificateInfo is what a certificate says of itself.
type CertificateInfo struct {
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
}

// mostOpen is where counting ends.
const mostOpen = 100_000

// show is an endpoint's row, as far as it can be opened, and what is open of it.
func (s *Store) show(row db.Endpoint, open int64) Endpoint {
	e := Endpoint{
		ID: row.ID, Name: row.Name, URL: row.URL, Description: row.Description, Events: row.Events, UserIDs: row.UserIds,
		Filter: row.Filter, Form: row.Form, Ordered: row.Ordered,
		BatchSize: int(row.BatchSize), BatchWait: Duration(row.BatchWait), RateLimit: rate(row.RateLimit),
		MaxInFlight: int(row.MaxInFlight), Timeout: Duration(row.Timeout), RetrySchedule: []Duration{},
		Keys: []KeyInfo{}, Auth: AuthInfo{Kind: authNone}, HeaderNames: []string{},
		Status: row.Status, StatusReason: row.StatusReason, FailingSince: row.FailingSince, Failures: int(row.Failures),
		ResumeAt: row.ResumeAt, Probing: row.Probing, Open: min(open, mostOpen), CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
	}
	for _, wait := range row.RetrySchedule {
		e.RetrySchedule = append(e.RetrySchedule, Duration(wait))
	}
	c, err := Open(s.box, row.ID, row.Sealed)
	if err != nil {
		e.Locked = err.Error()
		return e
	}
	e.Keys, e.Auth, e.HeaderNames = c.keyInfos(s.now()), c.Auth.info(), c.headerNames()
	return e
}

// rate is a rate limit as it was written: 0.1, not what a float64 makes of the
// float32 next to it.
func rate(limit *float32) float64 {
	if limit == nil {
		return 0
	}
	written, err := strconv.ParseFloat(strconv.FormatFloat(float64(*limit), 'g', -1, 32), 64)
	if err != nil {
		return float64(*limit)
	}
	return written
}

// keyInfos returns those that still sign.
func (c Credentials) keyInfos(now time.Time) []KeyInfo {
	infos := []KeyInfo{}
	for _, k := range c.Keys {
		if k.signs(now) {
			infos = append(infos, KeyInfo{ID: k.ID, Kind: k.Kind, PublicKey: k.publicKey(), CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt})
		}
	}
	return infos
}

func (c Credentials) headerNames() []string {
	return append([]string{}, slices.Sorted(maps.Keys(c.Headers))...)
}

func (a Auth) info() AuthInfo {
	info := AuthInfo{
		Kind: a.Kind, Username: a.Username, OwnAuthorities: a.Authorities != "",
		TokenURL: a.OAuth2.TokenURL, ClientID: a.OAuth2.ClientID, Scopes: a.OAuth2.Scopes, Audience: a.OAuth2.Audience,
	}
	if info.Kind == AuthNone {
		info.Kind = authNone
	}
	if a.Certificate == "" {
		return info
	}
	info.Certificate = &CertificateInfo{}
	pair, err := tls.X509KeyPair([]byte(a.Certificate), []byte(a.PrivateKey))
	if err == nil && pair.Leaf != nil { // it is checked when it is stored
		info.Certificate = &CertificateInfo{Subject: pair.Leaf.Subject.String(), NotAfter: pair.Leaf.NotAfter}
	}
	return info
}
