// Package config reads the environment. In goes a lookup of variables, out
// comes a Config with every value checked, or one error that lists everything
// that is wrong.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/memrelay/memrelay/internal/memory"
	"github.com/memrelay/memrelay/internal/zoho"
)

// Config is everything that can be set. Numbers of time written bare are
// seconds; Go's durations ("2m") are accepted too.
type Config struct {
	// DatabaseURL is where everything is kept, as a postgres:// URL. Required.
	DatabaseURL string `env:"DATABASE_URL" secret:"true"`
	// TrustedProxies are the address ranges of proxies before this program: what they say
	// in X-Forwarded-For is taken for whom a request comes from. None: nobody is believed.
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES"`
	// HTTPAddr is where to listen: port 8000 of every address, as the systems do
	// that memrelay replaces.
	HTTPAddr string `env:"HTTP_ADDR" envDefault:":8000"`
	// LogLevel is debug, info, warn or error; info is one line per request and unit of work.
	LogLevel slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	// LogFormat is json, for machines that gather logs, or text, for people.
	LogFormat string `env:"LOG_FORMAT" envDefault:"json"`
	// ShutdownTimeout is how long a stop waits for requests and jobs under way;
	// 20 s is less than the 30 s after which Kubernetes kills.
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20"`

	Inbound  Inbound  `envPrefix:"WEBHOOK_"`
	Outbound Outbound `envPrefix:"MEM0_WEBHOOK_"`
	Failing  Failing  `envPrefix:"OUTBOUND_"`

	// BotVersion stands in every payload that goes out.
	BotVersion string `env:"BOT_VERSION" envDefault:"1.0.0"`
	// OutboundAllowPrivate are the address ranges that webhooks may go to although
	// they are not public, or over plain http. None unless set: a webhook is a
	// request that somebody else chooses the target of.
	OutboundAllowPrivate []netip.Prefix `env:"OUTBOUND_ALLOW_PRIVATE"`
	// OutboundPorts are ports besides 443 for https to public addresses.
	OutboundPorts []uint16 `env:"OUTBOUND_PORTS"`
	// OutboundPayloadRetention is how long a webhook that was told can be sent again:
	// then what it said is forgotten, and what became of it kept; off: never.
	OutboundPayloadRetention time.Duration `env:"OUTBOUND_PAYLOAD_RETENTION" envDefault:"2160h"`
	// ZohoModules are worked; events of others are kept as ignored.
	ZohoModules []string `env:"ZOHO_MODULES" envDefault:"Accounts,Contacts,Deals,Tasks,Notes,Activities,Events,Calls,Meetings"`
	// Zoho is the account that records are read from. Without credentials records
	// are made of what the webhooks carry.
	Zoho   Zoho `envPrefix:"ZOHO_"`
	Sync   Sync `envPrefix:"SYNC_"`
	Memory Memory
	// AdminToken may do everything over HTTP; none: there are only the tokens that
	// `memrelay tokens create` makes.
	AdminToken string `env:"ADMIN_TOKEN" secret:"true"`
	// Keys seal what is secret and kept in the database: the first seals, all open.
	// Any text of at least 16 characters; `memrelay secret` makes one.
	Keys []string `env:"MEMRELAY_KEY" secret:"true"`
}

// Zoho says how to reach Zoho CRM.
type Zoho struct {
	// DataCenter is where the account lives: us, eu, in, au, jp, cn, ca or sa.
	DataCenter string `env:"DATA_CENTER" envDefault:"us"`
	// Edition is production, sandbox or developer.
	Edition string `env:"EDITION" envDefault:"production"`
	// ClientID and ClientSecret are those of a client registered at Zoho.
	ClientID     string `env:"CLIENT_ID"`
	ClientSecret string `env:"CLIENT_SECRET" secret:"true"`
	// RefreshToken is the authorisation; none: the one that `memrelay zoho connect` stored.
	RefreshToken string `env:"REFRESH_TOKEN" secret:"true"`
	// APIURL and AccountsURL are asked instead of those of the data centre.
	APIURL      string `env:"API_URL"`
	AccountsURL string `env:"ACCOUNTS_URL"`
	// Fields are what is read of a module, as "Contacts=Last_Name,Email;Deals=Stage";
	// "Contacts=+Shoe_Size" is the default and that. At most 50 of a module.
	Fields map[string]FieldList `env:"FIELDS"`
}

