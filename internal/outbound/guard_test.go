package outbound

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"code.dny.dev/ssrf"
)

// guardFor returns a guard with these entries in its allow list and 8443 as an extra port.
func guardFor(allow ...string) *Guard {
	var prefixes []netip.Prefix
	for _, a := range allow {
		prefixes = append(prefixes, netip.MustParsePrefix(a))
	}
	return NewGuard(prefixes, []uint16{8443})
}

func TestGuardDecidesOnAnAddress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		allow  string // entries of the allow list, parted by spaces
		scheme string // https unless set
		addr   string
		want   string // part of the refusal; empty if allowed
	}{
		{name: "public IPv4", addr: "8.8.8.8:443"},
		{name: "public IPv6", addr: "[2606:4700:4700::1111]:443"},
		{name: "public IPv4 as a v4-mapped address", addr: "[::ffff:8.8.8.8]:443"},
		{name: "extra port", addr: "8.8.8.8:8443"},
		{name: "port that is not open", addr: "8.8.8.8:8444", want: "port 8444"},
		{name: "https on port 80", addr: "8.8.8.8:80", want: "port 80"},
		{name: "http to a public address", scheme: "http", addr: "8.8.8.8:80", want: "https only"},
		{name: "http on port 443", scheme: "http", addr: "8.8.8.8:443", want: "https only"},
		{name: "another scheme", scheme: "ftp", addr: "8.8.8.8:443", want: "only http and https"},
		{name: "another scheme to a listed address", scheme: "gopher", allow: "8.8.8.8/32", addr: "8.8.8.8:443", want: "only http and https"},

		{name: "loopback", addr: "127.0.0.1:443", want: "neither a public"},
		{name: "end of loopback", addr: "127.255.255.254:443", want: "neither a public"},
		{name: "loopback as a v4-mapped address", addr: "[::ffff:127.0.0.1]:443", want: "neither a public"},
		{name: "IPv6 loopback", addr: "[::1]:443", want: "neither a public"},
		{name: "unspecified IPv4, which dials this host", addr: "0.0.0.0:443", want: "neither a public"},
		{name: "this network", addr: "0.1.2.3:443", want: "neither a public"},
		{name: "unspecified IPv6", addr: "[::]:443", want: "neither a public"},
		{name: "unspecified as a v4-mapped address", addr: "[::ffff:0.0.0.0]:443", want: "neither a public"},
		{name: "10/8", addr: "10.0.0.1:443", want: "neither a public"},
		{name: "172.16/12, first", addr: "172.16.0.1:443", want: "neither a public"},
		{name: "172.16/12, last", addr: "172.31.255.255:443", want: "neither a public"},
		{name: "just after 172.16/12", addr: "172.32.0.1:443"},
		{name: "192.168/16", addr: "192.168.1.1:443", want: "neither a public"},
		{name: "private as a v4-mapped address", addr: "[::ffff:10.0.0.1]:443", want: "neither a public"},
		{name: "carrier-grade NAT", addr: "100.64.0.1:443", want: "neither a public"},
		{name: "carrier-grade NAT, last", addr: "100.127.255.255:443", want: "neither a public"},
		{name: "just after carrier-grade NAT", addr: "100.128.0.1:443"},
		{name: "IETF protocol assignments", addr: "192.0.0.8:443", want: "neither a public"},
		{name: "TEST-NET-1", addr: "192.0.2.1:443", want: "neither a public"},
		{name: "TEST-NET-2", addr: "198.51.100.1:443", want: "neither a public"},
		{name: "TEST-NET-3", addr: "203.0.113.1:443", want: "neither a public"},
		{name: "benchmarking", addr: "198.19.0.1:443", want: "neither a public"},
		{name: "6to4 relay anycast", addr: "192.88.99.1:443", want: "neither a public"},
		{name: "multicast", addr: "224.0.0.1:443", want: "neither a public"},
		{name: "reserved", addr: "240.0.0.1:443", want: "neither a public"},
		{name: "broadcast", addr: "255.255.255.255:443", want: "neither a public"},
		{name: "unique local", addr: "[fc00::1]:443", want: "neither a public"},
		{name: "unique local, upper half", addr: "[fd12:3456::1]:443", want: "neither a public"},
		{name: "site-local", addr: "[fec0::1]:443", want: "neither a public"},
		{name: "IPv6 multicast", addr: "[ff02::1]:443", want: "neither a public"},
		{name: "IPv6 documentation", addr: "[2001:db8::1]:443", want: "neither a public"},
		{name: "IPv6 documentation of RFC 9637", addr: "[3fff::1]:443", want: "neither a public"},
		{name: "Teredo", addr: "[2001:0:4136:e378:8000:63bf:3fff:fdd2]:443", want: "neither a public"},
		{name: "ORCHIDv2", addr: "[2001:20::1]:443", want: "neither a public"},
		{name: "NAT64 of loopback", addr: "[64:ff9b::127.0.0.1]:443", want: "neither a public"},
		{name: "NAT64 of a public address", addr: "[64:ff9b::8.8.8.8]:443", want: "neither a public"},
		{name: "local NAT64", addr: "[64:ff9b:1::10.0.0.1]:443", want: "neither a public"},
		{name: "6to4 of loopback", addr: "[2002:7f00:1::1]:443", want: "neither a public"},
		{name: "IPv4-compatible loopback", addr: "[::127.0.0.1]:443", want: "neither a public"},
		{name: "SIIT of loopback", addr: "[::ffff:0:127.0.0.1]:443", want: "neither a public"},
		{name: "discard-only", addr: "[100::1]:443", want: "neither a public"},
		{name: "segment routing", addr: "[5f00::1]:443", want: "neither a public"},

		{name: "listed, with http and any port", allow: "10.0.0.0/8", scheme: "http", addr: "10.1.2.3:9000"},
		{name: "listed, with https and any port", allow: "10.0.0.0/8", addr: "10.1.2.3:9000"},
		{name: "listed, as a v4-mapped address", allow: "10.0.0.0/8", scheme: "http", addr: "[::ffff:10.1.2.3]:80"},
		{name: "entry with bits below its mask", allow: "10.9.9.9/8", scheme: "http", addr: "10.1.2.3:80"},
		{name: "entry written as v4-mapped", allow: "::ffff:10.0.0.0/104", scheme: "http", addr: "10.1.2.3:80"},
		{name: "second of two entries", allow: "10.0.0.0/8 192.168.0.0/16", scheme: "http", addr: "192.168.0.1:80"},
		{name: "neighbour of a listed range", allow: "10.0.0.0/9", addr: "10.128.0.1:443", want: "neither a public"},
		{name: "listed public address, with http", allow: "8.8.8.8/32", scheme: "http", addr: "8.8.8.8:80"},
		{name: "neighbour of a listed public address", allow: "8.8.8.8/32", scheme: "http", addr: "8.8.4.4:80", want: "https only"},
		{name: "listed unique local", allow: "fd00::/8", scheme: "http", addr: "[fd12::1]:80"},
		{name: "all of IPv6 is not IPv4", allow: "::/0", addr: "127.0.0.1:443", want: "neither a public"},
		{name: "listed loopback does not open the unspecified address", allow: "127.0.0.0/8", addr: "0.0.0.0:443", want: "neither a public"},

		{name: "metadata", addr: "169.254.169.254:443", want: "exactly this address"},
		{name: "metadata as a v4-mapped address", addr: "[::ffff:169.254.169.254]:443", want: "exactly this address"},
		{name: "metadata under its /16", allow: "169.254.0.0/16", scheme: "http", addr: "169.254.169.254:80", want: "exactly this address"},
		{name: "metadata under a /8", allow: "169.0.0.0/8", scheme: "http", addr: "169.254.169.254:80", want: "exactly this address"},
		{name: "metadata under a /31", allow: "169.254.169.254/31", scheme: "http", addr: "169.254.169.254:80", want: "exactly this address"},
		{name: "metadata under everything", allow: "0.0.0.0/0 ::/0", scheme: "http", addr: "169.254.169.254:80", want: "exactly this address"},
		{name: "metadata, listed exactly", allow: "169.254.169.254/32", scheme: "http", addr: "169.254.169.254:80"},
		{name: "metadata, listed exactly, as a v4-mapped address", allow: "169.254.169.254/32", scheme: "http", addr: "[::ffff:169.254.169.254]:80"},
		{name: "metadata, listed exactly as a v4-mapped entry", allow: "::ffff:169.254.169.254/128", scheme: "http", addr: "169.254.169.254:80"},
		{name: "another link-local address than the listed one", allow: "169.254.169.254/32", scheme: "http", addr: "169.254.170.2:80", want: "exactly this address"},
		{name: "IPv6 link-local", addr: "[fe80::1]:443", want: "exactly this address"},
		{name: "IPv6 link-local with a zone", addr: "[fe80::1%eth0]:443", want: "exactly this address"},
		{name: "IPv6 link-local under its /10", allow: "fe80::/10", addr: "[fe80::1%eth0]:443", want: "exactly this address"},
		{name: "IPv6 link-local, listed exactly", allow: "fe80::1/128", scheme: "http", addr: "[fe80::1%eth0]:80"},
		{name: "zone on a listed address", allow: "fd00::/8", scheme: "http", addr: "[fd12::1%eth0]:80"},
		{name: "zone on a private address", addr: "[fd12::1%eth0]:443", want: "neither a public"},
		{name: "AWS metadata over IPv6", allow: "fd00::/8", scheme: "http", addr: "[fd00:ec2::254]:80", want: "exactly this address"},
		{name: "AWS metadata over IPv6, listed exactly", allow: "fd00:ec2::254/128", scheme: "http", addr: "[fd00:ec2::254]:80"},
		{name: "Google metadata over IPv6", allow: "fd00::/8", scheme: "http", addr: "[fd20:ce::254]:80", want: "exactly this address"},
		{name: "Oracle metadata over IPv6", allow: "fd00::/8", scheme: "http", addr: "[fd00:c1::a9fe:a9fe]:80", want: "exactly this address"},
		{name: "Akamai metadata over IPv6", allow: "fd00::/8", scheme: "http", addr: "[fd00:a9fe:a9fe::1]:80", want: "exactly this address"},
		{name: "Scaleway metadata over IPv6", allow: "fd00::/8", scheme: "http", addr: "[fd00:42::42]:80", want: "exactly this address"},
		{name: "Alibaba metadata", allow: "100.64.0.0/10", scheme: "http", addr: "100.100.100.200:80", want: "exactly this address"},
		{name: "neighbour of Alibaba metadata", allow: "100.64.0.0/10", scheme: "http", addr: "100.100.100.201:80"},
		{name: "Oracle metadata, first generation", allow: "192.0.0.0/24", scheme: "http", addr: "192.0.0.192:80", want: "exactly this address"},
		{name: "Azure WireServer", addr: "168.63.129.16:443", want: "exactly this address"},
		{name: "NAT64 of metadata under a listed NAT64", allow: "64:ff9b::/96", scheme: "http", addr: "[64:ff9b::169.254.169.254]:80", want: "exactly this address"},
		{name: "NAT64 of a public address under a listed NAT64", allow: "64:ff9b::/96", addr: "[64:ff9b::8.8.8.8]:443"},
		{name: "NAT64 of a public address under a listed NAT64, with http", allow: "64:ff9b::/96", scheme: "http", addr: "[64:ff9b::8.8.8.8]:80", want: "https only"},
		{name: "NAT64 of a private address under a listed NAT64", allow: "64:ff9b::/96", scheme: "http", addr: "[64:ff9b::10.0.0.1]:80", want: "neither a public"},
		{name: "NAT64 of loopback under everything", allow: "::/0", addr: "[64:ff9b::127.0.0.1]:443", want: "neither a public"},
		{name: "NAT64 of a private address, both listed", allow: "64:ff9b::/96 10.0.0.0/8", scheme: "http", addr: "[64:ff9b::10.0.0.1]:80"},
		{name: "NAT64 of a private address that is listed without its gateway", allow: "10.0.0.0/8", addr: "[64:ff9b::10.0.0.1]:443", want: "neither a public"},
		{name: "NAT64 of a private address, listed exactly", allow: "64:ff9b::10.0.0.1/128", scheme: "http", addr: "[64:ff9b::10.0.0.1]:80"},
		{name: "local NAT64 of a private address under it", allow: "64:ff9b:1::/48", scheme: "http", addr: "[64:ff9b:1::10.0.0.1]:80"},
		{name: "local NAT64 of 48 bits, metadata", allow: "64:ff9b:1::/48", scheme: "http", addr: "[64:ff9b:1:a9fe:a9:fe00::]:80", want: "exactly this address"},
		{name: "local NAT64 of 56 bits, metadata", allow: "64:ff9b:1::/48", scheme: "http", addr: "[64:ff9b:1:a9:fe:a9fe::]:80", want: "exactly this address"},
		{name: "local NAT64 of 64 bits, metadata", allow: "64:ff9b:1::/48", scheme: "http", addr: "[64:ff9b:1:0:a9:fea9:fe00:0]:80", want: "exactly this address"},
		{name: "Teredo client at metadata under everything", allow: "::/0", addr: "[2001:0:4136:e378:8000:63bf:5601:5601]:443", want: "exactly this address"},
		{name: "Teredo server at metadata under everything", allow: "::/0", addr: "[2001:0:a9fe:a9fe:8000:63bf:3fff:fdd2]:443", want: "exactly this address"},
		{name: "local NAT64 of metadata under everything", allow: "::/0", addr: "[64:ff9b:1::169.254.169.254]:443", want: "exactly this address"},
		{name: "6to4 of metadata under everything", allow: "::/0", addr: "[2002:a9fe:a9fe::1]:443", want: "exactly this address"},
		{name: "SIIT of metadata under everything", allow: "::/0", addr: "[::ffff:0:169.254.169.254]:443", want: "exactly this address"},
		{name: "IPv4-compatible metadata under everything", allow: "::/0", addr: "[::169.254.169.254]:443", want: "exactly this address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			scheme := cmp.Or(tt.scheme, "https")
			addr := netip.MustParseAddrPort(tt.addr)

			err := guardFor(strings.Fields(tt.allow)...).Allow(scheme, addr)

			if tt.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrRefused) {
				t.Fatalf("got %v, want a refusal", err)
			}
			for _, part := range []string{tt.want, addr.String()} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("refusal %q does not say %q", err, part)
				}
			}
		})
	}
}

