package outbound

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/memrelay/memrelay/internal/endpoint"
)

// leastSecret is how long a text must be, in bytes, to be taken for a secret that need not be one, such as a query: what is
// shorter hides little but would riddle what it is taken out of.
const leastSecret = 8

// secretsOf returns what must not be written down of a request, the longest first: all that its credentials hold but
// names, and the query of its URL.
func secretsOf(r request) []string {
	var plain []string
	for _, k := range r.Credentials.Keys {
		plain = append(plain, k.Secret, strings.TrimPrefix(k.Secret, "whsec_"), strings.TrimPrefix(k.Secret, "whsk_"))
	}
	a := r.Credentials.Auth
	plain = append(plain, a.Token, a.Password, a.OAuth2.ClientSecret)
	if a.Kind == endpoint.AuthBasic {
		plain = append(plain, basic(a.Username, a.Password))
		if a.Password == "" { // some services take a key as the name
			plain = append(plain, a.Username)
		}
	}
	if a.OAuth2.ClientSecret != "" {
		plain = append(plain, basic(url.QueryEscape(a.OAuth2.ClientID), url.QueryEscape(a.OAuth2.ClientSecret)))
	}
	_, query, _ := strings.Cut(r.URL, "?")
	for _, s := range slices.Concat(keyLines(a.PrivateKey), []string{query}, values(query)) {
		if len(s) >= leastSecret {
			plain = append(plain, s)
		}
	}
	for name, value := range r.Credentials.Headers {
		if len(value) >= leastSecret && !endpoint.IsReservedHeader(name) {
			plain = append(plain, value)
		}
	}
	var all []string
	for _, s := range plain {
		all = append(all, spelled(s)...)
	}
	return longestFirst(all)
}

// values are those of a query's parameters: receivers echo them one by one.
func values(query string) []string {
	params, _ := url.ParseQuery(query) // of a broken one, what can be read
	return slices.Concat(slices.Collect(maps.Values(params))...)
}

// keyLines are the lines of a PEM that hold something.
func keyLines(pem string) []string {
	var lines []string
	for line := range strings.Lines(pem) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") {
			lines = append(lines, line)
		}
	}
	return lines
}

// spelled returns a secret as it is, and as a receiver that echoes it would spell it in JSON, in PHP's JSON and in a URL.
func spelled(secret string) []string {
	if secret == "" {
		return nil
	}
	quoted, _ := json.Marshal(secret)
	return []string{secret, url.QueryEscape(secret), strings.ReplaceAll(secret, "/", `\/`), string(quoted[1 : len(quoted)-1])}
}

// longestFirst sorts all, and leaves out what is there twice: most secrets are spelled the same everywhere.
func longestFirst(all []string) []string {
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(all)
}

// redact returns the first limit bytes of s with each of hide replaced. One that begins before the limit is replaced as a
// whole: cutting first would leave its beginning.
func redact(s string, limit int, hide []string) string {
	var b strings.Builder
	for i := 0; i < min(limit, len(s)); {
		found := slices.IndexFunc(hide, func(h string) bool { return strings.HasPrefix(s[i:], h) })
		if found < 0 {
			b.WriteByte(s[i])
			i++
			continue
		}
		b.WriteString(redacted)
		i += len(hide[found])
	}
	return b.String()
}

// secretHeader reports whether a header of that name is likely to hold a credential of the receiver's.
func secretHeader(name string) bool {
	name = strings.ToLower(name)
	for _, part := range []string{"cookie", "auth", "token", "secret", "password", "session", "key"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// printable makes s fit for a text column and a terminal: what is not UTF-8 and control characters are replaced, not
// dropped, which could join two halves of a secret.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !strings.ContainsRune("\n\r\t", r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}

// clip cuts s to at most n bytes, between two characters, and marks the cut.
func clip(s string, n int) string {
	const mark = "…"
	if len(s) <= n {
		return s
	}
	end := n - len(mark)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}
