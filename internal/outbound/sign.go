package outbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Credentials are what a receiver knows a delivery of ours by. Either may be empty. However they are printed, logged or
// encoded, only their presence shows.
type Credentials struct {
	Token  string // sent as Authorization: Bearer
	Secret string // signs the body; never sent
}

// String says which of the two are set.
func (c Credentials) String() string {
	return fmt.Sprintf("token:%t secret:%t", c.Token != "", c.Secret != "")
}

// Format writes what String returns, for every verb: %d or %#v would otherwise print the fields.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// LogValue logs what String returns.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText encodes what String returns, in JSON too.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// sign puts onto h what a receiver can check a delivery by: the bearer token where one is set, webhook-id and
// webhook-timestamp always, and with a secret two signatures of body: X-Webhook-Signature, and the v1 of Standard
// Webhooks (https://www.standardwebhooks.com), which covers id and time too.
//
// The id must not contain a dot, which parts the signed content.
func sign(h http.Header, c Credentials, id string, at time.Time, body []byte) {
	if c.Token != "" {
		h.Set("Authorization", "Bearer "+c.Token)
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	if c.Secret == "" {
		return
	}
	h.Set("X-Webhook-Signature", "sha256="+hex.EncodeToString(sum([]byte(c.Secret), body)))
	standard := sum(standardKey(c.Secret), []byte(id+"."+stamp+"."), body)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(standard))
}

func sum(key []byte, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

// standardKey returns the key a Standard Webhooks library would take secret for: what the base64 after whsec_ stands for.
// Anything else is taken as written, a bare whsec_ included: an empty key would let anybody sign.
func standardKey(secret string) []byte {
	coded, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return []byte(secret)
	}
	key, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || len(key) == 0 {
		return []byte(secret)
	}
	return key
}
