package inbound

import (
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/respond"
)

// SourceMemory is the source of events that came through /webhooks/memory.
const SourceMemory = "memory"

// MemorySettings are what the door for other memory systems checks senders by.
// With neither Token nor a secret it is closed: nobody can prove anything, 401.
type MemorySettings struct {
	Token   string   // "": not asked for
	Secrets []string // any of them may have signed; none, or only "": no signature is asked for
	// Apply is that what is told becomes part of the memory: its events get a job.
	// Otherwise they are kept on record and nothing follows.
	Apply       bool
	MaxBacklog  int64 // as in Settings
	BodyTimeout time.Duration
	Now         func() time.Time // the clock, which signed timestamps are held against
}

// Memory is the door of POST /webhooks/memory, for memory systems that tell what
// changed there: another memrelay, anything that sends Standard Webhooks, mem0. A
// body is one event of the source memory.
type Memory struct {
	ingester *Ingester
	counts   *counter.Set
	settings MemorySettings
}

// NewMemory makes the door.
func NewMemory(ingester *Ingester, counts *counter.Set, s MemorySettings) *Memory {
	return &Memory{ingester: ingester, counts: counts, settings: s}
}

// The actions of a MemoryAnswer.
const (
	ActionLogged = "memory_logged" // kept on record, and that is all
	ActionQueued = "memory_queued" // kept on record, with a job that applies it
)

// MemoryAnswer is the body of a 200.
type MemoryAnswer struct {
	Status string `json:"status"`           // processed, or duplicate
	Action string `json:"action,omitempty"` // what was done with a new one
}

// ServeHTTP answers 200 once the event is stored, and a problem when it was not.
func (m *Memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := m.receive(w, r)
	if err != nil {
		countRefusal(m.counts, err)
		respond.Problem(w, r, err)
		return
	}
	_ = respond.JSON(w, http.StatusOK, answer)
}

// receive checks in this order: size and type, for anyone; the proof of the
// sender; the shape. Whoever is not proven learns nothing of what was wrong inside.
func (m *Memory) receive(w http.ResponseWriter, r *http.Request) (*MemoryAnswer, error) {
	body, err := readBody(w, r, m.settings.BodyTimeout)
	if err != nil {
		return nil, err
	}
	contentType := r.Header.Get("Content-Type")
	if !isJSON(contentType) {
		return nil, &respond.Error{Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Message: "Send application/json."}
	}
	if why := m.settings.prove(r.Header, body); why != nil {
		return nil, &respond.Error{
			Status: http.StatusUnauthorized, Code: "unauthorized", Err: why,
			Message: "Nothing here proves who sent this: the token or the signature is missing or wrong.",
		}
	}
	told, err := parseTold(body)
	if err != nil {
		return nil, problemOf(err)
	}
	return m.store(r, contentType, body, told)
}

// isJSON accepts JSON, and no type at all: what mem0 sends is not documented.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json"))
}

func (m *Memory) store(r *http.Request, contentType string, body []byte, t told) (*MemoryAnswer, error) {
	d := Delivery{
		Source: SourceMemory, AnyModule: m.settings.Apply, Logged: !m.settings.Apply, Digest: digest(body),
		ContentType: storedText(contentType), Headers: kept(r.Header), Body: body,
	}
	eventID, err := toldID(r.Header, t, d.Digest)
	if err != nil {
		return nil, problemOf(err)
	}
	recordID := t.memoryID
	if recordID == "" {
		recordID = eventID
	}
	if eventID != "" {
		d.HeaderIDs = []string{eventID}
	}
	d.Notification = Notification{Shape: t.shape, Events: []Parsed{{
		Module: t.event, Operation: t.operation(), RecordID: recordID, UserID: t.userID, OccurredAt: t.at, Record: t.record(),
	}}}
	events, err := keep(r.Context(), m.ingester, m.counts, m.settings.MaxBacklog, d)
	if err != nil {
		return nil, err
	}
	respond.Annotate(r.Context(), slog.String("source", d.Source), slog.String("shape", string(t.shape)), slog.String("event", t.event),
		slog.String("event_id", events[0].EventID), slog.String("became", events[0].Status))
	switch events[0].Status {
	case StatusDuplicate:
		return &MemoryAnswer{Status: StatusDuplicate}, nil
	case StatusAccepted:
		return &MemoryAnswer{Status: "processed", Action: ActionQueued}, nil
	default:
		return &MemoryAnswer{Status: "processed", Action: ActionLogged}, nil
	}
}

// toldID is the event's id: webhook-id, which is the same for each attempt to
// deliver it; else the body's request_id; else what the body is. It is "" where that
// says neither when nor in which order: a memory that becomes again what it was reads
// like the first time, so the id must follow from what came between.
func toldID(h http.Header, t told, sum [32]byte) (string, error) {
	id := strings.TrimSpace(h.Get("webhook-id"))
	switch {
	case len(id) > maxName:
		return "", refuse(422, "id_too_long", "webhook-id is longer than %d bytes", maxName)
	case !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl):
		return "", refuse(400, "invalid_event_id", "webhook-id is not UTF-8 or holds a control character")
	case id != "":
		return id, nil
	case t.requestID != "":
		return t.requestID, nil
	case t.at.IsZero():
		return "", nil
	}
	return fmt.Sprintf("sha256-%x", sum), nil
}
