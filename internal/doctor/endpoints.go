package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/endpoint"
	"github.com/memrelay/memrelay/internal/outbound"
)

const (
	// sideBySide endpoints are asked at one time, each for no longer than reachTime.
	sideBySide = 16
	reachTime  = 10 * time.Second
	// warnExpiry and failExpiry are how long before its end a certificate is a worry:
	// most are renewed thirty days before.
	warnExpiry = 14 * day
	failExpiry = 3 * day
	slowReach  = 2 * time.Second
)

func lookAtEndpoints(ctx context.Context, p *patient, n *notes) {
	rows := p.endpointsToReach(ctx, n)
	if len(rows) == 0 {
		return
	}
	box, err := app.NewBox(p.cfg)
	if err != nil {
		n.unseen("the endpoints", err)
		return
	}
	guard := outbound.NewGuard(p.cfg.OutboundAllowPrivate, p.cfg.OutboundPorts)
	o := p.cfg.Outbound
	targets := outbound.NewTargets(guard.TransportWith, box, endpoint.EnvCredentials(o.Token, o.Secret), p.o.Now)
	defer targets.CloseIdleConnections()
	notes := make([]notes, len(rows))
	turns := make(chan struct{}, sideBySide)
	var wg sync.WaitGroup
	for i, e := range rows {
		notes[i].check = n.check
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			defer notes[i].recoverPanic()
			ctx, cancel := context.WithTimeout(ctx, reachTime)
			defer cancel()
			reached, err := targets.Reach(ctx, e)
			p.tellReach(&notes[i], e.Name, reached, err)
		})
	}
	wg.Wait()
	for i := range notes {
		n.join(notes[i].take())
	}
}

// endpointsToReach notes what the rows say, and returns those that webhooks are sent to.
// Without a database there is the one of the settings.
func (p *patient) endpointsToReach(ctx context.Context, n *notes) []db.Endpoint {
	env := db.Endpoint{Name: endpoint.EnvName, URL: p.cfg.Outbound.URL, Timeout: p.cfg.Outbound.Timeout}
	if !p.sees() {
		if env.URL == "" {
			n.skip("endpoints are not looked at: they are in the database, which cannot be read")
			return nil
		}
		n.skip("only MEM0_WEBHOOK_URL is looked at: the other endpoints are in the database, which cannot be read")
		return []db.Endpoint{env}
	}
	rows, err := p.q.ListEndpoints(ctx)
	if err != nil {
		n.unseen("the endpoints", err)
		return nil
	}
	if len(rows) == 0 && env.URL == "" {
		n.note("run `memrelay endpoints create`, or set MEM0_WEBHOOK_URL, if somebody is to be told", "there is no endpoint: nobody is told when memory changes")
	}
	if at := slices.IndexFunc(rows, func(e db.Endpoint) bool { return e.Name == endpoint.EnvName }); (at < 0 && env.URL != "") || (at >= 0 && rows[at].URL != env.URL) {
		n.note("start a node that works, with the same MEM0_WEBHOOK_ settings on all of them", "the endpoint env is not as MEM0_WEBHOOK_URL says here: a node writes it when it starts")
	}
	return slices.DeleteFunc(rows, func(e db.Endpoint) bool { return !p.isSentTo(n, e) })
}

// isSentTo reports whether an endpoint gets webhooks, and notes it if it fares badly.
func (p *patient) isSentTo(n *notes, e db.Endpoint) bool {
	switch {
	case e.Status == endpoint.Paused:
		n.note("run `memrelay endpoints resume "+e.Name+"`, once it is to go on", "endpoint %s is paused: what it is to be told is kept", e.Name)
		return false
	case e.Status == endpoint.Disabled:
		n.warn("mend the receiver, then `memrelay endpoints resume "+e.Name+"`", "endpoint %s is disabled: %s", e.Name, e.StatusReason)
	case e.FailingSince != nil:
		n.warn("`memrelay deliveries list --endpoint "+e.Name+"` says how; `memrelay endpoints test "+e.Name+"` tries it", "endpoint %s has been failing for %s, %d times in a row", e.Name, span(p.o.Now().Sub(*e.FailingSince)), e.Failures)
	}
	return true
}

// tellReach notes how far the way to an endpoint was gone.
func (p *patient) tellReach(n *notes, name string, r outbound.Reach, err error) {
	if err != nil {
		n.fail(remedyOfReach(name, err), "endpoint %s: %v", name, err)
		return
	}
	whole := r.Connect + r.TLS
	well := p.tellExpiry(n, "endpoint "+name+": the receiver's certificate", "renew the receiver's certificate", r.Expires)
	well = p.tellExpiry(n, "endpoint "+name+": our own certificate", "run `memrelay endpoints update "+name+"` with a new certificate", r.OwnExpires) && well
	if whole > slowReach {
		n.warn("look at the network to "+r.Address+"; each delivery on a new connection waits as long", "endpoint %s: to connect takes %s", name, took(whole))
		well = false
	}
	switch {
	case !well:
	case r.Expires.IsZero():
		n.ok("endpoint %s can be reached, without TLS (%s)", name, took(whole))
	default:
		n.ok("endpoint %s can be reached (%s); its certificate is good for %s", name, took(whole), span(r.Expires.Sub(p.o.Now())))
	}
}

// tellExpiry notes a certificate that ends soon, and reports whether it does not.
func (p *patient) tellExpiry(n *notes, whose, remedy string, expires time.Time) bool {
	left := expires.Sub(p.o.Now())
	switch {
	case expires.IsZero() || left >= warnExpiry:
		return true
	case left <= 0:
		n.fail(remedy, "%s has expired", whose)
	case left < failExpiry:
		n.fail(remedy, "%s ends in %s", whose, span(left))
	default:
		n.warn(remedy, "%s ends in %s", whose, span(left))
	}
	return false
}

func remedyOfReach(name string, err error) string {
	var (
		lookup    *net.DNSError
		unknown   x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		wrongName x509.HostnameError
	)
	switch {
	case errors.Is(err, outbound.ErrRefused):
		return "set OUTBOUND_ALLOW_PRIVATE or OUTBOUND_PORTS, if it is meant; else change its URL: `memrelay endpoints update " + name + "`"
	case !errors.Is(err, outbound.ErrUnreachable):
		return "set MEMRELAY_KEY to what its secrets were sealed with, or set them anew: `memrelay endpoints update " + name + "`"
	case errors.As(err, &lookup):
		return "check the name in its URL, and this machine's DNS"
	case errors.As(err, &unknown):
		return "have the receiver send its whole chain, or name its authorities: `memrelay endpoints update " + name + "`"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the receiver's certificate; check this machine's clock"
	case errors.As(err, &wrongName):
		return "give the receiver a certificate for the name in its URL, or change the URL: `memrelay endpoints update " + name + "`"
	case strings.Contains(err.Error(), "TLS"):
		return "look at the receiver's TLS: versions, certificate, and whether it wants one of ours"
	}
	return "look whether the receiver runs, and whether a firewall is between; `memrelay endpoints pause " + name + "` meanwhile"
}