func TestGuardRefusesWhatIsNoAddress(t *testing.T) {
	t.Parallel()
	if err := guardFor("0.0.0.0/0", "::/0").Allow("https", netip.AddrPortFrom(netip.Addr{}, 443)); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestGuardKeepsItsOwnCopyOfTheLists(t *testing.T) {
	t.Parallel()
	allow, ports := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, make([]uint16, 1, 4)
	ports[0] = 8443
	g := NewGuard(allow, ports)
	allow[0], ports[0] = netip.MustParsePrefix("127.0.0.0/8"), 22
	if err := g.Allow("https", netip.MustParseAddrPort("127.0.0.1:443")); err == nil {
		t.Error("an entry written over after NewGuard opens an address")
	}
	if err := g.Allow("https", netip.MustParseAddrPort("8.8.8.8:22")); err == nil {
		t.Error("a port written over after NewGuard is open")
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	tests := []struct {
		name  string
		url   string
		allow string
		want  string // part of the refusal; empty if it passes
	}{
		{name: "public name", url: "https://example.com/hook?key=" + secret},
		{name: "name with http is decided when dialled", url: "http://receiver.internal:8080/"},
		{name: "name with a trailing dot", url: "https://example.com./"},
		{name: "upper-case scheme", url: "HTTPS://example.com/"},
		{name: "localhost is a name", url: "https://localhost/"},
		{name: "decimal address is a name to Go", url: "https://2130706433/"},
		{name: "octal address is a name to Go", url: "https://0177.0.0.1/"},
		{name: "hexadecimal address is a name to Go", url: "https://0x7f000001/"},
		{name: "short address is a name to Go", url: "https://127.1/"},
		{name: "leading zeros make a name to Go", url: "https://127.0.0.01/"},
		{name: "address with a trailing dot is a name to Go", url: "https://127.0.0.1./"},
		{name: "wide digits are decided when dialled", url: "https://①②⑦.⓪.⓪.①/"},
		{name: "public address", url: "https://8.8.8.8/"},
		{name: "public address with the extra port", url: "https://8.8.8.8:8443/"},
		{name: "public IPv6", url: "https://[2606:4700:4700::1111]/"},
		{name: "empty port is the scheme's", url: "https://8.8.8.8:/"},
		{name: "listed loopback with http", url: "http://127.0.0.1:9000/", allow: "127.0.0.0/8"},
		{name: "listed link-local with a zone", url: "http://[fe80::1%25eth0]/", allow: "fe80::1/128"},

		{name: "loopback", url: "https://127.0.0.1/?key=" + secret, want: "127.0.0.1:443"},
		{name: "loopback with http", url: "http://127.0.0.1/", want: "127.0.0.1:80"},
		{name: "public address with http", url: "http://8.8.8.8/", want: "https only"},
		{name: "public address with a closed port", url: "https://8.8.8.8:22/", want: "port 22"},
		{name: "unspecified IPv6", url: "https://[::]/", want: "neither a public"},
		{name: "unspecified IPv4", url: "https://0.0.0.0/", want: "neither a public"},
		{name: "loopback as a v4-mapped address", url: "https://[::ffff:7f00:1]/", want: "neither a public"},
		{name: "metadata", url: "http://169.254.169.254/latest/meta-data/", allow: "169.0.0.0/8", want: "exactly this address"},
		{name: "link-local with a zone", url: "https://[fe80::1%25eth0]/", want: "exactly this address"},
		{name: "NAT64 of loopback", url: "https://[64:ff9b::7f00:1]/", want: "neither a public"},
		{name: "user and password", url: "https://user:" + secret + "@example.com/", want: "user or password"},
		{name: "user only", url: "https://" + secret + "@example.com/", want: "user or password"},
		{name: "empty user", url: "https://@example.com/", want: "user or password"},
		{name: "ftp", url: "ftp://example.com/", want: "neither http nor https"},
		{name: "file", url: "file:///etc/passwd", want: "neither http nor https"},
		{name: "gopher", url: "gopher://127.0.0.1:6379/", want: "neither http nor https"},
		{name: "javascript", url: "javascript:alert(1)", want: "neither http nor https"},
		{name: "no scheme", url: "example.com/hook", want: "neither http nor https"},
		{name: "nothing", url: "", want: "neither http nor https"},
		{name: "no host", url: "https:///hook", want: "no host"},
		{name: "opaque", url: "https:example.com", want: "no host"},
		{name: "port without a host", url: "https://:443/", want: "no host"},
		{name: "port too large", url: "https://example.com:65536/", want: "not a port"},
		{name: "port zero", url: "https://example.com:0/", want: "not a port"},
		{name: "port in words", url: "https://example.com:https/", want: "not a URL"},
		{name: "open bracket", url: "https://[::1/", want: "not a URL"},
		{name: "backslash before another host", url: `https://example.com\@127.0.0.1/`, want: "not a URL"},
		{name: "blank in the host", url: "https://exa mple.com/", want: "not a URL"},
		{name: "line break", url: "https://example.com/\r\nx:" + secret, want: "not a URL"},
		{name: "broken escape, whose error would quote the URL", url: "https://exa%zzmple.com/?key=" + secret, want: "not a URL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := guardFor(strings.Fields(tt.allow)...).CheckURL(tt.url)
			if tt.want == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a refusal that says %q", err, tt.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("refusal %q holds the secret", err)
			}
		})
	}
}

