package inbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
)

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestVerifySignature(t *testing.T) {
	t.Parallel()
	const body = `{"operation":"update"}`
	good := sign("new", body)
	for _, tc := range []struct {
		name    string
		secrets []string
		header  string
		body    string
		want    bool
	}{
		{"the digits alone are accepted", []string{"new"}, good, body, true},
		{"sha256= may stand before them", []string{"new"}, "sha256=" + good, body, true},
		{"the prefix may have any case", []string{"new"}, "SHA256=" + good, body, true},
		{"the digits may have any case", []string{"new"}, strings.ToUpper(good), body, true},
		{"space around the header is ignored", []string{"new"}, " " + good + " ", body, true},
		{"the first of several secrets matches", []string{"new", "old"}, good, body, true},
		{"the last of several secrets matches", []string{"newer", "old", "new"}, good, body, true},
		{"the same secret twice matches", []string{"new", "new"}, good, body, true},
		{"an empty body can be signed", []string{"new"}, sign("new", ""), "", true},
		{"without secrets nothing matches", nil, good, body, false},
		{"an empty secret never matches", []string{""}, sign("", body), body, false},
		{"another secret does not match", []string{"old"}, good, body, false},
		{"another body does not match", []string{"new"}, good, body + " ", false},
		{"an empty header does not match", []string{"new"}, "", body, false},
		{"the prefix alone does not match", []string{"new"}, "sha256=", body, false},
		{"another scheme does not match", []string{"new"}, "sha1=" + good, body, false},
		{"a shortened signature does not match", []string{"new"}, good[:62], body, false},
		{"a lengthened signature does not match", []string{"new"}, good + "00", body, false},
		{"what is not hex does not match", []string{"new"}, "z" + good[1:], body, false},
		{"one wrong digit does not match", []string{"new"}, flipLast(good), body, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := verifySignature(tc.secrets, tc.header, []byte(tc.body)); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func flipLast(digits string) string {
	if strings.HasSuffix(digits, "0") {
		return digits[:len(digits)-1] + "1"
	}
	return digits[:len(digits)-1] + "0"
}

// The figure is what `openssl dgst -sha256 -hmac` prints, so that the test does
// not only compare the code with itself.
func TestVerifySignatureAgainstOpenSSL(t *testing.T) {
	t.Parallel()
	const want = "6aeabba24e5f279106ee649b1eabd1450e869c763ca897876b9bfbe328d8566d"
	if !verifySignature([]string{"secret"}, want, []byte(`{"data":{"id":"1"}}`)) {
		t.Errorf("a signature made by openssl is not accepted")
	}
}

func TestVerifyToken(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, want, got string
		ok              bool
	}{
		{"the same token matches", "a token", "a token", true},
		{"another token does not match", "a token", "b token", false},
		{"a beginning of it does not match", "a token", "a tok", false},
		{"no token given does not match", "a token", "", false},
		{"no token configured matches nothing", "", "a token", false},
		{"no token configured does not match no token given", "", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if ok := verifyToken(tc.want, tc.got); ok != tc.ok {
				t.Errorf("got %v, want %v", ok, tc.ok)
			}
		})
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, authorization, header, want string
	}{
		{"the token follows the scheme", "Bearer abc", "", "abc"},
		{"the scheme may have any case", "bEARER abc", "", "abc"},
		{"more than one space may follow the scheme", "Bearer   abc ", "", "abc"},
		{"X-Webhook-Token does as well", "", " abc ", "abc"},
		{"Authorization comes first", "Bearer abc", "def", "abc"},
		{"X-Webhook-Token is read beside another scheme", "Basic abc", "def", "def"},
		{"another scheme is no token", "Basic abc", "", ""},
		{"a scheme without a token is none", "Bearer", "", ""},
		{"a token without a scheme is none", "abc", "", ""},
		{"a scheme that begins like it is none", "BearerX abc", "", ""},
		{"no header is no token", "", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if tc.authorization != "" {
				h.Set("Authorization", tc.authorization)
			}
			if tc.header != "" {
				h.Set("X-Webhook-Token", tc.header)
			}
			if got := bearer(h); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
