package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Bounds of what agents may store, in bytes unless said otherwise.
const (
	MaxContent       = 64 << 10       // a page or thirty of text; what is longer is stored in pieces
	MaxMetadata      = 16 << 10       // as JSON
	MaxMetadataDepth = 8              // objects and lists inside one another
	MaxName          = 255            // a user_id, a key, an end of a relationship
	MaxBatch         = 500            // items: one transaction
	MaxMessages      = MaxContent / 5 // turns of a conversation, a line each: "a: b"
	MaxPage          = 100            // memories in one answer
	MaxQuery         = 1000           // the text of a search
)

// Errors that callers branch on.
var (
	// ErrNotFound is returned for what is not there, and for what the caller may not see.
	ErrNotFound = errors.New("not found")
	// ErrReadOnly is returned for a change of what follows a record of the CRM.
	ErrReadOnly = errors.New("follows a record of the CRM: change it there")
	// ErrKeyReused is returned for an Idempotency-Key that came with another question.
	ErrKeyReused = errors.New("the Idempotency-Key was used for another request")
)

// Invalid says which field of a request is wrong, and how. Nothing was stored.
type Invalid struct {
	Field   string // as it is sent, "items[3].content"
	Problem string
}

// Error returns both.
func (e *Invalid) Error() string { return e.Field + ": " + e.Problem }

