package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// A value with which every setting can be set, where one cannot be any text.
func goodValue(name string, t reflect.Type, byDefault string) string {
	switch {
	case name == "DATABASE_URL":
		return "postgres://ada:hunter2@db.invalid/relay"
	case name == "TRUSTED_PROXIES" || name == "OUTBOUND_ALLOW_PRIVATE":
		return "10.0.0.0/8, 192.0.2.1"
	case name == "OUTBOUND_PORTS":
		return "8443"
	case name == "ZOHO_FIELDS":
		return "Deals=+Shoe_Size;Contacts=Email,Phone"
	case name == "MEM0_WEBHOOK_EVENTS":
		return "memory_added, memory_deleted"
	case name == "MEM0_WEBHOOK_SECRET":
		return "a-secret-hunter2-of-MEM0_WEBHOOK_SECRET"
	case strings.HasSuffix(name, "_URL") || name == "WEBHOOK_BASE_URL":
		return "https://example.invalid/path"
	case byDefault != "":
		return byDefault
	}
	return "a-secret-hunter2-of-" + name
}

// Whoever adds a setting decides whether it is secret: what looks like one must be.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	var environ []string
	secret := map[string]string{}
	walk(reflect.ValueOf(Config{}), "", func(name string, tag reflect.StructTag, v reflect.Value) {
		value := goodValue(name, v.Type(), tag.Get("envDefault"))
		environ = append(environ, name+"="+value)
		if tag.Get("secret") == "true" {
			secret[name] = value
		}
		looksSecret := regexp.MustCompile(`SECRET|TOKEN|_KEY$|PASSWORD|DATABASE_URL`).MatchString(name)
		if (tag.Get("secret") == "true") != looksSecret {
			t.Errorf("%s: secret is %q; the name says otherwise", name, tag.Get("secret"))
		}
	})
	if len(secret) < 14 {
		t.Errorf("only %d secrets", len(secret))
	}
	c, _, err := FromEnv(environ)
	if err != nil {
		t.Fatal(err)
	}
	shown := c.Settings(environ)
	if len(shown) != len(environ) {
		t.Errorf("%d settings are shown of %d", len(shown), len(environ))
	}
	text := fmt.Sprintf("%+v", shown)
	for name, value := range secret {
		if strings.Contains(text, value) {
			t.Errorf("%s is shown: %s", name, text)
		}
	}
	if strings.Contains(text, "hunter2-of") && regexp.MustCompile(`hunter2-of-(\S*(SECRET|TOKEN|KEY))`).MatchString(text) {
		t.Errorf("a secret is shown: %s", text)
	}
	for _, s := range shown {
		if s.Source != "environment" || !s.Set || s.Secret != (s.Fingerprint != "") || s.Secret == (s.Value != "") {
			t.Errorf("%+v", s)
		}
	}
}

func TestSettingsAsTheyAreInForce(t *testing.T) {
	t.Parallel()
	environ := []string{
		"DATABASE_URL=postgres://ada:hunter2@db.invalid/relay", "WEBHOOK_DEBOUNCE=5", "ADMIN_TOKEN=0123456789abcdef", "LOG_LEVEL=warn", "HTTP_ADDR=",
		"TRUSTED_PROXIES=10.1.2.3/8, 192.0.2.1", "ZOHO_FIELDS=Deals=+Shoe_Size;Contacts=Email,Phone", "MEM0_WEBHOOK_URL=https://ada:hunter2@example.invalid/hook?key=hunter2",
		"ZOHO_MODULES= Contacts , Deals ",
	}
	c, _, err := FromEnv(environ)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]Setting{}
	for _, s := range c.Settings(environ) {
		shown[s.Name] = s
	}
	for _, want := range []Setting{
		{Name: "WEBHOOK_DEBOUNCE", Value: "5s", Default: "2s", Source: "environment", Set: true},
		{Name: "WEBHOOK_MAX_QUEUE_SIZE", Value: "10000", Default: "10000", Source: "default", Set: true},
		{Name: "HTTP_ADDR", Value: ":8000", Default: ":8000", Source: "default", Set: true},
		{Name: "LOG_LEVEL", Value: "WARN", Default: "info", Source: "environment", Set: true},
		{Name: "TRUSTED_PROXIES", Value: "10.0.0.0/8,192.0.2.1/32", Source: "environment", Set: true},
		{Name: "OUTBOUND_PORTS", Source: "default"},
		{Name: "ZOHO_FIELDS", Value: "Contacts=Email,Phone;Deals=+Shoe_Size", Source: "environment", Set: true},
		{Name: "ZOHO_MODULES", Value: "Contacts,Deals", Default: shown["ZOHO_MODULES"].Default, Source: "environment", Set: true},
		{Name: "MEM0_WEBHOOK_URL", Value: "https://…@example.invalid/hook?…", Source: "environment", Set: true},
		{Name: "ADMIN_TOKEN", Source: "environment", Set: true, Secret: true}, // there is no key to make a fingerprint with
		{Name: "MEMRELAY_KEY", Source: "default", Secret: true},
	} {
		if shown[want.Name] != want {
			t.Errorf("shown: %+v\nwant:  %+v", shown[want.Name], want)
		}
	}
}

// Without the key a fingerprint says nothing: what the secret may be cannot be tried.
func TestFingerprintsAreMadeWithTheFirstKey(t *testing.T) {
	t.Parallel()
	of := func(environ ...string) map[string]string {
		environ = append(environ, "DATABASE_URL=postgres://db.invalid/relay")
		c, _, err := FromEnv(environ)
		if err != nil {
			t.Fatal(err)
		}
		prints := map[string]string{}
		for _, s := range c.Settings(environ) {
			if s.Fingerprint != "" {
				prints[s.Name] = s.Fingerprint
			}
		}
		return prints
	}
	const admin, first, second = "ADMIN_TOKEN=0123456789abcdef", "0000000000000000000000000000000a", "0000000000000000000000000000000b"
	if got := of(admin); len(got) != 0 {
		t.Errorf("without a key: %v", got)
	}
	one := of(admin, "MEMRELAY_KEY="+first, "WEBHOOK_SECRET=0123456789abcdef")
	if len(one) != 4 || one["ADMIN_TOKEN"] == one["WEBHOOK_SECRET"] || len(one["ADMIN_TOKEN"]) != 8 || one["ADMIN_TOKEN"] == "9f9f5111" {
		t.Errorf("with a key: %v", one)
	}
	if got := of(admin, "MEMRELAY_KEY="+first+","+second); got["ADMIN_TOKEN"] != one["ADMIN_TOKEN"] {
		t.Errorf("with a second key: %v", got)
	}
	if got := of(admin, "MEMRELAY_KEY="+second); got["ADMIN_TOKEN"] == one["ADMIN_TOKEN"] {
		t.Errorf("with another key: %v", got)
	}
	if got := of("ADMIN_TOKEN=0123456789abcdeg", "MEMRELAY_KEY="+first); got["ADMIN_TOKEN"] == one["ADMIN_TOKEN"] {
		t.Errorf("of another secret: %v", got)
	}
}
