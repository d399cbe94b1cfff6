package doctor

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// lookAtInbound looks whether Zoho could reach this program. From inside that may be
// impossible where all is well, so what it finds is worth knowing and no more.
func lookAtInbound(ctx context.Context, p *patient, n *notes) {
	base := p.cfg.Inbound.BaseURL
	if !p.cfg.Inbound.Enabled {
		n.note("set WEBHOOK_ENABLED=true, if webhooks are to be taken", "WEBHOOK_ENABLED is off: webhooks are not taken")
	}
	if base == "" {
		n.note("set WEBHOOK_BASE_URL, if Zoho is to be told by itself where to send", "WEBHOOK_BASE_URL is not set: notification channels are registered by hand")
		return
	}
	const look = "look from outside: `curl` of it with /livez; DNS, the proxy before memrelay, and its certificate"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/livez", nil)
	if err != nil {
		n.note(look, "WEBHOOK_BASE_URL cannot be asked")
		return
	}
	begun := p.o.Now()
	res, err := p.o.Transport.RoundTrip(req)
	if err != nil {
		n.note(look, "WEBHOOK_BASE_URL cannot be reached from here: %v", withoutURL(err))
		return
	}
	defer res.Body.Close()
	said, err := io.ReadAll(io.LimitReader(res.Body, 256))
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(said), `"ok"`) {
		n.note(look, "WEBHOOK_BASE_URL answers %d to /livez: that is not memrelay", res.StatusCode)
		return
	}
	n.ok("WEBHOOK_BASE_URL reaches memrelay (%s)", took(p.o.Now().Sub(begun)))
}

// withoutURL is an error without the URL, in which somebody may have put a secret.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
