package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/memrelay/memrelay/db"
)

// alertTime is how long is waited for a receiver to mind our certificate: with TLS 1.3 it
// says so only after the handshake has ended for us.
const alertTime = 500 * time.Millisecond

// Reach is the way to an endpoint, as far as it was gone.
type Reach struct {
	Address string        // that was connected to; "": none
	Connect time.Duration // for the name and the connection
	TLS     time.Duration // for the handshake; 0: it is plain http
	// Expires is when the first certificate of the receiver's chain ends; zero where there is none.
	Expires time.Time
	// OwnExpires is when the certificate ends that we are known by; zero where there is none.
	OwnExpires time.Time
}

// ErrUnreachable is why [Targets.Reach] could not go the way to its end. The error that
// wraps it is also ErrRefused where the guard refuses.
var ErrUnreachable = errors.New("cannot be reached")

// Reach goes the way of an endpoint's deliveries up to where one would be sent: past the
// guard, with the endpoint's own certificates. Nothing is sent and no access token is
// fetched. The connection is closed again. The Targets are to be one's own: it is not for
// beside deliveries.
//
// The error is ErrUnreachable, or that of secrets which cannot be opened or used. It
// quotes no URL, which may carry a secret.
func (t *Targets) Reach(ctx context.Context, e db.Endpoint) (Reach, error) {
	to, err := t.get(e)
	if err != nil {
		return Reach{}, err
	}
	r := Reach{OwnExpires: ownExpiry(to.credentials.Auth.Certificate)}
	through, ok := to.through.(*guardedTransport)
	if !ok {
		return r, fmt.Errorf("%w: what deliveries go through is no guard's", ErrUnreachable)
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return r, fmt.Errorf("%w: not a URL", ErrUnreachable)
	}
	if err := through.reach(ctx, u, t.now, &r); err != nil {
		return r, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return r, nil
}

func (t *guardedTransport) reach(ctx context.Context, u *url.URL, now func() time.Time, r *Reach) error {
	if err := t.guard.checkURL(u); err != nil {
		return err
	}
	port, err := portOf(u)
	if err != nil {
		return err
	}
	way := t.https
	if u.Scheme == "http" {
		way = t.http
	}
	begun := now()
	conn, err := way.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), strconv.Itoa(int(port))))
	if err != nil {
		return err
	}
	defer conn.Close()
	r.Address, r.Connect = conn.RemoteAddr().String(), now().Sub(begun)
	if u.Scheme == "http" {
		return nil
	}
	return shakeHands(ctx, conn, way, u.Hostname(), now, r)
}

func shakeHands(ctx context.Context, conn net.Conn, way *http.Transport, host string, now func() time.Time, r *Reach) error {
	settings := way.TLSClientConfig.Clone()
	if settings == nil {
		settings = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	settings.ServerName, settings.NextProtos = host, []string{"h2", "http/1.1"}
	asked, own := false, settings.Certificates
	settings.Certificates = nil
	settings.GetClientCertificate = func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		for i := range own {
			if request.SupportsCertificate(&own[i]) == nil {
				return &own[i], nil
			}
		}
		return &tls.Certificate{}, nil // none, as a delivery would
	}
	ctx, cancel := context.WithTimeout(ctx, way.TLSHandshakeTimeout)
	defer cancel()
	begun := now()
	secured := tls.Client(conn, settings)
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	r.TLS = now().Sub(begun)
	r.Expires = expiry(secured.ConnectionState().VerifiedChains)
	if !asked {
		return nil
	}
	return minded(secured)
}

// minded returns the alert of a receiver that does not take the certificate it asked for.
func minded(secured *tls.Conn) error {
	// A deadline of the connection is the machine's time, whatever clock is looked at else.
	if err := secured.SetReadDeadline(time.Now().Add(alertTime)); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	var timeout net.Error
	_, err := secured.Read(make([]byte, 1))
	if err == nil || (errors.As(err, &timeout) && timeout.Timeout()) {
		return nil
	}
	return fmt.Errorf("TLS: the receiver does not take our certificate: %w", err)
}

// expiry is when the longest-lived chain ends: with its first certificate that does. The
// root's end is the end of nothing, for it is trusted as it is.
func expiry(chains [][]*x509.Certificate) (latest time.Time) {
	for _, chain := range chains {
		var first time.Time
		for i, c := range chain {
			if i > 0 && i == len(chain)-1 {
				break
			}
			if first.IsZero() || c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(latest) {
			latest = first
		}
	}
	return latest
}

// ownExpiry is when the certificate ends that stands first in PEM; zero where there is none.
func ownExpiry(text string) time.Time {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return time.Time{}
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return c.NotAfter
}
