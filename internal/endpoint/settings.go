package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Settings are what a person asks for. For a new endpoint, those that are nil have
// their default; to change one, they stay as they are.
type Settings struct {
	// Name is letters in lower case, digits, dashes, dots and underscores, at most 63
	// of them: one endpoint of each name.
	Name *string `json:"name,omitempty"`
	URL  *string `json:"url,omitempty"`
	// Description is for people. Default: none.
	Description *string `json:"description,omitempty"`
	// Events are names of memory.Events and memory.OperationalEvents, or AllEvents,
	// which is the default.
	Events *[]string `json:"events,omitempty"`
	// UserIDs are whose events; a name that ends in * stands for all that begin so.
	// Default: none, which is everybody's. What is told of the program itself is of
	// memory.SystemUser.
	UserIDs *[]string `json:"user_ids,omitempty"`
	// Filter is one of package match, over the data of an event. JSON's null, the
	// default, is none.
	Filter *json.RawMessage `json:"filter,omitempty"`
	// Form is FormMemrelay, the default, or FormStandard.
	Form *string `json:"form,omitempty"`
	// Ordered: one at a time for each user, in order. Default: false.
	Ordered *bool `json:"ordered,omitempty"`
	// BatchSize is 1 to 1000 events in one request, default 1; BatchWait is how long
	// the first of them waits for others, default 0.
	BatchSize *int      `json:"batch_size,omitempty"`
	BatchWait *Duration `json:"batch_wait,omitempty"`
	// RateLimit is requests a second. Default: 0, for as many as it takes.
	RateLimit *float64 `json:"rate_limit,omitempty"`
	// MaxInFlight is requests at one time, 1 to 256, default 32.
	MaxInFlight *int `json:"max_in_flight,omitempty"`
	// Timeout is that of one request, at most LongestTimeout, default 30 s.
	Timeout *Duration `json:"timeout,omitempty"`
	// RetrySchedule are the waits after failed attempts, at most 50; none: one attempt.
	// Default: StandardSchedule.
	RetrySchedule *[]Duration `json:"retry_schedule,omitempty"`
	// Headers are sent along; they replace all there were. Default: none.
	Headers *map[string]string `json:"headers,omitempty"`
	// Auth replaces all of what there was. Default: none.
	Auth *AuthSettings `json:"auth,omitempty"`
	// Signing are the kinds of keys that sign, KeyHMAC by default. A kind that comes
	// gets a new key; the keys of one that goes are forgotten.
	Signing *[]string `json:"signing,omitempty"`
	// Secret is an HMAC key of one's own, instead of a new one: at least 24 bytes.
	Secret *string `json:"secret,omitempty"`
}

// AuthSettings are what an Auth is to be.
type AuthSettings struct {
	Kind     string `json:"kind"` // AuthBearer, AuthBasic, AuthOAuth2, or "none"
	Token    string `json:"token,omitempty"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	OAuth2 OAuth2Settings `json:"oauth2,omitzero"`

	// PEM: for mutual TLS, and instead of the system's authorities.
	Certificate string `json:"certificate,omitempty"`
	PrivateKey  string `json:"private_key,omitempty"`
	Authorities string `json:"authorities,omitempty"`
}

// OAuth2Settings are what an OAuth2 is to be.
type OAuth2Settings struct {
	TokenURL     string   `json:"token_url"`
	ClientID     string   `json:"client_id"`
	ClientSecret string   `json:"client_secret"`
	Scopes       []string `json:"scopes,omitempty"`
	Audience     string   `json:"audience,omitempty"`
}

// authNone is how people write AuthNone.
const authNone = "none"

func (a AuthSettings) auth() Auth {
	if a.Kind == authNone {
		a.Kind = AuthNone
	}
	return Auth{
		Kind: a.Kind, Token: a.Token, Username: a.Username, Password: a.Password, OAuth2: OAuth2(a.OAuth2),
		Certificate: a.Certificate, PrivateKey: a.PrivateKey, Authorities: a.Authorities,
	}
}

// setting is where the value of one field goes, and what it is.
type setting struct {
	into any
	want string
}

func (s *Settings) fields() map[string]setting {
	const words, number, durations = "a list of texts", "a whole number", "a duration as \"30s\", or a number of seconds"
	return map[string]setting{
		"name":           {&s.Name, "a text"},
		"url":            {&s.URL, "a text"},
		"description":    {&s.Description, "a text"},
		"events":         {&s.Events, words},
		"user_ids":       {&s.UserIDs, words},
		"form":           {&s.Form, "a text"},
		"ordered":        {&s.Ordered, "true or false"},
		"batch_size":     {&s.BatchSize, number},
		"batch_wait":     {&s.BatchWait, durations},
		"rate_limit":     {&s.RateLimit, "a number"},
		"max_in_flight":  {&s.MaxInFlight, number},
		"timeout":        {&s.Timeout, durations},
		"retry_schedule": {&s.RetrySchedule, `a list of durations, as ["5s", "5m"]`},
		"headers":        {&s.Headers, "an object of texts"},
		"auth":           {&s.Auth, "an object: kind, and token, username and password, or oauth2; certificate, private_key, authorities"},
		"signing":        {&s.Signing, words},
		"secret":         {&s.Secret, "a text"},
	}
}

// UnmarshalJSON reads an object of settings; what is null is not asked for, but for
// the filter. Fields there are none of, and values of another type, are each a
// FieldError, several of them joined.
func (s *Settings) UnmarshalJSON(raw []byte) error {
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		return fmt.Errorf("want an object of settings: %w", err)
	}
	fields := s.fields()
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name == "filter" {
			s.Filter = new(values[name])
			continue
		}
		f, known := fields[name]
		if !known {
			problems = append(problems, &FieldError{name, "is no setting: there are " + strings.Join(slices.Sorted(maps.Keys(fields)), ", ") + ", filter"})
			continue
		}
		d := json.NewDecoder(bytes.NewReader(values[name]))
		d.DisallowUnknownFields()
		if d.Decode(f.into) != nil {
			problems = append(problems, &FieldError{name, "want " + f.want})
		}
	}
	return errors.Join(problems...)
}