// The names below stand in no DNS: the guard of these tests asks a resolver of the test's own.
func TestGuardDecidesOnWhatANameResolvesTo(t *testing.T) {
	t.Parallel()
	forbidden := serveOn(t, "127.0.0.9")
	open := serveOn(t, "127.0.0.1:"+forbidden.port)
	tests := []struct {
		name     string
		host     string
		resolves []string
		want     error
	}{
		{name: "name of an allowed address", host: "one.test", resolves: []string{"127.0.0.1"}},
		{name: "name of a forbidden address", host: "one.test", resolves: []string{"127.0.0.9"}, want: ErrRefused},
		{name: "forbidden before allowed", host: "two.test", resolves: []string{"127.0.0.9", "127.0.0.1"}},
		{name: "allowed before forbidden", host: "two.test", resolves: []string{"127.0.0.1", "127.0.0.9"}},
		{name: "two forbidden addresses", host: "two.test", resolves: []string{"127.0.0.9", "10.0.0.1"}, want: ErrRefused},
		{name: "hexadecimal name that resolves to a forbidden address", host: "0x7f000009", resolves: []string{"127.0.0.9"}, want: ErrRefused},
		{name: "wide digits become the address they look like", host: "①②⑦.⓪.⓪.⑨", want: ErrRefused},
		{name: "name of the unspecified address", host: "zero.test", resolves: []string{"0.0.0.0"}, want: ErrRefused},
		{name: "name of a metadata address", host: "meta.test", resolves: []string{"169.254.169.254"}, want: ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := guardFor("127.0.0.1/32")
			g.resolver = fakeResolver(tt.resolves...)
			before := open.hits.Load()

			err := getThrough(t, g, "http://"+tt.host+":"+forbidden.port)

			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if tt.want == nil && open.hits.Load() == before {
				t.Error("the allowed address was not reached")
			}
			if n := forbidden.hits.Load(); n != 0 {
				t.Errorf("the forbidden address was reached %d times", n)
			}
		})
	}
}