// FieldList are the fields that are read of a module.
type FieldList struct {
	Names  []string
	Beside bool // they come beside the default ones, and not instead
}

// Connected reports whether there are credentials to ask Zoho with.
func (z Zoho) Connected() bool { return z.ClientID != "" && z.ClientSecret != "" }

// Sync says when Zoho is held against what is known.
type Sync struct {
	// IncrementalEvery is how often what changed is looked at; off: never. Each run
	// costs a few API calls per module.
	IncrementalEvery time.Duration `env:"INCREMENTAL_EVERY" envDefault:"1h"`
	// FullAt is when everything is, as hours and minutes of a day; off: never.
	FullAt string `env:"FULL_AT" envDefault:"02:00"`
	// Timezone is whose clock FullAt is read from, as Europe/Berlin.
	Timezone string `env:"TIMEZONE" envDefault:"UTC"`
}

// Inbound is what comes in.
type Inbound struct {
	// Enabled opens the inbound routes; closed they are 404 and all else runs.
	Enabled bool `env:"ENABLED" envDefault:"true"`
	// Secrets sign bodies; several while one is being replaced. Required to serve.
	Secrets []string `env:"SECRET" secret:"true"`
	// Token is for senders that can do no more than a fixed header. Off unless set.
	Token string `env:"TOKEN" secret:"true"`
	// MaxQueueSize is how many events may wait to be routed before senders are
	// told to come again.
	MaxQueueSize int64 `env:"MAX_QUEUE_SIZE" envDefault:"10000"`
	// SourceShare is how many events a second of one source go before those of sources
	// that send more, on each node. A node works thousands a second: a hundred leave
	// room for many sources, and are more than an organisation sends on most days.
	SourceShare int `env:"SOURCE_SHARE" envDefault:"100"`
	// MaxRetries is how often an event is tried before it is dead, the first time included.
	MaxRetries int `env:"MAX_RETRIES" envDefault:"3"`
	// RetryDelayBase is the wait before the second attempt; doubled for each
	// further one, at most 30 s.
	RetryDelayBase time.Duration `env:"RETRY_DELAY_BASE" envDefault:"2"`
	// Debounce is how long an account's update waits for further ones, unless a
	// critical field changed: people save the same form several times.
	Debounce time.Duration `env:"DEBOUNCE" envDefault:"2s"`
	// GiveUpAfter is how long a fault that nobody can classify is taken for the world's.
	GiveUpAfter time.Duration `env:"GIVE_UP_AFTER" envDefault:"24h"`
	// EventRetention is how long an event is kept once it has ended, and a repeat of it
	// recognised; off: for ever. What is dead stays until somebody has decided.
	EventRetention time.Duration `env:"EVENT_RETENTION" envDefault:"2160h"`
	// EventTTL is how long a repeat must be recognised, whatever else is deleted.
	EventTTL time.Duration `env:"EVENT_TTL" envDefault:"3600"`
	// BaseURL is where Zoho reaches this program from outside, as
	// https://relay.example.com; none: channels are registered by hand alone.
	BaseURL string `env:"BASE_URL"`
	// BatchSize is how many records are worth one call to Zoho while other calls are
	// under way; BatchTimeout is how long the first of them waits for that. When
	// nothing is under way nobody waits.
	BatchSize    int           `env:"BATCH_SIZE" envDefault:"10"`
	BatchTimeout time.Duration `env:"BATCH_TIMEOUT" envDefault:"5"`
	// NumWorkers bounds the calls to Zoho at one time of one node; Zoho's smallest
	// edition allows 5 in all.
	NumWorkers int `env:"NUM_WORKERS" envDefault:"3"`
	// Products are the secrets of Zoho's products that sign their webhooks.
	Products Products
}

// Products are the secrets by which webhooks of Zoho's other products are
// verified; a product without one is closed.
type Products struct {
	// Payments is the signing key that Zoho Payments shows.
	Payments string `env:"PAYMENTS_SECRET" secret:"true"`
	// Billing is the secret set with the webhook in Billing, Books or Inventory.
	Billing string `env:"BILLING_SECRET" secret:"true"`
	// Sign is the secret set with the webhook in Zoho Sign.
	Sign string `env:"SIGN_SECRET" secret:"true"`
	// Mail is what Zoho Mail hands over in X-Hook-Secret.
	Mail string `env:"MAIL_SECRET" secret:"true"`
}

