package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrRefused is what every refusal of a [Guard] is, for errors.Is. The text of the error that wraps it says which address
// was refused and why. It never quotes a URL, which may carry a secret.
var ErrRefused = errors.New("refused by the outbound guard")

// Guard decides which addresses memrelay may talk to when somebody else chose the URL. It decides on the address that is
// dialled, not on the name in the URL: a name can answer differently between a check and the dial.
//
// Open are https to public addresses on port 443 and the extra ports, and everything inside the allow list. Link-local
// and cloud metadata addresses open only by an entry of the list that is exactly that address. What lies behind NAT64 is
// not inside the list with 64:ff9b::/96: there it is decided on the IPv4 address.
//
// Make one with [NewGuard]. It is safe for concurrent use.
type Guard struct {
	allow    []netip.Prefix
	exact    []netip.Prefix // opened only by a /32 or /128 in allow
	ports    []uint16
	public   *ssrf.Guardian
	resolver *net.Resolver // nil is the system's; tests bring their own
}

// NewGuard returns a guard that allows what lies in allowPrivate, with any port and with http too, and https to public
// addresses on port 443 and on ports. An entry written as a v4-mapped address (::ffff:10.0.0.0/104) means the IPv4 range.
func NewGuard(allowPrivate []netip.Prefix, ports []uint16) *Guard {
	g := &Guard{
		exact:  exactOnly(),
		ports:  append([]uint16{443}, ports...),
		public: ssrf.New(ssrf.WithAnyPort()),
	}
	for _, p := range allowPrivate {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allow = append(g.allow, p)
	}
	return g
}

// exactOnly lists what a wide entry of the allow list must not open: whoever writes 100.64.0.0/10 or fd00::/8 means a
// network, not the address on which a cloud hands out the credentials of the machine.
func exactOnly() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("169.254.0.0/16"),         // IPv4 link-local; most clouds' metadata
		netip.MustParsePrefix("fe80::/10"),              // IPv6 link-local; OpenStack's metadata
		netip.MustParsePrefix("fd00:ec2::/32"),          // AWS: metadata ::254, EKS pod identity ::23
		netip.MustParsePrefix("fd20:ce::254/128"),       // Google Cloud
		netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
		netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"),  // Akamai
		netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
		netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud
		netip.MustParsePrefix("192.0.0.192/32"),         // Oracle Cloud, first generation
		netip.MustParsePrefix("168.63.129.16/32"),       // Azure's WireServer, in a range that looks public
	}
}

// Allow decides on one dialled address. It returns nil, or an error that is [ErrRefused]. The zone of an IPv6 address
// names an interface of this machine and does not matter.
func (g *Guard) Allow(scheme string, addr netip.AddrPort) error {
	ip := g.behindNAT64(addr.Addr().Unmap().WithZone(""))
	switch {
	case scheme != "http" && scheme != "https":
		return refuse(addr, "only http and https are spoken")
	case !ip.IsValid():
		return refuse(addr, "not an address")
	case g.needsExact(ip):
		if !g.listedExactly(ip) {
			return refuse(addr, "a link-local or metadata address is opened only by exactly this address in the allow list")
		}
		return nil
	case g.listed(ip):
		return nil
	case g.public.SafeAddr(ip) != nil:
		return refuse(addr, "neither a public address nor in the allow list")
	case scheme != "https":
		return refuse(addr, "a public address is spoken to by https only")
	case !slices.Contains(g.ports, addr.Port()):
		return refuse(addr, fmt.Sprintf("port %d is not open to public addresses", addr.Port()))
	}
	return nil
}

func refuse(addr netip.AddrPort, why string) error {
	return fmt.Errorf("%w: %s: %s", ErrRefused, addr, why)
}

func (g *Guard) needsExact(ip netip.Addr) bool {
	all := append(embedded(ip), ip)
	return slices.ContainsFunc(g.exact, func(p netip.Prefix) bool { return slices.ContainsFunc(all, p.Contains) })
}

