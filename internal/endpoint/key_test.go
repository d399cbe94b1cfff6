package endpoint

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEd25519(t *testing.T) {
	t.Parallel()
	coded := base64.StdEncoding.EncodeToString
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
	const public = "whpk_iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="
	for _, secret := range []string{"whsk_" + coded(key), "whsk_" + coded(key.Seed())} {
		got, err := ParseEd25519(secret)
		if err != nil || !got.Equal(key) {
			t.Errorf("%d characters: got %v", len(secret), err)
		}
		if got, err := PublicKey(secret); got != public || err != nil {
			t.Errorf("%d characters: the public key is %q, %v, want %q", len(secret), got, err, public)
		}
	}
	for name, secret := range map[string]string{
		"nothing":                        "",
		"no prefix":                      coded(key),
		"a public key":                   public,
		"an HMAC secret":                 "whsec_" + coded(key),
		"no base64":                      "whsk_" + strings.Repeat("!", 88),
		"base64 for URLs":                "whsk_" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 32)),
		"a byte too few":                 "whsk_" + coded(key[:63]),
		"a byte too many":                "whsk_" + coded(append(bytes.Clone(key), 0)),
		"prefix only":                    "whsk_",
		"the public key is another's":    "whsk_" + coded(append(bytes.Clone(key.Seed()), other[ed25519.SeedSize:]...)),
		"the public key stands in front": "whsk_" + coded(append(bytes.Clone(key[ed25519.SeedSize:]), key.Seed()...)),
	} {
		got, err := ParseEd25519(secret)
		if !errors.Is(err, ErrKey) || got != nil || (secret != "" && strings.Contains(err.Error(), secret)) && secret != "whsk_" {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		if got, err := PublicKey(secret); !errors.Is(err, ErrKey) || got != "" {
			t.Errorf("%s: the public key is %q, %v", name, got, err)
		}
	}
}

func TestEnvCredentials(t *testing.T) {
	t.Parallel()
	secret := Key{ID: "env", Kind: KeyHMAC, Secret: "s"}
	for _, tt := range []struct {
		token, secret string
		want          sealedCredentials
	}{
		{"", "", sealedCredentials{}},
		{"t", "", sealedCredentials{Auth: Auth{Kind: AuthBearer, Token: "t"}}},
		{"", "s", sealedCredentials{Keys: []Key{secret}}},
		{"t", "s", sealedCredentials{Keys: []Key{secret}, Auth: Auth{Kind: AuthBearer, Token: "t"}}},
	} {
		if diff := cmp.Diff(tt.want, sealedCredentials(EnvCredentials(tt.token, tt.secret))); diff != "" {
			t.Errorf("token %q, secret %q (-want +got):\n%s", tt.token, tt.secret, diff)
		}
	}
}

func TestIsReservedHeader(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"webhook-id", "Webhook-Signature", "WEBHOOK-ANYTHING", "X-Webhook-Signature", "content-type", "Content-Length", "HOST",
		"Transfer-Encoding", "connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Connection", "Expect",
		"X_Webhook_Signature", "webhook_id", "Content_Type",
	} {
		if !IsReservedHeader(name) {
			t.Errorf("%s is open", name)
		}
	}
	for _, name := range []string{"X-Api-Key", "Authorization", "X-Webhook-Token", "User-Agent", "Idempotency-Key", "webhookid"} {
		if IsReservedHeader(name) {
			t.Errorf("%s is reserved", name)
		}
	}
}
