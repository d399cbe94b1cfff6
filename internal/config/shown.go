package config

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Setting is one setting as it is in force, without what is secret.
type Setting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`   // "" of a secret
	Default string `json:"default"` // as it would be written; "": there is none
	// Source is environment or default.
	Source string `json:"source"`
	Set    bool   `json:"set"` // there is a value, by whichever source
	Secret bool   `json:"secret"`
	// Fingerprint is of a secret that is set, "" when there is no MEMRELAY_KEY: two nodes with
	// the same have the same value and the same first key. It is the first four bytes of an
	// HMAC-SHA256 by that key: who does not have the key cannot try what the secret may be.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Settings returns all settings in the order they are declared in. environ is what c was
// read from, as os.Environ lists it.
func (c Config) Settings(environ []string) []Setting {
	given := map[string]bool{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		given[name] = strings.TrimSpace(value) != ""
	}
	var all []Setting
	walk(reflect.ValueOf(c), "", func(name string, tag reflect.StructTag, v reflect.Value) {
		text := written(v)
		s := Setting{Name: name, Default: tag.Get("envDefault"), Source: "default", Set: text != "", Secret: tag.Get("secret") == "true"}
		if given[name] {
			s.Source = "environment"
		}
		switch {
		case !s.Secret:
			s.Value = withoutCredentials(text)
		case s.Set:
			s.Fingerprint = c.fingerprint(name, text)
		}
		all = append(all, s)
	})
	return all
}

// fingerprint is one of a secret. Its name is in it, so that two settings that have the
// same value do not show that they do.
func (c Config) fingerprint(name, secret string) string {
	if len(c.Keys) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(c.Keys[0]))
	_, _ = mac.Write([]byte("memrelay: fingerprint of a setting\x00" + name + "\x00" + secret)) // never fails
	return hex.EncodeToString(mac.Sum(nil)[:4])
}

// walk visits each field that a variable of the environment fills.
func walk(v reflect.Value, prefix string, visit func(name string, tag reflect.StructTag, v reflect.Value)) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if name := f.Tag.Get("env"); name != "" {
			visit(prefix+name, f.Tag, v.Field(i))
		} else if f.Type.Kind() == reflect.Struct {
			walk(v.Field(i), prefix+f.Tag.Get("envPrefix"), visit)
		}
	}
}

// written is a value as it could be set; "" when there is none.
func written(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.String()
	case map[string]FieldList:
		var lists []string
		for _, module := range slices.Sorted(maps.Keys(value)) {
			beside := ""
			if value[module].Beside {
				beside = "+"
			}
			lists = append(lists, module+"="+beside+strings.Join(value[module].Names, ","))
		}
		return strings.Join(lists, ";")
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		if err != nil {
			return ""
		}
		return string(text)
	}
	if v.Kind() == reflect.Slice {
		items := make([]string, v.Len())
		for i := range items {
			items[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return strings.Join(items, ",")
	}
	return fmt.Sprint(v.Interface())
}

// withoutCredentials takes out of a URL who logs in and what is asked: both may be a key.
func withoutCredentials(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme == "" {
		return text
	}
	if u.User != nil {
		u.User = url.User("…")
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	u.Fragment = ""
	return strings.ReplaceAll(u.String(), url.PathEscape("…"), "…")
}
