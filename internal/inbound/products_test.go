package inbound

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/contract/contracttest"
	"github.com/memrelay/memrelay/internal/counter"
	"github.com/memrelay/memrelay/internal/respond"
	"github.com/memrelay/memrelay/internal/telemetry"
)

// The secrets of the products' doors. No log line and no answer may hold any of them.
const (
	paymentsSecret = "payments-secret-of-the-door"
	billingSecret  = "billing0secret0of0the0door"
	signSecret     = "sign-secret-of-the-door"
	mailSecret     = "mail-secret-of-the-door"
	handedOver     = "the-secret-that-is-handed-over"
)

// paymentsTime is what the clock of these doors shows, in milliseconds.
const paymentsTime = 1734340423138

// hmacOf is HMAC-SHA256 as RFC 2104 writes it down: the hash of the key with 0x5c
// and of the hash of the key with 0x36 and the text. Only for keys of up to 64 bytes.
func hmacOf(secret, text string) []byte {
	outer, inner := bytes.Repeat([]byte{0x5c}, 64), bytes.Repeat([]byte{0x36}, 64)
	for i := range len(secret) {
		outer[i] ^= secret[i]
		inner[i] ^= secret[i]
	}
	first := sha256.Sum256(append(inner, text...))
	second := sha256.Sum256(append(outer, first[:]...))
	return second[:]
}

func hexOf(secret, text string) string { return hex.EncodeToString(hmacOf(secret, text)) }
func base64Of(secret, text string) string {
	return base64.StdEncoding.EncodeToString(hmacOf(secret, text))
}

// paymentsHeader signs body as Zoho Payments does, at a time.
func paymentsHeader(secret string, ms int64, body string) string {
	t := strconv.FormatInt(ms, 10)
	return "t=" + t + ",v=" + hexOf(secret, t+"."+body)
}

// productDoors is a server with POST /webhooks/zoho/{product} on the database of a door.
type productDoors struct {
	*door
	server *httptest.Server
}

func allProducts(*ProductSettings) {}

func newProductDoors(t *testing.T, s setup, change func(*ProductSettings)) *productDoors {
	t.Helper()
	d := newDoor(t, s)
	log, err := telemetry.NewLogger(d.log, "json", slog.LevelDebug)
	if err != nil {
		t.Fatal(err)
	}
	settings := ProductSettings{
		Payments: paymentsSecret, Billing: billingSecret, Sign: signSecret, Mail: mailSecret,
		MaxBacklog: 10_000, BodyTimeout: BodyTimeout, Now: func() time.Time { return time.UnixMilli(paymentsTime) }, Log: log,
	}
	change(&settings)
	r := chi.NewRouter()
	respond.Use(r, log)
	r.Method(http.MethodPost, "/webhooks/zoho/{product}", NewProducts(d.ingester, d.counts, settings))
	p := &productDoors{door: d, server: httptest.NewServer(contracttest.Wrap(t, r))}
	t.Cleanup(func() {
		p.server.Close()
		for _, secret := range []string{paymentsSecret, billingSecret, signSecret, mailSecret, handedOver} {
			if strings.Contains(d.log.String(), secret) {
				t.Errorf("the log holds %s:\n%s", secret, d.log)
			}
		}
	})
	return p
}

// post sends a body to a product, which may be followed by a query.
func (p *productDoors) post(t *testing.T, product, body string, headers ...string) answered {
	t.Helper()
	return p.postFrom(t, product, strings.NewReader(body), headers...)
}

func (p *productDoors) postFrom(t *testing.T, product string, body io.Reader, headers ...string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.server.URL+"/webhooks/zoho/"+product, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = with(http.Header{"Content-Type": {typeJSON}}, headers...)
	resp, err := p.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	a := read(t, resp)
	for _, secret := range []string{paymentsSecret, billingSecret, signSecret, mailSecret, handedOver} {
		if strings.Contains(a.text, secret) {
			t.Errorf("the answer holds %s: %s", secret, a.text)
		}
	}
	return a
}

// proof is the header that proves body for a product, without a query.
func proof(product, body string) (name, value string) {
	switch product {
	case "payments":
		return "X-Zoho-Webhook-Signature", paymentsHeader(paymentsSecret, paymentsTime, body)
	case "billing", "books", "inventory":
		return "X-Zoho-Webhook-Signature", hexOf(billingSecret, body)
	case "sign":
		return "X-ZS-WEBHOOK-SIGNATURE", base64Of(signSecret, body)
	default:
		return "X-Hook-Signature", base64Of(mailSecret, body)
	}
}

// send posts a body with its proof.
func (p *productDoors) send(t *testing.T, product, body string, more ...string) answered {
	t.Helper()
	name, value := proof(product, body)
	return p.post(t, product, body, append([]string{name, value}, more...)...)
}

var (
	productNames   = []string{"payments", "billing", "books", "inventory", "sign", "mail"}
	productSecrets = map[string]string{
		"payments": paymentsSecret, "billing": billingSecret, "books": billingSecret, "inventory": billingSecret, "sign": signSecret, "mail": mailSecret,
	}
)

// sumOf is the id of a body that has none of its own.
func sumOf(text string) string { return fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(text))) }

