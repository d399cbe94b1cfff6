package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	mostAuth        = 4 << 10 // bytes of a token, a password, and so on
	mostPEM         = 64 << 10
	mostHeaders     = 50
	mostHeaderBytes = 16 << 10 // of all of them
	mostScopes      = 50
)

// checkAuth adds what is wrong with an auth. No problem quotes a value.
func (s *Store) checkAuth(p *problems, a AuthSettings) {
	var uses []string
	switch a.Kind {
	case AuthNone, authNone:
	case AuthBearer:
		uses = []string{"token"}
	case AuthBasic:
		uses = []string{"username", "password"}
		if strings.Contains(a.Username, ":") {
			p.add("auth.username", "want it without a colon, which would end it") // RFC 7617
		}
	case AuthOAuth2:
		uses = []string{"oauth2.token_url", "oauth2.client_id", "oauth2.client_secret", "oauth2.scopes", "oauth2.audience"}
		s.checkOAuth2(p, a.OAuth2)
	default:
		p.add("auth.kind", "%s is none of none, bearer, basic, oauth2", quote(a.Kind))
		return
	}
	values := map[string]string{
		"token": a.Token, "username": a.Username, "password": a.Password,
		"oauth2.token_url": a.OAuth2.TokenURL, "oauth2.client_id": a.OAuth2.ClientID, "oauth2.client_secret": a.OAuth2.ClientSecret,
		"oauth2.scopes": strings.Join(a.OAuth2.Scopes, " "), "oauth2.audience": a.OAuth2.Audience,
	}
	optional := []string{"password", "oauth2.scopes", "oauth2.audience"}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value, used := values[name], slices.Contains(uses, name)
		switch {
		case used && value == "" && !slices.Contains(optional, name):
			p.add("auth."+name, "is missing")
		case !used && value != "":
			p.add("auth."+name, "is not for the kind %s", quote(a.Kind))
		case len(value) > mostAuth || !printable(value):
			p.add("auth."+name, "want a text of at most %d bytes, without line breaks", mostAuth)
		}
	}
	if strings.ContainsRune(a.Token, ' ') {
		p.add("auth.token", "want it without spaces, and without Bearer before it")
	}
	s.checkTLS(p, a)
}

func (s *Store) checkOAuth2(p *problems, o OAuth2Settings) {
	if o.TokenURL != "" {
		if _, problem := s.readURL(o.TokenURL); problem != "" {
			p.add("auth.oauth2.token_url", "%s", problem)
		}
	}
	if len(o.Scopes) > mostScopes || slices.ContainsFunc(o.Scopes, func(s string) bool { return s == "" || strings.ContainsRune(s, ' ') }) {
		p.add("auth.oauth2.scopes", "want at most %d texts without spaces", mostScopes)
	}
}

func usesTLS(a Auth) bool { return a.Certificate != "" || a.Authorities != "" }

func (s *Store) checkTLS(p *problems, a AuthSettings) {
	if (a.Certificate == "") != (a.PrivateKey == "") {
		p.add("auth.certificate", "want certificate and private_key, or neither")
	} else if a.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(a.Certificate), []byte(a.PrivateKey))
		switch {
		case err != nil || len(a.Certificate) > mostPEM || len(a.PrivateKey) > mostPEM:
			// The text of the error is not ours, and could quote the key.
			p.add("auth.certificate", "want a certificate and the private key that belongs to it, as PEM without a password")
		case !pair.Leaf.NotAfter.After(s.now()):
			p.add("auth.certificate", "has expired on %s", pair.Leaf.NotAfter.UTC().Format("2006-01-02"))
		}
	}
	if a.Authorities != "" && (len(a.Authorities) > mostPEM || !areCertificates([]byte(a.Authorities))) {
		p.add("auth.authorities", "want certificates as PEM")
	}
}

// areCertificates reports whether PEM holds certificates, and nothing but them.
func areCertificates(text []byte) bool {
	n := 0
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return n > 0
		}
		if _, err := x509.ParseCertificate(block.Bytes); block.Type != "CERTIFICATE" || err != nil {
			return false
		}
		n++
		text = rest
	}
}

// What RFC 9110, section 5.6.2, calls a token.
var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func isAuthorization(header string) bool { return strings.EqualFold(header, "Authorization") }

// checkHeaders adds what is wrong with headers, and returns them; nil for none.
func checkHeaders(p *problems, headers map[string]string) map[string]string {
	if len(headers) == 0 {
		return nil
	}
	if len(headers) > mostHeaders {
		p.add("headers", "are %d, want at most %d", len(headers), mostHeaders)
		return nil
	}
	seen, size := map[string]bool{}, 0
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value := headers[name]
		size += len(name) + len(value)
		if problem := headerProblem(name, value); problem != "" {
			p.add("headers."+strings.Trim(quote(name), `"`), "%s", problem)
		}
		if lower := strings.ToLower(name); seen[lower] {
			p.add("headers."+name, "stands there twice: upper and lower case are the same")
		} else {
			seen[lower] = true
		}
	}
	if size > mostHeaderBytes {
		p.add("headers", "are %d bytes long, want at most %d", size, mostHeaderBytes)
	}
	return headers
}

func headerProblem(name, value string) string {
	switch {
	case !headerName.MatchString(name):
		return "is not the name of a header"
	case IsReservedHeader(name) || strings.HasPrefix(strings.ToLower(name), "content-"):
		return "is set by whoever sends"
	case strings.TrimSpace(value) != value || strings.ContainsFunc(value, func(r rune) bool { return r != '\t' && (r < ' ' || r == 0x7f) }):
		return "want a value without line breaks, and without spaces around it"
	}
	return ""
}

// reasonProblem says what is wrong with the reason of a decision.
func reasonProblem(reason string) error {
	if problem := textProblem(reason, mostDescription); problem != "" {
		return &FieldError{Field: "reason", Problem: problem}
	}
	return nil
}
