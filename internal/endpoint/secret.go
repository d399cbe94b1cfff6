package endpoint

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// LeastSecret is the length of the shortest HMAC secret of one's own, in bytes, and
	// of the key that the base64 after whsec_ stands for.
	LeastSecret = 24
	mostSecret  = 255
	// MostKeys is how many keys of a kind may sign at a time.
	MostKeys = 5

	prefixHMAC = "whsec_"
	hmacBytes  = 32
	idBytes    = 4
)

// Secret is a key that was made. This is the only time that it is shown.
type Secret struct {
	KeyID  string `json:"key_id"`
	Kind   string `json:"kind"`
	Secret string `json:"secret"`
	// PublicKey is what receivers check KeyEd25519 by; "" for KeyHMAC.
	PublicKey string `json:"public_key,omitempty"`
}

func keyKinds() []string { return []string{KeyHMAC, KeyEd25519} }

// newKey makes a key of a kind, whose secret is given, or "" for a new one.
func newKey(random io.Reader, kind, given string, now time.Time) (Key, error) {
	k := Key{Kind: kind, Secret: given, CreatedAt: now}
	bytes := make([]byte, idBytes+max(hmacBytes, ed25519.SeedSize))
	if _, err := io.ReadFull(random, bytes); err != nil {
		return Key{}, fmt.Errorf("read randomness: %w", err)
	}
	k.ID = hex.EncodeToString(bytes[:idBytes])
	switch bytes = bytes[idBytes:]; {
	case given != "":
	case kind == KeyEd25519:
		k.Secret = prefixPrivate + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(bytes[:ed25519.SeedSize]))
	default:
		k.Secret = prefixHMAC + base64.StdEncoding.EncodeToString(bytes[:hmacBytes])
	}
	return k, nil
}

// secretProblem says what is wrong with a secret of one's own; "": nothing.
func secretProblem(kind, secret string) string {
	if kind == KeyEd25519 {
		if _, err := ParseEd25519(secret); err != nil {
			return err.Error()
		}
		return ""
	}
	if coded, ok := strings.CutPrefix(secret, prefixHMAC); ok {
		key, err := base64.StdEncoding.DecodeString(coded)
		if err != nil || len(key) < LeastSecret || len(secret) > mostSecret {
			return fmt.Sprintf("want after whsec_ the base64 of %d bytes or more, at most %d characters in all", LeastSecret, mostSecret)
		}
		return ""
	}
	for _, prefix := range []string{prefixPrivate, prefixPublic} {
		if strings.HasPrefix(secret, prefix) {
			return "this is a key of ed25519: whoever knows its public half could sign by it"
		}
	}
	if len(secret) < LeastSecret || len(secret) > mostSecret || strings.TrimSpace(secret) != secret || !printable(secret) {
		return fmt.Sprintf("want %d to %d bytes of text without spaces around it, or whsec_ and base64", LeastSecret, mostSecret)
	}
	return ""
}

// shown returns the key as it is shown once.
func (k Key) shown() Secret {
	s := Secret{KeyID: k.ID, Kind: k.Kind, Secret: k.Secret}
	s.PublicKey = k.publicKey()
	return s
}

func (k Key) publicKey() string {
	if k.Kind != KeyEd25519 {
		return ""
	}
	public, err := PublicKey(k.Secret)
	if err != nil {
		return "" // keys are checked when they are made
	}
	return public
}

// signs reports whether the key still does.
func (k Key) signs(now time.Time) bool { return k.ExpiresAt == nil || k.ExpiresAt.After(now) }

// prune forgets the keys that sign no more.
func (c *Credentials) prune(now time.Time) {
	c.Keys = slices.DeleteFunc(slices.Clone(c.Keys), func(k Key) bool { return !k.signs(now) })
}

func (c *Credentials) has(kind string) bool { return c.count(kind) > 0 }

func (c *Credentials) count(kind string) (n int) {
	for _, k := range c.Keys {
		if k.Kind == kind {
			n++
		}
	}
	return n
}

// retire lets the keys of a kind sign until then, those that would end earlier until
// that; none of them signs when that is now.
func (c *Credentials) retire(kind string, until, now time.Time) {
	c.Keys = slices.Clone(c.Keys)
	for i, k := range c.Keys {
		if k.Kind == kind && k.signs(until) {
			c.Keys[i].ExpiresAt = &until
		}
	}
	c.prune(now)
}

// add puts a key in front: it is the newest.
func (c *Credentials) add(k Key) { c.Keys = append([]Key{k}, c.Keys...) }
