package outbound

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// errKey is returned for a key that cannot sign.
var errKey = errors.New("the key cannot sign")

// sign puts onto h what a receiver knows a delivery by. webhook-id and webhook-timestamp are there always, and for each
// key that is valid at that time a signature of id, time and body in webhook-signature, newest key first, as Standard
// Webhooks has it (https://www.standardwebhooks.com): while two keys overlap, a receiver verifies that has either.
//
// X-Webhook-Signature covers the body alone. Receivers compare it as a whole, so it holds one signature, by the newest
// HMAC key: whoever checks it takes the new secret at once, the old one is honoured by webhook-signature alone.
//
// The endpoint's own headers and its bearer token or password come along. The access token of OAuth2 does not, it must
// be fetched first. The id must not contain a dot, which parts the signed content.
func sign(h http.Header, c endpoint.Credentials, id string, at time.Time, body []byte) error {
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		if !endpoint.IsReservedHeader(name) {
			h.Set(name, c.Headers[name])
		}
	}
	switch c.Auth.Kind {
	case endpoint.AuthBearer:
		h.Set("Authorization", "Bearer "+c.Auth.Token)
	case endpoint.AuthBasic:
		h.Set("Authorization", "Basic "+basic(c.Auth.Username, c.Auth.Password))
	}
	stamp := strconv.FormatInt(at.Unix(), 10)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", stamp)
	var all []string
	for _, k := range c.Keys {
		if k.ExpiresAt != nil && !at.Before(*k.ExpiresAt) {
			continue
		}
		one, err := signature(k, id+"."+stamp+".", body)
		if err != nil {
			return err
		}
		all = append(all, one)
		if k.Kind == endpoint.KeyHMAC && h.Get("X-Webhook-Signature") == "" {
			h.Set("X-Webhook-Signature", "sha256="+hex.EncodeToString(sum([]byte(k.Secret), body)))
		}
	}
	if len(all) > 0 {
		h.Set("webhook-signature", strings.Join(all, " "))
	}
	return nil
}

// signature returns one signature of webhook-signature, with its version: of what stands before the body, and the body.
func signature(k endpoint.Key, before string, body []byte) (string, error) {
	switch k.Kind {
	case endpoint.KeyHMAC:
		if k.Secret == "" {
			return "", fmt.Errorf("%w: %s is empty, so that anybody could", errKey, k.ID)
		}
		return "v1," + base64.StdEncoding.EncodeToString(sum(standardKey(k.Secret), []byte(before), body)), nil
	case endpoint.KeyEd25519:
		private, err := endpoint.ParseEd25519(k.Secret)
		if err != nil {
			return "", fmt.Errorf("%w: %s: %w", errKey, k.ID, err)
		}
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, slices.Concat([]byte(before), body))), nil
	}
	return "", fmt.Errorf("%w: %s is of the kind %q", errKey, k.ID, k.Kind)
}

// basic is what follows Basic in Authorization: RFC 7617.
func basic(username, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
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
