package inbound

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/group"
	"github.com/memrelay/memrelay/internal/respond"
)

const (
	// SourceZoho is the source of events that came through /webhooks/zoho.
	SourceZoho = "zoho"
	// MaxBody is the greatest body accepted, in bytes.
	MaxBody = 1 << 20
	// MaxRecords is the greatest number of records in one body.
	MaxRecords = 1000
	// BodyTimeout is how long a body may take to arrive: a sender that drips
	// holds a connection and nothing else.
	BodyTimeout = 10 * time.Second
	// retryAfter is what a sender is told when there is no room: the backlog of
	// a working system is gone by then.
	retryAfter = 5 * time.Second
)

// Settings are what a door checks senders by.
type Settings struct {
	Secrets     []string      // any of them may have signed
	Token       string        // for senders that can do no more than a fixed header; "": off
	MaxBacklog  int64         // events not yet routed
	BodyTimeout time.Duration // usually BodyTimeout
}

// Zoho is the door of POST /webhooks/zoho, for Zoho and for anything that signs
// like it.
type Zoho struct {
	pool     *pgxpool.Pool
	ingester *Ingester
	counts   *counter.Set
	settings Settings
}

// NewZoho makes the door.
func NewZoho(pool *pgxpool.Pool, ingester *Ingester, counts *counter.Set, s Settings) *Zoho {
	return &Zoho{pool: pool, ingester: ingester, counts: counts, settings: s}
}

// Answer is the body of a 200.
type Answer struct {
	Status  string        `json:"status"`   // accepted when any event is new, else ignored, else duplicate
	EventID string        `json:"event_id"` // the sender's, or the first event's
	Message string        `json:"message"`
	Queued  bool          `json:"queued,omitempty"`
	Events  []EventStatus `json:"events"`
}

// ServeHTTP answers 200 once every event of the body is stored, and a problem
// when nothing of it was.
func (z *Zoho) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := z.receive(w, r)
	if err != nil {
		countRefusal(z.counts, err)
		respond.Problem(w, r, err)
		return
	}
	_ = respond.JSON(w, http.StatusOK, answer)
}

// receive checks in this order: size and type, for anyone; the proof of the
// sender in a header; the shape; the proof in the body. Whoever is not proven
// learns nothing of what was wrong inside.
func (z *Zoho) receive(w http.ResponseWriter, r *http.Request) (*Answer, error) {
	body, err := readBody(w, r, z.settings.BodyTimeout)
	if err != nil {
		return nil, err
	}
	contentType, err := checkType(r.Header)
	if err != nil {
		return nil, err
	}
	proven, err := z.proveByHeader(r.Header, body)
	if err != nil {
		return nil, err
	}
	n, parseErr := parse(contentType, body, MaxRecords)
	source := SourceZoho
	if !proven {
		// Also where something is wrong in it: a channel of ours is told what.
		if source, err = z.proveByChannel(r.Context(), n); err != nil {
			return nil, err
		}
	}
	if parseErr != nil {
		return nil, problemOf(parseErr)
	}
	return z.store(r, Delivery{Notification: n, Source: source, Digest: digest(body), ContentType: storedText(contentType), Headers: kept(r.Header), Body: body})
}

func (z *Zoho) store(r *http.Request, d Delivery) (*Answer, error) {
	header := strings.TrimSpace(r.Header.Get("X-Zoho-Event-Id"))
	var err error
	if d.HeaderIDs, err = headerIDs(header, d.Events); err != nil {
		return nil, problemOf(err)
	}
	events, err := keep(r.Context(), z.ingester, z.counts, z.settings.MaxBacklog, d)
	if err != nil {
		return nil, err
	}
	return answerTo(r.Context(), header, d, events), nil
}

// keep stores d, or nothing of it where the backlog has no room. A part of it is kept
// for sources within their share: a flood of one does not close the door to the others.
func keep(ctx context.Context, in *Ingester, counts *counter.Set, maxBacklog int64, d Delivery) ([]EventStatus, error) {
	n := int64(len(d.Events))
	if d.behind = in.shares.take(ctx, d.Source, len(d.Events)); d.behind > 0 {
		respond.Annotate(ctx, slog.Int("behind", d.behind))
		maxBacklog -= maxBacklog / reserved
	}
	if !counts.Reserve(n, maxBacklog) {
		return nil, &respond.Error{
			Status: http.StatusServiceUnavailable, Code: "backlog_full", RetryAfter: retryAfter,
			Message: "Too many events wait to be worked. Nothing was stored; send this again later.",
		}
	}
	var accepted int64
	defer func() { counts.Settle(n, accepted) }()
	// Waited for also when the sender has hung up: what is stored then was left out of
	// the backlog otherwise, and with it more let in than there is room for.
	events, err := in.Ingest(context.WithoutCancel(ctx), d)
	if err != nil {
		return nil, unavailable(err)
	}
	for _, e := range events {
		if e.Status == StatusAccepted {
			accepted++
		}
	}
	return events, nil
}

