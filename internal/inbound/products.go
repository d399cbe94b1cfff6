package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/respond"
)

// ProductSettings are what the doors of Zoho's other products check senders by.
// A product without a secret is closed: 404.
type ProductSettings struct {
	Payments    string // the signing key that Zoho Payments shows
	Billing     string // the secret set with the webhook in Billing, Books or Inventory
	Sign        string // the secret key set with the webhook in Zoho Sign
	Mail        string // what Zoho Mail hands over in X-Hook-Secret
	MaxBacklog  int64  // as in Settings: a full backlog refuses here, too
	BodyTimeout time.Duration
	Now         func() time.Time // the clock, which signed timestamps are held against
	Log         *slog.Logger
}

// Products are the doors of POST /webhooks/zoho/{product}, for those products of
// Zoho's that sign what they send. A body whose signature holds is one event of
// the source zoho-<product>, whatever it says: it is stored as ignored, since
// nobody works these events yet, and its bytes are kept as they came.
type Products struct {
	ingester *Ingester
	counts   *counter.Set
	settings ProductSettings
	products map[string]product

	mu     sync.Mutex
	warned time.Time // when the log last said that a secret was handed over
}

// product is one product of Zoho's.
type product struct {
	source, module string
	secret         string // "": closed
	verify         verifier
	// handsOver is that the secret comes in a request of its own, before the first
	// signature.
	handsOver bool
}

// shapeProduct is what the log says of these bodies: nothing looks for one of the
// four shapes in them.
const shapeProduct Shape = "product"

// handedEvery is how often the log says that a secret was handed over: anybody can
// send such requests.
const handedEvery = time.Minute

// NewProducts makes the doors. The route's pattern names the product {product}.
func NewProducts(ingester *Ingester, counts *counter.Set, s ProductSettings) *Products {
	return &Products{ingester: ingester, counts: counts, settings: s, products: map[string]product{
		"payments":  {source: "zoho-payments", module: "Payments", secret: s.Payments, verify: verifyPayments},
		"billing":   {source: "zoho-billing", module: "Billing", secret: s.Billing, verify: verifyBilling},
		"books":     {source: "zoho-books", module: "Books", secret: s.Billing, verify: verifyBilling},
		"inventory": {source: "zoho-inventory", module: "Inventory", secret: s.Billing, verify: verifyBilling},
		"sign":      {source: "zoho-sign", module: "Sign", secret: s.Sign, verify: verifySign},
		"mail":      {source: "zoho-mail", module: "Mail", secret: s.Mail, verify: verifyMail, handsOver: true},
	}}
}

// ServeHTTP answers 200 once the event is stored, and a problem when it was not.
func (p *Products) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	of := p.products[r.PathValue("product")]
	handedOver := ""
	if of.handsOver {
		handedOver = r.Header.Get("X-Hook-Secret")
	}
	if of.secret == "" && handedOver == "" {
		// A stranger to the closed door is no sender that was refused: not counted.
		respond.Problem(w, r, notFound())
		return
	}
	answer, err := p.receive(w, r, of, handedOver)
	if err != nil {
		countRefusal(p.counts, err)
		respond.Problem(w, r, err)
		return
	}
	_ = respond.JSON(w, http.StatusOK, answer)
}

// receive checks in this order: size and type, for anyone; the signature. Behind
// it nothing is refused for what it says: it is only kept.
func (p *Products) receive(w http.ResponseWriter, r *http.Request, of product, handedOver string) (*Answer, error) {
	body, err := readBody(w, r, p.settings.BodyTimeout)
	if err != nil {
		return nil, err
	}
	in := signedBody{header: r.Header, query: r.URL.RawQuery, body: body, now: p.settings.Now()}
	if handedOver != "" {
		// What else such a request looks like is not documented: its type is not asked
		// for. One that is signed with our secret as well is an event all the same.
		if _, err := of.verify(of.secret, in); err != nil {
			return p.takeNote(r.Context(), of, handedOver), nil
		}
	}
	if in.contentType, err = checkType(r.Header); err != nil {
		return nil, err
	}
	text, err := of.verify(of.secret, in)
	if err != nil {
		return nil, unsigned(err)
	}
	return p.store(r, of, in, text)
}

// store keeps the body as one event. text is what was signed of the request, the
// same for each attempt to deliver it.
func (p *Products) store(r *http.Request, of product, in signedBody, text []byte) (*Answer, error) {
	sum := digest(text)
	record := recordOf(in.contentType, in.body)
	own := usableID(find(record, "event_id"))
	eventID := own
	if eventID == "" {
		eventID = fmt.Sprintf("sha256-%x", sum)
	}
	recordID := recordIDOf(record)
	if recordID == "" {
		recordID = eventID
	}
	d := Delivery{
		Notification: Notification{Shape: shapeProduct, Events: []Parsed{{
			Module: of.module, Operation: opUpdate, RecordID: recordID, Record: record,
		}}},
		Source: of.source, Unworked: true, HeaderIDs: []string{eventID}, Digest: sum,
		ContentType: storedText(in.contentType), Headers: kept(r.Header), Body: in.body,
	}
	events, err := keep(r.Context(), p.ingester, p.counts, p.settings.MaxBacklog, d)
	if err != nil {
		return nil, err
	}
	return answerTo(r.Context(), own, d, events), nil
}

// takeNote answers the request in which a product hands over its secret. The
// secret is neither kept nor logged: nothing proves who sent it, and what proves
// everything later must not be set by anybody who asks. The log says whether it is
// the one that is set, once a minute at most if it is not; the sender does not
// learn it.
func (p *Products) takeNote(ctx context.Context, of product, handedOver string) *Answer {
	log := p.settings.Log.With("source", of.source)
	if verifyToken(of.secret, handedOver) {
		log.InfoContext(ctx, "the secret was handed over that is set already")
	} else if p.mayWarn() {
		log.WarnContext(ctx, "a secret was handed over in X-Hook-Secret that is not the one set, and was neither kept nor logged: "+
			"read it where TLS ends, as docs/webhooks-in.md says, and set WEBHOOK_MAIL_SECRET to it", "set", of.secret != "")
	}
	return &Answer{Status: StatusIgnored, Message: "Nothing was stored: this request hands over a secret.", Events: []EventStatus{}}
}

// mayWarn reports whether the log has not said for a minute that a secret was
// handed over, and that it says so now.
func (p *Products) mayWarn() bool {
	now := p.settings.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.warned.IsZero() && now.Sub(p.warned) < handedEvery {
		return false
	}
	p.warned = now
	return true
}

// notFound is the answer of an address that does not exist.
func notFound() error {
	return &respond.Error{Status: http.StatusNotFound, Code: "not_found", Message: "There is nothing at this address."}
}

// unsigned is the answer to whoever is not proven, always the same. Why it is so
// stands in the log alone.
func unsigned(why error) error {
	return &respond.Error{
		Status: http.StatusUnauthorized, Code: "unauthorized", Err: why,
		Message: "Nothing here proves who sent this: the signature is missing or does not hold.",
	}
}

// The reasons for the log. They hold nothing of what was sent.
var (
	errNoSignature    = errors.New("the signature is missing")
	errWrongSignature = errors.New("the signature does not hold")
)
