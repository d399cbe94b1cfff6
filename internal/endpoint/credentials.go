package endpoint

import (
	"fmt"
	"log/slog"
	"time"
)

// Credentials are what a receiver knows a delivery of ours by, and what is sent
// along. However they are printed, logged or encoded as text, only what kinds there
// are shows; they are sealed as sealedCredentials.
type Credentials struct {
	// Keys sign, newest first, each until it expires.
	Keys []Key
	Auth Auth
	// Headers are sent along as they are.
	Headers map[string]string
}

// The kinds of a Key.
const (
	KeyHMAC    = "hmac"    // v1 of Standard Webhooks, and X-Webhook-Signature
	KeyEd25519 = "ed25519" // v1a of Standard Webhooks
)

// Key signs deliveries.
type Key struct {
	ID   string `json:"id"`   // tells keys apart to people; it is no secret
	Kind string `json:"kind"` // KeyHMAC or KeyEd25519
	// Secret of KeyHMAC is whsec_ and base64, or any other text, taken as it is
	// written. That of KeyEd25519 is whsk_ and the base64 of seed and public key (64
	// bytes), as Standard Webhooks has it.
	Secret    string     `json:"secret"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"` // nil: it signs until it is replaced
}

// The kinds of an Auth.
const (
	AuthNone   = ""
	AuthBearer = "bearer"
	AuthBasic  = "basic"
	AuthOAuth2 = "oauth2" // client credentials, RFC 6749 section 4.4
)

// Auth is how a delivery proves itself to whoever stands before the receiver.
type Auth struct {
	Kind string `json:"kind"`

	Token    string `json:"token"`    // AuthBearer
	Username string `json:"username"` // AuthBasic
	Password string `json:"password"` // AuthBasic
	OAuth2   OAuth2 `json:"oauth2"`   // AuthOAuth2

	// Certificate and PrivateKey are for mutual TLS, beside any Kind, as PEM.
	// Authorities, as PEM, are trusted instead of the system's.
	Certificate string `json:"certificate"`
	PrivateKey  string `json:"private_key"`
	Authorities string `json:"authorities"`
}

// OAuth2 says where an access token is to be had.
type OAuth2 struct {
	TokenURL     string   `json:"token_url"`
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret"`
	Scopes       []string `json:"scopes"`
	// Audience is sent as a parameter of that name, which some servers ask for; "": none.
	Audience string `json:"audience"`
}

// String says what there is.
func (c Credentials) String() string {
	return fmt.Sprintf("keys:%d auth:%q certificate:%t headers:%d", len(c.Keys), c.Auth.Kind, c.Auth.Certificate != "", len(c.Headers))
}

// Format writes what String returns, for every verb: %d or %#v would otherwise print the fields.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// LogValue logs what String returns.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText encodes what String returns, in JSON too.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