func (g *Guard) listed(ip netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(ip) })
}

func (g *Guard) listedExactly(ip netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.IsSingleIP() && p.Addr() == ip })
}

// behindNAT64 returns the IPv4 address that is decided on where ip goes through a listed NAT64 gateway, else ip. Whoever
// lists 64:ff9b::/96 has no IPv4 and means the public part of it, the only one that may be written so (RFC 6052, section
// 3.1); the gateway would bring us to the private part all the same.
func (g *Guard) behindNAT64(ip netip.Addr) netip.Addr {
	if !netip.MustParsePrefix("64:ff9b::/96").Contains(ip) || !g.listed(ip) || g.listedExactly(ip) {
		return ip
	}
	b := ip.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// embedded returns the IPv4 addresses that a gateway or tunnel could take out of ip, none for most. None of these ranges
// is public, so it matters only to an allow list that opens one: 64:ff9b:1::/48 must not open 169.254.169.254.
func embedded(ip netip.Addr) []netip.Addr {
	if !ip.Is6() {
		return nil
	}
	b := ip.As16()
	switch {
	case netip.MustParsePrefix("2002::/16").Contains(ip): // 6to4
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case netip.MustParsePrefix("2001::/32").Contains(ip): // Teredo: the server, and the client with its bits turned over
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	case netip.MustParsePrefix("64:ff9b:1::/48").Contains(ip): // NAT64 of a local network, which says how long its prefix is
		return []netip.Addr{ // RFC 6052, section 2.2: byte 8 is left out
			netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),  // 48
			netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}), // 56
			netip.AddrFrom4([4]byte(b[9:13])),                  // 64
			netip.AddrFrom4([4]byte(b[12:])),                   // 96
		}
	case netip.MustParsePrefix("64:ff9b::/96").Contains(ip), // NAT64
		netip.MustParsePrefix("::ffff:0:0:0/96").Contains(ip), // SIIT
		netip.MustParsePrefix("::/96").Contains(ip):           // IPv4-compatible
		return []netip.Addr{netip.AddrFrom4([4]byte(b[12:]))}
	}
	return nil
}

// CheckURL says what can be said of a URL without dialling: it must be http or https, without a user or password, with a
// host and a possible port; an address written in it is decided at once. A name passes, it is decided when it is dialled,
// and so are 127.1, 0x7f000001 and the like, which are names to Go. Every error is [ErrRefused].
func (g *Guard) CheckURL(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return fmt.Errorf("%w: not a URL", ErrRefused)
	}
	return g.checkURL(u)
}

func (g *Guard) checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: the URL is neither http nor https", ErrRefused)
	case u.User != nil:
		return fmt.Errorf("%w: the URL holds a user or password", ErrRefused)
	case u.Hostname() == "":
		return fmt.Errorf("%w: the URL holds no host", ErrRefused)
	}
	port, err := portOf(u)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil
	}
	return g.Allow(u.Scheme, netip.AddrPortFrom(ip, port))
}

func portOf(u *url.URL) (uint16, error) {
	switch {
	case u.Port() != "":
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || port == 0 {
			return 0, fmt.Errorf("%w: %s is not a port", ErrRefused, u.Port())
		}
		return uint16(port), nil
	case u.Scheme == "http":
		return 80, nil
	default:
		return 443, nil
	}
}

// Transport returns a round tripper that connects only to what the guard allows and uses no proxy, which would dial in
// our stead. It keeps its own pool of idle connections: make one and share it. CloseIdleConnections, directly or through
// http.Client, empties the pool.
//
// A client that follows redirects on top of it has every hop checked. A refusal is [ErrRefused] only if no address of the
// name was allowed; if one was and did not answer, that is a connection error which may pass. So is that a receiver of
// HTTP/2 turned a request away on every one of four new connections.
func (g *Guard) Transport() http.RoundTripper { return g.TransportWith(nil) }