func TestNumericNamesResolveToNothing(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"2130706433", "0177.0.0.1", "127.1", "127.0.0.01", "127.0.0.1."} {
		g := guardFor()
		g.resolver = fakeResolver("127.0.0.1") // is not even asked
		var none *net.DNSError
		if err := getThrough(t, g, "http://"+host+":1"); !errors.As(err, &none) || !none.IsNotFound {
			t.Errorf("%s: got %v, want a name that is not found", host, err)
		}
	}
}

func TestNameThatMovesToAForbiddenAddressIsRefused(t *testing.T) {
	t.Parallel()
	forbidden := serveOn(t, "127.0.0.9")
	open := serveOn(t, "127.0.0.1:"+forbidden.port)
	g := guardFor("127.0.0.1/32")
	url := "http://moves.test:" + open.port

	g.resolver = fakeResolver("127.0.0.1")
	if err := g.CheckURL(url); err != nil {
		t.Fatal(err)
	}
	if err := getThrough(t, g, url); err != nil {
		t.Fatal(err)
	}
	g.resolver = fakeResolver("127.0.0.9")
	if err := getThrough(t, g, url); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
	if n := forbidden.hits.Load(); n != 0 {
		t.Errorf("the forbidden address was reached %d times", n)
	}
}

func TestNameWithADeadAllowedAddressIsNotRefused(t *testing.T) {
	t.Parallel()
	g := guardFor("127.0.0.1/32")
	g.resolver = fakeResolver("127.0.0.9", "127.0.0.1")

	err := getThrough(t, g, "http://down.test:"+closedPort(t))

	var op *net.OpError
	if errors.Is(err, ErrRefused) || !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("got %v, want a failed dial that is no refusal", err)
	}
	o := posterThrough(t, g.Transport()).post(t.Context(), requestTo("http://down.test:"+closedPort(t)))
	if o.ErrorClass != ClassConnect || o.Verdict != verdictRetry || !strings.Contains(o.Error, "no allowed address answered") {
		t.Errorf("got %+v", o)
	}
}

