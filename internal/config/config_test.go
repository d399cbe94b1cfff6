package config_test

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/memory"
)

const database = "DATABASE_URL=postgres://memrelay:hunter2@db:5432/memrelay"

// read reads settings that must be right.
func read(t *testing.T, environ ...string) config.Config {
	t.Helper()
	c, _, err := config.FromEnv(append([]string{database}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	want := config.Config{
		DatabaseURL:     "postgres://memrelay:hunter2@db:5432/memrelay",
		HTTPAddr:        ":8000",
		LogLevel:        slog.LevelInfo,
		LogFormat:       "json",
		ShutdownTimeout: 20 * time.Second,
		Inbound: config.Inbound{
			Enabled: true, MaxQueueSize: 10000, SourceShare: 100, MaxRetries: 3,
			RetryDelayBase: 2 * time.Second, Debounce: 2 * time.Second, GiveUpAfter: 24 * time.Hour,
			EventRetention: 90 * 24 * time.Hour, EventTTL: time.Hour,
			BatchSize: 10, BatchTimeout: 5 * time.Second, NumWorkers: 3,
		},
		Outbound: config.Outbound{
			Timeout: 30 * time.Second, RetryCount: 3, RetryDelay: time.Second, Events: memory.Events(),
		},
		Failing:                  config.Failing{After: 5 * time.Minute, DisableAfter: 120 * time.Hour, DisableFailures: 10, ProbeEvery: time.Hour},
		BotVersion:               "1.0.0",
		OutboundPayloadRetention: 90 * 24 * time.Hour,
		ZohoModules:              []string{"Accounts", "Contacts", "Deals", "Tasks", "Notes", "Activities", "Events", "Calls", "Meetings"},
		Zoho:                     config.Zoho{DataCenter: "us", Edition: "production"},
		Sync:                     config.Sync{IncrementalEvery: time.Hour, FullAt: "02:00", Timezone: "UTC"},
		Memory: config.Memory{
			Backend: "postgres", Ingest: "log", Language: "english", CogneeDataset: "memrelay",
			Mem0URL: "https://api.mem0.ai", Mem0Mode: "auto", EmbedderModel: "text-embedding-3-small",
		},
	}
	compare := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, read(t), compare); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	// A line without a value in an env file is the same as no line.
	empty := read(t, "HTTP_ADDR=", "WEBHOOK_MAX_RETRIES=  ", "WEBHOOK_TOKEN=", "MEM0_WEBHOOK_EVENTS=\t", "ZOHO_MODULES=", "OUTBOUND_PORTS=")
	if diff := cmp.Diff(want, empty, compare); diff != "" {
		t.Errorf("empty values (-want +got):\n%s", diff)
	}
}

func TestEverySettingIsRead(t *testing.T) {
	t.Parallel()
	got := read(t,
		"HTTP_ADDR=127.0.0.1:9000", "LOG_LEVEL=debug", "LOG_FORMAT=text", "SHUTDOWN_TIMEOUT=5",
		"WEBHOOK_ENABLED=false", "WEBHOOK_SECRET= new , old ", "WEBHOOK_TOKEN=token", "WEBHOOK_MAX_QUEUE_SIZE=20000", "WEBHOOK_SOURCE_SHARE=50",
		"WEBHOOK_MAX_RETRIES=5", "WEBHOOK_RETRY_DELAY_BASE=0.5", "WEBHOOK_DEBOUNCE=0", "WEBHOOK_GIVE_UP_AFTER=1h30m",
		"WEBHOOK_EVENT_RETENTION=off", "WEBHOOK_EVENT_TTL=7200",
		"MEM0_WEBHOOK_URL=https://example.com/in?a=b", "MEM0_WEBHOOK_TOKEN=t", "MEM0_WEBHOOK_SECRET=whsec_x", "MEM0_WEBHOOK_TIMEOUT=40",
		"MEM0_WEBHOOK_RETRY_COUNT=1000", "MEM0_WEBHOOK_RETRY_DELAY=250ms", "MEM0_WEBHOOK_EVENTS=memory_added, memory_deleted",
		"OUTBOUND_FAILING_AFTER=1m", "OUTBOUND_DISABLE_AFTER=off", "OUTBOUND_DISABLE_FAILURES=3", "OUTBOUND_PROBE_EVERY=10",
		"BOT_VERSION=2.1", "OUTBOUND_ALLOW_PRIVATE=10.1.2.3/8, 127.0.0.1,::1,fd00::/8", "OUTBOUND_PORTS=8443, 9443", "OUTBOUND_PAYLOAD_RETENTION=off", "ZOHO_MODULES= Accounts ,Leads,",
		"WEBHOOK_BASE_URL=https://relay.example.com/in", "WEBHOOK_BATCH_SIZE=100", "WEBHOOK_BATCH_TIMEOUT=250ms", "WEBHOOK_NUM_WORKERS=25",
		"WEBHOOK_PAYMENTS_SECRET=p", "WEBHOOK_BILLING_SECRET=b", "WEBHOOK_SIGN_SECRET=s", "WEBHOOK_MAIL_SECRET=m",
		"ZOHO_DATA_CENTER=eu", "ZOHO_EDITION=sandbox", "ZOHO_CLIENT_ID=id", "ZOHO_CLIENT_SECRET=hush", "ZOHO_REFRESH_TOKEN=1000.r",
		"ZOHO_API_URL=http://localhost:1", "ZOHO_ACCOUNTS_URL=https://localhost:2", "ZOHO_FIELDS=Contacts = Last_Name, Email ; Deals=+Shoe_Size;",
		"SYNC_INCREMENTAL_EVERY=off", "SYNC_FULL_AT=23:59", "SYNC_TIMEZONE=Europe/Berlin", "MEMRELAY_KEY=the-new-key-0123456789, the-old-key-0123456789",
		"MEMORY_BACKEND=cognee", "MEMORY_INGEST=apply", "MEMORY_LANGUAGE=german", "COGNEE_URL=http://localhost:3", "COGNEE_API_KEY=ck", "COGNEE_DATASET=crm",
		"MEM0_URL=http://localhost:4", "MEM0_API_KEY=mk", "MEM0_MODE=server",
		"MEMORY_EMBEDDER_URL=http://localhost:5/v1", "MEMORY_EMBEDDER_API_KEY=ek", "MEMORY_EMBEDDER_MODEL=small", "ADMIN_TOKEN=0123456789abcdef",
	)
	want := config.Config{
		DatabaseURL: "postgres://memrelay:hunter2@db:5432/memrelay",
		HTTPAddr:    "127.0.0.1:9000", LogLevel: slog.LevelDebug, LogFormat: "text", ShutdownTimeout: 5 * time.Second,
		Inbound: config.Inbound{
			Enabled: false, Secrets: []string{"new", "old"}, Token: "token", MaxQueueSize: 20000, SourceShare: 50, MaxRetries: 5,
			RetryDelayBase: 500 * time.Millisecond, Debounce: 0, GiveUpAfter: 90 * time.Minute,
			EventRetention: 0, EventTTL: 2 * time.Hour,
			BaseURL: "https://relay.example.com/in", BatchSize: 100, BatchTimeout: 250 * time.Millisecond, NumWorkers: 25,
			Products: config.Products{Payments: "p", Billing: "b", Sign: "s", Mail: "m"},
		},
		Outbound: config.Outbound{
			URL: "https://example.com/in?a=b", Token: "t", Secret: "whsec_x", Timeout: 40 * time.Second,
			RetryCount: 1000, RetryDelay: 250 * time.Millisecond, Events: []string{"memory_added", "memory_deleted"},
		},
		Failing:    config.Failing{After: time.Minute, DisableAfter: 0, DisableFailures: 3, ProbeEvery: 10 * time.Second},
		BotVersion: "2.1",
		OutboundAllowPrivate: []netip.Prefix{
			// A range begins where its bits say; a single address is the range of itself.
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fd00::/8"),
		},
		OutboundPorts: []uint16{8443, 9443},
		ZohoModules:   []string{"Accounts", "Leads"},
		Zoho: config.Zoho{
			DataCenter: "eu", Edition: "sandbox", ClientID: "id", ClientSecret: "hush", RefreshToken: "1000.r",
			APIURL: "http://localhost:1", AccountsURL: "https://localhost:2",
			Fields: map[string]config.FieldList{
				"Contacts": {Names: []string{"Last_Name", "Email"}}, "Deals": {Names: []string{"Shoe_Size"}, Beside: true},
			},
		},
		Sync: config.Sync{IncrementalEvery: 0, FullAt: "23:59", Timezone: "Europe/Berlin"},
		Memory: config.Memory{
			Backend: "cognee", Ingest: "apply", Language: "german", CogneeURL: "http://localhost:3", CogneeAPIKey: "ck", CogneeDataset: "crm",
			Mem0URL: "http://localhost:4", Mem0APIKey: "mk", Mem0Mode: "server",
			EmbedderURL: "http://localhost:5/v1", EmbedderAPIKey: "ek", EmbedderModel: "small",
		},
		AdminToken: "0123456789abcdef",
		Keys:       []string{"the-new-key-0123456789", "the-old-key-0123456789"},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestTimesAreBareSecondsOrDurations(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		value string
		want  time.Duration
		err   string
	}{
		{"30", 30 * time.Second, ""},
		{"1.0", time.Second, ""},
		{"0.05", 50 * time.Millisecond, ""},
		{"1e1", 10 * time.Second, ""},
		{"39.999s", 39999 * time.Millisecond, ""},
		{"1500ms", 1500 * time.Millisecond, ""},
		{"0m30s", 30 * time.Second, ""},
		{"soon", 0, `want seconds, or a duration like "2m"`},
		{"30 s", 0, `want seconds, or a duration like "2m"`},
		{"1e400", 0, `want seconds, or a duration like "2m"`},
		{"inf", 0, "want at most a year"},
		{"NaN", 0, "want at most a year"},
		{"1e18", 0, "want at most a year"},
		{"-1e18", 0, "want at most a year"},
		{"-1", 0, "want more than 0 and at most 40s"},
		{"41", 0, "want more than 0 and at most 40s"},
		{"0", 0, "want more than 0 and at most 40s"},
	} {
		t.Run(tc.value, func(t *testing.T) {
			t.Parallel()
			c, _, err := config.FromEnv([]string{database, "MEM0_WEBHOOK_TIMEOUT=" + tc.value})
			if tc.err == "" {
				if err != nil || c.Outbound.Timeout != tc.want {
					t.Errorf("got %s, %v, want %s", c.Outbound.Timeout, err, tc.want)
				}
				return
			}
			if err == nil || err.Error() != "MEM0_WEBHOOK_TIMEOUT: "+tc.err {
				t.Errorf("error %v, want MEM0_WEBHOOK_TIMEOUT: %s", err, tc.err)
			}
		})
	}
}

func TestEventsMayBeAllOrNone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		value string
		want  []string
	}{
		{"all", memory.Events()},
		{"ALL", memory.Events()},
		{" all ", memory.Events()},
		{"all,", memory.Events()},
		{"none", []string{}},
		{"None", []string{}},
		{"memory_error,", []string{"memory_error"}},
	} {
		t.Run(tc.value, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, read(t, "MEM0_WEBHOOK_EVENTS="+tc.value).Outbound.Events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// One message tells everything that is wrong, each once, by the names that people
// know, and gives no secret away.
func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	t.Parallel()
	secrets := []string{"hunter2", "sesame", "swordfish", "whsec_tuna", "1000.carp", "pike"}
	_, _, err := config.FromEnv([]string{
		"HTTP_ADDR=8000", "LOG_LEVEL=loud", "LOG_FORMAT=xml", "SHUTDOWN_TIMEOUT=0",
		"WEBHOOK_ENABLED=maybe", "WEBHOOK_SECRET=hunter2", "WEBHOOK_TOKEN=sesame", "WEBHOOK_MAX_QUEUE_SIZE=0", "WEBHOOK_MAX_RETRIES=many",
		"WEBHOOK_RETRY_DELAY_BASE=-1", "WEBHOOK_DEBOUNCE=-1s", "WEBHOOK_GIVE_UP_AFTER=soon", "WEBHOOK_EVENT_RETENTION=59m", "WEBHOOK_EVENT_TTL=0",
		"MEM0_WEBHOOK_URL=ftp://user:swordfish@example.com", "MEM0_WEBHOOK_SECRET=whsec_tuna", "MEM0_WEBHOOK_TOKEN=sesame", "MEM0_WEBHOOK_TIMEOUT=1m",
		"MEM0_WEBHOOK_RETRY_COUNT=1001", "MEM0_WEBHOOK_RETRY_DELAY=0", "MEM0_WEBHOOK_EVENTS=memory_added,memory_forgotten",
		"OUTBOUND_ALLOW_PRIVATE=10.0.0.0/33", "OUTBOUND_PORTS=70000", "OUTBOUND_PAYLOAD_RETENTION=59m",
		"WEBHOOK_BASE_URL=http://relay", "WEBHOOK_SOURCE_SHARE=0", "WEBHOOK_BATCH_SIZE=101", "WEBHOOK_BATCH_TIMEOUT=1m", "WEBHOOK_NUM_WORKERS=0",
		"ZOHO_DATA_CENTER=mars", "ZOHO_EDITION=cheap", "ZOHO_CLIENT_SECRET=pike", "ZOHO_REFRESH_TOKEN=1000.carp", "ZOHO_API_URL=zoho", "ZOHO_ACCOUNTS_URL=ftp://x",
		"ZOHO_FIELDS=Contacts", "SYNC_INCREMENTAL_EVERY=1s", "SYNC_FULL_AT=noon", "SYNC_TIMEZONE=Mars/Olympus", "MEMRELAY_KEY=pike",
	})
	if err == nil {
		t.Fatal("no error")
	}
	var names []string
	for line := range strings.Lines(err.Error()) {
		name, _, _ := strings.Cut(line, ":")
		if strings.HasPrefix(line, "DATABASE_URL is required, ") {
			name = "DATABASE_URL"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		"DATABASE_URL", "HTTP_ADDR", "LOG_FORMAT", "LOG_LEVEL",
		"MEM0_WEBHOOK_EVENTS", "MEM0_WEBHOOK_RETRY_COUNT", "MEM0_WEBHOOK_RETRY_DELAY", "MEM0_WEBHOOK_TIMEOUT", "MEM0_WEBHOOK_URL", "MEMRELAY_KEY",
		"OUTBOUND_ALLOW_PRIVATE", "OUTBOUND_PAYLOAD_RETENTION", "OUTBOUND_PORTS", "SHUTDOWN_TIMEOUT", "SYNC_FULL_AT", "SYNC_INCREMENTAL_EVERY", "SYNC_TIMEZONE",
		"WEBHOOK_BASE_URL", "WEBHOOK_BATCH_SIZE", "WEBHOOK_BATCH_TIMEOUT", "WEBHOOK_DEBOUNCE", "WEBHOOK_ENABLED", "WEBHOOK_EVENT_RETENTION", "WEBHOOK_EVENT_TTL", "WEBHOOK_GIVE_UP_AFTER", "WEBHOOK_MAX_QUEUE_SIZE", "WEBHOOK_MAX_RETRIES", "WEBHOOK_NUM_WORKERS", "WEBHOOK_RETRY_DELAY_BASE", "WEBHOOK_SOURCE_SHARE",
		"ZOHO_ACCOUNTS_URL", "ZOHO_API_URL", "ZOHO_CLIENT_ID", "ZOHO_DATA_CENTER", "ZOHO_EDITION", "ZOHO_FIELDS", "ZOHO_REFRESH_TOKEN",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("names (-want +got):\n%s\nin:\n%v", diff, err)
	}
	for _, secret := range secrets {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds %s:\n%v", secret, err)
		}
	}
}

func TestOneMistakeIsOneLine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, setting, want string }{
		{"an address without a port", "HTTP_ADDR=localhost", "HTTP_ADDR: want host:port or :port"},
		{"a format nobody writes", "LOG_FORMAT=JSON", "LOG_FORMAT: want json or text"},
		{"a stop without time", "SHUTDOWN_TIMEOUT=0", "SHUTDOWN_TIMEOUT: want more than 0"},
		{"no room at all", "WEBHOOK_MAX_QUEUE_SIZE=0", "WEBHOOK_MAX_QUEUE_SIZE: want at least 1"},
		{"no share", "WEBHOOK_SOURCE_SHARE=0", "WEBHOOK_SOURCE_SHARE: want at least 1 event a second"},
		{"no attempt", "WEBHOOK_MAX_RETRIES=0", "WEBHOOK_MAX_RETRIES: want 1 to 1000 attempts, the first included"},
		{"too many attempts", "WEBHOOK_MAX_RETRIES=1001", "WEBHOOK_MAX_RETRIES: want 1 to 1000 attempts, the first included"},
		{"no wait", "WEBHOOK_RETRY_DELAY_BASE=0", "WEBHOOK_RETRY_DELAY_BASE: want more than 0"},
		{"a negative wait", "WEBHOOK_DEBOUNCE=-2", "WEBHOOK_DEBOUNCE: want 0 or more"},
		{"never giving up", "WEBHOOK_GIVE_UP_AFTER=0", "WEBHOOK_GIVE_UP_AFTER: want more than 0"},
		{"events that are gone at once", "WEBHOOK_EVENT_RETENTION=3599", "WEBHOOK_EVENT_RETENTION: want at least an hour and no less than WEBHOOK_EVENT_TTL, or off"},
		{"events that were never there", "WEBHOOK_EVENT_RETENTION=-1h", "WEBHOOK_EVENT_RETENTION: want at least an hour and no less than WEBHOOK_EVENT_TTL, or off"},
		{"repeats that outlive what they repeat", "WEBHOOK_EVENT_TTL=2161h", "WEBHOOK_EVENT_RETENTION: want at least an hour and no less than WEBHOOK_EVENT_TTL, or off"},
		{"repeats that nobody recognises", "WEBHOOK_EVENT_TTL=off", "WEBHOOK_EVENT_TTL: want more than 0"},
		{"a URL without a host", "MEM0_WEBHOOK_URL=https:///in", "MEM0_WEBHOOK_URL: want an http or https URL"},
		{"a URL that is none", "MEM0_WEBHOOK_URL=http://[::1", "MEM0_WEBHOOK_URL: want an http or https URL"},
		{"no delivery", "MEM0_WEBHOOK_RETRY_COUNT=0", "MEM0_WEBHOOK_RETRY_COUNT: want 1 to 1000 attempts, the first included"},
		{"a key that is public", "MEM0_WEBHOOK_SECRET=whpk_x", "MEM0_WEBHOOK_SECRET: want a text or whsec_ and base64; this is a key of ed25519, by whose public half anybody could sign"},
		{"no wait between deliveries", "MEM0_WEBHOOK_RETRY_DELAY=-0.5", "MEM0_WEBHOOK_RETRY_DELAY: want more than 0"},
		{
			"an event that is none", "MEM0_WEBHOOK_EVENTS=memory_eaten",
			`MEM0_WEBHOOK_EVENTS: "memory_eaten" is none of ` + strings.Join(slices.Concat(memory.Events(), memory.OperationalEvents()), " "),
		},
		{"a range that is none", "OUTBOUND_ALLOW_PRIVATE=localhost", `OUTBOUND_ALLOW_PRIVATE: "localhost": want an address or a range like 10.0.0.0/8`},
		{"one of several ranges that is none", "OUTBOUND_ALLOW_PRIVATE=::1, 10.0.0.0/33", `OUTBOUND_ALLOW_PRIVATE: "10.0.0.0/33": want an address or a range like 10.0.0.0/8`},
		{"an address with a zone", "OUTBOUND_ALLOW_PRIVATE=fe80::1%eth0/64", `OUTBOUND_ALLOW_PRIVATE: "fe80::1%eth0/64": want an address or a range like 10.0.0.0/8`},
		{"a range of IPv4 in IPv6", "TRUSTED_PROXIES=::1, ::ffff:10.0.0.0/104", `TRUSTED_PROXIES: "::ffff:10.0.0.0/104": want an address of IPv4 written as such: 10.0.0.0/8 and not ::ffff:10.0.0.0/104`},
		{"an address of IPv4 in IPv6", "TRUSTED_PROXIES=::ffff:10.0.0.1", `TRUSTED_PROXIES: "::ffff:10.0.0.1": want an address of IPv4 written as such: 10.0.0.0/8 and not ::ffff:10.0.0.0/104`},
		{"a port that is none", "OUTBOUND_PORTS=443,https", `OUTBOUND_PORTS: "https": want a port, 1 to 65535`},
		{"a port beyond the last", "OUTBOUND_PORTS=65536", `OUTBOUND_PORTS: "65536": want a port, 1 to 65535`},
		{"a port before the first", "OUTBOUND_PORTS=0", `OUTBOUND_PORTS: "0": want a port, 1 to 65535`},
		{"payloads that are gone at once", "OUTBOUND_PAYLOAD_RETENTION=3599", "OUTBOUND_PAYLOAD_RETENTION: want at least an hour, or off"},
		{"payloads that were never there", "OUTBOUND_PAYLOAD_RETENTION=-1h", "OUTBOUND_PAYLOAD_RETENTION: want at least an hour, or off"},
		{"a duration that is none", "WEBHOOK_DEBOUNCE=2 s", `WEBHOOK_DEBOUNCE: want seconds, or a duration like "2m"`},
		{
			"more fields than Zoho gives", "ZOHO_FIELDS=Contacts=+" + strings.Repeat("A,", 20),
			"ZOHO_FIELDS: Contacts: the usual fields are 41, so at most 9 beside them",
		},
		{"a module without fields", "ZOHO_FIELDS=Contacts=", `ZOHO_FIELDS: "Contacts=": want Module=Field,Field`},
		{"a moment that is none", "SYNC_FULL_AT=24:00", "SYNC_FULL_AT: want hours and minutes as 02:00, or off"},
		{"a sync each second", "SYNC_INCREMENTAL_EVERY=1", "SYNC_INCREMENTAL_EVERY: want at least a minute, or off"},
		{"a client without its secret", "ZOHO_CLIENT_ID=1000.X", "ZOHO_CLIENT_ID: it comes together with ZOHO_CLIENT_SECRET"},
		{"a number that is none", "WEBHOOK_MAX_RETRIES=three", `WEBHOOK_MAX_RETRIES: strconv.ParseInt: parsing "three": invalid syntax`},
		{"neither yes nor no", "WEBHOOK_ENABLED=maybe", `WEBHOOK_ENABLED: strconv.ParseBool: parsing "maybe": invalid syntax`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := config.FromEnv([]string{database, tc.setting})
			if err == nil || err.Error() != tc.want {
				t.Errorf("error:\n%v\nwant:\n%s", err, tc.want)
			}
		})
	}
}

