// Command verify checks webhooks from memrelay with nothing but the standard library.
//
// Paste this file into your receiver, or check by hand what it has received:
//
//	WEBHOOK_SECRET=whsec_... go run ./docs/verify headers.txt body.json
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Clocks differ a little. A webhook much older than that is one that somebody
// has recorded and sends again.
const tolerance = 5 * time.Minute // both ways

var errEmptySecret = errors.New("a secret is empty: anybody could sign with it")

// Verify returns nil if one of the secrets signed this id, time and body, and else why not.
//
// The body is the bytes as they came: JSON that was parsed and written again differs.
// There may be several secrets, so that the old one still counts while you change it.
func Verify(header http.Header, body []byte, secrets []string, now time.Time) error {
	id := header.Get("webhook-id")
	if id == "" {
		return errors.New("webhook-id is missing")
	}
	timestamp := header.Get("webhook-timestamp")
	if timestamp == "" {
		return errors.New("webhook-timestamp is missing")
	}
	signatures := header.Get("webhook-signature")
	if signatures == "" {
		return errors.New("webhook-signature is missing")
	}
	if err := checkAge(timestamp, now); err != nil {
		return err
	}

	signed := append([]byte(id+"."+timestamp+"."), body...)
	for _, secret := range secrets {
		if secret == "" {
			return errEmptySecret
		}
		expected := "v1," + base64.StdEncoding.EncodeToString(mac(standardKey(secret), signed))
		for _, signature := range strings.Split(signatures, " ") {
			if hmac.Equal([]byte(signature), []byte(expected)) {
				return nil
			}
		}
	}
	return errors.New("webhook-signature does not match")
}

// VerifyBody returns nil if one of the secrets signed this body, and else why not.
//
// Prefer Verify: X-Webhook-Signature covers neither the id nor the time, so that
// whoever has recorded a webhook can send it again as a new one.
func VerifyBody(header http.Header, body []byte, secrets []string) error {
	signature := header.Get("x-webhook-signature")
	if signature == "" {
		return errors.New("x-webhook-signature is missing")
	}
	for _, secret := range secrets {
		if secret == "" {
			return errEmptySecret
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