// What each product sends becomes one event, and nothing more.
func TestProductsStoreWhatIsSigned(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	for _, tc := range []struct {
		name, product, body       string
		source, module            string
		eventID, recordID, record string // record "": the body
	}{
		{
			"a payment", "payments",
			`{"event_id":1987000003853347,"event_type":"payment.succeeded","account_id":105078477,"event_object":{"payment":{"payment_id":"1987000000724207","amount":"200.00"}}}`,
			"zoho-payments", "Payments", "1987000003853347", "1987000000724207", "",
		},
		{
			"a subscription", "billing",
			`{"created_time":"2026-08-01","event_id":"5675","event_type":"subscription_created","data":{"subscription":{"subscription_id":"90343","plan":{"plan_id":"1"}}}}`,
			"zoho-billing", "Billing", "5675", "90343", "",
		},
		{
			"an invoice of Books, which has no id of the event", "books", `{"organization_id":60069194202,"invoice":{"invoice_id":987654321,"status":"paid"}}`,
			"zoho-books", "Books", sumOf(`{"organization_id":60069194202,"invoice":{"invoice_id":987654321,"status":"paid"}}`), "987654321", "",
		},
		{
			"an item of Inventory", "inventory", ` {"item":{"item_id":"7","name":"<b>"}} `,
			"zoho-inventory", "Inventory", sumOf(` {"item":{"item_id":"7","name":"<b>"}} `), "7", `{"item":{"item_id":"7","name":"<b>"}}`,
		},
		{
			"a request of Sign", "sign", `{"notifications":{"operation_type":"RequestSigningSuccess"},"requests":{"request_id":"2000002608137","request_name":"NDA"}}`,
			"zoho-sign", "Sign", sumOf(`{"notifications":{"operation_type":"RequestSigningSuccess"},"requests":{"request_id":"2000002608137","request_name":"NDA"}}`), "2000002608137", "",
		},
		{
			"a message, by the id that nobody rounded", "mail", `{"messageId":1752872797290124300,"messageIdString":"1752872797290124303","subject":"Hello"}`,
			"zoho-mail", "Mail", sumOf(`{"messageId":1752872797290124300,"messageIdString":"1752872797290124303","subject":"Hello"}`), "1752872797290124303", "",
		},
		{
			"a task of Mail", "mail", `{"entityId":42,"action":"add"}`, "zoho-mail", "Mail", sumOf(`{"entityId":42,"action":"add"}`), "42", "",
		},
		{
			"a body that is about nothing that is known", "payments", `{"event_id":"e-1","hello":"world"}`, "zoho-payments", "Payments", "e-1", "e-1", "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			exec(t, p.pool, `TRUNCATE events, event_bodies, river_job, counters CASCADE`)
			a := p.send(t, tc.product, tc.body)
			want := fmt.Sprintf(`{"status":"ignored","event_id":%q,"message":"Stored, and not worked: nobody asked for this module.","events":[{"event_id":%q,"status":"ignored"}]}`+"\n", tc.eventID, tc.eventID)
			if diff := cmp.Diff(want, a.text); a.status != http.StatusOK || diff != "" {
				t.Errorf("answered %d (-want +got):\n%s", a.status, diff)
			}
			if tc.record == "" {
				tc.record = tc.body
			}
			stored := query[string](t, p.pool, `SELECT concat_ws('|', e.source, e.event_id, e.module, e.operation, e.record_id, e.status, e.occurred_at, b.content_type,
				convert_from(b.record, 'UTF8'), convert_from(b.body, 'UTF8')) FROM events e JOIN event_bodies b ON b.event_id = e.id`)
			wanted := strings.Join([]string{tc.source, tc.eventID, tc.module, "update", tc.recordID, "ignored", typeJSON, tc.record, tc.body}, "|")
			if diff := cmp.Diff([]string{wanted}, stored); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			wantTables(t, p.pool, map[string]int64{"events": 1, "event_bodies": 1, "counters": 1})
			wantWhole(t, p.pool)
			wantCounters(t, p.pool, counter.Changes{counter.Ignored: 1})
			if got := p.counts.Backlog(); got != 0 {
				t.Errorf("backlog %d, want 0", got)
			}
		})
	}
}

// Not even where a module of Zoho CRM is called like the product.
func TestProductsAreNotWorkedAsModules(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	p.ingester.modules["Payments"] = true
	p.send(t, "payments", `{"event_id":"1"}`).wantEvents(t, StatusIgnored, EventStatus{"1", StatusIgnored})
	p.door.send(t, "2", `{"module":"Payments","data":[{"id":"1"}]}`).wantEvents(t, StatusAccepted, EventStatus{"2", StatusAccepted})
	wantWhole(t, p.pool)
}