func TestRedirectToAForbiddenAddressIsRefusedAlsoWhereRedirectsAreFollowed(t *testing.T) {
	t.Parallel()
	forbidden := serveOn(t, "127.0.0.9")
	for _, target := range []string{"http://127.0.0.9:" + forbidden.port, "http://169.254.169.254/", "file:///etc/passwd"} {
		srv := httptest.NewServer(http.RedirectHandler(target, http.StatusFound))
		t.Cleanup(srv.Close)
		if err := getThrough(t, guardFor("127.0.0.1/32"), srv.URL); !errors.Is(err, ErrRefused) {
			t.Errorf("redirect to %s: got %v, want a refusal", target, err)
		}
	}
	if n := forbidden.hits.Load(); n != 0 {
		t.Errorf("the forbidden address was reached %d times", n)
	}
}

func TestTransportKnowsTheSchemeItDialsFor(t *testing.T) {
	t.Parallel()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(srv.Close)
	addr := netip.MustParseAddrPort(srv.Listener.Addr().String())
	// A guard to which loopback is public and this port open, so that only the scheme makes a difference.
	g := NewGuard(nil, []uint16{addr.Port()})
	g.public = ssrf.New(ssrf.WithAnyPort(), ssrf.WithAllowedV4Prefixes(netip.MustParsePrefix("127.0.0.0/8")))
	g.resolver = fakeResolver("127.0.0.1")
	p := posterThrough(t, trusting(g, srv))

	for scheme, want := range map[string]string{"https": "", "http": ClassRefused} {
		o := p.post(t.Context(), requestTo(fmt.Sprintf("%s://example.com:%d", scheme, addr.Port())))
		if o.ErrorClass != want {
			t.Errorf("%s: got %+v, want class %q", scheme, o, want)
		}
	}
}