// Outbound is the endpoint named env.
type Outbound struct {
	// URL is where webhooks go; none: nothing is sent.
	URL string `env:"URL"`
	// Token is sent as a bearer token.
	Token string `env:"TOKEN" secret:"true"`
	// Secret signs what is sent.
	Secret string `env:"SECRET" secret:"true"`
	// Timeout bounds one attempt, in all. At most 40 s, so that a crash in the
	// middle of one is repaired within 90.
	Timeout time.Duration `env:"TIMEOUT" envDefault:"30"`
	// RetryCount is how often a webhook is tried, the first time included.
	RetryCount int `env:"RETRY_COUNT" envDefault:"3"`
	// RetryDelay is the wait before the second attempt; doubled for each further one.
	RetryDelay time.Duration `env:"RETRY_DELAY" envDefault:"1.0"`
	// Events are those that are sent: all that memory has, none, or names with commas.
	Events []string `env:"EVENTS" envDefault:"all"`
}

// Failing says what follows when an endpoint goes on failing.
type Failing struct {
	// After is how long an endpoint fails before those are told that ask for
	// endpoint.failing: less than five minutes is a restart.
	After time.Duration `env:"FAILING_AFTER" envDefault:"5m"`
	// DisableAfter is how long an endpoint fails before nothing is sent to it any more;
	// off: never. Five days bear a long weekend.
	DisableAfter time.Duration `env:"DISABLE_AFTER" envDefault:"120h"`
	// DisableFailures is how often it must have failed by then, in a row: one that gets
	// a webhook a day has hardly been tried.
	DisableFailures int `env:"DISABLE_FAILURES" envDefault:"10"`
	// ProbeEvery is how often one webhook tries whether a disabled endpoint is back.
	ProbeEvery time.Duration `env:"PROBE_EVERY" envDefault:"1h"`
}

// LongestTimeout is the longest that one outbound attempt may take.
const LongestTimeout = 40 * time.Second

// FromEnv reads the variables that environ lists, as os.Environ does. The error
// lists everything that is wrong; no value of a secret stands in it. unknown are
// names that look like ours and mean nothing here: worth a warning each.
func FromEnv(environ []string) (c Config, unknown []string, err error) {
	vars := env.ToMap(environ)
	for name, value := range vars {
		vars[name] = strings.TrimSpace(value)
		if vars[name] == "" {
			// "NAME=" in an env file means the same as no line at all.
			delete(vars, name)
		}
	}
	err = env.ParseWithOptions(&c, env.Options{
		Environment: vars,
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[time.Duration](): func(v string) (any, error) { return parseDuration(v) },
			// Of the whole lists: the library would read what stands between the commas
			// by itself, spaces included.
			reflect.TypeFor[[]netip.Prefix]():       func(v string) (any, error) { return parseList(v, parsePrefix) },
			reflect.TypeFor[[]uint16]():             func(v string) (any, error) { return parseList(v, parsePort) },
			reflect.TypeFor[map[string]FieldList](): func(v string) (any, error) { return parseFields(v) },
		},
	})
	var problems []error
	unread := map[string]bool{}
	if err != nil {
		for _, p := range plain(err) {
			problems = append(problems, p)
			unread[nameIn(p)] = true
		}
	}
	c.expand()
	for _, p := range c.check() {
		// What could not be read is zero now, which says nothing of its own.
		if !unread[nameIn(p)] {
			problems = append(problems, p)
		}
	}
	return c, c.unknown(vars), errors.Join(problems...)
}

// nameIn returns the variable that a problem begins with.
func nameIn(problem error) string {
	name, _, _ := strings.Cut(problem.Error(), ":")
	return name
}

// CheckServe reports what serving needs besides.
func (c Config) CheckServe() error {
	if len(c.Inbound.Secrets) == 0 && c.Inbound.Enabled {
		return errors.New("WEBHOOK_SECRET is required to serve: without it nobody can prove who sent a webhook (`memrelay secret` makes one)")
	}
	return nil
}