// Whoever is not proven gets one and the same answer, and leaves nothing behind.
func TestProductsRefuseWhatIsNotSigned(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	body := `{"event_id":"1","invoice":{"invoice_id":"7"}}`
	var all []answered
	refuse := func(t *testing.T, product, body string, headers ...string) {
		t.Helper()
		a := p.post(t, product, body, headers...)
		a.want(t, 401, "unauthorized")
		all = append(all, a)
	}
	for _, product := range productNames {
		name, value := proof(product, body)
		secret := productSecrets[product]
		t.Run(product, func(t *testing.T) {
			refuse(t, product, body)
			refuse(t, product, body, name, "")
			refuse(t, product, body, name, " ")
			refuse(t, product, body+" ", name, value)
			refuse(t, product, strings.Replace(body, "7", "8", 1), name, value)
			refuse(t, product, "", name, value)
			refuse(t, product, body, name, value+"0")
			refuse(t, product, body, name, value[:len(value)-1])
			refuse(t, product, body, name, flipFirst(value))
			refuse(t, product, body, name, "sha256="+value)
			refuse(t, product, body, "Authorization", "Bearer "+secret)
			refuse(t, product, body, "X-Zoho-Signature", hexOf(secret, body))
			refuse(t, product, `{"hello":`, name, value)
			for _, other := range productNames {
				if productSecrets[other] == secret {
					continue
				}
				otherName, otherValue := proof(other, body)
				refuse(t, product, body, name, otherValue)
				refuse(t, product, body, otherName, otherValue)
			}
		})
	}
	hexed := hexOf(paymentsSecret, strconv.Itoa(paymentsTime)+"."+body)
	based := base64Of(paymentsSecret, strconv.Itoa(paymentsTime)+"."+body)
	for what, value := range map[string]string{
		"no time":                    "v=" + hexed,
		"no signature":               fmt.Sprintf("t=%d", paymentsTime),
		"another time":               fmt.Sprintf("t=%d,v=%s", paymentsTime+1, hexed),
		"a time that is none":        "t=now,v=" + hexOf(paymentsSecret, "now."+body),
		"a time beyond all":          "t=99999999999999999999,v=" + hexOf(paymentsSecret, "99999999999999999999."+body),
		"the body alone signed":      fmt.Sprintf("t=%d,v=%s", paymentsTime, hexOf(paymentsSecret, body)),
		"base64":                     fmt.Sprintf("t=%d,v=%s", paymentsTime, based),
		"a right and a wrong one":    fmt.Sprintf("t=%d,v=%s,v=00", paymentsTime, hexed),
		"two times":                  fmt.Sprintf("t=%d,t=1,v=%s", paymentsTime, hexed),
		"the digits alone":           hexed,
		"the digits and what is not": fmt.Sprintf("t=%d,v=%szz", paymentsTime, hexed),
	} {
		t.Run("payments: "+what, func(t *testing.T) { refuse(t, "payments", body, "X-Zoho-Webhook-Signature", value) })
	}
	// Zoho Sign and Mail write base64, and nothing else.
	refuse(t, "sign", body, "X-ZS-WEBHOOK-SIGNATURE", hexOf(signSecret, body))
	refuse(t, "mail", body, "X-Hook-Signature", hexOf(mailSecret, body))

	for _, a := range all {
		if got := strings.ReplaceAll(a.text, a.RequestID, "…"); got != strings.ReplaceAll(all[0].text, all[0].RequestID, "…") {
			t.Errorf("not the same answer: %s", a.text)
		}
	}
	wantTables(t, p.pool, map[string]int64{})
	if err := p.counts.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCounters(t, p.pool, counter.Changes{counter.Rejected: int64(len(all))})
}

// flipFirst changes what a signature begins with: that of Payments behind "t=…,v=".
func flipFirst(value string) string {
	at := strings.LastIndex(value, "v=") + 2
	if at < 2 {
		at = 0
	}
	other := "0"
	if value[at] == '0' {
		other = "1"
	}
	return value[:at] + other + value[at+1:]
}

// Two headers are no signature, even when one of them is right.
func TestASignatureGivenTwiceIsNone(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	body := `{"event_id":"1"}`
	for _, product := range productNames {
		name, value := proof(product, body)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.server.URL+"/webhooks/zoho/"+product, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Add(name, value)
		req.Header.Add(name, value)
		resp, err := p.server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		read(t, resp).want(t, 401, "unauthorized")
	}
}

func TestProductsThatAreClosed(t *testing.T) {
	t.Parallel()
	for _, closed := range productNames {
		t.Run(closed, func(t *testing.T) {
			t.Parallel()
			p := newProductDoors(t, setup{}, func(s *ProductSettings) {
				switch closed {
				case "payments":
					s.Payments = ""
				case "billing", "books", "inventory":
					s.Billing = ""
				case "sign":
					s.Sign = ""
				case "mail":
					s.Mail = ""
				}
			})
			body := `{"event_id":"1"}`
			name, value := proof(closed, body)
			first := p.post(t, closed, body, name, value)
			first.want(t, 404, "not_found")
			// Nobody has the empty secret, although anybody can sign with it.
			for _, value := range []string{hexOf("", body), base64Of("", body), paymentsHeader("", paymentsTime, body)} {
				p.post(t, closed, body, name, value).want(t, 404, "not_found")
			}
			// It is not there, as far as anybody can tell: neither is what nobody knows.
			for _, unknown := range []string{"desk", "Sign", "crm", "sign%2F", "%00", "sign/x"} {
				a := p.post(t, unknown, body, name, value)
				a.want(t, 404, "not_found")
				if got := strings.ReplaceAll(a.text, a.RequestID, first.RequestID); got != first.text {
					t.Errorf("answered %s, want %s", got, first.text)
				}
			}
			// Those with another secret are open.
			for _, open := range productNames {
				if productSecrets[open] != productSecrets[closed] {
					p.send(t, open, body).wantEvents(t, StatusIgnored, EventStatus{"1", StatusIgnored})
				}
			}
			if err := p.counts.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantCounters(t, p.pool, counter.Changes{counter.Ignored: query[int64](t, p.pool, `SELECT count(*) FROM events`)[0]})
		})
	}
}