// answerTo says what became of d. eventID is the sender's own, "" when it gave none.
func answerTo(ctx context.Context, eventID string, d Delivery, events []EventStatus) *Answer {
	statuses := map[string]int{}
	for _, e := range events {
		statuses[e.Status]++
	}
	a := &Answer{EventID: eventID, Events: events}
	if a.EventID == "" {
		a.EventID = events[0].EventID
	}
	switch {
	case statuses[StatusAccepted] > 0:
		a.Status, a.Queued, a.Message = StatusAccepted, true, fmt.Sprintf("%d of %d events stored.", statuses[StatusAccepted], len(events))
	case statuses[StatusIgnored] > 0:
		a.Status, a.Message = StatusIgnored, "Stored, and not worked: nobody asked for this module."
	default:
		a.Status, a.Message = StatusDuplicate, "Stored before; a repeat changes nothing."
	}
	respond.Annotate(ctx, slog.String("source", d.Source), slog.String("shape", string(d.Shape)), slog.String("event_id", a.EventID),
		slog.Int("accepted", statuses[StatusAccepted]), slog.Int("duplicate", statuses[StatusDuplicate]), slog.Int("ignored", statuses[StatusIgnored]))
	return a
}

// countRefusal counts what was refused: 5xx is ours, and sent again; the rest is not.
func countRefusal(counts *counter.Set, err error) {
	var e *respond.Error
	if errors.As(err, &e) && e.Status < http.StatusInternalServerError {
		counts.Refuse(counter.Rejected)
		return
	}
	counts.Refuse(counter.Failed)
}

// checkType accepts JSON and forms, and no type at all: which one Zoho sends is
// not documented.
func checkType(h http.Header) (string, error) {
	contentType := h.Get("Content-Type")
	if contentType == "" {
		return "", nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err == nil && (media == "application/json" || media == "text/json" || strings.HasSuffix(media, "+json") ||
		media == "application/x-www-form-urlencoded" || media == "multipart/form-data") {
		return contentType, nil
	}
	return "", &respond.Error{
		Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type",
		Message: "Send application/json, application/x-www-form-urlencoded or multipart/form-data.",
	}
}

// readBody reads a body of at most MaxBody bytes that arrives within limit.
func readBody(w http.ResponseWriter, r *http.Request, limit time.Duration) ([]byte, error) {
	tooLarge := &respond.Error{
		Status: http.StatusRequestEntityTooLarge, Code: "body_too_large",
		Message: fmt.Sprintf("The body is greater than %d bytes.", MaxBody),
	}
	if r.ContentLength > MaxBody {
		// Not reading it means that the connection cannot be used again.
		w.Header().Set("Connection", "close")
		return nil, tooLarge
	}
	// A recorder in a test has no deadline to set; a server's connection does.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(limit))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var maxBytes *http.MaxBytesError
	switch {
	case errors.As(err, &maxBytes):
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, &respond.Error{
			Status: http.StatusRequestTimeout, Code: "body_too_slow",
			Message: fmt.Sprintf("The body did not arrive within %s.", limit),
		}
	case err != nil:
		return nil, &respond.Error{Status: http.StatusBadRequest, Code: "body_broken", Message: "The body ended before it was complete.", Err: err}
	}
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}

// proveByHeader reports whether a header proves the sender. A signature that is
// there and wrong is refused, whatever else might prove the sender.
func (z *Zoho) proveByHeader(h http.Header, body []byte) (bool, error) {
	if signature, ok := h["X-Zoho-Signature"]; ok {
		if !verifySignature(z.settings.Secrets, strings.Join(signature, ","), body) {
			return false, unauthorized()
		}
		return true, nil
	}
	if token := bearer(h); token != "" && z.settings.Token != "" {
		if !verifyToken(z.settings.Token, token) {
			return false, unauthorized()
		}
		return true, nil
	}
	return false, nil
}

// proveByChannel looks for the token that Zoho echoes: its hash stands in the
// channel's row. https://www.zoho.com/crm/developer/docs/api/v8/notifications/overview.html
func (z *Zoho) proveByChannel(ctx context.Context, n Notification) (source string, err error) {
	if n.Token == "" || n.ChannelID == "" {
		return "", unauthorized()
	}
	channel, err := db.New(z.pool).GetChannel(ctx, n.ChannelID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", unavailable(fmt.Errorf("get channel: %w", err))
	}
	got := sha256.Sum256([]byte(n.Token))
	// Without a channel there are no hashes, and nothing compares equal. Every hash is
	// looked at: how long it takes does not say which one it was.
	proven := 0
	for _, hash := range channel.TokenHashes {
		proven |= subtle.ConstantTimeCompare(got[:], hash)
	}
	if proven != 1 {
		return "", unauthorized()
	}
	return channel.Source, nil
}

func unauthorized() error {
	return &respond.Error{
		Status: http.StatusUnauthorized, Code: "unauthorized",
		Message: "Nothing here proves who sent this: a signature, a token, or the token of a known channel.",
	}
}

// unavailable is the answer when an event could not be stored: it may be sent again.
func unavailable(err error) error {
	e := &respond.Error{
		Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: retryAfter, Err: err,
		Message: "This could not be stored now. Send it again; if it was stored after all, the answer will say so.",
	}
	if errors.Is(err, group.ErrFull) {
		e.Code = "busy"
	}
	return e
}

func problemOf(err error) error {
	var r refusal
	if !errors.As(err, &r) {
		return err
	}
	return &respond.Error{Status: r.Status, Code: r.Code, Message: r.Message}
}

// kept are the headers worth keeping with a body, as a JSON object.
func kept(h http.Header) json.RawMessage {
	headers := map[string]string{}
	for _, name := range []string{"User-Agent", "X-Zoho-Event-Id", "X-Request-Id"} {
		if value := h.Get(name); value != "" {
			headers[name] = storedText(value)
		}
	}
	encoded, err := json.Marshal(headers)
	if err != nil {
		return json.RawMessage("{}")
	}
	return encoded
}

// storedText is a header's value as Postgres can keep it: HTTP lets bytes through
// that are no text.
func storedText(value string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(value, "\x00", ""), "\uFFFD")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