// plain takes the library's error apart: one line for each variable.
func plain(err error) []error {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return []error{err}
	}
	var problems []error
	for _, e := range all.Errors {
		var parse env.ParseError
		if errors.As(e, &parse) {
			problems = append(problems, fmt.Errorf("%s: %w", variable(parse.Name), parse.Err))
			continue
		}
		problems = append(problems, e)
	}
	return problems
}

// expand makes of what may be written short what is meant.
func (c *Config) expand() {
	trim := func(list []string) []string {
		var out []string
		for _, s := range list {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	c.Inbound.Secrets, c.ZohoModules, c.Keys = trim(c.Inbound.Secrets), trim(c.ZohoModules), trim(c.Keys)
	c.Outbound.Events = append([]string{}, trim(c.Outbound.Events)...)
	switch strings.ToLower(strings.Join(c.Outbound.Events, ",")) {
	case "all":
		c.Outbound.Events = memory.Events()
	case "none":
		c.Outbound.Events = []string{}
	}
}

func (c Config) check() []error {
	var problems []error
	bad := func(problem string) { problems = append(problems, errors.New(problem)) }
	if c.DatabaseURL == "" {
		bad("DATABASE_URL is required, as postgres://user:password@host:5432/database")
	}
	if _, _, err := net.SplitHostPort(c.HTTPAddr); err != nil {
		bad("HTTP_ADDR: want host:port or :port")
	}
	if c.LogFormat != "json" && c.LogFormat != "text" {
		bad("LOG_FORMAT: want json or text")
	}
	if c.ShutdownTimeout <= 0 {
		bad("SHUTDOWN_TIMEOUT: want more than 0")
	}
	problems = append(problems, c.Inbound.check()...)
	problems = append(problems, c.Outbound.check()...)
	if d := c.OutboundPayloadRetention; d < 0 || (d > 0 && d < time.Hour) {
		bad("OUTBOUND_PAYLOAD_RETENTION: want at least an hour, or off")
	}
	problems = append(problems, c.Failing.check()...)
	problems = append(problems, c.Zoho.check()...)
	problems = append(problems, c.Sync.check()...)
	problems = append(problems, c.Memory.check()...)
	if c.AdminToken != "" && len(c.AdminToken) < 16 {
		bad("ADMIN_TOKEN: want at least 16 characters (`memrelay secret` makes one)")
	}
	for _, key := range c.Keys {
		if len(key) < 16 {
			bad("MEMRELAY_KEY: want keys of at least 16 characters (`memrelay secret` makes one)")
			break
		}
	}
	return problems
}

func (z Zoho) check() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if !slices.Contains(zoho.DataCenters(), z.DataCenter) {
		bad("ZOHO_DATA_CENTER: want one of %s", strings.Join(zoho.DataCenters(), " "))
	}
	if z.Edition != "production" && z.Edition != "sandbox" && z.Edition != "developer" {
		bad("ZOHO_EDITION: want production, sandbox or developer")
	}
	if (z.ClientID == "") != (z.ClientSecret == "") {
		bad("ZOHO_CLIENT_ID: it comes together with ZOHO_CLIENT_SECRET")
	}
	if z.RefreshToken != "" && !z.Connected() {
		bad("ZOHO_REFRESH_TOKEN: ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET are required with it")
	}
	for module, list := range z.Fields {
		// More would be left out without a word, by Zoho's limit for a list.
		if n := len(zoho.DefaultFields(module)); list.Beside && n+len(list.Names) > zoho.MaxFields {
			bad("ZOHO_FIELDS: %s: the usual fields are %d, so at most %d beside them", module, n, zoho.MaxFields-n)
			break
		}
	}
	for _, v := range []struct{ name, url string }{{"ZOHO_API_URL", z.APIURL}, {"ZOHO_ACCOUNTS_URL", z.AccountsURL}} {
		if v.url != "" && !isWebURL(v.url) {
			bad("%s: want an http or https URL", v.name)
		}
	}
	return problems
}

func (s Sync) check() []error {
	var problems []error
	if s.IncrementalEvery < 0 || (s.IncrementalEvery > 0 && s.IncrementalEvery < time.Minute) {
		problems = append(problems, errors.New("SYNC_INCREMENTAL_EVERY: want at least a minute, or off"))
	}
	if s.FullAt != "off" {
		if _, err := time.Parse("15:04", s.FullAt); err != nil {
			problems = append(problems, errors.New("SYNC_FULL_AT: want hours and minutes as 02:00, or off"))
		}
	}
	if _, err := time.LoadLocation(s.Timezone); err != nil {
		problems = append(problems, fmt.Errorf("SYNC_TIMEZONE: want a name as Europe/Berlin: %w", err))
	}
	return problems
}

func (c Inbound) check() []error {
	var problems []error
	bad := func(problem string) { problems = append(problems, errors.New(problem)) }
	if c.MaxQueueSize < 1 {
		bad("WEBHOOK_MAX_QUEUE_SIZE: want at least 1")
	}
	if c.SourceShare < 1 {
		bad("WEBHOOK_SOURCE_SHARE: want at least 1 event a second")
	}
	if c.MaxRetries < 1 || c.MaxRetries > 1000 {
		bad("WEBHOOK_MAX_RETRIES: want 1 to 1000 attempts, the first included")
	}
	if c.RetryDelayBase <= 0 {
		bad("WEBHOOK_RETRY_DELAY_BASE: want more than 0")
	}
	if c.Debounce < 0 {
		bad("WEBHOOK_DEBOUNCE: want 0 or more")
	}
	if c.GiveUpAfter <= 0 {
		bad("WEBHOOK_GIVE_UP_AFTER: want more than 0")
	}
	if c.EventTTL <= 0 {
		bad("WEBHOOK_EVENT_TTL: want more than 0")
	}
	if d := c.EventRetention; d < 0 || (d > 0 && d < max(time.Hour, c.EventTTL)) {
		bad("WEBHOOK_EVENT_RETENTION: want at least an hour and no less than WEBHOOK_EVENT_TTL, or off")
	}
	if c.BaseURL != "" {
		if u, err := url.Parse(c.BaseURL); err != nil || u.Host == "" || u.Scheme != "https" || u.RawQuery != "" || len(c.BaseURL) > 200 {
			bad("WEBHOOK_BASE_URL: want an https URL without a query, at most 200 characters")
		}
	}
	if c.BatchSize < 1 || c.BatchSize > 100 {
		bad("WEBHOOK_BATCH_SIZE: want 1 to 100, the most that one call to Zoho returns")
	}
	if c.BatchTimeout < 0 || c.BatchTimeout > 10*time.Second {
		bad("WEBHOOK_BATCH_TIMEOUT: want 0 to 10 seconds")
	}
	if c.NumWorkers < 1 || c.NumWorkers > 25 {
		bad("WEBHOOK_NUM_WORKERS: want 1 to 25, the most calls that Zoho allows at one time")
	}
	return problems
}

func (c Outbound) check() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.URL != "" && !isWebURL(c.URL) {
		bad("MEM0_WEBHOOK_URL: want an http or https URL")
	}
	if c.Timeout <= 0 || c.Timeout > LongestTimeout {
		bad("MEM0_WEBHOOK_TIMEOUT: want more than 0 and at most %s", LongestTimeout)
	}
	if c.RetryCount < 1 || c.RetryCount > 1000 {
		bad("MEM0_WEBHOOK_RETRY_COUNT: want 1 to 1000 attempts, the first included")
	}
	if c.RetryDelay <= 0 {
		bad("MEM0_WEBHOOK_RETRY_DELAY: want more than 0")
	}
	if strings.HasPrefix(c.Secret, "whpk_") || strings.HasPrefix(c.Secret, "whsk_") {
		bad("MEM0_WEBHOOK_SECRET: want a text or whsec_ and base64; this is a key of ed25519, by whose public half anybody could sign")
	}
	for _, e := range c.Events {
		if all := slices.Concat(memory.Events(), memory.OperationalEvents()); !slices.Contains(all, e) {
			bad("MEM0_WEBHOOK_EVENTS: %q is none of %s", e, strings.Join(all, " "))
		}
	}
	return problems
}

