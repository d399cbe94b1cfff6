package inbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// webhookTolerance is how far webhook-timestamp may be from our clock, in both
// directions: what the libraries of Standard Webhooks allow.
const webhookTolerance = 5 * time.Minute

// prove returns nil when the request holds all that is configured, else why not,
// for the log alone.
func (s MemorySettings) prove(h http.Header, body []byte) error {
	secrets := slices.DeleteFunc(slices.Clone(s.Secrets), func(secret string) bool { return secret == "" })
	if s.Token == "" && len(secrets) == 0 {
		return errors.New("neither MEM0_WEBHOOK_TOKEN nor MEM0_WEBHOOK_SECRET is set: the door is closed")
	}
	if s.Token != "" && !verifyToken(s.Token, bearer(h)) {
		return errors.New("the token is missing or wrong")
	}
	if len(secrets) == 0 {
		return nil
	}
	return proveSigned(secrets, h, body, s.Now())
}

// proveSigned wants a signature by one of the secrets: X-Webhook-Signature, that of
// Standard Webhooks, or both. One that is there and wrong is refused, whatever the
// other says.
func proveSigned(secrets []string, h http.Header, body []byte, now time.Time) error {
	plain, standard := h.Values("X-Webhook-Signature"), h.Values("webhook-signature")
	if len(plain) == 0 && len(standard) == 0 {
		return errNoSignature
	}
	if len(plain) > 0 && !verifySignature(secrets, strings.Join(plain, ","), body) {
		return errWrongSignature
	}
	if len(standard) == 0 {
		return nil
	}
	err := verifyStandard(secrets, h, body, now)
	if errors.Is(err, errOtherVersion) && len(plain) > 0 {
		return nil
	}
	return err
}

// errOtherVersion is why a signature proves nothing that says nothing wrong either.
var errOtherVersion = errors.New("webhook-signature holds no v1")

// verifyStandard returns nil when webhook-signature holds a v1 of Standard Webhooks
// by one of secrets: https://www.standardwebhooks.com. What other versions say is
// not looked at: errOtherVersion when there are only those.
func verifyStandard(secrets []string, h http.Header, body []byte, now time.Time) error {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	if id == "" || stamp == "" || len(h.Values("webhook-id")) > 1 || len(h.Values("webhook-timestamp")) > 1 {
		return errors.New("webhook-id or webhook-timestamp is missing, or is there twice")
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return errors.New("webhook-timestamp is no number of seconds")
	}
	var candidates [][]byte
	for _, signature := range strings.Fields(strings.Join(h.Values("webhook-signature"), " ")) {
		if version, coded, _ := strings.Cut(signature, ","); version == "v1" {
			candidates = append(candidates, decodeBase64(coded))
		}
	}
	if len(candidates) == 0 {
		return errOtherVersion
	}
	signed := slices.Concat([]byte(id+"."+stamp+"."), body)
	matched := 0
	for _, secret := range secrets {
		key := standardKey(secret)
		if len(key) == 0 {
			continue
		}
		mac := hmac.New(sha256.New, key)
		mac.Write(signed)
		want := mac.Sum(nil)
		for _, candidate := range candidates {
			matched |= subtle.ConstantTimeCompare(want, candidate)
		}
	}
	if matched != 1 {
		return errWrongSignature
	}
	if off := now.Sub(time.Unix(seconds, 0)); off.Abs() > webhookTolerance {
		return fmt.Errorf("the signature holds, but is %s off our clock, of which %s are allowed", off.Round(time.Second), webhookTolerance)
	}
	return nil
}

// standardKey is what a library of Standard Webhooks takes a secret for: what the
// base64 behind whsec_ stands for. Anything else is taken as it is written, as we
// do when we sign. It is nil for a bare whsec_, with which anybody could sign.
func standardKey(secret string) []byte {
	coded, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return []byte(secret)
	}
	if coded == "" {
		return nil
	}
	key, err := base64.StdEncoding.DecodeString(coded)
	if err != nil || len(key) == 0 {
		return []byte(secret)
	}
	return key
}
