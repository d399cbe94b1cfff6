package inbound

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// signedBody is what a signature can be about.
type signedBody struct {
	header      http.Header
	query       string // as it came
	contentType string
	body        []byte
	now         time.Time
}

// verifier looks for the signature of one product. It returns the text that was
// signed, without what differs between two attempts to deliver the same; or why
// nothing is proven, for the log alone. With an empty secret nothing is, since
// anybody can sign with it.
type verifier func(secret string, in signedBody) (text []byte, err error)

// paymentsTolerance is how far the timestamp of Zoho Payments may be from our
// clock, in both directions. Zoho signs each attempt anew
// (https://www.zoho.com/in/payments/developerdocs/webhooks/best-practices/): a late
// retry is not an old signature.
const paymentsTolerance = 5 * time.Minute

// verifyPayments is for Zoho Payments: X-Zoho-Webhook-Signature: t=<ms>,v=<hex>,
// where v is the HMAC of "<t>.<body>".
// https://www.zoho.com/in/payments/developerdocs/webhooks/verification/
func verifyPayments(secret string, in signedBody) ([]byte, error) {
	header, err := signatureIn(in.header, "X-Zoho-Webhook-Signature")
	if err != nil {
		return nil, err
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := parts[name]; twice {
			return nil, errWrongSignature
		}
		parts[name] = value
	}
	ms, err := strconv.ParseInt(parts["t"], 10, 64)
	if err != nil {
		return nil, errWrongSignature
	}
	if !isMAC(secret, slices.Concat([]byte(parts["t"]), []byte("."), in.body), decodeHex(parts["v"])) {
		return nil, errWrongSignature
	}
	if off := in.now.Sub(time.UnixMilli(ms)); off.Abs() > paymentsTolerance {
		return nil, fmt.Errorf("the signature holds, but is %s off our clock, of which %s are allowed", off.Round(time.Second), paymentsTolerance)
	}
	return in.body, nil
}

// verifyBilling is for Zoho Billing, Books and Inventory: X-Zoho-Webhook-Signature
// is the HMAC of billingText. Zoho's page does not say how it is written: hex is
// what others have seen, base64 is what Zoho's other products do, and no text is
// a signature in both.
// https://www.zoho.com/billing/kb/webhooks/securing-webhooks.html
func verifyBilling(secret string, in signedBody) ([]byte, error) {
	header, err := signatureIn(in.header, "X-Zoho-Webhook-Signature")
	if err != nil {
		return nil, err
	}
	text, err := billingText(in)
	if err != nil {
		return nil, err
	}
	if !isMAC(secret, text, decodeHex(header), decodeBase64(header)) {
		return nil, errWrongSignature
	}
	return text, nil
}

// billingText is what Billing signs: the pairs of the query and of a url-encoded
// form together, decoded, in the order of their keys, each key followed by its
// value and nothing between them; then the body, unless it is that form.
//
// Nothing in it says where a key ends, or what came in the query: whoever has one
// signed request can cut it up differently. It stays the same text, and the event
// is told by that.
func billingText(in signedBody) ([]byte, error) {
	pairs, err := url.ParseQuery(in.query)
	if err != nil {
		return nil, errors.New("the query cannot be decoded")
	}
	rest := in.body
	if decode := formType(in.contentType, in.body); decode != nil {
		if media, _, _ := mime.ParseMediaType(in.contentType); media == "multipart/form-data" {
			return nil, errors.New("how a multipart form is signed is not documented")
		}
		fields, err := decode(in.body)
		if err != nil {
			return nil, errors.New("the form cannot be decoded")
		}
		for key, values := range fields {
			pairs[key] = append(pairs[key], values...)
		}
		rest = nil
	}
	var text []byte
	for _, key := range slices.SortedFunc(maps.Keys(pairs), cmp.Compare) {
		for _, value := range pairs[key] {
			text = append(append(text, key...), value...)
		}
	}
	return append(text, rest...), nil
}

// verifySign is for Zoho Sign: X-ZS-WEBHOOK-SIGNATURE is the HMAC of the body in base64.
// https://help.zoho.com/portal/en/kb/zoho-sign/admin-guide/webhooks/articles/securing-zoho-sign-webhooks-with-hmac-authentication
func verifySign(secret string, in signedBody) ([]byte, error) {
	return verifyBase64(secret, "X-Zs-Webhook-Signature", in)
}

// verifyMail is for Zoho Mail: X-Hook-Signature is the HMAC of the body in base64.
// https://www.zoho.com/mail/help/dev-platform/webhook.html names neither; others do.
func verifyMail(secret string, in signedBody) ([]byte, error) {
	return verifyBase64(secret, "X-Hook-Signature", in)
}

func verifyBase64(secret, name string, in signedBody) ([]byte, error) {
	header, err := signatureIn(in.header, name)
	if err != nil {
		return nil, err
	}
	if !isMAC(secret, in.body, decodeBase64(header)) {
		return nil, errWrongSignature
	}
	return in.body, nil
}

// signatureIn returns the header called name. One that is there twice is no
// signature: the two are joined.
func signatureIn(h http.Header, name string) (string, error) {
	header := strings.TrimSpace(strings.Join(h.Values(name), ","))
	if header == "" {
		return "", errNoSignature
	}
	return header, nil
}

// isMAC reports whether any of candidates is the HMAC-SHA256 of text. How long it
// takes says nothing of how much of one was right.
func isMAC(secret string, text []byte, candidates ...[]byte) bool {
	if secret == "" {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(text)
	want := mac.Sum(nil)
	matched := 0
	for _, candidate := range candidates {
		matched |= subtle.ConstantTimeCompare(want, candidate)
	}
	return matched == 1
}

// decodeHex returns nil for what is no hex: hex.DecodeString returns the beginning.
func decodeHex(s string) []byte {
	decoded, err := hex.DecodeString(s)
	if err != nil {
		return nil
	}
	return decoded
}

// decodeBase64 returns nil for what is no base64, padding included.
func decodeBase64(s string) []byte {
	decoded, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil
	}
	return decoded
}
