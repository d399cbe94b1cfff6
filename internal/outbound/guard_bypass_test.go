package outbound

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"code.dny.dev/ssrf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// bypass is one attempt to reach what the guard forbids, or, so that a guard which refuses everything is found out, one
// that must get through. It goes the whole way of a delivery: URL, name server, transport, dialer, socket.
type bypass struct {
	name     string
	url      string // PORT in it is the port on which the receivers of the test listen
	resolves string // what a name server says of every name, parted by spaces
	allow    string // entries of the allow list, parted by spaces
	public   bool   // 127.0.0.0/8 counts as public: the rules for public addresses, without leaving this machine
	class    string // refused unless set
	want     string // part of the error
	reached  string // the one address that is asked
}

// delivered is the class of a bypass that gets through.
const delivered = "delivered"

const (
	notPublic = "neither a public"
	exactly   = "exactly this address"
)

// bypasses is the table. The addresses 127.0.0.1, 127.0.0.9 and ::1 have receivers.
func bypasses() []bypass {
	return slices.Concat(literalBypasses(), nameBypasses(), urlBypasses(), severalAddressBypasses(), allowListBypasses(), throughTheGuard())
}

// literalBypasses have the address in the URL.
func literalBypasses() []bypass {
	return []bypass{
		{name: "loopback", url: "http://127.0.0.1:PORT/", want: notPublic},
		{name: "loopback by https", url: "https://127.0.0.9:PORT/", want: notPublic},
		{name: "IPv6 loopback", url: "http://[::1]:PORT/", want: notPublic},
		{name: "IPv6 loopback in full", url: "http://[0000:0000:0000:0000:0000:0000:0000:0001]:PORT/", want: notPublic},
		{name: "IPv6 loopback with a zone", url: "http://[::1%25lo]:PORT/", want: notPublic},
		{name: "unspecified IPv4", url: "http://0.0.0.0:PORT/", want: notPublic},
		{name: "unspecified IPv6", url: "http://[::]:PORT/", want: notPublic},
		{name: "mapped loopback", url: "http://[::ffff:127.0.0.1]:PORT/", want: notPublic},
		{name: "mapped loopback in hexadecimal", url: "http://[::ffff:7f00:1]:PORT/", want: notPublic},
		{name: "mapped loopback in capitals and in full", url: "http://[0:0:0:0:0:FFFF:7F00:0001]:PORT/", want: notPublic},
		{name: "mapped loopback with a zone", url: "http://[::ffff:127.0.0.1%25lo]:PORT/", want: notPublic},
		{name: "mapped unspecified", url: "http://[::ffff:0:0]:PORT/", want: notPublic},
		{name: "compatible loopback", url: "http://[::7f00:1]:PORT/", want: notPublic},
		{name: "metadata", url: "http://169.254.169.254/latest/meta-data/", want: exactly},
		{name: "metadata by https", url: "https://169.254.169.254/", want: exactly},
		{name: "mapped metadata", url: "http://[::ffff:a9fe:a9fe]/", want: exactly},
		{name: "NAT64 metadata", url: "http://[64:ff9b::a9fe:a9fe]/", want: exactly},
		{name: "AWS metadata over IPv6", url: "http://[fd00:ec2::254]/", want: exactly},
		{name: "link-local with a zone", url: "https://[fe80::a9fe:a9fe%25eth0]/", want: exactly},
	}
}

// nameBypasses have a name in the URL that resolves to one address.
func nameBypasses() []bypass {
	var all []bypass
	for want, addresses := range map[string]string{
		notPublic: "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.0.0.9 127.255.255.254 " +
			"172.16.0.1 172.31.255.254 192.0.0.1 192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.1 " +
			"192.175.48.1 198.18.0.1 198.19.255.254 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 " +
			"255.255.255.255 " +
			":: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0.0.0.0 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 " +
			"64:ff9b::10.0.0.1 64:ff9b:1::10.0.0.1 64:ff9b:1:7f00:0:100:: 100::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 " +
			"2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 2002:a00:1::1 2620:4f:8000::1 3fff::1 4000::1 " +
			"5f00::1 fc00::1 fd12:3456::1 fec0::1 feff::1 ff01::1 ff02::1 ff0e::1",
		exactly: "169.254.0.1 169.254.0.23 169.254.169.254 169.254.170.2 100.100.100.200 168.63.129.16 192.0.0.192 " +
			"::ffff:169.254.169.254 ::169.254.169.254 ::ffff:0:169.254.169.254 64:ff9b::169.254.169.254 " +
			"64:ff9b:1::169.254.169.254 2002:a9fe:a9fe::1 fe80::1 fe80::a9fe:a9fe febf::1 fd00:ec2::254 fd00:ec2::23 " +
			"fd20:ce::254 fd00:c1::a9fe:a9fe fd00:a9fe:a9fe::1 fd00:42::42",
	} {
		for _, a := range strings.Fields(addresses) {
			all = append(all, bypass{name: "name of " + a, url: "https://name.test/", resolves: a, want: want})
		}
	}
	return all
}

