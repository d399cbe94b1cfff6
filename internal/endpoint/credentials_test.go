package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestCredentialsHideThemselves(t *testing.T) {
	t.Parallel()
	c := Credentials{
		Keys: []Key{{ID: "k", Kind: KeyHMAC, Secret: "s3cret", CreatedAt: time.Unix(1, 0)}},
		Auth: Auth{
			Kind: AuthOAuth2, Token: "t0ken", Username: "us3r", Password: "passw0rd", Certificate: "c3rt", PrivateKey: "k3y",
			OAuth2: OAuth2{ClientID: "cl1ent", ClientSecret: "cs3cret", TokenURL: "https://example.com/t?k=qu3ry"},
		},
		Headers: map[string]string{"X-Key": "h3ader"},
	}
	holder := struct {
		C Credentials
		P *Credentials
	}{c, &c}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		fmt.Fprintf(&out, verb, c)
		fmt.Fprintf(&out, verb, holder)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "c", c, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "c", c, "holder", holder)
	if err := json.NewEncoder(&out).Encode(holder); err != nil {
		t.Fatal(err)
	}
	out.WriteString(c.String())
	for _, s := range []string{
		"s3cret", "t0ken", "us3r", "passw0rd", "c3rt", "k3y", "cl1ent", "qu3ry", "h3ader",
		"733363726574", "115 51", // s3cret in hexadecimal and numbers
	} {
		if strings.Contains(out.String(), s) {
			t.Errorf("%q shows in:\n%s", s, &out)
		}
	}
	if got, want := c.String(), `keys:1 auth:"oauth2" certificate:true headers:1`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
