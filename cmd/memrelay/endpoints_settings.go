package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/endpoint"
)

// endpointFlags are an endpoint's settings as flags. What is secret need not stand on
// the command line, where others see it: @FILE is read, and - is stdin.
type endpointFlags struct {
	URL           string          `name:"url" help:"Where to, as https://example.com/hooks."`
	Description   *string         `help:"What it is for."`
	Events        []string        `name:"event" sep:"none" help:"An event it is told of, or * for all that tell of memory; again for more."`
	Users         []string        `name:"user" sep:"none" help:"Whose events: a user_id, or zoho:* for all that begin so; again for more."`
	AllUsers      bool            `help:"Everybody's events."`
	Filter        string          `help:"What the data must be like, as JSON: docs/filters.md. null takes it away."`
	Form          *string         `help:"How payloads look: memrelay or standard."`
	Ordered       *bool           `negatable:"" help:"One at a time for each user_id."`
	BatchSize     *int            `help:"So many at most in one request; 1: no batches."`
	BatchWait     *time.Duration  `help:"How long a batch may wait to be full."`
	Rate          *float64        `help:"Requests a second; 0: as many as it takes."`
	MaxInFlight   *int            `help:"Requests at one time."`
	Timeout       *time.Duration  `help:"How long it may take to answer."`
	RetrySchedule []time.Duration `name:"retry" help:"The waits after failed attempts, as 5s,5m,1h."`
	Headers       []string        `name:"header" sep:"none" help:"NAME=VALUE or NAME=@FILE: a header to send along; again for more. All others go."`
	NoHeaders     bool            `help:"Send no headers of yours along."`
	Signing       []string        `help:"What it signs with: hmac, ed25519 or both."`
	NoSigning     bool            `help:"Sign nothing."`
	Secret        string          `help:"Sign with this secret instead of a fresh one: @FILE, or - for stdin."`
	authFlags
}

// authFlags are how deliveries prove themselves.
type authFlags struct {
	NoAuth   bool   `help:"Prove nothing but by signatures."`
	Bearer   string `help:"A bearer token: @FILE, or - for stdin."`
	Username string `help:"Of basic auth."`
	Password string `help:"Of basic auth: @FILE, or - for stdin."`

	TokenURL     string   `name:"token-url" help:"Where OAuth2 access tokens are to be had, by client credentials."`
	ClientID     string   `name:"client-id" help:"Of OAuth2."`
	ClientSecret string   `help:"Of OAuth2: @FILE, or - for stdin."`
	Scopes       []string `name:"scope" sep:"none" help:"Of OAuth2; again for more."`
	Audience     string   `help:"Of OAuth2, where the server wants one."`

	Certificate string `help:"For mutual TLS: @FILE, PEM."`
	PrivateKey  string `help:"For mutual TLS: @FILE, PEM."`
	Authorities string `help:"Trusted instead of the system's: @FILE, PEM."`
}

// settings are what the flags say, on top of what stands in the file from.
func (f endpointFlags) settings(from string, stdin io.Reader) (endpoint.Settings, error) {
	var in endpoint.Settings
	if from != "" {
		text, err := readFrom(from, stdin)
		if err != nil {
			return in, err
		}
		if in, err = admin.ReadSettings(text); err != nil {
			return in, usage(fmt.Errorf("%s: %w", from, err))
		}
	}
	f.plain(&in)
	if err := f.filter(&in); err != nil {
		return in, err
	}
	return in, f.secrets(&in, stdin)
}

// plain sets what is no secret.
func (f endpointFlags) plain(in *endpoint.Settings) {
	if f.URL != "" {
		in.URL = &f.URL
	}
	set(&in.Description, f.Description)
	set(&in.Form, f.Form)
	set(&in.Ordered, f.Ordered)
	set(&in.BatchSize, f.BatchSize)
	set(&in.RateLimit, f.Rate)
	set(&in.MaxInFlight, f.MaxInFlight)
	set(&in.BatchWait, (*endpoint.Duration)(f.BatchWait))
	set(&in.Timeout, (*endpoint.Duration)(f.Timeout))
	if len(f.Events) > 0 {
		in.Events = &f.Events
	}
	if len(f.Users) > 0 || f.AllUsers {
		users := append([]string{}, f.Users...) // none is a list, too
		in.UserIDs = &users
	}
	if len(f.RetrySchedule) > 0 {
		waits := make([]endpoint.Duration, len(f.RetrySchedule))
		for i, wait := range f.RetrySchedule {
			waits[i] = endpoint.Duration(wait)
		}
		in.RetrySchedule = &waits
	}
	if len(f.Signing) > 0 || f.NoSigning {
		signing := append([]string{}, f.Signing...)
		in.Signing = &signing
	}
}