func TestDialWithoutAnAddressIsRefused(t *testing.T) {
	t.Parallel()
	tr := guardFor("0.0.0.0/0", "::/0").Transport().(*guardedTransport)
	if _, err := tr.http.DialContext(t.Context(), "tcp", ":"+closedPort(t)); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want a refusal", err)
	}
}

// A custom TLS transport is where guards get lost: it must be the same in all but its TLS settings.
func TestTransportWithTLSSettingsIsGuardedAlike(t *testing.T) {
	t.Parallel()
	srv := serveOn(t, "127.0.0.1")
	settings := &tls.Config{ServerName: "example.com", MinVersion: tls.VersionTLS13}
	g := guardFor("127.0.0.9/32")
	g.resolver = fakeResolver("127.0.0.1")
	rt := g.TransportWith(settings).(*guardedTransport)
	for _, url := range []string{
		"https://127.0.0.1:" + srv.port, "https://one.test:" + srv.port, "http://one.test:" + srv.port, "https://u:p@127.0.0.9/", "https://169.254.169.254/",
	} {
		if o := posterThrough(t, rt).post(t.Context(), requestTo(url)); o.ErrorClass != ClassRefused {
			t.Errorf("%s: got %+v, want a refusal", url, o)
		}
	}
	if n := srv.hits.Load(); n != 0 {
		t.Errorf("a refused address was reached %d times", n)
	}
	plain := g.TransportWith(nil).(*guardedTransport)
	if plain.https.TLSClientConfig != nil || rt.https.TLSClientConfig.ServerName != "example.com" {
		t.Errorf("the settings are %v and %v", plain.https.TLSClientConfig, rt.https.TLSClientConfig)
	}
	settings.InsecureSkipVerify = true // whoever changes them later changes his own
	if rt.https.TLSClientConfig.InsecureSkipVerify {
		t.Error("the transport shares its settings")
	}
	for name, tr := range map[string]*http.Transport{"https": rt.https, "http": rt.http} {
		if tr.Proxy != nil || !tr.ForceAttemptHTTP2 || !tr.DisableCompression || tr.MaxResponseHeaderBytes == 0 || tr.DialTLSContext != nil {
			t.Errorf("%s: the transport differs from the one without settings", name)
		}
	}
}

func TestTransportUsesNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	tr := guardFor().Transport().(*guardedTransport)
	if tr.http.Proxy != nil || tr.https.Proxy != nil {
		t.Error("a proxy would dial in our stead")
	}
}

func TestRefusalClosesTheBody(t *testing.T) {
	t.Parallel()
	body := &closeCounter{Reader: strings.NewReader("x")}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://127.0.0.1/", body)
	if err != nil {
		t.Fatal(err)
	}
	_, err = guardFor().Transport().RoundTrip(req) //nolint:bodyclose // there is no answer
	if !errors.Is(err, ErrRefused) || body.closed != 1 {
		t.Errorf("got %v and a body closed %d times, want a refusal and once", err, body.closed)
	}
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

// getThrough sends a GET through the guard, following redirects, and returns why it failed.
func getThrough(t *testing.T, g *Guard, url string) error {
	t.Helper()
	client := &http.Client{Transport: g.Transport()}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

type countingServer struct {
	port string
	hits atomic.Int64
}

// serveOn starts a server on a loopback address, which counts its requests.
func serveOn(t *testing.T, address string) *countingServer {
	t.Helper()
	if !strings.Contains(address, ":") {
		address += ":0"
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", address)
	if err != nil {
		t.Skipf("no second loopback address here: %v", err)
	}
	s := &countingServer{}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.hits.Add(1) }))
	_ = h.Listener.Close()
	h.Listener = l
	h.Start()
	t.Cleanup(h.Close)
	return s
}

