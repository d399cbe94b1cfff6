package outbound

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// BenchmarkSign is what a delivery of 1 KB costs before it is sent.
func BenchmarkSign(b *testing.B) {
	body := []byte(`{"event":"memory_added","data":{"result":{"content":"` + strings.Repeat("twenty bytes of text", 48) + `"}}}`)
	at := time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)
	keyed := func(kind, secret string) endpoint.Key { return endpoint.Key{ID: kind, Kind: kind, Secret: secret} }
	hmac := keyed(endpoint.KeyHMAC, "whsec_"+base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))))
	ed := keyed(endpoint.KeyEd25519, "whsk_"+base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed([]byte(strings.Repeat("s", 32)))))
	for _, bm := range []struct {
		name string
		keys []endpoint.Key
	}{
		{"HMAC", []endpoint.Key{hmac}},
		{"two HMAC keys that overlap", []endpoint.Key{hmac, keyed(endpoint.KeyHMAC, "the old one")}},
		{"ed25519", []endpoint.Key{ed}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			c := endpoint.Credentials{Keys: bm.keys}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := sign(http.Header{}, c, "01a201a3-89ed-769a-b1f9-2106af11e64b", at, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