// TransportWith is [Guard.Transport] with TLS settings of one's own, such as a certificate for the receiver to know us by;
// nil is none. What is dialled is decided as ever, and HTTP/2 is spoken.
func (g *Guard) TransportWith(settings *tls.Config) http.RoundTripper {
	t := &guardedTransport{guard: g, https: g.transport("https"), http: g.transport("http")}
	t.https.TLSClientConfig = settings.Clone()
	return t
}

// guardedTransport holds one transport per scheme, because the decision needs the scheme and a dialer is not told it. A
// value in the request's context would do as long as http.Transport hands the dial the context of a request with the same
// scheme; two transports with two pools need no such promise.
type guardedTransport struct {
	guard *Guard
	https *http.Transport
	http  *http.Transport
}

func (t *guardedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.guard.checkURL(req.URL); err != nil {
		if req.Body != nil {
			_ = req.Body.Close() // a RoundTripper closes it also when it fails
		}
		return nil, err
	}
	req = req.WithContext(context.WithValue(req.Context(), dialsKey{}, new(atomic.Int32)))
	if req.URL.Scheme == "https" {
		return t.https.RoundTrip(req)
	}
	return t.http.RoundTrip(req)
}

// dialsKey is where the context of a request holds how often was dialled for it. http.Transport hands that context to the
// dial; if it ever did not, nothing would be counted.
type dialsKey struct{}

// maxDials is how often is dialled for one request. One is usual, and one more where a connection was about to close. But
// http.Transport tries again for as long as a receiver of HTTP/2 greets each connection with GOAWAY, hundreds of times a
// second, and what it leaves open are file descriptors of ours.
const maxDials = 4

// CloseIdleConnections closes the connections that wait for a next request.
func (t *guardedTransport) CloseIdleConnections() {
	t.https.CloseIdleConnections()
	t.http.CloseIdleConnections()
}

func (g *Guard) transport(scheme string) *http.Transport {
	return &http.Transport{
		Proxy:               nil,
		DialContext:         g.dialer(scheme),
		DisableCompression:  true, // a small answer could unpack to any size
		ForceAttemptHTTP2:   true, // a DialContext of one's own turns HTTP/2 off otherwise
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 32,
		// Below the idle limits of common load balancers (60 s and more), so that it is us who hang up.
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		HTTP2: &http.HTTP2Config{
			// By default a receiver may fill 4 MiB per stream before anybody reads.
			MaxReceiveBufferPerStream:     64 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			// A connection that died silently is noticed here and not by the timeout of every delivery on it.
			SendPingTimeout: 15 * time.Second,
			PingTimeout:     15 * time.Second,
		},
	}
}

// dialer returns a dial function that asks the guard about each address of a name, after it was resolved and before it is
// connected to, in the hook the dialer calls for every single attempt.
func (g *Guard) dialer(scheme string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials, ok := ctx.Value(dialsKey{}).(*atomic.Int32); ok && dials.Add(1) > maxDials {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("every new connection turned the request away")}
		}
		var allowed atomic.Bool // attempts on IPv4 and IPv6 run side by side
		d := net.Dialer{
			// http.Transport takes the deadline off the context it dials with. Without one the dialer would spend
			// minutes on the first dead address of a name and never come to the second.
			Timeout:  10 * time.Second,
			Resolver: g.resolver,
			Control: func(_, address string, _ syscall.RawConn) error {
				addr, err := netip.ParseAddrPort(address)
				if err != nil {
					return fmt.Errorf("%w: not an address", ErrRefused)
				}
				if err := g.Allow(scheme, addr); err != nil {
					return err
				}
				allowed.Store(true)
				return nil
			},
		}
		conn, err := d.DialContext(ctx, network, address)
		if errors.Is(err, ErrRefused) && allowed.Load() {
			// The dialer reports the first failure. Passing on a refusal here would make a receiver that is down
			// for a minute look like one that may never be reached.
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("no allowed address answered")}
		}
		return conn, err
	}
}
