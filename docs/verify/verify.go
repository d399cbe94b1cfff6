// Command verify checks webhooks from memrelay with nothing but the standard library.
//
// Paste this file into your receiver, or check by hand what it has received:
//
//	WEBHOOK_SECRET=whsec_... go run ./docs/verify headers.txt body.json
package main

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Clocks differ a little. A webhook much older than that is one that somebody
// has recorded and sends again.
const tolerance = 5 * time.Minute // both ways

// memrelay sends no more. Each that is checked by a public key costs a reading of the body.
const mostSignatures = 10

// ErrSecret is in the error when a secret of yours is wrong, and not the webhook: answer
// 500, so that it comes again.
var ErrSecret = errors.New("a secret cannot be used")

var errEmpty = fmt.Errorf("%w: it is empty, so that anybody could sign with it", ErrSecret)

// Verify returns nil if one of the secrets signed this id, time and body, and else why not.
//
// The body is the bytes as they came: JSON that was parsed and written again differs.
// A secret is one that signs, or the public key (whpk_...) of one that does. There may be
// several, so that the old one still counts while you change it.
func Verify(header http.Header, body []byte, secrets []string, now time.Time) error {
	id := header.Get("webhook-id")
	if id == "" {
		return errors.New("webhook-id is missing")
	}
	timestamp := header.Get("webhook-timestamp")
	if timestamp == "" {
		return errors.New("webhook-timestamp is missing")
	}
	if header.Get("webhook-signature") == "" {
		return errors.New("webhook-signature is missing")
	}
	signatures := strings.Split(header.Get("webhook-signature"), " ")
	if len(signatures) > mostSignatures {
		return errors.New("webhook-signature holds too many")
	}
	if err := checkAge(timestamp, now); err != nil {
		return err
	}

	signed := append([]byte(id+"."+timestamp+"."), body...)
	for _, secret := range secrets {
		matches, err := checkBy(secret, signed)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(signatures, matches) {
			return nil
		}
	}
	return errors.New("webhook-signature does not match")
}

// VerifyBody returns nil if one of the secrets signed this body, and else why not.
//
// Prefer Verify: X-Webhook-Signature covers neither the id nor the time, so that
// whoever has recorded a webhook can send it again as a new one. No public key checks it.
func VerifyBody(header http.Header, body []byte, secrets []string) error {
	signature := header.Get("x-webhook-signature")
	if signature == "" {
		return errors.New("x-webhook-signature is missing")
	}
	for _, secret := range secrets {
		if secret == "" {
			return errEmpty
		}
		if isPublic(secret) {
			return fmt.Errorf("%w: X-Webhook-Signature is not checked by a public key", ErrSecret)
		}
		expected := "sha256=" + hex.EncodeToString(mac([]byte(secret), body))
		if hmac.Equal([]byte(signature), []byte(expected)) {
			return nil
		}
	}
	return errors.New("x-webhook-signature does not match")
}

func checkAge(timestamp string, now time.Time) error {
	seconds, err := strconv.ParseUint(timestamp, 10, 48)
	if err != nil {
		return errors.New("webhook-timestamp is not a time")
	}
	age := now.Sub(time.Unix(int64(seconds), 0))
	if age > tolerance {
		return errors.New("webhook-timestamp is too old")
	}
	if age < -tolerance {
		return errors.New("webhook-timestamp is in the future")
	}
	return nil
}

// checkBy returns what tells a signature of this content, by the secret or by that of
// the public key, from all others.
func checkBy(secret string, signed []byte) (matches func(signature string) bool, err error) {
	if secret == "" {
		return nil, errEmpty
	}
	if !isPublic(secret) {
		expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac(standardKey(secret), signed)))
		return func(signature string) bool { return hmac.Equal([]byte(signature), expected) }, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whpk_"))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: a public key is whpk_ and the base64 of 32 bytes", ErrSecret)
	}
	return func(signature string) bool {
		coded, found := strings.CutPrefix(signature, "v1a,")
		raw, err := base64.StdEncoding.DecodeString(coded)
		return found && err == nil && ed25519.Verify(key, signed, raw)
	}, nil
}

// A public key is no secret: whoever used it as one would believe everybody who knows it.
func isPublic(secret string) bool { return strings.HasPrefix(secret, "whpk_") }

// The base64 after whsec_ stands for the key. Any other secret is the key itself.
func standardKey(secret string) []byte {
	if coded, found := strings.CutPrefix(secret, "whsec_"); found {
		key, err := base64.StdEncoding.DecodeString(coded)
		if err == nil && len(key) > 0 {
			return key
		}
	}
	return []byte(secret)
}

func mac(key, message []byte) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write(message)
	return hash.Sum(nil)
}
