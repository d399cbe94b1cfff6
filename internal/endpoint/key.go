package endpoint

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
)

// What stands before the base64 of an ed25519 key, as Standard Webhooks has it.
const (
	prefixPrivate = "whsk_"
	prefixPublic  = "whpk_"
)

// ErrKey is returned for a secret that is no ed25519 key. It does not quote it.
var ErrKey = errors.New("want whsk_ and the base64 of an ed25519 key: its seed and public key (64 bytes), or its seed (32)")

// ParseEd25519 returns the key that a secret of KeyEd25519 stands for. Beside seed and
// public key it takes a seed alone, which other senders hand out. The error is ErrKey,
// also where the public key is not that of the seed: signing for another one gives the
// private key away.
func ParseEd25519(secret string) (ed25519.PrivateKey, error) {
	coded, ok := strings.CutPrefix(secret, prefixPrivate)
	if !ok {
		return nil, ErrKey
	}
	raw, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || (len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize) {
		return nil, ErrKey
	}
	key := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if !bytes.HasPrefix(key, raw) {
		return nil, ErrKey
	}
	return key, nil
}

// PublicKey returns what a receiver checks signatures of an ed25519 secret by: whpk_
// and base64. The error is ErrKey.
func PublicKey(secret string) (string, error) {
	key, err := ParseEd25519(secret)
	if err != nil {
		return "", err
	}
	return prefixPublic + base64.StdEncoding.EncodeToString(key[ed25519.SeedSize:]), nil
}

// EnvCredentials returns those that the settings describe: a bearer token, and a secret
// that signs. Either may be "", and is then not used.
func EnvCredentials(token, secret string) Credentials {
	var c Credentials
	if token != "" {
		c.Auth = Auth{Kind: AuthBearer, Token: token}
	}
	if secret != "" {
		c.Keys = []Key{{ID: EnvName, Kind: KeyHMAC, Secret: secret}}
	}
	return c
}