// A repeat is known by the sender's id and the body; each product has ids of its own.
func TestProductsKnowARepeat(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	first, second := `{"event_id":"1","a":1}`, `{"event_id":"1","a":2}`
	sum := sha256.Sum256([]byte(second))
	reused := fmt.Sprintf("1#%x", sum[:8])
	for _, product := range productNames {
		p.send(t, product, first).wantEvents(t, StatusIgnored, EventStatus{"1", StatusIgnored})
		p.send(t, product, first).wantEvents(t, StatusDuplicate, EventStatus{"1", StatusDuplicate})
		// The same id with another body is no repeat: to say so would lose an event.
		p.send(t, product, second).wantEvents(t, StatusIgnored, EventStatus{reused, StatusIgnored})
		p.send(t, product, second).wantEvents(t, StatusDuplicate, EventStatus{reused, StatusDuplicate})
		p.send(t, product, `{"a":1}`).wantEvents(t, StatusIgnored, EventStatus{sumOf(`{"a":1}`), StatusIgnored})
		p.send(t, product, `{"a":1}`).wantEvents(t, StatusDuplicate, EventStatus{sumOf(`{"a":1}`), StatusDuplicate})
	}
	// The header of /webhooks/zoho has no meaning here: it is not signed.
	p.send(t, "sign", first, "X-Zoho-Event-Id", "2").wantEvents(t, StatusDuplicate, EventStatus{"1", StatusDuplicate})
	// Zoho Payments signs each attempt anew.
	p.post(t, "payments", first, "X-Zoho-Webhook-Signature", paymentsHeader(paymentsSecret, paymentsTime+1000, first)).
		wantEvents(t, StatusDuplicate, EventStatus{"1", StatusDuplicate})
	wantTables(t, p.pool, map[string]int64{"events": 18, "event_bodies": 18, "counters": 3})
	wantWhole(t, p.pool)
	wantCounters(t, p.pool, counter.Changes{counter.Ignored: 18, counter.Duplicated: 20, counter.IDReused: 6})
}

func TestARepeatThatComesAtTheSameTime(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	var wg sync.WaitGroup
	statuses := make([]string, 20)
	for i := range statuses {
		wg.Go(func() { statuses[i] = p.send(t, "sign", `{"a":1}`).Answer.Status })
	}
	wg.Wait()
	if diff := cmp.Diff(map[string]int{StatusIgnored: 1, StatusDuplicate: 19}, tally(statuses)); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	wantTables(t, p.pool, map[string]int64{"events": 1, "event_bodies": 1, "counters": 2})
}

// What Zoho Payments signs is as fresh as five minutes, by our clock.
func TestPaymentsTimestamps(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	tolerance := (5 * time.Minute).Milliseconds()
	for _, tc := range []struct {
		name string
		ms   int64
		ok   bool
	}{
		{"now", paymentsTime, true},
		{"five minutes ago", paymentsTime - tolerance, true},
		{"a millisecond more", paymentsTime - tolerance - 1, false},
		{"in five minutes", paymentsTime + tolerance, true},
		{"in a millisecond more", paymentsTime + tolerance + 1, false},
		{"in seconds", paymentsTime / 1000, false},
		{"1970", 0, false},
		{"as early as can be", -1 << 63, false},
		{"as late as can be", 1<<63 - 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := `{"event_id":"` + tc.name + `"}`
			a := p.post(t, "payments", body, "X-Zoho-Webhook-Signature", paymentsHeader(paymentsSecret, tc.ms, body))
			if tc.ok {
				a.wantEvents(t, StatusIgnored, EventStatus{tc.name, StatusIgnored})
				return
			}
			a.want(t, 401, "unauthorized")
		})
	}
	// Whoever has to find out why learns it from the log.
	p.server.Close()
	if want := `the signature holds, but is 5m0s off our clock, of which 5m0s are allowed`; !strings.Contains(p.log.String(), want) {
		t.Errorf("the log does not hold %q:\n%s", want, p.log)
	}
}

// The figures are what openssl prints, so that the tests do not only compare the
// code with themselves.
func TestProductSignaturesAgainstOpenSSL(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	// The text of Zoho's page on Billing: namebasicsubscription_id90343{"created_date":…
	created := `{"created_date":"2019-03-06","event_id":"5675"}`
	p.post(t, "billing?subscription_id=90343&name=basic", created, "X-Zoho-Webhook-Signature", "7015dc3333b500d97d6d76dc4730ac3ccecaa042ac81f5466b14110804f73e00").
		wantEvents(t, StatusIgnored, EventStatus{"5675", StatusIgnored})
	p.post(t, "billing?name=basic&subscription_id=90343", created, "X-Zoho-Webhook-Signature", "cBXcMzO1ANl9bXbcRzCsPM7KoEKsgfVGaxQRCAT3PgA=").
		wantEvents(t, StatusDuplicate, EventStatus{"5675", StatusDuplicate})
	p.post(t, "payments", `{"event_id":1987000003853347,"event_type":"payment.succeeded"}`, "X-Zoho-Webhook-Signature",
		"t=1734340423138,v=b8ee6ab6b1820b2d4eabe582d811786fd66f1d2ac73717b84417c02af201a5ef").
		wantEvents(t, StatusIgnored, EventStatus{"1987000003853347", StatusIgnored})
	message := `{"messageId":1752872797290124300,"subject":"Hello"}`
	p.post(t, "mail", message, "X-Hook-Signature", "ltlYPrClMdRaFG5Zcg61dL0rxJOO7qGX9LEsUqf0NNY=").
		wantEvents(t, StatusIgnored, EventStatus{sumOf(message), StatusIgnored})
}