// closedPort returns a port of 127.0.0.1 on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// fakeResolver returns one that answers every question with these, in this order, and with none that the name does not
// exist.
func fakeResolver(addrs ...string) *net.Resolver {
	return resolverOf(func(string) []string { return addrs })
}

// resolverOf returns one that asks lookup for the addresses of a name; none is a name that does not exist.
func resolverOf(lookup func(name string) []string) *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go answerDNS(ours, lookup)
			return theirs, nil
		},
	}
}

// answerDNS answers questions on a stream, each message after its length, until the other side hangs up.
func answerDNS(c net.Conn, lookup func(name string) []string) {
	defer c.Close()
	for {
		var size uint16
		if binary.Read(c, binary.BigEndian, &size) != nil {
			return
		}
		query := make([]byte, size)
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		const header, typeA, typeAAAA = 12, 1, 28
		var labels []string
		end := header
		for ; query[end] != 0; end += 1 + int(query[end]) {
			labels = append(labels, string(query[end+1:end+1+int(query[end])]))
		}
		end += 1 + 4 // the end of the name, its type and class
		asked := binary.BigEndian.Uint16(query[end-4:])
		addrs := lookup(strings.Join(labels, "."))
		var answers []byte
		count := byte(0)
		for _, a := range addrs {
			ip := netip.MustParseAddr(a)
			kind := uint16(typeAAAA)
			if ip.Is4() {
				kind = typeA
			}
			if kind == asked {
				count++
				answers = append(answers, 0xc0, header, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(ip.BitLen()/8)) // the name above, type, IN, no time to live
				answers = append(answers, ip.AsSlice()...)
			}
		}
		status := byte(0)
		if len(addrs) == 0 {
			status = 3 // NXDOMAIN
		}
		msg := []byte{query[0], query[1], 0x81, 0x80 | status, 0, 1, 0, count, 0, 0, 0, 0}
		msg = append(append(msg, query[header:end]...), answers...)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)); err != nil {
			return
		}
	}
}