func invalid(field, format string, args ...any) error {
	return &Invalid{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// Kinds returns the kinds that agents may store.
func Kinds() []string {
	return []string{
		"fact", "preference", "correction", "conversation", "summary", "instruction",
		"note", "task", "activity", "account", "contact", "deal", "record",
	}
}

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// New is a memory to store: Content, or Messages, whose turns become its content.
type New struct {
	UserID    string         `json:"user_id"`
	Content   string         `json:"content"`
	Messages  []Message      `json:"messages,omitempty"`
	Kind      string         `json:"kind,omitempty"` // "": fact, or conversation for messages
	Metadata  map[string]any `json:"metadata,omitempty"`
	ExpiresAt *time.Time     `json:"expires_at,omitempty"` // nil: it stays
	// Origin and OriginID are set by whoever applies what another memory system told.
	Origin, OriginID string `json:"-"`
}

// Patch changes what is not nil. Metadata replaces all of it.
type Patch struct {
	Content  *string
	Metadata map[string]any
}

// Preference is something that a user likes.
type Preference struct {
	UserID     string `json:"user_id"`
	Preference string `json:"preference"`
	Category   string `json:"category,omitempty"`
}

// Correction is something that a user put right.
type Correction struct {
	UserID    string `json:"user_id"`
	Original  string `json:"original"`
	Corrected string `json:"corrected"`
	Context   string `json:"context,omitempty"`
}

// NewLink is a line of the graph to draw. One that is there already takes on the
// new confidence and metadata.
type NewLink struct {
	UserID       string         `json:"user_id"`
	Source       string         `json:"source"`
	Relationship string         `json:"relationship"`
	Target       string         `json:"target"`
	Confidence   *float64       `json:"confidence,omitempty"` // nil: 1
	Metadata     map[string]any `json:"metadata,omitempty"`
}

// row is the memory that n asks for, or an *Invalid.
func (n New) row(id uuid.UUID, now time.Time) (Row, error) {
	if err := CheckUserID(n.UserID); err != nil {
		return Row{}, err
	}
	return n.item(id, now)
}

// item is row without a look at the user.
func (n New) item(id uuid.UUID, now time.Time) (Row, error) {
	kind, content := n.Kind, n.Content
	if len(n.Messages) > 0 {
		if content != "" {
			return Row{}, invalid("content", "want either content or messages")
		}
		var err error
		if content, err = conversation(n.Messages); err != nil {
			return Row{}, err
		}
		if kind == "" {
			kind = "conversation"
		}
	}
	if kind == "" {
		kind = "fact"
	}
	if err := checkText("content", content, MaxContent); err != nil {
		return Row{}, err
	}
	if err := CheckKind(kind); err != nil {
		return Row{}, err
	}
	if err := CheckMetadata(n.Metadata); err != nil {
		return Row{}, err
	}
	if n.ExpiresAt != nil && (!n.ExpiresAt.After(now) || n.ExpiresAt.After(lastMoment())) {
		return Row{}, invalid("expires_at", "want a time to come, before the year 10000")
	}
	// To the microsecond, as a database keeps it.
	expires := inUTC(n.ExpiresAt)
	if expires != nil {
		*expires = expires.Truncate(time.Microsecond)
	}
	return Row{
		ID: id, UserID: n.UserID, Kind: kind, Content: content, Metadata: asStored(n.Metadata), AccountID: AccountOfUser(n.UserID),
		Origin: n.Origin, OriginID: n.OriginID, ExpiresAt: expires, CreatedAt: now, UpdatedAt: now,
	}, nil
}

// lastMoment is the last that RFC 3339 can write, in UTC as all our times are: the
// hours west of it have a later one.
func lastMoment() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// conversation writes turns as text, one a line.
func conversation(messages []Message) (string, error) {
	var lines []string
	for i, m := range messages {
		if err := checkText(fmt.Sprintf("messages[%d].role", i), m.Role, MaxName); err != nil {
			return "", err
		}
		if err := checkText(fmt.Sprintf("messages[%d].content", i), m.Content, MaxContent); err != nil {
			return "", err
		}
		lines = append(lines, m.Role+": "+m.Content)
	}
	text := strings.Join(lines, "\n")
	if len(text) > MaxContent {
		return "", invalid("messages", "want at most %d bytes in all", MaxContent)
	}
	return text, nil
}

// AccountOfUser is the account whose user this is, "" for other users.
func AccountOfUser(userID string) string {
	account, ok := strings.CutPrefix(userID, UserOfAccount(""))
	if !ok {
		return ""
	}
	return account
}

func (p Preference) new() (New, error) {
	if err := checkText("preference", p.Preference, MaxContent); err != nil {
		return New{}, err
	}
	n := New{UserID: p.UserID, Content: p.Preference, Kind: "preference"}
	if p.Category != "" {
		if err := checkText("category", p.Category, MaxName); err != nil {
			return New{}, err
		}
		n.Metadata = map[string]any{"category": p.Category}
	}
	return n, nil
}

func (c Correction) new() (New, error) {
	const most = 4 << 10 // all of it stands in the metadata, too
	for _, f := range []struct{ name, text string }{{"original", c.Original}, {"corrected", c.Corrected}} {
		if err := checkText(f.name, f.text, most); err != nil {
			return New{}, err
		}
	}
	n := New{
		UserID: c.UserID, Kind: "correction", Content: c.Corrected + " (not: " + c.Original + ")",
		Metadata: map[string]any{"original": c.Original, "corrected": c.Corrected},
	}
	if c.Context != "" {
		if err := checkText("context", c.Context, most); err != nil {
			return New{}, err
		}
		n.Content += "\n" + c.Context
		n.Metadata["context"] = c.Context
	}
	return n, nil
}

func (n NewLink) link(id uuid.UUID, now time.Time) (Link, error) {
	if err := CheckUserID(n.UserID); err != nil {
		return Link{}, err
	}
	for _, f := range []struct{ name, text string }{{"source", n.Source}, {"relationship", n.Relationship}, {"target", n.Target}} {
		if err := checkText(f.name, f.text, MaxName); err != nil {
			return Link{}, err
		}
	}
	confidence := 1.0
	if n.Confidence != nil {
		confidence = *n.Confidence
	}
	if !(confidence >= 0 && confidence <= 1) {
		return Link{}, invalid("confidence", "want 0 to 1")
	}
	if err := CheckMetadata(n.Metadata); err != nil {
		return Link{}, err
	}
	return Link{
		ID: id, UserID: n.UserID, Source: n.Source, Relationship: n.Relationship, Target: n.Target,
		Confidence: confidence, Metadata: asStored(n.Metadata), CreatedAt: now,
	}, nil
}

// CheckUserID returns an *Invalid for what cannot be a user_id.
func CheckUserID(userID string) error { return checkText("user_id", userID, MaxName) }

// CheckLimit returns an *Invalid for what is no size of a page.
func CheckLimit(limit int) error {
	if limit < 1 || limit > MaxPage {
		return invalid("limit", "want 1 to %d", MaxPage)
	}
	return nil
}

// CheckKind returns an *Invalid for what is no kind; "" is any.
func CheckKind(kind string) error {
	if kind != "" && !slices.Contains(Kinds(), kind) {
		return invalid("kind", "want one of %s", strings.Join(Kinds(), " "))
	}
	return nil
}

// checkText wants something to read, that Postgres can hold.
func checkText(field, text string, most int) error {
	switch {
	case strings.TrimSpace(text) == "":
		return invalid(field, "is required")
	case len(text) > most:
		return invalid(field, "want at most %d bytes", most)
	default:
		return checkStorable(field, text)
	}
}

// checkStorable refuses what a database cannot hold.
func checkStorable(field, text string) error {
	if strings.ContainsRune(text, 0) {
		return invalid(field, "must not contain a NUL byte")
	}
	if !utf8.ValidString(text) {
		return invalid(field, "want UTF-8")
	}
	return nil
}

// CheckMetadata returns an *Invalid for metadata that is too large or too deep, or
// that a database cannot hold. nil is fine.
func CheckMetadata(metadata map[string]any) error {
	if err := checkValue(metadata, 1); err != nil {
		return err
	}
	encoded, err := json.Marshal(metadata)
	if err != nil {
		return invalid("metadata", "want a JSON object")
	}
	if len(encoded) > MaxMetadata {
		return invalid("metadata", "want at most %d bytes", MaxMetadata)
	}
	return nil
}

func checkValue(value any, depth int) error {
	if depth > MaxMetadataDepth {
		return invalid("metadata", "want at most %d levels", MaxMetadataDepth)
	}
	switch v := value.(type) {
	case string:
		return checkStorable("metadata", v)
	case json.Number:
		return checkNumber(v)
	case []any:
		for _, item := range v {
			if err := checkValue(item, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for key, item := range v {
			if len(key) > MaxName {
				return invalid("metadata", "want keys of at most %d bytes", MaxName)
			}
			if err := checkStorable("metadata", key); err != nil {
				return err
			}
			if err := checkValue(item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// asStored is metadata as a database gives it back, numbers without exponents, so
// that the first answer and later ones are the same. The original is left alone.
func asStored(metadata map[string]any) map[string]any {
	stored := make(map[string]any, len(metadata))
	for key, value := range metadata {
		stored[key] = valueAsStored(value)
	}
	return stored
}

func valueAsStored(value any) any {
	switch v := value.(type) {
	case map[string]any:
		return asStored(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = valueAsStored(v[i])
		}
		return list
	case json.Number:
		return json.Number(number(v.String()))
	default:
		return value
	}
}

// checkNumber refuses numbers that jsonb would write out in full, a megabyte long, or not at all.
func checkNumber(n json.Number) error {
	if len(n) > 100 || len(number(n.String())) > 400 || strings.ContainsAny(number(n.String()), "eE") {
		return invalid("metadata", "want numbers of at most 100 digits")
	}
	return nil
}