func (f Failing) check() []error {
	var problems []error
	bad := func(problem string) { problems = append(problems, errors.New(problem)) }
	if f.After < 0 {
		bad("OUTBOUND_FAILING_AFTER: want 0 or more")
	}
	if f.DisableAfter < 0 || (f.DisableAfter > 0 && f.DisableAfter < f.After) {
		bad("OUTBOUND_DISABLE_AFTER: want no less than OUTBOUND_FAILING_AFTER, or off")
	}
	if f.DisableFailures < 1 {
		bad("OUTBOUND_DISABLE_FAILURES: want at least 1")
	}
	if f.ProbeEvery < time.Second {
		bad("OUTBOUND_PROBE_EVERY: want at least a second")
	}
	return problems
}

func isWebURL(v string) bool {
	u, err := url.Parse(v)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// parseDuration reads seconds written bare, one of Go's durations, or "off" as 0.
func parseDuration(v string) (time.Duration, error) {
	if v == "off" {
		return 0, nil
	}
	if seconds, err := strconv.ParseFloat(v, 64); err == nil {
		// A year of seconds is a mistake, and more than a duration can hold is infinite.
		if seconds != seconds || seconds < -366*86400 || seconds > 366*86400 {
			return 0, errors.New("want at most a year")
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, errors.New(`want seconds, or a duration like "2m"`)
	}
	return d, nil
}

// parseList reads what stands between commas.
func parseList[T any](v string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	for part := range strings.SplitSeq(v, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		item, err := parse(part)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", part, err)
		}
		list = append(list, item)
	}
	return list, nil
}

// parseFields reads "Contacts=Last_Name,Email;Deals=+Shoe_Size".
func parseFields(v string) (map[string]FieldList, error) {
	lists := map[string]FieldList{}
	for part := range strings.SplitSeq(v, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		module, names, found := strings.Cut(part, "=")
		module = strings.TrimSpace(module)
		names, beside := strings.CutPrefix(strings.TrimSpace(names), "+")
		list, err := parseList(names, func(s string) (string, error) { return s, nil })
		switch {
		case !found || module == "" || err != nil || len(list) == 0:
			return nil, fmt.Errorf(`%q: want Module=Field,Field`, part)
		case len(list) > zoho.MaxFields:
			return nil, fmt.Errorf("%s: want at most %d fields", module, zoho.MaxFields)
		}
		lists[module] = FieldList{Names: list, Beside: beside}
	}
	return lists, nil
}

// parsePrefix reads a range of addresses; a single address is the range of itself.
func parsePrefix(v string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(v)
	if addr, e := netip.ParseAddr(v); e == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("want an address or a range like 10.0.0.0/8")
	case p.Addr().Is4In6():
		// Addresses of IPv4 are compared as such: a range written so would never be met.
		return netip.Prefix{}, errors.New("want an address of IPv4 written as such: 10.0.0.0/8 and not ::ffff:10.0.0.0/104")
	}
	return p.Masked(), nil
}