// urlBypasses play with how a URL is written.
func urlBypasses() []bypass {
	return []bypass{
		// A resolver of the C library reads these as addresses. Ours is asked for a name, or finds that it is none.
		{name: "decimal", url: "http://2130706433:PORT/", resolves: "127.0.0.1", class: ClassDNS, want: "no such host"},
		{name: "octal", url: "http://0177.0.0.1:PORT/", resolves: "127.0.0.1", class: ClassDNS, want: "no such host"},
		{name: "short", url: "http://127.1:PORT/", resolves: "127.0.0.1", class: ClassDNS, want: "no such host"},
		{name: "zero", url: "http://0:PORT/", resolves: "127.0.0.1", class: ClassDNS, want: "no such host"},
		{name: "leading zeros", url: "http://127.0.0.001:PORT/", resolves: "127.0.0.1", class: ClassDNS, want: "no such host"},
		{name: "too large a part", url: "http://127.0.0.257:PORT/", resolves: "127.0.0.1", class: ClassDNS, want: "no such host"},
		{name: "address with a trailing dot", url: "http://127.0.0.1.:PORT/", resolves: "127.0.0.1", class: ClassDNS, want: "no such host"},
		{name: "hexadecimal", url: "http://0x7f000001:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "hexadecimal parts", url: "http://0x7f.0x0.0x0.0x1:PORT/", resolves: "127.0.0.1", want: notPublic},

		{name: "localhost", url: "http://localhost:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "localhost in capitals", url: "http://LOCALHOST:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "localhost with a trailing dot", url: "http://localhost.:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "name below localhost", url: "http://a.localhost:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "name with a trailing dot", url: "http://name.test.:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "name that spells an address", url: "http://127.0.0.1.name.test:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "name of a cloud's metadata", url: "http://metadata.google.internal/", resolves: "169.254.169.254", want: exactly},

		{name: "wide digits", url: "http://①②⑦.⓪.⓪.①:PORT/", want: notPublic},
		{name: "full-width digits and dots", url: "http://１２７。０。０。１:PORT/", want: notPublic},
		{name: "escaped wide digit", url: "http://127.0.0.%E2%91%A0:PORT/", want: notPublic},
		{name: "name in another alphabet", url: "http://бот.test:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "soft hyphen in localhost", url: "http://local\u00adhost:PORT/", resolves: "127.0.0.1", want: notPublic},
		{name: "escaped digit", url: "http://127.0.0.%31:PORT/", class: ClassRequest, want: "escape"},
		{name: "escaped dot", url: "http://127%2e0.0.1:PORT/", class: ClassRequest, want: "escape"},
		{name: "socket of a program on this machine", url: "http://%2Fvar%2Frun%2Fdocker.sock/", class: ClassRequest, want: "escape"},
		{name: "IPv4 in brackets", url: "http://[127.0.0.1]:PORT/", class: ClassRequest, want: "invalid"},
		{name: "IPv6 without brackets", url: "http://::1:PORT/", class: ClassRequest, want: "invalid"},
		{name: "blank in the host", url: "http://127.0.0.1 .name.test:PORT/", class: ClassRequest, want: "invalid character"},
		{name: "NUL in the host", url: "http://127.0.0.1\x00.name.test:PORT/", class: ClassRequest, want: "invalid control character"},
		{name: "line break in the path", url: "http://name.test:PORT/\r\nHost: 127.0.0.1", class: ClassRequest, want: "invalid control character"},

		{name: "user that looks like the host", url: "http://example.com@127.0.0.1:PORT/", want: "user or password"},
		{name: "host that looks like the user", url: "http://127.0.0.1:PORT@example.com/", want: "user or password"},
		{name: "user and password", url: "https://u:p@name.test/", resolves: "127.0.0.1", want: "user or password"},
		{name: "two at signs", url: "http://a@example.com@127.0.0.1:PORT/", want: "user or password"},
		{name: "backslash before the at sign", url: `http://example.com\@127.0.0.1:PORT/`, class: ClassRequest, want: "invalid userinfo"},
		{name: "backslash after the host", url: `http://127.0.0.1:PORT\.example.com/`, class: ClassRequest, want: "invalid"},
		{name: "fragment before the host", url: "http://127.0.0.1:PORT#@example.com/", want: notPublic},
		{name: "query before the host", url: "http://127.0.0.1:PORT?@example.com/", want: notPublic},
		{name: "no slashes", url: "http:127.0.0.1:PORT/", class: ClassRequest, want: "no host"},
		{name: "three slashes", url: "http:///127.0.0.1:PORT/", class: ClassRequest, want: "no host"},
		{name: "two ports", url: "http://127.0.0.1:PORT:443/", class: ClassRequest, want: "invalid"},
		{name: "port that wraps around", url: "http://127.0.0.1:65616/", want: "not a port"},
		{name: "port zero", url: "https://name.test:0/", resolves: "127.0.0.1", want: "not a port"},
		{name: "negative port", url: "http://127.0.0.1:-1/", class: ClassRequest, want: "invalid"},

		{name: "ftp", url: "ftp://127.0.0.1:PORT/", want: "neither http nor https"},
		{name: "gopher", url: "gopher://127.0.0.1:PORT/_x", want: "neither http nor https"},
		{name: "file on a host", url: "file://localhost/etc/passwd", want: "neither http nor https"},
		{name: "socket scheme", url: "http+unix://name.test/", want: "neither http nor https"},
		{name: "web socket", url: "ws://127.0.0.1:PORT/", want: "neither http nor https"},
		{name: "clear-text HTTP/2", url: "h2c://127.0.0.1:PORT/", want: "neither http nor https"},
		{name: "no scheme", url: "//127.0.0.1:PORT/", want: "neither http nor https"},

		{name: "public name by http", url: "http://name.test:PORT/", resolves: "127.0.0.1", public: true, want: "https only"},
		{name: "public name on another port", url: "https://name.test:22/", resolves: "127.0.0.1", public: true, want: "port 22"},
		{name: "public name on port 80", url: "https://name.test:80/", resolves: "127.0.0.1", public: true, want: "port 80"},
	}
}

// severalAddressBypasses have a name that resolves to several addresses: what is dialled decides.
func severalAddressBypasses() []bypass {
	return []bypass{
		{name: "all forbidden", url: "http://name.test:PORT/", resolves: "127.0.0.9 ::1 10.0.0.1", want: notPublic},
		{name: "forbidden IPv4 before allowed IPv4", url: "http://name.test:PORT/", resolves: "127.0.0.9 127.0.0.1", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "allowed IPv4 before forbidden IPv4", url: "http://name.test:PORT/", resolves: "127.0.0.1 127.0.0.9", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "forbidden IPv6 races allowed IPv4", url: "http://name.test:PORT/", resolves: "::1 127.0.0.1", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "forbidden IPv4 races allowed IPv6", url: "http://name.test:PORT/", resolves: "127.0.0.9 ::1", allow: "::1/128", class: delivered, reached: "::1"},
		{name: "allowed among many", url: "http://name.test:PORT/", resolves: "0.0.0.0 :: 127.0.0.9 169.254.169.254 fe80::1 127.0.0.1 10.0.0.1 ::1", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		// Nobody listens on 127.0.0.2, and the dialer goes on to addresses that would answer.
		{name: "allowed is down, forbidden IPv4 is up", url: "http://name.test:PORT/", resolves: "127.0.0.2 127.0.0.9", allow: "127.0.0.2/32", class: ClassConnect},
		{name: "allowed is down, forbidden IPv6 is up", url: "http://name.test:PORT/", resolves: "127.0.0.2 ::1", allow: "127.0.0.2/32", class: ClassConnect},
	}
}

// allowListBypasses stretch an entry of the allow list to more than it says.
func allowListBypasses() []bypass {
	return []bypass{
		{name: "neighbour of an entry", url: "http://127.0.0.9:PORT/", allow: "127.0.0.1/32", want: notPublic},
		{name: "unspecified under listed loopback", url: "http://name.test:PORT/", resolves: "0.0.0.0", allow: "127.0.0.0/8", want: notPublic},
		{name: "unspecified IPv6 under listed loopback", url: "http://name.test:PORT/", resolves: "::", allow: "127.0.0.0/8 ::1/128", want: notPublic},
		{name: "IPv4 under all of IPv6", url: "http://name.test:PORT/", resolves: "127.0.0.1", allow: "::/0", want: notPublic},
		{name: "mapped under all of IPv6", url: "http://name.test:PORT/", resolves: "::ffff:127.0.0.1", allow: "::/0", want: notPublic},
		{name: "mapped under the mapped range's beginning", url: "http://name.test:PORT/", resolves: "::ffff:127.0.0.1", allow: "::/64", want: notPublic},
		{name: "NAT64 loopback under NAT64", url: "http://name.test:PORT/", resolves: "64:ff9b::127.0.0.1", allow: "64:ff9b::/96", want: notPublic},
		{name: "NAT64 private under NAT64", url: "http://name.test:PORT/", resolves: "64:ff9b::10.0.0.1", allow: "64:ff9b::/96", want: notPublic},
		{name: "metadata under its range", url: "http://name.test/", resolves: "169.254.169.254", allow: "169.254.0.0/16", want: exactly},
		{name: "metadata under everything", url: "http://name.test/", resolves: "169.254.169.254", allow: "0.0.0.0/0 ::/0", want: exactly},
		{name: "mapped metadata under everything", url: "http://name.test/", resolves: "::ffff:169.254.169.254", allow: "0.0.0.0/0 ::/0", want: exactly},
		{name: "link-local under its range", url: "http://name.test/", resolves: "fe80::1", allow: "fe80::/10", want: exactly},
		{name: "AWS metadata over IPv6 under unique local", url: "http://name.test/", resolves: "fd00:ec2::254", allow: "fc00::/7", want: exactly},
		{name: "Alibaba metadata under carrier-grade NAT", url: "http://name.test/", resolves: "100.100.100.200", allow: "100.64.0.0/10", want: exactly},
		{name: "local NAT64 metadata under local NAT64", url: "http://name.test/", resolves: "64:ff9b:1:a9fe:a9:fe00::", allow: "64:ff9b:1::/48", want: exactly},
		{name: "6to4 metadata under 6to4", url: "http://name.test/", resolves: "2002:a9fe:a9fe::1", allow: "2002::/16", want: exactly},
		{name: "user under everything", url: "http://u@127.0.0.1:PORT/", allow: "0.0.0.0/0", want: "user or password"},
		{name: "another scheme under everything", url: "gopher://127.0.0.1:PORT/", allow: "0.0.0.0/0", want: "neither http nor https"},
	}
}

// throughTheGuard is what must not be refused.
func throughTheGuard() []bypass {
	return []bypass{
		{name: "listed address", url: "http://127.0.0.1:PORT/", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "listed range", url: "http://127.0.0.9:PORT/", allow: "127.0.0.0/8", class: delivered, reached: "127.0.0.9"},
		{name: "listed IPv6", url: "http://[::1]:PORT/", allow: "::1/128", class: delivered, reached: "::1"},
		{name: "listed, written as mapped", url: "http://[::ffff:127.0.0.1]:PORT/", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "entry written as mapped", url: "http://127.0.0.1:PORT/", allow: "::ffff:127.0.0.1/128", class: delivered, reached: "127.0.0.1"},
		{name: "name of a listed address", url: "http://name.test:PORT/", resolves: "127.0.0.1", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "name with a trailing dot of a listed address", url: "http://name.test.:PORT/", resolves: "127.0.0.1", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "name in another alphabet of a listed address", url: "http://бот.test:PORT/", resolves: "127.0.0.1", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "mapped answer of a listed address", url: "http://name.test:PORT/", resolves: "::ffff:127.0.0.1", allow: "127.0.0.1/32", class: delivered, reached: "127.0.0.1"},
		{name: "listed address where loopback is public", url: "http://127.0.0.9:PORT/", allow: "127.0.0.9/32", public: true, class: delivered, reached: "127.0.0.9"},
		// The receivers speak no TLS: whoever sees that has dialled them.
		{name: "public name by https on an open port", url: "https://name.test:PORT/", resolves: "127.0.0.1", public: true, class: ClassTLS},
		{name: "public address by https on an open port", url: "https://127.0.0.9:PORT/", public: true, class: ClassTLS},
		{name: "listed name by https", url: "https://name.test:PORT/", resolves: "127.0.0.1", allow: "127.0.0.1/32", class: ClassTLS},
	}
}

func TestBypasses(t *testing.T) {
	t.Parallel()
	where := serveEverywhere(t)
	rows := bypasses()
	through := 0
	for i, tt := range rows {
		if tt.class == delivered || tt.class == ClassTLS {
			through++
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.reached == "::1" && !where.ipv6 {
				t.Skip("no IPv6 here")
			}
			g := guardFor(strings.Fields(tt.allow)...)
			g.ports = append(g.ports, where.port)
			g.resolver = fakeResolver(strings.Fields(tt.resolves)...)
			if tt.public {
				g.public = ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.0/8")))
			}
			r := requestTo(strings.ReplaceAll(tt.url, "PORT", fmt.Sprint(where.port)))
			r.ID = fmt.Sprintf("row_%d", i)

			o := posterThrough(t, g.Transport()).post(t.Context(), r)

			type judged struct {
				Class   string
				Verdict verdict
				Reached []string
			}
			want := judged{Class: tt.class, Verdict: verdictRetry}
			switch tt.class {
			case "":
				want.Class, want.Verdict = ClassRefused, verdictFinal
			case ClassRequest:
				want.Verdict = verdictFinal
			case delivered:
				want = judged{Verdict: verdictDelivered, Reached: []string{tt.reached}}
			}
			if diff := cmp.Diff(want, judged{o.ErrorClass, o.Verdict, where.whoGot(r.ID)}); diff != "" {
				t.Errorf("(-want +got):\n%s%s", diff, o.Error)
			}
			if !strings.Contains(o.Error, tt.want) {
				t.Errorf("error %q does not say %q", o.Error, tt.want)
			}
		})
	}
	if attempts := len(rows) - through; attempts < 60 || through < 10 {
		t.Errorf("%d attempts and %d that must get through, want at least 60 and 10", attempts, through)
	}
}

// everywhere is the same receiver on several loopback addresses, which notes who got which delivery.
type everywhere struct {
	port uint16
	ipv6 bool // there is a receiver on ::1
	mu   sync.Mutex
	got  map[string][]string
}

func (e *everywhere) whoGot(id string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got[id]
}

// serveEverywhere starts the receivers. Where there is no IPv6 it leaves out ::1.
func serveEverywhere(t *testing.T) *everywhere {
	t.Helper()
	e := &everywhere{got: map[string][]string{}}
	var listeners map[string]net.Listener
	for try := 0; listeners["127.0.0.9"] == nil; try++ { // a port that is free on one address may be taken on another
		if try == 20 {
			t.Skip("no port is free on 127.0.0.1 and 127.0.0.9")
		}
		listeners, e.port = map[string]net.Listener{}, 0
		for _, host := range []string{"127.0.0.1", "127.0.0.9", "::1"} {
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, fmt.Sprint(e.port)))
			if err != nil {
				continue
			}
			t.Cleanup(func() { _ = l.Close() })
			e.port = netip.MustParseAddrPort(l.Addr().String()).Port()
			listeners[host] = l
		}
	}
	for host, l := range listeners {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			e.mu.Lock()
			defer e.mu.Unlock()
			id := r.Header.Get("Webhook-Id")
			e.got[id] = append(e.got[id], host)
		}))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0) // rows that try TLS
		_ = srv.Listener.Close()
		srv.Listener = l
		srv.Start()
		t.Cleanup(srv.Close)
	}
	_, e.ipv6 = listeners["::1"]
	return e
}

