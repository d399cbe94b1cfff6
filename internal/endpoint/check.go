package endpoint

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/memrelay/memrelay/internal/memory"
)

const (
	mostURL         = 2000
	mostDescription = 1000 // bytes, as of a reason
	mostUserIDs     = 1000
	mostUserID      = 255 // what the memory takes for a user_id, in bytes
)

// What stands in a log line, in a command and in a URL without quotes.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

func readName(name string) (string, string) {
	switch {
	case !nameForm.MatchString(name):
		return "", "want 1 to 63 of a-z, 0-9, dots, dashes and underscores, the first a letter or digit"
	case name == EnvName:
		return "", "env is the name of the endpoint that the settings describe"
	case uuid.Validate(name) == nil:
		return "", "a name that looks like an id could be taken for another endpoint's"
	}
	return name, ""
}

func (s *Store) readURL(raw string) (string, string) {
	if len(raw) > mostURL {
		return "", fmt.Sprintf("is %d bytes long, want at most %d", len(raw), mostURL)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || !utf8.ValidString(raw):
		return "", "want a URL"
	case u.Scheme != "https" && u.Scheme != "http":
		return "", "want an https or http URL"
	case u.Host == "":
		return "", "want a URL with a host"
	case u.User != nil:
		return "", "want it without a user or password: auth has room for them"
	}
	if err := s.checkURL(raw); err != nil {
		return "", err.Error()
	}
	return raw, ""
}

func isHTTPS(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Scheme == "https"
}

// origin is whom a URL leads to: scheme, host and port.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// withoutQuery is a URL as it is told to logs and the audit: its query may be a secret.
func withoutQuery(raw string) string {
	before, _, found := strings.Cut(raw, "?")
	if found {
		return before + "?…"
	}
	return before
}

func readDescription(text string) (string, string) {
	return text, textProblem(text, mostDescription)
}

// textProblem says what is wrong with a text for people, of so many bytes at most.
func textProblem(text string, most int) string {
	// Operators see it on their terminals.
	steers := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if len(text) > most || !utf8.ValidString(text) || strings.ContainsFunc(text, steers) {
		return fmt.Sprintf("want a text of at most %d bytes, without control characters", most)
	}
	return ""
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// quote is a value as an error repeats it.
func quote(value string) string {
	if len(value) > 64 {
		value = value[:64] + "…"
	}
	return fmt.Sprintf("%q", value)
}

func readEvents(events []string) ([]string, string) {
	known := slices.Concat([]string{AllEvents}, memory.Events(), memory.OperationalEvents())
	if len(events) == 0 {
		return nil, "want at least one event, or *"
	}
	for _, e := range events {
		if !slices.Contains(known, e) {
			return nil, fmt.Sprintf("%s is none of %s", quote(e), strings.Join(known, " "))
		}
	}
	return distinct(events), ""
}

// distinct returns the values in their order, each once.
func distinct(values []string) []string {
	once := []string{}
	for _, v := range values {
		if !slices.Contains(once, v) {
			once = append(once, v)
		}
	}
	return once
}

func readUserIDs(ids []string) ([]string, string) {
	if len(ids) > mostUserIDs {
		return nil, fmt.Sprintf("are %d, want at most %d", len(ids), mostUserIDs)
	}
	for _, id := range ids {
		if strings.TrimSpace(id) == "" || textProblem(id, mostUserID) != "" {
			return nil, fmt.Sprintf("want user ids of 1 to %d bytes", mostUserID)
		}
	}
	return distinct(ids), ""
}

func readForm(form string) (string, string) {
	if form != FormMemrelay && form != FormStandard {
		return "", fmt.Sprintf("%s is neither %s nor %s", quote(form), FormMemrelay, FormStandard)
	}
	return form, ""
}

func readRate(perSecond float64) (*float32, string) {
	if perSecond == 0 {
		return nil, ""
	}
	if !(perSecond >= leastRate && perSecond <= mostRate) {
		return nil, fmt.Sprintf("want 0 for none, or %v to %d requests a second", leastRate, mostRate)
	}
	return new(float32(perSecond)), ""
}

func readSchedule(waits []Duration) ([]time.Duration, string) {
	if len(waits) > mostRetries {
		return nil, fmt.Sprintf("has %d waits, want at most %d", len(waits), mostRetries)
	}
	schedule := []time.Duration{}
	for _, w := range waits {
		wait, problem := lasting(time.Millisecond, LongestRetry)(w)
		if problem != "" {
			return nil, problem
		}
		schedule = append(schedule, wait)
	}
	return schedule, ""
}

// within reads a whole number between two others.
func within(least, most int) func(int) (int32, string) {
	return func(n int) (int32, string) {
		if n < least || n > most {
			return 0, fmt.Sprintf("want %d to %d", least, most)
		}
		return int32(n), ""
	}
}

// lasting reads a duration between two others. Postgres keeps microseconds.
func lasting(least, most time.Duration) func(Duration) (time.Duration, string) {
	return func(d Duration) (time.Duration, string) {
		if time.Duration(d) < least || time.Duration(d) > most {
			return 0, fmt.Sprintf("want %s to %s", least, most)
		}
		return time.Duration(d).Round(time.Microsecond), ""
	}
}