func parsePort(v string) (uint16, error) {
	port, err := strconv.ParseUint(v, 10, 16)
	if err != nil || port == 0 {
		return 0, errors.New("want a port, 1 to 65535")
	}
	return uint16(port), nil
}

// unknown are the variables that begin like ours and are none of them.
func (c Config) unknown(vars map[string]string) []string {
	known := map[string]bool{}
	for _, v := range variables(reflect.TypeOf(c), "") {
		known[v.name] = true
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		for _, prefix := range []string{"WEBHOOK_", "MEM0_", "ZOHO_", "MEMORY_", "COGNEE_", "SYNC_"} {
			if strings.HasPrefix(name, prefix) && !known[name] {
				names = append(names, name)
			}
		}
	}
	return names
}

type field struct{ name, path string }

// variables lists the names of the environment, with the path of the field each fills.
func variables(t reflect.Type, prefix string) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		if name := f.Tag.Get("env"); name != "" {
			all = append(all, field{name: prefix + name, path: f.Name})
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			all = append(all, variables(f.Type, prefix+f.Tag.Get("envPrefix"))...)
		}
	}
	return all
}

// variable returns the name of the environment for the name of a field. The
// library reports the latter, and people know the former.
func variable(fieldName string) string {
	for _, v := range variables(reflect.TypeFor[Config](), "") {
		if v.path == fieldName {
			return v.name
		}
	}
	return fieldName
}