func TestUnknownNamesAreListed(t *testing.T) {
	t.Parallel()
	_, unknown, err := config.FromEnv([]string{
		database, "ZOHO_MODULE=Leads", "WEBHOOK_SECRETS=x", "MEM0_WEBHOOK_URLS=x", "MEM0_KEY=x", "MEMORY_BACKENDS=x",
		"PATH=/bin", "WEBHOOK=x", "MY_WEBHOOK_SECRET=x", "HTTP_PROXY=x", "WEBHOOK_TYPO=", "WEBHOOK_SECRET=known", "webhook_token=x",
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"MEM0_KEY", "MEM0_WEBHOOK_URLS", "MEMORY_BACKENDS", "WEBHOOK_SECRETS", "ZOHO_MODULE"}, unknown); diff != "" {
		t.Errorf("unknown names (-want +got):\n%s", diff)
	}
}

func TestServingNeedsASecret(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		environ []string
		ok      bool
	}{
		{"without one", nil, false},
		{"a list of nothing", []string{"WEBHOOK_SECRET= , "}, false},
		{"with one", []string{"WEBHOOK_SECRET=x"}, true},
		{"the inbound routes are closed", []string{"WEBHOOK_ENABLED=false"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := read(t, tc.environ...).CheckServe()
			if (err == nil) != tc.ok {
				t.Errorf("error %v", err)
			}
			if err != nil && !strings.HasPrefix(err.Error(), "WEBHOOK_SECRET is required to serve") {
				t.Errorf("error %v", err)
			}
		})
	}
}