func TestAKeptConnectionLeadsOnlyWhereItWasDialled(t *testing.T) {
	t.Parallel()
	where := serveEverywhere(t)
	var moved atomic.Bool
	g := guardFor("127.0.0.1/32")
	g.resolver = resolverOf(func(string) []string {
		if moved.Load() {
			return []string{"127.0.0.9"}
		}
		return []string{"127.0.0.1"}
	})
	rt := g.Transport()
	p := posterThrough(t, rt)
	send := func(id string) outcome {
		r := requestTo(fmt.Sprintf("http://name.test:%d/", where.port))
		r.ID = id
		return p.post(t.Context(), r)
	}

	send("before")
	moved.Store(true)
	kept := send("kept")
	(&http.Client{Transport: rt}).CloseIdleConnections()
	dialled := send("dialled")

	if kept.Verdict != verdictDelivered || dialled.ErrorClass != ClassRefused {
		t.Errorf("on the kept connection %+v, on a new one %+v", kept, dialled)
	}
	want := map[string][]string{"before": {"127.0.0.1"}, "kept": {"127.0.0.1"}}
	if diff := cmp.Diff(want, map[string][]string{"before": where.whoGot("before"), "kept": where.whoGot("kept")}); diff != "" {
		t.Errorf("who got what (-want +got):\n%s", diff)
	}
	if got := where.whoGot("dialled"); got != nil {
		t.Errorf("refused, and %s got it", got)
	}
}