// The one example of a signature that Zoho has published, for Zoho Sign. Its body
// begins with one brace too many; it is signed all the same, and so it is stored.
func TestZohoSignsOwnExample(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, func(s *ProductSettings) { s.Sign = "thisisthesamplekeyfortestingpurposes" })
	body := `{{"requests":{"request_name":"Test Name"},"notifications":{"operation_type":"RequestSigningSuccess"}}`
	p.post(t, "sign", body, "X-ZS-WEBHOOK-SIGNATURE", "drbSrM4H816RYKpZiRBLddUa0yHaTrwjtY04sIZFZus=").
		wantEvents(t, StatusIgnored, EventStatus{sumOf(body), StatusIgnored})
}

// What Billing signs, and what is read of it.
func TestBillingSignatures(t *testing.T) {
	t.Parallel()
	const form = typeForm + "; charset=UTF-8"
	multipart := "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\n"
	for _, tc := range []struct {
		name, query, contentType, body string
		text                           string // what is signed
		ok                             bool
		record                         string
	}{
		{"JSON alone", "", typeJSON, `{"b":1,"a":2}`, `{"b":1,"a":2}`, true, `{"b":1,"a":2}`},
		{"no type at all", "", "", `{"b":1}`, `{"b":1}`, true, `{"b":1}`},
		{"JSON that is called a form", "x=1", form, `{"b":1}`, `x1{"b":1}`, true, `{"b":1}`},
		{"a query beside JSON, by its keys", "b=2&a=1&B=3&c=", typeJSON, `{}`, `B3a1b2c{}`, true, `{}`},
		{"a query that is decoded", "n%61me=J%C3%B6rg+%26+Sons&e=1%2B1", typeJSON, `{}`, `e1+1nameJörg & Sons{}`, true, `{}`},
		{"a key given twice keeps its order", "a=2&b=0&a=1", typeJSON, `{}`, `a2a1b0{}`, true, `{}`},
		{"a form by its keys", "", form, "name=basic&customer=J%C3%B6rg+%26+Sons", `customerJörg & Sonsnamebasic`, true, `{"customer":"Jörg \u0026 Sons","name":"basic"}`},
		{"a form and a query together", "b=2&d=4", form, "c=3&a=1", `a1b2c3d4`, true, `{"a":"1","c":"3"}`},
		{"the same key in both: the query first", "a=2", form, "a=1", `a2a1`, true, `{"a":"1"}`},
		{"a key of a form given twice", "", form, "a=2&a=1", `a2a1`, true, `{"a":["2","1"]}`},
		{"a query alone", "event=created&id=7", typeJSON, "", `eventcreatedid7`, true, `{}`},
		{"a query alone, with an empty form", "event=created&id=7", form, "", `eventcreatedid7`, true, `{}`},
		{"nothing but a signature", "", typeJSON, "", ``, true, `{}`},
		{"the form as it came is not what is signed", "", form, "name=basic", `name=basic`, false, ""},
		{"a form's pairs as they came are not either", "", form, "b=2&a=1", `b2a1`, false, ""},
		{"a form that is not decoded", "", form, "a=%41", `a%41`, false, ""},
		{"JSON without the query", "a=1", typeJSON, `{}`, `{}`, false, ""},
		{"a query that was not signed", "a=1&z=1", typeJSON, `{}`, `a1{}`, false, ""},
		{"separators", "a=1&b=2", typeJSON, `{}`, `a=1&b=2{}`, false, ""},
		{"a query that cannot be decoded", "a=%zz", typeJSON, `{}`, `a%zz{}`, false, ""},
		{"a query of which the rest can be decoded", "a=%zz&b=1", typeJSON, `{}`, `b1{}`, false, ""},
		{"a form that cannot be decoded", "", form, "a=%zz", `a%zz`, false, ""},
		{"a form that is left out", "", form, "a=%zz", ``, false, ""},
		{"a form of which the rest can be decoded", "", form, "a=%zz&b=1", `b1`, false, ""},
		{"a multipart form, its fields signed", "", `multipart/form-data; boundary=b`, multipart, `a1`, false, ""},
		{"a multipart form, its bytes signed", "", `multipart/form-data; boundary=b`, multipart, multipart, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProductDoors(t, setup{}, allProducts)
			for product, signature := range map[string]string{
				"billing": hexOf(billingSecret, tc.text), "books": base64Of(billingSecret, tc.text), "inventory": strings.ToUpper(hexOf(billingSecret, tc.text)),
			} {
				headers := []string{"X-Zoho-Webhook-Signature", signature, "Content-Type", tc.contentType}
				a := p.post(t, product+"?"+tc.query, tc.body, headers...)
				if !tc.ok {
					a.want(t, 401, "unauthorized")
					continue
				}
				a.wantEvents(t, StatusIgnored, EventStatus{sumOf(tc.text), StatusIgnored})
			}
			records := query[string](t, p.pool, `SELECT DISTINCT convert_from(record, 'UTF8') FROM event_bodies`)
			if tc.ok && (len(records) != 1 || records[0] != tc.record) {
				t.Errorf("records %q, want %q", records, tc.record)
			}
			if !tc.ok {
				wantTables(t, p.pool, map[string]int64{})
			}
		})
	}
}

