package inbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// verifySignature reports whether header, the value of X-Zoho-Signature, is the
// HMAC-SHA256 of body under any of secrets: 64 hex digits of any case, with or
// without "sha256=" before them. Several secrets are what makes rotation
// possible. Without a secret nothing is verified; an empty one never matches,
// since anybody can sign with it.
//
// Zoho CRM itself does not sign; this is for senders that can.
func verifySignature(secrets []string, header string, body []byte) bool {
	header = strings.TrimSpace(header)
	if scheme, digits, found := strings.Cut(header, "="); found && strings.EqualFold(scheme, "sha256") {
		header = digits
	}
	got, err := hex.DecodeString(header)
	if err != nil {
		return false
	}
	// Every secret is tried even after one has matched: how long it takes
	// does not say which one it was.
	matched := 0
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		matched |= subtle.ConstantTimeCompare(mac.Sum(nil), got)
	}
	return matched == 1
}

// verifyToken reports whether got is the configured token. An empty want means
// that none is configured, and nothing matches. The hashes are compared rather
// than the tokens, so that the time taken does not tell the length either.
func verifyToken(want, got string) bool {
	if want == "" {
		return false
	}
	w, g := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got))
	return subtle.ConstantTimeCompare(w[:], g[:]) == 1
}

// bearer returns the token a sender gave as a fixed header: that of
// "Authorization: Bearer", else X-Webhook-Token, which is for senders whose
// Authorization header is not theirs to set. It is "" when there is neither.
func bearer(h http.Header) string {
	scheme, token, found := strings.Cut(strings.TrimSpace(h.Get("Authorization")), " ")
	if found && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return strings.TrimSpace(h.Get("X-Webhook-Token"))
}