// set sets what was said.
func set[T any](into **T, said *T) {
	if said != nil {
		*into = said
	}
}

func (f endpointFlags) filter(in *endpoint.Settings) error {
	if f.Filter == "" {
		return nil
	}
	filter := json.RawMessage(f.Filter)
	if !json.Valid(filter) {
		return usage(errors.New("--filter: want JSON"))
	}
	in.Filter = &filter
	return nil
}

// secrets reads what is secret.
func (f endpointFlags) secrets(in *endpoint.Settings, stdin io.Reader) error {
	if f.Secret != "" {
		secret, err := secretFrom(f.Secret, stdin)
		if err != nil {
			return err
		}
		in.Secret = &secret
	}
	if len(f.Headers) > 0 || f.NoHeaders {
		headers := map[string]string{}
		for _, h := range f.Headers {
			name, value, ok := strings.Cut(h, "=")
			if !ok {
				return usage(errors.New("--header: want NAME=VALUE or NAME=@FILE")) // not what was given: it may be a secret
			}
			var err error
			if headers[name], err = secretFrom(value, stdin); err != nil {
				return err
			}
		}
		in.Headers = &headers
	}
	return f.auth(in, stdin)
}

// auth is of one kind, and of mutual TLS beside it: what is said replaces all there was.
func (f authFlags) auth(in *endpoint.Settings, stdin io.Reader) error {
	a := endpoint.AuthSettings{Kind: "none"}
	kinds := 0
	if f.Bearer != "" {
		a.Kind, kinds = endpoint.AuthBearer, kinds+1
	}
	if f.Username != "" || f.Password != "" {
		a.Kind, kinds = endpoint.AuthBasic, kinds+1
	}
	if f.TokenURL != "" || f.ClientID != "" || f.ClientSecret != "" {
		a.Kind, kinds = endpoint.AuthOAuth2, kinds+1
	}
	mutual := f.Certificate != "" || f.PrivateKey != "" || f.Authorities != ""
	switch {
	case kinds > 1, f.NoAuth && kinds > 0:
		return usage(errors.New("want one of --bearer, --username, --token-url and --no-auth"))
	case kinds == 0 && !mutual && !f.NoAuth:
		return nil
	}
	a.Username, a.OAuth2.TokenURL, a.OAuth2.ClientID = f.Username, f.TokenURL, f.ClientID
	a.OAuth2.Scopes, a.OAuth2.Audience = f.Scopes, f.Audience
	for _, secret := range []struct {
		into *string
		from string
	}{
		{&a.Token, f.Bearer}, {&a.Password, f.Password}, {&a.OAuth2.ClientSecret, f.ClientSecret},
		{&a.Certificate, f.Certificate}, {&a.PrivateKey, f.PrivateKey}, {&a.Authorities, f.Authorities},
	} {
		var err error
		if *secret.into, err = secretFrom(secret.from, stdin); err != nil {
			return err
		}
	}
	in.Auth = &a
	return nil
}

// secretFrom is a value that may stand elsewhere: @FILE is read, and - is stdin; the
// end of its last line is none of it.
func secretFrom(value string, stdin io.Reader) (string, error) {
	file, named := strings.CutPrefix(value, "@")
	if value != "-" && !named {
		return value, nil
	}
	if !named {
		file = "-"
	}
	text, err := readFrom(file, stdin)
	return strings.TrimRight(string(text), "\r\n"), err
}

// readFrom reads a file, or stdin for -.
func readFrom(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("read stdin: %w", err)
		}
		return text, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usage(err)
	}
	return text, nil
}