// A form is a repeat however it is written: it is the same text that was signed.
// The query tells two events apart where the bodies do not.
func TestBillingRepeats(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	send := func(query, body, text string) answered {
		return p.post(t, "books?"+query, body, "Content-Type", typeForm, "X-Zoho-Webhook-Signature", hexOf(billingSecret, text))
	}
	send("", "a=1&b=2", "a1b2").wantEvents(t, StatusIgnored, EventStatus{sumOf("a1b2"), StatusIgnored})
	send("", "b=%32&a=1", "a1b2").wantEvents(t, StatusDuplicate, EventStatus{sumOf("a1b2"), StatusDuplicate})
	send("b=2", "a=1", "a1b2").wantEvents(t, StatusDuplicate, EventStatus{sumOf("a1b2"), StatusDuplicate})
	send("invoice=1", "", "invoice1").wantEvents(t, StatusIgnored, EventStatus{sumOf("invoice1"), StatusIgnored})
	send("invoice=2", "", "invoice2").wantEvents(t, StatusIgnored, EventStatus{sumOf("invoice2"), StatusIgnored})
	send("", "event_id=evt-1&a=1", "a1event_idevt-1").wantEvents(t, StatusIgnored, EventStatus{"evt-1", StatusIgnored})
	wantTables(t, p.pool, map[string]int64{"events": 4, "event_bodies": 4, "counters": 2})
	// API keys stand in queries: what came there is kept nowhere.
	p.post(t, "books?authtoken=a-key-in-the-query", `{}`, "X-Zoho-Webhook-Signature", hexOf(billingSecret, `authtokena-key-in-the-query{}`)).
		wantEvents(t, StatusIgnored, EventStatus{sumOf(`authtokena-key-in-the-query{}`), StatusIgnored})
	p.server.Close()
	if strings.Contains(p.log.String(), "a-key-in-the-query") {
		t.Errorf("the log holds the query:\n%s", p.log)
	}
	if kept := query[string](t, p.pool, `SELECT event_id::text FROM event_bodies b WHERE b::text LIKE '%' || encode('a-key-in-the-query', 'hex') || '%' OR b::text LIKE '%a-key-in-the-query%'`); len(kept) > 0 {
		t.Errorf("the query is kept with events %q", kept)
	}
}