func TestANarrowerGuardInheritsNoConnection(t *testing.T) {
	t.Parallel()
	where := serveEverywhere(t)
	r := requestTo(fmt.Sprintf("http://127.0.0.1:%d/", where.port))
	if o := posterThrough(t, guardFor("127.0.0.0/8").Transport()).post(t.Context(), r); o.Verdict != verdictDelivered {
		t.Fatalf("got %+v", o)
	}
	if o := posterThrough(t, guardFor("127.0.0.9/32").Transport()).post(t.Context(), r); o.ErrorClass != ClassRefused {
		t.Errorf("got %+v, want a refusal", o)
	}
}

// A certificate for *.example.com and HTTP/2 is all that a browser needs to send the requests for a second name on the
// connection of the first; Alt-Svc asks it to use another address from then on.
func TestConnectionsAreNotSharedBetweenNamesNorMovedByAltSvc(t *testing.T) {
	t.Parallel()
	var hosts sync.Map
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts.Store(r.Host, true)
		w.Header().Set("Alt-Svc", `h2="127.0.0.9:443"; ma=3600`)
		_, _ = io.WriteString(w, r.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	g := guardFor("127.0.0.1/32")
	g.resolver = resolverOf(func(name string) []string {
		if name == "example.com" {
			return []string{"127.0.0.1"}
		}
		return []string{"127.0.0.9"}
	})
	p := posterThrough(t, trusting(g, srv))

	for range 2 {
		o := p.post(t.Context(), requestTo("https://example.com:"+port+"/"))
		if o.Verdict != verdictDelivered || !strings.HasSuffix(o.ResponseHead, "HTTP/2.0") {
			t.Errorf("allowed name: %+v", o)
		}
	}
	if o := p.post(t.Context(), requestTo("https://www.example.com:"+port+"/")); o.ErrorClass != ClassRefused {
		t.Errorf("forbidden name: %+v", o)
	}
	if _, asked := hosts.Load("www.example.com:" + port); asked {
		t.Error("the forbidden name was asked on the connection of the allowed one")
	}
}

// hostile is a receiver that means harm, or is broken in a way that comes to the same.
type hostile struct {
	name    string
	talk    func(net.Conn) // after the request was read, unless raw
	raw     bool           // talk has the connection from its beginning
	secure  string         // what talk speaks on, to an https URL: h2 is HTTP/2 over TLS, none the bare connection; empty is http
	body    int            // bytes of the request's body, a few unless set
	timeout time.Duration  // ten seconds unless set; shorter where it is the timeout that ends the attempt
	floods  bool           // until the connection is given up, so that only what stays is bounded, not what passes through
	want    outcome
}

func hostileReceivers() []hostile {
	const ok = "HTTP/1.1 200 OK\r\n"
	const short = 300 * time.Millisecond
	inTime := outcome{StatusCode: 200, Verdict: verdictDelivered}
	tooLate := outcome{ErrorClass: ClassTimeout, Verdict: verdictRetry}
	lost := outcome{ErrorClass: ClassReset, Verdict: verdictRetry}
	noAnswer := outcome{ErrorClass: ClassOther, Verdict: verdictRetry}
	noTLS := outcome{ErrorClass: ClassTLS, Verdict: verdictRetry}
	return []hostile{
		{name: "body of 1 GiB", talk: flooding(ok+"Content-Length: 1073741824\r\n\r\n", "x"), want: inTime},
		{name: "body without a length that never ends", talk: flooding(ok+"\r\n", "x"), want: inTime},
		{name: "chunks without end", talk: flooding(ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), want: inTime},
		{name: "chunk extensions without end", talk: flooding(ok+"Transfer-Encoding: chunked\r\n\r\n1", ";a=b"), want: inTime},
		{name: "trailers without end", talk: flooding(ok+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"), want: inTime},
		{name: "gzip that nobody asked for", talk: flooding(ok+"Content-Encoding: gzip\r\n\r\n", bomb()), want: inTime},
		{name: "header without end in one line", talk: flooding(ok+"X: ", "x"), want: noAnswer},
		{name: "headers without end", talk: flooding(ok, "X: y\r\n"), want: noAnswer},
		{name: "status line without end", talk: flooding("HTTP/1.1 200 ", "x"), want: noAnswer},
		{name: "early answers without end", talk: flooding("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), want: noAnswer},
		{name: "100 Continue without end", talk: flooding("", "HTTP/1.1 100 Continue\r\n\r\n"), want: noAnswer},
		{name: "garbage without end", talk: flooding("", "\x00\xff\r\n"), want: noAnswer},

		{name: "silence in the body", talk: saying(ok + "Content-Length: 5\r\n\r\nx"), timeout: time.Second, want: inTime},
		{name: "silence in the headers", talk: saying(ok + "Content-Length: 5\r\n"), timeout: short, want: tooLate},
		{name: "body shorter than it says", talk: closing(ok + "Content-Length: 100\r\n\r\nshort"), want: inTime},
		{name: "body longer than it says", talk: saying(ok + "Content-Length: 1\r\n\r\nxx"), want: inTime},
		{name: "negative length", talk: saying(ok + "Content-Length: -1\r\n\r\n"), want: noAnswer},
		{name: "length that wraps around", talk: saying(ok + "Content-Length: 18446744073709551617\r\n\r\n"), want: noAnswer},
		{name: "two lengths", talk: saying(ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), want: noAnswer},
		{name: "chunk that is none", talk: closing(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), want: inTime},
		{name: "reset in the body", talk: resetting(ok + "Content-Length: 100\r\n\r\nshort"), want: inTime},

		{name: "answer before the body was read", raw: true, body: 16 << 20, talk: func(c net.Conn) { readSome(c, 100); saying("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")(c) },
			want: outcome{StatusCode: 413, ErrorClass: ClassHTTP, Verdict: verdictFinal}},
		{name: "body that is never read", raw: true, body: 16 << 20, talk: saying(""), timeout: short, want: tooLate},
		{name: "reset at the first byte", raw: true, talk: func(c net.Conn) { readSome(c, 1); reset(c); c.Close() }, want: lost},
		{name: "reset while the body is sent", raw: true, body: 16 << 20, talk: func(c net.Conn) { readSome(c, 1<<20); reset(c); c.Close() }, want: lost},

		{name: "garbage in place of a handshake", raw: true, secure: "none", talk: flooding("", "\x00\xff"), want: noTLS},
		{name: "handshake records without end", raw: true, secure: "none", talk: flooding("", "\x16\x03\x03\x00\x00"), want: noTLS},
		{name: "warnings without end", raw: true, secure: "none", talk: flooding("", "\x15\x03\x03\x00\x02\x01\x5a"), want: noTLS},
		{name: "handshake message of 16 MiB", raw: true, secure: "none", talk: flooding("\x16\x03\x03\x40\x00\x02\xff\xff\xff", "x"), want: noTLS},
		{name: "handshake that drips", raw: true, secure: "none", talk: dripping("\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"+strings.Repeat("x", 1000), 10*time.Millisecond), timeout: short, want: tooLate},
		{name: "reset while shaking hands", raw: true, secure: "none", talk: func(c net.Conn) { readSome(c, 100); reset(c); c.Close() }, want: noTLS},

		{name: "HTTP/2 garbage", raw: true, secure: "h2", talk: flooding("", "HTTP/1.1 400 No\r\n"), want: lost},
		{name: "HTTP/2 silence", raw: true, secure: "h2", talk: saying(frame(4, 0, 0, "")), timeout: short, want: tooLate},
		{name: "HTTP/2 pings without end", raw: true, secure: "h2", talk: flooding(frame(4, 0, 0, ""), frame(6, 0, 0, "12345678")), timeout: short, floods: true, want: tooLate},
		{name: "HTTP/2 settings without end", raw: true, secure: "h2", talk: flooding("", frame(4, 0, 0, "")), timeout: short, floods: true, want: tooLate},
		{name: "HTTP/2 goes away at once, every time", raw: true, secure: "h2", talk: saying(frame(4, 0, 0, "") + frame(7, 0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00")), want: outcome{ErrorClass: ClassConnect, Verdict: verdictRetry}},
		{name: "HTTP/2 refuses the stream, every time", raw: true, secure: "h2", talk: saying(frame(4, 0, 0, "") + frame(3, 0, 1, "\x00\x00\x00\x07")), timeout: time.Second, want: tooLate},
		{name: "HTTP/2 headers without end", raw: true, secure: "h2", talk: flooding(frame(4, 0, 0, "")+frame(1, 0, 1, "\x88"), frame(9, 0, 1, "\x00\x01x\x01y")), want: lost},
		{name: "HTTP/2 empty continuations without end", raw: true, secure: "h2", talk: flooding(frame(4, 0, 0, "")+frame(1, 0, 1, "\x88"), frame(9, 0, 1, "")), timeout: short, floods: true, want: tooLate},
		{name: "HTTP/2 early answers without end", raw: true, secure: "h2", talk: flooding(frame(4, 0, 0, ""), frame(1, 4, 1, "\x08\x03103")), floods: true, want: noAnswer},
		{name: "HTTP/2 body beyond what it may send", raw: true, secure: "h2", talk: flooding(frame(4, 0, 0, "")+frame(1, 4, 1, "\x88"), frame(0, 0, 1, strings.Repeat("x", 16<<10))), floods: true, want: inTime},
	}
}

// Not parallel, so that what is allocated meanwhile is this test's.
func TestHostileReceiversAreBounded(t *testing.T) {
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	certified.Close()
	// What our side and the receiver's take for one attempt that offers gigabytes.
	const mostInAll, mostKept = 3 << 20, 4 << 20

	for _, tt := range hostileReceivers() {
		t.Run(tt.name, func(t *testing.T) {
			var conns atomic.Int64
			over, hungUp := make(chan struct{}), make(chan struct{}, 1000)
			url := listening(t, func(c net.Conn) {
				conns.Add(1)
				defer func() { hungUp <- struct{}{} }()
				if tt.secure == "h2" {
					c = tls.Server(c, &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{tt.secure}, MinVersion: tls.VersionTLS12})
					readUntilHeaders(c)
				}
				if !tt.raw {
					req, err := http.ReadRequest(bufio.NewReader(c))
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
				}
				tt.talk(c)
				<-over // reads nothing more before
				holdOpen(c)
			})
			rt := trusting(guardFor("127.0.0.0/8"), certified).(*guardedTransport)
			rt.https.IdleConnTimeout, rt.https.TLSHandshakeTimeout = 100*time.Millisecond, 2*time.Second // rather than 30 and 10 s
			rt.https.HTTP2.SendPingTimeout, rt.https.HTTP2.PingTimeout = time.Second, time.Second        // rather than 15 s each
			p := posterThrough(t, rt)
			r := requestTo(url)
			if tt.secure != "" {
				r.URL = "https" + strings.TrimPrefix(url, "http")
			}
			if tt.timeout != 0 {
				r.Timeout = tt.timeout
			}
			if tt.body != 0 {
				r.Body = bytes.Repeat([]byte("x"), tt.body)
			}
			var before, after runtime.MemStats
			liveBefore := live()
			runtime.ReadMemStats(&before)
			o := p.post(t.Context(), r)
			runtime.ReadMemStats(&after)
			liveAfter := live() // the flood goes on
			runtime.KeepAlive(r)
			close(over)
			if diff := cmp.Diff(tt.want, o, cmpopts.IgnoreFields(outcome{}, "StartedAt", "Error", "ResponseHead", "DNS", "Connect", "TLS", "FirstByte", "Total")); diff != "" {
				t.Errorf("outcome (-want +got):\n%s%s", diff, o.Error)
			}
			if o.Total < tt.timeout || o.Total > tt.timeout+5*time.Second {
				t.Errorf("took %s", o.Total)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > mostInAll && !tt.floods {
				t.Errorf("%d bytes were allocated, want at most %d", n, mostInAll)
			}
			if n := liveAfter - liveBefore; n > mostKept {
				t.Errorf("%d bytes are kept, want at most %d", n, mostKept)
			}
			n := conns.Load()
			if n > maxDials {
				t.Errorf("%d connections for one attempt, want at most %d", n, maxDials)
			}
			for range n {
				<-hungUp // none is left open
			}
		})
	}
}

// live returns how many bytes of the heap are in use.
func live() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// flooding sends a beginning and then the same again and again, as fast as it is taken.
func flooding(beginning, again string) func(net.Conn) {
	return func(c net.Conn) {
		many := bytes.Repeat([]byte(again), 32<<10/len(again)+1)
		_, err := io.WriteString(c, beginning)
		for err == nil {
			_, err = c.Write(many)
		}
	}
}

func closing(s string) func(net.Conn) {
	return func(c net.Conn) { saying(s)(c); c.Close() }
}

func resetting(s string) func(net.Conn) {
	return func(c net.Conn) { saying(s)(c); reset(c); c.Close() }
}

func readSome(c net.Conn, n int64) { _, _ = io.CopyN(io.Discard, c, n) }

// readUntilHeaders reads the beginning of an HTTP/2 connection up to the first request's headers.
func readUntilHeaders(c net.Conn) {
	readSome(c, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))
	for head := make([]byte, 9); head[3] != 1; { // the kind of a frame, after three bytes of length
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		readSome(c, int64(head[0])<<16|int64(head[1])<<8|int64(head[2]))
	}
}

// frame is one of HTTP/2.
func frame(kind, flags byte, stream uint32, payload string) string {
	head := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	return string(binary.BigEndian.AppendUint32(head, stream)) + payload
}

// bomb is 10 KiB that unpack to 10 MiB.
func bomb() string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(make([]byte, 10<<20))
	_ = w.Close()
	return b.String()
}