// Once it is signed nothing is refused for what it says: Zoho would send it again
// until it gives the address up. What Postgres cannot keep as text is kept as bytes.
func TestProductsStoreAnyBytes(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	long := strings.Repeat("x", 256)
	for _, tc := range []struct {
		name, contentType, body string
		eventID                 string // "": of the digest
		recordID                string // "": the event's
		record                  string
	}{
		{"nothing", typeJSON, "", "", "", `{}`},
		{"an escaped NUL", typeJSON, `{"event_id":"1","a":"\u0000"}`, "", "", `{}`},
		{"an escaped NUL in the id", typeJSON, `{"event_id":"\u0000"}`, "", "", `{}`},
		{"a NUL", typeJSON, "{\"event_id\":\"\x00\"}", "", "", `{}`},
		{"half a surrogate pair", typeJSON, `{"event_id":"\ud800"}`, "", "", `{}`},
		{"what is not UTF-8", typeJSON, "{\"event_id\":\"\xff\"}", "", "", `{}`},
		{"bytes", typeJSON, "\x00\xff\xfe", "", "", `{}`},
		{"what is not JSON", typeJSON, `{"event_id":`, "", "", `{}`},
		{"an array", typeJSON, `[{"event_id":"1"}]`, "", "", `{}`},
		{"text", typeJSON, `"event_id"`, "", "", `{}`},
		{"null", typeJSON, `null`, "", "", `{}`},
		{"too deep", typeJSON, strings.Repeat(`{"a":`, 101) + "1" + strings.Repeat("}", 101), "", "", `{}`},
		{"a number beyond all", typeJSON, `{"event_id":"1","a":1e99999}`, "", "", `{}`},
		{"a byte order mark", typeJSON, "\ufeff" + `{"event_id":"bom"}`, "bom", "", `{"event_id":"bom"}`},
		{"an id of 256 bytes", typeJSON, `{"event_id":"` + long + `"}`, "", "", `{"event_id":"` + long + `"}`},
		{"an id of 255 bytes", typeJSON, `{"event_id":"` + long[1:] + `"}`, long[1:], "", `{"event_id":"` + long[1:] + `"}`},
		{"an id with a line break", typeJSON, `{"event_id":"a\nb"}`, "", "", `{"event_id":"a\nb"}`},
		{"an id of nothing", typeJSON, `{"event_id":"  "}`, "", "", `{"event_id":"  "}`},
		{"an id that is none", typeJSON, `{"event_id":{"a":1}}`, "", "", `{"event_id":{"a":1}}`},
		{"an id that is a fraction", typeJSON, `{"event_id":1.5}`, "", "", `{"event_id":1.5}`},
		{"an id that is null", typeJSON, `{"event_id":null}`, "", "", `{"event_id":null}`},
		{"an id that stands twice", typeJSON, `{"event_id":"x1","event_id":"x2"}`, "x2", "", `{"event_id":"x1","event_id":"x2"}`},
		{"a record's id of 256 bytes", typeJSON, `{"event_id":"r256","item":{"item_id":"` + long + `"}}`, "r256", "", `{"event_id":"r256","item":{"item_id":"` + long + `"}}`},
		{"a wrapper that is none", typeJSON, `{"event_id":"w","data":[1],"event_object":7,"item":{"item_id":7}}`, "w", "7", `{"event_id":"w","data":[1],"event_object":7,"item":{"item_id":7}}`},
		{"a form", typeForm, `event_id=f&a=1`, "f", "", `{"a":"1","event_id":"f"}`},
		{"a form with a NUL", typeForm, `event_id=%00`, "", "", `{}`},
		{"a form that is not UTF-8", typeForm, `event_id=1&a=%ff`, "", "", `{}`},
		{"a form that cannot be decoded", typeForm, `event_id=%zz`, "", "", `{}`},
		{"a form of many bytes once it is JSON", typeForm, `event_id=1&a=` + strings.Repeat("<", 1<<20-20), "", "", `{}`},
		{"a multipart form", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"event_id\"\r\n\r\nm\r\n--b--\r\n", "m", "", `{"event_id":"m"}`},
		{"a multipart form that ends early", "multipart/form-data; boundary=b", "--b\r\n", "", "", `{}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.eventID == "" {
				tc.eventID = sumOf(tc.body)
			}
			if tc.recordID == "" {
				tc.recordID = tc.eventID
			}
			for _, product := range []string{"payments", "sign", "mail"} {
				p.send(t, product, tc.body, "Content-Type", tc.contentType).wantEvents(t, StatusIgnored, EventStatus{tc.eventID, StatusIgnored})
				p.send(t, product, tc.body, "Content-Type", tc.contentType).wantEvents(t, StatusDuplicate, EventStatus{tc.eventID, StatusDuplicate})
				got := query[string](t, p.pool, `SELECT e.record_id || '|' || convert_from(b.record, 'UTF8') || '|' || (b.body = $3)
					FROM events e JOIN event_bodies b ON b.event_id = e.id WHERE e.source = 'zoho-' || $1 AND e.event_id = $2`, product, tc.eventID, []byte(tc.body))
				if diff := cmp.Diff([]string{tc.recordID + "|" + tc.record + "|true"}, got); diff != "" {
					t.Errorf("%s stored (-want +got):\n%s", product, diff)
				}
			}
		})
	}
	wantWhole(t, p.pool)
	p.server.Close()
	if strings.Contains(p.log.String(), `"status":5`) {
		t.Errorf("an answer was 5xx:\n%s", p.log)
	}
}

// The request in which Zoho Mail hands over its secret gets its 200, also while
// the door is closed, and changes nothing: anybody could have sent it.
func TestMailHandsOverItsSecret(t *testing.T) {
	t.Parallel()
	const handedNote, sameNote = "a secret was handed over in X-Hook-Secret that is not the one set", "the secret was handed over that is set already"
	for _, tc := range []struct {
		name, set, handed, body, contentType string
		want                                 string // what the log says
		level                                string
	}{
		{"while none is set", "", handedOver, `{}`, typeJSON, handedNote, "WARN"},
		{"without a body", "", handedOver, "", "", handedNote, "WARN"},
		{"with a type that nobody takes", "", handedOver, "hello", "text/plain", handedNote, "WARN"},
		{"while another is set", mailSecret, handedOver, `{}`, typeJSON, handedNote, "WARN"},
		{"the one that is set", mailSecret, mailSecret, `{}`, typeJSON, sameNote, "INFO"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProductDoors(t, setup{}, func(s *ProductSettings) { s.Mail = tc.set })
			// Signed by itself, as Zoho Mail may do it: that proves nothing either.
			a := p.post(t, "mail", tc.body, "Content-Type", tc.contentType, "X-Hook-Secret", tc.handed, "X-Hook-Signature", base64Of(handedOver, tc.body))
			want := `{"status":"ignored","event_id":"","message":"Nothing was stored: this request hands over a secret.","events":[]}` + "\n"
			if diff := cmp.Diff(want, a.text); a.status != http.StatusOK || diff != "" {
				t.Errorf("answered %d (-want +got):\n%s", a.status, diff)
			}
			// Nor is anything proven by the empty secret while none is set.
			p.post(t, "mail", `{"event_id":"1"}`, "X-Hook-Secret", tc.handed, "X-Hook-Signature", base64Of("", `{"event_id":"1"}`))
			wantTables(t, p.pool, map[string]int64{})
			// What it handed over proves nothing afterwards.
			after := p.post(t, "mail", tc.body, "X-Hook-Signature", base64Of(handedOver, tc.body))
			if tc.set == "" {
				after.want(t, 404, "not_found")
			} else {
				after.want(t, 401, "unauthorized")
			}
			p.server.Close()
			found := false
			for line := range strings.Lines(p.log.String()) {
				found = found || strings.Contains(line, tc.want) && strings.Contains(line, `"level":"`+tc.level+`"`) && strings.Contains(line, `"source":"zoho-mail"`)
			}
			if !found {
				t.Errorf("the log does not say at %s that %s:\n%s", tc.level, tc.want, p.log)
			}
		})
	}

	t.Run("a body that our secret signs is an event all the same", func(t *testing.T) {
		t.Parallel()
		p := newProductDoors(t, setup{}, allProducts)
		p.send(t, "mail", `{"event_id":"1"}`, "X-Hook-Secret", mailSecret).wantEvents(t, StatusIgnored, EventStatus{"1", StatusIgnored})
		wantTables(t, p.pool, map[string]int64{"events": 1, "event_bodies": 1, "counters": 1})
	})
	t.Run("the log says so once a minute", func(t *testing.T) {
		t.Parallel()
		var now atomic.Int64
		p := newProductDoors(t, setup{}, func(s *ProductSettings) {
			s.Mail, s.Now = "", func() time.Time { return time.Unix(now.Load(), 0) }
		})
		for _, step := range []struct {
			at   int64
			want int
		}{{1_000, 1}, {1_059, 1}, {1_060, 2}, {1_119, 2}, {1_121, 3}} {
			now.Store(step.at)
			for range 3 {
				if a := p.post(t, "mail", `{}`, "X-Hook-Secret", handedOver); a.status != http.StatusOK {
					t.Errorf("answered %d", a.status)
				}
			}
			if n := strings.Count(p.log.String(), handedNote); n != step.want {
				t.Errorf("at second %d the log has said so %d times, want %d", step.at, n, step.want)
			}
		}
	})
	t.Run("an empty one is none", func(t *testing.T) {
		t.Parallel()
		p := newProductDoors(t, setup{}, func(s *ProductSettings) { s.Mail = "" })
		p.post(t, "mail", `{}`, "X-Hook-Secret", "").want(t, 404, "not_found")
	})
	t.Run("no other product has any", func(t *testing.T) {
		t.Parallel()
		p := newProductDoors(t, setup{}, func(s *ProductSettings) { s.Sign = "" })
		p.post(t, "sign", `{}`, "X-Hook-Secret", handedOver).want(t, 404, "not_found")
		p.post(t, "payments", `{}`, "X-Hook-Secret", handedOver).want(t, 401, "unauthorized")
		p.post(t, "mail", strings.Repeat(" ", MaxBody+1), "X-Hook-Secret", handedOver).want(t, 413, "body_too_large")
	})
}

// The limits are those of /webhooks/zoho, and in the same order.
func TestProductLimits(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	for _, product := range productNames {
		t.Run(product, func(t *testing.T) {
			body := `{"event_id":"1"}`
			p.post(t, product, strings.Repeat(" ", MaxBody+1)).want(t, 413, "body_too_large")
			p.postFrom(t, product, io.LimitReader(zeros{}, 2<<20)).want(t, 413, "body_too_large")
			p.post(t, product, body, "Content-Type", "text/plain").want(t, 415, "unsupported_media_type")
			p.send(t, product, body, "Content-Type", "application/xml").want(t, 415, "unsupported_media_type")
			large := `{"event_id":"large"}` + strings.Repeat(" ", MaxBody-len(`{"event_id":"large"}`))
			p.send(t, product, large).wantEvents(t, StatusIgnored, EventStatus{"large", StatusIgnored})
		})
	}
	if err := p.counts.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCounters(t, p.pool, counter.Changes{counter.Ignored: 6, counter.Rejected: 24})

	t.Run("a body that drips", func(t *testing.T) {
		t.Parallel()
		p := newProductDoors(t, setup{}, func(s *ProductSettings) { s.BodyTimeout = 50 * time.Millisecond })
		hold, release := io.Pipe()
		defer release.Close()
		p.postFrom(t, "sign", hold).want(t, 408, "body_too_slow")
	})
	t.Run("a backlog that is full", func(t *testing.T) {
		t.Parallel()
		p := newProductDoors(t, setup{}, func(s *ProductSettings) { s.MaxBacklog = 1 })
		p.send(t, "sign", `{"event_id":"1"}`).wantEvents(t, StatusIgnored, EventStatus{"1", StatusIgnored})
		p.door.send(t, "a", untimed("1", "a"))
		a := p.send(t, "sign", `{"event_id":"2"}`)
		a.want(t, 503, "backlog_full")
		if got := a.header.Get("Retry-After"); got != "5" {
			t.Errorf("Retry-After %q, want 5", got)
		}
		wantTables(t, p.pool, map[string]int64{"events": 2, "event_bodies": 2, "river_job": 1, "counters": 3})
	})
	t.Run("a database that is gone", func(t *testing.T) {
		t.Parallel()
		p := newProductDoors(t, setup{}, allProducts)
		p.pool.Close()
		p.send(t, "sign", `{"event_id":"2"}`).want(t, 503, "unavailable")
		p.post(t, "sign", `{"event_id":"2"}`).want(t, 401, "unauthorized")
	})
}

// What a line of the log says of an answer.
func TestTheLogSaysWhatBecameOfAProductsBody(t *testing.T) {
	t.Parallel()
	p := newProductDoors(t, setup{}, allProducts)
	p.send(t, "payments", `{"event_id":"1","email":"`+private+`"}`)
	p.post(t, "sign", `{}`)
	p.send(t, "sign", `{}`, "X-ZS-WEBHOOK-SIGNATURE", base64Of("another", `{}`))
	p.server.Close()
	for _, want := range []string{
		`"route":"/webhooks/zoho/{product}","status":200`, `"source":"zoho-payments","shape":"product","event_id":"1","accepted":0,"duplicate":0,"ignored":1`,
		`"code":"unauthorized","error":"the signature is missing"`, `"code":"unauthorized","error":"the signature does not hold"`,
	} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("the log does not hold %s:\n%s", want, p.log)
		}
	}
}
